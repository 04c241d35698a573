"""`render WORKFLOW.json`: a graph once an item, here on the embedded host or on ComfyUI servers."""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...unifashion_core.errors import FolderError, InputError, UniFashionError
from ...unifashion_core.rendering.manifest import Line, Manifest
from ...unifashion_core.rendering.names import plain_words
from ...unifashion_core.rendering.page import PageItem, write_page
from ._render_add import add_to_gallery
from ._render_report import Report, estimate, parse_only, show_plan, warn
from ._workflow import filled, host_name, only_saver
from ._workflow_job import WorkflowItem, WorkflowJob, read_job

if TYPE_CHECKING:
    from .._host import Folders, Host
    from .._remote import RemotePrompt

_HOST = "host"  # folder of the embedded host below the run's


@dataclass(frozen=True)
class Shown:
    """A picture that a node saved.

    Attributes:
        node: Its id.
        suffix: Of its file, such as ".png".
        data: Its bytes.
    """

    node: str
    suffix: str
    data: bytes


def run_workflow(args: argparse.Namespace) -> int:
    """The command with a workflow."""
    return _on_servers(args) if args.server else _here(args)


class Keeper:
    """Writes what items gave into the run's folder.

    Args:
        manifest: The run's.
        report: Gets the counts.
    """

    def __init__(self, manifest: Manifest, report: Report):
        self.manifest, self.report = manifest, report
        self._warned = False

    def begin(
        self, work: WorkflowJob, wanted: Sequence[WorkflowItem], saver: str | None
    ) -> list[WorkflowItem]:
        """The items that have to be made; the others are counted.

        Args:
            work: The whole job.
            wanted: The items that were asked for.
            saver: From `only_saver`.
        """
        finished = self.manifest.finished(item.id for item in wanted)
        todo = [item for item in wanted if item.id not in finished]
        self.manifest.forget(item.id for item in todo)
        if saver is not None:
            todo = [item for item in todo if not self._adopt(item, saver)]
        self.report.skipped = len(wanted) - len(todo)
        return todo

    def _adopt(self, item: WorkflowItem, saver: str) -> bool:
        """Take the one picture of an item whose line was not written any more."""
        found = sorted(self.manifest.folder.glob(f"[0-9]*_{item.id[:8]}_*"))
        if len(found) != 1 or found[0].stem.split("_", 2)[2] != f"{plain_words(saver)}_0":
            return False
        index = int(found[0].name.split("_")[0])
        return self.manifest.adopt(item.id, index, found[0].name, saver, item.seed)

    def keep(self, item: WorkflowItem, shown: Sequence[Shown], seconds: float) -> None:
        """Write an item's pictures and its line."""
        numbers: dict[str, int] = {}
        pictures: list[tuple[str | None, str, bytes]] = []
        for picture in shown:
            number = numbers.get(picture.node, 0)
            numbers[picture.node] = number + 1
            name = f"{item.index:05d}_{item.id[:8]}_{plain_words(picture.node)}_{number}"
            pictures.append((picture.node, name + picture.suffix, picture.data))
        files = self.manifest.save(pictures)
        self.manifest.add(Line(item.id, item.index, "done", files, round(seconds, 3), item.seed))
        self.report.done += 1
        if not files and not self._warned:
            self._warned = True
            warn(["The workflow saves no picture, it only shows previews. Add a Save Image node."])

    def fail(self, item: WorkflowItem, reason: str, seconds: float) -> None:
        """Note an item that could not be made; the rest goes on."""
        self.report.fail(item.index, item.id, reason)
        line = Line(item.id, item.index, "failed", (), round(seconds, 3), item.seed, error=reason)
        self.manifest.add(line)


def _here(args: argparse.Namespace) -> int:
    from ._embedded import make_host
    from ._progress import ProgressLine

    host = make_host(
        args.out.absolute() / _HOST, lambda folders: _folders(folders, args), make=False
    )
    info = host.object_info()
    work = read_job(args.what, args.set, args.items, info)
    wanted = choose(work, args.only)
    host.folders = _with_files(host.folders, work)
    refuse_missing({"this machine": work.missing(info)})
    warn(work.warnings)
    report = Report(len(wanted), args.out.absolute() / "manifest.jsonl")
    if args.dry_run:
        return dry_run(args, work, wanted, report, 1)
    with Manifest.open(args.out.absolute(), work.job, fresh=args.fresh) as manifest:
        keeper = Keeper(manifest, report)
        todo = keeper.begin(work, wanted, only_saver(work.graph, info))
        progress = ProgressLine("rendering")
        last: set[Path] = set()
        for number, item in enumerate(todo):
            progress(number, len(todo))
            last = _run_here(host, work, item, keeper, last)
        if todo:
            progress(len(todo), len(todo))
        _remove(last)
        _show(args, manifest, work)
    return report.show(args.json)


def _run_here(
    host: Host, work: WorkflowJob, item: WorkflowItem, keeper: Keeper, last: set[Path]
) -> set[Path]:
    """Make one item; the host's own files of it, which the next one may show again."""
    from .._host import NodeError

    started = time.monotonic()
    files = work.files.of(item.graph)
    gone = [path for path in files.values() if not path.is_file()]
    if gone:
        keeper.fail(item, f"{gone[0]}: no such file. Correct its line.", 0.0)
        return last
    names = {mark: host_name(mark, path) for mark, path in files.items()}
    try:
        result = host.run(filled(item.graph, names))
    except NodeError as e:
        about = e.result.error or {}
        where = f"node {about.get('node_id')} ({about.get('node_type')})"
        keeper.fail(item, f"{where}: {e}", time.monotonic() - started)
        return last
    except UniFashionError as e:
        keeper.fail(item, str(e), time.monotonic() - started)
        return last
    places = [
        (node, host.folders.output / file["subfolder"] / file["filename"])
        for node, file in saved_files(result.ui, item.graph)
    ]
    shown = [Shown(node, path.suffix, path.read_bytes()) for node, path in places]
    keeper.keep(item, shown, time.monotonic() - started)
    now = {path for _, path in places}
    _remove(last - now)
    return now


def saved_files(
    ui: Mapping[str, Any], graph: Mapping[str, Any]
) -> list[tuple[str, dict[str, str]]]:
    """Node and file of every picture that a run saved, in the graph's order; no previews."""
    order = {node: place for place, node in enumerate(graph)}
    return [
        (node, file)
        for node in sorted(ui, key=lambda n: order.get(n, len(order)))
        for file in ui[node].get("images") or []
        if isinstance(file, dict) and file.get("type") == "output"
    ]


def _show(args: argparse.Namespace, manifest: Manifest, work: WorkflowJob) -> None:
    """Write the page of the run, and let what was made be searched."""
    known = [item for item in work.items if item.id in manifest.lines]
    items = [PageItem(manifest.lines[item.id], item.values) for item in known]
    write_page(manifest.folder, args.what.name, items)
    add_to_gallery(args, manifest.folder, items)


def _remove(paths: Iterable[Path]) -> None:
    """The host's own copies of what was kept."""
    for path in paths:
        path.unlink(missing_ok=True)


def choose(work: WorkflowJob, only: str | None) -> list[WorkflowItem]:
    """The items that --only names."""
    count = max((item.index for item in work.items), default=-1) + 1
    places = parse_only(only, count)
    return [item for item in work.items if item.index in places]


def refuse_missing(missing: Mapping[str, Sequence[str]]) -> None:
    """Say what hosts lack before anything runs.

    Raises:
        InputError: If one lacks something.
    """
    lacking = {host: parts for host, parts in missing.items() if parts}
    if lacking:
        said = "; ".join(f"{host}: {', '.join(parts)}" for host, parts in lacking.items())
        raise InputError(
            f"The workflow can't run. {said}. Install what is missing, or change the workflow."
        )


def dry_run(
    args: argparse.Namespace,
    work: WorkflowJob,
    wanted: Sequence[WorkflowItem],
    report: Report,
    workers: int,
) -> int:
    """Count and estimate; nothing is written."""
    manifest = Manifest.look(args.out.absolute(), work.job)
    report.skipped = len(manifest.finished(item.id for item in wanted))
    todo = len(wanted) - report.skipped
    return show_plan(report, todo, estimate(manifest, todo, workers), args.json)


def _folders(folders: Folders, args: argparse.Namespace) -> Folders:
    """What the user typed, added to the host's folders."""
    from ._homes import data_folder

    galleries = args.galleries or data_folder() / "galleries"
    folders = replace(folders, galleries=Path(galleries).expanduser().absolute())
    if args.models is not None:
        folders = replace(folders, models=args.models.absolute())
    if args.input is not None:
        if not args.input.is_dir():
            raise FolderError(f"{args.input}: no such folder. Check --input.")
        folders = replace(folders, input=args.input.absolute()).with_images(args.input)
    return folders


def _with_files(folders: Folders, work: WorkflowJob) -> Folders:
    """Also offer the items' pictures, each named by its content."""
    named = {host_name(mark, path): path for mark, path in work.files.paths.items()}
    return replace(folders, extra_inputs={**folders.extra_inputs, **named})


def _on_servers(args: argparse.Namespace) -> int:
    from .._remote import RemoteResult, ServerPool
    from ._progress import ProgressLine

    pool = ServerPool(args.server, _headers(args.header))
    infos = pool.object_infos()
    warn([f"{url}: {s.state}" for url, s in pool.states.items() if url not in infos])
    info = next(iter(infos.values()))
    work = read_job(args.what, args.set, args.items, info)
    wanted = choose(work, args.only)
    refuse_missing({url: work.missing(found) for url, found in infos.items()})
    warn(work.warnings)
    report = Report(len(wanted), args.out.absolute() / "manifest.jsonl")
    if args.dry_run:
        return dry_run(args, work, wanted, report, len(infos))
    with Manifest.open(args.out.absolute(), work.job, fresh=args.fresh) as manifest:
        keeper = Keeper(manifest, report)
        todo = {i.id: i for i in keeper.begin(work, wanted, only_saver(work.graph, info))}
        progress = ProgressLine("rendering")

        def ended(result: RemoteResult) -> None:
            item = todo[result.key]
            if result.error is not None:
                keeper.fail(item, result.error, result.seconds)
            else:
                shown = [Shown(p.node, Path(p.name).suffix, p.data) for p in result.pictures]
                keeper.keep(item, shown, result.seconds)
            progress(report.done + len(report.failed), len(todo))

        left = pool.render([_remote_prompt(item, work) for item in todo.values()], ended)
        for key in left:
            report.fail(todo[key].index, key, "no server was left for it; run it again")
        _show(args, manifest, work)
    report.servers = {u: {"done": s.done, "state": s.state} for u, s in pool.states.items()}
    return report.show(args.json)


def _remote_prompt(item: WorkflowItem, work: WorkflowJob) -> RemotePrompt:
    from .._remote import RemotePrompt

    files = work.files.of(item.graph)
    marks = {mark: host_name(mark, path) for mark, path in files.items()}

    def make(names: Mapping[str, str]) -> dict[str, Any]:
        return filled(item.graph, {mark: names[name] for mark, name in marks.items()})

    return RemotePrompt(item.id, make, {marks[mark]: path for mark, path in files.items()})


def _headers(texts: Sequence[str]) -> dict[str, str]:
    found: dict[str, str] = {}
    for text in texts:
        name, equals, value = text.partition("=")
        if not equals or not name.strip():
            raise InputError(f"--header '{name}': wanted NAME=VALUE. Add the value.")
        found[name.strip()] = value.strip()
    return found

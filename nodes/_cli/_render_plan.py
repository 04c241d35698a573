"""`render PLAN`: a try-on plan with the core, on this machine."""

from __future__ import annotations

import argparse
import functools
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...unifashion_core.errors import InputError
from ._render_add import add_to_gallery
from ._render_report import Report, estimate, parse_only, show_plan, warn
from ._tryon import load_tools

if TYPE_CHECKING:
    from ...unifashion_core.rendering.item import TryOnTools
    from ...unifashion_core.rendering.manifest import Job, Manifest
    from ...unifashion_core.rendering.page import PageItem
    from ...unifashion_core.rendering.plan import Plan
    from ...unifashion_core.rendering.run import RunReport
    from ...unifashion_core.rendering.scores import RunScorer


def run_plan(args: argparse.Namespace) -> int:
    """The command with a plan."""
    from ...unifashion_core.rendering.manifest import Manifest
    from ...unifashion_core.rendering.names import check_template
    from ...unifashion_core.rendering.plan_files import read_plan
    from ...unifashion_core.rendering.run import plan_job

    plan = read_plan(args.what, every=args.product)
    if args.where:
        plan = plan.filtered(args.where)
    if not len(plan):
        raise InputError(f"{args.what}: no item passes --where '{args.where}'. Loosen it.")
    check_template(args.name)
    places = parse_only(args.only, len(plan))
    tools = load_tools(args.model, loras=args.lora)
    job, out = plan_job(plan, tools), args.out.absolute()
    if args.dry_run:
        return _dry_run(args, plan, job, Manifest.look(out, job), places)
    with Manifest.open(out, job, fresh=args.fresh) as manifest:
        try:
            done = _render(args, plan, tools, manifest, places)
        finally:
            items = _write_looks(args, manifest, plan, job)
        add_to_gallery(args, out, items)
    report = Report(done.total, out / "manifest.jsonl", done.done, done.skipped)
    for place, item, reason in done.failed:
        report.fail(place, item, reason)
    warn(done.notes)
    return report.show(args.json)


def _render(
    args: argparse.Namespace, plan: Plan, tools: TryOnTools, manifest: Manifest, places: set[int]
) -> RunReport:
    from ...unifashion_core.rendering.run import PARTS, RunHooks, RunOptions, render_plan
    from ._progress import ProgressLine

    line = ProgressLine("rendering")
    options = RunOptions(args.name, args.format, args.batch, frozenset(places))

    def step(done: int, total: int) -> None:
        line(done // PARTS, max(total // PARTS, 1))

    score = None if args.no_scores else _scorer(args)
    return render_plan(plan, tools, manifest, options, RunHooks(on_step=step, score=score))


def _scorer(args: argparse.Namespace) -> RunScorer:
    """Scores by the encoder of --encoder, which is loaded when the first picture is there."""
    from ...unifashion_core.rendering.scores import RunScorer
    from ._encoder import load_chosen_encoder

    return RunScorer(functools.cache(lambda: load_chosen_encoder(args)))


def _dry_run(
    args: argparse.Namespace, plan: Plan, job: Job, manifest: Manifest, places: set[int]
) -> int:
    from ...unifashion_core.rendering.plan import item_ids

    report = Report(0, manifest.folder / "manifest.jsonl")
    wanted = sorted(places)
    ids: dict[str, None] = {}
    found = item_ids(job.key, [plan.items[place] for place in wanted])
    for place, (name, error) in zip(wanted, found, strict=True):
        if error is None:
            ids[name] = None
        else:
            report.fail(place, name, error)
    report.total = len(ids) + len(report.failed)
    report.skipped = len(manifest.finished(ids))
    todo = len(ids) - report.skipped
    preview = "" if args.json else plan.preview()
    return show_plan(report, todo, estimate(manifest, todo), args.json, preview)


def _write_looks(
    args: argparse.Namespace, manifest: Manifest, plan: Plan, job: Job
) -> list[PageItem]:
    """The page and the contact sheets of a plan's run; what they show."""
    from ...unifashion_core.rendering.looks import lines_of, page_items, plan_sheets
    from ...unifashion_core.rendering.page import write_page

    known = lines_of(manifest, plan, job.key)
    items = page_items(known)
    write_page(manifest.folder, args.what.name, items)
    plan_sheets(manifest, known, args.what.name)
    return items


def show_picture(path: Path, as_json: bool) -> int:
    """Print what a picture says of how it was made."""
    from ...unifashion_core.rendering.saved import read_parameters

    found = read_parameters(path)
    if as_json:
        print(json.dumps(found, ensure_ascii=False))
        return 0
    print(path)
    for name, value in _flat(found):
        print(f"  {name}: {value}")
    return 0


def _flat(values: dict[str, Any], before: str = "") -> list[tuple[str, Any]]:
    lines: list[tuple[str, Any]] = []
    for name, value in values.items():
        if isinstance(value, dict):
            lines += _flat(value, f"{before}{name}.")
        elif value not in (None, "", []):
            lines.append((before + name, value))
    return lines

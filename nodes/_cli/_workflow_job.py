"""The items of a workflow's run: the graph once a line of a table, each with its id."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from ...unifashion_core.errors import InputError
from ...unifashion_core.rendering.manifest import Job
from ...unifashion_core.rendering.plan import canonical_hash
from ...unifashion_core.rendering.rows import Row, read_rows
from ...unifashion_core.types import Scalar
from ._workflow import (
    FileBook,
    Graph,
    Info,
    Target,
    cast_value,
    find_target,
    mark_files,
    missing_parts,
    plain_graph,
    read_graph,
    seed_inputs,
)


@dataclass(frozen=True)
class WorkflowItem:
    """One run of the graph.

    Attributes:
        index: Its line of the table, from 0.
        id: Hash of the filled graph with its files' contents, hex.
        graph: The graph; marks stand for files.
        seed: The seed that stands in it; None where there are none, or different ones.
        values: Its line of the table.
    """

    index: int
    id: str
    graph: Graph
    seed: int | None
    values: Mapping[str, Scalar]


@dataclass
class WorkflowJob:
    """A workflow with its items.

    Attributes:
        job: The graph without its items.
        graph: The graph as --set left it.
        items: No two of one id.
        files: What their marks mean.
        warnings: What the user should know before the first item.
    """

    job: Job
    graph: Graph
    items: list[WorkflowItem]
    files: FileBook
    warnings: list[str] = field(default_factory=list)

    def missing(self, info: Info) -> list[str]:
        """What a host lacks to run any item, each thing once."""
        parts = (part for item in self.items for part in missing_parts(item.graph, info))
        return list(dict.fromkeys(parts))


def read_job(path: Path, sets: Sequence[str], table: Path | None, info: Info) -> WorkflowJob:
    """Read a workflow, change it by --set, and make an item of each line of a table.

    Args:
        path: The workflow, in API format.
        sets: NODE.INPUT=VALUE; files relative to the current folder.
        table: CSV, JSONL or JSON with NODE.INPUT columns; files relative to it. None: one item.
        info: `/object_info` of a host.

    Raises:
        InputError: If something can't be read, or names no input.
    """
    graph, files = read_graph(path), FileBook()
    mark_files(graph, info, path.absolute().parent, files)
    for text in sets:
        name, equals, value = text.partition("=")
        if not equals:
            raise InputError(f"--set '{text}': wanted NODE.INPUT=VALUE. Add the value.")
        target = find_target(name, graph, info)
        _fill(graph, target, value, f"--set {name}", Path.cwd(), files)
    about = {"workflow": path.name, "set": list(sets)}
    job = Job(canonical_hash({"workflow": plain_graph(graph)}), "workflow", about)
    made = WorkflowJob(job, graph, [], files)
    rows = [Row(str(path), {})] if table is None else read_rows(table)
    if not rows:
        raise InputError(f"{table}: no item in it. Write at least one line below the header.")
    targets = _targets(rows, graph, info)
    folder = Path.cwd() if table is None else table.absolute().parent
    known: dict[str, int] = {}
    for index, row in enumerate(rows):
        item = _item(index, row, graph, targets, folder, files)
        first = known.setdefault(item.id, index)
        if first == index:
            made.items.append(item)
        else:
            made.warnings.append(f"{row.where}: the same as item {first}; it is made once.")
    seeds = seed_inputs(graph)
    chosen = {(t.node, t.input) for t in targets.values()}
    if table is not None and seeds and not chosen & set(seeds):
        named = ", ".join(f"{node}.{name}" for node, name in seeds)
        made.warnings.append(
            f"The seeds are fixed ({named}) and the table has no column for them: items that are "
            "otherwise alike come out alike. Add such a column to vary them."
        )
    return made


def _targets(rows: Sequence[Row], graph: Graph, info: Info) -> dict[str, Target]:
    """What each column fills; two columns may not fill one input."""
    columns = {name: row.where for row in reversed(rows) for name in row.values}
    found: dict[str, Target] = {}
    for name in sorted(columns):
        target = find_target(name, graph, info)
        twin = next(
            (n for n, t in found.items() if (t.node, t.input) == (target.node, target.input)), None
        )
        if twin is not None:
            raise InputError(
                f"columns '{twin}' and '{name}' fill the same input. Keep one of them."
            )
        found[name] = target
    return found


def _item(
    index: int,
    row: Row,
    graph: Graph,
    targets: dict[str, Target],
    folder: Path,
    files: FileBook,
) -> WorkflowItem:
    own = copy.deepcopy(graph)
    for name, value in row.values.items():
        _fill(own, targets[name], value, row.where, folder, files)
    seeds = {own[node]["inputs"][name] for node, name in seed_inputs(own)}
    seed = seeds.pop() if len(seeds) == 1 else None
    name = canonical_hash({"graph": plain_graph(own)})
    return WorkflowItem(index, name, own, seed, row.values)


def _fill(
    graph: Graph, target: Target, value: Any, where: str, folder: Path, files: FileBook
) -> None:
    made = cast_value(target, value, where)
    if target.kind == "FILE":
        made = files.mark((folder / Path(str(made)).expanduser()).absolute())
    graph[target.node]["inputs"][target.input] = made

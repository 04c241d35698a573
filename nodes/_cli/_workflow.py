"""API-format workflows that a table fills in: columns to inputs, texts to the schema's types."""

from __future__ import annotations

import copy
import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ...unifashion_core.errors import FolderError, InputError
from .._page.graph import declared_inputs

Graph = dict[str, dict[str, Any]]
Info = Mapping[str, Any]
"""ComfyUI's `/object_info`."""

_FILE = "sha256:"  # stands for a file in a graph: the name it gets is the host's affair
_SEEDS = ("seed", "noise_seed")
_PREVIEWS = ("PreviewImage", "PreviewAny", "MaskPreview")
_TRUTH = {"true": True, "false": False}


def read_graph(path: Path) -> Graph:
    """A workflow file in API format.

    Raises:
        FolderError: If there is no such file.
        InputError: If it is none; for one that the page saved, it says how to export it.
    """
    if not path.is_file():
        raise FolderError(f"{path}: no such file. Give a workflow's JSON file.")
    try:
        value = json.loads(path.read_bytes())
    except (ValueError, RecursionError) as e:
        raise InputError(f"{path}: not JSON ({e}). Export the workflow again.") from e
    if isinstance(value, dict) and isinstance(value.get("nodes"), list):
        raise InputError(
            f"{path}: saved for ComfyUI's page, which alone can turn it into a run. Open it in "
            "ComfyUI, choose Workflow > Export (API), and give the file that this makes."
        )
    if isinstance(value, dict) and isinstance(value.get("prompt"), dict):
        value = value["prompt"]  # as it is posted to a server
    nodes = value.values() if isinstance(value, dict) else [None]
    if not value or not all(
        isinstance(n, dict) and isinstance(n.get("class_type"), str) for n in nodes
    ):
        raise InputError(
            f"{path}: not a workflow in API format (node id to class_type and inputs). Export it "
            "with Workflow > Export (API)."
        )
    return {str(k): {"inputs": {}, **node} for k, node in value.items()}


def is_workflow(path: Path) -> bool:
    """Whether a .json file is a workflow of either format, and not a plan."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError, RecursionError):
        return False
    if not isinstance(value, dict):
        return False
    if isinstance(value.get("nodes"), list) or isinstance(value.get("prompt"), dict):
        return True
    return any(isinstance(node, dict) and "class_type" in node for node in value.values())


@dataclass(frozen=True)
class Target:
    """An input that a column or --set fills.

    Attributes:
        node: The node's id.
        input: The input's id.
        kind: INT, FLOAT, STRING, BOOLEAN, COMBO or FILE (a picture to load).
        options: The choices of a COMBO.
    """

    node: str
    input: str
    kind: str
    options: tuple[Any, ...] = ()


def find_target(name: str, graph: Graph, info: Info) -> Target:
    """What `NODE.INPUT` means: NODE is an id, else a unique title; the longest prefix counts.

    Raises:
        InputError: If there is none, two nodes have the title, or the input takes only a link.
    """
    node_id, input_id = _split(name, graph)
    node = graph[node_id]
    declared = _declared(node["class_type"], info)
    if input_id not in declared:
        known = ", ".join(declared) or "none"
        raise InputError(
            f"'{name}': node {node_id} ({node['class_type']}) has no input '{input_id}'. It has: "
            f"{known}."
        )
    kind, options = type_of(declared[input_id])
    if kind not in ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO", "FILE"):
        raise InputError(
            f"'{name}': takes a connection ({kind}), which no text can be. Choose a widget."
        )
    return Target(node_id, input_id, kind, options)


def _split(name: str, graph: Graph) -> tuple[str, str]:
    dots = [place for place, sign in enumerate(name) if sign == "."]
    for dot in reversed(dots):
        prefix, rest = name[:dot].strip(), name[dot + 1 :].strip()
        if prefix in graph:
            return prefix, rest
        titled = [k for k, node in graph.items() if _title(node) == prefix]
        if len(titled) > 1:
            raise InputError(
                f"'{name}': nodes {', '.join(titled)} all have the title '{prefix}'. Write the id "
                f"instead, such as {titled[0]}.{rest}."
            )
        if titled:
            return titled[0], rest
    known = ", ".join(f"{k} ({_title(node) or node['class_type']})" for k, node in graph.items())
    raise InputError(
        f"'{name}': no such node. Write NODE.INPUT with a node's id or title: {known}."
    )


def _title(node: Mapping[str, Any]) -> str:
    return str((node.get("_meta") or {}).get("title", "")).strip()


def _declared(class_type: str, info: Info) -> dict[str, list[Any]]:
    return dict(declared_inputs(info[class_type])) if class_type in info else {}


def type_of(entry: Sequence[Any]) -> tuple[str, tuple[Any, ...]]:
    """Kind and choices of an input, in either form that hosts describe a choice."""
    kind = entry[0]
    options = entry[1] if len(entry) > 1 and isinstance(entry[1], dict) else {}
    if any(str(name).endswith("_upload") and value for name, value in options.items()):
        return "FILE", ()
    if isinstance(kind, list):
        return "COMBO", tuple(kind)
    if kind == "COMBO":
        return "COMBO", tuple(options.get("options") or ())
    return str(kind), ()


def cast_value(target: Target, value: Any, where: str) -> Any:
    """A cell as the schema wants it; a file stays a text.

    Raises:
        InputError: If it can't be one.
    """
    text = str(value).strip() if not isinstance(value, bool) else str(value).lower()
    try:
        if target.kind == "INT":
            return int(text)
        if target.kind == "FLOAT":
            return float(text)
        if target.kind == "BOOLEAN":
            return _TRUTH[text.lower()]
    except (ValueError, KeyError) as e:
        wanted = {"INT": "a whole number", "FLOAT": "a number", "BOOLEAN": "true or false"}
        raise InputError(
            f"{where}: {target.node}.{target.input} is {value!r}, wanted {wanted[target.kind]}. "
            "Correct it."
        ) from e
    if target.kind == "COMBO":
        return next((option for option in target.options if str(option) == text), text)
    return str(value)


class FileBook:
    """Files that graphs name, by content; one that can't be read is told when its item runs.

    Attributes:
        paths: The file behind each mark.
    """

    def __init__(self) -> None:
        self.paths: dict[str, Path] = {}
        self._marks: dict[Path, str] = {}

    def mark(self, path: Path) -> str:
        """What stands for a file in a graph: two files of one content have one mark."""
        if path not in self._marks:
            digest = hashlib.sha256()
            try:
                with path.open("rb") as file:
                    while block := file.read(1 << 20):
                        digest.update(block)
            except OSError:
                digest = hashlib.sha256(f"missing {path}".encode())
            self._marks[path] = _FILE + digest.hexdigest()
            self.paths.setdefault(self._marks[path], path)
        return self._marks[path]

    def of(self, graph: Graph) -> dict[str, Path]:
        """The files of one graph by mark."""
        values = (v for node in graph.values() for v in node["inputs"].values())
        found = [v for v in values if isinstance(v, str) and v in self.paths]
        return {mark: self.paths[mark] for mark in found}


def host_name(mark: str, path: Path) -> str:
    """What a marked file is called on a host: its content decides."""
    return f"{mark[len(_FILE) :][:24]}{path.suffix.lower()}"


def filled(graph: Graph, names: Mapping[str, str]) -> Graph:
    """A graph with names instead of marks."""
    whole = copy.deepcopy(graph)
    for node in whole.values():
        for name, value in node["inputs"].items():
            if isinstance(value, str) and value in names:
                node["inputs"][name] = names[value]
    return whole


def mark_files(graph: Graph, info: Info, folder: Path, book: FileBook) -> None:
    """Mark the pictures that a graph itself names, where they lie in this folder."""
    for node in graph.values():
        for name, entry in _declared(node["class_type"], info).items():
            value = node["inputs"].get(name)
            if isinstance(value, str) and type_of(entry)[0] == "FILE":
                path = folder / value
                if path.is_file():
                    node["inputs"][name] = book.mark(path.absolute())


def plain_graph(graph: Graph) -> Graph:
    """What counts of a graph: classes and inputs, no titles."""
    return {k: {"class_type": n["class_type"], "inputs": n["inputs"]} for k, n in graph.items()}


def seed_inputs(graph: Graph) -> list[tuple[str, str]]:
    """Node and input of each seed that stands in a graph."""
    return [
        (node_id, name)
        for node_id, node in graph.items()
        for name in _SEEDS
        if type(node["inputs"].get(name)) is int
    ]


def only_saver(graph: Graph, info: Info) -> str | None:
    """The node that saves pictures where there is only one; None where there may be more."""
    savers = [
        node_id
        for node_id, node in graph.items()
        if info.get(node["class_type"], {}).get("output_node")
        and node["class_type"] not in _PREVIEWS
    ]
    return savers[0] if len(savers) == 1 else None


def missing_parts(graph: Graph, info: Info) -> list[str]:
    """What a host lacks to run a graph: node classes, and choices such as a model's file."""
    lacking: list[str] = []
    for node_id, node in graph.items():
        kind = node["class_type"]
        if kind not in info:
            lacking.append(f"node {node_id}: no node class {kind}")
            continue
        for name, entry in _declared(kind, info).items():
            value = node["inputs"].get(name)
            what, options = type_of(entry)
            chosen = what == "COMBO" and options and not isinstance(value, list | None)
            if chosen and value not in options:
                lacking.append(f"node {node_id} ({kind}): {name} has no choice {value!r}")
    return lacking

"""Graphs in API format as the page's own format: every node in its place, with its widgets."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

from .layout import (
    GAP,
    LEGEND,
    YELLOW,
    Shape,
    colours,
    first_view,
    note_size,
    places,
    socket_height,
    widget_height,
)

if TYPE_CHECKING:
    from .wires import Box, Wire

Graph = dict[str, Any]

_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def completed(prompt: Graph, info: Graph) -> Graph:
    """A graph in API format with every widget of its nodes, as the page sends it.

    Args:
        prompt: Nodes by id, as `/prompt` takes them.
        info: `/object_info` of the nodes.
    """
    whole: Graph = {}
    for node_id, node in prompt.items():
        inputs = dict(node["inputs"])
        for name, entry in declared_inputs(info[node["class_type"]]):
            if is_widget(entry) and name not in inputs:
                inputs[name] = _options(entry).get("default", "")
        whole[node_id] = {**node, "inputs": inputs}
    return whole


def to_template(
    prompt: Graph, info: Graph, note: str | None, where: dict[str, Box] | None = None
) -> Graph:
    """A graph in API format as the page's own format.

    Args:
        prompt: Nodes by id, as `/prompt` takes them.
        info: `/object_info` of the nodes.
        note: Markdown of the note node; None makes none.
        where: Of `laid_out`, for a graph of the same nodes and links; None lays it out.
    """
    links: list[list[Any]] = []
    found = laid_out(prompt, info) if where is None else where
    nodes = [_node(node_id, prompt, info, place, links) for node_id, place in found.items()]
    by_id = {node["id"]: node for node in nodes}
    for link_id, source, slot, *_ in links:
        by_id[source]["outputs"][slot]["links"].append(link_id)
    number = max(by_id) + 1
    if note is not None:
        nodes.insert(0, _note_node(number, note))
    return {
        "last_node_id": number,
        "last_link_id": len(links),
        "nodes": nodes,
        "links": links,
        "groups": [],
        "config": {},
        "extra": {"ds": first_view((*node["pos"], *node["size"]) for node in nodes)},
        "version": 0.4,
    }


def laid_out(prompt: Graph, info: Graph) -> dict[str, Box]:
    """x, y, width and height of the nodes, none over another and no wire behind one that it has no
    part in, where that is found; from left to right.

    Args:
        prompt: Nodes by id, as `/prompt` takes them.
        info: `/object_info` of the nodes.
    """
    sources = {
        node_id: [value[0] for value in node["inputs"].values() if is_link(value)]
        for node_id, node in prompt.items()
    }
    shapes = {node_id: _shape(node, info[node["class_type"]]) for node_id, node in prompt.items()}
    from .wires import freed  # numpy; --help does without

    found = freed(places(sources, shapes), wires(prompt, info))
    return dict(sorted(found.items(), key=lambda item: (*item[1][:2], item[0])))


class Layouts:
    """Places of graphs that come again with other values."""

    def __init__(self) -> None:
        self._known: dict[str, dict[str, Box]] = {}

    def template(self, prompt: Graph, info: Graph) -> Graph:
        """As `to_template`, without a note."""
        shape = {
            key: [node["class_type"], {k: v for k, v in node["inputs"].items() if is_link(v)}]
            for key, node in prompt.items()
        }
        name = json.dumps(shape, sort_keys=True)
        if name not in self._known:
            self._known[name] = laid_out(prompt, info)
        return to_template(prompt, info, None, self._known[name])


def numbered(graph: Graph) -> Graph:
    """The graph with numbers for ids: those of nodes out of a subgraph are none."""
    new = max((int(key) for key in graph if key.isdecimal()), default=0)
    names = {key: key for key in graph}
    for key in graph:
        if not key.isdecimal():
            new += 1
            names[key] = str(new)

    def renamed(value: Any) -> Any:
        return [names[value[0]], value[1]] if is_link(value) and value[0] in names else value

    return {
        names[key]: {**node, "inputs": {k: renamed(v) for k, v in node["inputs"].items()}}
        for key, node in graph.items()
    }


def wires(prompt: Graph, info: Graph) -> list[Wire]:
    """Between which nodes wires go, and how far down each they start and end.

    Args:
        prompt: Nodes by id, as `/prompt` takes them.
        info: `/object_info` of the nodes.
    """
    found: list[Wire] = []
    for node_id, node in prompt.items():
        about = info[node["class_type"]]
        entries = declared_inputs(about)
        sockets = [name for name, entry in entries if not is_widget(entry)]
        heights = {name: socket_height(place) for place, name in enumerate(sockets)}
        below = socket_height(max(len(sockets), len(about["output"])))
        for name, entry in entries:
            if is_widget(entry):
                heights[name] = below
                rows = 1 + _is_seed(entry)
                below += widget_height(rows, bool(_options(entry).get("multiline")))
        for name, value in node["inputs"].items():
            if is_link(value):
                found.append((value[0], socket_height(value[1]), node_id, heights[name]))
    return found


def _shape(node: Graph, info: Graph) -> Shape:
    entries = [entry for _, entry in declared_inputs(info)]
    widgets = [entry for entry in entries if is_widget(entry)]
    rows = len(widgets) + sum(_is_seed(entry) for entry in widgets)
    boxes = sum(bool(_options(entry).get("multiline")) for entry in widgets)
    sockets = max(len(entries) - len(widgets), len(info["output"]))
    return Shape(node["class_type"], rows, boxes, sockets)


def _node(
    node_id: str,
    prompt: Graph,
    info: Graph,
    place: Box,
    links: list[list[Any]],
) -> Graph:
    node, about = prompt[node_id], info[prompt[node_id]["class_type"]]
    x, y, width, height = place
    inputs: list[Graph] = []
    for name, entry in declared_inputs(about):
        value = node["inputs"].get(name)
        if is_widget(entry) and not is_link(value):
            continue
        socket: Graph = {"name": name, "type": _type(entry), "link": None}
        if is_widget(entry):
            socket["widget"] = {"name": name}
        if is_link(value):
            links.append(
                [len(links) + 1, int(value[0]), value[1], int(node_id), len(inputs), _type(entry)]
            )
            socket["link"] = len(links)
        inputs.append(socket)
    outputs = [
        {"name": name, "type": kind, "links": [], "slot_index": slot}
        for slot, (name, kind) in enumerate(zip(about["output_name"], about["output"], strict=True))
    ]
    return {
        "id": int(node_id),
        "type": node["class_type"],
        **_title(node.get("_meta", {}).get("title", about["display_name"]), about),
        "pos": [x, y],
        "size": [width, height],
        "flags": {},
        "order": int(node_id),
        "mode": 0,
        "inputs": inputs,
        "outputs": outputs,
        "properties": {"Node name for S&R": node["class_type"]},
        "widgets_values": widget_values(node["inputs"], about),
        **colours(node["class_type"]),
    }


def _title(title: str, about: Graph) -> Graph:
    """A node's own title; the page says a plain display name in the user's language."""
    return {} if title == about["display_name"] else {"title": title}


def widget_values(inputs: Graph, about: Graph) -> list[Any]:
    """A node's widget values in the page's order; a seed takes one more place for its control."""
    values: list[Any] = []
    for name, entry in declared_inputs(about):
        if not is_widget(entry):
            continue
        value = inputs.get(name)
        values.append(
            _options(entry).get("default", "") if value is None or is_link(value) else value
        )
        if _is_seed(entry):
            values.append("fixed")
    return values


def declared_inputs(about: Graph) -> list[tuple[str, list[Any]]]:
    """Names and entries of a node's inputs, required ones first, as the page lists them."""
    groups = about["input"]
    return [
        (name, list(entry))
        for group in ("required", "optional")
        for name, entry in groups.get(group, {}).items()
    ]


def is_widget(entry: list[Any]) -> bool:
    """Whether the page draws a widget for an input."""
    return isinstance(entry[0], list) or (
        entry[0] in _WIDGETS and not _options(entry).get("forceInput")
    )


def is_link(value: Any) -> bool:
    """Whether a prompt's value is another node's output."""
    return isinstance(value, list) and len(value) == 2 and isinstance(value[0], str)


def _is_seed(entry: list[Any]) -> bool:
    return bool(_options(entry).get("control_after_generate"))


def _options(entry: list[Any]) -> Graph:
    return entry[1] if len(entry) > 1 else {}


def _type(entry: list[Any]) -> str:
    return "COMBO" if isinstance(entry[0], list) else entry[0]


def _note_node(node_id: int, note: str) -> Graph:
    text = f"{note.rstrip()}\n\n{LEGEND}\n"
    width, height = note_size(text)
    return {
        "id": node_id,
        "type": "MarkdownNote",
        "title": "Read me",
        "pos": [-width - 2 * GAP, 0],
        "size": [width, height],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": [],
        "outputs": [],
        "properties": {},
        "widgets_values": [text],
        **YELLOW,
    }

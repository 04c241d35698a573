"""Subgraph blueprints: chains that an artist puts into a graph as one node.

Each is a graph in API format in which the link [INPUT, NAME] stands for an input of the whole.
"""

from __future__ import annotations

import uuid
from dataclasses import dataclass
from typing import Any

Graph = dict[str, Any]

INPUT = "input"
_IN, _OUT = -10, -20  # what the page calls the two ends
_SOCKETS = uuid.UUID("6f1f6d4c-6c0f-4d38-9d0c-3f6b4c1b7a11")  # names become ids within it
_END_WIDTH, _END_ROW, _GAP = 128, 20, 120


@dataclass(frozen=True)
class Blueprint:
    """A chain.

    Attributes:
        name: As the node library shows it.
        description: What it does, in a sentence.
        graph: Its nodes in API format.
        outputs: Node and slot of each output, by name.
    """

    name: str
    description: str
    graph: Graph
    outputs: dict[str, tuple[str, int]]


def _node(kind: str, title: str, **inputs: Any) -> Graph:
    return {"class_type": f"UniFashion_{kind}", "_meta": {"title": title}, "inputs": inputs}


FIND = Blueprint(
    "UniFashion Index and Search",
    "Puts a folder into a gallery and finds what a text describes.",
    {
        "1": _node("LoadEncoder", "Load Fashion Encoder"),
        "2": _node(
            "IndexFolder",
            "Index Folder",
            encoder=["1", 0],
            gallery=[INPUT, "gallery"],
            folder=[INPUT, "folder"],
        ),
        "3": _node(
            "EncodeText",
            "What to look for",
            encoder=["1", 0],
            text=[INPUT, "text"],
            exclude=[INPUT, "exclude"],
        ),
        "4": _node(
            "RetrieveGarments",
            "Retrieve Garments",
            gallery=["2", 0],
            query=["3", 0],
            top_k=[INPUT, "top_k"],
        ),
        "5": _node("ContactSheet", "Contact Sheet", hits=["4", 0]),
    },
    {"hits": ("4", 0), "sheets": ("5", 0), "gallery": ("2", 0), "report": ("2", 1)},
)

CROP = Blueprint(
    "UniFashion Mask and Crop",
    "Marks a garment on a photo of a person and crops round it, at the size of a model. Put the "
    "model's result, fit and photo mask into Paste Back.",
    {
        "1": _node(
            "AgnosticMask",
            "Agnostic Mask",
            image=[INPUT, "image"],
            region=[INPUT, "region"],
            sleeve=[INPUT, "sleeve"],
            dilation=[INPUT, "dilation"],
        ),
        "2": _node(
            "FitToModel",
            "Fit to Model",
            image=[INPUT, "image"],
            mask=["1", 0],
            width=[INPUT, "width"],
            height=[INPUT, "height"],
        ),
    },
    {
        "image": ("2", 0),
        "mask": ("2", 1),
        "fit": ("2", 2),
        "photo mask": ("1", 0),
        "overlay": ("1", 1),
    },
)

BLUEPRINTS = (FIND, CROP)


def to_blueprint(blueprint: Blueprint, info: Graph) -> Graph:
    """A chain as the page's blueprint: a graph of one node, and the definition of its inside.

    Args:
        blueprint: The chain.
        info: `/object_info` of its nodes.
    """
    from .._page.graph import completed, declared_inputs, is_widget, to_template

    names, wires = _inputs(blueprint)
    inner = to_template(completed(_without(blueprint.graph), info), info, None)
    sockets: dict[str, Graph] = {}
    links = [_link(*link) for link in inner["links"]]
    by_id = {node["id"]: node for node in inner["nodes"]}
    for name, node_id, field in wires:
        entries = dict(declared_inputs(info[blueprint.graph[node_id]["class_type"]]))
        entry, target = entries[field], by_id[int(node_id)]
        slot = next((s for s in target["inputs"] if s["name"] == field), None)
        if slot is None:
            slot = {"name": field, "type": _type(entry), "link": None}
            slot |= {"widget": {"name": field}} if is_widget(entry) else {}
            target["inputs"].append(slot)
        slot["link"] = len(links) + 1
        where = (_IN, names.index(name), int(node_id), target["inputs"].index(slot))
        links.append(_link(slot["link"], *where, _type(entry)))
        socket = sockets.setdefault(name, _socket(blueprint, "in", name, _type(entry)))
        socket["linkIds"].append(slot["link"])
        if "widget" in slot:
            socket["widget"] = True
    outputs = _outputs(blueprint, by_id, links)
    inner |= {"links": links, "nodes": list(by_id.values())}
    return _whole(blueprint, inner, [sockets[name] for name in names], outputs)


def _inputs(blueprint: Blueprint) -> tuple[list[str], list[tuple[str, str, str]]]:
    """Names of the inputs, and each with node and field that it goes to."""
    wires = [
        (value[1], node_id, field)
        for node_id, node in blueprint.graph.items()
        for field, value in node["inputs"].items()
        if isinstance(value, list) and value[0] == INPUT
    ]
    return list(dict.fromkeys(name for name, *_ in wires)), wires


def _without(graph: Graph) -> Graph:
    """A graph without the links to its inputs."""

    def kept(inputs: Graph) -> Graph:
        return {
            field: value
            for field, value in inputs.items()
            if not (isinstance(value, list) and value[0] == INPUT)
        }

    return {node_id: {**node, "inputs": kept(node["inputs"])} for node_id, node in graph.items()}


def _outputs(blueprint: Blueprint, by_id: dict[int, Graph], links: list[Graph]) -> list[Graph]:
    found: list[Graph] = []
    for number, (name, (node_id, slot)) in enumerate(blueprint.outputs.items()):
        output = by_id[int(node_id)]["outputs"][slot]
        link_id = len(links) + 1
        output["links"].append(link_id)
        links.append(_link(link_id, int(node_id), slot, _OUT, number, output["type"]))
        socket = _socket(blueprint, "out", name, output["type"])
        found.append({**socket, "linkIds": [link_id]})
    return found


def _link(link_id: int, origin: int, slot: int, target: int, at: int, kind: str) -> Graph:
    return {
        "id": link_id,
        "origin_id": origin,
        "origin_slot": slot,
        "target_id": target,
        "target_slot": at,
        "type": kind,
    }


def _socket(blueprint: Blueprint, side: str, name: str, kind: str) -> Graph:
    key = str(uuid.uuid5(_SOCKETS, f"{blueprint.name}/{side}/{name}"))
    return {"id": key, "name": name, "type": kind, "linkIds": []}


def _type(entry: list[Any]) -> str:
    return "COMBO" if isinstance(entry[0], list) else entry[0]


def _end(number: int, x: float, rows: int) -> Graph:
    return {"id": number, "bounding": [x, 0, _END_WIDTH, 40 + rows * _END_ROW]}


def _outside(blueprint: Blueprint, key: str, inputs: list[Graph], outputs: list[Graph]) -> Graph:
    """The node that stands for the whole."""
    outside = [
        {"name": s["name"], "type": s["type"], "link": None}
        | ({"widget": {"name": s["name"]}} if s.get("widget") else {})
        for s in inputs
    ]
    return {
        "id": 1,
        "type": key,
        "title": blueprint.name,
        "pos": [0, 0],
        "size": [320, 60 + 28 * max(len(inputs), len(outputs))],
        "flags": {},
        "order": 0,
        "mode": 0,
        "inputs": outside,
        "outputs": [{"name": s["name"], "type": s["type"], "links": []} for s in outputs],
        "properties": {},
        "widgets_values": [],
    }


def _whole(blueprint: Blueprint, inner: Graph, inputs: list[Graph], outputs: list[Graph]) -> Graph:
    key = str(uuid.uuid5(_SOCKETS, blueprint.name))
    right = max(node["pos"][0] + node["size"][0] for node in inner["nodes"])
    state = {
        "lastNodeId": max(node["id"] for node in inner["nodes"]),
        "lastLinkId": len(inner["links"]),
        "lastGroupId": 0,
        "lastRerouteId": 0,
    }
    definition = {
        "id": key,
        "version": 1,
        "state": state,
        "revision": 0,
        "config": {},
        "name": blueprint.name,
        "description": blueprint.description,
        "category": "UniFashion",
        "inputNode": _end(_IN, -_END_WIDTH - _GAP, len(inputs)),
        "outputNode": _end(_OUT, right + _GAP, len(outputs)),
        "inputs": [{k: v for k, v in socket.items() if k != "widget"} for socket in inputs],
        "outputs": outputs,
        "widgets": [],
        "nodes": inner["nodes"],
        "groups": [],
        "links": inner["links"],
        "extra": {},
    }
    node = _outside(blueprint, key, inputs, outputs)
    return {
        "revision": 0,
        "last_node_id": 1,
        "last_link_id": 0,
        "nodes": [node],
        "links": [],
        "version": 0.4,
        "definitions": {"subgraphs": [definition]},
        "extra": {"BlueprintDescription": blueprint.description},
    }

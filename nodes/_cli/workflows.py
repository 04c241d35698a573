"""Make the templates of workflows/ from their API twins in workflows/api and their notes.

Each NAME.json gets its nodes laid out from left to right, no wire behind a node that it has no part
in, with a note node of notes/NAME.md. A twin that lacks a widget which its node has now gets it,
with the default that the page would send. With --thumbnails the graphs are run, and what each shows
last becomes NAME.jpg. The subgraph blueprints of subgraphs/ are made too.
"""

from __future__ import annotations

import argparse
import json
import math
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._layout import (
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
    from .._host import Folders
    from ._wires import Box, Wire

Graph = dict[str, Any]

_THUMBNAIL, _THUMBNAIL_ACROSS = 512, 4  # its longer side, and how many pictures beside each other
_THUMBNAILS = ("SaveImage", "UniFashion_ContactSheet")  # whose picture is shown, the later first
_WIDGETS = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The command's own arguments."""
    parser.add_argument(
        "--thumbnails", action="store_true", help="run the graphs and renew the .jpg files too"
    )


def run(args: argparse.Namespace) -> int:
    """Write all templates."""
    import tempfile

    from ._blueprints import BLUEPRINTS, to_blueprint
    from ._embedded import make_host

    folder = args.pack / "workflows"
    with tempfile.TemporaryDirectory() as base:
        host = make_host(Path(base))
        info = host.object_info()
        for twin in sorted((folder / "api").glob("*.json")):
            prompt = completed(json.loads(twin.read_text("utf-8")), info)
            twin.write_text(json.dumps(prompt, indent=1, ensure_ascii=False) + "\n", "utf-8")
            note = (folder / "notes" / f"{twin.stem}.md").read_text("utf-8")
            graph = to_template(prompt, info, note)
            text = json.dumps(graph, indent=1, ensure_ascii=False) + "\n"
            (folder / twin.name).write_text(text, "utf-8")
            if args.thumbnails:
                pictures = _shown(prompt, host.run(prompt), host.folders)
                _thumbnail(pictures, folder / f"{twin.stem}.jpg")
            print(folder / twin.name)
        for blueprint in BLUEPRINTS:
            path = args.pack / "subgraphs" / f"{blueprint.name}.json"
            path.parent.mkdir(exist_ok=True)
            text = json.dumps(to_blueprint(blueprint, info), indent=1, ensure_ascii=False)
            path.write_text(text + "\n", "utf-8")
            print(path)
    return 0


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


def to_template(prompt: Graph, info: Graph, note: str | None) -> Graph:
    """A graph in API format as the page's own format.

    Args:
        prompt: Nodes by id, as `/prompt` takes them.
        info: `/object_info` of the nodes.
        note: Markdown of the note node; None makes none.
    """
    links: list[list[Any]] = []
    nodes = [_node(node_id, prompt, info, place, links) for node_id, place in _places(prompt, info)]
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


def _places(prompt: Graph, info: Graph) -> list[tuple[str, Box]]:
    """Ids with x, y, width and height, from left to right."""
    sources = {
        node_id: [value[0] for value in node["inputs"].values() if is_link(value)]
        for node_id, node in prompt.items()
    }
    shapes = {node_id: _shape(node, info[node["class_type"]]) for node_id, node in prompt.items()}
    from ._wires import freed  # numpy; --help does without

    found = freed(places(sources, shapes), wires(prompt, info))
    return sorted(found.items(), key=lambda item: (*item[1][:2], item[0]))


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
        **_title(node["_meta"]["title"], about),
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


def _shown(prompt: Graph, result: Any, folders: Folders) -> list[Path]:
    """A run's contact sheet, else its first saved picture, else those that it showed last."""

    def path(file: Graph) -> Path:
        root = folders.output if file["type"] == "output" else folders.temp
        return root / file["subfolder"] / file["filename"]

    def rank(node: str) -> tuple[int, int]:
        kind, last = prompt[node]["class_type"], path(result.ui[node]["images"][-1])
        return _THUMBNAILS.index(kind) if kind in _THUMBNAILS else -1, last.stat().st_mtime_ns

    chosen = max((node for node, ui in result.ui.items() if ui.get("images")), key=rank)
    shown = [path(file) for file in result.ui[chosen]["images"]]
    return shown[:1] if prompt[chosen]["class_type"] in _THUMBNAILS else shown


def _thumbnail(paths: list[Path], target: Path) -> None:
    """One picture; of many, squares side by side, as many as fill whole rows."""
    from PIL import Image, ImageOps

    across = min(_THUMBNAIL_ACROSS, math.isqrt(len(paths)))
    side = _THUMBNAIL // across
    tiles: list[Image.Image] = []
    for path in paths[: across * across]:
        with Image.open(path) as picture:
            tiles.append(ImageOps.contain(picture.convert("RGB"), (side, side)))
    page = tiles[0]
    if across > 1:
        page = Image.new("RGB", (across * side, across * side), "white")
        for number, tile in enumerate(tiles):
            down, right = divmod(number, across)
            page.paste(tile, (right * side, down * side))
    page.save(target, quality=88)

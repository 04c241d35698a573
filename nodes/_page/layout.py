"""Where the nodes of a template stand, how large they are, and in which colour."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

Graph = dict[str, Any]
Colours = dict[str, str]

GAP = 50
_ROW, _TITLE = 28, 34
_WIDTH = 340
_SOCKET, _SOCKET_ROW, _WIDGET_ROW = 14, 20, 24  # as both renderers draw them
_MULTILINE, _TEXT = 90, 150
_TALLEST = 1600  # a taller column goes on beside itself
_NOTE_WIDTH, _NOTE_LETTERS, _NOTE_LINE = 400, 56, 19
_PICTURES = {  # width, and height beside the widgets
    "LoadImage": (340, 300),
    "PreviewImage": (380, 340),
    "SaveImage": (460, 420),
    "UniFashion_ContactSheet": (460, 420),
    "UniFashion_RenderVariations": (420, 420),
}
_PREVIEWS = {"UniFashion_SampleTryOn": 260, "UniFashion_DesignGarment": 260}  # while they paint
_TEXTS = ("PreviewAny",)
_WINDOW = (1500, 900)  # a small browser window
_EDGE = (80, 95)  # the side bar, and the bar with Run
_YOURS = (
    *("SampleWardrobe", "EncodeText", "ComposeQuery", "FormatCaption"),
    *("DesignGarment", "PlanVariations"),
)

GREEN: Colours = {"color": "#232", "bgcolor": "#353"}
PURPLE: Colours = {"color": "#323", "bgcolor": "#535"}
BLUE: Colours = {"color": "#223", "bgcolor": "#335"}
YELLOW: Colours = {"color": "#432", "bgcolor": "#653"}
LEGEND = (
    "**Colours**: green = what you bring or write, purple = loads a model, blue = shows pictures."
)


@dataclass(frozen=True)
class Shape:
    """What of a node decides its size.

    Attributes:
        kind: Its class.
        widgets: Rows of widgets, a seed's second one too.
        boxes: Text boxes of several lines.
        sockets: Rows of inputs or outputs, whichever are more.
    """

    kind: str
    widgets: int
    boxes: int
    sockets: int

    @property
    def size(self) -> tuple[int, int]:
        """Width and height that suit both renderers."""
        height = _ROW + (self.widgets + self.sockets) * _ROW + self.boxes * _MULTILINE
        if self.kind in _PICTURES:
            width, picture = _PICTURES[self.kind]
            return width, height + picture
        more = _TEXT if self.kind in _TEXTS else _PREVIEWS.get(self.kind, 0)
        return _WIDTH, height + more


def places(
    sources: dict[str, list[str]], shapes: dict[str, Shape]
) -> dict[str, tuple[int, int, int, int]]:
    """x, y, width and height of each node: columns from left to right, what goes on at the top.

    Args:
        sources: For each node those that it is linked from.
        shapes: By node.
    """
    column, read = _columns(sources), {node for before in sources.values() for node in before}
    found: dict[str, tuple[int, int, int, int]] = {}
    x = 0
    for number in range(max(column.values()) + 1):
        members = [node for node in sources if column[node] == number]
        members.sort(key=lambda node: (node not in read, _middle(sources[node], found), int(node)))
        y = widest = 0
        for node in members:
            width, height = shapes[node].size
            if y and y + height > _TALLEST:
                x, y, widest = x + widest + GAP, 0, 0
            found[node] = (x, y, width, height)
            y, widest = y + height + GAP + _TITLE, max(widest, width)
        x += widest + GAP
    return found


def _columns(sources: dict[str, list[str]]) -> dict[str, int]:
    """Each node's column: right before its first reader; an end's, right behind its source."""
    readers: dict[str, list[str]] = {node: [] for node in sources}
    for node, before in sources.items():
        for source in before:
            readers[source].append(node)
    early: dict[str, int] = {}

    def earliest(node: str) -> int:
        if node not in early:
            early[node] = max((earliest(source) + 1 for source in sources[node]), default=0)
        return early[node]

    column: dict[str, int] = {}
    for node in sorted(sources, key=earliest, reverse=True):
        after = [column[reader] for reader in readers[node]]
        column[node] = min(after) - 1 if after else early[node]
    return column


def _middle(sources: list[str], found: dict[str, tuple[int, int, int, int]]) -> float:
    """Mean height at which a node's sources stand."""
    heights = [found[source][1] for source in sources if source in found]
    return sum(heights) / len(heights) if heights else 0.0


def first_view(boxes: Iterable[tuple[int, int, int, int]]) -> Graph:
    """Scale and offset that a template opens with: its note at the left edge, words to be read.

    The page's own fit leaves a wide margin and draws no words below a scale of 0.57, so that who
    opens a template would see empty boxes.

    Args:
        boxes: x, y, width and height of all nodes.
    """
    places = list(boxes)
    left, top = min(x for x, *_ in places), min(y for _, y, *_ in places) - _TITLE
    width = max(x + w for x, _, w, _ in places) - left
    height = max(y + h for _, y, _, h in places) - top
    across, down = _WINDOW[0] - 2 * _EDGE[0], _WINDOW[1] - _EDGE[0] - _EDGE[1]
    scale = round(min(max(across / width, 0.6), max(down / height, 0.6), 0.8), 2)
    return {
        "scale": scale,
        "offset": [round(e / scale) - s for e, s in zip(_EDGE, (left, top), strict=True)],
    }


def socket_height(place: int) -> int:
    """How far below a node's upper edge the middle of a socket is."""
    return _SOCKET + place * _SOCKET_ROW


def widget_height(rows: int, box: bool) -> int:
    """What a widget takes in height."""
    return rows * _WIDGET_ROW + box * _MULTILINE


def colours(kind: str) -> Colours:
    """A node's colours by what it is for; none for what works in between."""
    name = kind.removeprefix("UniFashion_")
    if name in _YOURS or kind == "LoadImage":
        return GREEN
    if kind.startswith("UniFashion_Load"):
        return PURPLE
    return BLUE if kind in _PICTURES else {}


def note_size(text: str) -> tuple[int, int]:
    """Width and height in which a note shows whole."""
    paragraphs = text.strip().split("\n")
    lines = sum(max(1, math.ceil(len(line) / _NOTE_LETTERS)) for line in paragraphs)
    return _NOTE_WIDTH, 70 + lines * _NOTE_LINE

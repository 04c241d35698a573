"""A run as one page to look through: `index.html`, which filters and sorts, without any network."""

from __future__ import annotations

import html
import json
import os
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

from PIL import ImageOps

from ..caption.sidecars import write_whole
from ..errors import ImageError
from ..imaging import open_image
from ..types import Scalar
from .manifest import Line
from .names import inside

PAGE, THUMBNAILS = "index.html", "thumbs"
_SIDE = 384  # of a thumbnail, in pixels
_TEMPLATE = Path(__file__).with_name("page.html")


@dataclass(frozen=True)
class PageItem:
    """An item of the page.

    Attributes:
        line: What the manifest says of it.
        values: What it was made from, by column: what the page filters by.
    """

    line: Line
    values: Mapping[str, Scalar] = field(default_factory=dict[str, Scalar])


def write_page(folder: Path, title: str, items: Sequence[PageItem]) -> Path:
    """Write the page of a run and the thumbnails that it lacks.

    Args:
        folder: The run's folder.
        title: Over the page.
        items: In the plan's order.

    Returns:
        The page's file.

    Raises:
        FolderError: If the disk refuses.
    """
    cards = [card for item in items for card in _cards(folder, item)]
    data = json.dumps(cards, ensure_ascii=False).replace("<", "\\u003c").replace("\u2028", " ")
    page = Template(_TEMPLATE.read_text("utf-8")).substitute(title=html.escape(title), data=data)
    write_whole(folder / PAGE, page.encode("utf-8", "replace"))
    return folder / PAGE


def _cards(folder: Path, item: PageItem) -> list[dict[str, Any]]:
    """A card a picture, or one that says what became of the item."""
    line = item.line
    about: dict[str, Any] = {
        "index": line.index,
        "id": line.id,
        "state": line.state,
        "seconds": line.seconds,
        "seed": line.seed,
        "scores": line.scores or {},
        "error": line.error,
        "values": {k: v for k, v in item.values.items() if v not in (None, "")},
    }
    if line.state != "done" or not line.files:
        return [about]
    found: list[dict[str, Any]] = []
    for number, file in enumerate(line.files):
        small = _thumbnail(folder, file.file, f"{line.id[:16]}_{number}_{file.sha256[:8]}.jpg")
        found.append({**about, "file": file.file, "small": small})
    return found


def _thumbnail(folder: Path, file: str, name: str) -> str:
    """The path of a picture's thumbnail, which is made where it is missing; the picture itself
    where it can't be read."""
    target = folder / THUMBNAILS / name
    if not target.is_file():
        try:
            picture = open_image(inside(folder, file), min_side=_SIDE)
        except ImageError:
            return file
        target.parent.mkdir(exist_ok=True)
        part = target.with_name(f".{name}.part")
        ImageOps.contain(picture, (_SIDE, _SIDE)).save(part, format="JPEG", quality=85)
        os.replace(part, target)
    return f"{THUMBNAILS}/{name}"

"""How a plan's run looks: its page, its contact sheets, and before and after."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from PIL import Image, ImageOps

from ..caption.sidecars import write_whole
from ..errors import UniFashionError
from ..imaging import open_image
from .manifest import Line, Manifest
from .names import inside
from .page import PageItem
from .plan import Picture, Plan, PlanItem, item_ids
from .saved import encode_picture
from .sheets import Card, Grid, SheetStyle, grid_sheet, strip_sheet

SHEETS = "sheets"
_STRIPS = 12  # before and after, on a page

PlanLines = list[tuple[PlanItem, Line]]
"""Items of a plan with what the manifest says of them."""


def lines_of(manifest: Manifest, plan: Plan, job: str) -> PlanLines:
    """The items of a plan that were made or failed, in the plan's order, each once.

    Args:
        manifest: The run's.
        plan: The plan.
        job: Its job's hash.
    """
    found: dict[str, tuple[PlanItem, Line]] = {}
    for item, (name, _) in zip(plan.items, item_ids(job, plan.items), strict=True):
        if name in manifest.lines:
            found.setdefault(name, (item, manifest.lines[name]))
    return list(found.values())


def page_items(known: PlanLines) -> list[PageItem]:
    """What the page of a run shows; see `page`."""
    return [PageItem(line, item.values()) for item, line in known]


def plan_sheets(
    manifest: Manifest, known: PlanLines, title: str, style: SheetStyle | None = None
) -> list[Path]:
    """Write the contact sheets of a run: persons down, garments across; and before and after.

    Args:
        manifest: The run's.
        known: From `lines_of`.
        title: Over each page.
        style: Sizes.

    Returns:
        The files, JPEG.
    """
    style = style or SheetStyle(columns=8, cell=224, captions=True, rows=8)
    grid = plan_grid(manifest, known, title, style.cell)
    pages = [("grid", page) for page in grid_sheet(grid, style)]
    strips = list(_strips(manifest, known, style.cell))
    few = SheetStyle(style.columns, style.cell, style.captions, _STRIPS)
    pages += [("before-after", page) for page in strip_sheet(strips, few, title) if strips]
    return [_save(manifest.folder, name, number, page) for number, (name, page) in enumerate(pages)]


def plan_grid(manifest: Manifest, known: PlanLines, title: str, side: int) -> Grid:
    """A run as a table: a row a person, a column a garment (or sketch, or prompt; a prompt as well
    where all have one garment or sketch).

    Args:
        manifest: The run's.
        known: From `lines_of`.
        title: Over the table.
        side: Of a picture in the table, in pixels.
    """
    rows: dict[str, Card] = {}
    columns: dict[str, Card] = {}
    cells: dict[tuple[str, str], list[Card]] = {}
    hints = {hint.name for item, _ in known if (hint := item.garment or item.sketch)}
    by_prompt = len(hints) == 1 and len({item.prompt for item, _ in known}) > 1
    for item, line in known:
        row = item.person.name if item.person else "no person"
        hint = item.garment or item.sketch
        column = hint.name if hint and not by_prompt else item.prompt or "no garment"
        if row not in rows:
            rows[row] = Card(_open(item.person, side), row, instead="" if item.person else row)
        if column not in columns:
            columns[column] = Card(_open(hint, side), column, instead=column)
        cells.setdefault((row, column), []).append(_card(manifest, item, line, side))
    return Grid(rows, columns, cells, title)


def _card(manifest: Manifest, item: PlanItem, line: Line, side: int) -> Card:
    marks = [f"{name} {value:.3f}" for name, value in (line.scores or {}).items()]
    head = "   ".join([f"{line.index}", *marks, f"seed {item.seed}"])
    if line.state != "done":
        return Card(None, f"{line.index}   failed", accent=True, instead=line.error or "failed")
    return Card(_made(manifest, line, side), head, item.prompt)


def _strips(manifest: Manifest, known: PlanLines, side: int) -> Iterator[list[Card]]:
    for item, line in known:
        if line.state == "done" and item.person is not None:
            hint = item.garment or item.sketch
            worn = [] if hint is None else [Card(_open(hint, side), "garment", hint.name)]
            before = Card(_open(item.person, side), "before", item.person.name)
            yield [
                before,
                *worn,
                Card(_made(manifest, line, side), f"{line.index}   after", item.prompt),
            ]


def _made(manifest: Manifest, line: Line, side: int) -> Image.Image | None:
    return _open(Picture("made", inside(manifest.folder, line.files[0].file)), side)


def _open(picture: Picture | None, side: int) -> Image.Image | None:
    """A picture no larger than it is shown: a run may have thousands."""
    if picture is None:
        return None
    try:
        opened = open_image(picture.path, min_side=side) if picture.path else picture.open()
    except UniFashionError:
        return None
    return ImageOps.contain(opened, (side, side))


def _save(folder: Path, name: str, number: int, page: Image.Image) -> Path:
    path = folder / SHEETS / f"{number:02d}_{name}.jpg"
    write_whole(path, encode_picture(page, "jpeg", {}, {}))
    return path

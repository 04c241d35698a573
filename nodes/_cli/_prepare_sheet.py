"""A sheet to judge by: every mask, pose map, cut-out and sketch of the photos in a folder."""

from __future__ import annotations

import html
import os
import shutil
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from string import Template
from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ...unifashion_core.cutout import garment_mask
from ...unifashion_core.errors import UniFashionError
from ...unifashion_core.imaging import iter_images, open_image, to_pil, to_tensor
from ...unifashion_core.prepare.cache import PreparationCache
from ...unifashion_core.prepare.garment import CutOut, frame_garment
from ...unifashion_core.prepare.preparer import Known, MaskRequest, Preparer
from ...unifashion_core.prepare.regions import DEFAULT_DILATION, DEFAULT_PROTECTED
from ...unifashion_core.prepare.sketch import on_paper, sketch

if TYPE_CHECKING:
    from ...unifashion_core.prepare.person import PersonNetworks
    from ...unifashion_core.types import OnStep

_SIDE = 360  # longer side of a picture of the sheet, pixels
_FRAME = (512, 384)  # of cut-outs: half of what the nodes make, a quarter of the time
_REGIONS = ("upper", "lower", "dress")
_PHOTOS = ("tryon/person", "tryon/garment", "bundles")
_OF_BUNDLE = ("person", "cloth")


@dataclass(frozen=True)
class _Card:
    """One picture of the sheet.

    Attributes:
        title: What it is.
        picture: To show; None where it could not be made.
        words: Its note, or why there is none.
    """

    title: str
    picture: Image.Image | None
    words: str


def write_sheet(
    folder: Path,
    out: Path,
    networks: PersonNetworks,
    tables: Mapping[str, Any],
    on_step: OnStep | None = None,
) -> Path:
    """Write report.html, with a row a photo, and its pictures beside it.

    Args:
        folder: Of persons and garments: `tryon` and `bundles` in it where they are, else every
            picture. Whether one shows a person is decided as everywhere, by the detector.
        out: Pictures of an earlier sheet are replaced.
        networks: Of `load_networks`.
        tables: Figures of `evaluate_masks`, shown by their photo; empty where there are none.
        on_step: Called with (photos done, photos in all).

    Returns:
        The page.
    """
    pictures = out / "pictures"
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    photos = sheet_photos(folder)
    rows: list[str] = []
    for number, path in enumerate(photos, 1):
        name = path.relative_to(folder).as_posix()
        figures = _figures(tables, path.parent.name)
        rows.append(_row(number, name, list(_prepared(path, networks)), figures, pictures))
        if on_step is not None:
            on_step(number, len(photos))
    page = _PAGE.substitute(count=len(photos), means=_means(tables), rows="\n".join(rows))
    target, part = out / "report.html", out / ".report.html.part"
    part.write_text(page, "utf-8")
    os.replace(part, target)
    return target


def sheet_photos(folder: Path) -> list[Path]:
    """The photos of a folder that `write_sheet` shows, sorted by part and path."""
    found: list[Path] = []
    for name in _PHOTOS:
        place = folder / name
        some = list(iter_images(place)) if place.is_dir() else []
        found += [p for p in some if name != "bundles" or p.stem in _OF_BUNDLE]
    return found or list(iter_images(folder))


def _prepared(path: Path, networks: PersonNetworks) -> Iterator[_Card]:
    """Everything that is made of one photo."""
    try:
        photo = open_image(path)
    except UniFashionError as e:
        yield _Card("photo", None, str(e))
        return
    yield _Card("photo", photo, f"{photo.width} x {photo.height}")
    image, preparer = to_tensor(photo), Preparer(lambda: networks, PreparationCache())
    person = preparer.person(image)
    if person is None:
        yield from _garment(preparer, image, None)
        return
    for region in _REGIONS:
        yield _try(f"mask: {region}", lambda region=region: _mask(preparer, image, region))
    yield _try("pose map", lambda: _pose(preparer, image))
    yield from _garment(preparer, image, _REGIONS[0])


def _try(title: str, make: Any) -> _Card:
    """A card of what `make` gives; of its error where it refuses."""
    try:
        picture, words = make()
    except UniFashionError as e:
        return _Card(title, None, str(e))
    return _Card(title, picture, words)


def _mask(preparer: Preparer, image: torch.Tensor, region: str) -> tuple[Image.Image, str]:
    request = MaskRequest(
        region, "keep", "keep", DEFAULT_DILATION, (0.0, 0.0, 0.0, 0.0), DEFAULT_PROTECTED
    )
    made = preparer.mask(image, Known(), request)
    return to_pil(made.overlay), made.note


def _pose(preparer: Preparer, image: torch.Tensor) -> tuple[Image.Image, str]:
    drawn, note = preparer.pose_map(image)
    return to_pil(drawn), note


def _garment(preparer: Preparer, image: torch.Tensor, worn: str | None) -> Iterator[_Card]:
    """The cut-out of a garment, worn or alone, and its sketch."""
    what = "" if worn is None else f": {worn}"
    cuts: list[CutOut] = []

    def cut_out() -> tuple[Image.Image, str]:
        cuts.append(frame_garment(preparer.garment(image, None, worn, garment_mask), _FRAME))
        return to_pil(cuts[0].image), "; ".join([cuts[0].source, *cuts[0].notes])

    yield _try(f"cut-out{what}", cut_out)
    for cut in cuts:
        lines = sketch(cut.image, cut.mask)
        yield _Card(f"sketch{what}", to_pil(on_paper(lines, dark_on_light=True)), "")


def _row(
    number: int, name: str, cards: Sequence[_Card], figures: Sequence[str], pictures: Path
) -> str:
    shown: list[str] = []
    for at, card in enumerate(cards):
        body = f"<p>{html.escape(card.words)}</p>"
        if card.picture is not None:
            file = f"{number:04d}-{at}.jpg"
            small = card.picture.convert("RGB")
            small.thumbnail((_SIDE, _SIDE))
            small.save(pictures / file, quality=88)
            body = f'<img src="pictures/{file}" alt="{html.escape(card.title)}">{body}'
        shown.append(f"<figure><b>{html.escape(card.title)}</b>{body}</figure>")
    lines = "".join(f"<li>{html.escape(line)}</li>" for line in figures)
    return (
        f"<section><h2>{number}. {html.escape(name)}</h2><ul>{lines}</ul>"
        f"<div class=row>{''.join(shown)}</div></section>"
    )


def _figures(tables: Mapping[str, Any], bundle: str) -> list[str]:
    """A line for each table that holds the bundle."""
    return [
        f"{name}: {_line(table['each'][bundle])}"
        for name, table in tables.items()
        if bundle in table.get("each", {})
    ]


def _means(tables: Mapping[str, Any]) -> str:
    lines = [f"{name} (n {t['n']}): {_line(t['mean'])}" for name, t in tables.items() if "n" in t]
    return "".join(f"<li>{html.escape(line)}</li>" for line in lines)


def _line(figures: Mapping[str, float]) -> str:
    return ", ".join(f"{key} {value:.3f}" for key, value in figures.items())


_PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>UniFashion: preparations</title>
<style>
body { margin: 0; padding: 20px; background: #f6f4f1; color: #22201d;
  font: 14px/1.4 system-ui, sans-serif }
h1 { margin: 0 } h2 { margin: 24px 0 4px; font-size: 15px; overflow-wrap: anywhere }
ul { margin: 0; padding-left: 18px; color: #5f5a53; font-size: 12px }
.row { display: flex; gap: 8px; overflow-x: auto }
figure { margin: 0; flex: 1 0 150px; max-width: 240px; background: #fff; border-radius: 8px;
  overflow: hidden }
figure b { display: block; padding: 4px 8px }
figure p { margin: 0; padding: 4px 8px 8px; font-size: 11px; color: #5f5a53 }
img { display: block; width: 100%; height: auto; background: #e4e0da }
</style>
<h1>What is made of $count photos</h1>
<p>Red is what would be painted anew. Pose maps, cut-outs and sketches are those of the nodes, with
their defaults; cut-outs are framed at half the size.</p>
<ul>$means</ul>
$rows
</html>
""")

"""The demo's report: one HTML page with its pictures beside it."""

from __future__ import annotations

import html
import os
import shutil
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from string import Template
from typing import Any

import torch
from PIL import Image, ImageOps

from ...unifashion_core.errors import ImageError
from ...unifashion_core.imaging import open_image, to_pil
from ...unifashion_core.types import Hit
from ._demo_worn import FOLDER, Designed, TryOn, Wearing

_SIDE = 320  # of a picture in the report, pixels


@dataclass(frozen=True)
class Search:
    """One search of the demo.

    Attributes:
        kind: "text", "picture" or "picture and text".
        text: What was asked for in words, "" for a picture alone.
        picture: What was searched with, (H, W, 3), or None.
        hits: What was found.
        captions: What the captioner said of pictures, by path.
    """

    kind: str
    text: str
    picture: torch.Tensor | None
    hits: Sequence[Hit]
    captions: Mapping[Path, str] = field(default_factory=dict[Path, str])

    def words(self, hit: Hit) -> str:
        """What stands under a hit: its caption, else its file's name."""
        return self.captions.get(hit.path) or str(hit.columns.get("caption") or hit.file)

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the picture."""
        found = [
            {
                "rank": hit.rank,
                "file": hit.file,
                "score": hit.score,
                "caption": self.captions.get(hit.path),
            }
            for hit in self.hits
        ]
        return {"kind": self.kind, "text": self.text, "hits": found}


def write_report(
    out: Path,
    indexed: dict[str, Any],
    searches: Sequence[Search],
    wearing: Wearing,
    designed: Designed,
    *,
    own: bool,
) -> Path:
    """Write report.html and its pictures.

    Args:
        out: The demo's folder; pictures of an earlier report are replaced.
        indexed: The index node's report with `seconds`.
        searches: What was searched and found.
        wearing: The garments that were tried on.
        designed: What was designed.
        own: Whether the pictures are the user's.
    """
    pictures = out / "pictures"
    shutil.rmtree(pictures, ignore_errors=True)
    pictures.mkdir(parents=True)
    sections = [_section(number, search, pictures) for number, search in enumerate(searches, 1)]
    sections.append(_worn_section(wearing, searches, pictures))
    sections.append(_design_section(designed, wearing.weights, pictures))
    page = _PAGE.substitute(
        summary=html.escape(_summary(indexed, own)),
        failed=_failed(indexed),
        sections="\n".join(sections),
        gallery=html.escape(str(out / "galleries" / "demo")),
    )
    target, part = out / "report.html", out / ".report.html.part"
    part.write_text(page, "utf-8")
    os.replace(part, target)
    return target


def _summary(indexed: dict[str, Any], own: bool) -> str:
    what = "pictures of yours" if own else "garments that the pack drew itself"
    return (
        f"{indexed['total']} {what} in the gallery; {indexed['added']} added, "
        f"{indexed['updated']} updated, {indexed['skipped']} unchanged in {indexed['seconds']} s."
    )


def _failed(indexed: dict[str, Any]) -> str:
    if not indexed["failed"]:
        return ""
    rows = "".join(f"<li>{html.escape(f['reason'])}</li>" for f in indexed["failed"])
    return f"<details><summary>{len(indexed['failed'])} left out</summary><ul>{rows}</ul></details>"


def _section(number: int, search: Search, pictures: Path) -> str:
    cards = ""
    if search.picture is not None:
        file = _save(to_pil(search.picture), pictures / f"{number}-query.jpg")
        said = f"+ “{html.escape(search.text)}”" if search.text else "alone"
        cards += _card(file, "the picture", said, "query")
    for hit in search.hits:
        name = pictures / f"{number}-{hit.rank:02d}.jpg"
        try:
            file = _save(open_image(hit.path, min_side=_SIDE), name)
        except ImageError:
            file = ""
        said = html.escape(search.words(hit))
        cards += _card(file, f"{hit.rank} · {hit.score:.3f}", said, "")
    titles = {
        "text": f"In words: “{html.escape(search.text)}”",
        "picture": "By a picture",
        "picture and text": f"By a picture, but “{html.escape(search.text)}”",
    }
    return f"<section><h2>{titles[search.kind]}</h2><div class=grid>{cards}</div></section>"


def _worn_section(wearing: Wearing, searches: Sequence[Search], pictures: Path) -> str:
    words = {hit.path: search.words(hit) for search in searches for hit in search.hits}
    cards = "".join(
        _worn_card(item, words.get(item.garment, item.garment.stem), pictures, number)
        for number, item in enumerate(wearing.items, 1)
    )
    failed = "".join(f"<li>{html.escape(reason)}</li>" for reason in wearing.failed)
    sheet = ""
    if wearing.sheet is not None:
        shutil.copyfile(wearing.sheet, pictures / "worn.jpg")
        sheet = '<img class=sheet src="pictures/worn.jpg" alt="persons in garments">'
    return (
        "<section><h2>Tried on</h2>"
        f"<p>Painted by {html.escape(wearing.weights)}: {len(wearing.items)} pictures in "
        f"{wearing.seconds} s with all that they need. The model ships with the pack, is small, "
        "and was trained on drawn mannequins like these; photos of people need a checkpoint of "
        "yours. Outside the mask every pixel is the photo's. "
        f'<a href="{FOLDER}/index.html">All of them, to sort and filter</a>.</p>'
        f"<ul>{failed}</ul>{sheet}<div class='grid pairs'>{cards}</div></section>"
    )


def _worn_card(item: TryOn, words: str, pictures: Path, number: int) -> str:
    """A garment, and worn."""
    files = [
        _save(open_image(path, min_side=_SIDE), pictures / f"worn-{number:02d}-{kind}.jpg")
        for kind, path in (("garment", item.garment), ("result", item.file))
    ]
    shown = "".join(f'<img src="pictures/{file}" alt="">' for file in files)
    head = f"{item.person} · similarity {item.similarity:.2f}"
    return (
        f"<figure><div class=pair>{shown}</div>"
        f"<figcaption><b>{head}</b>{html.escape(words)}</figcaption></figure>"
    )


def _design_section(designed: Designed, weights: str, pictures: Path) -> str:
    file = _save(to_pil(designed.sketch), pictures / "design-0.jpg")
    cards = _card(file, "the sketch", f"+ “{html.escape(designed.text)}”", "query")
    for number, image in enumerate(designed.images, 1):
        file = _save(to_pil(image), pictures / f"design-{number}.jpg")
        cards += _card(file, f"design {number}", "", "")
    return (
        f"<section><h2>Designed: “{html.escape(designed.text)}”</h2>"
        f"<p>The sketch says the cut, the words say the colours, and a mannequin wears it. Painted "
        f"by {html.escape(weights)}: {len(designed.images)} pictures in {designed.seconds} s.</p>"
        f"<div class=grid>{cards}</div></section>"
    )


def _card(file: str, head: str, words: str, kind: str) -> str:
    shown = f'<img src="pictures/{file}" alt="">' if file else "<p>not readable</p>"
    return f'<figure class="{kind}">{shown}<figcaption><b>{head}</b>{words}</figcaption></figure>'


def _save(picture: Image.Image, path: Path) -> str:
    ImageOps.pad(picture, (_SIDE, _SIDE), color="#ffffff").save(path, quality=88)
    return path.name


_PAGE = Template("""<!doctype html>
<html lang="en"><meta charset="utf-8"><meta name="viewport" content="width=device-width">
<title>UniFashion demo</title>
<style>
body { margin: 0 auto; max-width: 1180px; padding: 24px; background: #f6f4f1; color: #22201d;
  font: 16px/1.45 system-ui, sans-serif }
h1 { margin: 0 } h2 { margin: 36px 0 12px; font-size: 20px }
code { background: #fff; padding: 2px 6px; border-radius: 4px; overflow-wrap: anywhere }
.grid { display: grid; gap: 14px; grid-template-columns: repeat(auto-fill, minmax(180px, 1fr)) }
figure { margin: 0; background: #fff; border-radius: 10px; overflow: hidden }
figure.query { outline: 3px solid #8c3b2e }
img { display: block; width: 100%; height: auto }
figcaption { padding: 8px 12px 12px; font-size: 14px; color: #5f5a53 }
figcaption b { display: block; color: #22201d }
.pairs { grid-template-columns: repeat(auto-fill, minmax(280px, 1fr)) }
.pair { display: grid; grid-template-columns: 1fr 1fr }
img.sheet { max-width: 100%; border-radius: 10px; margin: 0 0 14px }
</style>
<h1>UniFashion: search a wardrobe, try it on</h1>
<p>$summary</p>$failed
$sections
<h2>Go on</h2>
<p>Search this gallery yourself:
<code>python run.py search --gallery "$gallery" --text "striped t-shirt"</code></p>
<p>The words under the pictures are the captioner's. Caption a folder of yours:
<code>python run.py caption --images FOLDER --write txt</code></p>
<p>Try something on:
<code>python run.py tryon --person photo.jpg --garment shirt.jpg --out worn.png</code></p>
<p>Your own pictures: <code>python run.py demo --images FOLDER</code>. In ComfyUI, open the
templates of this pack.</p>
</html>
""")

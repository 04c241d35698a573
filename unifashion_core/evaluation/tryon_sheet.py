"""A sheet of try-on results to judge by eye: one page, its pictures beside it."""

from __future__ import annotations

import html
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..errors import FolderError
from .tryon_judges import PATTERN_CLASSES, JudgedRecord
from .tryon_quality import Painted

_SCALE = 2  # pixels of the page for one of a picture
_STYLE = """body{font:15px/1.5 system-ui,sans-serif;margin:24px;color:#222;background:#fafafa}
h1{font-size:22px}table{border-collapse:collapse}td,th{padding:4px 14px 4px 0;text-align:left}
.row{margin:0 0 22px}.row img{display:block;max-width:100%;image-rendering:auto}
.row p{margin:2px 0 4px;color:#555}.heads{display:flex;font-size:13px;color:#555}
.heads span{width:256px}"""


def write_sheet(
    folder: Path,
    records: Sequence[JudgedRecord],
    painted: Painted,
    figures: Mapping[str, Mapping[str, float]],
    judged: Tensor,
) -> Path:
    """Write sheet.html, its pictures and figures.json.

    Args:
        folder: Made where it does not exist.
        records: What was painted.
        painted: The pictures.
        figures: Of `tryon_quality.measure`.
        judged: The pattern that the classifier saw in each garment-led picture, (N,).

    Returns:
        The page.

    Raises:
        FolderError: If the folder can't be written.
    """
    try:
        (folder / "pictures").mkdir(parents=True, exist_ok=True)
    except OSError as e:
        raise FolderError(f"Sheet: {folder} can't be written ({e}).") from e
    rows = [
        _row(folder, number, record, painted, PATTERN_CLASSES[int(judged[number])])
        for number, record in enumerate(records)
    ]
    heads = (
        "garment",
        "shown",
        "seed 1",
        "seed 2",
        "truth",
        "ceiling",
        "no garment",
        "sketch + text",
    )
    page = (
        f"<!doctype html><meta charset=utf-8><title>Try-on sheet</title><style>{_STYLE}</style>"
        f"<h1>Try-on on {len(records)} garments that the model never saw</h1>{_table(figures)}"
        f'<div class="heads">{"".join(f"<span>{h}</span>" for h in heads)}</div>{"".join(rows)}'
    )
    path = folder / "sheet.html"
    path.write_text(page, encoding="utf-8")
    (folder / "figures.json").write_text(json.dumps(figures, indent=2) + "\n", encoding="utf-8")
    return path


def _row(folder: Path, number: int, record: JudgedRecord, painted: Painted, seen: str) -> str:
    """One record's pictures, saved side by side, and what they show."""
    name = f"pictures/{record.record.name}.png"
    columns = [
        record.record.garment.permute(2, 0, 1),
        record.record.agnostic.permute(2, 0, 1),
        *(images[number] for images in painted.garment[:2]),
        painted.truth[number],
        painted.ceiling[number],
        painted.floor[number],
        painted.sketch[number],
    ]
    _save(torch.cat(columns, dim=2), folder / name)
    said = html.escape(f"{number + 1}. {_said(record)}; judged: {seen}")
    return f'<div class="row"><p>{said}</p><img src="{name}" alt=""></div>'


def _said(record: JudgedRecord) -> str:
    garment, pattern = record.garment, PATTERN_CLASSES[record.pattern]
    if pattern == "plain" and garment.pattern != "plain":
        pattern = f"plain (its {garment.pattern} is not drawn)"
    return f"{' and '.join(garment.colours)} {garment.category}, {pattern}"


def _table(figures: Mapping[str, Mapping[str, float]]) -> str:
    names = list(dict.fromkeys(name for values in figures.values() for name in values))
    head = "".join(f"<th>{html.escape(name)}</th>" for name in ("", *names))
    lines = [
        f"<tr><th>{html.escape(part)}</th>"
        + "".join(f"<td>{values[n]:.3f}</td>" if n in values else "<td></td>" for n in names)
        + "</tr>"
        for part, values in figures.items()
    ]
    return f"<table><tr>{head}</tr>{''.join(lines)}</table>"


def _save(planes: Tensor, path: Path) -> None:
    levels: Any = (planes.permute(1, 2, 0).clamp(0, 1) * 255 + 0.5).to(torch.uint8).numpy()
    image = Image.fromarray(levels)
    size = (image.width * _SCALE, image.height * _SCALE)
    image.resize(size, Image.Resampling.LANCZOS).save(path)

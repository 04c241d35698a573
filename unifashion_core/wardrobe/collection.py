"""A wardrobe of many garments: balanced, varied, with files and their metadata."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from PIL import Image

from ..errors import InputError
from ..imaging import open_image
from ..types import OnStep
from .captions import caption
from .garment import Garment, sample_garment, stream
from .kinds import CATEGORIES, kinds_of
from .render import Style, render

METADATA = "metadata.jsonl"
"""What is known of a collection's pictures, a `Row` a line; written when all pictures are."""

_EXTENSIONS = {".png": "PNG", ".jpg": "JPEG"}


@dataclass(frozen=True)
class Row:
    """A line of a collection's metadata.jsonl: a file and what is known of it."""

    file: str
    category: str
    subtype: str
    colours: tuple[str, ...]
    pattern: str
    sleeve: str | None
    neckline: str | None
    length: str | None
    material: str
    caption: str
    seed: int


def collection(seed: int, count: int, categories: Sequence[str] | None = None) -> list[Garment]:
    """Garments that make one wardrobe: every category as often, kinds and colours in turn.

    Args:
        seed: Another seed is another wardrobe.
        count: How many, 1..100000.
        categories: Those to take, in the order given; None = all ten.

    Raises:
        InputError: If the count is outside the range or a category is unknown.
    """
    if not 1 <= count <= 100_000:
        raise InputError(f"Wardrobe: count {count} is outside 1..100000. Choose one within.")
    chosen = tuple(categories) if categories else CATEGORIES
    for name in chosen:
        if name not in CATEGORIES:
            raise InputError(
                f"Wardrobe: unknown category '{name}'. Use one of {', '.join(CATEGORIES)}."
            )
    seeds = stream(seed, "collection").integers(0, 2**31, count)
    kinds = {c: _shuffled_kinds(c, seed) for c in chosen}
    garments: list[Garment] = []
    for i in range(count):
        category = chosen[i % len(chosen)]
        turn = i // len(chosen)
        subtype = kinds[category][turn % len(kinds[category])]
        recent = [(g.colours[0], g.pattern) for g in garments if g.category == category][-8:]
        garments.append(_new_look(int(seeds[i]), subtype, recent))
    return garments


def _shuffled_kinds(category: str, seed: int) -> list[str]:
    names = list(dict.fromkeys(kinds_of(category)))
    order = stream(seed, f"kinds {category}").permutation(len(names))
    return [names[int(i)] for i in order]


def _new_look(seed: int, subtype: str, recent: list[tuple[str, str]]) -> Garment:
    """A garment of a kind whose colour, or colour and pattern, the wardrobe has not just had."""
    garment = sample_garment(seed, subtype=subtype)
    seen = {colour for colour, _ in recent}
    for k in range(1, 12):
        look = (garment.colours[0], garment.pattern)
        if look not in recent and (look[0] not in seen or k > 6):
            return garment
        garment = sample_garment(seed + k, subtype=subtype)
    return garment


def name(garment: Garment, index: int) -> str:
    """A file-safe name such as "012-navy-striped-t-shirt"."""
    words = {"stripes": "striped-", "dots": "dotted-", "checks": "checked-", "print": "printed-"}
    pattern = (
        "" if garment.pattern == "plain" else words.get(garment.pattern, f"{garment.pattern}-")
    )
    return f"{index:03d}-{garment.colours[0]}-{pattern}{garment.subtype}".replace(" ", "-")


def metadata_row(garment: Garment, file: str) -> Row:
    """What a gallery's metadata says of a rendered garment."""
    return Row(
        file=file,
        category=garment.category,
        subtype=garment.subtype,
        colours=garment.colours,
        pattern=garment.pattern,
        sleeve=garment.sleeve,
        neckline=garment.neckline,
        length=garment.length,
        material=garment.material,
        caption=caption(garment),
        seed=garment.seed,
    )


def save_collection(
    folder: Path,
    seed: int,
    count: int,
    size: int = 256,
    *,
    categories: Sequence[str] | None = None,
    style: Style = "studio",
    extension: str = ".png",
    on_step: OnStep | None = None,
) -> list[Path]:
    """Render a collection into a folder, with `METADATA` (one `Row` a line) beside it.

    Files that are there under the same names are replaced, each in one step; others are kept.

    Args:
        folder: Made when it is not there.
        seed: Of `collection`.
        count: Of `collection`.
        size: Side of a picture in pixels.
        categories: Of `collection`.
        style: Of `render`.
        extension: ".png" or ".jpg" (quality 92).
        on_step: Called after each picture; may raise to cancel.

    Returns:
        The pictures' paths, in the collection's order.

    Raises:
        InputError: If an argument is outside what is allowed.
    """
    if extension not in _EXTENSIONS:
        raise InputError(f"Wardrobe: unknown extension '{extension}'. Use .png or .jpg.")
    garments = collection(seed, count, categories)
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    lines: list[str] = []
    for i, garment in enumerate(garments):
        path = folder / (name(garment, i) + extension)
        _save(render(garment, size, style=style), path)
        paths.append(path)
        lines.append(json.dumps(vars(metadata_row(garment, path.name))))
        if on_step is not None:
            on_step(i + 1, count)
    text = "\n".join(lines) + "\n"
    _replace(folder / METADATA, lambda file: file.write(text.encode()))
    return paths


def renew_collection(
    folder: Path,
    seed: int,
    count: int,
    size: int = 256,
    *,
    categories: Sequence[str] | None = None,
    on_step: OnStep | None = None,
) -> list[Path]:
    """Make a folder hold exactly this collection, as PNG; drawn only where it does not yet.

    The new pictures are drawn beside it first; those of an earlier collection, which its own
    metadata names, go when the new ones are there. A stop at any moment leaves a folder that the
    next call mends.

    Args:
        folder: Absent, empty, or of an earlier call.
        seed: Of `collection`.
        count: Of `collection`.
        size: Side of a picture in pixels.
        categories: Of `collection`.
        on_step: Called after each drawn picture; may raise to cancel.

    Raises:
        InputError: If the folder holds other files, or as `save_collection`.
    """
    saved = _saved(folder, seed, count, size, categories)
    if saved is not None:
        return saved
    listing = folder / METADATA
    if folder.is_dir() and any(folder.iterdir()) and not listing.is_file():
        raise InputError(f"Wardrobe: {folder} holds other files. Choose another folder.")
    part = folder.with_name(f".{folder.name}.part")
    paths = save_collection(part, seed, count, size, categories=categories, on_step=on_step)
    folder.mkdir(parents=True, exist_ok=True)
    for row in listing.read_text("utf-8").splitlines() if listing.is_file() else []:
        (folder / Path(json.loads(row)["file"]).name).unlink(missing_ok=True)
    os.replace(part / METADATA, listing)  # before the pictures: it names what to clear after a stop
    for path in paths:
        os.replace(path, folder / path.name)
    shutil.rmtree(part)
    return [folder / path.name for path in paths]


def _saved(
    folder: Path, seed: int, count: int, size: int, categories: Sequence[str] | None
) -> list[Path] | None:
    """The pictures of a folder that holds this very collection, else None."""
    listing = folder / METADATA
    if not listing.is_file():
        return None
    paths: list[Path] = []
    lines: list[str] = []
    for i, garment in enumerate(collection(seed, count, categories)):
        paths.append(folder / (name(garment, i) + ".png"))
        lines.append(json.dumps(vars(metadata_row(garment, paths[-1].name))))
    if listing.read_text("utf-8").splitlines() != lines or not all(p.is_file() for p in paths):
        return None
    return paths if open_image(paths[-1]).size == (size, size) else None


def _save(picture: Image.Image, path: Path) -> None:
    _replace(path, lambda file: picture.save(file, _EXTENSIONS[path.suffix], quality=92))


def _replace(path: Path, write: Callable[[IO[bytes]], object]) -> None:
    """Write beside the target, then put it in its place."""
    with tempfile.NamedTemporaryFile(
        dir=path.parent, prefix=".", suffix=".part", delete=False
    ) as file:
        try:
            write(file)
            file.flush()
            os.fsync(file.fileno())
        except BaseException:
            file.close()
            os.unlink(file.name)
            raise
    os.replace(file.name, path)


__all__ = ["Row", "collection", "metadata_row", "name", "save_collection"]

"""Pictures that were made here: saved and added to a gallery, with what they were made from."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from ..errors import InputError
from ..types import FashionEncoder, OnStep
from .columns import Columns
from .index import IndexReport, index_folder
from .source import ImageFile, Source
from .writer import GalleryWriter

_NUMBERED = re.compile(r"(\d{5,})\.png")


@dataclass(frozen=True)
class Origin:
    """What pictures were made from; goes into their columns.

    Attributes:
        prompt: The text; "" for none.
        seed: The seed of the first picture; the next ones count up.
        source_item: Id of the gallery's item that was worn or changed; 0 for none.
    """

    prompt: str = ""
    seed: int = 0
    source_item: int = 0

    def columns(self, number: int) -> Columns:
        """Metadata of the `number`-th picture."""
        found: Columns = {"generated": True, "seed": self.seed + number}
        if self.prompt:
            found["prompt"] = self.prompt
        if self.source_item:
            found["source_item"] = self.source_item
        return found


def add_generated(
    writer: GalleryWriter,
    folder: Path,
    images: Sequence[Image.Image],
    encoder: FashionEncoder,
    origin: Origin,
    *,
    on_step: OnStep | None = None,
) -> tuple[list[Path], IndexReport]:
    """Save pictures as PNG files of a folder and add them to a gallery.

    Args:
        writer: Of the gallery.
        folder: Where the files go; made when absent. They are numbered on from what is there.
        images: The pictures.
        encoder: The gallery's.
        origin: What they were made from.
        on_step: Called with (pictures done, pictures).

    Returns:
        The files, and what was added.

    Raises:
        InputError: If there is no picture.
        GalleryError: If the encoder isn't the gallery's, or the disk refuses.
    """
    if not images:
        raise InputError("Add to gallery: no picture. Connect at least one.")
    writer.gallery.require_encoder(encoder.fingerprint)
    folder.mkdir(parents=True, exist_ok=True)
    folder = folder.resolve()
    paths = [_save(folder, image) for image in images]
    files = tuple(_listed(path) for path in paths)
    columns = {file.file: origin.columns(number) for number, file in enumerate(files)}
    source = Source(folder, files, columns, ())
    report = index_folder(writer, source, encoder, text_encoder=encoder, on_step=on_step)
    return paths, report


def _save(folder: Path, image: Image.Image) -> Path:
    used = [int(m[1]) for m in map(_NUMBERED.fullmatch, os.listdir(folder)) if m]
    path = folder / f"{max(used, default=0) + 1:05d}.png"
    part = folder / f".{path.name}.part"
    try:
        with open(part, "wb") as file:
            image.save(file, "PNG")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    return path


def _listed(path: Path) -> ImageFile:
    state = path.stat()
    return ImageFile(path, path.name, state.st_size, state.st_mtime_ns)

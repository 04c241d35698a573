"""Which pictures to caption, where their texts go, and what became of each."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ..errors import FolderError
from ..imaging import SUFFIXES, iter_images
from .sidecars import TEXT_SUFFIX


@dataclass(frozen=True)
class Picture:
    """A picture to caption, and where its text goes.

    Attributes:
        path: Its file.
        text: The text file, below the target's folder, with forward slashes.
    """

    path: Path
    text: str


@dataclass(frozen=True)
class Target:
    """A folder that captions go into.

    Attributes:
        folder: Where the listing lies.
        pictures: In order.
    """

    folder: Path
    pictures: tuple[Picture, ...]


@dataclass(frozen=True)
class CaptionResult:
    """What became of one picture.

    Attributes:
        path: Its file.
        caption: The text in the wanted style; None where it failed.
        attributes: As `GarmentAttributes.to_dict` gives them, None where there are none.
        made: Whether it was captioned now, or its text was renewed; False = it was up to date.
        error: Why it failed.
        kept: Which other text was left as it is, in a sentence.
    """

    path: Path
    caption: str | None = None
    attributes: dict[str, Any] | None = None
    made: bool = False
    error: str | None = None
    kept: str | None = None

    def to_json(self) -> dict[str, Any]:
        """The line that commands print."""
        if self.error is not None:
            return {"path": str(self.path), "error": self.error}
        values = {
            "path": str(self.path),
            "caption": self.caption,
            "attributes": self.attributes,
        }
        return values if self.kept is None else {**values, "kept": self.kept}


def find_targets(
    images: Sequence[Path], out: Path | None = None
) -> tuple[list[Target], list[CaptionResult]]:
    """Which pictures there are, and where their captions go.

    Args:
        images: Files, and folders whose pictures count, also in the folders below.
        out: Where all captions go; None puts them beside the pictures, with one listing for each
            folder that was given and each folder of a file.

    Returns:
        Targets, and the folders that could not be listed.

    Raises:
        FolderError: If there is no picture at all.
    """
    found: dict[Path, dict[Path, Picture]] = {}
    failed: list[CaptionResult] = []

    def left_out(path: Path, reason: str) -> None:
        failed.append(CaptionResult(path, error=f"{path}: {reason}. Check the folder's rights."))

    for given in images:
        path = given.absolute()
        root = path if path.is_dir() else path.parent
        files = iter_images(path, on_error=left_out) if path.is_dir() else [path]
        pictures = found.setdefault(out.absolute() if out is not None else root, {})
        for file in files:
            text = file.relative_to(root).with_suffix(TEXT_SUFFIX).as_posix()
            pictures.setdefault(file, Picture(file, text))
    targets = [Target(folder, tuple(p.values())) for folder, p in found.items() if p]
    if not targets:
        where = ", ".join(str(path) for path in images) or "no folder"
        raise FolderError(
            f"{where}: no picture in it or below it, wanted {', '.join(SUFFIXES)}. Choose another "
            "folder."
        )
    return targets, failed


def relative_path(path: Path, folder: Path) -> str:
    """A picture's path as a listing in `folder` has it."""
    try:
        return Path(os.path.relpath(path, folder)).as_posix()
    except ValueError:  # another drive of Windows
        return path.as_posix()

"""The CC0 photos behind the pocket encoder: which files, which split, which labels. The photos do
not ship."""

from __future__ import annotations

import csv
import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import FolderError, InputError
from ..types import CATEGORIES
from ..types import COLOURS as COLOURS

PHOTO_LIST = Path(__file__).parent / "encoder" / "photos.csv"
"""One line a photo of *clothing-dataset-small* (alexeygrigorev, CC0-1.0): names, hashes, split,
labels."""

HELD_OUT_SHARE = 0.44

CLASSES = CATEGORIES


@dataclass(frozen=True)
class Photo:
    """One photo and what is known of it.

    Attributes:
        file: Path below the folder of the set, such as "dress/04f0b07f.jpg".
        sha256: Of the file, hex.
        label: One of `CLASSES`.
        colours: One or two of `COLOURS`, the main one first; empty where nobody could tell.
        pattern: "plain", "stripes", …, or "" where unknown.
        sleeve: "none", "short", "long", or "" where unknown or without meaning.
        subtype: Narrower word, such as "hoodie", or "".
        extras: Details, such as "hood" or "denim".
        labelled_by: "eye" or "pixels": how colours and the columns after them were found.
    """

    file: str
    sha256: str
    label: str
    colours: tuple[str, ...]
    pattern: str = ""
    sleeve: str = ""
    subtype: str = ""
    extras: tuple[str, ...] = ()
    labelled_by: str = "eye"

    @property
    def held_out(self) -> bool:
        """Whether no training may see it."""
        return held_out(self.sha256)


def held_out(sha256: str) -> bool:
    """The split: by hash alone, so it holds for any copy of a file."""
    return int(sha256[:8], 16) / 2**32 < HELD_OUT_SHARE


def read_photos(path: Path = PHOTO_LIST) -> tuple[Photo, ...]:
    """Read the committed list.

    Raises:
        InputError: If a line has a class or colour that is not in the tables.
    """
    with path.open(encoding="utf-8", newline="") as f:
        photos = tuple(_photo(row) for row in csv.DictReader(f))
    for photo in photos:
        strange = [c for c in photo.colours if c not in COLOURS]
        if photo.label not in CLASSES or strange:
            raise InputError(
                f"Photo list {path.name}: {photo.file} has class '{photo.label}' and colours "
                f"{list(photo.colours)}. Use the names in pocket/photos.py."
            )
    return photos


def write_photos(photos: Sequence[Photo], path: Path) -> None:
    """Write a list that `read_photos` reads, sorted by file."""
    with path.open("w", encoding="utf-8", newline="") as f:
        out = csv.writer(f, lineterminator="\n")
        out.writerow([*_COLUMNS, "split"])
        for p in sorted(photos, key=lambda photo: photo.file):
            row = [p.file, p.sha256, p.label, " ".join(p.colours), p.pattern, p.sleeve]
            row += [p.subtype, " ".join(p.extras), p.labelled_by]
            out.writerow([*row, "held-out" if p.held_out else "train"])


def check_folder(folder: Path, photos: Sequence[Photo]) -> None:
    """Make sure that a folder holds exactly the listed photos' bytes.

    Raises:
        FolderError: If the folder or a file is missing, or a file has another hash.
    """
    if not folder.is_dir():
        raise FolderError(
            f"Photos {folder}: not a folder. Give the folder that holds dress/, hat/ and so on."
        )
    missing = [p.file for p in photos if not (folder / p.file).is_file()]
    if missing:
        raise FolderError(
            f"Photos {folder}: {len(missing)} of {len(photos)} listed files are missing, the "
            "first is "
            f"{missing[0]}. Unpack the whole clothing-dataset-small there."
        )
    changed = [p.file for p in photos if _sha256(folder / p.file) != p.sha256]
    if changed:
        raise FolderError(
            f"Photos {folder}: {len(changed)} files differ from the list, the first is "
            f"{changed[0]}. "
            "Use the unchanged clothing-dataset-small."
        )


_COLUMNS = (
    "file",
    "sha256",
    "class",
    "colours",
    "pattern",
    "sleeve",
    "subtype",
    "extras",
    "labelled_by",
)


def _photo(row: dict[str, str]) -> Photo:
    return Photo(
        file=row["file"],
        sha256=row["sha256"],
        label=row["class"],
        colours=tuple(row["colours"].split()),
        pattern=row["pattern"],
        sleeve=row["sleeve"],
        subtype=row["subtype"],
        extras=tuple(row["extras"].split()),
        labelled_by=row["labelled_by"],
    )


def _sha256(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()

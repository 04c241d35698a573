"""What a download leaves beside its files: where they came from, what was seen, the licence."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from ..errors import CheckpointError
from .known import KnownWeights, known_weights
from .read import read_json
from .write import write_json

_SUFFIX = ".unifashion.json"
_IN_FOLDER = "download.unifashion.json"


@dataclass(frozen=True)
class SeenFile:
    """A file as it was when its download ended.

    Attributes:
        name: Its name.
        size: In bytes.
        sha256: Of its content.
        checked: Whether the list of known weights had that hash.
    """

    name: str
    size: int
    sha256: str
    checked: bool


def receipt_path(weights: KnownWeights, models: Path) -> Path:
    """Where the receipt of an entry lies, below the models folder of its kind."""
    if weights.folder:
        return models / weights.folder / _IN_FOLDER
    return models / f"{weights.files[0].save_as}{_SUFFIX}"


def is_there(weights: KnownWeights, models: Path) -> bool:
    """Whether a download of this entry ended here and its files are still there."""
    folder = models / weights.folder if weights.folder else models
    there = all((folder / file.save_as).is_file() for file in weights.files)
    return there and receipt_path(weights, models).is_file()


def write_receipt(weights: KnownWeights, models: Path, files: list[SeenFile]) -> Path:
    """Keep what a download saw; gives the receipt's path."""
    path = receipt_path(weights, models)
    value = {
        "name": weights.name,
        "title": weights.title,
        "from": weights.repository or weights.address,
        "revision": weights.revision,
        "pin": weights.pin,
        "licence": weights.licence,
        "sold": weights.sold,
        "files": [
            {"name": f.name, "size": f.size, "sha256": f.sha256, "checked": f.checked}
            for f in files
        ],
    }
    write_json(path, value)
    return path


def read_seen(weights: KnownWeights, models: Path) -> dict[str, SeenFile]:
    """What an earlier download saw, by file name; empty where there was none."""
    path = receipt_path(weights, models)
    if not path.is_file():
        return {}
    try:
        rows = cast("list[dict[str, Any]]", read_json(path)["files"])
        seen = [SeenFile(str(r["name"]), int(r["size"]), str(r["sha256"]), False) for r in rows]
    except (CheckpointError, KeyError, TypeError, ValueError):
        return {}  # damaged or another program's: the files are looked at anew
    return {file.name: file for file in seen}


def licence_of(path: Path) -> str:
    """The licence line of a weight file or folder, from the receipt beside it.

    The words come from the list of known weights; the receipt only says which entry it is.

    Returns:
        The line; where there is no receipt, that the licence is not known here.
    """
    receipt = path / _IN_FOLDER if path.is_dir() else path.with_name(path.name + _SUFFIX)
    if receipt.is_file():
        try:
            entry = known_weights().get(str(read_json(receipt).get("name")))
        except CheckpointError:
            entry = None
        if entry is not None:
            return f"{entry.licence_line}; {entry.pin}"
    return "licence not known here: it is that of whoever gave you the file"

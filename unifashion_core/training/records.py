"""The JSONL files that training reads: what a line may hold, checked."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

from ..errors import FolderError, InputError
from .claims import Attributes

PHASE1_FILE = "phase1.jsonl"
PHASE2_FILE = "phase2.jsonl"


@dataclass(frozen=True)
class ImageRecord:
    """One line of phase1.jsonl.

    Attributes:
        image: Path of the picture, relative to the data folder.
        captions: At least one; where the config says so, the first is what the LM head learns.
        attributes: What is known of it; a caption that it satisfies counts as its own.
        source: Where it comes from, such as "photo"; sampling shares and view counts go by it.
        origin: What its copies share, such as the photo that they were made of.
    """

    image: str
    captions: tuple[str, ...]
    attributes: Attributes = field(default_factory=dict[str, str | Sequence[str]])
    source: str = ""
    origin: str = ""


@dataclass(frozen=True)
class Triplet:
    """One line of phase2.jsonl.

    Attributes:
        reference: Path of the picture that the text starts from.
        target: Path of a picture that answers.
        text: What shall be different.
        target_caption: What the target shows; with attributes, whatever satisfies it is an answer.
        reference_caption: What the reference shows; read and checked, not used by the losses.
        source: What kind of edit it is; sampling shares go by it.
    """

    reference: str
    target: str
    text: str
    target_caption: str | None = None
    reference_caption: str | None = None
    source: str = ""


def read_phase1(folder: Path) -> tuple[ImageRecord, ...]:
    """Read FOLDER/phase1.jsonl: {"image", "caption" | "captions": […], "attributes"?, "source"?,
    "origin"?}.

    Raises:
        FolderError: If the file or a picture that it names is missing.
        InputError: If a line is not as it should be; the text has its number.
    """
    records = tuple(_image_record(line, where) for line, where in _lines(folder / PHASE1_FILE))
    _check_files(folder, PHASE1_FILE, (r.image for r in records))
    return records


def read_phase2(folder: Path) -> tuple[Triplet, ...]:
    """Read FOLDER/phase2.jsonl: {"reference", "target", "text", "target_caption"?,
    "reference_caption"?, "source"?}.

    Raises:
        FolderError: If the file or a picture that it names is missing.
        InputError: If a line is not as it should be; the text has its number.
    """
    records = tuple(_triplet(line, where) for line, where in _lines(folder / PHASE2_FILE))
    _check_files(folder, PHASE2_FILE, (p for r in records for p in (r.reference, r.target)))
    return records


def write_jsonl(path: Path, lines: Iterable[Mapping[str, Any]]) -> int:
    """Write one object a line, without absent values; returns the count."""
    count = 0
    with path.open("w", encoding="utf-8") as f:
        for line in lines:
            kept = {k: v for k, v in line.items() if v not in (None, "", (), {})}
            f.write(json.dumps(kept, ensure_ascii=False) + "\n")
            count += 1
    return count


def _lines(path: Path) -> Iterator[tuple[dict[str, Any], str]]:
    if not path.is_file():
        raise FolderError(
            f"Training data {path.parent}: {path.name} is missing. "
            "Write it by hand, or make the folder with `train data`."
        )
    count = 0
    with path.open(encoding="utf-8") as f:
        for number, text in enumerate(f, start=1):
            if not text.strip():
                continue
            where = f"{path.name} line {number}"
            try:
                line: object = json.loads(text)
            except json.JSONDecodeError as e:
                raise InputError(f"{where}: not JSON ({e.msg}). Write one object a line.") from e
            if not isinstance(line, dict):
                raise InputError(f"{where}: not an object. Write one object a line.")
            count += 1
            yield cast("dict[str, Any]", line), where
    if count == 0:
        raise InputError(f"{path.name}: it is empty. Write one object a line.")


def _image_record(line: dict[str, Any], where: str) -> ImageRecord:
    captions: object = line.get("captions", [line["caption"]] if "caption" in line else [])
    if not isinstance(captions, list):
        raise InputError(f"{where}: 'captions' is no list. Use 'caption' for a single one.")
    texts = [_text(c, "captions", where) for c in cast("list[object]", captions)]
    if not texts:
        raise InputError(f"{where}: no caption. Give 'caption' or 'captions'.")
    attributes: object = line.get("attributes", {})
    if not isinstance(attributes, dict):
        raise InputError(f"{where}: 'attributes' is no object. Write names with values.")
    return ImageRecord(
        image=_text(line.get("image"), "image", where),
        captions=tuple(texts),
        attributes={
            name: _values(value, name, where)
            for name, value in cast("dict[str, object]", attributes).items()
            if value is not None
        },
        source=_text(line.get("source", ""), "source", where, empty=True),
        origin=_text(line.get("origin", ""), "origin", where, empty=True),
    )


def _triplet(line: dict[str, Any], where: str) -> Triplet:
    optional = {
        name: None if line.get(name) is None else _text(line[name], name, where)
        for name in ("target_caption", "reference_caption")
    }
    return Triplet(
        reference=_text(line.get("reference"), "reference", where),
        target=_text(line.get("target"), "target", where),
        text=_text(line.get("text"), "text", where),
        source=_text(line.get("source", ""), "source", where, empty=True),
        **optional,
    )


def _text(value: object, name: str, where: str, *, empty: bool = False) -> str:
    if not isinstance(value, str) or not (value.strip() or empty):
        raise InputError(f"{where}: '{name}' is {value!r}, wanted a text. Correct the line.")
    return value


def _values(value: object, name: str, where: str) -> str | tuple[str, ...]:
    if isinstance(value, list):
        return tuple(_text(v, name, where) for v in cast("list[object]", value))
    return _text(value, name, where)


def _check_files(folder: Path, name: str, paths: Iterable[str]) -> None:
    missing = [p for p in dict.fromkeys(paths) if not (folder / p).is_file()]
    if missing:
        raise FolderError(
            f"Training data {folder}: {len(missing)} pictures named in {name} are missing, "
            "the first is "
            f"{missing[0]}. Paths are relative to the folder."
        )

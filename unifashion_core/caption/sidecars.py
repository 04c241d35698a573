"""Captions on disk: a text beside each picture, and `captions.jsonl`, output and state in one.

A line of the listing is on the disk before its text is written, and every text that a line ever
named counts as ours. So a kill at any moment leaves whole files, and a text that somebody else
wrote is never taken for one of ours.
"""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any, cast

from ..errors import FolderError, InputError
from ..types import ATTRIBUTES, Attribute, ColourShare, GarmentAttributes

LISTING = "captions.jsonl"
TEXT_SUFFIX = ".txt"

_BEGIN = b'{"path": "'  # of every line of ours


@dataclass(frozen=True)
class CaptionRecord:
    """One line of a listing; paths are relative to its folder, with forward slashes.

    Attributes:
        path: The picture.
        caption: Its caption in the wanted style: what the text file holds.
        attributes: As `GarmentAttributes.to_dict` gives them, None where there are none.
        raw: What the captioner said, before the style.
        image_sha256: Of the picture's file, hex.
        captioner: Fingerprint of what made the caption.
        style: Key of the style with its options.
        text: The text file that was written, None where none was.
        text_sha256: Of that file as it was written, hex.
    """

    path: str
    caption: str
    attributes: Mapping[str, Any] | None
    raw: str
    image_sha256: str
    captioner: str
    style: str
    text: str | None = None
    text_sha256: str | None = None

    def to_line(self) -> bytes:
        """The line with its end."""
        return json.dumps(asdict(self), ensure_ascii=False).encode() + b"\n"


_FIELDS = tuple(field.name for field in fields(CaptionRecord))
_TEXTS = ("path", "caption", "raw", "image_sha256", "captioner", "style")


class CaptionListing:
    """The `captions.jsonl` of one folder: read whole, appended to, made tidy at the end.

    Args:
        folder: Where it lies; neither has to exist yet.

    Attributes:
        folder: That folder.
        path: The file.
        records: The newest line of each picture, by its path.

    Raises:
        InputError: If a line isn't one of ours: another program's file is never changed.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / LISTING
        self.records: dict[str, CaptionRecord] = {}
        self._ours: dict[str, set[str]] = {}
        self._lines = 0
        self._end = 0  # bytes of the file that are known and whole
        self._gap = b""  # what has to stand before the next line
        self._read()

    def _read(self) -> None:
        try:
            *whole, last = self.path.read_bytes().split(b"\n")
        except FileNotFoundError:
            return
        for number, line in enumerate(whole, start=1):
            if line.strip():
                self._take(self._parse(line, number))
            self._end += len(line) + 1
        if last.strip(b"\0 \t\r") and not _is_torn(last):  # an editor left out the last line's end
            self._take(self._parse(last, len(whole) + 1))
            self._end += len(last)
            self._gap = b"\n"

    def _parse(self, line: bytes, number: int) -> CaptionRecord:
        values = _object(line)
        if (
            values is None
            or set(values) != set(_FIELDS)
            or not all(isinstance(values[name], str) for name in _TEXTS)
        ):
            raise InputError(
                f"{self.path}, line {number}: not a line that captioning wrote. Move that file "
                "away, or let the captions go to another folder."
            )
        return CaptionRecord(**values)

    def _take(self, record: CaptionRecord) -> None:
        self.records[record.path] = record
        self._lines += 1
        if record.text is not None and record.text_sha256 is not None:
            self._ours.setdefault(record.text, set()).add(record.text_sha256)

    def is_ours(self, text: str, sha256: str) -> bool:
        """Whether a text file with this content is one that we wrote."""
        return sha256 in self._ours.get(text, ())

    def append(self, records: Iterable[CaptionRecord]) -> None:
        """Add lines; they are on the disk when this returns. A torn last line goes first."""
        added = list(records)
        if not added:
            return
        self.folder.mkdir(parents=True, exist_ok=True)
        with open(self.path, "a+b") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(self._end)
            torn = file.read().rpartition(b"\n")[2]
            file.truncate(size - len(torn))
            file.write(self._gap + b"".join(record.to_line() for record in added))
            file.flush()
            os.fsync(file.fileno())
            self._end, self._gap = file.tell(), b""
        for record in added:
            self._take(record)

    def tidy(self) -> None:
        """Drop lines that newer ones replace, unless somebody else has written to the file."""
        if self._lines == len(self.records) or self.path.stat().st_size != self._end:
            return
        lines = [record.to_line() for _, record in sorted(self.records.items())]
        write_whole(self.path, b"".join(lines))
        self._lines, self._end = len(lines), sum(map(len, lines))


def _is_torn(line: bytes) -> bool:
    """Whether a last line is the beginning of one of ours that a kill cut off."""
    return _object(line) is None and (line.startswith(_BEGIN) or _BEGIN.startswith(line))


def _object(line: bytes) -> dict[str, Any] | None:
    try:
        values: object = json.loads(line)
    except (ValueError, RecursionError):
        return None
    return cast("dict[str, Any]", values) if isinstance(values, dict) else None


def write_whole(path: Path, data: bytes) -> None:
    """Write a file that is never seen in part: beside it, to the disk, then renamed.

    Raises:
        FolderError: If the disk refuses.
    """
    part = path.with_name(f".{path.name}.part")  # one name: what a kill left goes the next time
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(part, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except OSError as e:
        part.unlink(missing_ok=True)
        raise FolderError(
            f"{path}: can't be written ({e.strerror or e}). Make room, or choose a folder that may "
            "be written."
        ) from e
    except BaseException:
        part.unlink(missing_ok=True)
        raise


def text_sha256(path: Path) -> str | None:
    """SHA-256 of a text file, hex; None where there is none.

    Raises:
        FolderError: If it is there and can't be read.
    """
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except FileNotFoundError:
        return None
    except OSError as e:
        raise FolderError(
            f"{path}: can't be read ({e.strerror or e}), so it is not replaced. Move it away."
        ) from e


def attributes_from(values: Mapping[str, Any]) -> GarmentAttributes:
    """The attributes that `GarmentAttributes.to_dict` gave."""
    single = {name: Attribute(**values[name]) for name in ATTRIBUTES if values[name] is not None}
    colours = tuple(ColourShare(**colour) for colour in values["colours"])
    return GarmentAttributes(**single, colours=colours, details=tuple(values["details"]))

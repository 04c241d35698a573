"""Append-only files of fixed-width float16 rows: what a writer appends, and what a reader maps.

A row's place follows from its number; which rows count is written in the database alone. Bytes
behind the committed rows are never read, and the next writer cuts or overwrites them.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from io import FileIO
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from ..errors import GalleryError

Half: TypeAlias = npt.NDArray[np.float16]
Rows: TypeAlias = npt.NDArray[np.int64]
SegmentKind = Literal["tokens", "captions"]

HALF = np.dtype("<f2")
SEGMENT_BYTES = 1 << 30
LENGTH_TOLERANCE = 0.01  # float16 moves a unit vector's length by 0.0005


@dataclass(frozen=True)
class Segment:
    """One file of committed rows.

    Attributes:
        file: Its name in the gallery's folder.
        first_row: Number of its first row among all rows of its kind.
        rows: Committed rows.
    """

    file: str
    first_row: int
    rows: int


def segment_name(kind: SegmentKind, number: int) -> str:
    """File name of the `number`-th segment of a kind."""
    return f"{kind}-{number:06d}.f16"


class MappedRows:
    """The committed rows of one kind, mapped read-only.

    Args:
        folder: The gallery's folder.
        segments: Its segments, in row order.
        shape: Shape of one row: (T, D) or (D,).
        gallery: Name for errors.

    Raises:
        GalleryError: If a file is missing or shorter than its committed rows.
    """

    def __init__(
        self, folder: Path, segments: list[Segment], shape: tuple[int, ...], gallery: str
    ) -> None:
        self.shape = shape
        self._gallery = gallery
        self._parts = [
            (segment.first_row, _map(folder / segment.file, segment.rows, shape, gallery))
            for segment in segments
            if segment.rows
        ]

    def __len__(self) -> int:
        return sum(len(part) for _, part in self._parts)

    def parts(self) -> Iterator[tuple[int, Half]]:
        """Each segment's first row number and its rows, (rows, *shape)."""
        yield from self._parts

    def check(self, rows: Rows) -> None:
        """Refuse row numbers that were never committed.

        Raises:
            GalleryError: If there is one: the database and the segments don't belong together.
        """
        if len(rows) and not 0 <= int(rows.min()) <= int(rows.max()) < len(self):
            raise GalleryError(
                f"Gallery '{self._gallery}': an item points at vector {int(rows.max())}, "
                f"{len(self)} are stored. "
                "Restore it from a copy, or index again into a new gallery."
            )

    def gather(self, rows: Rows) -> Half:
        """Copies of some rows.

        Args:
            rows: Row numbers, any order, (R,).

        Returns:
            Their values, (R, *shape).

        Raises:
            GalleryError: As `check`.
        """
        self.check(rows)
        out = np.empty((len(rows), *self.shape), HALF)
        for first, part in self._parts:
            inside = (rows >= first) & (rows < first + len(part))
            out[inside] = part[rows[inside] - first]
        return out


def _map(path: Path, rows: int, shape: tuple[int, ...], gallery: str) -> Half:
    check_size(path.parent, Segment(path.name, 0, rows), shape, gallery)
    # Copy on write, which never reaches the file: torch takes no read-only array without a warning.
    return np.memmap(path, HALF, mode="c", shape=(rows, *shape))


def check_size(folder: Path, segment: Segment, shape: tuple[int, ...], gallery: str) -> None:
    """Refuse a segment whose file is missing or shorter than its committed rows.

    Raises:
        GalleryError: If so.
    """
    path = folder / segment.file
    wanted = segment.rows * int(np.prod(shape)) * HALF.itemsize
    try:
        size = path.stat().st_size
    except OSError as e:
        raise GalleryError(
            f"Gallery '{gallery}': {path.name} can't be read ({e.strerror or e}). "
            "Restore it from a copy, or index again into a new gallery."
        ) from e
    if size < wanted:
        raise GalleryError(
            f"Gallery '{gallery}': {path.name} holds {size:,} bytes, {wanted:,} were committed. "
            "Restore it from a copy, or index again into a new gallery."
        )


class AppendFile:
    """The segment that a writer appends to.

    Args:
        path: Its file; made when absent.
        segment: Its committed state.
        shape: Shape of one row.
    """

    def __init__(self, path: Path, segment: Segment, shape: tuple[int, ...]) -> None:
        self.segment = segment
        self.rows = segment.rows
        self._shape = shape
        self._row_bytes = int(np.prod(shape)) * HALF.itemsize
        self._created = not path.exists()
        self._path = path
        self._file = FileIO(os.open(path, os.O_RDWR | os.O_CREAT | _BINARY, 0o666), "r+b")
        self._synced_rows = segment.rows

    def append(self, values: Half) -> int:
        """Write rows behind the others; not yet durable.

        Args:
            values: (R, *shape).

        Returns:
            Row number of the first one among all rows of its kind.
        """
        first = self.rows
        data = memoryview(np.ascontiguousarray(values, HALF).tobytes())
        # At its place, not at the end of the file: after an interrupted append there may be a torn
        # row.
        self._file.seek(first * self._row_bytes)
        while data:
            data = data[self._file.write(data) :]
        self.rows = first + len(values)
        return self.segment.first_row + first

    def sync(self) -> None:
        """Make every appended row durable."""
        if self.rows == self._synced_rows:
            return
        os.fsync(self._file.fileno())
        if self._created:
            sync_folder(self._path.parent)
            self._created = False
        self._synced_rows = self.rows

    def cut(self, rows: int) -> int:
        """Drop what lies behind the first `rows` rows.

        Returns:
            Bytes that were dropped.
        """
        self.rows = self._synced_rows = rows
        extra = os.fstat(self._file.fileno()).st_size - rows * self._row_bytes
        if extra <= 0:
            return 0
        # Windows refuses to shorten a file that a reader maps; the next append overwrites the bytes
        # then.
        with contextlib.suppress(PermissionError):
            self._file.truncate(rows * self._row_bytes)
        return extra

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        self._file.close()


_BINARY: int = getattr(os, "O_BINARY", 0)


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

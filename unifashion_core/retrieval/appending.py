"""Appending segments: rows gathered until a commit, then written in one piece and made durable."""

from __future__ import annotations

import contextlib
import os
import zlib
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from io import FileIO
from pathlib import Path

import numpy as np
import numpy.typing as npt

from .layout import (
    ALIGN,
    HALF,
    SEGMENT_ROWS,
    Half,
    Segment,
    SegmentKind,
    aligned,
    row_sums,
    segment_bytes,
    segment_name,
    sync_folder,
)
from .quantise import quantise

SYNC_EARLY_ROWS = 512
"""Rows of a segment from which its vectors are synced by themselves, while their copy is made."""

_BINARY: int = getattr(os, "O_BINARY", 0)


class Appender:
    """The end of one kind's rows, where a writer adds; nothing counts before it is committed.

    Args:
        folder: The gallery's folder.
        kind: "tokens" or "captions".
        shape: Shape of one row.
        segments: The committed segments of this kind.
        next_number: Number of the next file of this kind.
        file_bytes: Size from which a new file is begun.

    Attributes:
        next_row: Number of the next row.
    """

    def __init__(
        self,
        folder: Path,
        kind: SegmentKind,
        shape: tuple[int, ...],
        segments: Sequence[Segment],
        next_number: int,
        file_bytes: int,
    ) -> None:
        self.next_row = max((s.first_row + s.rows for s in segments), default=0)
        self._folder = folder
        self._kind: SegmentKind = kind
        self._shape = shape
        self._next_number = next_number
        self._file_bytes = file_bytes
        self._pending: list[Half] = []
        self._pending_rows = 0
        self._written: list[Segment] = []
        self._file: FileIO | None = None
        self._name, self._end = "", 0
        newest = [s for s in segments if not s.plain]
        if newest:
            self._name = max(segment.file for segment in newest)
            self._end = max(
                s.offset + segment_bytes(s, shape) for s in newest if s.file == self._name
            )
        self._unsynced = self._created = False

    def append(self, rows: Half) -> int:
        """Add rows behind the others; a full segment is written, but not yet durable.

        Returns:
            Number of the first one.
        """
        first = self.next_row
        for start in range(0, len(rows), SEGMENT_ROWS):
            part = rows[start : start + SEGMENT_ROWS]
            if self._pending_rows and self._pending_rows + len(part) > SEGMENT_ROWS:
                self._write_pending()
            self._pending.append(part)
            self._pending_rows += len(part)
            self.next_row += len(part)
        return first

    def place(self, row: int) -> None:
        """Give the next row this number, in a segment of its own."""
        self._write_pending()
        self.next_row = row

    def finish(self) -> list[Segment]:
        """Write what is pending and make all of it durable.

        Returns:
            The segments since the last call.
        """
        self._write_pending()
        if self._file is not None and self._unsynced:
            self._sync(self._file)
        written, self._written = self._written, []
        return written

    def close(self) -> None:
        """Close the file; a second call does nothing."""
        if self._file is not None:
            self._file.close()
            self._file = None

    def _sync(self, file: FileIO) -> None:
        os.fsync(file.fileno())
        if self._created:
            sync_folder(self._folder)
        self._unsynced = self._created = False

    def _write_pending(self) -> None:
        if not self._pending:
            return
        rows = self._pending[0] if len(self._pending) == 1 else np.concatenate(self._pending)
        file = self._open_file()
        first = self.next_row - self._pending_rows
        # At its place, not at the end of the file: an interrupted write may have left something.
        file.seek(self._end)
        self._unsynced = True
        rows_check, copy_check = write_segment(file, rows)
        segment = Segment(self._name, first, len(rows), self._end, rows_check, copy_check)
        self._end += segment_bytes(segment, self._shape)
        self._written.append(segment)
        self._pending, self._pending_rows = [], 0

    def _open_file(self) -> FileIO:
        if not self._name or self._end >= self._file_bytes:
            if self._file is not None:  # full: it is closed, so it is made durable now
                self._sync(self._file)
                self.close()
            self._name, self._end = segment_name(self._kind, self._next_number), 0
            self._next_number += 1
            self._created = True
        if self._file is None:
            flags = os.O_RDWR | os.O_CREAT | _BINARY
            self._file = FileIO(os.open(self._folder / self._name, flags, 0o666), "r+b")
        return self._file


def write_segment(file: FileIO, rows: Half) -> tuple[int, int]:
    """Write a whole segment at the file's position.

    Args:
        file: Where to.
        rows: (R, T, D) for tokens, (R, D) for captions.

    Returns:
        The checksums of both halves.
    """
    rows = np.ascontiguousarray(rows, HALF)
    # The vectors go to the disk while their copy is made: both take as long.
    with ThreadPoolExecutor(2, thread_name_prefix="unifashion-append") as pool:
        vectors = pool.submit(_write_vectors, file, rows)
        columns = [*(_quantised(rows, pool) if rows.ndim == 3 else ()), row_sums(rows)]
        rows_check = vectors.result()
    copy = np.zeros(sum(aligned(column.nbytes) for column in columns), np.uint8)
    place = 0
    for column in columns:
        copy[place : place + column.nbytes] = np.frombuffer(column.data, np.uint8)
        place += aligned(column.nbytes)
    return rows_check, _write_all(file, copy.data)


def _write_vectors(file: FileIO, rows: Half) -> int:
    check = _write_all(file, rows.data.cast("B"))
    if len(rows) >= SYNC_EARLY_ROWS:
        os.fsync(file.fileno())
    return check


def _quantised(rows: Half, pool: ThreadPoolExecutor) -> list[npt.NDArray[np.generic]]:
    """Copy, scales and bounds of some rows; made in two threads."""
    half = len(rows) // 2
    first = pool.submit(quantise, rows[:half])
    second = quantise(rows[half:])
    return [np.concatenate(pair) for pair in zip(first.result(), second, strict=True)]


def _write_all(file: FileIO, values: memoryview) -> int:
    """Write bytes and zeros up to the next multiple of the alignment; gives their CRC-32."""
    padding = bytes(-len(values) % ALIGN)
    for part in (values, memoryview(padding)):
        data = part
        while data:
            data = data[file.write(data) :]
    return zlib.crc32(padding, zlib.crc32(values))


def cut(path: Path, size: int) -> int:
    """Drop what lies behind the first `size` bytes of a file.

    Returns:
        Bytes that were dropped.
    """
    extra = path.stat().st_size - size
    if extra <= 0:
        return 0
    # Windows refuses to shorten a file that a reader maps; the next append overwrites the bytes.
    with contextlib.suppress(PermissionError):
        os.truncate(path, size)
    return extra

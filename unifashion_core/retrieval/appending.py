"""Appending segments: rows gathered until a commit, each segment written in one piece and made
durable. What is added first is on its way to the disk at once, many rows in a thread; a commit
waits for it.
"""

from __future__ import annotations

import contextlib
import os
import threading
import zlib
from collections.abc import Callable, Generator, Iterable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass, replace
from io import FileIO
from pathlib import Path
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .layout import (
    ALIGN,
    HALF,
    SEGMENT_ROWS,
    Half,
    Segment,
    SegmentKind,
    Sums,
    row_sums,
    segment_bytes,
    segment_name,
    sync_folder,
)
from .quantise import Floats, quantise_and_measure

DISK_BYTES = 1 << 21
"""Bytes that the disk is given while the next are still copied to the system."""
EARLY_ROWS = 64
"""Rows of a call from which they begin to be written at once, while the caller goes on."""
DIRECT_BYTES = 1 << 22
"""Bytes up to which the caller's thread writes: another one would wait for Python's lock."""

Column: TypeAlias = npt.NDArray[np.generic]
Check: TypeAlias = Callable[[Floats], None]
"""Given the lengths of tokens, refuses those that aren't unit vectors."""

_ADVISE: Callable[[int, int, int, int], None] | None = getattr(os, "posix_fadvise", None)
_NOT_NEEDED: int = getattr(os, "POSIX_FADV_DONTNEED", 0)
_BINARY: int = getattr(os, "O_BINARY", 0)


@dataclass(frozen=True)
class _Pending:
    """Rows that wait for their segment, and what follows them there."""

    rows: Half
    columns: tuple[Column, ...]


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
        self._pending: list[_Pending] = []
        self._pending_rows = 0
        self._written: list[Future[Segment]] = []
        self._threads: tuple[ThreadPoolExecutor, ThreadPoolExecutor] | None = None
        self._file: FileIO | None = None
        self._name, self._end = "", 0
        newest = [s for s in segments if not s.plain]
        if newest:
            self._name = max(segment.file for segment in newest)
            self._end = max(
                s.offset + segment_bytes(s, shape) for s in newest if s.file == self._name
            )
        self._created = False

    def append(self, rows: Half, check: Check | None = None) -> int:
        """Add rows behind the others; a full segment is written, but not yet durable.

        Args:
            rows: In one piece; they must not change before the commit.
            check: Of tokens; what it raises leaves them out.

        Returns:
            Number of the first one.
        """
        first = self.next_row
        rows = np.ascontiguousarray(rows, HALF)
        idle = not self._pending and not self._written
        if idle and rows.ndim == 3 and len(rows) >= EARLY_ROWS and rows.nbytes <= DIRECT_BYTES:
            self._write_now(rows, check)
            return first
        columns = ()
        if rows.ndim == 3:
            copied = quantise_and_measure(rows)
            if check is not None:
                check(copied.lengths)
            columns = (copied.copy, copied.scales, copied.bounds)
        for start in range(0, len(rows), SEGMENT_ROWS):
            here = slice(start, start + SEGMENT_ROWS)
            part = rows[here]
            if self._pending_rows and self._pending_rows + len(part) > SEGMENT_ROWS:
                self._write_pending()
            self._pending.append(_Pending(part, tuple(column[here] for column in columns)))
            self._pending_rows += len(part)
            self.next_row += len(part)
        # Later ones of a commit wait for each other: segments of few rows are a burden to readers.
        if self._pending_rows >= (EARLY_ROWS if idle else SEGMENT_ROWS):
            self._write_pending()
        return first

    def _write_now(self, rows: Half, check: Check | None) -> None:
        """Write a segment while it is narrowed; a thread makes it durable."""
        disk, sums = self._threads = self._threads or _two_threads()
        narrowed, last = sums.submit(quantise_and_measure, rows), sums.submit(row_sums, rows)
        pieces: list[Column] = []

        def columns() -> Generator[Column]:
            yield rows
            copied = narrowed.result()
            if check is not None:
                check(copied.lengths)  # nothing counts yet: the next segment goes to this place
            pieces.extend((rows, copied.copy, copied.scales, copied.bounds))
            yield from pieces[1:]
            yield last.result()

        file = self._open_file()
        segment = Segment(self._name, self.next_row, len(rows), self._end, 0, 0)
        _write(file, segment.offset, columns())
        checks, begun = sums.submit(_checksums, pieces, last), threading.Event()
        self._written.append(disk.submit(_sync, file, segment, checks, self._unsynced(), begun))
        self.next_row += len(rows)
        self._end += segment_bytes(segment, self._shape)
        begun.wait()  # else the caller's work may keep Python's lock from it

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
        done = [future.result() for future in self._written]  # one that failed stays: no commit
        self._written = []
        return done

    def close(self) -> None:
        """Close the file when what has begun has ended; a second call does nothing."""
        wait(self._written)
        for thread in self._threads or ():
            thread.shutdown()
        self._threads = None
        if self._file is not None:
            self._file.close()
            self._file = None

    def _write_pending(self) -> None:
        if not self._pending:
            return
        rows, columns = _joined(self._pending)
        file = self._open_file()
        first = self.next_row - self._pending_rows
        segment = Segment(self._name, first, len(rows), self._end, 0, 0)
        self._end += segment_bytes(segment, self._shape)
        self._pending, self._pending_rows = [], 0
        folder = self._unsynced()
        pieces = [rows, *columns]
        if len(rows) >= EARLY_ROWS:
            disk, sums = self._threads = self._threads or _two_threads()
            last = sums.submit(row_sums, rows)
            checks = sums.submit(_checksums, pieces, last)
            self._written.append(disk.submit(_store, file, segment, pieces, last, checks, folder))
            return
        wait(self._written)  # the file has one position
        last, checks, done = Future[Sums](), Future[tuple[int, int]](), Future[Segment]()
        self._written.append(done)
        try:
            last.set_result(row_sums(rows))
            checks.set_result(_checksums(pieces, last))
            done.set_result(_store(file, segment, pieces, last, checks, folder))
        except BaseException as e:  # also Ctrl-C: nothing may wait for it, or commit without it
            done.set_exception(e)
            raise

    def _unsynced(self) -> Path | None:
        """The folder, once after a file was made in it."""
        folder, self._created = self._folder if self._created else None, False
        return folder

    def _open_file(self) -> FileIO:
        if not self._name or self._end >= self._file_bytes:
            if self._file is not None:  # full
                wait(self._written)
                self._file.close()
                self._file = None
            self._name, self._end = segment_name(self._kind, self._next_number), 0
            self._next_number += 1
            self._created = True
        if self._file is None:
            flags = os.O_RDWR | os.O_CREAT | _BINARY
            self._file = FileIO(os.open(self._folder / self._name, flags, 0o666), "r+b")
        return self._file


def _two_threads() -> tuple[ThreadPoolExecutor, ThreadPoolExecutor]:
    """One that writes, in order, and one that works out checksums."""
    disk, sums = (ThreadPoolExecutor(1, f"unifashion-{name}") for name in ("append", "sums"))
    return disk, sums


def _joined(pending: Sequence[_Pending]) -> tuple[Half, Sequence[Column]]:
    if len(pending) == 1:
        return pending[0].rows, pending[0].columns
    rows = np.concatenate([part.rows for part in pending])
    columns = zip(*(part.columns for part in pending), strict=True)
    return rows, [np.concatenate(column) for column in columns]


def _store(
    file: FileIO,
    segment: Segment,
    pieces: Sequence[Column],
    last: Future[Sums],
    checks: Future[tuple[int, int]],
    folder: Path | None,
) -> Segment:
    """Write a segment at its place and sync it; gives it checked."""

    def columns() -> Generator[Column]:
        yield from pieces
        yield last.result()

    _write(file, segment.offset, columns())
    return _sync(file, segment, checks, folder)


def _write(file: FileIO, place: int, columns: Iterable[Column]) -> None:
    """Write columns at a place: behind it, an interrupted write may have left something."""
    file.seek(place)
    for column in columns:
        for data in _padded(column):
            while data:
                done = file.write(data[:DISK_BYTES])
                if done == DISK_BYTES:
                    _begin_to_sync(file, place, done)
                data, place = data[done:], place + done


def _sync(
    file: FileIO,
    segment: Segment,
    checks: Future[tuple[int, int]],
    folder: Path | None,
    begun: threading.Event | None = None,
) -> Segment:
    """Make a written segment durable, and its new name in a folder; gives it checked."""
    if begun is not None:
        begun.set()
    os.fsync(file.fileno())
    if folder is not None:
        sync_folder(folder)
    rows_check, copy_check = checks.result()
    return replace(segment, rows_check=rows_check, copy_check=copy_check)


def _begin_to_sync(file: FileIO, place: int, size: int) -> None:
    """Let the disk begin with some bytes, while others are still copied to the system."""
    if _ADVISE is not None:
        with contextlib.suppress(OSError):  # a hint: it may be refused
            # What isn't on the disk yet can't be dropped: it is sent there.
            _ADVISE(file.fileno(), place, size, _NOT_NEEDED)


def _checksums(pieces: Sequence[Column], last: Future[Sums]) -> tuple[int, int]:
    """CRC-32 of the first piece and of what follows it, each piece with its padding."""
    checks = [0, 0]
    for number, piece in enumerate([*pieces, last.result()]):
        for data in _padded(piece):
            checks[number > 0] = zlib.crc32(data, checks[number > 0])
    return checks[0], checks[1]


def _padded(piece: Column) -> tuple[memoryview, memoryview]:
    """The bytes of a column, and zeros up to the next multiple of the alignment."""
    data = np.ascontiguousarray(piece).data.cast("B")
    return data, memoryview(bytes(-len(data) % ALIGN))


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

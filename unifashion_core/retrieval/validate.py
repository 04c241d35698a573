"""Validation: does the disk still hold what was committed?"""

from __future__ import annotations

import bisect
import contextlib
import itertools
import sqlite3
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..errors import GalleryBusyError, GalleryError
from ..types import OnStep
from .columns import cells, from_json
from .gone import damaged_gone
from .items import ITEM_FIELDS
from .layout import Segment, SegmentKind, segment_bytes, vector_bytes
from .lock import WriterLock, reading
from .recovery import KINDS, break_seal, recover, seal, seal_fits
from .schema import (
    DATABASE,
    LOCK,
    READERS,
    begin_reading,
    connect_reader,
    connect_writer,
    database_errors,
    item_sum,
)
from .snapshot import read_segments
from .store import Gallery


@dataclass(frozen=True)
class Problem:
    """Committed data that is lost, changed or damaged.

    Attributes:
        kind: "missing", "truncated" or "damaged" (a file), "database" or "orphan" (its rows).
        path: The file.
        detail: What is wrong with it.
    """

    kind: str
    path: Path
    detail: str


@dataclass(frozen=True)
class Validation:
    """What a gallery's files are like.

    Attributes:
        problems: None when all is well.
        recovered: What a killed writer had left and was removed now, a sentence each.
        revision: The newest; None where it can't be read.
    """

    problems: tuple[Problem, ...]
    recovered: tuple[str, ...]
    revision: int | None

    @property
    def ok(self) -> bool:
        """Whether everything committed is there."""
        return not self.problems


def validate(path: Path, *, on_step: OnStep | None = None) -> Validation:
    """Compare everything with its checksums.

    Cleans what a killed writer left when no other writer is at work; else it only reads.

    Args:
        path: The gallery's folder.
        on_step: Called with (bytes done, bytes).

    Raises:
        GalleryError: If there is no gallery at `path`.
    """
    database = path / DATABASE
    if not database.is_file() and path.is_dir() and any(path.glob("*-[0-9]*.*")):
        return Validation((Problem("missing", database, "the database is gone"),), (), None)
    recovered: list[str] = []
    problems: list[Problem] = []
    if not database.is_file():
        Gallery(path)  # says that there is none
    try:
        with contextlib.ExitStack() as stack:
            if _locked(path, stack):
                if not seal_fits(path):
                    detail = "the file is not as its last writer left it"
                    problems.append(Problem("damaged", database, detail))
                else:
                    recovered += _recovered(Gallery(path))
        gallery = Gallery(path)
    except GalleryError as e:
        problems.append(Problem("database", database, str(e)))
        return Validation(tuple(problems), tuple(recovered), None)
    revision = None
    try:
        with reading(path / READERS), database_errors(gallery.name):
            connection = connect_reader(path)
            with contextlib.closing(connection):
                begin_reading(connection)
                (revision,) = connection.execute(
                    "SELECT value FROM meta WHERE key = 'revision'"
                ).fetchone()
                problems += _database_problems(gallery, connection)
                problems += _segment_problems(gallery, connection, on_step)
    except (GalleryError, TypeError, ValueError) as e:  # values that a damaged page made up
        problems.append(Problem("database", database, str(e)))
    return Validation(tuple(problems), tuple(recovered), revision)


def _locked(path: Path, stack: contextlib.ExitStack) -> bool:
    """Whether the writer's lock could be had: no writer is at work, and the disk may be written."""
    try:
        stack.enter_context(WriterLock(path / LOCK, path.name))
    except (GalleryBusyError, OSError):
        return False
    return True


def _recovered(gallery: Gallery) -> list[str]:
    sealed = break_seal(gallery.path)
    with (
        database_errors(gallery.name),
        contextlib.closing(connect_writer(gallery.path)) as connection,
    ):
        found = list(recover(gallery, connection, check=False))
    if sealed:
        seal(gallery.path)
    return found


# ---- segments


def _segment_problems(
    gallery: Gallery, connection: sqlite3.Connection, on_step: OnStep | None
) -> Iterator[Problem]:
    found: list[tuple[SegmentKind, Segment]] = [
        (kind, s) for kind in KINDS for s in read_segments(connection, kind) if s.rows
    ]
    sizes = [segment_bytes(segment, gallery.row_shape(kind)) for kind, segment in found]
    done = 0
    said: set[str] = set()
    for (kind, segment), size in zip(found, sizes, strict=True):
        problem = segment_problem(gallery, kind, segment)
        if problem is not None and (problem.kind == "damaged" or segment.file not in said):
            said.add(segment.file)
            yield problem
        done += size
        if on_step is not None:
            on_step(done, sum(sizes))


def segment_problem(gallery: Gallery, kind: SegmentKind, segment: Segment) -> Problem | None:
    """What is wrong with a segment, if anything is."""
    path, shape = gallery.path / segment.file, gallery.row_shape(kind)
    size = segment_bytes(segment, shape)
    try:
        data = read_part(path, segment.offset, size)
    except FileNotFoundError:
        return Problem("missing", path, "the file is gone")
    except OSError as e:
        return Problem("damaged", path, f"can't be read ({e.strerror or e})")
    if len(data) < size:
        there = path.stat().st_size
        detail = f"holds {there:,} bytes, {segment.offset + size:,} were committed"
        return Problem("truncated", path, detail)
    if segment.plain:
        return None
    split = vector_bytes(segment.rows, shape)
    wrong = [
        name
        for name, part, wanted in (
            ("vectors", data[:split], segment.rows_check),
            ("copies", data[split:], segment.copy_check),
        )
        if zlib.crc32(part) != wanted
    ]
    if not wrong:
        return None
    last = segment.first_row + segment.rows - 1
    detail = f"{' and '.join(wrong)} of rows {segment.first_row} to {last} are not as committed"
    return Problem("damaged", path, detail)


def read_part(path: Path, offset: int, size: int) -> memoryview:
    """Bytes of a file, from the disk; fewer where it ends before."""
    with open(path, "rb") as file:
        file.seek(offset)
        return memoryview(file.read(size))


# ---- database


def _database_problems(gallery: Gallery, connection: sqlite3.Connection) -> Iterator[Problem]:
    path = gallery.path / DATABASE
    for (text,) in connection.execute("PRAGMA integrity_check(20)"):
        if text != "ok":
            yield Problem("database", path, text)
    for table, row, *_ in connection.execute("PRAGMA foreign_key_check"):
        yield Problem("orphan", path, f"row {row} of {table} belongs to nothing")
    for item_id in damaged_gone(connection):
        yield Problem("database", path, f"removed item {item_id}: is not as it was noted")
    for item_id, detail in item_problems(gallery, connection):
        yield Problem("database", path, f"item {item_id}: {detail}")


def item_problems(gallery: Gallery, connection: sqlite3.Connection) -> Iterator[tuple[int, str]]:
    """Items that aren't as committed, by id, with what is wrong."""
    tokens, captions = (_Stored(read_segments(connection, kind)) for kind in KINDS)
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    rows = connection.execute(
        f"SELECT {ITEM_FIELDS}, {'NULL' if version == 1 else 'sum'} "
        "FROM live AS items JOIN roots ON roots.id = root ORDER BY items.id"
    )
    cells_of = _CellsByItem(connection)
    for item_id, *fields, wanted in rows:
        found = cells_of(item_id)
        if version > 1 and item_sum(*fields) != wanted:
            yield item_id, "its fields are not as committed"
        elif found != sorted(map(repr, cells(from_json(fields[-1])))):
            yield item_id, "its columns for filters are not those of its metadata"
        elif fields[5] not in tokens:
            yield item_id, f"points at vector {fields[5]}, which is not stored"
        elif fields[6] is not None and fields[6] not in captions:
            yield item_id, f"points at caption vector {fields[6]}, which is not stored"


class _Stored:
    """Which row numbers some segments, in row order, hold."""

    def __init__(self, segments: Sequence[Segment]) -> None:
        self._firsts = [segment.first_row for segment in segments]
        self._ends = [segment.first_row + segment.rows for segment in segments]

    def __contains__(self, row: int) -> bool:
        place = bisect.bisect_right(self._firsts, row) - 1
        return place >= 0 and row < self._ends[place]


class _CellsByItem:
    """The cells of items that are asked for in ascending order, as sorted texts."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        rows = connection.execute("SELECT item, column, text, number FROM cells ORDER BY item")
        self._groups = itertools.groupby(rows, key=lambda row: row[0])
        self._next = next(self._groups, None)

    def __call__(self, item_id: int) -> list[str]:
        found: list[str] = []
        while self._next is not None and self._next[0] <= item_id:
            if self._next[0] == item_id:
                found = sorted(repr(tuple(row[1:])) for row in self._next[1])
            self._next = next(self._groups, None)
        return found

"""Compaction: live rows alone, in full segments, in new files.

The old files go when no reader looks at the gallery: at once, or when the next writer begins.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..types import OnStep
from .appending import Appender
from .layout import SEGMENT_BYTES, SEGMENT_ROWS, Rows, Segment, SegmentKind, segment_number
from .recovery import KINDS, segment_paths, sweep
from .segments import MappedRows
from .snapshot import read_segments
from .writer import GalleryWriter

_COLUMNS: dict[SegmentKind, str] = {"tokens": "token_row", "captions": "caption_row"}


@dataclass(frozen=True)
class CompactReport:
    """What a compaction did.

    Attributes:
        rows: Rows of tokens that stayed.
        removed: Rows of tokens that no item used.
        bytes_before: Of all committed segments, before.
        bytes_after: And after.
        revision: The gallery's, after.
    """

    rows: int
    removed: int
    bytes_before: int
    bytes_after: int
    revision: int


def compact(writer: GalleryWriter, *, on_step: OnStep | None = None) -> CompactReport:
    """Write live rows into new files; what readers see stays the same.

    Args:
        writer: Of the gallery; what it has not committed yet is committed first.
        on_step: Called with (rows done, rows); one that raises leaves everything as it was.

    Returns:
        What was saved.

    Raises:
        GalleryError: If a row isn't what was committed, or the disk refuses.
    """
    writer.commit()
    before, rows_before = writer.stored_bytes(), _rows(writer, "tokens")
    live: dict[SegmentKind, Rows] = {kind: _live_rows(writer, kind) for kind in KINDS}
    total, done = sum(map(len, live.values())), 0
    try:
        with writer.errors():
            writer.drop_removed()
            for kind, rows in live.items():
                writer.replace_segments(
                    kind, _rewritten(writer, kind, rows, (done, total), on_step)
                )
                _renumber(writer, kind, rows)
                done += len(rows)
        writer.commit()
    except BaseException:
        writer.rollback()
        raise
    with writer.errors():
        sweep(writer.gallery, writer.connection)
        writer.connection.execute("VACUUM")
    rows = len(live["tokens"])
    return CompactReport(
        rows, rows_before - rows, before, writer.stored_bytes(), writer.gallery.revision
    )


def _rows(writer: GalleryWriter, kind: SegmentKind) -> int:
    return sum(segment.rows for segment in read_segments(writer.connection, kind))


def _live_rows(writer: GalleryWriter, kind: SegmentKind) -> Rows:
    column = _COLUMNS[kind]
    found = writer.connection.execute(
        f"SELECT DISTINCT {column} FROM live WHERE {column} IS NOT NULL ORDER BY {column}"
    )
    return np.fromiter((row for (row,) in found), np.int64)


def _rewritten(
    writer: GalleryWriter,
    kind: SegmentKind,
    live: Rows,
    place: tuple[int, int],
    on_step: OnStep | None,
) -> list[Segment]:
    gallery, shape = writer.gallery, writer.gallery.row_shape(kind)
    old = read_segments(writer.connection, kind)
    stored = MappedRows(gallery.path, old, shape, gallery.name)
    appender = fresh_appender(writer, kind)
    try:
        for start in range(0, len(live), SEGMENT_ROWS):
            part = live[start : start + SEGMENT_ROWS]
            appender.append(stored.gather(part))
            if on_step is not None:
                on_step(place[0] + start + len(part), place[1])
        return appender.finish()
    finally:
        appender.close()


def fresh_appender(writer: GalleryWriter, kind: SegmentKind) -> Appender:
    """What appends to a file of its own, from row 0."""
    numbers = [segment_number(path.name) for path in segment_paths(writer.gallery, kind)]
    shape = writer.gallery.row_shape(kind)
    return Appender(
        writer.gallery.path, kind, shape, [], max(numbers, default=0) + 1, SEGMENT_BYTES
    )


def _renumber(writer: GalleryWriter, kind: SegmentKind, live: Rows) -> None:
    """Point items at the new row numbers: each live row's place among them."""
    column, connection = _COLUMNS[kind], writer.connection
    changed = [(int(old), new) for new, old in enumerate(live) if old != new]
    if not changed:
        return
    connection.execute("CREATE TEMP TABLE moved (old INTEGER PRIMARY KEY, new INTEGER NOT NULL)")
    connection.executemany("INSERT INTO moved VALUES (?, ?)", changed)
    connection.execute(
        f"UPDATE items SET {column} = (SELECT new FROM moved WHERE old = {column}) "
        f"WHERE {column} IN (SELECT old FROM moved)"
    )
    connection.execute("DROP TABLE moved")

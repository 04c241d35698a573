"""Repair: a gallery that lost data goes on with what is whole, and names what it lost.

What can be made again is (copies of vectors, the columns that filters read, indexes). Items whose
vectors or fields are gone are removed: indexing their folder again brings them back.
"""

from __future__ import annotations

import contextlib
import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ..errors import GalleryError
from ..types import OnStep
from .columns import from_json
from .compact import fresh_appender
from .gone import mend_gone
from .items import ITEM_FIELDS, item_of
from .layout import HALF, Half, Segment, SegmentKind, columns_of, row_sums, segment_bytes
from .schema import DATABASE
from .snapshot import read_segments
from .store import Gallery
from .validate import item_problems, read_part, segment_problem
from .writer import GalleryWriter

_KINDS: tuple[SegmentKind, ...] = ("tokens", "captions")


@dataclass
class RepairReport:
    """What a repair did.

    Attributes:
        removed: Files of the items that were lost.
        captions: Items whose caption's vector was lost; indexing makes it again.
        rebuilt: What was made again, a sentence each.
        recovered: What a killed writer had left and was removed.
        revision: The gallery's, after.
    """

    removed: list[Path] = field(default_factory=list[Path])
    captions: int = 0
    rebuilt: list[str] = field(default_factory=list[str])
    recovered: tuple[str, ...] = ()
    revision: int = 0


def repair(gallery: Gallery, *, on_step: OnStep | None = None) -> RepairReport:
    """Bring a damaged gallery back to a state that `validate` accepts, in one commit.

    Args:
        gallery: The gallery.
        on_step: Called with (segments done, segments).

    Raises:
        GalleryError: If its database can't be used, or another writer is at work.
    """
    with GalleryWriter(gallery, check=False) as writer, writer.errors():
        report = RepairReport(recovered=writer.recovered)
        _repair_database(writer, report)
        _repair_removals(writer, report)
        for kind in _KINDS:
            _repair_segments(writer, kind, report, on_step)
        _repair_items(writer, report)
        writer.commit()
        report.revision = gallery.revision
    return report


def _repair_database(writer: GalleryWriter, report: RepairReport) -> None:
    connection = writer.connection

    def wrong() -> list[str]:
        found = [text for (text,) in connection.execute("PRAGMA integrity_check(5)")]
        return [text for text in found if text != "ok"]

    if wrong():
        with contextlib.suppress(sqlite3.Error):
            connection.execute("REINDEX")
        left = wrong()
        if left:
            raise GalleryError(
                f"Gallery '{writer.gallery.name}': {DATABASE} is damaged beyond repair ({left[0]})."
                " Restore it from a copy, or index again into a new gallery."
            )
        report.rebuilt.append("the database's indexes")


def _repair_removals(writer: GalleryWriter, report: RepairReport) -> None:
    writer.begin()
    for item_id in mend_gone(writer.connection):
        report.rebuilt.append(f"item {item_id}: the note that it was removed")
    writer.drop_removed()


# ---- segments


def _repair_segments(
    writer: GalleryWriter, kind: SegmentKind, report: RepairReport, on_step: OnStep | None
) -> None:
    segments = read_segments(writer.connection, kind)
    kept: list[Segment] = []
    appender = fresh_appender(writer, kind)
    try:
        for number, segment in enumerate(segments, start=1):
            problem = segment_problem(writer.gallery, kind, segment)
            if problem is None:
                kept.append(segment)
            else:
                saved = 0
                for first, rows in _good_rows(writer.gallery, kind, segment):
                    appender.place(first)
                    appender.append(rows)
                    saved += len(rows)
                report.rebuilt.append(
                    f"{segment.file}: {saved} of {segment.rows} rows from {segment.first_row} on"
                )
            if on_step is not None:
                on_step(number, len(segments))
        if len(kept) < len(segments):
            writer.replace_segments(kind, kept + appender.finish())
    finally:
        appender.close()


def _good_rows(gallery: Gallery, kind: SegmentKind, segment: Segment) -> Iterator[tuple[int, Half]]:
    """Runs of rows that are as they were committed, with the number of each run's first."""
    shape = gallery.row_shape(kind)
    size = segment_bytes(segment, shape)
    data = b""
    with contextlib.suppress(OSError):
        data = bytes(read_part(gallery.path / segment.file, segment.offset, size))
    if not data or segment.plain:
        return
    raw = np.frombuffer(data.ljust(size, b"\0"), np.uint8)
    columns = columns_of(raw, segment.rows, shape)
    good = _as_committed(columns.f16, columns.sums)
    edges = np.flatnonzero(np.diff(np.concatenate([[False], good, [False]]).astype(np.int8)))
    for start, end in np.reshape(edges, (-1, 2)).tolist():
        yield segment.first_row + start, columns.f16[start:end].astype(HALF)


def _as_committed(rows: Half, sums: npt.NDArray[np.uint64]) -> npt.NDArray[np.bool_]:
    # An all-zero row has the sum 0, as a lost one with a lost sum would.
    return (row_sums(rows) == sums) & (sums != 0)


# ---- items


def _repair_items(writer: GalleryWriter, report: RepairReport) -> None:
    connection = writer.connection
    for item_id, detail in list(item_problems(writer.gallery, connection)):
        row = connection.execute(
            f"SELECT {ITEM_FIELDS} FROM items JOIN roots ON roots.id = root WHERE items.id = ?",
            [item_id],
        ).fetchone()
        if "caption vector" in detail:
            writer.put_caption(item_id, None)
            report.captions += 1
        elif "filters" in detail:
            writer.put_columns(item_id, from_json(row[-1]))
            report.rebuilt.append(f"item {item_id}: its columns for filters")
        else:
            report.removed.append(Path(str(row[1]), str(row[2])) if row else item_of(row).path)
            writer.remove([item_id])
    connection.execute("DELETE FROM cells WHERE item NOT IN (SELECT id FROM items)")
    writer.drop_removed()

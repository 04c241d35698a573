"""From older formats of a gallery to the present one.

1 has plain files of float16 rows, 2 no table of removed items. The first writer does it, in one
commit; until then readers use the old gallery as it is.
"""

from __future__ import annotations

import logging
import sqlite3

import numpy as np

from .appending import Appender
from .gone import GONE
from .layout import (
    HALF,
    SEGMENT_BYTES,
    SEGMENT_ROWS,
    Segment,
    SegmentKind,
    segment_bytes,
    segment_number,
)
from .schema import FORMAT, SEGMENTS, SUM_ALL, SUMS, meta_sum, run_statements
from .segments import check_file
from .snapshot import add_segments, read_segments
from .store import Gallery

_log = logging.getLogger("unifashion.retrieval")


def migrate(gallery: Gallery, connection: sqlite3.Connection) -> None:
    """Bring a gallery of any older format to the present one; row numbers stay.

    The caller holds the writer's lock.

    Raises:
        GalleryError: If an old file is missing or too short.
        OSError: If the disk refuses; the gallery stays as it was.
    """
    _log.info("gallery '%s': to format %d", gallery.name, FORMAT)
    connection.execute("BEGIN IMMEDIATE")
    try:
        (version,) = connection.execute("PRAGMA user_version").fetchone()
        if version < 2:
            _from_plain_files(gallery, connection)
        run_statements(connection, GONE)
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _from_plain_files(gallery: Gallery, connection: sqlite3.Connection) -> None:
    kinds: tuple[SegmentKind, ...] = ("tokens", "captions")
    old = {kind: read_segments(connection, kind) for kind in kinds}
    new: dict[SegmentKind, list[Segment]] = {
        kind: _rewrite(gallery, kind, old[kind]) for kind in kinds
    }
    connection.execute("DROP TABLE segments")
    run_statements(connection, SEGMENTS)
    for kind, segments in new.items():
        add_segments(connection, kind, segments)
    files = [(segment.file,) for segments in old.values() for segment in segments]
    connection.executemany("INSERT INTO garbage VALUES (?)", files)
    connection.execute("ALTER TABLE items ADD COLUMN sum INTEGER")
    connection.execute(SUM_ALL)
    run_statements(connection, SUMS)
    meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
    connection.execute("INSERT INTO meta VALUES ('sum', ?)", [meta_sum(meta)])


def _rewrite(gallery: Gallery, kind: SegmentKind, segments: list[Segment]) -> list[Segment]:
    shape = gallery.row_shape(kind)
    last = max((segment_number(segment.file) for segment in segments), default=0)
    appender = Appender(gallery.path, kind, shape, [], last + 1, SEGMENT_BYTES)
    try:
        for segment in segments:
            if not segment.rows:
                continue
            check_file(gallery.path, segment.file, segment_bytes(segment, shape), gallery.name)
            path = gallery.path / segment.file
            rows = np.memmap(path, HALF, mode="r", shape=(segment.rows, *shape))
            for start in range(0, segment.rows, SEGMENT_ROWS):
                appender.append(np.array(rows[start : start + SEGMENT_ROWS]))
        return appender.finish()
    finally:
        appender.close()

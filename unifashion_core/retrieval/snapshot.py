"""One revision of a gallery, as a reader sees it."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from ..errors import GalleryError, InputError
from .filters import Clause, check_columns, selection
from .gone import COUNT_LIVE, as_noted
from .items import ITEM_FIELDS, ItemRows, StoredItem, item_of
from .layout import Rows, Segment, SegmentKind
from .schema import DATABASE, item_sum
from .segments import MappedRows, SegmentView, damaged

if TYPE_CHECKING:
    from .store import Gallery

_FILTERS = 4  # newest filters whose items are kept for the next search


class Snapshot:
    """One revision of a gallery, inside `Gallery.snapshot`.

    Attributes:
        gallery: The gallery.
        revision: Number of its commit.
        format: Of the database.
    """

    def __init__(self, gallery: Gallery, connection: sqlite3.Connection, version: int) -> None:
        self.gallery = gallery
        self.format = version
        self._connection = connection
        (self.revision,) = self._one("SELECT value FROM meta WHERE key = 'revision'")
        (encoder,) = connection.execute(
            "SELECT value FROM meta WHERE key = 'fingerprint'"
        ).fetchone()
        if encoder != gallery.fingerprint:
            raise GalleryError(
                f"Gallery '{gallery.name}': was given another encoder while it was open. Open it "
                "again."
            )

    def _one(self, sql: str, values: Sequence[object] = ()) -> tuple[int, ...]:
        return self._connection.execute(sql, values).fetchone()

    @property
    def count(self) -> int:
        """Live items."""
        return self._one(COUNT_LIVE)[0]

    @property
    def missing(self) -> int:
        """Items whose file was gone when it was last looked for."""
        return self._one("SELECT count(*) FROM live WHERE missing")[0]

    @property
    def columns(self) -> tuple[str, ...]:
        """Metadata columns that some item has, sorted."""
        # One index step for each column; SELECT DISTINCT would walk every cell.
        rows = self._connection.execute(
            """WITH RECURSIVE found (name) AS (
                   SELECT min(column) FROM cells
                   UNION ALL
                   SELECT (SELECT min(column) FROM cells WHERE column > name)
                   FROM found WHERE name IS NOT NULL
               )
               SELECT name FROM found WHERE EXISTS (
                   SELECT 1 FROM cells
                   WHERE column = name AND item NOT IN (SELECT item FROM gone)
               )"""
        )
        return tuple(name for (name,) in rows)

    def item_rows(self, clauses: Sequence[Clause] = ()) -> ItemRows:
        """The items that pass a filter and where their vectors are.

        Args:
            clauses: Conditions that all have to hold; none keeps every item.

        Raises:
            InputError: If a clause names a column that no item has; it lists the columns.
        """
        rows = self.gallery.remembered_rows(self.revision) or self._read_item_rows()
        if not clauses:
            return rows
        key = f"filter {tuple(clauses)!r}"
        kept = rows.derived.get(key)
        if isinstance(kept, ItemRows):  # asked before at this revision
            return kept
        check_columns(clauses, self.columns, self.gallery.name)
        keep = np.ones(len(rows), np.bool_)
        for clause in clauses:
            chosen = selection(clause)
            ids = self._integers([chosen.item], chosen.source, chosen.values)[0]
            keep &= np.isin(rows.ids, ids, invert=chosen.negated)
        found = rows.subset(keep)
        filters = [name for name in rows.derived if name.startswith("filter ")]
        for name in filters[: max(0, len(filters) - _FILTERS + 1)]:
            rows.derived.pop(name, None)
        rows.derived[key] = found
        return found

    def _read_item_rows(self) -> ItemRows:
        names = ["id", "token_row", "coalesce(caption_row, -1)"]
        columns = self._integers(names, "items")
        order = np.argsort(columns[0], kind="stable")
        order = order[np.isin(columns[0][order], self._gone(), invert=True)]
        ids, tokens, captions = (column[order] for column in columns)
        rows = ItemRows(ids, tokens, captions)
        self.gallery.remember_rows(self.revision, rows)
        return rows

    def _gone(self) -> Rows:
        """Ids of removed items."""
        ids, sums = self._integers(["item", "sum"], "gone")
        if not as_noted(ids, sums):
            raise damaged(f"Gallery '{self.gallery.name}': {DATABASE} (removed items)")
        return ids

    def _integers(
        self, names: Sequence[str], source: str, values: Sequence[object] = ()
    ) -> list[Rows]:
        """Columns of integers, in one order of rows; SQLite joins them, a tuple a row is slow."""
        joined = ", ".join(f"group_concat({name})" for name in names)
        texts = self._connection.execute(f"SELECT {joined} FROM {source}", values).fetchone()
        return [np.fromstring(text or "", np.int64, sep=",") for text in texts]

    def items(self, item_ids: Sequence[int]) -> list[StoredItem]:
        """What is stored of some items, in the order of the ids.

        Raises:
            GalleryError: If an id isn't a live item, or isn't what was committed.
        """
        fields = f"{ITEM_FIELDS}, {'NULL' if self.format == 1 else 'sum'}"
        found: dict[int, StoredItem] = {}
        for start in range(0, len(item_ids), 500):  # SQLite allows 999 parameters in old versions
            part = [int(item_id) for item_id in item_ids[start : start + 500]]
            marks = ", ".join("?" * len(part))
            rows = self._connection.execute(
                f"SELECT {fields} FROM live AS items JOIN roots ON roots.id = root "
                f"WHERE items.id IN ({marks})",
                part,
            )
            for *values, wanted in rows:
                if wanted is not None and item_sum(*values[1:]) != wanted:
                    raise damaged(f"Gallery '{self.gallery.name}': {DATABASE} (item {values[0]})")
                found[values[0]] = item_of(tuple(values))
        lost = [item_id for item_id in item_ids if item_id not in found]
        if lost:
            raise GalleryError(
                f"Gallery '{self.gallery.name}': no item {lost[0]} at revision {self.revision}. "
                "Search again."
            )
        return [found[item_id] for item_id in item_ids]

    def find(self, paths: Sequence[Path]) -> list[int]:
        """Ids of the items of some files, ascending.

        Args:
            paths: Absolute, or relative to the folder that was indexed.

        Raises:
            InputError: If a path is no item's; it names it.
        """
        roots = self._connection.execute("SELECT id, path FROM roots").fetchall()
        found: set[int] = set()
        for path in paths:
            tries = [(root, path.as_posix()) for root, _ in roots]
            for root, folder in roots:
                if path.is_relative_to(folder):
                    tries.append((root, path.relative_to(folder).as_posix()))
            ids = [
                row[0]
                for one in tries
                for row in self._connection.execute(
                    "SELECT id FROM live WHERE root = ? AND file = ?", one
                )
            ]
            if not ids:
                raise InputError(
                    f"Gallery '{self.gallery.name}': {path} is not in it. Give a file's absolute "
                    "path, or its path below the folder that was indexed."
                )
            found.update(ids)
        return sorted(found)

    def vectors(self, kind: SegmentKind) -> MappedRows:
        """The stored rows of a kind, float16: (T, D) each for tokens, (D,) each for captions.

        Raises:
            GalleryError: If a file is missing or shorter than what was committed.
        """
        gallery = self.gallery
        segments = read_segments(self._connection, kind)
        return MappedRows(
            gallery.path, segments, gallery.row_shape(kind), gallery.name, gallery.files
        )

    def segments(self) -> tuple[SegmentView, ...]:
        """The segments of tokens with their eight-bit copies, by row number.

        A row is an image's tokens; several items may share one, and a removed item leaves its row.
        The copies are checked when this gallery gives them out first; who reads `f16` checks the
        rows by `SegmentView.check_rows`.

        Raises:
            GalleryError: If a file is missing, short, or not what was committed.
        """
        gallery, shape = self.gallery, self.gallery.row_shape("tokens")
        segments = [s for s in read_segments(self._connection, "tokens") if s.rows]
        gallery.files.ready(segments, shape, keep="tokens")
        return tuple(gallery.files.view(segment, shape) for segment in segments)


def read_segments(connection: sqlite3.Connection, kind: SegmentKind) -> list[Segment]:
    """The committed segments of a kind, in row order."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    more = "" if version == 1 else ", offset, rows_check, copy_check"
    rows = connection.execute(
        f"SELECT file, first_row, rows{more} FROM segments WHERE kind = ? ORDER BY first_row",
        [kind],
    )
    return [Segment(*row) for row in rows]


def add_segments(
    connection: sqlite3.Connection, kind: SegmentKind, segments: Sequence[Segment]
) -> None:
    """Make segments part of the open transaction."""
    connection.executemany(
        "INSERT INTO segments (kind, file, first_row, rows, offset, rows_check, copy_check) "
        "VALUES (?, ?, ?, ?, ?, ?, ?)",
        [
            (kind, s.file, s.first_row, s.rows, s.offset, s.rows_check, s.copy_check)
            for s in segments
        ],
    )

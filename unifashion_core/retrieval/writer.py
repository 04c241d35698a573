"""The one writer of a gallery: appends vectors, changes items, commits both together.

Order of a commit: the segments reach the disk, then SQLite commits how many of their rows count. A
kill at any moment leaves the last commit whole; what lies behind it goes when the next writer
starts.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from types import TracebackType

import numpy as np
import numpy.typing as npt

from ..errors import ShapeError
from .appending import Appender
from .columns import ColumnValue, cells, to_json
from .gone import COUNT_LIVE, drop_gone, drop_gone_file, put_gone
from .items import ITEM_FIELDS, StoredItem, item_of
from .layout import (
    HALF,
    LENGTH_TOLERANCE,
    SEGMENT_BYTES,
    Half,
    Rows,
    Segment,
    SegmentKind,
    segment_number,
)
from .lock import WriterLock
from .migrate import migrate
from .quantise import Floats
from .recovery import break_seal, committed_files, recover, seal, segment_paths
from .schema import FORMAT, LOCK, check_format, connect_writer, database_errors, item_sum
from .snapshot import add_segments, read_segments
from .store import Gallery

_INSERT = (
    "INSERT OR IGNORE INTO items (root, file, size, mtime_ns, content, token_row, sum) "
    "VALUES (?, ?, ?, ?, ?, ?, ?)"
)
_log = logging.getLogger("unifashion.retrieval")


class GalleryWriter:
    """Exclusive writing access, as a context manager: commits at its end, rolls back on an error.

    Args:
        gallery: The gallery; its readers may go on.
        file_bytes: Size from which a new file of segments is begun.
        check: Whether a committed file that is missing or too short is an error.

    Attributes:
        gallery: The gallery.
        recovered: What a killed writer had left and this one removed, a sentence each.
        connection: To the database, for the parts of this package that change it.

    Raises:
        GalleryBusyError: If another writer is at work.
        GalleryError: If the gallery is damaged.
    """

    def __init__(
        self, gallery: Gallery, *, file_bytes: int = SEGMENT_BYTES, check: bool = True
    ) -> None:
        self.gallery = gallery
        self.recovered: tuple[str, ...] = ()
        self._file_bytes = file_bytes
        self._appenders: dict[SegmentKind, Appender] = {}
        self._changes_before = 0
        self._check = check
        self._roots: dict[int, str] = {}
        self._errors = database_errors(gallery.name, gallery.path)
        with self.errors():
            self._lock = WriterLock(gallery.path / LOCK, gallery.name)
        self._seal = False
        try:
            with self.errors():
                break_seal(gallery.path)
                self.connection = connect_writer(gallery.path)
                version = check_format(self.connection, gallery.name, gallery.path)
                if version < FORMAT:
                    migrate(gallery, self.connection)
                self.recovered = tuple(recover(gallery, self.connection, check=check))
        except BaseException:
            self.close()
            raise
        self._seal = True

    def __enter__(self) -> GalleryWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        try:
            if error is None:
                self.commit()
            else:
                self.rollback()
        finally:
            self.close()

    def close(self) -> None:
        """End without a commit and give the lock back; a second call does nothing."""
        for appender in self._appenders.values():
            appender.close()
        if hasattr(self, "connection"):
            self.connection.close()
            if self._seal:
                seal(self.gallery.path)
        self._lock.release()

    def errors(self) -> database_errors:
        """Turn what the database or the disk refuses into our errors."""
        return self._errors

    # ---- vectors

    def append(self, kind: SegmentKind, values: npt.NDArray[np.floating]) -> Rows:
        """Store vectors as float16; they count once an item points at them and that is committed.

        Args:
            kind: "tokens" or "captions".
            values: Unit vectors, (R, T, D) for tokens, (R, D) for captions.

        Returns:
            Their row numbers, (R,).

        Raises:
            ShapeError: If a row has another shape than the gallery's, or isn't of unit vectors.
            GalleryError: If the disk refuses.
        """
        shape = self.gallery.row_shape(kind)
        if values.shape[1:] != shape:
            raise ShapeError(
                f"Gallery '{self.gallery.name}': got {kind} of shape {values.shape[1:]}, wanted "
                f"{shape}. "
                "Load the encoder that made this gallery."
            )
        half = np.array(values, HALF, order="C")  # its own copy: it waits for the commit

        def check(lengths: Floats) -> None:
            if not (np.abs(lengths - 1.0) < LENGTH_TOLERANCE).all():  # NaN fails this too
                raise ShapeError(
                    f"Gallery '{self.gallery.name}': got {kind} that aren't unit vectors. "
                    "Check the encoder's weights and dtype."
                )

        if kind == "captions":
            check(_lengths(half))
        with self.errors():
            self.begin()
            first = self._appender(kind).append(half, check)
        return np.arange(first, first + len(half), dtype=np.int64)

    def _appender(self, kind: SegmentKind) -> Appender:
        if kind not in self._appenders:
            numbers = [segment_number(path.name) for path in segment_paths(self.gallery, kind)]
            self._appenders[kind] = Appender(
                self.gallery.path,
                kind,
                self.gallery.row_shape(kind),
                read_segments(self.connection, kind),
                max(numbers, default=0) + 1,
                self._file_bytes,
            )
        return self._appenders[kind]

    def _save_rows(self, kind: SegmentKind, segments: list[Segment]) -> None:
        add_segments(self.connection, kind, segments)

    def replace_segments(self, kind: SegmentKind, segments: list[Segment]) -> None:
        """Let other segments hold a kind's rows; files that none uses any more become garbage."""
        self.begin()
        if kind in self._appenders:
            self._appenders.pop(kind).close()
        old = {segment.file for segment in read_segments(self.connection, kind)}
        self.connection.execute("DELETE FROM segments WHERE kind = ?", [kind])
        add_segments(self.connection, kind, segments)
        unused = old - {segment.file for segment in segments}
        self.connection.executemany(
            "INSERT OR IGNORE INTO garbage VALUES (?)", [(file,) for file in sorted(unused)]
        )

    def stored_bytes(self) -> int:
        """Bytes of the files that hold committed rows."""
        with self.errors():
            return sum(committed_files(self.gallery, self.connection).values())

    # ---- items

    def root_id(self, root: str) -> int:
        """The id of an indexed folder, by its absolute path with forward slashes."""
        with self.errors():
            self.begin()
            self.connection.execute("INSERT OR IGNORE INTO roots (path) VALUES (?)", [root])
            (found,) = self.connection.execute(
                "SELECT id FROM roots WHERE path = ?", [root]
            ).fetchone()
        return found

    def items_of(self, root: str) -> dict[str, StoredItem]:
        """The items of an indexed folder, by file."""
        with self.errors():
            rows = self.connection.execute(
                f"SELECT {ITEM_FIELDS} FROM live AS items JOIN roots ON roots.id = root "
                "WHERE roots.path = ?",
                [root],
            )
            return {item.file: item for item in map(item_of, rows)}

    def items_with(self, content: bytes) -> list[StoredItem]:
        """The items of a content (SHA-256, 32 bytes), by id."""
        with self.errors():
            rows = self.connection.execute(
                f"SELECT {ITEM_FIELDS} FROM live AS items JOIN roots ON roots.id = root "
                "WHERE content = ? ORDER BY items.id",
                [content],
            )
            return [item_of(row) for row in rows]

    def move(self, item_id: int, root: int, file: str) -> None:
        """Say that an item's file lies elsewhere now."""
        with self.errors():
            self.begin()
            drop_gone_file(self.connection, root, file)
        self._many("UPDATE items SET root = ?, file = ? WHERE id = ?", [(root, file, item_id)])

    def token_rows(self) -> dict[bytes, int]:
        """The row of tokens of each known content (SHA-256, 32 bytes)."""
        with self.errors():
            return dict(self.connection.execute("SELECT content, token_row FROM live").fetchall())

    @property
    def count(self) -> int:
        """Live items, with what isn't committed yet."""
        with self.errors():
            (count,) = self.connection.execute(COUNT_LIVE).fetchone()
        return count

    @contextmanager
    def together(self) -> Generator[None]:
        """Changes inside happen all or, on any exception, not at all; nests in a commit."""
        with self.errors():
            self.begin()
            self.connection.execute("SAVEPOINT together")
        try:
            yield
        except BaseException:
            self.connection.execute("ROLLBACK TO together")
            self.connection.execute("RELEASE together")
            raise
        self.connection.execute("RELEASE together")

    def put_image(
        self, root: int, file: str, size: int, mtime_ns: int, content: bytes, *, token_row: int
    ) -> int:
        """Add an image, or say that its content or its time changed; it is not missing any more.

        Args:
            root: Id of its folder.
            file: Path below it, with forward slashes.
            size: Bytes.
            mtime_ns: Time of change, nanoseconds.
            content: SHA-256, 32 bytes.
            token_row: Row of its tokens.

        Returns:
            Its item id.
        """
        with self.errors():
            self.begin()
            row = int(token_row)
            total = item_sum(self._root(root), file, size, mtime_ns, content, row, None, 0, "{}")
            values = [root, file, size, mtime_ns, content, row, total]
            added = self.connection.execute(_INSERT, values)
            if not added.rowcount and drop_gone_file(self.connection, root, file):
                added = self.connection.execute(_INSERT, values)
            if added.rowcount and added.lastrowid is not None:
                return added.lastrowid
            self.connection.execute(
                "UPDATE items SET size = ?, missing = 0, mtime_ns = ?, content = ?, token_row = ? "
                "WHERE root = ? AND file = ?",
                [size, mtime_ns, content, row, root, file],
            )
            (item_id,) = self.connection.execute(
                "SELECT id FROM items WHERE root = ? AND file = ?", [root, file]
            ).fetchone()
        return item_id

    def _root(self, root: int) -> str:
        if root not in self._roots:
            (self._roots[root],) = self.connection.execute(
                "SELECT path FROM roots WHERE id = ?", [root]
            ).fetchone()
        return self._roots[root]

    def put_columns(self, item_id: int, columns: Mapping[str, ColumnValue]) -> None:
        """Replace the metadata of an item."""
        rows = [(item_id, *cell) for cell in cells(columns)]
        with self.errors():
            self.begin()
            self.connection.execute(
                "UPDATE items SET columns = ? WHERE id = ?", [to_json(columns), item_id]
            )
            self.connection.execute("DELETE FROM cells WHERE item = ?", [item_id])
            self.connection.executemany(
                "INSERT INTO cells (item, column, text, number) VALUES (?, ?, ?, ?)", rows
            )

    def put_caption(self, item_id: int, caption_row: int | None) -> None:
        """Point an item at its caption's newest vector, or at none."""
        self._many("UPDATE items SET caption_row = ? WHERE id = ?", [(caption_row, item_id)])

    def put_missing(self, item_ids: Iterable[int], missing: bool) -> None:
        """Say of items whether their files were found."""
        self._many("UPDATE items SET missing = ? WHERE id = ?", [(missing, i) for i in item_ids])

    def remove(self, item_ids: Iterable[int]) -> None:
        """Remove items, live or not; what is stored of them stays until a compaction."""
        with self.errors():
            self.begin()
            put_gone(self.connection, list(item_ids))

    def drop_removed(self) -> None:
        """Delete what the database still holds of removed items."""
        with self.errors():
            self.begin()
            drop_gone(self.connection)

    def _many(self, sql: str, rows: Sequence[tuple[int | str | None, ...]]) -> None:
        if rows:
            with self.errors():
                self.begin()
                self.connection.executemany(sql, rows)

    # ---- commits

    def begin(self) -> None:
        """Begin the next commit's transaction, unless it has begun."""
        if not self.connection.in_transaction:
            self.connection.execute("BEGIN IMMEDIATE")
            self._changes_before = self.connection.total_changes

    def commit(self) -> None:
        """Make every change so far durable as the next revision; does nothing without one."""
        if not self.connection.in_transaction:
            return
        with self.errors():
            for kind, appender in self._appenders.items():
                self._save_rows(kind, appender.finish())
            if self.connection.total_changes != self._changes_before:
                self.connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'revision'")
            self.connection.execute("COMMIT")
        _log.debug("gallery '%s': committed", self.gallery.name)

    def rollback(self) -> None:
        """Drop every change since the last commit."""
        self._roots.clear()
        if self.connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # a failed disk may have ended it already
                self.connection.execute("ROLLBACK")
        for appender in self._appenders.values():
            appender.close()
        self._appenders.clear()
        with self.errors():
            tuple(recover(self.gallery, self.connection, check=self._check))


def _lengths(half: Half) -> npt.NDArray[np.float32]:
    """Length of each vector of captions."""
    with np.errstate(invalid="ignore"):
        wide = half.astype(np.float32)
        return np.sqrt(np.einsum("vd,vd->v", wide, wide))


def open_writer(gallery: Gallery) -> GalleryWriter:
    """Begin to write to a gallery.

    Raises:
        GalleryBusyError: If another writer is at work.
    """
    return GalleryWriter(gallery)

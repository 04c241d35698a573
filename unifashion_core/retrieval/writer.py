"""The one writer of a gallery: appends vectors, changes items, commits both together.

Order of a commit: the segments reach the disk, then SQLite commits how many of their rows count. A
kill at any moment leaves the last commit whole; what lies behind it goes when the next writer
starts.
"""

from __future__ import annotations

import contextlib
import logging
import sqlite3
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import TracebackType

import numpy as np
import numpy.typing as npt

from ..errors import GalleryError, ShapeError
from .columns import ColumnValue, cells, to_json
from .items import ITEM_FIELDS, StoredItem, item_of
from .lock import WriterLock
from .schema import LOCK, check_format, connect_writer, database_errors
from .segments import (
    HALF,
    LENGTH_TOLERANCE,
    SEGMENT_BYTES,
    AppendFile,
    Rows,
    Segment,
    SegmentKind,
    check_size,
    segment_name,
)
from .store import Gallery, read_segments

_log = logging.getLogger("unifashion.retrieval")
_KINDS: tuple[SegmentKind, ...] = ("tokens", "captions")


class GalleryWriter:
    """Exclusive writing access, as a context manager: commits at its end, rolls back on an error.

    Args:
        gallery: The gallery; its readers may go on.
        segment_bytes: Size from which a new segment file is begun.

    Attributes:
        gallery: The gallery.
        recovered: What a killed writer had left and this one removed, a sentence each.

    Raises:
        GalleryBusyError: If another writer is at work.
        GalleryError: If the gallery is damaged.
    """

    def __init__(self, gallery: Gallery, *, segment_bytes: int = SEGMENT_BYTES) -> None:
        self.gallery = gallery
        self.recovered: tuple[str, ...] = ()
        self._segment_bytes = segment_bytes
        self._files: dict[SegmentKind, AppendFile] = {}
        self._changes_before = 0
        with self._errors():
            self._lock = WriterLock(gallery.path / LOCK, gallery.name)
        try:
            with self._errors():
                self._connection = connect_writer(gallery.path)
                check_format(self._connection, gallery.name, gallery.path)
                self.recovered = tuple(self._recover())
        except BaseException:
            self.close()
            raise

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
        for file in self._files.values():
            file.close()
        if hasattr(self, "_connection"):
            self._connection.close()
        self._lock.release()

    @contextmanager
    def _errors(self) -> Generator[None]:
        with database_errors(self.gallery.name):
            try:
                yield
            except OSError as e:
                raise GalleryError(
                    f"Gallery '{self.gallery.name}': can't be written ({e.strerror or e}). Make "
                    "room on "
                    f"the disk or check the rights of {self.gallery.path}; what was committed is "
                    "whole."
                ) from e

    # ---- vectors

    def _recover(self) -> Iterator[str]:
        """Remove what was never committed."""
        names: set[str] = set()
        for kind in _KINDS:
            segments = read_segments(self._connection, kind)
            names |= {segment.file for segment in segments}
            for segment in segments:
                check_size(
                    self.gallery.path, segment, self.gallery.row_shape(kind), self.gallery.name
                )
                file = self._open(kind, segment)
                extra = file.cut(segment.rows)
                if segment == segments[-1]:
                    self._files[kind] = file
                else:
                    file.close()
                if extra:
                    yield f"{segment.file}: {extra:,} bytes behind the last commit removed"
        for kind in _KINDS:
            for path in sorted(self.gallery.path.glob(f"{kind}-*.f16")):
                if path.name not in names:
                    path.unlink()
                    yield f"{path.name}: a segment that was never committed removed"

    def _open(self, kind: SegmentKind, segment: Segment) -> AppendFile:
        return AppendFile(self.gallery.path / segment.file, segment, self.gallery.row_shape(kind))

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
        half = values.astype(HALF)
        lengths = np.linalg.norm(half.astype(np.float32), axis=-1)
        if not (np.abs(lengths - 1.0) < LENGTH_TOLERANCE).all():  # NaN fails this too
            raise ShapeError(
                f"Gallery '{self.gallery.name}': got {kind} that aren't unit vectors. "
                "Check the encoder's weights and dtype."
            )
        with self._errors():
            first = self._append_file(kind).append(half)
        return np.arange(first, first + len(half), dtype=np.int64)

    def _append_file(self, kind: SegmentKind) -> AppendFile:
        file = self._files.get(kind)
        shape = self.gallery.row_shape(kind)
        row_bytes = int(np.prod(shape)) * HALF.itemsize
        if file is not None and file.rows * row_bytes < self._segment_bytes:
            return file
        first_row = 0
        if file is not None:
            first_row = file.segment.first_row + file.rows
            self._save_rows(file)  # full: it is closed, so its rows are made durable now
            file.close()
        self._begin()
        (number,) = self._connection.execute(
            "SELECT count(*) + 1 FROM segments WHERE kind = ?", [kind]
        ).fetchone()
        segment = Segment(segment_name(kind, number), first_row, 0)
        self._connection.execute(
            "INSERT INTO segments (kind, file, first_row, rows) VALUES (?, ?, ?, 0)",
            [kind, segment.file, first_row],
        )
        self._files[kind] = self._open(kind, segment)
        return self._files[kind]

    def _save_rows(self, file: AppendFile) -> None:
        file.sync()
        self._connection.execute(
            "UPDATE segments SET rows = ? WHERE file = ? AND rows <> ?",
            [file.rows, file.segment.file, file.rows],
        )

    # ---- items

    def root_id(self, root: str) -> int:
        """The id of an indexed folder, by its absolute path with forward slashes."""
        with self._errors():
            self._begin()
            self._connection.execute("INSERT OR IGNORE INTO roots (path) VALUES (?)", [root])
            (found,) = self._connection.execute(
                "SELECT id FROM roots WHERE path = ?", [root]
            ).fetchone()
        return found

    def items_of(self, root: str) -> dict[str, StoredItem]:
        """The items of an indexed folder, by file."""
        with self._errors():
            rows = self._connection.execute(
                f"SELECT {ITEM_FIELDS} FROM items JOIN roots ON roots.id = root WHERE roots.path = "
                "?",
                [root],
            )
            return {item.file: item for item in map(item_of, rows)}

    def token_rows(self) -> dict[bytes, int]:
        """The row of tokens of each known content (SHA-256, 32 bytes)."""
        with self._errors():
            return dict(self._connection.execute("SELECT content, token_row FROM items").fetchall())

    @property
    def count(self) -> int:
        """Live items, with what isn't committed yet."""
        with self._errors():
            (count,) = self._connection.execute("SELECT count(*) FROM items").fetchone()
        return count

    @contextmanager
    def together(self) -> Generator[None]:
        """Changes inside happen all or, on any exception, not at all; nests in a commit."""
        with self._errors():
            self._begin()
            self._connection.execute("SAVEPOINT together")
        try:
            yield
        except BaseException:
            self._connection.execute("ROLLBACK TO together")
            self._connection.execute("RELEASE together")
            raise
        self._connection.execute("RELEASE together")

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
        with self._errors():
            self._begin()
            self._connection.execute(
                """INSERT INTO items (root, file, size, mtime_ns, content, token_row)
                   VALUES (?, ?, ?, ?, ?, ?)
                   ON CONFLICT (root, file) DO UPDATE SET size = excluded.size, missing = 0,
                   mtime_ns = excluded.mtime_ns, content = excluded.content,
                   token_row = excluded.token_row""",
                [root, file, size, mtime_ns, content, int(token_row)],
            )
            (item_id,) = self._connection.execute(
                "SELECT id FROM items WHERE root = ? AND file = ?", [root, file]
            ).fetchone()
        return item_id

    def put_columns(self, item_id: int, columns: Mapping[str, ColumnValue]) -> None:
        """Replace the metadata of an item."""
        rows = [(item_id, *cell) for cell in cells(columns)]
        with self._errors():
            self._begin()
            self._connection.execute(
                "UPDATE items SET columns = ? WHERE id = ?", [to_json(columns), item_id]
            )
            self._connection.execute("DELETE FROM cells WHERE item = ?", [item_id])
            self._connection.executemany(
                "INSERT INTO cells (item, column, text, number) VALUES (?, ?, ?, ?)", rows
            )

    def put_caption(self, item_id: int, caption_row: int | None) -> None:
        """Point an item at its caption's newest vector, or at none."""
        self._many("UPDATE items SET caption_row = ? WHERE id = ?", [(caption_row, item_id)])

    def put_missing(self, item_ids: Iterable[int], missing: bool) -> None:
        """Say of items whether their files were found."""
        self._many("UPDATE items SET missing = ? WHERE id = ?", [(missing, i) for i in item_ids])

    def remove(self, item_ids: Iterable[int]) -> None:
        """Remove items; their rows of vectors stay as they are, without an item."""
        self._many("DELETE FROM items WHERE id = ?", [(item_id,) for item_id in item_ids])

    def _many(self, sql: str, rows: list[tuple[int | None, ...]]) -> None:
        if rows:
            with self._errors():
                self._begin()
                self._connection.executemany(sql, rows)

    # ---- commits

    def _begin(self) -> None:
        if not self._connection.in_transaction:
            self._connection.execute("BEGIN IMMEDIATE")
            self._changes_before = self._connection.total_changes

    def commit(self) -> None:
        """Make every change so far durable as the next revision; does nothing without one."""
        if not self._connection.in_transaction:
            return
        with self._errors():
            for file in self._files.values():
                self._save_rows(file)
            if self._connection.total_changes != self._changes_before:
                self._connection.execute("UPDATE meta SET value = value + 1 WHERE key = 'revision'")
            self._connection.execute("COMMIT")
        _log.debug("gallery '%s': committed", self.gallery.name)

    def rollback(self) -> None:
        """Drop every change since the last commit."""
        if self._connection.in_transaction:
            with contextlib.suppress(sqlite3.Error):  # a failed disk may have ended it already
                self._connection.execute("ROLLBACK")
        for file in self._files.values():
            file.close()
        self._files.clear()
        with self._errors():
            for _ in self._recover():
                pass


def open_writer(gallery: Gallery) -> GalleryWriter:
    """Begin to write to a gallery.

    Raises:
        GalleryBusyError: If another writer is at work.
    """
    return GalleryWriter(gallery)

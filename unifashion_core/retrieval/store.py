"""The gallery on disk, as its readers see it: committed rows only, one revision at a time.

A gallery is a folder with a SQLite database (schema.py) and segments of vectors (segments.py). Any
number of readers look at it while one writer (writer.py) adds to it. Nothing here loads torch or an
encoder.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import shutil
import sqlite3
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from pathlib import Path

import numpy as np

from ..errors import GalleryBusyError, GalleryError
from ..types import FashionEncoder
from .columns import fold
from .filters import Clause, check_columns, selection
from .items import ITEM_FIELDS, ItemRows, StoredItem, item_of
from .lock import WriterLock
from .schema import (
    DATABASE,
    LOCK,
    check_format,
    connect_reader,
    create_database,
    database_errors,
)
from .segments import MappedRows, Rows, Segment, SegmentKind, sync_folder


class Gallery:
    """A gallery that was opened for reading; costs nothing while it isn't read.

    Attributes:
        path: Its folder.
        name: The folder's name.
        fingerprint: Of the encoder that made it.
        encoder_name: What that encoder was called.
        tokens_per_image: Tokens of an image, T.
        width: Length of a vector, D.

    Raises:
        GalleryError: If there is none at `path`, or it is damaged or of a newer format.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.name = path.name
        if not (path / DATABASE).is_file():
            raise GalleryError(
                f"Gallery '{self.name}': not found at {path}. Index a folder into it first, or "
                "check the name."
            )
        self._item_rows: tuple[int, ItemRows] | None = None
        with self._connection() as connection:
            check_format(connection, self.name, path)
            meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        try:
            self.fingerprint = str(meta["fingerprint"])
            self.encoder_name = str(meta["encoder_name"])
            self.tokens_per_image = int(meta["tokens_per_image"])
            self.width = int(meta["width"])
        except KeyError as e:
            raise GalleryError(
                f"Gallery '{self.name}': its database lacks {e}. Restore a copy, or index again."
            ) from e

    @property
    def revision(self) -> int:
        """Number of the newest commit."""
        with self.snapshot() as snapshot:
            return snapshot.revision

    @property
    def count(self) -> int:
        """Live items of the newest commit."""
        with self.snapshot() as snapshot:
            return snapshot.count

    @property
    def columns(self) -> tuple[str, ...]:
        """Metadata columns that some item has, sorted."""
        with self.snapshot() as snapshot:
            return snapshot.columns

    def row_shape(self, kind: SegmentKind) -> tuple[int, ...]:
        """Shape of one stored row: (T, D) for tokens, (D,) for captions."""
        return (self.tokens_per_image, self.width) if kind == "tokens" else (self.width,)

    def require_encoder(self, fingerprint: str) -> None:
        """Refuse another encoder than the gallery's.

        Raises:
            GalleryError: It names both and says what to do.
        """
        if fingerprint != self.fingerprint:
            raise GalleryError(
                f"Gallery '{self.name}': made with encoder {self.fingerprint[:8]}… "
                f"({self.encoder_name}), "
                f"connected encoder is {fingerprint[:8]}…. Re-index, or load the matching encoder."
            )

    @contextmanager
    def snapshot(self) -> Generator[Snapshot]:
        """The newest revision; later commits don't show in it.

        Raises:
            GalleryError: If the database or a segment is damaged.
        """
        with self._connection() as connection:
            connection.execute("BEGIN")
            yield Snapshot(self, connection)

    @contextmanager
    def _connection(self) -> Generator[sqlite3.Connection]:
        with (
            database_errors(self.name),
            contextlib.closing(connect_reader(self.path)) as connection,
        ):
            connection.create_function("fold", 1, fold, deterministic=True)
            yield connection

    def remembered_rows(self, revision: int) -> ItemRows | None:
        """The item rows of a revision, if they are the ones read last."""
        kept = self._item_rows
        return kept[1] if kept is not None and kept[0] == revision else None

    def remember_rows(self, revision: int, rows: ItemRows) -> None:
        """Keep the item rows of the newest revision for the next search."""
        self._item_rows = (revision, rows)


class Snapshot:
    """One revision of a gallery, inside `Gallery.snapshot`.

    Attributes:
        gallery: The gallery.
        revision: Number of its commit.
    """

    def __init__(self, gallery: Gallery, connection: sqlite3.Connection) -> None:
        self.gallery = gallery
        self._connection = connection
        (self.revision,) = self._one("SELECT value FROM meta WHERE key = 'revision'")

    def _one(self, sql: str, values: Sequence[object] = ()) -> tuple[int, ...]:
        return self._connection.execute(sql, values).fetchone()

    @property
    def count(self) -> int:
        """Live items."""
        return self._one("SELECT count(*) FROM items")[0]

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
               SELECT name FROM found WHERE name IS NOT NULL"""
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
        check_columns(clauses, self.columns, self.gallery.name)
        keep = np.ones(len(rows), np.bool_)
        for clause in clauses:
            chosen = selection(clause)
            found = self._integers([chosen.item], chosen.source, chosen.values)[0]
            keep &= np.isin(rows.ids, found, invert=chosen.negated)
        return rows.subset(keep)

    def _read_item_rows(self) -> ItemRows:
        names = ["id", "token_row", "coalesce(caption_row, -1)"]
        columns = self._integers(names, "items")
        order = np.argsort(columns[0], kind="stable")
        rows = ItemRows(*(column[order] for column in columns))
        self.gallery.remember_rows(self.revision, rows)
        return rows

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
            GalleryError: If an id isn't a live item.
        """
        found: dict[int, StoredItem] = {}
        for start in range(0, len(item_ids), 500):  # SQLite allows 999 parameters in old versions
            part = [int(item_id) for item_id in item_ids[start : start + 500]]
            marks = ", ".join("?" * len(part))
            rows = self._connection.execute(
                f"SELECT {ITEM_FIELDS} FROM items JOIN roots ON roots.id = root WHERE items.id IN "
                f"({marks})",
                part,
            )
            found.update((item.item_id, item) for item in map(item_of, rows))
        lost = [item_id for item_id in item_ids if item_id not in found]
        if lost:
            raise GalleryError(
                f"Gallery '{self.gallery.name}': no item {lost[0]} at revision {self.revision}. "
                "Search again."
            )
        return [found[item_id] for item_id in item_ids]

    def vectors(self, kind: SegmentKind) -> MappedRows:
        """The stored rows of a kind, float16: (T, D) each for tokens, (D,) each for captions.

        Raises:
            GalleryError: If a file is missing or shorter than what was committed.
        """
        gallery = self.gallery
        segments = read_segments(self._connection, kind)
        return MappedRows(gallery.path, segments, gallery.row_shape(kind), gallery.name)


def read_segments(connection: sqlite3.Connection, kind: SegmentKind) -> list[Segment]:
    """The committed segments of a kind, in row order."""
    rows = connection.execute(
        "SELECT file, first_row, rows FROM segments WHERE kind = ? ORDER BY first_row", [kind]
    )
    return [Segment(*row) for row in rows]


def open_gallery(path: Path, *, fingerprint: str | None = None) -> Gallery:
    """Open a gallery for reading.

    Args:
        path: Its folder.
        fingerprint: Of the connected encoder; checked where it is given.

    Raises:
        GalleryError: If there is none, it is damaged, of a newer format or of another encoder.
    """
    gallery = Gallery(path)
    if fingerprint is not None:
        gallery.require_encoder(fingerprint)
    return gallery


def create_gallery(
    path: Path, *, fingerprint: str, tokens_per_image: int, width: int, encoder_name: str
) -> Gallery:
    """Make an empty gallery; it appears under its name only when it is whole.

    Args:
        path: Its folder; absent or empty. Folders above it are made.
        fingerprint: Of the encoder that will fill it.
        tokens_per_image: Tokens of an image, T.
        width: Length of a vector, D.
        encoder_name: What to call that encoder in messages.

    Raises:
        GalleryError: If the folder holds something, or can't be made.
    """
    if path.exists() and (not path.is_dir() or any(path.iterdir())):
        what = (
            "there is one already" if (path / DATABASE).exists() else "the folder holds other files"
        )
        raise GalleryError(
            f"Gallery '{path.name}': {what} at {path}. Choose another name or folder."
        )
    meta: dict[str, str | int] = {
        "fingerprint": fingerprint,
        "encoder_name": encoder_name,
        "tokens_per_image": tokens_per_image,
        "width": width,
        "revision": 0,
    }
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        _remove_leftovers(path)
        _create(path, meta)
    except OSError as e:
        raise GalleryError(
            f"Gallery '{path.name}': can't be made at {path} ({e.strerror or e}). "
            "Choose a folder that may be written and has room."
        ) from e
    return Gallery(path)


def gallery_for(path: Path, encoder: FashionEncoder) -> Gallery:
    """The gallery at a path, made where there is none, for an encoder to fill.

    Args:
        path: Its folder; absent, empty, or a gallery of this encoder.
        encoder: What will read its pictures.

    Raises:
        GalleryError: As `create_gallery` and `open_gallery`.
    """
    if path.is_dir() and any(path.iterdir()):
        return open_gallery(path, fingerprint=encoder.fingerprint)
    return create_gallery(
        path,
        fingerprint=encoder.fingerprint,
        tokens_per_image=encoder.tokens_per_image,
        width=encoder.width,
        encoder_name=encoder.name,
    )


def _create(path: Path, meta: dict[str, str | int]) -> None:
    building = path.with_name(f".{path.name}.{secrets.token_hex(4)}.creating")
    building.mkdir()
    try:
        # The lock says that this folder's maker lives; Windows can't rename a folder with open
        # files.
        with WriterLock(building / LOCK, path.name), database_errors(path.name):
            create_database(building, meta)
            sync_folder(building)
        if path.is_dir():
            path.rmdir()  # empty, as was checked
        os.rename(building, path)
        sync_folder(path.parent)
    except BaseException:
        shutil.rmtree(building, ignore_errors=True)
        raise


def _remove_leftovers(path: Path) -> None:
    """Remove what a killed `create_gallery` of this name left."""
    # Compared by hand: a name may hold the signs of a glob pattern.
    for left in list(path.parent.iterdir()):
        if left.name.startswith(f".{path.name}.") and left.name.endswith(".creating"):
            with contextlib.suppress(GalleryBusyError, OSError):
                with WriterLock(left / LOCK, path.name):
                    pass
                shutil.rmtree(left)

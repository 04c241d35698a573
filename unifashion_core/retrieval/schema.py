"""The gallery's database: its tables, its format version, and how reader and writer connect."""

from __future__ import annotations

import os
import sqlite3
import zlib
from collections.abc import Mapping
from pathlib import Path
from types import TracebackType

from ..errors import GalleryError
from .gone import GONE

DATABASE = "gallery.db"
LOCK = "writer.lock"
READERS = "readers.lock"
APPLICATION_ID = 0x55464731  # "UFG1"
FORMAT = 3
MAPPED_BYTES = 1 << 30
"""Of the database, which a writer reads where they lie."""
CACHE_BYTES = 1 << 24
"""Of pages that a writer keeps: contents fall all over their index."""

# items.token_row and items.caption_row are row numbers over all segments of their kind; equal
# content shares a token row. items.columns is the truth about an item's metadata, as JSON; `cells`
# repeats it, a row for each value of a list, in the form that filters compare: folded text, and the
# number if it is one. items.sum guards the other fields against a damaged file. `garbage` names
# files that no segment uses any more and that go once no reader maps them. For `gone` and `live`
# see gone.py.
SEGMENTS = """
CREATE TABLE segments (
    id INTEGER PRIMARY KEY,
    kind TEXT NOT NULL,
    file TEXT NOT NULL,
    first_row INTEGER NOT NULL,
    rows INTEGER NOT NULL,
    offset INTEGER NOT NULL,
    rows_check INTEGER NOT NULL,
    copy_check INTEGER NOT NULL,
    UNIQUE (file, offset)
);
CREATE TABLE garbage (file TEXT PRIMARY KEY) WITHOUT ROWID;
"""
_SUM_OF = """item_sum((SELECT path FROM roots WHERE id = {0}root), {0}file, {0}size, {0}mtime_ns,
    {0}content, {0}token_row, {0}caption_row, {0}missing, {0}columns)"""
# An insert brings its sum along: that is quicker than a trigger.
SUMS = f"""
CREATE TRIGGER items_changed AFTER UPDATE OF
    root, file, size, mtime_ns, content, token_row, caption_row, missing, columns ON items BEGIN
    UPDATE items SET sum = {_SUM_OF.format("NEW.")} WHERE id = NEW.id;
END;
"""
SUM_ALL = f"UPDATE items SET sum = {_SUM_OF.format('')}"
TABLES = f"""
CREATE TABLE meta (key TEXT PRIMARY KEY, value) WITHOUT ROWID;
{SEGMENTS}
CREATE TABLE roots (id INTEGER PRIMARY KEY, path TEXT NOT NULL UNIQUE);
CREATE TABLE items (
    id INTEGER PRIMARY KEY AUTOINCREMENT,
    root INTEGER NOT NULL REFERENCES roots (id),
    file TEXT NOT NULL,
    size INTEGER NOT NULL,
    mtime_ns INTEGER NOT NULL,
    content BLOB NOT NULL,
    token_row INTEGER NOT NULL,
    caption_row INTEGER,
    missing INTEGER NOT NULL DEFAULT 0,
    columns TEXT NOT NULL DEFAULT '{{}}',
    sum INTEGER,
    UNIQUE (root, file)
);
CREATE INDEX items_by_content ON items (content);
CREATE TABLE cells (
    item INTEGER NOT NULL REFERENCES items (id) ON DELETE CASCADE,
    column TEXT NOT NULL,
    text TEXT NOT NULL,
    number
);
CREATE INDEX cells_by_item ON cells (item);
CREATE INDEX cells_by_text ON cells (column, text, item);
CREATE INDEX cells_by_number ON cells (column, number, item) WHERE number IS NOT NULL;
{GONE}{SUMS}"""
_CONSTANTS = ("fingerprint", "encoder_name", "tokens_per_image", "width")


class database_errors:  # used as a function
    """Turns SQLite's errors into ours, as a context manager; cheap enough for each item.

    Args:
        gallery: Its name.
        folder: Where given, what the disk refuses is turned into ours too.
    """

    def __init__(self, gallery: str, folder: Path | None = None) -> None:
        self._gallery, self._folder = gallery, folder

    def __enter__(self) -> None:
        pass

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if isinstance(error, sqlite3.Error):
            raise GalleryError(
                f"Gallery '{self._gallery}': its database can't be used ({error}). Check that the "
                "disk has room and that the folder may be used; if the file is damaged, restore a "
                "copy or index again."
            ) from error
        if self._folder is not None and isinstance(error, OSError):
            raise GalleryError(
                f"Gallery '{self._gallery}': can't be written ({error.strerror or error}). Make "
                f"room on the disk or check the rights of {self._folder}; what was committed is "
                "whole."
            ) from error


def connect_reader(folder: Path) -> sqlite3.Connection:
    """A connection that can't write, usable from any thread."""
    database = folder / DATABASE
    options = "mode=ro"
    if not os.access(folder, os.W_OK) and not (folder / f"{DATABASE}-wal").exists():
        options += (
            "&immutable=1"  # a read-only disk can't hold WAL's index file, and nobody writes there
        )
    return _connect(f"{database.absolute().as_uri()}?{options}")


def begin_reading(connection: sqlite3.Connection) -> int:
    """Begin to look at one revision; `gone` and `live` are there in every format.

    Returns:
        The format.
    """
    connection.execute("BEGIN")
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version < 3:
        connection.execute("CREATE TEMP VIEW gone AS SELECT 0 AS item, 0 AS sum WHERE 0")
        connection.execute("CREATE TEMP VIEW live AS SELECT * FROM items")
    return version


def item_sum(*fields: object) -> int:
    """CRC-32 over the fields of an item, in the order of `ITEM_FIELDS` without its id."""
    return zlib.crc32(repr(fields).encode())


def meta_sum(meta: Mapping[str, object]) -> int:
    """CRC-32 over what a gallery's `meta` says of its encoder."""
    return zlib.crc32("\0".join(str(meta[name]) for name in _CONSTANTS).encode())


def run_statements(connection: sqlite3.Connection, script: str) -> None:
    """Run statements inside the open transaction, which `executescript` would end."""
    statement = ""
    for part in script.split(";"):
        statement += part
        if statement.strip() and sqlite3.complete_statement(statement + ";"):
            connection.execute(statement)
            statement = ""
        elif statement.strip():
            statement += ";"


def connect_writer(folder: Path) -> sqlite3.Connection:
    """A connection that commits durably; the caller holds the writer's lock."""
    database = folder / DATABASE
    connection = _connect(f"{database.absolute().as_uri()}?mode=rw")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("PRAGMA foreign_keys = ON")
    # Looking up items all over the file would mostly be the system's calls for their pages.
    connection.execute(f"PRAGMA mmap_size = {MAPPED_BYTES}")
    connection.execute(f"PRAGMA cache_size = -{CACHE_BYTES >> 10}")
    connection.create_function("item_sum", -1, item_sum, deterministic=True)
    return connection


def _connect(uri: str) -> sqlite3.Connection:
    # isolation_level None: transactions begin and end where our code says so.
    return sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=10.0, check_same_thread=False
    )


def create_database(folder: Path, meta: dict[str, str | int]) -> None:
    """Write the empty database of a new gallery."""
    connection = sqlite3.connect(folder / DATABASE, isolation_level=None)
    connection.create_function("item_sum", -1, item_sum, deterministic=True)
    try:
        connection.execute("PRAGMA journal_mode = WAL")
        connection.execute("PRAGMA synchronous = FULL")
        connection.execute(f"PRAGMA application_id = {APPLICATION_ID}")
        connection.execute("BEGIN")
        run_statements(connection, TABLES)
        meta = {**meta, "sum": meta_sum(meta)}
        connection.executemany("INSERT INTO meta VALUES (?, ?)", list(meta.items()))
        connection.execute(f"PRAGMA user_version = {FORMAT}")
        connection.execute("COMMIT")
    finally:
        connection.close()


def check_format(connection: sqlite3.Connection, gallery: str, folder: Path) -> int:
    """Refuse a database that isn't a gallery's, or is of a newer format.

    Returns:
        Its format.

    Raises:
        GalleryError: If so.
    """
    (application,) = connection.execute("PRAGMA application_id").fetchone()
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if application != APPLICATION_ID:
        raise GalleryError(
            f"Gallery '{gallery}': {folder / DATABASE} is not a gallery's database. Choose another "
            "folder."
        )
    if not 1 <= version <= FORMAT:
        raise GalleryError(
            f"Gallery '{gallery}': made with format {version}, this version reads up to {FORMAT}. "
            "Update ComfyUI-UniFashion."
        )
    return version

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
from collections.abc import Generator
from contextlib import contextmanager
from pathlib import Path

from ..errors import GalleryBusyError, GalleryError
from ..types import FashionEncoder
from .columns import fold
from .items import ItemRows
from .layout import SegmentKind, sync_folder
from .lock import WriterLock, reading
from .schema import (
    DATABASE,
    LOCK,
    READERS,
    begin_reading,
    check_format,
    connect_reader,
    create_database,
    database_errors,
    meta_sum,
)
from .segments import SegmentFiles, SegmentView, damaged
from .snapshot import Snapshot


class Gallery:
    """A gallery that was opened for reading; costs nothing while it isn't read.

    Attributes:
        path: Its folder.
        name: The folder's name.
        fingerprint: Of the encoder that made it.
        encoder_name: What that encoder was called.
        tokens_per_image: Tokens of an image, T.
        width: Length of a vector, D.
        files: Its mapped files, which one snapshot leaves to the next.

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
        self.files = SegmentFiles(path, self.name)
        with self._connection() as connection:
            check_format(connection, self.name, path)
            meta = dict(connection.execute("SELECT key, value FROM meta").fetchall())
        try:
            self.fingerprint = str(meta["fingerprint"])
            self.encoder_name = str(meta["encoder_name"])
            self.tokens_per_image = int(meta["tokens_per_image"])
            self.width = int(meta["width"])
        except (KeyError, ValueError) as e:
            raise GalleryError(
                f"Gallery '{self.name}': its database lacks {e}. Restore a copy, or index again."
            ) from e
        if meta.get("sum", meta_sum(meta)) != meta_sum(meta):
            raise damaged(f"Gallery '{self.name}': {DATABASE} (about its encoder)")

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
        with reading(self.path / READERS), self._connection() as connection:
            yield Snapshot(self, connection, begin_reading(connection))

    def segments(self) -> tuple[SegmentView, ...]:
        """The newest revision's segments of tokens, for a scan; see `Snapshot.segments`."""
        with self.snapshot() as snapshot:
            return snapshot.segments()

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

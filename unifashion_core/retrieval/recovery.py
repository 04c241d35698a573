"""What a killed writer leaves, and files that a compaction replaced: removed by whoever gets the
writer's lock next."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import zlib
from collections.abc import Iterator
from pathlib import Path

from .appending import cut
from .layout import SUFFIX, SegmentKind, segment_bytes
from .lock import without_readers
from .schema import DATABASE, READERS
from .segments import check_file
from .snapshot import read_segments
from .store import Gallery

SEAL = f"{DATABASE}.sum"
KINDS: tuple[SegmentKind, ...] = ("tokens", "captions")


def committed_files(gallery: Gallery, connection: sqlite3.Connection) -> dict[str, int]:
    """The files of committed segments and how many bytes of each count."""
    ends: dict[str, int] = {}
    for kind in KINDS:
        shape = gallery.row_shape(kind)
        for segment in read_segments(connection, kind):
            end = segment.offset + segment_bytes(segment, shape)
            ends[segment.file] = max(end, ends.get(segment.file, 0))
    return ends


def segment_paths(gallery: Gallery, kind: SegmentKind | None = None) -> list[Path]:
    """The files of segments that lie in a gallery's folder, of any format, committed or not."""
    kinds = KINDS if kind is None else (kind,)
    return sorted(
        path
        for one in kinds
        for suffix in (SUFFIX, ".f16")
        for path in gallery.path.glob(f"{one}-[0-9]*{suffix}")
    )


def recover(
    gallery: Gallery, connection: sqlite3.Connection, *, check: bool = True
) -> Iterator[str]:
    """Remove what was never committed, and what no reader needs any more.

    Args:
        gallery: The gallery; the caller holds the writer's lock.
        connection: The writer's.
        check: Whether a committed file that is missing or too short is an error.

    Returns:
        What was removed, a sentence each.

    Raises:
        GalleryError: As said under `check`.
    """
    files = committed_files(gallery, connection)
    for file, end in files.items():
        if check:
            check_file(gallery.path, file, end, gallery.name)
        extra = cut(gallery.path / file, end) if (gallery.path / file).is_file() else 0
        if extra:
            yield f"{file}: {extra:,} bytes behind the last commit removed"
    sweep(gallery, connection)
    known = {*files, *garbage(connection)}
    for path in segment_paths(gallery):
        if path.name not in known:
            path.unlink()
            yield f"{path.name}: a segment that was never committed removed"


def garbage(connection: sqlite3.Connection) -> list[str]:
    """Files that no segment uses any more and that are still there."""
    (version,) = connection.execute("PRAGMA user_version").fetchone()
    if version == 1:
        return []
    return [file for (file,) in connection.execute("SELECT file FROM garbage")]


def sweep(gallery: Gallery, connection: sqlite3.Connection) -> None:
    """Delete files that a compaction replaced, unless a reader looks at the gallery now."""
    files = garbage(connection)
    if not files:
        return
    gone: list[tuple[str]] = []
    with without_readers(gallery.path / READERS) as alone:
        for file in files if alone else ():
            with contextlib.suppress(PermissionError):  # Windows keeps what is mapped
                (gallery.path / file).unlink(missing_ok=True)
                gone.append((file,))
    connection.executemany("DELETE FROM garbage WHERE file = ?", gone)


# ---- the seal: a checksum of the database's file, while no writer is at work


def seal(folder: Path) -> None:
    """Note the checksum of a database that was closed; the caller holds the writer's lock."""
    if (folder / f"{DATABASE}-wal").exists() and (folder / f"{DATABASE}-wal").stat().st_size:
        return  # a reader kept SQLite from merging its log: no use in the file's sum
    part = folder / f"{SEAL}.part"
    with contextlib.suppress(OSError):  # without a seal a validation checks a little less
        part.write_text(file_sum(folder / DATABASE), "ascii")
        os.replace(part, folder / SEAL)


def break_seal(folder: Path) -> bool:
    """Say that the database will change; the caller holds the writer's lock.

    Returns:
        Whether there was a seal, and it fitted.
    """
    path = folder / SEAL
    try:
        fits = path.read_text("ascii", "replace") == file_sum(folder / DATABASE)
        path.unlink()
    except OSError:
        return False
    return fits


def seal_fits(folder: Path) -> bool:
    """Whether the database's file is as its last writer left it; True where nothing tells."""
    try:
        return (folder / SEAL).read_text("ascii", "replace") == file_sum(folder / DATABASE)
    except OSError:
        return True


def file_sum(path: Path) -> str:
    """CRC-32 and size of a file, as text."""
    total = 0
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            total = zlib.crc32(block, total)
        return f"{total:08x} {file.tell()}"

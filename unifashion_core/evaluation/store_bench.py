"""How fast the gallery's store is, beside a loop that writes the same bytes and syncs as often."""

from __future__ import annotations

import os
import sqlite3
import statistics
import time
from collections.abc import Callable
from pathlib import Path

from ..retrieval.layout import HALF, Half, Segment, segment_bytes
from ..retrieval.store import create_gallery, open_gallery
from ..retrieval.writer import GalleryWriter
from ..types import OnStep

_COMMIT = 1000
_FEW = 100
_ROUNDS = 41  # of what takes a millisecond or less, where a single wait of the disk shows
_SWEEP = 11  # removals that go over the whole gallery once
_LOG = 300  # bytes that an item takes in the database's log


def measure_store(
    vectors: Half, folder: Path, *, on_step: OnStep | None = None
) -> dict[str, float]:
    """Fill a gallery with vectors and measure it; both loops take turns.

    Args:
        vectors: Unit vectors, (N, T, D), float16; at least 1,000 images.
        folder: Empty; takes about 50 KB an image, which the caller deletes.
        on_step: Called with (images done, images).

    Returns:
        `ingest_ratio`: our rate over the plain loop's. `add100_ratio`, `remove100_ratio`: our time
        over that of the loop, and over one commit of SQLite. `open_ms`: until the revision is
        known. `disk_ratio`: bytes on the disk over those of the float16 vectors.
    """
    path, (images, tokens, width) = folder / "gallery", vectors.shape
    gallery = create_gallery(
        path, fingerprint="bench", tokens_per_image=tokens, width=width, encoder_name="bench"
    )
    plain = _PlainLoop(folder, tokens, width)
    ours, theirs = list[float](), list[float]()
    with GalleryWriter(gallery) as writer:
        for done in range(0, images, _COMMIT):
            batch = vectors[done : done + _COMMIT]
            ours.append(_seconds(lambda b=batch, d=done: _add(writer, b, d)))
            theirs.append(_seconds(lambda b=batch: plain.write(len(b))))
            if on_step is not None:
                on_step(done + len(batch), images)
        few = _few(writer, plain, vectors[:_FEW], images)
        removals = _removals(writer, folder, images)
    size = sum(file.stat().st_size for file in path.iterdir())
    stored = (images + _ROUNDS * _FEW) * tokens * width * HALF.itemsize
    opened = [_seconds(lambda: open_gallery(path).revision) for _ in range(_ROUNDS)]
    plain.close()
    return {
        "ingest_ratio": sum(theirs) / sum(ours),
        "images_a_second": images / sum(ours),
        "add100_ratio": few,
        "remove100_ratio": removals,
        "open_ms": 1e3 * statistics.median(opened),
        "disk_ratio": size / stored,
    }


def _seconds(run: Callable[[], object]) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _add(writer: GalleryWriter, vectors: Half, first: int) -> None:
    root = writer.root_id("/bench")
    rows = writer.append("tokens", vectors)
    for number, row in enumerate(rows.tolist(), start=first):
        content = number.to_bytes(32, "big")
        writer.put_image(root, f"{number:08d}.jpg", 1, 2, content, token_row=row)
    writer.commit()


class _PlainLoop:
    """Appends as many bytes to two files as a commit does, and syncs as often."""

    def __init__(self, folder: Path, tokens: int, width: int) -> None:
        self._shape = (tokens, width)
        flags = os.O_RDWR | os.O_CREAT | getattr(os, "O_BINARY", 0)
        self._files = [os.open(folder / name, flags, 0o666) for name in ("plain", "log")]
        self._data = os.urandom(self._size(_COMMIT))

    def _size(self, count: int) -> int:
        return segment_bytes(Segment("", 0, count, 0, 0, 0), self._shape)

    def write(self, count: int) -> None:
        for file, size in zip(self._files, (self._size(count), count * _LOG), strict=True):
            data = memoryview(self._data)[:size]
            while data:
                data = data[os.write(file, data) :]
            os.fsync(file)

    def close(self) -> None:
        for file in self._files:
            os.close(file)


def _few(writer: GalleryWriter, plain: _PlainLoop, vectors: Half, first: int) -> float:
    """Time of adding 100 over that of the plain loop."""
    ours, theirs = list[float](), list[float]()
    for number in range(_ROUNDS):
        start = first + number * _FEW
        ours.append(_seconds(lambda s=start: _add(writer, vectors, s)))
        theirs.append(_seconds(lambda: plain.write(_FEW)))
    return statistics.median(ours) / statistics.median(theirs)


def _removals(writer: GalleryWriter, folder: Path, images: int) -> float:
    """Time of removing 100 over that of one full commit of SQLite."""
    connection = sqlite3.connect(folder / "plain.db", isolation_level=None)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = FULL")
    connection.execute("CREATE TABLE t (x)")
    ours, theirs = list[float](), list[float]()
    for number in range(_ROUNDS):
        ids = _ids_apart(images, number)
        ours.append(_seconds(lambda i=ids: _remove(writer, i)))
        theirs.append(_seconds(lambda: connection.execute("INSERT INTO t VALUES (1)")))
    connection.close()
    return statistics.median(ours) / statistics.median(theirs)


def _ids_apart(images: int, number: int) -> list[int]:
    """Items of a removal: a page of the database holds one or two of them, where there are many."""
    step = images // (_SWEEP * _FEW)
    places = range(number * _FEW, (number + 1) * _FEW)
    if step <= _ROUNDS // _SWEEP:
        return [1 + place for place in places]
    sweep = step * _SWEEP * _FEW  # the next one begins an item further on
    return [1 + place * step % sweep + place * step // sweep for place in places]


def _remove(writer: GalleryWriter, ids: list[int]) -> None:
    writer.remove(ids)
    writer.commit()

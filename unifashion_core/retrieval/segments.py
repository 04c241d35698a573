"""Segments as a reader has them: mapped files, views for a scan, and rows by number.

A file is a row of segments without a gap (see layout.py). Bytes behind the last one are never read,
and the next writer cuts them. A reader checks what it gives out: the second half of a segment once,
a float16 row whenever it is gathered. A gallery of format 1 has plain files of float16 rows; their
copies are made in memory.
"""

from __future__ import annotations

import mmap
import threading
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import numpy as np

from ..errors import GalleryError
from .layout import (
    HALF,
    Half,
    Raw,
    Rows,
    Segment,
    Sums,
    columns_of,
    row_sums,
    segment_bytes,
    vector_bytes,
)
from .quantise import Bytes, Floats, quantise


@dataclass(frozen=True)
class SegmentView:
    """A segment of tokens as a scan reads it.

    Attributes:
        first_item: Number of its first row; `ItemRows.token_rows` point at these numbers.
        count: Rows, N.
        f16: The stored vectors, (N, T, D): the truth.
        int8: Their copy, (N, T, D).
        scales: Of the copy, (N, T).
        bounds: How far the copy of a row may be off, (N,).
        sums: Of the float16 rows, (N,); None in a gallery of format 1.
        where: Gallery and file, for errors.
    """

    first_item: int
    count: int
    f16: Half
    int8: Bytes
    scales: Floats
    bounds: Floats
    sums: Sums | None = field(default=None, repr=False)
    where: str = ""
    derived: dict[str, object] = field(default_factory=dict[str, object], compare=False, repr=False)
    """What a search worked out from it and the next one needs again, by name."""

    def check_rows(self, rows: Rows) -> None:
        """Refuse float16 rows that aren't what was committed.

        Args:
            rows: Places in this view, (R,).

        Raises:
            GalleryError: It names the file.
        """
        if self.sums is not None:
            check_sums(self.f16[rows], self.sums[rows], self.where)


def check_sums(values: Half, sums: Sums, where: str) -> None:
    """Refuse rows whose sums differ from the committed ones.

    Raises:
        GalleryError: If one does.
    """
    if len(values) and not np.array_equal(row_sums(values), sums):
        raise damaged(where)


def damaged(where: str) -> GalleryError:
    """The error of data that isn't what was committed."""
    return GalleryError(
        f"{where}: its content is not what was committed. Run `gallery validate` for what is "
        "damaged, and `gallery repair` to go on without it."
    )


def check_file(folder: Path, file: str, wanted: int, gallery: str) -> None:
    """Refuse a file that is missing or shorter than what was committed.

    Raises:
        GalleryError: If so.
    """
    try:
        size = (folder / file).stat().st_size
    except OSError as e:
        raise GalleryError(
            f"Gallery '{gallery}': {file} can't be read ({e.strerror or e}). Restore it from a "
            "copy, or run `gallery repair` to go on without it."
        ) from e
    if size < wanted:
        raise GalleryError(
            f"Gallery '{gallery}': {file} holds {size:,} bytes, {wanted:,} were committed. Restore "
            "it from a copy, or run `gallery repair` to go on without it."
        )


class SegmentFiles:
    """The mapped files of a gallery, kept from one snapshot to the next; safe in threads.

    Args:
        folder: The gallery's folder.
        gallery: Name for errors.
    """

    def __init__(self, folder: Path, gallery: str) -> None:
        self._folder = folder
        self._gallery = gallery
        self._maps: dict[str, Raw] = {}
        self._checked: set[tuple[str, int, int]] = set()
        self._views: dict[tuple[str, int, int], SegmentView] = {}
        self._lock = threading.Lock()

    def ready(self, segments: Sequence[Segment], shape: tuple[int, ...], *, keep: str) -> None:
        """Map what some segments need, and let go of files that no segment names any more.

        Args:
            segments: Of one kind.
            shape: Of a row.
            keep: Beginning of the file names of this kind.

        Raises:
            GalleryError: If a file is missing or too short.
        """
        wanted: dict[str, int] = {}
        for segment in segments:
            end = segment.offset + segment_bytes(segment, shape)
            wanted[segment.file] = max(end, wanted.get(segment.file, 0))
        with self._lock:
            for file, size in wanted.items():
                check_file(self._folder, file, size, self._gallery)
                if len(self._maps.get(file, b"")) < size:
                    self._maps[file] = _map(self._folder / file)
            for file in [f for f in self._maps if f.startswith(keep) and f not in wanted]:
                del self._maps[file]
                self._checked = {entry for entry in self._checked if entry[0] != file}
                self._views = {k: v for k, v in self._views.items() if k[0] != file}

    def raw(self, segment: Segment, shape: tuple[int, ...]) -> Raw:
        """The bytes of a segment that is ready."""
        return self._maps[segment.file][segment.offset :][: segment_bytes(segment, shape)]

    def where(self, segment: Segment) -> str:
        """Gallery and file, for errors."""
        return f"Gallery '{self._gallery}': {segment.file}"

    def check(
        self, segment: Segment, shape: tuple[int, ...], half: Literal["rows", "copy"]
    ) -> None:
        """Compare one half of a segment with its checksum; once for each gallery that is open.

        Raises:
            GalleryError: If it differs.
        """
        key = (segment.file, segment.offset, ("rows", "copy").index(half))
        if segment.plain or key in self._checked:
            return
        raw, split = self.raw(segment, shape), vector_bytes(segment.rows, shape)
        found = zlib.crc32((raw[:split] if half == "rows" else raw[split:]).data)
        if found != (segment.rows_check if half == "rows" else segment.copy_check):
            raise damaged(self.where(segment))
        self._checked.add(key)

    def view(self, segment: Segment, shape: tuple[int, ...]) -> SegmentView:
        """A segment of tokens for a scan; its copy is checked.

        Raises:
            GalleryError: If the copy isn't what was committed.
        """
        key = (segment.file, segment.offset, segment.rows)
        if key not in self._views:
            self._views[key] = self._view(segment, shape)
        return self._views[key]

    def _view(self, segment: Segment, shape: tuple[int, ...]) -> SegmentView:
        first, rows, where = segment.first_row, segment.rows, self.where(segment)
        raw = self.raw(segment, shape)
        if segment.plain:
            f16 = np.reshape(np.frombuffer(raw.data, HALF), (rows, *shape))
            return SegmentView(first, rows, f16, *quantise(f16), where=where)
        self.check(segment, shape, "copy")
        found = columns_of(raw, rows, shape)
        assert found.int8 is not None
        assert found.scales is not None
        assert found.bounds is not None
        return SegmentView(
            first, rows, found.f16, found.int8, found.scales, found.bounds, found.sums, where
        )


def _map(path: Path) -> Raw:
    with open(path, "rb") as file:
        # Copy on write, which never reaches the file: torch takes no read-only array without a
        # warning.
        return np.frombuffer(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY), np.uint8)


class MappedRows:
    """The committed float16 rows of one kind.

    Args:
        folder: The gallery's folder.
        segments: Its segments, in row order.
        shape: Shape of one row: (T, D) or (D,).
        gallery: Name for errors.
        files: Where they are mapped; mapped anew when None.

    Attributes:
        segments: Those that have rows.

    Raises:
        GalleryError: If a file is missing or shorter than its committed rows.
    """

    def __init__(
        self,
        folder: Path,
        segments: Sequence[Segment],
        shape: tuple[int, ...],
        gallery: str,
        files: SegmentFiles | None = None,
    ) -> None:
        self.shape = shape
        self._gallery = gallery
        self.segments = [segment for segment in segments if segment.rows]
        self._files = files or SegmentFiles(folder, gallery)
        self._files.ready(self.segments, shape, keep="tokens" if len(shape) == 2 else "captions")
        self._firsts = np.array([segment.first_row for segment in self.segments], np.int64)
        self._ends = self._firsts + np.array([s.rows for s in self.segments], np.int64)

    def __len__(self) -> int:
        return sum(segment.rows for segment in self.segments)

    def parts(self) -> Iterator[tuple[int, Half]]:
        """Each segment's first row number and its rows, (rows, *shape), checked.

        Raises:
            GalleryError: If they aren't what was committed.
        """
        for segment in self.segments:
            self._files.check(segment, self.shape, "rows")
            yield segment.first_row, self._f16(segment)

    def _f16(self, segment: Segment) -> Half:
        size = segment.rows * int(np.prod(self.shape)) * HALF.itemsize
        raw = self._files.raw(segment, self.shape)[:size]
        return np.reshape(np.frombuffer(raw.data, HALF), (segment.rows, *self.shape))

    def check(self, rows: Rows) -> None:
        """Refuse row numbers that were never committed.

        Raises:
            GalleryError: If there is one: the database and the segments don't belong together.
        """
        place = np.searchsorted(self._firsts, rows, side="right") - 1
        inside = place >= 0
        inside[inside] = rows[inside] < self._ends[place[inside]]
        if not inside.all():
            raise GalleryError(
                f"Gallery '{self._gallery}': an item points at vector {int(rows[~inside][0])}, "
                f"{len(self)} are stored. Restore it from a copy, or run `gallery repair` to go "
                "on without the item."
            )

    def gather(self, rows: Rows) -> Half:
        """Copies of some rows, checked.

        Args:
            rows: Row numbers, any order, (R,).

        Returns:
            Their values, (R, *shape).

        Raises:
            GalleryError: As `check`, or if a row isn't what was committed.
        """
        self.check(rows)
        out = np.empty((len(rows), *self.shape), HALF)
        place = np.searchsorted(self._firsts, rows, side="right") - 1
        for number, segment in enumerate(self.segments):
            chosen = place == number
            if not chosen.any():
                continue
            local = rows[chosen] - segment.first_row
            out[chosen] = values = self._f16(segment)[local]
            if not segment.plain:
                raw = self._files.raw(segment, self.shape)
                sums = columns_of(raw, segment.rows, self.shape).sums[local]
                check_sums(values, sums, self._files.where(segment))
        return out

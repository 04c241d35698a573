"""How a segment lies in its file: a run of rows that one commit wrote, column after column.

Each column is padded with zeros to 64 bytes: the float16 vectors, and then, for tokens, their
eight-bit copy, its scales and bounds, and at the end a sum of each float16 row. Where a segment
lies, how many rows it has and the checksums of both halves stand in the database alone.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, TypeAlias

import numpy as np
import numpy.typing as npt

from .quantise import Bytes, Floats

Half: TypeAlias = npt.NDArray[np.float16]
Rows: TypeAlias = npt.NDArray[np.int64]
Sums: TypeAlias = npt.NDArray[np.uint64]
Raw: TypeAlias = npt.NDArray[np.uint8]
SegmentKind = Literal["tokens", "captions"]

HALF: np.dtype[np.float16] = np.dtype("<f2")
_SINGLE, _SUM = np.dtype("<f4"), np.dtype("<u8")
ALIGN = 64
SUFFIX = ".seg"
SEGMENT_BYTES = 1 << 30
SEGMENT_ROWS = 2048
LENGTH_TOLERANCE = 0.01  # float16 moves a unit vector's length by 0.0005


@dataclass(frozen=True)
class Segment:
    """A run of committed rows.

    Attributes:
        file: Name of its file in the gallery's folder.
        first_row: Number of its first row among all rows of its kind.
        rows: Committed rows.
        offset: Where it begins in the file.
        rows_check: CRC-32 of its float16 vectors; None for a plain file of format 1.
        copy_check: CRC-32 of what follows them.
    """

    file: str
    first_row: int
    rows: int
    offset: int = 0
    rows_check: int | None = None
    copy_check: int | None = None

    @property
    def plain(self) -> bool:
        """Whether it is a file of format 1: float16 rows and nothing else."""
        return self.rows_check is None


@dataclass(frozen=True)
class Columns:
    """A segment's columns, as views of its bytes; captions have no copy."""

    f16: Half
    int8: Bytes | None
    scales: Floats | None
    bounds: Floats | None
    sums: Sums


def aligned(size: int) -> int:
    """The next multiple of the alignment."""
    return -(-size // ALIGN) * ALIGN


def vector_bytes(rows: int, shape: tuple[int, ...]) -> int:
    """Bytes of a segment's first half: its float16 vectors."""
    return aligned(rows * int(np.prod(shape)) * HALF.itemsize)


def segment_bytes(segment: Segment, shape: tuple[int, ...]) -> int:
    """Bytes of a whole segment."""
    values = int(np.prod(shape))
    if segment.plain:
        return segment.rows * values * HALF.itemsize
    rows, size = segment.rows, vector_bytes(segment.rows, shape)
    if len(shape) == 2:
        size += aligned(rows * values) + aligned(rows * shape[0] * 4) + aligned(rows * 4)
    return size + aligned(rows * _SUM.itemsize)


def columns_of(raw: Raw, rows: int, shape: tuple[int, ...]) -> Columns:
    """The columns of a segment's bytes, (segment_bytes,), without a copy."""
    place = 0

    def take(dtype: np.dtype[np.generic], *inner: int) -> npt.NDArray[np.generic]:
        nonlocal place
        size = rows * int(np.prod(inner)) * dtype.itemsize
        part = np.frombuffer(raw[place : place + size].data, dtype)
        place += aligned(size)
        return np.reshape(part, (rows, *inner))

    f16 = take(HALF, *shape)
    if len(shape) == 1:
        return Columns(f16, None, None, None, take(_SUM))  # pyright: ignore[reportArgumentType] # the types are those asked for
    int8, scales = take(np.dtype("i1"), *shape), take(_SINGLE, shape[0])
    return Columns(f16, int8, scales, take(_SINGLE), take(_SUM))  # pyright: ignore[reportArgumentType] # as above


def row_sums(rows: Half) -> Sums:
    """A sum of each row's bytes, (R,), in which every changed word shows.

    Words of 8 bytes times odd numbers, modulo 2^64: as fast as memory, so a search can check what
    it reads. `validate` uses the stronger CRC-32.
    """
    flat = np.reshape(np.ascontiguousarray(rows), (len(rows), -1))
    odd = flat.shape[1] % 4
    if odd:
        flat = np.pad(flat, ((0, 0), (0, 4 - odd)))
    words = np.reshape(np.frombuffer(flat.data, _SUM), (len(rows), -1))
    factors = np.arange(1, 2 * words.shape[1], 2, dtype=np.uint64)
    return np.einsum("rw,w->r", words, factors)


def segment_name(kind: SegmentKind, number: int) -> str:
    """File name of the `number`-th file of a kind."""
    return f"{kind}-{number:06d}{SUFFIX}"


def segment_number(file: str) -> int:
    """The number in a file's name; also of format 1."""
    return int(file.split(".")[0].rsplit("-", 1)[1])


def sync_folder(folder: Path) -> None:
    """Make new names in a folder durable; Windows has no such call and needs none."""
    if os.name == "nt":
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

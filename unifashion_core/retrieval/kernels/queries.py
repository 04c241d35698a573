"""Query vectors rounded to small integers, and how far the rounding moves them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from ..machine.instructions import X86, Instructions
from ..quantise import LEVELS, Floats

WIDE_LEVELS = 32767
SHIFT = 128
RUN_SUM = 128

Double: TypeAlias = npt.NDArray[np.float64]


@dataclass(frozen=True)
class RoundedQueries:
    """P query vectors q and what a scan reads in their place, scale * q8.

    Attributes:
        scales: (P,), float32.
        errors: Length of q - scale * q8, rounded up, (P,), float64.
    """

    scales: Floats
    errors: npt.NDArray[np.float64]


@dataclass(frozen=True)
class PackedQueries(RoundedQueries):
    """Likewise, packed for the machine code.

    Attributes:
        tile: Vectors that are worked on together; the packed ones are padded to a multiple.
        factors: (padded P, padded D), 16 or 8 bits.
        offsets: What the sums begin with, (padded P,).
        how: The instructions that they are packed for.
    """

    tile: int = 1
    factors: npt.NDArray[np.int8 | np.int16] = field(default_factory=lambda: np.empty(0, np.int8))
    offsets: npt.NDArray[np.int32] = field(default_factory=lambda: np.empty(0, np.int32))
    how: Instructions = X86[-1]

    def room(self, images: int) -> Floats:
        """An array for the scores of the padded vectors, (padded P, images)."""
        return np.empty((len(self.offsets), images), np.float32)


def most_levels(width: int, *, wide: bool) -> int:
    """Largest value that a query is rounded to: the sum of D products has to fit 32 bits."""
    return min(WIDE_LEVELS if wide else LEVELS, ((1 << 31) - 1) // (SHIFT * width))


def round_queries(
    vectors: Floats, levels: int | Double
) -> tuple[npt.NDArray[np.int64], RoundedQueries]:
    """Round vectors to integers.

    Args:
        vectors: (P, D).
        levels: What the largest value of a vector becomes; one for all, or (P,).

    Returns:
        The integers, (P, D), and what they stand for.
    """
    wide = vectors.astype(np.float64)
    largest = np.abs(wide).max(1, initial=0.0)
    scales = (largest / levels).astype(np.float32)
    steps = np.divide(1.0, scales, out=np.zeros(len(scales)), where=scales > 0)
    whole = np.rint(wide * steps[:, None])
    errors = np.linalg.norm(wide - whole * scales[:, None].astype(np.float64), axis=1)
    return whole.astype(np.int64), RoundedQueries(scales, errors * (1 + 2.0**-40))


def _levels_for_runs(vectors: Floats, how: Instructions) -> Double:
    """The largest levels with which no sum of a run leaves 16 bits, (P,).

    A factor of a token is at most 255, so the positive values of a query that meet in a lane may
    sum up to 128, and so may the negative ones.
    """
    lane = 32 // 16
    width = -(-vectors.shape[1] // how.step) * how.step
    padded = np.zeros((len(vectors), width))
    padded[:, : vectors.shape[1]] = vectors

    def fullest(values: Double) -> Double:
        found: list[Double] = []
        for lanes in (how.step // lane, how.depth // lane):  # row by row, and turned
            blocks = np.reshape(values, (len(values), -1, lanes, lane))
            starts = range(0, blocks.shape[1], how.run)
            found += [blocks[:, start : start + how.run].sum((1, 3)).max(1) for start in starts]
        return np.max(found, axis=0)

    largest = np.abs(padded).max(1)
    unit = padded / np.where(largest > 0, largest, 1.0)[:, None]
    levels = np.full(len(vectors), float(LEVELS))
    while True:
        whole = np.rint(unit * levels[:, None])
        full = np.maximum(fullest(whole.clip(min=0)), fullest((-whole).clip(min=0)))
        if (full <= RUN_SUM).all():
            return levels
        levels = np.where(full > RUN_SUM, levels * np.minimum(0.995, RUN_SUM / full), levels)


def pack_queries(vectors: Floats, how: Instructions, tile: int) -> PackedQueries:
    """Round vectors and pack them for a CPU's instructions.

    Args:
        vectors: (P, D).
        how: The instructions.
        tile: Vectors that are worked on together.
    """
    fit = most_levels(vectors.shape[1], wide=how.is_wide)
    levels = np.minimum(_levels_for_runs(vectors, how), fit) if how.run else fit
    whole, rounded = round_queries(vectors, levels)
    count, width = whole.shape
    rows, columns = -(-count // tile) * tile, -(-width // how.step) * how.step
    kind = np.int16 if how.is_wide else np.int8
    packed = _aligned((rows, columns), kind)
    packed[:count, :width] = whole
    offsets = np.zeros(rows, np.int32)
    if not how.is_wide:  # the tokens' factors are t + 128
        offsets[:count] = -SHIFT * whole.sum(1)
    return PackedQueries(rounded.scales, rounded.errors, tile, packed, offsets, how)


def _aligned(
    shape: tuple[int, ...], kind: type[np.int8 | np.int16]
) -> npt.NDArray[np.int8 | np.int16]:
    """Zeros that begin where a register may be loaded from."""
    size = int(np.prod(shape)) * np.dtype(kind).itemsize
    room = np.zeros(size + 64, np.uint8)
    start = -room.ctypes.data % 64
    aligned = np.frombuffer(room[start : start + size], kind)
    return np.reshape(aligned, shape)

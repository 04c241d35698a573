"""How far a scan's score of an item may be from its exact one, and what that excludes.

For a query vector q read as q8, and an item whose copy t8 of token t is off by at most e in length,

    |<q, t> - <q8, t8>| <= |q| e + |q - q8| |t8| <= (|q| + |q - q8|) e + |q - q8| |t|max

by Cauchy-Schwarz. The best over an item's tokens, the mean over a part's query tokens and the
weighted mean over a query's parts keep the form slope * e + base, with the means of slopes and
bases. Rounding of float32 is in the base.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from .layout import Rows
from .placement import Truths
from .quantise import Floats

Double: TypeAlias = npt.NDArray[np.float64]

LONGEST = 1.01  # a stored vector; the writer takes no longer one
GROUP = 64  # scores of which the largest stands for all


@dataclass(frozen=True)
class ScoredPart:
    """One part of a query, as numbers.

    Attributes:
        tokens: Unit vectors, (Q, D), float32, on the CPU.
        weight: Its weight; negative excludes.
    """

    tokens: torch.Tensor
    weight: float

    @property
    def takes_captions(self) -> bool:
        """Whether an item's caption counts: for a part that is one vector."""
        return len(self.tokens) == 1


@dataclass(frozen=True)
class Margin:
    """slope * e + base, as in the module's text.

    Attributes:
        slope: Times how far an item's copy is off.
        base: For every item.
    """

    slope: float
    base: float

    def of(self, bounds: Floats) -> Floats:
        """For items whose copies are off by `bounds`, (N,)."""
        found: Floats = bounds * np.float32(self.slope)
        found += np.float32(self.base)
        return found


def margin_of(
    parts: Sequence[ScoredPart], errors: Sequence[Double], *, caption_weight: float = 0.0
) -> Margin:
    """The margin of a query.

    Args:
        parts: Its parts.
        errors: |q - q8| of each part's tokens.
        caption_weight: For items with a caption, whose exact similarity is fused into parts of one
            vector; 0 for those without.
    """
    total = sum(abs(part.weight) for part in parts)
    slope = base = 0.0
    for part, error in zip(parts, errors, strict=True):
        values = part.tokens.numpy()
        lengths = np.sqrt(np.einsum("qd,qd->q", values, values, dtype=np.float64))
        share = abs(part.weight) / total
        units = (part.tokens.shape[1] + len(part.tokens) + len(parts) + 32) * 2.0**-23
        # Any order of D additions errs by less than D 2^-24 |q| |t|, twice: scan and exact score.
        rounding = units * LONGEST * max(1.0, float(lengths.max()))
        if part.takes_captions:
            fused = share / (1.0 + caption_weight)
        else:
            fused = share
        slope += fused * float((lengths + error).mean())
        base += fused * LONGEST * float(error.mean()) + share * rounding
    return Margin(slope * (1 + 2.0**-20), base * (1 + 2.0**-20))


@dataclass(frozen=True)
class Margins:
    """How far a query's rough scores may be off.

    Attributes:
        plain: Of items without a caption.
        fused: Of those with one; None where captions don't count.
    """

    plain: Margin
    fused: Margin | None

    def of(self, bounds: Floats, has_caption: Truths | None) -> Floats:
        """For items whose copies are off by `bounds`, (N,), and which may have captions, (N,)."""
        found = self.plain.of(bounds)
        if self.fused is None or has_caption is None:
            return found
        return np.where(has_caption, self.fused.of(bounds), found)

    def most(self, bound: float) -> float:
        """For no item whose copy is off by `bound` at most more than that."""
        several = [self.plain] if self.fused is None else [self.plain, self.fused]
        return max(one.slope * bound + one.base for one in several) * (1 + 2.0**-20)


def margins(
    parts: Sequence[ScoredPart], errors: Sequence[Double], *, caption_weight: float | None = None
) -> Margins:
    """How far a query's rough scores may be off.

    Args:
        parts: The query's.
        errors: |q - q8| of each part's tokens.
        caption_weight: How much captions count; None where they don't.
    """
    plain = margin_of(parts, errors)
    if caption_weight is None:
        return Margins(plain, None)
    return Margins(plain, margin_of(parts, errors, caption_weight=caption_weight))


def largest_kth(values: Floats, k: int) -> float:
    """The k-th largest value; minus infinity where there are fewer."""
    count = len(values)
    if k > count:
        return -np.inf
    if count > 4 * k * GROUP // 8 and count > 16 * GROUP:
        # The k-th largest of the groups' largest is no larger than the k-th of all.
        # Groups are columns: numpy is slow along short rows.
        whole = count // GROUP * GROUP
        tops = np.reshape(values[:whole], (GROUP, -1)).max(0)
        if k <= len(tops):
            floor = np.partition(tops, len(tops) - k)[len(tops) - k]
            values = values[values >= floor]
            count = len(values)
    return float(np.partition(values, count - k)[count - k])


def first_and_open(
    rough: Floats, k: int, most: float, margin_of_some: Callable[[Rows], Floats]
) -> tuple[Rows, Rows, Floats]:
    """Split what a scan can't exclude from the best k.

    Args:
        rough: Scores of a scan, (N,).
        k: How many items are asked for.
        most: How far a score may be off at most.
        margin_of_some: Given numbers of items, how far the scores of these may be off.

    Returns:
        The k items of the largest lower bounds; the others that may be among the best k; and the
        upper bounds of these.
    """
    # K items have lower bounds above their k-th best score less `most`, so one that is lower by
    # twice as much is out; only for the few that are left each one's own margin is looked at.
    lowest = largest_kth(rough, k) - 2.0 * most * (1 + 2.0**-20) - 2.0**-20
    near = np.flatnonzero(rough >= np.float32(lowest))
    scores, margin = rough[near], margin_of_some(near)
    lower, upper = scores - margin, scores + margin
    floor = largest_kth(lower, k)
    first = np.flatnonzero(lower >= floor)
    if len(first) > k:  # ties
        first = first[np.argpartition(-lower[first], k - 1)[:k]]
    left = upper >= np.float32(floor)
    left[first] = False
    others = np.flatnonzero(left)
    return near[first], near[others], upper[others]

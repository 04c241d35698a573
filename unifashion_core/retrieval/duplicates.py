"""Near-duplicates: groups of items whose tokens are nearly the same, found without a miss.

Likeness of two images a, b is the mean over their T tokens of <a_t, b_t>. As the means of their
tokens are apart by at most sqrt(2 (1 - likeness)), only pairs with near means are looked at; and
means are first sorted along the direction in which they differ most, so that far ones are never
compared.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..errors import InputError
from ..types import OnStep
from .items import StoredItem
from .layout import LENGTH_TOLERANCE, Rows
from .segments import MappedRows
from .store import Gallery

Single = npt.NDArray[np.float32]

THRESHOLD = 0.99
_BLOCK = 1024
_EQUAL = 1e-6  # what float32 loses
_TOLERANCE = 2 * LENGTH_TOLERANCE  # of the distance of means: stored vectors are nearly unit long


@dataclass(frozen=True)
class DuplicateGroup:
    """Items that are the same picture, or nearly.

    Attributes:
        items: In order of id; the first is the one that was there first.
        likeness: Of each to the first one it was found alike with, 1.0 for the first.
    """

    items: tuple[StoredItem, ...]
    likeness: tuple[float, ...]


@dataclass(frozen=True)
class DuplicateReport:
    """All groups of a gallery.

    Attributes:
        groups: The largest first.
        threshold: Least likeness.
        revision: The gallery's.
    """

    groups: tuple[DuplicateGroup, ...]
    threshold: float
    revision: int


def find_duplicates(
    gallery: Gallery, *, threshold: float = THRESHOLD, on_step: OnStep | None = None
) -> DuplicateReport:
    """Find every pair of items that are at least so alike, joined to groups.

    Args:
        gallery: The gallery; its newest revision.
        threshold: Least likeness, above 0.5 to 1.
        on_step: Called with (rows done, rows).

    Raises:
        InputError: If the threshold is out of range.
        GalleryError: If a row isn't what was committed.
    """
    if not 0.5 < threshold <= 1.0:
        raise InputError(f"Duplicates: threshold {threshold}, wanted above 0.5 to 1. Try 0.99.")
    with gallery.snapshot() as snapshot:
        items = snapshot.item_rows()
        rows = np.unique(items.token_rows)
        stored = snapshot.vectors("tokens")
        pairs = _near_pairs(stored, rows, threshold, on_step)
        leader, likeness = _joined(len(rows), pairs)
        place = np.searchsorted(rows, items.token_rows)
        groups: dict[int, list[int]] = {}
        for number, row in enumerate(leader[place].tolist()):
            groups.setdefault(row, []).append(number)
        found: list[DuplicateGroup] = []
        for members in sorted(groups.values(), key=lambda m: (-len(m), m[0])):
            if len(members) > 1:
                stored_items = snapshot.items(items.ids[members].tolist())
                alike = [1.0, *(float(likeness[place[m]]) for m in members[1:])]
                found.append(DuplicateGroup(tuple(stored_items), tuple(alike)))
        return DuplicateReport(tuple(found), threshold, snapshot.revision)


def _near_pairs(
    stored: MappedRows, rows: Rows, threshold: float, on_step: OnStep | None
) -> Iterator[tuple[int, int, float]]:
    """Places in `rows` of every pair that is alike enough, with its likeness."""
    means = _means(stored, rows)
    along = means @ _main_direction(means)
    order = np.argsort(along, kind="stable")
    along, means = along[order], means[order]
    squares = np.einsum("nd,nd->n", means, means)
    reach = (2.0 * (1.0 - threshold)) ** 0.5 + _TOLERANCE
    limit = reach * reach
    for start in range(0, len(rows), _BLOCK):
        stop = min(start + _BLOCK, len(rows))
        end = int(np.count_nonzero(along <= along[stop - 1] + reach))  # it is sorted
        for other in range(start, end, _BLOCK):
            last = min(other + _BLOCK, end)
            apart = squares[start:stop, None] + squares[None, other:last]
            apart -= 2.0 * (means[start:stop] @ np.transpose(means[other:last]))
            a, b = np.nonzero(apart <= limit)
            a, b = a + start, b + other
            a, b = a[a < b], b[a < b]
            yield from _alike(stored, rows, order[a], order[b], threshold)
        if on_step is not None:
            on_step(stop, len(rows))


def _means(stored: MappedRows, rows: Rows) -> Single:
    parts = [
        stored.gather(rows[start : start + _BLOCK]).mean(1, dtype=np.float32)
        for start in range(0, len(rows), _BLOCK)
    ]
    return np.concatenate(parts) if parts else np.empty((0, stored.shape[-1]), np.float32)


def _main_direction(means: Single) -> Single:
    """The unit vector along which the means differ most, roughly: any would be right."""
    direction = np.ones(means.shape[1], np.float32)
    if len(means):
        sample = means[:: max(1, len(means) // 4096)]
        sample = sample - sample.mean(0)
        for _ in range(8):
            direction = np.einsum("nd,n->d", sample, sample @ direction)
            direction /= max(float(np.linalg.norm(direction)), 1e-30)
    return direction / max(float(np.linalg.norm(direction)), 1.0)


def _alike(
    stored: MappedRows, rows: Rows, first: Rows, second: Rows, threshold: float
) -> Iterator[tuple[int, int, float]]:
    tokens = stored.shape[0]
    for start in range(0, len(first), 256):
        a, b = first[start : start + 256], second[start : start + 256]
        left = stored.gather(rows[a]).astype(np.float32)
        right = stored.gather(rows[b]).astype(np.float32)
        dots = np.einsum("ntd,ntd->nt", left, right)
        lengths = np.linalg.norm(left, axis=2) * np.linalg.norm(right, axis=2)
        likeness = (dots / lengths).sum(1) / tokens
        for one, other, value in zip(a.tolist(), b.tolist(), likeness.tolist(), strict=True):
            if value >= threshold - _EQUAL:
                yield one, other, min(value, 1.0)


def _joined(count: int, pairs: Iterator[tuple[int, int, float]]) -> tuple[Rows, Single]:
    """The smallest place of each place's group, and the best likeness that joined it."""
    leader = np.arange(count)
    best = np.ones(count, np.float32)
    joined = np.zeros(count, np.bool_)

    def root(place: int) -> int:
        while leader[place] != place:
            leader[place] = leader[leader[place]]
            place = int(leader[place])
        return place

    for one, other, likeness in pairs:
        low, high = sorted((root(one), root(other)))
        leader[high] = low
        for place in (one, other):
            best[place] = max(best[place], likeness) if joined[place] else likeness
            joined[place] = True
    return np.array([root(place) for place in range(count)], np.int64), best

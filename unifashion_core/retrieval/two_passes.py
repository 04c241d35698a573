"""The best items of one query vector in two passes: four bits a value of every token, then eight
bits of the tokens that the first pass leaves, then the stored vectors of the items that are left.

Between the passes stands a floor: the k-th best exact score of some items that look best. It is
never above the k-th best of all, so what stays below it is none of the best k. A bound of four bits
leaves most images, since one of their many tokens is always somewhere near; but few tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .bounds import ScoredPart, largest_kth
from .kernels.halves import CoarseScan
from .layout import Rows
from .placement import Coarse, Placement
from .quantise import Floats

LEAST_TOKENS = 1 << 16
"""Tokens from which two passes are worth their steps."""
LEAST_SHARE = 8
"""Items for each one that is asked for."""
MOST_LEFT = 0.15
"""Share of tokens that a first pass may leave; from there on one pass of eight bits is faster."""
SEEDS = 2  # times k
SAMPLED = 16  # one image of so many says what is left


def best_in_two_passes(
    placement: Placement,
    coarse: Coarse,
    places: Rows,
    part: ScoredPart,
    scan: CoarseScan,
    top_k: int,
    exact: Callable[[Rows], Floats],
) -> tuple[Rows, Floats] | None:
    """Find items among which the best k are.

    Args:
        placement: The items.
        coarse: Their coarse copies.
        places: Which of them may be found, (n,).
        part: The query, of one vector.
        scan: The scans.
        top_k: k, at most n.
        exact: Gives the exact scores of some of `places`.

    Returns:
        Numbers of `places` and their exact scores; None where the first pass leaves too much.
    """
    first = scan.uppers(placement, coarse, places, part)
    try:
        return _of_the_left(placement, places, part, scan, top_k, exact, first)
    finally:
        scan.done(coarse, first[0])


def _of_the_left(
    placement: Placement,
    places: Rows,
    part: ScoredPart,
    scan: CoarseScan,
    top_k: int,
    exact: Callable[[Rows], Floats],
    first: tuple[Floats, Floats],
) -> tuple[Rows, Floats] | None:
    uppers, best = first
    seeds = np.flatnonzero(best >= largest_kth(best, min(len(best), SEEDS * top_k)))
    scores = exact(seeds)
    floor = largest_kth(scores, top_k)
    if np.count_nonzero(uppers[::SAMPLED] >= floor) * SAMPLED > MOST_LEFT * uppers.size:
        return None
    second = scan.second(placement, places, part, first, floor)
    second[seeds] = -np.inf
    others = np.flatnonzero(second >= np.float32(floor))
    return np.concatenate([seeds, others]), np.concatenate([scores, exact(others)])

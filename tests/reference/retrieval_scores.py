"""The definition of every retrieval score, one token at a time: the oracle of the fast code."""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np


def inner(a: np.ndarray, b: np.ndarray) -> float:
    """Inner product without rounding between its terms."""
    return math.fsum(float(x) * float(y) for x, y in zip(a, b, strict=True))


def part_score(query: np.ndarray, item: np.ndarray) -> float:
    """Mean over query tokens (Q, D) of the best item token, (T, D)."""
    return sum(max(inner(q, t) for t in item) for q in query) / len(query)


def score(
    parts: Sequence[tuple[np.ndarray, float]],
    item: np.ndarray,
    caption: np.ndarray | None = None,
    caption_weight: float = 0.0,
) -> float:
    """Weighted score of one item; `parts` are (tokens, weight)."""
    total = 0.0
    for tokens, weight in parts:
        value = part_score(tokens, item)
        if caption is not None and len(tokens) == 1:
            value = (value + caption_weight * inner(tokens[0], caption)) / (1.0 + caption_weight)
        total += weight * value
    return total / sum(abs(weight) for _, weight in parts)


def ranking(scores: dict[int, float]) -> list[int]:
    """Item ids by score, then by id."""
    return sorted(scores, key=lambda item_id: (-scores[item_id], item_id))

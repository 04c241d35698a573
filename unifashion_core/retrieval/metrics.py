"""Metrics of a ranking: precision and recall at k, and their mean over queries."""

from __future__ import annotations

from collections.abc import Collection, Hashable, Iterable, Sequence

from ..errors import InputError


def precision_at(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Share of the first k that is relevant.

    Args:
        ranked: Items, best first; places that a shorter ranking leaves empty count as wrong.
        relevant: Items that should be found.
        k: 1 or more.

    Returns:
        A share in [0, 1].

    Raises:
        InputError: If k is below 1.
    """
    return _found(ranked, relevant, k) / k


def recall_at(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> float:
    """Share of the relevant items that stands in the first k; with one target, whether it does.

    Args:
        ranked: Items, best first.
        relevant: Items that should be found, at least one.
        k: 1 or more.

    Returns:
        A share in [0, 1].

    Raises:
        InputError: If k is below 1 or nothing is relevant.
    """
    if not relevant:
        raise InputError("Recall: no relevant item. Leave such queries out.")
    return _found(ranked, relevant, k) / len(set(relevant))


def _found(ranked: Sequence[Hashable], relevant: Collection[Hashable], k: int) -> int:
    if k < 1:
        raise InputError(f"Metric: k is {k}. Give 1 or more.")
    return len(set(ranked[:k]) & set(relevant))


def mean(values: Iterable[float]) -> float:
    """Mean over queries.

    Raises:
        InputError: If there is none.
    """
    numbers = list(values)
    if not numbers:
        raise InputError("Metric: no query to take the mean over. Give at least one.")
    return sum(numbers) / len(numbers)

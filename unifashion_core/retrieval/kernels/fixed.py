"""Scores in the one fixed order of float32 additions, by torch: what every kernel agrees with."""

from __future__ import annotations

import torch


def late_interaction(query: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Mean over the query's tokens of the best item token, in the fixed order.

    Args:
        query: Query tokens, (Q, D), float32.
        items: Item tokens, (N, T, D), float32.

    Returns:
        Scores, (N,), float32.
    """
    total = torch.zeros(len(items), device=items.device)
    for token in query:
        total += dot(items, token).amax(1)
    return total / len(query)


def dot(values: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Inner products as a fixed tree of float32 additions: halves are added until one is left.

    Args:
        values: (..., D), float32.
        vector: (D,), float32.

    Returns:
        (...,), float32; the same bits for the same values, whatever lies beside them.
    """
    width = len(vector)
    full = 1 << (width - 1).bit_length()
    terms = values * vector
    if full > width:
        terms = torch.nn.functional.pad(terms, (0, full - width))
    while full > 1:
        full //= 2
        terms = terms[..., :full] + terms[..., full : 2 * full]
    return terms[..., 0]

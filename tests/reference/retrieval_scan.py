"""The scorer without a first stage: all stored vectors in float32, in the fixed order, and a sort.

What the fast scorer has to give, to the bit.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch


def dot(values: torch.Tensor, vector: torch.Tensor) -> torch.Tensor:
    """Inner products as a fixed tree of float32 additions: halves are added until one is left."""
    full = 1 << (len(vector) - 1).bit_length()
    terms = torch.nn.functional.pad(values * vector, (0, full - len(vector)))
    while full > 1:
        full //= 2
        terms = terms[..., :full] + terms[..., full : 2 * full]
    return terms[..., 0]


def part_scores(query: np.ndarray, tokens: np.ndarray) -> np.ndarray:
    """Mean over query tokens (Q, D) of the best item token, for items (N, T, D) in float16."""
    wide = torch.from_numpy(tokens).float()
    total = torch.zeros(len(wide))
    for token in torch.from_numpy(query):
        total += dot(wide, token).amax(1)
    return (total / len(query)).numpy()


def scores(
    parts: Sequence[tuple[np.ndarray, float]],
    tokens: np.ndarray,
    captions: np.ndarray | None = None,
    has_caption: np.ndarray | None = None,
    caption_weight: float = 0.0,
) -> np.ndarray:
    """Weighted scores of N items; `parts` are (tokens, weight), captions (N, D) in float16."""
    total = np.zeros(len(tokens))
    for query, weight in parts:
        value = part_scores(query, tokens)
        if captions is not None and has_caption is not None and len(query) == 1:
            said = dot(torch.from_numpy(captions).float(), torch.from_numpy(query[0])).numpy()
            fused = (value + said * np.float32(caption_weight)) / np.float32(1.0 + caption_weight)
            value = np.where(has_caption, fused, value)
        total += weight * value.astype(np.float64)
    return (total / sum(abs(weight) for _, weight in parts)).astype(np.float32)


def best(scores: np.ndarray, ids: np.ndarray, top_k: int) -> tuple[list[int], list[float]]:
    """The best ids and their scores: by score, then by id."""
    order = np.lexsort((ids, -scores))[:top_k]
    return ids[order].tolist(), scores[order].tolist()

"""Exact scores of queries against stored float16 vectors, and their best items.

Definitions, for a part with tokens q (Q, D), an item with tokens t (T, D) and caption c (D,):

    image part    s_i = mean over q of the max over t of <q, t>
    with captions s_i = (s_i + w <q, c>) / (1 + w), where Q = 1 and the item has a caption vector
    query         s   = sum(weight_i s_i) / sum(|weight_i|)

so every score is in [-1, 1], and an item without a caption competes with its image alone. With w =
1 and captions everywhere, the order is that of the paper's sum.

A first pass scores everything by matrix products, whose rounding depends on shapes; a second one
scores what the first can't exclude in one fixed order of float32 additions. So a score never
depends on chunks, filters or the rest of the batch, and equal vectors get equal scores.

Source: unifashion_spec 1.5; Khattab and Zaharia 2020, section 3.3.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TypeAlias

import numpy as np
import numpy.typing as npt
import torch

from ..errors import InputError, ShapeError
from .items import ItemRows
from .segments import MappedRows, Rows

Single: TypeAlias = npt.NDArray[np.float32]
Double: TypeAlias = npt.NDArray[np.float64]

CHUNK_VALUES = 1 << 21
"""Values of a chunk, stored or computed (8 MB): bounds the memory, and small enough for caches.

Much smaller ones cost more in waiting for threads than they gain in the cache."""


@dataclass(frozen=True)
class ScoredPart:
    """One part of a query, as numbers.

    Attributes:
        tokens: Unit vectors, (Q, D), float32, on the CPU.
        weight: Its weight; negative excludes.
    """

    tokens: torch.Tensor
    weight: float


@dataclass(frozen=True)
class Ranking:
    """The best items of one query, best first: by score, then by item id.

    Attributes:
        ids: Item ids, (K,).
        scores: Their scores, (K,), float32.
        candidates: Items that the first pass couldn't exclude.
    """

    ids: Rows
    scores: Single
    candidates: int


@torch.inference_mode()
def rank(
    items: ItemRows,
    tokens: MappedRows,
    queries: Sequence[Sequence[ScoredPart]],
    *,
    top_k: int,
    captions: MappedRows | None = None,
    caption_weight: float = 0.0,
) -> list[Ranking]:
    """Find the best items of each query, exactly.

    Args:
        items: The items that may be found.
        tokens: The gallery's token rows, (T, D) each.
        queries: Parts of each query.
        top_k: How many to give; fewer when there are fewer items.
        captions: The gallery's caption rows, (D,) each; needed with a caption weight.
        caption_weight: w above; 0 leaves captions out.

    Returns:
        One ranking a query.

    Raises:
        InputError: If `top_k` or a weight is out of range.
        ShapeError: If a part's width differs from the gallery's.
    """
    if top_k < 1:
        raise InputError(f"Search: top-k is {top_k}. Give 1 or more.")
    if not 0.0 <= caption_weight < float("inf"):
        raise InputError(f"Search: caption weight is {caption_weight}. Give 0 or more.")
    for parts in queries:
        _check_parts(parts, tokens.shape[-1])
    store = _Vectors(items, tokens, captions if caption_weight > 0.0 else None, caption_weight)
    return [
        found
        for group in _groups(queries, len(items))
        for found in _rank_group(store, group, top_k)
    ]


def _check_parts(parts: Sequence[ScoredPart], width: int) -> None:
    if not any(part.weight for part in parts):
        raise InputError("Search: every weight of the query is zero. Give one part another weight.")
    for part in parts:
        if not np.isfinite(part.weight):
            raise InputError(f"Search: a weight is {part.weight}. Give a finite number.")
        if part.tokens.ndim != 2 or not len(part.tokens) or part.tokens.shape[1] != width:
            raise ShapeError(
                f"Search: query tokens have shape {tuple(part.tokens.shape)}, wanted (Q, {width}). "
                "Make the query with the gallery's encoder."
            )


@dataclass(frozen=True)
class _Vectors:
    """What is searched.

    Attributes:
        items: The items that may be found, N.
        tokens: Token rows of the gallery.
        captions: Caption rows, or None to leave them out.
        caption_weight: Of ⟨query, caption⟩.
    """

    items: ItemRows
    tokens: MappedRows
    captions: MappedRows | None
    caption_weight: float


def _groups(
    queries: Sequence[Sequence[ScoredPart]], items: int
) -> Iterator[Sequence[Sequence[ScoredPart]]]:
    """Queries in groups whose first-pass scores stay below 256 MB."""
    size = max(1, (1 << 26) // max(1, items * max((len(parts) for parts in queries), default=1)))
    for start in range(0, len(queries), size):
        yield queries[start : start + size]


def _rank_group(
    store: _Vectors, queries: Sequence[Sequence[ScoredPart]], top_k: int
) -> Iterator[Ranking]:
    parts = [part for query in queries for part in query]
    rough = _rough_scores(store, parts)  # (parts, N)
    start = 0
    for query in queries:
        rows = rough[start : start + len(query)]
        start += len(query)
        yield _rank_one(store, query, rows, top_k)


def _rank_one(store: _Vectors, query: Sequence[ScoredPart], rough: Single, top_k: int) -> Ranking:
    scores = _weigh(rough, query)
    count = len(scores)
    if top_k < count:
        threshold = np.partition(scores, count - top_k)[count - top_k]
        margin = 2 * _rounding(query, store.tokens.shape[-1])
        chosen = np.flatnonzero(scores >= threshold - margin)
    else:
        chosen = np.arange(count)
    exact = np.stack([_exact_part(store, chosen, part) for part in query])
    final = _weigh(exact, query).astype(np.float32)
    ids = store.items.ids[chosen]
    order = np.lexsort((ids, -final))[:top_k]
    return Ranking(ids[order], final[order], len(chosen))


def _weigh(scores: Single, parts: Sequence[ScoredPart]) -> Double:
    """sum(w_i s_i) / sum(|w_i|), added in the order of the parts."""
    total = np.zeros(scores.shape[1], np.float64)
    for part, row in zip(parts, scores, strict=True):
        total += part.weight * row.astype(np.float64)
    return total / sum(abs(part.weight) for part in parts)


def _rounding(parts: Sequence[ScoredPart], width: int) -> float:
    """Largest distance between a rough and an exact score.

    Any order of float32 additions of a product of D terms errs by at most D u / (1 - D u) |q| |t|
    with u = 2^-24; the mean over Q adds Q u, the steps of a caption and the weights 8 u. Both
    scores err, hence the factor 2. A process may have allowed torch to round the factors of a
    product to bfloat16, which errs by 2^-8 + 2^-18. Stored vectors are at most 1.01 long.
    """
    coarse = 0.0 if torch.get_float32_matmul_precision() == "highest" else 2.0**-8 + 2.0**-18
    bound = 0.0
    for part in parts:
        length = 1.01 * float((part.tokens * part.tokens).sum(1).amax()) ** 0.5
        units = (width + len(part.tokens) + 8) * 2.0**-24
        bound += abs(part.weight) * (2 * units / (1 - units) + coarse) * max(length, 1.0)
    return bound / sum(abs(part.weight) for part in parts) + 2.0**-23


# ---- first pass


def _rough_scores(store: _Vectors, parts: Sequence[ScoredPart]) -> Single:
    """Scores of each part by matrix products, (parts, N)."""
    queries = torch.cat([part.tokens for part in parts])  # (all Q, D)
    bounds = np.cumsum([0, *(len(part.tokens) for part in parts)]).tolist()
    rows, place = np.unique(store.items.token_rows, return_inverse=True)
    by_row = torch.empty(len(parts), len(rows))
    for where, chunk in _chunks(store.tokens, rows, len(queries)):
        products = torch.mm(chunk.flatten(0, 1), queries.T)
        best = products.view(len(chunk), -1, len(queries)).amax(1)  # (chunk, all Q)
        for number, (first, last) in enumerate(pairwise(bounds)):
            by_row[number, where] = best[:, first:last].mean(1)
    scores = by_row.numpy()[:, place]
    if store.captions is not None:
        _fuse_roughly(scores, store.items, store.captions, parts, store.caption_weight)
    return scores


def _fuse_roughly(
    scores: Single,
    items: ItemRows,
    captions: MappedRows,
    parts: Sequence[ScoredPart],
    caption_weight: float,
) -> None:
    """Fuse captions into the scores, (parts, N), of the parts that are one vector."""
    singles = [number for number, part in enumerate(parts) if len(part.tokens) == 1]
    has = np.flatnonzero(items.caption_rows >= 0)
    if not singles or not len(has):
        return
    queries = torch.cat([parts[number].tokens for number in singles])
    rows, place = np.unique(items.caption_rows[has], return_inverse=True)
    similar = torch.empty(len(singles), len(rows))
    for where, chunk in _chunks(captions, rows, len(queries)):
        similar[:, where] = torch.mm(queries, chunk.T)
    for number, row in zip(singles, similar.numpy(), strict=True):
        scores[number, has] = _fuse(scores[number, has], row[place], caption_weight)


def _fuse(image: Single, caption: Single, weight: float) -> Single:
    total: Single = np.add(image, np.multiply(caption, np.float32(weight)))
    return np.divide(total, np.float32(1.0 + weight))


def _chunks(vectors: MappedRows, rows: Rows, columns: int) -> Iterator[tuple[slice, torch.Tensor]]:
    """Stored values of ascending rows in bounded chunks, float32, with their places in `rows`.

    A chunk is overwritten by the next one; its product with `columns` vectors is bounded too.
    """
    vectors.check(rows)
    tokens, width = math.prod(vectors.shape[:-1]), vectors.shape[-1]
    size = max(1, CHUNK_VALUES // (tokens * max(width, columns)))
    wide = torch.empty(size, *vectors.shape)
    for first, part in vectors.parts():
        start, stop = np.searchsorted(rows, [first, first + len(part)])
        for begin in range(int(start), int(stop), size):
            end = min(begin + size, int(stop))
            local = rows[begin:end] - first
            low, high = int(local[0]), int(local[-1]) + 1
            values = part[low:high] if high - low == end - begin else part[local]
            chunk = wide[: end - begin]
            chunk.copy_(torch.as_tensor(values))  # torch widens float16 8 times faster than numpy
            yield slice(begin, end), chunk


# ---- second pass


def _exact_part(store: _Vectors, chosen: Rows, part: ScoredPart) -> Single:
    """Scores of one part for the chosen items in the fixed order, (chosen,)."""
    scores = np.empty(len(chosen), np.float32)
    token_rows, caption_rows = store.items.token_rows[chosen], store.items.caption_rows[chosen]
    size = max(1, CHUNK_VALUES // math.prod(store.tokens.shape))
    for start in range(0, len(chosen), size):
        here = slice(start, start + size)
        tokens = torch.as_tensor(store.tokens.gather(token_rows[here])).float()
        scores[here] = late_interaction(part.tokens, tokens).numpy()
    if store.captions is not None and len(part.tokens) == 1:
        has = np.flatnonzero(caption_rows >= 0)
        vectors = torch.as_tensor(store.captions.gather(caption_rows[has])).float()
        similar: Single = dot(vectors, part.tokens[0]).numpy()
        scores[has] = _fuse(scores[has], similar, store.caption_weight)
    return scores


def late_interaction(query: torch.Tensor, items: torch.Tensor) -> torch.Tensor:
    """Mean over the query's tokens of the best item token, in the fixed order.

    Args:
        query: Query tokens, (Q, D), float32.
        items: Item tokens, (N, T, D), float32.

    Returns:
        Scores, (N,), float32.
    """
    total = torch.zeros(len(items))
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

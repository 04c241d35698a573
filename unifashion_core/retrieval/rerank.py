"""Rerank the first hits by image-text matching, which looks at the pictures again."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ..errors import ImageError, InputError
from ..imaging import open_image
from ..types import Hit, Hits, OnStep, PairScorer, Query, QueryPart


def rerank(
    hits: Hits,
    scorer: PairScorer,
    first: int,
    *,
    batch_size: int = 16,
    on_step: OnStep | None = None,
) -> Hits:
    """Order the first hits of each query by ITM; the rest follow in score order.

    A text is scored by the ITM logit, a composed query by the probability of `inference_rerank`. Of
    a query with several parts, the wanted part with a text that weighs most is used, and a note
    says so. A hit whose file is missing or can't be read is named in a note and stays with the
    rest.

    Args:
        hits: What a search found.
        scorer: An encoder with an ITM head.
        first: How many hits of each query to look at.
        batch_size: Pictures scored at once.
        on_step: Called with (pictures done, pictures).

    Returns:
        The hits with new ranks, and `itm` where they were reranked.

    Raises:
        InputError: If `first` is below 1, or a query has no text.
        AbilityError: If the scorer has no ITM head.

    Source: unifashion_spec 1.5 (`compute_itm`, `inference_rerank`).
    """
    if first < 1:
        raise InputError(f"Rerank: first is {first}. Give 1 or more.")
    chosen = [_text_part(query) for query in hits.queries]  # refuses before any work
    total = sum(min(first, len(row)) for row in hits.rows)
    notes = list(hits.notes)
    rows: list[tuple[Hit, ...]] = []
    done = 0
    for query, part, row in zip(hits.queries, chosen, hits.rows, strict=True):
        if len(query.parts) > 1:
            notes.append(
                f"reranked by '{part.text}' alone; the query's other parts have no say in it"
            )
        looked: list[Hit] = []
        for start in range(0, min(first, len(row)), batch_size):
            batch = row[start : min(start + batch_size, first)]
            looked += _score(batch, part, scorer, notes)
            done += len(batch)
            if on_step is not None:
                on_step(done, total)
        rows.append(_ordered(looked, row[first:]))
    return replace(hits, rows=tuple(rows), notes=tuple(dict.fromkeys(notes)))


def _text_part(query: Query) -> QueryPart:
    """The wanted part with a text that weighs most, the first of equals."""
    parts = [part for part in query.parts if part.text is not None and part.weight > 0]
    if not parts:
        raise InputError(
            "Rerank: a query has no text to match, only pictures. Add a text, or leave rerank out."
        )
    part = max(parts, key=lambda part: part.weight)
    if part.kind == "composed" and part.vision is None:
        raise InputError(
            "Rerank: a composed query carries no vision tokens of its picture. Encode the picture "
            "again."
        )
    return part


def _score(
    batch: Sequence[Hit], part: QueryPart, scorer: PairScorer, notes: list[str]
) -> list[Hit]:
    """The hits of a batch with their ITM scores, or without where the picture can't be read."""
    pixels: list[torch.Tensor] = []
    readable: list[Hit] = []
    unreadable: list[Hit] = []
    for hit in batch:
        try:
            image = open_image(hit.path, min_side=scorer.input_size)
        except ImageError as e:
            notes.append(f"not reranked: {e}")
            unreadable.append(replace(hit, missing=not hit.path.exists()))
        else:
            pixels.append(scorer.preprocess(image))
            readable.append(replace(hit, missing=False))
    if not readable:
        return unreadable
    reference = part.vision if part.kind == "composed" else None
    scores = scorer.score_pairs(str(part.text), torch.stack(pixels), reference)
    scored = [replace(hit, itm=float(score)) for hit, score in zip(readable, scores, strict=True)]
    return scored + unreadable


def _ordered(looked: Sequence[Hit], rest: Sequence[Hit]) -> tuple[Hit, ...]:
    scored = [hit for hit in looked if hit.itm is not None]
    scored.sort(key=lambda hit: (-(hit.itm or 0.0), -hit.score, hit.item_id))
    others = sorted((hit for hit in looked if hit.itm is None), key=lambda hit: hit.rank)
    hits = [*scored, *others, *(replace(hit, itm=None) for hit in rest)]
    return tuple(replace(hit, rank=number) for number, hit in enumerate(hits, start=1))

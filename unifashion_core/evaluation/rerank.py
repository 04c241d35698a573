"""What a rerank by image-text matching gains over the search that it reorders."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..encoder.encoder import MultimodalEncoder
from .photo_gallery import (
    CELL_PROMPT,
    COLOUR_EDIT,
    Features,
    coloured_noun,
    eligible_cells,
    precision_at_10,
    text_scores,
    vector_scores,
)

FIRST = 50
"""How many hits are looked at again."""

_COMPOSED_STEP = 9  # every ninth composed query: each costs `FIRST` passes over two pictures


def rerank_gain(
    encoder: MultimodalEncoder, gallery: Features, *, first: int = FIRST
) -> dict[str, Any]:
    """P@10 of "a photo of a red dress" and of photo + "in <colour>", searched and then reranked.

    Args:
        encoder: With an ITM head.
        gallery: The photos.
        first: How many hits are reordered, ten or more.

    Returns:
        "text" and "composed", each {"value", "without", "first", "n"}.

    Raises:
        AbilityError: If the encoder has no ITM head.
    """
    encoder.require("itm", "bench encoder")
    return {
        "text": _report(_text_rows(encoder, gallery), encoder, gallery, first),
        "composed": _report(_composed_rows(encoder, gallery), encoder, gallery, first),
    }


@torch.inference_mode()
def _report(
    rows: Sequence[tuple[str, int | None, Tensor, Tensor]],
    encoder: MultimodalEncoder,
    gallery: Features,
    first: int,
) -> dict[str, Any]:
    """Reorder each row's first hits: its text, its photo or None, its scores, what is relevant."""
    if not rows:
        return {"value": None, "without": None, "first": first, "n": 0}
    before: list[float] = []
    after: list[float] = []
    for text, photo, scores, relevant in rows:
        best = scores.topk(min(first, len(scores))).indices
        order = best[_match(encoder, gallery, text, photo, best).argsort(descending=True)]
        places = torch.full_like(scores, -torch.inf)
        places[order] = torch.arange(len(order), 0, -1, dtype=scores.dtype)
        before.append(float(precision_at_10(scores[None], relevant[None])))
        after.append(float(precision_at_10(places[None], relevant[None])))
    return {
        "value": sum(after) / len(after),
        "without": sum(before) / len(before),
        "first": first,
        "n": len(rows),
    }


def _match(
    encoder: MultimodalEncoder, gallery: Features, text: str, photo: int | None, hits: Tensor
) -> Tensor:
    """As `MultimodalEncoder.score_pairs`, from the tokens that the gallery keeps here, (hits,)."""
    batch = encoder.tokenize([text])
    ids, mask = (t.expand(len(hits), -1) for t in (batch.ids, batch.mask))
    vision = gallery.vision[hits].float()
    if photo is None:
        return encoder.model.itm_logits(vision, ids, mask)[:, 1]
    reference = gallery.vision[photo].float()[None].expand(len(hits), -1, -1)
    return encoder.model.rerank_probability(reference, vision, ids, mask)


def _text_rows(
    encoder: MultimodalEncoder, gallery: Features
) -> list[tuple[str, int | None, Tensor, Tensor]]:
    cells = eligible_cells(gallery.photos)
    texts = [CELL_PROMPT.format(words=coloured_noun(c, colour)) for c, colour in cells]
    if not texts:
        return []
    scores = text_scores(encoder, gallery, texts)
    return [
        (text, None, row, _in_cell(gallery, *cell))
        for text, row, cell in zip(texts, scores, cells, strict=True)
    ]


def _composed_rows(
    encoder: MultimodalEncoder, gallery: Features
) -> list[tuple[str, int | None, Tensor, Tensor]]:
    cells = eligible_cells(gallery.photos)
    queries = [
        (i, colour)
        for i, photo in enumerate(gallery.photos)
        for label, colour in cells
        if label == photo.label and colour not in photo.colours
    ][::_COMPOSED_STEP]
    rows: list[tuple[str, int | None, Tensor, Tensor]] = []
    for i, colour in queries:
        text = COLOUR_EDIT.format(colour=colour)
        vector = encoder.compose_from_vision(gallery.vision[i : i + 1].float(), [text]).vectors
        scores = vector_scores(vector, gallery.tokens)[0]
        scores[i] = -9.0
        relevant = _in_cell(gallery, gallery.photos[i].label, colour)
        relevant[i] = False
        rows.append((text, i, scores, relevant))
    return rows


def _in_cell(gallery: Features, label: str, colour: str) -> Tensor:
    """Which photos are of a class and a colour, (N,)."""
    return torch.tensor([p.label == label and colour in p.colours for p in gallery.photos])

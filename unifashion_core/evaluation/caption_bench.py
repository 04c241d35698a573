"""What a Q-Former captioner says of photos that no training saw: captions, attributes, and what its
captions add to a composed search.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..caption.qformer import QFormerCaptioner, qformer_captioner
from ..encoder.encoder import MultimodalEncoder
from ..errors import InputError
from ..imaging import open_image
from ..pocket.photos import Photo
from ..types import GarmentAttributes, OnStep
from .captions import caption_figures
from .photo_gallery import (
    COLOUR_EDIT,
    LEAST_RELEVANT,
    Features,
    eligible_cells,
    precision_at_10,
    vector_scores,
)

CAPTION_WEIGHT = 1.0
"""The paper's weight of a caption beside the image."""

_BATCH = 16
_RESAMPLES = 2000


def evaluate_captions(
    encoder: MultimodalEncoder,
    folder: Path,
    photos: Sequence[Photo],
    *,
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Measure a captioner with the settings of its card.

    Args:
        encoder: With an LM head.
        folder: Holds the photos.
        photos: Held out, labelled by eye.
        on_step: Called with (photos done, photos in all).

    Returns:
        "captions", "attributes" and "fused_search", each with its n.

    Raises:
        AbilityError: If the encoder has no LM head.
        InputError: If there are fewer than ten photos.
    """
    if len(photos) < LEAST_RELEVANT:
        raise InputError(
            f"bench caption: {len(photos)} photos, at least {LEAST_RELEVANT} are needed. Give "
            "the whole set."
        )
    captioner = qformer_captioner(encoder, batch_size=_BATCH)
    captions, records, gallery = _read(captioner, folder, photos, on_step)
    return {
        "photos": len(photos),
        "captions": caption_figures(captions, photos),
        "attributes": attribute_figures(records, photos),
        "fused_search": fused_search(encoder, gallery, captions),
    }


def attribute_figures(
    records: Sequence[GarmentAttributes], photos: Sequence[Photo]
) -> dict[str, Any]:
    """Precision of the answers and how often one is given, for category and main colour.

    A photo's main colour is right if it is one of the colours that were named by eye.
    """
    pairs = list(zip(records, photos, strict=True))
    category = [None if r.category is None else r.category.value == p.label for r, p in pairs]
    coloured = [(r, p) for r, p in pairs if p.colours]
    colour = [r.colours[0].name in p.colours if r.colours else None for r, p in coloured]
    return {"category": _answers(category), "colour": _answers(colour)}


def fused_search(
    encoder: MultimodalEncoder, gallery: Features, captions: Sequence[str]
) -> dict[str, Any]:
    """P@10 of photo + "in <colour>" with the gallery's captions and without, and the difference.

    The captions were made from the images alone. The interval resamples the photos that ask, since
    the queries of one photo are no independent trials.
    """
    cells = eligible_cells(gallery.photos)
    pairs = [
        (i, colour)
        for i, photo in enumerate(gallery.photos)
        for label, colour in cells
        if label == photo.label and colour not in photo.colours
    ]
    if not pairs:
        return {"value": None, "n": 0}
    rows = torch.tensor([i for i, _ in pairs])
    relevant = torch.tensor(
        [
            [p.label == gallery.photos[i].label and colour in p.colours for p in gallery.photos]
            for i, colour in pairs
        ]
    )
    relevant[torch.arange(len(rows)), rows] = False
    texts = [COLOUR_EDIT.format(colour=colour) for _, colour in pairs]
    vectors = _composed(encoder, gallery.vision, rows, texts)
    alone = vector_scores(vectors, gallery.tokens)
    words = vectors @ _caption_vectors(encoder, captions).T
    fused = (alone + CAPTION_WEIGHT * words) / (1 + CAPTION_WEIGHT)
    found = [_own_left_out(scores, rows, relevant) for scores in (alone, fused)]
    low, high = interval_of(found[1] - found[0], rows)
    return {
        "value": float((found[1] - found[0]).mean()),
        "interval_95": [low, high],
        "composed": float(found[0].mean()),
        "composed_and_captions": float(found[1].mean()),
        "weight": CAPTION_WEIGHT,
        "n": len(rows),
        "photos": len({i for i, _ in pairs}),
    }


def _read(
    captioner: QFormerCaptioner, folder: Path, photos: Sequence[Photo], on_step: OnStep | None
) -> tuple[list[str], list[GarmentAttributes], Features]:
    captions: list[str] = []
    records: list[GarmentAttributes] = []
    tokens: list[Tensor] = []
    vision: list[Tensor] = []
    for at in range(0, len(photos), _BATCH):
        part = photos[at : at + _BATCH]
        images = [open_image(folder / p.file, min_side=captioner.input_size) for p in part]
        captions += captioner.caption(images)
        records += captioner.describe(images)
        found = captioner.features(images)
        assert found.vision is not None
        tokens.append(found.tokens)
        vision.append(found.vision.half())
        if on_step is not None:
            on_step(at + len(part), len(photos))
    return captions, records, Features(tuple(photos), torch.cat(tokens), torch.cat(vision))


def _answers(right: Sequence[bool | None]) -> dict[str, Any]:
    given = [r for r in right if r is not None]
    return {
        "precision": sum(given) / len(given) if given else None,
        "answered": len(given) / max(len(right), 1),
        "n": len(right),
    }


def _composed(
    encoder: MultimodalEncoder, vision: Tensor, rows: Tensor, texts: Sequence[str]
) -> Tensor:
    """Vectors of the composed queries, (A, D)."""
    return torch.cat(
        [
            encoder.compose_from_vision(
                vision[rows[at : at + _BATCH]].float(), texts[at : at + _BATCH]
            ).vectors
            for at in range(0, len(rows), _BATCH)
        ]
    )


def _caption_vectors(encoder: MultimodalEncoder, captions: Sequence[str]) -> Tensor:
    """Unit vectors of the captions, (N, D); nothing but zeros for an empty one."""
    result = torch.zeros(len(captions), encoder.width)
    written = [i for i, caption in enumerate(captions) if caption]
    for at in range(0, len(written), _BATCH):
        part = written[at : at + _BATCH]
        result[part] = encoder.encode_texts([captions[i] for i in part]).vectors
    return result


def _own_left_out(scores: Tensor, rows: Tensor, relevant: Tensor) -> Tensor:
    """P@10 of each query, whose own photo never counts."""
    scores = scores.clone()
    scores[torch.arange(len(rows)), rows] = -9.0
    return precision_at_10(scores, relevant)


def interval_of(differences: Tensor, rows: Tensor) -> tuple[float, float]:
    """95 % bootstrap interval of the mean, photos drawn with all of their queries."""
    by_photo: defaultdict[int, list[float]] = defaultdict(list)
    for row, difference in zip(rows, differences, strict=True):
        by_photo[int(row)].append(float(difference))
    sums = torch.tensor([sum(v) for v in by_photo.values()])
    counts = torch.tensor([float(len(v)) for v in by_photo.values()])
    generator = torch.Generator().manual_seed(0)
    drawn = torch.randint(0, len(sums), (_RESAMPLES, len(sums)), generator=generator)
    means = sums[drawn].sum(dim=1) / counts[drawn].sum(dim=1)
    low, high = means.quantile(torch.tensor([0.025, 0.975]))
    return float(low), float(high)

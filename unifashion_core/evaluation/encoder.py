"""What a multimodal encoder finds among photos of garments it was not trained on: every figure of
the pocket card.

Gallery: the photos themselves. A query's own photo is left out. A class, cell or target counts
when at least ten photos are
relevant; figures are means over queries. The prompts below were fixed before the first training
run.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..encoder.encoder import MultimodalEncoder
from ..errors import InputError
from ..pocket.photos import CLASSES, Photo
from ..types import OnStep
from .captions import caption_quality
from .photo_gallery import (
    BATCH,
    CELL_PROMPT,
    CLASS_NOUNS,
    CLASS_PROMPT,
    COLOUR_EDIT,
    LEAST_RELEVANT,
    SLEEVE_EDIT,
    Features,
    class_prompts,
    coloured_noun,
    eligible_cells,
    encode_gallery,
    image_scores,
    precision_at_10,
    text_scores,
    vector_scores,
)
from .rerank import rerank_gain


def evaluate_encoder(
    encoder: MultimodalEncoder,
    folder: Path,
    photos: Sequence[Photo],
    *,
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Measure everything.

    Args:
        encoder: With an LM head, captions are measured as well.
        folder: Holds the photos.
        photos: The gallery and the queries, each with a class and its colours.
        on_step: Called with (photos encoded, photos in all).

    Returns:
        Figure by name: {"value", "n"} and what belongs to it; see `CARD.md` of the pocket encoder.

    Raises:
        InputError: If there are fewer than ten photos.
    """
    if len(photos) < LEAST_RELEVANT:
        raise InputError(
            f"bench encoder: {len(photos)} photos, at least {LEAST_RELEVANT} are needed. Give "
            "the whole set."
        )
    gallery = encode_gallery(encoder, folder, photos, on_step=on_step)
    report: dict[str, Any] = {"photos": len(photos), "tokens_per_image": encoder.tokens_per_image}
    report["label_accuracy"] = label_accuracy(encoder, gallery)
    report["category_p10"] = category_precision(encoder, gallery)
    report["colour_category_p10"] = cell_precision(encoder, gallery)
    report["image_p10"] = image_precision(gallery)
    report["composed"] = composed_precision(encoder, gallery)
    report["long_sleeves"] = sleeve_precision(encoder, gallery)
    if "itm" in encoder.abilities:
        report["rerank"] = rerank_gain(encoder, gallery)
    if "lm" in encoder.abilities:
        report["captions"] = caption_quality(encoder, gallery.vision, gallery.photos)
    return report


def label_accuracy(encoder: MultimodalEncoder, gallery: Features) -> dict[str, Any]:
    """Share of photos whose nearest class prompt is their class."""
    scores = text_scores(encoder, gallery, class_prompts())  # (classes, N)
    best = _numbers(scores.argmax(dim=0))
    hits = [CLASSES[b] == p.label for b, p in zip(best, gallery.photos, strict=True)]
    by_class: defaultdict[str, list[bool]] = defaultdict(list)
    for photo, hit in zip(gallery.photos, hits, strict=True):
        by_class[photo.label].append(hit)
    return {
        "value": sum(hits) / len(hits),
        "n": len(hits),
        "by_class": {c: round(sum(v) / len(v), 4) for c, v in sorted(by_class.items())},
    }


def category_precision(encoder: MultimodalEncoder, gallery: Features) -> dict[str, Any]:
    """P@10 of the class prompts."""
    counts = Counter(p.label for p in gallery.photos)
    classes = [c for c in CLASSES if counts[c] >= LEAST_RELEVANT]
    scores = text_scores(
        encoder, gallery, [CLASS_PROMPT.format(noun=CLASS_NOUNS[c]) for c in classes]
    )
    relevant = [[p.label == c for p in gallery.photos] for c in classes]
    return _mean_precision(scores, torch.tensor(relevant), dict(zip(classes, classes, strict=True)))


def cell_precision(encoder: MultimodalEncoder, gallery: Features) -> dict[str, Any]:
    """P@10 of "a photo of a red dress": class and colour must both be right."""
    cells = eligible_cells(gallery.photos)
    texts = [CELL_PROMPT.format(words=coloured_noun(c, colour)) for c, colour in cells]
    relevant = [
        [p.label == c and colour in p.colours for p in gallery.photos] for c, colour in cells
    ]
    names = {f"{colour} {c}": "" for c, colour in cells}
    return _mean_precision(text_scores(encoder, gallery, texts), torch.tensor(relevant), names)


def image_precision(gallery: Features) -> dict[str, Any]:
    """P@10 of photo -> photos of its class."""
    scores = image_scores(gallery.tokens, gallery.tokens).fill_diagonal_(-2.0)
    labels = torch.tensor([CLASSES.index(p.label) for p in gallery.photos])
    relevant = labels[:, None] == labels[None, :]
    relevant.fill_diagonal_(False)
    counted = relevant.sum(dim=1) >= LEAST_RELEVANT
    found = precision_at_10(scores[counted], relevant[counted])
    return {"value": float(found.mean()), "n": int(counted.sum())}


def composed_precision(encoder: MultimodalEncoder, gallery: Features) -> dict[str, Any]:
    """P@10 of photo + "in <colour>" -> the photo's class in that colour, and of what it must beat.

    Queries: every photo with every colour that is not its own and of which its class has at least
        ten photos. Baselines: the
    text alone, the photo alone, the plain sum of both scores.
    """
    pairs = [
        (i, colour)
        for i, photo in enumerate(gallery.photos)
        for c, colour in eligible_cells(gallery.photos)
        if c == photo.label and colour not in photo.colours
    ]
    rows = torch.tensor([i for i, _ in pairs])
    texts = [COLOUR_EDIT.format(colour=colour) for _, colour in pairs]
    relevant = torch.tensor(
        [
            [p.label == gallery.photos[i].label and colour in p.colours for p in gallery.photos]
            for i, colour in pairs
        ]
    )
    return _compare_composed(encoder, gallery, rows, texts, relevant)


def sleeve_precision(encoder: MultimodalEncoder, gallery: Features) -> dict[str, Any]:
    """P@10 of t-shirt + "with long sleeves" -> longsleeves of the t-shirt's main colour."""
    queries = [
        i
        for i, photo in enumerate(gallery.photos)
        if photo.label == "t-shirt"
        and photo.colours
        and _count_sleeves(gallery, photo) >= LEAST_RELEVANT
    ]
    if not queries:
        return {"value": None, "n": 0}
    relevant = torch.tensor(
        [
            [
                p.label == "longsleeve" and gallery.photos[i].colours[0] in p.colours
                for p in gallery.photos
            ]
            for i in queries
        ]
    )
    report = _compare_composed(
        encoder, gallery, torch.tensor(queries), [SLEEVE_EDIT] * len(queries), relevant
    )
    report["colours"] = sorted({gallery.photos[i].colours[0] for i in queries})
    return report


def _compare_composed(
    encoder: MultimodalEncoder,
    gallery: Features,
    rows: Tensor,
    texts: Sequence[str],
    relevant: Tensor,
) -> dict[str, Any]:
    """P@10 of composed queries and of the three baselines; the query's photo never counts."""
    relevant[torch.arange(len(rows)), rows] = False
    composed = torch.cat(
        [
            encoder.compose_from_vision(
                gallery.vision[rows[at : at + BATCH]].float(), texts[at : at + BATCH]
            ).vectors
            for at in range(0, len(rows), BATCH)
        ]
    )
    unique = sorted(set(texts))
    place = torch.tensor([unique.index(t) for t in texts])
    text = text_scores(encoder, gallery, unique)[place]
    used = sorted(set(_numbers(rows)))
    back = torch.tensor([used.index(i) for i in _numbers(rows)])
    image = image_scores(gallery.tokens[torch.tensor(used)], gallery.tokens)[back]
    found = {
        "value": vector_scores(composed, gallery.tokens),
        "text_only": text,
        "image_only": image,
        "plain_sum": text + image,
    }
    report: dict[str, Any] = {}
    for name, scores in found.items():
        scores = scores.clone()
        scores[torch.arange(len(rows)), rows] = -9.0
        report[name] = float(precision_at_10(scores, relevant).mean())
    best = max(report["text_only"], report["image_only"], report["plain_sum"])
    report["times_best_baseline"] = report["value"] / best if best else None
    report["n"] = len(rows)
    return report


def _numbers(values: Tensor) -> list[int]:
    return [int(v) for v in values]


def _mean_precision(scores: Tensor, relevant: Tensor, names: Mapping[str, str]) -> dict[str, Any]:
    found = precision_at_10(scores, relevant)
    by_query = {k: round(float(v), 4) for k, v in zip(names, found, strict=True)}
    return {"value": float(found.mean()), "n": len(found), "by_query": by_query}


def _count_sleeves(gallery: Features, photo: Photo) -> int:
    return sum(p.label == "longsleeve" and photo.colours[0] in p.colours for p in gallery.photos)

"""How good an encoder's captions are: category, main colour, repetition."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from ..encoder.encoder import MultimodalEncoder
from ..pocket.photos import COLOURS, Photo

_BATCH = 32
_LONGEST_CAPTION = 24

CAPTION_WORDS: dict[str, tuple[str, ...]] = {
    "dress": ("dress", "sundress", "gown", "shirt dress"),
    "hat": ("hat", "cap", "beanie", "bucket hat", "sun hat"),
    "longsleeve": (
        "longsleeve",
        "long sleeve top",
        "sweater",
        "sweatshirt",
        "cardigan",
        "hoodie",
        "turtleneck",
    ),
    "outwear": ("outwear", "outerwear", "jacket", "coat", "vest", "parka", "blazer"),
    "pants": ("pants", "trousers", "jeans", "leggings", "sweatpants"),
    "shirt": ("shirt", "blouse", "polo shirt"),
    "shoes": (
        "shoes",
        "sneakers",
        "boots",
        "heels",
        "sandals",
        "flats",
        "loafers",
        "slippers",
        "clogs",
        "flip-flops",
        "espadrilles",
    ),
    "shorts": ("shorts", "denim shorts", "swim shorts"),
    "skirt": ("skirt", "pleated skirt", "pencil skirt"),
    "t-shirt": ("t-shirt", "tee", "tank top"),
}
"""Class -> the words that say it in a caption; the longest match counts."""


def caption_quality(
    encoder: MultimodalEncoder, vision: Tensor, photos: Sequence[Photo]
) -> dict[str, Any]:
    """Greedy captions: the class by the word table, the main colour by the first colour word, no
    content word twice.

    Args:
        encoder: With an LM head.
        vision: Tower tokens of the photos, (N, P, W).
        photos: The N photos.
    """
    return caption_figures(greedy_captions(encoder, vision), photos)


def caption_figures(captions: Sequence[str], photos: Sequence[Photo]) -> dict[str, Any]:
    """The figures of captions, one a photo."""
    coloured = [(c, p) for c, p in zip(captions, photos, strict=True) if p.colours]
    category = [caption_class(c) == p.label for c, p in zip(captions, photos, strict=True)]
    main = [first_colour(c) == p.colours[0] for c, p in coloured]
    any_own = [first_colour(c) in p.colours for c, p in coloured]
    both = [first_colour(c) == p.colours[0] and caption_class(c) == p.label for c, p in coloured]
    return {
        "category": sum(category) / len(category),
        "colour": sum(main) / max(len(main), 1),
        "colour_of_the_photo": sum(any_own) / max(len(any_own), 1),
        "both": sum(both) / max(len(both), 1),
        "repeats": sum(repeats_itself(c) for c in captions),
        "n": len(captions),
        "examples": captions[:: max(len(captions) // 12, 1)][:12],
    }


@torch.inference_mode()
def greedy_captions(encoder: MultimodalEncoder, vision: Tensor) -> list[str]:
    """The likeliest word after word, for images (N, P, W)."""
    captions: list[str] = []
    end = encoder.config.text.sep_id
    for at in range(0, len(vision), _BATCH):
        part = vision[at : at + _BATCH].float()
        state = encoder.begin_decode(part)
        ids = torch.full((len(part),), encoder.config.text.bos_id, dtype=torch.int64)
        rows: list[Tensor] = []
        for _ in range(_LONGEST_CAPTION):
            logits, state = encoder.decode_step(ids, state)
            ids = logits.argmax(dim=-1)
            rows.append(ids)
        for words in torch.stack(rows, dim=1):
            row = [int(word) for word in words]
            cut = row.index(end) if end in row else len(row)
            captions.append(encoder.tokenizer.decode(row[:cut]))
    return captions


def caption_class(caption: str) -> str | None:
    """The class that a caption names by its longest match; None where two classes match as long."""
    words = f" {caption.replace('-', ' - ')} ".replace("  ", " ")
    found: dict[str, int] = {}
    for name, phrases in CAPTION_WORDS.items():
        for phrase in phrases:
            spaced = f" {phrase.replace('-', ' - ')} "
            if spaced in words:
                found[name] = max(found.get(name, 0), len(phrase))
    best = [c for c, length in found.items() if length == max(found.values())]
    return best[0] if len(best) == 1 else None


def first_colour(caption: str) -> str | None:
    """The first of the colour names in a caption."""
    return next((w for w in caption.split() if w in COLOURS), None)


def repeats_itself(caption: str) -> bool:
    """Whether a content word stands twice."""
    words = [w for w in caption.split() if w not in ("a", "an", "and", "with", "-", ",")]
    return len(words) != len(set(words))

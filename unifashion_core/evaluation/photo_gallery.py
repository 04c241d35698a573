"""Held-out photos as a gallery: what figures of the pocket card are counted on, and how."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from ..encoder.encoder import MultimodalEncoder
from ..imaging import open_image
from ..pocket.photos import CLASSES, COLOURS, Photo
from ..types import OnStep

CLASS_NOUNS: dict[str, str] = {
    "dress": "a dress",
    "hat": "a hat",
    "longsleeve": "a longsleeve",
    "outwear": "outwear",
    "pants": "pants",
    "shirt": "a shirt",
    "shoes": "shoes",
    "shorts": "shorts",
    "skirt": "a skirt",
    "t-shirt": "a t-shirt",
}
CLASS_PROMPT = "a photo of {noun}"
CELL_PROMPT = "a photo of {words}"
COLOUR_EDIT = "in {colour}"
SLEEVE_EDIT = "with long sleeves"


LEAST_RELEVANT = 10
_TOP = 10
BATCH = 32


@dataclass(frozen=True)
class Features:
    """The gallery.

    Attributes:
        photos: Its photos, in order.
        tokens: (N, T, D), unit vectors.
        vision: (N, P, W), float16: what composed queries and captions read.
    """

    photos: tuple[Photo, ...]
    tokens: Tensor
    vision: Tensor


@torch.inference_mode()
def encode_gallery(
    encoder: MultimodalEncoder,
    folder: Path,
    photos: Sequence[Photo],
    *,
    on_step: OnStep | None = None,
) -> Features:
    """Encode all photos, in order."""
    tokens: list[Tensor] = []
    vision: list[Tensor] = []
    for at in range(0, len(photos), BATCH):
        part = photos[at : at + BATCH]
        pixels = [encoder.preprocess(open_image(folder / p.file)) for p in part]
        found = encoder.encode_pixels(torch.stack(pixels))
        assert found.vision is not None
        tokens.append(found.tokens)
        vision.append(found.vision.half())
        if on_step is not None:
            on_step(at + len(part), len(photos))
    return Features(tuple(photos), torch.cat(tokens), torch.cat(vision))


def class_prompts() -> list[str]:
    """One prompt a class, in the order of `CLASSES`."""
    return [CLASS_PROMPT.format(noun=CLASS_NOUNS[c]) for c in CLASSES]


def coloured_noun(label: str, colour: str) -> str:
    """ "a red dress", "red pants"."""
    noun = CLASS_NOUNS[label]
    if not noun.startswith("a "):
        return f"{colour} {noun}"
    return f"{'an' if colour[0] in 'aeiou' else 'a'} {colour} {noun[2:]}"


def eligible_cells(photos: Sequence[Photo]) -> list[tuple[str, str]]:
    """(class, colour) of at least ten photos, in the order of the tables."""
    counts = Counter((p.label, colour) for p in photos for colour in p.colours)
    return [(c, k) for c in CLASSES for k in COLOURS if counts[c, k] >= LEAST_RELEVANT]


def text_scores(encoder: MultimodalEncoder, gallery: Features, texts: Sequence[str]) -> Tensor:
    """Each text's best token of each photo, (texts, N)."""
    return vector_scores(encoder.encode_texts(texts).vectors, gallery.tokens)


def vector_scores(vectors: Tensor, tokens: Tensor) -> Tensor:
    """(A, D) and (N, T, D) to the best token of each, (A, N)."""
    count, per_item, width = tokens.shape
    flat = vectors @ tokens.reshape(-1, width).T
    return flat.view(len(vectors), count, per_item).amax(dim=-1)


def image_scores(queries: Tensor, tokens: Tensor) -> Tensor:
    """Mean over the query's tokens of the item's best token, (A, T, D) and (N, T, D) to (A, N)."""
    rows = [vector_scores(q, tokens).mean(dim=0) for q in queries]
    return torch.stack(rows)


def precision_at_10(scores: Tensor, relevant: Tensor) -> Tensor:
    """P@10 of each row."""
    top = scores.topk(_TOP, dim=1).indices
    return relevant.gather(1, top).float().mean(dim=1)

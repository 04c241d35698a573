"""How well a try-on kept the garment, and whether it kept the rest of the photo."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from ..errors import ShapeError
from ..imaging import to_pil
from ..prepare.fit import check_mask, mask_box
from ..types import ImageEncoder, OnStep

BATCH = 16


@dataclass(frozen=True)
class TryOnScore:
    """What one result is worth.

    Attributes:
        similarity: Of the garment and what is worn inside the mask, by the encoder, -1..1.
        outside: Largest difference to the photo outside the mask, 0..1; None without a photo.
    """

    similarity: float
    outside: float | None = None

    @property
    def kept(self) -> bool:
        """Whether the photo is the same outside the mask, as far as that is known."""
        return not self.outside


def score_results(
    encoder: ImageEncoder,
    results: Sequence[Tensor],
    garments: Sequence[Tensor],
    masks: Sequence[Tensor | None],
    photos: Sequence[Tensor | None],
    on_step: OnStep | None = None,
) -> list[TryOnScore]:
    """Compare results with the garments that they shall show, by late interaction: the mean over
    the garment's tokens of the result's best one.

    Args:
        encoder: Its weights on the device.
        results: (H, W, 3 or 4), 0..1.
        garments: The garment of each, (h, w, 3 or 4), 0..1.
        masks: Where each was painted, (H, W); None: the whole picture is looked at.
        photos: What each was painted over, (H, W, C); None: unknown.
        on_step: Progress over the pictures that are encoded.

    Raises:
        ShapeError: If a mask or a photo has another size than its result.
    """
    cut = [_worn(result, mask) for result, mask in zip(results, masks, strict=True)]
    pictures = [*cut, *(_plain(garment) for garment in garments)]
    tokens: list[Tensor] = []
    for start in range(0, len(pictures), BATCH):
        some = [encoder.preprocess(to_pil(p)) for p in pictures[start : start + BATCH]]
        tokens += list(encoder.encode_pixels(torch.stack(some)).tokens)
        if on_step is not None:
            on_step(len(tokens), len(pictures))
    found: list[TryOnScore] = []
    for number, (result, mask, photo) in enumerate(zip(results, masks, photos, strict=True)):
        scores = tokens[len(results) + number] @ tokens[number].T
        found.append(TryOnScore(float(scores.amax(dim=1).mean()), _outside(result, mask, photo)))
    return found


def best_first(scores: Sequence[TryOnScore]) -> list[int]:
    """Places of the scores, best first: those that kept the photo before those that did not."""
    return sorted(range(len(scores)), key=lambda n: (not scores[n].kept, -scores[n].similarity))


def _worn(result: Tensor, mask: Tensor | None) -> Tensor:
    """What is inside the mask, on white."""
    plain = _plain(result)
    if mask is None:
        return plain
    check_mask(mask, (int(result.shape[0]), int(result.shape[1])), "Score try-on")
    box = mask_box(mask)
    if box is None:
        return plain
    left, top, right, bottom = box
    inside = (mask[top:bottom, left:right, None] > 0).float()
    return plain[top:bottom, left:right] * inside + (1.0 - inside)


def _plain(image: Tensor) -> Tensor:
    image = image.detach().float().cpu()
    if image.shape[-1] == 4:
        image = image[..., :3] * image[..., 3:] + (1.0 - image[..., 3:])
    return image


def _outside(result: Tensor, mask: Tensor | None, photo: Tensor | None) -> float | None:
    if photo is None:
        return None
    if result.shape != photo.shape:
        raise ShapeError(
            f"Score try-on: result {tuple(result.shape)}, photo {tuple(photo.shape)}. Connect the "
            "photo that it was painted over, with paste-back on."
        )
    difference = (result.float() - photo.float()).abs().amax(dim=-1).cpu()
    if mask is None:
        return float(difference.max())
    kept = difference[mask.cpu() <= 0]
    return float(kept.max()) if kept.numel() else 0.0

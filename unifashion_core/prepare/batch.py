"""Fit and paste-back over batches: one of anything serves many of the others."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import torch

from ..errors import ShapeError
from ..types import OnStep
from .fit import Fit, fit
from .paste import paste_back


def fit_batch(
    images: torch.Tensor,
    masks: torch.Tensor | None,
    size: tuple[int, int],
    context: float = 0.25,
    on_step: OnStep | None = None,
) -> tuple[torch.Tensor, torch.Tensor, tuple[Fit, ...]]:
    """`fit` for each photo of a batch, each with a crop of its own.

    Args:
        images: (B, H, W, C), 0..1.
        masks: (B, H, W), or one mask for all: (1, H, W) or (H, W). None: the whole photos.
        size: As in `fit`.
        context: As in `fit`.
        on_step: Progress over the photos.

    Returns:
        Crops (B, *size, C), masks (B, *size), and a fit for each.
    """
    planes = None if masks is None else as_masks(masks)
    counts = {"images": len(images)} | ({} if planes is None else {"masks": len(planes)})
    made: list[tuple[torch.Tensor, torch.Tensor, Fit]] = []
    total = batch_size("Fit", counts)
    for item in range(total):
        mask = None if planes is None else pick(planes, item)
        made.append(fit(pick(images, item), mask, size, context))
        if on_step:
            on_step(item + 1, total)
    crops, cut, fits = zip(*made, strict=True)
    return torch.stack(crops), torch.stack(cut), fits


def paste_batch(
    results: torch.Tensor,
    fits: Sequence[Fit],
    originals: torch.Tensor,
    masks: torch.Tensor,
    feather: int = 8,
    match_colour: bool = False,
    on_step: OnStep | None = None,
) -> torch.Tensor:
    """`paste_back` for each result: several results may go into one photo.

    Args:
        results: (B, h, w, C'), or one.
        fits: B fits, or one.
        originals: (B, H, W, C), or one.
        masks: (B, H, W), or one.
        feather: As in `paste_back`.
        match_colour: As in `paste_back`.
        on_step: Progress over the results.

    Returns:
        (B, H, W, C), of the originals' type.
    """
    planes = as_masks(masks)
    counts = {
        "results": len(results),
        "fits": len(fits),
        "images": len(originals),
        "masks": len(planes),
    }
    total = batch_size("Paste back", counts)
    made: list[torch.Tensor] = []
    for item in range(total):
        made.append(
            paste_back(
                pick(results, item),
                fits[item if len(fits) > 1 else 0],
                pick(originals, item),
                pick(planes, item),
                feather,
                match_colour,
            )
        )
        if on_step:
            on_step(item + 1, total)
    return made[0][None] if total == 1 else torch.stack(made)


def as_masks(masks: torch.Tensor) -> torch.Tensor:
    """A MASK, (B, H, W) or (H, W), as (B, H, W)."""
    return masks[None] if masks.ndim == 2 else masks


def batch_size(where: str, counts: Mapping[str, int]) -> int:
    """How many items a batch has of which each input brings all, or one for all.

    Raises:
        ShapeError: If the numbers don't go together, or one is 0.
    """
    total = max(counts.values())
    if any(count not in (1, total) for count in counts.values()):
        said = ", ".join(f"{count} {name}" for name, count in counts.items())
        raise ShapeError(f"{where}: {said}. Give equally many of each, or one for all.")
    return total


def pick(values: torch.Tensor, item: int) -> torch.Tensor:
    """An item of a batch, or the only one."""
    return values[item if len(values) > 1 else 0]

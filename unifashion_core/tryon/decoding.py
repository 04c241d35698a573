"""From latents to pictures, in tiles where memory is short, and the reference's repaint."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import BackendError, InputError, ShapeError
from .autoencoder import Autoencoder
from .checkpoint import TryOnModel
from .shortage import is_memory_short

TILE, OVERLAP = 32, 8
"""Of a tile, in latent places."""


@torch.inference_mode()
def decode(model: TryOnModel, latents: Tensor, *, tiled: bool = False) -> Tensor:
    """Decode latents; where memory is short one by one, then in tiles.

    Args:
        model: Its autoencoder is used.
        latents: Scaled, (B, z, h, w).
        tiled: In tiles from the start; colours may differ a little from tile to tile, since its
            norms and its attention see a tile alone.

    Returns:
        Pictures, (B, H, W, 3), 0..1, float32 on the CPU.

    Raises:
        InputError: If latents or pictures hold no numbers.
        ShapeError: If these are no latents of this model.
        BackendError: If memory is short for even a tile.
    """
    config = model.config.autoencoder
    if latents.ndim != 4 or latents.shape[1] != config.latent_channels:
        raise ShapeError(
            f"decode: latents of shape {tuple(latents.shape)}, wanted "
            f"(B, {config.latent_channels}, h, w). Give latents of this model."
        )
    _check(latents, "the latents hold")
    like = next(model.autoencoder.parameters())
    unscaled = latents.to(like.device, like.dtype) / config.scale_factor
    pixels = _decode(model.autoencoder, unscaled, tiled)
    _check(pixels, f"the autoencoder gave ({str(like.dtype).removeprefix('torch.')})")
    return ((pixels + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1).contiguous()


def repaint(images: Tensor, photos: Tensor, mask: Tensor) -> Tensor:
    """Put the photo's pixels back where the mask keeps them, as the reference does at its end.

    For a crop in the model's frame; `prepare` pastes back into the whole photo.

    Args:
        images: Sampled, (B, H, W, 3), 0..1.
        photos: (B, H, W, 3), 0..1.
        mask: 1 = was to be painted anew, (B, H, W).

    Returns:
        (B, H, W, 3); where the mask is 0 the photo's own values.

    Raises:
        ShapeError: If sizes differ.
    """
    if images.shape != photos.shape or mask.shape != images.shape[:3]:
        raise ShapeError(
            f"repaint: pictures {tuple(images.shape)}, photos {tuple(photos.shape)}, mask "
            f"{tuple(mask.shape)}. Give all of one size."
        )
    share = mask[..., None].to(images)
    mixed = images * share + photos * (1 - share)
    return torch.where(share == 0, photos, mixed)


def _decode(autoencoder: Autoencoder, latents: Tensor, tiled: bool) -> Tensor:
    """Pictures on the CPU, (B, 3, H, W)."""
    singles = [latents[i : i + 1] for i in range(len(latents))]
    for parts in () if tiled else ([latents], singles):
        found = _tried(autoencoder, parts)
        if found is not None:
            return found
    try:
        return torch.cat([_decode_tiled(autoencoder, one) for one in singles])
    except (RuntimeError, MemoryError) as e:
        if not is_memory_short(e):
            raise
        raise BackendError(
            f"decode: too little memory on {latents.device} for a tile of {TILE} latent places. "
            "Load the autoencoder as bfloat16, or start ComfyUI with --lowvram."
        ) from e


def _tried(autoencoder: Autoencoder, parts: list[Tensor]) -> Tensor | None:
    """All parts decoded, or None where memory is short."""
    try:
        return torch.cat([autoencoder.decode(part).float().cpu() for part in parts])
    except (RuntimeError, MemoryError) as e:
        if not is_memory_short(e):
            raise
        return None


def _decode_tiled(autoencoder: Autoencoder, latents: Tensor) -> Tensor:
    """One picture from overlapping tiles whose seams fade into each other."""
    factor = autoencoder.config.factor
    height, width = latents.shape[2:]
    total = torch.zeros(1, 3, height * factor, width * factor)
    weight = torch.zeros(1, 1, height * factor, width * factor)
    for top in _starts(height):
        for left in _starts(width):
            tile = latents[:, :, top : top + TILE, left : left + TILE]
            pixels = autoencoder.decode(tile).float().cpu()
            rows, columns = (_fade(side) for side in pixels.shape[2:])
            share = rows[:, None] * columns
            y, x = top * factor, left * factor
            here = (..., slice(y, y + len(rows)), slice(x, x + len(columns)))
            total[here] += pixels * share
            weight[here] += share
    return total / weight


def _starts(side: int) -> list[int]:
    """Where tiles begin; the last one ends with the side."""
    if side <= TILE:
        return [0]
    return sorted({*range(0, side - TILE, TILE - OVERLAP), side - TILE})


def _fade(side: int) -> Tensor:
    """Weights of a tile's rows: rising from its edges; never zero."""
    places = torch.arange(side, dtype=torch.float32) + 0.5
    edge = torch.minimum(places, side - places)
    return (edge / (side * OVERLAP / TILE)).clamp(max=1.0)


def _check(values: Tensor, what: str) -> None:
    if not bool(torch.isfinite(values).all()):
        raise InputError(
            f"decode: {what} values that are no numbers (NaN or infinite). Load the model, or its "
            "autoencoder, as float32 or bfloat16."
        )

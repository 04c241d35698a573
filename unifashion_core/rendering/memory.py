"""What the activations of a try-on model take, so that a host can make room before a step."""

from __future__ import annotations

import torch

from ..tryon.config import TryOnConfig

_MAPS_KEPT = 2  # the garment's maps and the UNet's skips
_WIDE = 24  # maps as wide as a level's that one block holds at once: its feed-forward is 8 wide
_DECODER = 8  # maps of the decoder's last level that are alive at once


def sampling_bytes(
    config: TryOnConfig, items: int, size: tuple[int, int], dtype: torch.dtype
) -> int:
    """About how many bytes the activations of one step of so many items take.

    Args:
        config: The model's.
        items: In the batch.
        size: Height and width of the pictures.
        dtype: That the UNet computes in.
    """
    factor = config.autoencoder.factor
    places = (size[0] // factor) * (size[1] // factor)
    levels = [width * (places >> 2 * n) for n, width in enumerate(config.unet.widths)]
    kept = _MAPS_KEPT * (config.unet.num_res_blocks + 1) * sum(levels)
    return items * dtype.itemsize * (kept + _WIDE * max(levels))


def coding_bytes(config: TryOnConfig, items: int, size: tuple[int, int], dtype: torch.dtype) -> int:
    """About how many bytes the autoencoder takes for so many pictures at once.

    Args:
        config: The model's.
        items: Pictures.
        size: Height and width of the pictures.
        dtype: That it computes in.
    """
    return items * dtype.itemsize * _DECODER * config.autoencoder.channels * size[0] * size[1]

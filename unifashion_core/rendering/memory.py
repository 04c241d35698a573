"""What the activations of a try-on model take, so that a host can make room before a step.

Each network is walked as its `forward` goes: what is kept on the way, and what a block holds at
once beside it. Attention is taken to be one that never holds its scores. Counted are tensors; what
a kernel takes inside itself is the host's reserve.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch

from ..tryon.config import AutoencoderConfig, TryOnConfig, UNetConfig

_FEED_FORWARD = 20
"""Maps of its width that a transformer block holds in its feed-forward, the most of it: the map
that came in, projected, attended to, normed; 8 of the gated projection, 4 of its gelu, 4 of their
product."""
_ADAPTER_TOKENS = 32  # query outputs of an encoder


def sampling_bytes(
    config: TryOnConfig, items: int, size: tuple[int, int], dtype: torch.dtype
) -> int:
    """How many bytes the activations of one step of so many items take at most.

    Args:
        config: The model's.
        items: In the batch, each prediction of a guided step counted.
        size: Height and width of the pictures.
        dtype: That the UNet computes in.
    """
    factor = config.autoencoder.factor
    places = (size[0] // factor) * (size[1] // factor)
    tokens = 1 if config.text is None else config.text.places  # of a garment's picture: one
    tokens += _ADAPTER_TOKENS if config.adapter else 0
    kept = _kept_context(config.unet, tokens) + 3 * config.unet.in_channels * places
    shared = 0
    if config.unet.warp_positions:  # embeddings of the places, the same for all items
        shared = 2 * config.unet.model_channels * places
    return dtype.itemsize * (items * (kept + _unet_values(config.unet, places)) + shared)


def coding_bytes(config: TryOnConfig, items: int, size: tuple[int, int], dtype: torch.dtype) -> int:
    """How many bytes the autoencoder's decoder takes for so many pictures at once, at most.

    Args:
        config: The model's.
        items: Pictures.
        size: Height and width of the pictures.
        dtype: That it computes in.
    """
    return items * dtype.itemsize * _decoder_values(config.autoencoder, size[0] * size[1])


def encoding_bytes(config: TryOnConfig, size: tuple[int, int], dtype: torch.dtype) -> int:
    """How many bytes the autoencoder's encoder takes for one picture, at most.

    Args:
        config: The model's.
        size: Height and width of the picture.
        dtype: That it computes in.
    """
    return dtype.itemsize * _encoder_values(config.autoencoder, size[0] * size[1])


def context_bytes(config: TryOnConfig, dtype: torch.dtype) -> int:
    """How many bytes the encoder of texts or of garments takes for one of them, at most.

    Args:
        config: The model's.
        dtype: That it computes in.
    """
    clip = config.text if config.image is None else config.image
    if clip is None:
        return 0
    values = clip.places * (4 * clip.width + 3 * clip.intermediate)  # its GELU is the quick one
    return dtype.itemsize * (values + 3 * clip.image_size**2)


def _kept_context(config: UNetConfig, tokens: int) -> int:
    """Values of the context's keys and values that stay over all steps, an item."""
    widths = [
        width
        for level, width in enumerate(config.widths)
        if 2**level in config.attention_resolutions
        for _ in range(3 * config.num_res_blocks + 1)  # UNet and garment encoder, and its decoder
    ]
    return 2 * tokens * (sum(widths) + 2 * config.widths[-1])


def _unet_values(config: UNetConfig, places: int) -> int:
    """Values that are alive at once at most in the UNet's call, an item."""
    top = max(_walk_in(config, places))
    return max(top, *_walk_out(config, places))


def _inputs(config: UNetConfig) -> list[tuple[int, int, int]]:
    """Width before, width, and level of each input block."""
    width, found = config.model_channels, [(config.in_channels, config.model_channels, 0)]
    for level, wide in enumerate(config.widths):
        for _ in range(config.num_res_blocks):
            found.append((width, wide, level))
            width = wide
        if level + 1 < len(config.widths):
            found.append((width, width, level + 1))
    return found


def _maps(config: UNetConfig, places: int) -> list[int]:
    """Values of the map behind each input block."""
    return [width * (places >> 2 * level) for _, width, level in _inputs(config)]


def _walk_in(config: UNetConfig, places: int) -> Iterator[int]:
    """What the input blocks and the middle hold, each beside the garment's maps and the skips."""
    maps = _maps(config, places)
    kept = sum(maps[: len(maps) - config.first_warp])
    for (before, width, level), made in zip(_inputs(config), maps, strict=True):
        here = places >> 2 * level
        yield kept + _block(config, before, width, level) * here - before * here
        kept += made
    yield kept + (1 + _FEED_FORWARD) * maps[-1]


def _walk_out(config: UNetConfig, places: int) -> Iterator[int]:
    """What the output blocks and their warp blocks hold, beside what of maps and skips is left."""
    skips = _maps(config, places)
    hints = skips[: len(skips) - config.first_warp]
    width, number = config.widths[-1], 0
    for level, wide in reversed(list(enumerate(config.widths))):
        here = places >> 2 * level
        for turn in range(config.num_res_blocks + 1):
            if number >= config.first_warp:
                yield sum(skips) + sum(hints) + _FEED_FORWARD * width * here
                hints.pop()
            joined = width * here + skips.pop()
            kept = sum(skips) + sum(hints) + width * here
            yield kept + _block(config, joined // here, wide, level) * here
            if level and turn == config.num_res_blocks:  # twice the sides: each place, convolved
                yield kept + joined + wide * here * (1 + 4 + 4)
            width, number = wide, number + 1


def _block(config: UNetConfig, before: int, width: int, level: int) -> int:
    """Values a place that a block of the UNet holds, what it was given among them."""
    skip = width if before != width else 0
    residual = max(3 * before, before + 3 * width + skip)
    if 2**level not in config.attention_resolutions:
        return residual
    return max(residual, before + _FEED_FORWARD * width)


def _residual(before: int, width: int) -> int:
    """Values a place that a block of the autoencoder holds."""
    return max(3 * before, before + 3 * width)


def _level(before: int, width: int, count: int) -> int:
    """The most that the residual blocks of a level hold a place; the level's input stays."""
    later = before + _residual(width, width) if count > 1 else 0
    return max(_residual(before, width), later)


def _encoder_values(config: AutoencoderConfig, places: int) -> int:
    width, most = config.channels, 0
    for level, mult in enumerate(config.channel_mult):
        here, wide = places >> 2 * level, config.channels * mult
        most = max(most, _level(width, wide, config.num_res_blocks) * here)
        if level + 1 < len(config.channel_mult):  # its input, padded, halved
            most = max(most, (width + 2 * wide) * here + wide * here // 4)
        width = wide
    return most


def _decoder_values(config: AutoencoderConfig, places: int) -> int:
    width, most = config.channels * config.channel_mult[-1], 0
    for level, mult in reversed(list(enumerate(config.channel_mult))):
        here, wide = places >> 2 * level, config.channels * mult
        most = max(most, _level(width, wide, config.num_res_blocks + 1) * here)
        if level:  # its input, each place four times, convolved
            most = max(most, (width + wide * (1 + 4 + 4)) * here)
        width = wide
    return most

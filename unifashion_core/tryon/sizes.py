"""Sizes of a try-on checkpoint, from its keys and shapes.

Heads and norm groups show in no shape: they are known for the published width, and must be told
for any other.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import count

from ..errors import CheckpointError
from ..weights import StoredTensor
from .config import AutoencoderConfig, ClipConfig, UNetConfig

Tensors = Mapping[str, StoredTensor]

_KNOWN_HEADS = {320: 8}
_GROUPS = 32
_CLIP_HEAD_WIDTH = 64


def unet_config(tensors: Tensors, where: str, heads: int | None = None) -> UNetConfig:
    """The UNet's sizes.

    Args:
        tensors: Under the UNet's own names.
        where: For messages.
        heads: Where the caller knows them.

    Raises:
        CheckpointError: If it is no UNet of this kind, or its heads are not known.
    """
    width, channels = _shape(tensors, "input_blocks.0.0.weight", where)[:2]
    if channels % 3 != 1 or channels < 4:
        raise CheckpointError(
            f"{where}: its UNet reads {channels} channels, a try-on UNet reads 3 z + 1. "
            "Give a UniFashion or StableVITON checkpoint."
        )
    widths, counts, attended = _levels(tensors, where)
    heads = heads or _KNOWN_HEADS.get(width)
    if heads is None:
        raise CheckpointError(
            f"{where}: the number of attention heads is not known for width {width}. "
            "Convert it once with the number given, and load the folder."
        )
    context = _shape(tensors, "middle_block.1.transformer_blocks.0.attn2.to_k.weight", where)[1]
    return UNetConfig(
        latent_channels=(channels - 1) // 3,
        model_channels=width,
        channel_mult=tuple(w // width for w in widths),
        num_res_blocks=counts[0],
        attention_resolutions=attended,
        num_heads=heads,
        context_dim=context,
        norm_groups=_GROUPS,
    )


def _levels(tensors: Tensors, where: str) -> tuple[list[int], list[int], tuple[int, ...]]:
    """Width, number of residual blocks, and attention of each level."""
    widths: list[int] = []
    counts: list[int] = []
    attended: list[int] = []
    fresh = True
    for number in count(1):
        block = f"input_blocks.{number}.0"
        if f"{block}.op.weight" in tensors:
            fresh = True
        elif f"{block}.in_layers.2.weight" in tensors:
            if fresh:
                widths.append(_shape(tensors, f"{block}.in_layers.2.weight", where)[0])
                counts.append(0)
            fresh = False
            counts[-1] += 1
            factor = 2 ** (len(widths) - 1)
            if f"input_blocks.{number}.1.proj_in.weight" in tensors and factor not in attended:
                attended.append(factor)
        else:
            break
    if not widths or len(set(counts)) != 1:
        raise CheckpointError(
            f"{where}: its levels have {counts} residual blocks, wanted the same number in each. "
            "Give a UniFashion or StableVITON checkpoint."
        )
    return widths, counts, tuple(reversed(attended))


def autoencoder_config(tensors: Tensors, where: str) -> AutoencoderConfig:
    """The autoencoder's sizes.

    Args:
        tensors: Under its own names.
        where: For messages.

    Raises:
        CheckpointError: If it is no such autoencoder.
    """
    channels = _shape(tensors, "encoder.conv_in.weight", where)[0]
    widths: list[int] = []
    blocks = 0
    for level in count():
        first = f"encoder.down.{level}.block.0.conv1.weight"
        if first not in tensors:
            break
        widths.append(_shape(tensors, first, where)[0])
        name = f"encoder.down.{level}.block.{{}}.conv1.weight"
        blocks = next(i for i in count() if name.format(i) not in tensors)
    if not widths:
        raise CheckpointError(f"{where}: its autoencoder has no levels. Get the file again.")
    return AutoencoderConfig(
        channels=channels,
        channel_mult=tuple(w // channels for w in widths),
        num_res_blocks=blocks,
        latent_channels=_shape(tensors, "post_quant_conv.weight", where)[0],
        norm_groups=_GROUPS,
    )


def clip_config(tensors: Tensors, where: str) -> ClipConfig:
    """Sizes of a CLIP transformer under `text_model.*` or `vision_model.*`.

    Heads are 64 wide in every published CLIP.

    Args:
        tensors: Under those names.
        where: For messages.

    Raises:
        CheckpointError: If it is none.
    """
    text = any(name.startswith("text_model.") for name in tensors)
    root = "text_model" if text else "vision_model"
    places, width = _shape(tensors, f"{root}.embeddings.position_embedding.weight", where)
    layer = f"{root}.encoder.layers.{{}}.mlp.fc1.weight"
    layers = next(i for i in count() if layer.format(i) not in tensors)
    wide = _shape(tensors, layer.format(0), where)[0]
    words = patch = 0
    if text:
        words = _shape(tensors, f"{root}.embeddings.token_embedding.weight", where)[0]
    else:
        patch = _shape(tensors, f"{root}.embeddings.patch_embedding.weight", where)[-1]
    heads = max(width // _CLIP_HEAD_WIDTH, 1)
    return ClipConfig(width, layers, heads, wide, places, words, patch)


def _shape(tensors: Tensors, name: str, where: str) -> tuple[int, ...]:
    if name not in tensors:
        raise CheckpointError(f"{where}: {name} is missing. Get a complete checkpoint.")
    return tensors[name].shape

"""How much memory a batch needs beside the weights, so that the host can make room for it.

Each is the step of a network that holds the most. Attention is taken to be one that never holds
its scores; what a kernel takes inside itself is the host's reserve.
"""

from __future__ import annotations

from typing import Any, cast

from .config import TowerConfig
from .dual import DualEncoder
from .encoder import MultimodalEncoder

# Of Lite0, in values a place of half the sides: the stem's map and the first stage's, which are
# kept; then of the second stage's first block the expanded map, the filtered one of a quarter as
# many places, and the one of 24 channels.
_LITE0_VALUES = 32 + 16 + 96 + 96 // 4 + 24 // 4
_FLOAT32 = 4


def activation_bytes(encoder: MultimodalEncoder | DualEncoder, images: int) -> int:
    """Bytes that the activations of a batch take at most.

    Args:
        encoder: What will run.
        images: Images of the batch, each with all its views.
    """
    size = next(encoder.model.parameters()).element_size()
    if isinstance(encoder, DualEncoder):
        return images * size * _dual_values(encoder)
    tower, views = encoder.config.tower, len(encoder.config.preprocess.views)
    pixels = 3 * encoder.config.preprocess.size**2
    if tower.kind == "efficientnet_lite0":  # it keeps the pixels in its own type as well
        side = encoder.config.preprocess.size // 2
        values = _LITE0_VALUES * side**2 + pixels
    else:
        values = max(_tower_values(tower), _qformer_values(encoder))
    return images * views * (values * size + pixels * _FLOAT32)


def _tower_values(tower: TowerConfig) -> int:
    """In a block's MLP: what came in, what attention made of it, normed, and its maps."""
    tokens = (tower.image_size // tower.patch_size) ** 2 + 1
    kept, inner = 3, 2
    if tower.kind == "clip_vit":  # transformers keeps each layer's tokens
        kept = tower.layers + 2
        inner = _inner_maps(tower.activation)
    return tokens * (kept * tower.width + inner * tower.mlp_hidden)


def _qformer_values(encoder: MultimodalEncoder) -> int:
    """Beside the image's tokens each layer's keys and values, and one layer at work: over the
    image's tokens, or in its feed-forward."""
    tower, config = encoder.config.tower, encoder.config.qformer
    tokens, queries = (tower.image_size // tower.patch_size) ** 2 + 1, config.num_query_tokens
    kept = tokens * config.vision_width + 2 * config.layers * queries * config.hidden
    crossing = 2 * tokens * config.hidden + 6 * queries * config.hidden
    inner = queries * (3 * config.hidden + 2 * config.intermediate)
    return kept + max(crossing, inner)


def _dual_values(encoder: DualEncoder) -> int:
    vision = cast(Any, encoder.model).config.vision_config
    grid = (int(vision.image_size) // int(vision.patch_size)) ** 2
    tokens = grid + int(vision.model_type.startswith("clip"))  # its class token
    inner = _inner_maps(str(vision.hidden_act)) * int(vision.intermediate_size)
    return tokens * (4 * int(vision.hidden_size) + inner) + 3 * int(vision.image_size) ** 2


def _inner_maps(activation: str) -> int:
    """Maps of an MLP's inner width that are alive at once: the quick GELU has a factor beside."""
    return 3 if activation == "quick_gelu" else 2

"""How much memory a batch needs beside the weights, so that the host can make room for it."""

from __future__ import annotations

from .dual import DualEncoder
from .encoder import MultimodalEncoder

_LITE0_WIDEST = 112 * 112 * 96  # values of its largest map, at 224 px: the second block, expanded
_DUAL_TOKENS, _DUAL_WIDTH = 577, 5120  # a ViT-L at 336 px; no folder of these families is larger
_LIVE_MAPS = 4  # of a transformer's widest size that are alive at once
# Measured on the pocket encoder (torch 2.13, CPU, float32, peak of live tensors; batch 1, 4, 8):
# 21.6, 60.6 and 116.3 MB, which is three widest maps an image and this much a batch. That was with
# the padding copies that a card still makes; a processor's own path takes 39.8 MB for four.
_LITE0_MAPS, _LITE0_FIXED = 3, 6_000_000


def activation_bytes(encoder: MultimodalEncoder | DualEncoder, images: int) -> int:
    """Bytes that the activations of a batch take at most.

    Args:
        encoder: What will run.
        images: Images of the batch, each with all its views; 0 gives what a batch takes besides.
    """
    size = next(encoder.model.parameters()).element_size()
    if isinstance(encoder, DualEncoder):
        return images * _DUAL_TOKENS * _DUAL_WIDTH * _LIVE_MAPS * size
    tower, views = encoder.config.tower, len(encoder.config.preprocess.views)
    if tower.kind == "efficientnet_lite0":
        widest = _LITE0_WIDEST * (tower.image_size / 224) ** 2
        return int(images * views * widest * _LITE0_MAPS * size + _LITE0_FIXED * size / 4)
    widest = ((tower.image_size // tower.patch_size) ** 2 + 1) * tower.mlp_hidden
    return int(images * views * widest * _LIVE_MAPS * size)

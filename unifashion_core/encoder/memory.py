"""How much memory a batch needs beside the weights, so that the host can make room for it."""

from __future__ import annotations

from .dual import DualEncoder
from .encoder import MultimodalEncoder

_LITE0_WIDEST = 112 * 112 * 96  # values of its largest map, at 224 px: the second block, expanded
_DUAL_TOKENS, _DUAL_WIDTH = 577, 5120  # a ViT-L at 336 px; no folder of these families is larger
_LIVE_MAPS = 4  # of the widest size that are alive at once: input, output, and two between


def activation_bytes(encoder: MultimodalEncoder | DualEncoder, images: int) -> int:
    """Bytes that the activations of a batch take at most.

    Args:
        encoder: What will run.
        images: Images of the batch, each with all its views.
    """
    size = next(encoder.model.parameters()).element_size()
    if isinstance(encoder, DualEncoder):
        return images * _DUAL_TOKENS * _DUAL_WIDTH * _LIVE_MAPS * size
    tower, views = encoder.config.tower, len(encoder.config.preprocess.views)
    if tower.kind == "efficientnet_lite0":
        widest = _LITE0_WIDEST * (tower.image_size / 224) ** 2
    else:
        widest = ((tower.image_size // tower.patch_size) ** 2 + 1) * tower.mlp_hidden
    return int(images * views * widest * _LIVE_MAPS * size)

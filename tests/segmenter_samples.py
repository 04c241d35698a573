"""A tiny real segmentation model, for tests that load one from a folder."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import pytest
import torch

ATR_NAMES = (
    "Background", "Hat", "Hair", "Sunglasses", "Upper-clothes", "Skirt", "Pants", "Dress", "Belt",
    "Left-shoe", "Right-shoe", "Face", "Left-leg", "Right-leg", "Left-arm", "Right-arm", "Bag",
    "Scarf",
)  # fmt: skip


def save_tiny_segmenter(
    folder: Path, names: Sequence[str] = ATR_NAMES, *, upper: float = 0.0
) -> Path:
    """A SegFormer of random weights that tells two labels apart, in a folder as transformers
    writes it; `upper` draws it to the second one, upper clothes.
    """
    transformers = pytest.importorskip("transformers")
    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        num_encoder_blocks=2, depths=[1, 1], sr_ratios=[2, 1], hidden_sizes=[16, 32],
        patch_sizes=[7, 3], strides=[4, 2], num_attention_heads=[1, 2], mlp_ratios=[2, 2],
        decoder_hidden_size=16, id2label=dict(enumerate(names)),
        label2id={name: i for i, name in enumerate(names)},
    )  # fmt: skip
    model = transformers.SegformerForSemanticSegmentation(config)
    with torch.no_grad():  # decides between labels 0 and 4 by brightness, not by chance alone
        model.decode_head.classifier.bias.fill_(-50.0)
        model.decode_head.classifier.bias[[0, 4]] = torch.tensor([0.0, upper])
    model.save_pretrained(folder, safe_serialization=True)
    (folder / "preprocessor_config.json").write_text(
        json.dumps({"image_processor_type": "SegformerImageProcessor",
                    "size": {"height": 64, "width": 64},
                    "do_resize": True, "do_normalize": True, "do_rescale": True,
                    "image_mean": [0.5, 0.5, 0.5], "image_std": [0.5, 0.5, 0.5]})
    )  # fmt: skip
    return folder

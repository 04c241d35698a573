"""Tiny real models and data folders for the training tests."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image

from unifashion_core.attention import sdpa_attention
from unifashion_core.encoder.config import (
    EncoderConfig,
    PreprocessConfig,
    QFormerConfig,
    StemConfig,
    TextConfig,
    TowerConfig,
)
from unifashion_core.encoder.efficientnet_lite import LITE0_MEAN, LITE0_STD, LITE0_WIDTH
from unifashion_core.encoder.model import UniFashionEncoderModel
from unifashion_core.training.config import CacheConfig, OptimConfig, SamplingConfig, TrainConfig
from unifashion_core.training.vocabulary import write_vocabulary

COLOURS = {"red": (200, 30, 30), "blue": (40, 60, 200), "green": (40, 140, 60)}
KINDS = ("dress", "skirt")


def tiny_config(words: int = 40) -> EncoderConfig:
    """The pocket encoder's shape, very small: 64-pixel Lite0, 16 wide."""
    return EncoderConfig(
        tower=TowerConfig(kind="efficientnet_lite0", image_size=64, width=LITE0_WIDTH),
        stem=StemConfig("pca", LITE0_WIDTH, 16, pooled_token=True),
        qformer=QFormerConfig(
            vocab_size=words,
            hidden=16,
            layers=2,
            heads=2,
            intermediate=32,
            max_positions=32,
            num_query_tokens=3,
            vision_width=16,
            embed_dim=8,
        ),
        preprocess=PreprocessConfig(64, ("squash",), mean=LITE0_MEAN, std=LITE0_STD),
        text=TextConfig("folder", max_tokens=24, pad_id=0, cls_id=2, sep_id=3, bos_id=4),
    )


def tiny_model() -> UniFashionEncoderModel:
    """A seeded network without tower weights: tests feed it stem tokens."""
    model = UniFashionEncoderModel(tiny_config(), sdpa_attention(), {"itm", "lm"})
    model.initialise(0)
    return model


def tiny_run(steps: int = 6) -> TrainConfig:
    """Some steps of everything: cache, shares, dropout, averaging."""
    return TrainConfig(
        encoder=tiny_config(),
        vocabulary="vocab.txt",
        optim=OptimConfig(learning_rate=1e-3, ema=0.9),
        sampling=SamplingConfig(
            shares={"photo": 1.0}, balance="category", lm_caption="first", unknown_words=0.1
        ),
        cache=CacheConfig(views={"photo": 2}, tokens=3, noise=0.05),
        steps=steps,
        batch_size=4,
        triplets=3,
        save_every=2,
        seed=5,
    )


def phase2_run(steps: int = 4) -> TrainConfig:
    """The same with triplets beside the pairs."""
    run = tiny_run(steps)
    return replace(run, keep_phase1=True)


def make_data(folder: Path) -> Path:
    """Six small pictures with captions, attributes and triplets."""
    rng = np.random.default_rng(0)
    lines: list[dict[str, object]] = []
    for kind in KINDS:
        for colour, rgb in COLOURS.items():
            path = folder / f"{colour}_{kind}.png"
            pixels = np.clip(np.array(rgb) + rng.normal(0, 12, (72, 64, 3)), 0, 255)
            if kind == "skirt":
                pixels[:30] = 240
            Image.fromarray(pixels.astype(np.uint8)).save(path)
            lines.append(
                {
                    "image": path.name,
                    "captions": [f"a {colour} {kind}", f"{kind}", f"a photo of a {kind}"],
                    "attributes": {"category": kind, "colours": [colour]},
                    "source": "photo",
                }
            )
    triplets = [
        {
            "reference": f"{a}_{kind}.png",
            "target": f"{b}_{kind}.png",
            "text": f"in {b}",
            "target_caption": f"a {b} {kind}",
        }
        for kind in KINDS
        for a in COLOURS
        for b in COLOURS
        if a != b
    ]
    for name, rows in (("phase1", lines), ("phase2", triplets)):
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8")
    texts = ["a photo of a red blue green dress skirt in", "[unk]"]
    write_vocabulary(texts[:1], folder / "vocab.txt")
    return folder

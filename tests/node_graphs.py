"""Graphs of our nodes on a tiny encoder, for tests that run them on a host."""

from __future__ import annotations

from pathlib import Path
from typing import Any

ENCODER_FOLDER = "tiny"


def save_tiny_encoder(pack: Any, models: Path) -> Path:
    """A real encoder of width 32 in a models folder; it knows the wardrobe's words."""
    config_module = pack.module("unifashion_core.encoder.config")
    config = config_module.EncoderConfig(
        tower=config_module.TowerConfig("eva_vit", 28, 14, 32, 2, 2, 48),
        stem=config_module.StemConfig("identity", 32, 32),
        qformer=config_module.QFormerConfig(0, 32, 2, 4, 64, 64, 2, 3, 32, 16),
        preprocess=config_module.PreprocessConfig(size=28),
        text=config_module.TextConfig("folder", 64, 50, 0, 2, 3, 0),
    )
    return _save(pack, config, models / "unifashion_encoders" / ENCODER_FOLDER)


def _save(pack: Any, config: Any, folder: Path) -> Path:
    import dataclasses

    import torch

    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]"]
    words += sorted(set(pack.module("unifashion_core.wardrobe").vocabulary_words()))
    words += [w for w in ("in", "with", "a", ",", "-") if w not in words] + ["[DEC]"]
    folder.mkdir(parents=True)
    (folder / "vocab.txt").write_text("\n".join(words) + "\n", "utf-8")
    config = dataclasses.replace(
        config,
        qformer=dataclasses.replace(config.qformer, vocab_size=len(words)),
        text=dataclasses.replace(config.text, bos_id=len(words) - 1),
    )
    torch.manual_seed(0)
    model = pack.module("unifashion_core.encoder.model").UniFashionEncoderModel(
        config, pack.module("unifashion_core.attention").math_attention(), ["itm", "lm"]
    )
    pack.module("unifashion_core.encoder.checkpoint").save_encoder(
        folder,
        model.state_dict(),
        config,
        vocabulary=pack.module("unifashion_core.text").Tokenizer.from_file(folder / "vocab.txt"),
    )
    return folder


def node(class_type: str, **inputs: Any) -> dict[str, Any]:
    """A node of a graph in API format."""
    return {"class_type": class_type, "inputs": inputs}


def load_encoder(name: str = ENCODER_FOLDER, **changes: Any) -> dict[str, Any]:
    """The loader node."""
    values = {"encoder": name, "tower": "none", "gallery_queries": "as saved", "attention": "auto"}
    return node("UniFashion_LoadEncoder", **{**values, **changes})


def sample(what: str = "collection", **changes: Any) -> dict[str, Any]:
    """The wardrobe node, small."""
    values = {"category": "any", "seed": 3, "count": 6, "size": 64, "folder_name": "wardrobe"}
    return node("UniFashion_SampleWardrobe", what=what, **{**values, **changes})


def index(**changes: Any) -> dict[str, Any]:
    """The index node, on nodes "load" and "sample"."""
    values: dict[str, Any] = {"encoder": ["load", 0], "folder": ["sample", 1], "metadata": ""}
    return node("UniFashion_IndexFolder", **{**values, "gallery": "g", "prune": False, **changes})


def indexed() -> dict[str, Any]:
    """Load, sample, index: what every search graph starts with."""
    return {"load": load_encoder(), "sample": sample(), "index": index()}


def retrieve(query: str, **changes: Any) -> dict[str, Any]:
    """The search node."""
    values = {"gallery": ["index", 0], "query": [query, 0], "top_k": 4, "where": ""}
    return node("UniFashion_RetrieveGarments", **{**values, "caption_weight": 0.0, **changes})


def sheet(hits: str, **changes: Any) -> dict[str, Any]:
    """The contact sheet node."""
    values = {"hits": [hits, 0], "columns": 3, "cell": 96, "captions": True}
    return node("UniFashion_ContactSheet", **{**values, **changes})

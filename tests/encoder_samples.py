"""Tiny encoders and their checkpoints in every layout that is read."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

from unifashion_core.attention import math_attention
from unifashion_core.encoder.checkpoint import LoadedEncoder, Placement, open_encoder, save_encoder
from unifashion_core.encoder.config import (
    EncoderConfig,
    PreprocessConfig,
    QFormerConfig,
    StemConfig,
    TextConfig,
    TowerConfig,
)
from unifashion_core.encoder.model import UniFashionEncoderModel
from unifashion_core.text import Tokenizer

GARMENT_WORDS = ("red", "blue", "green", "dress", "shirt", "skirt", "with", "long", "short")
WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *GARMENT_WORDS, "sleeves", "a", "in", "[DEC]"]
TEXTS = ("a red dress", "blue shirt with long sleeves")


def tiny_config(**changes: Any) -> EncoderConfig:
    """A real encoder of width 32 that reads 28-pixel pictures."""
    config = EncoderConfig(
        tower=TowerConfig("eva_vit", 28, 14, 32, 2, 2, 48),
        stem=StemConfig("identity", 32, 32),
        qformer=QFormerConfig(len(WORDS), 32, 4, 4, 64, 64, 2, 3, 32, 16),
        preprocess=PreprocessConfig(size=28),
        text=TextConfig("folder", 64, 50, 0, 2, 3, len(WORDS) - 1),
    )
    return EncoderConfig(**{**config.__dict__, **changes})


def tiny_state(config: EncoderConfig, seed: int = 0, groups: str = "itm lm prompt") -> dict:
    """Random weights that float16 holds exactly."""
    model = UniFashionEncoderModel(config, math_attention(), groups.split())
    generator = torch.Generator().manual_seed(seed)
    state: dict[str, Tensor] = {}
    for name, tensor in model.state_dict().items():
        values = torch.randn(tensor.shape, generator=generator) * 0.2
        state[name] = (values + (1.0 if "norm" in name.lower() else 0.0)).half().float()
    if "lm" in groups:  # one tensor under two names in the original
        state["Qformer.cls.predictions.bias"] = state["Qformer.cls.predictions.decoder.bias"]
        words = state["Qformer.bert.embeddings.word_embeddings.weight"]
        state["Qformer.cls.predictions.decoder.weight"] = words
    state["temp"] = torch.tensor(0.05).half().float()
    return state


def only(state: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in state.items() if k.startswith(prefixes)}


def without(state: Mapping[str, Tensor], *prefixes: str) -> dict[str, Tensor]:
    return {k: v.clone() for k, v in state.items() if not k.startswith(prefixes)}


def write_extras(folder: Path, config: EncoderConfig | None) -> Path:
    """What a checkpoint of unpublished sizes needs beside it."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "vocab.txt").write_text("\n".join(WORDS) + "\n", encoding="utf-8")
    if config is not None:
        (folder / "config.json").write_text(json.dumps(config.to_dict()), encoding="utf-8")
    return folder


def write_torch(folder: Path, content: object, config: EncoderConfig | None) -> Path:
    write_extras(folder, config)
    torch.save(content, folder / "weights.pt")
    return folder


def eva_file(path: Path, state: Mapping[str, Tensor]) -> Path:
    """A bare EVA file: one block more than is used, and the end of the network."""
    tower = {
        k.removeprefix("visual_encoder."): v for k, v in only(state, "visual_encoder.").items()
    }
    last = {k: v for k, v in tower.items() if k.startswith("blocks.1.")}
    tower |= {k.replace("blocks.1.", "blocks.2."): v + 1 for k, v in last.items()}
    tower |= {"norm.weight": torch.ones(32), "norm.bias": torch.ones(32)}
    tower |= {"head.weight": torch.ones(9, 32), "head.bias": torch.ones(9)}
    torch.save(tower, path)
    return path


def hugging_face_folder(folder: Path, state: Mapping[str, Tensor], shard: str = "1GB") -> Path:
    """The same weights in transformers' Blip2ForImageTextRetrieval, saved by transformers."""
    from transformers import Blip2Config, Blip2ForImageTextRetrieval

    config = Blip2Config(
        vision_config={
            "hidden_size": 32,
            "intermediate_size": 48,
            "num_hidden_layers": 2,
            "num_attention_heads": 2,
            "image_size": 28,
            "patch_size": 14,
            "layer_norm_eps": 1e-6,
        },
        qformer_config={
            "vocab_size": len(WORDS),
            "hidden_size": 32,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "intermediate_size": 64,
            "max_position_embeddings": 64,
            "cross_attention_frequency": 2,
            "encoder_hidden_size": 32,
            "use_qformer_text_input": True,
        },
        image_text_hidden_size=16,
        num_query_tokens=3,
    )
    model = Blip2ForImageTextRetrieval(config)
    wanted = model.state_dict()
    values = {name: _hugging_face_value(name, state) for name in wanted}
    model.load_state_dict(values)
    model.save_pretrained(folder, max_shard_size=shard)
    return write_extras(folder, None)


def _hugging_face_value(name: str, state: Mapping[str, Tensor]) -> Tensor:
    """Written the other way round from the loader's table, so that the two check each other."""
    if name.endswith("position_ids"):
        return torch.arange(64)[None]
    if name.endswith("qkv.bias"):
        block = f"visual_encoder.blocks.{name.split('.')[3]}.attn."
        q, v = state[block + "q_bias"], state[block + "v_bias"]
        return torch.cat([q, torch.zeros_like(q), v])
    parts = name.split(".")
    if parts[0] == "vision_model" and parts[1] == "encoder":
        rest = ".".join(parts[4:])
        for theirs, ours in (
            ("layer_norm1", "norm1"),
            ("layer_norm2", "norm2"),
            ("self_attn.projection", "attn.proj"),
            ("self_attn.qkv", "attn.qkv"),
        ):
            rest = rest.replace(theirs, ours)
        return state[f"visual_encoder.blocks.{parts[3]}.{rest}"]
    fixed = {
        "vision_model.embeddings.class_embedding": "visual_encoder.cls_token",
        "vision_model.embeddings.position_embedding": "visual_encoder.pos_embed",
        "vision_model.embeddings.patch_embedding": "visual_encoder.patch_embed.proj",
        "vision_model.post_layernorm": "ln_vision",
        "embeddings": "Qformer.bert.embeddings",
        "qformer.layernorm": "Qformer.bert.embeddings.LayerNorm",
        "vision_projection": "vision_proj",
        "text_projection": "text_proj",
    }
    for theirs, ours in fixed.items():
        if name.startswith(theirs):
            return state[ours + name[len(theirs) :]]
    name = name.replace("attention.attention.", "attention.self.")
    return state[name.replace("qformer.encoder.", "Qformer.bert.encoder.")]


def vocabulary() -> Tokenizer:
    return Tokenizer(WORDS)


CONFIG = tiny_config()
STATE = tiny_state(CONFIG)
BASE = {k: v for k, v in STATE.items() if k != "prompt_tokens"}
QUERY_PROJ = {"query_proj.weight": torch.ones(16, 16), "query_proj.bias": torch.ones(16)}
LLM = {
    "llm_query_tokens": torch.ones(1, 3, 8),
    "llm_proj.weight": torch.ones(8, 32),
    "proj_layer.dense1.weight": torch.ones(2, 2),
    "model.layers.0.weight": torch.ones(2),
    "text_encoder.x": torch.ones(2),
}


def _prefixed(state: dict[str, Tensor], prefix: str) -> dict[str, Tensor]:
    return {prefix + k: v for k, v in state.items()}


def blip2(folder: Path) -> tuple[Path, Path | None]:
    content = {"model": without(BASE, "visual_encoder.")}
    write_torch(folder / "m", content, CONFIG)
    return folder / "m", eva_file(folder / "eva_vit_g.pth", STATE)


def cls(folder: Path) -> tuple[Path, Path | None]:
    content = {"epoch": 3, "Blip2QformerCirCls": {**BASE, **QUERY_PROJ}}
    return write_torch(folder / "m", content, CONFIG), None


def rerank(folder: Path) -> tuple[Path, Path | None]:
    caption = {"caption_proj.weight": torch.ones(16, 32), "caption_proj.bias": torch.ones(16)}
    content = {"epoch": 9, "Blip2QformerCirRerank": {**STATE, **QUERY_PROJ, **caption}}
    return write_torch(folder / "m", content, CONFIG), None


def parallel(folder: Path) -> tuple[Path, Path | None]:
    content = {"epoch": 1, "DistributedDataParallel": _prefixed(BASE, "module.")}
    return write_torch(folder / "m", content, CONFIG), None


def none_lora(folder: Path) -> tuple[Path, Path | None]:
    small = without(BASE, "visual_encoder.", "Qformer.cls.")
    content = _prefixed({**small, **LLM}, "base_model.model.")
    write_torch(folder / "m", content, CONFIG)
    write_torch(folder / "t", {"epoch": 1, "Blip2QformerCirCls": BASE}, None)
    return folder / "m", folder / "t"


def none_lora_plain(folder: Path) -> tuple[Path, Path | None]:
    content = without(BASE, "visual_encoder.", "Qformer.cls.", "temp")
    return write_torch(folder / "m", content, CONFIG), eva_file(folder / "e.bin", STATE)


def hugging_face(folder: Path) -> tuple[Path, Path | None]:
    return hugging_face_folder(folder / "m", STATE), None


def hugging_face_shards(folder: Path) -> tuple[Path, Path | None]:
    path = hugging_face_folder(folder / "m", STATE, shard="40KB")
    assert len(list(path.glob("*.safetensors"))) > 2
    return path, None


def hugging_face_tower(folder: Path) -> tuple[Path, Path | None]:
    write_torch(folder / "m", {"model": without(BASE, "visual_encoder.")}, CONFIG)
    return folder / "m", hugging_face_folder(folder / "t", STATE)


def own(folder: Path) -> tuple[Path, Path | None]:
    save_encoder(folder / "m", STATE, CONFIG, vocabulary=vocabulary())
    return folder / "m", None


def own_half(folder: Path) -> tuple[Path, Path | None]:
    save_encoder(folder / "m", STATE, CONFIG, vocabulary=vocabulary(), dtype=torch.float16)
    return folder / "m", None


def own_file(folder: Path) -> tuple[Path, Path | None]:
    own(folder)
    (folder / "m" / "config.json").unlink()
    return folder / "m" / "model.safetensors", None


def own_apart(folder: Path) -> tuple[Path, Path | None]:
    save_encoder(folder / "m", STATE, CONFIG, vocabulary=vocabulary(), tower=False)
    save_file(only(STATE, "visual_encoder."), folder / "tower.safetensors")
    return folder / "m", folder / "tower.safetensors"


LAYOUTS = [
    blip2,
    cls,
    rerank,
    parallel,
    none_lora,
    none_lora_plain,
    hugging_face,
    hugging_face_shards,
    hugging_face_tower,
    own,
    own_half,
    own_file,
    own_apart,
]


def load(path: Path, tower: Path | None = None, **options: Any) -> LoadedEncoder:
    return open_encoder(path, Placement(math_attention()), tower=tower, **options)

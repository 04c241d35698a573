"""An encoder's sizes: from its config.json, or from the keys and shapes of its weights.

The number of attention heads shows in no shape: it is known for the published sizes and must be
told for any other.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from math import isqrt
from pathlib import Path
from typing import Any, cast

from ..errors import CheckpointError
from ..text import Tokenizer
from ..weights import StoredTensor, Weights, shorten
from .config import (
    EncoderConfig,
    PreprocessConfig,
    QFormerConfig,
    StemConfig,
    TextConfig,
    TowerConfig,
)

Tensors = Mapping[str, StoredTensor]

CONFIG_KEY = "unifashion_config"
"""Where our safetensors files carry their config."""

# BERT-base by width, and EVA ViT-g by width: heads, blocks in use.
_BERT_HEADS = {768: 12}
_EVA = {1408: (16, 39)}
# bert-base-uncased and [DEC].
_BERT_VOCABULARY = 30523
_BERT = "Qformer.bert."
_ANCHORS = (
    "query_tokens",
    "vision_proj.weight",
    "text_proj.weight",
    "ln_vision.weight",
    f"{_BERT}embeddings.word_embeddings.weight",
    f"{_BERT}embeddings.position_embeddings.weight",
    f"{_BERT}encoder.layer.0.intermediate.dense.weight",
)
_NEED_CONFIG = "Put a config.json of this pack's form beside the weights and give the folder"


@dataclass(frozen=True)
class FoundConfig:
    """A config and how much of it is known.

    Attributes:
        config: The sizes.
        notes: What the user should know of them.
        settled: Whether the tower's sizes are known too.
    """

    config: EncoderConfig
    notes: tuple[str, ...] = ()
    settled: bool = True


def config_from_files(
    weights: Weights, tensors: Tensors, config: EncoderConfig | None = None
) -> FoundConfig:
    """The config: the caller's, the one in the file or folder, or what the shapes tell.

    Args:
        weights: As read, with the folder's config.json.
        tensors: Under our names.
        config: The caller's.

    Raises:
        CheckpointError: If none of them tells all sizes, or two of them disagree.
    """
    if config is not None:
        return FoundConfig(config)
    own = own_config(weights)
    if own is not None:
        return FoundConfig(own)
    missing = [name for name in _ANCHORS if name not in tensors]
    if missing:
        raise CheckpointError(
            f"encoder {weights.path}: required weights are missing: {shorten(missing, 10)}. "
            "Get a complete checkpoint."
        )
    if weights.config is not None and weights.config.get("model_type") == "blip-2":
        return _hugging_face_config(weights, tensors)
    has_tower = any(name.startswith("visual_encoder.") for name in tensors)
    tower = tower_from_shapes(weights.path, tensors) if has_tower else TowerConfig()
    return FoundConfig(
        _complete(weights, tensors, tower, _heads(weights, tensors)), settled=has_tower
    )


def tower_from_shapes(path: Path, tensors: Tensors) -> TowerConfig:
    """An EVA tower's sizes from `visual_encoder.*`.

    Raises:
        CheckpointError: If it is no EVA tower, or its heads are not known.
    """
    shapes = {
        key: tensors[f"visual_encoder.{key}"].shape
        for key in ("pos_embed", "patch_embed.proj.weight", "blocks.0.mlp.fc1.weight")
        if f"visual_encoder.{key}" in tensors
    }
    if len(shapes) < 3:
        names = [name for name in tensors if name.startswith("visual_encoder.")]
        raise CheckpointError(
            f"tower {path}: no EVA ViT, it holds {shorten(names, 4)}. {_NEED_CONFIG}, or give its "
            "tower as a second file."
        )
    _, places, width = shapes["pos_embed"]
    patch = shapes["patch_embed.proj.weight"][-1]
    grid = isqrt(places - 1)
    if grid * grid != places - 1:
        raise CheckpointError(
            f"tower {path}: {places} positions are no square and a class token. Give an EVA ViT."
        )
    if width not in _EVA:
        raise CheckpointError(
            f"tower {path}: how many heads a tower of width {width} has can't be seen in its "
            "weights "
            f"(known: {', '.join(map(str, _EVA))}). {_NEED_CONFIG}."
        )
    heads, layers = _EVA[width]
    hidden = shapes["blocks.0.mlp.fc1.weight"][0]
    return TowerConfig("eva_vit", grid * patch, patch, width, layers, heads, hidden)


def own_config(weights: Weights) -> EncoderConfig | None:
    """The config of a file of ours: what the weights were saved with, and config.json, which must
    agree.

    Raises:
        CheckpointError: If they disagree, or do not fit this version.
    """
    inside = weights.metadata.get(CONFIG_KEY)
    beside = weights.config
    if beside is not None and "qformer" not in beside:
        beside = None  # another program's
    if inside is None and beside is None:
        return None
    configs = [_parse(weights.path, data) for data in (inside, beside) if data is not None]
    if len(configs) == 2 and configs[0] != configs[1]:
        raise CheckpointError(
            f"encoder {weights.path}: config.json is not the one that its weights were saved with "
            "(edited, or a save that was interrupted). Save the encoder again, or delete "
            "config.json "
            "to use the one inside the weights."
        )
    return configs[0]


def _parse(path: Path, data: str | Mapping[str, Any]) -> EncoderConfig:
    try:
        values: Any = json.loads(data) if isinstance(data, str) else dict(data)
        return EncoderConfig.from_dict(values)
    except (TypeError, ValueError, AttributeError) as e:
        raise CheckpointError(
            f"encoder {path}: its config does not fit this version ({e}). "
            "Update the pack, or save the encoder again."
        ) from e


def _heads(weights: Weights, tensors: Tensors) -> int:
    hidden = tensors["query_tokens"].shape[-1]
    if hidden not in _BERT_HEADS:
        raise CheckpointError(
            f"encoder {weights.path}: how many heads a Q-Former of width {hidden} has can't be "
            "seen in its weights "
            f"(known: {', '.join(map(str, _BERT_HEADS))}). {_NEED_CONFIG}."
        )
    return _BERT_HEADS[hidden]


def _complete(
    weights: Weights, tensors: Tensors, tower: TowerConfig, heads: int, eps: float = 1e-12
) -> EncoderConfig:
    """Everything that the shapes tell, with what they don't."""
    words = tensors[f"{_BERT}embeddings.word_embeddings.weight"].shape
    vision_width = tensors["ln_vision.weight"].shape[0]
    layers, freq = _layers(weights.path, tensors)
    return EncoderConfig(
        tower=tower,
        stem=StemConfig("identity", vision_width, vision_width),
        qformer=QFormerConfig(
            vocab_size=words[0],
            hidden=words[1],
            layers=layers,
            heads=heads,
            intermediate=tensors[_ANCHORS[-1]].shape[0],
            max_positions=tensors[f"{_BERT}embeddings.position_embeddings.weight"].shape[0],
            cross_attention_freq=freq,
            num_query_tokens=tensors["query_tokens"].shape[1],
            vision_width=vision_width,
            embed_dim=tensors["vision_proj.weight"].shape[0],
            layer_norm_eps=eps,
        ),
        preprocess=PreprocessConfig(size=tower.image_size),
        text=_text_config(weights, words[0]),
    )


def _layers(path: Path, tensors: Tensors) -> tuple[int, int]:
    """How many layers, and the spacing of those with cross-attention."""
    found = [
        re.match(rf"{re.escape(_BERT)}encoder\.layer\.(\d+)\.(crossattention)?", k) for k in tensors
    ]
    layers = max(int(m[1]) for m in found if m) + 1
    cross = sorted({int(m[1]) for m in found if m and m[2]})
    freq = cross[1] if len(cross) > 1 else layers
    if cross != list(range(0, layers, freq)):
        raise CheckpointError(
            f"encoder {path}: cross-attention in layers {cross or 'none'} of {layers}, wanted "
            "every n-th from 0. "
            "Give a BLIP-2 Q-Former."
        )
    return layers, freq


def _text_config(weights: Weights, vocabulary: int) -> TextConfig:
    if vocabulary == _BERT_VOCABULARY:
        return TextConfig()
    path = weights.path / "vocab.txt"
    if not path.is_file():
        raise CheckpointError(
            f"encoder {weights.path}: which words its {vocabulary} embeddings stand for is not "
            "known. "
            "Put its vocab.txt into the folder of the weights."
        )
    t = Tokenizer.from_file(path)
    return TextConfig("folder", pad_id=t.pad_id, cls_id=t.cls_id, sep_id=t.sep_id, bos_id=t.bos_id)


def _hugging_face_config(weights: Weights, tensors: Tensors) -> FoundConfig:
    """Sizes by Hugging Face's config.json, whose absent entries are that library's defaults; shapes
    are checked later.
    """
    data = weights.config or {}
    vision, qformer = _part(data, "vision_config"), _part(data, "qformer_config")
    notes: list[str] = []
    if vision.get("hidden_act", "gelu") != "gelu" or qformer.get("hidden_act", "gelu") != "gelu":
        raise CheckpointError(
            f"encoder {weights.path}: config.json asks for another activation than gelu. "
            "Give weights that were converted from the original BLIP-2."
        )
    if vision.get("layer_norm_eps", 1e-6) != 1e-6:
        notes.append(
            f"config.json has layer_norm_eps {vision['layer_norm_eps']} for the tower; "
            "the original's 1e-6 is used"
        )
    tower = TowerConfig(
        kind="eva_vit",
        image_size=vision.get("image_size", 224),
        patch_size=vision.get("patch_size", 14),
        width=vision.get("hidden_size", 1408),
        layers=vision.get("num_hidden_layers", 39),
        heads=vision.get("num_attention_heads", 16),
        mlp_hidden=vision.get("intermediate_size", 6144),
    )
    heads = qformer.get("num_attention_heads", 12)
    config = _complete(weights, tensors, tower, heads, qformer.get("layer_norm_eps", 1e-12))
    told = replace(
        config.qformer,
        hidden=qformer.get("hidden_size", 768),
        layers=qformer.get("num_hidden_layers", 12),
        intermediate=qformer.get("intermediate_size", 3072),
        cross_attention_freq=qformer.get("cross_attention_frequency", 2),
        vision_width=qformer.get("encoder_hidden_size", 1408),
        embed_dim=data.get("image_text_hidden_size", 256),
        num_query_tokens=data.get("num_query_tokens", 32),
    )
    return FoundConfig(replace(config, qformer=told), tuple(notes))


def _part(data: Mapping[str, Any], name: str) -> dict[str, Any]:
    part: object = data.get(name)
    return cast(dict[str, Any], part) if isinstance(part, dict) else {}

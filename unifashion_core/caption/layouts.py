"""LLaVA's own checkpoint names, as its training code writes them, and those of transformers' class.

The names on the other side are taken from the installed class itself, which has renamed its parts
more than once.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError
from ..weights import StoredTensor

_WRAPPERS = re.compile(r"^(?:module\.)?(?:base_model\.model\.)?")
_TOWER = re.compile(r"^model\.vision_tower\.vision_tower\.(?:vision_model\.)?")
_PROJECTOR = {"model.mm_projector.0.": "linear_1.", "model.mm_projector.2.": "linear_2."}
_DEAD = re.compile(r"(rotary_emb\.inv_freq|\.position_ids)$")

_TEXT_KEYS = (
    "hidden_size",
    "intermediate_size",
    "num_hidden_layers",
    "num_attention_heads",
    "num_key_value_heads",
    "hidden_act",
    "max_position_embeddings",
    "rms_norm_eps",
    "rope_theta",
    "rope_scaling",
    "bos_token_id",
    "eos_token_id",
    "tie_word_embeddings",
)
_TEXT_TYPES = ("llava", "llava_llama")
"""`model_type` of LLaVA's own folders over a LLaMA; others have other language models."""


def is_original_llava(config: Mapping[str, Any]) -> bool:
    """Whether a config.json is of LLaVA's own layout, not of transformers'."""
    return "mm_projector_type" in config or "mm_vision_tower" in config


@dataclass(frozen=True)
class LlavaNames:
    """Where transformers' LLaVA keeps its parts, as prefixes that end in a dot."""

    language: str
    projector: str
    tower: str
    head: str

    @classmethod
    def of(cls, names: Iterable[str]) -> LlavaNames:
        """Find them among the names of a built network's weights.

        Raises:
            CheckpointError: If one is not there: it is no LLaVA.
        """
        known = list(names)
        ends = {
            "language": "embed_tokens.weight",
            "projector": "linear_1.weight",
            "tower": "embeddings.patch_embedding.weight",
            "head": "lm_head.weight",
        }
        found: dict[str, str] = {}
        for part, end in ends.items():
            fitting = [n for n in known if n.endswith(end)]
            if len(fitting) != 1:
                raise CheckpointError(
                    f"LLaVA: this model has {len(fitting)} weights named {end}, wanted one. Give a "
                    "LLaVA-1.5 model as the base."
                )
            kept = "lm_head." if part == "head" else ""
            found[part] = fitting[0].removesuffix(end) + kept
        return cls(**found)

    def rename(self, name: str) -> str | None:
        """The class's name for one of LLaVA's, or None where nothing reads it.

        Raises:
            CheckpointError: If it is none of LLaVA's names.
        """
        bare = _WRAPPERS.sub("", name)
        if _DEAD.search(bare):
            return None
        for old, new in _PROJECTOR.items():
            if bare.startswith(old):
                return self.projector + new + bare.removeprefix(old)
        if _TOWER.match(bare):
            return self.tower + _TOWER.sub("", bare)
        if bare.startswith(("model.layers.", "model.embed_tokens.", "model.norm.")):
            return self.language + bare.removeprefix("model.")
        if bare.startswith("lm_head."):
            return self.head + bare.removeprefix("lm_head.")
        raise CheckpointError(
            f"LLaVA: its weight {name} is none of LLaVA-1.5's. Give a LLaVA-1.5 checkpoint."
        )

    def layer(self, name: str) -> str:
        """An adapted layer's name, without peft's wrapper; those outside the language model stay
        as they are, and then fit nothing.
        """
        if name.startswith("model.layers."):
            return self.language + name.removeprefix("model.")
        return name


def text_config(config: Mapping[str, Any], where: str) -> dict[str, Any]:
    """The language model's part of LLaVA's own config.json, as LlamaConfig takes it.

    Raises:
        CheckpointError: If it is no LLaMA, or the projector is of another kind.
    """
    kind, projector = config.get("model_type"), config.get("mm_projector_type", "linear")
    if kind not in _TEXT_TYPES or projector != "mlp2x_gelu":
        raise CheckpointError(
            f"{where}: model_type {kind!r} with projector {projector!r}, only LLaVA-1.5's over a "
            "LLaMA ('llava', 'mlp2x_gelu') is read in this layout. Convert it to transformers' own."
        )
    return {key: config[key] for key in _TEXT_KEYS if config.get(key) is not None}


def tower_config(
    tensors: Mapping[str, StoredTensor], beside: Mapping[str, Any] | None, where: str
) -> dict[str, Any]:
    """The CLIP tower's sizes: those of a CLIP folder's config.json, else by its tensors.

    Args:
        tensors: Of the checkpoint, under LLaVA's names.
        beside: The config.json of the tower's own folder, whole or of its vision part.
        where: For messages.

    Raises:
        CheckpointError: If there is neither.
    """
    if beside is not None:
        part: dict[str, Any] = dict(beside.get("vision_config") or beside)
        return {**part, "model_type": "clip_vision_model"}
    shapes = {_TOWER.sub("", _WRAPPERS.sub("", n)): t.shape for n, t in tensors.items()}
    patches = shapes.get("embeddings.patch_embedding.weight")
    positions = shapes.get("embeddings.position_embedding.weight")
    hidden_layer = shapes.get("encoder.layers.0.mlp.fc1.weight")
    if patches is None or positions is None or hidden_layer is None or patches[0] % 64:
        raise CheckpointError(
            f"{where}: neither the vision tower's weights nor its folder are there. Give the CLIP "
            "folder that config.json names under mm_vision_tower."
        )
    layers = {n.split(".")[2] for n in shapes if n.startswith("encoder.layers.")}
    return {
        "model_type": "clip_vision_model",
        "hidden_size": patches[0],
        "intermediate_size": hidden_layer[0],
        "num_hidden_layers": len(layers),
        "num_attention_heads": patches[0] // 64,  # every published CLIP has heads of 64
        "patch_size": patches[-1],
        "image_size": math.isqrt(positions[0] - 1) * patches[-1],
    }

"""Recognise the layout of a try-on checkpoint and sort its weights by network."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ..errors import CheckpointError
from ..weights import StoredTensor, Weights, shorten
from .config import AdapterConfig, TryOnConfig
from .sizes import autoencoder_config, clip_config, unet_config

Tensors = Mapping[str, StoredTensor]

CONFIG_KEY = "unifashion_tryon_config"
"""Where our safetensors files carry their config."""

PREFIXES: Mapping[str, str] = {
    "unet": "model.diffusion_model.",
    "garment": "control_model.",
    "autoencoder": "first_stage_model.",
    "text": "cond_text_model.transformer.",
    "image": "cond_stage_model.",
    "adapter": "context_adapter.",
}
"""Network -> what stands before its names in a checkpoint; our own files keep these names. The
adapter has a place in ours alone."""

_PROJECTION, _FREE = "proj_out.", "learnable_vector"
_DEAD = re.compile(
    r"^(lastzc\.|model_ema\.|betas$|logvar$|alphas_|sqrt_|log_one_minus_|posterior_|lvlb_weights$)"
    r"|(^|\.)position_ids$|^first_stage_model\.loss\."
)
_OTHERS = (
    ("conditioner.embedders.", "an SDXL checkpoint"),
    ("double_blocks.", "a Flux checkpoint"),
    ("model.diffusion_model.double_blocks.", "a Flux checkpoint"),
    ("joint_blocks.", "a Stable Diffusion 3 checkpoint"),
    ("model.diffusion_model.joint_blocks.", "a Stable Diffusion 3 checkpoint"),
    ("down_blocks.", "a diffusers UNet"),
)
_WANTED = "Give a UniFashion or StableVITON checkpoint, or a folder that this pack saved"


@dataclass(frozen=True)
class TryOnState:
    """A checkpoint's weights by network.

    Attributes:
        config: All sizes.
        parts: Network ("unet", "garment", "autoencoder", "text" or "image", perhaps "adapter") ->
            its weights under its own names.
        free: The learned context for guidance, (1, 1, context_dim), or None.
        layout: What the file is, in words.
        dropped: Names that nothing uses.
    """

    config: TryOnConfig
    parts: Mapping[str, Tensors]
    free: StoredTensor | None
    layout: str
    dropped: tuple[str, ...]


def recognise(weights: Weights, heads: int | None = None) -> TryOnState:
    """Find out what a file holds; sizes come from its config.json, else from the shapes.

    Args:
        weights: As read.
        heads: Attention heads of the UNet, where neither tells them.

    Raises:
        CheckpointError: If it is another family, or sizes can't be told.
    """
    where = f"try-on {weights.path}"
    _refuse_others(weights, where)
    parts: dict[str, dict[str, StoredTensor]] = {name: {} for name in PREFIXES}
    dropped: list[str] = []
    rest: dict[str, StoredTensor] = {}
    for name, tensor in weights.tensors.items():
        part = next((p for p, prefix in PREFIXES.items() if name.startswith(prefix)), None)
        if _DEAD.search(name):
            dropped.append(name)
        elif part is not None:
            parts[part][name.removeprefix(PREFIXES[part])] = tensor
        else:
            rest[name] = tensor
    projection = {n: rest.pop(n) for n in list(rest) if n.startswith(_PROJECTION)}
    free = rest.pop(_FREE, None)
    if rest:
        raise CheckpointError(f"{where}: unknown weights: {shorten(sorted(rest))}. {_WANTED}.")
    unused = "image" if parts["text"] else "text"
    if unused == "image":  # UniFashion carries the image encoder of its origin without using it
        dropped += [PREFIXES["image"] + n for n in parts["image"]] + list(projection)
    else:
        parts["image"] |= projection
    del parts[unused]
    if not parts["adapter"]:
        del parts["adapter"]
    own = own_config(weights)
    found = own or _config_from_shapes(parts, where, heads)
    kind = "UniFashion (text context)" if "text" in parts else "StableVITON (image context)"
    layout = f"{kind}, {'of this pack' if own else 'original key names'}"
    return TryOnState(found, parts, free, layout, tuple(sorted(dropped)))


def own_config(weights: Weights) -> TryOnConfig | None:
    """The config that a file or folder of ours carries."""
    data: Any = (weights.config or {}).get(CONFIG_KEY)
    return None if data is None else TryOnConfig.from_dict(data)


def _refuse_others(weights: Weights, where: str) -> None:
    names = weights.tensors
    for prefix, family in _OTHERS:
        if any(name.startswith(prefix) for name in names):
            raise CheckpointError(f"{where}: this is {family}. {_WANTED}.")
    if not any(name.startswith(PREFIXES["unet"]) for name in names):
        raise CheckpointError(
            f"{where}: no try-on UNet, it holds {shorten(sorted(names), 4)}. {_WANTED}."
        )
    if not any(name.startswith(f"{PREFIXES['unet']}warp_flow_blks.") for name in names):
        raise CheckpointError(
            f"{where}: a plain Stable Diffusion checkpoint, without garment encoder and warp "
            f"blocks. {_WANTED}."
        )


def _config_from_shapes(parts: Mapping[str, Tensors], where: str, heads: int | None) -> TryOnConfig:
    for name in ("garment", "autoencoder"):
        if not parts[name]:
            raise CheckpointError(
                f"{where}: {PREFIXES[name]}* is missing. Get a complete checkpoint."
            )
    context = "text" if "text" in parts else "image"
    encoder = {n.removeprefix("transformer."): t for n, t in parts[context].items()}
    sizes = clip_config(encoder, where)
    layers = {n.split(".")[2] for n in parts[context] if n.startswith("mapper.resblocks.")}
    return TryOnConfig(
        unet=unet_config(parts["unet"], where, heads),
        autoencoder=autoencoder_config(parts["autoencoder"], where),
        text=sizes if context == "text" else None,
        image=sizes if context == "image" else None,
        mapper_layers=len(layers) or TryOnConfig.mapper_layers,
        adapter=_adapter_config(parts.get("adapter")),
    )


def _adapter_config(tensors: Tensors | None) -> AdapterConfig | None:
    first = (tensors or {}).get("proj_layer.dense1.weight")
    return None if first is None else AdapterConfig(first.shape[1], first.shape[0])

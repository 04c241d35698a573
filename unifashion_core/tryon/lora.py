"""LoRA files for a try-on model's UNet and text encoder: kohya's and diffusers' key forms, merged
into the weights. A tensor that nothing reads is an error.

Such files name the UNet's layers as diffusers does, or (some of kohya's) as the original
checkpoint; they are trained on plain Stable Diffusion 1, whose layers the try-on UNet has.
"""

from __future__ import annotations

import copy
import math
import re
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..errors import CheckpointError, InputError
from ..weights import StoredTensor, place_tensor, read_weights, shorten
from .checkpoint import TryOnModel
from .condition_encoders import ClipText
from .config import UNetConfig

_KINDS: Mapping[str, str] = {
    "lora_down.weight": "down",
    "lora_up.weight": "up",
    "lora.down.weight": "down",
    "lora.up.weight": "up",
    "lora_A.weight": "down",
    "lora_B.weight": "up",
    "lora_A.default.weight": "down",
    "lora_B.default.weight": "up",
    "alpha": "alpha",
}
_OLD_PROCESSOR = re.compile(r"\.processor\.(to_[qkv]|to_out)_lora\.(down|up)\.weight$")
_UNET_PREFIXES = ("lora_unet_", "unet.", "diffusion_model.", "base_model.model.")
_TEXT_PREFIXES = ("lora_te_", "text_encoder.")


@dataclass
class _Pair:
    """What a file holds for one layer."""

    down: StoredTensor | None = None
    up: StoredTensor | None = None
    alpha: StoredTensor | None = None
    names: list[str] = field(default_factory=list[str])


def apply_lora(model: TryOnModel, path: Path, strength: float = 1.0) -> int:
    """Merge a LoRA file into the model's weights, in place.

    Args:
        model: As loaded; its UNet and text encoder change.
        path: A .safetensors file, or another weight file of tensors.
        strength: What the change is multiplied by; negative takes away.

    Returns:
        How many layers changed.

    Raises:
        CheckpointError: If it is no LoRA file, or a tensor has no place in this model; nothing is
            changed then.
        InputError: If the strength is no number.
        FolderError: If there is nothing at the path.
    """
    _check_strength(path, strength)
    where = f"LoRA {path}"
    return _merge(model, _pairs(read_weights(path).tensors, where), strength, where)


@dataclass(frozen=True)
class WithLora:
    """A model with a LoRA merged in.

    Attributes:
        model: Shares the networks that did not change.
        changed: Layers that changed, by their network's name in `TryOnModel.modules`.
    """

    model: TryOnModel
    changed: Mapping[str, int]


def with_lora(
    model: TryOnModel, path: Path, strength: float = 1.0, *, device: torch.device | str = "cpu"
) -> WithLora:
    """As `apply_lora`, on copies of the networks that change: the model given stays as it is.

    Args:
        model: As loaded, its networks on any device.
        path: As `apply_lora`.
        strength: Likewise.
        device: Where the copies go, straight from where the networks are.
    """
    _check_strength(path, strength)
    where = f"LoRA {path}"
    pairs = _pairs(read_weights(path).tensors, where)
    _check_places(pairs, _layers(model), where)  # before anything large is copied
    counts = Counter(key.partition(":")[0] for key in pairs)
    fields: dict[str, nn.Module] = {}
    if "unet" in counts:
        fields["unet"] = _copied(model.unet, device)
    if "text" in counts:
        fields["context"] = _copied(model.context, device)
    made = replace(model, **fields)  # pyright: ignore[reportArgumentType] # of their classes
    _merge(made, pairs, strength, where)
    return WithLora(made, dict(counts))


def _copied(network: nn.Module, device: torch.device | str) -> nn.Module:
    """A network with weights of its own, each copied once."""
    known: dict[int, Any] = {}
    for weight in network.parameters():
        value = weight.detach().to(device, copy=True)
        known[id(weight)] = nn.Parameter(value, requires_grad=weight.requires_grad)
    for kept in network.buffers():
        known[id(kept)] = kept.detach().to(device, copy=True)
    return copy.deepcopy(network, known)


def _check_strength(path: Path, strength: float) -> None:
    if not math.isfinite(strength):
        raise InputError(f"LoRA {path.name}: strength {strength}. Choose a number; 1 is usual.")


def _check_places(
    pairs: Mapping[str, _Pair], layers: Mapping[str, nn.Linear | nn.Conv2d], where: str
) -> None:
    unknown = [name for key, pair in pairs.items() if key not in layers for name in pair.names]
    if unknown:
        raise CheckpointError(
            f"{where}: {len(unknown)} tensors have no place in this model: {shorten(unknown)}. "
            "Give a LoRA for Stable Diffusion 1 (not SDXL or Flux; no LoHa or LoKr)."
        )


def _merge(model: TryOnModel, pairs: Mapping[str, _Pair], strength: float, where: str) -> int:
    layers = _layers(model)
    _check_places(pairs, layers, where)
    changes = {key: _change(pair, layers[key], f"{where}: {key}") for key, pair in pairs.items()}
    for key, change in changes.items():
        weight = layers[key].weight
        weight.data.add_((strength * change).to(weight))
    return len(changes)


def _pairs(tensors: Mapping[str, StoredTensor], where: str) -> dict[str, _Pair]:
    """Layers by a name without dots, with what the file holds for each."""
    found: dict[str, _Pair] = {}
    unread: list[str] = []
    for name, stored in tensors.items():
        plain = _OLD_PROCESSOR.sub(r".\1.lora.\2.weight", name)
        layer, kind = next(
            ((plain[: -len(end) - 1], k) for end, k in _KINDS.items() if plain.endswith(f".{end}")),
            (plain, ""),
        )
        if not kind:
            unread.append(name)
            continue
        pair = found.setdefault(_key(layer), _Pair())
        setattr(pair, kind, stored)
        pair.names.append(name)
    if unread or not found:
        raise CheckpointError(
            f"{where}: tensors of an unknown form: {shorten(unread) or 'none at all'}. Give a "
            "LoRA file in kohya's or diffusers' form (no LoHa, LoKr or full weights)."
        )
    return found


def _key(layer: str) -> str:
    """ "unet" or "text", and the layer's name with underscores."""
    for prefix in _TEXT_PREFIXES:
        if layer.startswith(prefix):
            return "text:" + _flat(layer.removeprefix(prefix))
    for prefix in _UNET_PREFIXES:
        layer = layer.removeprefix(prefix)
    return "unet:" + _flat(layer)


def _flat(name: str) -> str:
    return re.sub(r"to_out$", "to_out_0", name.replace(".", "_"))


def _layers(model: TryOnModel) -> dict[str, nn.Linear | nn.Conv2d]:
    """The layers that may change, under each of their names without dots."""
    found: dict[str, nn.Linear | nn.Conv2d] = {}
    for name, layer in _weighted(model.unet):
        found["unet:" + _flat(name)] = layer
        other = diffusers_name(name, model.config.unet)
        if other is not None:
            found["unet:" + _flat(other)] = layer
    if isinstance(model.context, ClipText):
        found |= {"text:" + _flat(name): layer for name, layer in _weighted(model.context)}
    return found


def _weighted(network: nn.Module) -> list[tuple[str, nn.Linear | nn.Conv2d]]:
    modules = cast("Iterator[tuple[str, nn.Module]]", network.named_modules())
    return [(n, m) for n, m in modules if isinstance(m, (nn.Linear, nn.Conv2d))]


_RES_PARTS = {
    "in_layers.2": "conv1",
    "out_layers.3": "conv2",
    "emb_layers.1": "time_emb_proj",
    "skip_connection": "conv_shortcut",
}


def diffusers_name(name: str, config: UNetConfig) -> str | None:
    """What diffusers calls a layer of the UNet, or None where it has none such (warp blocks).

    Args:
        name: As in the original checkpoint, such as "input_blocks.1.1.proj_in".
        config: For the number of blocks a level.
    """
    plain = {
        "time_embed.0": "time_embedding.linear_1",
        "time_embed.2": "time_embedding.linear_2",
        "input_blocks.0.0": "conv_in",
        "out.2": "conv_out",
    }
    if name in plain:
        return plain[name]
    part, _, rest = name.partition(".")
    if part == "middle_block":
        number, _, inner = rest.partition(".")
        place = {"0": "resnets.0", "1": "attentions.0", "2": "resnets.1"}.get(number)
        return None if place is None else f"mid_block.{place}.{_inner(inner)}"
    if part not in ("input_blocks", "output_blocks"):
        return None
    block, _, rest = rest.partition(".")
    number, _, inner = rest.partition(".")
    if part == "input_blocks":
        level, place = divmod(int(block) - 1, config.num_res_blocks + 1)
        if inner == "op":
            return f"down_blocks.{level}.downsamplers.0.conv"
        side = "down_blocks"
    else:
        level, place = divmod(int(block), config.num_res_blocks + 1)
        if inner == "conv":
            return f"up_blocks.{level}.upsamplers.0.conv"
        side = "up_blocks"
    kind = "resnets" if number == "0" else "attentions"
    return f"{side}.{level}.{kind}.{place}.{_inner(inner)}"


def _inner(name: str) -> str:
    return _RES_PARTS.get(name, name)


def _change(pair: _Pair, layer: nn.Linear | nn.Conv2d, where: str) -> Tensor:
    """up @ down, scaled by alpha / rank, in the layer's own shape, float32."""
    weight = layer.weight
    if pair.down is None or pair.up is None:
        raise CheckpointError(f"{where}: only one half of its pair is there. Get the file again.")
    down, up = (
        place_tensor(stored, weight.device, torch.float32, where) for stored in (pair.down, pair.up)
    )
    rank = down.shape[0]
    scale = 1.0 if pair.alpha is None else float(pair.alpha.read()) / rank
    fits = up.ndim == down.ndim and up.ndim in (2, 4) and up.shape[1] == rank
    if fits and down.ndim == 4:
        # A convolution after another whose kernel is 1: their product at each place of the kernel.
        change = torch.einsum("orxy,rihw->oihw", up, down) if up.shape[2:] == (1, 1) else None
    else:
        change = up @ down if fits else None
    if change is not None and change.numel() == weight.numel():
        shape = change.shape[:2]
        if tuple(shape) == tuple(weight.shape[:2]):
            return scale * change.reshape(weight.shape)
    raise CheckpointError(
        f"{where}: {tuple(up.shape)} times {tuple(down.shape)}, the layer is "
        f"{tuple(weight.shape)}. Give a LoRA for Stable Diffusion 1."
    )

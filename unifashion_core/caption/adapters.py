"""LoRA adapters in peft's files: read, checked tensor by tensor, merged by peft.

peft alone passes over what it can't place and only warns, so that a model would caption as if it
had never been tuned. Here every tensor of the file is set, and every adapter weight comes from it,
or it is an error.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..deps import require
from ..errors import CheckpointError
from ..weights import (
    StoredTensor,
    read_json,
    read_weights,
    replace_files,
    shorten,
    stream_safetensors,
)

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "adapter_model.safetensors"
PEFT = "0.11"

_NAME = re.compile(r"^(?P<module>.+)\.lora_(?P<side>[AB])(?:\.default)?\.weight$")
_WRAPPER = re.compile(r"^base_model\.model\.")
# Settings that change what an adapter computes, and that are not read here, with their neutral
# values.
_NEUTRAL: Mapping[str, tuple[Any, ...]] = {
    "bias": ("none", None),
    "use_dora": (False, None),
    "use_qalora": (False, None),
    "layer_replication": (None,),
    "trainable_token_indices": (None,),
    "target_parameters": (None, []),
    "alora_invocation_tokens": (None,),
    "use_bdlora": (None, False),
    "lora_bias": (False, None),
}


@dataclass(frozen=True)
class Adapter:
    """A LoRA adapter as its files hold it.

    Attributes:
        path: What was asked for.
        settings: Its adapter_config.json.
        layers: Low-rank pairs (A, B) by the adapted layer's name, without peft's wrapper.
    """

    path: Path
    settings: Mapping[str, Any]
    layers: Mapping[str, tuple[StoredTensor, StoredTensor]]

    @property
    def base(self) -> str:
        """Last part of the name of the model that it was trained on, or ""."""
        name = str(self.settings.get("base_model_name_or_path") or "")
        return re.split(r"[/\\]", name.rstrip("/\\"))[-1]

    @property
    def tensors(self) -> dict[str, StoredTensor]:
        """All tensors by layer and side."""
        pairs = self.layers.items()
        return {f"{name}.{s}": t for name, ab in pairs for s, t in zip("AB", ab, strict=True)}


def find_adapter(path: Path) -> Path | None:
    """The adapter of a file's or folder's folder, or None: where its adapter_config.json lies."""
    folder = path if path.is_dir() else path.parent
    return folder if (folder / CONFIG_FILE).is_file() else None


def read_adapter(path: Path) -> Adapter:
    """Read an adapter from its folder, or from its weight file with the settings beside it.

    Raises:
        CheckpointError: If settings or weights are missing, a pair is half there, or it is of a
            kind that is not read.
    """
    folder = find_adapter(path)
    if folder is None:
        raise CheckpointError(
            f"adapter {path}: no {CONFIG_FILE} in its folder. Put the adapter's two files there."
        )
    settings = read_json(folder / CONFIG_FILE)
    if str(settings.get("peft_type", "LORA")).upper() != "LORA":
        raise CheckpointError(
            f"adapter {path}: of type {settings['peft_type']}, only LORA is read. Merge it first."
        )
    changed = [name for name, neutral in _NEUTRAL.items() if settings.get(name) not in neutral]
    if changed:
        raise CheckpointError(
            f"adapter {path}: its settings {', '.join(changed)} are not supported. Merge it into "
            "its model with peft first."
        )
    return Adapter(path, settings, _pairs(path, _weights(path if path.is_file() else folder)))


def _weights(path: Path) -> Mapping[str, StoredTensor]:
    """The tensors of an adapter; in a folder of several weight files, of its adapter_model."""
    if path.is_dir():
        named = sorted(path.glob("adapter_model.*"))
        if not named:
            raise CheckpointError(
                f"adapter {path}: {CONFIG_FILE} without adapter_model.safetensors or .bin. Get the "
                "folder again."
            )
        path = next((p for p in named if p.suffix == ".safetensors"), named[0])
    return read_weights(path).tensors


def _pairs(
    path: Path, tensors: Mapping[str, StoredTensor]
) -> dict[str, tuple[StoredTensor, StoredTensor]]:
    sides: dict[str, dict[str, StoredTensor]] = {}
    unread: list[str] = []
    for name, tensor in tensors.items():
        found = _NAME.match(_WRAPPER.sub("", name))
        if found is None:
            unread.append(name)
        else:
            sides.setdefault(found["module"], {})[found["side"]] = tensor
    if unread:
        raise CheckpointError(
            f"adapter {path}: {len(unread)} of its tensors are no LoRA weights: {shorten(unread)}. "
            "Merge it into its model with peft first."
        )
    half = [name for name, ab in sides.items() if len(ab) < 2]
    if half or not sides:
        raise CheckpointError(
            f"adapter {path}: {'no tensors' if not sides else 'half of a pair is missing'} "
            f"({shorten(half)}). Get its files again."
        )
    return {name: (ab["A"], ab["B"]) for name, ab in sides.items()}


def merge_adapter(
    model: nn.Module,
    adapter: Adapter,
    rename: Callable[[str], str] = lambda name: name,
    *,
    inside: str = "",
) -> nn.Module:
    """Merge an adapter into a model's weights, W + scale * B A, and give the plain model back.

    Args:
        model: The whole network.
        adapter: As read.
        rename: From its layer names to the model's.
        inside: Prefix of the layers that may be adapted, such as the language model's.

    Raises:
        CheckpointError: If a tensor of it fits no layer of the model: it is for another one.
        MissingPackageError: If peft is absent.
    """
    network = attach_adapter(model, adapter, rename, inside=inside)
    return cast(nn.Module, network.merge_and_unload(safe_merge=True))


def attach_adapter(
    model: nn.Module,
    adapter: Adapter,
    rename: Callable[[str], str] = lambda name: name,
    *,
    inside: str = "",
) -> Any:
    """`merge_adapter` without the merging: peft's model with the adapter's weights set."""
    placed = _placed(model, adapter, rename, inside)
    ranks = {name: a.shape[0] for name, (a, _) in placed.items()}
    common = Counter(ranks.values()).most_common(1)[0][0]
    settings = adapter.settings
    scales = cast("dict[str, float]", settings.get("alpha_pattern") or {})
    network = wrap_lora(
        model,
        sorted(placed),
        r=common,
        rank_pattern={name: r for name, r in ranks.items() if r != common},
        lora_alpha=settings.get("lora_alpha", 8),
        alpha_pattern={
            rename(name) if name in adapter.layers else name: alpha
            for name, alpha in scales.items()
        },
        use_rslora=bool(settings.get("use_rslora", False)),
    )
    _set(network, placed, adapter.path)
    return network


def wrap_lora(model: nn.Module, layers: list[str], **settings: Any) -> Any:
    """peft's model with fresh LoRA weights on the layers of these names.

    Args:
        model: The network.
        layers: Whole names of Linear layers.
        settings: Of peft's LoraConfig.

    Raises:
        MissingPackageError: If peft is absent.
    """
    peft: Any = require("peft", minimum=PEFT)
    # A whole name as an expression: a bare one would also fit every longer name that ends in it.
    names = "|".join(re.escape(name) for name in layers)
    config = peft.LoraConfig(target_modules=rf"(?:{names})", **settings)
    return peft.get_peft_model(model, config)


def lora_weights(network: nn.Module) -> dict[str, nn.Parameter]:
    """The low-rank weights of peft's model by their names in peft's files, without its wrapper."""
    return {
        _WRAPPER.sub("", name).replace(".default.", "."): weight
        for name, weight in network.named_parameters()
        if ".lora_" in name
    }


def save_adapter(folder: Path, network: Any, base: str) -> None:
    """Write an adapter as peft's two files, without paths of this machine.

    Args:
        folder: Made where it does not exist.
        network: peft's model.
        base: Name of the folder that the language model came from.
    """
    config: dict[str, Any] = network.peft_config["default"].to_dict()
    kept = ("r", "lora_alpha", "lora_dropout", "bias", "use_rslora", "rank_pattern")
    targets = sorted({name.rsplit(".lora_", 1)[0] for name in lora_weights(network)})
    settings = {
        "peft_type": "LORA",
        "task_type": "CAUSAL_LM",
        "base_model_name_or_path": base,
        "target_modules": targets,
        "inference_mode": True,
        **{name: config[name] for name in kept},
    }
    tensors = {f"base_model.model.{n}": w.detach() for n, w in lora_weights(network).items()}
    folder.mkdir(parents=True, exist_ok=True)
    with replace_files(folder) as temporary:
        stream_safetensors(temporary(WEIGHTS_FILE), tensors, metadata={"format": "pt"})
        temporary(CONFIG_FILE).write_bytes((json.dumps(settings, indent=2) + "\n").encode())


def _placed(
    model: nn.Module, adapter: Adapter, rename: Callable[[str], str], inside: str
) -> dict[str, tuple[StoredTensor, StoredTensor]]:
    """The pairs by the model's own layer names, each checked against its layer."""
    modules = dict(cast(Any, model).named_modules())
    placed: dict[str, tuple[StoredTensor, StoredTensor]] = {}
    wrong: list[str] = []
    for name, (a, b) in adapter.layers.items():
        new = rename(name)
        layer = modules.get(new)
        if not isinstance(layer, nn.Linear) or not new.startswith(inside):
            wrong.append(f"{name} (no such layer)")
            continue
        rank, shape = a.shape[0], (layer.out_features, layer.in_features)
        if a.shape[1:] != (shape[1],) or b.shape != (shape[0], rank):
            wrong.append(f"{name} ({b.shape[0]} x {a.shape[-1]}, the layer is {shape})")
        placed[new] = (a, b)
    if wrong:
        base = f" It was trained on '{adapter.base}'." if adapter.base else ""
        raise CheckpointError(
            f"adapter {adapter.path}: {len(wrong)} of its {len(adapter.layers)} layers do not fit "
            f"this model: {shorten(wrong, 3)}.{base} Give the model that it was trained on."
        )
    return placed


@torch.no_grad()
def _set(network: Any, placed: Mapping[str, tuple[StoredTensor, StoredTensor]], path: Path) -> None:
    """Copy the pairs into peft's weights; every one of them must be met."""
    weights = lora_weights(network)
    values: dict[str, Tensor] = {}
    for name, (a, b) in placed.items():
        values[f"{name}.lora_A.weight"], values[f"{name}.lora_B.weight"] = a.read(), b.read()
    differing = set(values) ^ set(weights)
    if differing:
        raise CheckpointError(
            f"adapter {path}: {len(differing)} of its tensors could not be set: "
            f"{shorten(differing)}. Update peft, or merge the adapter with the version that "
            "wrote it."
        )
    for name, value in values.items():
        if not bool(torch.isfinite(value).all()):
            raise CheckpointError(
                f"adapter {path}: {name} holds values that are no numbers. Take an earlier one."
            )
        weights[name].copy_(value)

"""Load a try-on model of any known layout, and save one in ours: config.json and
model.safetensors with the original key names."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import torch
from torch import Tensor, nn

from ..attention import AttentionBackend
from ..errors import CheckpointError
from ..weights import (
    StoredTensor,
    fill_module,
    place_tensor,
    read_weights,
    replace_files,
    shorten,
    stream_safetensors,
)
from .autoencoder import Autoencoder
from .condition_encoders import ClipText, ContextAdapter, ImageContext, repair_positions
from .config import TryOnConfig
from .layouts import CONFIG_KEY, PREFIXES, TryOnState, recognise
from .unet import GarmentEncoder, TryOnUNet

WEIGHTS_FILE, CONFIG_FILE = "model.safetensors", "config.json"

_log = logging.getLogger("unifashion.tryon")


@dataclass(frozen=True)
class TryOnModel:
    """The networks of a try-on model; each may live under a memory manager of its own.

    Attributes:
        config: All sizes.
        unet: Predicts the noise.
        garment: Encodes the garment for the warp blocks.
        autoencoder: Between pictures and latents.
        context: Makes the context tokens of a text or of the garment's picture.
        free: The context that guidance leads away from, (1, 1, context_dim), or None.
        adapter: Makes context tokens of an encoder's query outputs, or None.
    """

    config: TryOnConfig
    unet: TryOnUNet
    garment: GarmentEncoder
    autoencoder: Autoencoder
    context: ClipText | ImageContext
    free: Tensor | None
    adapter: ContextAdapter | None = None

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """The networks by their name in a checkpoint."""
        context = "text" if isinstance(self.context, ClipText) else "image"
        found: dict[str, nn.Module] = {
            "unet": self.unet,
            "garment": self.garment,
            "autoencoder": self.autoencoder,
            context: self.context,
        }
        return found if self.adapter is None else {**found, "adapter": self.adapter}


def build_tryon(config: TryOnConfig, attention: AttentionBackend) -> TryOnModel:
    """The networks with fresh weights, on torch's current default device.

    Raises:
        CheckpointError: If the config names no context encoder.
        MissingPackageError: Without transformers, or an old one.
    """
    if config.text is None and config.image is None:
        raise CheckpointError(
            "try-on config: it names neither a text nor an image encoder. Name one of them."
        )
    context = (
        ClipText(config.text, attention)
        if config.text is not None
        else ImageContext(config, attention)
    )
    return TryOnModel(
        config,
        TryOnUNet(config.unet, attention),
        GarmentEncoder(config.unet, attention),
        Autoencoder(config.autoencoder, attention),
        context,
        None,
        ContextAdapter(config.adapter, config.unet.context_dim) if config.adapter else None,
    )


def load_tryon(
    path: Path,
    *,
    attention: AttentionBackend,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    heads: int | None = None,
    channels_last: bool | None = None,
) -> TryOnModel:
    """Load a try-on model from a file or folder, and log what was found.

    Args:
        path: UniFashion's or StableVITON's .ckpt, or a folder that `save_tryon` made.
        attention: What every attention goes through.
        device: Where the weights go.
        dtype: What they become.
        heads: Attention heads of the UNet, where the file can't tell them.
        channels_last: Lay the convolutions' weights out by places, not by channels; the results
            are the same to rounding. None: where it was measured to pay, which is on a CPU.

    Raises:
        CheckpointError: If the file is another family, unsafe, damaged, incomplete or does not fit.
        FolderError: If there is nothing at the path.
        MissingPackageError: Without transformers, or an old one.
    """
    state = recognise(read_weights(path), heads)
    with torch.device("meta"):
        model = build_tryon(state.config, attention)
    unread = state.parts.keys() - model.modules.keys()
    if unread:
        raise CheckpointError(
            f"try-on {path}: weights of {shorten(unread)}, which its config does not have. Take "
            "the config.json that came with the weights."
        )
    for name, module in model.modules.items():
        where = f"try-on {path}: {PREFIXES[name].rstrip('.')}"
        fill_module(module, state.parts.get(name, {}), device, dtype, where)
        repair_positions(module, device)
        module.eval().requires_grad_(False)
    if channels_last if channels_last is not None else torch.device(device).type == "cpu":
        lay_out(model, torch.channels_last)
    _log.info("try-on %s: %s", path.name, _summary(state))
    free = None
    if state.free is not None:
        free = place_tensor(state.free, device, dtype, f"try-on {path}: learnable_vector")
    return replace(model, free=free)


def lay_out(model: TryOnModel, layout: torch.memory_format) -> None:
    """Lay the weights of the convolutions out in another order, in place.

    Args:
        model: As loaded.
        layout: torch.channels_last or torch.contiguous_format.
    """
    for network in (model.unet, model.garment, model.autoencoder):
        network.to(memory_format=layout)  # pyright: ignore[reportCallIssue] # torch's stub lacks it


def save_tryon(folder: Path, model: TryOnModel, *, dtype: torch.dtype | None = None) -> None:
    """Save a model as config.json and model.safetensors, each whole or not at all.

    Args:
        folder: Made where it does not exist.
        model: Its networks.
        dtype: Of the floating-point weights in the file; their own where None.
    """
    tensors: dict[str, Tensor] = {}
    for name, module in model.modules.items():
        for key, value in module.state_dict().items():
            projection = name == "image" and key.startswith("proj_out.")
            tensors[key if projection else PREFIXES[name] + key] = value
    if model.free is not None:
        tensors["learnable_vector"] = model.free
    _write(folder, tensors, model.config, dtype)


def convert_tryon(
    path: Path, folder: Path, *, dtype: torch.dtype | None = None, heads: int | None = None
) -> TryOnState:
    """Write a checkpoint of any known layout in ours, one tensor at a time: memory stays small.

    Args:
        path: The checkpoint.
        folder: What to make.
        dtype: Of the floating-point weights in the file; their own where None.
        heads: Attention heads of the UNet, where the file can't tell them.

    Returns:
        What was found, with the names that were dropped.

    Raises:
        CheckpointError: As `load_tryon`.
    """
    state = recognise(read_weights(path), heads)
    tensors: dict[str, StoredTensor] = {}
    for name, part in state.parts.items():
        for key, stored in part.items():
            projection = name == "image" and key.startswith("proj_out.")
            tensors[key if projection else PREFIXES[name] + key] = stored
    if state.free is not None:
        tensors["learnable_vector"] = state.free
    _write(folder, tensors, state.config, dtype)
    return state


def _write(
    folder: Path,
    tensors: Mapping[str, Tensor] | Mapping[str, StoredTensor],
    config: TryOnConfig,
    dtype: torch.dtype | None,
) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    values = {"model_type": "unifashion_tryon", CONFIG_KEY: config.to_dict()}
    with replace_files(folder) as temporary:
        metadata = {"format": "pt"}
        stream_safetensors(temporary(WEIGHTS_FILE), tensors, metadata=metadata, dtype=dtype)
        temporary(CONFIG_FILE).write_bytes((json.dumps(values, indent=2) + "\n").encode())


def _summary(state: TryOnState) -> str:
    dropped = state.dropped
    return state.layout + (
        f"; {len(dropped)} weights not used: {shorten(dropped)}" if dropped else ""
    )

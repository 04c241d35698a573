"""One network of a try-on model in a folder of its own, between the training stages."""

from __future__ import annotations

import json
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from ..attention import AttentionBackend
from ..errors import CheckpointError
from ..weights import fill_module, read_weights, replace_files, stream_safetensors
from .autoencoder import Autoencoder
from .config import AutoencoderConfig, with_tuples

_KEY = "unifashion_autoencoder_config"
_WEIGHTS, _CONFIG = "model.safetensors", "config.json"


def save_autoencoder(folder: Path, model: Autoencoder, config: AutoencoderConfig) -> None:
    """Save an autoencoder as config.json and model.safetensors.

    Args:
        folder: Made where it does not exist.
        model: The weights.
        config: Its sizes, with the scale factor that holds now.
    """
    folder.mkdir(parents=True, exist_ok=True)
    values = {"model_type": "unifashion_autoencoder", _KEY: asdict(config)}
    tensors = {name: value.contiguous() for name, value in model.state_dict().items()}
    with replace_files(folder) as temporary:
        stream_safetensors(temporary(_WEIGHTS), tensors, metadata={"format": "pt"})
        temporary(_CONFIG).write_bytes((json.dumps(values, indent=2) + "\n").encode())


def load_autoencoder(folder: Path, attention: AttentionBackend) -> Autoencoder:
    """Load what `save_autoencoder` saved, in float32 on the CPU.

    Raises:
        CheckpointError: If the folder holds none, or it does not fit.
        FolderError: If there is nothing at the path.
    """
    weights = read_weights(folder)
    data: Any = (weights.config or {}).get(_KEY)
    if data is None:
        raise CheckpointError(
            f"autoencoder {folder}: no config of ours. Give a folder that `train autoencoder` made."
        )
    config = AutoencoderConfig(**with_tuples(data))
    with torch.device("meta"):
        model = Autoencoder(config, attention)
    fill_module(model, weights.tensors, "cpu", torch.float32, f"autoencoder {folder}")
    return model.eval()

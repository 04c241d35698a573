"""The try-on stages' configs as a file holds them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, Literal, cast

from ..errors import InputError
from .autoencoder import AutoencoderTrainConfig
from .decoder import DecoderTrainConfig
from .tryon_config import TryOnTrainConfig

Stage = Literal["autoencoder", "tryon", "decoder"]

_KINDS = {
    "autoencoder": AutoencoderTrainConfig,
    "tryon": TryOnTrainConfig,
    "decoder": DecoderTrainConfig,
}


def read_stage_config(path: Path | None, stage: Stage) -> Any:
    """Read the part of a config file that belongs to a stage; the whole file where it has no such
    parts; None gives the defaults.

    Raises:
        InputError: If it can't be read or has unknown names.
    """
    if path is None:
        return _KINDS[stage]()
    try:
        data: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise InputError(f"Training config {path}: can't be read ({e}). Give a JSON file.") from e
    if not isinstance(data, dict):
        raise InputError(f"Training config {path}: no JSON object. Give names with values.")
    values = cast("dict[str, Any]", data)
    parted = {f"train_{name}" for name in _KINDS} & values.keys()
    return _KINDS[stage].from_dict(values.get(f"train_{stage}", {}) if parted else values)

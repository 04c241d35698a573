"""The fingerprint of a try-on model: equal ones make equal pictures, whatever their file."""

from __future__ import annotations

import hashlib
import json

import torch

from ..weights import raw_bytes
from .checkpoint import TryOnModel


def tryon_fingerprint(model: TryOnModel) -> str:
    """Hash all settings and weights, one tensor in memory at a time.

    Args:
        model: Wherever its weights are. They count in fp16, so that the type they are loaded in
            does not.

    Returns:
        Hex SHA-256.
    """
    digest = hashlib.sha256(json.dumps(model.config.to_dict(), sort_keys=True).encode())
    states = {name: module.state_dict() for name, module in model.modules.items()}
    if model.free is not None:
        states["free"] = {"": model.free}
    for part in sorted(states):
        for name in sorted(states[part]):
            tensor = states[part][name].detach()
            tensor = tensor.to("cpu", torch.float16 if tensor.is_floating_point() else tensor.dtype)
            digest.update(f"{part}.{name} {tuple(tensor.shape)}\n".encode())
            digest.update(raw_bytes(tensor.contiguous()))
    return digest.hexdigest()

"""Weights from a file into memory of their own, on their device and in their type."""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from .values import StoredTensor, shorten


def place_tensor(
    stored: StoredTensor, device: torch.device | str, dtype: torch.dtype, where: str
) -> Tensor:
    """A weight of its own memory: the file may be replaced while the model lives.

    Args:
        stored: As read.
        device: Where it goes.
        dtype: What it becomes, where it is a floating-point number.
        where: What it belongs to and its name, for messages.

    Raises:
        CheckpointError: If it holds values that are no numbers, or does not fit the type.
    """
    values = stored.read()
    if not values.is_floating_point():
        return values.to(device, copy=True)
    placed = values.to(device, dtype, copy=True).contiguous()
    if not bool(torch.isfinite(placed).all()):
        what = (
            f"it does not fit {dtype}. Load it as float32 or bfloat16"
            if bool(torch.isfinite(values.float()).all())
            else "it holds values that are no numbers. Its training diverged: take an earlier one"
        )
        raise CheckpointError(f"{where} is unusable, {what}.")
    return placed


def fill_module(
    module: nn.Module,
    tensors: Mapping[str, StoredTensor],
    device: torch.device | str,
    dtype: torch.dtype,
    where: str,
) -> None:
    """Give a module that was built on the meta device its weights, one tensor at a time.

    Args:
        module: On the meta device.
        tensors: Under the module's own names.
        device: Where they go.
        dtype: What they become.
        where: What the module is, for messages.

    Raises:
        CheckpointError: If a name is missing or unknown, or a shape differs; it names them.
    """
    shapes = {name: tuple(t.shape) for name, t in module.state_dict().items()}
    missing, unknown = shapes.keys() - tensors.keys(), tensors.keys() - shapes.keys()
    if missing:
        raise CheckpointError(
            f"{where}: {len(missing)} weights are missing: {shorten(sorted(missing))}. "
            "Get a complete checkpoint."
        )
    if unknown:
        raise CheckpointError(
            f"{where}: unknown weights where the network has none: {shorten(sorted(unknown))}. "
            "It is another network, or its config tells other sizes."
        )
    wrong = [
        f"{name} is {tensors[name].shape}, wanted {shape}"
        for name, shape in shapes.items()
        if tuple(tensors[name].shape) != shape
    ]
    if wrong:
        raise CheckpointError(
            f"{where}: wrong shapes: {shorten(wrong, 4)}. Check its config, or get it again."
        )
    values = {n: place_tensor(t, device, dtype, f"{where}: {n}") for n, t in tensors.items()}
    module.load_state_dict(values, assign=True)

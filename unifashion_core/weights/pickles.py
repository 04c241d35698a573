"""torch.save's files: read through weights_only alone, memory-mapped where they allow it."""

from __future__ import annotations

import pickle
import re
import struct
from collections.abc import Mapping
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor

from ..errors import CheckpointError
from ..types import Scalar
from .values import ACCEPTED, StoredTensor, Weights, shorten

_MAX_DEPTH = 4
# Below 2.6, weights_only loading can be made to run code (CVE-2025-32434).
_SAFE_TORCH = (2, 6)
# What a damaged or hostile pickle is known to make torch raise.
_LOAD_ERRORS = (
    RuntimeError,
    OSError,
    EOFError,
    ValueError,
    TypeError,
    LookupError,
    AttributeError,
    AssertionError,
    struct.error,
)


def open_pickle(path: Path) -> Weights:
    """Open a file of torch.save without running code from it.

    Raises:
        CheckpointError: If it needs code, is damaged, or holds no tensors or several networks.
    """
    if _torch_version() < _SAFE_TORCH:
        raise CheckpointError(
            f"weights {path}: a pickle, and torch {torch.__version__} can't read one safely. "
            "Update torch to 2.6 or newer, or give a safetensors file."
        )
    try:
        found = _load_pickle(path)
    except pickle.UnpicklingError as e:
        raise CheckpointError(_pickle_message(path, e)) from e
    except _LOAD_ERRORS as e:
        reason = str(e).strip().split("\n")[0] or type(e).__name__
        raise CheckpointError(
            f"weights {path}: damaged, cut off or no checkpoint ({reason}). Get the file again."
        ) from e
    if isinstance(found, Tensor) or not isinstance(found, Mapping):
        raise CheckpointError(
            f"weights {path}: holds one {type(found).__name__}, not named tensors. {ACCEPTED}."
        )
    return _unwrap(path, cast(Mapping[Any, Any], found))


def _load_pickle(path: Path) -> object:
    with path.open("rb") as file:
        is_zip = file.read(2) == b"PK"
        # Files of before torch 1.6 are no archives and can't be mapped; and given a path, torch
        # takes the name's word for it that a file is safetensors.
        mapped = is_zip and path.suffix != ".safetensors"
        file.seek(0)
        source = path if mapped else file
        return torch.load(source, map_location="cpu", weights_only=True, mmap=mapped)


def _torch_version() -> tuple[int, int]:
    numbers = re.match(r"(\d+)\.(\d+)", torch.__version__)
    return (int(numbers[1]), int(numbers[2])) if numbers else (0, 0)


def _pickle_message(path: Path, error: Exception) -> str:
    """Name what the pickle wanted to run, without torch's advice to let it."""
    wanted = re.search(r"GLOBAL (\S+)", str(error))
    if wanted:
        return (
            f"weights {path}: reading it would run code of its own ({wanted[1]}), which is "
            "refused. "
            "Get a safetensors file, or one that holds tensors and plain values only."
        )
    detail = re.search(r"(Unsupported operand \d+|WeightsUnpickler error[^\n]*)", str(error))
    return (
        f"weights {path}: not a plain pickle of tensors ({detail[1] if detail else 'refused'}). "
        "Get a safetensors file, or get the file again."
    )


def _unwrap(path: Path, level: Mapping[Any, Any]) -> Weights:
    """Go down to the tensors: `state_dict`, `model`, or the single entry that holds some."""
    container: list[str] = []
    notes: list[str] = []
    values: dict[str, Scalar] = {}
    while True:
        values |= {str(k): v for k, v in level.items() if _is_scalar(v)}
        inner = _inner(path, level)
        if inner is None:
            break
        passed = [str(k) for k, v in level.items() if k != inner and not _is_scalar(v)]
        if passed:
            notes.append(f"beside {inner!r} and not read: {shorten(passed)}")
        container.append(inner)
        level = cast(Mapping[Any, Any], level[inner])
        if len(container) > _MAX_DEPTH:
            raise CheckpointError(f"weights {path}: nested too deep. {ACCEPTED}.")
    tensors = {str(k): _checked(path, str(k), v) for k, v in level.items() if isinstance(v, Tensor)}
    rest = [str(k) for k, v in level.items() if not isinstance(v, Tensor)]
    if not tensors:
        found = shorten(rest) or "nothing"
        raise CheckpointError(f"weights {path}: holds no tensors, only {found}. {ACCEPTED}.")
    odd = [name for name in rest if name not in values]
    if odd:
        notes.append(f"not tensors and not read: {shorten(odd)}")
    return Weights(
        path, (path,), "torch", tensors, tuple(container), values=values, notes=tuple(notes)
    )


def _inner(path: Path, level: Mapping[Any, Any]) -> str | None:
    """The entry to go into, or None where the level itself holds the tensors."""
    holders = [k for k, v in level.items() if isinstance(k, str) and _holds_tensors(v)]
    for name in ("state_dict", "model"):
        if name in holders:
            return name
    if len(holders) > 1:
        raise CheckpointError(
            f"weights {path}: several entries hold tensors ({shorten(holders)}). "
            "Give a file with one network."
        )
    return holders[0] if holders else None


def _holds_tensors(value: object, depth: int = 0) -> bool:
    if not isinstance(value, Mapping) or depth > _MAX_DEPTH:
        return False
    inner = cast(Mapping[Any, object], value).values()
    return any(isinstance(v, Tensor) or _holds_tensors(v, depth + 1) for v in inner)


def _is_scalar(value: object) -> bool:
    return value is None or isinstance(value, (bool, int, float, str))


def _checked(path: Path, name: str, tensor: Tensor) -> StoredTensor:
    """A tensor whose values are all in the file: a stretched one would fill the memory."""
    plain = tensor.layout == torch.strided and tensor.device.type == "cpu"
    size = tensor.numel() * tensor.element_size()
    if not plain or tensor.is_quantized or tensor.untyped_storage().nbytes() < size:
        raise CheckpointError(
            f"weights {path}: {name} is not a plain tensor ({tensor.layout}, {tensor.device}, "
            f"{tuple(tensor.shape)}). Save the checkpoint with dense tensors."
        )
    return StoredTensor.of(tensor.detach())

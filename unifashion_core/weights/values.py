"""What a weight file holds, before and after it is opened."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor

from ..types import Scalar

WeightFormat = Literal["safetensors", "torch"]

DTYPES: dict[str, torch.dtype] = {
    "F64": torch.float64,
    "F32": torch.float32,
    "F16": torch.float16,
    "BF16": torch.bfloat16,
    "F8_E4M3": torch.float8_e4m3fn,
    "F8_E5M2": torch.float8_e5m2,
    "I64": torch.int64,
    "I32": torch.int32,
    "I16": torch.int16,
    "I8": torch.int8,
    "U8": torch.uint8,
    "BOOL": torch.bool,
}
"""The types that we read, by safetensors' names for them."""

ACCEPTED = "Give a .safetensors file, a .pt / .pth / .bin / .ckpt of tensors, or a folder with one"
"""The end of a message about a file that is none of these."""


@dataclass(frozen=True)
class StoredTensor:
    """One tensor of a file, not read yet.

    Attributes:
        shape: Its shape.
        dtype: Its type in the file.
        read: Gives its values, on the CPU; they may be a view of the file, so copy what outlives
            it.
    """

    shape: tuple[int, ...]
    dtype: torch.dtype
    read: Callable[[], Tensor]

    @classmethod
    def of(cls, tensor: Tensor) -> StoredTensor:
        """A tensor that is in memory, in the same form."""
        return cls(tuple(tensor.shape), tensor.dtype, lambda: tensor)


@dataclass(frozen=True)
class Weights:
    """The tensors of a file or folder and what was found around them.

    Attributes:
        path: What was asked for.
        files: The weight files behind it.
        format: How they are stored.
        tensors: By their names in the file.
        container: Keys under which the tensors lay, outermost first; ("state_dict",) for instance.
        metadata: Of safetensors.
        values: Numbers and texts that lay beside the tensors, such as the epoch.
        config: The folder's config.json, or None.
        notes: What was passed over on the way.
    """

    path: Path
    files: tuple[Path, ...]
    format: WeightFormat
    tensors: Mapping[str, StoredTensor]
    container: tuple[str, ...] = ()
    metadata: Mapping[str, str] = field(default_factory=dict[str, str])
    values: Mapping[str, Scalar] = field(default_factory=dict[str, Scalar])
    config: Mapping[str, Any] | None = None
    notes: tuple[str, ...] = ()


def shorten(names: Iterable[str], limit: int = 6) -> str:
    """Names for a message: the first few, then how many more."""
    found = sorted(names)
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more

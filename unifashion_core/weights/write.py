"""Write files whole or not at all, and safetensors with one tensor in memory at a time."""

from __future__ import annotations

import json
import os
import re
import struct
import uuid
from collections.abc import Callable, Generator, Mapping
from contextlib import contextmanager
from math import prod
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ..errors import CheckpointError, FolderError
from .values import DTYPES, StoredTensor

_NAMES = {dtype: name for name, dtype in DTYPES.items()}


@contextmanager
def replace_files(folder: Path) -> Generator[Callable[[str], Path], None, None]:
    """Write files of a folder so that each is there whole or not at all.

    Gives a function from a file's name to the temporary path to write it at. When the block ends
    well, all are flushed to the disk and only then moved to their names, in the order in which they
    were asked for; else they are removed.

    Raises:
        FolderError: If the folder does not exist, or a name is not a plain one.
    """
    if not folder.is_dir():
        raise FolderError(f"folder {folder}: does not exist. Create it first.")
    staged: dict[str, Path] = {}

    def temporary(name: str) -> Path:
        if not name or name in (".", "..") or re.search(r"[/\\:\0]", name):
            raise FolderError(
                f"folder {folder}: {name!r} is not a plain file name. Use a name without a path."
            )
        staged[name] = folder / f".{name}.{uuid.uuid4().hex[:12]}.part"
        return staged[name]

    try:
        yield temporary
        for path in staged.values():
            _flush(path)
        for name, path in staged.items():
            os.replace(path, folder / name)
        _flush_folder(folder)
    finally:
        for path in staged.values():
            path.unlink(missing_ok=True)


def write_json(path: Path, value: object) -> None:
    """Write a JSON file atomically.

    Raises:
        FolderError: If its folder does not exist.
    """
    with replace_files(path.parent) as temporary:
        text = json.dumps(value, indent=2, ensure_ascii=False) + "\n"
        temporary(path.name).write_bytes(text.encode())


def write_safetensors(
    path: Path,
    tensors: Mapping[str, Tensor | StoredTensor],
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """Write a safetensors file atomically, one tensor in memory at a time.

    Args:
        path: Where; an old file there is replaced.
        tensors: By name. Tensors that share memory are written out each.
        metadata: Texts for the header.
        dtype: For the floating-point tensors; each keeps its own where None.

    Raises:
        CheckpointError: If a tensor's type has no place in the format.
        FolderError: If the folder does not exist.
    """
    with replace_files(path.parent) as temporary:
        stream_safetensors(temporary(path.name), tensors, metadata=metadata, dtype=dtype)


def stream_safetensors(
    path: Path,
    tensors: Mapping[str, Tensor | StoredTensor],
    *,
    metadata: Mapping[str, str] | None = None,
    dtype: torch.dtype | None = None,
) -> None:
    """The same straight to a path, for one that `replace_files` gave.

    Source: the safetensors format description (huggingface/safetensors, README, Apache-2.0).
    """
    stored = {
        name: t if isinstance(t, StoredTensor) else StoredTensor.of(t)
        for name, t in tensors.items()
    }
    types = {name: _type_on_disk(name, t.dtype, dtype) for name, t in stored.items()}
    # Wide types first keeps every tensor aligned.
    names = sorted(stored, key=lambda name: (-types[name].itemsize, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)} if metadata else {}
    position = 0
    for name in names:
        end = position + prod(stored[name].shape) * types[name].itemsize
        header[name] = {
            "dtype": _NAMES[types[name]],
            "shape": list(stored[name].shape),
            "data_offsets": [position, end],
        }
        position = end
    text = json.dumps(header, separators=(",", ":"), ensure_ascii=False).encode()
    text += b" " * (-len(text) % 8)
    with path.open("wb") as file:
        file.write(struct.pack("<Q", len(text)) + text)
        for name in names:
            file.write(raw_bytes(stored[name].read().to(types[name])))


def raw_bytes(tensor: Tensor) -> memoryview:
    """The values of a tensor as they lie in memory, row by row."""
    flat = tensor.detach().cpu().contiguous().reshape(-1)
    values: Any = flat.view(torch.uint8).numpy()  # numpy's stubs do not say that it is a buffer
    return memoryview(values)


def _type_on_disk(name: str, own: torch.dtype, wanted: torch.dtype | None) -> torch.dtype:
    dtype = wanted if wanted is not None and own.is_floating_point else own
    if dtype not in _NAMES:
        raise CheckpointError(
            f"weights: {name} is {dtype}, which safetensors has no name for. Convert it first."
        )
    return dtype


def _flush(path: Path) -> None:
    with path.open("rb+") as file:
        os.fsync(file.fileno())


def _flush_folder(folder: Path) -> None:
    if os.name != "posix":  # elsewhere a folder can't be opened
        return
    handle = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)

"""Read weight files by content, never by name and never by running their code."""

from __future__ import annotations

import json
import pickle
import re
import struct
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from ..errors import CheckpointError, FolderError
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

_WRONG_FILES = (
    (b"version https://git-lfs", "a Git LFS pointer, not the weights that it stands for"),
    (b"<", "a web page, not weights (the download went wrong)"),
    (b"GGUF", "a GGUF file"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"{", "a JSON file"),
)
# The format's own limit for a header; more is damage or an attack.
_MAX_HEADER = 100_000_000
_MAX_CONFIG = 10_000_000
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
_ACCEPTED = "Give a .safetensors file, a .pt / .pth / .bin / .ckpt of tensors, or a folder with one"


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


def read_weights(path: Path) -> Weights:
    """Open a weight file, or the weights of a folder, without reading the values yet.

    A file is told by its content. Pickles are read by `torch.load(weights_only=True)` alone,
    memory-mapped where the file allows it; tensors are unwrapped from `state_dict`, `model`, or the
    single entry that holds some. In a folder an index of shards comes first, then safetensors, then
    pickles.

    Args:
        path: A file or a folder.

    Raises:
        CheckpointError: If it is no weight file, is damaged, holds code, or a folder has none or
            several.
        FolderError: If there is nothing at the path.
    """
    if path.is_dir():
        return _read_folder(path)
    if not path.is_file():
        raise FolderError(f"weights {path}: no such file or folder. Check the path.")
    return _read_file(path)


def read_config(folder: Path) -> dict[str, Any] | None:
    """The config.json of a folder, or None where it has none.

    Raises:
        CheckpointError: If it is not a JSON object.
    """
    path = folder / "config.json"
    return read_json(path) if path.is_file() else None


def shorten(names: Iterable[str], limit: int = 6) -> str:
    """Names for a message: the first few, then how many more."""
    found = sorted(names)
    more = f" and {len(found) - limit} more" if len(found) > limit else ""
    return ", ".join(found[:limit]) + more


def read_json(path: Path) -> dict[str, Any]:
    """A JSON object from a file of at most 10 MB.

    Raises:
        CheckpointError: If it is none.
    """
    if path.stat().st_size > _MAX_CONFIG:
        raise CheckpointError(f"{path}: too large for a configuration. Check the file.")
    try:
        value: object = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as e:
        raise CheckpointError(f"{path}: not valid JSON ({e}). Get the file again.") from e
    if not isinstance(value, dict):
        raise CheckpointError(f"{path}: holds no JSON object. Get the file again.")
    return cast(dict[str, Any], value)


@dataclass(frozen=True)
class _Wrong:
    what: str


def _read_file(path: Path) -> Weights:
    kind = _sniff(path)
    if isinstance(kind, _Wrong):
        raise CheckpointError(f"weights {path}: {kind.what}. {_ACCEPTED}.")
    return _open_safetensors(path) if kind == "safetensors" else _open_torch(path)


def _sniff(path: Path) -> WeightFormat | _Wrong:
    """The format by the first bytes."""
    with path.open("rb") as file:
        head = file.read(64)
    if not head:
        return _Wrong("an empty file")
    if head[8:9] == b"{" and struct.unpack("<Q", head[:8])[0] <= _MAX_HEADER:
        return "safetensors"
    if head.startswith(b"PK\x03\x04") or (head[:1] == b"\x80" and 2 <= head[1] <= 5):
        return "torch"
    for magic, what in _WRONG_FILES:
        if head.lstrip().startswith(magic):
            return _Wrong(what)
    return _Wrong(f"no weight file, it starts with {head[:16]!r}")


def _open_safetensors(path: Path) -> Weights:
    try:
        handle: Any = safe_open(str(path), framework="pt", device="cpu")
        names = cast(list[str], handle.keys())
        tensors = {name: _safetensor(handle, path, name) for name in names}
        metadata = cast("dict[str, str] | None", handle.metadata())
    except SafetensorError as e:
        raise CheckpointError(
            f"weights {path}: damaged or cut off ({e}). Get the file again."
        ) from e
    return Weights(path, (path,), "safetensors", tensors, metadata=metadata or {})


def _safetensor(handle: Any, path: Path, name: str) -> StoredTensor:
    part = handle.get_slice(name)
    dtype = DTYPES.get(part.get_dtype())
    if dtype is None:
        raise CheckpointError(
            f"weights {path}: {name} is of type {part.get_dtype()}, which is not supported. "
            "Convert the file to float16 or float32."
        )
    return StoredTensor(tuple(part.get_shape()), dtype, lambda: handle.get_tensor(name))


def _open_torch(path: Path) -> Weights:
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
            f"weights {path}: holds one {type(found).__name__}, not named tensors. {_ACCEPTED}."
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
            raise CheckpointError(f"weights {path}: nested too deep. {_ACCEPTED}.")
    tensors = {str(k): _checked(path, str(k), v) for k, v in level.items() if isinstance(v, Tensor)}
    rest = [str(k) for k, v in level.items() if not isinstance(v, Tensor)]
    if not tensors:
        found = shorten(rest) or "nothing"
        raise CheckpointError(f"weights {path}: holds no tensors, only {found}. {_ACCEPTED}.")
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


def _read_folder(folder: Path) -> Weights:
    config = read_config(folder)
    files = sorted(p for p in folder.iterdir() if p.is_file() and not p.name.startswith("."))
    indexes = [p for p in files if p.name.endswith(".index.json")]
    if indexes:
        preferred = [p for p in indexes if _index_format(p) == "safetensors"] or indexes
        index = _only(folder, preferred, "model.safetensors.index.json")
        return replace(_read_shards(folder, index), config=config)
    kinds = {p: _sniff(p) for p in files}
    for kind, usual in (("safetensors", "model.safetensors"), ("torch", "pytorch_model.bin")):
        found = [p for p, k in kinds.items() if k == kind]
        if found:
            weights = _read_file(_only(folder, found, usual))
            return replace(weights, path=folder, config=config)
    names = shorten(p.name for p in folder.iterdir()) or "nothing"
    raise CheckpointError(f"weights {folder}: no weight file in it, only {names}. {_ACCEPTED}.")


def _only(folder: Path, found: list[Path], usual: str) -> Path:
    """The one file, or of several the one with the name that the folder formats fix."""
    chosen = found if len(found) == 1 else [p for p in found if p.name == usual]
    if len(chosen) != 1:
        raise CheckpointError(
            f"weights {folder}: several weight files ({shorten(p.name for p in found)}). "
            "Give the file itself."
        )
    return chosen[0]


def _shard_map(index: Path) -> dict[str, str]:
    """Tensor name to file name; a name with a path in it is refused."""
    found: object = read_json(index).get("weight_map")
    pairs = cast("dict[object, object]", found).items() if isinstance(found, dict) else ()
    names = {str(k): v for k, v in pairs if isinstance(v, str)}
    if not names:
        raise CheckpointError(f"weights {index}: no weight_map in it. Get the file again.")
    for name in set(names.values()):
        if Path(name).name != name or name == ".." or "\\" in name:
            raise CheckpointError(
                f"weights {index}: names the file {name!r} outside its folder. Get the file again."
            )
    return names


def _index_format(index: Path) -> WeightFormat | None:
    first = index.parent / next(iter(_shard_map(index).values()))
    kind = _sniff(first) if first.is_file() else None
    return None if isinstance(kind, _Wrong) else kind


def _read_shards(folder: Path, index: Path) -> Weights:
    names = _shard_map(index)
    absent = {name for name in names.values() if not (folder / name).is_file()}
    if absent:
        raise CheckpointError(f"weights {folder}: missing {shorten(absent)}. Get the files again.")
    shards = {name: _read_file(folder / name) for name in sorted(set(names.values()))}
    lost = [key for key, name in names.items() if key not in shards[name].tensors]
    if lost:
        raise CheckpointError(
            f"weights {folder}: its index promises {shorten(lost)}, which its files lack. "
            "Get the files again."
        )
    first = next(iter(shards.values()))
    return Weights(
        path=folder,
        files=tuple(folder / name for name in shards),
        format=first.format,
        tensors={key: shards[name].tensors[key] for key, name in names.items()},
        metadata=first.metadata,
    )

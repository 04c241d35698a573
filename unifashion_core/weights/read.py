"""Read weight files by content, never by name and never by running their code."""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, cast

from safetensors import SafetensorError, safe_open

from ..errors import CheckpointError, FolderError
from .pickles import open_pickle
from .values import ACCEPTED, DTYPES, StoredTensor, WeightFormat, Weights, shorten

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
        raise CheckpointError(f"weights {path}: {kind.what}. {ACCEPTED}.")
    return _open_safetensors(path) if kind == "safetensors" else open_pickle(path)


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
    raise CheckpointError(f"weights {folder}: no weight file in it, only {names}. {ACCEPTED}.")


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

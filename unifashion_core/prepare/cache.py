"""Preparations kept by content: a person or a garment is prepared once in an N x M run.

A key is the SHA-256 of everything that a result depends on, so an entry can never be stale. The
cache holds values on the CPU, is bounded in bytes, and is passed in: nothing here is global.
"""

from __future__ import annotations

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, TypeVar, cast

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

T = TypeVar("T")

DEFAULT_BUDGET_BYTES = 512 * 1024**2
_BLOCK = 1 << 16  # values looked at in one go
_WORD = 8  # what a plain number or reference is counted as


@dataclass(frozen=True)
class Entry:
    """What the cache tells of one of its values.

    Attributes:
        name: What was made, such as "agnostic mask".
        key: Its SHA-256, hexadecimal.
        size_bytes: What it takes.
        uses: How often it was handed out again.
    """

    name: str
    key: str
    size_bytes: int
    uses: int


@dataclass
class _Kept:
    name: str
    value: object
    size_bytes: int
    uses: int = 0


class PreparationCache:
    """Values by content key, the longest unused dropped first; safe in threads.

    Args:
        budget_bytes: What all values may take together; 0 keeps nothing.
    """

    def __init__(self, budget_bytes: int = DEFAULT_BUDGET_BYTES):
        self.budget_bytes = budget_bytes
        self.hits = 0
        self.misses = 0
        self._kept: OrderedDict[str, _Kept] = OrderedDict()
        self._lock = threading.Lock()

    def get_or_make(self, name: str, inputs: Sequence[object], make: Callable[[], T]) -> T:
        """A value of these inputs, made now or before; always one of one's own to change.

        Args:
            name: What is made, and by which method: part of the key.
            inputs: All that the value depends on: tensors, pictures, numbers, texts, and sequences,
                mappings and dataclasses of these.
            make: Makes the value; what it raises passes through and nothing is kept.
        """
        key = content_key(name, inputs)
        with self._lock:
            kept = self._kept.get(key)
            if kept is not None:
                self._kept.move_to_end(key)
                kept.uses += 1
                self.hits += 1
                return cast(T, _copied(kept.value))
            self.misses += 1
        value = make()
        self._keep(key, _Kept(name, _copied(value), size_of(value)))
        return value

    def entries(self) -> tuple[Entry, ...]:
        """What is kept, the longest unused first."""
        with self._lock:
            return tuple(Entry(k.name, key, k.size_bytes, k.uses) for key, k in self._kept.items())

    @property
    def size_bytes(self) -> int:
        """What is kept now, in bytes."""
        return sum(entry.size_bytes for entry in self.entries())

    def clear(self) -> None:
        """Drop everything; the counts of hits and misses stay."""
        with self._lock:
            self._kept.clear()

    def _keep(self, key: str, kept: _Kept) -> None:
        if kept.size_bytes > self.budget_bytes:
            return
        with self._lock:
            self._kept[key] = kept
            total = sum(k.size_bytes for k in self._kept.values())
            while total > self.budget_bytes:
                _, oldest = self._kept.popitem(last=False)
                total -= oldest.size_bytes


def content_key(name: str, inputs: Sequence[object]) -> str:
    """SHA-256 over a name and everything in the inputs, types and shapes included."""
    digest = hashlib.sha256()
    _feed(digest, name)
    _feed(digest, list(inputs))
    return digest.hexdigest()


def size_of(value: object) -> int:
    """About how many bytes a value takes."""
    if isinstance(value, torch.Tensor):
        return value.numel() * value.element_size()
    if isinstance(value, Image.Image):
        return value.width * value.height * len(value.getbands())
    if isinstance(value, (str, bytes)):
        return len(value)
    if hasattr(value, "nbytes"):
        return int(cast(Any, value).nbytes)
    return _WORD + sum(size_of(part) for part in _parts(value))


def _parts(value: object) -> list[object]:
    if isinstance(value, Mapping):
        known = cast(Mapping[object, object], value)
        return [part for pair in known.items() for part in pair]
    if isinstance(value, (list, tuple)):
        return list(cast(Sequence[object], value))
    if is_dataclass(value):
        return [getattr(value, f.name) for f in fields(value)]
    return []


def _feed(digest: Any, value: object) -> None:
    """Put a value into the digest so that no two different ones can read alike."""
    if isinstance(value, torch.Tensor):
        _feed_tensor(digest, value)
    elif isinstance(value, Image.Image):
        _feed_bytes(digest, f"image {value.mode} {value.size}", value.tobytes())
    elif isinstance(value, bytes):
        _feed_bytes(digest, "bytes", value)
    elif hasattr(value, "__array_interface__"):
        array = cast(Any, value)
        _feed_bytes(digest, f"array {array.dtype} {array.shape}", array.tobytes())
    elif value is None or isinstance(value, (str, int, float, bool)):
        _feed_bytes(digest, type(value).__name__, repr(value).encode())
    else:
        _feed_all(digest, value)


def _feed_all(digest: Any, value: object) -> None:
    kind = _kind(value)
    if not (isinstance(value, (Mapping, list, tuple)) or is_dataclass(value)):
        raise TypeError(f"cache: a {kind} has no content to key by")
    parts = _parts(cast(object, value))
    _feed_bytes(digest, f"{kind} of {len(parts)}", b"")
    for part in parts:
        _feed(digest, part)


def _kind(value: Any) -> str:
    return type(value).__name__


def _feed_tensor(digest: Any, tensor: torch.Tensor) -> None:
    """The values of a tensor; those that came from 8 bits as these, a quarter of the work."""
    values = tensor.detach().cpu().contiguous()
    about = f"tensor {values.dtype} {tuple(values.shape)}"
    small = _as_8_bits(values) if values.dtype == torch.float32 else None
    if small is not None:
        _feed_bytes(digest, f"{about} of 8 bits", small.data)
        return
    _feed_bytes(
        digest,
        about,
        values.view(torch.uint8).numpy().data
        if values.ndim
        else bytes(str(values.item()), "ascii"),
    )


def _as_8_bits(values: torch.Tensor) -> NDArray[np.uint8] | None:
    """k of values that all are k / 255, (N,), else None. Block by block, which stay in the CPU's
    own memory; numpy's casts and comparison take a third of torch's time here.
    """
    flat: NDArray[np.float32] = values.reshape(-1).numpy()
    small = np.empty(flat.shape, np.uint8)
    room = np.empty(min(_BLOCK, len(flat)), np.float32)
    with np.errstate(invalid="ignore", over="ignore"):  # what is no k / 255 is found unlike below
        for start in range(0, len(flat), _BLOCK):
            block, part = flat[start : start + _BLOCK], small[start : start + _BLOCK]
            scaled = room[: len(block)]
            np.multiply(block, np.float32(255), out=scaled)
            np.add(scaled, np.float32(0.5), out=scaled)
            np.copyto(part, scaled, casting="unsafe")
            np.copyto(scaled, part)
            np.divide(scaled, np.float32(255), out=scaled)
            if not np.array_equal(scaled, block):
                return None
    return small


def _feed_bytes(digest: Any, about: str, data: bytes | memoryview) -> None:
    head = about.encode()
    size = data.nbytes if isinstance(data, memoryview) else len(data)
    digest.update(f"{len(head)}:{size}:".encode())
    digest.update(head)
    digest.update(data)


def _copied(value: Any) -> Any:
    """A copy in which no tensor is shared; pictures and arrays are not changed in place here."""
    if isinstance(value, torch.Tensor):
        return value.detach().cpu().clone()
    if isinstance(value, Image.Image):
        return value.copy()
    if isinstance(value, (list, tuple)):
        parts = [_copied(part) for part in cast(Sequence[object], value)]
        return parts if isinstance(value, list) else tuple(parts)
    if isinstance(value, Mapping):
        return {k: _copied(v) for k, v in cast(Mapping[object, object], value).items()}
    if is_dataclass(value) and not isinstance(value, type):
        changed = {f.name: _copied(getattr(value, f.name)) for f in fields(value) if f.init}
        return replace(value, **changed)
    return cast(Any, value).copy() if hasattr(value, "nbytes") else value

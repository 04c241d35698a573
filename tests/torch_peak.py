"""How many bytes of tensors are alive at most while something runs, on any device.

On the device "meta" a network of any size runs in no time and holds nothing, and its tensors have
the sizes that they would have elsewhere. What a kernel takes inside itself is not seen: scratch
memory, which the host's own reserve is for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Peak(TorchDispatchMode):
    def __init__(self, device: str) -> None:
        super().__init__()
        self.device = device
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.given: dict[int, StorageWeakRef] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        given = kwargs or {}
        for value in tree_leaves((args, given)):  # a view of a weight is no memory of the run's
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                if storage._cdata not in self.live:
                    self.given.setdefault(storage._cdata, StorageWeakRef(storage))
        first = args[0] if args else None
        if isinstance(first, torch.Tensor) and first.is_meta:
            places = [v for v in (*args, *given.values()) if isinstance(v, torch.device)]
            if any(place.type != "meta" for place in places):  # its values leave the device
                return torch.zeros(first.shape)
        result = func(*args, **given)
        self.live = {k: entry for k, entry in self.live.items() if not entry[0].expired()}
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor) and value.device.type == self.device:
                storage = value.untyped_storage()
                if storage._cdata in self.given:
                    continue
                self.live.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))
        return result


def peak_bytes(run: Callable[[], object], device: str = "cpu") -> int:
    """The most bytes of tensors on `device` made by `run` that were alive together."""
    with _Peak(device) as seen, torch.inference_mode():
        run()
    return seen.peak

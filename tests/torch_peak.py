"""How many bytes of tensors are alive at most while something runs, on any device.

What a kernel takes inside itself is not seen: scratch memory, which the host's own reserve is
for.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class _Peak(TorchDispatchMode):
    def __init__(self) -> None:
        super().__init__()
        self.live: dict[int, tuple[StorageWeakRef, int]] = {}
        self.peak = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        self.live = {k: entry for k, entry in self.live.items() if not entry[0].expired()}
        for value in tree_leaves(result):
            if isinstance(value, torch.Tensor):
                storage = value.untyped_storage()
                self.live.setdefault(storage._cdata, (StorageWeakRef(storage), storage.nbytes()))
        self.peak = max(self.peak, sum(size for _, size in self.live.values()))
        return result


def peak_bytes(run: Callable[[], object]) -> int:
    """The most bytes of tensors made by `run` that were alive together."""
    with _Peak() as seen, torch.inference_mode():
        run()
    return seen.peak

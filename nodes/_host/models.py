"""Models on the embedded host: which device they sit on, and who leaves when memory runs short."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from dataclasses import dataclass

import torch
from torch import nn

log = logging.getLogger("unifashion.host")


class ModelPatcher:
    """A module and the two devices that it moves between.

    Args:
        model: The module, on the offload device.
        load_device: Where it computes.
        offload_device: Where it waits.
    """

    def __init__(self, model: nn.Module, load_device: torch.device, offload_device: torch.device):
        self.model = model
        self.load_device = load_device
        self.offload_device = offload_device
        self.loaded = False

    def model_size(self) -> int:
        """Bytes of its parameters and buffers."""
        tensors = (*self.model.parameters(), *self.model.buffers())
        return sum(t.numel() * t.element_size() for t in tensors)


@dataclass(frozen=True)
class MemoryFigures:
    """Memory of the device that models compute on, in bytes."""

    total: int
    free: int


class ModelManager:
    """Loads models right before use and puts the longest unused ones away when they don't fit.

    Args:
        device: Where models compute; the best that torch has when None.
        budget_bytes: Pretended size of the device's memory; its real one when None.
    """

    def __init__(self, device: torch.device | None = None, budget_bytes: int | None = None):
        self.device = device or best_device()
        self.offload_device = torch.device("cpu")
        self.budget_bytes = budget_bytes
        self._loaded: list[ModelPatcher] = []  # longest unused first

    @property
    def loaded(self) -> tuple[ModelPatcher, ...]:
        """Models on the device, longest unused first."""
        return tuple(self._loaded)

    def manage(self, model: nn.Module) -> ModelPatcher:
        """Put a module under this manager; it stays where it is until it is loaded."""
        return ModelPatcher(model, self.device, self.offload_device)

    def load(self, patchers: Iterable[ModelPatcher], memory_bytes: int = 0) -> None:
        """Bring models onto the device together, whole.

        Args:
            patchers: What the next step uses.
            memory_bytes: What the step's activations need beside the weights.
        """
        wanted = list(dict.fromkeys(patchers))
        missing = sum(p.model_size() for p in wanted if not p.loaded)
        self.make_room(missing + memory_bytes, keep=wanted)
        for patcher in wanted:
            if patcher.loaded:
                self._loaded.remove(patcher)
            patcher.model.to(patcher.load_device)
            patcher.loaded = True
            self._loaded.append(patcher)

    def make_room(self, needed_bytes: int, keep: Iterable[ModelPatcher] = ()) -> None:
        """Put models away, longest unused first, until that much is free or none is left."""
        if self.budget_bytes is None and self.device == self.offload_device:
            return  # they wait in the same memory: moving frees nothing
        kept = set(keep)
        for patcher in [p for p in self._loaded if p not in kept]:
            if self.memory().free >= needed_bytes:
                return
            self._unload(patcher)

    def unload_all(self) -> None:
        """Put every model away."""
        for patcher in list(self._loaded):
            self._unload(patcher)

    def _unload(self, patcher: ModelPatcher) -> None:
        log.info("%s leaves %s", type(patcher.model).__name__, patcher.load_device)
        patcher.model.to(patcher.offload_device)
        patcher.loaded = False
        self._loaded.remove(patcher)

    def memory(self) -> MemoryFigures:
        """What the device has and what is free of it."""
        if self.budget_bytes is not None:
            used = sum(p.model_size() for p in self._loaded)
            return MemoryFigures(self.budget_bytes, max(0, self.budget_bytes - used))
        if self.device.type == "cuda":
            free, total = torch.cuda.mem_get_info(self.device)
            reserved = torch.cuda.memory_reserved(self.device)
            return MemoryFigures(total, free + reserved - torch.cuda.memory_allocated(self.device))
        return _system_memory()

    def dtype(self, supported: Iterable[torch.dtype]) -> torch.dtype:
        """The first of the supported types that the device computes fast in, else float32."""
        fast = {
            "cuda": (torch.bfloat16, torch.float16)
            if _fast_bf16(self.device)
            else (torch.float16,),
            "mps": (torch.float16,),
        }.get(self.device.type, ())
        return next((d for d in supported if d in fast), torch.float32)


def best_device() -> torch.device:
    """CUDA or MPS where torch has it, else the CPU."""
    if torch.cuda.is_available():
        return torch.device("cuda", torch.cuda.current_device())
    if torch.backends.mps.is_available():
        return torch.device("mps")
    return torch.device("cpu")


def _fast_bf16(device: torch.device) -> bool:
    return device.type == "cuda" and torch.cuda.get_device_capability(device) >= (8, 0)


def _system_memory() -> MemoryFigures:
    """Main memory as /proc has it; zero where there is none to read."""
    try:
        with open("/proc/meminfo", encoding="ascii") as lines:
            kilobytes = {line.split(":")[0]: int(line.split()[1]) for line in lines}
    except OSError:
        return MemoryFigures(0, 0)
    return MemoryFigures(kilobytes["MemTotal"] * 1024, kilobytes["MemAvailable"] * 1024)

"""Telling short memory from other errors."""

from __future__ import annotations

import torch

_CPU = ("DefaultCPUAllocator", "not enough memory")


def is_memory_short(error: BaseException) -> bool:
    """Whether an error says that memory is short: devices have a class for it, torch's CPU
    allocator raises a RuntimeError."""
    if isinstance(error, (torch.OutOfMemoryError, MemoryError)):
        return True
    return isinstance(error, RuntimeError) and any(words in str(error) for words in _CPU)

"""accelerate's Accelerator for a precision, and a word where the precision is a slow one."""

from __future__ import annotations

import logging
import platform
from typing import Any

import torch

from ..deps import require

_LOG = logging.getLogger("unifashion.training")
_X86 = ("x86_64", "amd64")
_SIGNS = ("_is_avx512_bf16_supported", "_is_amx_tile_supported")


def make_accelerator(precision: str) -> Any:
    """accelerate's Accelerator.

    Args:
        precision: "no" or "bf16". The latter is told to be slow where the training's device is a
            processor without instructions for it.

    Raises:
        MissingPackageError: Without accelerate.
    """
    accelerate: Any = require("accelerate")
    made = accelerate.Accelerator(mixed_precision=precision)
    if precision == "bf16" and made.device.type == "cpu" and not has_bf16():
        _LOG.warning(
            "precision bf16 on a processor that has no instructions for it: about ten times slower "
            'than float32. Write "precision": "no" into the training\'s config.'
        )
    return made


def has_bf16() -> bool:
    """Whether this processor multiplies bf16 itself; True where that is not known."""
    if platform.machine().lower() not in _X86:
        return True
    signs = [getattr(torch.cpu, name, None) for name in _SIGNS]
    known = [sign for sign in signs if sign is not None]
    return not known or any(bool(sign()) for sign in known)

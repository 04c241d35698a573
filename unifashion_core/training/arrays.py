"""From numpy to torch, typed: torch leaves the array's type open, which strict checking refuses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, cast

import numpy.typing as npt
import torch
from torch import Tensor

_FROM_NUMPY = cast("Callable[[Any], Tensor]", getattr(torch, "from_numpy"))  # noqa: B009 - untyped


def as_tensor(array: npt.NDArray[Any]) -> Tensor:
    """A tensor over the array's own memory."""
    return _FROM_NUMPY(array)

"""The noise schedule that the network was trained with."""

from __future__ import annotations

import torch
from torch import Tensor

from ..errors import InputError

TRAIN_STEPS = 1000
_BETAS = (0.00085, 0.0120)


def alphas_cumprod() -> Tensor:
    """Share of the picture's variance that is left at each time step, (1000,), float32.

    Source: Rombach et al. 2022: betas are squares of evenly spaced roots.
    """
    first, last = (b**0.5 for b in _BETAS)
    betas = torch.linspace(first, last, TRAIN_STEPS, dtype=torch.float64) ** 2
    return torch.cumprod(1.0 - betas, dim=0).float()


def plms_timesteps(steps: int) -> Tensor:
    """The reference's time steps for a number of steps: …, 1 + c, 1 with c = 1000 // steps.

    Where steps don't divide 1000 the rule gives more than asked for, as the reference's does.

    Raises:
        InputError: If the rule passes the last time step.
    """
    if not 1 <= steps <= TRAIN_STEPS:
        raise InputError(f"sampler: {steps} steps. Choose 1 to {TRAIN_STEPS}.")
    found = torch.arange(0, TRAIN_STEPS, TRAIN_STEPS // steps) + 1
    if int(found[-1]) >= TRAIN_STEPS:
        raise InputError(
            f"sampler: with {steps} steps the reference's rule asks for time step "
            f"{int(found[-1])}, the last is {TRAIN_STEPS - 1}. Choose fewer steps, such as 50."
        )
    return found.flip(0)

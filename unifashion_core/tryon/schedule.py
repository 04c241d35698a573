"""The noise schedule that the network was trained with."""

from __future__ import annotations

from typing import Literal

import torch
from torch import Tensor

from ..errors import InputError

TRAIN_STEPS = 1000
_BETAS = (0.00085, 0.0120)
_ALMOST_NONE = 2.0**-24
"""What is left at the end of a schedule that ends in pure noise: nothing divides by zero. As
diffusers has it."""


def alphas_cumprod(zero_terminal: bool = False) -> Tensor:
    """Share of the picture's variance that is left at each time step, (1000,), float32.

    Args:
        zero_terminal: Whether the schedule ends in pure noise.

    Source: Rombach et al. 2022: betas are squares of evenly spaced roots; Lin et al. 2024 (Common
        diffusion noise schedules and sample steps are flawed), algorithm 1, for the end.
    """
    first, last = (b**0.5 for b in _BETAS)
    betas = torch.linspace(first, last, TRAIN_STEPS, dtype=torch.float64) ** 2
    alphas = torch.cumprod(1.0 - betas, dim=0)
    if zero_terminal:
        roots = alphas.sqrt()
        alphas = ((roots - roots[-1]) * roots[0] / (roots[0] - roots[-1])).square()
        alphas[-1] = _ALMOST_NONE
    return alphas.float()


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


def spaced_timesteps(steps: int, spacing: Literal["linspace", "leading", "trailing"]) -> Tensor:
    """Time steps for a number of steps, descending, (S,).

    Args:
        steps: 1 to 1000.
        spacing: "linspace" and "trailing" begin at the last time step, "leading" below it, as
            diffusers' solvers have these.

    Source: Lin et al. 2024 (Common diffusion noise schedules and sample steps are flawed), table 2.
    """
    if spacing == "linspace":
        places = torch.linspace(0, TRAIN_STEPS - 1, steps + 1, dtype=torch.float64)
        return places.round().long().flip(0)[:-1]
    if spacing == "leading":
        return (torch.arange(steps) * (TRAIN_STEPS // steps) + 1).flip(0).clamp(max=TRAIN_STEPS - 1)
    places = torch.arange(steps, dtype=torch.float64) * (TRAIN_STEPS / steps)
    return (TRAIN_STEPS - places).round().long() - 1

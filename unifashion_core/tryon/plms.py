"""PLMS, exactly as the reference samples, and DDIM, its first order."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from ..types import OnStep
from .schedule import alphas_cumprod

Predict = Callable[[Tensor, Tensor], Tensor]
"""Noise in a latent (B, z, h, w) at time steps (B,); guidance is the caller's matter."""

Split = Callable[[Tensor, Tensor], tuple[Tensor, Tensor]]
"""Likewise, but the clean latent and the noise."""

# Adams-Bashforth weights of the newest predictions, newest first.
_WEIGHTS = {
    1: (3 / 2, -1 / 2),
    2: (23 / 12, -16 / 12, 5 / 12),
    3: (55 / 24, -59 / 24, 37 / 24, -9 / 24),
}


def sample_plms(
    predict: Predict,
    x: Tensor,
    timesteps: Tensor,
    *,
    zero_terminal: bool = False,
    on_step: OnStep | None = None,
) -> Tensor:
    """Denoise by pseudo linear multi-step, without added noise.

    The first step calls `predict` twice (an improved Euler step), every other one once.

    Args:
        predict: The network with its condition.
        x: Start, (B, z, h, w).
        timesteps: Descending, (S,), such as `plms_timesteps` gives.
        zero_terminal: Of the schedule.
        on_step: Called with (steps done, steps in all); may raise to cancel.

    Returns:
        Latents, scaled, (B, z, h, w).

    Source: Liu et al. 2022 (PNDM), algorithm 2, as the reference has it.
    """
    alphas = alphas_cumprod(zero_terminal).to(x.device)
    times = [int(t) for t in timesteps]
    older: list[Tensor] = []
    for index, time in enumerate(times):
        last = index + 1 == len(times)
        now = alphas[time]
        then = alphas[0] if last else alphas[times[index + 1]]
        noise = predict(x, _times(x, time))
        if not older:
            after = _step(x, noise, now, then)
            follower = predict(after, _times(x, time if last else times[index + 1]))
            used = (noise + follower) / 2
        else:
            weights = _WEIGHTS[len(older)]
            known = [noise, *reversed(older)]
            used = sum((w * e for w, e in zip(weights, known, strict=True)), torch.zeros_like(x))
        x = _step(x, used, now, then)
        older = [*older, noise][-3:]
        if on_step is not None:
            on_step(index + 1, len(times))
    return x


def sample_ddim(
    split: Split,
    x: Tensor,
    timesteps: Tensor,
    *,
    zero_terminal: bool = False,
    on_step: OnStep | None = None,
) -> Tensor:
    """Denoise by DDIM without added noise, over time steps of any spacing.

    Args:
        split: The network with its condition. The clean latent is not made from the noise here:
            near pure noise that divides by almost nothing.
        x: Start, (B, z, h, w).
        timesteps: Descending, (S,).
        zero_terminal: Of the schedule.
        on_step: Called with (steps done, steps in all); may raise to cancel.

    Returns:
        Latents, scaled, (B, z, h, w).

    Source: Song et al. 2021 (DDIM), equation 12 with eta 0.
    """
    alphas = alphas_cumprod(zero_terminal).to(x.device)
    times = [int(t) for t in timesteps]
    for index, time in enumerate(times):
        then = alphas[0] if index + 1 == len(times) else alphas[times[index + 1]]
        clean, noise = split(x, _times(x, time))
        x = then.sqrt() * clean + (1.0 - then).sqrt() * noise
        if on_step is not None:
            on_step(index + 1, len(times))
    return x


def _times(x: Tensor, time: int) -> Tensor:
    return torch.full((len(x),), time, dtype=torch.long, device=x.device)


def _step(x: Tensor, noise: Tensor, now: Tensor, then: Tensor) -> Tensor:
    """The deterministic DDIM step from one noise level to the next."""
    clean = (x - (1.0 - now).sqrt() * noise) / now.sqrt()
    return then.sqrt() * clean + (1.0 - then).sqrt() * noise

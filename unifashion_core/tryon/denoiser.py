"""The networks with their condition as one function of the noisy latent and the time step.

What stays the same over all steps is computed once: keys and values of the context, and the first
convolution of the hint. Nothing behind the noisy latent may be: the garment encoder reads it too.
"""

from __future__ import annotations

from typing import Protocol

import torch
from torch import Tensor

from .autoencoder import Posterior
from .blocks import SteadyContext
from .condition import Condition
from .config import TryOnConfig
from .unet import GarmentEncoder, TryOnUNet


class Networks(Protocol):
    """What the denoiser uses of a try-on model."""

    @property
    def config(self) -> TryOnConfig: ...
    @property
    def unet(self) -> TryOnUNet: ...
    @property
    def garment(self) -> GarmentEncoder: ...


class Denoiser:
    """What the UNet predicts for B items.

    Args:
        model: Its UNet and garment encoder are used.
        condition: Of the items; moved to where the UNet is.
        guidance: Scale; at 1.0 there is no second prediction.
        draws: One generator an item: latents are then drawn from the posteriors, as the reference
            does, and the hint anew at every call. None: the means.
        steady: Compute once what stays the same; else at every call.
    """

    def __init__(
        self,
        model: Networks,
        condition: Condition,
        guidance: float = 1.0,
        draws: list[torch.Generator] | None = None,
        *,
        steady: bool = True,
    ) -> None:
        like = next(model.unet.parameters())
        self._model, self._condition, self._draws = model, condition, draws
        self._device, self._dtype = like.device, like.dtype
        self._guidance = guidance
        self._steady = steady
        keep = condition.keep.to(like.device, like.dtype)
        latents = [self._latents(condition.agnostic), keep, self._latents(condition.pose)]
        self._rest = torch.cat(latents, dim=1)
        self._wanted = self._prepared(condition.context)
        self._both = self._prepared(self._with_free()) if guidance != 1.0 else None
        strength = condition.hint_strength
        self._whole, self._off = bool((strength == 1).all()), bool((strength == 0).all())
        self._strength = strength.to(like.device, like.dtype)
        self._nothing: list[Tensor] | None = None
        self._features = None if draws is not None or not steady else self._hint_features()

    def __call__(self, x: Tensor, times: Tensor, *, guided: bool = True) -> Tensor:
        """Predict.

        Args:
            x: Noisy latents, scaled, (B, z, h, w), float32.
            times: (B,).
            guided: Whether guidance counts here.

        Returns:
            What the network predicts (noise or v), (B, z, h, w), float32.
        """
        joined = torch.cat([x.to(self._dtype), self._rest], dim=1)
        features = self._hint_features() if self._features is None else self._features
        if self._both is None or not guided:
            return self._run(joined, times, self._wanted, features).float()
        twice = [torch.cat([t, t]) for t in (joined, times)]
        features = None if features is None else torch.cat([features, features])
        free, wanted = self._run(twice[0], twice[1], self._both, features).float().chunk(2)
        return free + self._guidance * (wanted - free)

    def _run(
        self, joined: Tensor, times: Tensor, context: SteadyContext | Tensor, hint: Tensor | None
    ) -> Tensor:
        maps = self._maps(joined, times, context, hint)
        return self._model.unet(joined, times, context, maps)

    def _maps(
        self, joined: Tensor, times: Tensor, context: SteadyContext | Tensor, hint: Tensor | None
    ) -> list[Tensor]:
        """The garment's maps times its strength; without any garment they are zeros at every step,
        made once."""
        if self._nothing is not None and len(self._nothing[0]) == len(joined):
            return self._nothing
        maps = self._model.garment.warp_maps(joined, times, context, hint)
        if self._whole:
            return maps
        strength = self._strength.repeat(len(joined) // len(self._strength))[:, None, None, None]
        maps = [m * strength for m in maps]
        self._nothing = maps if self._off and self._steady else None
        return maps

    def _latents(self, found: Posterior) -> Tensor:
        """Scaled latents of a posterior, on the device: the mean, or each item's own draw."""
        values = found.mean if self._draws is None else found.sample(draw_noise(found, self._draws))
        scaled = values * self._model.config.autoencoder.scale_factor
        return scaled.to(self._device, self._dtype)

    def _hint_features(self) -> Tensor | None:
        hint = self._condition.hint
        return None if hint is None else self._model.garment.cond_first_block(self._latents(hint))

    def _with_free(self) -> Tensor:
        context, free = self._condition.context, self._condition.free
        assert free is not None  # the sampler refuses guidance without one
        return torch.cat([free.to(context).expand_as(context), context])

    def _prepared(self, context: Tensor) -> SteadyContext | Tensor:
        context = context.to(self._device, self._dtype)
        return SteadyContext(context) if self._steady else context


def draw_noise(like: Posterior, draws: list[torch.Generator]) -> Tensor:
    """Standard normal, each item's from its own generator, on the CPU."""
    shape = like.mean.shape[1:]
    return torch.stack([torch.randn(shape, generator=g) for g in draws])

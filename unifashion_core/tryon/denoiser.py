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
        guidance: Scale of the context; at 1.0 there is no second prediction.
        garment_guidance: Scale of the garment; likewise.
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
        garment_guidance: float = 1.0,
        steady: bool = True,
    ) -> None:
        like = next(model.unet.parameters())
        self._model, self._condition, self._draws = model, condition, draws
        self._device, self._dtype = like.device, like.dtype
        self._guidance, self._garment_guidance = guidance, garment_guidance
        self._steady = steady
        keep = condition.keep.to(like.device, like.dtype)
        latents = [self._latents(condition.agnostic), keep, self._latents(condition.pose)]
        self._rest = torch.cat(latents, dim=1)
        self._wanted = self._prepared(condition.context)
        strength = condition.hint_strength
        self._whole, self._off = bool((strength == 1).all()), bool((strength == 0).all())
        self._leads = self._prepared(self._led()) if guidance != 1.0 else self._wanted
        self._bare = garment_guidance != 1.0 and not self._off
        """Whether there is a prediction without the garment."""
        tokens = torch.cat([self._led(), condition.context]) if self._bare else None
        self._all = self._leads if tokens is None else self._prepared(tokens)
        self._strength = strength.to(like.device, like.dtype)
        self._nothing: list[Tensor] | None = None
        self._features = None if draws is not None or not steady else self._hint_features()

    def __call__(self, x: Tensor, times: Tensor, *, guided: bool = True) -> Tensor:
        """Predict.

        Args:
            x: Noisy latents, scaled, (B, z, h, w), float32.
            times: (B,).
            guided: Whether guidance, of either kind, counts here.

        Returns:
            What the network predicts (noise or v), (B, z, h, w), float32.
        """
        joined = torch.cat([x.to(self._dtype), self._rest], dim=1)
        features = self._hint_features() if self._features is None else self._features
        if self._all is self._wanted or not guided:
            maps = self._maps(joined, times, self._wanted, features)
            return self._model.unet(joined, times, self._wanted, maps).float()
        # The garment's maps with each context, then zeros with the wanted one.
        leads = 1 + int(self._guidance != 1.0)
        led, at = _times(joined, leads), _times(times, leads)
        maps = self._maps(
            led, at, self._leads, None if features is None else _times(features, leads)
        )
        if self._bare:
            maps = [torch.cat([m, torch.zeros_like(m[: len(joined)])]) for m in maps]
        count = leads + int(self._bare)
        made = self._model.unet(_times(joined, count), _times(times, count), self._all, maps)
        found = list(made.float().chunk(count))
        wanted = found[leads - 1]
        guided_to = wanted
        if leads == 2:
            guided_to = found[0] + self._guidance * (wanted - found[0])
        if self._bare:
            guided_to = guided_to + (self._garment_guidance - 1.0) * (wanted - found[-1])
        return guided_to

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

    def _led(self) -> Tensor:
        """The contexts that the garment is seen with: that of nothing too where it is needed."""
        context, free = self._condition.context, self._condition.free
        if self._guidance == 1.0:
            return context
        assert free is not None  # the sampler refuses guidance without one
        return torch.cat([free.to(context).expand_as(context), context])

    def _prepared(self, context: Tensor) -> SteadyContext | Tensor:
        context = context.to(self._device, self._dtype)
        return SteadyContext(context) if self._steady else context


def _times(value: Tensor, count: int) -> Tensor:
    """A batch, so many times one after the other."""
    return value if count == 1 else torch.cat([value] * count)


def draw_noise(like: Posterior, draws: list[torch.Generator]) -> Tensor:
    """Standard normal, each item's from its own generator, on the CPU."""
    shape = like.mean.shape[1:]
    return torch.stack([torch.randn(shape, generator=g) for g in draws])

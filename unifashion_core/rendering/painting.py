"""From prepared persons and garments to latents and pictures: encoded once, sampled in batches."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import AbilityError
from ..tryon.plms import sample_plms
from ..tryon.schedule import plms_timesteps
from ..types import OnStep
from .settings import RenderSettings, TryOnItem
from .tools import TryOnTools

T = TypeVar("T")


@dataclass(frozen=True)
class Painted:
    """What the model made of one item.

    Attributes:
        crop: (h, w, 3) of its frame, 0..1, on the CPU.
        latents: Unscaled, (z, h, w), on the CPU.
        notes: What the user should know.
    """

    crop: Tensor
    latents: Tensor
    notes: tuple[str, ...] = ()


class Painter:
    """Paints items with one model and one way to sample; counts what it encoded.

    Args:
        tools: The model and its cache.
        settings: Of the sampler.
    """

    def __init__(self, tools: TryOnTools, settings: RenderSettings):
        self.tools, self.settings = tools, settings
        self.encodings = 0
        self.runs = 0

    def check(self, item: TryOnItem) -> None:
        """Refuse what the model can't do.

        Raises:
            AbilityError: If it lacks what reads the item's context.
        """
        if item.query_outputs is not None:
            raise AbilityError(
                "Try on: this model has no adapter for an encoder's embedding. Leave the embedding "
                "out and give a text, or load a model with adapter weights."
            )

    def batches(self, items: Sequence[TryOnItem]) -> list[list[int]]:
        """Places of items that are painted together, in order of their first."""
        groups: dict[object, list[int]] = {}
        for place, item in enumerate(items):
            kind = (item.person.fitted.size, item.garment is None, item.query_outputs is None)
            groups.setdefault(kind, []).append(place)
        size = max(1, self.settings.batch)
        return [
            group[start : start + size]
            for group in groups.values()
            for start in range(0, len(group), size)
        ]

    def paint(
        self,
        items: Sequence[TryOnItem],
        on_step: OnStep | None = None,
        on_preview: Callable[[int, int, Tensor], None] | None = None,
    ) -> list[Painted]:
        """Paint one batch.

        Args:
            items: Of one of `batches`.
            on_step: Progress over the steps; may raise to cancel.
            on_preview: Sees what the batch looks like so far.
        """
        model, settings = self.tools.model, self.settings
        self.tools.load(list(model.modules), 0)
        scale = model.config.autoencoder.scale_factor
        persons = [self._person(item) for item in items]
        agnostic, pose, keep = (torch.stack([p[i] for p in persons]) for i in range(3))
        hints = torch.stack([self._hint(item) for item in items])
        free = torch.zeros(1, 1, model.config.unet.context_dim)
        free = free if model.free is None else model.free
        context = free.repeat(len(items), 77, 1)
        strength = settings.hint_strength if items[0].garment is not None else 0.0
        rest = torch.cat([agnostic * scale, keep, pose * scale], dim=1)

        def predict(x: Tensor, times: Tensor) -> Tensor:
            joined = torch.cat([x, rest], dim=1)
            maps = model.garment(joined, times, context, hints * scale)
            return model.unet(joined, times, context, [m * strength for m in maps])

        start = torch.stack([_noise(item.seed, agnostic.shape[1:]) for item in items])
        with torch.inference_mode():
            times = plms_timesteps(settings.steps)
            latents = sample_plms(predict, start, times, on_step=on_step) / scale
            pictures = model.autoencoder.decode(latents)
        self.runs += 1
        crops = ((pictures + 1) / 2).clamp(0, 1).permute(0, 2, 3, 1)
        return [Painted(c, z) for c, z in zip(crops.cpu(), latents.cpu(), strict=True)]

    def _person(self, item: TryOnItem) -> tuple[Tensor, Tensor, Tensor]:
        person = item.person

        def make() -> tuple[Tensor, Tensor, Tensor]:
            self.encodings += 1
            pixels = person.crop * 2 - 1
            agnostic = pixels * (1 - person.crop_mask)[..., None]
            first = self._encode(agnostic)
            small = F.interpolate(person.crop_mask[None, None], first.shape[1:], mode="bilinear")
            return first, self._encode(person.pose * 2 - 1), 1 - small[0]

        return self._kept("try-on person latents", person.key, make)

    def _hint(self, item: TryOnItem) -> Tensor:
        garment = item.garment
        if garment is None:
            return torch.zeros_like(self._person(item)[0])

        def make() -> Tensor:
            self.encodings += 1
            return self._encode(garment.hint * 2 - 1)

        return self._kept("try-on garment latents", garment.key, make)

    def _kept(self, name: str, key: str, make: Callable[[], T]) -> T:
        inputs = [self.tools.fingerprint, key]
        return self.tools.cache.get_or_make(name, inputs, make)

    def _encode(self, pixels: Tensor) -> Tensor:
        with torch.inference_mode():
            return self.tools.model.autoencoder.encode(pixels.permute(2, 0, 1)[None]).mean[0]


def _noise(seed: int, shape: torch.Size) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))

"""Train the namer of garment colours on the training photos' labels by eye.

The photos are cut into folds, and each member sees all but one of them: so there are members that
are new to every photo, and confidence can be calibrated on the same photos.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.numpy import save
from torch import Tensor

from ..caption.colours import (
    CONTEXT,
    PIXEL_VALUES,
    PIXELS,
    ColourNamer,
    PixelSample,
    sample_pixels,
)
from ..cutout import garment_mask, middle
from ..imaging import open_image
from ..pocket.photos import Photo
from ..types import COLOURS, OnStep
from ..weights import replace_files
from .arrays import as_tensor

FOLDS = 5
MEMBERS = 3  # of each fold, from other first weights
_HIDDEN = 24
STEPS = 400
_BATCH = 64
_PIXELS = 48
_LEARNING_RATE = 0.02
_WEIGHT_DECAY = 0.1
_NOISE = 0.15  # of the context; half of it shifts all pixels of a photo
_MAIN_WEIGHT = 0.5
_SIDE = 256


@dataclass(frozen=True)
class ColourSet:
    """Photos with eye labels, as the namer sees them.

    Attributes:
        pixels: (N, PIXELS, PIXEL_VALUES).
        context: (N, CONTEXT).
        labels: 1 at each of a photo's colours, (N, 13).
        main: The main one, (N,).
        folds: (N,), by the photo's hash.
    """

    pixels: Tensor
    context: Tensor
    labels: Tensor
    main: Tensor
    folds: Tensor


def fold_of(photo: Photo) -> int:
    """Which fold a photo is in: by its hash alone, past the digits that the split reads."""
    return int(photo.sha256[8:16], 16) % FOLDS


def sample_photos(
    folder: Path, photos: Sequence[Photo], *, on_step: OnStep | None = None
) -> list[PixelSample]:
    """Read each photo's garment pixels; where no garment stands out, the picture's middle."""
    samples: list[PixelSample] = []
    for done, photo in enumerate(photos):
        image = open_image(folder / photo.file, min_side=_SIDE)
        mask = garment_mask(image)
        samples.append(sample_pixels(image, middle(image.size) if mask is None else mask))
        if on_step is not None:
            on_step(done + 1, len(photos))
    return samples


def train_namer(
    photos: Sequence[Photo], samples: Sequence[PixelSample], seed: int, *, steps: int = STEPS
) -> ColourNamer:
    """Train all members.

    Args:
        photos: Training photos with colours.
        samples: Their pixels.
        seed: Same seed, same weights on the same machine.
        steps: Optimiser steps of each member.
    """
    data = _colour_set(photos, samples)
    mean, spread = data.context.mean(dim=0), data.context.std(dim=0) + 1e-3
    scaled = (data.context - mean) / spread
    members = [
        (fold, seed * 1000 + fold * MEMBERS + i) for fold in range(FOLDS) for i in range(MEMBERS)
    ]
    weights = [_train_member(data, scaled, fold, s, steps) for fold, s in members]
    stacked = [torch.stack(group).numpy() for group in zip(*weights, strict=True)]
    folds = np.array([fold for fold, _ in members], np.int64)
    pixel, about, bias, out, out_bias = stacked
    return ColourNamer(pixel, about, bias, out, out_bias, mean.numpy(), spread.numpy(), folds)


def save_namer(namer: ColourNamer, path: Path) -> None:
    """Write the weights, whole or not at all."""
    tensors = {name: getattr(namer, name) for name in ColourNamer.__dataclass_fields__}
    with replace_files(path.parent) as temporary:
        temporary(path.name).write_bytes(save(tensors))


def _colour_set(photos: Sequence[Photo], samples: Sequence[PixelSample]) -> ColourSet:
    labels = torch.zeros(len(photos), len(COLOURS))
    for row, photo in zip(labels, photos, strict=True):
        row[[COLOURS.index(c) for c in photo.colours]] = 1
    return ColourSet(
        as_tensor(np.stack([s.pixels for s in samples])).float(),
        as_tensor(np.stack([s.context for s in samples])).float(),
        labels,
        torch.tensor([COLOURS.index(p.colours[0]) for p in photos]),
        torch.tensor([fold_of(p) for p in photos]),
    )


def _train_member(
    data: ColourSet, context: Tensor, fold: int, seed: int, steps: int
) -> tuple[Tensor, ...]:
    """One network: the labelled colours should take the garment, the main one most of it."""
    generator = torch.Generator().manual_seed(seed)

    def normal(*size: int, scale: float) -> Tensor:
        return torch.randn(*size, generator=generator) * scale

    weights = (
        normal(PIXEL_VALUES, _HIDDEN, scale=0.6),
        normal(CONTEXT, _HIDDEN, scale=0.15),
        torch.zeros(_HIDDEN),
        normal(_HIDDEN, len(COLOURS), scale=0.1),
        torch.zeros(len(COLOURS)),
    )
    for weight in weights:
        weight.requires_grad_(True)
    seen = torch.nonzero(data.folds != fold)[:, 0]
    optimiser = torch.optim.AdamW(weights, lr=_LEARNING_RATE, weight_decay=_WEIGHT_DECAY)
    for step in range(steps):
        optimiser.param_groups[0]["lr"] = _LEARNING_RATE * _cosine(step / steps)
        rows = seen[torch.randint(0, len(seen), (_BATCH,), generator=generator)]
        places = torch.randint(0, PIXELS, (_PIXELS,), generator=generator)
        pixels = data.pixels[rows][:, places] + normal(_BATCH, 1, PIXEL_VALUES, scale=_NOISE / 2)
        about = context[rows] + normal(_BATCH, CONTEXT, scale=_NOISE)
        shares = _shares(weights, pixels, about).clamp_min(1e-4)
        own = (shares * data.labels[rows]).sum(dim=1)
        main = shares.gather(1, data.main[rows][:, None])[:, 0]
        loss = -(own.log() + _MAIN_WEIGHT * main.log()).mean()
        optimiser.zero_grad()
        torch.autograd.backward(loss)
        cast(Any, optimiser).step()
    return tuple(w.detach() for w in weights)


def _shares(weights: Sequence[Tensor], pixels: Tensor, context: Tensor) -> Tensor:
    """As `ColourNamer.shares`, for a batch and one member."""
    about = context @ weights[1] + weights[2]
    hidden = torch.tanh(pixels @ weights[0] + about[:, None])
    return (hidden @ weights[3] + weights[4]).softmax(dim=-1).mean(dim=1)


def _cosine(done: float) -> float:
    return 0.5 * (1 + math.cos(math.pi * done))

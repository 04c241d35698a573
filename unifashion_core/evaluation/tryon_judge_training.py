"""Training of the judges of try-on results, on true renders of the wardrobe."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type, and torch's from_numpy has none)

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import FolderError
from ..training.tryon_layout import read_pairs, read_worn
from ..training.wardrobe_pairs import draw_person
from ..types import OnStep
from ..wardrobe.person_render import region_of
from .tryon_judges import (
    PATTERN_CLASSES,
    OutlineJudge,
    PatternJudge,
    pattern_class,
    principal_axes,
    worn_patch,
)

_OUTLINES_AT_ONCE, _PATTERNS_AT_ONCE = 16, 24
_WARM_UP = 40  # steps
_LEAST_WORN = 0.01  # share of the picture that a worn garment shows at least
_SOFTENED = 0.4  # share of batches that are blurred a little, as an autoencoder blurs
_SWAPPED = torch.tensor([0, 2, 1, 3, 4, 5])  # stripes across and along, when a patch lies down


@dataclass(frozen=True)
class Renders:
    """True renders that judges learn from: every garment that a person wears, not only the one
    that it was dressed for.

    Attributes:
        images: (N, 3, H, W), uint8.
        masks: 1 = what a try-on would paint, (N, H, W), bool.
        worn: The garment, (N, H, W), bool.
        patterns: Indices into `PATTERN_CLASSES`, (N,).
    """

    images: Tensor
    masks: Tensor
    worn: Tensor
    patterns: Tensor

    def __len__(self) -> int:
        return len(self.images)


def render_names(root: Path, split: str, limit: int | None = None) -> list[str]:
    """Names of the records whose garments the wardrobe knows, ascending.

    Raises:
        FolderError: If there are none: the folder was not made by `train pairs`.
    """
    names = sorted(person for person, _ in read_pairs(root, split))
    found = [name for name in names if name.split("_")[0].isdigit()][:limit]
    if not found:
        raise FolderError(
            f"Try-on data {root}: no mannequins of the wardrobe in {split}. Make them with "
            "`run.py train pairs`."
        )
    return found


def read_renders(
    root: Path, split: str, size: tuple[int, int], limit: int | None = None
) -> Renders:
    """Read the first records of a split.

    Raises:
        FolderError: As `render_names`; or a picture is missing.
    """
    images: list[Tensor] = []
    masks: list[Tensor] = []
    worn: list[Tensor] = []
    patterns: list[int] = []
    for name in render_names(root, split, limit):
        number, upper = divmod(int(name.split("_")[0]), 2)
        image, mask, shape = read_worn(root, split, name, size)
        if float((shape * mask).mean()) < _LEAST_WORN:
            continue  # it is hidden under another garment
        images.append((image * 255 + 0.5).to(torch.uint8).permute(2, 0, 1))
        masks.append(mask > 0.5)
        worn.append(shape > 0.5)
        garments = draw_person(number, split).garments
        garment = next(g for g in garments if (region_of(g.category) == "upper") == bool(upper))
        patterns.append(PATTERN_CLASSES.index(pattern_class(garment)))
    stacked = (torch.stack(images), torch.stack(masks), torch.stack(worn))
    return Renders(*stacked, torch.tensor(patterns))


def train_outline_judge(
    renders: Renders, *, steps: int, seed: int = 0, on_step: OnStep | None = None
) -> OutlineJudge:
    """Train the segmenter: mirrored, the garments in other colours (the skin keeps its own, which
    tells it from sleeves), some a little blurred. The mask tells it which garment is meant."""
    rng = np.random.default_rng([seed, 6])
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - untyped in torch
    judge = OutlineJudge()
    judge.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    for _ in _descent(judge, steps, 4e-3, on_step):
        chosen = torch.from_numpy(rng.integers(len(renders), size=_OUTLINES_AT_ONCE))
        images, worn = renders.images[chosen].float() / 255, renders.worn[chosen, None].float()
        images = images * (1 - worn) + _coloured(images, rng) * worn
        masks = renders.masks[chosen, None].float()
        truth = worn * masks
        if rng.random() < 0.5:
            images, masks, truth = images.flip(3), masks.flip(3), truth.flip(3)
        logits = judge(_softened(images, rng), masks)
        share = torch.sigmoid(logits) * masks
        within = (1, 2, 3)
        union = (share + truth - share * truth).sum(dim=within).clamp(min=1.0)
        overlap = ((share * truth).sum(dim=within) / union).mean()
        every = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        ((every * masks).sum() / masks.sum().clamp(min=1.0) + 1 - overlap).backward()
    return judge.eval().requires_grad_(False)


def train_pattern_judge(
    renders: Renders, *, steps: int, seed: int = 0, on_step: OnStep | None = None
) -> PatternJudge:
    """Train the classifier, every pattern as often: mirrored, lying down (stripes across are then
    stripes along), in parts, some a little blurred."""
    planes, spread = _patches(renders)
    counts = torch.bincount(renders.patterns, minlength=len(PATTERN_CLASSES)).clamp(min=1)
    shares = (1.0 / counts.double())[renders.patterns].numpy()
    rng = np.random.default_rng([seed, 5])
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - untyped in torch
    judge = PatternJudge()
    judge.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    for _ in _descent(judge, steps, 3e-3, on_step):
        chosen = rng.choice(len(planes), _PATTERNS_AT_ONCE, p=shares / shares.sum())
        some = torch.from_numpy(chosen)
        batch, labels = planes[some].float(), renders.patterns[some]
        batch = batch * torch.from_numpy(rng.choice([-1.0, 1.0], (len(some), batch.shape[1], 1, 1)))
        for side in (2, 3):
            if rng.random() < 0.5:
                batch = batch.flip(side)
        if rng.random() < 0.5:
            batch, labels = batch.transpose(2, 3), _SWAPPED[labels]
        batch = _softened(_cut(batch.float(), rng), rng)
        batch = batch.contiguous(memory_format=torch.channels_last)
        scale = torch.from_numpy(rng.uniform(0.7, 1.4, len(some))).float()
        logits = judge.judge(batch, spread[some] * scale)
        F.cross_entropy(logits, labels, label_smoothing=0.05).backward()
    return judge.eval().requires_grad_(False)


def _patches(renders: Renders) -> tuple[Tensor, Tensor]:
    """Of all renders, as the classifier sees them: planes, float16, and spreads."""
    planes: list[Tensor] = []
    spreads: list[Tensor] = []
    for image, worn in zip(renders.images, renders.worn, strict=True):
        found, spread = principal_axes(worn_patch(image.float() / 255, worn.float())[None])
        planes.append(found.half())
        spreads.append(spread)
    return torch.cat(planes), torch.cat(spreads)


def _descent(judge: nn.Module, steps: int, rate: float, on_step: OnStep | None) -> Iterator[int]:
    """Steps of AdamW after each turn's `backward`: a short warm-up, then a cosine to nothing."""
    optimizer = torch.optim.AdamW(judge.parameters(), lr=rate, weight_decay=0.02)
    judge.train()
    for step in range(steps):
        share = 0.5 * (1 + np.cos(np.pi * step / steps))
        for group in optimizer.param_groups:
            group["lr"] = rate * min(1.0, (step + 1) / _WARM_UP) * max(share, 0.01)
        optimizer.zero_grad()
        yield step
        optimizer.step()
        if on_step is not None:
            on_step(step + 1, steps)


def _coloured(images: Tensor, rng: np.random.Generator) -> Tensor:
    """A batch in other colours: channels in another order, each by another power, some negative."""
    orders = torch.from_numpy(rng.permuted(np.tile(np.arange(3), (len(images), 1)), axis=1))
    mixed = torch.stack([image[order] for image, order in zip(images, orders, strict=True)])
    powers = torch.from_numpy(rng.uniform(0.6, 1.6, (len(images), 3, 1, 1))).float()
    made = mixed.clamp(min=1e-4).pow(powers)
    negative = torch.from_numpy(rng.random((len(images), 1, 1, 1)) < 0.3)
    return torch.where(negative, 1 - made, made)


def _cut(batch: Tensor, rng: np.random.Generator) -> Tensor:
    """A part of a batch's patches, as large as they were."""
    size = batch.shape[2:]
    high, wide = (int(side * rng.uniform(0.7, 1.0)) for side in size)
    top, left = (
        int(rng.integers(0, whole - part + 1))
        for whole, part in zip(size, (high, wide), strict=True)
    )
    part = batch[:, :, top : top + high, left : left + wide]
    return F.interpolate(part, size, mode="bilinear")


def _softened(batch: Tensor, rng: np.random.Generator) -> Tensor:
    """Some batches a little blurred and noisy, as pictures that an autoencoder decoded."""
    if rng.random() >= _SOFTENED:
        return batch
    side = float(rng.uniform(0.0, 0.25))
    row = torch.tensor([side, 1 - 2 * side, side])
    kernel = (row[:, None] * row)[None, None].expand(batch.shape[1], 1, 3, 3)
    padded = F.pad(batch, (1, 1, 1, 1), mode="replicate")
    blurred = F.conv2d(padded, kernel, groups=batch.shape[1])
    noise = torch.from_numpy(rng.standard_normal(tuple(batch.shape), dtype=np.float32))
    return blurred + float(rng.uniform(0.0, 0.02)) * noise

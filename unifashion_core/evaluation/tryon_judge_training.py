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
    PATTERN_KINDS,
    OutlineJudge,
    PatternJudge,
    pattern_kind,
    principal_axes,
    worn_patch,
)

_OUTLINES_AT_ONCE, _PATTERNS_AT_ONCE = 8, 24
_WARM_UP = 40  # steps
_EDGE = 4.0  # how much more pixels beside the edge count than others
_LEAST_WORN = 0.01  # share of the picture that a worn garment shows at least
_SOFTENED, _BLUR = 0.3, 0.2  # share of batches, and a neighbour's weight at most
_PATCHES_SOFTENED, _PATCHES_BLUR = 0.5, 0.3  # patches are grown, so that blur is wider there
_SWAPPED = torch.tensor([0, 2, 1, 3, 4, 5, 6])  # stripes across and along, when a patch lies down


@dataclass(frozen=True)
class Renders:
    """True renders that judges learn from: every garment that a person wears, not only the one
    that it was dressed for.

    Attributes:
        images: (N, 3, H, W), uint8.
        masks: 1 = what a try-on would paint, (N, H, W), bool.
        worn: The garment, (N, H, W), bool.
        patterns: Indices into `PATTERN_KINDS`, (N,).
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
        patterns.append(PATTERN_KINDS.index(pattern_kind(garment)))
    stacked = (torch.stack(images), torch.stack(masks), torch.stack(worn))
    return Renders(*stacked, torch.tensor(patterns))


def train_outline_judge(
    renders: Renders, *, steps: int, seed: int = 0, on_step: OnStep | None = None
) -> OutlineJudge:
    """Train the segmenter on the pictures as they are, some a little darker or lighter, some a
    little blurred. Nothing else is changed: garments in other colours would show a seam that no
    true edge has, and mirrored ones light from the other side. The mask tells it which garment is
    meant."""
    rng = np.random.default_rng([seed, 6])
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - untyped in torch
    judge = OutlineJudge()
    judge.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    order = _turns(len(renders), rng)
    for _ in _descent(judge, steps, 3e-3, on_step):
        chosen = torch.tensor([next(order) for _ in range(_OUTLINES_AT_ONCE)])
        images = renders.images[chosen].float() / 255
        masks = renders.masks[chosen, None].float()
        truth = renders.worn[chosen, None].float() * masks
        powers = torch.from_numpy(rng.uniform(0.75, 1.35, (len(images), 1, 1, 1))).float()
        logits = judge(_softened(images.pow(powers), rng), masks)
        share = torch.sigmoid(logits) * masks
        within = (1, 2, 3)
        union = (share + truth - share * truth).sum(dim=within).clamp(min=1.0)
        overlap = ((share * truth).sum(dim=within) / union).mean()
        every = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        weights = masks * (1 + _EDGE * _beside_edge(truth))
        ((every * weights).sum() / weights.sum().clamp(min=1.0) + 1 - overlap).backward()
    return judge.eval().requires_grad_(False)


def train_pattern_judge(
    renders: Renders, *, steps: int, seed: int = 0, on_step: OnStep | None = None
) -> PatternJudge:
    """Train the classifier, rare patterns more often than they are: mirrored, lying down (stripes
    across are then stripes along), turned a little and in parts, half of them a little blurred."""
    planes, spread = _patches(renders)
    counts = torch.bincount(renders.patterns, minlength=len(PATTERN_KINDS)).clamp(min=1)
    shares = counts.double().rsqrt()[renders.patterns].numpy()
    rng = np.random.default_rng([seed, 5])
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - untyped in torch
    judge = PatternJudge()
    judge.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    for _ in _descent(judge, steps, 3e-3, on_step):
        chosen = rng.choice(len(planes), _PATTERNS_AT_ONCE, p=shares / shares.sum())
        some = torch.from_numpy(chosen)
        batch, labels = planes[some].float(), renders.patterns[some]
        batch[:, :-1] *= torch.from_numpy(rng.choice([-1.0, 1.0], (len(some), 2, 1, 1))).float()
        for side in (2, 3):
            if rng.random() < 0.5:
                batch = batch.flip(side)
        if rng.random() < 0.5:
            batch, labels = batch.transpose(2, 3), _SWAPPED[labels]
        batch = _turned(batch, rng)
        batch[:, :-1] = _softened(batch[:, :-1], rng, _PATCHES_SOFTENED, _PATCHES_BLUR)
        batch = batch.contiguous(memory_format=torch.channels_last)
        scale = torch.from_numpy(rng.uniform(0.7, 1.4, len(some))).float()
        logits = judge.judge(batch, spread[some] * scale)
        F.cross_entropy(logits, labels, label_smoothing=0.05).backward()
    return judge.eval().requires_grad_(False)


def _patches(renders: Renders) -> tuple[Tensor, Tensor]:
    """Of all renders, as the classifier sees them: planes, float16, and spreads."""
    planes: list[Tensor] = []
    spreads: list[Tensor] = []
    for image, worn in zip(renders.images, renders.worn & renders.masks, strict=True):
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


def _beside_edge(shapes: Tensor) -> Tensor:
    """1 for pixels of which a neighbour is on the other side of the edge, (B, 1, H, W)."""
    return F.max_pool2d(shapes, 3, 1, 1) + F.max_pool2d(-shapes, 3, 1, 1)


def _turns(count: int, rng: np.random.Generator) -> Iterator[int]:
    """Numbers below a count without end, each as often as the others."""
    while True:
        yield from rng.permutation(count).tolist()


def _turned(batch: Tensor, rng: np.random.Generator) -> Tensor:
    """A batch, each turned a little, drawn out or together, and moved; nothing is where it had
    nothing."""
    count = len(batch)
    turn, skew = rng.uniform(-0.15, 0.15, (2, count))
    across, down = rng.uniform(0.75, 1.15, (2, count))
    shift = rng.uniform(-1, 1, (2, count)) * np.maximum(0.0, 1 - np.stack([across, down]))
    rows = [
        [across * np.cos(turn), across * (skew - np.sin(turn)), shift[0]],
        [down * np.sin(turn), down * np.cos(turn), shift[1]],
    ]
    maps = torch.from_numpy(np.array(rows)).permute(2, 0, 1).float()
    grid = F.affine_grid(maps, list(batch.shape), align_corners=False)
    return F.grid_sample(batch, grid, align_corners=False)


def _softened(
    batch: Tensor, rng: np.random.Generator, share: float = _SOFTENED, blur: float = _BLUR
) -> Tensor:
    """Some batches a little blurred and noisy, as pictures that an autoencoder decoded."""
    if rng.random() >= share:
        return batch
    side = float(rng.uniform(0.0, blur))
    row = torch.tensor([side, 1 - 2 * side, side])
    kernel = (row[:, None] * row)[None, None].expand(batch.shape[1], 1, 3, 3)
    padded = F.pad(batch, (1, 1, 1, 1), mode="replicate")
    blurred = F.conv2d(padded, kernel, groups=batch.shape[1])
    noise = torch.from_numpy(rng.standard_normal(tuple(batch.shape), dtype=np.float32))
    return blurred + float(rng.uniform(0.0, 0.02)) * noise

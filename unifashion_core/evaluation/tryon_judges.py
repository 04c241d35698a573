"""What judges try-on results: a pattern classifier and a garment segmenter, trained on true
renders. They are made for a measurement and ship with nothing."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type, and torch's from_numpy has none)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import FolderError
from ..training.tryon_layout import Record, read_pairs, read_record
from ..training.wardrobe_pairs import draw_garment
from ..types import OnStep
from ..wardrobe.garment import Garment
from ..wardrobe.person_render import region_of

PATTERN_CLASSES = ("plain", "stripes across", "stripes along", "dots", "checks", "print")
_PATCH = 64
_BATCH = 24


@dataclass(frozen=True)
class JudgedRecord:
    """A record and the garment that it was drawn for.

    Attributes:
        record: Pictures.
        garment: Its attributes.
    """

    record: Record
    garment: Garment

    @property
    def pattern(self) -> int:
        """Index into `PATTERN_CLASSES`."""
        return PATTERN_CLASSES.index(pattern_class(self.garment))


def pattern_class(garment: Garment) -> str:
    """A garment's pattern as the classifier knows it; flowers count as print."""
    if garment.pattern == "stripes":
        return "stripes along" if garment.direction == "vertical" else "stripes across"
    return "print" if garment.pattern == "floral" else garment.pattern


def read_targets(
    root: Path, split: str, size: tuple[int, int], limit: int | None = None
) -> list[JudgedRecord]:
    """The records of the garments that persons were dressed for, in the order of their numbers.

    Raises:
        FolderError: If there are none: the folder was not made by `train pairs`.
    """
    found: list[JudgedRecord] = []
    for name in sorted(person for person, _ in read_pairs(root, split)):
        place = name.split("_")[0]
        if not place.isdigit():
            continue
        number, upper = divmod(int(place), 2)
        garment = draw_garment(number, split)
        if (region_of(garment.category) == "upper") == bool(upper):
            found.append(JudgedRecord(read_record(root, split, name, size), garment))
        if limit is not None and len(found) == limit:
            break
    if not found:
        raise FolderError(
            f"Try-on data {root}: no mannequins of the wardrobe in {split}. Make them with "
            "`run.py train pairs`."
        )
    return found


class PatternJudge(nn.Module):
    """Which pattern a worn garment has."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        for inside, outside, stride in (
            (3, width, 1),
            (width, 2 * width, 2),
            (2 * width, 3 * width, 2),
            (3 * width, 4 * width, 2),
        ):
            layers += [
                nn.Conv2d(inside, outside, 3, stride, 1),
                nn.GroupNorm(8, outside),
                nn.ReLU(inplace=True),
            ]
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(4 * width, len(PATTERN_CLASSES))

    def forward(self, patches: Tensor) -> Tensor:
        """Patches of `worn_patch`, (B, 3, S, S), to logits, (B, classes)."""
        return self.head(self.layers(patches).mean(dim=(2, 3)))


class OutlineJudge(nn.Module):
    """Where the garment is that was painted inside a mask."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.down = nn.ModuleList()
        inside = 4
        for outside in widths:
            self.down.append(_double(inside, outside))
            inside = outside
        self.up = nn.ModuleList(
            [
                _double(inside + skip, skip)
                for inside, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
            ]
        )
        self.out = nn.Conv2d(width, 1, 1)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Pictures 0..1, (B, 3, H, W), and what was painted, (B, 1, H, W), to logits of the worn
        garment, (B, 1, H, W)."""
        h = torch.cat([images, masks], dim=1)
        skips: list[Tensor] = []
        for number, block in enumerate(self.down):
            h = block(F.max_pool2d(h, 2) if number else h)
            skips.append(h)
        skips.pop()
        for block in self.up:
            skip = skips.pop()
            h = F.interpolate(h, skip.shape[2:], mode="nearest")
            h = block(torch.cat([h, skip], dim=1))
        return self.out(h)


def _double(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(inside, outside, 3, padding=1),
        nn.GroupNorm(8, outside),
        nn.ReLU(inplace=True),
        nn.Conv2d(outside, outside, 3, padding=1),
        nn.GroupNorm(8, outside),
        nn.ReLU(inplace=True),
    )


def worn_patch(image: Tensor, worn: Tensor) -> Tensor:
    """The worn garment alone, its aspect kept, on its own mean colour: no outline is left to see.

    Args:
        image: (3, H, W), 0..1.
        worn: The garment, (H, W), 0 or 1.

    Returns:
        (3, 64, 64); grey where nothing is worn.
    """
    rows, columns = (worn > 0.5).nonzero().unbind(1)
    if not len(rows):
        return torch.full((3, _PATCH, _PATCH), 0.5)
    top, bottom = int(rows.min()), int(rows.max()) + 1
    left, right = int(columns.min()), int(columns.max()) + 1
    part, mask = image[:, top:bottom, left:right], worn[top:bottom, left:right]
    mean = (part * mask).sum(dim=(1, 2)) / mask.sum()
    filled = part * mask + mean[:, None, None] * (1 - mask)
    side = max(part.shape[1:])
    across, down = side - part.shape[2], side - part.shape[1]
    borders = (across // 2, across - across // 2, down // 2, down - down // 2)
    grown = F.pad(filled - mean[:, None, None], borders) + mean[:, None, None]
    mode = {"mode": "bilinear", "antialias": True}
    return F.interpolate(grown[None], (_PATCH, _PATCH), **mode)[0]  # pyright: ignore[reportArgumentType]


def train_pattern_judge(
    records: Sequence[JudgedRecord],
    *,
    steps: int = 700,
    seed: int = 0,
    on_step: OnStep | None = None,
) -> PatternJudge:
    """Train the classifier on true renders, mirrored and in other colours as well."""
    patches = torch.stack([worn_patch(_planes(r.record.image), r.record.worn) for r in records])
    labels = torch.tensor([r.pattern for r in records])
    rng = np.random.default_rng([seed, 5])
    weights = 1.0 / np.bincount(labels.numpy(), minlength=len(PATTERN_CLASSES)).clip(min=1)
    shares = weights[labels.numpy()] / weights[labels.numpy()].sum()
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - untyped in torch
    judge = PatternJudge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=2e-3, weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chosen = torch.from_numpy(rng.choice(len(patches), _BATCH, p=shares))
        batch = patches[chosen][:, torch.from_numpy(rng.permutation(3))]
        if rng.random() < 0.5:
            batch = batch.flip(3)
        loss = F.cross_entropy(judge(batch), labels[chosen], label_smoothing=0.05)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if on_step is not None:
            on_step(step + 1, steps)
    return judge.eval().requires_grad_(False)


def train_outline_judge(
    records: Sequence[Record], *, steps: int = 600, seed: int = 0, on_step: OnStep | None = None
) -> OutlineJudge:
    """Train the segmenter on true renders; the mask tells it which garment is meant."""
    images = torch.stack([_planes(r.image) for r in records])
    masks = torch.stack([r.mask for r in records])[:, None]
    worn = torch.stack([r.worn for r in records])[:, None]
    rng = np.random.default_rng([seed, 6])
    torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - untyped in torch
    judge = OutlineJudge()
    optimizer = torch.optim.AdamW(judge.parameters(), lr=3e-3, weight_decay=0.01)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps)
    for step in range(steps):
        chosen = torch.from_numpy(rng.integers(len(images), size=_BATCH // 2))
        batch = images[chosen][:, torch.from_numpy(rng.permutation(3))]
        logits = judge(batch, masks[chosen])
        share = torch.sigmoid(logits)
        truth = worn[chosen]
        overlap = (share * truth).sum() / (share + truth - share * truth).sum()
        loss = F.binary_cross_entropy_with_logits(logits, truth) + 1 - overlap
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if on_step is not None:
            on_step(step + 1, steps)
    return judge.eval().requires_grad_(False)


@torch.inference_mode()
def judge_patterns(judge: PatternJudge, images: Tensor, worn: Tensor) -> Tensor:
    """Classes of worn garments: pictures (N, 3, H, W) and their garments (N, H, W) -> (N,)."""
    patches = [worn_patch(image, mask) for image, mask in zip(images, worn, strict=True)]
    return judge(torch.stack(patches)).argmax(dim=1)


@torch.inference_mode()
def judge_outlines(judge: OutlineJudge, images: Tensor, masks: Tensor, batch: int = 16) -> Tensor:
    """Worn garments of pictures, (N, 3, H, W), inside masks, (N, H, W) -> (N, H, W), 0 or 1."""
    found = [
        judge(some, inside[:, None])[:, 0] > 0
        for some, inside in zip(images.split(batch), masks.split(batch), strict=True)
    ]
    return torch.cat(found).float()


def _planes(image: Tensor) -> Tensor:
    return image.permute(2, 0, 1)

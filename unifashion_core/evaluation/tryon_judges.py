"""What judges try-on results: a pattern classifier and a garment segmenter. They are trained on
true renders (`tryon_judge_training.py`), kept by `tryon_judge_store.py`, and ship with nothing."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (torch's linalg.eigh and split lose their types)

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import FolderError
from ..training.tryon_layout import Record, read_pairs, read_record
from ..training.wardrobe_pairs import draw_garment
from ..wardrobe.garment import Garment
from ..wardrobe.person_render import region_of

PATTERN_CLASSES = ("plain", "stripes across", "stripes along", "dots", "checks", "print")
_PATCH = 96
_LEAST_SPREAD = 0.01  # of a patch's values: less is what 8 bits leave of a plain one
_AXES = 2


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
    """Which pattern a worn garment has. Colours are nothing to it: it sees the two axes that a
    patch's colours vary along most, at unit spread, and how wide that spread was."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (width, width, 2 * width, 2 * width, 3 * width, 3 * width)
        layers: list[nn.Module] = []
        inside = _AXES
        for number, outside in enumerate(widths):
            first = number == 0
            layers += _layer(inside, outside, 5 if first else 3, 1 if number % 2 else 2)
            inside = outside
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * inside + 1, len(PATTERN_CLASSES))

    def forward(self, patches: Tensor) -> Tensor:
        """Patches of `worn_patch`, (B, 3, S, S), to logits, (B, classes)."""
        return self.judge(*principal_axes(patches))

    def judge(self, planes: Tensor, spread: Tensor) -> Tensor:
        """What `principal_axes` found, to logits, (B, classes)."""
        h = self.layers(planes)
        found = [h.mean(dim=(2, 3)), h.amax(dim=(2, 3)), spread.log()[:, None]]
        return self.head(torch.cat(found, dim=1))


def principal_axes(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Patches along the axes that their own colours vary along most.

    Args:
        patches: (B, 3, S, S).

    Returns:
        (B, 2, S, S), the first axis at a spread of 1; and that spread before, (B,).
    """
    flat = patches.flatten(2)
    centred = flat - flat.mean(dim=2, keepdim=True)
    found: tuple[Tensor, Tensor] = torch.linalg.eigh(
        centred @ centred.transpose(1, 2) / flat.shape[2]
    )
    values, axes = found
    spread = values[:, -1].clamp(min=0).sqrt().clamp(min=_LEAST_SPREAD)
    along = axes.flip(2)[:, :, :_AXES].transpose(1, 2) @ centred / spread[:, None, None]
    return along.unflatten(2, patches.shape[2:]), spread


class OutlineJudge(nn.Module):
    """Where the garment is that was painted inside a mask: a small U-net on 2x2 squares."""

    def __init__(self, width: int = 16) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.down = nn.ModuleList()
        inside = 16  # 2x2 squares of three colours and the mask
        for outside in widths:
            layers = (*_layer(inside, outside), *_layer(outside, outside))
            self.down.append(nn.Sequential(*layers))
            inside = outside
        self.up = nn.ModuleList(
            [
                nn.Sequential(*_layer(below + skip, skip))
                for below, skip in zip(widths[:0:-1], widths[-2::-1], strict=True)
            ]
        )
        self.out = nn.Conv2d(width, 4, 1)

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Pictures 0..1, (B, 3, H, W), and what was painted, (B, 1, H, W), to logits of the worn
        garment, (B, 1, H, W)."""
        h = F.pixel_unshuffle(torch.cat([4 * (images - 0.5), masks], dim=1), 2)
        h = h.contiguous(memory_format=torch.channels_last)
        skips: list[Tensor] = []
        for number, block in enumerate(self.down):
            h = block(F.max_pool2d(h, 2) if number else h)
            skips.append(h)
        skips.pop()
        for block in self.up:
            skip = skips.pop()
            h = F.interpolate(h, skip.shape[2:], mode="nearest")
            h = block(torch.cat([h, skip], dim=1))
        return F.pixel_shuffle(self.out(h), 2)


def _layer(inside: int, outside: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
    ]


def worn_patch(image: Tensor, worn: Tensor) -> Tensor:
    """The worn garment alone, its aspect kept, on its own mean colour: no outline is left to see.

    Args:
        image: (3, H, W), 0..1.
        worn: The garment, (H, W), 0 or 1.

    Returns:
        (3, 96, 96); grey where nothing is worn.
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


@torch.inference_mode()
def judge_patterns(judge: PatternJudge, images: Tensor, worn: Tensor) -> Tensor:
    """Classes of worn garments: pictures (N, 3, H, W) and their garments (N, H, W) -> (N,)."""
    patches = [worn_patch(image, mask) for image, mask in zip(images, worn, strict=True)]
    return judge(torch.stack(patches)).argmax(dim=1)


@torch.inference_mode()
def judge_outlines(judge: OutlineJudge, images: Tensor, masks: Tensor, batch: int = 16) -> Tensor:
    """Worn garments of pictures, (N, 3, H, W), inside masks, (N, H, W) -> (N, H, W), 0 or 1."""
    found = [
        (judge(some, inside[:, None])[:, 0] > 0) & (inside > 0.5)
        for some, inside in zip(images.split(batch), masks.split(batch), strict=True)
    ]
    return torch.cat(found).float()

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
PATTERN_KINDS = (*PATTERN_CLASSES, "flowers")
"""What the classifier is taught: scattered flowers look more like dots than like a single print,
but count as print."""
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
    """A garment's pattern as the classifier knows it; flowers count as print. Persons' skirts,
    trousers and shorts are drawn without their print, so that they are plain."""
    if garment.pattern == "print" and region_of(garment.category) == "lower":
        return "plain"
    if garment.pattern == "stripes":
        return "stripes along" if garment.direction == "vertical" else "stripes across"
    return "print" if garment.pattern == "floral" else garment.pattern


def pattern_kind(garment: Garment) -> str:
    """A garment's pattern as the classifier is taught it, of `PATTERN_KINDS`."""
    return "flowers" if garment.pattern == "floral" else pattern_class(garment)


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
    garment's colours vary along most, at unit spread, and how wide that spread was. What it finds
    is counted on the garment alone, whatever share of the patch that is."""

    def __init__(self, width: int = 32) -> None:
        super().__init__()
        widths = (width // 2, width, width, 2 * width, 2 * width, 3 * width, 3 * width)
        layers: list[nn.Module] = []
        inside = _AXES + 1
        for number, outside in enumerate(widths):
            first = number == 0
            layers += _layer(inside, outside, 5 if first else 3, 1 if number % 2 == 0 else 2)
            inside = outside
        self.layers = nn.Sequential(*layers)
        self.head = nn.Linear(2 * inside + 1, len(PATTERN_KINDS))

    def forward(self, patches: Tensor) -> Tensor:
        """Patches of `worn_patch`, (B, 4, S, S), to logits, (B, kinds)."""
        return self.judge(*principal_axes(patches))

    def judge(self, planes: Tensor, spread: Tensor) -> Tensor:
        """What `principal_axes` found, to logits of `PATTERN_KINDS`, (B, kinds)."""
        h = self.layers(planes)
        share = F.adaptive_avg_pool2d(planes[:, _AXES:], h.shape[2:])
        h = h * share
        mean = h.sum(dim=(2, 3)) / share.sum(dim=(2, 3)).clamp(min=1.0)
        found = [mean, h.amax(dim=(2, 3)), spread.log()[:, None]]
        return self.head(torch.cat(found, dim=1))


def principal_axes(patches: Tensor) -> tuple[Tensor, Tensor]:
    """Patches along the axes that their garments' own colours vary along most.

    Args:
        patches: Of `worn_patch`, (B, 4, S, S).

    Returns:
        Two axes, the first at a spread of 1 on the garment, both 0 beside it, and the garment's
        share of each pixel, (B, 3, S, S); and the first axis' spread before, (B,).
    """
    flat, share = patches[:, :3].flatten(2), patches[:, 3:].flatten(2)
    whole = share.sum(dim=2, keepdim=True).clamp(min=1.0)
    centred = (flat - (flat * share).sum(dim=2, keepdim=True) / whole) * share
    found: tuple[Tensor, Tensor] = torch.linalg.eigh(centred @ centred.transpose(1, 2) / whole)
    values, axes = found
    spread = values[:, -1].clamp(min=0).sqrt().clamp(min=_LEAST_SPREAD)
    along = axes.flip(2)[:, :, :_AXES].transpose(1, 2) @ centred / spread[:, None, None]
    return torch.cat([along, share], dim=1).unflatten(2, patches.shape[2:]), spread


class OutlineJudge(nn.Module):
    """Where the garment is that was painted inside a mask: a U-net on 2x2 squares, and a last step
    on single pixels that places the edge."""

    def __init__(self, width: int = 16, fine: int = 8) -> None:
        super().__init__()
        widths = (width, 2 * width, 4 * width, 4 * width)
        self.stem = nn.Sequential(*_layer(4, fine))  # three colours and the mask
        self.down = nn.ModuleList()
        inside = 4 * 4  # their 2x2 squares
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
        self.rise = nn.Conv2d(width, 4 * fine, 1)
        self.out = nn.Sequential(*_layer(2 * fine, 2 * fine), nn.Conv2d(2 * fine, 1, 1))

    def forward(self, images: Tensor, masks: Tensor) -> Tensor:
        """Pictures 0..1, (B, 3, H, W), and what was painted, (B, 1, H, W), to logits of the worn
        garment, (B, 1, H, W)."""
        given = torch.cat([4 * (images - 0.5), masks], dim=1)
        h = F.pixel_unshuffle(given, 2).contiguous(memory_format=torch.channels_last)
        skips: list[Tensor] = []
        for number, block in enumerate(self.down):
            h = block(F.max_pool2d(h, 2) if number else h)
            skips.append(h)
        skips.pop()
        for block in self.up:
            skip = skips.pop()
            h = F.interpolate(h, skip.shape[2:], mode="nearest")
            h = block(torch.cat([h, skip], dim=1))
        near = self.stem(given.contiguous(memory_format=torch.channels_last))
        return self.out(torch.cat([F.pixel_shuffle(self.rise(h), 2), near], dim=1))


def _layer(inside: int, outside: int, kernel: int = 3, stride: int = 1) -> list[nn.Module]:
    return [
        nn.Conv2d(inside, outside, kernel, stride, kernel // 2, bias=False),
        nn.BatchNorm2d(outside),
        nn.ReLU(inplace=True),
    ]


def worn_patch(image: Tensor, worn: Tensor) -> Tensor:
    """The worn garment alone, its aspect kept, on its own mean colour, and where it is; without its
    outermost pixels, which are part of what lies behind and would stripe a plain one.

    Args:
        image: (3, H, W), 0..1.
        worn: The garment, (H, W), 0 or 1.

    Returns:
        Three colours and the garment's share of each pixel, (4, 96, 96); grey and 0 where nothing
        is worn.
    """
    inner = -F.max_pool2d(-(worn[None, None] > 0.5).float(), 3, 1, 1)[0, 0]
    worn = inner if inner.any() else (worn > 0.5).float()
    rows, columns = worn.nonzero().unbind(1)
    if not len(rows):
        return torch.cat([torch.full((3, _PATCH, _PATCH), 0.5), torch.zeros(1, _PATCH, _PATCH)])
    top, bottom = int(rows.min()), int(rows.max()) + 1
    left, right = int(columns.min()), int(columns.max()) + 1
    part, mask = image[:, top:bottom, left:right], worn[top:bottom, left:right]
    mean = (part * mask).sum(dim=(1, 2)) / mask.sum()
    filled = torch.cat([(part - mean[:, None, None]) * mask, mask[None]])
    side = max(part.shape[1:])
    across, down = side - part.shape[2], side - part.shape[1]
    grown = F.pad(filled, (across // 2, across - across // 2, down // 2, down - down // 2))
    mode = {"mode": "bilinear", "antialias": True}
    made = F.interpolate(grown[None], (_PATCH, _PATCH), **mode)[0]  # pyright: ignore[reportArgumentType]
    made[:3] += mean[:, None, None]
    return made


@torch.inference_mode()
def judge_patterns(judge: PatternJudge, images: Tensor, worn: Tensor) -> Tensor:
    """Classes of worn garments: pictures (N, 3, H, W) and their garments (N, H, W) -> (N,)."""
    patches = [worn_patch(image, mask) for image, mask in zip(images, worn, strict=True)]
    shares = judge(torch.stack(patches)).softmax(dim=1)
    shares[:, PATTERN_CLASSES.index("print")] += shares[:, PATTERN_KINDS.index("flowers")]
    return shares[:, : len(PATTERN_CLASSES)].argmax(dim=1)


@torch.inference_mode()
def judge_outlines(judge: OutlineJudge, images: Tensor, masks: Tensor, batch: int = 16) -> Tensor:
    """Worn garments of pictures, (N, 3, H, W), inside masks, (N, H, W) -> (N, H, W), 0 or 1."""
    found = [
        (judge(some, inside[:, None])[:, 0] > 0) & (inside > 0.5)
        for some, inside in zip(images.split(batch), masks.split(batch), strict=True)
    ]
    return torch.cat(found).float()

"""The colours of a garment: a few, with their shares of the cloth."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ..errors import InputError
from .fit import check_mask
from .lab import from_lab, length, to_lab
from .resample import resize

_SIDE = 192  # of the picture that colours are counted on
_ALIKE = 11.0  # Lab distance below which two colours are one
_ROUNDS = 12


@dataclass(frozen=True)
class PaletteColour:
    """A colour of a palette.

    Attributes:
        rgb: 0..255.
        share: Of the garment's pixels, 0..1.
    """

    rgb: tuple[int, int, int]
    share: float

    @property
    def hex(self) -> str:
        """As "#1f3a5c"."""
        return "#{:02x}{:02x}{:02x}".format(*self.rgb)


def palette(
    image: torch.Tensor, mask: torch.Tensor | None = None, most: int = 5
) -> tuple[PaletteColour, ...]:
    """The colours of a garment, the largest first.

    Args:
        image: (H, W, 3), 0..1.
        mask: The garment, (H, W), 0..1; None: the whole picture.
        most: How many colours at most, 1..12; those that look alike are one.

    Returns:
        At least one colour; the shares add up to 1. The same picture gives the same palette.

    Raises:
        InputError: If the number is out of range, or the mask is empty.
    """
    if not 1 <= most <= 12:
        raise InputError(f"Palette: {most} colours, wanted 1 to 12.")
    pixels = _pixels(image, mask)
    centres = _farthest(pixels, most + 3)
    for _ in range(_ROUNDS):
        nearest = torch.cdist(pixels, centres).argmin(dim=1)
        centres = torch.stack(
            [
                pixels[nearest == k].mean(0) if bool((nearest == k).any()) else centre
                for k, centre in enumerate(centres)
            ]
        )
    counts = torch.bincount(torch.cdist(pixels, centres).argmin(dim=1), minlength=len(centres))
    merged = _merged(centres, counts.float())[:most]
    total = sum(count for _, count in merged)
    return tuple(PaletteColour(_bytes(colour), count / total) for colour, count in merged)


def draw_palette(colours: tuple[PaletteColour, ...], height: int, width: int) -> torch.Tensor:
    """Stripes from left to right, each as wide as its share, (H, W, 3)."""
    edges = [0]
    for colour in colours:
        edges.append(edges[-1] + max(1, round(colour.share * width)))
    drawn = torch.zeros((height, width, 3))
    for colour, start in zip(colours, edges[:-1], strict=True):
        drawn[:, start:] = torch.tensor(colour.rgb) / 255.0
    return drawn


def _pixels(image: torch.Tensor, mask: torch.Tensor | None) -> torch.Tensor:
    height, width = int(image.shape[0]), int(image.shape[1])
    scale = min(1.0, _SIDE / max(height, width))
    size = (max(1, round(height * scale)), max(1, round(width * scale)))
    lab = to_lab(resize(image[..., :3], *size)).reshape(-1, 3)
    if mask is None:
        return lab
    check_mask(mask, (height, width), "Palette")
    cover = resize(mask, *size, smooth=True).reshape(-1)
    inside = cover > min(0.9, 0.9 * float(cover.max()))  # without the mixed colours of the edge
    if not bool((cover > 0).any()):
        raise InputError("Palette: the mask is empty. Give the mask of the garment.")
    return lab[inside]


def _farthest(pixels: torch.Tensor, count: int) -> torch.Tensor:
    """Starts for the grouping: the mean, then always what is farthest from all, rare ones spared.

    Distances are capped at the 98th percentile, so that a single pixel is no start.
    """
    chosen = [pixels.mean(0)]
    distance = length(pixels - chosen[0])
    for _ in range(min(count, len(pixels)) - 1):
        limit = distance.quantile(0.98)
        chosen.append(pixels[int((distance - limit).abs().argmin())])
        distance = torch.minimum(distance, length(pixels - chosen[-1]))
    return torch.stack(chosen)


def _merged(centres: torch.Tensor, counts: torch.Tensor) -> list[tuple[torch.Tensor, float]]:
    """Centres that look alike as one, the largest first, without those under one percent."""
    found: list[tuple[torch.Tensor, float]] = []
    for k in (int(place) for place in counts.argsort(descending=True, stable=True)):
        centre, count = centres[k], float(counts[k])
        if not count:
            continue
        near = [i for i, (c, _) in enumerate(found) if float(length(c - centre)) < _ALIKE]
        if near:
            kept, sum_ = found[near[0]]
            found[near[0]] = ((kept * sum_ + centre * count) / (sum_ + count), sum_ + count)
        else:
            found.append((centre, count))
    found.sort(key=lambda pair: -pair[1])
    least = 0.01 * float(counts.sum())
    return [pair for i, pair in enumerate(found) if pair[1] >= least or i == 0]


def _bytes(colour: torch.Tensor) -> tuple[int, int, int]:
    r, g, b = (round(float(v) * 255) for v in from_lab(colour))
    return r, g, b

"""Colours of a garment: its pixels in Lab, named by small networks that also see the background, as
people do: the same grey is white in a dim room.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image
from safetensors import SafetensorError, safe_open

from ..cutout import WORKING_SIDE, lab_of
from ..errors import CheckpointError, ShapeError
from ..types import COLOURS, ColourShare

Array = npt.NDArray[Any]

COLOUR_WEIGHTS = Path(__file__).with_name("colours.safetensors")
PIXELS = 256
LAB_SCALE = np.array([30.0, 20.0, 20.0], np.float32)
CHROMA_OFFSET, CHROMA_SCALE = 16.0, 3.0
PIXEL_VALUES = 5
CONTEXT = 18
_LEAST_BACKGROUND = 50
_LEAST_GARMENT = 80
LEAST_SHARE = 0.1


@dataclass(frozen=True)
class PixelSample:
    """What a picture gives to name its garment's colours.

    Attributes:
        pixels: Of the garment, as `pixel_values` gives them, (PIXELS, 5), float32.
        context: Means, spreads and quantiles of garment and background, (CONTEXT,), float32.
    """

    pixels: Array
    context: Array


@dataclass(frozen=True)
class ColourNamer:
    """Names pixels; a mean over members that were trained on different parts of the photos.

    Attributes:
        pixel: Weights of the pixel, (M, 5, H).
        context: Weights of the scaled context, (M, CONTEXT, H).
        bias: (M, H).
        out: (M, H, 13).
        out_bias: (M, 13).
        mean: Of the context, (CONTEXT,).
        spread: Of the context, (CONTEXT,).
        folds: Which fold of the training photos each member did not see, (M,).
    """

    pixel: Array
    context: Array
    bias: Array
    out: Array
    out_bias: Array
    mean: Array
    spread: Array
    folds: Array

    def shares(self, sample: PixelSample, *, unseen: int | None = None) -> Array:
        """Share of each of `COLOURS` among the garment's pixels, (13,), sum 1.

        Args:
            sample: Of `sample_pixels`.
            unseen: Take only the members that did not see this fold; None takes all.
        """
        members = slice(None) if unseen is None else self.folds == unseen
        context = (sample.context - self.mean) / self.spread
        about = np.einsum("c,mch->mh", context, self.context[members]) + self.bias[members]
        hidden = np.tanh(sample.pixels @ self.pixel[members] + about[:, None])  # (M, P, H)
        logits = hidden @ self.out[members] + self.out_bias[members][:, None]
        logits -= logits.max(axis=-1, keepdims=True)
        each = np.exp(logits)
        each /= each.sum(axis=-1, keepdims=True)
        return each.mean(axis=(0, 1))


def load_namer(path: Path = COLOUR_WEIGHTS) -> ColourNamer:
    """Read a namer's weights.

    Raises:
        CheckpointError: If the file can't be read or holds something else.
    """
    try:
        with cast(Any, safe_open(path, framework="numpy")) as file:
            tensors: dict[str, Array] = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 - no mapping
    except (OSError, SafetensorError) as e:
        raise CheckpointError(f"{path.name}: can't be read ({e}). Restore it.") from e
    names = tuple(ColourNamer.__dataclass_fields__)
    if set(tensors) != set(names) or tensors["out_bias"].shape[-1] != len(COLOURS):
        raise CheckpointError(
            f"{path.name}: holds {', '.join(sorted(tensors))}, wanted {', '.join(names)} for "
            f"{len(COLOURS)} colours. Use the file that ships."
        )
    return ColourNamer(**tensors)


def sample_pixels(image: Image.Image, mask: Array) -> PixelSample:
    """Read the garment's pixels and their surroundings.

    Args:
        image: Upright, RGB.
        mask: The garment, (H, W) of the picture's size; above 0.5 counts.

    Raises:
        ShapeError: If the mask has another size than the picture.
    """
    if mask.shape != (image.height, image.width):
        raise ShapeError(
            f"garment mask: {mask.shape[-1]} x {mask.shape[0]} pixels, the picture has "
            f"{image.width} x {image.height}. Give a mask of its size."
        )
    small = image.convert("RGB")
    small.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    wanted = Image.fromarray((mask > 0.5).astype(np.uint8) * 255)
    inside = np.asarray(wanted.resize(small.size, Image.Resampling.BOX)) > 127
    lab = lab_of(np.asarray(small))
    every = np.reshape(lab, (-1, 3))
    garment, background = lab[_without_edge(inside)], lab[~inside]
    if len(garment) == 0:
        garment = every
    if len(background) < _LEAST_BACKGROUND:
        background = every
    return PixelSample(pixel_values(_spread_out(garment)), _context(garment, background))


def pixel_values(lab: Array) -> Array:
    """What the networks see of Lab pixels, (P, 3) -> (P, 5): scaled Lab, and the chroma against the
    light, which tells navy from black in the dark.
    """
    chroma = lab[:, 1:] / (np.maximum(lab[:, :1], 0) + CHROMA_OFFSET) * CHROMA_SCALE
    return np.concatenate([lab / LAB_SCALE, chroma], axis=1).astype(np.float32)


def named_shares(shares: Array, least: float = LEAST_SHARE) -> tuple[ColourShare, ...]:
    """The colours that take at least this share of the garment, the largest first; one in any
    case.
    """
    order = np.argsort(-shares, kind="stable")
    kept = [int(i) for i in order if shares[i] >= least] or [int(order[0])]
    return tuple(ColourShare(COLOURS[i], float(shares[i])) for i in kept)


def _without_edge(mask: Array) -> Array:
    """Two pixels less all around, where enough is left: the edge mixes with the background."""
    inner = mask
    for _ in range(2):
        wide = np.pad(inner, 1)
        inner = inner & wide[:-2, 1:-1] & wide[2:, 1:-1] & wide[1:-1, :-2] & wide[1:-1, 2:]
    return inner if inner.sum() >= _LEAST_GARMENT else mask


def _spread_out(values: Array) -> Array:
    """`PIXELS` of them, evenly over the garment."""
    return values[np.linspace(0, len(values) - 1, PIXELS).astype(np.int64)]


def _context(garment: Array, background: Array) -> Array:
    light = background[:, 0]
    bright = background[light >= np.quantile(light, 0.7)]  # near the light's own colour
    groups = (background.mean(0), background.std(0), bright.mean(0), garment.mean(0))
    low, high = np.quantile(garment[:, 0], (0.1, 0.9))
    parts = (*groups, garment.std(0), np.array([low, high, np.quantile(light, 0.95)]))
    return np.concatenate(parts).astype(np.float32)

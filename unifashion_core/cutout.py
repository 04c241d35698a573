"""The garment's pixels in a photo of one garment, without a network: two colour models, one of the
border and one of the centre, fitted in turn.

A default for whoever has no mask; it expects the garment in the middle and some background around
it.
"""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.floating[Any]]
Mask = npt.NDArray[np.bool_]

WORKING_SIDE = 128
_FIT_PIXELS = 800
_PARTS = 5
_SPREAD_FLOOR = 9.0  # Lab units squared: no part is narrower than 3 of them
_LEAST_SHARE = 0.02
_LEAST_SPREAD = 1.0  # Lab units: less is one flat colour

_TO_XYZ = np.array(
    [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ],
    np.float32,
)
_WHITE_D65 = np.array([0.95047, 1.0, 1.08883], np.float32)


def garment_mask(image: Image.Image) -> Mask | None:
    """Find the garment.

    Args:
        image: An upright RGB photo of one garment.

    Returns:
        True on the garment, (H, W) bool at the picture's size, or None where nothing in the middle
        stands out from the border.

    Source: the idea of Rother et al. 2004 (GrabCut), with a smoothed score in place of the graph
    cut.
    """
    small = image.convert("RGB")
    small.thumbnail((WORKING_SIDE, WORKING_SIDE), Image.Resampling.BOX)
    mask = mask_of_lab(lab_of(np.asarray(small)))
    if mask is None:
        return None
    whole = Image.fromarray(mask).resize(image.size, Image.Resampling.NEAREST)
    return np.asarray(whole)


def middle(size: tuple[int, int]) -> Mask:
    """The middle half of a picture of (width, height): where a garment is when no mask is found."""
    width, height = size
    mask = np.zeros((height, width), np.bool_)
    mask[height // 4 : height - height // 4, width // 4 : width - width // 4] = True
    return mask


def lab_of(rgb: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """8-bit sRGB (..., 3) to CIE Lab under D65, float32: L in 0..100."""
    linear: npt.NDArray[np.float32] = _LINEAR[rgb]
    xyz = np.matmul(linear, _TO_WHITE)
    f = np.cbrt(xyz)
    dark = xyz <= 0.008856
    f[dark] = 7.787 * xyz[dark] + 16 / 116
    parts = (116 * f[..., 1] - 16, 500 * (f[..., 0] - f[..., 1]), 200 * (f[..., 1] - f[..., 2]))
    return np.stack(parts, axis=-1).astype(np.float32)


def mask_of_lab(lab: npt.NDArray[np.float32]) -> Mask | None:
    """As `garment_mask`, for Lab values (H, W, 3) of a small picture, at their size."""
    coarse = lab[::2, ::2] if min(lab.shape[:2]) >= WORKING_SIDE // 2 else lab
    values = _weighted(coarse)
    edge, centre, inside = _geometry(coarse.shape[0], coarse.shape[1])
    outside = edge > 0.9
    mask = inside
    if float(values.std(axis=0).max()) < _LEAST_SPREAD:
        return None
    for grid in (coarse, coarse, lab):
        if not inside.any() or not outside.any():
            return None
        garment = _mixture(values[inside.ravel()])
        background = _mixture(values[outside.ravel()])
        height, width = grid.shape[:2]
        values = _weighted(grid)
        edge, centre, _ = _geometry(height, width)
        terms = _quadratic(values)
        odds = _log_density(terms, garment) - _log_density(terms, background)
        score = _blurred(np.reshape(odds, (height, width)).clip(-6, 6) + 2.2 - 3.2 * edge**1.5, 2)
        mask = _central(score > 0, centre)
        inside = mask & (score > 0.5) & (edge <= 0.97)
        outside = ~mask | (edge > 0.95)
        if inside.mean() < _LEAST_SHARE:
            return None
    return mask


def _weighted(lab: npt.NDArray[np.float32]) -> Floats:
    """Lab as a list of pixels, (N, 3); light counts less, since it varies most."""
    values = np.reshape(lab, (-1, 3)).astype(np.float32)
    values[:, 0] *= 0.7
    return values


def _geometry(height: int, width: int) -> tuple[Floats, Floats, Mask]:
    """Closeness to the border 0..1, weight of the centre, and the ellipse to begin with."""
    across, down = _from_middle(width)[None, :], _from_middle(height)[:, None]
    centre = np.exp(-2 * ((across / 0.95) ** 2 + (down / 0.95) ** 2))
    return np.maximum(across, down), centre, (across / 0.55) ** 2 + (down / 0.6) ** 2 < 1


def _from_middle(size: int) -> Floats:
    """Distance of each pixel's centre from the middle, 0..1."""
    return np.array([abs((i + 0.5) / size * 2 - 1) for i in range(size)])


def _linear_light() -> npt.NDArray[np.float32]:
    values = np.arange(256) / 255
    curved = np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)
    return curved.astype(np.float32)


_LINEAR = _linear_light()
_TO_WHITE = np.ascontiguousarray(np.transpose(_TO_XYZ / _WHITE_D65[:, None]))


def _quadratic(x: Floats) -> Floats:
    """Squares, products, values and 1, (N, 3) -> (10, N): in these a Gaussian is linear."""
    a, b, c = x[:, 0], x[:, 1], x[:, 2]
    one = np.ones_like(a)
    return np.stack([a * a, b * b, c * c, 2 * a * b, 2 * a * c, 2 * b * c, a, b, c, one])


def _mixture(samples: Floats) -> Floats:
    """A mixture of Gaussians fitted to samples (M, 3), as weights of `_quadratic`, (parts, 10)."""
    step = max(1, len(samples) // _FIT_PIXELS)
    samples = samples[step // 2 :: step].astype(np.float64)
    member = _grouped(samples)
    sizes = np.sum(member, axis=1)
    member, sizes = member[sizes >= 4], sizes[sizes >= 4]
    if len(sizes) == 0:  # fewer pixels than parts: nothing is known of their colours
        return np.zeros((1, 10), np.float32)
    centres = np.matmul(member, samples) / sizes[:, None]
    squares = np.reshape(samples[:, :, None] * samples[:, None, :], (-1, 9))
    second = np.reshape(np.matmul(member, squares) / sizes[:, None], (-1, 3, 3))
    spread = second - centres[:, :, None] * centres[:, None, :] + _SPREAD_FLOOR * np.eye(3)
    inverse: Floats = cast(Any, np.linalg).inv(spread)
    linear = np.matmul(inverse, centres[:, :, None])[:, :, 0]
    size = np.log(sizes / len(samples)) - 0.5 * np.log(np.linalg.det(spread))
    square = -0.5 * inverse[:, (0, 1, 2, 0, 0, 1), (0, 1, 2, 1, 2, 2)]
    rest = size - 0.5 * np.sum(centres * linear, axis=1)
    return np.concatenate([square, linear, rest[:, None]], axis=1).astype(np.float32)


def _log_density(terms: Floats, mixture: Floats) -> Floats:
    """Log density of pixels (10, N) under a mixture, (N,)."""
    each = np.matmul(mixture, terms)
    top = np.max(each, axis=0)
    return top + np.log(np.sum(np.exp(each - top), axis=0))


def _grouped(x: Floats) -> Floats:
    """Which of the parts each pixel belongs to, (parts, N) of 0 and 1.

    k-means from a start along the widest direction, so that it is the same every time.
    """
    away = x - np.mean(x, axis=0)
    _, axes = np.linalg.eigh(np.matmul(np.transpose(away), away))
    order = np.argsort(np.matmul(away, axes[:, -1]), kind="stable")
    places = ((np.arange(_PARTS) + 0.5) * len(x) / _PARTS).astype(np.int64)
    centres = x[order[places]]
    columns = np.ascontiguousarray(np.transpose(x))
    numbers = np.arange(_PARTS)[:, None]
    member = np.zeros((_PARTS, len(x)))
    for _ in range(5):
        distances = np.sum(centres**2, axis=1)[:, None] - 2 * np.matmul(centres, columns)
        member = np.equal(np.argmin(distances, axis=0)[None, :], numbers).astype(np.float64)
        sizes = np.sum(member, axis=1)
        means = np.matmul(member, x) / np.maximum(sizes, 1)[:, None]
        centres[sizes > 0] = means[sizes > 0]
    return member


def _blurred(values: Floats, radius: int) -> Floats:
    """Mean over a square of side 2 radius + 1, edges repeated."""
    side = 2 * radius + 1
    for axis in (0, 1):
        pads = [(radius + 1, radius) if a == axis else (0, 0) for a in (0, 1)]
        sums = np.pad(values, pads, mode="edge").cumsum(axis=axis)
        size = values.shape[axis]
        ends, starts = [side + i for i in range(size)], list(range(size))
        values = (np.take(sums, ends, axis=axis) - np.take(sums, starts, axis=axis)) / side
    return values


def _central(mask: Mask, centre: Floats) -> Mask:
    """The connected part that weighs most by closeness to the centre, and those of at least 15 % of
    its weight: a pair of shoes is two.
    """
    labels = _components(mask)
    weights = np.bincount(labels.ravel(), centre.ravel())
    weights[0] = 0
    if weights.max() == 0:
        return mask
    return (weights >= 0.15 * weights.max())[labels] & mask


def _components(mask: Mask) -> npt.NDArray[np.int64]:
    """Numbers of the 4-connected parts, 0 outside: runs of each row joined with those above."""
    height, width = mask.shape
    starts = mask & ~np.pad(mask, ((0, 0), (1, 0)))[:, :-1]
    runs = np.where(mask, np.reshape(np.cumsum(starts), (height, width)), 0)
    parent = list(range(int(runs.max()) + 1))

    def root(i: int) -> int:
        while parent[i] != i:
            parent[i] = parent[parent[i]]
            i = parent[i]
        return i

    both = mask[1:] & mask[:-1]
    count = len(parent)
    for pair in np.unique(runs[1:][both] * count + runs[:-1][both]):
        below, above = divmod(int(pair), count)
        parent[root(below)] = root(above)
    return np.array([root(i) for i in range(len(parent))])[runs]

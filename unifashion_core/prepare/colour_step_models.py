"""How likely a colour is in a garment, on skin or in hair, from pixels that are surely of it."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type in copy, reshape, clip and where)

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

_LIGHTNESS = 0.6  # folds and shadows change it most
_MOST_SAMPLES = 600
_ROUNDS = 6
_OUTLIERS = 0.97  # of the distances: a new cluster starts there, not at the very farthest pixel


def colour_density(lab: Plane, samples: Plane, clusters: int, spread: float) -> Plane:
    """Density of a mixture of Gaussians that was fitted to samples.

    Args:
        lab: Colours to judge, (H, W, 3).
        samples: Colours that are surely of the kind, (N, 3).
        clusters: How many Gaussians.
        spread: Variance that each gets on top of its own.

    Returns:
        (H, W); 1 where all samples are of the very colour and `spread` is 9.
    """
    scale = np.array([_LIGHTNESS, 1.0, 1.0], np.float32)
    points = samples[:: len(samples) // _MOST_SAMPLES + 1] * scale
    centres, shares, variances = _cluster(points, clusters)
    found = np.zeros(lab.shape[:2], np.float32)
    scaled = lab * scale
    for centre, share, variance in zip(centres, shares, variances, strict=True):
        total = float(variance) + spread
        squares: Any = np.square(scaled - centre).sum(-1)
        found += np.float32(27.0 * share / total**1.5) * np.exp(squares * np.float32(-0.5 / total))
    return found


def _cluster(points: Plane, count: int) -> tuple[Plane, Plane, Plane]:
    """k-means from starts far apart: centres, shares and variances; no chance in it."""
    first: Any = np.median(points, axis=0)
    centres = [first]
    nearest = np.square(points - first).sum(1)
    for _ in range(min(count, len(points)) - 1):
        far = int(np.argsort(nearest, kind="stable")[int(_OUTLIERS * (len(points) - 1))])
        centres.append(points[far])
        nearest = np.minimum(nearest, np.square(points - points[far]).sum(1))
    middle = np.stack(centres).astype(np.float32)
    squares, owner = _assign(points, middle)
    for _ in range(_ROUNDS):
        for index in range(len(middle)):
            if (owner == index).any():
                middle[index] = points[owner == index].mean(0)
        squares, owner = _assign(points, middle)
    members = np.bincount(owner, minlength=len(middle)).astype(np.float32)
    sums = np.bincount(owner, weights=squares, minlength=len(middle)).astype(np.float32)
    shares = (members / len(points)).astype(np.float32)
    return middle, shares, (sums / np.maximum(members, 1) / 3).astype(np.float32)


def _assign(points: Plane, centres: Plane) -> tuple[Plane, NDArray[np.intp]]:
    squares: Any = np.square(points[:, None] - centres[None]).sum(2)
    return squares.min(1), squares.argmin(1)

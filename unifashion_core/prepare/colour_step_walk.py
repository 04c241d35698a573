"""A random walk over a picture: labels spread from sure places up to the edges of colour."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type in copy, reshape, clip and where)

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

Plane = NDArray[np.float32]

_LEAST_LINK = 1e-3
_TOLERANCE = 1e-3


def random_walk(
    lab: Plane,
    inside: NDArray[np.bool_],
    prior: Plane,
    trust: Plane,
    *,
    contrast: float,
    rounds: int,
) -> Plane:
    """Probability of each label, where neighbours of like colour are drawn to agree.

    Solves (L + T) x = T prior for each label, with the Laplacian L of the pixels' links and the
    trust T on the diagonal, by conjugate gradients.

    Args:
        lab: The picture, (H, W, 3).
        inside: Pixels that are linked to their neighbours, (H, W).
        prior: Probability of each label by the pixel alone, (H, W, K).
        trust: Weight of the prior against the neighbours, (H, W), above 0.
        contrast: How fast a link weakens with the square of the difference of colour.
        rounds: Most steps.

    Returns:
        (H, W, K).

    Source: Grady 2005, Multilabel Random Walker Image Segmentation Using Prior Models.
    """
    across = _links(lab[:, 1:], lab[:, :-1], inside[:, 1:] & inside[:, :-1], contrast)
    down = _links(lab[1:], lab[:-1], inside[1:] & inside[:-1], contrast)
    own = trust.copy()
    own[:, 1:] += across
    own[:, :-1] += across
    own[1:] += down
    own[:-1] += down
    across, down, own = across[None], down[None], own[None]

    def apply(x: Plane) -> Plane:
        made = own * x
        made[:, :, 1:] -= across * x[:, :, :-1]
        made[:, :, :-1] -= across * x[:, :, 1:]
        made[:, 1:] -= down * x[:, :-1]
        made[:, :-1] -= down * x[:, 1:]
        return made

    start = np.ascontiguousarray(np.moveaxis(prior, -1, 0), np.float32)
    return np.moveaxis(_solve(apply, own, trust[None] * start, start, rounds), 0, -1)


def _links(a: Plane, b: Plane, linked: NDArray[np.bool_], contrast: float) -> Plane:
    difference = np.square(a - b).sum(-1)
    return ((np.exp(difference * np.float32(-contrast)) + _LEAST_LINK) * linked).astype(np.float32)


def _solve(
    apply: Callable[[Plane], Plane], own: Plane, right: Plane, start: Plane, rounds: int
) -> Plane:
    """Conjugate gradients with the diagonal as preconditioner, each label by itself."""
    x = start.copy()
    rest = right - apply(x)
    scaled = rest / own
    step = scaled.copy()
    size = _dot(rest, scaled)
    for _ in range(rounds):
        if float(size.max()) < _TOLERANCE:
            break
        moved = apply(step)
        length = size / np.maximum(_dot(step, moved), 1e-12)
        x += length * step
        rest -= length * moved
        scaled = rest / own
        now = _dot(rest, scaled)
        step *= now / np.maximum(size, 1e-12)
        step += scaled
        size = now
    return x


def _dot(a: Plane, b: Plane) -> Plane:
    return np.einsum("khw,khw->k", a, b)[:, None, None]

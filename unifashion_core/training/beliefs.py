"""What a linear reading of the frozen tower believes of pictures that it did not see.

As targets beside the labels they say which classes look alike, and they can't be learnt by heart:
no picture had a part in the reading that judges it. Ridge regression in closed form, in folds.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor

_FOLDS = 8
_solve = cast("Callable[[Tensor, Tensor], Tensor]", getattr(torch.linalg, "solve"))  # noqa: B009 - untyped
_PENALTIES = (0.01, 0.03, 0.1, 0.3, 1.0, 3.0, 10.0)  # of the mean square of a feature
_SCALES = (1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0, 10.0, 12.0, 15.0)


@dataclass(frozen=True)
class Beliefs:
    """Of N pictures on C classes.

    Attributes:
        chances: (N, C), rows sum to 1.
        penalty: Of the ridge that gave the likeliest chances.
        scale: Of its scores before the softmax, chosen likewise.
    """

    chances: Tensor
    penalty: float
    scale: float


def class_beliefs(
    features: Tensor, labels: Tensor, origins: Sequence[str], classes: int
) -> Beliefs:
    """Chances of each class by readings that were fitted without the picture.

    Args:
        features: (N, F).
        labels: Class of each picture, (N,).
        origins: Pictures with the same one are judged by the same reading.
        classes: How many there are.

    Returns:
        The chances; penalty and scale are those under which the labels are likeliest.
    """
    x = features.double()
    x = (x - x.mean(dim=0)) / x.std(dim=0).clamp_min(1e-6)
    y = torch.nn.functional.one_hot(labels, classes).double()
    folds = torch.tensor([fold_of_origin(o) for o in origins])
    best: tuple[float, Beliefs] | None = None
    for penalty in _PENALTIES:
        scores = _unseen_scores(x, y, folds, penalty)
        for scale in _SCALES:
            chances = (scale * scores).softmax(dim=1)
            likelihood = float(chances.gather(1, labels[:, None]).clamp_min(1e-6).log().mean())
            if best is None or likelihood > best[0]:
                best = likelihood, Beliefs(chances.float(), penalty, scale)
    assert best is not None
    return best[1]


def fold_of_origin(origin: str) -> int:
    """Which fold a picture and its copies are in, by name alone."""
    return int(hashlib.sha256(origin.encode()).hexdigest()[:8], 16) % _FOLDS


def _unseen_scores(x: Tensor, y: Tensor, folds: Tensor, penalty: float) -> Tensor:
    """Each picture's scores by the ridge of the other folds, (N, C)."""
    scores = torch.zeros_like(y)
    for fold in range(_FOLDS):
        held = folds == fold
        a, b = x[~held], y[~held]
        mean = b.mean(dim=0)
        gram = a.T @ a / len(a) + penalty * torch.eye(x.shape[1], dtype=x.dtype)
        scores[held] = x[held] @ _solve(gram, a.T @ (b - mean) / len(a)) + mean
    return scores

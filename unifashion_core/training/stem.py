"""The pocket encoder's stem, fitted in closed form: a PCA of tower tokens, half whitened."""

from __future__ import annotations

from collections.abc import Callable
from typing import cast

import torch
from torch import Tensor


def fit_stem(
    tokens: Tensor, pooled: Tensor | None, *, widths: tuple[int, int], head_width: int
) -> dict[str, Tensor]:
    """Fit the maps of a stem.

    The head map and the low maps are fitted apart, since the low ones, which carry the colour,
    have a small variance
    and would be lost. Half whitening (components divided by the fourth root of their variance)
    keeps some of the order.

    Args:
        tokens: Tower tokens, (N, C), the head map's channels first.
        pooled: Pooled features, (M, `head_width`), or None for a stem without that token.
        widths: Components of the head map and of the low maps.
        head_width: How many of the C channels are the head map's.

    Returns:
        `mean` (C,), `weight` (sum of widths, C) and, with `pooled`, `pooled_mean` and
        `pooled_weight`.
    """
    parts = (tokens[:, :head_width], tokens[:, head_width:])
    weight = tokens.new_zeros(sum(widths), tokens.shape[1])
    mean_head, weight[: widths[0], :head_width] = _half_whitened(parts[0], widths[0])
    mean_low, weight[widths[0] :, head_width:] = _half_whitened(parts[1], widths[1])
    state = {"mean": torch.cat([mean_head, mean_low]), "weight": weight}
    if pooled is not None:
        state["pooled_mean"], state["pooled_weight"] = _half_whitened(pooled, sum(widths))
    return state


def _half_whitened(x: Tensor, count: int) -> tuple[Tensor, Tensor]:
    """Mean (C,) and map (count, C) whose outputs have mean square 1."""
    mean = x.double().mean(dim=0)
    centred = x.double() - mean
    decompose = cast("Callable[[Tensor], tuple[Tensor, Tensor]]", getattr(torch.linalg, "eigh"))  # noqa: B009 - untyped
    found = decompose(centred.T @ centred / len(x))
    variance, axes = found[0].flip(0)[:count].clamp_min(1e-9), found[1].flip(1)[:, :count]
    # The sign of an eigenvector is arbitrary: its largest entry is made positive, so that a refit
    # gives the same map.
    largest = axes.abs().argmax(dim=0)
    axes = axes * axes[largest, torch.arange(count)].sign()
    scale = variance**-0.25
    scale = scale / (variance * scale**2).mean().sqrt()
    return mean.float(), (axes * scale).T.float().contiguous()

"""The attention total-variation loss: neighbouring places of the worn garment should look at
neighbouring places of the flat one."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional as F

_WEIGHT = 0.001
_KEY_LIMITS = (700, 3000)
_WATCHED = (1, 4, 7)

WarpAttention = Callable[[int, Tensor, Tensor], None]


class WarpLoss:
    """Collects the loss while the UNet runs: pass `watch` as its `on_warp`.

    Args:
        garment_mask: 1 on the worn garment, in pixels, (B, 1, H, W).
        latent_size: Height and width of the latent.
        blocks: Numbers of the warp blocks that count; the paper watches 1, 4 and 7.
        key_limits: Only grids with more places than the first and fewer than the second count; at
            512x384 that is block 4 alone.

    Source: Kim et al. 2024 (StableVITON), section 3.3, as the reference has it.
    """

    def __init__(
        self,
        garment_mask: Tensor,
        latent_size: tuple[int, int],
        *,
        blocks: tuple[int, ...] = _WATCHED,
        key_limits: tuple[int, int] = _KEY_LIMITS,
    ) -> None:
        self._mask, self._size = garment_mask, latent_size
        self._blocks, self._limits = blocks, key_limits
        self.terms: list[Tensor] = []

    def watch(self, number: int, q: Tensor, k: Tensor) -> None:
        """See one warp block's queries and keys, (B, H, M, K) each."""
        low, high = self._limits
        if number in self._blocks and low < k.shape[2] < high:
            grid = _grid_of(k.shape[2], self._size)
            rows, columns = _expected_places(q, k, grid)
            mask = _garment_on_grid(self._mask, self._size, grid)
            self.terms.append(_WEIGHT * total_variation(rows, columns, mask))

    def total(self) -> Tensor:
        """The sum over the blocks seen so far, ()."""
        if not self.terms:
            return self._mask.new_zeros(())
        return torch.stack(self.terms).sum()


def total_variation(rows: Tensor, columns: Tensor, mask: Tensor) -> Tensor:
    """Mean change of the place looked at between neighbours below and beside each other.

    Args:
        rows: Expected row, (B, h, w).
        columns: Expected column, (B, h, w).
        mask: True on the garment, (B, h, w); a pair counts when both are.

    Returns:
        Sum of both means, (); pairs are pooled over the batch.
    """
    total = rows.new_zeros(())
    for axis in (1, 2):
        size = mask.shape[axis]
        both = mask.narrow(axis, 1, size - 1) & mask.narrow(axis, 0, size - 1)
        change = sum(
            ((m.narrow(axis, 1, size - 1) - m.narrow(axis, 0, size - 1)).abs() * both).sum()
            for m in (rows, columns)
        )
        total = total + change / both.sum().clamp(min=1)
    return total


def _expected_places(q: Tensor, k: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Where each query looks on average, rows and columns, (B, h, w) each."""
    height, width = grid
    weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5, dim=-1).mean(dim=1)
    weights = weights.reshape(len(weights), -1, height, width)  # (B, M, h, w)
    down = torch.arange(height, device=q.device, dtype=weights.dtype)
    across = torch.arange(width, device=q.device, dtype=weights.dtype)
    rows = (weights.sum(dim=3) * down).sum(dim=2)
    columns = (weights.sum(dim=2) * across).sum(dim=2)
    shape = (len(weights), height, width)
    return rows.reshape(shape), columns.reshape(shape)


def _grid_of(places: int, latent_size: tuple[int, int]) -> tuple[int, int]:
    height, width = latent_size
    while height * width > places:
        height, width = height // 2, width // 2
    return height, width


def _garment_on_grid(mask: Tensor, latent_size: tuple[int, int], grid: tuple[int, int]) -> Tensor:
    """The reference's way: to the latent, inverted, to the grid, thresholded, inverted back."""
    outside = 1.0 - F.interpolate(mask, latent_size, mode="nearest")
    outside = F.interpolate(outside, grid, mode="nearest") >= 0.5
    return ~outside[:, 0]

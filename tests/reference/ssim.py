"""Structural similarity pixel by pixel."""

from __future__ import annotations

import math

from torch import Tensor


def slow_ssim(first: Tensor, second: Tensor, mask: Tensor) -> float:
    """Of one picture, (H, W, 3), inside a mask, (H, W)."""
    height, width = mask.shape
    weights = [math.exp(-(d * d) / (2 * 1.5**2)) for d in range(-5, 6)]
    total = sum(weights)
    weights = [w / total for w in weights]

    def mirrored(at: int, size: int) -> int:
        return -at if at < 0 else 2 * (size - 1) - at if at >= size else at

    values: list[float] = []
    for y in range(height):
        for x in range(width):
            if float(mask[y, x]) <= 0.5:
                continue
            for c in range(3):
                sums = [0.0] * 5
                for i in range(11):
                    for j in range(11):
                        weight = weights[i] * weights[j]
                        row, column = mirrored(y + i - 5, height), mirrored(x + j - 5, width)
                        a, b = float(first[row, column, c]), float(second[row, column, c])
                        terms = (a, b, a * a, b * b, a * b)
                        sums = [s + weight * t for s, t in zip(sums, terms, strict=True)]
                a, b, aa, bb, ab = sums
                top = (2 * a * b + 0.01**2) * (2 * (ab - a * b) + 0.03**2)
                values.append(
                    top / ((a * a + b * b + 0.01**2) * (aa - a * a + bb - b * b + 0.03**2))
                )
    return sum(values) / len(values)

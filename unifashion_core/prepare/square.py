"""Squares of a picture, turned or not, as the networks take them, and the way back."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch import Tensor

from ..imaging import to_tensor


@dataclass(frozen=True)
class Square:
    """A square region of a picture; it may reach beyond its edges.

    Attributes:
        x: Of its centre, in the picture's pixels.
        y: Of its centre.
        side: Its side.
        turn: Radians by which its upper side is turned clockwise, as seen.
    """

    x: float
    y: float
    side: float
    turn: float = 0.0

    @classmethod
    def around(cls, size: tuple[int, int]) -> Square:
        """The smallest one that holds a picture of this width and height."""
        width, height = size
        return cls(width / 2, height / 2, float(max(width, height)))

    def cut(self, image: Image.Image, side: int) -> Tensor:
        """The region, scaled: (1, 3, side, side) in 0..1, black beyond the picture."""
        reach = self.side / 2 * (abs(math.cos(self.turn)) + abs(math.sin(self.turn)))
        left, top = max(0, math.floor(self.x - reach)), max(0, math.floor(self.y - reach))
        right = min(image.width, math.ceil(self.x + reach))
        bottom = min(image.height, math.ceil(self.y + reach))
        if right <= left or bottom <= top:
            return torch.zeros(1, 3, side, side)
        # Whole factors by averages; less than 2 remains for the bilinear step.
        factor = max(1, int(self.side / side))
        source = image.reduce(factor, (left, top, right, bottom))
        step = self.side / side / factor
        along, across = step * math.cos(self.turn), step * math.sin(self.turn)
        x, y = (self.x - left) / factor, (self.y - top) / factor
        half = side / 2
        affine = (
            along, -across, x - half * (along - across),
            across, along, y - half * (across + along),
        )  # fmt: skip
        cut = source.transform(
            (side, side), Image.Transform.AFFINE, affine, Image.Resampling.BILINEAR
        )
        return to_tensor(cut).permute(2, 0, 1)[None]

    def to_picture(self, points: Tensor) -> Tensor:
        """Points (..., 2) in 0..1 of the square, as pixels of the picture."""
        x, y = (points - 0.5).unbind(-1)
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return torch.stack(
            (self.x + self.side * (x * cos - y * sin), self.y + self.side * (x * sin + y * cos)), -1
        )

    def from_picture(self, points: Tensor) -> Tensor:
        """The other way round."""
        x, y = ((points - torch.tensor([self.x, self.y])) / self.side).unbind(-1)
        cos, sin = math.cos(self.turn), math.sin(self.turn)
        return torch.stack((x * cos + y * sin, y * cos - x * sin), -1) + 0.5


def numbers(tensor: Tensor) -> list[float]:
    """A tensor's values in a row."""
    values: Any = tensor.flatten()
    return values.tolist()

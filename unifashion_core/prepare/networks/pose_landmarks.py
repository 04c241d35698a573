"""MediaPipe's pose landmarks (BlazePose GHUM), the lite and the full form.

The file's 3D "world" landmarks are left out: nothing here needs them.

Source: pose_landmark_lite.tflite and pose_landmark_full.tflite of npm @mediapipe/pose
0.5.1675469404 (Apache-2.0); Bazarevsky et al. 2020.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Conv, Depthwise, Trunk, enlarge

LANDMARKS_SIDE = 256
LANDMARKS = 39
"""33 of the body, two for the next region, four of no use here."""


@dataclass(frozen=True)
class PoseConfig:
    """The widths in which the two forms differ.

    Attributes:
        stem: Channels at half the side.
        widths: Of the trunk's stages.
        lateral: Of the maps that the heatmaps are made of.
        regress: Of the maps that the landmarks are read from.
        repeats: Residual blocks at a 64th and at a 128th of the side.
    """

    stem: int
    widths: tuple[int, int, int, int, int]
    lateral: int
    regress: int
    repeats: tuple[int, int]


POSE_LITE = PoseConfig(8, (16, 24, 40, 56, 96), 32, 192, (2, 3))
POSE_FULL = PoseConfig(16, (24, 32, 64, 88, 144), 48, 288, (4, 5))


class PoseOutput(NamedTuple):
    """What the network says of one square.

    Attributes:
        landmarks: x, y, z in pixels of the square, then logits of visibility and presence,
            (B, 39, 5).
        presence: Probability that the square holds a pose, (B,).
        heatmaps: Logits, (B, 39, 64, 64).
        person: Logits of the person's mask, (B, 256, 256).
    """

    landmarks: Tensor
    presence: Tensor
    heatmaps: Tensor
    person: Tensor


class PoseLandmarks(nn.Module):
    """Pixels (B, 3, 256, 256) in 0..1, a square around an upright person, to `PoseOutput`."""

    def __init__(self, config: PoseConfig) -> None:
        super().__init__()
        stem, width, wide = config.stem, config.lateral, config.widths[-1] * 6
        self.trunk = Trunk(stem, config.widths)
        self.lateral_half = _Separable(stem, 8)
        self.lateral_quarter = _Separable(config.widths[0], width)
        self.lateral_eighth = _Separable(config.widths[1], width)
        self.lateral_sixteenth = _Separable(config.widths[3], width)
        self.up = _Separable(wide, width)
        self.up_half = _Separable(width, 8)
        self.mix_half = nn.Sequential(_Separable(8, 8), _Separable(8, 8))
        self.mix_whole = nn.Sequential(_Separable(8, 8), _Separable(8, 8))
        self.person = Conv(8, 1, 3)
        self.heatmaps = Conv(width, LANDMARKS)
        self.regress = nn.Sequential(_Separable(wide, config.regress))
        for repeats in config.repeats:
            self.regress.append(_Shrink(config.regress))
            for _ in range(repeats):
                self.regress.append(_Separable(config.regress, config.regress))
        self.landmarks = Conv(config.regress, LANDMARKS * 5, 2, pad=False)
        self.presence = Conv(config.regress, 1, 2, pad=False)

    def forward(self, pixels: Tensor) -> PoseOutput:
        x = pixels.contiguous(memory_format=torch.channels_last)
        half, quarter, eighth, sixteenth, last = self.trunk(x)
        x = enlarge(self.up(last)) + self.lateral_sixteenth(sixteenth)
        x = enlarge(x) + self.lateral_eighth(eighth)
        shared = enlarge(x) + self.lateral_quarter(quarter)
        x = self.mix_half(enlarge(self.up_half(shared)) + self.lateral_half(half))
        person = self.person(self.mix_whole(enlarge(x)))
        read = self.regress(last)  # (B, C, 2, 2)
        return PoseOutput(
            self.landmarks(read).reshape(-1, LANDMARKS, 5),
            self.presence(read).reshape(-1).sigmoid(),
            self.heatmaps(shared),
            person.squeeze(1),
        )


class _Separable(nn.Module):
    """Filter each channel, then mix them; a residual where the width stays."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.depthwise = Depthwise(in_width, 3)
        self.pointwise = Conv(in_width, width)
        self.residual = in_width == width

    def forward(self, x: Tensor) -> Tensor:
        y = self.pointwise(F.relu6(self.depthwise(x), inplace=True))
        return F.relu6(x + y if self.residual else y, inplace=True)


class _Shrink(nn.Module):
    """Half the side, beside the largest of each 2x2 places."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.depthwise = Depthwise(width, 3, stride=2, same=True)
        self.pointwise = Conv(width, width)

    def forward(self, x: Tensor) -> Tensor:
        y = self.pointwise(F.relu6(self.depthwise(x), inplace=True))
        return F.relu6(F.max_pool2d(x, 2) + y, inplace=True)

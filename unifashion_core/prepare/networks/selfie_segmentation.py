"""MediaPipe's selfie segmentation: the mask of persons.

Source: selfie_segmentation.tflite of npm @mediapipe/selfie_segmentation 0.1.1675465747
(Apache-2.0); the trunk is MobileNetV3's, the head LR-ASPP (Howard et al. 2019).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Conv, Depthwise, enlarge

SELFIE_SIDE = 256


class SelfieSegmentation(nn.Module):
    """Pixels (B, 3, 256, 256) in 0..1 to the persons' mask (B, 256, 256) in 0..1."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = Conv(3, 16, 3, stride=2, same=True)
        self.quarter = _Block(16, 16, 16, kernel=3, stride=2, squeeze=8)
        self.eighth = nn.Sequential(
            _Block(16, 72, 24, kernel=3, stride=2), _Block(24, 88, 24, kernel=3)
        )
        self.sixteenth = nn.Sequential(
            _Block(24, 96, 32, kernel=5, stride=2, squeeze=24),
            _Block(32, 128, 32, kernel=5, squeeze=32),
            _Block(32, 128, 32, kernel=5, squeeze=32),
            _Block(32, 96, 32, kernel=5, squeeze=24),
            _Block(32, 96, 32, kernel=5, squeeze=24),
        )
        self.head = Conv(32, 128)
        self.head_gate = Conv(32, 128)
        self.up_eighth = _Up(128, 24)
        self.up_quarter = _Up(24, 16)
        self.up_half = _Up(16, 16)
        self.mask = nn.ConvTranspose2d(  # pyright: ignore[reportUnknownMemberType] - device untyped
            16, 1, 2, stride=2
        )

    def forward(self, pixels: Tensor) -> Tensor:
        x = pixels.contiguous(memory_format=torch.channels_last)
        half = F.hardswish(self.stem(x))
        quarter = self.quarter(half)
        eighth = self.eighth(quarter)
        x = self.sixteenth(eighth)
        x = F.relu(self.head(x)) * self.head_gate(_mean(x)).sigmoid()
        x = self.up_eighth(x, eighth)
        x = self.up_quarter(x, quarter)
        x = self.up_half(x, half)
        return self.mask(x).squeeze(1).sigmoid()


class _Block(nn.Module):
    """Expand, filter each channel, gate the channels by their means, project back. At 3x3 with
    ReLU, at 5x5 with hard swish.
    """

    def __init__(
        self,
        in_width: int,
        wide: int,
        width: int,
        *,
        kernel: int,
        stride: int = 1,
        squeeze: int = 0,
    ) -> None:
        super().__init__()
        self.activation = F.relu if kernel == 3 else F.hardswish
        self.expand = Conv(in_width, wide)
        self.depthwise = Depthwise(wide, kernel, stride=stride, same=True)
        self.gate = _Gate(wide, squeeze) if squeeze else None
        self.project = Conv(wide, width)
        self.residual = stride == 1 and in_width == width

    def forward(self, x: Tensor) -> Tensor:
        y = self.activation(self.depthwise(self.activation(self.expand(x))))
        if self.gate is not None:
            y = y * self.gate(y)
        y = self.project(y)
        return x + y if self.residual else y


class _Gate(nn.Module):
    """A weight in 0..1 for each channel, from the means of all."""

    def __init__(self, width: int, squeeze: int) -> None:
        super().__init__()
        self.down = Conv(width, squeeze)
        self.up = Conv(squeeze, width)

    def forward(self, x: Tensor) -> Tensor:
        return self.up(F.relu(self.down(_mean(x)))).sigmoid()


class _Up(nn.Module):
    """Twice the side, joined with the gated map that the trunk had there."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.reduce = Conv(in_width, width)
        self.gate = _Gate(width, width)
        self.mix = Conv(width, width)
        self.depthwise = Depthwise(width, 3)

    def forward(self, x: Tensor, skip: Tensor) -> Tensor:
        x = self.reduce(enlarge(x))
        x = F.relu(self.mix(skip * self.gate(skip + x) + x))
        return x + F.relu(self.depthwise(x))


def _mean(x: Tensor) -> Tensor:
    return x.mean((2, 3), keepdim=True)

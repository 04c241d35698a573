"""MediaPipe's person detector: boxes, four key points each, and scores for 2,254 anchors.

Source: pose_solution_packed_assets.data of npm @mediapipe/pose 0.5.1675469404 (Apache-2.0).
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .layers import Conv, Depthwise, Trunk, enlarge

DETECTOR_SIDE = 224
ANCHOR_GRIDS = ((28, 2), (14, 2), (7, 6))
"""Places a side, and anchors a place, in the order of the outputs."""


class PersonDetector(nn.Module):
    """Pixels (B, 3, 224, 224) in -1..1 to boxes (B, 2254, 12) and score logits (B, 2254).

    A box is centre x, y, width, height, then x, y of mid hip, full-body circle, mid shoulder and
    upper-body circle, in pixels from its anchor.
    """

    def __init__(self) -> None:
        super().__init__()
        self.trunk = Trunk(16, (24, 40, 80, 112, 192))
        self.lateral_eighth = _Separable(40, 96)
        self.lateral_sixteenth = _Separable(112, 192)
        self.up_sixteenth = Conv(1152, 192)
        self.mix_sixteenth = nn.Sequential(_Residual(192), _Residual(192))
        self.up_eighth = Conv(192, 96)
        self.mix_eighth = nn.Sequential(_Residual(96), _Residual(96))
        self.heads = nn.ModuleList(
            [_Head(24, anchors=2), _Head(48, anchors=2), _Head(288, anchors=6)]
        )

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        x = pixels.contiguous(memory_format=torch.channels_last)
        _, _, eighth, sixteenth, last = self.trunk(x)
        low = self.lateral_sixteenth(sixteenth)
        low = self.mix_sixteenth(low + F.relu6(self.up_sixteenth(enlarge(last))))
        high = self.lateral_eighth(eighth)
        high = self.mix_eighth(high + F.relu6(self.up_eighth(enlarge(low))))
        found = [head(_spread(x)) for head, x in zip(self.heads, (high, low, last), strict=True)]
        return torch.cat([boxes for boxes, _ in found], 1), torch.cat([s for _, s in found], 1)


class _Separable(nn.Module):
    """Filter each channel, then mix them."""

    def __init__(self, in_width: int, width: int) -> None:
        super().__init__()
        self.depthwise = Depthwise(in_width, 3)
        self.pointwise = Conv(in_width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(self.pointwise(self.depthwise(x)))


class _Residual(_Separable):
    """The same, added to what came in before the activation."""

    def __init__(self, width: int) -> None:
        super().__init__(width, width)

    def forward(self, x: Tensor) -> Tensor:
        return F.relu6(x + self.pointwise(self.depthwise(x)))


class _Head(nn.Module):
    def __init__(self, width: int, *, anchors: int) -> None:
        super().__init__()
        self.score_depthwise = Depthwise(width, 3, stride=2)
        self.score = Conv(width, anchors)
        self.box_depthwise = Depthwise(width, 3, stride=2)
        self.box = Conv(width, anchors * 12)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        boxes, scores = self.box(self.box_depthwise(x)), self.score(self.score_depthwise(x))
        # (B, A*12, h, w) -> (B, h*w*A, 12); (B, A, h, w) -> (B, h*w*A)
        return boxes.permute(0, 2, 3, 1).reshape(len(x), -1, 12), scores.permute(
            0, 2, 3, 1
        ).reshape(len(x), -1)


def _spread(x: Tensor) -> Tensor:
    """Each place's channels as 2x2 places (TensorFlow's depth_to_space): (B, 4C, h, w) ->
    (B, C, 2h, 2w).
    """
    batch, wide, height, width = x.shape
    x = x.reshape(batch, 2, 2, wide // 4, height, width)
    x = x.permute(0, 3, 4, 1, 5, 2)  # (B, C, h, 2, w, 2)
    x = x.reshape(batch, wide // 4, height * 2, width * 2)
    return x.contiguous(memory_format=torch.channels_last)

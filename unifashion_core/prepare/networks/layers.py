"""What MediaPipe's networks are built of: convolutions with their paddings, and the trunk that the
person detector and the pose landmarks share.

Source: graphs of npm @mediapipe/pose 0.5.1675469404 (Apache-2.0), read op by op.
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F


class Conv(nn.Conv2d):
    """A convolution padded by half its kernel; with `same`, as TensorFlow pads a stride: the odd
    pixel goes right and below.
    """

    def __init__(
        self,
        in_width: int,
        out_width: int,
        kernel: int = 1,
        *,
        stride: int = 1,
        same: bool = False,
        pad: bool = True,
    ) -> None:
        self.same = same and stride > 1
        padding = kernel // 2 if pad and not self.same else 0
        super().__init__(  # pyright: ignore[reportUnknownMemberType] - torch leaves device untyped
            in_width, out_width, kernel, stride, padding, groups=self._groups(in_width)
        )

    def _groups(self, width: int) -> int:
        return 1

    def forward(self, input: Tensor) -> Tensor:
        """(B, C, H, W) -> (B, C', H', W')."""
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel == 1:  # over channels last, a matrix product
            places = input.permute(0, 2, 3, 1)  # (B, H, W, C)
            return F.linear(places, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        if self.same:  # sides are multiples of the stride
            total = kernel - stride
            input = F.pad(input, [total // 2, total - total // 2] * 2)
        return super().forward(input)


class Depthwise(Conv):
    """One filter a channel."""

    def __init__(self, width: int, kernel: int, *, stride: int = 1, same: bool = False) -> None:
        super().__init__(width, width, kernel, stride=stride, same=same)

    def _groups(self, width: int) -> int:
        return width


def enlarge(x: Tensor, factor: int = 2) -> Tensor:
    """Bilinear, pixel centres kept (TensorFlow's half_pixel_centers)."""
    return F.interpolate(x, scale_factor=float(factor), mode="bilinear", align_corners=False)


class Inverted(nn.Module):
    """Expand, filter each channel, project back; a residual where the shape allows."""

    def __init__(self, in_width: int, width: int, *, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = in_width * expansion
        self.expand = Conv(in_width, wide)
        self.depthwise = Depthwise(wide, kernel, stride=stride)
        self.project = Conv(wide, width)
        self.residual = stride == 1 and in_width == width

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.residual else y


class Trunk(nn.Module):
    """An EfficientNet-like trunk with a stem's width and the widths of its five stages.

    Gives the maps of a half, a quarter, an eighth and a 16th of the side (the last ones of their
    size), and the wide one of a 32nd.
    """

    def __init__(self, stem: int, widths: tuple[int, int, int, int, int]) -> None:
        super().__init__()
        self.stem = Conv(3, 24, 3, stride=2)
        self.stem_depthwise = Depthwise(24, 3)
        self.stem_project = Conv(24, stem)
        # Repeats, kernel, stride of each stage.
        stages = ((2, 3, 2), (2, 5, 2), (3, 3, 2), (3, 5, 1), (4, 5, 2))
        self.stages = nn.ModuleList()
        before = stem
        for number, (width, (repeats, kernel, stride)) in enumerate(
            zip(widths, stages, strict=True)
        ):
            blocks = nn.Sequential()
            for i in range(repeats):
                expansion = 4 if number == 0 and i == 0 else 6
                step = stride if i == 0 else 1
                blocks.append(
                    Inverted(before, width, kernel=kernel, stride=step, expansion=expansion)
                )
                before = width
            self.stages.append(blocks)
        self.expand = Conv(before, before * 6)
        self.depthwise = Depthwise(before * 6, 3)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
        x = F.relu6(self.stem(pixels), inplace=True)
        half = self.stem_project(F.relu6(self.stem_depthwise(x), inplace=True))
        quarter = self.stages[0](half)
        eighth = self.stages[1](quarter)
        sixteenth = self.stages[3](self.stages[2](eighth))
        x = F.relu6(self.expand(self.stages[4](sixteenth)), inplace=True)
        return half, quarter, eighth, sixteenth, F.relu6(self.depthwise(x), inplace=True)

"""EfficientNet-Lite0 without its classifier, the pocket encoder's frozen tower. BatchNorm is folded
into the convolutions.

Not for training: the statistics are fixed.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..errors import CheckpointError, ShapeError

LITE0_MEAN = (127 / 255, 127 / 255, 127 / 255)
LITE0_STD = (128 / 255, 128 / 255, 128 / 255)
"""Normalisation of values in 0..1.

Source: tensorflow/tpu, models/official/efficientnet/lite/efficientnet_lite_builder.py (Apache-2.0):
MEAN_RGB 127, STDDEV_RGB 128. The package's own page repeats the ImageNet numbers of the B models,
which do not fit these weights: on photos the variances after the first convolution are 0.85 of the
stored BatchNorm statistics with 127 / 128, and 4.2 times them with ImageNet's.
"""

HEAD_WIDTH = 1280
_NORM_EPS = 1e-3  # the package's batch_norm_epsilon
_AT_ONCE = 4  # images on a processor: the wide maps of more don't stay in its cache
_STEM_WIDTH = 32


@dataclass(frozen=True)
class _Stage:
    repeats: int
    kernel: int
    stride: int
    expansion: int
    width: int


# Source: Tan and Le 2019 (EfficientNet), table 1; Lite drops squeeze-and-excitation and uses ReLU6.
_STAGES = (
    _Stage(1, 3, 1, 1, 16),
    _Stage(2, 3, 2, 6, 24),
    _Stage(2, 5, 2, 6, 40),
    _Stage(3, 3, 2, 6, 80),
    _Stage(3, 5, 1, 6, 112),
    _Stage(4, 5, 2, 6, 192),
    _Stage(1, 3, 1, 6, 320),
)
# The stem's map, and of each stage before a down-sampling the last one: they carry colour and
# texture.
_LOW_STAGES = (0, 1, 2, 4)
LOW_WIDTH = _STEM_WIDTH + sum(_STAGES[i].width for i in _LOW_STAGES)
LITE0_WIDTH = HEAD_WIDTH + LOW_WIDTH
"""Channels of a tower token: 1280 of the head map, then 32 + 16 + 24 + 40 + 112 of the low maps."""


class EfficientNetLite0(nn.Module):
    """The tower: one token a place of the head map, and a pooled feature.

    Source: github lukemelas/EfficientNet-PyTorch by way of PyPI efficientnet-lite-pytorch 0.1.0
    (Apache-2.0), re-written.
    """

    def __init__(self) -> None:
        super().__init__()
        self.stem = _Conv(3, _STEM_WIDTH, 3, stride=2)
        blocks: list[_Block] = []
        width = _STEM_WIDTH
        self._low_blocks: list[int] = []
        for number, stage in enumerate(_STAGES):
            for repeat in range(stage.repeats):
                blocks.append(_Block(width, stage, stride=stage.stride if repeat == 0 else 1))
                width = stage.width
            if number in _LOW_STAGES:
                self._low_blocks.append(len(blocks) - 1)
        self.blocks = nn.ModuleList(blocks)
        self.head = _Conv(width, HEAD_WIDTH, 1)

    def forward(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """Encode images.

        Args:
            pixels: (B, 3, H, W), normalised with `LITE0_MEAN` and `LITE0_STD`; 224 is what it was
                trained on.

        Returns:
            Tokens (B, h*w, `LITE0_WIDTH`), row by row, h = H/32 rounded up (7x7 at 224), and the
            pooled feature (B, `HEAD_WIDTH`).

        Raises:
            ShapeError: If the input is no batch of three-channel images.
        """
        if pixels.ndim != 4 or pixels.shape[1] != 3:
            raise ShapeError(
                f"EfficientNet-Lite0: pixels are {tuple(pixels.shape)}, wanted (B, 3, H, W). "
                "Preprocess the images with this encoder's own settings."
            )
        # Channels last all through: the 1x1 convolutions are matrix products then, half the time.
        pixels = pixels.to(self.stem.weight.dtype).contiguous(memory_format=torch.channels_last)
        if pixels.device.type != "cpu" or len(pixels) <= _AT_ONCE:
            return self._encode(pixels)
        parts = [self._encode(pixels[at : at + _AT_ONCE]) for at in range(0, len(pixels), _AT_ONCE)]
        return torch.cat([tokens for tokens, _ in parts]), torch.cat([mean for _, mean in parts])

    def _encode(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        """`forward` of images that are computed together."""
        x = F.relu6(self.stem(pixels), inplace=True)
        low = [x]
        for i, block in enumerate(self.blocks):
            x = block(x)
            if i in self._low_blocks:
                low.append(x)
        head = F.relu6(self.head(x), inplace=True)
        grid = (head.shape[2], head.shape[3])
        maps = [head, *(F.adaptive_avg_pool2d(m, grid) for m in low)]
        tokens = torch.cat(maps, dim=1).flatten(2).transpose(1, 2)  # (B, C, h, w) -> (B, h*w, C)
        return tokens, head.mean(dim=(2, 3))


class _Conv(nn.Conv2d):
    """A convolution with TensorFlow's SAME padding: the odd pixel goes right and below."""

    def __init__(
        self, in_width: int, out_width: int, kernel: int, *, stride: int = 1, groups: int = 1
    ) -> None:
        # At stride 1 an odd kernel pads both sides alike, which the convolution does itself.
        padding = kernel // 2 if stride == 1 else 0
        super().__init__(  # pyright: ignore[reportUnknownMemberType] - torch leaves device untyped
            in_width, out_width, kernel, stride, padding, groups=groups
        )

    def forward(self, input: Tensor) -> Tensor:
        kernel, stride = self.kernel_size[0], self.stride[0]
        if kernel == 1:
            places = input.permute(0, 2, 3, 1)  # (B, H, W, C)
            return F.linear(places, self.weight.flatten(1), self.bias).permute(0, 3, 1, 2)
        if stride == 2 and input.shape[-2] % 2 == 0 and input.shape[-1] % 2 == 0:
            # A row and a column of zeros in front of the kernel make both sides' padding alike, so
            # that the convolution does it: padding first would copy the widest maps.
            even = F.pad(self.weight, (1, 0, 1, 0))
            return F.conv2d(input, even, self.bias, stride, kernel // 2, groups=self.groups)
        if stride > 1:
            pads: list[int] = []
            for side in (input.shape[-1], input.shape[-2]):
                total = max((-(-side // stride) - 1) * stride + kernel - side, 0)
                pads += [total // 2, total - total // 2]
            input = F.pad(input, pads)
        return super().forward(input)


class _Block(nn.Module):
    """Expand, filter each channel, project back; a residual where the shape allows."""

    def __init__(self, in_width: int, stage: _Stage, *, stride: int) -> None:
        super().__init__()
        wide = in_width * stage.expansion
        self.expand = _Conv(in_width, wide, 1) if stage.expansion != 1 else None
        self.depthwise = _Conv(wide, wide, stage.kernel, stride=stride, groups=wide)
        self.project = _Conv(wide, stage.width, 1)
        self.residual = stride == 1 and in_width == stage.width

    def forward(self, x: Tensor) -> Tensor:
        y = x if self.expand is None else F.relu6(self.expand(x), inplace=True)
        y = self.project(F.relu6(self.depthwise(y), inplace=True))
        return x + y if self.residual else y


def convert_lite0(state: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Weights of the package efficientnet-lite-pytorch under our names, BatchNorm folded.

    Args:
        state: Its "efficientnet-lite0" state dict; the classifier is left out.

    Returns:
        `EfficientNetLite0`'s state dict, float32.

    Raises:
        CheckpointError: If a tensor is missing or has another shape.
    """
    pairs = [("_conv_stem", "_bn0", "stem"), ("_conv_head", "_bn1", "head")]
    for i in range(sum(stage.repeats for stage in _STAGES)):
        old, new = f"_blocks.{i}.", f"blocks.{i}."
        if f"{old}_expand_conv.weight" in state:
            pairs.append((f"{old}_expand_conv", f"{old}_bn0", f"{new}expand"))
        pairs.append((f"{old}_depthwise_conv", f"{old}_bn1", f"{new}depthwise"))
        pairs.append((f"{old}_project_conv", f"{old}_bn2", f"{new}project"))
    converted: dict[str, Tensor] = {}
    try:
        for conv, norm, name in pairs:
            weight, bias = _fold(state, conv, norm)
            converted[f"{name}.weight"], converted[f"{name}.bias"] = weight, bias
        EfficientNetLite0().load_state_dict(converted)
    except (KeyError, RuntimeError) as e:
        raise CheckpointError(
            f"EfficientNet-Lite0: the weights do not fit ({e}). "
            "Give the state dict of efficientnet-lite-pytorch's 'efficientnet-lite0'."
        ) from e
    return converted


def _fold(state: Mapping[str, Tensor], conv: str, norm: str) -> tuple[Tensor, Tensor]:
    """A bias-free convolution and the norm after it as one convolution."""
    variance = state[f"{norm}.running_var"].double()
    scale = state[f"{norm}.weight"].double() / (variance + _NORM_EPS).sqrt()
    weight = state[f"{conv}.weight"].double() * scale[:, None, None, None]
    bias = state[f"{norm}.bias"].double() - state[f"{norm}.running_mean"].double() * scale
    return weight.float(), bias.float()

"""The KL autoencoder between pictures and latents. Key names are the original checkpoint's."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import AttentionBackend
from ..errors import ShapeError
from .config import AutoencoderConfig

_EPS = 1e-6
_LOGVAR_LIMITS = (-30.0, 20.0)


@dataclass(frozen=True)
class Posterior:
    """What the encoder says of a picture: a Gaussian a place.

    Attributes:
        mean: (B, z, h, w), unscaled.
        logvar: (B, z, h, w).
    """

    mean: Tensor
    logvar: Tensor

    def sample(self, noise: Tensor) -> Tensor:
        """A draw, (B, z, h, w).

        Args:
            noise: Standard normal, (B, z, h, w).
        """
        return self.mean + torch.exp(0.5 * self.logvar) * noise


class Autoencoder(nn.Module):
    """Encoder, decoder and the 1x1 convolutions around the latent.

    Source: Rombach et al. 2022, appendix E.1.1 (autoencoder of f = 8, KL regularised).
    """

    def __init__(self, config: AutoencoderConfig, attention: AttentionBackend) -> None:
        super().__init__()
        self.config = config
        z = config.latent_channels
        self.encoder = _Encoder(config, attention)
        self.decoder = _Decoder(config, attention)
        self.quant_conv = nn.Conv2d(2 * z, 2 * z, 1)
        self.post_quant_conv = nn.Conv2d(z, z, 1)

    def encode(self, pixels: Tensor) -> Posterior:
        """Pictures in [-1, 1], (B, 3, H, W), to Gaussians over latents.

        Raises:
            ShapeError: If the sides are no multiples of the factor.
        """
        factor = self.config.factor
        if any(side % factor for side in pixels.shape[2:]):
            raise ShapeError(
                f"autoencoder: a picture of {tuple(pixels.shape[2:])} pixels, wanted multiples of "
                f"{factor}. Fit it to the model first."
            )
        mean, logvar = self.quant_conv(self.encoder(pixels)).chunk(2, dim=1)
        return Posterior(mean, logvar.clamp(*_LOGVAR_LIMITS))

    def decode(self, latents: Tensor) -> Tensor:
        """Unscaled latents, (B, z, h, w), to pictures, about [-1, 1], (B, 3, H, W)."""
        return self.decoder(self.post_quant_conv(latents))


def _norm(groups: int, width: int) -> nn.GroupNorm:
    return nn.GroupNorm(groups, width, eps=_EPS)


class _ResBlock(nn.Module):
    def __init__(self, in_width: int, out_width: int, groups: int) -> None:
        super().__init__()
        self.norm1 = _norm(groups, in_width)
        self.conv1 = nn.Conv2d(in_width, out_width, 3, padding=1)
        self.norm2 = _norm(groups, out_width)
        self.conv2 = nn.Conv2d(out_width, out_width, 3, padding=1)
        if in_width != out_width:
            self.nin_shortcut = nn.Conv2d(in_width, out_width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return h + (self.nin_shortcut(x) if hasattr(self, "nin_shortcut") else x)


class _Attention(nn.Module):
    """One head over all places."""

    def __init__(self, width: int, groups: int, attention: AttentionBackend) -> None:
        super().__init__()
        self._attention = attention
        self.norm = _norm(groups, width)
        self.q, self.k, self.v = (nn.Conv2d(width, width, 1) for _ in range(3))
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(self, x: Tensor) -> Tensor:
        h = self.norm(x)
        # (B, C, h, w) -> (B, 1, h*w, C)
        q, k, v = (m(h).flatten(2).transpose(1, 2)[:, None] for m in (self.q, self.k, self.v))
        places = self._attention(q, k, v)[:, 0].transpose(1, 2)  # (B, C, h*w)
        return x + self.proj_out(places.reshape(x.shape))


class _Downsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        # The reference pads right and below only.
        return self.conv(F.pad(x, (0, 1, 0, 1)))


class _Upsample(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class _Middle(nn.Module):
    def __init__(self, width: int, groups: int, attention: AttentionBackend) -> None:
        super().__init__()
        self.block_1 = _ResBlock(width, width, groups)
        self.attn_1 = _Attention(width, groups, attention)
        self.block_2 = _ResBlock(width, width, groups)

    def forward(self, x: Tensor) -> Tensor:
        return self.block_2(self.attn_1(self.block_1(x)))


class _Level(nn.Module):
    """Residual blocks, then a change of size where there is one."""

    def __init__(self, in_width: int, width: int, count: int, groups: int) -> None:
        super().__init__()
        self.block = nn.ModuleList(
            [_ResBlock(in_width if i == 0 else width, width, groups) for i in range(count)]
        )

    def forward(self, x: Tensor) -> Tensor:
        for block in self.block:
            x = block(x)
        for name in ("downsample", "upsample"):
            if hasattr(self, name):
                x = getattr(self, name)(x)
        return x


class _Encoder(nn.Module):
    def __init__(self, config: AutoencoderConfig, attention: AttentionBackend) -> None:
        super().__init__()
        groups, width = config.norm_groups, config.channels
        self.conv_in = nn.Conv2d(3, width, 3, padding=1)
        levels: list[_Level] = []
        for i, mult in enumerate(config.channel_mult):
            level = _Level(width, config.channels * mult, config.num_res_blocks, groups)
            width = config.channels * mult
            if i + 1 < len(config.channel_mult):
                level.downsample = _Downsample(width)
            levels.append(level)
        self.down = nn.ModuleList(levels)
        self.mid = _Middle(width, groups, attention)
        self.norm_out = _norm(groups, width)
        self.conv_out = nn.Conv2d(width, 2 * config.latent_channels, 3, padding=1)

    def forward(self, pixels: Tensor) -> Tensor:
        h = self.conv_in(pixels)
        for level in self.down:
            h = level(h)
        return self.conv_out(F.silu(self.norm_out(self.mid(h))))


class _Decoder(nn.Module):
    def __init__(self, config: AutoencoderConfig, attention: AttentionBackend) -> None:
        super().__init__()
        groups, width = config.norm_groups, config.channels * config.channel_mult[-1]
        self.conv_in = nn.Conv2d(config.latent_channels, width, 3, padding=1)
        self.mid = _Middle(width, groups, attention)
        levels: list[_Level] = []
        for i, mult in reversed(list(enumerate(config.channel_mult))):
            level = _Level(width, config.channels * mult, config.num_res_blocks + 1, groups)
            width = config.channels * mult
            if i:
                level.upsample = _Upsample(width)
            levels.append(level)
        # Numbered from the largest map, walked from the smallest.
        self.up = nn.ModuleList(reversed(levels))
        self.norm_out = _norm(groups, width)
        self.conv_out = nn.Conv2d(width, 3, 3, padding=1)

    def forward(self, latents: Tensor) -> Tensor:
        h = self.mid(self.conv_in(latents))
        for number in range(len(self.up) - 1, -1, -1):
            h = self.up[number](h)
        return self.conv_out(F.silu(self.norm_out(h)))

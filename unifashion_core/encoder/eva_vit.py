"""EVA ViT-g/14, the vision tower of the paper's encoder: all tokens of its last block, without a
final norm.

Key names and numbers are the original checkpoint's. The real network has 40 blocks of which the
encoder uses 39.
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import AttentionBackend
from ..errors import ShapeError
from .config import TowerConfig


class EvaVit(nn.Module):
    """The tower: pixels to one token a patch plus the class token in front.

    Source: Fang et al. 2022 (EVA), section 2; the encoder's use of it as in BLIP-2, Li et al. 2023,
    section 3.1.
    """

    def __init__(self, config: TowerConfig, attention: AttentionBackend) -> None:
        super().__init__()
        self.config = config
        grid = config.image_size // config.patch_size
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, grid * grid + 1, config.width))
        self.patch_embed = _PatchEmbed(config)
        self.blocks = nn.ModuleList(_Block(config, attention) for _ in range(config.layers))

    def forward(self, pixels: Tensor) -> Tensor:
        """Encode images.

        Args:
            pixels: Normalised, (B, 3, S, S) with S = `config.image_size`.

        Returns:
            Tokens, (B, 1 + (S / patch)^2, width), the class token first.

        Raises:
            ShapeError: If the images have another size.
        """
        side = self.config.image_size
        if pixels.ndim != 4 or tuple(pixels.shape[1:]) != (3, side, side):
            raise ShapeError(
                f"EVA tower: pixels are {tuple(pixels.shape)}, wanted (B, 3, {side}, {side}). "
                "Preprocess the images with this encoder's own settings."
            )
        x = self.patch_embed(pixels.to(self.pos_embed.dtype))  # (B, P, W)
        x = torch.cat([self.cls_token.expand(x.shape[0], -1, -1), x], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        return x


class _PatchEmbed(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.proj = nn.Conv2d(3, config.width, config.patch_size, stride=config.patch_size)

    def forward(self, pixels: Tensor) -> Tensor:
        return self.proj(pixels).flatten(2).transpose(1, 2)  # (B, W, h, w) -> (B, h*w, W)


class _Block(nn.Module):
    def __init__(self, config: TowerConfig, attention: AttentionBackend) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.attn = _SelfAttention(config, attention)
        self.norm2 = nn.LayerNorm(config.width, eps=config.layer_norm_eps)
        self.mlp = _Mlp(config)

    def forward(self, x: Tensor) -> Tensor:
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _SelfAttention(nn.Module):
    """Attention whose keys have no bias: the checkpoint stores q's and v's alone."""

    def __init__(self, config: TowerConfig, attention: AttentionBackend) -> None:
        super().__init__()
        self.attention = attention
        self.heads = config.heads
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=False)
        self.q_bias = nn.Parameter(torch.zeros(config.width))
        self.v_bias = nn.Parameter(torch.zeros(config.width))
        self.proj = nn.Linear(config.width, config.width)

    def forward(self, x: Tensor) -> Tensor:
        batch, length, width = x.shape
        bias = torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        qkv = F.linear(x, self.qkv.weight, bias)
        qkv = qkv.view(batch, length, 3, self.heads, width // self.heads)
        q, k, v = qkv.permute(2, 0, 3, 1, 4).unbind(0)  # each (B, H, P, K)
        x = self.attention(q, k, v)
        return self.proj(x.transpose(1, 2).reshape(batch, length, width))


class _Mlp(nn.Module):
    def __init__(self, config: TowerConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.mlp_hidden)
        self.fc2 = nn.Linear(config.mlp_hidden, config.width)

    def forward(self, x: Tensor) -> Tensor:
        return self.fc2(F.gelu(self.fc1(x)))

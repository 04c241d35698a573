"""What UNet and garment encoder are made of. Key names are the original checkpoint's."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import AttentionBackend

OnAttention = Callable[[Tensor, Tensor], None]
"""Called with queries and keys of a cross-attention, (B, H, M, K) each."""

_TRANSFORMER_EPS = 1e-6


Places = tuple[Tensor, Tensor]
"""Embeddings of the places of queries, (M, width), and of keys, (N, context_width)."""


class SteadyContext:
    """Context tokens that stay as they are over many calls: each attention's keys and values of
    them are computed once. Not for training.

    Args:
        tokens: (B, N, context_dim).
    """

    def __init__(self, tokens: Tensor) -> None:
        self.tokens = tokens
        self._known: dict[nn.Module, tuple[Tensor, Tensor]] = {}

    def keys_and_values(
        self, owner: nn.Module, make: Callable[[Tensor], tuple[Tensor, Tensor]]
    ) -> tuple[Tensor, Tensor]:
        """Keys and values of an attention, made at its first call."""
        if owner not in self._known:
            self._known[owner] = make(self.tokens)
        return self._known[owner]


def place_embedding(height: int, width: int, channels: int, like: Tensor) -> Tensor:
    """Sines and cosines of each place's share of the height and of the width, row by row.

    Shares, not numbers: the same place of a larger grid has the same embedding.

    Args:
        height: Of the grid.
        width: Of the grid.
        channels: Of the embedding, a multiple of 4.
        like: Where and in what type it is needed.

    Returns:
        (height * width, channels), -1..1.

    Source: Dosovitskiy et al. 2021 (ViT), appendix D.4, with frequencies for shares.
    """
    count = channels // 4
    octaves = torch.linspace(0.0, 4.0, count, dtype=torch.float32, device=like.device)
    waves = math.pi * torch.pow(2.0, octaves)
    found: list[Tensor] = []
    for places in (height, width):
        shares = (torch.arange(places, dtype=torch.float32, device=like.device) + 0.5) / places
        angles = shares[:, None] * waves
        found.append(torch.cat([torch.sin(angles), torch.cos(angles)], dim=-1))
    rows = found[0][:, None].expand(height, width, 2 * count)
    columns = found[1][None].expand(height, width, 2 * count)
    return torch.cat([rows, columns], dim=-1).flatten(0, 1).to(like.dtype)


def timestep_embedding(timesteps: Tensor, width: int) -> Tensor:
    """Cosines and sines of a time step, (B,) -> (B, width), float32.

    Source: Vaswani et al. 2017, section 3.5, in the order that Stable Diffusion has them.
    """
    half = width // 2
    steps = torch.arange(half, dtype=torch.float32, device=timesteps.device)
    angles = timesteps[:, None].float() * torch.exp(-math.log(10000.0) * steps / half)
    embedded = torch.cat([torch.cos(angles), torch.sin(angles)], dim=-1)
    return F.pad(embedded, (0, 1)) if width % 2 else embedded


class ResBlock(nn.Module):
    """Two convolutions around the time step's shift, and a skip."""

    def __init__(self, in_width: int, out_width: int, time_width: int, groups: int) -> None:
        super().__init__()
        self.in_layers = nn.Sequential(
            nn.GroupNorm(groups, in_width), nn.SiLU(), nn.Conv2d(in_width, out_width, 3, padding=1)
        )
        self.emb_layers = nn.Sequential(nn.SiLU(), nn.Linear(time_width, out_width))
        self.out_layers = nn.Sequential(
            nn.GroupNorm(groups, out_width),
            nn.SiLU(),
            nn.Dropout(0.0),  # holds the place that the checkpoint's numbering has for it
            nn.Conv2d(out_width, out_width, 3, padding=1),
        )
        self.skip_connection = (
            nn.Identity() if in_width == out_width else nn.Conv2d(in_width, out_width, 1)
        )

    def forward(self, x: Tensor, time: Tensor) -> Tensor:
        """(B, in, h, w) and the time step's embedding (B, time_width) -> (B, out, h, w)."""
        h = self.in_layers(x) + self.emb_layers(time)[:, :, None, None]
        return self.skip_connection(x) + self.out_layers(h)


class CrossAttention(nn.Module):
    """Attention of tokens to a context, or to themselves."""

    def __init__(
        self, width: int, context_width: int, heads: int, attention: AttentionBackend
    ) -> None:
        super().__init__()
        self._heads, self._attention = heads, attention
        self.to_q = nn.Linear(width, width, bias=False)
        self.to_k = nn.Linear(context_width, width, bias=False)
        self.to_v = nn.Linear(context_width, width, bias=False)
        self.to_out = nn.ModuleList([nn.Linear(width, width)])

    def forward(
        self,
        x: Tensor,
        context: Tensor | SteadyContext | None = None,
        on_attention: OnAttention | None = None,
        places: Places | None = None,
    ) -> Tensor:
        """(B, M, width) and (B, N, context_width) -> (B, M, width)."""
        if isinstance(context, SteadyContext):
            q = self._split(self.to_q(x))
            k, v = context.keys_and_values(self, self._keys_and_values)
        else:
            context = x if context is None else context
            asked, keyed = (x, context) if places is None else (x + places[0], context + places[1])
            q, k, v = map(self._split, (self.to_q(asked), self.to_k(keyed), self.to_v(context)))
        if on_attention is not None:
            on_attention(q, k)
        attended = self._attention(q, k, v).transpose(1, 2).flatten(2)  # (B, H, M, K) -> (B, M, C)
        return self.to_out[0](attended)

    def _keys_and_values(self, context: Tensor) -> tuple[Tensor, Tensor]:
        return self._split(self.to_k(context)), self._split(self.to_v(context))

    def _split(self, x: Tensor) -> Tensor:
        batch, count, width = x.shape
        heads = x.reshape(batch, count, self._heads, width // self._heads)
        return heads.transpose(1, 2)  # (B, M, H, K) -> (B, H, M, K)


class _GatedProjection(nn.Module):
    def __init__(self, width: int, out_width: int) -> None:
        super().__init__()
        self.proj = nn.Linear(width, 2 * out_width)

    def forward(self, x: Tensor) -> Tensor:
        value, gate = self.proj(x).chunk(2, dim=-1)
        return value * F.gelu(gate)


class _FeedForward(nn.Module):
    def __init__(self, width: int) -> None:
        super().__init__()
        self.net = nn.Sequential(
            _GatedProjection(width, 4 * width), nn.Dropout(0.0), nn.Linear(4 * width, width)
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)


class TransformerBlock(nn.Module):
    """Self-attention, attention to the context, gated feed-forward."""

    def __init__(
        self, width: int, context_width: int, heads: int, attention: AttentionBackend
    ) -> None:
        super().__init__()
        self.attn1 = CrossAttention(width, width, heads, attention)
        self.ff = _FeedForward(width)
        self.attn2 = CrossAttention(width, context_width, heads, attention)
        self.norm1, self.norm2, self.norm3 = (nn.LayerNorm(width) for _ in range(3))

    def forward(
        self,
        x: Tensor,
        context: Tensor | SteadyContext,
        on_attention: OnAttention | None = None,
        places: Places | None = None,
    ) -> Tensor:
        """(B, M, width) and (B, N, context_width) -> (B, M, width)."""
        x = x + self.attn1(self.norm1(x))
        x = x + self.attn2(self.norm2(x), context, on_attention, places)
        return x + self.ff(self.norm3(x))


class SpatialTransformer(nn.Module):
    """A transformer block over the places of a map.

    With `positions` the context is a map of the same grid, and queries and keys carry their place.

    Source: Rombach et al. 2022 (latent diffusion), section 3.3 and appendix E.2.1.
    """

    def __init__(
        self,
        width: int,
        context_width: int,
        heads: int,
        groups: int,
        attention: AttentionBackend,
        *,
        positions: bool = False,
    ) -> None:
        super().__init__()
        self._widths = (width, context_width) if positions else None
        self.norm = nn.GroupNorm(groups, width, eps=_TRANSFORMER_EPS)
        self.proj_in = nn.Conv2d(width, width, 1)
        self.transformer_blocks = nn.ModuleList(
            [TransformerBlock(width, context_width, heads, attention)]
        )
        self.proj_out = nn.Conv2d(width, width, 1)

    def forward(
        self,
        x: Tensor,
        context: Tensor | SteadyContext,
        on_attention: OnAttention | None = None,
    ) -> Tensor:
        """(B, C, h, w) and (B, N, context_width) -> (B, C, h, w)."""
        projected = self.proj_in(self.norm(x))
        tokens = projected.flatten(2).transpose(1, 2)  # (B, C, h, w) -> (B, h*w, C)
        places: Places | None = None
        if self._widths is not None:
            height, width = x.shape[2:]
            embedded = [place_embedding(height, width, c, tokens) for c in self._widths]
            places = embedded[0], embedded[1]
        tokens = self.transformer_blocks[0](tokens, context, on_attention, places)
        return self.proj_out(tokens.transpose(1, 2).reshape(x.shape)) + x


class Downsample(nn.Module):
    """Half the sides by a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.op = nn.Conv2d(width, width, 3, stride=2, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, h/2, w/2)."""
        return self.op(x)


class Upsample(nn.Module):
    """Twice the sides: each place four times, then a convolution."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(width, width, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """(B, C, h, w) -> (B, C, 2h, 2w)."""
        return self.conv(F.interpolate(x, scale_factor=2.0, mode="nearest"))


class BlockSequence(nn.ModuleList):
    """One numbered block of the UNet: its layers in order, each given what it reads."""

    def forward(self, x: Tensor, time: Tensor, context: Tensor | SteadyContext) -> Tensor:
        """(B, C, h, w), time embedding, context tokens -> (B, C', h', w')."""
        for layer in self:
            if isinstance(layer, ResBlock):
                x = layer(x, time)
            elif isinstance(layer, SpatialTransformer):
                x = layer(x, context)
            else:
                x = layer(x)
        return x

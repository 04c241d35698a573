"""The denoising UNet, and the garment encoder that is a copy of its first half.

Before each decoder block but the first few, a warp block lets the person's places attend to the
garment's: that is how its pattern finds its way onto the body.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor, nn

from ..attention import AttentionBackend
from ..errors import ShapeError
from .blocks import (
    BlockSequence,
    Downsample,
    OnAttention,
    ResBlock,
    SpatialTransformer,
    SteadyContext,
    Upsample,
    timestep_embedding,
)
from .config import UNetConfig

OnWarp = Callable[[int, Tensor, Tensor], None]
"""Called with a warp block's number, and queries and keys of its attention to the garment."""


class _Encoder(nn.Module):
    """Time embedding, input blocks and middle block: what both networks have."""

    def __init__(self, config: UNetConfig, attention: AttentionBackend) -> None:
        super().__init__()
        self.config = config
        width = config.model_channels
        time_width = 4 * width
        self.time_embed = nn.Sequential(
            nn.Linear(width, time_width), nn.SiLU(), nn.Linear(time_width, time_width)
        )
        first = nn.Conv2d(config.in_channels, width, 3, padding=1)
        blocks = [BlockSequence([first])]
        self.input_widths = [width]
        factor = 1
        for level, wide in enumerate(config.widths):
            for _ in range(config.num_res_blocks):
                blocks.append(_level_block(config, attention, width, wide, factor))
                width = wide
                self.input_widths.append(width)
            if level + 1 < len(config.widths):
                blocks.append(BlockSequence([Downsample(width)]))
                self.input_widths.append(width)
                factor *= 2
        self.input_blocks = nn.ModuleList(blocks)
        self.middle_block = BlockSequence(
            [
                ResBlock(width, width, time_width, config.norm_groups),
                _transformer(config, attention, width),
                ResBlock(width, width, time_width, config.norm_groups),
            ]
        )

    def time(self, timesteps: Tensor, like: Tensor) -> Tensor:
        """Embedding of time steps, (B,) -> (B, 4 * model_channels)."""
        embedded = timestep_embedding(timesteps, self.config.model_channels)
        return self.time_embed(embedded.to(like.dtype))


class GarmentEncoder(_Encoder):
    """Reads the same input as the UNet and the garment's latent; gives the maps that the warp
    blocks attend to.

    Source: Kim et al. 2024 (StableVITON), section 3.2.
    """

    def __init__(self, config: UNetConfig, attention: AttentionBackend) -> None:
        super().__init__(config, attention)
        hint = nn.Conv2d(config.latent_channels, config.model_channels, 3, padding=1)
        self.cond_first_block = nn.Sequential(hint)

    def forward(
        self, x: Tensor, timesteps: Tensor, context: Tensor, garment: Tensor
    ) -> list[Tensor]:
        """Encode.

        Args:
            x: The UNet's input, (B, 3 z + 1, h, w).
            timesteps: (B,).
            context: (B, N, context_dim).
            garment: Latent of garment or sketch, scaled, (B, z, h, w).

        Returns:
            One map an input block, then the middle's.
        """
        hint = self.cond_first_block(garment)
        maps, time = self._maps(x, timesteps, context, hint, len(self.input_blocks))
        return [*maps, self.middle_block(maps[-1], time, context)]

    def warp_maps(
        self, x: Tensor, timesteps: Tensor, context: Tensor | SteadyContext, hint: Tensor | None
    ) -> list[Tensor]:
        """The maps that the warp blocks read, and not the deeper ones, which nothing does.

        Args:
            x: As `forward`.
            timesteps: As `forward`.
            context: As `forward`.
            hint: `cond_first_block` of the garment's latent, which is the same at every step; None
                leaves the garment out.

        Returns:
            The first maps of `forward`, as many as there are warp blocks.
        """
        count = len(self.input_blocks) - self.config.first_warp
        return self._maps(x, timesteps, context, hint, count)[0]

    def _maps(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | SteadyContext,
        hint: Tensor | None,
        count: int,
    ) -> tuple[list[Tensor], Tensor]:
        """The first maps, and the embedding of the time steps."""
        check_input(x, self.config)
        time = self.time(timesteps, x)
        maps: list[Tensor] = []
        h = x
        for number, block in enumerate(self.input_blocks[:count]):
            h = block(h, time, context)
            if number == 0 and hint is not None:
                h = h + hint
            maps.append(h)
        return maps, time


class TryOnUNet(_Encoder):
    """The UNet of Stable Diffusion 1 with 3 z + 1 input channels and warp blocks.

    Source: Kim et al. 2024 (StableVITON), section 3.2; Rombach et al. 2022.
    """

    def __init__(self, config: UNetConfig, attention: AttentionBackend) -> None:
        super().__init__(config, attention)
        width, groups = config.widths[-1], config.norm_groups
        skips = list(self.input_widths)
        hints = list(self.input_widths[: -config.first_warp])
        factor = 2 ** (len(config.widths) - 1)
        outputs: list[BlockSequence] = []
        warps: list[SpatialTransformer] = []
        for level, wide in reversed(list(enumerate(config.widths))):
            for number in range(config.num_res_blocks + 1):
                if len(outputs) >= config.first_warp:
                    warps.append(_warp_block(config, attention, width, hints.pop()))
                block = _level_block(config, attention, width + skips.pop(), wide, factor)
                width = wide
                if level and number == config.num_res_blocks:
                    block.append(Upsample(width))
                    factor //= 2
                outputs.append(block)
        self.output_blocks = nn.ModuleList(outputs)
        self.out = nn.Sequential(
            nn.GroupNorm(groups, width),
            nn.SiLU(),
            nn.Conv2d(width, config.latent_channels, 3, padding=1),
        )
        self.warp_flow_blks = nn.ModuleList(warps)
        zero = [nn.Conv2d(w.proj_out.out_channels, w.proj_out.out_channels, 1) for w in warps]
        self.warp_zero_convs = nn.ModuleList(zero)

    def forward(
        self,
        x: Tensor,
        timesteps: Tensor,
        context: Tensor | SteadyContext,
        garment_maps: Sequence[Tensor],
        on_warp: OnWarp | None = None,
    ) -> Tensor:
        """Predict noise (or v).

        Args:
            x: [noisy latent; agnostic latent; mask, 1 = keep; pose latent], (B, 3 z + 1, h, w).
            timesteps: (B,).
            context: Text tokens and / or an adapter's, (B, N, context_dim).
            garment_maps: Of `GarmentEncoder`, all or those of `warp_maps`.
            on_warp: Sees the warp blocks' attention; the training loss needs it.

        Returns:
            (B, z, h, w).

        Raises:
            ShapeError: If the input's channels or sides do not fit.
        """
        check_input(x, self.config)
        time = self.time(timesteps, x)
        skips: list[Tensor] = []
        h = x
        for block in self.input_blocks:
            h = block(h, time, context)
            skips.append(h)
        h = self.middle_block(h, time, context)
        first = self.config.first_warp
        # From its end: the middle and the deepest input blocks have no warp block.
        hints = list(garment_maps[: len(self.input_blocks) - first])
        for number, block in enumerate(self.output_blocks):
            if number >= first:
                h = h + self._warp(number - first, h, hints.pop(), on_warp)
            h = block(torch.cat([h, skips.pop()], dim=1), time, context)
        return self.out(h)

    def _warp(self, number: int, h: Tensor, hint: Tensor, on_warp: OnWarp | None) -> Tensor:
        tokens = hint.flatten(2).transpose(1, 2)  # (B, C, h, w) -> (B, h*w, C)
        watch: OnAttention | None = None if on_warp is None else partial(on_warp, number)
        warped = self.warp_flow_blks[number](h, tokens, watch)
        return self.warp_zero_convs[number](warped)


def check_input(x: Tensor, config: UNetConfig) -> None:
    """Whether the networks can read a tensor.

    Raises:
        ShapeError: If its channels or sides do not fit; the message names the two nearest sizes.
    """
    if x.ndim != 4 or x.shape[1] != config.in_channels:
        raise ShapeError(
            f"try-on network: input is {tuple(x.shape)}, wanted (B, {config.in_channels}, h, w). "
            "Join noisy latent, agnostic latent, mask and pose latent."
        )
    step = config.latent_multiple
    for side in x.shape[2:]:
        if side % step:
            low = max(side // step, 1) * step
            raise ShapeError(
                f"try-on network: a latent side of {side} can't be halved "
                f"{len(config.widths) - 1} times. Use {low} or {low + step} (fit the picture to "
                "the model first)."
            )


def _level_block(
    config: UNetConfig, attention: AttentionBackend, in_width: int, width: int, factor: int
) -> BlockSequence:
    """A residual block, and attention where this level has it."""
    res = ResBlock(in_width, width, 4 * config.model_channels, config.norm_groups)
    block = BlockSequence([res])
    if factor in config.attention_resolutions:
        block.append(_transformer(config, attention, width))
    return block


def _warp_block(
    config: UNetConfig, attention: AttentionBackend, width: int, hint_width: int
) -> SpatialTransformer:
    return SpatialTransformer(
        width,
        hint_width,
        config.num_heads,
        config.norm_groups,
        attention,
        positions=config.warp_positions,
    )


def _transformer(config: UNetConfig, attention: AttentionBackend, width: int) -> SpatialTransformer:
    return SpatialTransformer(
        width, config.context_dim, config.num_heads, config.norm_groups, attention
    )

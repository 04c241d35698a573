"""Sizes of the try-on networks, as values. The defaults are the paper's."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from ..errors import InputError


@dataclass(frozen=True)
class UNetConfig:
    """The denoising UNet and its garment encoder, which share widths and depths.

    Attributes:
        latent_channels: z of the autoencoder; the UNet reads 3 z + 1 channels: noisy latent,
            agnostic latent, mask, pose latent.
        model_channels: Width of the first level.
        channel_mult: Width of each level, times `model_channels`.
        num_res_blocks: Residual blocks a level (the decoder has one more).
        attention_resolutions: Down-sampling factors at which there is attention.
        num_heads: Of every attention, the warp blocks' as well.
        context_dim: Width of the context tokens.
        norm_groups: Of every group norm; must divide all widths.
        prediction_type: What the network predicts: the noise, or v.
    """

    latent_channels: int = 4
    model_channels: int = 320
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    attention_resolutions: tuple[int, ...] = (4, 2, 1)
    num_heads: int = 8
    context_dim: int = 768
    norm_groups: int = 32
    prediction_type: Literal["epsilon", "v_prediction"] = "epsilon"

    def __post_init__(self) -> None:
        for width in self.widths:
            if width % self.norm_groups or width % self.num_heads:
                raise InputError(
                    f"try-on config: width {width} can't be divided by {self.norm_groups} norm "
                    f"groups and {self.num_heads} heads. Choose numbers that divide every width."
                )

    @property
    def in_channels(self) -> int:
        """Channels that the UNet reads."""
        return 3 * self.latent_channels + 1

    @property
    def widths(self) -> tuple[int, ...]:
        """Width of each level."""
        return tuple(self.model_channels * m for m in self.channel_mult)

    @property
    def first_warp(self) -> int:
        """The first decoder block with a warp block before it."""
        return self.num_res_blocks + 1

    @property
    def latent_multiple(self) -> int:
        """What the sides of a latent must be multiples of: every halving must come out even."""
        return 2 ** (len(self.channel_mult) - 1)


@dataclass(frozen=True)
class AutoencoderConfig:
    """The KL autoencoder.

    Attributes:
        channels: Width of the first level.
        channel_mult: Width of each level, times `channels`; each but the last halves the sides.
        num_res_blocks: Residual blocks a level (the decoder has one more).
        latent_channels: z.
        norm_groups: Of every group norm.
        scale_factor: What latents are multiplied by before the UNet sees them.
    """

    channels: int = 128
    channel_mult: tuple[int, ...] = (1, 2, 4, 4)
    num_res_blocks: int = 2
    latent_channels: int = 4
    norm_groups: int = 32
    scale_factor: float = 0.18215

    @property
    def factor(self) -> int:
        """Pixels a latent place: f."""
        return 2 ** (len(self.channel_mult) - 1)

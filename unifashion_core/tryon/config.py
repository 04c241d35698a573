"""Sizes of the try-on networks, as values. The defaults are the paper's."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, cast

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
        zero_terminal: Whether the noise schedule ends in pure noise; for v alone. The paper's keeps
            some of the picture at the last step, and a small model reads its colours out of that.
        warp_positions: Whether queries and keys of the warp blocks carry their place on the grid.
            The paper's have none; a small model learns where to look much faster with it.
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
    zero_terminal: bool = False
    warp_positions: bool = False

    def __post_init__(self) -> None:
        for width in self.widths:
            if width % self.norm_groups or width % self.num_heads:
                raise InputError(
                    f"try-on config: width {width} can't be divided by {self.norm_groups} norm "
                    f"groups and {self.num_heads} heads. Choose numbers that divide every width."
                )
        if self.zero_terminal and self.prediction_type == "epsilon":
            raise InputError(
                "try-on config: zero_terminal with prediction_type 'epsilon'. Choose v_prediction: "
                "where nothing of the picture is left, its noise says nothing about it."
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


@dataclass(frozen=True)
class ClipConfig:
    """A CLIP text or vision transformer.

    Attributes:
        width: Of its tokens.
        layers: Transformer blocks.
        heads: Of each attention.
        intermediate: Width of the feed-forward.
        places: Positions: text tokens, or patches and the class token.
        vocabulary: Token ids; 0 for vision.
        patch_size: Pixels of a patch; 0 for text.
        ids: For a text encoder with rows for some of CLIP's tokens only: which of CLIP's ids each
            row stands for, ascending; empty where it has them all.
    """

    width: int = 768
    layers: int = 12
    heads: int = 12
    intermediate: int = 3072
    places: int = 77
    vocabulary: int = 49408
    patch_size: int = 0
    ids: tuple[int, ...] = ()

    def __post_init__(self) -> None:
        if self.ids and (len(self.ids) != self.vocabulary or list(self.ids) != sorted(self.ids)):
            raise InputError(
                f"try-on config: {len(self.ids)} token ids for {self.vocabulary} rows, wanted as "
                "many, ascending. Take the config.json that came with the weights."
            )

    @property
    def image_size(self) -> int:
        """Side of the pictures that a vision transformer reads."""
        return round((self.places - 1) ** 0.5) * self.patch_size


@dataclass(frozen=True)
class AdapterConfig:
    """The adapter from an encoder's query outputs to context tokens.

    Attributes:
        hidden: Width of the query outputs.
        intermediate: Width between its two layers.
    """

    hidden: int = 768
    intermediate: int = 3072


@dataclass(frozen=True)
class TryOnConfig:
    """A whole try-on model.

    Attributes:
        unet: UNet and garment encoder.
        autoencoder: The first stage.
        text: Text encoder, or None.
        image: Image encoder, or None; it comes with its mapper.
        mapper_layers: Blocks of the mapper.
        size: Height and width in pixels of the pictures that it was trained on.
        pose_map: What its pose maps are: "densepose", or "parts", the body parts that
            `prepare` draws from joints.
        distilled: Whether it was distilled to sample in a few steps (LCM).
        garment_guidance: How strongly the garment leads where a sampler is not told: 1 as trained;
            more goes on from the prediction without the garment to the one with it and beyond.
        garment_guidance_until: Share of the steps that this guidance of the model's own has.
        adapter: Makes context of an encoder's query outputs, or None.
    """

    unet: UNetConfig = field(default_factory=UNetConfig)
    autoencoder: AutoencoderConfig = field(default_factory=AutoencoderConfig)
    text: ClipConfig | None = None
    image: ClipConfig | None = None
    mapper_layers: int = 5
    size: tuple[int, int] = (512, 384)
    pose_map: Literal["densepose", "parts"] = "densepose"
    distilled: bool = False
    garment_guidance: float = 1.0
    garment_guidance_until: float = 1.0
    adapter: AdapterConfig | None = None

    def __post_init__(self) -> None:
        own, until = self.garment_guidance, self.garment_guidance_until
        if not (math.isfinite(own) and own >= 0 and 0 <= until <= 1):
            raise InputError(
                f"try-on config: garment guidance {own} for {until} of the steps. Choose 0 or "
                "more (1 is as trained), and 0 to 1."
            )

    @property
    def context(self) -> Literal["text", "image"]:
        """What the context is made of: a caption's tokens (UniFashion), or the garment's picture
        (StableVITON)."""
        return "text" if self.text is not None else "image"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as config.json holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TryOnConfig:
        """The value that `to_dict` gave.

        Raises:
            InputError: If a name is unknown.
        """
        parts: dict[str, type[Any]] = {
            "unet": UNetConfig,
            "autoencoder": AutoencoderConfig,
            "text": ClipConfig,
            "image": ClipConfig,
            "adapter": AdapterConfig,
        }
        values = dict(data)
        try:
            for name, kind in parts.items():
                if values.get(name) is not None:
                    values[name] = kind(**with_tuples(values[name]))
            return cls(**with_tuples(values))
        except TypeError as e:
            raise InputError(
                f"try-on config: {e}. Take the config.json that came with the weights."
            ) from e


def with_tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    """Values as JSON gives them, lists made tuples, as the frozen configs hold them."""
    return {k: tuple(cast("list[Any]", v)) if isinstance(v, list) else v for k, v in values.items()}

"""Everything that a `train tryon` run is made of, as one value."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal

from ..errors import InputError
from ..tryon.config import ClipConfig, UNetConfig
from .config import OptimConfig, config_of


def _optim() -> OptimConfig:
    """The reference's: AdamW at 1e-4 with torch's defaults, no schedule to speak of."""
    return OptimConfig(
        learning_rate=1e-4,
        betas=(0.9, 0.999),
        eps=1e-8,
        weight_decay=0.01,
        warmup_share=0.0,
        final_share=1.0,
        clip_norm=0.0,
    )


@dataclass(frozen=True)
class TryOnTrainConfig:
    """A run. The defaults are the paper's; where no weights are there to start from, `train_all`,
    `warp_start`, `places` and v-prediction make a small model learn in reach.

    Attributes:
        unet: Sizes of the UNet and the garment encoder.
        text: Sizes of the text encoder. `vocabulary` 0: one row a token of the training captions.
        size: Height and width of the pictures.
        pose_map: What the pose maps are: "densepose" or "parts".
        train_all: Train the UNet's input and middle blocks and the text encoder as well. The paper
            keeps them frozen; from fresh weights they would stay random.
        warp_start: What the warp blocks' output convolutions are scaled by at the start; 0 = zeros,
            as in the paper.
        drop_context: How often the learned context replaces the text.
        drop_by_batch: One draw a batch, as the reference; else one a sample.
        drop_garment: How often a sample sees no garment (hint strength 0).
        sketch_share: How often the hint is the garment's sketch, where there is one.
        outside: Weight of the error outside the mask; inside it is 1.
        channel_weights: Weigh each latent channel's error by how much the channel changes the
            decoded picture: a small model then learns colours and shapes before the finest grain.
        places: Weight of the warp attention's cross-entropy to the known places, where the data
            has them; it falls to a fifth over the run.
        places_blocks: Numbers of the warp blocks that learn from it, counted from the end: -1 is
            the last one.
        places_share: Share of each batch that it is measured on: on a fine grid its attention maps
            are the largest tensors of a step.
        atv: Whether the attention total-variation loss is added.
        atv_blocks: Numbers of its warp blocks.
        atv_limits: Grids with more places than the first and fewer than the second count.
        late: Time steps are drawn as 1000 * u ** late, u uniform: below 1 the noisy ones, where the
            garment must be understood, come up more often.
        encode_precision: Of the autoencoder while it encodes the records: "no" or "bf16".
        recolours: Coloured copies of each record; they teach colours beyond the data's.
        captions: Captions drawn for each record, where its attributes are known.
        optim: Optimiser.
        steps: Optimiser steps.
        batch_size: Records a step.
        save_every: Steps between checkpoints.
        seed: Of weights, batches, noise and dropout.
        precision: Of accelerate: "no" or "bf16".
    """

    unet: UNetConfig = field(default_factory=UNetConfig)
    text: ClipConfig = field(default_factory=ClipConfig)
    size: tuple[int, int] = (512, 384)
    pose_map: Literal["densepose", "parts"] = "densepose"
    train_all: bool = False
    warp_start: float = 0.0
    drop_context: float = 0.2
    drop_by_batch: bool = True
    drop_garment: float = 0.0
    sketch_share: float = 0.0
    outside: float = 1.0
    channel_weights: bool = False
    places: float = 0.0
    places_blocks: tuple[int, ...] = (-1, -2, -3, -4)
    places_share: float = 1.0
    atv: bool = False
    atv_blocks: tuple[int, ...] = (1, 4, 7)
    atv_limits: tuple[int, int] = (700, 3000)
    late: float = 1.0
    encode_precision: Literal["no", "bf16"] = "no"
    recolours: int = 0
    captions: int = 1
    optim: OptimConfig = field(default_factory=_optim)
    steps: int = 36_000
    batch_size: int = 32
    save_every: int = 500
    seed: int = 0
    precision: Literal["no", "bf16"] = "no"

    def __post_init__(self) -> None:
        if not (math.isfinite(self.late) and self.late > 0):
            raise InputError(
                f"Try-on config: late {self.late}, wanted more than 0. 1 draws all time steps "
                "alike, 0.5 the noisy ones more often."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the JSON file holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TryOnTrainConfig:
        """The value that `to_dict` gave; what is absent keeps its default.

        Raises:
            InputError: If a name is unknown.
        """
        parts = {"unet": UNetConfig, "text": ClipConfig, "optim": OptimConfig}
        return config_of(cls, data, parts, {"optim": asdict(_optim())}, "Try-on config")

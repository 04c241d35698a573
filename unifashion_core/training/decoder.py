"""Train the decoder alone, on what the UNet really hands it: half-right latents.

A decoder that has only seen latents of pictures passes every small error of a sampler on as a
blotch. The latents keep their meaning: encoder and UNet stay as they are.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from torch import Tensor, nn

from ..errors import CheckpointError
from ..tryon.autoencoder import Autoencoder
from ..tryon.checkpoint import TryOnModel, save_tryon
from ..tryon.condition_encoders import ClipText
from ..tryon.tokens import ClipTokenizer
from ..types import OnStep
from .autoencoder import Pictures, picture_losses
from .config import OptimConfig, config_of
from .loop import OnProgress, Stage, run_loop, training_device
from .tryon import TryOnPaths
from .tryon_config import TryOnTrainConfig
from .tryon_latents import encode_records
from .tryon_layout import IMAGE, read_pairs
from .tryon_objective import TryOnObjective

_GUESSED_AT_ONCE = 16


def _optim() -> OptimConfig:
    return OptimConfig(
        learning_rate=5e-4, betas=(0.9, 0.99), eps=1e-8, weight_decay=0.0, warmup_share=0.02
    )


@dataclass(frozen=True)
class DecoderTrainConfig:
    """A run.

    Attributes:
        crop: Side of the squares that are compared, a multiple of the autoencoder's factor.
        gradient: Weight of the difference of neighbouring pixels' differences.
        chroma: Weight of the error of colour apart from brightness.
        guessed: Share of squares that are decoded from the UNet's guesses; the others from the
            latents of pictures.
        records: Records that guesses are made of, the first ones; 0 = all.
        guesses: Guesses of each record, each from other noise.
        guess_steps: First and last time step that a guess is made from.
        optim: Optimiser.
        steps: Optimiser steps.
        batch_size: Squares a step.
        save_every: Steps between checkpoints.
        seed: Of batches, noise and guesses.
        precision: Of accelerate: "no" or "bf16".
    """

    crop: int = 64
    gradient: float = 0.3
    chroma: float = 1.0
    guessed: float = 0.5
    records: int = 0
    guesses: int = 2
    guess_steps: tuple[int, int] = (100, 700)
    optim: OptimConfig = field(default_factory=_optim)
    steps: int = 2000
    batch_size: int = 8
    save_every: int = 500
    seed: int = 0
    precision: Literal["no", "bf16"] = "no"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the JSON file holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> DecoderTrainConfig:
        """The value that `to_dict` gave; what is absent keeps its default.

        Raises:
            InputError: If a name is unknown.
        """
        defaults = {"optim": asdict(_optim())}
        return config_of(cls, data, {"optim": OptimConfig}, defaults, "Decoder config")


class DecoderObjective(nn.Module):
    """The losses of `AutoencoderObjective` that read pixels, of given latents."""

    def __init__(self, autoencoder: Autoencoder, config: DecoderTrainConfig) -> None:
        super().__init__()
        self.autoencoder, self._config = autoencoder, config

    def forward(self, batch: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Losses of "latents", unscaled, (B, z, h, w), against "pixels" in [-1, 1]."""
        made = self.autoencoder.decode(batch["latents"]).float()
        return picture_losses(made, batch["pixels"], self._config.gradient, self._config.chroma)


def train_decoder(
    paths: TryOnPaths,
    config: DecoderTrainConfig,
    model: TryOnModel,
    *,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    stop_after: int | None = None,
) -> Path:
    """Train, or go on training, and save the whole model with its new decoder.

    Args:
        paths: Folders; the result is `out`'s subfolder `tryon`.
        config: Of the run.
        model: A trained try-on model that reads text.
        on_step: Called with (pictures or records read, of these in all).
        on_progress: Called after every step.
        stop_after: Save and stop at this step.

    Returns:
        The folder of the saved model.

    Raises:
        CheckpointError: As `run_loop`; or the model reads no text.
        FolderError: If there are no records.
    """
    guesses = guess_latents(paths, config, model, on_step)
    pictures = Pictures(paths.data, "train", model.config.size, on_step)
    autoencoder = model.autoencoder.requires_grad_(True)
    autoencoder.encoder.requires_grad_(False)
    autoencoder.quant_conv.requires_grad_(False)
    people = [person for person, _ in read_pairs(paths.data, "train")][: guesses.shape[1]]
    squares = Squares(autoencoder, pictures, (people, guesses), config)
    objective = DecoderObjective(autoencoder, config)
    objective.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    stage = Stage(objective, config, squares)
    run_loop(stage, paths.out, on_progress=on_progress, stop_after=stop_after)
    objective.to("cpu")
    folder = paths.out / "tryon"
    save_tryon(folder, replace(model, autoencoder=autoencoder.eval()))
    return folder


class Squares:
    """Batches by step: latents of random squares, guessed or encoded, and the squares.

    Args:
        autoencoder: Its encoder is asked.
        pictures: To cut squares from.
        guesses: Names of the records, and what `guess_latents` found of them.
        config: Of the run.
    """

    def __init__(
        self,
        autoencoder: Autoencoder,
        pictures: Pictures,
        guesses: tuple[Sequence[str], Tensor],
        config: DecoderTrainConfig,
    ) -> None:
        self._autoencoder, self._pictures, self._config = autoencoder, pictures, config
        people, self._guesses = guesses
        rows = {stem: row for row, stem in enumerate(pictures.stems[IMAGE])}
        self._rows = [rows[person] for person in people]
        self._device = training_device()

    @torch.no_grad()
    def __call__(self, rng: np.random.Generator, step: int) -> Mapping[str, Tensor]:
        """The batch of a step."""
        config = self._config
        guessed = int(rng.binomial(config.batch_size, config.guessed))
        latents: list[Tensor] = []
        pixels: list[Tensor] = []
        if guessed < config.batch_size:
            seen = self._pictures.draw(rng, config.batch_size - guessed, config.crop)
            pixels.append(seen)
            latents.append(self._autoencoder.encode(seen.to(self._device)).mean.float().cpu())
        for _ in range(guessed):
            square, target = self._guess(rng)
            latents.append(square)
            pixels.append(target)
        return {"latents": torch.cat(latents), "pixels": torch.cat(pixels)}

    def _guess(self, rng: np.random.Generator) -> tuple[Tensor, Tensor]:
        """A square of a guess, (1, z, h, w), and its pixels, (1, 3, H, W)."""
        factor = self._autoencoder.config.factor
        side = self._config.crop // factor
        record = int(rng.integers(self._guesses.shape[1]))
        guess = self._guesses[int(rng.integers(len(self._guesses))), record].float()
        top, left = (int(rng.integers(size - side + 1)) for size in guess.shape[1:])
        square = guess[:, top : top + side, left : left + side]
        picture = self._pictures.pictures[IMAGE][self._rows[record]].float() / 127.5 - 1.0
        rows = slice(top * factor, (top + side) * factor)
        columns = slice(left * factor, (left + side) * factor)
        return square[None], picture[None, :, rows, columns]


@torch.no_grad()
def guess_latents(
    paths: TryOnPaths, config: DecoderTrainConfig, model: TryOnModel, on_step: OnStep | None = None
) -> Tensor:
    """What the UNet takes the clean latents of all records for, from noisy ones.

    Args:
        paths: Folders; encoded records are kept in `out`'s subfolder `latents`.
        config: How often, and from which time steps.
        model: A try-on model that reads text.
        on_step: Called with (records encoded, records in all).

    Returns:
        Unscaled latents, (guesses, records, z, h, w), float16, in the order of `read_pairs`.

    Raises:
        CheckpointError: If the model reads no text.
    """
    if not isinstance(model.context, ClipText):
        raise CheckpointError(
            "train decoder: the model reads pictures as context (StableVITON). Give UniFashion's, "
            "which reads text."
        )
    device = training_device()
    settings = TryOnTrainConfig(
        unet=model.config.unet, size=model.config.size, train_all=True, seed=config.seed
    )
    model.autoencoder.eval().to(device)
    data = encode_records(
        paths.data,
        "train",
        model.autoencoder,
        settings,
        paths.out / "latents",
        part=slice(config.records or None),
        on_step=on_step,
    )
    tokenizer = ClipTokenizer(paths.merges)
    ids = [tokenizer.tokenize(texts, model.context.config).ids for texts in data.texts]
    objective = TryOnObjective(model, settings).eval().to(device)
    torch.manual_seed(config.seed)  # pyright: ignore[reportUnknownMemberType] - untyped in torch
    rng = np.random.default_rng([config.seed, 79])
    low, high = config.guess_steps
    found: list[Tensor] = []
    for _ in range(config.guesses):
        parts: list[Tensor] = []
        for start in range(0, len(data), _GUESSED_AT_ONCE):
            chosen = torch.arange(start, min(start + _GUESSED_AT_ONCE, len(data)))
            drawn = data.take(chosen, ids, settings, rng)
            batch = {name: value.to(device) for name, value in drawn.items()}
            steps = torch.randint(low, high + 1, (len(chosen),), device=device)
            clean = objective.guess(batch, steps) / model.autoencoder.config.scale_factor
            parts.append(clean.half().cpu())
        found.append(torch.cat(parts))
    objective.to("cpu")
    return torch.stack(found)

"""The stage `train tryon`: from a folder in VITON-HD's layout to a try-on model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from ..attention import AttentionBackend
from ..errors import CheckpointError, InputError
from ..tryon.autoencoder import Autoencoder
from ..tryon.checkpoint import TryOnModel, build_tryon, save_tryon
from ..tryon.condition_encoders import ClipText
from ..tryon.config import TryOnConfig
from ..tryon.tokens import END_ID, START_ID, ClipTokenizer
from ..types import OnStep
from .loop import OnProgress, Stage, run_loop, training_device
from .tryon_config import TryOnTrainConfig
from .tryon_latents import TryOnLatents, encode_records
from .tryon_objective import TryOnObjective, channel_weights, prepare_fresh


@dataclass(frozen=True)
class TryOnPaths:
    """Where a run reads and writes.

    Attributes:
        data: Folder in VITON-HD's layout.
        out: Folder of checkpoints, encoded records and the result, its subfolder `tryon`.
        merges: CLIP's merges.
    """

    data: Path
    out: Path
    merges: Path


def train_tryon(
    paths: TryOnPaths,
    config: TryOnTrainConfig,
    attention: AttentionBackend,
    *,
    autoencoder: Autoencoder | None = None,
    start: TryOnModel | None = None,
    on_step: OnStep | None = None,
    on_progress: OnProgress | None = None,
    stop_after: int | None = None,
) -> Path:
    """Train, or go on training, and save the model.

    Args:
        paths: Folders.
        config: Of the run.
        attention: What every attention goes through.
        autoencoder: For fresh weights; it stays as it is.
        start: Weights to start from, with their autoencoder; None: fresh ones by the config.
        on_step: Called with (records encoded, records in all).
        on_progress: Called after every step.
        stop_after: Save and stop at this step.

    Returns:
        The folder of the saved model.

    Raises:
        InputError: If neither weights nor an autoencoder are given, or the sizes do not go
            together.
        CheckpointError: As `run_loop`; or a start without a text encoder.
        FolderError: If there are no records.
    """
    tokenizer = ClipTokenizer(paths.merges)
    reader = start.autoencoder if start is not None else autoencoder
    if reader is None:
        raise InputError(
            "train tryon: fresh weights need an autoencoder. Give --autoencoder, a folder that "
            "`train autoencoder` made, or --start, a try-on model."
        )
    reader.eval().to(training_device())
    data = encode_records(
        paths.data, "train", reader, config, paths.out / "latents", on_step=on_step
    )
    reader.to("cpu")
    model = start or fresh_model(config, reader, data.texts, tokenizer, attention)
    if not isinstance(model.context, ClipText):
        raise CheckpointError(
            "train tryon: the weights to start from read pictures as context (StableVITON). Give "
            "UniFashion's, which read text."
        )
    settings = model.context.config
    ids = [tokenizer.tokenize(texts, settings).ids for texts in data.texts]
    weights = None
    if config.channel_weights:
        some = data.latents["target"][:8].float() / reader.config.scale_factor
        weights = channel_weights(reader, some, config.seed)
    for network in (model.unet, model.garment):
        network.to(memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]
    objective = TryOnObjective(model, config, weights)
    held = data.to(training_device())
    stage = Stage(objective, config, Draw(held, ids, config))
    run_loop(stage, paths.out, on_progress=on_progress, stop_after=stop_after)
    folder = paths.out / "tryon"
    objective.to("cpu")
    trained = replace(
        model, config=_trained_for(model.config, config), free=objective.free.detach()
    )
    save_tryon(folder, trained)
    return folder


def _trained_for(model: TryOnConfig, config: TryOnTrainConfig) -> TryOnConfig:
    """The model's config, with what a run taught it to predict, on which schedule."""
    kind, ends = config.unet.prediction_type, config.unet.zero_terminal
    return replace(model, unet=replace(model.unet, prediction_type=kind, zero_terminal=ends))


class Draw:
    """Batches by step; a function of the step's generator."""

    def __init__(self, data: TryOnLatents, ids: Sequence[Tensor], config: TryOnTrainConfig) -> None:
        self._data, self._ids, self._config = data, ids, config

    def __call__(self, rng: np.random.Generator, step: int) -> Mapping[str, Tensor]:
        """The batch of a step."""
        progress = torch.tensor(step / max(self._config.steps, 1))
        return {**self._data.draw(self._ids, self._config, rng), "progress": progress}


def fresh_model(
    config: TryOnTrainConfig,
    autoencoder: Autoencoder,
    texts: Sequence[Sequence[str]],
    tokenizer: ClipTokenizer,
    attention: AttentionBackend,
) -> TryOnModel:
    """A model with fresh weights around a trained autoencoder.

    Raises:
        InputError: If the UNet's latent channels are not the autoencoder's.
    """
    if autoencoder.config.latent_channels != config.unet.latent_channels:
        raise InputError(
            f"train tryon: the autoencoder has {autoencoder.config.latent_channels} latent "
            f"channels, the config's unet {config.unet.latent_channels}. Make them equal."
        )
    text = config.text
    if text.vocabulary == 0:
        ids = vocabulary(texts, tokenizer)
        text = replace(text, vocabulary=len(ids), ids=ids)
    settings = TryOnConfig(
        unet=config.unet,
        autoencoder=autoencoder.config,
        text=text,
        size=config.size,
        pose_map=config.pose_map,
    )
    torch.manual_seed(config.seed)  # pyright: ignore[reportUnknownMemberType] - untyped in torch
    model = build_tryon(settings, attention)
    prepare_fresh(model, config.warp_start)
    return replace(model, autoencoder=autoencoder)


def vocabulary(texts: Sequence[Sequence[str]], tokenizer: ClipTokenizer) -> tuple[int, ...]:
    """CLIP's ids of all words of some texts, with the start and the end, ascending."""
    found = {START_ID, END_ID}
    for text in {t for some in texts for t in some}:
        for _, ids in tokenizer.encode(text):
            found.update(ids)
    return tuple(sorted(found))

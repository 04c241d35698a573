"""Phases 1 and 2 as a stage of the loop."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from ..encoder.model import UniFashionEncoderModel
from .batches import PairBatch, PairSource, TripletBatch, TripletSource
from .config import TrainConfig
from .loop import OnProgress, Stage, run_loop
from .objectives import Objective


@dataclass(frozen=True)
class Run:
    """What a loop needs.

    Attributes:
        model: Weights to train, in place.
        config: The run's config.
        steps: Optimiser steps in all.
        pairs: Phase-1 batches; None in a phase 2 without them.
        triplets: Phase-2 batches; None in phase 1.
    """

    model: UniFashionEncoderModel
    config: TrainConfig
    steps: int
    pairs: PairSource | None
    triplets: TripletSource | None


def train(
    run: Run,
    out: Path,
    *,
    on_progress: OnProgress | None = None,
    stop_after: int | None = None,
) -> bool:
    """Train to the end, or go on from the last checkpoint in `out`; see `run_loop`.

    Args:
        run: Model, data, config. At the end the model holds the averaged weights where the config
            averages.
        out: Folder of checkpoints and log.jsonl.
        on_progress: Called after every step.
        stop_after: Save and stop at this step.

    Returns:
        Whether the run is complete.

    Raises:
        CheckpointError: If `out` holds a run of another config or a damaged checkpoint, or the loss
            is no number any more.
    """
    run.model.visual_encoder.requires_grad_(False)  # the tower is never trained, in either phase
    low, high = run.config.loss.clamp_temperature

    def clamp() -> None:
        with torch.no_grad():
            run.model.temp.clamp_(low, high)

    stage = Stage(
        Objective(run.model, run.config),
        run.config,
        lambda rng, step: _batches(run, step, rng),
        model=run.model,
        steps=run.steps,
        after_step=clamp if high > 0 and not run.config.loss.reference_compat else None,
    )
    return run_loop(stage, out, on_progress=on_progress, stop_after=stop_after)


def _batches(
    run: Run, step: int, rng: np.random.Generator
) -> tuple[PairBatch | None, TripletBatch | None]:
    pairs, chosen = None, np.zeros(0, dtype=np.int64)
    if run.pairs is not None:
        pairs, chosen = run.pairs.batch(step, rng)
    triplets = None if run.triplets is None else run.triplets.batch(step, rng, chosen)
    return pairs, triplets

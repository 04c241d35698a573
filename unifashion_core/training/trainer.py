"""The training loop of both phases: accelerate, progress, checkpoints that a later run goes on
from exactly."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from ..deps import require
from ..encoder.model import UniFashionEncoderModel
from ..errors import CheckpointError
from .batches import PairBatch, PairSource, TripletBatch, TripletSource
from .checkpoints import Average, CheckpointStore
from .config import OptimConfig, TrainConfig
from .objectives import Objective
from .sampling import step_generator


@dataclass(frozen=True)
class Progress:
    """Where a run stands.

    Attributes:
        step: Steps done.
        steps: Steps in all.
        losses: Of the last step, by name, unweighted; "total" is the weighted sum.
        seconds_left: At the mean speed since the start or the resume.
    """

    step: int
    steps: int
    losses: Mapping[str, float]
    seconds_left: float


OnProgress = Callable[[Progress], None]
"""Called after every step; may raise to stop, the last checkpoint then stays."""


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
    """Train to the end, or go on from the last checkpoint in `out`.

    A resumed run equals an unbroken one bit for bit on the CPU: batches and dropout are functions
    of seed and step, and a
    checkpoint holds weights, optimiser and averaged weights.

    Args:
        run: Model, data, config. At the end the model holds the averaged weights where the config
            averages.
        out: Folder of checkpoints and log.jsonl.
        on_progress: Called after every step.
        stop_after: Save and stop at this step, as if the machine had been needed for something
            else.

    Returns:
        Whether the run is complete.

    Raises:
        CheckpointError: If `out` holds a run of another config, or a damaged checkpoint.
    """
    accelerate: Any = require("accelerate")
    accelerator: Any = accelerate.Accelerator(mixed_precision=run.config.precision)
    model = run.model
    freeze_tower(model)
    objective: Any = Objective(model, run.config)
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    on_cpu = accelerator.device.type == "cpu"
    optimizer: Any = make_optimizer(model, run.config.optim, fused=not on_cpu)
    objective, optimizer = accelerator.prepare(objective, optimizer)
    average = Average(model, names, run.config.optim.ema)
    store = CheckpointStore(out, run.config, model, optimizer, average)
    done = store.resume()
    started, first = time.monotonic(), done
    objective.train()
    model.visual_encoder.eval()
    end = run.steps if stop_after is None else min(run.steps, stop_after)
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        for step in range(done, end):
            losses = _step(run, step, accelerator, objective, optimizer)
            average.update()
            done = step + 1
            speed = (time.monotonic() - started) / (done - first)
            if on_progress is not None:
                on_progress(Progress(done, run.steps, losses, speed * (run.steps - done)))
            if done % 10 == 0 or done == end:
                line = {"step": done, "seconds": round(time.monotonic() - started, 1), **losses}
                log.write(json.dumps(line) + "\n")
                log.flush()
            if done % run.config.save_every == 0 or done == end:
                store.save(done)
    if done < run.steps:
        return False
    average.apply()
    objective.eval()
    return True


def make_optimizer(
    model: nn.Module, config: OptimConfig, *, fused: bool = False
) -> torch.optim.AdamW:
    """AdamW over what is trained, weight decay on matrices alone."""
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices = [p for n, p in trained if p.ndim >= 2 and not n.endswith("_tokens")]
    rest = [p for n, p in trained if p.ndim < 2 or n.endswith("_tokens")]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=fused
    )


def rate_at(step: int, steps: int, config: OptimConfig) -> float:
    """Learning rate of a step: linear warm-up, then a half cosine to `final_share`."""
    warm = max(round(steps * config.warmup_share), 1)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    part = (step - warm) / max(steps - warm, 1)
    low = config.final_share
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * part)))


def freeze_tower(model: UniFashionEncoderModel) -> None:
    """The tower is never trained, in either phase."""
    model.visual_encoder.requires_grad_(False)
    model.visual_encoder.eval()


def _step(
    run: Run, step: int, accelerator: Any, objective: Any, optimizer: Any
) -> dict[str, float]:
    """One optimiser step; everything random in it follows from seed and step."""
    rng = step_generator(run.config.seed, step)
    torch.manual_seed(  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped
        int(rng.integers(2**62))
    )
    pairs, triplets = _batches(run, step, rng)
    if accelerator.device.type != "cpu":
        pairs, triplets = _to(pairs, accelerator.device), _to(triplets, accelerator.device)
    rate = rate_at(step, run.steps, run.config.optim)
    for group in optimizer.param_groups:
        group["lr"] = rate
    optimizer.zero_grad()
    losses: Mapping[str, Tensor] = objective(pairs, triplets)
    accelerator.backward(losses["total"])
    if run.config.optim.clip_norm:
        accelerator.clip_grad_norm_(objective.parameters(), run.config.optim.clip_norm)
    optimizer.step()
    low, high = run.config.loss.clamp_temperature
    if high > 0 and not run.config.loss.reference_compat:
        with torch.no_grad():
            run.model.temp.clamp_(low, high)
    found = {name: float(value.detach()) for name, value in losses.items()}
    if not math.isfinite(found["total"]):
        raise CheckpointError(
            f"Training step {step + 1}: the loss is {found['total']}. "
            "Lower the learning rate, or go on from the last checkpoint with a clip norm."
        )
    return found


def _batches(run: Run, step: int, rng: Any) -> tuple[PairBatch | None, TripletBatch | None]:
    pairs, chosen = None, torch.zeros(0, dtype=torch.int64).numpy()
    if run.pairs is not None:
        pairs, chosen = run.pairs.batch(step, rng)
    triplets = None if run.triplets is None else run.triplets.batch(step, rng, chosen)
    return pairs, triplets


def _to(value: Any, device: torch.device) -> Any:
    """A batch on another device."""
    if isinstance(value, Tensor):
        return value.to(device)
    if value is None:
        return None
    parts: dict[str, Any] = value.__dict__
    return type(value)(**{k: _to(v, device) for k, v in parts.items()})

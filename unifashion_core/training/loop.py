"""The optimiser loop of the try-on stages: accelerate, averaged weights, exact resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from ..deps import require
from ..errors import CheckpointError
from .checkpoints import Average, CheckpointStore
from .config import OptimConfig
from .sampling import step_generator
from .trainer import OnProgress, Progress, make_optimizer, rate_at

Batch = Mapping[str, Tensor]


class LoopSettings(Protocol):
    """What the loop reads of a stage's config."""

    @property
    def optim(self) -> OptimConfig:
        """Optimiser."""
        ...

    @property
    def steps(self) -> int:
        """Optimiser steps in all."""
        ...

    @property
    def save_every(self) -> int:
        """Steps between checkpoints."""
        ...

    @property
    def seed(self) -> int:
        """Of batches, noise and dropout."""
        ...

    @property
    def precision(self) -> str:
        """Of accelerate."""
        ...

    def to_dict(self) -> dict[str, Any]:
        """Plain values."""
        ...


def run_loop(
    objective: nn.Module,
    config: LoopSettings,
    draw: Callable[[np.random.Generator, int], Batch],
    out: Path,
    *,
    on_progress: OnProgress | None = None,
    stop_after: int | None = None,
) -> bool:
    """Train to the end, or go on from the last checkpoint in `out`; bit for bit on the CPU.

    Args:
        objective: Gives losses by name of a batch; "total" is what is minimised. Parameters that
            require no gradient are neither trained nor stored.
        config: Of the stage.
        draw: The batch of a step, from the step's own generator and its number.
        out: Folder of checkpoints and log.jsonl.
        on_progress: Called after every step; may raise to stop.
        stop_after: Save and stop at this step.

    Returns:
        Whether the run is complete; then the module holds the averaged weights.

    Raises:
        CheckpointError: If `out` holds a run of another config or a damaged checkpoint, or the loss
            is no number any more.
    """
    accelerate: Any = require("accelerate")
    accelerator: Any = accelerate.Accelerator(mixed_precision=config.precision)
    names = [n for n, p in objective.named_parameters() if p.requires_grad]
    optimizer: Any = make_optimizer(objective, config.optim, fused=True)
    prepared, optimizer = accelerator.prepare(objective, optimizer)
    average = Average(objective, names, config.optim.ema)
    store = CheckpointStore(out, config, objective, optimizer, average)
    done = store.resume()
    started, first = time.monotonic(), done
    end = config.steps if stop_after is None else min(config.steps, stop_after)
    prepared.train()
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        for step, (seed, drawn) in zip(
            range(done, end), _drawn_ahead(draw, config.seed, done, end), strict=True
        ):
            torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - untyped
            batch = {k: v.to(accelerator.device) for k, v in drawn.items()}
            found = _optimise(accelerator, prepared, optimizer, config, batch, step)
            average.update()
            done = step + 1
            speed = (time.monotonic() - started) / (done - first)
            if on_progress is not None:
                on_progress(Progress(done, config.steps, found, speed * (config.steps - done)))
            if done % 10 == 0 or done == end:
                line = {"step": done, "seconds": round(time.monotonic() - started, 1), **found}
                log.write(json.dumps(line) + "\n")
                log.flush()
            if done % config.save_every == 0 or done == end:
                store.save(done)
    if done < config.steps:
        return False
    average.apply()
    objective.eval()
    return True


def training_device() -> torch.device:
    """Where `run_loop` trains: accelerate's choice, a GPU where there is one."""
    accelerate: Any = require("accelerate")
    return accelerate.PartialState().device  # an Accelerator would settle the precision as well


def _drawn_ahead(
    draw: Callable[[np.random.Generator, int], Batch], seed: int, start: int, end: int
) -> Iterator[tuple[int, Batch]]:
    """Each step's seed of torch and its batch; the next one is drawn while a step runs."""

    def drawn(step: int) -> tuple[int, Batch]:
        rng: Any = step_generator(seed, step)
        return int(rng.integers(2**62)), draw(rng, step)

    with ThreadPoolExecutor(1) as worker:
        waiting = worker.submit(drawn, start) if start < end else None
        for step in range(start, end):
            assert waiting is not None
            ready = waiting.result()
            waiting = worker.submit(drawn, step + 1) if step + 1 < end else None
            yield ready


def _optimise(
    accelerator: Any,
    objective: Any,
    optimizer: Any,
    config: LoopSettings,
    batch: Batch,
    step: int,
) -> dict[str, float]:
    """One optimiser step; its losses."""
    for group in optimizer.param_groups:
        group["lr"] = rate_at(step, config.steps, config.optim)
    optimizer.zero_grad()
    losses: Mapping[str, Tensor] = objective(batch)
    accelerator.backward(losses["total"])
    if config.optim.clip_norm:
        accelerator.clip_grad_norm_(objective.parameters(), config.optim.clip_norm)
    optimizer.step()
    found = {name: float(value.detach()) for name, value in losses.items()}
    if not math.isfinite(found["total"]):
        raise CheckpointError(
            f"Training step {step + 1}: the loss is {found['total']}. Lower the learning rate, or "
            "go on from the last checkpoint with a clip norm."
        )
    return found

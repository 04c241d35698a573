"""The optimiser loop of every stage: accelerate, progress, averaged weights, exact resume."""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import Any, Generic, Protocol, TypeVar, cast

import numpy as np
import torch
from torch import Tensor, nn

from ..deps import require
from ..errors import CheckpointError
from .checkpoints import Average, CheckpointStore, Settings
from .config import OptimConfig
from .precision import make_accelerator
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

Batch = TypeVar("Batch")
Losses = Mapping[str, "Tensor | float"]


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


def backward_whole(accelerator: Any, objective: Any, batch: Any) -> Losses:
    """Losses and gradients of a batch in one go; a tuple is the objective's arguments."""
    losses: Losses = objective(*batch) if isinstance(batch, tuple) else objective(batch)
    accelerator.backward(losses["total"])
    return losses


@dataclass(frozen=True)
class Stage(Generic[Batch]):
    """What one kind of training is made of.

    Attributes:
        objective: Gives losses by name of a batch; "total" is what is minimised.
        config: Optimiser, checkpoints, seed.
        draw: The batch of a step, from the step's own generator and its number. The next batch is
            drawn while a step runs: it may not use torch's global generator.
        model: Whose parameters are trained and stored where they require a gradient; None = the
            objective's.
        steps: Optimiser steps in all; None = the config's.
        settings: What a checkpoint belongs to; None = the config.
        backward: From accelerator, prepared objective and batch to losses, gradients made.
        after_step: Called when the weights have moved.
    """

    objective: nn.Module
    config: LoopSettings
    draw: Callable[[np.random.Generator, int], Batch]
    model: nn.Module | None = None
    steps: int | None = None
    settings: Settings | None = None
    backward: Callable[[Any, Any, Batch], Losses] = backward_whole
    after_step: Callable[[], None] | None = None

    @property
    def trained(self) -> nn.Module:
        """The module whose weights move."""
        return self.objective if self.model is None else self.model

    @property
    def end(self) -> int:
        """Steps in all."""
        return self.config.steps if self.steps is None else self.steps


def run_loop(
    stage: Stage[Any],
    out: Path,
    *,
    on_progress: OnProgress | None = None,
    stop_after: int | None = None,
) -> bool:
    """Train to the end, or go on from the last checkpoint in `out`.

    A resumed run equals an unbroken one bit for bit on the CPU: batches and dropout are functions
    of seed and step, and a checkpoint holds weights, optimiser and averaged weights.

    Args:
        stage: What is trained, and on what.
        out: Folder of checkpoints and log.jsonl.
        on_progress: Called after every step; may raise to stop.
        stop_after: Save and stop at this step, as if the machine had been needed for something
            else.

    Returns:
        Whether the run is complete; then the module holds the averaged weights.

    Raises:
        CheckpointError: If `out` holds a run of another config or a damaged checkpoint, or the loss
            is no number any more.
    """
    config, model = stage.config, stage.trained
    accelerator: Any = make_accelerator(config.precision)
    names = [n for n, p in model.named_parameters() if p.requires_grad]
    optimizer: Any = make_optimizer(model, config.optim)
    objective, optimizer = accelerator.prepare(stage.objective, optimizer)
    average = Average(model, names, config.optim.ema)
    store = CheckpointStore(out, stage.settings or config, model, optimizer, average)
    done = store.resume()
    started, first = time.monotonic(), done
    losses: dict[str, float] = {}
    end = stage.end if stop_after is None else min(stage.end, stop_after)
    objective.train()
    with (out / "log.jsonl").open("a", encoding="utf-8") as log:
        for step, (seed, drawn) in zip(
            range(done, end), _drawn_ahead(stage.draw, config.seed, done, end), strict=True
        ):
            torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - untyped
            for group in optimizer.param_groups:
                group["lr"] = rate_at(step, stage.end, config.optim)
            batch = _placed(drawn, accelerator.device)
            made = _optimise(stage, accelerator, objective, optimizer, batch)
            average.update()
            done = step + 1
            # Reading a value makes a graphics card wait for the step, so there it is read at times.
            read = done % 10 == 0 or done == end or done % config.save_every == 0
            if read or step == first or accelerator.device.type == "cpu":
                losses = _read(made, done)
            speed = (time.monotonic() - started) / (done - first)
            if on_progress is not None:
                on_progress(Progress(done, stage.end, losses, speed * (stage.end - done)))
            if done % 10 == 0 or done == end:
                line = {"step": done, "seconds": round(time.monotonic() - started, 1), **losses}
                log.write(json.dumps(line) + "\n")
                log.flush()
            if done % config.save_every == 0 or done == end:
                store.save(done)
    if done < stage.end:
        return False
    average.apply()
    stage.objective.eval()
    return True


def make_optimizer(model: nn.Module, config: OptimConfig) -> torch.optim.AdamW:
    """AdamW over what is trained, weight decay on matrices alone."""
    trained = [(n, p) for n, p in model.named_parameters() if p.requires_grad]
    matrices = [p for n, p in trained if p.ndim >= 2 and not n.endswith("_tokens")]
    rest = [p for n, p in trained if p.ndim < 2 or n.endswith("_tokens")]
    groups = [
        {"params": matrices, "weight_decay": config.weight_decay},
        {"params": rest, "weight_decay": 0.0},
    ]
    return torch.optim.AdamW(
        groups, lr=config.learning_rate, betas=config.betas, eps=config.eps, fused=True
    )


def rate_at(step: int, steps: int, config: OptimConfig) -> float:
    """Learning rate of a step: linear warm-up, then a half cosine to `final_share`."""
    warm = max(round(steps * config.warmup_share), 1)
    if step < warm:
        return config.learning_rate * (step + 1) / warm
    part = (step - warm) / max(steps - warm, 1)
    low = config.final_share
    return config.learning_rate * (low + (1 - low) * 0.5 * (1 + math.cos(math.pi * part)))


def training_device() -> torch.device:
    """Where `run_loop` trains: accelerate's choice, a GPU where there is one."""
    accelerate: Any = require("accelerate")
    return accelerate.PartialState().device  # an Accelerator would settle the precision as well


def _drawn_ahead(
    draw: Callable[[np.random.Generator, int], Any], seed: int, start: int, end: int
) -> Iterator[tuple[int, Any]]:
    """Each step's seed of torch and its batch; the next one is drawn while a step runs."""

    def drawn(step: int) -> tuple[int, Any]:
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
    stage: Stage[Any], accelerator: Any, objective: Any, optimizer: Any, batch: Any
) -> Losses:
    """One optimiser step; its losses."""
    config = stage.config
    optimizer.zero_grad()
    losses = stage.backward(accelerator, objective, batch)
    if config.optim.clip_norm:
        accelerator.clip_grad_norm_(objective.parameters(), config.optim.clip_norm)
    optimizer.step()
    if stage.after_step is not None:
        stage.after_step()
    return losses


def _read(losses: Losses, step: int) -> dict[str, float]:
    """Losses as numbers.

    Raises:
        CheckpointError: If the total is none: the weights are spoilt.
    """
    found = {n: float(v.detach() if isinstance(v, Tensor) else v) for n, v in losses.items()}
    if not math.isfinite(found["total"]):
        raise CheckpointError(
            f"Training step {step}: the loss is {found['total']}. Lower the learning rate, or "
            "go on from the last checkpoint with a clip norm."
        )
    return found


def _placed(value: Any, device: torch.device) -> Any:
    """A batch on a device: tensors in mappings, tuples and dataclasses."""
    if isinstance(value, Tensor):
        return value.to(device)
    if isinstance(value, tuple):
        return tuple(_placed(v, device) for v in cast("tuple[Any, ...]", value))
    if isinstance(value, Mapping):
        return {k: _placed(v, device) for k, v in cast("Mapping[str, Any]", value).items()}
    if is_dataclass(value) and not isinstance(value, type):
        parts: dict[str, Any] = value.__dict__
        return type(value)(**{k: _placed(v, device) for k, v in parts.items()})
    return value

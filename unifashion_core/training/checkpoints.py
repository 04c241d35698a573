"""Checkpoints of a training run, from which a later one goes on exactly."""

from __future__ import annotations

import json
import logging
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from safetensors import SafetensorError
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - PathLike of anything
    save_file,  # pyright: ignore[reportUnknownVariableType] - likewise
)
from torch import Tensor, nn

from ..errors import CheckpointError

_LOG = logging.getLogger("unifashion.training")
_KEPT_CHECKPOINTS = 2


class Settings(Protocol):
    """A run's config."""

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the JSON file holds them."""
        ...


class Average:
    """Exponential moving average of the trained weights; its warm-up follows the step, so that a
    start is soon forgotten."""

    def __init__(self, model: nn.Module, names: list[str], decay: float) -> None:
        self._decay = decay
        self._live = {n: p for n, p in model.named_parameters() if n in set(names)}
        self.steps = 0
        self.shadow = {n: p.detach().clone() for n, p in self._live.items()} if decay else {}

    @torch.no_grad()
    def update(self) -> None:
        """Take in the weights of one more step."""
        self.steps += 1
        decay = min(self._decay, (1 + self.steps) / (10 + self.steps))
        if self.shadow:  # all at once: hundreds of small calls would cost more than the step's own
            live = [self._live[name].detach() for name in self.shadow]
            torch._foreach_lerp_(list(self.shadow.values()), live, 1 - decay)  # pyright: ignore[reportPrivateUsage, reportPrivateImportUsage] - as torch.optim does

    @torch.no_grad()
    def apply(self) -> None:
        """Put the averaged weights into the model."""
        for name, value in self.shadow.items():
            self._live[name].copy_(value)


class CheckpointStore:
    """Checkpoints: a folder a step, written beside and renamed, tensors as safetensors."""

    def __init__(
        self,
        out: Path,
        config: Settings,
        model: nn.Module,
        optimizer: Any,
        average: Average,
    ) -> None:
        self._out, self._config = out, config
        self._model, self._optimizer, self._average = model, optimizer, average
        out.mkdir(parents=True, exist_ok=True)

    def resume(self) -> int:
        """Load the newest checkpoint; returns the steps done, 0 without one."""
        self._check_config()
        found = self._folders()
        if not found:
            return 0
        folder = found[-1]
        try:
            state = json.loads((folder / "state.json").read_text(encoding="utf-8"))
            self._model.load_state_dict(load_file(folder / "model.safetensors"), strict=False)
            self._load_optimizer(load_file(folder / "optimizer.safetensors"))
            for name, value in load_file(folder / "average.safetensors").items():
                if name in self._average.shadow:
                    self._average.shadow[name].copy_(value)
        except (OSError, ValueError, KeyError, RuntimeError, SafetensorError) as e:
            raise CheckpointError(
                f"Checkpoint {folder.name}: it is damaged ({e}). Delete that folder; the run "
                "goes on from the one before."
            ) from e
        self._average.steps = int(state["step"])
        _LOG.info("going on from step %d", state["step"])
        return int(state["step"])

    def save(self, step: int) -> None:
        """Write a checkpoint and remove old ones."""
        folder = self._out / f"checkpoint-{step:06d}"
        partial = self._out / f".checkpoint-{step:06d}.partial"
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        trained = {n: _stored(p) for n, p in self._model.named_parameters() if p.requires_grad}
        save_file(trained, partial / "model.safetensors")
        save_file(dict(self._optimizer_tensors()), partial / "optimizer.safetensors")
        averages = {n: _stored(v) for n, v in self._average.shadow.items()}
        save_file(averages, partial / "average.safetensors")
        state = {"step": step}
        (partial / "state.json").write_text(json.dumps(state), encoding="utf-8")
        shutil.rmtree(folder, ignore_errors=True)
        partial.replace(folder)
        for old in self._folders()[:-_KEPT_CHECKPOINTS]:
            shutil.rmtree(old)

    def _check_config(self) -> None:
        path = self._out / "config.json"
        wanted = json.loads(json.dumps(self._config.to_dict()))
        if path.is_file() and self._folders():
            held = json.loads(path.read_text(encoding="utf-8"))
            changed = sorted(k for k in wanted if wanted[k] != held.get(k))
            if changed:
                raise CheckpointError(
                    f"Training folder {self._out}: it holds a run with other {', '.join(changed)}. "
                    "Give another --out, or delete its checkpoints."
                )
        path.write_text(json.dumps(wanted, indent=2) + "\n", encoding="utf-8")

    def _folders(self) -> list[Path]:
        return sorted(self._out.glob("checkpoint-[0-9]*"))

    def _named(self) -> Iterator[tuple[str, torch.nn.Parameter]]:
        return ((n, p) for n, p in self._model.named_parameters() if p.requires_grad)

    def _inner(self) -> Any:
        """The AdamW itself, without accelerate's wrapping."""
        return getattr(self._optimizer, "optimizer", self._optimizer)

    def _optimizer_tensors(self) -> Iterator[tuple[str, Tensor]]:
        states = self._inner().state
        for name, parameter in self._named():
            for key, value in states.get(parameter, {}).items():
                yield f"{name}|{key}", _stored(torch.as_tensor(value))

    def _load_optimizer(self, tensors: Mapping[str, Tensor]) -> None:
        parameters = dict(self._named())
        states = self._inner().state
        for full, value in tensors.items():
            name, key = full.split("|")
            parameter = parameters[name]
            if key == "step":  # AdamW keeps its step count on the CPU
                states[parameter][key] = value.to("cpu")
            else:  # in the parameter's memory order, which a fused AdamW takes for granted
                held = torch.empty_like(parameter, dtype=value.dtype, requires_grad=False)
                states[parameter][key] = held.copy_(value)


def _stored(value: Tensor) -> Tensor:
    return value.detach().cpu().clone().contiguous()

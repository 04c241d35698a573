"""Everything that a `train caption` run is made of, as one value."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import Any, Literal, cast

from ..caption.prompts import INSTRUCTIONS
from ..errors import InputError
from .config import OptimConfig


def _optim() -> OptimConfig:
    """The paper's for its language model: 2e-5, cosine, 3 % warm-up, no weight decay."""
    return OptimConfig(
        betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0, warmup_share=0.03, learning_rate=2e-5
    )


@dataclass(frozen=True)
class CaptionConfig:
    """A run. The defaults are the paper's.

    Attributes:
        rank: Of the LoRA adapters; 0 = none, the projection alone is trained and peft not needed.
        alpha: Scale of the adapters, times 1 / rank.
        dropout: Of the adapters' input.
        instructions: One is drawn for each batch; a caption asks the first.
        max_tokens: Tokens of a caption, its end included; a longer one is cut and has no end.
        optim: Optimiser.
        steps: Optimiser steps; 0 = by `epochs`.
        epochs: Rounds over the records.
        batch_size: Pictures a step.
        micro_batch: Pictures at a time; more need more memory, the gradients stay the same.
        save_every: Steps between checkpoints.
        seed: Of weights, batches and dropout.
        precision: Of accelerate: "no" or "bf16", in which the language model is then held too.
    """

    rank: int = 128
    alpha: float = 256
    dropout: float = 0.05
    instructions: tuple[str, ...] = INSTRUCTIONS
    max_tokens: int = 128
    optim: OptimConfig = field(default_factory=_optim)
    steps: int = 0
    epochs: int = 2
    batch_size: int = 128
    micro_batch: int = 8
    save_every: int = 500
    seed: int = 0
    precision: Literal["no", "bf16"] = "no"

    def __post_init__(self) -> None:
        least = {"rank": 0, "max_tokens": 2, "batch_size": 1, "micro_batch": 1, "save_every": 1}
        low = [
            f"{n} {getattr(self, n)}" for n, least_n in least.items() if getattr(self, n) < least_n
        ]
        if low or not self.instructions:
            raise InputError(
                f"Caption config: {', '.join(low) or 'no instructions'} can't be trained with. "
                "Raise it."
            )

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the JSON file holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> CaptionConfig:
        """The value that `to_dict` gave; what is absent keeps its default.

        Raises:
            InputError: If a name is unknown.
        """
        values = dict(data)
        try:
            if "optim" in values:
                given = {**asdict(_optim()), **values["optim"]}
                given["betas"] = tuple(given["betas"])
                values["optim"] = OptimConfig(**given)
            if "instructions" in values:
                values["instructions"] = tuple(values["instructions"])
            return cls(**values)
        except TypeError as e:
            known = ", ".join(f.name for f in fields(cls))
            raise InputError(f"Caption config: {e}. At the top there may be {known}.") from e


def read_caption_config(path: Path | None) -> CaptionConfig:
    """Read a config file; None gives the defaults.

    Raises:
        InputError: If it can't be read or has unknown names.
    """
    if path is None:
        return CaptionConfig()
    try:
        data: object = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise InputError(f"Caption config {path}: can't be read ({e}). Give a JSON file.") from e
    if not isinstance(data, dict):
        raise InputError(f"Caption config {path}: no JSON object. Give names with values.")
    return CaptionConfig.from_dict(cast("dict[str, Any]", data))

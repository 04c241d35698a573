"""Everything that a training run is made of, as one value; it is stored with each checkpoint."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeVar, cast

from ..encoder.config import EncoderConfig
from ..errors import InputError

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

T = TypeVar("T", bound="DataclassInstance")


@dataclass(frozen=True)
class OptimConfig:
    """AdamW with warm-up and cosine decay.

    Attributes:
        learning_rate: Its peak.
        betas: Of AdamW; the paper's scheduler cycled the first one by accident, ours stays.
        eps: Of AdamW.
        weight_decay: On matrices; norms, biases, the temperature and learned tokens have none.
        warmup_share: Of all steps.
        final_share: Of the peak rate at the end.
        clip_norm: Of all gradients together; 0 = off.
        ema: Decay of the averaged weights that are saved; 0 = off.
    """

    learning_rate: float = 2e-5
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-7
    weight_decay: float = 0.05
    warmup_share: float = 0.1
    final_share: float = 0.0
    clip_norm: float = 1.0
    ema: float = 0.0


@dataclass(frozen=True)
class LossConfig:
    """Weights of the losses and what they are made of.

    Attributes:
        itc: Image-text contrast.
        itm: Image-text matching.
        lm: Caption loss.
        composed: Phase 2, composed query against target.
        caption: Phase 2, composed query against the target's caption.
        prompts: Contrast of images with the prompts of `sampling.prompt_templates`; 0 = off.
        image: Contrast of images with images by `image_attributes`; 0 = off, as in the paper.
        image_attributes: The first must be equal; each other one that is shared makes a pair weigh
            more.
        beliefs: Share of the prompts' targets that follows what a linear reading of the tower,
            fitted without the picture, believes of its class (see beliefs.py); the rest is the
            label's. 0 = off.
        prompt_mixup: Pictures of the prompt contrast are mixed in pairs, targets too, by shares of
            Beta(this, this); 0 = off.
        rerank: Phase 2, matching of (reference, text, target), what a rerank of a composed search
            asks; 0 = off.
        itm_prompts: Matching of pictures with a true and a likely wrong prompt, what a rerank of a
            search by text asks; 0 = off.
        lm_smoothing: Label smoothing of the caption loss.
        itm_negatives: "hardest" = the likeliest wrong one, as in the paper; "sampled" = drawn by
            likelihood; "random" = any wrong one.
        itm_positives: Pairs of the matching loss that match; 0 = the whole batch, as in the paper.
        clamp_temperature: Lower and upper bound of the learned temperature; (0, 0) = unbounded, as
            in the paper.
        reference_compat: The research code's own forms instead of the fixed ones; pairs only, no
            attributes.
    """

    itc: float = 1.0
    itm: float = 1.0
    lm: float = 1.0
    composed: float = 1.0
    caption: float = 1.0
    prompts: float = 0.0
    image: float = 0.0
    image_attributes: tuple[str, ...] = ("category", "colours")
    beliefs: float = 0.0
    prompt_mixup: float = 0.0
    rerank: float = 0.0
    itm_prompts: float = 0.0
    lm_smoothing: float = 0.1
    itm_negatives: Literal["hardest", "sampled", "random"] = "hardest"
    itm_positives: int = 0
    clamp_temperature: tuple[float, float] = (0.02, 0.5)
    reference_compat: bool = False


@dataclass(frozen=True)
class SamplingConfig:
    """What a batch is drawn from.

    Attributes:
        shares: Share of each record's `source` in a phase-1 batch; empty = all records alike.
        triplet_shares: The same for phase 2.
        balance: Attribute whose values are drawn alike within a source; "" = off.
        lm_caption: "first" = the LM head learns each record's first caption; "drawn" = the caption
            of the contrast.
        prompt_templates: Texts with attribute names in braces, such as "a {colours} {category}"; of
            one, drawn at each step, the prompts of all values in the data are contrasted.
        unknown_words: Share of words that become [UNK], so that a strange word does no harm.
    """

    shares: Mapping[str, float] = field(default_factory=dict[str, float])
    triplet_shares: Mapping[str, float] = field(default_factory=dict[str, float])
    balance: str = ""
    lm_caption: Literal["first", "drawn"] = "drawn"
    prompt_templates: tuple[str, ...] = ()
    unknown_words: float = 0.0


@dataclass(frozen=True)
class CacheConfig:
    """Tower features computed once, possible since the tower is frozen.

    Attributes:
        views: Random views of each picture by its `source`, "" for any other; empty = no cache,
            pictures are
            encoded at every step.
        tokens: Tower tokens that the Q-Former sees in a step, drawn at random; 0 = all.
        noise: Standard deviation of noise added to them, relative to their own.
        pooled_noise: Of more noise on the pooled token.
        shared_noise: Of noise that all other tokens of a picture have alike, on the components that
            a PCA stem took from the tower's last map: what is alike in all tokens is what a mean
            over them could learn by heart. The lower maps, which carry colour, have none.
        seed: Of the views; None = the run's own.
    """

    views: Mapping[str, int] = field(default_factory=dict[str, int])
    tokens: int = 0
    noise: float = 0.0
    pooled_noise: float = 0.0
    shared_noise: float = 0.0
    seed: int | None = None


@dataclass(frozen=True)
class TrainConfig:
    """A run. The defaults are the paper's, with the specification's fixes.

    Attributes:
        encoder: What is trained.
        tower: Folder or file of the frozen tower's weights; "pocket" = the Lite0 that ships.
        start: Folder of weights to start from; "" = fresh ones.
        vocabulary: vocab.txt of an encoder with its own words, relative to the data folder.
        optim: Optimiser.
        loss: Losses.
        sampling: Batches.
        cache: Tower features.
        steps: Optimiser steps; 0 = by `epochs`.
        epochs: Rounds over the records.
        batch_size: Image-text pairs a step.
        triplets: Phase 2: triplets a step.
        keep_phase1: Phase 2: whether the phase-1 losses go on (with `batch_size` pairs a step).
        save_every: Steps between checkpoints.
        seed: Of weights, batches and dropout.
        precision: Of accelerate: "no" or "bf16".
    """

    encoder: EncoderConfig = field(default_factory=EncoderConfig)
    tower: str = ""
    start: str = ""
    vocabulary: str = ""
    optim: OptimConfig = field(default_factory=OptimConfig)
    loss: LossConfig = field(default_factory=LossConfig)
    sampling: SamplingConfig = field(default_factory=SamplingConfig)
    cache: CacheConfig = field(default_factory=CacheConfig)
    steps: int = 0
    epochs: int = 10
    batch_size: int = 128
    triplets: int = 128
    keep_phase1: bool = False
    save_every: int = 500
    seed: int = 0
    precision: Literal["no", "bf16"] = "no"

    def to_dict(self) -> dict[str, Any]:
        """Plain values, as the JSON file holds them."""
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> TrainConfig:
        """The value that `to_dict` gave; what is absent keeps its default.

        Raises:
            InputError: If a name is unknown.
        """
        parts: dict[str, type[Any]] = {
            "optim": OptimConfig,
            "loss": LossConfig,
            "sampling": SamplingConfig,
            "cache": CacheConfig,
        }
        values = dict(data)
        try:
            for name, kind in parts.items():
                if name in values:
                    values[name] = kind(**_tuples(values[name]))
            if "encoder" in values:
                values["encoder"] = EncoderConfig.from_dict(values["encoder"])
            return cls(**values)
        except TypeError as e:
            known = ", ".join(f.name for f in fields(cls))
            raise InputError(
                f"Training config: {e}. At the top there may be {known}; README and config.py "
                "say more."
            ) from e


def read_config(path: Path | None, phase: str) -> TrainConfig:
    """Read a config file; of one that has "phase1" and "phase2" at its top, the part of this phase
    over the rest.

    Raises:
        InputError: If it can't be read or has unknown names.
    """
    if path is None:
        return TrainConfig()
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, json.JSONDecodeError) as e:
        raise InputError(f"Training config {path}: can't be read ({e}). Give a JSON file.") from e
    shared = {k: v for k, v in data.items() if k not in ("phase1", "phase2")}
    return TrainConfig.from_dict(_merged(shared, data.get(phase, {})))


def _merged(base: dict[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Nested values of `over` replace those of `base`."""
    result = dict(base)
    for key, value in over.items():
        old = result.get(key)
        # Shares and view counts are whole tables: a part of one over another would be no table
        # anyone wrote.
        whole = key in ("shares", "triplet_shares", "views")
        if isinstance(old, dict) and isinstance(value, dict) and not whole:
            value = _merged(cast("dict[str, Any]", old), cast("dict[str, Any]", value))
        result[key] = value
    return result


def _tuples(values: Mapping[str, Any]) -> dict[str, Any]:
    return {k: tuple(cast("list[Any]", v)) if isinstance(v, list) else v for k, v in values.items()}


def config_of(
    kind: type[T],
    data: Mapping[str, Any],
    parts: Mapping[str, type[Any]],
    defaults: Mapping[str, Mapping[str, Any]],
    where: str,
) -> T:
    """A stage's config from plain values, lists made tuples; what is absent keeps its default.

    Args:
        kind: The config's dataclass.
        data: What `to_dict` gave, or a part of it.
        parts: Dataclass of each value that is one.
        defaults: What a part has where only some of it is given, if not its own defaults.
        where: What to call it in an error.

    Raises:
        InputError: If a name is unknown.
    """
    values = _tuples(data)
    try:
        for name, part in parts.items():
            if name in values:
                values[name] = part(**_tuples({**defaults.get(name, {}), **values[name]}))
        return kind(**values)
    except TypeError as e:
        known = ", ".join(f.name for f in fields(kind))
        raise InputError(f"{where}: {e}. At the top there may be {known}.") from e

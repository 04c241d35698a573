"""Sample try-on latents: true batches, a seed an item, progress, previews, cancel."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from ..errors import BackendError, InputError, ShapeError
from ..types import OnStep
from .autoencoder import Posterior
from .checkpoint import TryOnModel
from .condition import Condition
from .config import TryOnConfig
from .denoiser import Denoiser, draw_noise
from .schedule import TRAIN_STEPS
from .shortage import is_memory_short
from .solvers import (
    DEFAULT_SOLVER,
    DEFAULT_STEPS,
    Solver,
    SolverName,
    Spacing,
    signal_and_spread,
)

OnPreview = Callable[[int, int, Tensor], None]
"""Called with (steps done, steps in all, what the pictures look like so far: scaled latents,
(B, z, h, w), of the items that are being made); may raise to cancel."""


@dataclass(frozen=True)
class SamplerSettings:
    """How pictures are sampled.

    Attributes:
        solver: As `solvers.SOLVERS` says. The paper's: plms with 50 steps.
        steps: Of the solver.
        spacing: How the time steps lie, for all but plms.
        guidance: How strongly the context leads; 1.0 costs nothing, more doubles the work.
        garment_guidance: How strongly the garment leads, by a prediction without it at each step;
            1.0 costs nothing. None: the model's own where `guidance` is 1.0, for so many steps as
            its config says; else 1.0.
        guidance_until: Share of the steps with guidance, 0..1; the last ones change little.
        start: "noise", or "reference": the photo's own latent noised to the last time step, as the
            reference does. That needs the whole photo in the condition.
        reference_compat: Draw latents from the posteriors by each item's generator, the garment's
            at every call, as the reference does; else the means are taken.
        batch: Items that are sampled together at most; 0: all. Fewer where memory is short.
    """

    solver: SolverName = DEFAULT_SOLVER
    steps: int = DEFAULT_STEPS
    spacing: Spacing = "linspace"
    guidance: float = 1.0
    garment_guidance: float | None = None
    guidance_until: float = 1.0
    start: Literal["noise", "reference"] = "noise"
    reference_compat: bool = False
    batch: int = 0

    def garment_guidance_of(self, config: TryOnConfig) -> float:
        """How strongly the garment leads with a model of this config."""
        if self.garment_guidance is not None:
            return self.garment_guidance
        return config.garment_guidance if self.guidance == 1.0 else 1.0

    def guided_share(self, config: TryOnConfig) -> float:
        """Share of the steps with guidance, with a model of this config."""
        own = self.garment_guidance is None and self.guidance == 1.0
        return min(self.guidance_until, config.garment_guidance_until if own else 1.0)

    def predictions(self, config: TryOnConfig) -> int:
        """How many predictions a guided step takes with a model of this config."""
        own = self.garment_guidance_of(config)
        return 1 + int(self.guidance != 1.0) + int(own != 1.0)


@torch.inference_mode()
def sample(
    model: TryOnModel,
    condition: Condition,
    settings: SamplerSettings,
    seeds: Sequence[int],
    on_step: OnStep | None = None,
    on_preview: OnPreview | None = None,
) -> Tensor:
    """Sample the latents of B items. Item 7 of a batch is what item 7 alone is.

    An item with an empty mask is not sampled: its latent is the photo's.

    Args:
        model: Its UNet and garment encoder are used, where they are and in the type they have.
        condition: Of the items.
        settings: Solver, steps, guidance.
        seeds: One an item.
        on_step: Called with (done, total) after every step; may raise to cancel.
        on_preview: Called likewise, before it, with the picture so far.

    Returns:
        Latents, scaled, (B, z, h, w), float32 on the CPU.

    Raises:
        InputError: If a setting can't be worked with, or the network gives no numbers.
        ShapeError: If counts differ.
        BackendError: If memory is short for even one item.
        MissingPackageError: Without diffusers, where the solver is its.
    """
    solver = _checked(model.config, condition, settings, seeds)
    scale = model.config.autoencoder.scale_factor
    result = condition.agnostic.mean.float() * scale
    todo = [row for row, empty in enumerate(condition.empty) if not empty]
    size = settings.batch or max(len(todo), 1)
    progress = _Progress(on_step, todo, size)
    while todo:
        rows = todo[:size]
        run = _Run(model, condition.select(rows), settings, solver, [seeds[r] for r in rows])
        found: Tensor | None = None
        try:
            found = run.sample(progress.step, on_preview)
        except (RuntimeError, MemoryError) as e:
            if not is_memory_short(e):
                raise
            if len(rows) == 1:
                raise BackendError(_too_little(model, condition)) from e
        if found is None:  # outside of the handler, so that its frames hold nothing any more
            size = math.ceil(len(rows) / 2)
            progress.resize(todo, size)
            _give_back(model)
            continue
        result[rows] = found.cpu()
        todo = todo[size:]
        progress.finish(todo, size)
    return result


@dataclass(frozen=True)
class _Run:
    """One batch that is sampled together."""

    model: TryOnModel
    condition: Condition
    settings: SamplerSettings
    solver: Solver
    seeds: list[int]

    def sample(self, on_step: OnStep, on_preview: OnPreview | None) -> Tensor:
        settings, device = self.settings, next(self.model.unet.parameters()).device
        generators = [torch.Generator().manual_seed(seed) for seed in self.seeds]
        noise = draw_noise(self.condition.agnostic, generators)
        draws = generators if settings.reference_compat else None
        start = self._start(noise, draws).to(device)
        own = settings.garment_guidance_of(self.model.config)
        denoiser = Denoiser(
            self.model, self.condition, settings.guidance, draws, garment_guidance=own
        )
        last = self._last_guided()
        seen: list[Tensor] = []

        def predict(x: Tensor, times: Tensor) -> Tensor:
            time = int(times[0])
            predicted = denoiser(x, times, guided=time >= last)
            _check_numbers(predicted, time, self.model)
            if on_preview is not None:
                seen[:] = [self.solver.clean_estimate(predicted, x, times)]
            return predicted

        def step(done: int, total: int) -> None:
            if on_preview is not None:
                on_preview(done, total, seen[0])
            on_step(done, total)

        return self.solver.run(predict, start, generators=generators, on_step=step)

    def _start(self, noise: Tensor, draws: list[torch.Generator] | None) -> Tensor:
        photo = self.condition.photo
        if self.settings.start == "noise" or photo is None:
            return noise
        latent = photo.mean if draws is None else photo.sample(draw_noise(photo, draws))
        last = torch.full((len(noise),), TRAIN_STEPS - 1)
        signal, spread = signal_and_spread(last, noise, self.solver.zero_terminal)
        scale = self.model.config.autoencoder.scale_factor
        return signal * latent.float() * scale + spread * noise

    def _last_guided(self) -> int:
        """The last time step with guidance."""
        times = [int(t) for t in self.solver.timesteps()]
        count = math.ceil(self.settings.guided_share(self.model.config) * len(times))
        return times[count - 1] if count else TRAIN_STEPS


class _Progress:
    """Steps over all batches; a batch that must be made smaller starts anew."""

    def __init__(self, on_step: OnStep | None, todo: list[int], size: int) -> None:
        self._on_step = on_step
        self._before, self._steps = 0, 0
        self.resize(todo, size)

    def step(self, done: int, total: int) -> None:
        self._steps = total
        if self._on_step is not None:
            self._on_step(self._before + done, self._before + total * self._batches)

    def finish(self, todo: list[int], size: int) -> None:
        self._before += self._steps
        self.resize(todo, size)

    def resize(self, todo: list[int], size: int) -> None:
        self._batches = math.ceil(len(todo) / size)


def _checked(
    config: TryOnConfig, condition: Condition, settings: SamplerSettings, seeds: Sequence[int]
) -> Solver:
    """The solver, if everything goes together."""
    if len(seeds) != len(condition):
        raise ShapeError(
            f"sampler: {len(seeds)} seeds for {len(condition)} items. Give one an item."
        )
    for name, value in (
        ("guidance", settings.guidance),
        ("garment guidance", settings.garment_guidance_of(config)),
    ):
        if not math.isfinite(value) or value < 0:
            raise InputError(
                f"sampler: {name} {value}, wanted 0 or more. 1.0 is none and costs nothing, 2 to 5 "
                "are usual."
            )
    if not 0.0 <= settings.guidance_until <= 1.0 or settings.batch < 0:
        raise InputError(
            f"sampler: guidance for {settings.guidance_until} of the steps, batches of "
            f"{settings.batch}. Choose 0 to 1, and 0 (all) or more."
        )
    if settings.guidance != 1.0 and condition.free is None:
        raise InputError(
            "sampler: this model has no context of nothing that guidance could lead away from. "
            "Set guidance to 1.0."
        )
    if settings.start == "reference" and condition.photo is None:
        raise InputError(
            "sampler: a start from the person's photo, and the condition holds none. Encode it "
            "with the person, or start from noise."
        )
    if settings.solver == "lcm" and not config.distilled:
        raise InputError(
            "sampler: lcm is for models that were distilled for it, and this one's config does not "
            "say so. Choose dpm++2m or unipc for few steps."
        )
    for what, found in (("agnostic", condition.agnostic), ("pose", condition.pose)):
        _check_latents(found, what)
    if condition.hint is not None:
        _check_latents(condition.hint, "garment")
    return Solver.of(config.unet, settings.solver, settings.steps, settings.spacing)


def _check_latents(found: Posterior, what: str) -> None:
    if not bool(torch.isfinite(found.mean).all()):
        raise InputError(
            f"sampler: the {what} latents hold values that are no numbers (NaN or infinite). The "
            "autoencoder overflows in half precision: load it as float32 or bfloat16."
        )


def _check_numbers(predicted: Tensor, time: int, model: TryOnModel) -> None:
    if not bool(torch.isfinite(predicted).all()):
        dtype = str(next(model.unet.parameters()).dtype).removeprefix("torch.")
        raise InputError(
            f"sampler: at time step {time} the network gave values that are no numbers (NaN or "
            f"infinite); its type is {dtype}. Load the model as float32 or bfloat16."
        )


def _too_little(model: TryOnModel, condition: Condition) -> str:
    factor = model.config.autoencoder.factor
    height, width = (side * factor for side in condition.keep.shape[2:])
    device = next(model.unet.parameters()).device
    return (
        f"sampler: too little memory on {device} for one picture of {width}x{height}. Choose a "
        "smaller size, load the model as float16, or start ComfyUI with --lowvram."
    )


def _give_back(model: TryOnModel) -> None:
    if next(model.unet.parameters()).device.type == "cuda":
        torch.cuda.empty_cache()

"""How fast try-on sampling is beside the reference's way: one item at a time, and the garment
encoded on every call of the network.

All ways start from the same prepared crops and end with the same decoded pictures, in one process.
The loop runs the networks in torch's plain layout, as the reference does; ours in the loaded one.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
from torch import Tensor

from ..errors import InputError
from ..tryon.autoencoder import Posterior
from ..tryon.checkpoint import TryOnModel, lay_out
from ..tryon.condition import encode_person, encode_picture, make_condition
from ..tryon.context import encode_texts, free_context
from ..tryon.decoding import decode
from ..tryon.sampling import SamplerSettings, sample
from ..tryon.solvers import Solver
from ..tryon.tokens import ClipTokenizer
from ..types import OnStep
from .ssim import ssim

STEPS = 50
"""Of the reference's PLMS; it calls the network 51 times."""

GUIDANCE = 2.0
"""What `x_cfg_off` compares with: two predictions a step."""


@dataclass(frozen=True)
class BenchPerson:
    """A person as the model reads it.

    Attributes:
        photo: The crop, (H, W, 3), 0..1.
        mask: 1 = to be painted anew, (H, W).
        pose: Pose map, (H, W, 3), 0..1.
    """

    photo: Tensor
    mask: Tensor
    pose: Tensor


@dataclass(frozen=True)
class BenchGarment:
    """A garment as the model reads it.

    Attributes:
        picture: On white, (H, W, 3), 0..1.
        text: Its caption.
    """

    picture: Tensor
    text: str


@dataclass(frozen=True)
class _Bench:
    model: TryOnModel
    tokenizer: ClipTokenizer
    persons: Sequence[BenchPerson]
    garments: Sequence[BenchGarment]

    @property
    def items(self) -> list[tuple[BenchPerson, BenchGarment]]:
        return [(person, garment) for person in self.persons for garment in self.garments]


def measure_tryon(
    model: TryOnModel,
    tokenizer: ClipTokenizer,
    persons: Sequence[BenchPerson],
    garments: Sequence[BenchGarment],
    settings: SamplerSettings | None = None,
    *,
    seeds: int = 4,
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Time every person in every garment, and compare the pictures.

    Args:
        model: A text model.
        tokenizer: CLIP's.
        persons: Of one region.
        garments: For that region.
        settings: The few-step settings; the sampler's own default where None.
        seeds: How many seeds of each item the similarity is the mean of.
        on_step: Called with (runs done, runs in all).

    Returns:
        items; x_equal_steps: the loop with each garment encoded once, over ours, both 50 PLMS
        steps; x_default: the loop that encodes the garment on every call, over our few steps;
        x_cfg_off: few steps with guidance over without; ssim: few steps to 50 steps, inside the
        mask, before paste-back; encodings: pictures that ours encodes, one for each person and
        garment; latent_max_rel_error: ours to the loop's latents at 50 steps; seconds of each way.

    Raises:
        InputError: If there is no person, garment or seed.
    """
    if not persons or not garments or seeds < 1:
        raise InputError("bench tryon: no person, no garment or no seed. Give at least one each.")
    bench = _Bench(model, tokenizer, persons, garments)
    # One prediction a step, as the loop: guidance of the model's own is left out.
    few = replace(settings or SamplerSettings(), garment_guidance=1.0)
    whole = SamplerSettings("plms", STEPS, garment_guidance=1.0)
    clock = _Clock(model, on_step, 3 + 2 * seeds)
    _warm_up(bench, (few, replace(whole, steps=2)))
    with _plain_layout(model):
        _, reference_s = clock.time(lambda: _loop(bench, 0, encode_always=True))
        loop, loop_s = clock.time(lambda: _loop(bench, 0, encode_always=False))
    equal, equal_s = clock.time(lambda: _ours(bench, whole, 0))
    default, default_s = clock.time(lambda: _ours(bench, few, 0))
    _, guided_s = clock.time(lambda: _ours(bench, replace(few, guidance=GUIDANCE), 0))
    masks = torch.stack([person.mask for person, _ in bench.items])
    alike = [ssim(default.images, equal.images, masks)]
    for seed in range(1, seeds):
        pair = [clock.time(lambda s=s, n=seed: _ours(bench, s, n))[0] for s in (few, whole)]
        alike.append(ssim(pair[0].images, pair[1].images, masks))
    error = (equal.latents - loop.latents).abs().max() / loop.latents.abs().max()
    return {
        "items": len(bench.items),
        "x_equal_steps": loop_s / equal_s,
        "x_default": reference_s / default_s,
        "x_cfg_off": guided_s / default_s,
        "ssim": float(torch.stack(alike).mean()),
        "encodings": default.encodings,
        "latent_max_rel_error": float(error),
        "ssim_min": float(torch.stack(alike).min()),
        "solver": f"{few.solver}, {few.steps} steps, {few.spacing}",
        "seconds": {
            "loop_encoding_every_call": reference_s,
            "loop_encoding_once": loop_s,
            "ours_equal_steps": equal_s,
            "ours_default": default_s,
            "ours_default_guided": guided_s,
        },
        "threads": torch.get_num_threads(),
        "device": str(next(model.unet.parameters()).device),
    }


class _Clock:
    """Times runs, and tells how many are done."""

    def __init__(self, model: TryOnModel, on_step: OnStep | None, total: int) -> None:
        self._model, self._on_step, self._total, self._done = model, on_step, total, 0

    def time(self, way: Callable[[], _Made]) -> tuple[_Made, float]:
        """What a run makes, and its seconds."""
        self._wait()
        start = time.perf_counter()
        made = way()
        self._wait()
        spent = time.perf_counter() - start
        self._done += 1
        if self._on_step is not None:
            self._on_step(self._done, self._total)
        return made, spent

    def _wait(self) -> None:
        """Until the device has done what it was given."""
        if next(self._model.unet.parameters()).device.type == "cuda":
            torch.cuda.synchronize()


def _warm_up(bench: _Bench, kinds: Sequence[SamplerSettings]) -> None:
    """One item each way: imports and first allocations are nobody's time."""
    first = _Bench(bench.model, bench.tokenizer, bench.persons[:1], bench.garments[:1])
    for settings in kinds:
        _ours(first, settings, 0)
    with _plain_layout(bench.model):
        _loop(first, 0, steps=2, encode_always=True)


@dataclass(frozen=True)
class _Made:
    latents: Tensor
    images: Tensor
    encodings: int


def _ours(bench: _Bench, settings: SamplerSettings, seed: int) -> _Made:
    """Every person and garment encoded once, all items in one batch."""
    model, count = bench.model, len(bench.garments)
    persons = [encode_person(model, p.photo, p.mask, p.pose) for p in bench.persons]
    hints = [encode_picture(model, g.picture) for g in bench.garments]
    texts = encode_texts(model, bench.tokenizer, [g.text for g in bench.garments]).tokens
    condition = make_condition(
        [person for person in persons for _ in range(count)],
        hints * len(persons),
        texts.repeat(len(persons), 1, 1),
        free_context(model, bench.tokenizer),
    )
    latents = sample(model, condition, settings, _seeds(bench, seed))
    return _Made(latents, decode(model, latents), len(persons) + len(hints))


@torch.inference_mode()
def _loop(bench: _Bench, seed: int, *, encode_always: bool, steps: int = STEPS) -> _Made:
    """The reference's way: item by item, the networks called as they are."""
    model = bench.model
    like = next(model.unet.parameters())
    scale = model.config.autoencoder.scale_factor
    made: list[Tensor] = []
    for (person, garment), own in zip(bench.items, _seeds(bench, seed), strict=True):
        found = encode_person(model, person.photo, person.mask, person.pose)
        parts = (found.agnostic.mean * scale, found.keep, found.pose.mean * scale)
        rest = torch.cat(parts, dim=1).to(like)
        context = encode_texts(model, bench.tokenizer, [garment.text]).tokens.to(like)
        once = None if encode_always else encode_picture(model, garment.picture)
        predict = partial(_predict, model, rest, context, garment.picture, once)
        generator = torch.Generator().manual_seed(own)
        noise = torch.randn(found.agnostic.mean.shape[1:], generator=generator)[None]
        solver = Solver.of(model.config.unet, "plms", steps)
        made.append(solver.run(predict, noise.to(like.device)).cpu())
    images = torch.cat([decode(model, latents) for latents in made])
    return _Made(torch.cat(made), images, 0)


def _predict(
    model: TryOnModel,
    rest: Tensor,
    context: Tensor,
    picture: Tensor,
    once: Posterior | None,
    x: Tensor,
    times: Tensor,
) -> Tensor:
    """One call of the networks; without a garment's latent it is encoded here."""
    hint = once or encode_picture(model, picture)
    joined = torch.cat([x.to(rest), rest], dim=1)
    garment = (hint.mean * model.config.autoencoder.scale_factor).to(rest)
    maps = model.garment(joined, times, context, garment)
    return model.unet(joined, times, context, maps).float()


@contextmanager
def _plain_layout(model: TryOnModel) -> Generator[None, None, None]:
    """The networks with their convolutions' weights by channels, then as they were."""
    loaded = not all(p.is_contiguous() for p in model.unet.parameters())
    lay_out(model, torch.contiguous_format)
    yield
    if loaded:
        lay_out(model, torch.channels_last)


def _seeds(bench: _Bench, seed: int) -> list[int]:
    """Of each item, others for each run."""
    count = len(bench.items)
    return [1000 + seed * count + item for item in range(count)]

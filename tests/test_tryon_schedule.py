"""The noise schedule that ends in pure noise: what it is, and every solver on it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import torch
from torch import Tensor
from tryon_tiny import tiny_condition, tiny_config, tiny_model

from unifashion_core.errors import InputError
from unifashion_core.tryon.config import TryOnConfig, UNetConfig
from unifashion_core.tryon.sampling import SamplerSettings, sample
from unifashion_core.tryon.schedule import alphas_cumprod
from unifashion_core.tryon.solvers import Solver, clean_estimate

SEEDS = [5, 6, 7]
V = "v_prediction"


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


def ending_config() -> TryOnConfig:
    config = tiny_config()
    return replace(config, unet=replace(config.unet, zero_terminal=True))


def test_schedule_falls_from_the_same_start_to_nothing() -> None:
    plain, ending = alphas_cumprod(), alphas_cumprod(zero_terminal=True)
    assert float(ending[0]) == float(plain[0])
    assert float(ending[-1]) == 2**-24
    assert bool((ending.diff() < 0).all())
    assert bool((ending <= plain).all())
    # algorithm 1, the other way round: what its roots lost grows evenly with what they were
    roots, were = ending[:-1].double().sqrt(), plain[:-1].double().sqrt()
    slopes = roots.diff() / were.diff()
    assert float(slopes.max() / slopes.min()) == pytest.approx(1.0, abs=2e-2)


@pytest.mark.parametrize("solver", ["dpm++2m", "unipc", "lcm"])
def test_the_librarys_schedule_is_ours(solver: str) -> None:
    pytest.importorskip("diffusers")
    for ends in (False, True):
        made: Any = Solver(solver, 4, "linspace", V, ends)  # pyright: ignore[reportArgumentType] # as parametrized
        theirs = made._scheduler(torch.device("cpu")).alphas_cumprod
        assert torch.allclose(theirs, alphas_cumprod(ends), atol=1e-6, rtol=0)


@pytest.mark.parametrize("spacing", ["linspace", "trailing"])
@pytest.mark.parametrize(
    ("solver", "steps", "near"),
    [
        ("plms", 50, 0.12),
        ("plms", 500, 0.12),  # begins at the very last step
        ("ddim", 1, 0.12),
        ("ddim", 10, 0.12),
        ("dpm++2m", 8, 1e-4),
        ("unipc", 8, 1e-4),
    ],
)
def test_solvers_reach_the_picture_from_pure_noise(
    solver: str, steps: int, near: float, spacing: str
) -> None:
    if solver in ("dpm++2m", "unipc"):
        pytest.importorskip("diffusers")
    clean = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    start = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    alphas = alphas_cumprod(zero_terminal=True)

    def v(x: Tensor, times: Tensor) -> Tensor:
        alpha = alphas[times][:, None, None, None]
        noise = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        return alpha.sqrt() * noise - (1 - alpha).sqrt() * clean

    drawn = Solver(solver, steps, spacing, V, zero_terminal=True)  # pyright: ignore[reportArgumentType] # as parametrized
    found = drawn.run(v, start)
    assert (found - clean).abs().max() < near
    if solver in ("plms", "ddim"):  # they end at the schedule's first step, not without noise
        first = alphas[int(drawn.timesteps()[0])]
        noise = (start - first.sqrt() * clean) / (1 - first).sqrt()
        wanted = alphas[0].sqrt() * clean + (1 - alphas[0]).sqrt() * noise
        assert (found - wanted).abs().max() < 2e-5
    times = torch.tensor([999, 20])
    seen = clean_estimate(v(start, times), start, times, V, zero_terminal=True)
    assert torch.allclose(seen, clean, atol=1e-5)


@pytest.mark.parametrize("solver", ["plms", "ddim", "dpm++2m", "unipc"])
@pytest.mark.parametrize("guidance", [1.0, 3.0])
def test_item_of_a_batch_is_the_item_alone(solver: str, guidance: float) -> None:
    if solver in ("dpm++2m", "unipc"):
        pytest.importorskip("diffusers")
    model = tiny_model(ending_config())
    condition = tiny_condition(model)
    settings = SamplerSettings(solver, 8, guidance=guidance)  # pyright: ignore[reportArgumentType] # as parametrized
    whole = sample(model, condition, settings, SEEDS)
    for row, seed in enumerate(SEEDS):
        alone = sample(model, condition.select([row]), settings, [seed])
        assert relative(alone, whole[row : row + 1]) <= 1e-4
    plain = tiny_model()
    assert relative(sample(plain, condition, settings, SEEDS), whole) > 1e-3


def test_start_from_the_photo_is_noise_where_nothing_of_it_is_left() -> None:
    model = tiny_model(ending_config())
    condition = tiny_condition(model)
    seen: list[Tensor] = []
    handle = model.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, :4]))
    sample(model, condition, SamplerSettings("ddim", 1, start="reference"), SEEDS)
    sample(model, condition, SamplerSettings("ddim", 1), SEEDS)
    handle.remove()
    assert torch.allclose(seen[0], seen[1], atol=2e-3)


def test_config_of_before_reads_as_it_was_and_noise_is_refused() -> None:
    config = ending_config()
    assert TryOnConfig.from_dict(config.to_dict()) == config
    older = tiny_config().to_dict()
    assert older["unet"].pop("zero_terminal") is False
    assert TryOnConfig.from_dict(older) == tiny_config()
    with pytest.raises(InputError, match=r"zero_terminal with .*'epsilon'\. Choose v_prediction"):
        UNetConfig(zero_terminal=True)

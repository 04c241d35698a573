"""Try-on sampling: what may not change the result does not, and what is wrong is said."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor
from tryon_tiny import TOKENIZER, tiny_condition, tiny_config, tiny_model

from unifashion_core.errors import BackendError, InputError, ShapeError
from unifashion_core.tryon.checkpoint import TryOnModel
from unifashion_core.tryon.condition import Condition
from unifashion_core.tryon.context import free_context
from unifashion_core.tryon.denoiser import Denoiser
from unifashion_core.tryon.sampling import SamplerSettings, sample
from unifashion_core.tryon.schedule import alphas_cumprod
from unifashion_core.tryon.solvers import Solver, clean_estimate

SEEDS = [5, 6, 7]
FAST = SamplerSettings("plms", 4)


@pytest.fixture(scope="module")
def model() -> TryOnModel:
    return tiny_model()


@pytest.fixture(scope="module")
def condition(model: TryOnModel) -> Condition:
    return tiny_condition(model)


def relative(got: Tensor, wanted: Tensor) -> float:
    return float((got - wanted).abs().max() / wanted.abs().max())


@pytest.mark.parametrize("solver", ["plms", "ddim", "dpm++2m", "unipc"])
@pytest.mark.parametrize("guidance", [(1.0, 1.0), (3.0, 1.0), (1.0, 2.0), (3.0, 2.0)])
def test_item_of_a_batch_is_the_item_alone(
    model: TryOnModel, condition: Condition, solver: str, guidance: tuple[float, float]
) -> None:
    by_text, by_garment = guidance
    settings = replace(FAST, solver=solver, guidance=by_text, garment_guidance=by_garment)
    whole = sample(model, condition, settings, SEEDS)
    for row, seed in enumerate(SEEDS):
        alone = sample(model, condition.select([row]), settings, [seed])
        assert relative(alone, whole[row : row + 1]) <= 1e-4
    assert relative(whole[:1], whole[1:2]) > 0.01


def test_batches_of_any_size_and_a_repeated_seed_agree(
    model: TryOnModel, condition: Condition
) -> None:
    whole = sample(model, condition, FAST, SEEDS)
    assert relative(sample(model, condition, replace(FAST, batch=2), SEEDS), whole) <= 1e-4
    assert torch.equal(sample(model, condition, FAST, SEEDS), whole)


def test_guidance_of_one_is_none_and_costs_no_call(model: TryOnModel, condition: Condition) -> None:
    calls: list[int] = []
    handle = model.unet.register_forward_hook(lambda *a: calls.append(len(a[1][0])))
    plain = sample(model, condition, FAST, SEEDS)
    none = sample(model, replace(condition, free=None), FAST, SEEDS)
    assert set(calls) == {3}
    calls.clear()
    early = sample(model, condition, replace(FAST, guidance=3.0, guidance_until=0.0), SEEDS)
    assert set(calls) == {3}
    calls.clear()
    sample(model, condition, replace(FAST, guidance=3.0, guidance_until=0.5), SEEDS)
    assert calls == [6, 6, 6, 3, 3]  # plms calls twice at its first step
    handle.remove()
    assert torch.equal(none, plain)
    assert relative(early, plain) <= 1e-4


def test_guidance_is_the_weighted_difference(model: TryOnModel, condition: Condition) -> None:
    x = torch.randn(3, 4, 8, 4, generator=torch.Generator().manual_seed(2))
    times = torch.full((3,), 500)
    assert condition.free is not None
    wanted = Denoiser(model, condition)(x, times)
    nothing = replace(condition, context=condition.free.expand_as(condition.context))
    free = Denoiser(model, nothing)(x, times)
    guided = Denoiser(model, condition, 2.5)(x, times)
    assert relative(guided, free + 2.5 * (wanted - free)) <= 1e-4


def test_garment_guidance_leads_on_from_the_prediction_without_the_garment(
    model: TryOnModel, condition: Condition
) -> None:
    x = torch.randn(3, 4, 8, 4, generator=torch.Generator().manual_seed(2))
    times = torch.full((3,), 500)
    wanted = Denoiser(model, condition)(x, times)
    bare = Denoiser(model, replace(condition, hint_strength=torch.zeros(3)))(x, times)
    led = Denoiser(model, condition, garment_guidance=2.5)
    assert relative(led(x, times), bare + 2.5 * (wanted - bare)) <= 1e-4
    assert relative(led(x, times, guided=False), wanted) <= 1e-4
    by_text = Denoiser(model, condition, 3.0)(x, times)
    both = Denoiser(model, condition, 3.0, garment_guidance=2.5)(x, times)
    assert relative(both, by_text + 1.5 * (wanted - bare)) <= 1e-4
    # An item that shows no garment is what it is without this guidance.
    assert condition.hint_strength.min() == 1
    mixed = replace(condition, hint_strength=torch.tensor([1.0, 0.0, 0.5]))
    found = Denoiser(model, mixed, garment_guidance=2.5)(x, times)
    assert relative(found[1], bare[1]) <= 1e-4
    assert relative(found[0], led(x, times)[0]) <= 1e-4


def test_garment_guidance_is_the_models_own_where_none_is_said(
    model: TryOnModel, condition: Condition
) -> None:
    keen = replace(model, config=replace(model.config, garment_guidance=2.0))
    calls: list[int] = []
    handle = model.unet.register_forward_hook(lambda *a: calls.append(len(a[1][0])))
    own = sample(keen, condition, FAST, SEEDS)
    assert set(calls) == {6}
    said = sample(model, condition, replace(FAST, garment_guidance=2.0), SEEDS)
    assert torch.equal(own, said)
    calls.clear()
    without = sample(keen, condition, replace(FAST, garment_guidance=1.0), SEEDS)
    bare = sample(keen, replace(condition, hint=None, hint_strength=torch.zeros(3)), FAST, SEEDS)
    assert set(calls) == {3}  # nothing to lead by costs nothing
    assert torch.equal(without, sample(model, condition, FAST, SEEDS))
    assert relative(own, without) > 0.01
    assert bool(torch.isfinite(bare).all())
    calls.clear()
    words = replace(FAST, guidance=3.0)  # words lead: the garment as trained
    assert torch.equal(
        sample(keen, condition, words, SEEDS), sample(model, condition, words, SEEDS)
    )
    assert set(calls) == {6}
    assert words.predictions(keen.config) == FAST.predictions(keen.config) == 2
    handle.remove()


def test_what_is_computed_once_changes_nothing(model: TryOnModel, condition: Condition) -> None:
    x = torch.randn(3, 4, 8, 4, generator=torch.Generator().manual_seed(2))
    for guidance, own in ((1.0, 1.0), (3.0, 1.0), (1.0, 2.0), (3.0, 2.0)):
        once, always = (
            Denoiser(model, condition, guidance, garment_guidance=own, steady=s)
            for s in (True, False)
        )
        for time in (999, 400, 1):
            times = torch.full((3,), time)
            assert relative(once(x, times), always(x, times)) <= 1e-4


def test_networks_called_by_hand_give_the_same(model: TryOnModel, condition: Condition) -> None:
    x = torch.randn(3, 4, 8, 4, generator=torch.Generator().manual_seed(2))
    times, scale = torch.full((3,), 300), model.config.autoencoder.scale_factor
    assert condition.hint is not None
    rest = [condition.agnostic.mean * scale, condition.keep, condition.pose.mean * scale]
    joined = torch.cat([x, *rest], dim=1)
    maps = model.garment(joined, times, condition.context, condition.hint.mean * scale)
    wanted = model.unet(joined, times, condition.context, maps)
    assert relative(Denoiser(model, condition)(x, times), wanted) <= 1e-4


@pytest.mark.parametrize("prediction", ["epsilon", "v_prediction"])
@pytest.mark.parametrize("solver", ["plms", "ddim", "dpm++2m", "unipc"])
@pytest.mark.parametrize("spacing", ["linspace", "leading", "trailing"])
def test_solvers_find_the_picture_that_a_perfect_network_sees(
    solver: str, prediction: str, spacing: str
) -> None:
    clean = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(1))
    alphas = alphas_cumprod()

    def predict(x: Tensor, times: Tensor) -> Tensor:
        alpha = alphas[times][:, None, None, None]
        noise = (x - alpha.sqrt() * clean) / (1 - alpha).sqrt()
        return (
            noise if prediction == "epsilon" else alpha.sqrt() * noise - (1 - alpha).sqrt() * clean
        )

    start = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(3))
    found = Solver(solver, 10, spacing, prediction).run(predict, start)  # pyright: ignore[reportArgumentType] # as parametrized
    assert (found - clean).abs().max() < 0.12
    times = torch.tensor([700, 20])
    seen = clean_estimate(predict(start, times), start, times, prediction, False)  # pyright: ignore[reportArgumentType] # as parametrized
    assert torch.allclose(seen, clean, atol=1e-3)


@pytest.mark.parametrize("spacing", ["leading", "trailing"])
def test_ddim_equals_the_librarys_where_its_steps_are_even(spacing: str) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.DDIMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", clip_sample=False,
        set_alpha_to_one=False, steps_offset=1, timestep_spacing=spacing,
    )  # fmt: skip
    scheduler.set_timesteps(10)
    wanted = start = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    for time in scheduler.timesteps:
        wanted = scheduler.step(torch.tanh(wanted), time, wanted).prev_sample
    solver = Solver("ddim", 10, spacing)  # pyright: ignore[reportArgumentType] # as parametrized
    assert torch.equal(solver.timesteps(), scheduler.timesteps.long())
    assert relative(solver.run(lambda x, _: torch.tanh(x), start), wanted) <= 1e-4


def test_plms_of_a_v_network_equals_it_of_the_noise() -> None:
    alphas = alphas_cumprod()

    def noise(x: Tensor, times: Tensor) -> Tensor:
        return torch.tanh(x * (1 + times[:, None, None, None] / 500))

    def v(x: Tensor, times: Tensor) -> Tensor:
        alpha = alphas[times][:, None, None, None]
        return (noise(x, times) - (1 - alpha).sqrt() * x) / alpha.sqrt()

    x = torch.randn(2, 4, 4, 4, generator=torch.Generator().manual_seed(0))
    wanted = Solver("plms", 20, prediction_type="epsilon").run(noise, x)
    assert relative(Solver("plms", 20, prediction_type="v_prediction").run(v, x), wanted) <= 1e-3


def test_distilled_models_alone_take_lcm_with_an_own_generator_an_item() -> None:
    model = tiny_model(tiny_config(distilled=True))
    condition = tiny_condition(model)
    settings = SamplerSettings("lcm", 3)
    whole = sample(model, condition, settings, SEEDS)
    alone = sample(model, condition.select([2]), settings, SEEDS[2:])
    assert relative(alone, whole[2:]) <= 1e-4
    plain = tiny_model()
    with pytest.raises(InputError, match="lcm is for models that were distilled"):
        sample(plain, condition, settings, SEEDS)


def test_start_from_the_photo_is_the_photo_noised_to_the_last_step(
    model: TryOnModel, condition: Condition
) -> None:
    seen: list[Tensor] = []
    handle = model.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, :4]))
    sample(model, condition, replace(FAST, start="reference"), SEEDS)
    sample(model, condition, FAST, SEEDS)
    handle.remove()
    assert condition.photo is not None
    noise = torch.stack(
        [torch.randn(4, 8, 4, generator=torch.Generator().manual_seed(s)) for s in SEEDS]
    )
    last, scale = alphas_cumprod()[999], model.config.autoencoder.scale_factor
    wanted = last.sqrt() * condition.photo.mean * scale + (1 - last).sqrt() * noise
    assert torch.allclose(seen[0], wanted, atol=1e-5)
    assert torch.equal(seen[5], noise)
    with pytest.raises(
        InputError, match="start from the person's photo, and the condition holds none"
    ):
        sample(model, replace(condition, photo=None), replace(FAST, start="reference"), SEEDS)


def test_default_takes_the_posteriors_mean_and_compat_draws(
    model: TryOnModel, condition: Condition
) -> None:
    seen: list[Tensor] = []
    handle = model.unet.register_forward_pre_hook(lambda _, args: seen.append(args[0][:, 4:8]))
    sample(model, condition, FAST, SEEDS)
    drawn = sample(model, condition, replace(FAST, reference_compat=True), SEEDS)
    alone = sample(model, condition.select([1]), replace(FAST, reference_compat=True), SEEDS[1:2])
    handle.remove()
    scale = model.config.autoencoder.scale_factor
    assert torch.equal(seen[0], condition.agnostic.mean * scale)
    assert not torch.allclose(seen[5], seen[0])
    spread = torch.exp(0.5 * condition.agnostic.logvar) * scale
    assert ((seen[5] - seen[0]) / spread).abs().mean() == pytest.approx(0.8, abs=0.1)
    assert relative(alone, drawn[1:2]) <= 1e-4


def test_reference_draws_the_garment_anew_at_every_call(
    model: TryOnModel, condition: Condition
) -> None:
    seen: list[Tensor] = []
    first = model.garment.cond_first_block
    handle = first.register_forward_pre_hook(lambda _, args: seen.append(args[0]))
    sample(model, condition, replace(FAST, reference_compat=True), SEEDS)
    assert len(seen) == 5
    assert not torch.equal(seen[0], seen[1])
    seen.clear()
    sample(model, condition, FAST, SEEDS)
    handle.remove()
    assert len(seen) == 1


def test_cancel_stops_within_a_step_and_frees_what_it_held(
    model: TryOnModel, condition: Condition
) -> None:
    class Stopped(Exception):
        pass

    calls: list[weakref.ref[Tensor]] = []

    def note(_: object, args: tuple[Tensor, ...], out: Tensor) -> None:
        calls.extend([weakref.ref(args[0]), weakref.ref(out)])

    def stop(done: int, total: int) -> None:
        assert total == 20
        if done == 3:
            raise Stopped

    handle = model.unet.register_forward_hook(note)
    with pytest.raises(Stopped):
        sample(model, condition, SamplerSettings("ddim", 20), SEEDS, on_step=stop)
    handle.remove()
    gc.collect()
    assert len(calls) == 2 * 3
    assert [ref for ref in calls if ref() is not None] == []


@pytest.mark.slow
def test_ten_runs_hold_what_one_held(model: TryOnModel, condition: Condition) -> None:
    def held() -> int:
        gc.collect()
        return sum(isinstance(o, Tensor) for o in gc.get_objects())

    sample(model, condition, FAST, SEEDS)
    after_one = held()
    for _ in range(9):
        sample(model, condition, FAST, SEEDS)
    assert held() <= after_one


def test_previews_come_before_the_step_is_counted_and_near_the_result(
    model: TryOnModel, condition: Condition
) -> None:
    order: list[str] = []
    pictures: list[Tensor] = []

    def preview(done: int, total: int, latents: Tensor) -> None:
        order.append(f"preview {done}/{total}")
        pictures.append(latents)

    found = sample(
        model, condition, SamplerSettings("ddim", 3), SEEDS,
        on_step=lambda done, total: order.append(f"step {done}/{total}"), on_preview=preview,
    )  # fmt: skip
    assert order == [f"{what} {n}/3" for n in (1, 2, 3) for what in ("preview", "step")]
    assert pictures[0].shape == found.shape
    assert relative(pictures[-1], found) < 0.2


def test_short_memory_halves_the_batch_and_then_names_the_setting(
    model: TryOnModel, condition: Condition
) -> None:
    wanted = sample(model, condition, FAST, SEEDS)
    tries: list[int] = []
    steps: list[tuple[int, int]] = []

    def limited(most: int) -> Callable[..., None]:
        def hook(_: object, args: tuple[Tensor, ...]) -> None:
            tries.append(len(args[0]))
            if len(args[0]) > most:
                raise torch.OutOfMemoryError("CUDA out of memory")

        return hook

    handle = model.unet.register_forward_pre_hook(limited(1))
    got = sample(model, condition, FAST, SEEDS, on_step=lambda a, b: steps.append((a, b)))
    handle.remove()
    assert relative(got, wanted) <= 1e-4
    assert tries == [3, 2, *[1] * 15]
    assert steps[-1] == (12, 12)
    handle = model.unet.register_forward_pre_hook(limited(0))
    with pytest.raises(BackendError, match=r"one picture of 16x32.*Choose a smaller size.*float16"):
        sample(model, condition, FAST, SEEDS)
    handle.remove()


def test_short_memory_of_the_cpu_counts_and_other_errors_do_not(
    model: TryOnModel, condition: Condition
) -> None:
    said = "[enforce fail at alloc_cpu.cpp] DefaultCPUAllocator: can't allocate memory"

    def hook(_: object, args: tuple[Tensor, ...]) -> None:
        if len(args[0]) > 1:
            raise RuntimeError(said)

    wanted = sample(model, condition, FAST, SEEDS)
    handle = model.unet.register_forward_pre_hook(hook)
    assert relative(sample(model, condition, FAST, SEEDS), wanted) <= 1e-4
    said = "mat1 and mat2 shapes cannot be multiplied"
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        sample(model, condition, FAST, SEEDS)
    handle.remove()


def test_empty_mask_is_not_sampled(model: TryOnModel, condition: Condition) -> None:
    calls: list[int] = []
    handle = model.unet.register_forward_hook(lambda *a: calls.append(len(a[1][0])))
    some = replace(condition, empty=(True, False, True))
    found = sample(model, some, FAST, SEEDS)
    assert set(calls) == {1}
    calls.clear()
    none = sample(model, replace(condition, empty=(True,) * 3), FAST, SEEDS)
    handle.remove()
    assert calls == []
    scale = model.config.autoencoder.scale_factor
    assert torch.equal(none, condition.agnostic.mean * scale)
    assert torch.equal(found[0], none[0])
    alone = sample(model, condition.select([1]), FAST, SEEDS[1:2])
    assert relative(found[1:2], alone) <= 1e-4


def test_values_that_are_no_numbers_stop_with_the_dtype(
    model: TryOnModel, condition: Condition
) -> None:
    calls: list[int] = []

    def spoil(_: object, __: object, out: Tensor) -> Tensor:
        calls.append(1)
        return out * float("nan") if len(calls) == 2 else out

    handle = model.unet.register_forward_hook(spoil)
    with pytest.raises(InputError, match=r"no numbers.*its type is float32.*bfloat16"):
        sample(model, condition, SamplerSettings("ddim", 4), SEEDS)
    handle.remove()
    assert len(calls) == 2
    bad = replace(condition.pose, mean=condition.pose.mean * float("nan"))
    with pytest.raises(InputError, match="the pose latents hold values that are no numbers"):
        sample(model, replace(condition, pose=bad), FAST, SEEDS)


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"solver": "euler"}, "solver 'euler' .* Choose of plms, ddim"),
        ({"steps": 0}, "0 steps. Choose 1 to 1000"),
        ({"steps": 3}, "asks for time step 1000"),
        ({"spacing": "wide"}, "spacing 'wide'"),
        ({"guidance": -1.0}, "guidance -1.0, wanted 0 or more"),
        ({"guidance": float("nan")}, "guidance nan"),
        ({"garment_guidance": -0.5}, "garment guidance -0.5, wanted 0 or more"),
        ({"guidance_until": 1.5}, "guidance for 1.5 of the steps"),
    ],
)
def test_settings_that_can_not_be_are_named(
    model: TryOnModel, condition: Condition, changes: dict[str, object], text: str
) -> None:
    with pytest.raises(InputError, match=text):
        sample(model, condition, replace(FAST, **changes), SEEDS)  # pyright: ignore[reportArgumentType] # wrong on purpose


def test_counts_and_guidance_without_a_free_context_are_errors(
    model: TryOnModel, condition: Condition
) -> None:
    with pytest.raises(ShapeError, match="2 seeds for 3 items"):
        sample(model, condition, FAST, [1, 2])
    with pytest.raises(InputError, match="no context of nothing"):
        sample(model, replace(condition, free=None), replace(FAST, guidance=2.0), SEEDS)
    assert free_context(tiny_model(free=False)) is None
    assert free_context(tiny_model(free=False), TOKENIZER) is not None


def test_half_precision_is_close(model: TryOnModel, condition: Condition) -> None:
    wanted = sample(model, condition, FAST, SEEDS)
    half = tiny_model()
    half.unet.to(torch.bfloat16)
    half.garment.to(torch.bfloat16)
    got = sample(half, condition, FAST, SEEDS)
    assert got.dtype == torch.float32
    assert relative(got, wanted) < 0.1

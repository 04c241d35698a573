"""The try-on networks: keys and shapes of the real size, input checks, sampler."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from unifashion_core.attention import AttentionBackend, math_attention, sdpa_attention
from unifashion_core.errors import InputError, ShapeError
from unifashion_core.training.warp_loss import WarpLoss, total_variation
from unifashion_core.tryon.autoencoder import Autoencoder, Posterior
from unifashion_core.tryon.config import AutoencoderConfig, UNetConfig
from unifashion_core.tryon.plms import sample_plms
from unifashion_core.tryon.schedule import plms_timesteps
from unifashion_core.tryon.unet import GarmentEncoder, TryOnUNet

SMALL = UNetConfig(model_channels=16, num_heads=4, context_dim=12, norm_groups=8)


def numel(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def random_unet(
    config: UNetConfig, attention: AttentionBackend
) -> tuple[TryOnUNet, GarmentEncoder]:
    torch.manual_seed(0)
    return TryOnUNet(config, attention).eval(), GarmentEncoder(config, attention).eval()


def inputs(
    config: UNetConfig, batch: int = 2, size: tuple[int, int] = (16, 8)
) -> dict[str, Tensor]:
    rng = torch.Generator().manual_seed(1)

    def draw(*shape: int) -> Tensor:
        return torch.randn(*shape, generator=rng)

    return {
        "x": draw(batch, config.in_channels, *size),
        "context": draw(batch, 5, config.context_dim),
        "garment": draw(batch, config.latent_channels, *size),
        "times": torch.tensor([801, 3])[:batch],
    }


def run(networks: tuple[nn.Module, ...], io: dict[str, Tensor]) -> Tensor:
    unet, garment = networks
    with torch.inference_mode():
        maps = garment(io["x"], io["times"], io["context"], io["garment"])
        return unet(io["x"], io["times"], io["context"], maps)


def test_real_size_has_the_checkpoints_keys_and_sizes() -> None:
    with torch.device("meta"):
        unet = TryOnUNet(UNetConfig(), math_attention())
        garment = GarmentEncoder(UNetConfig(), math_attention())
        vae = Autoencoder(AutoencoderConfig(), math_attention())
    keys = Counter("".join(re.findall(r"^warp_[a-z_]+", k)) for k in unet.state_dict())
    assert keys == {"": 686, "warp_flow_blks": 234, "warp_zero_convs": 18}
    assert len(garment.state_dict()) == 300
    assert len(vae.state_dict()) == 248
    warps = numel(unet.warp_flow_blks), numel(unet.warp_zero_convs)
    assert [round(n / 1e6, 1) for n in warps] == [171.8, 8.0]
    assert round((numel(unet) - sum(warps)) / 1e6, 1) == 859.5
    assert round(numel(garment) / 1e6, 1) == 348.8
    assert round(numel(vae) / 1e6, 1) == 83.7
    shapes = {k: tuple(v.shape) for k, v in unet.state_dict().items()}
    assert shapes["input_blocks.0.0.weight"] == (320, 13, 3, 3)
    hints = [shapes[f"warp_flow_blks.{i}.transformer_blocks.0.attn2.to_k.weight"] for i in range(9)]
    wide, hint = [1280] * 4 + [640] * 3 + [320] * 2, [1280, 1280, 640, 640, 640, 320, 320, 320, 320]
    assert hints == list(zip(wide, hint, strict=True))


@pytest.mark.slow
@pytest.mark.parametrize(
    "config",
    [
        SMALL,
        UNetConfig(2, 16, (1, 2), 1, (1,), 2, 6, 4),
        UNetConfig(16, 24, (1, 2, 2), 1, (2, 4), 3, 10, 12),
    ],
)
def test_any_depth_runs_and_backends_agree(config: UNetConfig) -> None:
    io = inputs(config)
    plain, fast = (run(random_unet(config, a), io) for a in (math_attention(), sdpa_attention()))
    assert plain.shape == (2, config.latent_channels, 16, 8)
    assert torch.allclose(plain, fast, atol=1e-4)


def test_batch_equals_items() -> None:
    networks, io = random_unet(SMALL, math_attention()), inputs(SMALL)
    whole = run(networks, io)
    for i in range(2):
        one = run(networks, {k: v[i : i + 1] for k, v in io.items()})
        assert torch.allclose(one[0], whole[i], atol=1e-5)


def test_garment_reaches_the_result() -> None:
    networks, io = random_unet(SMALL, math_attention()), inputs(SMALL)
    other = {**io, "garment": io["garment"].flip(0)}
    assert not torch.allclose(run(networks, io), run(networks, other), atol=1e-4)


def test_sides_that_can_not_be_halved_are_an_error_with_the_nearest() -> None:
    networks, io = random_unet(SMALL, math_attention()), inputs(SMALL, size=(16, 12))
    with pytest.raises(
        ShapeError, match="a latent side of 12 can't be halved 3 times. Use 8 or 16"
    ):
        run(networks, io)


def test_wrong_channels_are_an_error() -> None:
    networks, io = random_unet(SMALL, math_attention()), inputs(SMALL)
    with pytest.raises(ShapeError, match=r"wanted \(B, 13, h, w\)"):
        run(networks, {**io, "x": io["x"][:, :9]})


def test_widths_that_groups_do_not_divide_are_an_error() -> None:
    with pytest.raises(InputError, match="width 48 can't be divided by 32"):
        UNetConfig(model_channels=48)


def test_autoencoder_wants_multiples_of_its_factor() -> None:
    vae = Autoencoder(AutoencoderConfig(channels=8, norm_groups=4), math_attention())
    with pytest.raises(ShapeError, match="wanted multiples of 8"):
        vae.encode(torch.zeros(1, 3, 20, 16))


def test_posterior_draws_are_its_own() -> None:
    posterior = Posterior(torch.full((1, 4, 2, 2), 3.0), torch.full((1, 4, 2, 2), -60.0))
    assert torch.allclose(posterior.sample(torch.randn(1, 4, 2, 2)), posterior.mean, atol=1e-6)


def toy(x: Tensor, times: Tensor) -> Tensor:
    return torch.tanh(x * (1 + times.float()[:, None, None, None] / 500))


@pytest.mark.parametrize("steps", [1, 2, 5, 20, 50])
def test_plms_equals_the_librarys_where_steps_divide_1000(steps: int) -> None:
    diffusers = pytest.importorskip("diffusers")
    scheduler = diffusers.PNDMScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", skip_prk_steps=True,
        set_alpha_to_one=False, steps_offset=1,
    )  # fmt: skip
    scheduler.set_timesteps(steps)
    x = torch.randn(2, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    wanted = x
    for time in scheduler.timesteps:
        wanted = scheduler.step(toy(wanted, time.expand(2)), time, wanted).prev_sample
    got = sample_plms(toy, x, plms_timesteps(steps))
    assert (got - wanted).abs().max() <= 1e-4 * wanted.abs().max()


def test_steps_that_do_not_divide_1000_take_one_more() -> None:
    assert plms_timesteps(50).tolist() == list(range(981, 0, -20))
    assert len(plms_timesteps(30)) == 31
    assert len(plms_timesteps(6)) == 7


@pytest.mark.parametrize("steps", [0, 3, 1001])
def test_steps_beyond_the_schedule_are_an_error(steps: int) -> None:
    with pytest.raises(InputError, match="step"):
        plms_timesteps(steps)


def test_sampling_can_be_cancelled_within_a_step() -> None:
    class Stopped(Exception):
        pass

    calls: list[int] = []

    def predict(x: Tensor, times: Tensor) -> Tensor:
        calls.append(int(times[0]))
        return x

    def stop(done: int, total: int) -> None:
        assert total == 50
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        sample_plms(predict, torch.zeros(1, 4, 8, 8), plms_timesteps(50), on_step=stop)
    assert calls == [981, 961, 961, 941]


def slow_variation(rows: Tensor, columns: Tensor, mask: Tensor) -> float:
    total = 0.0
    count, height, width = mask.shape
    for down, across in ((1, 0), (0, 1)):
        changes: list[float] = []
        for b in range(count):
            for i in range(height - down):
                for j in range(width - across):
                    here, there = (b, i, j), (b, i + down, j + across)
                    if mask[here] and mask[there]:
                        moved = abs(rows[here] - rows[there]) + abs(columns[here] - columns[there])
                        changes.append(float(moved))
        total += sum(changes) / max(len(changes), 1)
    return total


def test_total_variation_equals_a_loop() -> None:
    rng = torch.Generator().manual_seed(2)
    rows, columns = (torch.rand(2, 5, 4, generator=rng) for _ in range(2))
    mask = torch.rand(2, 5, 4, generator=rng) > 0.3
    wanted = slow_variation(rows, columns, mask)
    assert float(total_variation(rows, columns, mask)) == pytest.approx(wanted, abs=1e-5)
    assert float(total_variation(rows, columns, torch.zeros_like(mask))) == 0.0


def test_warp_loss_counts_only_the_grids_and_blocks_it_was_given() -> None:
    seen: list[int] = []
    networks, io = random_unet(SMALL, math_attention()), inputs(SMALL)
    unet, garment = networks
    loss = WarpLoss(torch.ones(2, 1, 128, 64), (16, 8), blocks=(4, 7), key_limits=(20, 200))
    count: Callable[[int, Tensor, Tensor], None] = lambda n, q, k: seen.append(k.shape[2])  # noqa: E731
    with torch.inference_mode():
        maps = garment(io["x"], io["times"], io["context"], io["garment"])
        unet(io["x"], io["times"], io["context"], maps, count)
        unet(io["x"], io["times"], io["context"], maps, loss.watch)
    assert seen == [8, 8, 8, 32, 32, 32, 128, 128, 128]
    assert len(loss.terms) == 2
    assert float(loss.total()) > 0
    assert float(WarpLoss(torch.ones(2, 1, 128, 64), (16, 8)).total()) == 0.0

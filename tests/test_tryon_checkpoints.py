"""Try-on checkpoints: both layouts of the wild, ours, and what is refused."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import Tensor

from unifashion_core.attention import math_attention
from unifashion_core.errors import CheckpointError
from unifashion_core.tryon.checkpoint import (
    TryOnModel,
    build_tryon,
    convert_tryon,
    load_tryon,
    save_tryon,
)
from unifashion_core.tryon.condition_encoders import ClipText, ImageContext
from unifashion_core.tryon.config import AutoencoderConfig, ClipConfig, TryOnConfig, UNetConfig
from unifashion_core.tryon.layouts import PREFIXES
from unifashion_core.tryon.plms import sample_plms
from unifashion_core.tryon.schedule import plms_timesteps

UNET = UNetConfig(model_channels=32, num_heads=4, context_dim=64)
VAE = AutoencoderConfig(channels=32, channel_mult=(1, 1, 2))
TEXT = ClipConfig(64, 2, 1, 96, 16, 50)
IMAGE = ClipConfig(64, 1, 1, 96, 5, 0, 8)
CONFIGS = {
    "UniFashion": TryOnConfig(UNET, VAE, TEXT, None),
    "StableVITON": TryOnConfig(UNET, VAE, None, IMAGE, 2),
}


def make(kind: str) -> TryOnModel:
    torch.manual_seed(3)
    model = build_tryon(CONFIGS[kind], math_attention())
    for module in model.modules.values():
        module.eval().requires_grad_(False)
    return model


def original_state(model: TryOnModel) -> dict[str, Tensor]:
    """As a Lightning checkpoint holds it, with the dead weights around it."""
    state: dict[str, Tensor] = {}
    for name, module in model.modules.items():
        for key, value in module.state_dict().items():
            prefix = "" if key.startswith("proj_out.") and name == "image" else PREFIXES[name]
            state[prefix + key] = value
    state["learnable_vector"] = torch.full((1, 1, 64), 0.5)
    state["lastzc.weight"], state["lastzc.bias"] = torch.zeros(4, 4, 1, 1), torch.zeros(4)
    for name in ("betas", "alphas_cumprod", "posterior_mean_coef1", "logvar"):
        state[name] = torch.zeros(1000)
    return state


@pytest.fixture(params=list(CONFIGS))
def kind(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def checkpoint(kind: str, tmp_path: Path) -> Path:
    state = original_state(make(kind))
    if kind == "UniFashion":  # it still carries the image encoder of its origin
        image = make("StableVITON").context.state_dict()
        state |= {
            (k if k.startswith("proj_out.") else PREFIXES["image"] + k): v for k, v in image.items()
        }
        positions = "cond_text_model.transformer.text_model.embeddings.position_ids"
        state[positions] = torch.arange(16)[None]
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": state, "epoch": 3}, path)
    return path


def sample(model: TryOnModel) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    x, garment = (torch.randn(2, 4, 16, 8, generator=rng) for _ in range(2))
    condition = torch.randn(2, 9, 16, 8, generator=rng)
    with torch.inference_mode():
        if isinstance(model.context, ClipText):
            context = model.context(torch.tensor([[48, 3, 9, 49], [48, 7, 49, 49]]))
        else:
            context = model.context(torch.randn(2, 3, 16, 16, generator=rng))

        def predict(x: Tensor, times: Tensor) -> Tensor:
            joined = torch.cat([x, condition], dim=1)
            maps = model.garment(joined, times, context, garment)
            return model.unet(joined, times, context, maps)

        return model.autoencoder.decode(sample_plms(predict, x, plms_timesteps(4)))


@pytest.mark.slow
def test_original_checkpoint_samples_equal(kind: str, checkpoint: Path) -> None:
    model = load_tryon(checkpoint, attention=math_attention(), heads=4)
    assert model.config == CONFIGS[kind]
    assert model.config.context == ("text" if kind == "UniFashion" else "image")
    assert isinstance(model.context, ClipText if kind == "UniFashion" else ImageContext)
    assert model.free is not None
    assert float(model.free.mean()) == 0.5
    assert torch.allclose(sample(model), sample(make(kind)), atol=1e-5)


@pytest.mark.slow
def test_converted_folder_needs_nothing_told(kind: str, checkpoint: Path, tmp_path: Path) -> None:
    state = convert_tryon(checkpoint, tmp_path / "ours", heads=4)
    assert "lastzc.weight" in state.dropped
    assert ("cond_stage_model.final_ln.weight" in state.dropped) == (kind == "UniFashion")
    model = load_tryon(tmp_path / "ours", attention=math_attention())
    assert torch.allclose(sample(model), sample(make(kind)), atol=1e-5)
    save_tryon(tmp_path / "again", model)
    again = load_tryon(tmp_path / "again", attention=math_attention())
    assert torch.equal(sample(again), sample(model))


@pytest.mark.slow
def test_layout_of_the_weights_changes_nothing(tmp_path: Path) -> None:
    save_tryon(tmp_path, make("UniFashion"))
    plain, laid = (
        load_tryon(tmp_path, attention=math_attention(), channels_last=last)
        for last in (False, True)
    )
    default = load_tryon(tmp_path, attention=math_attention())
    first = [next(m.garment.cond_first_block.parameters()) for m in (plain, laid, default)]
    assert [w.is_contiguous() for w in first] == [True, False, False]
    assert torch.allclose(sample(plain), sample(laid), atol=1e-5)
    assert torch.equal(sample(default), sample(laid))
    save_tryon(tmp_path / "again", laid)
    again = load_tryon(tmp_path / "again", attention=math_attention())
    assert torch.equal(sample(again), sample(laid))


@pytest.mark.slow
def test_half_precision_folder_is_close(tmp_path: Path) -> None:
    save_tryon(tmp_path, make("UniFashion"), dtype=torch.float16)
    got = sample(load_tryon(tmp_path, attention=math_attention()))
    wanted = sample(make("UniFashion"))
    assert (got - wanted).abs().max() < 0.05 * wanted.abs().max()


@pytest.mark.slow
@pytest.mark.parametrize(
    "name",
    [
        "model.diffusion_model.warp_zero_convs.4.bias",
        "control_model.cond_first_block.0.weight",
        "first_stage_model.decoder.conv_out.bias",
        "cond_text_model.transformer.text_model.final_layer_norm.weight",
    ],
)
def test_missing_weight_is_named(name: str, tmp_path: Path) -> None:
    state = original_state(make("UniFashion"))
    del state[name]
    torch.save(state, tmp_path / "x.ckpt")
    last = name.rsplit(".", 2)[1]
    with pytest.raises(CheckpointError, match=f"1 weights are missing: .*{last}"):
        load_tryon(tmp_path / "x.ckpt", attention=math_attention(), heads=4)


@pytest.mark.parametrize(
    ("names", "family"),
    [
        (["conditioner.embedders.0.x", "model.diffusion_model.out.0.weight"], "an SDXL checkpoint"),
        (["double_blocks.0.img_attn.qkv.weight"], "a Flux checkpoint"),
        (["model.diffusion_model.joint_blocks.0.x"], "a Stable Diffusion 3 checkpoint"),
        (["model.diffusion_model.input_blocks.0.0.weight"], "a plain Stable Diffusion checkpoint"),
        (["encoder.weight"], "no try-on UNet, it holds encoder.weight"),
    ],
)
def test_other_families_are_named(names: list[str], family: str, tmp_path: Path) -> None:
    torch.save({name: torch.zeros(2, 2) for name in names}, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=family):
        load_tryon(tmp_path / "x.ckpt", attention=math_attention())


@pytest.mark.slow
def test_unknown_weights_are_an_error(tmp_path: Path) -> None:
    state = {**original_state(make("UniFashion")), "new_thing.weight": torch.zeros(3)}
    torch.save(state, tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match=r"unknown weights: new_thing\.weight"):
        load_tryon(tmp_path / "x.ckpt", attention=math_attention(), heads=4)


@pytest.mark.slow
def test_heads_that_nobody_tells_are_an_error(tmp_path: Path) -> None:
    torch.save(original_state(make("UniFashion")), tmp_path / "x.ckpt")
    with pytest.raises(CheckpointError, match="attention heads is not known for width 32"):
        load_tryon(tmp_path / "x.ckpt", attention=math_attention())


@pytest.mark.slow
def test_values_that_are_no_numbers_are_an_error(tmp_path: Path) -> None:
    state = original_state(make("UniFashion"))
    state["control_model.cond_first_block.0.bias"][3] = float("nan")
    torch.save(state, tmp_path / "x.ckpt")
    with pytest.raises(
        CheckpointError, match=r"control_model: cond_first_block\.0\.bias is unusable"
    ):
        load_tryon(tmp_path / "x.ckpt", attention=math_attention(), heads=4)


def test_real_size_encoders_have_the_checkpoints_keys() -> None:
    image = ClipConfig(1024, 24, 16, 4096, 257, 0, 14)
    with torch.device("meta"):
        text = ClipText(ClipConfig(), math_attention())
        context = ImageContext(TryOnConfig(image=image), math_attention())
    assert len(text.state_dict()) == 196
    assert round(sum(p.numel() for p in text.parameters()) / 1e6, 1) == 123.1
    names = list(context.state_dict())
    counts = {p: sum(n.startswith(p) for n in names) for p in ("transformer", "mapper", "final_ln")}
    assert counts == {"transformer": 391, "mapper": 60, "final_ln": 2}
    shapes = {k: tuple(v.shape) for k, v in context.state_dict().items()}
    assert shapes["mapper.resblocks.0.attn.c_qkv.weight"] == (3072, 1024)
    assert shapes["proj_out.weight"] == (768, 1024)


def test_context_is_padded_text_of_any_length() -> None:
    model = make("UniFashion")
    with pytest.raises(Exception, match="17 tokens, it has 16 positions"):
        model.context(torch.zeros(1, 17, dtype=torch.long))

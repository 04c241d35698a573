"""The CLIP tower: the tokens that transformers' own model gives, from any folder that it reads."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from reference.encoder_oracles import random_model, small_config
from safetensors.torch import load_file, save_file

from unifashion_core.attention import math_attention, sdpa_attention
from unifashion_core.encoder.clip_tower import ClipTower, read_clip_tower
from unifashion_core.errors import CheckpointError, ShapeError

transformers = pytest.importorskip("transformers")


def vision_model(**changes: Any) -> Any:
    settings = {
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 3,
        "num_attention_heads": 4,
        "image_size": 28,
        "patch_size": 7,
        "hidden_act": "quick_gelu",
        **changes,
    }
    torch.manual_seed(2)
    model = transformers.CLIPVisionModel._from_config(
        transformers.CLIPVisionConfig(**settings), attn_implementation="eager"
    )
    for parameter in model.parameters():
        torch.nn.init.normal_(parameter, std=0.2)
    return model.eval()


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    vision_model().save_pretrained(tmp_path / "clip")
    return tmp_path / "clip"


@torch.inference_mode()
def expected_tokens(folder: Path, pixels: torch.Tensor) -> torch.Tensor:
    model = transformers.CLIPVisionModel.from_pretrained(folder, attn_implementation="eager")
    return model.eval()(pixels, output_hidden_states=True).hidden_states[-2]


@pytest.mark.parametrize("attention", [math_attention(), sdpa_attention()], ids=lambda a: a.name)
@torch.inference_mode()
def test_tokens_equal_transformers(folder: Path, attention: Any) -> None:
    config, state = read_clip_tower(folder)
    tower = ClipTower(config, attention).eval()
    tower.load_state_dict(state)
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    got = tower(pixels)
    assert got.shape == (2, 17, 32)
    torch.testing.assert_close(got, expected_tokens(folder, pixels), atol=2e-5, rtol=0)


def test_config_is_read_from_the_folder(folder: Path) -> None:
    config, state = read_clip_tower(folder)
    assert (config.kind, config.activation) == ("clip_vit", "quick_gelu")
    assert (config.width, config.layers, config.heads, config.mlp_hidden) == (32, 3, 4, 48)
    assert (config.image_size, config.patch_size, config.layer_norm_eps) == (28, 7, 1e-5)
    assert all(name.startswith("vision_model.") for name in state)


@torch.inference_mode()
def test_files_of_old_and_new_transformers_are_read_alike(folder: Path) -> None:
    _, expected = read_clip_tower(folder)
    path = folder / "model.safetensors"
    weights = load_file(path)
    bare = {k.removeprefix("vision_model."): v for k, v in weights.items()}
    for form in (bare, {f"vision_model.{k}": v for k, v in bare.items()}):
        save_file(form, path, metadata={"format": "pt"})
        _, state = read_clip_tower(folder)
        assert state.keys() == expected.keys()
        assert all(torch.equal(state[k], expected[k]) for k in expected)


def test_missing_weights_are_an_error(folder: Path) -> None:
    path = folder / "model.safetensors"
    weights = load_file(path)
    kept = {k: v for k, v in weights.items() if "layers.1.mlp" not in k}
    save_file(kept, path, metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"4 weights are missing .*layers\.1\.mlp"):
        read_clip_tower(folder)


def test_other_folders_are_an_error(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(CheckpointError, match="transformers can't read it"):
        read_clip_tower(tmp_path / "empty")
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "hidden_act": "relu"}))
    with pytest.raises(CheckpointError, match="its activation is 'relu'"):
        read_clip_tower(folder)


def test_another_image_size_is_an_error(folder: Path) -> None:
    config, _ = read_clip_tower(folder)
    with pytest.raises(ShapeError, match=r"wanted \(B, 3, 28, 28\)"):
        ClipTower(config, math_attention())(torch.zeros(1, 3, 14, 14))


@torch.inference_mode()
def test_encoder_with_a_clip_tower_keeps_its_keys_under_visual_encoder(folder: Path) -> None:
    tower, state = read_clip_tower(folder)
    model = random_model(small_config(tower=tower, vision_width=32), seed=0)
    keys = {k for k in model.state_dict() if k.startswith("visual_encoder.")}
    assert keys == {f"visual_encoder.{name}" for name in state}
    model.visual_encoder.load_state_dict(state)
    pixels = torch.randn(1, 3, 28, 28)
    tokens = model.tower(pixels).tokens
    torch.testing.assert_close(tokens, expected_tokens(folder, pixels), atol=2e-5, rtol=0)
    assert model.image_features(model.encode_vision(pixels)).shape == (1, 5, 12)

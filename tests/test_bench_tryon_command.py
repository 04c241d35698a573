"""`run.py bench tryon` of a tiny model, as a user calls it."""

from __future__ import annotations

import json

import pytest
import torch


@pytest.fixture
def model_folder(pack, tmp_path):
    config = pack.module("unifashion_core.tryon.config")
    checkpoint = pack.module("unifashion_core.tryon.checkpoint")
    attention = pack.module("unifashion_core.attention").math_attention()
    torch.manual_seed(2)
    ids = (*range(0, 49_406, 4_000), 49_406, 49_407)
    sizes = config.TryOnConfig(
        config.UNetConfig(4, 16, (1, 2), 1, (2,), 2, 24, 4, "v_prediction", warp_positions=True),
        config.AutoencoderConfig(8, (1, 1, 2, 2), 1, 4, 4, 0.5),
        config.ClipConfig(24, 1, 2, 32, 12, len(ids), ids=ids),
        size=(64, 64),
        pose_map="parts",
    )
    checkpoint.save_tryon(tmp_path / "tiny", checkpoint.build_tryon(sizes, attention))
    return tmp_path / "tiny"


@pytest.mark.slow
def test_figures_are_those_of_sixteen_items(pack, model_folder, monkeypatch, capsys):
    cli = pack.module("nodes._cli")
    folder = pack.module("nodes._cli.workflows").__file__.rsplit("/", 3)[0]
    monkeypatch.setenv(cli.INSIDE, folder)
    words = ["bench", "tryon", "--model", str(model_folder), "--solver", "ddim", "--steps", "4"]
    assert cli.main([*words, "--seeds", "1", "--json"], folder) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["items"] == 16
    assert found["encodings"] == 8
    assert found["latent_max_rel_error"] <= 1e-4
    assert found["solver"] == "ddim, 4 steps, linspace"
    named = {"x_equal_steps", "x_default", "x_cfg_off", "ssim"}
    assert all(isinstance(found[name], float) for name in named)

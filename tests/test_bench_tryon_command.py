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


def test_the_help_tells_how_long_judges_learn(pack, monkeypatch, capsys):
    cli = pack.module("nodes._cli")
    school = pack.module("unifashion_core.evaluation.tryon_judge_store").JudgeSchool
    folder = pack.module("nodes._cli.workflows").__file__.rsplit("/", 3)[0]
    monkeypatch.setenv(cli.INSIDE, folder)
    with pytest.raises(SystemExit):
        cli.main(["bench", "--help"], folder)
    said = " ".join(capsys.readouterr().out.split())
    assert f"(default: {school.pattern_steps} and {school.outline_steps})" in said


@pytest.mark.slow
def test_quality_is_measured_on_held_out_mannequins_with_a_sheet(
    pack, model_folder, monkeypatch, capsys, tmp_path
):
    cli = pack.module("nodes._cli")
    pairs = pack.module("unifashion_core.training.wardrobe_pairs")
    folder = pack.module("nodes._cli.workflows").__file__.rsplit("/", 3)[0]
    monkeypatch.setenv(cli.INSIDE, folder)
    sizes = pairs.PairsConfig(size=64, height=128)
    for split, count in (("train", 6), ("test", 3)):
        pairs.build_pairs(tmp_path / "data", count, sizes, split=split)
    words = ["bench", "tryon", "--model", str(model_folder), "--data", str(tmp_path / "data")]
    words += ["--out", str(tmp_path / "sheet"), "--steps", "2", "--seeds", "2"]
    words += ["--records", "2", "--judge-records", "5", "--judge-steps", "2", "--json"]
    words += ["--judges", str(tmp_path / "judges")]
    assert cli.main(words, folder) == 0
    first = capsys.readouterr()
    assert "judges trained now and kept in" in first.err
    monkeypatch.setenv(cli.INSIDE, folder)  # the command takes it away
    assert cli.main(words, folder) == 0
    told = capsys.readouterr()
    assert told.err.count("judge read, trained before: ") == 2
    assert "trained now" not in told.err
    before, found = json.loads(first.out), json.loads(told.out)
    assert (before["judges"].pop("trained_now"), found["judges"].pop("trained_now")) == (2, 0)
    assert found["judges"] == before["judges"]
    assert found.keys() == {"model", "ceiling", "floor", "sketch", "judges"}
    assert found["judges"]["records"] == 2
    assert (tmp_path / "sheet" / "sheet.html").is_file()
    assert len(list((tmp_path / "sheet" / "pictures").iterdir())) == 2

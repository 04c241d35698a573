"""`render PLAN` with a tiny model: made, gone on with, counted, shown, and refused."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import pytest
from tryon_samples import tiny_config, tiny_model

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def render(pack):
    cli = pack.module("nodes._cli")

    def run(*words: object) -> int:
        parser: argparse.ArgumentParser = cli.command_parser("render")
        args = parser.parse_args([*map(str, words)])
        args.parser, args.pack = parser, ROOT
        return cli._module(cli.COMMANDS["render"]).run(args)

    return run


@pytest.fixture(scope="module")
def folder(pack, tmp_path_factory) -> Path:
    """A model, a person, two garments and a plan."""
    path = tmp_path_factory.mktemp("plan")
    tryon = pack.module("unifashion_core.tryon.checkpoint")
    config = tiny_config(pack.module("unifashion_core.tryon.config"))
    attention = pack.module("unifashion_core.attention").math_attention()
    tryon.save_tryon(path / "tiny", tiny_model(tryon, config, attention))
    wardrobe = pack.module("unifashion_core.wardrobe")
    person = wardrobe.sample_person(1, framing="full")
    wardrobe.render_person(person, 320).image.save(path / "ana.png")
    for n in range(2):
        wardrobe.render(wardrobe.sample_garment(n, category="t-shirt"), 96).save(
            path / f"tee{n}.png"
        )
    lines = ["person,garment,seed,steps", "ana.png,tee0.png,1,2", "ana.png,tee1.png,2,2"]
    (path / "plan.csv").write_text("\n".join(lines) + "\n", "utf-8")
    return path


def test_a_plan_is_made_counted_and_gone_on_with(render, folder, tmp_path, capsys):
    out = tmp_path / "out"
    words = [folder / "plan.csv", "--model", folder / "tiny", "--out", out, "--json"]
    assert render(*words, "--dry-run") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["total"], told["todo"], told["estimate_seconds"]) == (2, 2, None)
    assert not out.exists()
    assert render(*words, "--only", "1") == 0
    assert json.loads(capsys.readouterr().out)["done"] == 1
    assert render(*words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["total"], told["done"], told["skipped"], told["failed"]) == (2, 1, 1, [])
    assert (out / "index.html").is_file()
    assert (out / "sheets" / "00_grid.jpg").is_file()
    (picture,) = out.glob("00001_ana_tee1_2_*.png")
    assert render("--show", picture, "--json") == 0
    said = json.loads(capsys.readouterr().out)
    assert said["values"]["garment"] == "tee1"
    assert said["settings"] == {"steps": 2}
    assert render("--show", picture) == 0
    assert "values.seed: 2" in capsys.readouterr().out


def test_a_plan_can_be_combined_and_filtered(render, folder, tmp_path, capsys):
    words = [folder / "plan.csv", "--model", folder / "tiny", "--out", tmp_path / "o", "--dry-run"]
    assert render(*words, "--json", "--product") == 0
    assert json.loads(capsys.readouterr().out)["total"] == 4
    assert render(*words, "--product", "--where", "seed=2") == 0
    assert "2 pictures: 1 person, 2 garments" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("words", "problem"),
    [
        (["--set", "1.seed=3"], "--set goes with a workflow"),
        (["--server", "http://x"], "--server goes with a workflow"),
        (["--batch", "0"], "--batch takes 1 or more"),
    ],
)
def test_what_does_not_go_with_a_plan_is_told(render, folder, tmp_path, capsys, words, problem):
    with pytest.raises(SystemExit):
        render(folder / "plan.csv", "--out", tmp_path / "o", *words)
    assert problem in capsys.readouterr().err

"""`render PLAN` with a tiny model: made, gone on with, counted, shown, and refused."""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from PIL import Image
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


def lines(folder: Path) -> list[dict[str, Any]]:
    text = (folder / "manifest.jsonl").read_text("utf-8")
    return [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("\n")]


@pytest.mark.slow
def test_a_plan_is_made_counted_and_gone_on_with(render, folder, tmp_path, capsys):
    out = tmp_path / "out"
    words = [folder / "plan.csv", "--model", folder / "tiny", "--out", out, "--json"]
    assert render(*words, "--dry-run") == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["total"], told["todo"], told["estimate_seconds"]) == (2, 2, None)
    assert not out.exists()
    assert render(*words, "--only", "1") == 0
    assert json.loads(capsys.readouterr().out)["done"] == 1
    (line,) = lines(out)
    assert -1 <= line["scores"]["similarity"] <= 1
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
    assert said["scores"] == line["scores"]
    assert render("--show", picture) == 0
    assert "values.seed: 2" in capsys.readouterr().out


def test_a_plan_can_be_combined_and_filtered(render, folder, tmp_path, capsys):
    words = [folder / "plan.csv", "--model", folder / "tiny", "--out", tmp_path / "o", "--dry-run"]
    assert render(*words, "--json", "--product") == 0
    assert json.loads(capsys.readouterr().out)["total"] == 4
    assert render(*words, "--product", "--where", "seed=2") == 0
    assert "2 pictures: 1 person, 2 garments" in capsys.readouterr().out


def test_a_plan_can_go_without_scores(render, folder, tmp_path):
    words = [folder / "plan.csv", "--model", folder / "tiny", "--out", tmp_path / "o"]
    assert render(*words, "--only", "0", "--no-scores") == 0
    assert [line["scores"] for line in lines(tmp_path / "o")] == [None]


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a signal of POSIX systems")
def test_a_kill_in_the_middle_and_the_same_command_again(folder, tmp_path):
    """24 pictures; killed, a line torn, the table edited, and nothing finished is made again."""
    table, out = tmp_path / "plan.csv", tmp_path / "out"
    for path in folder.glob("*.png"):
        shutil.copy(path, tmp_path)
    rows = [f"ana.png,tee{n % 2}.png,{n},1" for n in range(24)]
    table.write_text("\n".join(["person,garment,seed,steps", *rows]) + "\n", "utf-8")
    command = [sys.executable, str(ROOT / "run.py"), "render", str(table), "--out", str(out)]
    command += ["--model", str(folder / "tiny"), "--batch", "2", "--json"]
    ready = {**os.environ, "UNIFASHION_INSIDE": str(ROOT)}
    process = subprocess.Popen(command, env=ready, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in range(2400):
        if (out / "manifest.jsonl").is_file() and len(lines(out)) >= 5:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    listing = out / "manifest.jsonl"
    before = lines(out)
    assert 5 <= len(before) < 24
    made = {p: p.stat().st_mtime_ns for p in (out / line["files"][0]["file"] for line in before)}
    listing.write_bytes(listing.read_bytes() + b'{"id": "torn')
    rows = [*rows[1:], "ana.png,tee1.png,99,1"]  # one line out, one in: the rest keep their files
    table.write_text("\n".join(["person,garment,seed,steps", *rows]) + "\n", "utf-8")
    again = subprocess.run(command, env=ready, capture_output=True, check=True)
    told = json.loads(again.stdout)
    assert (told["total"], told["done"] + told["skipped"], told["failed"]) == (24, 24, [])
    assert told["skipped"] - (len(before) - 1) in (0, 1)  # one may have lost its line alone
    assert {p: p.stat().st_mtime_ns for p in made} == made
    assert len({line["id"] for line in lines(out)}) == len(lines(out)) == 25
    for line in lines(out):
        with Image.open(out / line["files"][0]["file"]) as picture:
            picture.load()


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

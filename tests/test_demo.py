"""The demo on a few pictures of one's own: searched, tried on, designed, and told in its report."""

from __future__ import annotations

import argparse
import html
import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
KINDS = ("dress", "dress", "t-shirt", "t-shirt", "longsleeve", "longsleeve", "pants", "shoes")


@pytest.fixture(scope="module")
def made(pack, tmp_path_factory):
    """What `demo --images FOLDER --json` says, and its folder."""
    base = tmp_path_factory.mktemp("demo")
    wardrobe = pack.module("unifashion_core.wardrobe")
    (base / "mine").mkdir()
    for n, kind in enumerate(KINDS):
        picture = wardrobe.render(wardrobe.sample_garment(n, category=kind), 192)
        picture.save(base / "mine" / f"{n}-{kind}.png")
    return base


@pytest.mark.slow
def test_what_was_found_is_tried_on_and_reported(pack, made, capsys):
    cli = pack.module("nodes._cli")
    parser: argparse.ArgumentParser = cli.command_parser("demo")
    out = made / "out"
    args = parser.parse_args(["--images", str(made / "mine"), "--out", str(out), "--json"])
    args.parser, args.pack = parser, ROOT
    assert cli._module(cli.COMMANDS["demo"]).run(args) == 0
    told = json.loads(capsys.readouterr().out)
    worn = told["try_on"]
    assert worn["weights"].startswith("the pocket try-on model (")
    assert {item["person"] for item in worn["items"]} == {"Ana", "Bo"}
    assert len(worn["items"]) == 8
    assert not any("shoes" in item["garment"] for item in worn["items"])
    for item in worn["items"]:
        assert Path(item["file"]).is_file()
        assert -1 <= item["similarity"] <= 1
    assert Path(worn["sheet"]).is_file()
    assert (worn["failed"], told["design"]["count"]) == ([], 3)
    page = (out / "report.html").read_text("utf-8")
    assert worn["weights"] in html.unescape(page)
    named = re.findall(r'(?:src|href)="([^"]+)"', page)
    assert "pictures/worn.jpg" in named
    assert "try-on/index.html" in named
    assert [name for name in named if not (out / name).is_file()] == []


@pytest.mark.parametrize(
    ("words", "region"),
    [
        ("a red dress", "dress"),
        ("a pair of blue pants, plain", "lower"),
        ("longsleeve", "upper"),
        ("black shoes.", ""),
        ("something", "upper"),
    ],
)
def test_where_a_garment_is_worn_is_told_by_its_words(pack, words, region):
    assert pack.module("nodes._cli._demo_worn")._region(words) == region

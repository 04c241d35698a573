"""`parity FOLDER` on the command line."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import pytest

GOLDEN = Path(__file__).parent / "golden"


def run(pack: Any, *argv: str) -> int:
    command = pack.module("nodes._cli.parity")
    parser = argparse.ArgumentParser()
    parser.add_argument("--json", action="store_true")
    command.add_arguments(parser)
    return command.run(parser.parse_args(argv))


def test_prints_a_line_a_set_and_exits_0(pack: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pack, str(GOLDEN), "--only", "eva_vit,qformer,losses,preprocess") == 0
    lines = capsys.readouterr().out.splitlines()
    assert [line.split()[0] for line in lines] == [
        "eva_vit_a",
        "losses_a",
        "preprocess_a",
        "qformer_a",
    ]
    assert all("largest error" in line and "tolerance" in line for line in lines)


def test_json_is_all_that_stdout_holds(pack: Any, capsys: pytest.CaptureFixture[str]) -> None:
    assert run(pack, str(GOLDEN), "--only", "eva_vit", "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["ok"] is True
    (entry,) = found["sets"]
    assert entry["name"] == "eva_vit_a"
    assert 0 < entry["error"] < entry["tolerance"]


def test_set_that_fails_exits_1_unless_left_out(
    pack: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for path in GOLDEN.glob("eva_vit_a_*"):
        shutil.copy(path, tmp_path)
    (tmp_path / "vae_a_meta.json").write_text("{}")
    assert run(pack, str(tmp_path)) == 1
    assert "vae_a            FAIL" in capsys.readouterr().out
    assert run(pack, str(tmp_path), "--only", "eva_vit") == 0


def test_missing_folder_is_one_of_our_errors(pack: Any, tmp_path: Path) -> None:
    with pytest.raises(pack.module("unifashion_core.errors").FolderError, match="no folder"):
        run(pack, str(tmp_path / "absent"))

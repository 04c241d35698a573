"""run.py mask, as a user calls it."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image, ImageDraw

ORIENTATION = 0x0112


@pytest.fixture
def command(pack, monkeypatch, capsys):
    cli = pack.module("nodes._cli")
    folder = pack.module("nodes._cli.workflows").__file__.rsplit("/", 3)[0]

    def run(*words: object) -> tuple[int, list[dict], str]:
        monkeypatch.setenv(cli.INSIDE, folder)
        code = cli.main(["mask", *(str(word) for word in words), "--json"], folder)
        said = capsys.readouterr()
        return code, [json.loads(line) for line in said.out.splitlines()], said.err

    return run


@pytest.fixture
def files(tmp_path):
    """A photo, stored lying down with an EXIF turn, and its upright parse map in cihp's ids."""
    ids = Image.new("L", (60, 100))
    draw = ImageDraw.Draw(ids)
    draw.rectangle((24, 4, 36, 20), fill=13)
    draw.rectangle((18, 21, 42, 55), fill=5)
    draw.rectangle((20, 56, 40, 90), fill=9)
    ids.save(tmp_path / "parse.png")
    photo = Image.new("RGB", (100, 60), (200, 200, 200))
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    photo.save(tmp_path / "photo.jpg", exif=exif)
    return tmp_path


def test_a_mask_is_8_bit_and_as_large_as_the_photo_as_displayed(command, files):
    out = files / "made" / "mask.png"
    code, lines, _ = command(
        "--person", files / "photo.jpg", "--parse", files / "parse.png", "--labels", "cihp",
        "--out", out,
    )  # fmt: skip
    assert code == 0
    assert lines == [
        {
            "path": str(files / "photo.jpg"), "out": str(out), "source": "parse map (cihp)",
            "region": "upper", "size": [60, 100], "warnings": [],
        }
    ]  # fmt: skip
    made = Image.open(out)
    assert made.mode == "L"
    assert made.size == (60, 100)
    assert set(np.unique(np.asarray(made))) == {0, 255}
    assert (np.asarray(made)[21:56, 18:43] == 255).all()


def test_a_failed_photo_is_told_and_only_all_failed_is_exit_1(command, files):
    Image.new("RGB", (80, 80), (90, 120, 60)).save(files / "meadow.png")
    (files / "broken.jpg").write_bytes(b"\xff\xd8\xffnothing")
    code, lines, _ = command(
        "--person", files / "meadow.png", files / "broken.jpg", "--out", files / "masks"
    )
    assert code == 1
    assert [set(line) for line in lines] == [{"path", "error"}] * 2
    assert "no person was found" in lines[0]["error"]
    assert not list((files / "masks").iterdir())
    code, lines, _ = command(
        "--person", files / "meadow.png", files / "photo.jpg", "--labels", "cihp",
        "--parse", files / "meadow.png", files / "parse.png", "--out", files / "masks",
    )  # fmt: skip
    assert code == 0
    assert "error" in lines[0]
    assert lines[1]["out"] == str(files / "masks" / "photo_mask.png")


def test_a_clash_of_stems_is_an_error_before_anything_is_made(command, files):
    other = files / "other"
    other.mkdir()
    Image.new("RGB", (60, 100)).save(other / "photo.png")
    code, lines, said = command(
        "--person", files / "photo.jpg", other / "photo.png", "--out", files / "masks"
    )
    assert code == 1
    assert lines == []
    assert "photo_mask.png" in said
    assert not (files / "masks").exists()


@pytest.mark.parametrize(
    ("words", "text"),
    [
        (["--region", "skirt"], "region 'skirt' is unknown"),
        (["--protect", "face,nose"], "protect 'nose' is unknown"),
    ],
)
def test_wrong_options_are_refused_before_the_work(command, files, words, text):
    code, lines, said = command("--person", files / "photo.jpg", "--out", files / "m", *words)
    assert code == 1
    assert lines == []
    assert text in said


def test_the_number_of_maps_must_fit_the_photos(command, files, capsys):
    with pytest.raises(SystemExit) as stopped:
        command(
            "--person", files / "photo.jpg", "--out", files / "m",
            "--parse", files / "parse.png", files / "parse.png", "--labels", "cihp",
        )  # fmt: skip
    assert stopped.value.code == 2
    assert "2 files for 1 photos" in capsys.readouterr().err


def test_regions_and_overlay_can_be_chosen(command, files):
    code, lines, _ = command(
        "--person", files / "photo.jpg", "--parse", files / "parse.png", "--labels", "cihp",
        "--region", "lower,upper", "--overlay", files / "seen", "--out", files / "m.png",
    )  # fmt: skip
    assert code == 0
    assert lines[0]["region"] == "lower,upper"
    assert Image.open(files / "seen" / "photo_overlay.png").size == (60, 100)

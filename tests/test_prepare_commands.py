"""run.py sketch and cutout, as a user calls them."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
from PIL import Image

ORIENTATION = 0x0112


@pytest.fixture(scope="module")
def photo(pack, tmp_path_factory):
    wardrobe = pack.module("unifashion_core.wardrobe")
    folder = tmp_path_factory.mktemp("photos")
    garment = wardrobe.sample_garment(3, category="dress")
    wardrobe.render(garment, 192).resize((144, 192)).save(folder / "dress.png")
    return folder / "dress.png"


@pytest.fixture
def command(pack, monkeypatch, capsys):
    cli = pack.module("nodes._cli")
    root = pack.module("nodes._cli.workflows").__file__
    folder = root.rsplit("/", 3)[0]

    def run(*words: object) -> tuple[int, str, str]:
        monkeypatch.setenv(cli.INSIDE, folder)
        code = cli.main([str(word) for word in words], folder)
        said = capsys.readouterr()
        return code, said.out, said.err

    return run


def test_cutout_keeps_the_photos_pixels_and_adds_alpha(command, photo, tmp_path):
    out = tmp_path / "cut.png"
    code, said, _ = command("cutout", "--image", photo, "--out", out, "--json")
    assert code == 0
    line = json.loads(said)
    assert line["source"] == "plain ground"
    assert line["size"] == [144, 192]
    made, before = Image.open(out), Image.open(photo)
    assert made.mode == "RGBA"
    assert np.array_equal(np.asarray(made)[..., :3], np.asarray(before))
    assert 0.1 < (np.asarray(made)[..., 3] > 127).mean() < 0.9


def test_cutout_keeps_the_alpha_of_the_photo_and_tells_of_16_bits(command, photo, tmp_path):
    own = Image.open(photo).convert("RGBA")
    alpha = np.full((192, 144), 255, np.uint8)
    alpha[:, :72] = 90
    own.putalpha(Image.fromarray(alpha))
    own.save(tmp_path / "half.png")
    code, said, _ = command(
        "cutout", "--image", tmp_path / "half.png", "--out", tmp_path / "o.png", "--json"
    )
    assert code == 0
    assert json.loads(said)["warnings"] == []
    made = np.asarray(Image.open(tmp_path / "o.png"))
    assert made[:, :72, 3].max() == 90
    assert made[:, 72:, 3].max() == 255
    assert np.array_equal(made[..., :3], np.asarray(own)[..., :3])
    grey = np.asarray(Image.open(photo).convert("L")).astype(np.uint16) * 257
    Image.fromarray(grey).save(tmp_path / "deep.png")
    code, said, _ = command(
        "cutout", "--image", tmp_path / "deep.png", "--out", tmp_path / "o.png", "--json"
    )
    assert code == 0
    assert "16 bits" in json.loads(said)["warnings"][0]


def test_cutout_frames_and_says_that_jpeg_is_lossy(command, photo, tmp_path):
    out = tmp_path / "cut.jpg"
    code, said, _ = command(
        "cutout", "--image", photo, "--out", out, "--frame", "192x256", "--json"
    )
    assert code == 0
    assert "lossy" in json.loads(said)["warnings"][0]
    assert Image.open(out).size == (192, 256)


def test_sketch_obeys_the_orientation_and_takes_folders(command, photo, tmp_path):
    folder = tmp_path / "in"
    folder.mkdir()
    turned = Image.open(photo).convert("RGB").rotate(90, expand=True)
    exif = Image.Exif()
    exif[ORIENTATION] = 6  # shown turned clockwise
    turned.save(folder / "turned.jpg", exif=exif, quality=95)
    Image.open(photo).save(folder / "plain.png")
    (folder / "broken.jpg").write_bytes(b"no picture")
    code, said, _ = command("sketch", "--garment", folder, "--out", tmp_path / "out", "--json")
    assert code == 0
    lines = {json.loads(x)["path"].rsplit("/", 1)[1]: json.loads(x) for x in said.splitlines()}
    assert lines["turned.jpg"]["size"] == lines["plain.png"]["size"] == [144, 192]
    assert "not a picture" in lines["broken.jpg"]["error"]
    drawn = np.asarray(Image.open(tmp_path / "out" / "plain_sketch.png"))
    assert drawn.ndim == 2
    assert 0.005 < (drawn > 127).mean() < 0.5


def test_a_clash_of_stems_and_a_run_in_which_all_fail_end_with_one(command, photo, tmp_path):
    other = tmp_path / "dress.jpg"
    Image.open(photo).convert("RGB").save(other)
    code, _, err = command("sketch", "--garment", photo, other, "--out", tmp_path / "out")
    assert code == 1
    assert "would both be dress_sketch.png" in err
    code, _, err = command("cutout", "--image", tmp_path / "none.png", "--out", tmp_path / "o.png")
    assert code == 1
    assert "can't be read" in err


@pytest.mark.slow
def test_bench_masks_writes_a_sheet_of_any_photos(command, pack, photo, tmp_path):
    wardrobe = pack.module("unifashion_core.wardrobe")
    photos = tmp_path / "mine"
    photos.mkdir()
    person = wardrobe.sample_person(3, wardrobe.sample_garment(20, category="t-shirt"))
    wardrobe.render_person(person, 256).image.save(photos / "person <1>.png")
    Image.open(photo).save(photos / "dress.png")
    (photos / "broken.jpg").write_bytes(b"no picture")
    before = sorted(photos.iterdir())
    out = tmp_path / "sheet"
    code, said, _ = command("bench", "masks", "--data", photos, "--out", out, "--json")
    assert code == 0
    assert json.loads(said) == {}  # no parse maps, so no figures
    page = (out / "report.html").read_text("utf-8")
    for title in ("mask: upper", "mask: lower", "mask: dress", "pose map", "cut-out: upper",
                  "sketch: upper", "cut-out", "sketch"):  # fmt: skip
        assert f"<b>{title}</b>" in page
    assert "person &lt;1&gt;.png" in page
    assert "not a picture" in page
    shown = re.findall(r'src="(pictures/[^"]+)"', page)
    assert len(shown) == 7 + 3
    assert all(max(Image.open(out / name).size) <= 360 for name in shown)
    assert sorted(photos.iterdir()) == before


def test_bench_masks_without_parse_maps_or_a_sheet_is_refused(command, tmp_path):
    code, _, err = command("bench", "masks", "--data", tmp_path)
    assert code == 1
    assert "no folder with person.jpg and parse.png" in err
    code, _, err = command("bench", "masks", "--data", tmp_path / "none", "--out", tmp_path / "o")
    assert code == 1
    assert "no such folder" in err

"""`tryon`, `design` and `convert` as they are typed, on a tiny random model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from tryon_samples import tiny_config, tiny_model


@pytest.fixture(scope="module")
def folder(pack, tmp_path_factory):
    """A model, a person, a garment and a sketch as files."""
    base = tmp_path_factory.mktemp("commands")
    config = pack.module("unifashion_core.tryon.config")
    tryon = pack.module("unifashion_core.tryon.checkpoint")
    attention = pack.module("unifashion_core.attention").math_attention()
    tryon.save_tryon(base / "model", tiny_model(tryon, tiny_config(config), attention))
    wardrobe = pack.module("unifashion_core.wardrobe")
    person = wardrobe.sample_person(1, framing="full")
    wardrobe.render_person(person, 320).image.save(base / "person.png")
    wardrobe.render(wardrobe.sample_garment(4, category="t-shirt"), 160).save(base / "shirt.png")
    page = np.full((160, 160, 3), 255, np.uint8)
    page[30:130, 50:53] = page[30:130, 110:113] = page[30:33, 50:113] = 0
    Image.fromarray(page).save(base / "sketch.png")
    return base


@pytest.fixture
def command(pack, folder, monkeypatch):
    cli = pack.module("nodes._cli")
    monkeypatch.chdir(folder)

    def run(name: str, *words: object) -> int:
        parser = cli.command_parser(name)
        args = parser.parse_args([str(word) for word in words])
        args.pack, args.parser = None, parser
        return cli._module(cli.COMMANDS[name]).run(args)

    return run


FEW = ("--model", "model", "--steps", 4, "--json")


def pixels(path) -> np.ndarray:
    return np.asarray(Image.open(path).convert("RGB")).astype(int)


def test_tryon_writes_the_photo_with_the_garment_in_it(command, folder, capsys):
    words = ["--person", "person.png", "--garment", "shirt.png", "--seed", 5]
    assert command("tryon", *words, "--out", "worn/a.png", *FEW) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["seed"], told["steps"], told["encodings"]) == (5, 4, 2)
    assert told["painted"]
    worn, photo = pixels(folder / "worn" / "a.png"), pixels(folder / "person.png")
    assert told["size"] == [photo.shape[1], photo.shape[0]]
    changed = (worn != photo).any(-1).mean()
    assert 0.01 < changed < 0.5
    assert command("tryon", *words, "--out", "worn/b.png", *FEW) == 0
    assert np.array_equal(worn, pixels(folder / "worn" / "b.png"))


def test_tryon_takes_a_mask_and_an_empty_one_changes_nothing(command, folder, capsys):
    photo = pixels(folder / "person.png")
    Image.new("L", (photo.shape[1], photo.shape[0])).save(folder / "empty.png")
    words = ["--person", "person.png", "--garment", "shirt.png", "--mask", "empty.png"]
    assert command("tryon", *words, "--out", "same.png", *FEW) == 0
    told = json.loads(capsys.readouterr().out)
    assert not told["painted"]
    assert any("the mask is empty" in note for note in told["notes"])
    assert np.array_equal(pixels(folder / "same.png"), photo)


def test_several_garments_need_a_region_each(command):
    words = ["--person", "person.png", "--garment", "shirt.png", "shirt.png", "--out", "x.png"]
    with pytest.raises(SystemExit) as stop:
        command("tryon", *words, *FEW)
    assert stop.value.code == 2


def test_design_follows_text_and_sketch_on_a_mannequin(command, folder, capsys):
    words = ["--text", "a red shirt", "--sketch", "sketch.png", "--out", "design.png"]
    assert command("design", *words, *FEW) == 0
    told = json.loads(capsys.readouterr().out)
    assert "no person given: a neutral mannequin wears it" in told["notes"]
    assert (folder / "design.png").is_file()


def test_convert_writes_our_form_and_verifies_it(pack, command, folder, capsys):
    tryon = pack.module("unifashion_core.tryon.checkpoint")
    attention = pack.module("unifashion_core.attention").math_attention()
    model = tryon.load_tryon(folder / "model", attention=attention)
    (folder / "half").mkdir()
    tryon.save_tryon(folder / "half" / "ours", model)
    assert command("convert", "half/ours", "--out", "again", "--verify", "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "try-on"
    assert told["verified"] == f"all {told['weights']} weights are equal"
    other = tryon.load_tryon(folder / "again", attention=attention)
    assert torch.equal(other.unet.out[2].weight, model.unet.out[2].weight)


def test_convert_of_an_encoder_keeps_its_fingerprint(command, folder, pack, capsys):
    pocket = pack.module("unifashion_core.pocket")
    words = [pocket.ENCODER, "--tower", pocket.EFFICIENTNET_LITE0, "--out", "encoder", "--verify"]
    assert command("convert", *words, "--json") == 0
    told = json.loads(capsys.readouterr().out)
    assert told["kind"] == "encoder"
    assert told["verified"].startswith("fingerprint ")


def test_convert_does_not_overwrite_its_source(pack, command):
    with pytest.raises(pack.module("unifashion_core.errors").InputError, match="overwrite its own"):
        command("convert", "model", "--out", "model")


def test_without_pocket_weights_a_model_is_asked_for(pack, monkeypatch, tmp_path):
    pocket = pack.module("unifashion_core.pocket")
    errors = pack.module("unifashion_core.errors")
    monkeypatch.setattr(pocket, "TRYON", tmp_path / "tryon")
    with pytest.raises(
        errors.FolderError, match="lacks the pocket try-on model. Get the pack again"
    ):
        pocket.pocket_tryon()
    (tmp_path / "tryon").mkdir()
    assert pocket.pocket_tryon() == tmp_path / "tryon"


def test_the_solver_by_default_is_the_cores(pack):
    cli, sampling = pack.module("nodes._cli"), pack.module("unifashion_core.tryon.sampling")
    args = cli.command_parser("tryon").parse_args(["--person", "p", "--garment", "g", "--out", "o"])
    assert args.solver == sampling.DEFAULT_SOLVER


def test_guidance_by_default_is_the_cores(pack):
    cli, sampling = pack.module("nodes._cli"), pack.module("unifashion_core.tryon.sampling")
    solvers = pack.module("unifashion_core.tryon.solvers")
    worn = cli.command_parser("tryon").parse_args(["--person", "p", "--garment", "g", "--out", "o"])
    assert worn.guidance == sampling.SamplerSettings().guidance
    design = cli.command_parser("design").parse_args(["--text", "t", "--out", "o"])
    assert design.guidance == solvers.DESIGN_GUIDANCE

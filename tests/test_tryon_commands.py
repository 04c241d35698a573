"""`tryon`, `design` and `convert` as they are typed, on a tiny random model."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
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


@pytest.mark.slow
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


def lora_file(pack, folder, name="style.safetensors"):
    """A LoRA of one layer of the model's UNet."""
    tryon = pack.module("unifashion_core.tryon.checkpoint")
    attention = pack.module("unifashion_core.attention").math_attention()
    model = tryon.load_tryon(folder / "model", attention=attention)
    layer = model.unet.get_submodule("out.2")
    generator = torch.Generator().manual_seed(3)
    down = torch.randn(2, *layer.weight.shape[1:], generator=generator)
    up = torch.randn(len(layer.weight), 2, 1, 1, generator=generator)
    halves = {"lora_unet_out_2.lora_down.weight": down, "lora_unet_out_2.lora_up.weight": up}
    save_file(halves, folder / name)
    return name


@pytest.mark.slow
def test_a_lora_changes_the_picture_and_at_strength_0_nothing(pack, command, folder, capsys):
    lora = lora_file(pack, folder)
    words = ["--person", "person.png", "--garment", "shirt.png", "--out", "worn.png", *FEW]
    found = {}
    for given in ("", f"{lora}:0", lora, f"{lora}:1.0", f"{lora}:-0.5"):
        assert command("tryon", *words, *(["--lora", given] if given else [])) == 0
        found[given] = json.loads(capsys.readouterr().out)["fingerprint"], pixels("worn.png")
    plain, whole = found[""], found[lora]
    for given, like in ((f"{lora}:0", plain), (f"{lora}:1.0", whole)):
        assert found[given][0] == like[0]
        assert np.array_equal(found[given][1], like[1])
    assert len({mark for mark, _ in found.values()}) == 3
    assert not np.array_equal(plain[1], whole[1])
    assert not np.array_equal(whole[1], found[f"{lora}:-0.5"][1])


@pytest.mark.slow
def test_design_and_a_plan_take_a_lora_too(pack, command, folder, capsys):
    lora = lora_file(pack, folder)
    words = ["--text", "a red shirt", "--lora", f"{lora}:0.25", "--lora", lora]
    assert command("design", *words, "--out", "design.png", *FEW) == 0
    told = json.loads(capsys.readouterr().out)["loras"]
    assert told == [{"file": lora, "strength": 0.25}, {"file": lora, "strength": 1.0}]
    (folder / "plan.csv").write_text("person,garment,steps\nperson.png,shirt.png,2\n")
    found = []
    for number, more in enumerate(([], ["--lora", lora])):
        words = ["plan.csv", "--out", f"made{number}", "--model", "model", "--no-scores", *more]
        assert command("render", *words, "--json") == 0
        capsys.readouterr()
        (made,) = (folder / f"made{number}").glob("*.png")
        found.append(pixels(made))
    assert not np.array_equal(*found)


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ("person.png:strong", "strength 'strong' is no number; write FILE or FILE:0.8"),
        ("person.png:11", "strength 11; choose -10 to 10, 1 is usual"),
        ("person.png:nan", "strength nan; choose"),
    ],
)
def test_a_lora_that_is_none_is_said(command, given, message, capsys):
    words = ["--person", "person.png", "--garment", "shirt.png", "--out", "x.png", *FEW]
    with pytest.raises(SystemExit) as stop:
        command("tryon", *words, "--lora", given)
    assert stop.value.code == 2
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("given", ["absent.safetensors", "C:/loras/absent.safetensors"])
@pytest.mark.parametrize("strength", ["", ":0.5", ":0"])
def test_a_lora_that_is_not_there_is_named(pack, command, given, strength):
    words = ["--person", "person.png", "--garment", "shirt.png", "--out", "x.png", *FEW]
    errors = pack.module("unifashion_core.errors")
    with pytest.raises(errors.FolderError, match=f"LoRA {given}: no such file"):
        command("tryon", *words, "--lora", given + strength)


def test_a_lora_goes_with_a_plan_not_with_a_workflow(pack, command, folder, capsys):
    lora = lora_file(pack, folder)
    (folder / "flow.json").write_text(json.dumps({"1": {"class_type": "X", "inputs": {}}}))
    with pytest.raises(SystemExit):
        command("render", "flow.json", "--out", "made", "--lora", lora)
    assert "--lora goes with a plan" in capsys.readouterr().err


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


def test_the_pocket_models_own_guidance_leads_where_none_is_said(pack):
    cli, sampling = pack.module("nodes._cli"), pack.module("unifashion_core.tryon.sampling")
    configs = pack.module("unifashion_core.tryon.config")
    stored = json.loads((pack.module("unifashion_core.pocket").TRYON / "config.json").read_text())
    pocket = configs.TryOnConfig.from_dict(stored["unifashion_tryon_config"])
    words = ["--person", "p", "--garment", "g", "--out", "o"]
    settings_of = pack.module("nodes._cli._tryon").settings_of
    found = {}
    for more in ((), ("--garment-guidance", "1"), ("--guidance", "3")):
        args = cli.command_parser("tryon").parse_args([*words, *more])
        sampler = settings_of(args).sampler
        found[more] = (sampler.garment_guidance_of(pocket), sampler.guided_share(pocket))
    assert pocket.garment_guidance > 1
    assert found.pop(()) == (pocket.garment_guidance, pocket.garment_guidance_until)
    assert set(found.values()) == {(1.0, 1.0)}
    assert sampling.SamplerSettings().garment_guidance_of(configs.TryOnConfig()) == 1.0


def test_guidance_by_default_is_the_cores(pack):
    cli, sampling = pack.module("nodes._cli"), pack.module("unifashion_core.tryon.sampling")
    solvers = pack.module("unifashion_core.tryon.solvers")
    worn = cli.command_parser("tryon").parse_args(["--person", "p", "--garment", "g", "--out", "o"])
    assert worn.guidance == sampling.SamplerSettings().guidance
    design = cli.command_parser("design").parse_args(["--text", "t", "--out", "o"])
    assert design.guidance == solvers.DESIGN_GUIDANCE

"""Training of the try-on stages on a few mannequins: data, autoencoder, losses, exact resume."""

import json
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file

from unifashion_core.attention import math_attention
from unifashion_core.errors import FolderError, InputError
from unifashion_core.pocket import CLIP_MERGES
from unifashion_core.prepare.resample import resize
from unifashion_core.training.autoencoder import (
    AutoencoderTrainConfig,
    Pictures,
    PrincipalComponents,
    reconstruction,
    train_autoencoder,
)
from unifashion_core.training.config import OptimConfig
from unifashion_core.training.decoder import (
    DecoderTrainConfig,
    Squares,
    guess_latents,
    train_decoder,
)
from unifashion_core.training.stages import read_stage_config
from unifashion_core.training.tryon import TryOnPaths, train_tryon
from unifashion_core.training.tryon_config import TryOnTrainConfig
from unifashion_core.training.tryon_latents import encode_records
from unifashion_core.training.tryon_layout import read_pairs, read_record, read_texts
from unifashion_core.training.tryon_objective import TryOnObjective, places_loss
from unifashion_core.training.wardrobe_pairs import (
    PairsConfig,
    build_pairs,
    draw_garment,
    draw_person,
)
from unifashion_core.tryon.checkpoint import build_tryon, load_tryon
from unifashion_core.tryon.config import (
    AutoencoderConfig,
    ClipConfig,
    TryOnConfig,
    UNetConfig,
)
from unifashion_core.tryon.parts import load_autoencoder
from unifashion_core.wardrobe import render_person

_ATTENTION = math_attention()
_OPTIM = OptimConfig(learning_rate=1e-3, weight_decay=0.0, eps=1e-8, ema=0.9)
_AUTOENCODER = AutoencoderTrainConfig(
    principal=0.5,
    anchor=0.1,
    autoencoder=AutoencoderConfig(8, (1, 1, 1, 1), 1, 4, 2),
    size=(64, 64),
    optim=_OPTIM,
    steps=4,
    batch_size=2,
    save_every=2,
)
_UNET = UNetConfig(
    4, 8, (1, 2), 1, (2,), 2, 16, 4, prediction_type="v_prediction", warp_positions=True
)
_TRYON = TryOnTrainConfig(
    unet=_UNET,
    text=ClipConfig(16, 1, 2, 32, vocabulary=0),
    size=(64, 64),
    pose_map="parts",
    train_all=True,
    warp_start=0.1,
    drop_by_batch=False,
    drop_garment=0.2,
    sketch_share=0.3,
    outside=0.5,
    places=0.3,
    recolours=1,
    captions=2,
    optim=_OPTIM,
    steps=4,
    batch_size=3,
    save_every=2,
)


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pairs")
    build_pairs(folder, 4, PairsConfig(size=64, height=128))
    return folder


@pytest.fixture(scope="module")
def autoencoder(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return train_autoencoder(data, tmp_path_factory.mktemp("ae"), _AUTOENCODER, _ATTENTION)


@pytest.mark.slow
def test_pairs_are_the_same_whenever_they_are_drawn_and_know_their_places(data: Path, tmp_path):
    build_pairs(tmp_path, 4, PairsConfig(size=64, height=128), part=(1, 2))
    (name, _), *_ = read_pairs(tmp_path, "train")
    again, first = (read_record(root, "train", name, (64, 64)) for root in (tmp_path, data))
    assert torch.equal(again.image, first.image)
    assert torch.equal(again.pose, first.pose)
    assert first.places is not None
    known = first.places[..., 2] > 0.5
    worn = first.worn > 0.5
    assert float((known & worn).sum()) > 0.9 * float((known | worn).sum()) > 0
    # what is worn came from the garment, not from the ground beside it
    x = (first.places[..., 0][known] * 64).long().clamp(max=63)
    y = (first.places[..., 1][known] * 64).long().clamp(max=63)
    assert float((first.garment_mask[y, x] > 0.3).float().mean()) > 0.9
    inside = first.mask > 0.5
    assert torch.allclose(first.agnostic[inside], torch.tensor(128 / 255))
    assert torch.equal(first.agnostic[~inside], first.image[~inside])


@pytest.mark.parametrize("size", [128, 64])
def test_worn_is_where_at_least_half_of_a_pixel_is_garment(size: int, tmp_path: Path):
    # so much context that the crop is the whole photo: 3:4, in the middle of its frame
    config = PairsConfig(size=size, height=128, context=(4.0, 4.0))
    build_pairs(tmp_path, 1, config)
    drawn = render_person(draw_person(0, "train"), 128)
    pairs = read_pairs(tmp_path, "train")
    assert len(pairs) == len(drawn.coverage)
    for name, _ in pairs:
        worn = read_record(tmp_path, "train", name, (size, size)).worn
        upper = int(name.split("_")[0]) % 2 == 1
        region = "upper" if upper else "lower" if "lower" in drawn.coverage else "dress"
        share = resize(torch.from_numpy(drawn.coverage[region]), size, size * 3 // 4)
        beside = size // 8
        assert torch.equal(worn[:, beside:-beside], (share >= 0.5).float())
        assert float(worn.sum()) == float(worn[:, beside:-beside].sum()) > 0


@pytest.mark.slow
def test_a_changed_record_shows_the_new_garment_inside_the_mask_of_what_was_worn(tmp_path: Path):
    sizes = PairsConfig(size=64, height=128, context=(4.0, 4.0))
    for name, share in (("own", 0.0), ("changed", 1.0)):
        build_pairs(tmp_path / name, 6, replace(sizes, changed=share))
    outgrown = 0
    for name, _ in read_pairs(tmp_path / "own", "train"):
        own, new = (read_record(tmp_path / k, "train", name, (64, 64)) for k in ("own", "changed"))
        assert torch.equal(own.pose, new.pose)
        assert not torch.equal(own.mask, new.mask)
        assert new.places is not None
        known = new.places[..., 2] > 0.5
        # pixels of the photo are mixed at the mask's edge
        near = torch.nn.functional.max_pool2d(new.mask[None], 3, 1, 1)[0] > 0.5
        assert not bool(((new.worn > 0.5) & ~near).any())
        assert not bool((known & ~near).any())
        deep = -torch.nn.functional.max_pool2d(-new.mask[None], 5, 1, 2)[0] > 0.5
        assert torch.allclose(new.image[deep], own.image[deep], atol=0.02)
        outgrown += int(((own.worn > 0.5) & (new.mask < 0.5)).sum())
    assert outgrown > 0  # in some places the new garment is larger than the mask lets it show


def test_training_and_test_pairs_are_of_other_garments():
    assert draw_garment(3, "train") != draw_garment(3, "test")
    with pytest.raises(InputError, match="wanted train or test"):
        build_pairs(Path("nowhere"), 1, split="val")


def test_a_share_of_changed_records_is_a_share():
    with pytest.raises(InputError, match="changed 1.5, wanted 0 to 1"):
        PairsConfig(changed=1.5)


@pytest.mark.slow
def test_texts_say_what_the_garment_is(data: Path):
    known = read_texts(data, "train", "attributes.json")
    said = read_texts(data, "train", "captions.json")
    for name, values in known.items():
        assert values["colours"][0] in said[name][0]


@pytest.mark.slow
def test_autoencoder_learns_and_knows_its_scale(data: Path, autoencoder: Path):
    model = load_autoencoder(autoencoder, _ATTENTION).requires_grad_(False)
    assert model.config.scale_factor != AutoencoderConfig.scale_factor
    pictures = Pictures(data, "train", (64, 64))
    found = reconstruction(model, pictures.pictures["image"])
    assert found["psnr"] > 3.0
    latents = torch.cat(
        [
            model.encode(pictures.draw(np.random.default_rng(s), 8)).mean
            * model.config.scale_factor
            for s in range(4)
        ]
    )
    assert 0.5 < float(latents.std()) < 2.0


@pytest.mark.slow
def test_decoder_alone_can_be_trained(data: Path, autoencoder: Path, tmp_path: Path):
    start = load_autoencoder(autoencoder, _ATTENTION)
    before = {n: v.clone() for n, v in start.state_dict().items()}
    config = replace(_AUTOENCODER, train_encoder=False, steps=2)
    after = load_autoencoder(
        train_autoencoder(data, tmp_path, config, _ATTENTION, start=start), _ATTENTION
    )
    moved = {n for n, v in after.state_dict().items() if not torch.equal(v, before[n])}
    assert moved
    assert all(n.startswith(("decoder.", "post_quant_conv.")) for n in moved)
    assert after.config.scale_factor == start.config.scale_factor


@pytest.mark.slow
def test_a_stopped_tryon_run_goes_on_exactly(data: Path, autoencoder: Path, tmp_path: Path):
    weights: list[dict[str, torch.Tensor]] = []
    folder = tmp_path
    for name, stops in (("whole", [None]), ("broken", [2, None])):
        paths = TryOnPaths(data, tmp_path / name, CLIP_MERGES)
        for stop in stops:
            folder = train_tryon(
                paths,
                _TRYON,
                _ATTENTION,
                autoencoder=load_autoencoder(autoencoder, _ATTENTION),
                stop_after=stop,
            )
        weights.append(load_file(folder / "model.safetensors"))
        lines = (tmp_path / name / "log.jsonl").read_text().splitlines()
        assert {"total", "mse", "places"} <= json.loads(lines[-1]).keys()
    assert all(torch.equal(value, weights[1][key]) for key, value in weights[0].items())
    model = load_tryon(folder, attention=_ATTENTION)
    assert model.free is not None
    assert model.config.text is not None
    assert model.config.text.ids[-2:] == (49406, 49407)


def test_the_papers_recipe_leaves_the_unets_first_half_and_the_text_alone():
    config = replace(_TRYON, train_all=False)
    text = ClipConfig(16, 1, 2, 32, vocabulary=6)
    settings = TryOnConfig(_UNET, AutoencoderConfig(8, (1, 1, 1, 1), 1, 4, 2), text)
    objective = TryOnObjective(build_tryon(settings, _ATTENTION), config)
    trained = [n for n, p in objective.named_parameters() if p.requires_grad]
    for part in ("unet.output_blocks", "unet.warp_flow_blks", "garment.cond_first_block", "free"):
        assert any(n.startswith(part) for n in trained)
    frozen = [n for n, p in objective.named_parameters() if not p.requires_grad]
    assert any(n.startswith("unet.input_blocks.") for n in frozen)
    assert any(n.startswith("text.") for n in frozen)


@pytest.mark.slow
def test_a_run_from_other_weights_says_which_schedule_it_taught(
    data: Path, autoencoder: Path, tmp_path: Path
):
    config = replace(_TRYON, steps=2)
    reader = load_autoencoder(autoencoder, _ATTENTION)
    paths = TryOnPaths(data, tmp_path / "first", CLIP_MERGES)
    start = load_tryon(
        train_tryon(paths, config, _ATTENTION, autoencoder=reader), attention=_ATTENTION
    )
    assert not start.config.unet.zero_terminal
    ending = replace(config, unet=replace(_UNET, zero_terminal=True), late=0.7)
    paths = TryOnPaths(data, tmp_path / "second", CLIP_MERGES)
    after = load_tryon(train_tryon(paths, ending, _ATTENTION, start=start), attention=_ATTENTION)
    assert after.config == replace(start.config, unet=ending.unet)


@pytest.mark.slow
def test_recoloured_copies_change_the_garment_alone(data: Path, autoencoder: Path):
    model = load_autoencoder(autoencoder, _ATTENTION)
    one = encode_records(data, "train", model, replace(_TRYON, recolours=0), None)
    two = encode_records(data, "train", model, _TRYON, None)
    count = len(one)
    assert len(two) == 2 * count == len(two.texts)
    for name in ("pose", "sketch"):
        assert torch.equal(two.latents[name][:count], two.latents[name][count:])
    assert not torch.equal(two.latents["hint"][:count], two.latents["hint"][count:])
    names = read_texts(data, "train", "attributes.json")
    colours = {c for values in names.values() for c in values["colours"]}
    assert not any(set(t.split()) & colours for texts in two.texts[count:] for t in texts)


@pytest.mark.slow
def test_what_no_garment_leads_is_in_its_own_colours(data: Path, autoencoder: Path):
    model = load_autoencoder(autoencoder, _ATTENTION)
    config = replace(_TRYON, recolours=2, drop_garment=0.4, sketch_share=0.4)
    records = encode_records(data, "train", model, config, None)
    count = len(records) // 3
    assert records.own.tolist() == list(range(count)) * 3
    ids = [torch.full((2, 77), row) for row in range(len(records))]
    chosen = torch.arange(count, 3 * count).repeat(8)  # copies alone
    batch = records.take(chosen, ids, config, np.random.default_rng(0))
    led = batch["places_on"] == 1
    assert 0 < int(led.sum()) < len(chosen)
    rows = torch.where(led, chosen, chosen % count)
    assert torch.equal(batch["ids"][:, 0], rows)
    assert torch.equal(batch["target"], records.latents["target"][rows].float())


@pytest.mark.slow
def test_a_sketch_or_no_garment_always_comes_with_its_text(data: Path, autoencoder: Path):
    model = load_autoencoder(autoencoder, _ATTENTION)
    config = replace(_TRYON, batch_size=64, drop_context=0.9, drop_garment=0.3, sketch_share=0.4)
    records = encode_records(data, "train", model, config, None)
    ids = [torch.zeros(len(t), 77, dtype=torch.int64) for t in records.texts]
    batch = records.draw(ids, config, np.random.default_rng(0))
    silent = batch["text_on"] == 0
    assert bool(silent.any())
    assert bool((batch["hint_on"][silent] == 1).all())
    assert bool((batch["places_on"][silent] == 1).all())
    assert bool((batch["places_on"][batch["hint_on"] == 0] == 0).all())


def test_places_loss_equals_the_slow_sum():
    torch.manual_seed(0)
    q, k = torch.randn(2, 2, 16, 3), torch.randn(2, 2, 16, 3)
    places = torch.rand(2, 4, 4, 3)
    places[..., 2] = (places[..., 2] > 0.3).float()
    counts = torch.tensor([1.0, 0.0])
    found = places_loss(q, k, places, counts, (4, 4))
    terms: list[float] = []
    weights = torch.softmax(q @ k.transpose(-1, -2) / 3**0.5, -1).mean(1)[0]
    for m in range(16):
        x, y, known = places[0].flatten(0, 1)[m].tolist()
        if not known:
            continue
        column, row = min(max(x * 4 - 0.5, 0), 3), min(max(y * 4 - 0.5, 0), 3)
        value = 0.0
        for n in range(16):
            near = max(0.0, 1 - abs(row - n // 4)) * max(0.0, 1 - abs(column - n % 4))
            value -= near * float(torch.log(weights[m, n] + 1e-6))
        terms.append(value)
    assert float(found) == pytest.approx(sum(terms) / len(terms), rel=1e-5)


def test_places_are_measured_on_the_share_of_the_batch_that_the_config_says():
    text = ClipConfig(16, 1, 2, 32, vocabulary=6)
    settings = TryOnConfig(_UNET, AutoencoderConfig(8, (1, 1, 1, 1), 1, 4, 2), text)
    model = build_tryon(settings, _ATTENTION)
    noise = torch.Generator().manual_seed(0)
    rows = {name: torch.randn(4, 4, 8, 8, generator=noise) for name in ("target", "hint")}
    batch = {
        **rows,
        **dict.fromkeys(("agnostic", "pose"), rows["target"]),
        "keep": torch.zeros(4, 1, 8, 8),
        "worn": torch.ones(4, 1, 64, 64),
        "places": torch.rand(4, 8, 8, 3, generator=noise).round(),
        "ids": torch.zeros(4, 5, dtype=torch.int64),
        "progress": torch.tensor(0.25),
        **{name: torch.ones(4) for name in ("hint_on", "text_on", "places_on")},
    }
    moved = batch["places"].clone()
    moved[2:, ..., :2] = 1 - moved[2:, ..., :2]  # what the second half should look at
    found: dict[float, list[float]] = {}
    for share in (0.5, 1.0):
        config = replace(_TRYON, places_share=share, places_blocks=(-1,))
        objective = TryOnObjective(model, config)
        for places in (batch["places"], moved):
            torch.manual_seed(1)
            losses = objective({**batch, "places": places})
            found.setdefault(share, []).append(float(losses["places"].detach()))
            fade = 1 - (1 - 0.2) * 0.25
            wanted = losses["mse"] + config.places * fade * losses["places"]
            torch.testing.assert_close(losses["total"], wanted)
    assert found[0.5][0] == found[0.5][1]
    assert found[1.0][0] != found[1.0][1]


def _tiny_batch(count: int) -> dict[str, torch.Tensor]:
    noise = torch.Generator().manual_seed(0)
    names = ("target", "agnostic", "pose", "hint")
    return {
        **{name: torch.randn(count, 4, 8, 8, generator=noise) for name in names},
        "keep": torch.zeros(count, 1, 8, 8),
        "worn": torch.ones(count, 1, 64, 64),
        "places": torch.zeros(count, 8, 8, 3),
        "ids": torch.zeros(count, 5, dtype=torch.int64),
        "progress": torch.tensor(0.25),
        **{name: torch.ones(count) for name in ("hint_on", "text_on", "places_on")},
    }


def _note_steps(seen: list[torch.Tensor], _: Any, args: Any) -> None:
    seen.append(args[1])


def test_late_draws_noisy_steps_more_often_and_one_draws_as_ever(monkeypatch: pytest.MonkeyPatch):
    text = ClipConfig(16, 1, 2, 32, vocabulary=6)
    unet = replace(_UNET, zero_terminal=True)
    settings = TryOnConfig(unet, AutoencoderConfig(8, (1, 1, 1, 1), 1, 4, 2), text)
    model = build_tryon(settings, _ATTENTION)
    drawn: dict[float, torch.Tensor] = {}
    for late in (1.0, 0.5, 2.0):
        objective = TryOnObjective(model, replace(_TRYON, unet=unet, late=late))
        seen: list[torch.Tensor] = []
        hook = model.unet.register_forward_pre_hook(partial(_note_steps, seen))
        torch.manual_seed(3)
        losses = objective(_tiny_batch(64))
        hook.remove()
        losses["total"].backward()
        assert bool(torch.isfinite(losses["total"]))
        drawn[late] = seen[0]
    torch.manual_seed(3)
    assert torch.equal(drawn[1.0], torch.randint(0, 1000, (64,)))
    means = {late: float(steps.float().mean()) for late, steps in drawn.items()}
    assert means[0.5] == pytest.approx(667, abs=100)
    assert means[2.0] == pytest.approx(333, abs=120)
    # The largest share's root rounds to 1, and there is no step 1000.
    objective = TryOnObjective(model, replace(_TRYON, unet=unet, late=0.1))
    monkeypatch.setattr(torch, "rand", lambda *_, **__: torch.full((64,), 1 - 2.0**-24))
    objective(_tiny_batch(64))
    with pytest.raises(InputError, match="late 0, wanted more than 0"):
        replace(_TRYON, late=0)


def test_a_network_on_a_schedule_that_ends_in_noise_learns_the_picture_at_its_end(
    monkeypatch: pytest.MonkeyPatch,
):
    text = ClipConfig(16, 1, 2, 32, vocabulary=6)
    unet = replace(_UNET, zero_terminal=True)
    settings = TryOnConfig(unet, AutoencoderConfig(8, (1, 1, 1, 1), 1, 4, 2), text)
    objective = TryOnObjective(build_tryon(settings, _ATTENTION), replace(_TRYON, unet=unet))
    batch = _tiny_batch(3)
    made = torch.randn(3, 4, 8, 8, generator=torch.Generator().manual_seed(1))
    monkeypatch.setattr(objective, "_predict", lambda *_: made)
    guess = objective.guess(batch, torch.full((3,), 999))
    torch.testing.assert_close(guess, -made, atol=2e-3, rtol=0)  # v is minus the picture there


def test_stage_configs_say_what_they_do_not_know(tmp_path: Path):
    file = tmp_path / "train.json"
    file.write_text(json.dumps({"train_tryon": {"steps": 7}, "train_autoencoder": {"kl": 0.5}}))
    assert read_stage_config(file, "tryon").steps == 7
    assert read_stage_config(file, "autoencoder").kl == 0.5
    file.write_text(json.dumps({"stepz": 7}))
    with pytest.raises(InputError, match="stepz"):
        read_stage_config(file, "tryon")
    assert TryOnTrainConfig.from_dict(json.loads(json.dumps(_TRYON.to_dict()))) == _TRYON


def test_a_folder_without_pairs_is_named(tmp_path: Path):
    with pytest.raises(FolderError, match=r"no train_pairs\.txt"):
        read_pairs(tmp_path, "train")


@pytest.mark.slow
def test_principal_components_equal_those_of_numpy(data: Path):
    pixels = Pictures(data, "train", (64, 64)).pictures["image"].float() / 127.5 - 1.0
    found = PrincipalComponents(pixels, 8, 5)(pixels)
    patches = pixels.unfold(2, 8, 8).unfold(3, 8, 8).permute(0, 2, 3, 1, 4, 5).flatten(0, 2)
    values = patches.flatten(1).double().numpy()
    centred = values - values.mean(axis=0)
    _, _, rows = np.linalg.svd(centred, full_matrices=False)
    slow = centred @ rows[:5].T
    slow /= slow.std(axis=0, ddof=1)
    made = found.permute(0, 2, 3, 1).flatten(0, 2).double().numpy()
    for component in range(5):
        agreement = np.corrcoef(made[:, component], slow[:, component])[0, 1]
        assert abs(agreement) == pytest.approx(1.0, abs=1e-3)
        assert made[:, component].std() == pytest.approx(1.0, abs=0.02)


@pytest.mark.slow
def test_a_decoder_learns_from_guesses_and_the_rest_stays(data: Path, autoencoder: Path, tmp_path):
    start = load_autoencoder(autoencoder, _ATTENTION)
    paths = TryOnPaths(data, tmp_path / "tryon", CLIP_MERGES)
    first = train_tryon(paths, _TRYON, _ATTENTION, autoencoder=start)
    config = DecoderTrainConfig(crop=32, optim=_OPTIM, steps=4, batch_size=3, save_every=2)
    before = load_tryon(first, attention=_ATTENTION)
    paths = TryOnPaths(data, tmp_path / "decoder", CLIP_MERGES)

    guesses = guess_latents(paths, config, load_tryon(first, attention=_ATTENTION))
    folder = train_decoder(paths, config, load_tryon(first, attention=_ATTENTION))

    names = [person for person, _ in read_pairs(data, "train")]
    assert guesses.shape[:2] == (2, len(names))
    after = load_tryon(folder, attention=_ATTENTION)
    for part in ("unet", "garment", "text"):
        old, new = before.modules[part].state_dict(), after.modules[part].state_dict()
        assert all(torch.equal(old[name], new[name]) for name in old)
    old, new = before.autoencoder.state_dict(), after.autoencoder.state_dict()
    changed = {name.split(".")[0] for name in old if not torch.equal(old[name], new[name])}
    assert changed == {"decoder", "post_quant_conv"}

    # a square of a guess goes with the same square of the same person
    reader, clean = before.autoencoder, guesses.clone()
    for row, name in enumerate(names):
        pixels = read_record(data, "train", name, (64, 64)).image.permute(2, 0, 1)[None] * 2 - 1
        clean[:, row] = reader.encode(pixels).mean[0]
    only = replace(config, guessed=1.0, batch_size=6)
    pictures = Pictures(data, "train", (64, 64))
    batch = Squares(reader, pictures, (names, clean), only)(np.random.default_rng(3), 0)
    whole = {
        name: read_record(data, "train", name, (64, 64)).image.permute(2, 0, 1) * 2 - 1
        for name in names
    }
    for latent, pixels in zip(batch["latents"], batch["pixels"], strict=True):
        places = [
            (name, row, top, left)
            for row, name in enumerate(names)
            for top in range(5)
            for left in range(5)
            if torch.equal(clean[0, row, :, top : top + 4, left : left + 4].float(), latent)
        ]
        assert places
        name, _, top, left = places[0]
        cut = whole[name][:, top * 8 : top * 8 + 32, left * 8 : left * 8 + 32]
        torch.testing.assert_close(cut, pixels, atol=1e-6, rtol=0)


@pytest.mark.slow  # accelerate in a process of its own
def test_asking_for_the_device_leaves_the_precision_open():
    code = (
        "from accelerate import Accelerator\n"
        "from unifashion_core.training.loop import training_device\n"
        "device = training_device()\n"
        "assert Accelerator(mixed_precision='bf16').device == device\n"
    )
    root = Path(__file__).resolve().parent.parent
    subprocess.run([sys.executable, "-c", code], cwd=root, check=True, timeout=120)

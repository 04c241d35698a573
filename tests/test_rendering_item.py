"""The chain from person and garment to the pasted-back picture, on a tiny random model."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest
import torch
from tryon_samples import tiny_config, tiny_model

from unifashion_core.attention import math_attention
from unifashion_core.cutout import garment_mask
from unifashion_core.errors import AbilityError, ImageError, InputError, ShapeError
from unifashion_core.imaging import to_tensor
from unifashion_core.pocket import CLIP_MERGES, MEDIAPIPE
from unifashion_core.prepare.cache import PreparationCache
from unifashion_core.prepare.person import load_networks
from unifashion_core.prepare.preparer import Preparer
from unifashion_core.rendering.item import (
    RenderSettings,
    SamplerSettings,
    TryOnItem,
    TryOnTools,
    Turn,
    render_in_turn,
    render_items,
)
from unifashion_core.rendering.mannequin import MANNEQUIN, prepare_mannequin
from unifashion_core.rendering.prepared import (
    EMPTY_MASK,
    FULL_MASK,
    fit_skeleton,
    prepare_canvas,
    prepare_garment,
    prepare_person,
)
from unifashion_core.tryon import checkpoint, config
from unifashion_core.wardrobe import render, render_person, sample_garment, sample_person

FEW = RenderSettings(SamplerSettings(steps=2))


@pytest.fixture(scope="module")
def networks():
    return load_networks(MEDIAPIPE, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def model():
    return tiny_model(checkpoint, tiny_config(config), math_attention())


@pytest.fixture(scope="module")
def tools(networks, model) -> TryOnTools:
    return make_tools(networks, model)


def make_tools(networks, model) -> TryOnTools:
    cache = PreparationCache()
    return TryOnTools(
        model,
        "tiny",
        Preparer(lambda: networks, cache),
        cache,
        CLIP_MERGES,
        lambda names, room: None,
        garment_mask,
    )


@pytest.fixture(scope="module")
def photos() -> list[torch.Tensor]:
    return [
        to_tensor(render_person(sample_person(seed, framing="full"), 320).image) for seed in (1, 2)
    ]


@pytest.fixture(scope="module")
def garments() -> list[torch.Tensor]:
    return [to_tensor(render(sample_garment(s, category="t-shirt"), 160)) for s in (4, 5)]


@pytest.fixture(scope="module")
def items(tools, photos, garments) -> list[TryOnItem]:
    people = [prepare_person(tools, photo, "upper") for photo in photos]
    hints = [prepare_garment(tools, garment) for garment in garments]
    return [
        TryOnItem(person, hint, seed=10 + n)
        for n, (person, hint) in enumerate((p, h) for p in people for h in hints)
    ]


def worst(a: torch.Tensor | None, b: torch.Tensor | None) -> float:
    assert a is not None
    assert b is not None
    return float((a - b).abs().max())


@pytest.mark.slow
def test_outside_the_mask_the_photo_stays_bit_for_bit(tools, items):
    made = render_items(tools, items, FEW)
    for item, result in zip(items, made.results, strict=True):
        outside = item.person.mask == 0
        assert torch.equal(result.image[outside], item.person.photo[outside])
        assert worst(result.image, item.person.photo) > 0.05
        assert result.crop.shape == (128, 128, 3)


def test_each_person_and_garment_is_encoded_once(networks, model, items):
    tools = make_tools(networks, model)
    seen: list[tuple[int, int]] = []
    finished: list[int] = []
    made = render_items(
        tools, items, replace(FEW, batch=3), on_step=lambda *at: seen.append(at),
        on_item=lambda place, _: finished.append(place),
    )  # fmt: skip
    assert (made.encodings, made.batches) == (4, 2)
    assert seen[-1] == (4, 4)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert finished == [0, 1, 2, 3]
    assert render_items(tools, items, FEW).encodings == 0


def test_an_item_of_a_batch_equals_the_item_alone(tools, items):
    together = render_items(tools, items, FEW).results
    alone = render_items(tools, [items[2]], FEW).results[0]
    assert worst(together[2].latents, alone.latents) <= 1e-4 * worst(alone.latents, torch.zeros(()))
    assert worst(together[2].image, alone.image) <= 1 / 255
    other = render_items(tools, [replace(items[2], seed=3)], FEW).results[0]
    assert worst(other.latents, alone.latents) > 1e-2


def test_the_garment_counts_and_without_one_it_does_not(tools, items):
    first, second = render_items(
        tools, [items[0], replace(items[1], seed=items[0].seed)], FEW
    ).results
    assert worst(first.latents, second.latents) > 1e-4
    nothing = replace(items[0], garment=None)
    bare, weak = (
        render_items(tools, [item], FEW).results[0]
        for item in (nothing, replace(items[0], hint_strength=0.0))
    )
    assert worst(bare.latents, weak.latents) <= 1e-5


def test_an_empty_mask_gives_the_person_and_runs_nothing(networks, model, photos, garments):
    def refuse(names: Sequence[str], room: int) -> None:
        raise AssertionError("a network was asked for")

    tools = replace(make_tools(networks, model), load=refuse)
    photo = photos[0]
    person = prepare_person(tools, photo, mask=torch.zeros(photo.shape[:2]))
    made = render_items(tools, [TryOnItem(person, prepare_garment(tools, garments[0]))], FEW)
    assert torch.equal(made.results[0].image, photo)
    assert EMPTY_MASK in made.results[0].notes
    assert made.results[0].latents is None
    assert (made.encodings, made.batches) == (0, 0)


def test_a_full_mask_is_allowed_and_said(tools, photos, garments):
    person = prepare_person(tools, photos[0], "upper", mask=torch.ones(photos[0].shape[:2]))
    made = render_items(tools, [TryOnItem(person, prepare_garment(tools, garments[0]))], FEW)
    assert FULL_MASK in made.results[0].notes
    assert worst(made.results[0].image, photos[0]) > 0.05


def test_several_garments_in_turn(tools, photos, garments):
    upper = Turn(prepare_garment(tools, garments[0]), "upper")
    lower = Turn(prepare_garment(tools, garments[1]), "lower")
    seen: list[tuple[int, int]] = []
    made = render_in_turn(
        tools, photos, [upper, lower], FEW, [1, 2], on_step=lambda *at: seen.append(at)
    )
    assert seen[-1] == (4, 4)
    # In the same batch: alone it differs by rounding, which can move a pixel of the next mask.
    once = render_in_turn(tools, photos, [upper], FEW, [1, 2])
    first, last = once.results[0], made.results[0]
    masks = [prepare_person(tools, photo, region).mask
             for photo, region in ((photos[0], "upper"), (first.image, "lower"))]  # fmt: skip
    outside = (masks[0] == 0) & (masks[1] == 0)
    assert torch.equal(last.image[outside], photos[0][outside])
    kept = (masks[0] > 0) & (masks[1] == 0)
    assert worst(last.image[kept], first.image[kept]) <= 1 / 255
    assert {"mask: upper", "mask: lower"} <= {note[:11] for note in last.notes}


def test_a_photo_with_alpha_keeps_it(tools, photos, garments):
    alpha = 1 - 0.2 * torch.rand(photos[0].shape[:2], generator=torch.Generator().manual_seed(0))
    photo = torch.cat([photos[0], alpha[..., None]], dim=-1)
    mask = torch.zeros(photo.shape[:2])
    mask[100:150, 80:140] = 1
    person = prepare_person(tools, photo, mask=mask, keypoints=None)
    made = render_items(tools, [TryOnItem(person, prepare_garment(tools, garments[0]))], FEW)
    assert torch.equal(made.results[0].image[..., 3], alpha)


def test_the_mannequin_says_that_it_is_one(tools):
    person = prepare_mannequin(tools, "dress")
    assert person.notes[0] == MANNEQUIN
    assert 0.05 < float(person.mask.mean()) < 0.6


def test_a_pose_alone_is_painted_as_a_whole(tools, items):
    canvas = prepare_canvas(tools, items[0].person.pose)
    assert canvas.notes == ("no person: the whole picture is made, after the pose map",)
    assert torch.equal(canvas.pose, items[0].person.pose)
    assert bool((canvas.mask == 1).all())


def test_garments_come_framed_on_white_with_their_aspect(tools, garments):
    flat = to_tensor(render_person(sample_person(3), 256).flat["upper"])
    made = prepare_garment(tools, flat)
    assert made.notes == ()
    assert made.hint.shape == (128, 128, 3)
    shown = (made.hint.amin(-1) < 0.9).nonzero()
    high, wide = (shown.amax(0) - shown.amin(0) + 1).tolist()
    assert max(high, wide) == pytest.approx(0.84 * 128, abs=3)
    cut = prepare_garment(tools, garments[0])  # on a coloured ground
    assert cut.notes[0].startswith("garment cut out: ")
    assert float(cut.hint[:3].amin()) > 0.9
    pale = torch.full((90, 60, 3), 0.99)
    assert prepare_garment(tools, pale).notes == (
        "the garment can't be told from its white ground: used as it is",
    )


def test_sketches_become_dark_lines_on_white(tools):
    page = torch.zeros(200, 200, 3)
    page[40:140, 60:64], page[40:140, 120:124], page[40:44, 60:124] = 1.0, 1.0, 1.0
    light, dark = (prepare_garment(tools, s, "sketch").hint for s in (page, 1.0 - page))
    assert light.shape == (128, 128, 3)
    assert float((light - dark).abs().mean()) < 0.02
    assert float(light[:6].amin()) > 0.95
    assert float(light.amin()) < 0.4
    high = (light.amin(-1) < 0.6).any(1).sum()
    assert int(high) == pytest.approx(0.84 * 128, abs=5)
    with pytest.raises(InputError, match="'dress', wanted garment or sketch"):
        prepare_garment(tools, page, "dress")
    with pytest.raises(InputError, match="the sketch shows no line"):
        prepare_garment(tools, torch.ones(64, 64, 3), "sketch")


def test_the_pose_lies_where_the_crop_shows_the_person(tools, items):
    person = items[0].person
    found = tools.preparer.person(person.photo)
    from unifashion_core.prepare.keypoints import from_landmarks

    joints = fit_skeleton(from_landmarks(found.landmarks), person.fitted).joints
    x, y = joints["left_shoulder"]
    assert float(person.pose[round(y), round(x)].amax()) > 0.1
    assert float(person.crop_mask[round(y), round(x)]) > 0.5


@pytest.mark.parametrize(
    ("shape", "kind", "text"),
    [
        ((1, 1, 3), ImageError, "person of 1x1 pixels, wanted 32 or more a side"),
        ((20_000, 40, 3), ImageError, "at most 16384 a side"),
        ((64, 64), ShapeError, r"wanted \(H, W, 3\)"),
    ],
)
def test_impossible_photos_are_refused(tools, shape, kind, text):
    with pytest.raises(kind, match=text):
        prepare_person(tools, torch.zeros(shape), "upper")


def test_masks_and_poses_that_do_not_fit_are_refused(tools, photos, garments):
    photo = photos[0]
    with pytest.raises(ShapeError, match="Connect the mask that was made for this photo"):
        prepare_person(tools, photo, mask=torch.ones(40, 40))
    with pytest.raises(ShapeError, match="Make the map of this photo"):
        prepare_person(tools, photo, "upper", pose=torch.zeros(40, 40, 3))
    with pytest.raises(ShapeError, match="wanted one a photo"):
        prepare_person(tools, photo, mask=torch.ones(2, *photo.shape[:2]))
    with pytest.raises(InputError, match="values that are no numbers"):
        prepare_person(tools, photo, mask=torch.full(photo.shape[:2], float("nan")))
    with pytest.raises(ShapeError, match="needs sides that are multiples of 16. Use 128x128"):
        prepare_person(tools, photo, "upper", size=(100, 128))
    with pytest.raises(InputError, match="no person was found"):
        prepare_person(tools, garments[0], "upper")
    with pytest.raises(ImageError, match="no numbers"):
        prepare_person(tools, torch.full_like(photo, float("inf")), "upper")


def test_a_mask_of_another_region_is_refused(tools, photos):
    feet = torch.zeros(photos[0].shape[:2])
    feet[290:, 60:180] = 1
    with pytest.raises(InputError, match="hardly touches the region 'upper'"):
        prepare_person(tools, photos[0], "upper", mask=feet)
    assert prepare_person(tools, photos[0], "", mask=feet).mask is not None
    own = prepare_person(tools, photos[0], "upper").mask
    assert torch.equal(prepare_person(tools, photos[0], "upper", mask=own).mask, own)


def test_a_model_of_densepose_asks_for_its_map(networks, photos):
    dense = tiny_model(checkpoint, tiny_config(config, pose_map="densepose"), math_attention())
    with pytest.raises(InputError, match=r"needs a pose map \(densepose\), got none"):
        prepare_person(make_tools(networks, dense), photos[0], "upper")


def test_a_text_leads_where_there_is_no_garment(tools, items):
    bare = replace(items[0], garment=None)
    red, blue, none = (
        render_items(tools, [replace(bare, text=text)], FEW).results[0]
        for text in ("a red dress", "a blue shirt", "")
    )
    assert worst(red.latents, blue.latents) > 1e-4
    weak = render_items(tools, [replace(bare, text="a red dress", context_strength=0.0)], FEW)
    assert worst(weak.results[0].latents, none.latents) <= 1e-5
    assert red.notes == items[0].person.notes


def test_an_embedding_needs_an_adapter(tools, items):
    with pytest.raises(AbilityError, match="no adapter for an encoder's embedding"):
        render_items(tools, [replace(items[0], query_outputs=torch.zeros(2, 4))], FEW)


def test_an_embedding_leads_through_the_adapter(networks, items):
    adapted = tiny_config(config, adapter=config.AdapterConfig(12, 24))
    tools = make_tools(networks, tiny_model(checkpoint, adapted, math_attention()))
    rng = torch.Generator().manual_seed(0)
    one, other = (
        replace(items[0], query_outputs=torch.randn(5, 12, generator=rng)) for _ in range(2)
    )
    settings = replace(FEW, sampler=replace(FEW.sampler, guidance=2.0))
    made = render_items(tools, [items[0], one, other], settings)
    assert made.batches == 2
    bare, first, second = (result.latents for result in made.results)
    assert worst(first, second) > 1e-5
    assert worst(first, bare) > 1e-5


def test_previews_are_of_the_batch(tools, items):
    seen: list[tuple[int, int, tuple[int, ...]]] = []
    settings = replace(FEW, batch=3)
    render_items(
        tools, items, settings, on_preview=lambda d, t, z: seen.append((d, t, (*z.shape,)))
    )
    assert [s[:2] for s in seen] == [(n, 4) for n in range(1, 5)]
    assert {s[2] for s in seen} == {(3, 4, 16, 16), (1, 4, 16, 16)}


def test_cancel_goes_through(tools, items):
    class Stop(Exception):
        pass

    def stop(done: int, total: int) -> None:
        raise Stop

    with pytest.raises(Stop):
        render_items(tools, items, FEW, on_step=stop)


def test_no_item_is_an_error(tools):
    with pytest.raises(InputError, match="no item"):
        render_items(tools, [], FEW)

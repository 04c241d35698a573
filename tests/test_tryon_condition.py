"""Conditions and decoding: what is encoded, joined, refused, and decoded in tiles."""

from __future__ import annotations

import re

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F
from tryon_tiny import SIZE, TOKENIZER, box_mask, picture, tiny_condition, tiny_config, tiny_model

from unifashion_core.errors import AbilityError, BackendError, InputError, ShapeError
from unifashion_core.tryon.checkpoint import TryOnModel
from unifashion_core.tryon.condition import (
    GREY,
    check_size,
    encode_person,
    encode_picture,
    make_condition,
)
from unifashion_core.tryon.config import ClipConfig, TryOnConfig
from unifashion_core.tryon.context import encode_garment_context, encode_texts, free_context
from unifashion_core.tryon.decoding import decode, repaint


@pytest.fixture(scope="module")
def model() -> TryOnModel:
    return tiny_model()


def test_person_is_grey_where_the_mask_is_and_kept_elsewhere(model: TryOnModel) -> None:
    photo, mask, pose = picture(1), box_mask(), picture(2)
    found = encode_person(model, photo, mask, pose)
    agnostic = photo.clone()
    agnostic[mask > 0] = GREY
    assert torch.allclose(found.agnostic.mean, encode_picture(model, agnostic).mean, atol=1e-6)
    assert torch.allclose(found.pose.mean, encode_picture(model, pose).mean, atol=1e-6)
    assert not found.empty
    assert found.photo is None
    wanted = 1 - F.interpolate(mask[None, None], (8, 4), mode="bilinear", antialias=False)
    assert torch.equal(found.keep, wanted)
    assert encode_person(model, photo, mask, pose, whole=True).photo is not None


def test_empty_and_full_masks(model: TryOnModel) -> None:
    photo, pose = picture(1), picture(2)
    empty = encode_person(model, photo, torch.zeros(SIZE), pose)
    assert empty.empty
    assert torch.equal(empty.agnostic.mean, encode_picture(model, photo).mean)
    assert bool((empty.keep == 1).all())
    full = encode_person(model, photo, torch.ones(SIZE), pose)
    assert not full.empty
    assert bool((full.keep == 0).all())
    grey = encode_picture(model, torch.full((*SIZE, 3), GREY))
    assert torch.allclose(full.agnostic.mean, grey.mean, atol=1e-6)


def test_joined_batch_is_its_items(model: TryOnModel) -> None:
    whole = tiny_condition(model, 3)
    assert len(whole) == 3
    one = whole.select([2])
    assert torch.equal(one.context[0], whole.context[2])
    assert whole.hint is not None
    assert one.hint is not None
    assert torch.equal(one.hint.mean[0], whole.hint.mean[2])
    alone = encode_person(model, picture(2), box_mask(), picture(102))
    assert torch.allclose(one.agnostic.mean, alone.agnostic.mean, atol=1e-5)


def test_item_without_garment_has_strength_zero(model: TryOnModel) -> None:
    person = encode_person(model, picture(1), box_mask(), picture(2))
    hint, free = encode_picture(model, picture(3)), free_context(model)
    context = encode_texts(model, TOKENIZER, ["a red dress"] * 2).tokens
    some = make_condition([person] * 2, [hint, None], context, free, hint_strength=[0.5, 0.7])
    assert some.hint_strength.tolist() == [0.5, 0.0]
    none = make_condition([person] * 2, [None, None], context, free)
    assert none.hint is None
    assert none.hint_strength.tolist() == [0.0, 0.0]


def test_context_strength_moves_between_nothing_and_the_text(model: TryOnModel) -> None:
    person = encode_person(model, picture(1), box_mask(), picture(2))
    context = encode_texts(model, TOKENIZER, ["a red dress"] * 3).tokens
    free = free_context(model)
    assert free is not None
    made = make_condition([person] * 3, [None] * 3, context, free, context_strength=[0.0, 1.0, 0.5])
    assert torch.allclose(made.context[0], free[0], atol=1e-6)
    assert torch.equal(made.context[1], context[1])
    assert torch.allclose(made.context[2], (free[0] + context[2]) / 2, atol=1e-6)
    with pytest.raises(InputError, match="no context of nothing to weaken"):
        make_condition([person], [None], context[:1], None, context_strength=0.5)


def test_texts_are_context_and_an_empty_one_is_the_learned_nothing(model: TryOnModel) -> None:
    found = encode_texts(model, TOKENIZER, ["a red dress", "  ", "a chartreuse dress"])
    assert found.tokens.shape == (3, 12, 24)
    assert found.unknown_words == ((), (), ("chartreuse",))
    free = free_context(model)
    assert free is not None
    assert torch.equal(found.tokens[1], free[0])
    alone = encode_texts(model, TOKENIZER, ["a red dress"])
    assert torch.allclose(alone.tokens[0], found.tokens[0], atol=1e-5)
    learned = tiny_model(free=False)
    wanted = encode_texts(learned, TOKENIZER, [""]).tokens
    nothing = free_context(learned, TOKENIZER)
    assert nothing is not None
    assert torch.equal(nothing, wanted)


def test_model_that_reads_pictures_takes_no_text(model: TryOnModel) -> None:
    image = ClipConfig(24, 1, 2, 32, 5, 0, 8)
    config = tiny_config(text=None, image=image, mapper_layers=1)
    other = tiny_model(config)
    context = encode_garment_context(other, torch.stack([picture(1), picture(2)]))
    assert context.shape == (2, 1, 24)
    assert not torch.allclose(context[0], context[1])
    with pytest.raises(AbilityError, match="reads the garment's picture, not a text"):
        encode_texts(other, TOKENIZER, ["dress"])
    with pytest.raises(AbilityError, match="reads a text as context"):
        encode_garment_context(model, picture(1)[None])


@pytest.mark.parametrize(
    ("mask", "pose", "text"),
    [
        (torch.zeros(16, 16), picture(2), r"mask is \(16, 16\), wanted \(32, 16\)"),
        (box_mask(), picture(2, (16, 16)), r"pose map is \(16, 16, 3\), wanted \(32, 16, 3\)"),
        (box_mask() * float("nan"), picture(2), "the mask holds values that are no numbers"),
    ],
)
def test_person_that_does_not_go_together_is_an_error(
    model: TryOnModel, mask: Tensor, pose: Tensor, text: str
) -> None:
    with pytest.raises((ShapeError, InputError), match=text):
        encode_person(model, picture(1), mask, pose)


@pytest.mark.parametrize(
    ("height", "width", "text"),
    [
        (520, 384, "a picture of 384x520, .*multiples of 64 .*Use 384x512 or 448x576"),
        (1, 1, "a picture of 1x1, .*Use 64x64 or 128x128"),
        (64000, 64000, "at most 2048. Use 2048x2048 or 2048x2048"),
    ],
)
def test_sizes_that_can_not_be_halved_name_the_nearest(height: int, width: int, text: str) -> None:
    with pytest.raises(ShapeError, match=text):
        check_size(TryOnConfig(), height, width)
    check_size(TryOnConfig(), 512, 384)


def test_counts_sizes_and_strengths_are_checked(model: TryOnModel) -> None:
    person = encode_person(model, picture(1), box_mask(), picture(2))
    context = encode_texts(model, TOKENIZER, ["a red dress"]).tokens
    with pytest.raises(ShapeError, match="2 persons, 1 garments, 1 contexts"):
        make_condition([person] * 2, [None], context, None)
    wide = encode_picture(model, picture(3, (32, 32)))
    with pytest.raises(ShapeError, match="garments of latent sizes .* in one batch"):
        make_condition([person] * 2, [wide, None], context.repeat(2, 1, 1), None)
    with pytest.raises(InputError, match=re.escape("hint strengths [-1.0] for 1 items")):
        make_condition([person], [None], context, None, hint_strength=-1.0)


def test_decoded_batch_is_its_items_in_0_1(model: TryOnModel) -> None:
    latents = torch.randn(3, 4, 8, 4, generator=torch.Generator().manual_seed(0))
    whole = decode(model, latents)
    assert whole.shape == (3, 32, 16, 3)
    assert 0 <= float(whole.min()) <= float(whole.max()) <= 1
    assert torch.allclose(decode(model, latents[1:2]), whole[1:2], atol=1 / 255)
    wanted = model.autoencoder.decode(latents / model.config.autoencoder.scale_factor)
    assert torch.allclose(whole.permute(0, 3, 1, 2), ((wanted + 1) / 2).clamp(0, 1), atol=1e-5)


def test_one_tile_is_the_whole(model: TryOnModel) -> None:
    small = torch.randn(1, 4, 8, 8, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(decode(model, small, tiled=True), decode(model, small), atol=1e-5)


@pytest.mark.parametrize("size", [(32, 33), (72, 40), (57, 95)])
def test_tiles_of_a_decoder_that_sees_no_neighbours_join_to_the_whole(
    size: tuple[int, int], monkeypatch: pytest.MonkeyPatch
) -> None:
    model = tiny_model()
    local = lambda z: F.interpolate(z[:, :3] / 3, scale_factor=4.0, mode="nearest")  # noqa: E731
    monkeypatch.setattr(model.autoencoder, "decode", local)
    latents = torch.rand(2, 4, *size, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(decode(model, latents, tiled=True), decode(model, latents), atol=1e-5)


def test_short_memory_decodes_one_by_one_then_in_tiles_then_says_so(model: TryOnModel) -> None:
    latents = torch.randn(2, 4, 40, 8, generator=torch.Generator().manual_seed(0))
    seen: list[tuple[int, int]] = []

    def limit(places: int) -> torch.utils.hooks.RemovableHandle:
        def hook(_: object, args: tuple[Tensor, ...]) -> None:
            seen.append((len(args[0]), args[0].shape[2]))
            if len(args[0]) * args[0].shape[2] > places:
                raise torch.OutOfMemoryError("CUDA out of memory")

        return model.autoencoder.decoder.register_forward_pre_hook(hook)

    wanted = decode(model, latents)
    handle = limit(40)
    assert torch.allclose(decode(model, latents), wanted, atol=1e-5)
    handle.remove()
    assert seen == [(2, 40), (1, 40), (1, 40)]
    seen.clear()
    handle = limit(32)
    assert decode(model, latents).shape == wanted.shape
    handle.remove()
    assert seen == [(2, 40), (1, 40), *[(1, 32)] * 4]
    handle = limit(8)
    with pytest.raises(BackendError, match="too little memory on cpu for a tile"):
        decode(model, latents)
    handle.remove()


def test_latents_of_another_model_or_no_numbers_are_errors(model: TryOnModel) -> None:
    with pytest.raises(ShapeError, match=r"wanted \(B, 4, h, w\)"):
        decode(model, torch.zeros(1, 16, 4, 4))
    with pytest.raises(InputError, match="the latents hold values that are no numbers"):
        decode(model, torch.full((1, 4, 4, 4), float("nan")))


def test_repaint_keeps_the_photos_bits_outside_the_mask() -> None:
    images, photos = (torch.stack([picture(s), picture(s + 1)]) for s in (1, 5))
    mask = torch.stack([box_mask(), torch.zeros(SIZE)])
    found = repaint(images, photos, mask)
    assert torch.equal(found[mask == 0], photos[mask == 0])
    assert torch.equal(found[mask == 1], images[mask == 1])
    with pytest.raises(ShapeError, match="Give all of one size"):
        repaint(images, photos, mask[:, :4])

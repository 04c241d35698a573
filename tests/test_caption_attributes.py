"""The pocket captioner end to end: captions, attributes, colours in Lab, masks, batches, errors."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unifashion_core.attention import math_attention
from unifashion_core.caption import batches
from unifashion_core.caption.attributes import AttributeReader, Confidence, read_calibration
from unifashion_core.caption.colours import load_namer, named_shares, sample_pixels
from unifashion_core.caption.decoding import DecodingSettings
from unifashion_core.caption.qformer import QFormerCaptioner, qformer_captioner, tidy
from unifashion_core.caption.vocabulary import load_vocabulary
from unifashion_core.cutout import garment_mask
from unifashion_core.encoder.checkpoint import load_encoder
from unifashion_core.encoder.encoder import MultimodalEncoder
from unifashion_core.errors import (
    AbilityError,
    BackendError,
    CheckpointError,
    InputError,
    ShapeError,
)
from unifashion_core.pocket import BERT_VOCABULARY, EFFICIENTNET_LITE0, ENCODER
from unifashion_core.types import CATEGORIES, COLOURS, Captioner

SETTINGS = DecodingSettings("greedy", min_tokens=1, max_tokens=16, repeat_words=False)


@pytest.fixture(scope="module")
def encoder() -> MultimodalEncoder:
    found = load_encoder(
        ENCODER,
        tower=EFFICIENTNET_LITE0,
        attention=math_attention(),
        bert_vocabulary=BERT_VOCABULARY,
    )
    assert isinstance(found, MultimodalEncoder)
    return found


@pytest.fixture(scope="module")
def captioner(encoder: MultimodalEncoder) -> QFormerCaptioner:
    return qformer_captioner(encoder, settings=SETTINGS)


@pytest.fixture(scope="module")
def images() -> list[Image.Image]:
    return [
        plain((190, 25, 35)),
        plain((40, 90, 190)),
        plain((20, 20, 22)),
    ]


def plain(colour: tuple[int, int, int], background=(225, 222, 215)) -> Image.Image:
    """A T-shaped garment of one colour on a light floor."""
    pixels = np.full((160, 130, 3), background, np.float64)
    pixels[30:60, 20:110] = colour
    pixels[30:135, 40:90] = colour
    pixels += np.random.default_rng(0).normal(0, 4, pixels.shape)
    return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))


def sure(encoder: MultimodalEncoder, **values: Confidence) -> AttributeReader:
    return AttributeReader(encoder, calibration=values)


def test_it_is_a_captioner_with_attributes(captioner, images):
    assert isinstance(captioner, Captioner)
    assert captioner.abilities == {"caption", "attributes"}
    captions = captioner.caption(images)
    assert len(captions) == 3
    assert all(c and not c.startswith("[") for c in captions)
    records = captioner.describe(images)
    assert [type(r.to_dict()) for r in records] == [dict] * 3


def test_batches_change_nothing(captioner, images):
    whole, single = captioner, dataclasses.replace(captioner, batch_size=1)
    assert whole.caption(images) == single.caption(images)
    for a, b in zip(whole.describe(images), single.describe(images), strict=True):
        assert a.colours == b.colours
        assert (a.category is None) == (b.category is None)


def test_caption_and_attributes_take_one_pass_of_the_tower(encoder, images):
    passes: list[int] = []

    class Counting(MultimodalEncoder):
        def encode_pixels(self, pixels):
            passes.append(len(pixels))
            return super().encode_pixels(pixels)

    counting = Counting(encoder.model, encoder.tokenizer, encoder.fingerprint, card=encoder.card)
    captioner = qformer_captioner(counting, settings=SETTINGS)
    captioner.caption(images)
    captioner.describe(images)
    assert passes == [3]
    captioner.describe(images[:2])
    assert passes == [3, 2]


def test_progress_counts_images_and_may_cancel(captioner, images):
    seen: list[tuple[int, int]] = []
    captioner = dataclasses.replace(captioner, batch_size=2)
    captioner.caption(images, on_step=lambda done, total: seen.append((done, total)))
    assert seen == sorted(seen)
    assert seen[-1] == (3, 3)

    def stop(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        captioner.caption(images, on_step=stop)


@pytest.mark.parametrize(
    ("place", "colour"), [(0, "red"), (1, "blue"), (2, "black")], ids=["red", "blue", "black"]
)
def test_colours_are_measured_on_the_garment(encoder, images, place, colour):
    reader = sure(encoder, colours=Confidence(0.0, 0.0, 1.0))
    features = encoder.encode_pixels(encoder.preprocess(images[place])[None])
    (found,) = reader.read(features, [images[place]])
    assert found.colours[0].name == colour
    assert 0.1 <= found.colours[0].share <= 1.0
    assert sum(c.share for c in found.colours) <= 1.0 + 1e-6


def test_a_mask_decides_what_the_garment_is(encoder, images):
    image = images[0].copy()
    image.paste((40, 90, 190), (0, 140, 130, 160))
    mask = np.zeros((160, 130), np.float32)
    mask[142:158, 10:120] = 1.0
    reader = sure(encoder, colours=Confidence(0.0, 0.0, 1.0))
    features = encoder.encode_pixels(encoder.preprocess(image)[None])
    assert reader.read(features, [image])[0].colours[0].name == "red"
    assert reader.read(features, [image], [mask])[0].colours[0].name == "blue"
    with pytest.raises(ShapeError, match="garment mask: 3 x 2 pixels, the picture has 130 x 160"):
        reader.read(features, [image], [np.ones((2, 3))])


def test_below_its_threshold_an_attribute_is_unknown(encoder, images):
    features = encoder.encode_pixels(torch.stack([encoder.preprocess(i) for i in images]))
    every = {n: Confidence(20.0, 0.0, 1.0) for n in ("category", "colours", "sleeve")}
    none = {n: dataclasses.replace(c, threshold=2.0) for n, c in every.items()}
    for record in sure(encoder, **every).read(features, images):
        assert record.category is not None
        assert record.category.value in CATEGORIES
        assert 0 < record.category.confidence <= 1
        assert record.colours
    for record in sure(encoder, **none).read(features, images):
        assert record.category is None
        assert record.sleeve is None
        assert record.colours == ()


def test_an_attribute_without_meaning_for_the_category_is_unknown(encoder):
    reader = sure(encoder, sleeve=Confidence(20.0, 0.0))
    tokens = encoder.encode_texts(["a photo of shoes", "a photo of a shirt"]).vectors[:, None]
    assert reader.categories(tokens) == ["shoes", "shirt"]
    shoes, shirt = reader.beliefs("sleeve", tokens)
    assert shoes == {}
    assert set(shirt) == {"none", "short", "long"}


def test_confidence_is_the_softmax_of_scaled_scores(encoder):
    reader = sure(encoder, pattern=Confidence(2.0, 0.0))
    value, confidence = reader.confidence("pattern", {"plain": 0.5, "dots": 1.0})
    assert value == "dots"
    assert confidence == pytest.approx(1 / (1 + np.exp(-1.0)))


def test_values_in_words_that_the_encoder_does_not_know_are_left_out(encoder, tmp_path: Path):
    path = tmp_path / "mine.json"
    text = load_vocabulary().source
    path.write_text(text.replace('"prompts": ["denim"]', '"prompts": ["chambray"]'))
    reader = AttributeReader(encoder, load_vocabulary(path))
    tokens = encoder.encode_texts(["a photo of pants"]).vectors[:, None]
    assert "denim" not in reader.beliefs("material", tokens)[0]
    assert "leather" in reader.beliefs("material", tokens)[0]
    assert reader.fingerprint != AttributeReader(encoder).fingerprint


def test_measured_colours_steer_the_words_of_a_caption(encoder, images):
    vision = encoder.encode_pixels(encoder.preprocess(images[0])[None]).vision
    captioner = qformer_captioner(encoder, settings=SETTINGS.changed(colour_weight=8.0))
    named = set()
    for colour in ("green", "purple"):
        shares = np.full((1, len(COLOURS)), 1e-4)
        shares[0, COLOURS.index(colour)] = 1.0
        (caption,) = captioner.caption_vision(vision, shares)
        named.add(next(w for w in caption.split() if w in COLOURS))
    assert named == {"green", "purple"}


def test_fingerprints_follow_settings(encoder):
    first = qformer_captioner(encoder, settings=SETTINGS).fingerprint
    assert first == qformer_captioner(encoder, settings=SETTINGS).fingerprint
    assert first != qformer_captioner(encoder, settings=SETTINGS.changed(beams=4)).fingerprint


def test_an_encoder_without_an_lm_head_is_refused(encoder):
    class Mute(MultimodalEncoder):
        @property
        def abilities(self):
            return frozenset({"image", "text", "composed"})

    mute = Mute(encoder.model, encoder.tokenizer, encoder.fingerprint, name="mute")
    with pytest.raises(AbilityError, match="encoder 'mute' has no LM head"):
        qformer_captioner(mute)


def test_a_calibration_of_another_form_is_refused():
    assert (
        read_calibration({"attributes": {"how": "x", "fit": {"threshold": 2}}})["fit"].scale == 20
    )
    for wrong in ({"size": {"scale": 1}}, {"fit": {"least": 1}}, [1]):
        with pytest.raises(InputError, match="no valid calibration"):
            read_calibration({"attributes": wrong})


def test_running_out_of_memory_halves_the_batch_and_then_names_the_setting():
    sizes: list[int] = []

    def run(part):
        sizes.append(len(part))
        if len(part) > 2:
            raise torch.OutOfMemoryError("no memory")
        return part

    assert batches.in_batches(list(range(9)), 8, run, "caption") == list(range(9))
    assert sizes == [8, 4, 2, 2, 2, 2, 1]

    def never(part):
        raise torch.OutOfMemoryError("no memory")

    with pytest.raises(BackendError, match="caption: out of memory with one image at a time"):
        batches.in_batches([1, 2], 2, never, "caption")
    with pytest.raises(InputError, match="batch_size 0, at least 1"):
        batches.in_batches([1], 0, run, "caption")


def test_captions_are_written_as_one_writes_them():
    assert tidy("a white t - shirt , with a v - neck") == "a white t-shirt, with a v-neck"
    assert tidy("women ' s flip - flops") == "women's flip-flops"


def test_members_that_did_not_see_a_fold_differ_from_all(images):
    namer = load_namer()
    mask = garment_mask(images[0])
    assert mask is not None
    sample = sample_pixels(images[0], mask)
    folds = [namer.shares(sample, unseen=int(f)) for f in np.unique(namer.folds)]
    assert np.allclose(np.mean(folds, axis=0), namer.shares(sample), atol=1e-5)
    assert all(np.isclose(f.sum(), 1.0, atol=1e-5) for f in folds)


def test_small_shares_are_left_out_but_one_colour_always_stays():
    shares = np.zeros(13)
    shares[[0, 3, 5]] = 0.6, 0.35, 0.05
    assert [c.name for c in named_shares(shares)] == ["black", "beige"]
    assert len(named_shares(np.full(13, 1 / 13))) == 1


def test_a_damaged_file_of_colours_is_an_error(tmp_path: Path):
    path = tmp_path / "colours.safetensors"
    path.write_bytes(b"nothing")
    with pytest.raises(CheckpointError, match="colours.safetensors: can't be read"):
        load_namer(path)

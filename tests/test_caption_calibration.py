"""Calibration of attributes, the namer of colours, and the figures of `bench caption`."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from unifashion_core.caption.colours import PIXELS, PixelSample, load_namer, pixel_values
from unifashion_core.cutout import lab_of
from unifashion_core.evaluation.caption_bench import attribute_figures, interval_of
from unifashion_core.pocket.photos import Photo, read_photos
from unifashion_core.training.calibrate import LEAST_ANSWERS, threshold_of, write_card
from unifashion_core.training.colours import FOLDS, fold_of, save_namer, train_namer
from unifashion_core.types import Attribute, ColourShare, GarmentAttributes

SHADES = {"red": (190, 25, 35), "blue": (40, 90, 190), "white": (240, 240, 238)}


def sample(rgb: tuple[int, int, int], rng: np.random.Generator) -> PixelSample:
    """A garment of a shade on a grey floor, in the form of `sample_pixels`."""
    light = rng.uniform(0.8, 1.0)
    pixels = (np.array(rgb) * light + rng.normal(0, 4, (PIXELS, 3))).clip(0, 255)
    lab = lab_of(pixels.astype(np.uint8))
    floor = np.array([60.0 * light, 0, 0])
    parts = (
        floor,
        np.ones(3),
        floor,
        lab.mean(0),
        lab.std(0),
        [*np.quantile(lab[:, 0], (0.1, 0.9))],
    )
    context = np.concatenate([*parts, [60.0 * light]]).astype(np.float32)
    return PixelSample(pixel_values(lab), context)


def photo(number: int, colour: str, label: str = "dress") -> Photo:
    return Photo(
        f"{label}/{number}.jpg", f"{number * 2654435761 % 2**64:016x}" * 4, label, (colour,)
    )


@pytest.fixture(scope="module")
def photos() -> list[Photo]:
    return [photo(i, list(SHADES)[i % 3]) for i in range(60)]


@pytest.mark.slow
def test_the_namer_learns_colours_and_is_kept_whole(photos, tmp_path: Path):
    rng = np.random.default_rng(0)
    samples = [sample(SHADES[p.colours[0]], rng) for p in photos]
    namer = train_namer(photos, samples, 0, steps=60)
    save_namer(namer, tmp_path / "colours.safetensors")
    again = load_namer(tmp_path / "colours.safetensors")
    assert np.array_equal(again.shares(samples[0]), namer.shares(samples[0]))
    for colour, rgb in SHADES.items():
        shares = again.shares(sample(rgb, rng))
        assert {"red": 5, "blue": 10, "white": 1}[colour] == int(shares.argmax())


@pytest.mark.slow
def test_the_namers_training_is_repeatable(photos):
    rng = np.random.default_rng(0)
    samples = [sample(SHADES[p.colours[0]], rng) for p in photos]
    first, second = (train_namer(photos, samples, 4, steps=5) for _ in range(2))
    assert np.array_equal(first.out, second.out)
    assert not np.array_equal(first.out, train_namer(photos, samples, 5, steps=5).out)


def test_folds_are_even_and_know_nothing_of_the_split():
    train = [p for p in read_photos() if not p.held_out]
    sizes = np.bincount([fold_of(p) for p in train], minlength=FOLDS)
    assert len(sizes) == FOLDS
    assert sizes.min() > len(train) / FOLDS * 0.7


def test_a_threshold_is_the_lowest_at_which_answers_are_right_often_enough():
    right = [(1 - i / 100, True) for i in range(LEAST_ANSWERS)]
    wrong = [(0.5 - i / 100, False) for i in range(5)]
    assert threshold_of([*right, *wrong]) == pytest.approx(0.5)  # 20 of 21 are right
    assert threshold_of(right) == right[-1][0]
    assert threshold_of(right[:-1]) > 1
    assert threshold_of([(s, False) for s, _ in right]) > 1


def test_a_card_keeps_its_other_entries(tmp_path: Path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"tower": {"kind": "x"}, "card": {"caption": 1, "note": "kept"}}))
    write_card(tmp_path, {"caption": {"beams": 2}})
    assert json.loads(path.read_text()) == {
        "tower": {"kind": "x"},
        "card": {"caption": {"beams": 2}, "note": "kept"},
    }


def test_precision_counts_answers_alone():
    photos = [photo(0, "red"), photo(1, "blue"), photo(2, "white", "hat"), photo(3, "red")]
    records = [
        GarmentAttributes(Attribute("dress", 0.9), colours=(ColourShare("red", 0.8),)),
        GarmentAttributes(Attribute("skirt", 0.9), colours=(ColourShare("navy", 0.8),)),
        GarmentAttributes(Attribute("hat", 0.9)),
        GarmentAttributes(),
    ]
    found = attribute_figures(records, photos)
    assert found["category"] == {"precision": 2 / 3, "answered": 0.75, "n": 4}
    assert found["colour"] == {"precision": 0.5, "answered": 0.5, "n": 4}


def test_the_interval_draws_photos_with_all_of_their_queries():
    rows = torch.tensor([0] * 50 + [1] * 50)
    differences = torch.tensor([0.2] * 50 + [-0.2] * 50)
    low, high = interval_of(differences, rows)
    assert (low, high) == pytest.approx((-0.2, 0.2))  # two photos, not a hundred trials
    low, high = interval_of(torch.full((100,), 0.1), torch.arange(100))
    assert (low, high) == pytest.approx((0.1, 0.1))

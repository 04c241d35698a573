"""Masks and recoloured copies, on renders whose truth is known."""

from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

pytest.importorskip("cv2", reason="opencv comes with the extra `train`")

from unifashion_core.training.photos import (
    ANCHORS,
    ColourSamples,
    garment_and_ground,
    garment_mask,
    recolour,
    to_lab,
)
from unifashion_core.wardrobe import COLOURS, render_with_mask, sample_garment


def nearest(lab: np.ndarray) -> str:
    names = [n for n, rgbs in ANCHORS.items() for _ in rgbs]
    anchors = np.array([rgb for rgbs in ANCHORS.values() for rgb in rgbs], np.uint8)
    return names[int(np.square(to_lab(anchors[None])[0] - lab).sum(axis=1).argmin())]


@pytest.mark.parametrize("seed", [3, 8])
def test_mask_finds_the_garment(seed: int) -> None:
    garment = sample_garment(seed, category="t-shirt", colours="red", pattern="plain")
    image, truth = render_with_mask(garment, 160)
    mask = garment_mask(image)
    assert mask is not None
    wanted = np.asarray(truth) > 127
    assert (mask & wanted).sum() / (mask | wanted).sum() > 0.85


def test_picture_without_a_garment_has_no_mask() -> None:
    assert garment_mask(Image.new("RGB", (120, 160), (200, 200, 200))) is None


@pytest.mark.parametrize("colour", COLOURS)
def test_recoloured_garment_has_its_name(colour: str) -> None:
    image, truth = render_with_mask(
        sample_garment(3, category="t-shirt", colours="blue", pattern="plain"), 160
    )
    mask = np.asarray(truth) > 127
    ground = garment_and_ground(image, mask)[1]
    target = ColourSamples([]).draw(colour, ground, np.random.default_rng(0))
    changed = recolour(image, mask, target)
    inside = np.median(to_lab(np.asarray(changed))[mask], axis=0)
    assert nearest(inside) == colour
    outside = ~(np.asarray(truth.resize(image.size)) > 0)
    far = np.abs(np.asarray(changed, int) - np.asarray(image, int)).max(axis=2)[outside]
    assert np.percentile(far, 90) <= 4


def test_target_is_a_sample_in_like_light_where_there_are_enough() -> None:
    dim = [("white", np.array([[60.0 + i, 0, 2], [30, 5, 5]])) for i in range(9)]
    bright = [("white", np.array([[92.0 + i, 0, 0], [85, 0, 0]])) for i in range(9)]
    samples = ColourSamples([*dim, *bright, ("red", np.array([[40.0, 60, 40], [80, 0, 0]]))])
    rng = np.random.default_rng(0)
    assert max(samples.draw("white", np.array([32.0, 4, 4]), rng)[0] for _ in range(20)) < 80
    assert min(samples.draw("white", np.array([86.0, 0, 0]), rng)[0] for _ in range(20)) > 80
    # One red photo is too few to know red by: an anchor is taken.
    assert {nearest(samples.draw("red", np.array([80.0, 0, 0]), rng)) for _ in range(20)} == {"red"}


def test_same_draws_same_picture() -> None:
    image, truth = render_with_mask(sample_garment(1, category="hat"), 96)
    mask = np.asarray(truth) > 127
    samples = ColourSamples([])
    one, two = (
        recolour(image, mask, samples.draw("pink", np.zeros(3), np.random.default_rng(4)))
        for _ in range(2)
    )
    assert one.tobytes() == two.tobytes()

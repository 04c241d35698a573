"""The default cut-out: garment against background by two colour models."""

from __future__ import annotations

import time

import numpy as np
import pytest
from PIL import Image, ImageDraw

from unifashion_core.cutout import garment_mask, lab_of


def photo(garment: tuple, background: tuple, size: tuple[int, int] = (160, 200)) -> Image.Image:
    rng = np.random.default_rng(0)
    image = Image.new("RGB", size, background)
    w, h = size
    ImageDraw.Draw(image).rectangle((w // 4, h // 5, w * 3 // 4, h * 4 // 5), fill=garment)
    noise = rng.normal(0, 6, (h, w, 3))
    return Image.fromarray((np.asarray(image) + noise).clip(0, 255).astype(np.uint8))


def overlap(found: np.ndarray, size: tuple[int, int]) -> float:
    w, h = size
    truth = np.zeros((h, w), bool)
    truth[h // 5 : h * 4 // 5 + 1, w // 4 : w * 3 // 4 + 1] = True
    return (found & truth).sum() / (found | truth).sum()


@pytest.mark.parametrize(
    ("garment", "background"),
    [
        ((200, 30, 40), (230, 225, 220)),
        ((20, 20, 24), (150, 110, 70)),
        ((235, 235, 235), (120, 130, 125)),
    ],
)
def test_it_finds_a_garment_of_another_colour(garment, background):
    image = photo(garment, background)
    found = garment_mask(image)
    assert found is not None
    assert (found.dtype, found.shape) == (bool, (200, 160))
    assert overlap(found, image.size) > 0.9


def test_a_pair_is_kept_and_a_thing_at_the_border_is_not():
    image = Image.new("RGB", (200, 160), (220, 215, 205))
    draw = ImageDraw.Draw(image)
    draw.ellipse((30, 50, 80, 110), fill=(30, 30, 90))
    draw.ellipse((120, 50, 170, 110), fill=(30, 30, 90))
    draw.rectangle((0, 0, 14, 14), fill=(30, 30, 90))
    found = garment_mask(image)
    assert found is not None
    assert found[80, 55]
    assert found[80, 145]
    assert not found[5, 5]


def test_nothing_that_stands_out_is_none():
    assert garment_mask(Image.new("RGB", (90, 120), (128, 128, 128))) is None


@pytest.mark.parametrize("size", [(1, 1), (3, 200), (200, 3), (16, 16)])
def test_tiny_and_narrow_pictures_do_not_fail(size):
    image = Image.effect_noise(size, 60).convert("RGB")
    found = garment_mask(image)
    assert found is None or found.shape == (size[1], size[0])


def test_the_same_picture_gives_the_same_mask():
    image = photo((200, 30, 40), (230, 225, 220))
    first, second = garment_mask(image), garment_mask(image.copy())
    assert first is not None
    assert second is not None
    assert np.array_equal(first, second)


def test_lab_of_known_colours():
    rgb = np.array([[0, 0, 0], [255, 255, 255], [255, 0, 0], [0, 0, 255]], np.uint8)
    wanted = [[0, 0, 0], [100, 0, 0], [53.24, 80.09, 67.20], [32.30, 79.19, -107.86]]
    assert np.allclose(lab_of(rgb), wanted, atol=0.05)


def test_it_takes_twenty_milliseconds_at_most():
    image = photo((200, 30, 40), (230, 225, 220), (102, 128))
    times: list[float] = []
    for _ in range(8):
        started = time.process_time()
        garment_mask(image)
        times.append(time.process_time() - started)
    assert min(times) < 0.02

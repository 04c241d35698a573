"""The mannequin: what its picture shows is what it says it shows."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from unifashion_core.errors import InputError
from unifashion_core.pocket import MEDIAPIPE
from unifashion_core.prepare.person import find_person, load_networks
from unifashion_core.wardrobe import render_person, sample_garment, sample_person
from unifashion_core.wardrobe.person import WORN
from unifashion_core.wardrobe.person_body import PARTS


@pytest.fixture(scope="module")
def striped():
    garment = sample_garment(20, category="t-shirt", pattern="stripes")
    person = sample_person(3, garment, framing="full")
    return person, render_person(person, 256)


def test_the_same_seed_is_the_same_picture_and_another_is_another():
    pictures = [render_person(sample_person(seed), 96).image for seed in (1, 1, 2)]
    assert pictures[0].tobytes() == pictures[1].tobytes()
    assert pictures[0].tobytes() != pictures[2].tobytes()


@pytest.mark.slow
@pytest.mark.parametrize("category", WORN)
def test_every_kind_that_can_be_worn_is_seen(category):
    person = sample_person(8, sample_garment(2, category=category))
    made = render_person(person, 128)
    assert made.image.size == (96, 128)
    wanted = {"dress": {"dress"}}.get(category, {"upper", "lower"})
    assert set(made.worn) == set(made.flat) == wanted
    for region, shown in made.worn.items():
        if person.framing == "full":
            assert shown.mean() > 0.004, region


def test_each_worn_pixel_comes_from_where_it_says_on_the_flat_garment(striped):
    _, made = striped
    shown, source = made.worn["upper"], made.source["upper"]
    assert np.isnan(source[~shown]).all()
    flat = np.asarray(made.flat["upper"], np.float32).mean(2)
    seen = np.asarray(made.image, np.float32).mean(2)[shown]

    def likeness(aside: int, down: int) -> float:
        places = (source[shown] * len(flat)).astype(int) + np.array([aside, down])
        places = np.clip(places, 0, len(flat) - 1)
        return float(np.corrcoef(flat[places[:, 1], places[:, 0]], seen)[0, 1])

    assert likeness(0, 0) > 0.85  # light and shadow differ, the stripes don't
    assert likeness(0, 6) < 0.5


def test_coverage_is_the_share_of_a_pixel_that_shows_the_garment():
    person = sample_person(3, sample_garment(20, category="t-shirt"), framing="full")
    made = render_person(person, 96)
    fine = render_person(person, 192, supersample=1)  # the same drawing, each of its pixels
    assert set(made.coverage) == set(made.worn)
    for region, share in made.coverage.items():
        squares = fine.coverage[region].reshape(96, 2, 72, 2)
        assert share.dtype == np.float32
        assert np.allclose(share, squares.mean(axis=(1, 3)), atol=1e-6)
        assert 0 <= share.min() < 0.01 < 0.99 < share.max() <= 1
        likeness = (made.worn[region] == (share >= 0.5)).mean()
        assert likeness > 0.97


def test_landmarks_lie_on_their_parts(striped):
    _, made = striped
    for point, part in ((0, "head"), (13, "forearm_left"), (14, "forearm_right"),
                        (25, "thigh_left"), (26, "thigh_right")):  # fmt: skip
        x, y = np.round(made.landmarks[point]).astype(int)
        around = made.parts[y - 4 : y + 5, x - 4 : x + 5]
        assert PARTS.index(part) in around, part
    left, right = made.landmarks[11], made.landmarks[12]
    assert left[0] > right[0]  # the person's left is the picture's right


@pytest.mark.slow
def test_the_detector_of_prepare_finds_it_with_its_joints():
    networks = load_networks(MEDIAPIPE, torch.device("cpu"), torch.float32)
    found = 0
    for seed in range(200, 206):
        person = sample_person(seed)
        made = render_person(person, 384, supersample=1)
        known = find_person(made.image, networks)
        if known is None:
            continue
        found += 1
        shoulders = known.landmarks[11:13, :2].numpy()
        width = np.hypot(*(made.landmarks[11] - made.landmarks[12]))
        off = np.hypot(*(shoulders - made.landmarks[11:13]).T)
        assert off.max() < 0.4 * width
    assert found >= 5


def test_wrong_wishes_are_named():
    with pytest.raises(InputError, match="a shoes can't be worn. Choose one of t-shirt"):
        sample_person(1, sample_garment(1, category="shoes"))
    with pytest.raises(InputError, match="framing 'face', wanted one of full, knees, hips"):
        sample_person(1, framing="face")
    with pytest.raises(InputError, match="wanted 64 to 2048"):
        render_person(sample_person(1), 20)

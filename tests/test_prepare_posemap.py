"""Pose maps: drawn from joints, or brought from other nodes to one form."""

from __future__ import annotations

import pytest
import torch
from PIL import Image

from unifashion_core.errors import InputError, ShapeError
from unifashion_core.imaging import to_tensor
from unifashion_core.prepare.densepose import PARULA
from unifashion_core.prepare.keypoints import Skeleton, read_keypoints
from unifashion_core.prepare.posemap import (
    PART_COLOURS,
    densepose_map,
    draw_pose_map,
    require_pose_map,
)


def standing() -> Skeleton:
    places = {
        "nose": (50, 20), "left_eye": (53, 17), "right_eye": (47, 17), "left_shoulder": (62, 36),
        "right_shoulder": (38, 36), "left_elbow": (80, 50), "right_elbow": (20, 50),
        "left_wrist": (92, 62), "right_wrist": (8, 62), "left_hip": (58, 70), "right_hip": (42, 70),
        "left_knee": (60, 95), "right_knee": (40, 95), "left_ankle": (60, 120),
        "right_ankle": (40, 120),
    }  # fmt: skip
    return Skeleton({name: (float(x), float(y)) for name, (x, y) in places.items()})


def nearest_part(colour: torch.Tensor) -> str:
    """The part whose hue a pixel has: shading darkens it and turns it towards white."""

    def distance(part: str) -> float:
        base = torch.tensor(PART_COLOURS[part]) / 255
        shades = torch.linspace(0.55, 1, 12)[:, None, None]
        white = torch.linspace(0, 0.2, 12)[None, :, None]
        shown = base * shades * (1 - white) + white
        return float((shown - colour).norm(dim=-1).min())

    return min(PART_COLOURS, key=distance)


def test_each_part_has_its_colour_where_it_is() -> None:
    drawn = draw_pose_map(standing(), 140, 100)
    assert drawn.shape == (140, 100, 3)
    assert 0 <= float(drawn.min()) <= float(drawn.max()) <= 1
    for (x, y), part in {
        (50, 55): "torso", (73, 45): "left_upper_arm", (27, 45): "right_upper_arm",
        (86, 56): "left_lower_arm", (14, 56): "right_lower_arm", (59, 85): "left_upper_leg",
        (41, 85): "right_upper_leg", (60, 110): "left_lower_leg", (50, 14): "head",
    }.items():  # fmt: skip
        assert nearest_part(drawn[y, x]) == part, part
    assert drawn[2, 2].max() == 0
    assert drawn[125, 90].max() == 0


def test_place_in_a_part_shows_in_its_shade() -> None:
    drawn = draw_pose_map(standing(), 140, 100)
    upper, lower = drawn[45, 50], drawn[65, 50]
    assert upper[2] > lower[2]  # darker further down
    assert drawn[55, 58, 0] > drawn[55, 42, 0]  # whiter to the right


def test_any_size_shows_the_same_body() -> None:
    whole = draw_pose_map(standing(), 140, 100)
    double = draw_pose_map(standing().scaled(2, 2), 280, 200)
    halved = double.reshape(140, 2, 100, 2, 3).mean((1, 3))
    assert (whole - halved).abs().mean() < 0.005
    assert draw_pose_map(standing(), 1, 1).shape == (1, 1, 3)
    assert torch.equal(whole, draw_pose_map(standing(), 140, 100))


def test_mirrored_joints_give_the_mirrored_outline() -> None:
    joints = {
        (name.replace("left", "R").replace("right", "left").replace("R", "right")): (99 - x, y)
        for name, (x, y) in standing().joints.items()
    }
    one = draw_pose_map(standing(), 140, 100).amax(-1) > 0
    two = draw_pose_map(Skeleton(joints), 140, 100).amax(-1) > 0
    assert (one ^ two.flip(1)).float().mean() < 0.002


def test_unseen_limb_is_left_out() -> None:
    joints = {k: v for k, v in standing().joints.items() if k not in ("left_elbow", "left_wrist")}
    drawn = draw_pose_map(Skeleton(joints), 140, 100)
    assert drawn[56, 86].max() == 0
    assert drawn[56, 14].max() > 0


def test_without_shoulders_is_an_error() -> None:
    with pytest.raises(InputError, match="pose map: the skeleton has no shoulders"):
        draw_pose_map(Skeleton({"nose": (3.0, 3.0)}), 20, 20)


def test_keypoints_of_another_node_are_drawn() -> None:
    order = ["nose", None, "right_shoulder", "right_elbow", "right_wrist", "left_shoulder",
             "left_elbow", "left_wrist", "right_hip", "right_knee", "right_ankle", "left_hip",
             "left_knee", "left_ankle", "right_eye", "left_eye"]  # fmt: skip
    joints = standing().joints
    values = [(*joints[n], 1.0) if n else (50.0, 36.0, 1.0) for n in order] + [(0.0, 0.0, 0.0)] * 2
    frame = {
        "people": [{"pose_keypoints_2d": [v for p in values for v in p]}],
        "canvas_width": 100,
        "canvas_height": 140,
    }
    drawn = draw_pose_map(read_keypoints(frame, (200, 280)), 280, 200)
    assert nearest_part(drawn[110, 100]) == "torso"


def ids() -> torch.Tensor:
    """Torso, right hand, left hand, head: 24 x 16."""
    found = torch.zeros(24, 16, dtype=torch.uint8)
    found[8:16, 4:12], found[10:12, :3], found[10:12, 13:], found[2:7, 6:10] = 2, 3, 4, 23
    return found


def test_densepose_ids_become_the_colours_that_models_know() -> None:
    made = densepose_map(to_tensor(Image.fromarray(ids().numpy())), 48, 32)
    assert made.shape == (48, 32, 3)
    assert torch.equal(made[0, 0], torch.zeros(3))
    torch.testing.assert_close(made[24, 16], torch.tensor(PARULA[2]) / 255)
    torch.testing.assert_close(made[8, 16], torch.tensor(PARULA[23]) / 255)
    colours = {tuple(c) for c in (made * 255).round().int().reshape(-1, 3).tolist()}
    assert len(colours) == 5  # scaling makes no colours between parts


def test_densepose_colours_stay_as_they_are() -> None:
    made = densepose_map(to_tensor(Image.fromarray(ids().numpy())), 24, 16)
    torch.testing.assert_close(densepose_map(made, 24, 16), made)


def test_what_is_no_densepose_map_is_an_error() -> None:
    noise = torch.rand(32, 32, 3, generator=torch.Generator().manual_seed(2))
    with pytest.raises(InputError, match="Pose Map: .* in no densepose colour map"):
        densepose_map(noise, 32, 32, "Pose Map")
    with pytest.raises(ShapeError, match=r"densepose: shape \(4, 4\), wanted \(H, W, 3\)"):
        densepose_map(torch.zeros(4, 4), 4, 4)


def test_missing_pose_map_says_where_to_get_one() -> None:
    with pytest.raises(InputError, match=r"Try-on: .* \(densepose\), got none\. .*add DenseP"):
        require_pose_map(None, "densepose", "Try-on")
    with pytest.raises(InputError, match=r"\(body parts\), got none\. Connect Pose Map"):
        require_pose_map(None, "body parts", "Try-on")
    given = torch.zeros(1, 2, 2, 3)
    assert require_pose_map(given, "densepose", "Try-on") is given

"""A transformers model as a source of parts, and the figures of masks, on tiny real models."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from PIL import Image, ImageDraw
from segmenter_samples import ATR_NAMES, save_tiny_segmenter

from unifashion_core.errors import CheckpointError, FolderError, InputError
from unifashion_core.evaluation.masks import evaluate_masks, mask_figures, mask_rule, read_bundle
from unifashion_core.prepare.labels import LABEL_SETS, Part
from unifashion_core.prepare.labels_segmenter import load_segmenter

CPU = torch.device("cpu")


@pytest.mark.segformer
def test_a_model_gives_the_parts_of_its_labels(tmp_path):
    model = load_segmenter(save_tiny_segmenter(tmp_path / "m", ATR_NAMES), CPU, torch.float32)
    photo = Image.fromarray(np.random.default_rng(0).integers(0, 255, (90, 60, 3), np.uint8))
    made = model.parts(photo)
    assert made.parts.shape == (64, 43)  # the photo's shape at the model's size
    assert set(np.unique(made.parts)) <= {int(Part.BACKGROUND), int(Part.UPPER)}
    assert made.source == "segmentation (m)"
    assert (model.parts(photo).parts == made.parts).all()


@pytest.mark.segformer
def test_labels_without_names_need_a_label_set(tmp_path):
    folder = save_tiny_segmenter(tmp_path / "m", [f"LABEL_{i}" for i in range(18)])
    with pytest.raises(InputError, match="LABEL_0.*Say which label set"):
        load_segmenter(folder, CPU, torch.float32)
    assert load_segmenter(folder, CPU, torch.float32, "atr").name == "m"
    with pytest.raises(InputError, match="18 labels, label set 'lip' doesn't fit"):
        load_segmenter(folder, CPU, torch.float32, "lip")


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(FolderError, match="no config.json"):
        load_segmenter(tmp_path, CPU, torch.float32)
    (tmp_path / "config.json").write_text('{"model_type": "segformer"}')
    with pytest.raises(CheckpointError, match="not a model for semantic segmentation"):
        load_segmenter(tmp_path, CPU, torch.float32)


# The figures.


def make_bundle(folder):
    """A block figure in DressCode's labels and files."""
    folder.mkdir(parents=True)
    ids = {part: i for i, part in enumerate(LABEL_SETS["dresscode"].parts)}
    picture = Image.new("L", (120, 200))
    draw = ImageDraw.Draw(picture)
    for part, corners in (
        (Part.HEAD, (48, 5, 71, 42)), (Part.UPPER, (38, 43, 81, 100)),
        (Part.RIGHT_ARM, (28, 44, 36, 120)), (Part.LEFT_ARM, (83, 44, 91, 120)),
        (Part.LOWER, (40, 101, 79, 150)), (Part.LEFT_LEG, (63, 151, 77, 185)),
        (Part.RIGHT_LEG, (42, 151, 56, 185)),
    ):  # fmt: skip
        draw.rectangle(corners, fill=ids[part])
    picture.save(folder / "parse.png")
    Image.new("RGB", (120, 200), (200, 190, 180)).save(folder / "person.jpg")
    points: list[tuple[float, float]] = [(-1, -1)] * 18
    for index, at in ((2, (37, 48)), (3, (32, 78)), (4, (32, 106)), (5, (82, 48)), (6, (87, 78)),
                      (7, (87, 106)), (8, (49, 100)), (11, (70, 100))):  # fmt: skip
        points[index] = (at[0] / 2, at[1] / 2)
    (folder / "keypoints.json").write_text(json.dumps({"keypoints": [[*p, 0, 0] for p in points]}))
    return folder


def test_the_rule_covers_the_garment_and_leaves_head_other_garment_and_hands(tmp_path):
    bundle = read_bundle(make_bundle(tmp_path / "bundles" / "one"))
    assert bundle.hands[110:118, 30:35].all()
    assert not bundle.hands[:104].any()
    rule = mask_rule(bundle, "upper")
    figures = mask_figures(bundle, rule, "upper")
    assert figures == {"covered": 1.0, "head": 0.0, "hands": 0.0, "other": 0.0, "iou": 1.0}
    nothing = mask_figures(bundle, np.zeros_like(rule), "upper")
    assert nothing["covered"] == nothing["iou"] == 0.0
    everything = mask_figures(bundle, np.ones_like(rule), "upper")
    assert everything["head"] == everything["hands"] == everything["other"] == 1.0
    assert everything["iou"] == pytest.approx(rule.mean())


def test_bundles_are_measured_with_their_parse_maps(tmp_path):
    make_bundle(tmp_path / "bundles" / "one")

    class Found:
        mask = torch.ones(200, 120)
        landmarks = torch.zeros(33, 4)

    found = Found()
    found.landmarks[11, :2], found.landmarks[12, :2] = (
        torch.tensor([82.0, 48]),
        torch.tensor([37.0, 48]),
    )
    found.landmarks[23, :2], found.landmarks[24, :2] = (
        torch.tensor([70.0, 100]),
        torch.tensor([49.0, 100]),
    )
    seen: list[tuple[int, int]] = []
    report = evaluate_masks(tmp_path, lambda _: found, on_step=lambda *at: seen.append(at))
    given = report["parse_given"]
    assert given["n"] == 1
    assert given["mean"]["covered"] == 1.0
    assert given["mean"]["head"] == 0.0
    assert given["mean"]["hands"] < 0.3
    assert given["each"]["one"] == given["mean"]
    assert set(report) == {
        "built_in", "parse_given", "lower_built_in", "lower_parse_given", "no_person",
    }  # fmt: skip
    assert seen == [(1, 1)]


def test_a_folder_without_bundles_is_refused(tmp_path):
    with pytest.raises(FolderError, match="no folder with person.jpg and parse.png"):
        evaluate_masks(tmp_path, lambda image: None)

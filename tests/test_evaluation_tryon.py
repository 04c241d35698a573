"""Figures of try-on quality: what the judges see, and that true renders get full marks."""

import json
from pathlib import Path

import pytest
import torch

from unifashion_core.errors import FolderError
from unifashion_core.evaluation.tryon_judges import (
    PATTERN_CLASSES,
    JudgedRecord,
    judge_patterns,
    pattern_class,
    read_targets,
    train_outline_judge,
    train_pattern_judge,
    worn_patch,
)
from unifashion_core.evaluation.tryon_quality import Painted, measure, paint_all
from unifashion_core.evaluation.tryon_sheet import write_sheet
from unifashion_core.training.wardrobe_pairs import PairsConfig, build_pairs
from unifashion_core.wardrobe import sample_garment


@pytest.fixture(scope="module")
def records(tmp_path_factory: pytest.TempPathFactory) -> list[JudgedRecord]:
    folder = tmp_path_factory.mktemp("pairs")
    build_pairs(folder, 9, PairsConfig(size=64, height=128), split="test")
    return read_targets(folder, "test", (64, 64))


def test_targets_are_the_garments_that_persons_were_dressed_for(records: list[JudgedRecord]):
    assert 5 <= len(records) <= 9
    for record in records:
        assert float(record.record.worn.mean()) > 0
    assert {r.pattern for r in records} <= set(range(len(PATTERN_CLASSES)))


def test_pattern_classes_know_the_direction_of_stripes():
    across = sample_garment(1, category="t-shirt", pattern="stripes", direction="horizontal")
    along = sample_garment(1, category="t-shirt", pattern="stripes", direction="vertical")
    floral = sample_garment(1, category="dress", pattern="floral")
    assert [pattern_class(g) for g in (across, along, floral)] == [
        "stripes across",
        "stripes along",
        "print",
    ]


def test_a_worn_patch_shows_no_outline():
    image = torch.zeros(3, 40, 40)
    image[:, 10:30, 12:20] = torch.tensor([0.8, 0.2, 0.1])[:, None, None]
    worn = (image[0] > 0.5).float()
    worn[10:14, 12:16] = 0  # a corner is missing
    patch = worn_patch(image, worn)
    assert patch.shape == (3, 64, 64)
    assert float(patch.std(dim=(1, 2)).max()) < 1e-5
    assert torch.equal(worn_patch(image, torch.zeros(40, 40)), torch.full((3, 64, 64), 0.5))


def test_the_true_renders_get_full_marks_and_grey_ones_none(
    records: list[JudgedRecord], tmp_path: Path
):
    patterns = train_pattern_judge(records, steps=2)
    outlines = train_outline_judge([r.record for r in records], steps=2)
    truth = torch.stack([r.record.image.permute(2, 0, 1) for r in records])
    grey = torch.full_like(truth, 0.5)
    seen: list[tuple[str, tuple[str, ...]]] = []

    def painter(records, hint, texts, seed):
        seen.append((hint, tuple(texts)))
        return truth if hint == "garment" else grey

    painted = paint_all(records, painter, truth, seeds=(0, 1))
    found = measure(records, painted, patterns, outlines)
    assert found["model"]["delta_e"] == 0.0
    assert found["model"]["colours"] == 1.0
    assert found["model"]["steady"] == 1.0
    assert found["model"]["outline"] == found["judges"]["outline"]
    assert found["model"]["pattern"] == found["judges"]["pattern"] == found["ceiling"]["pattern"]
    assert found["floor"]["delta_e"] > 5.0
    assert found["floor"]["colours"] == 0.0
    by_hint = dict(seen)
    assert set(by_hint["garment"]) == set(by_hint["none"]) == {""}
    assert all(r.garment.colours[0] in t for r, t in zip(records, by_hint["sketch"], strict=True))

    judged = judge_patterns(patterns, truth, torch.stack([r.record.worn for r in records]))
    page = write_sheet(tmp_path / "sheet", records, painted, found, judged).read_text()
    assert page.count('class="row"') == len(records)
    assert json.loads((tmp_path / "sheet" / "figures.json").read_text()) == found
    assert len(list((tmp_path / "sheet" / "pictures").glob("*.png"))) == len(records)


def test_one_missing_colour_counts_as_missing(records: list[JudgedRecord]):
    figured = [r for r in records if r.garment.pattern != "plain"]
    patterns = train_pattern_judge(figured, steps=1)
    outlines = train_outline_judge([r.record for r in figured], steps=1)
    truth = torch.stack([r.record.image.permute(2, 0, 1) for r in figured])
    flat = truth.clone()
    for number, record in enumerate(figured):
        worn = record.record.worn > 0.5
        flat[number][:, worn] = truth[number][:, worn].mean(dim=1, keepdim=True)
    painted = Painted(truth, truth, (flat,), truth, truth)
    found = measure(figured, painted, patterns, outlines)
    assert found["model"]["colours"] < 0.5
    assert found["ceiling"]["colours"] == 1.0


def test_a_folder_without_mannequins_is_named(tmp_path: Path):
    (tmp_path / "test_pairs.txt").write_text("photo_a photo_a\n")
    with pytest.raises(FolderError, match="no mannequins of the wardrobe in test"):
        read_targets(tmp_path, "test", (64, 64))

"""Figures of try-on quality: what the judges see, and that true renders get full marks."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image

from unifashion_core.errors import CheckpointError, FolderError
from unifashion_core.evaluation.tryon_judge_store import JudgeSchool, kept_judges
from unifashion_core.evaluation.tryon_judge_training import (
    Renders,
    read_renders,
    train_outline_judge,
    train_pattern_judge,
)
from unifashion_core.evaluation.tryon_judges import (
    PATTERN_CLASSES,
    PATTERN_KINDS,
    JudgedRecord,
    PatternJudge,
    judge_outlines,
    judge_patterns,
    pattern_class,
    principal_axes,
    read_targets,
    worn_patch,
)
from unifashion_core.evaluation.tryon_quality import Painted, measure, paint_all
from unifashion_core.evaluation.tryon_sheet import write_sheet
from unifashion_core.training.tryon_layout import read_worn
from unifashion_core.training.wardrobe_pairs import PairsConfig, build_pairs
from unifashion_core.wardrobe import sample_garment

# Nine persons are dressed and drawn first.
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Nine test persons, who serve as those of training too."""
    folder = tmp_path_factory.mktemp("pairs")
    build_pairs(folder, 9, PairsConfig(size=64, height=128), split="test")
    return folder


@pytest.fixture(scope="module")
def records(folder: Path) -> list[JudgedRecord]:
    return read_targets(folder, "test", (64, 64))


@pytest.fixture(scope="module")
def renders(folder: Path) -> Renders:
    return read_renders(folder, "test", (64, 64))


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


def test_prints_that_are_not_drawn_on_persons_count_as_plain():
    printed = [
        sample_garment(1, category=c, pattern="print") for c in ("t-shirt", "skirt", "pants")
    ]
    assert [pattern_class(g) for g in printed] == ["print", "plain", "plain"]


def test_a_worn_patch_shows_no_outline():
    image = torch.zeros(3, 40, 40)
    image[:, 10:30, 12:20] = torch.tensor([0.8, 0.2, 0.1])[:, None, None]
    worn = (image[0] > 0.5).float()
    worn[10:14, 12:16] = 0  # a corner is missing
    patch = worn_patch(image, worn)
    assert patch.shape == (4, 96, 96)
    assert float(patch[:3].std(dim=(1, 2)).max()) < 1e-5
    assert float(patch[3].mean()) == pytest.approx((18 * 6 - 16) / 18**2, abs=1e-3)  # less its rim
    nothing = worn_patch(image, torch.zeros(40, 40))
    assert torch.equal(nothing[:3], torch.full((3, 96, 96), 0.5))
    assert not nothing[3].any()


def test_the_true_renders_get_full_marks_and_grey_ones_none(
    records: list[JudgedRecord], renders: Renders, tmp_path: Path
):
    patterns = train_pattern_judge(renders, steps=2)
    outlines = train_outline_judge(renders, steps=2)
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
    assert found["model"]["around"] == 0.0
    assert found["floor"]["delta_e"] > 5.0
    assert found["floor"]["around"] > 5.0
    assert found["floor"]["colours"] == 0.0
    by_hint = dict(seen)
    assert set(by_hint["garment"]) == set(by_hint["none"]) == {""}
    assert all(r.garment.colours[0] in t for r, t in zip(records, by_hint["sketch"], strict=True))

    judged = judge_patterns(patterns, truth, torch.stack([r.record.worn for r in records]))
    page = write_sheet(tmp_path / "sheet", records, painted, found, judged).read_text()
    assert page.count('class="row"') == len(records)
    assert json.loads((tmp_path / "sheet" / "figures.json").read_text()) == found
    assert len(list((tmp_path / "sheet" / "pictures").glob("*.png"))) == len(records)


def test_one_missing_colour_counts_as_missing(records: list[JudgedRecord], renders: Renders):
    figured = [r for r in records if r.garment.pattern != "plain"]
    patterns = train_pattern_judge(renders, steps=1)
    outlines = train_outline_judge(renders, steps=1)
    truth = torch.stack([r.record.image.permute(2, 0, 1) for r in figured])
    flat = truth.clone()
    for number, record in enumerate(figured):
        worn = record.record.worn > 0.5
        flat[number][:, worn] = truth[number][:, worn].mean(dim=1, keepdim=True)
    painted = Painted(truth, truth, (flat,), truth, truth)
    found = measure(figured, painted, patterns, outlines)
    assert found["model"]["colours"] < 0.5
    assert found["ceiling"]["colours"] == 1.0


def test_a_printed_skirt_counts_as_plain_for_it_is_drawn_so(
    records: list[JudgedRecord], renders: Renders
):
    plain = next(r for r in records if r.garment.pattern == "plain")
    skirt = replace(plain, garment=replace(plain.garment, category="skirt", pattern="print"))
    dress = replace(plain, garment=replace(plain.garment, category="dress", pattern="print"))
    patterns = train_pattern_judge(renders, steps=1)
    outlines = train_outline_judge(renders, steps=1)
    truth = plain.record.image.permute(2, 0, 1).expand(2, -1, -1, -1)
    painted = Painted(truth, truth, (truth,), truth, truth)
    found = measure([skirt, dress], painted, patterns, outlines)
    assert found["judges"]["plain"] == 1.0
    assert found["model"]["delta_e"] == 0.0
    assert found["model"]["colours"] == 1.0


def test_renders_are_every_garment_that_the_persons_wear(
    folder: Path, records: list[JudgedRecord], renders: Renders
):
    every = sorted(path.stem for path in (folder / "test" / "cloth").glob("*.png"))
    shown = {name: read_worn(folder, "test", name, (64, 64)) for name in every}
    names = [name for name in every if float((shown[name][1] * shown[name][2]).mean()) >= 0.01]
    assert len(renders) == len(names) > len(records)
    for record in (r for r in records if r.record.name in names):
        at = names.index(record.record.name)
        seen = PATTERN_KINDS[int(renders.patterns[at])]
        assert (seen, "print")[seen == "flowers"] == PATTERN_CLASSES[record.pattern]
        assert torch.equal(renders.worn[at].float(), record.record.worn)
        wanted = record.record.image.permute(2, 0, 1)
        assert torch.allclose(renders.images[at].float() / 255, wanted, atol=1e-6)
    attributes = json.loads((folder / "test" / "attributes.json").read_text())
    told = {"floral": "flowers"}
    for at, name in enumerate(names):
        pattern = attributes[name]["pattern"]
        if pattern == "print" and attributes[name]["category"] in ("skirt", "pants", "shorts"):
            pattern = "plain"
        seen = PATTERN_KINDS[int(renders.patterns[at])]
        assert seen.split()[0] == told.get(pattern, pattern)


def test_the_pattern_judge_sees_no_colours():
    stripes = (torch.arange(96) // 6 % 2).float().expand(96, 96)
    first, second = torch.tensor([0.9, 0.1, 0.2]), torch.tensor([0.1, 0.2, 0.7])
    shown = torch.zeros(1, 96, 96)
    shown[:, 12:84, 24:72] = 1  # the garment; what lies beside it counts for nothing
    patch = first[:, None, None] * stripes + second[:, None, None] * (1 - stripes)
    other = torch.cat([0.3 * patch[[2, 0, 1]] + 0.4, shown])[None]
    planes, spread = principal_axes(torch.cat([patch, shown])[None])
    again, less = principal_axes(other)
    on_it = planes[0, 0][shown[0] > 0]
    assert float(on_it.std(correction=0)) == pytest.approx(1.0, abs=1e-4)
    assert not planes[0, :2, shown[0] == 0].any()
    assert torch.equal(planes[0, 2], shown[0])
    assert torch.allclose(planes[0, 0].abs(), again[0, 0].abs(), atol=1e-3)
    assert float(less / spread) == pytest.approx(0.3, abs=1e-3)
    flat, least = principal_axes(torch.cat([torch.full((3, 96, 96), 0.5), shown])[None])
    assert float(flat[:, :2].abs().max()) < 1e-3
    assert float(least) == pytest.approx(0.01)


def test_the_pattern_judge_sees_the_garment_alone():
    torch.manual_seed(0)
    judge = PatternJudge().eval()
    patch = torch.full((1, 4, 96, 96), 0.5)
    patch[:, 3] = 0
    bars = torch.arange(96) // 8 % 2
    patch[:, :3, 32:64, 32:64] = bars[32:64].float()
    patch[:, 3, 32:64, 32:64] = 1
    spread = principal_axes(patch)[1]
    assert float(spread) == pytest.approx(0.75**0.5, abs=1e-3)
    bare = patch.clone()
    bare[:, :3, :20] = 0.9  # not on the garment
    with torch.inference_mode():
        assert torch.allclose(judge(patch), judge(bare), atol=1e-4)


def test_judges_learn_what_they_are_shown():
    # Squares on a ground: plain, stripes across or along.
    generator = torch.Generator().manual_seed(4)
    count, side = 48, 64
    images = torch.rand(count, 3, 1, 1, generator=generator).expand(-1, -1, side, side).clone()
    worn = torch.zeros(count, side, side, dtype=torch.bool)
    labels = torch.arange(count) % 3
    bars = torch.arange(side) // 4 % 2
    for number in range(count):
        top, left = torch.randint(2, 20, (2,), generator=generator).tolist()
        worn[number, top : top + 40, left : left + 36] = True
        inks = torch.rand(2, 3, 1, 1, generator=generator)
        inks[1] = 1 - inks[0]
        drawn = (torch.zeros(1, 1), bars[:, None], bars[None])[int(labels[number])]
        garment = torch.where(drawn.expand(side, side) > 0, inks[0], inks[1])
        images[number] = torch.where(worn[number], garment, images[number])
    shown = Renders((images * 255).to(torch.uint8), torch.ones_like(worn), worn, labels)
    patterns = train_pattern_judge(shown, steps=60)
    seen = judge_patterns(patterns, images, worn.float())
    assert float((seen == labels).float().mean()) >= 0.9
    outlines = train_outline_judge(shown, steps=80)
    found = judge_outlines(outlines, images, torch.ones(count, side, side)) > 0.5
    overlap = (found & worn).sum((1, 2)) / (found | worn).sum((1, 2))
    assert float(overlap.mean()) >= 0.8


def test_judges_are_kept_and_read_again(folder: Path, tmp_path: Path):
    data = tmp_path / "data"
    shutil.copytree(folder / "test", data / "train")
    shutil.copy(folder / "test_pairs.txt", data / "train_pairs.txt")
    school = JudgeSchool(data, (64, 64), pattern_steps=1, outline_steps=1)
    first = kept_judges(school, tmp_path / "kept")
    again = kept_judges(school, tmp_path / "kept")
    assert (len(first.read), len(again.read)) == (0, 2)
    assert sorted(again.read) == sorted((tmp_path / "kept").iterdir())
    for name in ("patterns", "outlines"):
        made, kept = (getattr(judges, name).state_dict() for judges in (first, again))
        assert all(torch.equal(value, kept[key]) for key, value in made.items())
    assert len(kept_judges(replace(school, outline_steps=2), tmp_path / "kept").read) == 1
    assert len(kept_judges(replace(school, records=3), tmp_path / "kept").read) == 0
    picture = next((data / "train" / "image").glob("*.png"))
    Image.new("RGB", (64, 64), "red").save(picture)
    assert school.key("outline", 1) not in first_names(again.read)
    again.read[0].write_bytes(b"nothing")
    shutil.copy(folder / "test" / "image" / picture.name, picture)
    with pytest.raises(CheckpointError, match="Delete it to train anew"):
        kept_judges(school, tmp_path / "kept")


def first_names(paths: Sequence[Path]) -> str:
    return " ".join(path.name for path in paths)


def test_a_folder_without_mannequins_is_named(tmp_path: Path):
    (tmp_path / "test_pairs.txt").write_text("photo_a photo_a\n")
    with pytest.raises(FolderError, match="no mannequins of the wardrobe in test"):
        read_targets(tmp_path, "test", (64, 64))

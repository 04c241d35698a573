"""A plan's run on a tiny random model: counted, resumed, killed, corrupt, alone, and looked at."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image, ImageChops
from tryon_samples import tiny_config, tiny_model

from unifashion_core.attention import math_attention
from unifashion_core.encoder.checkpoint import load_encoder
from unifashion_core.errors import InputError
from unifashion_core.imaging import to_tensor
from unifashion_core.pocket import (
    BERT_VOCABULARY,
    CLIP_MERGES,
    EFFICIENTNET_LITE0,
    ENCODER,
    MEDIAPIPE,
)
from unifashion_core.prepare.cache import PreparationCache
from unifashion_core.prepare.person import load_networks
from unifashion_core.prepare.preparer import Preparer
from unifashion_core.rendering.item import Rendered, RenderSettings, TryOnTools
from unifashion_core.rendering.looks import lines_of, page_items, plan_grid, plan_sheets
from unifashion_core.rendering.manifest import Manifest
from unifashion_core.rendering.page import write_page
from unifashion_core.rendering.plan import SETTINGS, Picture, Plan, PlanItem, PlanLists, Seeds
from unifashion_core.rendering.run import RunHooks, RunOptions, RunReport, plan_job, render_plan
from unifashion_core.rendering.saved import encode_picture, read_parameters
from unifashion_core.rendering.scores import RunScorer, score_results
from unifashion_core.tryon import checkpoint, config
from unifashion_core.tryon.sampling import SamplerSettings
from unifashion_core.wardrobe import render, render_person, sample_garment, sample_person

ROOT = Path(__file__).resolve().parent.parent

pytestmark = pytest.mark.slow


def make_tools() -> TryOnTools:
    networks = load_networks(MEDIAPIPE, torch.device("cpu"), torch.float32)
    cache = PreparationCache()
    model = tiny_model(checkpoint, tiny_config(config), math_attention())
    return TryOnTools(
        model,
        "tiny",
        Preparer(lambda: networks, cache),
        cache,
        CLIP_MERGES,
        lambda names, room: None,
    )


def save_pictures(folder: Path) -> None:
    for n in range(3):
        person = sample_person(n + 1, framing="full")
        render_person(person, 320).image.save(folder / f"person{n}.png")
    for n in range(4):
        render(sample_garment(n, category="t-shirt"), 96).save(folder / f"tee{n}.png")


def make_plan(folder: Path, **changes: Any) -> Plan:
    lists = PlanLists(
        persons=[Picture(f"person{n}", folder / f"person{n}.png") for n in range(3)],
        garments=[Picture(f"tee{n}", folder / f"tee{n}.png") for n in range(4)],
        seeds=Seeds(repeats=2),
        settings={"steps": 1},
    )
    return replace(lists, **changes).product()


@pytest.fixture(scope="module")
def tools() -> TryOnTools:
    return make_tools()


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("pictures")
    save_pictures(path)
    return path


def run(plan: Plan, tools: TryOnTools, out: Path, hooks: Any = None, **options: Any) -> RunReport:
    with Manifest.open(out, plan_job(plan, tools)) as manifest:
        return render_plan(plan, tools, manifest, RunOptions(**options), hooks)


def lines(out: Path) -> list[dict]:
    return [json.loads(t) for t in (out / "manifest.jsonl").read_text("utf-8").splitlines()]


@pytest.fixture(scope="module")
def whole(tools, folder, tmp_path_factory) -> tuple[Path, RunReport, list[tuple[int, int]]]:
    """The run of 3 persons x 4 garments x 2 seeds."""
    out = tmp_path_factory.mktemp("run")
    steps: list[tuple[int, int]] = []
    hooks = RunHooks(on_step=lambda done, total: steps.append((done, total)))
    return out, run(make_plan(folder), tools, out, hooks), steps


def test_a_product_of_3_x_4_x_2_is_24_pictures_of_7_preparations(whole, tools, folder):
    out, report, steps = whole
    assert (report.total, report.done, report.failed) == (24, 24, [])
    assert report.preparations == make_plan(folder).preparations == 7
    assert report.batches == 3
    pictures = [line["files"][0]["file"] for line in lines(out)]
    assert len(set(pictures)) == len(list(out.glob("*.png"))) == 24
    assert pictures[0].startswith("00000_person0_tee0_0_")
    assert {line["state"] for line in lines(out)} == {"done"}
    assert [done for done, _ in steps] == sorted(done for done, _ in steps)
    assert steps[-1] == (2400, 2400)
    again = run(make_plan(folder), tools, out)
    assert (again.done, again.skipped, again.preparations) == (0, 24, 0)


def test_item_17_alone_is_item_17_of_the_run(whole, folder, tmp_path):
    out, _, _ = whole
    report = run(make_plan(folder), make_tools(), tmp_path, only=frozenset({17}))
    assert (report.total, report.done, report.preparations) == (1, 1, 2)
    (alone,) = tmp_path.glob("*.png")
    pair = [Image.open(path).convert("RGB") for path in (alone, out / alone.name)]
    assert max(ImageChops.difference(*pair).tobytes()) <= 1
    assert pair[0].size == Image.open(folder / "person2.png").size


def test_a_corrupt_and_a_missing_garment_fail_alone_and_are_tried_again(tools, folder, tmp_path):
    for name in ("person0", "tee0", "tee1"):
        (tmp_path / f"{name}.png").write_bytes((folder / f"{name}.png").read_bytes())
    (tmp_path / "tee2.png").write_bytes(b"\x89PNG\r\n\x1a\n broken")
    names = ("tee0", "tee2", "gone", "tee1")
    plan = make_plan(
        folder,
        persons=[Picture("person0", tmp_path / "person0.png")],
        garments=[Picture(n, tmp_path / f"{n}.png") for n in names],
        seeds=Seeds(),
    )
    out = tmp_path / "out"
    report = run(plan, tools, out)
    assert (report.total, report.done) == (4, 2)
    failed = {line["index"]: line["error"] for line in lines(out) if line["state"] == "failed"}
    assert sorted(failed) == [1, 2]
    assert "tee2.png: the picture is damaged" in failed[1]
    assert "gone.png: can't be read" in failed[2]
    (tmp_path / "tee2.png").write_bytes((folder / "tee3.png").read_bytes())
    report = run(plan, tools, out)
    assert (report.done, report.skipped, len(report.failed)) == (1, 2, 1)


def test_a_picture_tells_how_it_was_made_unless_it_shall_not(tools, folder, tmp_path):
    one = frozenset({0})
    hooks = RunHooks(
        texts=lambda item: {"prompt": {"1": {"seed": item.seed}}},
        score=lambda item, made: {"fit": 0.5},
    )
    run(make_plan(folder), tools, tmp_path / "a", hooks, only=one, template="{person}/{seed}")
    (made,) = (tmp_path / "a" / "person0").glob("0_*.png")
    said = read_parameters(made)
    assert said["values"]["garment"] == "tee0"
    assert said["settings"] == {"steps": 1}
    assert said["model"] == "tiny"
    assert lines(tmp_path / "a")[0]["scores"] == {"fit": 0.5}
    with Image.open(made) as image:
        assert json.loads(image.info["prompt"]) == {"1": {"seed": 0}}
    run(make_plan(folder), tools, tmp_path / "b", hooks, only=one, metadata=False)
    (bare,) = (tmp_path / "b").glob("*.png")
    with Image.open(bare) as image:
        assert image.info == {}
    with pytest.raises(InputError, match="says nothing of how it was made"):
        read_parameters(bare)


@pytest.mark.parametrize("kind", ["png", "jpeg", "webp"])
def test_every_format_carries_the_parameters(tmp_path, kind):
    path = tmp_path / f"x.{kind}"
    picture = Image.new("RGB", (20, 10), "red")
    path.write_bytes(encode_picture(picture, kind, {"seed": 3, "said": "‘é’"}, {}))
    assert read_parameters(path) == {"seed": 3, "said": "‘é’"}


def test_an_edited_plan_makes_what_is_new_and_shows_what_it_has(whole, tools, folder):
    out, _, _ = whole
    plan = make_plan(folder)
    edited = replace(plan, items=(replace(plan.items[3], seed=9), *plan.items[5:]))
    report = run(edited, tools, out)
    assert (report.total, report.done, report.skipped) == (20, 1, 19)
    with Manifest.open(out, plan_job(edited, tools)) as manifest:
        known = lines_of(manifest, edited, plan_job(edited, tools).key)
    assert [item.seed for item, _ in known][:2] == [9, plan.items[5].seed]
    assert len(known) == 20


def test_another_model_or_setting_is_another_job(tools, folder):
    plan = make_plan(folder)
    key = plan_job(plan, tools).key
    assert plan_job(plan, replace(tools, fingerprint="other")).key != key
    assert plan_job(make_plan(folder, settings={"steps": 2}), tools).key != key
    assert plan_job(plan.filtered("seed=0"), tools).key == key


def test_a_setting_of_an_item_counts_and_settings_are_the_samplers(tools, folder, tmp_path):
    fields = {*RenderSettings.__dataclass_fields__, *SamplerSettings.__dataclass_fields__}
    assert set(SETTINGS) == fields - {"batch", "paste", "sampler", "reference_compat"}
    plan = make_plan(folder).filtered("person=person0 AND garment=tee0")
    own = replace(plan.items[1], settings={"steps": 3})
    report = run(replace(plan, items=(plan.items[0], own)), tools, tmp_path)
    assert (report.done, report.batches) == (2, 2)


def test_a_run_is_scored_as_the_scores_of_results_are(tools, folder, tmp_path):
    place: Any = {"tower": EFFICIENTNET_LITE0, "bert_vocabulary": BERT_VOCABULARY}
    encoder = load_encoder(ENCODER, attention=math_attention(), **place)
    asked: list[int] = []

    def ready() -> Any:
        asked.append(1)
        return encoder

    seen: dict[int, Rendered] = {}
    scorer = RunScorer(ready)

    def score(item: PlanItem, made: Rendered) -> Any:
        seen[len(seen)] = made
        return scorer(item, made)

    plan = make_plan(folder).filtered("person=person0 AND seed=0")
    bare = replace(plan.items[0], garment=None, prompt="a red t-shirt")
    plan = replace(plan, items=(*plan.items[:2], bare))
    run(plan, tools, tmp_path, RunHooks(score=score))
    first, second, third = lines(tmp_path)
    assert third["scores"] is None
    assert len(asked) == 2
    for number, line in enumerate((first, second)):
        made, garment = seen[number], to_tensor(Image.open(folder / f"tee{number}.png"))
        (wanted,) = score_results(
            encoder, [made.image], [garment], [made.item.person.mask], [made.item.person.photo]
        )
        assert wanted.kept
        assert line["scores"] == {"similarity": pytest.approx(wanted.similarity, abs=1e-4)}


def test_a_score_that_fails_costs_no_picture(tools, folder, tmp_path):
    def score(item: PlanItem, made: Rendered) -> dict[str, float]:
        raise InputError("this encoder reads no pictures")

    hooks = RunHooks(score=score)
    report = run(make_plan(folder), tools, tmp_path, hooks, only=frozenset({0}))
    assert (report.done, report.failed) == (1, [])
    assert "no score: this encoder reads no pictures" in report.notes


def test_stopping_keeps_what_is_done(tools, folder, tmp_path):
    class Stop(BaseException):
        pass

    def stop(done: int, total: int) -> None:
        if done >= 300:  # while the second batch is painted
            raise Stop

    plan = make_plan(folder)
    with pytest.raises(Stop):
        run(plan, tools, tmp_path, RunHooks(on_step=stop), batch=2)
    kept = lines(tmp_path)
    assert 2 <= len(kept) < 6
    report = run(plan.filtered("person=person0"), tools, tmp_path, batch=2)
    assert report.skipped == len(kept)


def test_the_looks_of_a_run(whole, tools, folder):
    out, _, _ = whole
    plan = make_plan(folder)
    job = plan_job(plan, tools)
    with Manifest.open(out, job) as manifest:
        known = lines_of(manifest, plan, job.key)
        page = write_page(out, "A <run> & more", page_items(known))
        sheets = plan_sheets(manifest, known, "a run")
    text = page.read_text("utf-8")
    assert "A &lt;run&gt; &amp; more" in text
    assert "http" not in text.replace("http-equiv", "")
    assert [path.name for path in sheets][:2] == ["00_grid.jpg", "01_before-after.jpg"]
    for path in sheets:
        assert min(Image.open(path).size) > 400


def test_one_garment_in_several_words_is_a_column_each(tools, folder, tmp_path):
    (item, *_) = make_plan(folder).items
    prompts = ["a red t-shirt", "a blue t-shirt"]
    plan = replace(make_plan(folder), items=tuple(replace(item, prompt=p) for p in prompts))
    run(plan, tools, tmp_path)
    job = plan_job(plan, tools)
    with Manifest.open(tmp_path, job) as manifest:
        grid = plan_grid(manifest, lines_of(manifest, plan, job.key), "a run", 64)
    assert [card.head for card in grid.columns.values()] == prompts
    assert all(card.picture is not None for card in grid.columns.values())
    assert list(grid.rows) == ["person0"]


_CHILD = """
import sys
from pathlib import Path
import test_rendering_run as t
folder, out = Path(sys.argv[1]), Path(sys.argv[2])
t.run(t.make_plan(folder), t.make_tools(), out, batch=2)
"""


def test_a_kill_in_the_middle_and_the_same_run_again(tools, folder, tmp_path):
    out = tmp_path / "out"
    paths = os.pathsep.join([str(ROOT), str(ROOT / "tests")])
    process = subprocess.Popen(
        [sys.executable, "-c", _CHILD, str(folder), str(out)],
        env={**os.environ, "PYTHONPATH": paths},
    )
    while not ((out / "manifest.jsonl").is_file() and len(lines(out)) >= 5):
        assert process.poll() is None
        time.sleep(0.02)
    os.kill(process.pid, signal.SIGKILL)
    process.wait()
    listing = out / "manifest.jsonl"
    before = lines(out)
    listing.write_bytes(listing.read_bytes() + b'{"id": "torn')
    made = {out / line["files"][0]["file"] for line in before}
    times = {path: path.stat().st_mtime_ns for path in made}
    report = run(make_plan(folder), tools, out)
    assert report.done + report.skipped == report.total == 24
    assert report.skipped - len(before) in (0, 1)
    assert {path: path.stat().st_mtime_ns for path in made} == times
    assert len({line["id"] for line in lines(out)}) == len(lines(out)) == 24
    for path in out.glob("*.png"):
        Image.open(path).load()

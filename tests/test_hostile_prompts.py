"""2,000 hostile widget values and workflow files: the host stays up, nothing outside is touched.

They run in a process of their own under an audit hook (hostile_run.py); the kernel says besides
whether anything in a folder outside was opened.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hostile_values
import node_graphs as graphs
import pytest
from node_graphs import node
from PIL import Image

SEED, VALUES, FILES = 20_261_126, 1500, 500
_WAIT_S = 1500


@pytest.fixture(scope="module")
def report(tmp_path_factory) -> dict[str, Any]:
    script = Path(__file__).with_name("hostile_run.py")
    base = tmp_path_factory.mktemp("hostile")
    line = [sys.executable, str(script), str(base / "run"), str(SEED), str(VALUES), str(FILES)]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(line, capture_output=True, text=True, timeout=_WAIT_S, env=env)
    assert done.returncode == 0, done.stderr[-4000:]
    return json.loads(done.stdout)


@pytest.mark.long
@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="inotify is Linux's")
class TestHostilePrompts:
    def test_every_one_is_run_or_refused_in_our_form(self, report):
        assert sum(report["outcomes"].values()) == VALUES + FILES
        assert report["problems"] == []

    def test_nothing_outside_the_folders_is_read_or_written(self, report):
        assert report["touched"] == []
        assert report["kernel"] == []

    def test_the_host_still_works_afterwards(self, report):
        assert report["alive"] == "success"

    def test_refusals_are_as_common_as_they_should_be(self, report):
        outcomes = report["outcomes"]
        assert outcomes["refused"] + outcomes["error"] > 400  # else the values are not hostile
        assert len(report["by_class"]) > 30


def outside(pack, tmp_path) -> Path:
    """A gallery whose pictures lie outside every folder that nodes may read."""
    folder = tmp_path / "secret"
    folder.mkdir()
    Image.new("RGB", (64, 64), (200, 20, 20)).save(folder / "red.png")
    graphs.save_tiny_encoder(pack, tmp_path / "models")
    host = pack.make_host(tmp_path)
    folders = host.folders.with_images(folder)
    with_it = pack.host.Host(folders, pack.host.pack_nodes(pack.nodes.comfy_entrypoint))
    graph = {"load": graphs.load_encoder(), "sample": graphs.sample()}
    with_it.run({**graph, "index": graphs.index(folder=str(folder))})
    return folder


@pytest.mark.parametrize("last", ["images", "sheet", "caption"])
def test_pictures_that_a_gallery_names_outside_the_folders_are_not_read(pack, tmp_path, last):
    outside(pack, tmp_path)
    style = {"style": "sentence", "trigger": "", "prefix": "", "suffix": "", "replacements": ""}
    graph = {
        "load": graphs.load_encoder(),
        "index": node("UniFashion_OpenGallery", gallery="g"),
        "query": node("UniFashion_EncodeText", encoder=["load", 0], text="red"),
        "search": graphs.retrieve("query"),
    }
    ends = {
        "images": node("UniFashion_HitsToImages", hits=["search", 0], first=1, size=64),
        "sheet": graphs.sheet("search"),
        "caption": node(
            "UniFashion_CaptionGallery",
            gallery=["index", 0],
            captioner=["captioner", 0],
            encoder=["load", 0],
            overwrite=False,
            seed=0,
            **style,
        ),
    }
    graph["end"] = ends[last]
    if last == "images":
        graph["show"] = node("PreviewImage", images=["end", 0])
    if last == "caption":
        graph["captioner"] = node(
            "UniFashion_LoadCaptioner",
            captioner="of the encoder (pocket when none is connected)",
            attributes_from="captioner",
            decoding="as saved",
            beams=0,
            max_tokens=4,
            batch_size=8,
            prompt="",
            vocabulary="ships with the pack",
            attention="auto",
            encoder=["load", 0],
        )
    result = pack.make_host(tmp_path).execute(graph)
    assert result.status == "error"
    assert "lies outside the folders that may be read" in str(result.exception)


def test_giving_a_gallery_another_encoder_reads_no_picture_outside(pack, tmp_path):
    outside(pack, tmp_path)
    graph = {"load": graphs.load_encoder("pocket (ships with the pack)"), "sample": graphs.sample()}
    graph["index"] = graphs.index(reembed=True)
    result = pack.make_host(tmp_path).execute(graph)
    assert result.status == "error"
    assert "lies outside the folders that may be read" in str(result.exception)


def test_a_plain_value_in_place_of_a_link_is_refused_in_our_words(pack, tmp_path):
    graph = {"1": node("UniFashion_EncodeText", encoder="../../etc", text="x", exclude="")}
    graph["2"] = node("PreviewAny", source=["1", 1])
    result = pack.make_host(tmp_path).execute(graph)
    assert "encoder is '../../etc', a link of type UNIFASHION_ENCODER wanted" in str(
        result.exception
    )


@pytest.mark.slow
@pytest.mark.parametrize("name", ["bomb.png", "wide.png", "text_bomb.png", "cut.jpg", "text.png"])
def test_a_bomb_or_a_damaged_picture_is_refused_by_both_readers(pack, tmp_path, name):
    hostile_values.picture_files(tmp_path / "input")
    host = pack.make_host(tmp_path)
    graph = {"1": node("LoadImage", image=name), "2": node("PreviewImage", images=["1", 0])}
    result = host.execute(graph)
    assert result.status == "error", name
    assert "can't be read" in str(result.exception)
    with pytest.raises(pack.module("unifashion_core.errors").ImageError):
        pack.module("unifashion_core.imaging").open_image(tmp_path / "input" / name)


@pytest.mark.parametrize("prompt", [{"1": 5}, {"1": {"class_type": ["x"], "inputs": {}}}, {5: {}}])
def test_a_damaged_prompt_is_refused_and_not_an_accident(pack, tmp_path, prompt):
    error = pack.module("nodes._host.validation").PromptError
    with pytest.raises(error, match=r"invalid_prompt|missing_node_type"):
        pack.make_host(tmp_path).execute(prompt)

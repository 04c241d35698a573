"""Render Variations on a tiny model: made, gone on with, and a picture that makes itself."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from node_graphs import load_encoder, node, save_tiny_encoder
from PIL import Image, ImageChops
from test_tryon_nodes import load, save_model


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("host")


@pytest.fixture(scope="module")
def host(pack, base):
    save_model(pack, base / "models" / "unifashion_tryon" / "tiny")
    save_tiny_encoder(pack, base / "models")
    return pack.make_host(base)


def sample(what: str, seed: int, size: int, count: int = 1) -> dict[str, Any]:
    values = {"category": "t-shirt", "seed": seed, "count": count, "size": size}
    return node("UniFashion_SampleWardrobe", what=what, folder_name="w", **values)


def graph(**changes: Any) -> dict[str, Any]:
    plan = {
        "combine": "every with every", "region": "upper", "prompts": "", "lists": "",
        "seeds": "fixed", "seed": 5, "repeats": 1, "where": "",
    }  # fmt: skip
    render = {"folder_name": "run", "name": "{index:03}", "format": "png"}
    render |= {"steps": 2, "solver": "dpm++2m", "guidance": 1.0}
    return {
        "1": load(),
        "2": sample("person", 11, 320),
        "3": sample("collection", 4, 96, 2),
        "4": node("UniFashion_PlanVariations", persons=["2", 0], garments=["3", 0], **plan),
        "5": node(
            "UniFashion_RenderVariations", model=["1", 0], plan=["4", 0], **{**render, **changes}
        ),
    }


@pytest.fixture(scope="module")
def made(host):
    return host.run(graph())


def test_every_picture_of_a_plan_is_saved_and_shown(made, base):
    folder = base / "output" / "run"
    assert made.value("5", 2).startswith("2 pictures: 2 made, 0 were there, 0 failed; 3 prep")
    assert made.value("5", 3) == str(folder)
    assert [len(made.values("5", n)) for n in (0, 1)] == [2, 2]
    shown = [file["filename"] for file in made.ui["5"]["images"]]
    assert [name[:4] for name in shown] == ["000_", "001_"]
    listing = (folder / "manifest.jsonl").read_text("utf-8").splitlines()
    assert all(json.loads(line)["scores"]["similarity"] for line in listing)
    for name in ("index.html", "manifest.jsonl", "job.json", "sheets/00_grid.jpg"):
        assert (folder / name).is_file()


def test_a_pictures_workflow_is_laid_out(pack, made, base):
    """The page alone would place its two Load Image nodes before it knows their pictures."""
    file = base / "output" / "run" / made.ui["5"]["images"][0]["filename"]
    with Image.open(file) as image:
        prompt, workflow = (json.loads(image.info[name]) for name in ("prompt", "workflow"))
    nodes = {str(n["id"]): n for n in workflow["nodes"]}
    assert {key: n["type"] for key, n in nodes.items()} == {
        key: n["class_type"] for key, n in prompt.items()
    }
    boxes = {key: (*n["pos"], *n["size"]) for key, n in nodes.items()}
    loads = [key for key, n in nodes.items() if n["type"] == "LoadImage"]
    assert len(loads) == 2
    assert all(boxes[key][3] >= 300 for key in loads)  # its picture fits
    title = 30
    assert [
        (one, other)
        for one, (x, y, w, h) in boxes.items()
        for other, (left, top, wide, high) in boxes.items()
        if one < other and x < left + wide and left < x + w
        and y - title < top + high and top - title < y + h
    ] == []  # fmt: skip
    links = {(str(t), slot): [str(source), out] for _, source, out, t, slot, _ in workflow["links"]}
    assert links == {
        (key, slot): prompt[key]["inputs"][socket["name"]]
        for key, n in nodes.items()
        for slot, socket in enumerate(n["inputs"])
        if socket["link"] is not None
    }
    page = {name: pack.module(f"nodes._page.{name}") for name in ("graph", "wires")}
    info = {n["class_type"]: None for n in prompt.values()}
    described = pack.make_host(base).object_info()
    wires = page["graph"].wires(prompt, {kind: described[kind] for kind in info})
    assert len(wires) == len(workflow["links"])
    assert page["wires"].behind(boxes, wires) == []


def test_nodes_out_of_a_subgraph_get_numbers(pack):
    numbered = pack.module("nodes._page.graph").numbered
    found = numbered(
        {"7:2": node("A"), "9": node("B", x=["7:2", 1], y=["name", "other"]), "3": node("C")}
    )
    assert found == {
        "10": node("A"), "9": node("B", x=["10", 1], y=["name", "other"]), "3": node("C")
    }  # fmt: skip


def test_it_goes_on_where_it_was(made, host):
    more = graph()
    more["4"]["inputs"]["repeats"] = 2
    assert host.run(more).value("5", 2).startswith("4 pictures: 2 made, 2 were there")


def test_a_picture_makes_itself_again(made, host, base):
    files = made.ui["5"]["images"]
    path = base / "output" / "run" / files[1]["filename"]
    with Image.open(path) as image:
        prompt = json.loads(image.info["prompt"])
        picture = image.convert("RGB")
    kinds = [entry["class_type"] for entry in prompt.values()]
    assert kinds.count("UniFashion_SampleTryOn") == 1
    assert "UniFashion_RenderVariations" not in kinds
    (saved,) = next(iter(host.run(prompt).ui.values()))["images"]
    again = Image.open(base / "output" / saved["filename"]).convert("RGB")
    # Save Image cuts off where ours rounds: one step of 255
    assert max(ImageChops.difference(picture, again).tobytes()) <= 1


def test_scores_can_be_left_out_and_come_from_an_encoder_of_ones_own(made, host, base):
    more = graph(folder_name="own", encoder=["6", 0])
    more["6"] = load_encoder()
    host.run(more)
    host.run(graph(folder_name="none", scores=False))

    def scores(folder: str) -> list[Any]:
        text = (base / "output" / folder / "manifest.jsonl").read_text("utf-8")
        return [json.loads(line)["scores"] for line in text.splitlines()]

    assert scores("none") == [None, None]
    assert scores("own") != scores("run")
    assert all(-1 <= found["similarity"] <= 1 for found in scores("own"))


def test_another_setting_needs_another_folder(made, host):
    result = host.execute(graph(steps=3))
    assert result.status == "error"
    assert "holds another job" in result.error["exception_message"]

"""Plan Variations and Save Pictures on the embedded host."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from node_graphs import node
from PIL import Image


@pytest.fixture(scope="module")
def base(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("host")


@pytest.fixture(scope="module")
def host(pack, base):
    return pack.make_host(base)


def sample(what: str, count: int = 1, seed: int = 3) -> dict:
    values = {"category": "any", "seed": seed, "count": count, "size": 64, "folder_name": "w"}
    return node("UniFashion_SampleWardrobe", what=what, **values)


def plan_of(**changes: object) -> dict:
    values = {
        "combine": "every with every",
        "region": "upper",
        "prompts": "",
        "lists": "",
        "seeds": "fixed",
        "seed": 7,
        "repeats": 1,
        "where": "",
    }
    return node("UniFashion_PlanVariations", **{**values, **changes})


def planned(host, graph: dict):
    graph["show"] = node("PreviewAny", source=["plan", 1])
    return host.run(graph).value("plan")


def test_a_plan_of_batches_prompts_and_seeds(host):
    graph = {
        "person": sample("person"),
        "garments": sample("collection", 3),
        "plan": plan_of(
            persons=["person", 0],
            garments=["garments", 0],
            prompts="in {c}\nplain",
            lists="c: red, navy blue",
            repeats=2,
        ),
    }
    plan = planned(host, graph)
    assert len(plan) == 1 * 3 * 3 * 2
    assert plan.preparations == 4
    assert {item.prompt for item in plan.items} == {"in red", "in navy blue", "plain"}
    assert {item.seed for item in plan.items} == {7, 8}
    assert {item.garment.name for item in plan.items} == {f"garment {n}" for n in (1, 2, 3)}


def test_side_by_side_and_a_filter(host):
    graph = {
        "garments": sample("collection", 3),
        "plan": plan_of(
            garments=["garments", 0], combine="side by side", seeds="counted", where="seed>=8"
        ),
    }
    assert [item.seed for item in planned(host, graph).items] == [8, 9]


@pytest.mark.parametrize(
    ("changes", "problem"),
    [
        ({"lists": "no colon"}, "has no colon"),
        ({"prompts": "{a|b"}, "a { without its }"),
        ({"where": "seed"}, "can't be read"),
    ],
)
def test_what_can_not_be_read_is_told(host, changes, problem):
    graph = {"garments": sample("garment"), "plan": plan_of(garments=["garments", 0], **changes)}
    graph["show"] = node("PreviewAny", source=["plan", 1])
    result = host.execute(graph)
    assert result.status == "error"
    assert problem in result.error["exception_message"]


def saved(**changes: object) -> dict:
    values = {"folder_name": "mine", "format": "png", "prompt": "a red tee", "seed": 5}
    values["name"] = "{seed}/{index:03}"
    return node("UniFashion_SavePictures", images=["g", 0], **{**values, **changes})


def test_pictures_are_saved_with_the_graph_and_what_they_were_made_of(pack, host, base):
    graph = {"g": sample("garment"), "save": saved()}
    extra = {"extra_pnginfo": {"workflow": {"nodes": []}}}
    result = host.run(graph, extra=extra)
    (file,) = result.ui["save"]["images"]
    path = base / "output" / file["subfolder"] / file["filename"]
    assert file["subfolder"] == "mine/5"
    with Image.open(path) as image:
        assert json.loads(image.info["prompt"])["g"]["class_type"] == "UniFashion_SampleWardrobe"
        assert json.loads(image.info["workflow"]) == {"nodes": []}
    read = pack.module("unifashion_core.rendering.saved").read_parameters
    assert read(path) == {"prompt": "a red tee", "seed": 5, "index": 0}
    result = host.run({"g": sample("garment", seed=4), "save": saved(format="jpeg")})
    assert result.ui["save"]["images"][0]["filename"].endswith(".jpg")


def test_a_host_without_metadata_is_obeyed(pack, tmp_path):
    host = pack.make_host(tmp_path, metadata=False)
    host.run({"g": sample("garment"), "save": saved()})
    (path,) = (tmp_path / "output" / "mine").rglob("*.png")
    with Image.open(path) as image:
        assert image.info == {}


@pytest.mark.parametrize("name", ["../x", "/etc/x", "a/../../b", "{nobody}"])
def test_no_name_leaves_the_output_folder(host, name):
    result = host.execute({"g": sample("garment"), "save": saved(name=name)})
    assert result.status == "error"
    assert "file name" in result.error["exception_message"]

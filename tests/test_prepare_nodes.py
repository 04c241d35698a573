"""The nodes of UniFashion/prepare in graphs on the embedded host, with the networks that ship."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from node_graphs import node

SAMPLE = {"count": 1, "folder_name": "x", "category": "t-shirt", "seed": 11}
MASK = {"region": "upper", "sleeve": "keep", "hem": "keep", "dilation": 3.0, "protect": "face,hair"}


@pytest.fixture(scope="module")
def host(pack, tmp_path_factory):
    return pack.make_host(tmp_path_factory.mktemp("prepare"))


def person_graph(**more: Any) -> dict[str, Any]:
    graph = {
        "person": node("UniFashion_SampleWardrobe", what="person", size=384, **SAMPLE),
        "mask": node("UniFashion_AgnosticMask", image=["person", 0], **MASK),
        "fit": node("UniFashion_FitToModel", image=["person", 0], width=192, height=256,
                    context=0.25, mask=["mask", 0]),
        "paste": node("UniFashion_PasteBack", result=["fit", 0], fit=["fit", 2],
                      image=["person", 0], mask=["mask", 0], feather=4, match_colour=False),
        "show": node("PreviewImage", images=["paste", 0]),
        "note": node("PreviewAny", source=["mask", 2]),
    }  # fmt: skip
    return graph | more


def error_of(host, graph) -> str:
    result = host.execute(graph)
    assert result.status == "error"
    return result.error["exception_message"]


def test_a_photo_goes_to_the_model_and_back(host):
    result = host.run(person_graph())
    image, mask = result.value("person"), result.value("mask")
    assert image.shape == (1, 384, 288, 3)
    assert mask.shape == (1, 384, 288)
    assert 0.02 < mask.mean() < 0.5
    back = result.value("paste")
    assert torch.equal(back[mask == 0], image[mask == 0])
    assert not torch.equal(back, image)
    assert "landmarks" in result.value("note")


def test_a_pose_map_is_drawn_or_asked_for(host):
    pose = node("UniFashion_PoseMap", image=["person", 0], kind="body parts")
    drawn = host.run(person_graph(pose=pose, see=node("PreviewImage", images=["pose", 0])))
    assert drawn.value("pose").shape == (1, 384, 288, 3)
    assert drawn.value("pose").amax() > 0.5
    pose["inputs"]["kind"] = "densepose"
    graph = person_graph(pose=pose, see=node("PreviewImage", images=["pose", 0]))
    assert "needs a densepose map and none is connected" in error_of(host, graph)


@pytest.mark.parametrize("what", ["garment", "person"])
def test_a_garment_is_cut_out_and_drawn(host, what):
    graph = {
        "photo": node("UniFashion_SampleWardrobe", what=what, size=384, **SAMPLE),
        "cut": node("UniFashion_CutOutGarment", image=["photo", 0], region="upper",
                    photo="flat lay" if what == "garment" else "worn", straighten=True,
                    width=192, height=256),
        "sketch": node("UniFashion_SketchGarment", image=["cut", 0], mask=["cut", 1], kind="photo",
                       thickness=3.0, detail=0.5, lines="white on black"),
        "show": node("PreviewImage", images=["sketch", 0]),
        "colours": node("PreviewAny", source=["cut", 3]),
    }  # fmt: skip
    result = host.run(graph)
    cut, mask = result.value("cut", 0), result.value("cut", 1)
    assert cut.shape == (1, 256, 192, 3)
    assert 0.1 < mask.mean() < 0.8
    assert (cut[mask == 0] == 1).all()
    lines = result.value("sketch", 1)
    assert (lines[mask <= 0.5] == 0).all()
    assert lines.amax() > 0.7
    assert result.value("colours").startswith("#")


def test_no_person_and_wrong_masks_are_said(host):
    graph = person_graph()
    graph["person"]["inputs"]["what"] = "garment"
    assert "no person" in error_of(host, graph)
    graph = person_graph()
    graph["person2"] = node("UniFashion_SampleWardrobe", what="person", size=256, **SAMPLE)
    graph["fit"]["inputs"]["image"] = ["person2", 0]
    assert "Connect the mask that was made for this photo" in error_of(host, graph)


def test_a_person_is_prepared_once_in_a_process(pack, host):
    cache_of = pack.module("nodes._comfy").once_a_process
    kind = pack.module("unifashion_core.prepare.cache").PreparationCache
    graph = person_graph()
    host.run(graph)
    cache = cache_of("preparations", kind)
    before = cache.misses
    graph["mask"]["inputs"]["dilation"] = 8.0
    host.run(graph)
    names = [entry.name for entry in cache.entries()]
    assert names.count("agnostic mask") >= 2
    assert cache.misses == before + 1  # the mask anew, the person not


def test_a_loaded_preparer_gives_the_built_in_mask(host):
    graph = person_graph(
        load=node("UniFashion_LoadPreparer", preparer="built-in (ships with the pack)",
                  labels="by name"),
    )  # fmt: skip
    alone = host.run(person_graph()).value("mask")
    graph["mask"]["inputs"]["preparer"] = ["load", 0]
    assert torch.equal(host.run(graph).value("mask"), alone)

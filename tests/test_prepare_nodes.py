"""The nodes of UniFashion/prepare in graphs on the embedded host, with the networks that ship."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from node_graphs import node
from PIL import Image, ImageDraw
from segmenter_samples import save_tiny_segmenter

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


# What a user connects: keypoints, densepose maps, parse maps, a segmentation model.


@pytest.fixture(scope="module")
def drawn(pack, host):
    """A person in the host's input folder, as photo.png."""
    wardrobe = pack.module("unifashion_core.wardrobe")
    garment = wardrobe.sample_garment(20, category="t-shirt")
    picture = wardrobe.render_person(wardrobe.sample_person(3, garment, framing="full"), 384)
    host.folders.input.mkdir(parents=True, exist_ok=True)
    picture.image.save(host.folders.input / "photo.png")
    return picture


def given_graph(maps: dict[str, Any] | None = None, **given: Any) -> dict[str, Any]:
    graph = {
        "photo": node("LoadImage", image="photo.png"),
        "mask": node("UniFashion_AgnosticMask", image=["photo", 0], **MASK, **given),
        "show": node("PreviewImage", images=["mask", 1]),
        "note": node("PreviewAny", source=["mask", 2]),
    }
    return graph | (maps or {})


OPENPOSE = (0, None, 12, 14, 16, 11, 13, 15, 24, 26, 28, 23, 25, 27, 5, 2, 8, 7)
"""MediaPipe's landmark of each of OpenPose's 18 points; the neck is none of them."""


def pose_frame(drawn) -> dict[str, Any]:
    height, width = drawn.parts.shape
    flat: list[float] = []
    for place in OPENPOSE:
        flat += [0.0] * 3 if place is None else [*map(float, drawn.landmarks[place]), 1.0]
    return {
        "people": [{"pose_keypoints_2d": flat}], "canvas_width": width, "canvas_height": height,
    }  # fmt: skip


def covers(drawn, mask: torch.Tensor) -> float:
    garment = torch.as_tensor(drawn.worn["upper"])
    return float(mask[0][garment].mean())


def test_keypoints_of_a_preprocessor_make_a_mask_and_a_pose_map(host, drawn):
    pose = node("UniFashion_PoseMap", image=["photo", 0], kind="body parts",
                keypoints=pose_frame(drawn))  # fmt: skip
    more = {"pose": pose, "see": node("PreviewImage", images=["pose", 0]),
            "said": node("PreviewAny", source=["pose", 1])}  # fmt: skip
    result = host.run(given_graph(more, keypoints=pose_frame(drawn)))
    assert result.value("note").startswith("upper from keypoints + colours")
    assert covers(drawn, result.value("mask")) > 0.9
    assert result.value("said") == "body parts from keypoints"
    graph = given_graph(keypoints={"poses": []})
    assert "not in POSE_KEYPOINT form" in error_of(host, graph)


def test_a_densepose_map_makes_a_mask_and_is_brought_to_the_photos_size(host, drawn):
    height, width = drawn.parts.shape
    picture = Image.new("L", (width, height))
    draw, at = ImageDraw.Draw(picture), drawn.landmarks
    torso = float(at[24, 1] - at[12, 1])
    draw.polygon([tuple(at[i]) for i in (11, 12, 24, 23)], fill=2)
    for ids, points in (((15, 19, 4), (11, 13, 15, 19)), ((16, 20, 3), (12, 14, 16, 20)),
                        ((8, 12), (23, 25, 27)), ((7, 11), (24, 26, 28))):  # fmt: skip
        for part, start, end in zip(ids, points[:-1], points[1:], strict=True):
            draw.line([tuple(at[start]), tuple(at[end])], fill=part, width=round(0.18 * torso))
    x, y = at[0]
    draw.ellipse((x - 0.2 * torso, y - 0.3 * torso, x + 0.2 * torso, y + 0.3 * torso), fill=23)
    picture.resize((width // 2, height // 2), Image.Resampling.NEAREST).save(
        host.folders.input / "dense.png"
    )
    pose = node("UniFashion_PoseMap", image=["photo", 0], kind="densepose", densepose=["dense", 0])
    more = {"dense": node("LoadImage", image="dense.png"), "pose": pose,
            "see": node("PreviewImage", images=["pose", 0])}  # fmt: skip
    result = host.run(given_graph(more, densepose=["dense", 0]))
    assert result.value("note").startswith("upper from densepose + colours")
    assert covers(drawn, result.value("mask")) > 0.85
    assert result.value("pose").shape == (1, height, width, 3)
    assert "no densepose colour map" in error_of(
        host, given_graph({"dense": node("LoadImage", image="photo.png")}, densepose=["dense", 0])
    )


def test_a_parse_map_is_read_by_the_labels_that_are_chosen(host, drawn):
    ids = np.where(drawn.worn["upper"], 5, np.where(drawn.parts > 0, 13, 0)).astype(np.uint8)
    Image.fromarray(ids).save(host.folders.input / "parse.png")
    more = {"parse": node("LoadImage", image="parse.png")}
    graph = given_graph(more, parse_map=["parse", 0], parse_labels="cihp")
    result = host.run(graph)
    assert result.value("note").startswith("upper from parse map (cihp)")
    assert covers(drawn, result.value("mask")) == 1.0
    graph["mask"]["inputs"]["parse_labels"] = "as it decides"
    assert "Say which one it is (labels)" in error_of(host, graph)


@pytest.mark.segformer
def test_a_segmentation_folder_is_loaded_and_used(host, drawn):
    folder = host.folders.models / "unifashion_preparers" / "clothes"
    save_tiny_segmenter(folder, upper=50.0)  # everywhere
    load = node("UniFashion_LoadPreparer", preparer="clothes", labels="by name")
    more = {"load": load, "info": node("PreviewAny", source=["load", 1])}
    result = host.run(given_graph(more, preparer=["load", 0]))
    assert result.value("note").startswith("upper from segmentation (clothes) + joints")
    assert result.value("info").startswith("clothes, by name")
    assert bool(result.value("mask").all())
    assert host.run(given_graph()).value("mask").mean() < 0.5
    load["inputs"]["labels"] = "lip"
    assert "18 labels, label set 'lip' doesn't fit" in error_of(
        host, given_graph(more, preparer=["load", 0])
    )

"""The caption nodes in graphs on the embedded host, with a tiny real encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import node_graphs as graphs
import pytest
import torch
from caption_model_samples import blip2_folder
from node_graphs import node

STYLE = {"style": "sentence", "trigger": "", "prefix": "", "suffix": "", "replacements": ""}


@pytest.fixture(scope="module")
def base(pack, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("host")
    graphs.save_tiny_encoder(pack, folder / "models")
    return folder


@pytest.fixture(scope="module")
def host(pack, base):
    return pack.make_host(base)


def captioner(**changes: Any) -> dict[str, Any]:
    values = {
        "captioner": "of the encoder (pocket when none is connected)",
        "attributes_from": "captioner",
        "decoding": "greedy",
        "beams": 0,
        "max_tokens": 8,
        "batch_size": 4,
        "prompt": "",
        "vocabulary": "ships with the pack",
        "attention": "auto",
        "encoder": ["load", 0],
    }
    return node("UniFashion_LoadCaptioner", **{**values, **changes})


def start(**changes: Any) -> dict[str, Any]:
    """A tiny encoder, its captioner and six drawn pictures."""
    return {
        "load": graphs.load_encoder(),
        "captioner": captioner(**changes),
        "sample": graphs.sample(),
    }


def shown(graph: dict[str, Any], name: str, slot: int = 0) -> dict[str, Any]:
    graph["show"] = node("PreviewAny", source=[name, slot])
    return graph


def images_graph(**changes: Any) -> dict[str, Any]:
    graph = start(**changes)
    graph["caption"] = node(
        "UniFashion_CaptionImages", captioner=["captioner", 0], images=["sample", 0], seed=0
    )
    return shown(graph, "caption")


def folder_graph(**changes: Any) -> dict[str, Any]:
    graph = start()
    values = {"captioner": ["captioner", 0], "folder": ["sample", 1], **STYLE, "write": "txt"}
    values |= {"overwrite": False, "save_to": "", "seed": 0}
    graph["folder"] = node("UniFashion_CaptionFolder", **{**values, **changes})
    return graph


def gallery_graph(**changes: Any) -> dict[str, Any]:
    graph = {**start(), "index": graphs.index(gallery="captioned")}
    values = {"gallery": ["index", 0], "captioner": ["captioner", 0], "encoder": ["load", 0]}
    values |= {**STYLE, "overwrite": True, "seed": 0}
    graph["gallery"] = node("UniFashion_CaptionGallery", **{**values, **changes})
    return graph


def loaded(host) -> Any:
    """The tiny encoder itself."""
    host.free()
    return host.run(images_graph()).value("load").encoder


def error_of(host, graph) -> str:
    result = host.execute(graph)
    assert result.status == "error"
    return result.error["exception_message"]


def test_each_picture_of_a_batch_gets_one_caption(host):
    captions = host.run(images_graph()).values("caption")
    assert len(captions) == 6
    assert all(isinstance(caption, str) and caption for caption in captions)


def test_nucleus_follows_the_seed(host):
    said: list[list[str]] = []
    for seed in (1, 1, 2):
        graph = images_graph(decoding="nucleus")
        graph["caption"]["inputs"]["seed"] = seed
        host.free()
        said.append(host.run(graph).values("caption"))
    assert said[0] == said[1] != said[2]


def test_captioning_puts_the_network_on_the_device_through_the_manager(host):
    host.models.unload_all()
    host.free()
    result = host.run(images_graph())
    value = result.value("captioner")
    assert [patcher.loaded for patcher in value.patchers] == [True]


def test_an_encoder_without_a_head_is_refused(pack, host, base):
    checkpoint = pack.module("unifashion_core.encoder.checkpoint")
    encoder = loaded(host)
    weights = {k: v for k, v in encoder.model.state_dict().items() if "Qformer.cls" not in k}
    checkpoint.save_encoder(
        base / "models/unifashion_encoders/mute",
        weights,
        encoder.config,
        vocabulary=encoder.tokenizer,
    )
    graph = images_graph()
    graph["load"] = graphs.load_encoder("mute")
    assert "no LM head" in error_of(host, graph)


def test_captions_are_formatted_one_by_one(host):
    graph = images_graph()
    graph["format"] = node(
        "UniFashion_FormatCaption",
        caption=["caption", 0],
        **{**STYLE, "style": "lora", "trigger": "ohwx", "suffix": " end"},
    )
    result = host.run(shown(graph, "format"))
    wanted = [f"ohwx, {caption} end" for caption in result.values("caption")]
    assert result.values("format") == wanted


def test_format_replaces_words_and_refuses_lora_without_a_trigger(host):
    def graph(**changes: Any) -> dict[str, Any]:
        values = {"caption": "a red t-shirt", **STYLE, **changes}
        return shown({"format": node("UniFashion_FormatCaption", **values)}, "format")

    assert host.run(graph(replacements="t-shirt -> tee")).value("format") == "A red tee."
    assert "trigger" in error_of(host, graph(style="lora"))
    assert "old -> new" in error_of(host, graph(replacements="t-shirt"))


def test_a_folder_gets_texts_and_a_listing_once(host, base):
    result = host.run(folder_graph())
    captions, files = result.values("folder", 0), result.values("folder", 1)
    assert len(captions) == len(files) == 6
    for caption, file in zip(captions, files, strict=True):
        assert Path(file).with_suffix(".txt").read_text("utf-8") == caption
    folder = Path(files[0]).parent
    assert len((folder / "captions.jsonl").read_text("utf-8").splitlines()) == 6
    assert "6 pictures: 6 captioned" in result.value("folder", 2)
    host.free()
    assert "0 captioned, 6 unchanged" in host.run(folder_graph()).value("folder", 2)
    assert folder.is_relative_to(base / "output")


def test_a_text_of_the_users_own_is_kept_and_named(host, base):
    files = host.run(folder_graph()).values("folder", 1)
    own = Path(files[0]).with_suffix(".txt")
    own.write_text("my words", "utf-8")
    host.free()
    report = host.run(folder_graph()).value("folder", 2)
    assert own.name in report
    assert own.read_text("utf-8") == "my words"
    host.run(folder_graph(overwrite=True))
    assert own.read_text("utf-8") != "my words"


def test_captions_can_go_to_a_folder_of_the_output(host, base):
    host.run(folder_graph(save_to="training", write="jsonl"))
    assert [p.name for p in (base / "output/training").iterdir()] == ["captions.jsonl"]


@pytest.mark.parametrize("changes", [{"save_to": "../out"}, {"folder": "/"}, {"folder": "../x"}])
def test_folders_outside_the_hosts_are_refused(host, changes):
    assert "older" in error_of(host, folder_graph(**changes))


def test_new_pictures_alone_are_captioned_later(pack, host, base):
    folder = base / "input" / "grows"
    wardrobe = pack.module("unifashion_core.wardrobe")
    wardrobe.save_collection(folder, 11, 2, 64)
    graph = folder_graph(folder="grows")
    assert "2 captioned" in host.run(graph).value("folder", 2)
    (folder / "new.png").write_bytes(next(folder.glob("*.png")).read_bytes())
    assert "3 pictures: 1 captioned" in host.run(graph).value("folder", 2)


def test_a_gallery_captions_itself_and_is_searched_by_its_captions(host):
    graph = gallery_graph()
    graph["query"] = node(
        "UniFashion_EncodeText", encoder=["load", 0], text="a red dress", exclude=""
    )
    graph["search"] = graphs.retrieve("query", gallery=["gallery", 0], caption_weight=1.0)
    graph["sheet"] = graphs.sheet("search")
    result = host.run(graph)
    assert "6 pictures: 6 captioned" in result.value("gallery", 1)
    (row,) = result.value("search").rows
    assert all(hit.columns["caption_by"].startswith("tiny sentence") for hit in row)
    assert not result.value("search").notes
    graph["search"] = graphs.retrieve("query", gallery=["gallery", 0], caption_weight=0.0)
    alone = host.run(graph).value("search").rows[0]
    assert [hit.score for hit in alone] != [hit.score for hit in row]


def test_captions_of_metadata_are_kept_unless_overwritten(host):
    graph = gallery_graph(overwrite=False)
    graph["index"] = graphs.index(gallery="own")
    report = host.run(graph).ui["gallery"]["report"][0]
    assert report == {"captioned": 0, "skipped": 6, "failed": [], "total": 6}


def test_a_gallery_of_another_encoder_is_refused(pack, host, base):
    encoder = loaded(host)
    weights = {k: v + 0.01 for k, v in encoder.model.state_dict().items()}
    checkpoint = pack.module("unifashion_core.encoder.checkpoint")
    checkpoint.save_encoder(
        base / "models/unifashion_encoders/other",
        weights,
        encoder.config,
        vocabulary=encoder.tokenizer,
    )
    graph = gallery_graph()
    graph["other"] = graphs.load_encoder("other")
    graph["gallery"]["inputs"]["encoder"] = ["other", 0]
    assert "made with encoder" in error_of(host, graph)


def test_interrupting_a_folder_keeps_what_is_done(pack, host, base):
    folder = base / "input" / "many"
    pack.module("unifashion_core.wardrobe").save_collection(folder, 5, 1, 64)
    (drawn,) = folder.glob("*.png")
    for number in range(39):
        (folder / f"copy-{number}.png").write_bytes(drawn.read_bytes())
    graph = folder_graph(folder="many")

    def stop(node_id: str, done: int, total: int) -> None:
        if node_id == "folder" and done >= 16:
            host.interrupt()

    assert host.execute(graph, on_progress=stop).status == "interrupted"
    made = len(list(folder.glob("*.txt")))
    assert 0 < made < 40
    assert len((folder / "captions.jsonl").read_text("utf-8").splitlines()) == made
    assert f"40 pictures: {40 - made} captioned" in host.run(graph).value("folder", 2)


def test_a_mask_of_the_wrong_count_is_refused(pack, host):
    masks = pack.module("nodes.caption")._masks
    assert masks(None, 3) is None
    assert [m.all() for m in masks(torch.ones(4, 5), 2)] == [True, True]
    with pytest.raises(pack.module("unifashion_core.errors").InputError, match="3 pictures"):
        masks(torch.ones(2, 4, 5), 3)


def test_attributes_come_as_values_json_category_and_colour(host):
    graph = start()
    graph["describe"] = node(
        "UniFashion_DescribeAttributes", captioner=["captioner", 0], images=["sample", 0]
    )
    graph["format"] = node(
        "UniFashion_FormatCaption",
        caption="a red dress",
        attributes=["describe", 0],
        **{**STYLE, "style": "tags"},
    )
    result = host.run(shown(graph, "format"))
    known, told = result.values("describe", 0), result.values("describe", 1)
    assert len(known) == 6
    assert [json.loads(text) for text in told] == [one.to_dict() for one in known]
    assert [one.colours[0].name if one.colours else "" for one in known] == result.values(
        "describe", 3
    )
    assert len(result.values("format")) == 6


@pytest.mark.image_processors
def test_a_folder_of_the_models_captions_under_the_manager_with_two_networks(pack, base):
    blip2_folder(base / "models" / "unifashion_captioners" / "blip2")
    host = pack.make_host(base)  # its combos are read when the nodes are listed
    graph = images_graph(captioner="blip2", attributes_from="encoder", max_tokens=4)
    result = host.run(graph)
    value = result.value("captioner")
    assert len(result.values("caption")) == 6
    assert [patcher.loaded for patcher in value.patchers] == [True, True]
    assert value.image_bytes > 0
    assert value.captioner.abilities == {"caption", "attributes"}

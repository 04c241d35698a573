"""Our nodes in graphs on the embedded host, with a tiny real encoder."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import node_graphs as graphs
import pytest
import torch
from node_graphs import node

SNAPSHOT = Path(__file__).parent / "golden" / "node_schemas.json"


@pytest.fixture(scope="module")
def base(pack, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("host")
    graphs.save_tiny_encoder(pack, folder / "models")
    return folder


@pytest.fixture(scope="module")
def host(pack, base):
    """One host for all tests of this file: galleries and results stay."""
    return pack.make_host(base)


def text_graph(text: str = "a red dress", **changes: Any) -> dict[str, Any]:
    graph = graphs.indexed()
    graph["query"] = node("UniFashion_EncodeText", encoder=["load", 0], text=text, exclude="")
    graph["query"]["inputs"] |= changes
    graph["search"] = graphs.retrieve("query")
    graph["sheet"] = graphs.sheet("search")
    return graph


def error_of(host, graph) -> str:
    result = host.execute(graph)
    assert result.status == "error"
    return result.error["exception_message"]


def test_schemas_are_those_of_the_snapshot(host):
    """A difference breaks saved workflows: ids, order and types of inputs never change."""
    info = {k: v for k, v in host.object_info().items() if k.startswith("UniFashion_")}
    for entry in info.values():
        entry["input"] = {
            group: {name: _kind(value) for name, value in inputs.items()}
            for group, inputs in entry["input"].items()
        }
    found = {
        name: {k: entry[k] for k in ("input", "output", "output_name", "output_is_list")}
        for name, entry in info.items()
    }
    assert found == json.loads(SNAPSHOT.read_text("utf-8"))


def _kind(entry) -> str:
    return "COMBO" if isinstance(entry[0], list) else entry[0]


def test_every_input_has_a_tooltip(host):
    for name, entry in host.object_info().items():
        if not name.startswith("UniFashion_"):
            continue
        assert entry["description"], name
        for group in ("required", "optional"):
            for key, value in entry["input"].get(group, {}).items():
                assert value[1].get("tooltip"), f"{name}.{key}"


def test_text_search_gives_ranked_hits_of_the_indexed_folder(host):
    hits = host.run(text_graph()).value("search")
    (row,) = hits.rows
    assert [hit.rank for hit in row] == [1, 2, 3, 4]
    assert [hit.score for hit in row] == sorted((hit.score for hit in row), reverse=True)
    assert all(hit.path.is_file() and hit.columns["category"] for hit in row)


def test_second_index_of_the_same_folder_encodes_nothing(host):
    host.run(text_graph())
    host.free()
    report = host.run(text_graph()).ui["index"]["report"][0]
    assert (report["added"], report["updated"], report["skipped"]) == (0, 0, 6)


def test_contact_sheet_is_one_picture_a_query(host):
    graph = graphs.indexed()
    graph["query"] = node("UniFashion_EncodeImages", encoder=["load", 0], images=["sample", 0])
    graph["search"] = graphs.retrieve("query")
    graph["sheet"] = graphs.sheet("search", query_images=["sample", 0])
    result = host.run(graph)
    sheets = result.values("sheet")
    assert len(sheets) == 6 == len(result.ui["sheet"]["images"])
    assert all(s.ndim == 4 and s.shape[0] == 1 and s.shape[-1] == 3 for s in sheets)


def test_a_picture_finds_itself_first(host):
    graph = graphs.indexed()
    graph["query"] = node("UniFashion_EncodeImages", encoder=["load", 0], images=["sample", 0])
    graph["search"] = graphs.retrieve("query", top_k=1)
    graph["sheet"] = graphs.sheet("search")
    hits = host.run(graph).value("search")
    order = [int(row[0].file[:3]) for row in hits.rows]
    assert order == [0, 1, 2, 3, 4, 5]


def test_composed_query_differs_from_the_picture_alone(host):
    graph = graphs.indexed()
    graph["one"] = graphs.sample("garment", seed=5, count=1)
    graph["query"] = node(
        "UniFashion_ComposeQuery", encoder=["load", 0], images=["one", 0], text="in red"
    )
    graph["search"] = graphs.retrieve("query")
    graph["sheet"] = graphs.sheet("search")
    (query,) = host.run(graph).value("query").queries
    assert [part.kind for part in query.parts] == ["composed"]
    assert query.parts[0].tokens.shape == (1, 16)


def test_exclusion_adds_a_part_of_negative_weight(host):
    result = host.run(text_graph(exclude="floral"))
    (query,) = result.value("query").queries
    assert [part.weight for part in query.parts] == [1.0, -0.5]


def test_blend_joins_queries_by_weight(host):
    graph = text_graph()
    graph["other"] = node("UniFashion_EncodeText", encoder=["load", 0], text="a blue shirt")
    graph["blend"] = node(
        "UniFashion_BlendQueries",
        query_1=["query", 0],
        weight_1=1.0,
        query_2=["other", 0],
        weight_2=-0.25,
    )
    graph["search"] = graphs.retrieve("blend")
    (query,) = host.run(graph).value("blend").queries
    assert [(part.text, part.weight) for part in query.parts] == [
        ("a red dress", 1.0),
        ("a blue shirt", -0.25),
    ]


def test_hits_become_a_batch_and_a_list(host):
    graph = text_graph()
    graph["images"] = node("UniFashion_HitsToImages", hits=["search", 0], first=3, size=80)
    graph["show"] = node("PreviewImage", images=["images", 0])
    result = host.run(graph)
    assert result.value("images", 0).shape == (3, 80, 80, 3)
    assert [p.shape for p in result.values("images", 1)] == [torch.Size([1, 64, 64, 3])] * 3
    assert len(result.values("images", 2)) == len(result.values("images", 3)) == 3


def test_rerank_orders_the_first_hits_by_itm(host):
    graph = text_graph()
    graph["rerank"] = node(
        "UniFashion_RerankHits", hits=["search", 0], encoder=["load", 0], first=3
    )
    graph["sheet"] = graphs.sheet("rerank")
    (row,) = host.run(graph).value("rerank").rows
    assert [hit.itm is not None for hit in row] == [True, True, True, False]
    assert [h.itm for h in row[:3]] == sorted((h.itm for h in row[:3]), reverse=True)


def test_opened_gallery_gives_the_same_hits(host):
    found = host.run(text_graph()).value("search")
    graph = text_graph()
    graph["open"] = node("UniFashion_OpenGallery", gallery="g")
    graph["search"] = graphs.retrieve("query", gallery=["open", 0])
    assert host.run(graph).value("search").rows == found.rows


def test_search_of_an_opened_gallery_sees_a_later_revision(pack, host, base):
    pictures = base / "input" / "more"
    wardrobe = pack.module("unifashion_core.wardrobe")
    wardrobe.save_collection(pictures, 11, 2, 64)
    graph = graphs.indexed()
    graph["index"] = graphs.index(gallery="grows", folder="more")
    host.run(graph)
    opened = {
        "load": graphs.load_encoder(),
        "query": node("UniFashion_EncodeText", encoder=["load", 0], text="a dress"),
        "open": node("UniFashion_OpenGallery", gallery="grows"),
        "search": graphs.retrieve("query", gallery=["open", 0]),
        "sheet": graphs.sheet("search"),
    }
    before = len(host.run(opened).value("search").rows[0])
    wardrobe.save_collection(pictures, 12, 3, 64)
    host.run(graph)
    assert (before, len(host.run(opened).value("search").rows[0])) == (2, 4)


def test_filter_on_an_unknown_column_lists_the_columns(host):
    graph = text_graph()
    graph["search"] = graphs.retrieve("query", where="price<3")
    message = error_of(host, graph)
    assert "price" in message
    assert "category" in message


def test_index_refuses_a_folder_outside_the_allowed_ones(host, tmp_path):
    graph = graphs.indexed()
    graph["index"] = graphs.index(folder=str(tmp_path))
    assert "unifashion_images" in error_of(host, graph)


@pytest.mark.parametrize("name", ["../g", "a/b", "..", "", "C:\\g"])
def test_index_refuses_a_gallery_name_that_is_a_path(host, name):
    graph = graphs.indexed()
    graph["index"] = graphs.index(gallery=name)
    assert "allery" in error_of(host, graph)


def test_index_refuses_metadata_outside_the_folder(host):
    graph = graphs.indexed()
    graph["index"] = graphs.index(gallery="meta", metadata="../../secret.jsonl")
    assert "no metadata file" in error_of(host, graph)
    graph["index"]["inputs"]["metadata"] = "1, " * 100  # too long for any system
    assert "no metadata file" in error_of(host, graph)


def test_a_search_on_a_device_needs_one_unless_the_processor_may_do_it(pack, host):
    found = {}
    for scan_on in ("processor", "device or processor"):
        graph = text_graph()
        graph["search"]["inputs"]["scan_on"] = scan_on
        graph["show"] = node("PreviewAny", source=["search", 1])
        found[scan_on] = host.run(graph).ui["show"]
    with host.active():
        there = pack.comfy.device().type != "cpu"
    assert there or found["processor"] == found["device or processor"]
    graph["search"]["inputs"]["scan_on"] = "device"
    if there:
        assert host.run(graph).ui["show"] == found["device or processor"]
    else:
        wanted = "scan_on is 'device', but the host computes on the processor here. Choose 'proc"
        assert wanted in error_of(host, graph)


def test_hits_outside_the_allowed_folders_are_not_read(pack, host, base, tmp_path):
    """A gallery's paths are data: one that was made elsewhere can't make a node read any file."""
    store = pack.module("unifashion_core.retrieval.store")
    wardrobe = pack.module("unifashion_core.wardrobe")
    wardrobe.save_collection(tmp_path / "elsewhere", 1, 2, 64)
    encoder = host.run(text_graph()).value("load").encoder
    path = base / "user" / "__unifashion" / "galleries" / "stranger"
    found = store.create_gallery(
        path,
        fingerprint=encoder.fingerprint,
        tokens_per_image=encoder.tokens_per_image,
        width=encoder.width,
        encoder_name="tiny",
    )
    with pack.module("unifashion_core.retrieval.writer").open_writer(found) as writer:
        pack.module("unifashion_core.retrieval.index").index_folder(
            writer, tmp_path / "elsewhere", encoder, text_encoder=encoder
        )
    graph = text_graph()
    graph["open"] = node("UniFashion_OpenGallery", gallery="stranger")
    graph["search"] = graphs.retrieve("query", gallery=["open", 0])
    assert "outside the folders" in error_of(host, graph)


def test_gallery_of_another_encoder_is_refused(pack, host, base):
    state = pack.module("unifashion_core.encoder.checkpoint")
    encoder = host.run(text_graph()).value("load").encoder
    weights = dict(encoder.model.state_dict())
    weights["query_tokens"] = weights["query_tokens"] + 0.1
    folder = base / "models" / "unifashion_encoders" / "other"
    state.save_encoder(folder, weights, encoder.config, vocabulary=encoder.tokenizer)
    graph = text_graph()
    graph["load"] = graphs.load_encoder("other")
    message = error_of(host, graph)
    assert message.startswith("Gallery 'g': made with encoder")
    assert "Re-index, or load the matching encoder." in message


def test_words_that_no_query_can_use_are_an_error(host):
    assert "knows none of its words" in error_of(host, text_graph("zzyzx qwrt"))


def test_unknown_words_are_told_on_the_node(host):
    notes = host.run(text_graph("a red dress zzyzx")).value("query", 1)
    assert "zzyzx" in notes


def test_an_attention_that_cannot_run_is_an_error(host):
    graph = text_graph()
    graph["load"] = graphs.load_encoder(attention="host")
    assert "host" in error_of(host, graph)


def test_transparent_pictures_are_laid_on_white(pack):
    convert = pack.module("nodes._convert")
    image = torch.zeros(1, 4, 4, 4)
    image[..., 3] = 0.5
    (picture,) = convert.pictures(image)
    assert picture.getpixel((0, 0)) == (128, 128, 128)


def test_sample_wardrobe_leaves_a_folder_with_other_files_alone(host, base):
    folder = base / "output" / "mine"
    folder.mkdir(parents=True)
    (folder / "photo.txt").write_text("mine")
    graph = {"sample": graphs.sample(folder_name="mine")}
    graph["show"] = node("PreviewImage", images=["sample", 0])
    assert "holds other files" in error_of(host, graph)
    assert [p.name for p in folder.iterdir()] == ["photo.txt"]


def test_interrupt_while_indexing_keeps_what_is_done(pack, host):
    graph = graphs.indexed()
    graph["sample"] = graphs.sample(count=40, folder_name="many")
    graph["index"] = graphs.index(gallery="stopped")

    def stop(node_id: str, done: int, total: int) -> None:
        if node_id == "index":
            host.interrupt()

    with pytest.raises(pack.host.InterruptProcessing):
        host.run(graph, on_progress=stop)
    assert host.run(graph).ui["index"]["report"][0]["total"] == 40

"""The nodes that look after a gallery, in graphs on the embedded host, with a tiny real encoder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import node_graphs as graphs
import pytest
from node_graphs import node
from PIL import Image


@pytest.fixture(scope="module")
def base(pack, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("host")
    graphs.save_tiny_encoder(pack, folder / "models")
    return folder


@pytest.fixture
def host(pack, base):
    return pack.make_host(base)


@pytest.fixture
def name(request: pytest.FixtureRequest) -> str:
    return request.node.name.replace("_", "-")[:60]


def indexed(name: str, **more: dict[str, Any]) -> dict[str, Any]:
    graph = graphs.indexed()
    graph["sample"] = graphs.sample(folder_name=name)
    graph["index"] = graphs.index(gallery=name)
    return {**graph, **more}


def searched(name: str, **more: dict[str, Any]) -> dict[str, Any]:
    query = node("UniFashion_EncodeText", encoder=["load", 0], text="a red dress", exclude="")
    return indexed(name, query=query, search=graphs.retrieve("query"), **more)


def test_generated_pictures_keep_what_they_were_made_from(host, base, name):
    graph = indexed(
        name,
        add=node(
            "UniFashion_AddToGallery",
            encoder=["load", 0],
            images=["sample", 0],
            gallery="made",
            folder_name="made",
            prompt="a red dress on a beach",
            seed=41,
            source_item=7,
        ),
    )
    found = host.run(graph).value("add")
    with found.snapshot() as snapshot:
        items = snapshot.items(snapshot.item_rows().ids.tolist())
    assert [item.file for item in items] == [f"{n:05d}.png" for n in range(1, 7)]
    assert items[1].columns == {
        "generated": True,
        "prompt": "a red dress on a beach",
        "seed": 42,
        "source_item": 7,
    }
    host.free()
    assert host.run(graph).value("add").count == 12
    assert len(list((base / "output" / "made").glob("*.png"))) == 12


def test_duplicates_are_found_and_all_but_the_first_taken_out(host, base, name):
    host.run(indexed(name))
    folder = base / "output" / name
    first = sorted(folder.glob("*.png"))[0]
    with Image.open(first) as picture:
        picture.save(folder / "zz-again.png", compress_level=1)  # other bytes, the same picture
    graph = {
        "load": graphs.load_encoder(),
        "index": graphs.index(gallery=name, folder=f"output/{name}"),
        "find": node("UniFashion_FindDuplicates", gallery=["index", 0], threshold=0.9999, first=5),
        "sheet": graphs.sheet("find"),
        "take": node(
            "UniFashion_RemoveFromGallery",
            gallery=["index", 0],
            where="",
            keep_first=True,
            hits=["find", 0],
        ),
        "compact": node("UniFashion_CompactGallery", gallery=["take", 0]),
        "count": node("UniFashion_CountValues", gallery=["compact", 0], column="file", where=""),
        "check": node("UniFashion_CheckGallery", gallery=name, repair=False, after=["compact", 1]),
    }
    graph["count"] = node(
        "UniFashion_CountValues", gallery=["compact", 0], column="category", where=""
    )
    graph["show"] = node("PreviewAny", source=["count", 0])
    result = host.run(graph)
    (row,) = result.value("find").rows
    assert [hit.file for hit in row] == [first.name, "zz-again.png"]
    assert row[0].columns["category"]
    assert "1 pictures taken out, 6 left" in result.value("take", 1)
    assert "6 vectors kept, 1 dropped" in result.value("compact", 1)
    assert result.value("check", 0) is True
    assert "(none)" in result.value("count", 0)
    assert (folder / "zz-again.png").exists()


def test_check_names_damage_and_repairs_it_on_demand(host, base, name):
    found = host.run(indexed(name)).value("index")
    segment = next(found.path.glob("tokens-*.seg"))
    data = bytearray(segment.read_bytes())
    data[9] ^= 1
    segment.write_bytes(data)

    def check(repair: bool) -> Any:
        return host.run({"c": node("UniFashion_CheckGallery", gallery=name, repair=repair)})

    looked = check(False)
    assert looked.value("c", 0) is False
    assert f"damaged: {segment.name}" in looked.value("c", 1)
    mended = check(True)
    assert mended.value("c", 0) is True
    assert "removed, index it again" in mended.value("c", 1)


def test_more_like_these_adds_marked_hits_to_a_query(host, name):
    graph = searched(
        name,
        more=node(
            "UniFashion_MoreLikeThese",
            gallery=["index", 0],
            hits=["search", 0],
            like="2, 3",
            unlike="1",
            query=["query", 0],
        ),
        again=graphs.retrieve("more"),
        sheet=graphs.sheet("again"),
    )
    (query,) = host.run(graph).value("more").queries
    weights = [round(part.weight, 3) for part in query.parts]
    assert weights == [1.0, 0.5, 0.5, -0.5]
    graph["more"]["inputs"]["like"] = "9"
    result = host.execute(graph)
    assert "no hit of rank '9', only 1 to 4" in result.error["exception_message"]


def test_a_second_page_goes_on_where_the_first_ended(host, name):
    graph = searched(name, sheet=graphs.sheet("search"))
    graph["search"]["inputs"] |= {"top_k": 6}
    (whole,) = host.run(graph).value("search").rows
    graph["search"]["inputs"] |= {"top_k": 2, "offset": 2}
    (page,) = host.run(graph).value("search").rows
    assert page == whole[2:4]
    assert [hit.rank for hit in page] == [3, 4]


def test_hits_give_their_items_ids(host, name):
    graph = searched(
        name, images=node("UniFashion_HitsToImages", hits=["search", 0], first=2, size=64)
    )
    graph["show"] = node("PreviewImage", images=["images", 0])
    result = host.run(graph)
    (row,) = result.value("search").rows
    assert result.values("images", 5) == [hit.item_id for hit in row[:2]]

"""`gallery` and the newer options of `search`, as a person runs them, with a tiny encoder."""

from __future__ import annotations

import argparse
import json
import shutil
from pathlib import Path
from typing import Any

import node_graphs as graphs
import pytest


@pytest.fixture(scope="module")
def encoder(pack, tmp_path_factory) -> Path:
    return graphs.save_tiny_encoder(pack, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def run(pack):
    """Run a command line; the exit code."""
    cli = pack.module("nodes._cli")

    def run(name: str, *words: object) -> int:
        parser: argparse.ArgumentParser = cli.command_parser(name)
        args = parser.parse_args([str(word) for word in words])
        args.parser, args.pack = parser, graphs.__file__
        return cli._module(cli.COMMANDS[name]).run(args)

    return run


@pytest.fixture(scope="module")
def photos(pack, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    pack.module("unifashion_core.wardrobe").save_collection(folder, 4, 8, 64)
    first = sorted(folder.glob("*.png"))[0]
    shutil.copy(first, folder / "zz-copy.png")
    return folder


@pytest.fixture(scope="module")
def source(run, encoder, photos, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("galleries") / "g"
    words = ["--gallery", path, "--images", photos, "--metadata", photos / "metadata.jsonl"]
    assert run("index", *words, "--encoder", encoder) == 0
    return path


@pytest.fixture
def gallery(source, tmp_path) -> Path:
    return Path(shutil.copytree(source, tmp_path / "galleries" / "summer"))


@pytest.fixture
def ask(run, capsys):
    """Run a command with --json; its exit code and what it printed."""

    def ask(*words: object) -> tuple[int, Any]:
        capsys.readouterr()
        code = run(*words, "--json")
        values = json.loads(capsys.readouterr().out)
        assert "revision" in values
        return code, values

    return ask


def test_info_tells_what_there_is(pack, ask, gallery):
    code, info = ask("gallery", "info", "--gallery", gallery)
    assert code == 0
    assert (info["name"], info["kind"], info["count"]) == ("summer", "embedded", 9)
    assert (info["rows"], info["dead_rows"], info["format"]) == (8, 0, 3)
    assert info["compact_pays"] is False
    pays = pack.module("unifashion_core.retrieval.info").compact_pays
    assert [pays(*of) for of in ((9, 2, 1), (9, 1, 1), (300, 0, 300), (60_000, 0, 240))] == [
        *(True, False, True, False)
    ]
    assert "category" in info["columns"]


def test_a_name_is_looked_up_in_the_galleries_folder(ask, gallery, monkeypatch):
    words = ["gallery", "info", "--gallery", "summer"]
    assert ask(*words, "--galleries", gallery.parent)[1]["path"] == str(gallery)
    monkeypatch.setenv("UNIFASHION_HOME", str(gallery.parent.parent))
    assert ask(*words)[1]["path"] == str(gallery)


def test_validate_is_exit_1_where_data_is_damaged_and_repair_mends_it(ask, gallery):
    assert ask("gallery", "validate", "--gallery", gallery) == (
        0,
        {"ok": True, "problems": [], "recovered": [], "revision": 1},
    )
    segment = next(gallery.glob("tokens-*.seg"))
    data = bytearray(segment.read_bytes())
    data[5] ^= 4
    segment.write_bytes(data)

    code, found = ask("gallery", "validate", "--gallery", gallery)
    assert (code, found["ok"]) == (1, False)
    (problem,) = found["problems"]
    assert (problem["kind"], problem["path"]) == ("damaged", str(segment))

    code, done = ask("gallery", "repair", "--gallery", gallery)
    assert code == 0
    assert len(done["removed"]) == 2  # the damaged row is that of a picture and its copy
    assert ask("gallery", "validate", "--gallery", gallery)[0] == 0


def test_validate_of_no_gallery_is_an_error(pack, run, tmp_path):
    with pytest.raises(pack.module("unifashion_core.errors").GalleryError, match="not found"):
        run("gallery", "validate", "--gallery", tmp_path / "nothing")


def test_what_a_kill_left_is_recovered_and_no_problem(ask, gallery):
    with next(gallery.glob("tokens-*.seg")).open("ab") as file:
        file.write(b"torn")
    code, found = ask("gallery", "validate", "--gallery", gallery)
    assert (code, found["ok"], found["problems"]) == (0, True, [])
    assert "4 bytes behind the last commit removed" in found["recovered"][0]


def test_duplicates_are_found_and_one_is_removed_and_its_room_given_back(ask, gallery, photos):
    words = ["gallery", "duplicates", "--gallery", gallery, "--threshold", 1]
    (group,) = ask(*words)[1]["groups"]
    assert [Path(entry["path"]).name for entry in group["items"]][1] == "zz-copy.png"
    assert [entry["likeness"] for entry in group["items"]] == [1.0, 1.0]

    removed = ask("gallery", "remove", "--gallery", gallery, "--path", photos / "zz-copy.png")[1]
    assert removed == {"removed": 1, "revision": 2}
    assert ask(*words)[1]["groups"] == []
    more = ask("gallery", "remove", "--gallery", gallery, "--where", "category!=hat")[1]["removed"]
    _, compacted = ask("gallery", "compact", "--gallery", gallery)
    assert (compacted["rows"], compacted["removed"]) == (8 - more, more)
    assert (photos / "zz-copy.png").exists()


def test_facets_count_values(ask, gallery):
    _, found = ask("gallery", "facets", "--gallery", gallery, "--column", "category")
    assert sum(entry["count"] for entry in found["values"]) == 8
    assert found["without"] == 1
    only = ask(
        "gallery", "facets", "--gallery", gallery, "--column", "category", "--where", "category=hat"
    )[1]
    assert [entry["value"] for entry in only["values"]] == ["hat"]


def test_export_and_import_give_the_same_gallery(ask, gallery, encoder, tmp_path):
    out = tmp_path / "out.safetensors"
    _, told = ask("gallery", "export", "--gallery", gallery, "--out", out)
    assert told["files"] == [str(out), str(tmp_path / "out.jsonl")]
    _, done = ask("gallery", "import", out, "--gallery", tmp_path / "copy")
    assert (done["added"], done["updated"], done["total"]) == (9, 0, 9)
    words = ["--text", "a dress", "--encoder", encoder]
    assert (
        ask("search", "--gallery", gallery, *words)[1]["hits"]
        == ask("search", "--gallery", tmp_path / "copy", *words)[1]["hits"]
    )
    assert ask("gallery", "import", out, "--gallery", gallery)[1]["updated"] == 9


def test_an_export_with_other_items_is_refused(pack, run, ask, gallery, tmp_path):
    out = tmp_path / "out.safetensors"
    ask("gallery", "export", "--gallery", gallery, "--out", out)
    (tmp_path / "out.jsonl").write_text("{}\n")
    with pytest.raises(pack.module("unifashion_core.errors").InputError, match="not the items"):
        run("gallery", "import", out, "--gallery", tmp_path / "copy")
    assert not (tmp_path / "copy").exists()


@pytest.mark.slow  # test_search_contract.py moves a gallery there and back without the command
def test_a_gallery_goes_to_a_server_and_back(pack, ask, gallery, encoder, tmp_path, monkeypatch):
    client = pytest.importorskip("qdrant_client", reason="qdrant-client is not installed")
    points = pack.module("unifashion_core.retrieval.qdrant").QdrantPoints(
        client.QdrantClient(":memory:"), "c"
    )
    module = pack.module("unifashion_core.retrieval.connections")
    monkeypatch.setattr(module, "connect", lambda url, collection: points)
    where = ["--galleries", gallery.parent]
    made = ask("gallery", "connect", "--gallery", "store", "--url", "http://localhost:1", *where)
    assert made[1]["file"] == str(gallery.parent / "store.json")
    assert ask("gallery", "push", "store", "--gallery", gallery, *where)[1]["items"] == 9
    info = ask("gallery", "info", "--gallery", "store", *where)[1]
    assert (info["kind"], info["count"]) == ("server", 9)
    words = ["--text", "a dress", "--encoder", encoder]
    found = ask("search", "--gallery", "store", *where, *words)[1]
    wanted = ask("search", "--gallery", gallery, *words)[1]
    assert found["exact"]
    assert isinstance(found["candidates"], int)
    assert found["kernel"] == "server"
    assert [hit["score"] for hit in found["hits"]] == pytest.approx(
        [hit["score"] for hit in wanted["hits"]], abs=1e-6
    )
    back = ask("gallery", "pull", "store", "--gallery", tmp_path / "back", *where)[1]
    assert back["items"] == 9


@pytest.mark.parametrize(
    "words",
    [
        ["import"],
        ["info", "extra"],
        ["remove"],
        ["facets"],
        ["export"],
        ["connect"],
        ["push"],
        ["dance"],
    ],
)
def test_wrong_usage_is_exit_2(run, words, tmp_path):
    with pytest.raises(SystemExit) as stop:
        run("gallery", *words, "--gallery", tmp_path / "g")
    assert stop.value.code == 2


# ---- search


def test_pages_are_parts_of_the_whole_list(ask, gallery, encoder):
    words = ["search", "--gallery", gallery, "--text", "a dress", "--encoder", encoder]
    whole = ask(*words, "--top-k", 9)[1]["hits"]
    page = ask(*words, "--top-k", 3, "--offset", 4)[1]["hits"]
    assert page == whole[4:7]
    assert [hit["rank"] for hit in page] == [5, 6, 7]


def test_marked_pictures_steer_a_search(ask, gallery, encoder, photos):
    one, other = sorted(photos.glob("*.png"))[1:3]
    words = ["search", "--gallery", gallery, "--encoder", encoder]
    assert ask(*words, "--like", one)[1]["hits"][0]["path"] == str(one)
    hits = ask(*words, "--like", one.name, "--unlike", other.name, "--top-k", 9)[1]["hits"]
    place = [hit["file"] for hit in hits].index(other.name)
    alone = [hit["file"] for hit in ask(*words, "--like", one, "--top-k", 9)[1]["hits"]]
    assert place >= alone.index(other.name)


def test_a_mark_on_nothing_is_an_error(pack, run, gallery, encoder):
    with pytest.raises(pack.module("unifashion_core.errors").InputError, match="is not in it"):
        run("search", "--gallery", gallery, "--like", "nothing.png", "--encoder", encoder)


def test_every_line_of_answers_says_what_was_searched(
    pack, run, gallery, encoder, tmp_path, capsys
):
    file = tmp_path / "q.jsonl"
    file.write_text('{"id": 1, "text": "a dress"}\n{"id": 2}\n', "utf-8")
    run("search", "--gallery", gallery, "--queries", file, "--encoder", encoder)
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["revision"] for answer in answers] == [1, 1]
    assert "error" in answers[1]
    names = pack.module("unifashion_core.retrieval.kernels").kernel_names()
    assert answers[0]["kernel"] in names
    assert answers[0]["candidates"] >= len(answers[0]["hits"])

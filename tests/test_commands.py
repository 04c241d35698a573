"""`index` and `search` as a person runs them, in this process, with a tiny encoder."""

from __future__ import annotations

import argparse
import json
from pathlib import Path

import node_graphs as graphs
import pytest
from PIL import Image


@pytest.fixture(scope="module")
def encoder(pack, tmp_path_factory) -> Path:
    return graphs.save_tiny_encoder(pack, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def photos(pack, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("photos")
    pack.module("unifashion_core.wardrobe").save_collection(folder, 4, 8, 64)
    return folder


@pytest.fixture(scope="module")
def command(pack, encoder):
    """Run a command line on the tiny encoder; the exit code."""
    cli = pack.module("nodes._cli")

    def run(name: str, *words: object) -> int:
        parser: argparse.ArgumentParser = cli.command_parser(name)
        args = parser.parse_args([*map(str, words), "--encoder", str(encoder)])
        args.parser, args.pack = parser, graphs.__file__
        return cli._module(cli.COMMANDS[name]).run(args)

    return run


@pytest.fixture(scope="module")
def gallery(command, photos, tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("galleries") / "g"
    lines = ["--gallery", path, "--images", photos, "--metadata", photos / "metadata.jsonl"]
    assert command("index", *lines) == 0
    return path


def printed(capsys):
    return json.loads(capsys.readouterr().out)


def test_index_reports_what_it_did_as_json_alone(command, photos, tmp_path, capsys):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a picture")
    try:
        assert command("index", "--gallery", tmp_path / "g", "--images", photos, "--json") == 0
        first = printed(capsys)
        assert command("index", "--gallery", tmp_path / "g", "--images", photos, "--json") == 0
        second = printed(capsys)
    finally:
        (photos / "broken.jpg").unlink()
    assert (first["added"], first["skipped"], first["total"]) == (8, 0, 8)
    assert (second["added"], second["skipped"], second["total"]) == (0, 8, 8)
    (failure,) = first["failed"]
    assert Path(failure["path"]).name == "broken.jpg"


def test_index_of_a_missing_folder_makes_no_gallery(pack, command, tmp_path):
    with pytest.raises(pack.module("unifashion_core.errors").FolderError, match="no such folder"):
        command("index", "--gallery", tmp_path / "g", "--images", tmp_path / "nothing")
    assert not (tmp_path / "g").exists()


def test_index_where_every_picture_fails_is_exit_1(command, tmp_path):
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "a.jpg").write_bytes(b"")
    assert command("index", "--gallery", tmp_path / "g", "--images", folder, "--json") == 1


def test_search_finds_a_picture_by_itself(command, gallery, photos, capsys):
    picture = sorted(photos.glob("*.png"))[3]
    assert command("search", "--gallery", gallery, "--image", picture, "--json", "--top-k", 2) == 0
    hits = printed(capsys)["hits"]
    assert [hit["rank"] for hit in hits] == [1, 2]
    assert hits[0]["path"] == str(picture)
    assert hits[0]["file"] == picture.name
    assert hits[0]["score"] == pytest.approx(1.0, abs=1e-3)


def test_search_reads_a_picture_as_the_index_did(command, gallery, photos, tmp_path, capsys):
    """Alpha on white and EXIF turned, so that a copy in another form is the same picture."""
    source = Image.open(sorted(photos.glob("*.png"))[0]).convert("RGB")
    turned = source.rotate(90, expand=True)
    exif = turned.getexif()
    exif[0x0112] = 6  # to be shown turned clockwise
    turned.save(tmp_path / "turned.png", exif=exif)
    command("search", "--gallery", gallery, "--image", tmp_path / "turned.png", "--json")
    assert printed(capsys)["hits"][0]["score"] == pytest.approx(1.0, abs=1e-3)


def test_search_with_text_and_picture_says_what_it_did_not_know(command, gallery, photos, capsys):
    picture = sorted(photos.glob("*.png"))[0]
    words = ["--text", "in red zzyzx", "--image", picture, "--json"]
    assert command("search", "--gallery", gallery, *words) == 0
    found = printed(capsys)
    assert found["unknown_words"] == ["zzyzx"]
    assert found["truncated"] is False


def test_search_filters_by_columns(command, gallery, capsys):
    words = ["--text", "a dress", "--where", "category=dress", "--json"]
    assert command("search", "--gallery", gallery, *words) == 0
    hits = printed(capsys)["hits"]
    assert hits
    assert {hit["columns"]["category"] for hit in hits} == {"dress"}


def test_rerank_keeps_the_number_of_hits(command, gallery, capsys):
    words = ["--text", "a dress", "--top-k", 3, "--rerank", 6, "--json"]
    assert command("search", "--gallery", gallery, *words) == 0
    hits = printed(capsys)["hits"]
    assert len(hits) == 3
    assert [hit["itm"] for hit in hits] == sorted((hit["itm"] for hit in hits), reverse=True)


def test_long_text_is_cut_and_said_so(command, gallery, capsys):
    words = ["--text", " ".join(["red"] * 900), "--json"]
    assert command("search", "--gallery", gallery, *words) == 0
    assert printed(capsys)["truncated"] is True


def test_text_of_ten_thousand_words_is_an_error(pack, command, gallery):
    with pytest.raises(pack.module("unifashion_core.errors").InputError, match="10000"):
        command("search", "--gallery", gallery, "--text", " ".join(["red"] * 10_000))


def test_search_wants_one_kind_of_query(command, gallery, tmp_path):
    with pytest.raises(SystemExit) as stop:
        command("search", "--gallery", gallery)
    assert stop.value.code == 2


def test_queries_file_is_answered_in_order_with_errors_in_place(
    command, gallery, photos, tmp_path, capsys
):
    picture = sorted(photos.glob("*.png"))[1]
    lines = [
        {"id": "a", "text": "a red dress"},
        {"id": "b", "image": str(picture)},
        {"id": "c", "text": "zzyzx"},
        {"id": "d", "text": "a dress", "where": "category=dress"},
        {"id": "e"},
        {"id": "f", "image": "missing.png"},
    ]
    file = tmp_path / "queries.jsonl"
    file.write_text("\n".join(json.dumps(line) for line in lines) + "\nnot json\n", "utf-8")
    words = ["--queries", file, "--top-k", 8]
    assert command("search", "--gallery", gallery, *words) == 0
    answers = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [answer["id"] for answer in answers] == ["a", "b", "c", "d", "e", "f", 7]
    assert ["hits" in answer for answer in answers] == [True, True, False, True] + [False] * 3
    assert len(answers[0]["hits"]) == 8
    assert answers[1]["hits"][0]["file"] == picture.name


def test_searching_no_gallery_says_so(pack, command, tmp_path):
    with pytest.raises(pack.module("unifashion_core.errors").GalleryError, match="not found"):
        command("search", "--gallery", tmp_path / "nothing", "--text", "a dress")

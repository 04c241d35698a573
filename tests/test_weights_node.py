"""Download Weights and `run.py download`, and the licence line of the loaders."""

from __future__ import annotations

import argparse
import json

import pytest
from node_graphs import load_encoder, node, save_tiny_encoder
from stand_in_hub import Hub, stand_in_hub

NAME = "smolvlm-256m"  # its hashes are not known, so that any content will do


@pytest.fixture
def hub(pack, monkeypatch):
    known = pack.module("unifashion_core.weights.known").find_known(NAME)
    with stand_in_hub() as running:
        serve(running, known)
        monkeypatch.setenv("UNIFASHION_MIRROR", running.url)
        yield running


def serve(hub: Hub, known) -> None:
    for file in known.files:
        hub.files[known.url(file, hub.url).removeprefix(hub.url)] = file.save_as.encode()


def graph(**inputs):
    values = {"weights": NAME, "licence_read": False, **inputs}
    return {"1": node("UniFashion_DownloadWeights", **values)}


def test_nothing_is_fetched_before_the_licence_was_read(pack, hub, tmp_path):
    result = pack.make_host(tmp_path).execute(graph())
    assert result.status == "error"
    text = result.error["exception_message"]
    assert "licence Apache-2.0; what you make with it may be sold" in text
    assert "not pinned" in text
    assert "Turn licence_read on" in text
    assert hub.asked == []


def test_the_node_puts_weights_where_the_loaders_look(pack, hub, tmp_path):
    host = pack.make_host(tmp_path)
    result = host.run(graph(licence_read=True))
    assert result.value("1") == NAME
    assert "seen now and kept" in result.value("1", 1)
    with host.active():
        assert NAME in pack.comfy.list_models("unifashion_captioners")
    before = len(hub.asked)
    assert host.run(graph()).status == "success"  # it is there: nothing to agree to
    assert len(hub.asked) == before


def test_the_node_fetches_again_what_was_removed(pack, hub, tmp_path):
    host = pack.make_host(tmp_path)
    folder = tmp_path / "models" / "unifashion_captioners" / NAME
    host.run(graph(licence_read=True))
    (folder / "vocab.json").unlink()
    host.run(graph(licence_read=True))
    assert (folder / "vocab.json").is_file()


def test_the_node_offers_the_list_alone(pack, tmp_path):
    error = pack.module("nodes._host.validation").PromptError
    with pytest.raises(error, match="value_not_in_list"):
        pack.make_host(tmp_path).execute(graph(weights="https://evil.example/x.pt"))


def test_interrupting_stops_a_download_and_keeps_what_came(pack, hub, tmp_path):
    host = pack.make_host(tmp_path)

    def stop(kind, data):
        if kind == "progress":
            host.interrupt()

    result = host.execute(graph(licence_read=True), on_event=stop)
    assert result.status == "interrupted"
    assert host.run(graph(licence_read=True)).status == "success"


def test_downloads_go_into_the_first_listed_folder(pack, tmp_path):
    with pack.make_host(tmp_path).active():
        assert pack.comfy.download_folder("vae") == tmp_path / "models" / "vae"


@pytest.fixture
def command(pack):
    cli = pack.module("nodes._cli")

    def run(*words: object) -> int:
        parser: argparse.ArgumentParser = cli.command_parser("download")
        args = parser.parse_args([*map(str, words)])
        args.parser, args.pack = parser, __file__
        return cli._module(cli.COMMANDS["download"]).run(args)

    return run


def test_the_command_lists_names_sizes_and_licences(command, capsys):
    assert command("list") == 0
    text = capsys.readouterr().out
    assert "fashion-clip: 0.61 GB, into unifashion_encoders" in text
    assert "licence CC BY-NC-SA 4.0; not for anything that is sold" in text
    assert command("list", "--json") == 0
    rows = {row["name"]: row for row in json.loads(capsys.readouterr().out)}
    assert rows["stableviton"]["sold"] == "no"
    assert rows["eva-vit-g"]["files"][0]["url"].startswith("https://storage.googleapis.com/")


def test_the_command_downloads_into_a_models_folder(command, hub, tmp_path, capsys):
    assert command(NAME, "--to", tmp_path, "--json") == 0
    value = json.loads(capsys.readouterr().out)
    assert value["path"] == str(tmp_path / "unifashion_captioners" / NAME)
    assert len(value["fetched"]) == 12
    assert command(NAME, "--to", tmp_path) == 0
    assert "already there" in capsys.readouterr().out


def test_the_command_knows_only_the_list(pack, command, tmp_path):
    with pytest.raises(pack.module("unifashion_core.errors").InputError, match="known weights"):
        command("https://evil.example/x.pt", "--to", tmp_path)


def test_a_loader_tells_the_licence(pack, tmp_path):
    folder = save_tiny_encoder(pack, tmp_path / "models")
    host = pack.make_host(tmp_path)
    load = {"1": load_encoder(), "2": node("PreviewAny", source=["1", 1])}
    assert "licence not known here" in host.run(load).value("1", 1)
    receipt = folder / "download.unifashion.json"
    receipt.write_text('{"name": "fashion-clip"}', encoding="utf-8")
    host.free()
    assert "FashionCLIP 2.0: licence MIT" in host.run(load).value("1", 1)

"""`caption` as a person runs it, with a tiny encoder; and killed half way."""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import node_graphs as graphs
import pytest
from caption_model_samples import blip2_folder, llava_folder

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture(scope="module")
def encoder(pack, tmp_path_factory) -> Path:
    return graphs.save_tiny_encoder(pack, tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="module")
def drawn(pack, tmp_path_factory) -> list[bytes]:
    """Six drawn garments."""
    folder = tmp_path_factory.mktemp("drawn")
    pack.module("unifashion_core.wardrobe").save_collection(folder, 4, 6, 64)
    return [path.read_bytes() for path in sorted(folder.glob("*.png"))]


@pytest.fixture
def photos(drawn, tmp_path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    for number, data in enumerate(drawn):
        (folder / f"{number}.png").write_bytes(data)
    return folder


@pytest.fixture(scope="module")
def command(pack, encoder):
    """Run a command line on the tiny encoder; the exit code."""
    cli = pack.module("nodes._cli")

    def run(*words: object, name: str = "caption") -> int:
        parser: argparse.ArgumentParser = cli.command_parser(name)
        args = parser.parse_args([*map(str, words), "--encoder", str(encoder)])
        args.parser, args.pack = parser, ROOT
        return cli._module(cli.COMMANDS[name]).run(args)

    return run


def lines(text: str) -> list[dict[str, Any]]:
    return [json.loads(line) for line in text.splitlines()]


def listing(folder: Path) -> list[dict[str, Any]]:
    return lines((folder / "captions.jsonl").read_text("utf-8"))


def test_a_line_an_image_with_what_failed_and_nothing_else_on_stdout(command, photos, capsys):
    (photos / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 no picture")
    assert command("--images", photos, "--json") == 0
    found = lines(capsys.readouterr().out)
    assert [Path(line["path"]).name for line in found] == [
        *(f"{number}.png" for number in range(6)),
        "broken.jpg",
    ]
    assert all(set(line) == {"path", "caption", "attributes"} for line in found[:-1])
    assert set(found[-1]) == {"path", "error"}
    assert sorted(p.suffix for p in photos.iterdir()) == [".jpg", *[".png"] * 6]


def test_files_are_captioned_where_they_lie(command, photos, capsys):
    files = sorted(photos.glob("*.png"))[:2]
    assert command("--images", *files, "--write", "txt,jsonl", "--json") == 0
    said = lines(capsys.readouterr().out)
    for path, line, stored in zip(files, said, listing(photos), strict=True):
        assert path.with_suffix(".txt").read_text("utf-8") == line["caption"]
        assert stored["image_sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
    assert len(list(photos.glob("*.txt"))) == 2


def test_without_json_a_person_reads_captions_and_a_summary(command, photos, capsys):
    assert command("--images", photos / "0.png") == 0
    printed = capsys.readouterr()
    assert printed.out.startswith(f"{photos / '0.png'}: ")
    assert "1 pictures: 1 captioned" in printed.err


def test_style_and_its_options_reach_the_texts_and_out_takes_them(command, photos, tmp_path):
    words = ["--style", "lora", "--trigger", "ohwx", "--suffix", ", studio"]
    out = tmp_path / "texts"
    assert command("--images", photos, "--write", "txt", "--out", out, *words) == 0
    texts = [path.read_text("utf-8") for path in sorted(out.glob("*.txt"))]
    assert len(texts) == len(listing(out)) == 6
    assert all(t.startswith("ohwx, ") and t.endswith(", studio") for t in texts)
    assert not list(photos.glob("*.txt"))


def test_nucleus_differs_by_seed_and_greedy_does_not(command, photos, capsys):
    def said(*words: object) -> list[str]:
        assert command("--images", photos, "--json", "--max-tokens", 12, *words) == 0
        return [line["caption"] for line in lines(capsys.readouterr().out)]

    draw = ("--decoding", "nucleus", "--seed")
    assert said(*draw, 1) == said(*draw, 1) != said(*draw, 2)
    assert said("--decoding", "greedy", "--seed", 1) == said("--decoding", "greedy", "--seed", 2)


def test_an_encoder_can_be_given_as_captioner(command, encoder, photos, capsys):
    assert command("--images", photos / "0.png", "--json") == 0
    assert command("--images", photos / "0.png", "--json", "--captioner", encoder) == 0
    first, second = lines(capsys.readouterr().out)
    assert first == second


@pytest.mark.image_processors
@pytest.mark.slow  # test_caption_vlm.py captions with every family, the nodes with attributes
def test_a_vision_language_folder_captions_with_the_encoders_attributes(
    command, photos, tmp_path, capsys
):
    model = blip2_folder(tmp_path / "blip2")
    words = ["--images", photos, "--json", "--captioner", model, "--max-tokens", 12]
    assert command(*words) == 0
    alone = lines(capsys.readouterr().out)
    assert command(*words, "--attributes-from", "encoder") == 0
    helped = lines(capsys.readouterr().out)
    assert command("--images", photos, "--json") == 0
    encoder = lines(capsys.readouterr().out)
    assert [line.get("attributes", line) for line in alone] == [None] * 6
    assert [line["attributes"] for line in helped] == [line["attributes"] for line in encoder]
    assert [line["caption"] for line in helped] == [line["caption"] for line in alone]


@pytest.mark.slow
def test_a_model_that_answers_without_json_fails_image_by_image(command, photos, tmp_path, capsys):
    model = llava_folder(tmp_path / "llava")  # random weights: no JSON comes
    assert command("--images", photos, "--json", "--captioner", model, "--max-tokens", 4) == 1
    found = lines(capsys.readouterr().out)
    assert [set(line) for line in found] == [{"path", "error"}] * 6


def test_wrong_usage_is_exit_2(command, photos, tmp_path):
    for words in (
        ["--images", photos, "--write", "csv"],
        ["--images", photos, "--out", tmp_path],
        ["--images", photos, "--batch-size", 0],
        ["--gallery", tmp_path, "--write", "txt"],
        [],
    ):
        with pytest.raises(SystemExit) as stopped:
            command(*words)
        assert stopped.value.code == 2


def test_where_every_picture_fails_the_exit_is_1(command, tmp_path, capsys):
    (tmp_path / "a.jpg").write_bytes(b"")
    assert command("--images", tmp_path, "--json") == 1
    assert [set(line) for line in lines(capsys.readouterr().out)] == [{"path", "error"}]


def test_bad_input_is_refused_before_the_model_loads(pack, command, photos, tmp_path):
    errors = pack.module("unifashion_core.errors")
    (tmp_path / "empty").mkdir()
    with pytest.raises(errors.FolderError, match="no picture"):
        command("--images", tmp_path / "empty")
    with pytest.raises(errors.InputError, match="trigger"):
        command("--images", photos, "--style", "lora")
    with pytest.raises(errors.InputError, match="no 'poem'"):
        command("--images", photos, "--style", "poem")
    with pytest.raises(errors.FolderError, match="no such file"):
        command("--images", photos, "--captioner", tmp_path / "nothing")


def test_a_gallery_captions_itself(command, photos, tmp_path, capsys):
    gallery = tmp_path / "g"
    assert command("--gallery", gallery, "--images", photos, name="index") == 0
    capsys.readouterr()
    for counts in ({"captioned": 6, "skipped": 0}, {"captioned": 0, "skipped": 6}):
        assert command("--gallery", gallery, "--json") == 0
        assert json.loads(capsys.readouterr().out) == {**counts, "failed": [], "total": 6}
    words = ["--gallery", gallery, "--text", "a red dress", "--json"]
    scores: list[list[float]] = []
    for weight in (0, 1):
        assert command(*words, "--caption-weight", weight, name="search") == 0
        found = json.loads(capsys.readouterr().out)
        scores.append([hit["score"] for hit in found["hits"]])
        assert all(hit["columns"]["caption"] for hit in found["hits"])
    assert scores[0] != scores[1]


COMMAND = """
import importlib.util, sys
spec = importlib.util.spec_from_file_location(
    "pack", sys.argv[1] + "/__init__.py", submodule_search_locations=[sys.argv[1]]
)
module = importlib.util.module_from_spec(spec)
sys.modules["pack"] = module
spec.loader.exec_module(module)
from pack.nodes import _cli
sys.exit(_cli.main(sys.argv[2:], sys.argv[1]))
"""


@pytest.mark.slow
@pytest.mark.skipif(os.name == "nt", reason="SIGKILL is a signal of POSIX systems")
def test_killed_half_way_it_goes_on_without_making_one_twice(command, drawn, encoder, tmp_path):
    """A real kill, while texts are being written."""
    folder = tmp_path / "photos"
    folder.mkdir()
    for number in range(120):  # all different: a byte behind the end changes no picture
        (folder / f"{number:03d}.png").write_bytes(drawn[number % 6] + bytes([number]))
    words = ["caption", "--images", str(folder), "--write", "txt", "--encoder", str(encoder)]
    words += ["--batch-size", "2", "--decoding", "greedy"]
    run = subprocess.Popen(
        [sys.executable, "-c", COMMAND, str(ROOT), *words],
        env={**os.environ, "UNIFASHION_INSIDE": str(ROOT)},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    until = time.monotonic() + 120
    while run.poll() is None and time.monotonic() < until:
        if len(list(folder.glob("*.txt"))) >= 20:
            break
        time.sleep(0.005)
    run.send_signal(signal.SIGKILL)
    assert run.wait() == -signal.SIGKILL
    written = {path: path.read_bytes() for path in folder.glob("*.txt")}
    assert 20 <= len(written) < 120
    assert all(written.values())
    state = (folder / "captions.jsonl").read_bytes()
    whole = state[: state.rfind(b"\n") + 1]  # a last line may be torn
    assert command(*words[1:5], "--batch-size", 2, "--decoding", "greedy") == 0
    assert {path: path.read_bytes() for path in written} == written
    after = (folder / "captions.jsonl").read_bytes()
    assert after.startswith(whole)  # nothing was renewed, so nothing was tidied
    assert [line["path"] for line in lines(after.decode())] == [f"{n:03d}.png" for n in range(120)]
    assert len(list(folder.glob("*.txt"))) == 120
    assert not list(folder.glob(".*"))

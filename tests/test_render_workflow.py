"""`render WORKFLOW.json` on the embedded host: tables, columns, resuming, failures."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from node_graphs import node
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


def garment_graph(**changes: object) -> dict:
    inputs = {"what": "garment", "category": "any", "seed": 3, "count": 1, "size": 64}
    graph = {
        "1": node("UniFashion_SampleWardrobe", **inputs, folder_name="w"),
        "2": node("SaveImage", images=["1", 0], filename_prefix="shot"),
        "3": node("PreviewImage", images=["1", 0]),
    }
    graph["1"]["inputs"] |= changes
    graph["1"]["_meta"] = {"title": "The garment"}
    return graph


def photo_graph() -> dict:
    return {
        "7": node("LoadImage", image="own.png"),
        "8": node("SaveImage", images=["7", 0], filename_prefix="shot"),
    }


@pytest.fixture(scope="module")
def render(pack, tmp_path_factory):
    """Run the command; exit code."""
    cli = pack.module("nodes._cli")
    home = tmp_path_factory.mktemp("galleries")

    def run(*words: object) -> int:
        parser: argparse.ArgumentParser = cli.command_parser("render")
        args = parser.parse_args([*map(str, words)])
        args.galleries = args.galleries or (None if args.server else home)
        args.parser, args.pack = parser, ROOT
        return cli._module(cli.COMMANDS["render"]).run(args)

    return run


@pytest.fixture
def error(pack):
    return pack.module("unifashion_core.errors").UniFashionError


def write(path: Path, value: object) -> Path:
    path.write_text(value if isinstance(value, str) else json.dumps(value), "utf-8")
    return path


def lines(out: Path) -> list[dict]:
    return [json.loads(t) for t in (out / "manifest.jsonl").read_text("utf-8").splitlines()]


def result(capsys) -> dict:
    return json.loads(capsys.readouterr().out)


def test_a_table_gives_a_picture_a_line_and_a_second_run_makes_none(render, tmp_path, capsys):
    graph = write(tmp_path / "w.json", garment_graph())
    table = write(tmp_path / "t.csv", "1.seed,The garment.category\n1,dress\n2,\n3,hat\n")
    out = tmp_path / "out"
    assert render(graph, "--items", table, "--out", out, "--json") == 0
    first = result(capsys)
    assert (first["total"], first["done"], first["skipped"], first["failed"]) == (3, 3, 0, [])
    assert first["servers"] == {}
    assert Path(first["manifest"]) == out / "manifest.jsonl"
    pictures = sorted(p.name for p in out.glob("*.png"))
    ids = [line["id"][:8] for line in lines(out)]
    assert pictures == [f"{n:05d}_{i}_2_0.png" for n, i in enumerate(ids)]
    assert [line["seed"] for line in lines(out)] == [1, 2, 3]
    assert {len(line["files"]) for line in lines(out)} == {1}  # previews are not kept
    assert len({(out / name).read_bytes() for name in pictures}) == 3
    times = {p: p.stat().st_mtime_ns for p in out.glob("*.png")}
    assert render(graph, "--items", table, "--out", out, "--json") == 0
    second = result(capsys)
    assert (second["done"], second["skipped"]) == (0, 3)
    assert {p: p.stat().st_mtime_ns for p in out.glob("*.png")} == times
    assert not list((out / "host" / "output").rglob("*.png"))
    page = (out / "index.html").read_text("utf-8")
    assert all(name in page for name in pictures)
    assert len(list((out / "thumbs").iterdir())) == 3


def test_an_edited_table_makes_only_what_is_new_and_keeps_places(render, tmp_path, capsys):
    graph, out = write(tmp_path / "w.json", garment_graph()), tmp_path / "out"
    table = write(tmp_path / "t.csv", "1.seed\n1\n2\n")
    assert render(graph, "--items", table, "--out", out) == 0
    kept = {p.name for p in out.glob("*.png")}
    write(table, "1.seed\n5\n2\n")
    capsys.readouterr()
    assert render(graph, "--items", table, "--out", out, "--json") == 0
    assert (result(capsys)["done"], len(lines(out))) == (1, 3)
    assert kept < {p.name for p in out.glob("*.png")}
    assert lines(out)[-1]["index"] == 0


def test_an_item_alone_equals_the_item_of_the_run(render, tmp_path, capsys):
    graph = write(tmp_path / "w.json", garment_graph())
    table = write(tmp_path / "t.jsonl", "\n".join(f'{{"1.seed": {n}}}' for n in range(4)))
    assert render(graph, "--items", table, "--out", tmp_path / "all") == 0
    capsys.readouterr()
    assert render(graph, "--items", table, "--out", tmp_path / "one", "--only", "2", "--json") == 0
    assert result(capsys)["total"] == 1
    (alone,) = (tmp_path / "one").glob("*.png")
    same = tmp_path / "all" / alone.name
    assert Image.open(alone).tobytes() == Image.open(same).tobytes()


def test_files_are_beside_the_table_and_a_bad_one_fails_alone(render, tmp_path, capsys):
    (tmp_path / "photos").mkdir()
    Image.new("RGB", (8, 8), "red").save(tmp_path / "photos" / "a.png")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "own.png")
    (tmp_path / "photos" / "broken.png").write_bytes(b"no picture")
    graph, out = write(tmp_path / "w.json", photo_graph()), tmp_path / "out"
    rows = "7.image\nphotos/a.png\nphotos/broken.png\nphotos/gone.png\n\n"
    table = write(tmp_path / "t.csv", rows)
    assert render(graph, "--items", table, "--out", out, "--json") == 0
    told = result(capsys)
    assert [f["index"] for f in told["failed"]] == [1, 2]
    assert "node 7 (LoadImage)" in told["failed"][0]["reason"]
    assert "gone.png: no such file" in told["failed"][1]["reason"]
    states = {line["index"]: (line["state"], line["error"]) for line in lines(out)}
    assert states[0] == ("done", None)
    assert states[1][0] == "failed"
    Image.new("RGB", (8, 8), "green").save(tmp_path / "photos" / "broken.png")
    assert render(graph, "--items", table, "--out", out, "--json") == 0
    assert result(capsys)["done"] == 1  # its content is another one now
    table.write_text("7.image\nphotos/gone.png\n", "utf-8")
    assert render(graph, "--items", table, "--out", tmp_path / "none") == 1
    assert render(graph, "--out", tmp_path / "own") == 0  # the graph's own file, beside it
    (own,) = (tmp_path / "own").glob("*.png")
    assert Image.open(own).convert("RGB").getpixel((0, 0)) == (0, 0, 255)


def test_moved_files_are_the_same_items(render, tmp_path, capsys):
    graph, out = write(tmp_path / "w.json", photo_graph()), tmp_path / "out"
    Image.new("RGB", (8, 8), "red").save(tmp_path / "a.png")
    assert render(graph, "--set", f"7.image={tmp_path / 'a.png'}", "--out", out) == 0
    (tmp_path / "a.png").rename(tmp_path / "b.png")
    capsys.readouterr()
    assert render(graph, "--set", f"7.image={tmp_path / 'b.png'}", "--out", out, "--json") == 0
    assert result(capsys)["skipped"] == 1


def test_batches_are_kept_whole_and_numbered(render, tmp_path, pack):
    graph = garment_graph(what="collection", count=3)
    path, out = write(tmp_path / "w.json", graph), tmp_path / "out"
    assert render(path, "--out", out) == 0
    (line,) = lines(out)
    assert [Path(f["file"]).stem[-3:] for f in line["files"]] == ["2_0", "2_1", "2_2"]
    assert {f["node"] for f in line["files"]} == {"2"}


def test_a_picture_whose_line_was_lost_is_adopted_whole_or_made_again(render, tmp_path, capsys):
    graph, out = write(tmp_path / "w.json", garment_graph()), tmp_path / "out"
    table = write(tmp_path / "t.csv", "1.seed\n1\n2\n3\n")
    assert render(graph, "--items", table, "--out", out) == 0
    whole = (out / "manifest.jsonl").read_bytes().splitlines(keepends=True)
    (out / "manifest.jsonl").write_bytes(whole[0] + whole[1][:40])
    torn = out / json.loads(whole[2])["files"][0]["file"]
    torn.write_bytes(torn.read_bytes()[:-200])
    capsys.readouterr()
    assert render(graph, "--items", table, "--out", out, "--json") == 0
    told = result(capsys)
    assert (told["done"], told["skipped"]) == (1, 2)
    assert [line["id"] for line in lines(out)] == [json.loads(text)["id"] for text in whole]
    Image.open(torn).load()


def test_part_of_a_batch_is_never_adopted(render, tmp_path, capsys):
    graph = write(tmp_path / "w.json", garment_graph(what="collection", count=3))
    out = tmp_path / "out"
    assert render(graph, "--out", out) == 0
    (out / "manifest.jsonl").write_bytes(b"")
    for picture in out.glob("*_[01].png"):  # the first one is written last
        picture.unlink()
    capsys.readouterr()
    assert render(graph, "--out", out, "--json") == 0
    assert (result(capsys)["done"], len(list(out.glob("*.png")))) == (1, 3)


def test_dry_run_counts_and_writes_nothing(render, tmp_path, capsys):
    graph, out = write(tmp_path / "w.json", garment_graph()), tmp_path / "out"
    table = write(tmp_path / "t.csv", "1.seed\n1\n2\n3\n")
    words = (graph, "--items", table, "--out", out, "--dry-run", "--json")
    assert render(*words) == 0
    told = result(capsys)
    assert (told["total"], told["todo"], told["estimate_seconds"]) == (3, 3, None)
    assert not out.exists()
    assert render(graph, "--items", table, "--out", out, "--only", "0") == 0
    capsys.readouterr()
    assert render(*words) == 0
    told = result(capsys)
    assert (told["skipped"], told["todo"]) == (1, 2)
    assert told["estimate_seconds"] >= 0


def test_fresh_wants_an_empty_folder_and_another_job_another_one(render, error, tmp_path):
    graph, out = write(tmp_path / "w.json", garment_graph()), tmp_path / "out"
    assert render(graph, "--out", out, "--fresh") == 0
    with pytest.raises(error, match="not empty"):
        render(graph, "--out", out, "--fresh")
    with pytest.raises(error, match="holds another job"):
        render(graph, "--set", "1.size=96", "--out", out)
    graph_again = garment_graph()
    graph_again["1"]["_meta"] = {"title": "Another title"}
    write(graph, graph_again)
    assert render(graph, "--out", out) == 0  # titles change nothing


def test_fixed_seeds_without_a_column_are_told(render, tmp_path, capsys):
    graph, out = write(tmp_path / "w.json", garment_graph()), tmp_path / "out"
    table = write(tmp_path / "t.csv", "1.category\ndress\nhat\ndress\n")
    assert render(graph, "--items", table, "--out", out, "--json") == 0
    said = capsys.readouterr()
    assert "The seeds are fixed (1.seed)" in said.err
    assert "line 4: the same as item 0; it is made once" in said.err
    assert json.loads(said.out)["total"] == 2
    seeded = write(tmp_path / "s.csv", "1.seed\n3\n")
    assert render(graph, "--items", seeded, "--out", out) == 0
    assert "seeds are fixed" not in capsys.readouterr().err


@pytest.mark.parametrize(
    ("column", "value", "problem"),
    [
        ("9.seed", "1", r"'9.seed': no such node"),
        ("seed", "1", r"'seed': no such node"),
        ("1.colour", "1", r"has no input 'colour'"),
        ("2.images", "x", r"takes a connection \(IMAGE\)"),
        ("1.seed", "many", r"line 2: 1.seed is 'many', wanted a whole number"),
        ("Save.filename_prefix", "x", r"nodes 2, 3 all have the title 'Save'"),
        ("1.category", "spaceship", r"category has no choice 'spaceship'"),
    ],
)
def test_a_column_that_means_nothing_is_told_before_anything_runs(
    render, error, tmp_path, column, value, problem
):
    graph = garment_graph()
    graph["2"]["_meta"] = graph["3"]["_meta"] = {"title": "Save"}
    path = write(tmp_path / "w.json", graph)
    table = write(tmp_path / "t.csv", f"{column}\n{value}\n")
    with pytest.raises(error, match=problem):
        render(path, "--items", table, "--out", tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_longest_title_before_a_dot_counts_and_an_id_before_a_title(pack):
    workflow = pack.module("nodes._cli._workflow")
    graph = garment_graph()
    graph["2"]["_meta"] = {"title": "The garment.size"}
    info = {
        kind: {"input": {"required": {"size": ["INT"], "on": ["BOOLEAN"]}}}
        for kind in ("UniFashion_SampleWardrobe", "SaveImage", "PreviewImage")
    }
    assert workflow.find_target("The garment.size.size", graph, info).node == "2"
    assert workflow.find_target("The garment.size", graph, info).node == "1"
    graph["3"]["_meta"] = {"title": "1"}
    assert workflow.find_target("1.size", graph, info).node == "1"
    on = workflow.find_target("1.on", graph, info)
    values = [workflow.cast_value(on, v, "w") for v in ("TRUE", "false", True, False)]
    assert values == [True, False, True, False]


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ('{"nodes": [], "links": []}', r"choose Workflow > Export \(API\)"),
        ('{"a": 1}', "no key 'a' is known"),
        ("nothing", "not JSON"),
    ],
)
def test_what_is_no_api_workflow_is_explained(render, error, tmp_path, text, problem):
    with pytest.raises(error, match=problem):
        render(write(tmp_path / "w.json", text), "--out", tmp_path / "out")


def test_a_template_for_the_page_is_refused(render, error, tmp_path):
    template = ROOT / "workflows" / "02_search_by_text.json"
    with pytest.raises(error, match="Export"):
        render(template, "--out", tmp_path / "out")


def test_a_missing_node_is_told_before_the_first_item(render, error, tmp_path):
    graph = garment_graph()
    graph["5"] = node("SomebodysSampler", images=["1", 0])
    with pytest.raises(error, match="this machine: node 5: no node class SomebodysSampler"):
        render(write(tmp_path / "w.json", graph), "--out", tmp_path / "out")


@pytest.mark.parametrize("only", ["x", "1-", "3", "2-1", "-1", "0,,1"])
def test_only_names_places_that_are_there(render, error, tmp_path, only):
    graph = write(tmp_path / "w.json", garment_graph())
    table = write(tmp_path / "t.csv", "1.seed\n1\n2\n3\n")
    with pytest.raises(error, match="--only"):
        render(graph, "--items", table, "--out", tmp_path / "o", f"--only={only}", "--dry-run")


@pytest.mark.slow
def test_what_was_made_can_be_searched(pack, render, tmp_path, capsys):
    graph, out = write(tmp_path / "w.json", garment_graph()), tmp_path / "out"
    table = write(tmp_path / "t.csv", "1.seed,1.category\n1,dress\n2,hat\n")
    words = ("--items", table, "--out", out, "--add-to", tmp_path / "made")
    assert render(graph, *words) == 0
    gallery = pack.module("unifashion_core.retrieval.store").open_gallery(tmp_path / "made")
    with gallery.snapshot() as snapshot:
        items = snapshot.items(snapshot.item_rows().ids.tolist())
    assert [item.columns["1.category"] for item in items] == ["dress", "hat"]
    assert [item.columns["seed"] for item in items] == [1, 2]
    assert all(item.columns["caption"] for item in items)
    capsys.readouterr()
    assert render(graph, *words) == 0
    assert "made: 0 added, 2 were there" in capsys.readouterr().err


@pytest.mark.slow
@pytest.mark.parametrize("name", ["02_search_by_text", "06_prepare_a_person_and_a_garment"])
def test_our_templates_render(render, tmp_path, name):
    graph = json.loads((ROOT / "workflows" / "api" / f"{name}.json").read_text("utf-8"))
    graph["1"]["inputs"] |= {"count": 12, "size": 128}
    kinds = {n["class_type"]: k for k, n in graph.items()}
    sheet = kinds.get("UniFashion_ContactSheet")
    shown = [sheet, 0] if sheet else graph[kinds["PreviewImage"]]["inputs"]["images"]
    graph["save"] = node("SaveImage", images=shown, filename_prefix="x")
    path, out = write(tmp_path / "w.json", graph), tmp_path / "out"
    assert render(path, "--out", out) == 0
    assert [line["state"] for line in lines(out)] == ["done"]


@pytest.mark.slow
def test_a_kill_in_the_middle_and_the_same_command_again(tmp_path):
    graph = write(tmp_path / "w.json", garment_graph(size=256))
    table = write(tmp_path / "t.csv", "1.seed\n" + "".join(f"{n}\n" for n in range(12)))
    out = tmp_path / "out"
    command = [sys.executable, str(ROOT / "run.py"), "render", str(graph), "--items", str(table)]
    command += ["--out", str(out), "--json"]
    ready = {**os.environ, "UNIFASHION_INSIDE": str(ROOT)}
    process = subprocess.Popen(command, env=ready, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    for _ in range(1200):
        if (out / "manifest.jsonl").is_file() and len(lines(out)) >= 3:
            break
        assert process.poll() is None, process.communicate()
        time.sleep(0.05)
    os.kill(process.pid, signal.SIGKILL)
    process.communicate()
    before = lines(out)
    made = {p: p.stat().st_mtime_ns for p in (out / line["files"][0]["file"] for line in before)}
    assert 3 <= len(before) < 12
    again = subprocess.run(command, env=ready, capture_output=True, check=True)
    told = json.loads(again.stdout)
    assert told["done"] + told["skipped"] == told["total"] == 12
    assert told["skipped"] - len(before) in (0, 1)  # one may have lost its line alone
    assert {p: p.stat().st_mtime_ns for p in made} == made
    assert len({line["id"] for line in lines(out)}) == len(lines(out)) == 12
    for line in lines(out):
        Image.open(out / line["files"][0]["file"]).load()

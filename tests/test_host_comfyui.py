"""The pack inside a real ComfyUI: it loads, tells the same schemas, runs its templates, stops when
told to, gives its memory back, and serves `render --server`."""

from __future__ import annotations

import argparse
import json
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("aiohttp", reason="aiohttp talks to the host in these tests")

import host_servers
from host_servers import Client
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent
WORKFLOWS = sorted((ROOT / "workflows" / "api").glob("*.json"))
NAME = "ComfyUI-UniFashion"

pytestmark = pytest.mark.comfy


@pytest.fixture(scope="module")
def comfyui(tmp_path_factory: Any) -> Iterator[Client]:
    base = tmp_path_factory.mktemp("comfyui")
    with host_servers.comfyui(base, {NAME: ROOT}) as client:
        yield client


def own(info: dict[str, Any]) -> dict[str, Any]:
    """The pack's nodes, without where they come from."""
    found = {name: dict(entry) for name, entry in info.items() if name.startswith("UniFashion_")}
    for entry in found.values():
        del entry["python_module"]
    return found


def test_both_hosts_tell_the_same_schemas(comfyui, pack, tmp_path):
    expected = json.loads(json.dumps(own(pack.make_host(tmp_path).object_info())))
    assert own(comfyui.get("/object_info")) == expected


def test_the_templates_are_listed(comfyui):
    names = [path.stem for path in WORKFLOWS]
    assert sorted(comfyui.get("/workflow_templates")[NAME]) == names


@pytest.mark.parametrize("path", WORKFLOWS, ids=lambda p: p.stem)
def test_a_template_runs(comfyui, path):
    answer = comfyui.run(json.loads(path.read_text(encoding="utf-8")))
    assert answer.status == 200, answer.body
    assert answer.body["node_errors"] == {}
    assert answer.end == "execution_success", answer.events[-1]


def try_on(**settings: Any) -> dict[str, Any]:
    """Template 07 with other settings of its sampler."""
    graph = json.loads((ROOT / "workflows" / "api" / "07_try_on.json").read_text("utf-8"))
    graph["5"]["inputs"].update(settings)
    return graph


def test_a_value_out_of_range_never_reaches_the_node(comfyui):
    answer = comfyui.run(try_on(steps=10**6))
    assert answer.problems("5") == ["value_bigger_than_max"]
    assert "5" not in answer.ran  # what does not hang on it is shown all the same
    assert answer.end == "execution_success"


def test_an_interrupt_stops_sampling_within_a_step(comfyui):
    second = 2
    answer = comfyui.run(
        try_on(steps=50, seed=91),
        when=lambda kind, data: (
            kind == "progress" and data["node"] == "5" and data["value"] >= second
        ),
        interrupt={},
    )
    assert answer.end == "execution_interrupted"
    assert answer.events[-1][1]["node_id"] == "5"
    steps = [data["value"] for data in answer.of("progress") if data["node"] == "5"]
    assert max(steps) <= second + 2  # one that ran while the request travelled


def test_after_free_a_model_comes_back_and_paints_the_same(comfyui):
    def saved(answer: Any) -> bytes:
        assert answer.end == "execution_success", answer.events[-1]
        (done,) = (d for d in answer.of("executed") if d["node"] == "6")
        (file,) = done["output"]["images"]
        path = comfyui.folders["output"] / file["subfolder"] / file["filename"]
        with Image.open(path) as image:
            return image.tobytes()

    before = saved(comfyui.run(try_on(seed=92)))
    comfyui.call("POST", "/free", json={"unload_models": True, "free_memory": True})
    again = comfyui.run(try_on(seed=92))
    assert "3" in again.ran  # the loader too: nothing of ours kept the model
    assert saved(again) == before


def test_two_servers_share_a_table_and_one_that_is_killed_loses_nothing(
    comfyui, pack, tmp_path, capsys
):
    with ExitStack() as stack:
        doomed = stack.enter_context(host_servers.comfyui(tmp_path / "doomed", {NAME: ROOT}))
        graph, table, out = tmp_path / "w.json", tmp_path / "t.csv", tmp_path / "out"
        graph.write_text(json.dumps(try_on()), "utf-8")
        seeds = range(200, 212)
        table.write_text("5.seed\n" + "".join(f"{seed}\n" for seed in seeds), "utf-8")

        def kill() -> None:
            output = doomed.folders["output"] / "UniFashion"
            while not (output.is_dir() and len(list(output.glob("*.png"))) > 2):
                time.sleep(0.02)
            assert doomed.process is not None
            doomed.process.send_signal(signal.SIGKILL)

        threading.Thread(target=kill, daemon=True).start()
        cli = pack.module("nodes._cli")
        parser: argparse.ArgumentParser = cli.command_parser("render")
        words = ["--items", str(table), "--out", str(out), "--json"]
        words += ["--server", doomed.url, "--server", comfyui.url]
        args = parser.parse_args([str(graph), *words])
        args.parser, args.pack = parser, ROOT
        assert cli._module(cli.COMMANDS["render"]).run(args) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["done"], told["failed"]) == (len(seeds), [])
    shares = {url: server["done"] for url, server in told["servers"].items()}
    assert min(shares.values()) >= 1, shares
    assert told["servers"][doomed.url]["state"].startswith("lost")
    lines = (out / "manifest.jsonl").read_text("utf-8").splitlines()
    assert len({json.loads(line)["id"] for line in lines}) == len(lines) == len(seeds)

"""`render --server`: shared work, a server that dies, errors of the graph, uploads."""

from __future__ import annotations

import argparse
import json
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
import render_server
from PIL import Image

ROOT = Path(__file__).resolve().parent.parent


@pytest.fixture
def serve(pack, tmp_path) -> Iterator[Any]:
    """Start a server in this process; more options go to its host."""
    http = pack.module("nodes._host.http")
    with ExitStack() as stack:

        def start(name: str, nodes: list[type] | None = None) -> Any:
            known = render_server.wait_nodes(pack.comfy) if nodes is None else nodes
            return stack.enter_context(http.HostServer(pack.make_host(tmp_path / name, known)))

        yield start


@pytest.fixture
def render(pack):
    cli = pack.module("nodes._cli")

    def run(*words: object) -> int:
        parser: argparse.ArgumentParser = cli.command_parser("render")
        args = parser.parse_args([*map(str, words)])
        args.parser, args.pack = parser, ROOT
        return cli._module(cli.COMMANDS["render"]).run(args)

    return run


def work(tmp_path: Path, seeds: Any, seconds: float = 0.0) -> tuple[Path, Path]:
    graph, table = tmp_path / "w.json", tmp_path / "t.csv"
    graph.write_text(json.dumps(render_server.wait_graph(seconds)), "utf-8")
    table.write_text("1.seed\n" + "".join(f"{s}\n" for s in seeds), "utf-8")
    return graph, table


def lines(out: Path) -> list[dict]:
    return [json.loads(t) for t in (out / "manifest.jsonl").read_text("utf-8").splitlines()]


def test_two_servers_share_the_work_and_an_error_is_the_items_own(serve, render, tmp_path, capsys):
    first, second = serve("a"), serve("b")
    graph, table = work(tmp_path, range(8, 20), 0.1)
    out = tmp_path / "out"
    words = ["--server", first.url, "--server", second.url + "/"]
    assert render(graph, "--items", table, "--out", out, "--json", *words) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["total"], told["done"]) == (12, 11)
    (failure,) = told["failed"]
    assert failure["index"] == 5
    assert failure["reason"] == "node 1 (TestWait): thirteen is not a seed"
    shares = [told["servers"][url]["done"] for url in (first.url, second.url)]
    assert sum(shares) == 11
    assert min(shares) >= 3
    for line in lines(out):
        if line["state"] == "done":
            (made,) = line["files"]
            assert made["node"] == "2"
            assert Image.open(out / made["file"]).getpixel((0, 0)) == (line["seed"],) * 3


@pytest.mark.slow
def test_a_server_that_is_killed_gives_its_items_to_the_others(serve, render, tmp_path, capsys):
    steady = serve("a")
    script = Path(render_server.__file__)
    process = subprocess.Popen(
        [sys.executable, str(script), str(tmp_path / "b")], stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    doomed = process.stdout.readline().strip()
    out = tmp_path / "out"
    graph, table = work(tmp_path, range(100, 116), 0.3)

    def kill() -> None:
        output = tmp_path / "b" / "output"
        while not (output.is_dir() and list(output.glob("*.png"))):
            time.sleep(0.01)
        os.kill(process.pid, signal.SIGKILL)

    threading.Thread(target=kill, daemon=True).start()
    words = ["--server", doomed, "--server", steady.url, "--json"]
    assert render(graph, "--items", table, "--out", out, *words) == 0
    process.wait()
    told = json.loads(capsys.readouterr().out)
    assert (told["done"], told["failed"]) == (16, [])
    assert told["servers"][doomed]["state"].startswith("lost")
    assert told["servers"][steady.url]["state"] == "finished"
    ids = [line["id"] for line in lines(out)]
    assert len(ids) == len(set(ids)) == 16


def test_files_are_uploaded_once_under_their_content(serve, render, tmp_path, capsys):
    server = serve("a")
    for name in ("x", "y"):
        Image.new("RGB", (8, 8), "red").save(tmp_path / f"{name}.png")
    Image.new("RGB", (8, 8), "blue").save(tmp_path / "z.png")
    graph = render_server.wait_graph()
    graph["1"]["inputs"]["image"] = ["3", 0]
    graph["3"] = {"class_type": "LoadImage", "inputs": {"image": "on the server.png"}}
    path = tmp_path / "w.json"
    path.write_text(json.dumps(graph), "utf-8")
    table = tmp_path / "t.csv"
    table.write_text("3.image,1.seed\nx.png,1\ny.png,2\nz.png,3\nnone.png,4\n", "utf-8")
    out = tmp_path / "out"
    words = ["--server", server.url, "--json"]
    assert render(path, "--items", table, "--out", out, *words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["done"] == 3
    assert "none.png" in told["failed"][0]["reason"]
    assert len(list((tmp_path / "a" / "input" / "unifashion").iterdir())) == 2
    colours = {
        line["seed"]: Image.open(out / line["files"][0]["file"]).getpixel((0, 0))
        for line in lines(out)
        if line["files"]
    }
    assert colours == {1: (255, 0, 0), 2: (255, 0, 0), 3: (0, 0, 255)}


def test_missing_nodes_are_told_of_each_server_before_the_first_item(pack, serve, render, tmp_path):
    good, bare = serve("a"), serve("b", [])
    graph, table = work(tmp_path, range(3))
    errors = pack.module("unifashion_core.errors")
    with pytest.raises(errors.InputError, match=f"{bare.url}: node 1: no node class TestWait"):
        render(
            graph, "--items", table, "--out", tmp_path / "o", "--server", good.url,
            "--server", bare.url,
        )  # fmt: skip
    assert not (tmp_path / "o").exists()


def test_no_server_at_all_is_one_error_and_a_dead_one_is_passed_over(
    pack, serve, render, tmp_path, capsys
):
    errors = pack.module("unifashion_core.errors")
    graph, table = work(tmp_path, range(3))
    dead = "http://127.0.0.1:9"
    with pytest.raises(errors.UniFashionError, match="No server can be reached: http"):
        render(graph, "--items", table, "--out", tmp_path / "o", "--server", dead)
    with pytest.raises(errors.InputError, match="wanted an address such as"):
        render(graph, "--items", table, "--out", tmp_path / "o", "--server", "127.0.0.1:8188")
    words = ["--server", dead, "--server", serve("a").url, "--json"]
    assert render(graph, "--items", table, "--out", tmp_path / "o", *words) == 0
    told = json.loads(capsys.readouterr().out)
    assert told["done"] == 3
    assert told["servers"][dead]["state"].startswith("lost")


class _Stumbling:
    """Answers the first POSTs of /prompt with 503, and notes the headers that it gets."""

    def __init__(self, aiohttp: Any, target: str, refusals: int):
        self.web, self.aiohttp = aiohttp.web, aiohttp
        self.target, self.left = target, refusals
        self.headers: set[str | None] = set()
        self.pipes: list[Any] = []

    async def close(self, app: Any) -> None:
        for pipe in self.pipes:
            await pipe.close()

    async def handle(self, request: Any) -> Any:
        self.headers.add(request.headers.get("X-Key"))
        if request.path == "/below/prompt" and self.left > 0:
            self.left -= 1
            return self.web.Response(status=503)
        address = self.target + request.path_qs.removeprefix("/below")
        if request.path == "/below/ws":
            return await self._pipe(request, address)
        async with self.aiohttp.ClientSession() as session:
            kind = {"Content-Type": request.content_type}
            data = await request.read()
            async with session.request(
                request.method, address, data=data, headers=kind
            ) as response:
                body = await response.read()
                return self.web.Response(
                    status=response.status, body=body, content_type=response.content_type
                )

    async def _pipe(self, request: Any, address: str) -> Any:
        socket = self.web.WebSocketResponse()
        await socket.prepare(request)
        async with (
            self.aiohttp.ClientSession() as session,
            session.ws_connect(address) as inner,
        ):
            self.pipes += [socket, inner]
            async for message in inner:
                if message.type == self.aiohttp.WSMsgType.TEXT:
                    await socket.send_str(message.data)
        return socket


def test_a_5xx_is_tried_again_below_a_path_with_headers(pack, serve, tmp_path):
    import asyncio

    import aiohttp
    import aiohttp.web

    server = serve("a")
    stumbling = _Stumbling(aiohttp, server.url, refusals=1)
    loop = asyncio.new_event_loop()

    async def begin() -> Any:
        app = aiohttp.web.Application()
        app.router.add_route("*", "/{any:.*}", stumbling.handle)
        app.on_shutdown.append(stumbling.close)
        runner = aiohttp.web.AppRunner(app, shutdown_timeout=1)
        await runner.setup()
        await aiohttp.web.TCPSite(runner, "127.0.0.1", 0).start()
        return runner

    threading.Thread(target=loop.run_forever, daemon=True).start()
    runner = asyncio.run_coroutine_threadsafe(begin(), loop).result(20)
    remote = pack.module("nodes._remote")
    address = f"http://127.0.0.1:{runner.addresses[0][1]}/below/"
    pool = remote.ServerPool([address], {"X-Key": "secret"})
    assert "TestWait" in next(iter(pool.object_infos().values()))
    results: list[Any] = []
    prompts = [
        remote.RemotePrompt(str(n), lambda names: render_server.wait_graph()) for n in range(3)
    ]
    assert pool.render(prompts, results.append) == []
    asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result(20)
    loop.call_soon_threadsafe(loop.stop)
    assert sorted(r.key for r in results) == ["0", "1", "2"]
    assert [r.error for r in results] == [None] * 3
    assert stumbling.left == 0
    assert stumbling.headers == {"secret"}


@pytest.mark.long
def test_the_queue_adds_less_than_5_percent_to_items_of_a_second(serve, render, tmp_path):
    graph, table = work(tmp_path, range(100, 110), 1.0)
    began = time.monotonic()
    assert render(graph, "--items", table, "--out", tmp_path / "o", "--server", serve("a").url) == 0
    whole = time.monotonic() - began
    print(f"10 items of 1 s in {whole:.2f} s")
    assert whole < 10 * 1.05

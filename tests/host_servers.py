"""One client for every host: the embedded one and a real ComfyUI, both behind the HTTP API."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import aiohttp
import host_rules
import pytest

ROOT = Path(__file__).resolve().parent.parent
COMFYUI_PATH = os.environ.get("COMFYUI_PATH", "")
HOSTS = [
    "embedded",
    *([pytest.param("comfyui", marks=pytest.mark.comfy)] if COMFYUI_PATH else []),
]
_EXTRA = ("wardrobe", "own_models")  # folders that the user has listed
_START_S = 180
_LAST = ("execution_success", "execution_error", "execution_interrupted")

_PACKAGE = """
import importlib, importlib.util, sys, types

def _package(name, path):
    module = types.ModuleType(name)
    module.__path__ = [path]
    sys.modules[name] = module

# the pack's own door to the host, without its nodes
_package("unifashion_rules", {root!r})
_package("unifashion_rules.nodes", {root!r} + "/nodes")
comfy = importlib.import_module("unifashion_rules.nodes._comfy")
spec = importlib.util.spec_from_file_location("unifashion_host_rules", {rules!r})
rules = importlib.util.module_from_spec(spec)
spec.loader.exec_module(rules)

class Rules(comfy.ComfyExtension):
    async def get_node_list(self):
        return rules.build(comfy)

    async def on_load(self):
        comfy.register_folders([rules.MODEL_KIND])

async def comfy_entrypoint():
    return Rules()
"""


@dataclass
class Answer:
    """What became of a prompt.

    Attributes:
        status: HTTP status of the POST.
        body: Its JSON.
        events: Type and data of each text frame of the prompt.
        frames: Binary frames.
        seconds: From the POST to the last event.
    """

    status: int
    body: dict[str, Any]
    events: list[tuple[str, dict[str, Any]]] = field(default_factory=list)
    frames: list[bytes] = field(default_factory=list)
    seconds: float = 0.0

    def of(self, kind: str) -> list[dict[str, Any]]:
        """Data of each event of a type."""
        return [data for name, data in self.events if name == kind]

    @property
    def end(self) -> str:
        """Type of the last event."""
        return self.events[-1][0] if self.events else ""

    def text(self, node: str) -> list[str]:
        """What an output node showed."""
        return next(d["output"]["text"] for d in self.of("executed") if d["node"] == node)

    @property
    def ran(self) -> list[str]:
        """Nodes that were executed."""
        return [d["node"] for d in self.of("executing") if d["node"] is not None]

    @property
    def cached(self) -> set[str]:
        """Nodes whose result was known."""
        return {node for data in self.of("execution_cached") for node in data["nodes"]}

    def problems(self, node: str) -> list[str]:
        """Types of a node's validation errors, sorted."""
        return sorted(p["type"] for p in self.body["node_errors"][node]["errors"])


class Client:
    """Talks to a host.

    Args:
        url: Its address.
        kind: "embedded" or "comfyui".
        folders: Its input, output, temp and user folders, by name.
        process: What serves it, where that is a process of its own.
    """

    def __init__(
        self,
        url: str,
        kind: str,
        folders: Mapping[str, Path],
        process: subprocess.Popen[bytes] | None = None,
    ):
        self.url = url
        self.kind = kind
        self.folders = folders
        self.process = process

    def get(self, path: str, **query: str) -> Any:
        """JSON of a GET."""
        return asyncio.run(self._call("GET", path, params=query))[1]

    def call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        """Status and JSON (or bytes) of a request."""
        return asyncio.run(self._call(method, path, **options))

    async def _call(self, method: str, path: str, **options: Any) -> tuple[int, Any]:
        async with (
            aiohttp.ClientSession() as session,
            session.request(method, self.url + path, **options) as response,
        ):
            body = await response.read()
            if response.content_type == "application/json":
                return response.status, json.loads(body)
            return response.status, body

    def history(self, answer: Answer) -> dict[str, Any]:
        """A prompt's entry, which is written after its last event."""
        prompt_id = answer.body["prompt_id"]
        for _ in range(100):
            found = self.get(f"/history/{prompt_id}")
            if found:
                return found[prompt_id]
            time.sleep(0.05)
        raise RuntimeError(f"{prompt_id} never came into the history")

    def run(self, prompt: Mapping[str, Any], **options: Any) -> Answer:
        """Post a prompt and wait for its end; see `_run` for the options."""
        return asyncio.run(self._run(prompt, **options))

    async def _run(
        self,
        prompt: Mapping[str, Any],
        *,
        body: Mapping[str, Any] | None = None,
        flags: Mapping[str, Any] | None = None,
        when: Callable[[str, dict[str, Any]], bool] = lambda kind, data: False,
        interrupt: Mapping[str, Any] | None = None,
    ) -> Answer:
        client_id = uuid.uuid4().hex
        async with aiohttp.ClientSession() as session:
            ws = await session.ws_connect(f"{self.url}/ws?clientId={client_id}")
            if flags is not None:
                await ws.send_json({"type": "feature_flags", "data": flags})
            sent = {"prompt": prompt, "client_id": client_id, **(body or {})}
            started = time.monotonic()
            async with session.post(f"{self.url}/prompt", json=sent) as response:
                answer = Answer(response.status, await response.json())
            if answer.status != 200:
                return answer
            async for message in ws:
                if message.type == aiohttp.WSMsgType.BINARY:
                    answer.frames.append(message.data)
                    continue
                event = json.loads(message.data)
                kind, data = event["type"], event["data"]
                if data.get("prompt_id") != answer.body["prompt_id"]:
                    continue
                answer.events.append((kind, data))
                if when(kind, data):
                    await session.post(f"{self.url}/interrupt", json=dict(interrupt or {}))
                blocked = data.get("exception_type") == "ExecutionBlocked"
                if kind in _LAST and not blocked:
                    break
            answer.seconds = time.monotonic() - started
            await ws.close()
        return answer


@contextmanager
def embedded(pack: Any, base: Path, rules: Any) -> Iterator[Client]:
    """The embedded host with the rules' nodes."""
    server = pack.module("nodes._host.http").HostServer
    for name in ("input", *_EXTRA):
        (base / name).mkdir(parents=True)
    folders = pack.host.Folders.under(base).with_images(base / "wardrobe")
    folders = replace(folders, extra_models={rules.MODEL_KIND: (base / "own_models",)})
    host = pack.host.Host(folders, rules.build(pack.comfy))
    names = ("input", "output", "temp", "user", *_EXTRA)
    with server(host) as running:
        yield Client(running.url, "embedded", {name: base / name for name in names})


@contextmanager
def comfyui(base: Path, extra_packs: Mapping[str, Path] | None = None) -> Iterator[Client]:
    """A real ComfyUI in a process of its own, with the rules' nodes and further packs linked in."""
    package = base / "custom_nodes" / "rules"
    package.mkdir(parents=True)
    rules = str(ROOT / "tests" / "host_rules.py")
    text = _PACKAGE.format(root=str(ROOT), rules=rules)
    (package / "__init__.py").write_text(text, encoding="utf-8")
    for name, path in (extra_packs or {}).items():
        (base / "custom_nodes" / name).symlink_to(path, target_is_directory=True)
    for name in ("input", "output", "temp", "user"):
        (base / name).mkdir()
    port = _free_port()
    command = [
        os.environ.get("COMFYUI_PYTHON", sys.executable),
        *(str(Path(COMFYUI_PATH) / "main.py"), "--cpu", "--port", str(port)),
        *("--base-directory", str(base), "--disable-api-nodes"),
        *("--extra-model-paths-config", str(_extra_paths(base))),
    ]
    with open(base / "comfyui.log", "wb") as log:
        process = subprocess.Popen(command, cwd=COMFYUI_PATH, stdout=log, stderr=log)
    try:
        url = f"http://127.0.0.1:{port}"
        _await_start(url, process, base / "comfyui.log")
        names = ("input", "output", "temp", "user")
        folders = {name: base / name for name in (*names, *_EXTRA)}
        yield Client(url, "comfyui", folders, process)
    finally:
        process.terminate()
        process.wait(timeout=30)


def _extra_paths(base: Path) -> Path:
    """The user's own folders, listed as ComfyUI's users do."""
    for name in _EXTRA:
        (base / name).mkdir()
    lines = [
        "own:",
        f"    unifashion_images: {base / 'wardrobe'}",
        f"    {host_rules.MODEL_KIND}: {base / 'own_models'}",
    ]
    path = base / "extra_model_paths.yaml"
    path.write_text("\n".join(lines), encoding="utf-8")
    return path


def _free_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return free.getsockname()[1]


def _await_start(url: str, process: subprocess.Popen[bytes], log: Path) -> None:
    client = Client(url, "comfyui", {})
    for _ in range(_START_S * 2):
        if process.poll() is not None:
            break
        try:
            client.get("/queue")
            return
        except aiohttp.ClientError:
            time.sleep(0.5)
    raise RuntimeError(f"ComfyUI did not start:\n{log.read_text(errors='replace')[-3000:]}")

"""The embedded host behind ComfyUI's HTTP API and websocket, with the real page from PyPI.

For tests, of the real page and of several servers. It has no login: only this machine reaches it.
"""

from __future__ import annotations

import asyncio
import importlib.util
import json
import platform
import sys
import threading
import uuid
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import torch

from ...unifashion_core.deps import require
from ...unifashion_core.errors import UniFashionError
from .host import Host
from .http_files import FileRoutes
from .http_pack import PackRoutes
from .prompt_queue import Item, PromptQueue
from .validation import Problem, problem

_MAX_UPLOAD = 100 * 2**20
_OWN_NAMES = ("127.0.0.1", "localhost")
_VERSION = "0.33.0"  # the ComfyUI whose API this is; pages and clients ask for it
_FEATURES = {"supports_preview_metadata": True, "max_upload_size": _MAX_UPLOAD}


class HostServer:
    """A server in a thread of its own: `with HostServer(host) as server: … server.url`.

    Args:
        host: What it serves.
        port: Port on 127.0.0.1; a free one when 0.
        pack: Folder of the pack whose templates, help and translations it serves, if any.
        page: Whether to serve the real page; needs the package comfyui-frontend-package.
    """

    def __init__(self, host: Host, *, port: int = 0, pack: Path | None = None, page: bool = False):
        self.aiohttp: Any = require("aiohttp", minimum="3.11.8")
        self.web: Any = require("aiohttp.web", package="aiohttp", minimum="3.11.8")
        self.host = host
        self.queue = PromptQueue(host, self._send, self._takes_metadata)
        self.files = FileRoutes(host.folders)
        self.pack = PackRoutes(pack)
        self._page = _page_folder() if page else None
        self._port = port
        self._number = 0.0
        self._clients: dict[str, _Client] = {}
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._failure: BaseException | None = None
        self._thread = threading.Thread(target=self._serve, name="unifashion-http", daemon=True)
        self.url = ""

    def __enter__(self) -> HostServer:
        self._thread.start()
        self._ready.wait()
        if self._failure is not None:
            raise UniFashionError(
                f"Server on port {self._port}: it did not start: {self._failure}. Try another port."
            ) from self._failure
        self.queue.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self.queue.stop()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(timeout=30)

    def _serve(self) -> None:
        asyncio.set_event_loop(self._loop)
        try:
            runner = self.web.AppRunner(self._app(), shutdown_timeout=1)
            self._loop.run_until_complete(self._listen(runner))
        except Exception as e:  # told by `__enter__`, on the caller's thread
            self._failure = e
            return
        finally:
            self._ready.set()
        self._loop.run_forever()
        self._loop.run_until_complete(runner.cleanup())
        self._loop.close()

    async def _listen(self, runner: Any) -> None:
        await runner.setup()
        site = self.web.TCPSite(runner, "127.0.0.1", self._port)
        await site.start()
        port = site._server.sockets[0].getsockname()[1]
        self.url = f"http://127.0.0.1:{port}"

    def _app(self) -> Any:
        @self.web.middleware
        async def same_origin(request: Any, handler: Callable[[Any], Awaitable[Any]]) -> Any:
            self._check_origin(request)
            return await handler(request)

        app = self.web.Application(client_max_size=_MAX_UPLOAD, middlewares=[same_origin])
        routes = [*self._routes(), *self.files.routes(), *self.pack.routes()]
        for method, path, handler in routes:
            for prefix in ("", "/api"):
                app.router.add_route(method, prefix + path, handler)
        for path, answer in self._constant_answers().items():
            for prefix in ("", "/api"):
                app.router.add_get(prefix + path, self._always(answer))
        if self._page is not None:
            app.router.add_get("/", self._always_file(self._page / "index.html"))
            app.router.add_static("/", self._page)
        return app

    def _routes(self) -> list[tuple[str, str, Callable[[Any], Awaitable[Any]]]]:
        return [
            ("GET", "/ws", self._ws),
            ("GET", "/object_info", self._object_info),
            ("GET", "/object_info/{node}", self._object_info),
            ("GET", "/prompt", self._queue_length),
            ("POST", "/prompt", self._prompt),
            ("GET", "/queue", self._queue),
            ("POST", "/queue", self._edit_queue),
            ("GET", "/history", self._history),
            ("GET", "/history/{prompt_id}", self._history),
            ("POST", "/history", self._edit_history),
            ("POST", "/interrupt", self._interrupt),
            ("POST", "/free", self._free),
            ("GET", "/system_stats", self._system_stats),
        ]

    @staticmethod
    def _constant_answers() -> dict[str, Any]:
        """What the page asks and this host has nothing of."""
        no_jobs = {"offset": 0, "limit": 0, "total": 0, "has_more": False}
        return {
            "/users": {"storage": "server", "migrated": True},
            "/features": _FEATURES,
            "/embeddings": [],
            "/models": [],
            "/experiment/models": [],
            "/node_replacements": {},
            "/jobs": {"jobs": [], "pagination": no_jobs},
        }

    def _always(self, answer: Any) -> Callable[[Any], Awaitable[Any]]:
        async def handler(request: Any) -> Any:
            return self.web.json_response(answer)

        return handler

    def _always_file(self, path: Path) -> Callable[[Any], Awaitable[Any]]:
        async def handler(request: Any) -> Any:
            return self.web.FileResponse(path, headers={"Cache-Control": "no-cache"})

        return handler

    def _check_origin(self, request: Any) -> None:
        """Refuse what another site's page sends: there is no login to stop it."""
        origin, asked = request.headers.get("Origin"), request.headers.get("Host", "")
        # a foreign name in Host is a site that points its own name at this machine
        foreign = urlsplit(f"//{asked}").hostname not in _OWN_NAMES
        if foreign or (origin is not None and urlsplit(origin).netloc != asked):
            raise self.web.HTTPForbidden(text="Another site's page may not use this server.")

    # --- websocket

    async def _ws(self, request: Any) -> Any:
        socket = self.web.WebSocketResponse(heartbeat=30)
        await socket.prepare(request)
        client_id = request.query.get("clientId") or uuid.uuid4().hex
        client = self._clients[client_id] = _Client()
        sender = asyncio.create_task(client.send_to(socket))
        info = {"exec_info": {"queue_remaining": self.queue.remaining()}}
        hello = {"type": "status", "data": {"status": info, "sid": client_id}}
        client.frames.put_nowait(json.dumps(hello))
        try:
            async for message in socket:
                if message.type == self.aiohttp.WSMsgType.TEXT:
                    client.receive(message.data)
        finally:
            sender.cancel()
            if self._clients.get(client_id) is client:
                del self._clients[client_id]
        return socket

    def _send(self, client_id: str | None, frame: str | bytes) -> None:
        if not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._deliver, client_id, frame)

    def _deliver(self, client_id: str | None, frame: str | bytes) -> None:
        for name, client in self._clients.items():
            if client_id in (None, name):
                client.frames.put_nowait(frame)

    def _takes_metadata(self, client_id: str) -> bool:
        client = self._clients.get(client_id)
        return client is not None and client.takes_metadata

    # --- graphs

    async def _object_info(self, request: Any) -> Any:
        found = self.host.object_info()
        node = request.match_info.get("node")
        if node is not None:
            found = {node: found[node]} if node in found else {}
        return self.web.json_response(found)

    async def _queue_length(self, request: Any) -> Any:
        remaining = self.queue.remaining()
        return self.web.json_response({"exec_info": {"queue_remaining": remaining}})

    async def _prompt(self, request: Any) -> Any:
        body = await request.json()
        if not isinstance(body, dict) or not isinstance(body.get("prompt"), dict):
            return self._refused(problem("no_prompt", "No prompt provided", "No prompt provided"))
        prompt, extra = body["prompt"], dict(body.get("extra_data") or {})
        if "client_id" in body:
            extra["client_id"] = body["client_id"]
        verdict = self.host.validate(prompt, body.get("partial_execution_targets"))
        if verdict.error is not None:
            return self._refused(verdict.error, verdict.node_errors)
        number = self._place(body)
        prompt_id = str(body.get("prompt_id") or uuid.uuid4())
        self.queue.put(Item(number, prompt_id, prompt, extra, verdict))
        answer = {"prompt_id": prompt_id, "number": number, "node_errors": verdict.node_errors}
        return self.web.json_response(answer)

    def _refused(self, error: Problem, node_errors: dict[str, Any] | None = None) -> Any:
        answer = {"error": error, "node_errors": node_errors or {}}
        return self.web.json_response(answer, status=400)

    def _place(self, body: dict[str, Any]) -> float:
        if "number" in body:
            return float(body["number"])
        self._number += 1
        return -self._number if body.get("front") else self._number

    async def _queue(self, request: Any) -> Any:
        return self.web.json_response(self.queue.listed(), dumps=_dumps)

    async def _edit_queue(self, request: Any) -> Any:
        body = await request.json()
        if body.get("clear"):
            self.queue.remove(None)
        if body.get("delete"):
            self.queue.remove(set(body["delete"]))
        return self.web.Response()

    async def _history(self, request: Any) -> Any:
        history = self.queue.past(request.match_info.get("prompt_id"))
        return self.web.json_response(history, dumps=_dumps)

    async def _edit_history(self, request: Any) -> Any:
        body = await request.json()
        self.queue.forget(None if body.get("clear") else set(body.get("delete", [])))
        return self.web.Response()

    async def _interrupt(self, request: Any) -> Any:
        body = await request.json() if request.can_read_body else {}
        self.host.interrupt(body.get("prompt_id"))
        return self.web.Response()

    async def _free(self, request: Any) -> Any:
        body = await request.json() if request.can_read_body else {}
        await asyncio.to_thread(  # it waits for the end of the run
            self.host.free,
            unload_models=bool(body.get("unload_models")),
            free_memory=bool(body.get("free_memory")),
        )
        return self.web.Response()

    async def _system_stats(self, request: Any) -> Any:
        memory = self.host.models.memory()
        device = self.host.models.device
        system = {
            "os": sys.platform,
            "ram_total": memory.total,
            "ram_free": memory.free,
            "comfyui_version": _VERSION,
            "python_version": platform.python_version(),
            "pytorch_version": torch.__version__,
            "embedded_python": False,
            "argv": [],
        }
        figures = {
            "name": str(device),
            "type": device.type,
            "index": device.index,
            "vram_total": memory.total,
            "vram_free": memory.free,
            "torch_vram_total": memory.total,
            "torch_vram_free": memory.free,
        }
        return self.web.json_response({"system": system, "devices": [figures]})


class _Client:
    """A page that listens; frames keep their order."""

    def __init__(self) -> None:
        self.frames: asyncio.Queue[str | bytes] = asyncio.Queue()
        self.takes_metadata = False

    async def send_to(self, socket: Any) -> None:
        while not socket.closed:
            frame = await self.frames.get()
            if isinstance(frame, str):
                await socket.send_str(frame)
            else:
                await socket.send_bytes(frame)

    def receive(self, text: str) -> None:
        """Take the page's abilities and tell it ours."""
        try:
            message = json.loads(text)
        except ValueError:
            return
        if isinstance(message, dict) and message.get("type") == "feature_flags":
            abilities = message.get("data") or {}
            self.takes_metadata = bool(abilities.get("supports_preview_metadata"))
            self.frames.put_nowait(json.dumps({"type": "feature_flags", "data": _FEATURES}))


def _dumps(value: Any) -> str:
    return json.dumps(value, default=str)


def _page_folder() -> Path:
    """Where the page's files lie.

    Raises:
        MissingPackageError: If the package is not installed.
    """
    package = require("comfyui_frontend_package", package="comfyui-frontend-package")
    spec = importlib.util.find_spec(package.__name__)
    if spec is None or not spec.submodule_search_locations:
        raise UniFashionError("comfyui_frontend_package: no folder. Install it again.")
    return Path(spec.submodule_search_locations[0]) / "static"

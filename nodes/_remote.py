"""Client of ComfyUI servers: one list of prompts, shared by any number of them, over HTTP API and
websocket.

Each server has at most two prompts of ours, so that it never waits for the next one. A connection
that is lost gives its prompts back to the list; an error of the graph is the prompt's own.
"""

# Size: the list, a server's connection and what is said on it are one protocol, read together.

from __future__ import annotations

import asyncio
import contextlib
import json
import mimetypes
import time
import uuid
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

from ..unifashion_core.deps import require
from ..unifashion_core.errors import InputError, UniFashionError

TRIES = 3
AT_ONCE = 2  # prompts on one server: one runs while the next one waits there
UPLOAD_FOLDER = "unifashion"

_BACK_OFF_S = 1.0  # doubled with each try
_LOOK_S = 20.0  # how often a prompt is asked for whose end was not told
_CONNECT_S, _ANSWER_S = 15.0, 120.0
_LARGEST_FRAME = 256 * 2**20  # an execution error dumps its inputs
_END = {"execution_success", "execution_error", "execution_interrupted"}


class LostError(UniFashionError):
    """A server that can't be reached any more, or answers with a 5xx."""


@dataclass
class RemotePrompt:
    """A graph to run.

    Attributes:
        key: The caller's name for it.
        make: The graph, given the name on the server of each file.
        files: Files that it needs: name on the server to path here.
        tries: How often it was on a server that was lost.
        started: Whether the last one had begun with it.
    """

    key: str
    make: Callable[[Mapping[str, str]], dict[str, Any]]
    files: Mapping[str, Path] = field(default_factory=dict[str, Path])
    tries: int = 0
    started: bool = False


@dataclass(frozen=True)
class RemotePicture:
    """A picture that a node saved.

    Attributes:
        node: Its id.
        name: Of the file on the server.
        data: Its bytes.
    """

    node: str
    name: str
    data: bytes


@dataclass(frozen=True)
class RemoteResult:
    """What became of a prompt.

    Attributes:
        key: The prompt's.
        url: The server.
        pictures: What its output nodes saved; no previews.
        seconds: From its start on the server to its end.
        error: Why it failed; None where it did not.
    """

    key: str
    url: str
    pictures: tuple[RemotePicture, ...] = ()
    seconds: float = 0.0
    error: str | None = None


@dataclass
class ServerState:
    """How a server does.

    Attributes:
        done: Prompts that it finished.
        state: "ready", "working", "finished", or "lost: …".
    """

    done: int = 0
    state: str = "ready"


OnResult = Callable[[RemoteResult], None]


class ServerPool:
    """Some ComfyUI servers.

    Args:
        urls: Their addresses; https and a path are fine.
        headers: Sent with every request, such as an Authorization.

    Raises:
        InputError: If an address is none.
        MissingPackageError: If aiohttp is not installed.
    """

    def __init__(self, urls: Sequence[str], headers: Mapping[str, str] | None = None):
        self.aiohttp: Any = require("aiohttp", minimum="3.11.8")
        self.urls = [_checked(url) for url in dict.fromkeys(u.rstrip("/") for u in urls)]
        self.headers = dict(headers or {})
        self.states = {url: ServerState() for url in self.urls}

    def object_infos(self) -> dict[str, dict[str, Any]]:
        """`/object_info` of every server that can be reached; the others are lost.

        Raises:
            UniFashionError: If none can be reached.
        """
        return asyncio.run(self._object_infos())

    def render(self, prompts: Iterable[RemotePrompt], on_result: OnResult) -> list[str]:
        """Run prompts, each on the server that is free first.

        Args:
            prompts: What to run.
            on_result: Called for each as it ends, one at a time.

        Returns:
            Keys of the prompts that no server was left for.
        """
        return asyncio.run(self._render(list(prompts), on_result))

    def _session(self) -> Any:
        timeout = self.aiohttp.ClientTimeout(
            total=None, sock_connect=_CONNECT_S, sock_read=_ANSWER_S
        )
        return self.aiohttp.ClientSession(headers=self.headers, timeout=timeout)

    async def _object_infos(self) -> dict[str, dict[str, Any]]:
        found: dict[str, dict[str, Any]] = {}
        async with self._session() as session:
            for url in self.urls:
                try:
                    found[url] = await _Server(self, session, url).call("GET", "/object_info")
                except UniFashionError as e:
                    self.states[url].state = f"lost: {e}"
        if not found:
            said = "; ".join(f"{url}: {s.state}" for url, s in self.states.items())
            raise LostError(f"No server can be reached: {said}. Start one, or correct its address.")
        return found

    async def _render(self, prompts: list[RemotePrompt], on_result: OnResult) -> list[str]:
        work = _List(prompts)
        async with self._session() as session:
            alive = [url for url in self.urls if not self.states[url].state.startswith("lost")]
            servers = [_Server(self, session, url) for url in alive]
            await _together(server.serve(work, on_result) for server in servers)
        return [prompt.key for prompt in work.waiting]


class _List:
    """The one list of prompts; those in flight may come back."""

    def __init__(self, prompts: Iterable[RemotePrompt]):
        self.waiting = deque(prompts)
        self.in_flight = 0
        self.changed = asyncio.Condition()

    async def take(self) -> RemotePrompt | None:
        """The next prompt; None once all have ended."""
        async with self.changed:
            while not self.waiting and self.in_flight:
                await self.changed.wait()
            if not self.waiting:
                return None
            self.in_flight += 1
            return self.waiting.popleft()

    async def end(self, back: RemotePrompt | None = None) -> None:
        """A taken prompt has ended, or goes back to the front."""
        async with self.changed:
            self.in_flight -= 1
            if back is not None:
                self.waiting.appendleft(back)
            self.changed.notify_all()


class _Server:
    """One server: its connection, and what it has of ours."""

    def __init__(self, pool: ServerPool, session: Any, url: str):
        self.pool, self.session, self.url = pool, session, url
        self.aiohttp, self.state = pool.aiohttp, pool.states[url]
        self.client = uuid.uuid4().hex
        self.uploaded: dict[str, asyncio.Task[None]] = {}
        self.ends: dict[str, asyncio.Future[str | None]] = {}
        self.starts: dict[str, float] = {}

    async def call(self, method: str, path: str, **options: Any) -> Any:
        """The JSON, or the bytes, of an answer.

        Raises:
            LostError: If it can't be reached or answers with a 5xx.
            UniFashionError: If it refuses; the text is the server's.
        """
        try:
            async with self.session.request(method, self.url + path, **options) as response:
                body = await response.read()
        except (self.aiohttp.ClientError, asyncio.TimeoutError, OSError) as e:
            raise LostError(f"{str(e) or type(e).__name__}") from e
        if response.status >= 500:
            raise LostError(f"it answered {response.status} to {path}")
        plain = response.content_type != "application/json"
        if response.status >= 400:
            raise UniFashionError(_refusal(response.status, body))
        return body if plain else json.loads(body)

    async def serve(self, work: _List, on_result: OnResult) -> None:
        """Work on the list until it is empty; come back after a lost connection, `TRIES` times."""
        losses = 0
        while True:
            before = self.state.done
            try:
                await self._connected(work, on_result)
            except LostError as e:
                losses = 1 if self.state.done > before else losses + 1
                self.state.state = f"lost: {e}"
                if losses >= TRIES or (not work.waiting and not work.in_flight):
                    return
                await asyncio.sleep(_BACK_OFF_S * 2 ** (losses - 1))
                continue
            self.state.state = "finished"
            return

    async def _connected(self, work: _List, on_result: OnResult) -> None:
        address = f"{_websocket(self.url)}/ws?clientId={self.client}"
        try:
            socket = await self.session.ws_connect(
                address, heartbeat=60, max_msg_size=_LARGEST_FRAME
            )
        except (self.aiohttp.ClientError, asyncio.TimeoutError, OSError) as e:
            raise LostError(f"{str(e) or type(e).__name__}") from e
        self.state.state = "working"
        self.uploaded.clear()
        try:
            listener = asyncio.create_task(self._listen(socket))
            slots = [asyncio.create_task(self._slot(work, on_result)) for _ in range(AT_ONCE)]
            try:
                await _together([*slots], watcher=listener)
            finally:
                await self._withdraw()
        finally:
            with contextlib.suppress(Exception):  # the connection may be gone already
                await socket.close()

    async def _listen(self, socket: Any) -> None:
        """Hear when prompts begin and end, until the connection is lost."""
        async for message in socket:
            if message.type != self.aiohttp.WSMsgType.TEXT:
                continue
            event = json.loads(message.data)
            data = event.get("data") or {}
            self._hear(str(event.get("type")), data, str(data.get("prompt_id")))
        raise LostError("the connection was closed")

    def _hear(self, kind: str, data: Mapping[str, Any], prompt_id: str) -> None:
        if kind == "execution_start":
            self.starts.setdefault(prompt_id, time.monotonic())
        end = self.ends.get(prompt_id)
        if end is None or end.done():
            return
        if kind == "execution_error" and data.get("exception_type") != "ExecutionBlocked":
            where = f"node {data.get('node_id')} ({data.get('node_type')})"
            end.set_result(f"{where}: {str(data.get('exception_message')).strip()}")
        elif kind == "execution_interrupted":
            end.set_result("stopped on the server")
        elif kind == "execution_success" or (kind == "executing" and data.get("node") is None):
            end.set_result(None)

    async def _slot(self, work: _List, on_result: OnResult) -> None:
        while True:
            prompt = await work.take()
            if prompt is None:
                return
            back: RemotePrompt | None = prompt
            try:
                result = await self._run(prompt)
                back = None
            except (LostError, asyncio.CancelledError):
                # what only waited there had no part in the loss
                prompt.tries += prompt.started
                if prompt.tries >= TRIES:
                    back = None
                    reason = f"lost with its server {TRIES} times, the last time {self.url}"
                    on_result(RemoteResult(prompt.key, self.url, error=reason))
                raise
            finally:
                await asyncio.shield(work.end(back))
            if result.error is None:
                self.state.done += 1
            on_result(result)

    async def _run(self, prompt: RemotePrompt) -> RemoteResult:
        """Run one prompt; what the graph or a file does wrong is in the result.

        Raises:
            LostError: If the server is lost meanwhile.
        """
        began, prompt.started = time.monotonic(), False
        given = prompt_id = str(uuid.uuid4())
        end = self.ends[prompt_id] = asyncio.get_running_loop().create_future()
        try:
            names = await self._upload(prompt.files)
            body = {"prompt": prompt.make(names), "client_id": self.client, "prompt_id": prompt_id}
            answer = await self.call("POST", "/prompt", json=body)
            given = str(answer["prompt_id"])
            if given != prompt_id:  # a host that gives ids of its own
                self.ends[given] = end
            if answer.get("node_errors"):  # it would run in part
                await self._drop(given)
                raise UniFashionError(_node_errors(answer["node_errors"]))
            error, outputs = await self._ended(given, end)
            seconds = time.monotonic() - max(began, self.starts.get(given, began))
            pictures = await self._pictures(outputs) if error is None else ()
            return RemoteResult(prompt.key, self.url, pictures, seconds, error)
        except LostError:
            raise
        except (UniFashionError, OSError) as e:
            end.cancel()
            return RemoteResult(prompt.key, self.url, (), time.monotonic() - began, str(e))
        finally:
            prompt.started = self.starts.pop(given, None) is not None
            if end.done():
                self.ends = {k: v for k, v in self.ends.items() if v is not end}

    async def _ended(
        self, prompt_id: str, end: asyncio.Future[str | None]
    ) -> tuple[str | None, dict[str, Any]]:
        """A prompt's error, and what its output nodes showed."""
        while not end.done():
            try:
                await asyncio.wait_for(asyncio.shield(end), _LOOK_S)
            except asyncio.TimeoutError:
                if await self._history(prompt_id):  # its end was not heard
                    break
        error = end.result() if end.done() else None
        if error is not None:
            return error, {}
        wait_s = 0.005
        while not (entry := await self._history(prompt_id)):  # written after the last event
            await asyncio.sleep(wait_s)
            wait_s = min(wait_s * 2, 1.0)
            if wait_s == 1.0:
                raise LostError("it does not know a prompt that it has finished")
        status = entry.get("status") or {}
        if not end.done() and status.get("status_str") == "error":
            return _told(status), {}
        return None, entry.get("outputs") or {}

    async def _history(self, prompt_id: str) -> dict[str, Any]:
        found = await self.call("GET", f"/history/{prompt_id}")
        return found.get(prompt_id) or {}

    async def _pictures(self, outputs: Mapping[str, Any]) -> tuple[RemotePicture, ...]:
        found: list[RemotePicture] = []
        for node, ui in outputs.items():
            for file in ui.get("images") or []:
                if file.get("type") == "output":
                    query = {k: file.get(k, "") for k in ("filename", "subfolder", "type")}
                    data = await self.call("GET", "/view", params=query)
                    found.append(RemotePicture(node, file["filename"], data))
        return tuple(found)

    async def _upload(self, files: Mapping[str, Path]) -> dict[str, str]:
        """Put files into the server's input folder, each content once; their names there."""
        for name, path in files.items():
            if name not in self.uploaded:
                self.uploaded[name] = asyncio.create_task(self._put(name, path))
            try:
                await self.uploaded[name]
            except BaseException:
                self.uploaded.pop(name, None)
                raise
        return {name: f"{UPLOAD_FOLDER}/{name}" for name in files}

    async def _put(self, name: str, path: Path) -> None:
        form = self.aiohttp.FormData()
        kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
        form.add_field("image", path.read_bytes(), filename=name, content_type=kind)
        for key, value in {
            "type": "input",
            "subfolder": UPLOAD_FOLDER,
            "overwrite": "true",
        }.items():
            form.add_field(key, value)
        await self.call("POST", "/upload/image", data=form)

    async def _withdraw(self) -> None:
        """Take back what is still on the server, where it can be reached."""
        ours = [prompt_id for prompt_id, end in self.ends.items() if not end.done()]
        self.ends.clear()
        for prompt_id in ours:
            with contextlib.suppress(UniFashionError, asyncio.TimeoutError):
                await asyncio.wait_for(self._drop(prompt_id), 5)

    async def _drop(self, prompt_id: str) -> None:
        await self.call("POST", "/queue", json={"delete": [prompt_id]})
        await self.call("POST", "/interrupt", json={"prompt_id": prompt_id})


async def _together(tasks: Iterable[Any], *, watcher: asyncio.Task[Any] | None = None) -> None:
    """Wait for all; the first error, the watcher's too, ends the others and is raised."""
    running = {asyncio.ensure_future(task) for task in tasks}
    everything = running | ({watcher} if watcher is not None else set())
    try:
        while running:
            done, _ = await asyncio.wait(
                running | ({watcher} if watcher is not None else set()),
                return_when=asyncio.FIRST_COMPLETED,
            )
            for task in done:
                task.result()
            running -= done
    finally:
        for task in everything:
            task.cancel()
        await asyncio.gather(*everything, return_exceptions=True)


def _checked(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise InputError(f"server '{url}': wanted an address such as http://127.0.0.1:8188.")
    return url


def _websocket(url: str) -> str:
    parts = urlsplit(url)
    return urlunsplit(parts._replace(scheme="wss" if parts.scheme == "https" else "ws"))


def _refusal(status: int, body: bytes) -> str:
    """Why a request was refused, in the server's words."""
    try:
        answer = json.loads(body)
        if answer.get("node_errors"):
            return _node_errors(answer["node_errors"])
        error = answer.get("error")
        said = error if isinstance(error, str) else f"{error['message']} {error.get('details', '')}"
    except (ValueError, KeyError, TypeError, AttributeError):
        said = body.decode("utf-8", "replace")[:200]
    return f"the server refused it ({status}): {said.strip()}"


def _node_errors(found: Mapping[str, Any]) -> str:
    lines = [
        f"node {node} ({entry.get('class_type')}): {p['message']}: {p['details']}"
        for node, entry in found.items()
        for p in entry["errors"]
    ]
    return "; ".join(lines)


def _told(status: Mapping[str, Any]) -> str:
    """The error that a history entry tells."""
    for kind, data in status.get("messages") or []:
        if kind == "execution_error":
            where = f"node {data.get('node_id')} ({data.get('node_type')})"
            return f"{where}: {str(data.get('exception_message')).strip()}"
    return "it ended with an error"

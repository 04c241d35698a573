"""The server's queue: one prompt at a time on a worker thread, and the history of what ended."""

from __future__ import annotations

import io
import json
import logging
import struct
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from .host import Host
from .session import Preview
from .validation import Prompt, Verdict

log = logging.getLogger("unifashion.host")

Send = Callable[["str | None", "str | bytes"], None]
"""Gets a client's id (None = all) and a text or binary frame; called from any thread."""

_HISTORY = 1000
_PREVIEW_QUALITY = 95
_PLAIN_PREVIEW, _PREVIEW_WITH_METADATA = 1, 4  # event numbers of the binary frames
_FORMATS = {"JPEG": 1, "PNG": 2}


@dataclass
class Item:
    """A prompt that waits, runs or ran.

    Attributes:
        number: Place in the queue; smaller runs first.
        prompt_id: Its id.
        prompt: The graph.
        extra: ComfyUI's `extra_data`, with the client's id.
        verdict: What its validation said.
    """

    number: float
    prompt_id: str
    prompt: Prompt
    extra: dict[str, Any]
    verdict: Verdict
    messages: list[list[Any]] = field(default_factory=list)
    progress: dict[str, dict[str, Any]] = field(default_factory=dict)

    @property
    def client(self) -> str | None:
        """Who gets its events."""
        return self.extra.get("client_id")

    def listed(self) -> list[Any]:
        """As `/queue` and `/history` show it."""
        return [self.number, self.prompt_id, self.prompt, self.extra, self.verdict.outputs]


class PromptQueue:
    """Runs what is put in.

    Args:
        host: Runs the prompts.
        send: Delivers frames to clients.
        with_metadata: Whether a client takes previews that name their node.
    """

    def __init__(self, host: Host, send: Send, with_metadata: Callable[[str], bool]):
        self.host = host
        self._history: OrderedDict[str, dict[str, Any]] = OrderedDict()
        self._send = send
        self._with_metadata = with_metadata
        self._waiting: list[Item] = []
        self._running: Item | None = None
        self._changed = threading.Condition()
        self._stopped = False
        self._thread = threading.Thread(target=self._work, name="unifashion-host", daemon=True)

    def start(self) -> None:
        """Begin to run what waits."""
        self._thread.start()

    def stop(self) -> None:
        """Stop what runs and leave what waits."""
        with self._changed:
            self._stopped = True
            self._changed.notify()
        self.host.interrupt()
        self._thread.join(timeout=30)

    def put(self, item: Item) -> None:
        """Append a prompt."""
        with self._changed:
            self._waiting.append(item)
            self._waiting.sort(key=lambda i: i.number)
            self._changed.notify()
        self.announce()

    def listed(self) -> dict[str, list[Any]]:
        """As `/queue` shows it."""
        with self._changed:
            running = [self._running.listed()] if self._running else []
            waiting = [item.listed() for item in self._waiting]
        return {"queue_running": running, "queue_pending": waiting}

    def remaining(self) -> int:
        """How many wait or run."""
        with self._changed:
            return len(self._waiting) + (self._running is not None)

    def remove(self, prompt_ids: set[str] | None) -> None:
        """Drop waiting prompts, all when None."""
        with self._changed:
            self._waiting = [
                i for i in self._waiting if prompt_ids is not None and i.prompt_id not in prompt_ids
            ]
        self.announce()

    def past(self, prompt_id: str | None = None) -> dict[str, Any]:
        """What ended, or only this prompt if it did."""
        with self._changed:
            found = self._history if prompt_id is None else {prompt_id: None}
            return {i: self._history[i] for i in found if i in self._history}

    def forget(self, prompt_ids: set[str] | None) -> None:
        """Drop prompts that ended, all when None."""
        with self._changed:
            for prompt_id in list(self._history):
                if prompt_ids is None or prompt_id in prompt_ids:
                    del self._history[prompt_id]

    def announce(self) -> None:
        """Tell every client how many prompts there are."""
        info = {"status": {"exec_info": {"queue_remaining": self.remaining()}}}
        self._send(None, json.dumps({"type": "status", "data": info}))

    def _work(self) -> None:
        while True:
            with self._changed:
                while not self._waiting and not self._stopped:
                    self._changed.wait()
                if self._stopped:
                    return
                self._running = self._waiting.pop(0)
            item = self._running
            try:
                self._run(item)
            except Exception as e:  # the queue must outlive any prompt
                self._failed(item, e)
            finally:
                with self._changed:
                    self._running = None
                self.announce()

    def _run(self, item: Item) -> None:
        result = self.host.execute(
            item.prompt,
            verdict=item.verdict,
            prompt_id=item.prompt_id,
            on_event=lambda type, data: self._event(item, type, data),
            extra=item.extra,
        )
        self._remember(item, result.ui, result.status == "success")
        end = {"node": None, "prompt_id": item.prompt_id}
        self._send(item.client, json.dumps({"type": "executing", "data": end}))

    def _failed(self, item: Item, error: Exception) -> None:
        """Tell the client of a prompt that ended before any node did."""
        log.error("prompt %s", item.prompt_id, exc_info=error)
        about = {
            "prompt_id": item.prompt_id,
            "node_id": None,
            "node_type": None,
            "executed": [],
            "exception_message": str(error),
            "exception_type": type(error).__name__,
            "traceback": [],
            "current_inputs": {},
            "current_outputs": [],
        }
        self._event(item, "execution_error", about)
        self._remember(item, {}, False)

    def _remember(self, item: Item, ui: dict[str, Any], done: bool) -> None:
        with self._changed:
            self._history[item.prompt_id] = _entry(item, ui, done)
            while len(self._history) > _HISTORY:
                self._history.popitem(last=False)

    def _event(self, item: Item, type: str, data: dict[str, Any]) -> None:
        if type == "preview":
            self._preview(item, data)
            return
        if type.startswith("execution_"):
            data = {**data, "timestamp": int(time.time() * 1000)}
            item.messages.append([type, data])
        self._note_progress(item, type, data)
        everyone = type == "execution_interrupted"
        text = json.dumps({"type": type, "data": data}, default=str)
        self._send(None if everyone else item.client, text)

    def _note_progress(self, item: Item, type: str, data: dict[str, Any]) -> None:
        """Keep and send `progress_state`, from which the page draws each node's bar."""
        if type == "execution_success":
            for state in item.progress.values():
                state |= {"state": "finished", "value": state["max"]}
        elif type in ("executing", "progress"):
            node = data["node"]
            for other in item.progress.values():
                if other["node_id"] != node and other["state"] == "running":
                    other |= {"state": "finished", "value": other["max"]}
            item.progress[node] = {
                "value": data.get("value", 0),
                "max": data.get("max", 1),
                "state": "running",
                "node_id": node,
                "prompt_id": item.prompt_id,
                "display_node_id": node,
                "parent_node_id": None,
                "real_node_id": node,
            }
        else:
            return
        state = {"prompt_id": item.prompt_id, "nodes": item.progress}
        self._send(item.client, json.dumps({"type": "progress_state", "data": state}))

    def _preview(self, item: Item, data: dict[str, Any]) -> None:
        if item.client is None:
            return
        picture = _encoded(data["image"])
        kind = data["image"][0]
        if not self._with_metadata(item.client):
            header = struct.pack(">II", _PLAIN_PREVIEW, _FORMATS[kind])
            self._send(item.client, header + picture)
            return
        about = {
            "node_id": data["node"],
            "prompt_id": item.prompt_id,
            "display_node_id": data["node"],
            "parent_node_id": None,
            "real_node_id": data["node"],
            "image_type": f"image/{kind.lower()}",
        }
        text = json.dumps(about).encode()
        header = struct.pack(">II", _PREVIEW_WITH_METADATA, len(text))
        self._send(item.client, header + text + picture)


def _encoded(preview: Preview) -> bytes:
    kind, picture, longest = preview
    if longest is not None and max(picture.size) > longest:
        picture = picture.copy()
        picture.thumbnail((longest, longest), Image.Resampling.BILINEAR)
    buffer = io.BytesIO()
    picture.save(buffer, format=kind, quality=_PREVIEW_QUALITY)
    return buffer.getvalue()


def _entry(item: Item, ui: dict[str, Any], done: bool) -> dict[str, Any]:
    about = {
        node: {"node_id": node, "display_node": node, "parent_node": None, "real_node_id": node}
        for node in ui
    }
    return {
        "prompt": item.listed(),
        "outputs": ui,
        "status": {
            "status_str": "success" if done else "error",
            "completed": done,
            "messages": item.messages,
        },
        "meta": about,
    }

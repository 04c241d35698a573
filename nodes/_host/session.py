"""What a node may ask its embedded host for while it runs: folders, models, progress, interrupt."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

from PIL import Image

from ...unifashion_core.errors import UniFashionError
from .folders import Folders
from .models import ModelManager

Preview = tuple[str, Image.Image, int | None]
"""Format name, picture, longest side in pixels: what ComfyUI's progress bar takes."""

Emit = Callable[[str, dict[str, Any]], None]
"""Gets each event's type and data; called on the thread of the run."""


class InterruptProcessing(BaseException):
    """The user stopped the run. A BaseException, so that no `except Exception` swallows it."""


@dataclass(frozen=True)
class Session:
    """One host, as the code that it runs sees it.

    Attributes:
        folders: The host's folders.
        models: The host's model manager.
        metadata: Whether saved pictures carry their graph.
        emit: Gets the run's events.
        interrupted: Set when the run shall stop.
        prompt_id: The run's id, "" outside one.
        node_id: The running node's id, "" outside one.
        registry: The host's node classes by id.
    """

    folders: Folders
    models: ModelManager
    metadata: bool = True
    emit: Emit = lambda type, data: None
    interrupted: threading.Event = field(default_factory=threading.Event)
    prompt_id: str = ""
    node_id: str = ""
    registry: Mapping[str, Any] = field(default_factory=dict[str, Any])


_session: ContextVar[Session] = ContextVar("unifashion_session")


def current() -> Session:
    """The session of the running host.

    Raises:
        UniFashionError: If none runs on this thread.
    """
    found = _session.get(None)
    if found is None:
        raise UniFashionError("Embedded host: none is running here. Use `with host.active():`.")
    return found


@contextmanager
def activate(session: Session) -> Iterator[Session]:
    """Make a session the current one."""
    token = _session.set(session)
    try:
        yield session
    finally:
        _session.reset(token)


def throw_if_interrupted() -> None:
    """Stop here if the user asked for it; nothing happens outside a run.

    Raises:
        InterruptProcessing: If the run shall stop; the wish is then taken as fulfilled.
    """
    found = _session.get(None)
    if found is not None:
        _stop_if_asked(found)


def _stop_if_asked(session: Session) -> None:
    if session.interrupted.is_set():
        session.interrupted.clear()
        raise InterruptProcessing


class ProgressBar:
    """Progress of the running node; each update also looks whether the run shall stop.

    Args:
        total: Number of steps.
    """

    def __init__(self, total: int):
        self.total = total
        self.current = 0
        self._session = current()  # kept: a node may report from its own threads

    def update_absolute(
        self, value: int, total: int | None = None, preview: Preview | None = None
    ) -> None:
        """Set the number of steps done.

        Args:
            value: Steps done.
            total: New number of steps.
            preview: A picture to show on the node.

        Raises:
            InterruptProcessing: If the run shall stop.
        """
        self.total = self.total if total is None else total
        self.current = min(value, self.total)
        ids = {"prompt_id": self._session.prompt_id, "node": self._session.node_id}
        self._session.emit("progress", {"value": self.current, "max": self.total, **ids})
        if preview is not None:
            self._session.emit("preview", {"image": preview, **ids})
        _stop_if_asked(self._session)

    def update(self, steps: int) -> None:
        """Add steps done.

        Raises:
            InterruptProcessing: If the run shall stop.
        """
        self.update_absolute(self.current + steps)

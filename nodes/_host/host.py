"""The embedded host: runs API-format graphs of V3 nodes by ComfyUI's rules."""

from __future__ import annotations

import asyncio
import copy
import threading
import time
import uuid
from collections.abc import Awaitable, Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from ...unifashion_core.errors import UniFashionError
from .cache import OutputCache
from .core_nodes import CORE_NODES
from .executor import Executor, Outcome
from .folders import Folders
from .models import ModelManager
from .schema import ComfyExtension, ComfyNode
from .session import Emit, InterruptProcessing, Session, activate
from .validation import Problem, Prompt, PromptError, Verdict, validate_prompt

PACK_NAME = "ComfyUI-UniFashion"
PACK_MODULE = f"custom_nodes.{PACK_NAME}"  # as ComfyUI names a pack by its folder

OnProgress = Callable[[str, int, int], None]
"""Called with (node id, done, total)."""


class NodeError(UniFashionError):
    """A node raised; the cause is chained.

    Attributes:
        result: The run up to there.
    """

    def __init__(self, result: RunResult):
        self.result = result
        error = result.error or {}
        super().__init__(str(result.exception or error.get("exception_message")))


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Attributes:
        prompt_id: Its id.
        status: "success", "error" or "interrupted".
        outputs: Of each node that has a result, one list of values an output.
        ui: What each output node showed.
        executed: Nodes that ran, in order.
        cached: Nodes whose result was known before.
        node_errors: Nodes that validation left out, as ComfyUI's `node_errors`.
        error: ComfyUI's `execution_error` or `execution_interrupted`, if it came to that.
        exception: What the failing node raised.
        seconds: How long it took.
    """

    prompt_id: str
    status: str
    outputs: dict[str, list[list[Any]]]
    ui: dict[str, dict[str, Any]]
    executed: tuple[str, ...]
    cached: tuple[str, ...]
    node_errors: dict[str, Any] = field(default_factory=dict)
    error: dict[str, Any] | None = None
    exception: BaseException | None = None
    seconds: float = 0.0

    def values(self, node_id: str, output: int = 0) -> list[Any]:
        """Every value of an output."""
        return self.outputs[node_id][output]

    def value(self, node_id: str, output: int = 0) -> Any:
        """The value of an output that made one."""
        (only,) = self.values(node_id, output)
        return only


class Host:
    """Nodes, folders, models and a cache.

    Args:
        folders: Where its graphs read and write.
        node_classes: The pack's nodes; the core nodes come with the host.
        models: Its model manager.
        metadata: Whether saved pictures carry their graph.
    """

    def __init__(
        self,
        folders: Folders,
        node_classes: Iterable[type[ComfyNode]],
        *,
        models: ModelManager | None = None,
        metadata: bool = True,
    ):
        self.folders = folders
        self.models = models or ModelManager()
        self.metadata = metadata
        self._interrupted = threading.Event()
        self._cache = OutputCache()
        self._running = threading.Lock()
        self._current = ""
        self.registry: dict[str, type[ComfyNode]] = {}  # none while the schemas are read
        with self.active():
            self.registry = _registry([*CORE_NODES, *node_classes])

    @contextmanager
    def active(self) -> Iterator[Session]:
        """Let code outside a run ask for this host's folders and models."""
        with activate(self._session()) as session:
            yield session

    def _session(self, emit: Emit = lambda type, data: None, prompt_id: str = "") -> Session:
        return Session(
            self.folders,
            self.models,
            self.metadata,
            emit,
            self._interrupted,
            prompt_id,
            registry=self.registry,
        )

    def object_info(self) -> dict[str, Any]:
        """Every node's schema, as ComfyUI's `/object_info`."""
        with self.active():
            found = {node_id: cls.GET_NODE_INFO_V1() for node_id, cls in self.registry.items()}
        for node_id, info in found.items():
            if self.registry[node_id] not in CORE_NODES:
                info["python_module"] = PACK_MODULE
        return found

    def validate(self, prompt: Prompt, targets: Iterable[str] | None = None) -> Verdict:
        """Check a prompt without running it; plain values are converted in place."""
        with self.active():
            return validate_prompt(prompt, self.registry, targets)

    def run(
        self,
        prompt: Mapping[str, Any],
        *,
        on_progress: OnProgress | None = None,
        on_event: Emit | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> RunResult:
        """Run a prompt that has to end well.

        Args:
            prompt: The graph in API format; it is not changed.
            on_progress: Gets the running node's progress.
            on_event: Gets every event, as ComfyUI's websocket sends them.
            extra: ComfyUI's `extra_data`.

        Raises:
            PromptError: If any of it can't run.
            NodeError: If a node raised.
            InterruptProcessing: If it was interrupted.
        """
        result = self.execute(prompt, on_progress=on_progress, on_event=on_event, extra=extra)
        if result.node_errors:
            raise PromptError(_partly(), result.node_errors)
        if result.status == "interrupted":
            raise InterruptProcessing
        if result.status == "error":
            raise NodeError(result) from result.exception
        return result

    def execute(
        self,
        prompt: Mapping[str, Any],
        *,
        verdict: Verdict | None = None,
        prompt_id: str | None = None,
        on_progress: OnProgress | None = None,
        on_event: Emit | None = None,
        extra: Mapping[str, Any] | None = None,
    ) -> RunResult:
        """Run what can run, as ComfyUI does; a node's failure is told in the result.

        Args:
            prompt: The graph in API format; it is not changed.
            verdict: What `validate` said of this very prompt, which it has converted; it is asked
                when None.
            prompt_id: Id of the run; a fresh one when None.
            on_progress: Gets the running node's progress.
            on_event: Gets every event.
            extra: ComfyUI's `extra_data`.

        Raises:
            PromptError: If no output node can run.
        """
        graph: Prompt = copy.deepcopy(dict(prompt))
        verdict = verdict or self.validate(graph)
        if verdict.error is not None:
            raise PromptError(verdict.error, verdict.node_errors)
        run_id = prompt_id or str(uuid.uuid4())
        session = self._session(_emitter(on_event, on_progress), run_id)
        started = time.monotonic()
        with self._running:
            self._interrupted.clear()
            self._current = run_id
            self.folders.make()
            executor = Executor(graph, self.registry, self._cache, session, extra or {})
            try:
                outcome = executor.run(verdict.outputs)
            finally:
                self._current = ""
        return _result(run_id, outcome, verdict, time.monotonic() - started)

    def interrupt(self, prompt_id: str | None = None) -> None:
        """Stop the run that goes on, or only if it is this one."""
        if self._current and prompt_id in (None, self._current):
            self._interrupted.set()

    def free(self, *, unload_models: bool = True, free_memory: bool = True) -> None:
        """Put models away and forget results, once no run goes on."""
        with self._running:
            if unload_models:
                self.models.unload_all()
            if free_memory:
                self._cache.clear()


def pack_nodes(entrypoint: Callable[[], Awaitable[ComfyExtension]]) -> list[type[ComfyNode]]:
    """A pack's nodes, asked for as ComfyUI does.

    Args:
        entrypoint: The pack's `comfy_entrypoint`.
    """

    async def ask() -> list[type[ComfyNode]]:
        extension = await entrypoint()
        await extension.on_load()
        return await extension.get_node_list()

    return asyncio.run(ask())


def _registry(node_classes: Iterable[type[ComfyNode]]) -> dict[str, type[ComfyNode]]:
    registry: dict[str, type[ComfyNode]] = {}
    for cls in node_classes:
        node_id = cls.GET_SCHEMA().node_id
        if node_id in registry:
            raise UniFashionError(f"Node {node_id}: two classes have this id. Rename one.")
        registry[node_id] = cls
    return registry


def _emitter(on_event: Emit | None, on_progress: OnProgress | None) -> Emit:
    def emit(type: str, data: dict[str, Any]) -> None:
        if on_event is not None:
            on_event(type, data)
        if on_progress is not None and type == "progress":
            on_progress(data["node"], data["value"], data["max"])

    return emit


def _partly() -> Problem:
    return {
        "type": "prompt_outputs_failed_validation",
        "message": "Prompt outputs failed validation",
        "details": "",
        "extra_info": {},
    }


def _result(run_id: str, outcome: Outcome, verdict: Verdict, seconds: float) -> RunResult:
    return RunResult(
        run_id,
        outcome.status,
        outcome.outputs,
        outcome.ui,
        tuple(outcome.executed),
        tuple(outcome.cached),
        verdict.node_errors,
        outcome.error,
        outcome.exception,
        seconds,
    )

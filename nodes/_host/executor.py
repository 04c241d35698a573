"""Runs a validated prompt: needed nodes only, inputs first, known results from the cache."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch

from .cache import CacheEntry, OutputCache, signatures
from .calls import Lists, hidden_values, is_link, map_over_lists
from .schema import ComfyNode, ExecutionBlocker, NodeOutput, Schema, overrides
from .session import InterruptProcessing, Session, activate, throw_if_interrupted
from .validation import Prompt, Registry, full_type_name

log = logging.getLogger("unifashion.host")


class NodeInputError(Exception):
    """A node asked for an input that nothing is linked to."""


@dataclass
class Outcome:
    """What a run did; filled while it goes on.

    Attributes:
        status: "success", "error" or "interrupted".
        outputs: One list of values an output, of each node that has a result.
        ui: What each output node showed.
        executed: Nodes that ran, in order.
        cached: Nodes whose result was known before the run.
        error: ComfyUI's `execution_error` of the node that failed, or its `execution_interrupted`.
        exception: What that node raised.
    """

    status: str = "success"
    outputs: dict[str, list[list[Any]]] = field(default_factory=dict)
    ui: dict[str, dict[str, Any]] = field(default_factory=dict)
    executed: list[str] = field(default_factory=list)
    cached: list[str] = field(default_factory=list)
    error: dict[str, Any] | None = None
    exception: BaseException | None = None


class _Failed(Exception):
    """Carries a node's failure out of the walk."""

    def __init__(self, node_id: str, cause: BaseException, inputs: Lists):
        super().__init__(node_id)
        self.node_id = node_id
        self.cause = cause
        self.inputs = inputs


class Executor:
    """One run of one prompt.

    Args:
        prompt: The graph, validated and converted.
        registry: Known nodes.
        cache: Results of earlier runs; gets this run's.
        session: What nodes may ask for.
        extra: ComfyUI's `extra_data`; `extra_pnginfo` is read.
    """

    def __init__(
        self,
        prompt: Prompt,
        registry: Registry,
        cache: OutputCache,
        session: Session,
        extra: Mapping[str, Any],
    ):
        self.prompt = prompt
        self.registry = registry
        self.cache = cache
        self.session = session
        self.extra = extra
        self.outcome = Outcome()
        self._wanted: dict[str, set[str]] = {}  # lazy inputs that a node has asked for
        self._signatures: dict[str, str] = {}
        self._schemas: dict[type[ComfyNode], Schema] = {}

    def run(self, outputs: Sequence[str]) -> Outcome:
        """Run the output nodes and all they need."""
        self._emit("execution_start")
        with torch.inference_mode(), activate(self.session):
            self._signatures = signatures(self.prompt, self.registry, outputs)
            self.cache.keep_only(self._signatures.values())
            known = [n for n, s in self._signatures.items() if self.cache.get(s) is not None]
            self.outcome.cached = known
            self._emit("execution_cached", nodes=known)
            try:
                for output in outputs:
                    self._reach(output)
            except _Failed as failed:
                self._report(failed)
                return self.outcome
            self._show_intermediate()
        self._emit("execution_success")
        return self.outcome

    def _emit(self, type: str, **data: Any) -> None:
        self.session.emit(type, {**data, "prompt_id": self.session.prompt_id})

    def _show_intermediate(self) -> None:
        """Show cached nodes again that ask for it though nothing had to read them."""
        for node_id, signature in self._signatures.items():
            entry = self.cache.get(signature)
            unseen = node_id not in self.outcome.executed and node_id not in self.outcome.ui
            wants = self._schema(self._class(node_id)).has_intermediate_output
            if unseen and wants and entry is not None and entry.ui is not None:
                self._show(node_id, entry.ui)

    def _reach(self, output: str) -> None:
        """Walk from an output to what it needs, depth first, until it has a result."""
        stack = [output]
        while stack:
            node_id = stack[-1]
            if node_id in self.outcome.outputs or self._from_cache(node_id):
                stack.pop()
                continue
            missing = self._missing(node_id)
            if missing:
                stack += reversed(missing)
            elif self._step(node_id):
                stack.pop()

    def _from_cache(self, node_id: str) -> bool:
        entry = self.cache.get(self._signatures[node_id])
        if entry is None:
            return False
        self.outcome.outputs[node_id] = entry.outputs
        if entry.ui is not None:
            self._show(node_id, entry.ui)
        return True

    def _missing(self, node_id: str) -> list[str]:
        """Nodes that must give a result first; a lazy input counts once it was asked for."""
        schema = self._schema(self._class(node_id))
        asked = self._wanted.get(node_id, set())
        needed: list[str] = []
        for name, value in self.prompt[node_id]["inputs"].items():
            entry = schema.input(name)
            if not is_link(value) or entry is None or entry.raw_link:
                continue
            if (not entry.lazy or name in asked) and value[0] not in self.outcome.outputs:
                needed.append(value[0])
        return list(dict.fromkeys(needed))

    def _class(self, node_id: str) -> type[ComfyNode]:
        return self.registry[self.prompt[node_id]["class_type"]]

    def _schema(self, cls: type[ComfyNode]) -> Schema:
        """A class's schema; asked for once a run, since it may list folders."""
        if cls not in self._schemas:
            self._schemas[cls] = cls.GET_SCHEMA()
        return self._schemas[cls]

    def _step(self, node_id: str) -> bool:
        """Run a node whose inputs are there; False when it first wants a lazy one."""
        cls = self._class(node_id)
        schema = self._schema(cls)
        lists: Lists = {}
        session = replace(self.session, node_id=node_id)
        try:
            with activate(session):
                lists = self._lists(node_id, schema)
                self._emit("executing", node=node_id, display_node=node_id)
                if overrides(cls, "check_lazy_status") and self._asks_for_more(
                    node_id, cls, schema, lists
                ):
                    return False
                self._keep(node_id, schema, self._execute(node_id, cls, schema, lists))
        except (InterruptProcessing, Exception) as e:
            raise _Failed(node_id, e, lists) from e
        return True

    def _lists(self, node_id: str, schema: Schema) -> Lists:
        """Values of each input; None for a lazy one that is not evaluated."""
        lists: Lists = {}
        for name, value in self.prompt[node_id]["inputs"].items():
            entry = schema.input(name)
            if is_link(value) and not (entry and entry.raw_link):
                outputs = self.outcome.outputs.get(value[0])
                lists[name] = (None,) if outputs is None else outputs[int(value[1])]
            elif entry is not None:
                lists[name] = [value]
        return lists

    def _asks_for_more(
        self, node_id: str, cls: type[ComfyNode], schema: Schema, lists: Lists
    ) -> bool:
        answers = map_over_lists(
            cls,
            "check_lazy_status",
            lists,
            self._hidden(node_id, schema),
            as_lists=schema.is_input_list,
            before=throw_if_interrupted,
        )
        inputs = self.prompt[node_id]["inputs"]
        names = {name for answer in answers if isinstance(answer, list) for name in answer}
        pending: set[str] = set()
        for name in names:
            value = inputs.get(name)
            if not is_link(value):
                if name not in lists:
                    raise NodeInputError(
                        f"Node {node_id} says it needs input {name}, but there is no input to that "
                        "node at all"
                    )
                continue
            if value[0] not in self.outcome.outputs:
                pending.add(name)
        self._wanted.setdefault(node_id, set()).update(pending)
        return bool(pending)

    def _hidden(self, node_id: str, schema: Schema) -> Any:
        return hidden_values(schema, node_id, self.prompt, self.extra)

    def _execute(
        self, node_id: str, cls: type[ComfyNode], schema: Schema, lists: Lists
    ) -> list[NodeOutput]:
        answers = map_over_lists(
            cls,
            "execute",
            lists,
            self._hidden(node_id, schema),
            as_lists=schema.is_input_list,
            before=throw_if_interrupted,
            blocked=lambda blocker: self._blocked(node_id, blocker),
        )
        return [_normalised(answer, schema) for answer in answers]

    def _blocked(self, node_id: str, blocker: ExecutionBlocker) -> ExecutionBlocker:
        """Tell why a node is skipped, once; what follows it is skipped silently."""
        if blocker.message is not None:
            message = f"Execution Blocked: {blocker.message}"
            self._emit("execution_error", **self._error(node_id, "ExecutionBlocked", message, []))
        return ExecutionBlocker(None)

    def _keep(self, node_id: str, schema: Schema, answers: list[NodeOutput]) -> None:
        outputs = _merged([a.result for a in answers if a.result is not None], schema)
        linked = self._linked_slot(node_id)
        if linked >= len(outputs):  # ComfyUI fails here too, with the same type and node
            raise IndexError(f"output {linked} is linked, but the node gave {len(outputs)}")
        shown = [ui for ui in (a.ui_dict() for a in answers) if ui is not None]
        ui = {k: [e for part in shown for e in part[k]] for k in shown[0]} if shown else None
        self.outcome.outputs[node_id] = outputs
        self.outcome.executed.append(node_id)
        self.cache.set(self._signatures[node_id], CacheEntry(outputs, ui or None))
        if ui:
            self._show(node_id, ui)

    def _linked_slot(self, node_id: str) -> int:
        """The highest output of a node that another one reads, -1 when none does."""
        links = (v for n in self._signatures for v in self.prompt[n]["inputs"].values())
        return max((int(v[1]) for v in links if is_link(v) and v[0] == node_id), default=-1)

    def _show(self, node_id: str, ui: dict[str, Any]) -> None:
        self.outcome.ui[node_id] = ui
        self._emit("executed", node=node_id, display_node=node_id, output=ui)

    def _report(self, failed: _Failed) -> None:
        cause = failed.cause
        self.outcome.exception = cause
        if isinstance(cause, InterruptProcessing):
            self.outcome.status = "interrupted"
            self.outcome.error = self._where(failed.node_id)
            self._emit("execution_interrupted", **self.outcome.error)
            return
        log.debug("node %s failed", failed.node_id, exc_info=cause)
        self.outcome.status = "error"
        lines = traceback.format_tb(cause.__traceback__)
        self.outcome.error = self._error(
            failed.node_id, full_type_name(type(cause)), f"{cause}\n", lines, failed.inputs
        )
        self._emit("execution_error", **self.outcome.error)

    def _where(self, node_id: str) -> dict[str, Any]:
        return {
            "node_id": node_id,
            "node_type": self.prompt[node_id]["class_type"],
            "executed": list(self.outcome.executed),
        }

    def _error(
        self,
        node_id: str,
        exception_type: str,
        message: str,
        lines: list[str],
        inputs: Lists | None = None,
    ) -> dict[str, Any]:
        shown = {name: [_short(v) for v in values] for name, values in (inputs or {}).items()}
        return {
            **self._where(node_id),
            "exception_message": message,
            "exception_type": exception_type,
            "traceback": lines,
            "current_inputs": shown,
            "current_outputs": list(self.outcome.outputs),
        }


def _short(value: Any) -> Any:
    """An input as an error shows it: a picture's shape instead of its numbers."""
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, torch.Tensor):
        return f"tensor {tuple(value.shape)} {value.dtype}"
    return f"{type(value).__name__}"


def _normalised(answer: Any, schema: Schema) -> NodeOutput:
    """What `execute` returned as a NodeOutput; blocked ones have a blocker in each place."""
    if answer is None:
        return NodeOutput()
    if isinstance(answer, tuple):
        return NodeOutput(*answer)
    count = len(schema.outputs)
    if isinstance(answer, ExecutionBlocker):
        return NodeOutput(*[answer] * count)
    if not isinstance(answer, NodeOutput):
        raise TypeError(f"Invalid return type from node: {type(answer)}")
    if answer.block_execution is not None and answer.result is not None:
        return NodeOutput(*[ExecutionBlocker(answer.block_execution)] * count, ui=answer.ui)
    return answer


def _merged(results: list[tuple[Any, ...]], schema: Schema) -> list[list[Any]]:
    """One list of values an output; the entries of an output list go on one by one."""
    if not results:
        return []
    merged: list[list[Any]] = []
    for i, output in enumerate(schema.outputs[: len(results[0])]):
        values: list[Any] = []
        for result in results:
            if output.is_output_list and not isinstance(result[i], ExecutionBlocker):
                values.extend(result[i])
            else:
                values.append(result[i])
        merged.append(values)
    return merged

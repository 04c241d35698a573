"""Results kept between runs, found again by what they were made from, never by node id."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import uuid
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from graphlib import TopologicalSorter
from typing import Any

import numpy as np

from .calls import constants, hidden_values, is_link, map_over_lists
from .schema import overrides
from .validation import Prompt, Registry

log = logging.getLogger("unifashion.host")


@dataclass(frozen=True)
class CacheEntry:
    """What a node gave.

    Attributes:
        outputs: One list of values an output.
        ui: What the page showed, or None.
    """

    outputs: list[list[Any]]
    ui: dict[str, Any] | None


class OutputCache:
    """Results by signature; those that the last prompt did not use are dropped."""

    def __init__(self) -> None:
        self._entries: dict[str, CacheEntry] = {}

    def get(self, signature: str) -> CacheEntry | None:
        """The result of this signature, or None."""
        return self._entries.get(signature)

    def set(self, signature: str, entry: CacheEntry) -> None:
        """Keep a result."""
        self._entries[signature] = entry

    def keep_only(self, signatures: Iterable[str]) -> None:
        """Drop every result but these."""
        kept = set(signatures)
        self._entries = {s: e for s, e in self._entries.items() if s in kept}

    def clear(self) -> None:
        """Drop every result."""
        self._entries.clear()


def signatures(prompt: Prompt, registry: Registry, outputs: Iterable[str]) -> dict[str, str]:
    """A signature for each node that the outputs need: class, fingerprint, constants, ancestry.

    Args:
        prompt: A validated graph: without cycles above `outputs`.
        registry: Known nodes.
        outputs: Nodes that will run.
    """
    graph: dict[str, list[str]] = {}
    waiting = list(outputs)
    while waiting:
        node_id = waiting.pop()
        if node_id not in graph:
            graph[node_id] = [v[0] for v in prompt[node_id]["inputs"].values() if is_link(v)]
            waiting += graph[node_id]
    found: dict[str, str] = {}
    for node_id in TopologicalSorter(graph).static_order():
        found[node_id] = _signature(prompt, registry, node_id, found)
    return found


def _signature(prompt: Prompt, registry: Registry, node_id: str, known: Mapping[str, str]) -> str:
    node = prompt[node_id]
    cls = registry[node["class_type"]]
    own = [node_id] if cls.GET_SCHEMA().not_idempotent else []
    inputs = [
        [name, "link", known[value[0]], value[1]]
        if is_link(value)
        else [name, "value", _plain(value)]
        for name, value in sorted(node["inputs"].items())
    ]
    parts = [node["class_type"], _fingerprint(prompt, registry, node_id), own, inputs]
    return hashlib.sha256(json.dumps(parts).encode()).hexdigest()


def _fingerprint(prompt: Prompt, registry: Registry, node_id: str) -> Any:
    cls = registry[prompt[node_id]["class_type"]]
    if not overrides(cls, "fingerprint_inputs"):
        return False
    schema = cls.GET_SCHEMA()
    try:
        answers = map_over_lists(
            cls,
            "fingerprint_inputs",
            constants(schema, prompt[node_id]["inputs"]),
            hidden_values(schema, node_id),
            as_lists=schema.is_input_list,
        )
    except Exception as e:  # as on ComfyUI: it costs the cache, not the run
        log.warning("%s: fingerprint_inputs raised %r; the node runs anew", cls.__name__, e)
        return _never()
    return _plain(answers)


def _plain(value: Any) -> Any:
    """A value as JSON compares it; what can't be compared equals nothing, a fresh NaN included."""
    if value is math.nan or value is np.nan:
        return "shared nan"  # ComfyUI compares by identity first: one object for all runs is equal
    if isinstance(value, float) and math.isnan(value):
        return _never()
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    if isinstance(value, bytes):
        return ["bytes", value.hex()]
    if isinstance(value, Mapping):
        return ["map", sorted([str(k), _plain(v)] for k, v in value.items())]
    if isinstance(value, (list, tuple)):
        return ["list", *(_plain(v) for v in value)]
    return _never()


def _never() -> str:
    """Something that equals nothing else."""
    return uuid.uuid4().hex

"""How a node's method is called: on a locked class, once for each entry of its input lists."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeGuard

from ...unifashion_core.errors import InputError
from .schema import ComfyNode, ExecutionBlocker, Hidden, HiddenHolder, Schema, locked

Lists = dict[str, Sequence[Any]]
"""Values of each input; one entry where nothing made a list."""


def is_link(value: Any) -> TypeGuard[list[Any]]:
    """Whether a prompt's value is [node id, output index]."""
    return (
        isinstance(value, list)
        and len(value) == 2
        and isinstance(value[0], str)
        and type(value[1]) in (int, float)
    )


def hidden_values(
    schema: Schema,
    node_id: str,
    prompt: dict[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> HiddenHolder:
    """What the schema asks of the host; before the run there is no prompt yet."""
    wanted = set(schema.hidden)
    return HiddenHolder(
        unique_id=node_id if Hidden.unique_id in wanted else None,
        prompt=(prompt or {}) if Hidden.prompt in wanted else None,
        extra_pnginfo=(extra or {}).get("extra_pnginfo")
        if Hidden.extra_pnginfo in wanted
        else None,
    )


def constants(schema: Schema, inputs: Mapping[str, Any]) -> Lists:
    """Inputs as validation and fingerprints see them: a link is None, for it has no value yet."""
    lists: Lists = {}
    for name, value in inputs.items():
        known = schema.input(name)
        if is_link(value) and not (known and known.raw_link):
            lists[name] = (None,)
        elif known is not None:
            lists[name] = [value]
    return lists


def map_over_lists(
    node: type[ComfyNode],
    method: str,
    lists: Lists,
    hidden: HiddenHolder,
    *,
    as_lists: bool,
    before: Callable[[], None] = lambda: None,
    blocked: Callable[[ExecutionBlocker], ExecutionBlocker] = lambda b: b,
) -> list[Any]:
    """Call a method once for each entry; a shorter list repeats its last one.

    Args:
        node: Whose method it is.
        method: Its name.
        lists: Values of each input.
        hidden: What the locked class gets.
        as_lists: Call once, with the lists themselves.
        before: Called before each call; may raise to stop.
        blocked: Told of a blocker that stands in for a call; its answer is the call's result.
    """
    results: list[Any] = []
    for values in _slices(lists, as_lists):
        before()
        blocker = _blocker(values, as_lists)
        if blocker is not None:
            results.append(blocked(blocker))
            continue
        function = getattr(locked(node, hidden), method)
        _check_names(node, function, values)
        results.append(function(**values))
    return results


def _check_names(node: type[ComfyNode], function: Callable[..., Any], names: Iterable[str]) -> None:
    """Refuse a link to an input that a method doesn't take; the host hands all links on."""
    parameters = inspect.signature(function).parameters
    if any(one.kind is one.VAR_KEYWORD for one in parameters.values()):
        return
    strange = [name for name in names if name not in parameters]
    if strange:
        raise InputError(
            f"{node.__name__}: it has no input {strange[0][:60]!r}. Remove it from the workflow."
        )


def _slices(lists: Lists, as_lists: bool) -> list[dict[str, Any]]:
    if as_lists or not lists:
        return [dict(lists)]
    calls = max(len(entries) for entries in lists.values())
    return [
        {name: entries[min(i, len(entries) - 1)] for name, entries in lists.items()}
        for i in range(calls)
    ] or [{}]


def _blocker(values: Mapping[str, Any], as_lists: bool) -> ExecutionBlocker | None:
    entries = (e for v in values.values() for e in v) if as_lists else values.values()
    return next((e for e in entries if isinstance(e, ExecutionBlocker)), None)

"""What is wrong with a prompt, told in ComfyUI's own error types.

The rule that surprises: an input named in a node's `validate_inputs` loses the host's own check of
range and choice, so such a node has to check both itself.
"""

from __future__ import annotations

import inspect
import traceback
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from ...unifashion_core.errors import InputError
from .calls import Lists, constants, hidden_values, map_over_lists
from .schema import ComfyNode, ExecutionBlocker, Schema, overrides
from .values import Input

Prompt = dict[str, dict[str, Any]]
"""Node id to {"class_type", "inputs"}: ComfyUI's API format."""

Registry = Mapping[str, type[ComfyNode]]
"""Node classes by node_id."""

Problem = dict[str, Any]
"""{"type", "message", "details", "extra_info"}, as ComfyUI answers it."""

_MANY_CHOICES = 20  # longer lists are not sent back
_CONVERT = {"INT": int, "FLOAT": float, "STRING": str, "BOOLEAN": bool}


class PromptError(InputError):
    """A prompt of which nothing, or not everything, can run.

    Attributes:
        error: What is wrong with the whole, as ComfyUI's `error`.
        node_errors: What is wrong with each node, as ComfyUI's `node_errors`.
    """

    def __init__(self, error: Problem, node_errors: dict[str, Any]):
        self.error = error
        self.node_errors = node_errors
        lines = [
            f"node {node} ({found['class_type']}): {p['message']} [{p['type']}]: {p['details']}"
            for node, found in node_errors.items()
            for p in found["errors"]
        ]
        whole = f"{error['message']} [{error['type']}] {error['details']}".strip()
        super().__init__(
            f"Prompt: {'; '.join(lines) or whole}. Correct the named nodes and run it again."
        )


@dataclass
class Verdict:
    """Outcome of a validation.

    Attributes:
        outputs: Output nodes that can run.
        error: What is wrong with the whole; None when something can run.
        node_errors: What is wrong with each node.
    """

    outputs: list[str] = field(default_factory=list)
    error: Problem | None = None
    node_errors: dict[str, Any] = field(default_factory=dict)


def problem(type: str, message: str, details: str = "", **extra: Any) -> Problem:
    """An entry in ComfyUI's form."""
    return {"type": type, "message": message, "details": details, "extra_info": extra}


def types_match(received: str, wanted: str) -> bool:
    """Whether an output of one type may feed an input of another; each may be a union."""
    given, taken = ({t.strip() for t in names.split(",")} for names in (received, wanted))
    return "*" in given | taken or bool(given & taken)


def validate_prompt(
    prompt: Prompt, registry: Registry, targets: Iterable[str] | None = None
) -> Verdict:
    """Check a prompt; values of plain types are converted in place, as ComfyUI does.

    Args:
        prompt: The graph.
        registry: Known nodes.
        targets: Output nodes to run; all when None.
    """
    outputs: list[str] = []
    for node_id, node in prompt.items():
        damaged = _damaged(node_id, node)
        if damaged is not None:
            return Verdict(error=damaged)
        unknown = _unknown_class(node_id, node, registry)
        if unknown is not None:
            return Verdict(error=unknown)
        wanted = targets is None or node_id in targets
        if wanted and registry[node["class_type"]].GET_SCHEMA().is_output_node:
            outputs.append(node_id)
    if not outputs:
        return Verdict(error=problem("prompt_no_outputs", "Prompt has no outputs"))
    return _Validator(prompt, registry).verdict(outputs)


def _damaged(node_id: Any, node: Any) -> Problem | None:
    """What keeps an entry from being a node at all."""
    if not isinstance(node_id, str) or not isinstance(node, Mapping):
        return problem("invalid_prompt", "An entry is no node", f"Node ID '#{str(node_id)[:80]}'")
    where = f"Node ID '#{node_id[:80]}'"
    meta, name = node.get("_meta", {}), node.get("class_type")
    if not isinstance(meta, Mapping) or not isinstance(name, (str, type(None))):
        return problem("invalid_prompt", "A node's class_type or _meta is damaged", where)
    if not isinstance(node.get("inputs", {}), Mapping):
        return problem("invalid_prompt", "A node's inputs are no object", where)
    return None


def _unknown_class(node_id: str, node: Mapping[str, Any], registry: Registry) -> Problem | None:
    class_type = node.get("class_type")
    if class_type in registry:
        return None
    title = node.get("_meta", {}).get("title", class_type)
    message = f"Node '{title}' not found. The custom node may not be installed."
    if class_type is None:
        named = title or f"ID #{node_id}"
        message = f"Node '{named}' has no class_type. The workflow may be corrupted."
    return problem(
        "missing_node_type",
        message,
        f"Node ID '#{node_id}'",
        node_id=node_id,
        class_type=class_type,
        node_title=title,
    )


@dataclass
class _Checked:
    """A node's own problems, and whether all that it needs is sound too."""

    sound: bool
    problems: list[Problem]


class _Validator:
    """One walk over a prompt; each node is looked at once."""

    def __init__(self, prompt: Prompt, registry: Registry):
        self.prompt = prompt
        self.registry = registry
        self.done: dict[str, _Checked] = {}
        self.path: list[str] = []

    def verdict(self, outputs: list[str]) -> Verdict:
        result = Verdict()
        lines: list[str] = []
        for output in outputs:
            try:
                checked = self.node(output)
            except (
                Exception
            ) as e:  # ComfyUI answers whatever went wrong as a problem of this output
                checked = self.done[output] = _Checked(False, [_exception("validation", "node", e)])
            if checked.sound:
                result.outputs.append(output)
                continue
            lines += [f"{p['message']}: {p['details']}" for p in checked.problems]
            self._note_errors(result.node_errors, output)
        if not result.outputs:
            result.error = problem(
                "prompt_outputs_failed_validation",
                "Prompt outputs failed validation",
                "\n".join(lines),
            )
        return result

    def _note_errors(self, node_errors: dict[str, Any], output: str) -> None:
        for node_id, checked in self.done.items():
            if checked.sound or not checked.problems:
                continue
            entry = node_errors.setdefault(
                node_id,
                {
                    "errors": checked.problems,
                    "dependent_outputs": [],
                    "class_type": self.prompt[node_id]["class_type"],
                },
            )
            entry["dependent_outputs"].append(output)

    def node(self, node_id: str) -> _Checked:
        if node_id in self.done:
            return self.done[node_id]
        if node_id in self.path:
            return self._cycle(node_id)
        inputs = self.prompt[node_id]["inputs"]
        cls = self.registry[self.prompt[node_id]["class_type"]]
        schema = cls.GET_SCHEMA()
        own_check = _OwnCheck(cls)
        found = _Checked(True, [])
        received: dict[str, str] = {}
        for entry in schema.inputs:
            if entry.id in inputs and isinstance(inputs[entry.id], list):
                self._link(node_id, entry, inputs[entry.id], own_check, received, found)
            else:
                _check_value(entry, inputs, own_check, found)
        if own_check.applies:
            found.problems += own_check.run(node_id, schema, inputs, received)
        return self._join(node_id, found)

    def _join(self, node_id: str, found: _Checked) -> _Checked:
        """Keep a cycle's problem that was noted on this node while its inputs were walked."""
        earlier = self.done.get(node_id, _Checked(True, []))
        problems = earlier.problems + [p for p in found.problems if p not in earlier.problems]
        sound = earlier.sound and found.sound and not found.problems
        self.done[node_id] = _Checked(sound, problems)
        return self.done[node_id]

    def _cycle(self, node_id: str) -> _Checked:
        walk = [*self.path[self.path.index(node_id) :], node_id]
        nodes = list(dict.fromkeys(walk))
        text = " -> ".join(f"{n} ({self.prompt[n]['class_type']})" for n in walk)
        for n in nodes:
            entry = problem(
                "dependency_cycle",
                "Dependency cycle detected",
                text,
                node_id=n,
                cycle_nodes=nodes,
            )
            self.done[n] = _Checked(False, [entry])
        return self.done[node_id]

    def _link(
        self,
        node_id: str,
        entry: Input,
        link: list[Any],
        own_check: _OwnCheck,
        received: dict[str, str],
        found: _Checked,
    ) -> None:
        config = entry.entry()
        if len(link) != 2:
            message = "Bad linked input, must be a length-2 list of [node_id, slot_index]"
            found.problems.append(_about("bad_linked_input", message, entry, link))
            return
        source, slot = link
        outputs = self.registry[self.prompt[source]["class_type"]].GET_SCHEMA().outputs
        given, wanted = outputs[slot].io_type, entry.get_io_type()
        received[entry.id] = given
        if "input_types" not in own_check.names and not types_match(given, wanted):
            details = f"{entry.id}, received_type({given}) mismatch input_type({wanted})"
            found.problems.append(
                problem(
                    "return_type_mismatch",
                    "Return type mismatch between linked nodes",
                    details,
                    input_name=entry.id,
                    input_config=config,
                    received_type=given,
                    linked_node=link,
                )
            )
            return
        self.path.append(node_id)
        try:
            found.sound &= self.node(source).sound
        except Exception as e:  # told as a problem of the node it happened in, as ComfyUI does
            found.sound = False
            extra = {"input_name": entry.id, "input_config": config, "linked_node": link}
            self.done[source] = _Checked(
                False, [_exception("inner_validation", "inner node", e, **extra)]
            )
        finally:
            self.path.pop()


class _OwnCheck:
    """A node's `validate_inputs`: which inputs it takes over, and what it says."""

    def __init__(self, node: type[ComfyNode]):
        self.node = node
        self.names: list[str] = []
        self.takes_all = False
        if overrides(node, "validate_inputs"):
            signature = inspect.getfullargspec(node.validate_inputs)
            # keyword-only names are left out: ComfyUI does not see them either
            self.names, self.takes_all = signature.args, signature.varkw is not None
        self.applies = bool(self.names) or self.takes_all

    def covers(self, name: str) -> bool:
        return self.takes_all or name in self.names

    def run(
        self, node_id: str, schema: Schema, inputs: Mapping[str, Any], received: dict[str, str]
    ) -> list[Problem]:
        given = constants(schema, inputs)
        lists: Lists = {name: value for name, value in given.items() if self.covers(name)}
        if "input_types" in self.names:
            lists["input_types"] = [received]
        answers = map_over_lists(
            self.node,
            "validate_inputs",
            lists,
            hidden_values(schema, node_id),
            as_lists=schema.is_input_list,
        )
        wrong = [a for a in answers if a is not True and not isinstance(a, ExecutionBlocker)]
        return [
            problem(
                "custom_validation_failed",
                "Custom validation failed for node",
                name if answer is False else f"{name} - {answer}",
                input_name=name,
            )
            for name in lists
            for answer in wrong
        ]


def _about(type: str, message: str, entry: Input, value: Any, **extra: Any) -> Problem:
    info = {"input_name": entry.id, "input_config": entry.entry(), "received_value": value}
    details = extra.pop("details", entry.id)
    return problem(type, message, details, **{**info, **extra})


def _exception(kind: str, whom: str, error: Exception, **extra: Any) -> Problem:
    return problem(
        f"exception_during_{kind}",
        f"Exception when validating {whom}",
        str(error),
        exception_message=str(error),
        exception_type=full_type_name(type(error)),
        traceback=traceback.format_tb(error.__traceback__),
        **extra,
    )


def full_type_name(kind: type) -> str:
    """`ValueError`, or `package.module.Name` for what is not built in."""
    module = kind.__module__
    return kind.__qualname__ if module == "builtins" else f"{module}.{kind.__qualname__}"


def _check_value(
    entry: Input, inputs: dict[str, Any], own_check: _OwnCheck, found: _Checked
) -> None:
    """Convert a constant in place and check it against the schema."""
    if entry.id not in inputs:
        if not entry.optional:
            message = "Required input is missing"
            found.problems.append(
                problem("required_input_missing", message, entry.id, input_name=entry.id)
            )
        return
    value = inputs[entry.id]
    if isinstance(value, dict) and "__value__" in value:
        value = value["__value__"]  # how the page writes a list that is no link
    kind = entry.get_io_type()
    try:
        value = _CONVERT[kind](value) if kind in _CONVERT else value
    except Exception as e:  # int(…) of anything may raise anything
        message = f"Failed to convert an input value to a {kind} value"
        details = f"{entry.id}, {value}, {e}"
        about = _about("invalid_input_type", message, entry, value, details=details)
        about["extra_info"]["exception_message"] = str(e)
        found.problems.append(about)
        return
    inputs[entry.id] = value
    if not own_check.covers(entry.id):
        found.problems += _range_and_choice(entry, value)


def _range_and_choice(entry: Input, value: Any) -> list[Problem]:
    low, high = entry.options.get("min"), entry.options.get("max")
    if low is not None and value < low:
        message = f"Value {value} smaller than min of {low}"
        return [_about("value_smaller_than_min", message, entry, value)]
    if high is not None and value > high:
        message = f"Value {value} bigger than max of {high}"
        return [_about("value_bigger_than_max", message, entry, value)]
    choices = entry.options.get("options")
    if entry.io_type != "COMBO" or choices is None or value in choices:
        return []
    many = len(choices) > _MANY_CHOICES
    shown = f"(list of length {len(choices)})" if many else str(choices)
    details = f"{entry.id}: {value!r} not in {shown}"
    about = _about("value_not_in_list", "Value not in list", entry, value, details=details)
    if many:
        about["extra_info"]["input_config"] = None
    return [about]

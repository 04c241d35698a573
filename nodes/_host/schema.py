"""The V3 node: its schema, its base class, its result, and its `/object_info` entry."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Any, ClassVar

from .values import Input, Output


class Hidden(str, Enum):
    """Values that the host gives a node without a socket."""

    unique_id = "UNIQUE_ID"
    prompt = "PROMPT"
    extra_pnginfo = "EXTRA_PNGINFO"


@dataclass(frozen=True)
class HiddenHolder:
    """Hidden values of one call; None where the schema did not ask."""

    unique_id: str | None = None
    prompt: dict[str, Any] | None = None
    extra_pnginfo: dict[str, Any] | None = None


@dataclass
class Schema:
    """What a node is.

    Attributes:
        node_id: Its literal id; never changes after a release.
        display_name: Title of a fresh node.
        category: Path in the menu.
        inputs: Sockets and widgets, in order.
        outputs: Output sockets, in order.
        hidden: Values wanted from the host.
        description: Shown on hover.
        search_aliases: Other words under which the menu finds it.
        is_input_list: One call gets whole lists, widgets too.
        is_output_node: Runs without anything linked to it.
        is_deprecated: Left out of the menu's search.
        is_experimental: Marked so.
        is_dev_only: Shown in developer mode alone.
        not_idempotent: Two equal nodes don't share a result.
        essentials_category: Path in the Essentials tab.
        has_intermediate_output: Its UI result is sent again when it was cached.
    """

    node_id: str
    display_name: str | None = None
    category: str = "sd"
    inputs: Sequence[Input] = field(default_factory=list)
    outputs: Sequence[Output] = field(default_factory=list)
    hidden: Sequence[Hidden] = field(default_factory=list)
    description: str = ""
    search_aliases: list[str] = field(default_factory=list)
    is_input_list: bool = False
    is_output_node: bool = False
    is_deprecated: bool = False
    is_experimental: bool = False
    is_dev_only: bool = False
    not_idempotent: bool = False
    essentials_category: str | None = None
    has_intermediate_output: bool = False

    def finished(self) -> Schema:
        """This schema, checked, with the hidden values that every output node gets.

        Raises:
            ValueError: If two inputs or two outputs share an id.
        """
        for kind, ids in (
            ("Input", [i.id for i in self.inputs]),
            ("Output", [o.id for o in self.outputs if o.id is not None]),
        ):
            twice = sorted({name for name in ids if ids.count(name) > 1})
            if twice:
                raise ValueError(f"{self.node_id}: {kind} ids must be unique, {twice} are not.")
        always = (Hidden.prompt, Hidden.extra_pnginfo) if self.is_output_node else ()
        self.hidden = [*self.hidden, *(h for h in always if h not in self.hidden)]
        return self

    def input(self, name: str) -> Input | None:
        """The input of this id, or None."""
        return next((i for i in self.inputs if i.id == name), None)

    def info(self, python_module: str) -> dict[str, Any]:
        """Entry of `/object_info`, with lists where JSON has them."""
        groups: dict[str, dict[str, Any]] = {"required": {}}
        for entry in self.inputs:
            group = groups.setdefault("optional" if entry.optional else "required", {})
            group[entry.id] = list(entry.entry())
        if self.hidden:
            groups["hidden"] = {h.name: [h.value] for h in self.hidden}
        return {
            "input": groups,
            "input_order": {group: list(entries) for group, entries in groups.items()},
            "is_input_list": self.is_input_list,
            "output": [o.io_type for o in self.outputs],
            "output_is_list": [o.is_output_list for o in self.outputs],
            "output_name": [o.display_name or o.io_type for o in self.outputs],
            "output_tooltips": [o.tooltip or None for o in self.outputs],
            "output_matchtypes": None,
            "name": self.node_id,
            "display_name": self.display_name,
            "description": self.description,
            "python_module": python_module,
            "category": self.category,
            "output_node": self.is_output_node,
            "deprecated": self.is_deprecated,
            "experimental": self.is_experimental,
            "dev_only": self.is_dev_only,
            "api_node": False,
            "price_badge": None,
            "search_aliases": self.search_aliases or None,
            "essentials_category": self.essentials_category,
            "has_intermediate_output": self.has_intermediate_output,
        }


class NodeOutput:
    """What `execute` returns.

    Args:
        *values: One value an output.
        ui: What the page shows, a dict of lists or an object with `as_dict`.
        block_execution: Why what follows must not run; needs as many placeholder values as outputs.
    """

    def __init__(self, *values: Any, ui: Any = None, block_execution: str | None = None):
        self.args = values
        self.ui = ui
        self.block_execution = block_execution

    @property
    def result(self) -> tuple[Any, ...] | None:
        """The values, or None where there are none."""
        return self.args or None

    def ui_dict(self) -> dict[str, Any] | None:
        """The UI part as a plain dict."""
        if self.ui is None or isinstance(self.ui, dict):
            return self.ui
        return self.ui.as_dict()


@dataclass(frozen=True)
class ExecutionBlocker:
    """Stands where a value would be: nothing that needs it runs.

    Attributes:
        message: Why; None blocks silently.
    """

    message: str | None


class _NodeMeta(type):
    """Refuses changes of the class that a call gets, as ComfyUI does."""

    def __setattr__(cls, name: str, value: Any) -> None:
        if cls.__dict__.get("_locked"):
            raise AttributeError(
                f"Cannot modify class attribute '{name}' on locked class '{cls.__name__}'"
            )
        super().__setattr__(name, value)


class ComfyNode(metaclass=_NodeMeta):
    """Base of every node: class methods only, no state."""

    RELATIVE_PYTHON_MODULE: ClassVar[str] = "nodes"
    hidden: ClassVar[Any] = None
    """A `HiddenHolder` while a call runs, None outside."""

    @classmethod
    def define_schema(cls) -> Schema:
        """The node's schema; called often."""
        raise NotImplementedError(f"{cls.__name__}: define_schema is missing.")

    @classmethod
    def execute(cls, **kwargs: Any) -> NodeOutput:
        """The node's work."""
        raise NotImplementedError(f"{cls.__name__}: execute is missing.")

    @classmethod
    def validate_inputs(cls, **kwargs: Any) -> bool | str:
        """True, or what is wrong; the inputs it names lose the host's own value check."""
        raise NotImplementedError

    @classmethod
    def fingerprint_inputs(cls, **kwargs: Any) -> Any:
        """A value that changes when the node must run again."""
        raise NotImplementedError

    @classmethod
    def check_lazy_status(cls, **kwargs: Any) -> list[str]:
        """Names of the lazy inputs that are still wanted."""
        raise NotImplementedError

    @classmethod
    def GET_SCHEMA(cls) -> Schema:
        """The finished schema."""
        return cls.define_schema().finished()

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict[str, Any]:
        """The entry of `/object_info`."""
        return cls.GET_SCHEMA().info(cls.RELATIVE_PYTHON_MODULE)


class ComfyExtension:
    """Base of a pack: `comfy_entrypoint` returns one."""

    async def on_load(self) -> None:
        """Called once before the nodes are asked for."""

    async def get_node_list(self) -> list[type[ComfyNode]]:
        """The pack's nodes, in menu order."""
        raise NotImplementedError


def overrides(node: type[ComfyNode], method: str) -> bool:
    """Whether a node brings its own form of an optional method."""
    return getattr(node, method).__func__ is not getattr(ComfyNode, method).__func__


def locked(node: type[ComfyNode], hidden: HiddenHolder) -> type[ComfyNode]:
    """The class that one call runs on: it has the hidden values and can't be changed."""
    return _NodeMeta(node.__name__, (node,), {"hidden": hidden, "_locked": True})  # pyright: ignore[reportReturnType] - a subclass of `node`

"""Input and output types of a node's schema: the names of ComfyUI's V3 `io` that our nodes use.

Every option but the id (and a combo's options) is keyword-only here, so what runs on this host also
runs on ComfyUI's.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, ClassVar


class FolderType(str, Enum):
    """Where a saved file lies."""

    input = "input"
    output = "output"
    temp = "temp"


class UploadType(str, Enum):
    """Upload buttons of a combo."""

    image = "image_upload"


class NumberDisplay(str, Enum):
    """How a number's widget is drawn."""

    number = "number"
    slider = "slider"


class ControlAfterGenerate(str, Enum):
    """What the page does with a seed after each run."""

    fixed = "fixed"
    increment = "increment"
    decrement = "decrement"
    randomize = "randomize"


def _given(**options: Any) -> dict[str, Any]:
    """The options that were set, enums as their plain values."""
    return {
        name: value.value if isinstance(value, Enum) else value
        for name, value in options.items()
        if value is not None
    }


class Input:
    """An input socket.

    Args:
        id: Keyword under which `execute` gets the value; never changes after a release.
        display_name: Label, where it differs from the id.
        optional: Whether a prompt may leave it out.
        tooltip: What it is for, with unit and range.
        lazy: Evaluated only when `check_lazy_status` asks for it.
        extra_dict: Further options for the page.
        raw_link: Hand over the link itself, not its value.
        advanced: Folded away by the page.
    """

    io_type: ClassVar[str] = "*"

    def __init__(
        self,
        id: str,
        *,
        display_name: str | None = None,
        optional: bool = False,
        tooltip: str | None = None,
        lazy: bool | None = None,
        extra_dict: Mapping[str, Any] | None = None,
        raw_link: bool | None = None,
        advanced: bool | None = None,
    ):
        self.id = id
        self.optional = optional
        self.lazy = bool(lazy)
        self.raw_link = bool(raw_link)
        self.options: dict[str, Any] = _given(
            display_name=display_name,
            tooltip=tooltip,
            lazy=lazy,
            rawLink=raw_link,
            advanced=advanced,
        ) | _given(**(extra_dict or {}))

    def get_io_type(self) -> str:
        """The type name that `/object_info` shows."""
        return self.io_type

    def entry(self) -> tuple[Any, dict[str, Any]]:
        """Type and options as `/object_info` has them."""
        return self.get_io_type(), dict(self.options)


class WidgetInput(Input):
    """An input that the page draws as a widget.

    Args:
        id: As in `Input`.
        default: Value of a fresh node.
        socketless: Whether the widget takes no link.
        force_input: Whether it is a socket without a widget.
        **common: The other options of `Input`.
    """

    def __init__(
        self,
        id: str,
        *,
        default: Any = None,
        socketless: bool | None = None,
        force_input: bool | None = None,
        **common: Any,
    ):
        super().__init__(id, **common)
        self.default = default
        self.options |= _given(default=default, socketless=socketless, forceInput=force_input)


class Output:
    """An output socket.

    Args:
        id: Name of the output; never changes after a release.
        display_name: Label, where it differs from the id.
        tooltip: What it holds.
        is_output_list: Whether `execute` returns a list whose entries go on one by one.
    """

    io_type: ClassVar[str] = "*"

    def __init__(
        self,
        id: str | None = None,
        *,
        display_name: str | None = None,
        tooltip: str | None = None,
        is_output_list: bool = False,
    ):
        self.id = id
        self.display_name = display_name or id
        self.tooltip = tooltip
        self.is_output_list = is_output_list


class ComfyType:
    """A wire type: its name and the classes of its inputs and outputs."""

    io_type: ClassVar[str] = "*"
    Type: ClassVar[Any] = Any

    class Input(Input):
        """An input of this type."""

    class Output(Output):
        """An output of this type."""


def Custom(io_type: str) -> type[ComfyType]:
    """Make a wire type.

    Args:
        io_type: Its name, upper case and prefixed with the pack's.
    """
    members = {
        "io_type": io_type,
        "Input": type("Input", (Input,), {"io_type": io_type}),
        "Output": type("Output", (Output,), {"io_type": io_type}),
    }
    return type(io_type, (ComfyType,), members)


Image = Custom("IMAGE")
Mask = Custom("MASK")
Latent = Custom("LATENT")
AnyType = Custom("*")


class Boolean:
    """True or false."""

    io_type: ClassVar[str] = "BOOLEAN"

    class Input(WidgetInput):
        """A switch; `label_on` and `label_off` name its two states."""

        io_type = "BOOLEAN"

        def __init__(
            self,
            id: str,
            *,
            label_on: str | None = None,
            label_off: str | None = None,
            **common: Any,
        ):
            super().__init__(id, **common)
            self.options |= _given(label_on=label_on, label_off=label_off)

    class Output(Output):
        """A truth value."""

        io_type = "BOOLEAN"


class Int:
    """A whole number."""

    io_type: ClassVar[str] = "INT"

    class Input(WidgetInput):
        """A number field; `control_after_generate` makes it a seed."""

        io_type = "INT"

        def __init__(
            self,
            id: str,
            *,
            min: int | None = None,
            max: int | None = None,
            step: int | None = None,
            control_after_generate: bool | ControlAfterGenerate | None = None,
            display_mode: NumberDisplay | None = None,
            **common: Any,
        ):
            super().__init__(id, **common)
            self.options |= _given(
                min=min,
                max=max,
                step=step,
                control_after_generate=control_after_generate,
                display=display_mode,
            )

    class Output(Output):
        """A whole number."""

        io_type = "INT"


class Float:
    """A number."""

    io_type: ClassVar[str] = "FLOAT"

    class Input(WidgetInput):
        """A number field; `round` is the step that values are rounded to."""

        io_type = "FLOAT"

        def __init__(
            self,
            id: str,
            *,
            min: float | None = None,
            max: float | None = None,
            step: float | None = None,
            round: float | None = None,
            display_mode: NumberDisplay | None = None,
            **common: Any,
        ):
            super().__init__(id, **common)
            self.options |= _given(min=min, max=max, step=step, round=round, display=display_mode)

    class Output(Output):
        """A number."""

        io_type = "FLOAT"


class String:
    """A text."""

    io_type: ClassVar[str] = "STRING"

    class Input(WidgetInput):
        """A text field; `multiline` makes it a box."""

        io_type = "STRING"

        def __init__(
            self,
            id: str,
            *,
            multiline: bool = False,
            placeholder: str | None = None,
            dynamic_prompts: bool | None = None,
            **common: Any,
        ):
            super().__init__(id, **common)
            self.options |= _given(
                multiline=multiline, placeholder=placeholder, dynamicPrompts=dynamic_prompts
            )

    class Output(Output):
        """A text."""

        io_type = "STRING"


class Combo:
    """One of a list of choices."""

    io_type: ClassVar[str] = "COMBO"

    class Input(WidgetInput):
        """A dropdown; `upload` adds a button that fills it."""

        io_type = "COMBO"

        def __init__(
            self,
            id: str,
            options: Sequence[str] | Sequence[int] | type[Enum],
            *,
            default: str | int | Enum | None = None,
            control_after_generate: bool | ControlAfterGenerate | None = None,
            upload: UploadType | None = None,
            image_folder: FolderType | None = None,
            **common: Any,
        ):
            plain = default.value if isinstance(default, Enum) else default
            super().__init__(id, default=plain, **common)
            is_enum = isinstance(options, type)
            self.choices = [c.value for c in options] if is_enum else list(options)
            self.options |= _given(
                multiselect=False,
                options=self.choices,
                control_after_generate=control_after_generate,
                image_folder=image_folder,
            )
            if upload is not None:
                self.options[upload.value] = True

    class Output(Output):
        """A choice."""

        io_type = "COMBO"


class MultiType:
    """An input that takes several types."""

    class Input(Input):
        """A socket for any of `types`."""

        def __init__(self, id: str, types: Sequence[Any], **common: Any):
            super().__init__(id, **common)
            self._names = list(dict.fromkeys(t.io_type for t in types))

        def get_io_type(self) -> str:
            """The names, comma-separated."""
            return ",".join(self._names)

"""Common inputs of the caption topics: captioner, seed, and how a caption is written."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..unifashion_core.caption.styles import (
    DEFAULT_STYLE,
    StyleOptions,
    load_styles,
    parse_replacements,
)
from ._comfy import io
from ._types import Captioner

if TYPE_CHECKING:
    from ..unifashion_core.caption.chosen_style import ChosenStyle

BATCH = 16


def captioner_input() -> io.Input:
    """What says a picture."""
    return Captioner.Input("captioner", tooltip="From Load Captioner.")


def seed_input() -> io.Input:
    """The seed of a caption that is drawn."""
    return io.Int.Input(
        "seed",
        default=0,
        min=0,
        max=0xFFFFFFFFFFFFFFFF,
        control_after_generate=True,
        tooltip="What nucleus decoding draws from; the same seed gives the same words. Greedy and "
        "beam don't draw, and give the same for every seed.",
    )


def style_inputs() -> list[io.Input]:
    """Style and its options, as `chosen_style` takes them."""
    return [
        io.Combo.Input(
            "style",
            options=list(load_styles()),
            default=DEFAULT_STYLE,
            tooltip="How captions are written. "
            + "; ".join(f"{name}: {style.about}" for name, style in load_styles().items())
            + ".",
        ),
        io.String.Input(
            "trigger",
            default="",
            tooltip="The word that a LoRA learns, such as ohwx; the style lora puts it first and "
            "needs it. Not used by styles without one.",
        ),
        io.String.Input(
            "prefix", default="", tooltip="Stands before every caption, as it is. Empty = nothing."
        ),
        io.String.Input(
            "suffix", default="", tooltip="Stands after every caption, as it is. Empty = nothing."
        ),
        io.String.Input(
            "replacements",
            default="",
            multiline=True,
            tooltip="One replacement a line: t-shirt -> tee. Whole words, in any case. "
            "Empty = none.",
        ),
    ]


def chosen_style(
    name: str, trigger: str, prefix: str, suffix: str, replacements: str
) -> ChosenStyle:
    """The style that `style_inputs` describe."""
    from ..unifashion_core.caption.chosen_style import choose_style

    options = StyleOptions(trigger, prefix, suffix, parse_replacements(replacements))
    return choose_style(name, options)

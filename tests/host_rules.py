"""Nodes that make each rule of the executor visible; they run on any host through `_comfy`."""

from __future__ import annotations

import math
import time
from typing import Any

MISSING = "(not given)"
PICKS = ["left", "right"]
MODEL_KIND = "rules_models"
MANY = [f"choice {i}" for i in range(30)]


def build(comfy: Any) -> list[type]:
    """The node classes, on the host that a `_comfy` module speaks for."""
    makers = (_value_nodes, _list_nodes, _cache_nodes, _run_nodes, _service_nodes)
    return [node for make in makers for node in make(comfy)]


def _schema(io: Any, name: str, inputs: list[Any], output: Any = None, **more: Any) -> Any:
    outputs = [output or io.String.Output("text")]
    return io.Schema(
        node_id=f"Rules_{name}", category="rules", inputs=inputs, outputs=outputs, **more
    )


def _value_nodes(comfy: Any) -> list[type]:
    io = comfy.io
    thing = io.Custom("RULES_THING")

    def plain(**more: Any) -> list[Any]:
        return [
            io.Int.Input("whole", default=1, min=0, max=10, tooltip="A number.", **more),
            io.Float.Input("part", default=0.5, min=0.0, max=1.0, step=0.1, optional=True),
            io.String.Input("word", default="", multiline=True, optional=True),
            io.Boolean.Input("yes", default=True, optional=True, label_on="on", label_off="off"),
            io.Combo.Input("pick", PICKS, default="left", optional=True),
            io.Combo.Input("many", MANY, optional=True),
        ]

    class Plain(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Plain", plain(), search_aliases=["simple"])

        @classmethod
        def execute(cls, *, whole, part=MISSING, word=MISSING, yes=MISSING, pick=MISSING, **rest):
            return io.NodeOutput(repr((whole, part, word, yes, pick, *rest)))

    class Named(Plain):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Named", plain())

        @classmethod
        def validate_inputs(cls, whole, pick="left"):
            answers = {7: "seven is unlucky", 8: False}
            return answers.get(whole, True)

    class TakesAll(Plain):
        @classmethod
        def define_schema(cls):
            return _schema(io, "TakesAll", plain())

        @classmethod
        def validate_inputs(cls, **kwargs):
            return True

    class KeywordOnly(Plain):
        @classmethod
        def define_schema(cls):
            return _schema(io, "KeywordOnly", plain())

        @classmethod
        def validate_inputs(cls, *, whole):
            return True

    class OwnTypes(Plain):
        @classmethod
        def define_schema(cls):
            return _schema(io, "OwnTypes", plain())

        @classmethod
        def validate_inputs(cls, input_types, whole=None):
            return f"types {input_types}, whole {whole}"

    class Make(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Make", [], thing.Output("thing"))

        @classmethod
        def execute(cls):
            return io.NodeOutput({"made": True})

    class Take(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Take", [thing.Input("thing")])

        @classmethod
        def execute(cls, *, thing):
            return io.NodeOutput(repr(thing))

    class Union(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Union", [io.MultiType.Input("value", [io.Int, io.String])])

        @classmethod
        def execute(cls, *, value):
            return io.NodeOutput(repr(value))

    class Number(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Number", [io.Int.Input("value")], io.Int.Output("number"))

        @classmethod
        def execute(cls, *, value):
            return io.NodeOutput(value)

    return [Plain, Named, TakesAll, KeywordOnly, OwnTypes, Make, Take, Union, Number]


def _list_nodes(comfy: Any) -> list[type]:
    io, ui = comfy.io, comfy.ui

    class Show(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Show", [io.AnyType.Input("value")], is_output_node=True)

        @classmethod
        def execute(cls, *, value):
            return io.NodeOutput(str(value), ui=ui.PreviewText(str(value)))

    class Middle(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            inputs = [io.AnyType.Input("value")]
            return _schema(io, "Middle", inputs, has_intermediate_output=True)

        @classmethod
        def execute(cls, *, value):
            return io.NodeOutput(value, ui=ui.PreviewText(f"middle {value}"))

    class Spread(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            inputs = [io.Int.Input("count"), io.Int.Input("first", default=0)]
            output = io.Int.Output("numbers", is_output_list=True)
            return _schema(io, "Spread", inputs, output)

        @classmethod
        def execute(cls, *, count, first):
            return io.NodeOutput(list(range(first, first + count)))

    class Pair(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Pair", [io.AnyType.Input("a"), io.AnyType.Input("b")])

        @classmethod
        def execute(cls, *, a, b):
            return io.NodeOutput(f"{a}-{b}")

    class Gather(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            inputs = [io.AnyType.Input("values"), io.String.Input("widget")]
            return _schema(io, "Gather", inputs, is_input_list=True)

        @classmethod
        def execute(cls, *, values, widget):
            return io.NodeOutput(f"{values} {widget}")

    class Choose(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            inputs = [
                io.Combo.Input("side", [*PICKS, "neither"]),
                io.AnyType.Input("left", lazy=True, optional=True),
                io.AnyType.Input("right", lazy=True, optional=True),
            ]
            return _schema(io, "Choose", inputs)

        @classmethod
        def check_lazy_status(cls, side, left=None, right=None):
            wanted = {"left": left, "right": right}
            return [side] if side in wanted and wanted[side] is None else []

        @classmethod
        def execute(cls, *, side, left=None, right=None):
            return io.NodeOutput(f"{side}: {left} {right}")

    class Block(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Block", [io.Boolean.Input("placeholder", default=True)])

        @classmethod
        def execute(cls, *, placeholder):
            values = (None,) if placeholder else ()
            return io.NodeOutput(*values, block_execution="nothing to show")

    return [Show, Middle, Spread, Pair, Gather, Choose, Block]


def _cache_nodes(comfy: Any) -> list[type]:
    io = comfy.io
    calls: dict[str, int] = {}
    seen: list[str] = []

    def count(name: str) -> str:
        calls[name] = calls.get(name, 0) + 1
        return f"{name} ran {calls[name]}"

    def counter(name: str, **more: Any) -> type:
        class Counter(io.ComfyNode):
            @classmethod
            def define_schema(cls):
                inputs = [io.String.Input("name"), io.AnyType.Input("after", optional=True)]
                return _schema(io, name, inputs, **more)

            @classmethod
            def execute(cls, *, name, after=None):
                return io.NodeOutput(count(name))

        return Counter

    class Fingerprint(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            inputs = [
                io.String.Input("name"),
                io.String.Input("mode"),
                io.AnyType.Input("linked", optional=True),
            ]
            return _schema(io, "Fingerprint", inputs)

        @classmethod
        def fingerprint_inputs(cls, name, mode, linked=MISSING):
            seen.append(f"{name} {linked}")
            if mode == "raise":
                raise RuntimeError("no fingerprint today")
            answers = {"nan": float("nan"), "true": True, "clock": time.monotonic_ns()}
            return answers.get(mode, mode)

        @classmethod
        def execute(cls, *, name, mode, linked=None):
            return io.NodeOutput(f"{count(name)}; fingerprint saw {seen[-1]}")

    class SharedNan(Fingerprint):
        @classmethod
        def define_schema(cls):
            schema = super().define_schema()
            schema.node_id = "Rules_SharedNan"
            return schema

        @classmethod
        def fingerprint_inputs(cls, name, mode, linked=MISSING):
            seen.append(name)
            return math.nan

    twice = counter("Twice", not_idempotent=True)
    with_id = counter("WithId", hidden=[io.Hidden.unique_id])
    return [counter("Counter"), twice, with_id, Fingerprint, SharedNan]


def _run_nodes(comfy: Any) -> list[type]:
    io, ui = comfy.io, comfy.ui

    class Locked(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Locked", [])

        @classmethod
        def execute(cls):
            try:
                cls.state = 1
            except AttributeError as e:
                return io.NodeOutput(str(e))
            return io.NodeOutput("the class took it")

    class Inference(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Inference", [])

        @classmethod
        def execute(cls):
            import torch

            return io.NodeOutput(str(torch.is_inference_mode_enabled()))

    class Hidden(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            hidden = [io.Hidden.unique_id, io.Hidden.prompt, io.Hidden.extra_pnginfo]
            return _schema(io, "Hidden", [], hidden=hidden)

        @classmethod
        def execute(cls):
            own = cls.hidden
            return io.NodeOutput(f"{own.unique_id} {sorted(own.prompt)} {own.extra_pnginfo}")

    class Steps(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            inputs = [io.Int.Input("count"), io.Float.Input("pause_s", step=0.01)]
            return _schema(io, "Steps", inputs)

        @classmethod
        def execute(cls, *, count, pause_s):
            from PIL import Image

            bar = comfy.ProgressBar(count)
            for i in range(count):
                try:
                    comfy.throw_if_interrupted()
                    time.sleep(pause_s)
                    preview = ("JPEG", Image.new("RGB", (64, 32), (200, 0, 0)), 16)
                    bar.update_absolute(i + 1, count, preview)
                except Exception:  # must not swallow an interrupt
                    return io.NodeOutput("swallowed")
            return io.NodeOutput(f"{count} steps")

    class Fail(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Fail", [io.Int.Input("number")])

        @classmethod
        def execute(cls, *, number):
            raise ValueError(f"{number} is not welcome")

    class FailOn(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "FailOn", [io.AnyType.Input("value")])

        @classmethod
        def execute(cls, *, value):
            raise RuntimeError("not this one")

    class Picture(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            inputs = [io.Int.Input("count", default=1)]
            return _schema(io, "Picture", inputs, io.Image.Output("image"), is_output_node=True)

        @classmethod
        def execute(cls, *, count):
            import torch

            image = torch.full((count, 4, 6, 3), 0.5)
            shown = {
                **ui.PreviewImage(image, cls=cls).as_dict(),
                **ui.PreviewText("grey").as_dict(),
            }
            return io.NodeOutput(image, ui=shown)

    return [Locked, Inference, Hidden, Steps, Fail, FailOn, Picture]


def _service_nodes(comfy: Any) -> list[type]:
    io = comfy.io

    class Ask(io.ComfyNode):
        """Calls a function of `_comfy` with texts and shows what it gives or raises."""

        @classmethod
        def define_schema(cls):
            inputs = [io.String.Input("function"), io.String.Input("argument", default="")]
            return _schema(io, "Ask", inputs, not_idempotent=True)

        @classmethod
        def fingerprint_inputs(cls, **kwargs):
            return float("nan")

        @classmethod
        def execute(cls, *, function, argument):
            arguments = argument.split("|") if argument else []
            try:
                return io.NodeOutput(str(getattr(comfy, function)(*arguments)))
            except ValueError as e:  # the pack's folder errors are ValueErrors
                return io.NodeOutput(f"refused: {e}")

    class Model(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Model", [])

        @classmethod
        def execute(cls):
            return io.NodeOutput(_use_model(comfy))

    class Attention(io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return _schema(io, "Attention", [])

        @classmethod
        def execute(cls):
            return io.NodeOutput(_compare_attention(comfy.attention_function()))

    return [Ask, Model, Attention]


def _use_model(comfy: Any) -> str:
    """Load a network whose `device` is read-only, as those of transformers are, and use it."""
    import torch

    class Net(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.layer = torch.nn.Linear(4, 2)
            self.register_buffer("scale", torch.ones(2))

        @property
        def device(self):
            return self.layer.weight.device

        def forward(self, x):
            return self.layer(x) * self.scale

    net = Net().to(comfy.offload_device(), comfy.model_dtype(10, [torch.float32]))
    patcher = comfy.manage(net, name="RulesNet")
    comfy.load_models([patcher], 1000)
    result = net(torch.zeros(1, 4, device=comfy.device(), dtype=net.layer.weight.dtype))
    result = result.to(comfy.intermediate_device(), comfy.intermediate_dtype())
    sound = net.device.type == comfy.device().type == patcher.load_device.type
    name, free = type(patcher.model).__name__, comfy.free_memory() > 0
    return f"{name} {tuple(result.shape)} {result.dtype} {net.training} {sound} {free}"


def _compare_attention(function: Any) -> str:
    import torch

    if function is None:
        return "none"
    q, k, v = (torch.randn(2, 3, n, 8) for n in (5, 7, 7))
    mask = torch.zeros(2, 3, 5, 7).masked_fill(torch.arange(7) > 4, -1e9)
    got = function(q, k, v, 3, mask=mask, skip_reshape=True, skip_output_reshape=True)
    want = torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)
    return f"shape {tuple(got.shape)}, close {torch.allclose(got, want, atol=1e-5)}"

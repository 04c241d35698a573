"""ComfyUI's own nodes that our graphs use, with its ids, schemas and behaviour."""

from __future__ import annotations

import hashlib
import json
from typing import Any, ClassVar

import torch

from ...unifashion_core.errors import FolderError
from . import io, ui
from .pictures import load_image
from .session import current

_INT64 = 2**63 - 1
_BLOCK = 1 << 20  # bytes read at a time


class _ClassicNode(io.ComfyNode):
    """A node that ComfyUI still has in its older form: its `/object_info` entry is shorter."""

    LEFT_OUT: ClassVar[frozenset[str]] = frozenset(
        {
            "api_node",
            "deprecated",
            "dev_only",
            "experimental",
            "output_matchtypes",
            "output_tooltips",
            "price_badge",
        }
    )
    BARE: ClassVar[frozenset[str]] = frozenset()
    """Inputs whose entry has no options, not even empty ones."""

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict[str, Any]:
        info = super().GET_NODE_INFO_V1()
        for name in cls.LEFT_OUT:
            del info[name]
        groups = info["input"]
        groups["required"] = {
            name: entry[:1] if name in cls.BARE else entry
            for name, entry in groups["required"].items()
        }
        if "hidden" in groups:
            groups["hidden"] = {name: value for name, (value,) in groups["hidden"].items()}
        info["search_aliases"] = info["search_aliases"] or []
        return info


class LoadImage(_ClassicNode):
    """A picture of the input folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="LoadImage",
            display_name="Load Image",
            category="image",
            essentials_category="Basics",
            inputs=[
                io.Combo.Input("image", current().folders.input_files(), upload=io.UploadType.image)
            ],
            outputs=[io.Image.Output(), io.Mask.Output()],
        )

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict[str, Any]:
        info = super().GET_NODE_INFO_V1()
        _, options = info["input"]["required"]["image"]
        info["input"]["required"]["image"] = [options["options"], {"image_upload": True}]
        return info

    @classmethod
    def validate_inputs(cls, image: str | None) -> bool | str:
        if image is None:  # linked: checked when it runs
            return True
        try:
            found = current().folders.annotated(image).is_file()
        except FolderError as e:
            return str(e)
        return found or f"Invalid image file: {image}"

    @classmethod
    def fingerprint_inputs(cls, image: str | None) -> str:
        if image is None:
            return ""
        digest = hashlib.sha256()
        with open(current().folders.annotated(image), "rb") as file:
            while block := file.read(_BLOCK):
                digest.update(block)
        return digest.hexdigest()

    @classmethod
    def execute(cls, *, image: str) -> io.NodeOutput:
        return io.NodeOutput(*load_image(current().folders.annotated(image)))


class SaveImage(_ClassicNode):
    """Pictures into the output folder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="SaveImage",
            display_name="Save Image",
            category="image",
            essentials_category="Basics",
            is_output_node=True,
            inputs=[
                io.Image.Input("images"),
                io.String.Input("filename_prefix", default="ComfyUI"),
            ],
            outputs=[io.Image.Output("images")],
        )

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict[str, Any]:
        info = super().GET_NODE_INFO_V1()
        del info["input"]["required"]["filename_prefix"][1]["multiline"]
        return info

    @classmethod
    def execute(cls, *, images: torch.Tensor, filename_prefix: str) -> io.NodeOutput:
        saved = ui.ImageSaveHelper.get_save_images_ui(images, filename_prefix, cls)
        return io.NodeOutput(images, ui=saved)


class PreviewImage(_ClassicNode):
    """Pictures shown on the node."""

    BARE = frozenset({"images"})

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PreviewImage",
            display_name="Preview Image",
            category="image",
            essentials_category="Basics",
            is_output_node=True,
            inputs=[io.Image.Input("images")],
            outputs=[io.Image.Output("images")],
        )

    @classmethod
    def execute(cls, *, images: torch.Tensor) -> io.NodeOutput:
        shown = ui.PreviewImage(images, cls=cls)
        return io.NodeOutput(images, ui={"images": shown.values})


class PreviewAny(_ClassicNode):
    """Any value as text."""

    LEFT_OUT = _ClassicNode.LEFT_OUT | {"essentials_category"}
    RELATIVE_PYTHON_MODULE = "comfy_extras.nodes_preview_any"

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="PreviewAny",
            display_name="Preview as Text",
            category="utilities",
            is_output_node=True,
            inputs=[io.AnyType.Input("source")],
            outputs=[io.String.Output()],
        )

    @classmethod
    def GET_NODE_INFO_V1(cls) -> dict[str, Any]:
        info = super().GET_NODE_INFO_V1()
        del info["input"]["hidden"], info["input_order"]["hidden"]
        return info

    @classmethod
    def execute(cls, *, source: Any) -> io.NodeOutput:
        text = _as_text(source)
        return io.NodeOutput(text, ui=ui.PreviewText(text))


def _as_text(source: Any) -> str:
    if isinstance(source, (str, int, float, bool)):
        return str(source)
    if source is None:
        return "None"
    try:
        return json.dumps(source, indent=4, ensure_ascii=False)
    except (TypeError, ValueError):
        return str(source)


class _Primitive(io.ComfyNode):
    """A value of a plain type."""

    RELATIVE_PYTHON_MODULE = "comfy_extras.nodes_primitive"

    @classmethod
    def execute(cls, *, value: Any) -> io.NodeOutput:
        return io.NodeOutput(value)


def _primitive(node_id: str, title: str, entry: io.Input, output: io.Output) -> io.Schema:
    return io.Schema(
        node_id=node_id,
        display_name=title,
        category="utilities/primitive",
        inputs=[entry],
        outputs=[output],
    )


class PrimitiveString(_Primitive):
    """A line of text."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return _primitive("PrimitiveString", "Text", io.String.Input("value"), io.String.Output())


class PrimitiveStringMultiline(_Primitive):
    """A text of several lines."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        schema = _primitive(
            "PrimitiveStringMultiline",
            "Text (Multiline)",
            io.String.Input("value", multiline=True),
            io.String.Output(),
        )
        schema.essentials_category = "Basics"
        return schema


class PrimitiveInt(_Primitive):
    """A whole number."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        fixed = io.ControlAfterGenerate.fixed
        value = io.Int.Input("value", min=-_INT64, max=_INT64, control_after_generate=fixed)
        return _primitive("PrimitiveInt", "Int", value, io.Int.Output())


class PrimitiveFloat(_Primitive):
    """A number."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        value = io.Float.Input("value", min=-_INT64, max=_INT64, step=0.1)
        return _primitive("PrimitiveFloat", "Float", value, io.Float.Output())


CORE_NODES: list[type[io.ComfyNode]] = [
    LoadImage,
    SaveImage,
    PreviewImage,
    PreviewAny,
    PrimitiveString,
    PrimitiveStringMultiline,
    PrimitiveInt,
    PrimitiveFloat,
]

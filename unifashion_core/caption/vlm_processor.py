"""A vision-language folder's own preprocessing: picture and prompt to what its network reads.

Image processors are Pillow's, and a video processor is never loaded: both others need torchvision.
"""

from __future__ import annotations

import inspect
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from PIL import Image

from ..deps import require
from ..errors import CheckpointError, InputError
from ..weights import read_json
from .llm_folder import TRANSFORMERS, is_new, load_tokenizer, prepare_tokenizer, reading
from .prompts import Family

_CLASS_FILES = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
_NEEDED = {"SmolVLMProcessor": ("num2words",)}
"""Packages that a processor refuses to be made without."""

_log = logging.getLogger("unifashion.caption")


@dataclass(frozen=True)
class VisionPrompt:
    """Pictures and a prompt to a batch.

    Attributes:
        processor: transformers' processor of the folder.
        family: How its kind is asked.
    """

    processor: Any
    family: Family

    @property
    def tokenizer(self) -> Any:
        """The processor's tokenizer."""
        return self.processor.tokenizer

    def text(self, prompt: str) -> str:
        """A prompt in the form that the folder, or its family, wants.

        Raises:
            InputError: If it holds the model's own token for a picture.
        """
        image = str(getattr(self.processor, "image_token", "") or "")
        if image and image in prompt:
            raise InputError(
                f"caption: the prompt holds {image}, which stands for the picture. Leave it out."
            )
        template = _template(self.processor)
        if template is not None:
            content = [{"type": "image"}, {"type": "text", "text": prompt}]
            # The tokenizer's own rendering: some processors ask their video part at this point.
            return str(
                self.tokenizer.apply_chat_template(
                    [{"role": "user", "content": content}],
                    chat_template=template,
                    add_generation_prompt=True,
                    tokenize=False,
                )
            )
        return self.family.form.format(image=image, prompt=prompt)

    def batch(self, images: Sequence[Image.Image], prompt: str) -> Mapping[str, Any]:
        """Images with the same prompt, as tensors by the network's argument names."""
        pictures = [square(i, self.processor.image_processor) for i in images]
        return self.processor(
            images=[[p] for p in pictures] if self.family.nested else pictures,
            text=[self.text(prompt)] * len(pictures),
            return_tensors="pt",
            padding=True,
        )


def load_processor(folder: Path, where: str) -> Any:
    """The processor of a folder.

    Raises:
        CheckpointError: If tokenizer or image settings are missing, or transformers has no
            processor for them.
        MissingPackageError: If it needs a package that is absent.
    """
    load_tokenizer(folder, where)  # says better what is missing
    transformers: Any = require("transformers", minimum=TRANSFORMERS)
    kind = _processor_class(folder, transformers)
    for package in _NEEDED.get(getattr(kind, "__name__", ""), ()):
        require(package)
    stills = kind is not None and "video_processor" in inspect.signature(kind.__init__).parameters
    source = _without_video(kind) if stills else transformers.AutoProcessor
    with reading(where, "preprocessing", "Put its preprocessor_config.json there"):
        processor = source.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, **pillow()
        )
    if not hasattr(processor, "image_processor") or not hasattr(processor, "tokenizer"):
        raise CheckpointError(
            f"{where}: transformers finds no processor with image and text side for it. Put "
            "processor_config.json or preprocessor_config.json of this model there."
        )
    prepare_tokenizer(processor.tokenizer)
    return processor


def pillow() -> dict[str, Any]:
    """The argument that chooses Pillow's image processors in this version of transformers."""
    return {"backend": "pil"} if is_new() else {"use_fast": False}


def square(image: Image.Image, processor: Any) -> Image.Image:
    """Pad a picture to a square with the mean colour, where the processor would crop its middle.

    A full-length dress would lose its head and hem; LLaVA-1.5 was trained on pictures padded so.
    """
    if not getattr(processor, "do_center_crop", False) or image.width == image.height:
        return image
    mean: Sequence[float] = getattr(processor, "image_mean", None) or (0.5, 0.5, 0.5)
    side = max(image.size)
    colour = cast("tuple[int, int, int]", tuple(int(255 * value) for value in mean))
    padded = Image.new("RGB", (side, side), colour)
    padded.paste(image, ((side - image.width) // 2, (side - image.height) // 2))
    return padded


def _template(processor: Any) -> str | None:
    """The folder's chat template, the processor's before the tokenizer's; of several, "default"."""
    for owner in (processor, processor.tokenizer):
        found: Any = getattr(owner, "chat_template", None)
        if isinstance(found, dict):
            found = cast("dict[str, str]", found).get("default")
        if found:
            return str(found)
    return None


def _processor_class(folder: Path, transformers: Any) -> Any:
    """The class that the folder's files name, if transformers has it."""
    for name in _CLASS_FILES:
        path = folder / name
        known = read_json(path).get("processor_class") if path.is_file() else None
        if isinstance(known, str):
            return getattr(transformers, known, None)
    return None


def _without_video(kind: Any) -> Any:
    """A processor class that neither loads nor keeps a video processor, its last part.

    Its `__init__` takes None in that place; the parent's pairs what it is given with the names
    below, and so drops it.
    """

    def get_attributes(cls: Any) -> list[str]:
        return [a for a in kind.get_attributes() if "video" not in a]

    def from_args_and_dict(cls: Any, args: list[Any], *rest: Any, **values: Any) -> Any:
        parent: Any = getattr(cast(Any, super(made, cls)), "from_args_and_dict")  # noqa: B009 - untyped
        return parent([*args, None], *rest, **values)

    body: dict[str, Any] = {
        "__module__": kind.__module__,
        "from_args_and_dict": classmethod(from_args_and_dict),
    }
    if hasattr(kind, "get_attributes"):
        body["get_attributes"] = classmethod(get_attributes)
    else:  # transformers 4
        body["attributes"] = [a for a in kind.attributes if "video" not in a]
    made: Any = type(kind.__name__, (kind,), body)
    return made

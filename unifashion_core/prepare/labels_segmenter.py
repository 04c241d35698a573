"""Parts from a transformers model for semantic segmentation of clothes, such as SegFormer's."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type in copy, reshape, clip and where)

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from ..deps import require
from ..errors import CheckpointError, FolderError, InputError
from .labels import LABEL_SETS, LabelSet, Part, PartMap

_WORDS: dict[str, Part] = {
    "background": Part.BACKGROUND, "hat": Part.HAT, "hair": Part.HAIR, "sunglasses": Part.GLASSES,
    "glasses": Part.GLASSES, "upperclothes": Part.UPPER, "upper": Part.UPPER, "top": Part.UPPER,
    "shirt": Part.UPPER, "coat": Part.COAT, "jacket": Part.COAT, "outerwear": Part.COAT,
    "skirt": Part.SKIRT, "pants": Part.LOWER, "trousers": Part.LOWER, "shorts": Part.LOWER,
    "lowerclothes": Part.LOWER, "dress": Part.DRESS, "jumpsuit": Part.JUMPSUIT,
    "jumpsuits": Part.JUMPSUIT, "belt": Part.BELT, "leftshoe": Part.LEFT_SHOE,
    "rightshoe": Part.RIGHT_SHOE, "face": Part.FACE, "head": Part.HEAD, "neck": Part.NECK,
    "torsoskin": Part.NECK, "leftleg": Part.LEFT_LEG, "rightleg": Part.RIGHT_LEG,
    "leftarm": Part.LEFT_ARM, "rightarm": Part.RIGHT_ARM, "lefthand": Part.LEFT_HAND,
    "righthand": Part.RIGHT_HAND, "bag": Part.BAG, "scarf": Part.SCARF, "glove": Part.GLOVES,
    "gloves": Part.GLOVES, "socks": Part.SOCKS,
}  # fmt: skip


_OTHER_BYTES = 256 * 1024**2


class Segmenter:
    """A loaded segmentation model with the part of each of its labels."""

    def __init__(self, model: Any, processor: Any, parts: NDArray[np.uint8], name: str):
        self.model = model
        self.processor = processor
        self.name = name
        self._parts = parts

    def activation_bytes(self) -> int:
        """Bytes that one photo takes at most beside the weights: where SegFormer's head joins its
        four maps, each of a quarter of the sides. Of other kinds it is a guess.
        """
        config, size = self.model.config, next(self.model.parameters()).element_size()
        if config.model_type != "segformer":
            return _OTHER_BYTES
        sides: Any = self.processor.size
        places = int(sides["height"]) // 4 * (int(sides["width"]) // 4)
        head, first = int(config.decoder_hidden_size), int(config.hidden_sizes[0])
        return places * (9 * head + 2 * first) * size

    @torch.inference_mode()
    def parts(self, image: Image.Image) -> PartMap:
        """The parts of a photo, at the size that the model decides at."""
        pixels = self.processor(images=image.convert("RGB"), return_tensors="pt")["pixel_values"]
        weight = next(self.model.parameters())
        logits = self.model(pixel_values=pixels.to(weight.device, weight.dtype)).logits
        # four times the logits' size is the input's; the photo's shape, not the input's square
        long = 4 * max(logits.shape[-2:])
        scale = min(1.0, long / max(image.size))
        size = (max(1, round(image.height * scale)), max(1, round(image.width * scale)))
        large = torch.nn.functional.interpolate(logits.float().cpu(), size, mode="bilinear")
        return PartMap(self._parts[large[0].argmax(0).numpy()], f"segmentation ({self.name})")


def load_segmenter(
    folder: Path, device: torch.device, dtype: torch.dtype, labels: str | None = None
) -> Segmenter:
    """Load a model of AutoModelForSemanticSegmentation from a folder.

    Args:
        folder: With config.json, weights (safetensors) and preprocessor_config.json.
        device: Where the model is put.
        dtype: What it computes in.
        labels: Name of its label set; None reads the names in its configuration.

    Raises:
        FolderError: If the folder holds no such model.
        InputError: If a label's name tells no part and `labels` is None.
        CheckpointError: If the weights don't load.
    """
    if not (folder / "config.json").is_file():
        raise FolderError(
            f"{folder}: no config.json in it. Give the folder of a transformers model for semantic "
            "segmentation."
        )
    transformers = require("transformers", minimum="4.53")
    try:
        model = transformers.AutoModelForSemanticSegmentation.from_pretrained(
            folder, local_files_only=True, use_safetensors=True, torch_dtype=dtype
        )
        processor = transformers.AutoImageProcessor.from_pretrained(
            folder, local_files_only=True, use_fast=False
        )
    except (OSError, ValueError, KeyError, RuntimeError) as e:
        raise CheckpointError(
            f"{folder}: not a model for semantic segmentation that transformers can load ({e}). "
            "Give a folder with config.json, model.safetensors and preprocessor_config.json."
        ) from e
    parts = _parts_of(model.config.id2label, labels, folder)
    model = model.to(device).requires_grad_(False).eval()
    return Segmenter(model, processor, parts, folder.name)


def _parts_of(names: Mapping[Any, str], labels: str | None, folder: Path) -> NDArray[np.uint8]:
    """The part of each label id: by the set, or by the labels' names."""
    count = len(names)
    if labels is not None:
        chosen: LabelSet | None = LABEL_SETS.get(labels)
        if chosen is None or len(chosen.parts) != count:
            known = ", ".join(f"{s.name} ({len(s.parts)})" for s in LABEL_SETS.values())
            raise InputError(
                f"{folder}: the model has {count} labels, label set '{labels}' doesn't fit. Choose "
                f"of {known}."
            )
        return np.array(chosen.parts, np.uint8)
    made = np.zeros(count, np.uint8)
    unknown: list[str] = []
    for index, name in names.items():
        word = "".join(c for c in str(name).lower() if c.isalpha())
        if word in _WORDS:
            made[int(index)] = _WORDS[word]
        else:
            unknown.append(str(name))
    if unknown:
        raise InputError(
            f"{folder}: the labels {', '.join(unknown[:12])} tell no part of a person. Say which "
            f"label set they are of (labels: {', '.join(LABEL_SETS)})."
        )
    return made

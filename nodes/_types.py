"""The wire types, and the one value of ours that needs the host: an encoder and its patcher."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..unifashion_core.types import Captioner as CaptionerValue
from ..unifashion_core.types import FashionEncoder
from ._comfy import Patcher, io, load_models

Encoder = io.Custom("UNIFASHION_ENCODER")
Embedding = io.Custom("UNIFASHION_EMBEDDING")
Gallery = io.Custom("UNIFASHION_GALLERY")
Hits = io.Custom("UNIFASHION_HITS")
Captioner = io.Custom("UNIFASHION_CAPTIONER")
Attributes = io.Custom("UNIFASHION_ATTRIBUTES")
Preparer = io.Custom("UNIFASHION_PREPARER")
Fit = io.Custom("UNIFASHION_FIT")
TryOn = io.Custom("UNIFASHION_TRYON")
Condition = io.Custom("UNIFASHION_CONDITION")
Plan = io.Custom("UNIFASHION_PLAN")

_PERSON_BYTES = 25_000_000
"""Of the networks that find a person: their inputs have one size, whatever the photo's."""


@dataclass(frozen=True)
class ManagedEncoder:
    """What travels as UNIFASHION_ENCODER.

    Attributes:
        encoder: The encoder; its weights may wait on another device until `ready`.
        patcher: Its network under the host's model manager, which finds it by this name.
        image_bytes: What the activations of each image take, in bytes.
    """

    encoder: FashionEncoder
    patcher: Patcher
    image_bytes: int

    def ready(self, images: int = 1) -> FashionEncoder:
        """The encoder with its weights on the device, and room for a batch of so many images."""
        load_models([self.patcher], images * self.image_bytes)
        return self.encoder


@dataclass(frozen=True)
class ManagedCaptioner:
    """What travels as UNIFASHION_CAPTIONER.

    Attributes:
        captioner: The captioner; its weights may wait on another device until `ready`.
        patchers: Its networks under the host's model manager, an encoder's among them.
        image_bytes: What the activations of one image take, in bytes.
    """

    captioner: CaptionerValue
    patchers: tuple[Patcher, ...]
    image_bytes: int

    def ready(self, images: int = 1) -> CaptionerValue:
        """The captioner with its weights on the device, and room for a batch of so many images."""
        load_models(self.patchers, images * self.image_bytes)
        return self.captioner


@dataclass(frozen=True)
class ManagedPreparer:
    """What travels as UNIFASHION_PREPARER.

    Attributes:
        networks: Of `prepare.person`: what finds persons.
        segmenter: Of `prepare.labels_segmenter`: what tells a photo's parts, or None.
        patchers: Their networks under the host's model manager.
        fingerprint: Tells apart preparers that may give different results.
    """

    networks: Any
    segmenter: Any
    patchers: tuple[Patcher, ...]
    fingerprint: str

    def ready(self) -> None:
        """Bring the weights onto the device, with room for one photo's activations."""
        parts = 0 if self.segmenter is None else self.segmenter.activation_bytes()
        load_models(self.patchers, max(_PERSON_BYTES, parts))


@dataclass(frozen=True)
class ManagedTryOn:
    """What travels as UNIFASHION_TRYON.

    Attributes:
        model: Of `tryon.checkpoint`: its networks may wait on another device until `load`.
        name: As the loader's list has it.
        fingerprint: Tells apart models that may give different pictures.
        patchers: Each network under the host's model manager, by its name in the model.
    """

    model: Any
    name: str
    fingerprint: str
    patchers: Mapping[str, Patcher]

    def load(self, names: Sequence[str], memory_bytes: int) -> None:
        """Bring networks onto the device together, with room for so many bytes of activations."""
        load_models([self.patchers[name] for name in names], memory_bytes)

    def get_models(self) -> list[Patcher]:
        """All of them, as the host asks a value for the models that it holds."""
        return list(self.patchers.values())

"""The wire types, and the one value of ours that needs the host: an encoder and its patcher."""

from __future__ import annotations

from dataclasses import dataclass

from ..unifashion_core.types import FashionEncoder
from ._comfy import Patcher, io, load_models

Encoder = io.Custom("UNIFASHION_ENCODER")
Embedding = io.Custom("UNIFASHION_EMBEDDING")
Gallery = io.Custom("UNIFASHION_GALLERY")
Hits = io.Custom("UNIFASHION_HITS")


@dataclass(frozen=True)
class ManagedEncoder:
    """What travels as UNIFASHION_ENCODER.

    Attributes:
        encoder: The encoder; its weights may wait on another device until `ready`.
        patcher: Its network under the host's model manager, which finds it by this name.
        image_bytes: What the activations of one image take, in bytes.
    """

    encoder: FashionEncoder
    patcher: Patcher
    image_bytes: int

    def ready(self, images: int = 1) -> FashionEncoder:
        """The encoder with its weights on the device, and room for a batch of so many images."""
        load_models([self.patcher], images * self.image_bytes)
        return self.encoder

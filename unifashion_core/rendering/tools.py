"""What the chain from person and garment to a picture works with."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from ..prepare.cache import PreparationCache
from ..prepare.preparer import Preparer
from ..tryon.checkpoint import TryOnModel
from ..types import GarmentMasker

LoadNetworks = Callable[[Sequence[str], int], None]
"""Brings networks of the model, by their names in `TryOnModel.modules`, onto the device together,
with room for so many bytes of activations; called right before they are used."""


@dataclass(frozen=True)
class TryOnTools:
    """A try-on model and what prepares for it.

    Attributes:
        model: The networks; their weights may wait on another device until `load`.
        fingerprint: Of the model: equal ones make equal pictures.
        preparer: Finds persons, masks and poses, each once.
        cache: Where preparations and latents are kept, by content.
        merges: CLIP's merges, which texts are read with.
        load: As `LoadNetworks`.
        masker: Finds a garment on a busy ground; None: only plain grounds.
    """

    model: TryOnModel
    fingerprint: str
    preparer: Preparer
    cache: PreparationCache
    merges: Path
    load: LoadNetworks
    masker: GarmentMasker | None = None

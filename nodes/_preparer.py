"""The core's preparer over the host's model manager and the process's cache."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from PIL import Image

from ..unifashion_core.pocket import MEDIAPIPE
from ..unifashion_core.prepare.cache import PreparationCache
from ..unifashion_core.prepare.labels import PartMap
from ._comfy import manage, offload_device, once_a_process
from ._types import ManagedPreparer

if TYPE_CHECKING:
    from ..unifashion_core.prepare.preparer import Preparer

BUILT_IN = "built-in (ships with the pack)"


def built_in() -> ManagedPreparer:
    """The networks that ship, under the host's model manager."""
    from ..unifashion_core.prepare.person import load_networks

    networks = load_networks(MEDIAPIPE, offload_device(), torch.float32)
    patcher = manage(networks, name="UniFashionPreparer")
    return ManagedPreparer(networks, None, (patcher,), BUILT_IN)


def preparations() -> PreparationCache:
    """The process's cache of preparations."""
    return once_a_process("preparations", PreparationCache)


def preparer_of(given: ManagedPreparer | None) -> Preparer:
    """The core's preparer over what is connected, or over the built-in networks once needed."""
    from ..unifashion_core.prepare.preparer import Preparer

    def networks() -> Any:
        managed = built_in() if given is None else given
        managed.ready()
        return managed.networks

    if given is None or given.segmenter is None:
        return Preparer(networks, preparations())

    def segment(photo: Image.Image) -> PartMap:
        given.ready()
        return given.segmenter.parts(photo)

    return Preparer(networks, preparations(), segment, given.fingerprint)

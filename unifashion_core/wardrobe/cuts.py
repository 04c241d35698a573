"""From a garment's attributes to its parts: one function a family of kinds."""

from __future__ import annotations

from collections.abc import Callable

from .bottoms import cut_pants
from .dresses import cut_dress
from .garment import Garment
from .geometry import Cut
from .hats import cut_hat
from .outer import cut_outer
from .shoes import cut_shoes
from .skirts import cut_skirt
from .tops import cut_jersey, cut_shirt

_CUTS: dict[str, Callable[[Garment], Cut]] = {
    "t-shirt": cut_jersey,
    "longsleeve": cut_jersey,
    "shirt": cut_shirt,
    "pants": cut_pants,
    "shorts": cut_pants,
    "skirt": cut_skirt,
    "dress": cut_dress,
    "outwear": cut_outer,
    "shoes": cut_shoes,
    "hat": cut_hat,
}


def cut(garment: Garment) -> Cut:
    """The parts of a garment in garment space; the same garment always gives the same parts."""
    return _CUTS[garment.category](garment)

"""What the whole pack says of a garment: names of kinds and colours, and its attributes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:  # only named here: the renderer works without torch
    import numpy.typing as npt
    from PIL import Image

CATEGORIES: tuple[str, ...] = (
    "dress",
    "hat",
    "longsleeve",
    "outwear",
    "pants",
    "shirt",
    "shoes",
    "shorts",
    "skirt",
    "t-shirt",
)
"""Kinds of garments that the whole pack names alike: wardrobe, labels, captions, figures."""

COLOURS: tuple[str, ...] = (
    "black",
    "white",
    "grey",
    "beige",
    "brown",
    "red",
    "pink",
    "orange",
    "yellow",
    "green",
    "blue",
    "navy",
    "purple",
)
"""Names of colours, likewise: teal is blue or green by look, burgundy red, cream beige or white."""


@dataclass(frozen=True)
class Attribute:
    """One value of a garment, and how sure it is, in 0..1 (1 where the source gives no measure)."""

    value: str
    confidence: float


@dataclass(frozen=True)
class ColourShare:
    """One of `COLOURS` and its share of the garment's pixels, in 0..1."""

    name: str
    share: float


@dataclass(frozen=True)
class GarmentAttributes:
    """What is known of a garment; None and () where it is unknown.

    Attributes:
        colours: The main one first.
        details: Words such as "hood" or "buttons".
    """

    category: Attribute | None = None
    pattern: Attribute | None = None
    material: Attribute | None = None
    sleeve: Attribute | None = None
    neckline: Attribute | None = None
    length: Attribute | None = None
    fit: Attribute | None = None
    colours: tuple[ColourShare, ...] = ()
    details: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """The form that commands and JSONL write: unknown is null, numbers have three decimals."""
        one: dict[str, Any] = {}
        for name in ATTRIBUTES:
            found: Attribute | None = getattr(self, name)
            of = None if found is None else (found.value, round(found.confidence, 3))
            one[name] = None if of is None else {"value": of[0], "confidence": of[1]}
        colours = [{"name": c.name, "share": round(c.share, 3)} for c in self.colours]
        category = one.pop("category")
        return {"category": category, "colours": colours, **one, "details": list(self.details)}


ATTRIBUTES = ("category", "pattern", "material", "sleeve", "neckline", "length", "fit")
"""Fields of `GarmentAttributes` that hold one `Attribute`."""

GarmentMasker = Callable[["Image.Image"], "npt.NDArray[Any] | None"]
"""An upright RGB picture to the garment's pixels, (H, W) bool, or None where it finds none."""

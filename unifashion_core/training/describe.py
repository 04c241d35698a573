"""Attributes of photos and of wardrobe garments in the terms of the lexicon.

An attribute is left out where nobody knows it: then the picture neither satisfies a caption about
it nor contradicts it.
A list is complete: what is not in it is not there.
"""

from __future__ import annotations

from ..pocket.photos import Photo
from ..wardrobe.garment import Garment

Known = dict[str, str | list[str]]

NO_SLEEVES = ("hat", "pants", "shoes", "shorts", "skirt")
"""Categories for which a caption about sleeves is wrong."""

_NONE = "n/a"
_MATERIALS = ("denim", "knit", "leather", "lace", "fur", "satin")
_NECKS = ("hood", "collar", "v-neck", "turtleneck")
_CLOSURES = ("buttons", "zip")
_DETAILS = ("logo", "ripped", "pleated")
_LENGTHS = ("short", "knee", "long")
_IMPLIED: dict[str, tuple[str, ...]] = {
    "jeans": ("denim",),
    "denim-shorts": ("denim",),
    "sweater": ("knit",),
    "cardigan": ("knit",),
    "hoodie": ("hood",),
    "turtleneck": ("turtleneck", "knit"),
    "pleated-skirt": ("pleated",),
}
_CLASS_SLEEVES = {"longsleeve": "long", "t-shirt": "short", "outwear": "long"}
_SUBTYPES = {"tee": "t-shirt"}

# The wardrobe's kinds under the names of the lexicon; a kind that is missing keeps its own.
_KIND_SUBTYPES = {
    "tank top": "tank",
    "polo shirt": "polo",
    "flannel shirt": "shirt",
    "shirt dress": "shirtdress",
    "a-line skirt": "skirt",
    "pleated skirt": "pleated-skirt",
    "pencil skirt": "pencil-skirt",
    "denim shorts": "denim-shorts",
    "swim shorts": "swim-shorts",
    "bucket hat": "bucket",
    "sun hat": "sunhat",
}
_NECKLINE_NECKS = {
    "v": "v-neck",
    "collar": "collar",
    "polo": "collar",
    "turtleneck": "turtleneck",
    "hood": "hood",
    "lapel": "collar",
}

AMBIGUOUS_KINDS = ("hoodie", "cardigan")
"""Kinds that the wardrobe puts into another category than the photos do; training leaves them
out."""


def photo_attributes(photo: Photo) -> Known:
    """What the committed list says of a photo."""
    known: Known = {"category": photo.label}
    if photo.colours:
        known["colours"] = list(photo.colours)
    if photo.label in NO_SLEEVES:
        known["sleeve"] = _NONE
    elif photo.sleeve or photo.label in _CLASS_SLEEVES:
        known["sleeve"] = photo.sleeve or _CLASS_SLEEVES[photo.label]
    if photo.pattern:
        known["pattern"] = photo.pattern
    if photo.labelled_by != "eye":
        return known
    words = {*photo.extras, *_IMPLIED.get(photo.subtype, ())}
    if photo.subtype:
        known["subtype"] = _SUBTYPES.get(photo.subtype, photo.subtype)
    for length in _LENGTHS:
        if length in words and photo.label in ("dress", "skirt"):
            known["length"] = length
    for name, values in (
        ("material", _MATERIALS),
        ("neck", _NECKS),
        ("closure", _CLOSURES),
        ("details", _DETAILS),
    ):
        known[name] = [v for v in values if v in words]
    return known


def garment_attributes(garment: Garment) -> Known:
    """What is known of a procedural garment."""
    known: Known = {
        "category": garment.category,
        "subtype": _KIND_SUBTYPES.get(garment.subtype, garment.subtype),
        "colours": list(garment.colours),
        "pattern": garment.pattern,
        "sleeve": garment.sleeve or _NONE,
        "material": [garment.material],
    }
    if garment.length is not None and garment.category in ("dress", "skirt"):
        known["length"] = garment.length
    if garment.neckline is not None:
        neck = _NECKLINE_NECKS.get(garment.neckline)
        known["neck"] = [neck] if neck else []
        known["neckline"] = garment.neckline
    return known

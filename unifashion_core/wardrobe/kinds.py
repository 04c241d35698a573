"""What garments there are, as data: the ten categories, their kinds and what each may look like.

A value that stands twice in a tuple is drawn twice as often.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..types import CATEGORIES as CATEGORIES

PATTERNS: tuple[str, ...] = ("plain", "stripes", "dots", "checks", "floral", "print")
SLEEVES: tuple[str, ...] = ("none", "short", "long")
LENGTHS: tuple[str, ...] = ("cropped", "regular", "short", "knee", "long")
NECKLINES: tuple[str, ...] = (
    "crew",
    "v",
    "scoop",
    "collar",
    "polo",
    "turtleneck",
    "hood",
    "lapel",
    "straps",
    "strapless",
)
MATERIALS: tuple[str, ...] = ("cotton", "denim", "knit", "leather", "satin", "wool", "straw")

_MANY = ("plain", "plain", "stripes", "dots", "checks", "floral", "print")
_CALM = ("plain", "plain", "plain", "stripes", "checks")
_WOVEN = ("plain", "plain", "stripes", "dots", "checks", "floral")


@dataclass(frozen=True)
class Kind:
    """What a subtype of garment may look like.

    Attributes:
        category: One of `CATEGORIES`.
        patterns: What is drawn when the pattern is not given; any of `PATTERNS` may be asked for.
        materials: Of `MATERIALS`.
        sleeves: Of `SLEEVES`, empty where a sleeve makes no sense; so are the next two.
        necklines: Of `NECKLINES`.
        lengths: Of `LENGTHS`.
        share: How often it is drawn among the kinds of its category.
    """

    category: str
    patterns: tuple[str, ...] = _MANY
    materials: tuple[str, ...] = ("cotton",)
    sleeves: tuple[str, ...] = ()
    necklines: tuple[str, ...] = ()
    lengths: tuple[str, ...] = ()
    share: int = 1


_ROUND = ("crew", "crew", "crew", "v", "scoop")
_TOP = ("regular", "regular", "regular", "cropped")
_ANY_SLEEVE = ("none", "short", "long")
_SKIRT = ("short", "knee", "long")

KINDS: dict[str, Kind] = {
    "t-shirt": Kind(
        "t-shirt",
        ("plain", "plain", "stripes", "dots", "checks", "floral", "print", "print"),
        sleeves=("short",),
        necklines=_ROUND,
        lengths=_TOP,
        share=4,
    ),
    "tank top": Kind(
        "t-shirt", sleeves=("none",), necklines=("scoop", "scoop", "v", "crew"), lengths=_TOP
    ),
    "longsleeve": Kind("longsleeve", sleeves=("long",), necklines=_ROUND, lengths=_TOP, share=2),
    "sweater": Kind(
        "longsleeve",
        _CALM,
        ("knit", "knit", "wool"),
        ("long",),
        ("crew", "crew", "v", "turtleneck"),
        _TOP,
        2,
    ),
    "sweatshirt": Kind(
        "longsleeve",
        ("plain", "plain", "print", "stripes"),
        sleeves=("long",),
        necklines=("crew",),
        lengths=("regular", "regular", "cropped"),
    ),
    "shirt": Kind(
        "shirt",
        ("plain", "plain", "stripes", "checks", "dots", "floral"),
        ("cotton", "cotton", "denim"),
        ("short", "long", "long"),
        ("collar",),
        ("regular",),
        3,
    ),
    "polo shirt": Kind(
        "shirt",
        ("plain", "plain", "stripes"),
        sleeves=("short", "short", "long"),
        necklines=("polo",),
        lengths=("regular",),
    ),
    "blouse": Kind(
        "shirt",
        _WOVEN,
        ("satin", "cotton"),
        ("none", "short", "long", "long"),
        ("collar", "v", "scoop"),
        ("regular",),
    ),
    "flannel shirt": Kind(
        "shirt",
        ("checks",),
        sleeves=("long",),
        necklines=("collar",),
        lengths=("regular",),
    ),
    "jacket": Kind(
        "outwear",
        ("plain", "plain", "plain", "checks"),
        ("cotton", "denim", "leather"),
        ("long",),
        ("collar", "crew"),
        ("regular", "regular", "cropped"),
        3,
    ),
    "coat": Kind(
        "outwear", _CALM, ("wool",), ("long",), ("lapel", "collar"), ("knee", "knee", "long"), 2
    ),
    "blazer": Kind("outwear", _CALM, ("wool", "cotton"), ("long",), ("lapel",), ("regular",)),
    "hoodie": Kind(
        "outwear",
        ("plain", "plain", "print", "stripes"),
        sleeves=("long",),
        necklines=("hood",),
        lengths=("regular", "regular", "cropped"),
        share=2,
    ),
    "cardigan": Kind(
        "outwear",
        ("plain", "plain", "stripes", "checks"),
        ("knit",),
        ("long",),
        ("v", "v", "crew"),
        ("regular", "regular", "knee"),
    ),
    "vest": Kind(
        "outwear",
        ("plain", "plain", "checks"),
        ("cotton", "denim", "wool"),
        ("none",),
        ("crew", "collar", "v"),
        ("regular",),
    ),
    "dress": Kind(
        "dress",
        _WOVEN,
        ("cotton", "cotton", "satin"),
        _ANY_SLEEVE,
        ("crew", "v", "scoop"),
        _SKIRT,
        3,
    ),
    "sundress": Kind(
        "dress",
        ("plain", "stripes", "dots", "checks", "floral", "floral"),
        sleeves=("none",),
        necklines=("straps",),
        lengths=_SKIRT,
        share=2,
    ),
    "shirt dress": Kind(
        "dress",
        _WOVEN,
        ("cotton", "denim"),
        ("short", "long", "none"),
        ("collar",),
        ("short", "knee", "knee", "long"),
    ),
    "gown": Kind(
        "dress",
        ("plain", "plain", "floral"),
        ("satin",),
        ("none",),
        ("strapless", "straps", "v"),
        ("long",),
    ),
    "a-line skirt": Kind("skirt", _WOVEN, ("cotton",), lengths=_SKIRT, share=2),
    "pleated skirt": Kind(
        "skirt", ("plain", "plain", "checks", "dots"), ("cotton", "satin"), lengths=_SKIRT, share=2
    ),
    "pencil skirt": Kind(
        "skirt",
        ("plain", "plain", "checks", "stripes", "floral"),
        ("cotton", "denim", "leather"),
        lengths=("short", "knee", "knee"),
    ),
    "jeans": Kind(
        "pants", ("plain",), ("denim",), lengths=("long", "long", "long", "cropped"), share=3
    ),
    "trousers": Kind(
        "pants",
        ("plain", "plain", "plain", "checks", "stripes"),
        ("cotton", "wool"),
        lengths=("long", "long", "long", "cropped"),
        share=3,
    ),
    "joggers": Kind("pants", ("plain", "plain", "print"), lengths=("long",)),
    "leggings": Kind(
        "pants",
        ("plain", "plain", "floral", "stripes", "dots"),
        lengths=("long", "long", "cropped"),
    ),
    "shorts": Kind(
        "shorts",
        ("plain", "plain", "checks", "stripes", "floral", "dots"),
        lengths=("short", "knee"),
        share=2,
    ),
    "denim shorts": Kind("shorts", ("plain",), ("denim",), lengths=("short", "knee")),
    "swim shorts": Kind("shorts", lengths=("short", "knee")),
    "sneakers": Kind(
        "shoes", ("plain", "plain", "plain", "print", "checks"), ("cotton", "leather"), share=3
    ),
    "boots": Kind("shoes", ("plain",), ("leather",), share=2),
    "heels": Kind(
        "shoes", ("plain", "plain", "plain", "dots", "floral"), ("leather", "satin"), share=2
    ),
    "sandals": Kind("shoes", ("plain",), ("leather",)),
    "loafers": Kind("shoes", ("plain",), ("leather",)),
    "cap": Kind("hat", ("plain", "plain", "print", "checks"), share=2),
    "beanie": Kind("hat", ("plain", "plain", "stripes"), ("knit",), share=2),
    "sun hat": Kind("hat", ("plain",), ("straw", "straw", "cotton")),
    "bucket hat": Kind("hat", ("plain", "plain", "checks", "floral", "dots", "stripes")),
}


def kinds_of(category: str) -> tuple[str, ...]:
    """The subtypes of a category, each as often as its share."""
    return tuple(w for w, k in KINDS.items() if k.category == category for _ in range(k.share))

"""What the words of a caption claim of a garment, as data: phrase -> attribute values, and the
phrases of a value.

A claim names an attribute and the values that would satisfy it. The grammar writes captions from
these tables, and
`claims.py` reads captions with them; so a caption of the grammar always means what its record says.
"""

from __future__ import annotations

from collections.abc import Mapping

from ..caption.vocabulary import load_vocabulary

COLOUR_WORDS: Mapping[str, tuple[str, ...]] = load_vocabulary().colours
"""Colour name -> words, those of the captions' vocabulary; the first is the plain one."""

CATEGORY_NOUNS: dict[str, tuple[str, ...]] = {
    "dress": ("dress", "frock"),
    "hat": ("hat", "headwear"),
    "longsleeve": (
        "longsleeve",
        "long sleeve top",
        "long sleeved top",
        "long sleeve t-shirt",
        "long-sleeve",
    ),
    "outwear": ("outwear", "outerwear"),
    "pants": ("pants", "trousers", "slacks"),
    "shirt": ("shirt", "button-up shirt"),
    "shoes": ("shoes", "footwear"),
    "shorts": ("shorts",),
    "skirt": ("skirt",),
    "t-shirt": ("t-shirt", "tee", "tshirt", "t shirt"),
}
"""Category -> nouns that claim nothing else; the first is the class's own name."""

SUBTYPE_NOUNS: dict[str, tuple[str, ...]] = {
    "gown": ("gown",),
    "sundress": ("sundress", "summer dress"),
    "shirtdress": ("shirt dress", "shirtdress"),
    "cap": ("cap", "baseball cap"),
    "beanie": ("beanie", "knitted hat", "woolly hat"),
    "bucket": ("bucket hat",),
    "sunhat": ("sun hat", "straw hat"),
    "sweater": ("sweater", "jumper", "pullover"),
    "turtleneck": ("turtleneck",),
    "sweatshirt": ("sweatshirt",),
    "cardigan": ("cardigan",),
    "hoodie": ("hoodie", "hooded sweatshirt"),
    "jacket": ("jacket",),
    "coat": ("coat", "overcoat"),
    "parka": ("parka",),
    "blazer": ("blazer",),
    "vest": ("vest", "gilet", "waistcoat"),
    "jeans": ("jeans",),
    "sweatpants": ("sweatpants", "joggers", "track pants"),
    "leggings": ("leggings",),
    "blouse": ("blouse",),
    "polo": ("polo shirt",),
    "tank": ("tank top",),
    "sneakers": ("sneakers", "trainers"),
    "boots": ("boots",),
    "heels": ("heels", "high heels", "pumps"),
    "sandals": ("sandals",),
    "flip-flops": ("flip-flops",),
    "flats": ("flats", "ballet flats"),
    "loafers": ("loafers",),
    "slippers": ("slippers",),
    "clogs": ("clogs",),
    "espadrilles": ("espadrilles",),
    "denim-shorts": ("denim shorts", "jean shorts"),
    "swim-shorts": ("swim shorts", "swimming trunks"),
    "pleated-skirt": ("pleated skirt",),
    "pencil-skirt": ("pencil skirt",),
}
"""Subtype -> nouns; each also claims the category, where a subtype has but one."""

SUBTYPE_CATEGORIES: dict[str, tuple[str, ...]] = {
    "gown": ("dress",),
    "sundress": ("dress",),
    "shirtdress": ("dress",),
    "cap": ("hat",),
    "beanie": ("hat",),
    "bucket": ("hat",),
    "sunhat": ("hat",),
    "sweater": ("longsleeve",),
    "turtleneck": ("longsleeve",),
    "sweatshirt": ("longsleeve",),
    "cardigan": ("longsleeve", "outwear"),
    "hoodie": ("longsleeve", "outwear"),
    "jacket": ("outwear", "longsleeve", "shirt"),
    "coat": ("outwear",),
    "parka": ("outwear",),
    "blazer": ("outwear",),
    "vest": ("outwear",),
    "jeans": ("pants",),
    "sweatpants": ("pants",),
    "leggings": ("pants",),
    "blouse": ("shirt", "longsleeve"),
    "polo": ("shirt", "t-shirt"),
    "tank": ("t-shirt",),
    "sneakers": ("shoes",),
    "boots": ("shoes",),
    "heels": ("shoes",),
    "sandals": ("shoes",),
    "flip-flops": ("shoes",),
    "flats": ("shoes",),
    "loafers": ("shoes",),
    "slippers": ("shoes",),
    "clogs": ("shoes",),
    "espadrilles": ("shoes",),
    "denim-shorts": ("shorts",),
    "swim-shorts": ("shorts",),
    "pleated-skirt": ("skirt",),
    "pencil-skirt": ("skirt",),
}

BROADER: dict[str, tuple[str, ...]] = {
    "jacket": ("jacket", "parka", "blazer"),
    "coat": ("coat", "parka"),
    "sandals": ("sandals", "flip-flops"),
    "sweater": ("sweater", "turtleneck"),
}
"""Subtype that a noun names -> subtypes that satisfy it as well; others satisfy only themselves."""

ADJECTIVES: dict[tuple[str, str], tuple[str, ...]] = {
    ("pattern", "plain"): ("plain", "solid"),
    ("pattern", "stripes"): ("striped", "stripy"),
    ("pattern", "dots"): ("polka dot", "dotted", "spotted"),
    ("pattern", "checks"): ("checked", "plaid", "checkered", "tartan", "gingham"),
    ("pattern", "floral"): ("floral", "flowered", "flowery"),
    ("pattern", "print"): ("printed", "graphic"),
    ("pattern", "animal"): ("animal print", "leopard print"),
    ("pattern", "camo"): ("camouflage", "camo"),
    ("sleeve", "none"): ("sleeveless",),
    ("sleeve", "short"): ("short sleeved", "short sleeve"),
    ("sleeve", "long"): ("long sleeved", "long sleeve"),
    ("length", "short"): ("short", "mini"),
    ("length", "knee"): ("knee length", "midi"),
    ("length", "long"): ("long", "maxi"),
    ("length", "cropped"): ("cropped",),
    ("material", "denim"): ("denim",),
    ("material", "knit"): ("knitted", "knit"),
    ("material", "leather"): ("leather",),
    ("material", "lace"): ("lace",),
    ("material", "fur"): ("fur", "furry"),
    ("material", "satin"): ("satin", "silky"),
    ("material", "wool"): ("wool", "woollen"),
    ("material", "straw"): ("straw",),
    ("neck", "hood"): ("hooded",),
    ("neck", "v-neck"): ("v-neck",),
    ("neckline", "crew"): ("crew neck", "crewneck"),
    ("neckline", "strapless"): ("strapless",),
    ("details", "ripped"): ("ripped",),
    ("details", "pleated"): ("pleated",),
}
"""(attribute, value) -> words that stand before the noun."""

WITH_PHRASES: dict[tuple[str, str], tuple[str, ...]] = {
    ("pattern", "stripes"): ("stripes", "a striped pattern"),
    ("pattern", "dots"): ("dots", "polka dots"),
    ("pattern", "checks"): ("checks", "a checked pattern"),
    ("pattern", "floral"): ("flowers", "a floral print", "a floral pattern"),
    ("pattern", "print"): ("a print", "a graphic print"),
    ("sleeve", "none"): ("no sleeves",),
    ("sleeve", "short"): ("short sleeves",),
    ("sleeve", "long"): ("long sleeves",),
    ("neck", "hood"): ("a hood",),
    ("neck", "v-neck"): ("a v-neck",),
    ("neck", "collar"): ("a collar",),
    ("neck", "turtleneck"): ("a turtleneck",),
    ("neckline", "crew"): ("a crew neck", "a round neck"),
    ("neckline", "scoop"): ("a scoop neck",),
    ("neckline", "straps"): ("thin straps", "straps", "spaghetti straps"),
    ("closure", "buttons"): ("buttons",),
    ("closure", "zip"): ("a zip", "a zipper"),
    ("details", "logo"): ("a logo",),
    ("details", "ripped"): ("rips",),
}
"""(attribute, value) -> what follows "with"."""

PLURAL_NOUNS = frozenset(
    [
        "pants",
        "trousers",
        "shoes",
        "footwear",
        "shorts",
        "jeans",
        "sweatpants",
        "joggers",
        "leggings",
        "sneakers",
        "trainers",
        "boots",
        "heels",
        "sandals",
        "pumps",
        "slacks",
        "headwear",
        "flip-flops",
        "flats",
        "loafers",
        "slippers",
        "clogs",
        "espadrilles",
        "trunks",
        "outwear",
        "outerwear",
    ]
)
"""Last words of nouns that take no article."""


def phrase_claims() -> dict[str, tuple[tuple[str, frozenset[str]], ...]]:
    """Every phrase of the tables with its claims: (attribute, values that satisfy it)."""
    table: dict[str, tuple[tuple[str, frozenset[str]], ...]] = {}
    for source in (ADJECTIVES, WITH_PHRASES):
        for (attribute, value), phrases in source.items():
            for phrase in phrases:
                table[phrase] = ((attribute, frozenset({value})),)
    for colour, phrases in COLOUR_WORDS.items():
        for phrase in phrases:
            table[phrase] = (("colours", frozenset({colour})),)
    for category, nouns in CATEGORY_NOUNS.items():
        for noun in nouns:
            table[noun] = table[plural(noun)] = (("category", frozenset({category})),)
    for subtype, nouns in SUBTYPE_NOUNS.items():
        claims = (
            ("category", frozenset(SUBTYPE_CATEGORIES[subtype])),
            ("subtype", frozenset(BROADER.get(subtype, (subtype,)))),
        )
        for noun in nouns:
            table[noun] = table[plural(noun)] = claims
    return table


def plural(noun: str) -> str:
    """More than one of it: "dress" -> "dresses"; nouns without article stay."""
    last = noun.split()[-1]
    if last in PLURAL_NOUNS or last in ("long-sleeve",):
        return noun
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def with_article(phrase: str, noun: str) -> str:
    """Put "a" or "an" before a phrase that ends in `noun`, unless the noun takes none."""
    if noun.split()[-1] in PLURAL_NOUNS:
        return phrase
    return f"{'an' if phrase[0] in 'aeiou' else 'a'} {phrase}"

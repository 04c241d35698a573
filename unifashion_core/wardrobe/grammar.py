"""The words for garments as data: phrase -> the attribute value that it states."""

from __future__ import annotations

import re
from collections.abc import Mapping

from .colours import COLOURS, SHADES
from .kinds import KINDS

_PIECE = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")

CATEGORY_WORDS: dict[str, tuple[str, ...]] = {
    "dress": ("dress", "frock"),
    "hat": ("hat", "headwear"),
    "longsleeve": ("longsleeve", "long-sleeved top", "long-sleeved t-shirt", "long sleeve"),
    "outwear": ("outwear", "outerwear"),
    "pants": ("pants", "pair of pants"),
    "shirt": ("shirt",),
    "shoes": ("shoes", "footwear", "pair of shoes"),
    "shorts": ("shorts", "pair of shorts", "short pants"),
    "skirt": ("skirt",),
    "t-shirt": ("t-shirt", "tee", "tee shirt"),
}
SUBTYPE_WORDS: dict[str, tuple[str, ...]] = {
    "tank top": ("tank top", "vest top", "tank"),
    "sweater": ("sweater", "jumper", "pullover"),
    "sweatshirt": ("sweatshirt", "crewneck sweatshirt"),
    "polo shirt": ("polo shirt", "polo"),
    "blouse": ("blouse",),
    "flannel shirt": ("flannel shirt", "flannel"),
    "jacket": ("jacket",),
    "coat": ("coat", "overcoat"),
    "blazer": ("blazer", "suit jacket"),
    "hoodie": ("hoodie", "hooded sweatshirt", "hooded jacket"),
    "cardigan": ("cardigan",),
    "vest": ("vest", "gilet", "waistcoat"),
    "sundress": ("sundress", "summer dress"),
    "shirt dress": ("shirt dress", "shirtdress"),
    "gown": ("gown", "evening dress"),
    "a-line skirt": ("a-line skirt", "flared skirt"),
    "pleated skirt": ("pleated skirt",),
    "pencil skirt": ("pencil skirt", "straight skirt"),
    "jeans": ("jeans", "pair of jeans"),
    "trousers": ("trousers", "slacks"),
    "joggers": ("joggers", "sweatpants"),
    "leggings": ("leggings", "tights"),
    "denim shorts": ("denim shorts", "jean shorts"),
    "swim shorts": ("swim shorts", "swimming trunks"),
    "sneakers": ("sneakers", "trainers", "sports shoes"),
    "boots": ("boots", "ankle boots"),
    "heels": ("heels", "high heels", "pumps"),
    "sandals": ("sandals", "open shoes"),
    "loafers": ("loafers", "slip-on shoes"),
    "cap": ("cap", "baseball cap"),
    "beanie": ("beanie", "woolly hat"),
    "sun hat": ("sun hat", "wide-brimmed hat"),
    "bucket hat": ("bucket hat",),
}
COLOUR_WORDS: dict[str, str] = {
    **{word: shade.colour for word, shade in SHADES.items()},
    "gray": "grey",
    "dark grey": "grey",
    "light grey": "grey",
    "tan": "beige",
    "wine red": "red",
    "dark red": "red",
    "bright red": "red",
    "light pink": "pink",
    "hot pink": "pink",
    "dark green": "green",
    "light green": "green",
    "navy blue": "navy",
    "dark brown": "brown",
    "light brown": "brown",
}
SHADE_SYNONYMS: dict[str, tuple[str, ...]] = {
    "grey": ("gray",),
    "charcoal": ("dark grey",),
    "silver": ("light grey",),
    "sand": ("tan",),
    "burgundy": ("wine red",),
    "maroon": ("dark red",),
    "scarlet": ("bright red",),
    "blush": ("light pink",),
    "fuchsia": ("hot pink",),
    "emerald": ("dark green",),
    "mint": ("light green",),
    "navy": ("navy blue",),
    "chocolate": ("dark brown",),
    "camel": ("light brown",),
}
PATTERN_ADJECTIVES: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "solid", "unpatterned"),
    "stripes": ("striped", "stripy"),
    "dots": ("dotted", "polka dot", "spotted"),
    "checks": ("checked", "plaid", "tartan", "gingham", "checkered"),
    "floral": ("floral", "flowery", "flowered"),
    "print": ("printed", "graphic"),
}
PATTERN_NOUNS: dict[str, tuple[str, ...]] = {
    "stripes": ("stripes",),
    "dots": ("dots", "polka dots", "spots"),
    "checks": ("checks", "squares"),
    "floral": ("flowers", "blossoms"),
    "print": ("print", "picture", "logo"),
}
SLEEVE_WORDS: dict[str, tuple[str, ...]] = {
    "none": ("sleeveless", "no sleeves", "without sleeves"),
    "short": ("short-sleeved", "short sleeves"),
    "long": ("long-sleeved", "long sleeves"),
}
NECKLINE_WORDS: dict[str, tuple[str, ...]] = {
    "crew": ("crew neck", "round neck"),
    "v": ("v-neck", "v-neckline"),
    "scoop": ("scoop neck", "low round neck"),
    "collar": ("collar", "shirt collar"),
    "polo": ("polo collar",),
    "turtleneck": ("turtleneck", "roll neck"),
    "hood": ("hood",),
    "lapel": ("lapels",),
    "straps": ("straps", "spaghetti straps"),
    "strapless": ("strapless",),
}
LENGTH_WORDS: dict[str, tuple[str, ...]] = {
    "cropped": ("cropped", "crop"),
    "regular": ("regular-length",),
    "short": ("short", "mini"),
    "knee": ("knee-length", "midi"),
    "long": ("long", "maxi", "full-length"),
}
MATERIAL_WORDS: dict[str, tuple[str, ...]] = {
    "cotton": ("cotton",),
    "denim": ("denim",),
    "knit": ("knitted", "knit"),
    "leather": ("leather",),
    "satin": ("satin", "silky"),
    "wool": ("wool", "woollen"),
    "straw": ("straw",),
}
DIRECTION_WORDS: dict[str, tuple[str, ...]] = {
    "horizontal": ("horizontal", "horizontally"),
    "vertical": ("vertical", "vertically"),
}
PLURALS: frozenset[str] = frozenset(
    word
    for name, words in (*CATEGORY_WORDS.items(), *SUBTYPE_WORDS.items())
    for word in words
    if (KINDS[name].category if name in KINDS else name) in ("pants", "shoes", "shorts")
    and not word.startswith("pair of")
    and word not in ("footwear",)
)
"""Nouns that take no article."""

UNCOUNTED: frozenset[str] = frozenset({"outwear", "outerwear", "headwear", "footwear"})
"""Nouns that take no article either, and are one."""

SMALL_WORDS: tuple[str, ...] = (
    "a", "an", "the", "and", "with", "in", "of", "pair", "is", "has", "it", "make", "same", "but",
    "instead", "without", "longer", "shorter", "more", "colour", "color", "coloured", "pattern",
    "as", "this", "photo", "piece", "one", "on", "change", "to", "made", "from", "not", "no", ",",
    ".", "-", "neck", "all",
)  # fmt: skip
"""What stands between the words of `GRAMMAR`."""


def _grammar() -> dict[str, tuple[str, str]]:
    table: dict[str, tuple[str, str]] = {}
    for attribute, words in (
        ("category", CATEGORY_WORDS),
        ("subtype", SUBTYPE_WORDS),
        ("pattern", PATTERN_ADJECTIVES),
        ("pattern", PATTERN_NOUNS),
        ("sleeve", SLEEVE_WORDS),
        ("neckline", NECKLINE_WORDS),
        ("length", LENGTH_WORDS),
        ("material", MATERIAL_WORDS),
        ("direction", DIRECTION_WORDS),
    ):
        for value, phrases in words.items():
            for phrase in phrases:
                table[phrase] = (attribute, value)
    table.update({word: ("colours", colour) for word, colour in COLOUR_WORDS.items()})
    table.update(
        {f"without the {n}": ("pattern", "plain") for ns in PATTERN_NOUNS.values() for n in ns}
    )
    return table


GRAMMAR: Mapping[str, tuple[str, str]] = _grammar()
"""Phrase -> (attribute, value). A subtype also states its category."""


def pieces(text: str) -> list[str]:
    """A text's words and marks, lower case, as a BERT pre-tokenizer splits it."""
    return _PIECE.findall(text.lower())


def vocabulary_words() -> tuple[str, ...]:
    """Every word and mark that the captions and modifications of the wardrobe can hold, sorted."""
    words = {piece for phrase in GRAMMAR for piece in pieces(phrase)}
    words.update(piece for word in SMALL_WORDS for piece in pieces(word))
    words.update(piece for word in COLOURS for piece in pieces(word))
    return tuple(sorted(words))


_BY_PIECES = {tuple(pieces(phrase)): meaning for phrase, meaning in GRAMMAR.items()}
_LONGEST = max(len(key) for key in _BY_PIECES)


def read(text: str) -> dict[str, str | tuple[str, ...]]:
    """The attributes that a text states, by the longest phrases of `GRAMMAR` it holds.

    What follows "instead of" or "not" is passed over up to the next comma or the end. Words that
    the grammar lacks are passed over too.
    """
    words = pieces(text)
    found: dict[str, str | tuple[str, ...]] = {}
    i, skipping = 0, False
    while i < len(words):
        if words[i] in (",", "."):
            skipping = False
        elif words[i] == "not" or words[i : i + 2] == ["instead", "of"]:
            skipping = True
        length = next(
            (n for n in range(_LONGEST, 0, -1) if tuple(words[i : i + n]) in _BY_PIECES), 0
        )
        if length and not skipping:
            _note(found, *_BY_PIECES[tuple(words[i : i + length])])
        i += max(1, length)
    return found


def _note(found: dict[str, str | tuple[str, ...]], attribute: str, value: str) -> None:
    if attribute == "colours":
        earlier = found.get("colours", ())
        assert isinstance(earlier, tuple)
        found["colours"] = (*earlier, value) if value not in earlier else earlier
        return
    if attribute == "subtype":
        found.setdefault("category", KINDS[value].category)
    found[attribute] = value

"""The words and phrases that captions are put together from."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from .garment import Attributes
from .grammar import (
    CATEGORY_WORDS,
    DIRECTION_WORDS,
    LENGTH_WORDS,
    MATERIAL_WORDS,
    NECKLINE_WORDS,
    PATTERN_ADJECTIVES,
    PLURALS,
    SHADE_SYNONYMS,
    SUBTYPE_WORDS,
    UNCOUNTED,
)

Pick = Callable[[Sequence[str]], str]
"""Chooses one of several ways to say the same."""


def usual(options: Sequence[str]) -> str:
    """Take the usual way to say it."""
    return options[0]


def picker(rng: np.random.Generator) -> Pick:
    """Half the time the usual word, else any."""

    def pick(options: Sequence[str]) -> str:
        if len(options) == 1 or rng.random() < 0.5:
            return options[0]
        return options[int(rng.integers(len(options)))]

    return pick


def with_added(text: str, added: list[str], joint: str) -> str:
    """A text and what follows "with"."""
    return text + (joint + listed(added, " and ") if added else "")


def noun_of(stated: Attributes, pick: Pick) -> str:
    """The noun of what is stated."""
    subtype, category = stated.get("subtype"), str(stated.get("category"))
    if subtype in SUBTYPE_WORDS:
        return pick(SUBTYPE_WORDS[str(subtype)])
    return pick(CATEGORY_WORDS[category])


def colour_words(stated: Attributes, shades: dict[str, str], pick: Pick) -> list[str]:
    """A word for each stated colour."""
    colours = stated.get("colours") or ()
    words: list[str] = []
    for colour in (colours,) if isinstance(colours, str) else colours:
        shade = shades.get(colour, colour)
        words.append(pick((colour, shade, *SHADE_SYNONYMS.get(shade, ()))))
    return words


def adjectives(stated: Attributes, pick: Pick) -> list[str]:
    """What stands before the colour: length, and what is lacking."""
    words: list[str] = []
    if stated.get("length") not in (None, "regular"):
        words.append(pick(LENGTH_WORDS[str(stated["length"])]))
    if stated.get("sleeve") == "none":
        words.append("sleeveless")
    if stated.get("neckline") == "strapless":
        words.append("strapless")
    return words


def pattern_words(stated: Attributes, pick: Pick) -> list[str]:
    """The pattern as an adjective."""
    if stated.get("pattern") is None:
        return []
    word = pick(PATTERN_ADJECTIVES[str(stated["pattern"])])
    if stated.get("direction") is not None:
        return [DIRECTION_WORDS[str(stated["direction"])][1], word]
    return [word]


def material_words(stated: Attributes, pick: Pick) -> list[str]:
    """The material as an adjective."""
    material = stated.get("material")
    return [] if material is None else [pick(MATERIAL_WORDS[str(material)])]


def added_words(stated: Attributes, pick: Pick) -> list[str]:
    """What follows "with"."""
    added: list[str] = []
    if stated.get("sleeve") in ("short", "long"):
        added.append(f"{stated['sleeve']} sleeves")
    neckline = stated.get("neckline")
    if neckline is not None and neckline != "strapless":
        added.append(neck_words(str(neckline), pick))
    return added


def neck_words(neckline: str, pick: Pick) -> str:
    """A neckline as what follows "with"."""
    word = pick(NECKLINE_WORDS[neckline])
    return word if word.endswith("s") else f"a {word}"


def with_article(words: list[str], noun: str) -> str:
    """Words with the article of their noun."""
    text = " ".join(words)
    if noun in PLURALS or noun in UNCOUNTED:
        return text
    return ("an " if text[0] in "aeio" else "a ") + text


def listed(items: Sequence[str], joint: str) -> str:
    """Items in a row."""
    if joint == " and " and len(items) > 2:
        return ", ".join(items[:-1]) + " and " + items[-1]
    return joint.join(items)

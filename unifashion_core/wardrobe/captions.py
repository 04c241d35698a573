"""Texts about garments: captions that state some attributes, and what turns one into another."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from .garment import Attributes, AttributeValue, Garment, attributes
from .grammar import (
    CATEGORY_WORDS,
    DIRECTION_WORDS,
    LENGTH_WORDS,
    PATTERN_ADJECTIVES,
    PATTERN_NOUNS,
    SLEEVE_WORDS,
    SUBTYPE_WORDS,
)
from .kinds import LENGTHS
from .phrases import (
    Pick,
    added_words,
    adjectives,
    colour_words,
    listed,
    material_words,
    neck_words,
    noun_of,
    pattern_words,
    picker,
    usual,
    with_added,
    with_article,
)

_ADDED_SHARE = {
    "colours": 0.85,
    "pattern": 0.6,
    "sleeve": 0.45,
    "neckline": 0.3,
    "length": 0.35,
    "material": 0.3,
}
_OBVIOUS = {  # what a noun says already
    "longsleeve": ("sleeve",),
    "t-shirt": ("sleeve",),
}
_LENGTH_ORDER = {name: i for i, name in enumerate(("cropped", "short", "regular", "knee", "long"))}


@dataclass(frozen=True)
class Caption:
    """A text and what it states.

    Attributes:
        text: In plain lower-case words, all of the grammar.
        attributes: The stated values, a subset of the garment's.
    """

    text: str
    attributes: dict[str, AttributeValue] = field(default_factory=dict[str, AttributeValue])


def caption(garment: Garment | Attributes) -> str:
    """The usual caption: colours, pattern, noun and, where it has them, sleeves.

    Args:
        garment: A garment, or attributes; of these only category is needed.
    """
    known, shades = _known(garment)
    stated = {
        k: known[k] for k in ("category", "subtype", "colours", "pattern", "sleeve") if k in known
    }
    if known.get("category") in _OBVIOUS and known.get("sleeve") != "none":
        stated.pop("sleeve", None)
        if known.get("neckline") in ("v", "turtleneck"):
            stated["neckline"] = known["neckline"]
    if stated.get("pattern") == "plain":
        del stated["pattern"]
    if known.get("category") in ("dress", "skirt"):
        stated["length"] = known.get("length")
    return _say(stated, shades, usual, 0)


def captions(garment: Garment | Attributes, rng: np.random.Generator, count: int) -> list[Caption]:
    """Varied captions, each stating another part of what is known.

    Args:
        garment: A garment, or attributes such as a labelled photo's; of these only category is
            needed, a missing or None value is never stated.
        rng: Chooses attributes and words.
        count: How many.
    """
    known, shades = _known(garment)
    return [_one(known, shades, rng) for _ in range(count)]


def satisfies(garment: Attributes, stated: Attributes, *, unknown: bool = False) -> bool:
    """Whether everything that is stated is true of the garment.

    Colours: each stated one must be among the garment's, and its main one (the first) must be
    among those stated. A stated subtype that only repeats a category counts as that category.

    Args:
        garment: What is known of the garment.
        stated: What a caption states.
        unknown: What counts where the garment's value is not known: False is right for finding
            positives, True for finding what is surely no positive (`not satisfies(...)`).
    """
    return all(_agrees(garment.get(k), v, k, unknown) for k, v in stated.items() if v is not None)


def modification(
    a: Garment | Attributes, b: Garment | Attributes, rng: np.random.Generator | None = None
) -> str:
    """The text that turns garment a into garment b, such as "in red, with long sleeves".

    Args:
        a: The garment at hand.
        b: The wanted one.
        rng: Chooses among the ways to say it; None takes the plainest.

    Returns:
        The text, "the same" when nothing that the grammar can name differs.
    """
    was, _ = _known(a)
    new, shades = _known(b)
    pick = usual if rng is None else picker(rng)
    said = [_change(name, was, new, shades, pick) for name in changes(a, b)]
    if not said:
        return "the same"
    describing = [adjective for adjective, _ in said if adjective]
    if rng is not None and len(describing) == len(said) and rng.random() < 0.45:
        return pick(("is ", "make it ", "the same but ", "")) + listed(describing, " and ")
    adding = [phrase for _, phrase in said]
    return listed(adding, pick((", ", " and ")))


def changes(a: Garment | Attributes, b: Garment | Attributes) -> dict[str, AttributeValue]:
    """What b has otherwise than a, by name and b's value: what a modification has to say.

    A category that only follows from the sleeves or the length is left out, and so is a second
    colour that only comes or goes with the pattern.
    """
    was, new = _known(a)[0], _known(b)[0]
    differ: dict[str, AttributeValue] = {k: v for k, v in new.items() if was.get(k) != v}
    if "pattern" in differ and _main(was) == _main(new):
        differ.pop("colours", None)
    differ.pop("direction", None)
    moved = "sleeve" in differ or "length" in differ
    if "category" not in differ or _follows(was, new) and moved:
        for name in ("category", "subtype", "material"):
            differ.pop(name, None)
    else:
        differ = {
            k: v for k, v in differ.items() if k in ("category", "subtype", "colours", "pattern")
        }
    return differ


def _follows(was: Attributes, new: Attributes) -> bool:
    pair = {was.get("category"), new.get("category")}
    return pair in ({"t-shirt", "longsleeve"}, {"pants", "shorts"})


def _known(garment: Garment | Attributes) -> tuple[dict[str, AttributeValue], dict[str, str]]:
    """Known attributes, and the shade word of each colour."""
    if isinstance(garment, Garment):
        shades = dict(zip(garment.colours, garment.shades, strict=True))
        return _stated(attributes(garment)), shades
    known = _stated(garment)
    colours = known.get("colours")
    if colours is not None:
        known["colours"] = (colours,) if isinstance(colours, str) else tuple(colours)
    return known, {}


def _stated(values: Attributes) -> dict[str, AttributeValue]:
    return {k: v for k, v in values.items() if v is not None}


def _main(known: Attributes) -> str | None:
    colours = known.get("colours")
    return colours[0] if colours else None


def _agrees(value: AttributeValue, stated: AttributeValue, name: str, unknown: bool) -> bool:
    if value is None or value == ():
        return unknown
    if name != "colours":
        return value == stated
    has = (value,) if isinstance(value, str) else tuple(value)
    says = (stated,) if isinstance(stated, str) else tuple(stated or ())
    return has[0] in says and set(says) <= set(has)


def _one(
    known: Mapping[str, AttributeValue], shades: dict[str, str], rng: np.random.Generator
) -> Caption:
    stated: dict[str, AttributeValue] = {"category": known.get("category")}
    if "subtype" in known and rng.random() < 0.7:
        stated["subtype"] = known["subtype"]
    for name, share in _ADDED_SHARE.items():
        if name in known and rng.random() < share:
            stated[name] = known[name]
    colours = stated.get("colours")
    if colours is not None and len(colours) == 2 and rng.random() < 0.4:
        stated["colours"] = (colours[0],)
    if stated.get("pattern") == "stripes" and known.get("direction") and rng.random() < 0.3:
        stated["direction"] = known["direction"]
    if stated.get("pattern") == "plain" and rng.random() < 0.6:
        del stated["pattern"]
    if stated.get("length") == "regular":
        del stated["length"]
    stated = _without_obvious(stated, known)
    text = _say(stated, shades, picker(rng), int(rng.integers(4)))
    return Caption(text, {k: v for k, v in stated.items() if v is not None})


def _without_obvious(
    stated: dict[str, AttributeValue], known: Mapping[str, AttributeValue]
) -> dict[str, AttributeValue]:
    """Without what the noun says by itself, such as the hood of a hoodie or a knit sweater."""
    subtype = stated.get("subtype")
    said = {
        "hoodie": ("neckline",),
        "jeans": ("material",),
        "denim shorts": ("material",),
        "polo shirt": ("neckline",),
        "tank top": ("sleeve",),
        "flannel shirt": ("pattern",),
    }.get(str(subtype), ())
    category = known.get("category")
    if category in _OBVIOUS and stated.get("sleeve") != "none":
        said = (*said, *_OBVIOUS[str(category)])
    if category == "shorts":
        said = (*said, *(("length",) if stated.get("length") == "short" else ()))
    if known.get("pattern") == "floral" and subtype == "flannel shirt":
        said = ()
    return {k: v for k, v in stated.items() if k not in said}


def _say(stated: Attributes, shades: dict[str, str], pick: Pick, form: int) -> str:
    noun = noun_of(stated, pick)
    added = added_words(stated, pick)
    colours = colour_words(stated, shades, pick)
    pattern = stated.get("pattern")
    before = adjectives(stated, pick)
    if pattern in PATTERN_NOUNS and len(colours) == 2 and form in (1, 3):
        spoken = pick(PATTERN_NOUNS[str(pattern)])
        way = (
            f"{pick(DIRECTION_WORDS[str(stated['direction'])][:1])} "
            if "direction" in stated
            else ""
        )
        one = "a " if pattern == "print" else ""
        added.insert(0, f"{one}{colours[1]} {way}{spoken}")
        words = [*before, colours[0], *material_words(stated, pick), noun]
    elif form == 2 and colours:
        words = [*before, *pattern_words(stated, pick), *material_words(stated, pick), noun]
        return with_added(
            with_article(words, noun) + " in " + " and ".join(colours), added, ", with "
        )
    else:
        tint = [" and ".join(colours)] if colours else []
        words = [*before, *tint, *pattern_words(stated, pick), *material_words(stated, pick), noun]
    text = " ".join(words) if form == 3 else with_article(words, noun)
    return with_added(text, added, " with ")


def _change(
    name: str,
    was: Attributes,
    new: Attributes,
    shades: dict[str, str],
    pick: Pick,
) -> tuple[str, str]:
    """How one difference is said: as an adjective ("" where there is none) and as a phrase."""
    value = str(new.get(name))
    if name == "colours":
        words = " and ".join(colour_words(new, shades, pick))
        return words, pick((f"in {words}", f"in {words}", f"{words} instead of {_main(was)}"))
    if name == "pattern":
        return _pattern_change(was, new, pick)
    if name == "sleeve":
        if value == "none":
            return "sleeveless", pick(("sleeveless", "without sleeves", "with no sleeves"))
        other = was.get("sleeve")
        tail = f" instead of {other}" if other in ("short", "long") else ""
        return SLEEVE_WORDS[value][0], f"with {value} sleeves" + pick(("", tail))
    if name == "neckline":
        if value == "strapless":
            return value, value
        return "", f"with {neck_words(value, pick)}"
    if name == "length":
        return _length_change(was, value, pick)
    nouns = SUBTYPE_WORDS.get(value) or CATEGORY_WORDS.get(value) or (value,)
    if name == "category" and str(new.get("subtype")) in SUBTYPE_WORDS:
        nouns = SUBTYPE_WORDS[str(new.get("subtype"))]
    return "", "as " + with_article([pick(nouns)], nouns[0])


def _pattern_change(was: Attributes, new: Attributes, pick: Pick) -> tuple[str, str]:
    value, before = str(new["pattern"]), was.get("pattern")
    adjective = pick(PATTERN_ADJECTIVES[value])
    old = PATTERN_ADJECTIVES[str(before)][0] if before is not None else "plain"
    instead = f"{adjective} instead of {old}"
    if value == "plain":
        gone = (
            f"without the {pick(PATTERN_NOUNS[str(before)])}"
            if before in PATTERN_NOUNS
            else adjective
        )
        return adjective, pick((gone, adjective, instead))
    noun = pick(PATTERN_NOUNS[value])
    spoken = f"with a {noun}" if value == "print" else f"with {noun}"
    return adjective, pick((spoken, adjective, instead))


def _length_change(was: Attributes, value: str, pick: Pick) -> tuple[str, str]:
    word = pick(LENGTH_WORDS[value])
    before = was.get("length")
    if before in LENGTHS:
        comparison = "longer" if _LENGTH_ORDER[value] > _LENGTH_ORDER[str(before)] else "shorter"
        word = comparison if value == "regular" else pick((comparison, word))
    return word, word

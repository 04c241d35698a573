"""Captions and edit texts from attributes: the language that the pocket encoder learns."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .claims import Attributes, values_of
from .lexicon import (
    ADJECTIVES,
    CATEGORY_NOUNS,
    COLOUR_WORDS,
    PLURAL_NOUNS,
    SUBTYPE_NOUNS,
    WITH_PHRASES,
    plural,
    with_article,
)

_OPENINGS = (
    "",
    "",
    "",
    "a photo of ",
    "a photo of ",
    "photo of ",
    "a picture of ",
    "an image of ",
    "this is ",
    "a product photo of ",
    "a flat lay of ",
    "show me ",
    "looking for ",
    "i want ",
    "find ",
)
_FILLERS = ("nice", "beautiful", "casual", "elegant", "new", "women's", "men's", "kids", "simple")

# Attributes that a caption may add to its noun, in the order in which English puts them.
_BEFORE = ("length", "sleeve", "pattern", "neck", "neckline", "material", "details")
_AFTER = ("sleeve", "pattern", "neck", "neckline", "closure", "details")
_LM_BEFORE = ("pattern", "material")
_LM_AFTER = ("sleeve", "neck", "closure")

_COLOUR_EDITS = (
    "in {0}",
    "in {0}",
    "in {0}",
    "but in {0}",
    "the same in {0}",
    "this in {0}",
    "make it {0}",
    "{0}",
    "{0} instead",
    "in {0} instead",
    "a {0} one",
    "is {0}",
    "change the colour to {0}",
    "in {0} colour",
    "in the colour {0}",
    "{0} color",
)
_SLEEVE_EDITS: dict[str, tuple[str, ...]] = {
    "long": (
        "with long sleeves",
        "with long sleeves",
        "has long sleeves",
        "with longer sleeves",
        "long sleeves",
        "long sleeved",
        "but with long sleeves",
        "make the sleeves long",
    ),
    "short": (
        "with short sleeves",
        "with short sleeves",
        "has short sleeves",
        "with shorter sleeves",
        "short sleeves",
        "short sleeved",
        "but with short sleeves",
        "make the sleeves short",
    ),
    "none": (
        "without sleeves",
        "sleeveless",
        "with no sleeves",
        "has no sleeves",
        "but sleeveless",
    ),
}
_PATTERN_EDITS: dict[str, tuple[str, ...]] = {
    "plain": ("plain", "without a pattern", "but plain", "in a solid colour", "no pattern"),
    "stripes": ("with stripes", "striped", "but striped", "has stripes"),
    "dots": ("with dots", "with polka dots", "dotted", "has dots"),
    "checks": ("with checks", "checked", "plaid", "but checked"),
    "floral": ("with flowers", "with a floral print", "floral", "but floral"),
    "print": ("with a print", "printed", "with a graphic print"),
}
_LENGTH_EDITS: dict[str, tuple[str, ...]] = {
    "short": ("shorter", "short", "but short", "is shorter"),
    "knee": ("knee length", "midi", "but knee length"),
    "long": ("longer", "long", "but long", "is longer"),
}
_NECK_EDITS: dict[str, tuple[str, ...]] = {
    "v-neck": ("with a v-neck", "has a v-neck"),
    "collar": ("with a collar", "has a collar"),
    "turtleneck": ("with a turtleneck",),
    "hood": ("with a hood", "hooded", "has a hood"),
}
_CATEGORY_EDITS = (
    "as {0}",
    "but {0}",
    "{0} instead",
    "make it {0}",
    "change it to {0}",
    "the same colour but {0}",
    "{0} in this colour",
    "{0} of the same colour",
)


def full_caption(attributes: Attributes) -> str:
    """The one caption that says all it can in a fixed form: what the LM head learns to write.

    "a red and white striped t-shirt with short sleeves"; no content word stands twice.
    """
    category = _one(attributes, "category")
    subtype = _one(attributes, "subtype")
    noun = SUBTYPE_NOUNS[subtype][0] if subtype in SUBTYPE_NOUNS else _lm_noun(category)
    words = [" and ".join(_many(attributes, "colours"))]
    after: list[str] = []
    for attribute in _LM_BEFORE:
        for value in _many(attributes, attribute)[:1]:
            if (attribute, value) in ADJECTIVES and value != "plain":
                words.append(ADJECTIVES[attribute, value][0])
    for attribute in _LM_AFTER:
        for value in _many(attributes, attribute)[:1]:
            if (attribute, value) in WITH_PHRASES:
                after.append(WITH_PHRASES[attribute, value][0])
    said = set(" ".join((*words, noun)).split())
    words = [w for w in words if w and not set(w.split()) & set(noun.split())]
    after = [a for a in after if not said & set(a.split()) - {"a"}][:2]
    text = with_article(" ".join((*words, noun)), noun)
    return f"{text} with {' and '.join(after)}" if after else text


def random_caption(attributes: Attributes, rng: np.random.Generator) -> str:
    """A caption that claims a random share of the attributes, in random words."""
    draw = rng.random()
    colours = _many(attributes, "colours")
    if draw < 0.05 and colours:
        return _only_colour(colours, rng)
    noun = _noun(attributes, rng, narrow=0.35)
    before: list[str] = []
    after: list[str] = []
    if draw > 0.28:
        before += _colour_words(colours, rng)
    if draw > 0.62 or draw < 0.10:
        extra_before, extra_after = _extras(attributes, noun, 1 + int(rng.random() < 0.35), rng)
        before, after = [*before, *extra_before], extra_after
    if rng.random() < 0.06:
        before.insert(0, _pick(_FILLERS, rng))
    return _phrase(before, noun, after, rng)


def colour_edit(colour: str, rng: np.random.Generator, *, plain: float = 0.8) -> str:
    """A text that asks for another colour."""
    word = COLOUR_WORDS[colour][0] if rng.random() < plain else _pick(COLOUR_WORDS[colour], rng)
    return _pick(_COLOUR_EDITS, rng).format(word)


def attribute_edit(attribute: str, value: str, rng: np.random.Generator) -> str | None:
    """A text that asks for a sleeve, pattern, length or neckline; None where there are no words
    for it."""
    tables = {
        "sleeve": _SLEEVE_EDITS,
        "pattern": _PATTERN_EDITS,
        "length": _LENGTH_EDITS,
        "neck": _NECK_EDITS,
    }
    texts = tables.get(attribute, {}).get(value)
    return None if texts is None else _pick(texts, rng)


def category_edit(category: str, rng: np.random.Generator) -> str:
    """A text that asks for another kind of garment in the colour of this one."""
    noun = _pick(CATEGORY_NOUNS[category], rng)
    return _pick(_CATEGORY_EDITS, rng).format(with_article(noun, noun))


def join_edits(edits: Sequence[str], rng: np.random.Generator) -> str:
    """Several wishes in one text: "in red, with long sleeves"."""
    order = rng.permutation(len(edits))
    return _pick((", ", " and ", ", "), rng).join(edits[int(i)] for i in order)


def claim_caption(category: str | None, colours: Sequence[str], **rest: str) -> str:
    """A caption in plain words that claims exactly these values; it names the targets of an edit.

    Raises:
        KeyError: If there are no words for a value.
    """
    noun = CATEGORY_NOUNS[category][0] if category else "clothes"
    words = [" and ".join(colours)] if colours else []
    after: list[str] = []
    for attribute, value in rest.items():
        if (attribute, value) in WITH_PHRASES:
            after.append(WITH_PHRASES[attribute, value][0])
        else:
            words.append(ADJECTIVES[attribute, value][0])
    text = " ".join((*words, noun))
    return f"{text} with {' and '.join(after)}" if after else text


def _lm_noun(category: str) -> str:
    # "longsleeve" is a shop's word; a caption should read well.
    return CATEGORY_NOUNS[category][1 if category == "longsleeve" else 0]


def _only_colour(colours: Sequence[str], rng: np.random.Generator) -> str:
    word = _pick(COLOUR_WORDS[_pick(colours, rng)][:1], rng)
    forms = ("something {0}", "{0} clothes", "{0}", "in {0}", "a {0} garment", "anything {0}")
    return _pick(forms, rng).format(word)


def _colour_words(colours: Sequence[str], rng: np.random.Generator) -> list[str]:
    """Colour words to stand before a noun; of two colours sometimes the main one alone."""
    if not colours:
        return []
    if len(colours) > 1 and rng.random() < 0.4:
        return [" and ".join(colours[:2])]
    main = colours[0]
    word = main if rng.random() < 0.85 else _pick(_safe_words(main), rng)
    return [word]


def _safe_words(colour: str) -> tuple[str, ...]:
    """Synonyms that hold for any shade of a colour: without "light", "dark" and the names of
    tints."""
    safe = {
        "grey": ("grey", "gray"),
        "red": ("red", "scarlet", "crimson", "maroon", "burgundy"),
        "navy": ("navy", "navy blue", "dark blue"),
        "beige": ("beige", "cream", "khaki", "tan"),
        "white": ("white", "off-white"),
        "purple": ("purple", "violet", "lilac"),
    }
    return safe.get(colour, COLOUR_WORDS[colour][:2])


def _extras(
    attributes: Attributes, noun: str, count: int, rng: np.random.Generator
) -> tuple[list[str], list[str]]:
    """Up to `count` further attributes: words before the noun, phrases after it."""
    options: list[tuple[str, str, bool]] = []
    for attribute in dict.fromkeys((*_BEFORE, *_AFTER)):
        for value in _many(attributes, attribute):
            if attribute in _BEFORE and (attribute, value) in ADJECTIVES:
                options.append((attribute, value, False))
            if attribute in _AFTER and (attribute, value) in WITH_PHRASES:
                options.append((attribute, value, True))
    before: list[str] = []
    after: list[str] = []
    used: set[str] = set()
    for i in rng.permutation(len(options)):
        attribute, value, behind = options[int(i)]
        if attribute in used or len(used) == count:
            continue
        phrase = _pick((WITH_PHRASES if behind else ADJECTIVES)[attribute, value], rng)
        if set(phrase.split()) & set(noun.split()):
            continue
        used.add(attribute)
        (after if behind else before).append(phrase)
    return before, after


def _noun(attributes: Attributes, rng: np.random.Generator, *, narrow: float) -> str:
    subtype = _one(attributes, "subtype")
    if subtype in SUBTYPE_NOUNS and rng.random() < narrow:
        return _pick(SUBTYPE_NOUNS[subtype], rng)
    nouns = CATEGORY_NOUNS[_one(attributes, "category")]
    return nouns[0] if rng.random() < 0.55 else _pick(nouns, rng)


def _phrase(
    before: Sequence[str], noun: str, after: Sequence[str], rng: np.random.Generator
) -> str:
    """Opening, article, words, noun, "with ...": in one of the usual forms."""
    tail = f" with {' and '.join(after)}" if after else ""
    draw = rng.random()
    if draw < 0.12:
        text = " ".join((*before, plural(noun)))
    elif draw < 0.40:
        text = " ".join((*before, noun))
    elif noun.split()[-1] in PLURAL_NOUNS and draw < 0.5:
        text = " ".join(("a pair of", *before, noun))
    else:
        text = with_article(" ".join((*before, noun)), noun)
        if draw > 0.94 and text.startswith(("a ", "an ")):
            text = f"{_pick(('the', 'one', 'this'), rng)} {text.split(' ', 1)[1]}"
    return f"{_pick(_OPENINGS, rng)}{text}{tail}"


def _one(attributes: Attributes, attribute: str) -> str:
    """The first value of an attribute, or ""."""
    return next(iter(_many(attributes, attribute)), "")


def _many(attributes: Attributes, attribute: str) -> tuple[str, ...]:
    return values_of(attributes.get(attribute, ()))


def _pick(options: Sequence[str], rng: np.random.Generator) -> str:
    return options[int(rng.integers(len(options)))]

"""Triplets of phase 2: two pictures and the text that leads from one to the other."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from ..errors import InputError
from ..pocket.photos import COLOURS
from ..wardrobe.garment import Garment, edit
from .claims import values_of
from .describe import Known
from .grammar import attribute_edit, category_edit, claim_caption, colour_edit, join_edits
from .lexicon import ADJECTIVES, WITH_PHRASES
from .records import Triplet

_T = TypeVar("_T")


@dataclass(frozen=True)
class Picture:
    """A picture of the training folder.

    Attributes:
        path: Relative to the folder.
        attributes: What is known of it.
        source: "photo", "recoloured" or "wardrobe".
        origin: What its copies share: the photo's hash, the number of a pair.
    """

    path: str
    attributes: Known
    source: str
    origin: str


# Shares of the kinds of edit among the triplets from photos.
_SHARES = {"colour": 0.48, "same": 0.20, "sleeve": 0.16, "category": 0.08, "pattern": 0.08}
_UPPER = {"t-shirt": "longsleeve", "longsleeve": "t-shirt"}


def photo_triplets(pictures: Sequence[Picture], count: int, seed: int) -> list[Triplet]:
    """Draw triplets among photos and their coloured copies, the kinds of edit in fixed shares.

    Kinds: another colour of the same category; the same photo recoloured; other sleeves, perhaps
        with a colour;
    another category of the same colour; another pattern of the same category and colour.
    """
    rng = np.random.default_rng([seed, 3])
    pool = _Pool([p for p in pictures if p.attributes.get("colours")])
    makers: dict[str, Callable[[Picture, _Pool, np.random.Generator], Triplet | None]] = {
        "colour": _colour,
        "same": _same,
        "sleeve": _sleeve,
        "category": _category,
        "pattern": _pattern,
    }
    found: list[Triplet] = []
    for kind, share in _SHARES.items():
        wanted, tries = round(share * count), 0
        made = 0
        while made < wanted and tries < 20 * wanted:
            tries += 1
            triplet = makers[kind](pool.draw(rng), pool, rng)
            if triplet is not None:
                found.append(triplet)
                made += 1
    return found


def wardrobe_pairs(garments: Sequence[Garment], seed: int) -> list[tuple[Garment, Garment, str]]:
    """Give each garment a counterpart that differs in one or two attributes, and the text that
    says how."""
    rng = np.random.default_rng([seed, 4])
    return [(g, *_counterpart(g, rng)) for g in garments]


def pair_triplet(first: Picture, second: Picture, text: str) -> Triplet:
    """The triplet of a pair of renders; its target is claimed whole."""
    a = second.attributes
    rest = {
        name: values_of(a[name])[0]
        for name in ("pattern", "sleeve", "length")
        if name in a and ((name, values_of(a[name])[0]) in {**ADJECTIVES, **WITH_PHRASES})
    }
    caption = claim_caption(values_of(a["category"])[0], values_of(a["colours"]), **rest)
    return Triplet(first.path, second.path, text, caption, source="wardrobe")


class _Pool:
    """Pictures by category and colour, drawn with photos and copies in even shares."""

    def __init__(self, pictures: Sequence[Picture]) -> None:
        self._all: dict[str, list[Picture]] = defaultdict(list)
        self._cells: dict[tuple[str, str], list[Picture]] = defaultdict(list)
        self._origins: dict[str, list[Picture]] = defaultdict(list)
        for p in pictures:
            self._all[category_of(p)].append(p)
            self._origins[p.origin].append(p)
            for colour in values_of(p.attributes["colours"]):
                self._cells[category_of(p), colour].append(p)
        self.categories = sorted(self._all)

    def draw(self, rng: np.random.Generator) -> Picture:
        """A picture: the category at random, then two photos for each coloured copy."""
        return self._pick(self._all[_choice(self.categories, rng)], rng)

    def cell(
        self, category: str, colour: str, rng: np.random.Generator, origin: str = ""
    ) -> Picture | None:
        """A picture of a category and colour, not of the given origin."""
        found = [p for p in self._cells[category, colour] if p.origin != origin]
        return self._pick(found, rng) if found else None

    def members(self, category: str, colour: str) -> Sequence[Picture]:
        return self._cells[category, colour]

    def siblings(self, picture: Picture) -> Sequence[Picture]:
        return [p for p in self._origins[picture.origin] if p.path != picture.path]

    def _pick(self, found: Sequence[Picture], rng: np.random.Generator) -> Picture:
        photos = [p for p in found if p.source == "photo"]
        return _choice(photos if photos and rng.random() < 0.65 else found, rng)


def category_of(picture: Picture) -> str:
    """Its category, by name."""
    return values_of(picture.attributes["category"])[0]


def _colours(picture: Picture) -> tuple[str, ...]:
    return values_of(picture.attributes["colours"])


def _other_colour(picture: Picture, rng: np.random.Generator) -> str:
    return _choice([c for c in COLOURS if c not in _colours(picture)], rng)


def _colour(picture: Picture, pool: _Pool, rng: np.random.Generator) -> Triplet | None:
    colour, category = _other_colour(picture, rng), category_of(picture)
    target = pool.cell(category, colour, rng, picture.origin)
    if target is None:
        return None
    text = colour_edit(colour, rng)
    return _triplet(picture, target, text, claim_caption(category, [colour]), "colour")


def _same(picture: Picture, pool: _Pool, rng: np.random.Generator) -> Triplet | None:
    siblings = pool.siblings(picture)
    if not siblings:
        return None
    target = _choice(siblings, rng)
    colour = _colours(target)[0]
    text = colour_edit(colour, rng)
    return _triplet(picture, target, text, claim_caption(category_of(target), [colour]), "same")


def _sleeve(picture: Picture, pool: _Pool, rng: np.random.Generator) -> Triplet | None:
    """T-shirt to longsleeve and back; dresses, shirts and jackets within their category."""
    own = values_of(picture.attributes.get("sleeve", ""))[0]
    if own not in ("none", "short", "long"):
        return None
    category = category_of(picture)
    wanted = _choice([s for s in ("none", "short", "long") if s != own], rng)
    to = category
    if category in _UPPER:
        to, wanted = _UPPER[category], "short" if category == "longsleeve" else "long"
    move = rng.random() < 0.35
    colour = _other_colour(picture, rng) if move else _choice(_colours(picture), rng)
    found = [
        p
        for p in pool.members(to, colour)
        if p.attributes.get("sleeve") == wanted and p.origin != picture.origin
    ]
    text = attribute_edit("sleeve", wanted, rng)
    if not found or text is None:
        return None
    if move:
        text = join_edits([colour_edit(colour, rng), text], rng)
    caption = claim_caption(to, [colour], sleeve=wanted)
    return _triplet(picture, _choice(found, rng), text, caption, "sleeve")


def _category(picture: Picture, pool: _Pool, rng: np.random.Generator) -> Triplet | None:
    to = _choice([c for c in pool.categories if c != category_of(picture)], rng)
    colour = _choice(_colours(picture), rng)
    target = pool.cell(to, colour, rng)
    if target is None:
        return None
    caption = claim_caption(to, [colour])
    return _triplet(picture, target, category_edit(to, rng), caption, "category")


def _pattern(picture: Picture, pool: _Pool, rng: np.random.Generator) -> Triplet | None:
    own = picture.attributes.get("pattern")
    if own is None:
        return None
    wanted = _choice(["plain", "stripes", "dots", "checks", "floral", "print"], rng)
    category, colour = category_of(picture), _colours(picture)[0]
    found = [
        p
        for p in pool.members(category, colour)
        if p.attributes.get("pattern") == wanted and p.origin != picture.origin
    ]
    text = attribute_edit("pattern", wanted, rng)
    if wanted == own or not found or text is None:
        return None
    caption = claim_caption(category, [colour], pattern=wanted)
    return _triplet(picture, _choice(found, rng), text, caption, "pattern")


def _triplet(first: Picture, second: Picture, text: str, caption: str, kind: str) -> Triplet:
    return Triplet(first.path, second.path, text, caption, source=kind)


def _counterpart(garment: Garment, rng: np.random.Generator) -> tuple[Garment, str]:
    """An edited garment and the text; a colour edit where nothing else can be changed."""
    options = list(_edit_options(garment, rng))
    rng.shuffle(options)
    chosen = dict(options[: 1 + int(rng.random() < 0.35)])
    if not chosen or rng.random() < 0.35:
        chosen["colour"] = _choice([c for c in COLOURS if c not in garment.colours], rng)
    changed = edit(garment, **chosen)
    texts = [
        colour_edit(value, rng) if name == "colour" else attribute_edit(name, value, rng)
        for name, value in chosen.items()
    ]
    return changed, join_edits([t for t in texts if t], rng)


def _edit_options(garment: Garment, rng: np.random.Generator) -> Iterator[tuple[str, str]]:
    """Sleeve, pattern and length values that this garment could have instead."""
    values = {
        "sleeve": ("none", "short", "long"),
        "pattern": ("plain", "stripes", "dots", "checks", "floral", "print"),
        "length": ("short", "knee", "long"),
    }
    for name, allowed in values.items():
        own = getattr(garment, name)
        if own is None or (name == "length" and garment.category not in ("dress", "skirt")):
            continue
        for i in rng.permutation(len(allowed)):
            value = allowed[int(i)]
            if value == own:
                continue
            try:
                edit(garment, **{name: value})
            except InputError:
                continue
            yield name, value
            break


def _choice(options: Sequence[_T], rng: np.random.Generator) -> _T:
    return options[int(rng.integers(len(options)))]

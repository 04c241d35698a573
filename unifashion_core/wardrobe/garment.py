"""A garment as known attributes: drawn by seed, or edited into an exact counterpart of another."""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import cast

import numpy as np

from ..errors import InputError
from .colours import COLOURS, RGB, SHADES, lab, mix, shade_rgb, shades_of
from .kinds import CATEGORIES, KINDS, PATTERNS, Kind, kinds_of

AttributeValue = str | tuple[str, ...] | None
Attributes = Mapping[str, AttributeValue]

_DENIM_COLOURS = ("blue", "blue", "blue", "navy", "black", "grey", "white")
_LEATHER_COLOURS = ("black", "black", "brown", "brown", "beige", "white", "red", "navy", "grey")
_STRAW_COLOURS = ("beige", "beige", "brown", "white", "yellow")
_MATERIAL_COLOURS = {
    "denim": _DENIM_COLOURS,
    "leather": _LEATHER_COLOURS,
    "straw": _STRAW_COLOURS,
}
_SECONDS = ("white", "white", "black", "navy", "beige", *COLOURS)
_LEAST_CONTRAST = 30.0


@dataclass(frozen=True)
class Garment:
    """The known attributes of one garment; the same values always give the same picture.

    Attributes:
        seed: Of its shape, folds and shades.
        category: One of `kinds.CATEGORIES`.
        subtype: A key of `kinds.KINDS`, such as "hoodie".
        colours: One or two of `colours.COLOURS`, the larger area first.
        shades: The shade word of each colour, a key of `colours.SHADES`.
        pattern: One of `kinds.PATTERNS`.
        direction: "horizontal" or "vertical" for stripes, else None.
        sleeve: "none", "short", "long", or None where it makes no sense; so are the next two.
        neckline: One of `kinds.NECKLINES`.
        length: One of `kinds.LENGTHS`.
        material: One of `kinds.MATERIALS`.
    """

    seed: int
    category: str
    subtype: str
    colours: tuple[str, ...]
    shades: tuple[str, ...]
    pattern: str
    direction: str | None
    sleeve: str | None
    neckline: str | None
    length: str | None
    material: str


def stream(seed: int, name: str) -> np.random.Generator:
    """The random numbers of one aspect of a seed; aspects don't disturb one another."""
    key = [seed & 0xFFFFFFFFFFFFFFFF, zlib.crc32(name.encode())]
    return np.random.Generator(np.random.PCG64(np.random.SeedSequence(key)))


def sample_garment(
    seed: int, *, category: str | None = None, **fixed: str | Sequence[str] | None
) -> Garment:
    """Draw a garment; what is not given is chosen by the seed.

    Args:
        seed: Any integer.
        category: One of `kinds.CATEGORIES`.
        **fixed: Any of subtype, colours (one or two names or shade words), pattern, direction,
            sleeve, neckline, length, material. A value that the category can't have is an error.

    Raises:
        InputError: If a name or a value is unknown or does not go with the others.
    """
    wanted = {name: value for name, value in fixed.items() if value is not None}
    _check_names(wanted)
    subtype = _draw_subtype(seed, category, wanted)
    kind = KINDS[subtype]

    def choose(name: str, allowed: tuple[str, ...]) -> str | None:
        return _choose(seed, name, allowed, wanted.get(name), subtype)

    pattern = _choose(seed, "pattern", kind.patterns, wanted.get("pattern"), subtype, PATTERNS)
    material = choose("material", kind.materials)
    assert pattern is not None  # every kind has patterns and materials
    assert material is not None
    shades = _draw_shades(seed, material, pattern, wanted.get("colours"))
    return Garment(
        seed=seed,
        category=kind.category,
        subtype=subtype,
        colours=tuple(SHADES[s].colour for s in shades),
        shades=shades,
        pattern=pattern,
        direction=_direction(seed, pattern, wanted.get("direction")),
        sleeve=choose("sleeve", kind.sleeves),
        neckline=choose("neckline", kind.necklines),
        length=choose("length", kind.lengths),
        material=material,
    )


def edit(
    garment: Garment,
    *,
    colour: str | Sequence[str] | None = None,
    sleeve: str | None = None,
    pattern: str | None = None,
    neckline: str | None = None,
    length: str | None = None,
) -> Garment:
    """An exact counterpart: the same shape, folds and light, with only the given values changed.

    A t-shirt with long sleeves becomes a longsleeve and back, pants of shorts' length become
    shorts and back: the category follows. A single colour replaces the main one. A pattern that
    needs a second colour draws it by the seed, and "plain" drops it.

    Raises:
        InputError: If the garment can't have a value.
    """
    subtype = _edited_subtype(garment, sleeve, length)
    kind = KINDS[subtype]
    moved = subtype != garment.subtype
    for name, value, allowed in (
        ("sleeve", sleeve, kind.sleeves),
        ("neckline", neckline, kind.necklines),
        ("length", length, kind.lengths),
        ("pattern", pattern, PATTERNS),
    ):
        if value is not None and value not in allowed:
            raise _wrong(name, value, allowed, subtype)
    new_pattern = pattern or garment.pattern
    shades = garment.shades
    if colour is not None:
        shades = _recoloured(garment, colour)
    shades = _fit_shades(garment.seed, shades, new_pattern, keep=colour is not None)
    return replace(
        garment,
        category=kind.category,
        subtype=subtype,
        colours=tuple(SHADES[s].colour for s in shades),
        shades=shades,
        pattern=new_pattern,
        direction=garment.direction or _direction(garment.seed, new_pattern, None)
        if new_pattern == "stripes"
        else None,
        sleeve=_kept(sleeve or garment.sleeve, kind.sleeves),
        neckline=_kept(neckline or garment.neckline, kind.necklines),
        length=_kept(length or garment.length, kind.lengths),
        material=_kept(garment.material, kind.materials) or garment.material
        if moved
        else garment.material,
    )


def attributes(garment: Garment) -> dict[str, AttributeValue]:
    """What is known of a garment by name, without its seed and its shades: a caption's truth."""
    return {
        "category": garment.category,
        "subtype": garment.subtype,
        "colours": garment.colours,
        "pattern": garment.pattern,
        "direction": garment.direction,
        "sleeve": garment.sleeve,
        "neckline": garment.neckline,
        "length": garment.length,
        "material": garment.material,
    }


def rgb(garment: Garment) -> tuple[RGB, ...]:
    """The RGB value, 0..255, of each of the garment's colours."""
    return tuple(
        shade_rgb(shade, garment.material, stream(garment.seed, f"rgb {i} {shade}"))
        for i, shade in enumerate(garment.shades)
    )


def contrast_rgb(garment: Garment) -> RGB:
    """The second colour, or for a plain garment a quieter tone of the first, for small trims."""
    first, *others = rgb(garment)
    if others:
        return others[0]
    dark = lab(first)[0] < 45
    return mix(first, (255, 255, 255) if dark else (20, 18, 24), 0.22)


def _check_names(wanted: Mapping[str, object]) -> None:
    known = {
        "subtype", "colours", "pattern", "direction", "sleeve", "neckline", "length", "material",
    }  # fmt: skip
    for name in wanted:
        if name not in known:
            raise InputError(
                f"Wardrobe: unknown attribute '{name}'. Use one of {', '.join(sorted(known))}."
            )


def _draw_subtype(seed: int, category: str | None, wanted: Mapping[str, object]) -> str:
    given = wanted.get("subtype")
    if given is not None:
        if given not in KINDS or category not in (None, KINDS[str(given)].category):
            raise InputError(
                f"Wardrobe: '{given}' is no kind of {category or 'garment'}. "
                f"Use one of {', '.join(kinds_of(category) if category in CATEGORIES else KINDS)}."
            )
        return str(given)
    if category is None:
        fitting = tuple(c for c in CATEGORIES if any(_fits(k, wanted) for k in _kinds(c)))
        category = _choose(seed, "category", fitting or CATEGORIES, None, "garment")
    if category not in CATEGORIES:
        raise InputError(
            f"Wardrobe: unknown category '{category}'. Use one of {', '.join(CATEGORIES)}."
        )
    names = tuple(k for k in kinds_of(category) if _fits(KINDS[k], wanted))
    if not names:
        raise InputError(
            f"Wardrobe: no {category} with {dict(wanted)}. Leave out one of these, "
            f"or take another category."
        )
    return str(_choose(seed, "subtype", names, None, category))


def _kinds(category: str) -> tuple[Kind, ...]:
    return tuple(KINDS[k] for k in kinds_of(category))


def _fits(kind: Kind, wanted: Mapping[str, object]) -> bool:
    for name, allowed in (
        ("sleeve", kind.sleeves),
        ("neckline", kind.necklines),
        ("length", kind.lengths),
        ("material", kind.materials),
    ):
        if name in wanted and wanted[name] not in allowed:
            return False
    return True


def _choose(
    seed: int,
    name: str,
    allowed: tuple[str, ...],
    given: object,
    where: str,
    accepted: tuple[str, ...] | None = None,
) -> str | None:
    if given is not None:
        if given not in (accepted or allowed):
            raise _wrong(name, given, accepted or allowed, where)
        return str(given)
    if not allowed:
        return None
    return allowed[int(stream(seed, name).integers(len(allowed)))]


def _wrong(name: str, value: object, allowed: Sequence[str], where: str) -> InputError:
    options = ", ".join(dict.fromkeys(allowed)) or "nothing: leave it out"
    return InputError(f"Wardrobe: a {where} can't have {name} '{value}'. Use {options}.")


def _direction(seed: int, pattern: str, given: object) -> str | None:
    if pattern != "stripes":
        return None
    ways = ("horizontal", "horizontal", "vertical")
    return _choose(seed, "direction", ways, given, "striped garment")


def _shade(seed: int, colour: object, name: str) -> str:
    if colour in SHADES and colour not in COLOURS:
        return str(colour)
    if colour not in COLOURS:
        raise InputError(f"Wardrobe: unknown colour '{colour}'. Use one of {', '.join(COLOURS)}.")
    words = shades_of(str(colour))
    return words[int(stream(seed, f"shade {name}").integers(len(words)))]


def _draw_shades(seed: int, material: str, pattern: str, given: object) -> tuple[str, ...]:
    if given is None:
        choices = _MATERIAL_COLOURS.get(material, COLOURS)
        colour = choices[int(stream(seed, "colour").integers(len(choices)))]
        shades: tuple[str, ...] = (_shade(seed, colour, "0"),)
        return _fit_shades(seed, shades, pattern, keep=False)
    return _fit_shades(seed, _given_shades(seed, given), pattern, keep=True)


def _given_shades(seed: int, given: object) -> tuple[str, ...]:
    names: list[object] = [given]
    if isinstance(given, (list, tuple)):
        names = list(cast("Sequence[object]", given))
    if not 1 <= len(names) <= 2:
        raise InputError(f"Wardrobe: got colours {given!r}, wanted one or two. Name one or two.")
    return tuple(_shade(seed, name, str(i)) for i, name in enumerate(names))


def _fit_shades(seed: int, shades: tuple[str, ...], pattern: str, *, keep: bool) -> tuple[str, ...]:
    """One shade for plain, two for a pattern; a second too near to the first is drawn again."""
    if pattern == "plain":
        return shades[:1]
    if len(shades) == 2 and (keep or _contrast(*shades) >= _LEAST_CONTRAST):
        return shades
    rng = stream(seed, "second colour")
    for _ in range(64):
        colour = _SECONDS[int(rng.integers(len(_SECONDS)))]
        words = shades_of(colour)
        word = words[int(rng.integers(len(words)))]
        far = _contrast(shades[0], word) >= _LEAST_CONTRAST
        if far and colour != SHADES[shades[0]].colour:
            return (shades[0], word)
    return (shades[0], "white" if lab(SHADES[shades[0]].rgb)[0] < 60 else "black")


def _contrast(a: str, b: str) -> float:
    difference = lab(SHADES[a].rgb) - lab(SHADES[b].rgb)
    return float(np.sqrt(np.square(difference).sum()))


def _recoloured(garment: Garment, colour: str | Sequence[str]) -> tuple[str, ...]:
    given = _given_shades(garment.seed, colour)
    if len(given) == 2 or garment.pattern == "plain":
        return given
    second = garment.shades[1]
    if SHADES[second].colour == SHADES[given[0]].colour or _contrast(given[0], second) < 18:
        return given  # the pattern would vanish: a second colour is drawn again
    return (given[0], second)


def _edited_subtype(garment: Garment, sleeve: str | None, length: str | None) -> str:
    if garment.category == "t-shirt" and sleeve == "long":
        return "longsleeve"
    if garment.category in ("t-shirt", "longsleeve") and sleeve in ("none", "short"):
        return "tank top" if sleeve == "none" else "t-shirt"
    if garment.category == "pants" and length in ("short", "knee"):
        return "denim shorts" if garment.material == "denim" else "shorts"
    if garment.category == "shorts" and length in ("long", "cropped"):
        return "jeans" if garment.material == "denim" else "trousers"
    return garment.subtype


def _kept(value: str | None, allowed: tuple[str, ...]) -> str | None:
    """The value where the kind has it, else the kind's usual one."""
    if value in allowed or not allowed:
        return value if allowed else None
    return allowed[0]

"""A person of the wardrobe as known attributes: body, looks, pose and clothes, drawn by seed."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..errors import InputError
from .garment import Garment, sample_garment, stream

RGB = tuple[int, int, int]

HAIR_STYLES = ("short", "bob", "long", "bun", "curly", "bald")
POSES = ("relaxed", "wide", "hip", "both hips", "belly", "wave")
FRAMINGS = ("full", "knees", "hips")
UPPER = ("t-shirt", "longsleeve", "shirt", "outwear")
LOWER = ("pants", "shorts", "skirt")
WORN = (*UPPER, *LOWER, "dress")
"""The categories that a person can wear."""

SKINS: tuple[RGB, ...] = (
    (250, 220, 196),
    (240, 200, 170),
    (226, 178, 142),
    (198, 144, 104),
    (164, 112, 76),
    (126, 82, 56),
    (92, 60, 44),
)
HAIRS: tuple[RGB, ...] = (
    (36, 30, 30),
    (58, 40, 30),
    (98, 64, 40),
    (148, 98, 54),
    (206, 164, 96),
    (160, 72, 38),
    (178, 178, 182),
)


@dataclass(frozen=True)
class Limb:
    """Directions of an arm or a leg's two bones, radians from straight down, outwards above 0."""

    upper: float
    lower: float


@dataclass(frozen=True)
class Person:
    """Everything that a picture of a person shows; the same values give the same picture.

    Attributes:
        seed: Of the background and small traits.
        skin: Colour, RGB 0..255.
        hair: Colour, RGB 0..255.
        hair_style: One of `HAIR_STYLES`.
        width: Of the body, as a factor, about 0.86 to 1.2.
        arms: In the picture's right half and in its left half.
        legs: Likewise.
        lean: Of the whole body, radians clockwise.
        framing: One of `FRAMINGS`: down to where the picture goes.
        garments: What is worn, the lower one first; a dress alone.
        shoes: Colour, RGB 0..255.
    """

    seed: int
    skin: RGB
    hair: RGB
    hair_style: str
    width: float
    arms: tuple[Limb, Limb]
    legs: tuple[Limb, Limb]
    lean: float
    framing: str
    garments: tuple[Garment, ...]
    shoes: RGB


def sample_person(
    seed: int, garment: Garment | None = None, *, framing: str | None = None
) -> Person:
    """Draw a person who wears a garment.

    Args:
        seed: Any integer; body, pose and what else is worn follow from it.
        garment: A garment to wear. None: one by seed. What it leaves bare is covered by another,
            of the seed as well.
        framing: One of `FRAMINGS`; None: by seed, most often "full".

    Raises:
        InputError: If nobody can wear the garment, or the framing is unknown.
    """
    rng = stream(seed, "person")
    if framing is not None and framing not in FRAMINGS:
        raise InputError(f"Person: framing '{framing}', wanted one of {', '.join(FRAMINGS)}.")
    if garment is None:
        garment = sample_garment(seed, category=WORN[int(rng.integers(len(WORN)))])
    worn = _outfit(garment, seed)
    framings = (*FRAMINGS[:1] * 5, *FRAMINGS[1:])
    chosen = framings[int(rng.integers(len(framings)))]
    return Person(
        seed=seed,
        skin=SKINS[int(rng.integers(len(SKINS)))],
        hair=HAIRS[int(rng.integers(len(HAIRS)))],
        hair_style=HAIR_STYLES[int(rng.choice(6, p=(0.3, 0.18, 0.24, 0.1, 0.12, 0.06)))],
        width=float(rng.uniform(0.88, 1.16)),
        arms=draw_arms(rng),
        legs=draw_legs(rng),
        lean=float(rng.normal(0, 0.018)),
        framing=framing or chosen,
        garments=worn,
        shoes=tuple(int(c) for c in rng.integers(28, 210, 3)),  # type: ignore[arg-type] # three
    )


def draw_arms(rng: np.random.Generator) -> tuple[Limb, Limb]:
    """A pose of both arms, the right one of the picture first."""
    pose = POSES[int(rng.choice(len(POSES), p=(0.44, 0.18, 0.14, 0.08, 0.08, 0.08)))]
    right, left = _hanging(rng), _hanging(rng)
    if pose == "wide":
        right, left = (_lifted(rng), _lifted(rng))
    elif pose in ("hip", "both hips"):
        right = _on_hip(rng)
        left = _on_hip(rng) if pose == "both hips" else left
    elif pose == "belly":
        right = Limb(float(rng.uniform(0.12, 0.3)), float(rng.uniform(-1.35, -0.9)))
    elif pose == "wave":
        right = Limb(float(rng.uniform(0.7, 1.0)), float(rng.uniform(1.6, 2.5)))
    return (right, left) if rng.random() < 0.5 else (left, right)


def draw_legs(rng: np.random.Generator) -> tuple[Limb, Limb]:
    """A stance of both legs, the right one of the picture first."""
    wide = float(rng.uniform(-0.01, 0.12))
    limbs: list[Limb] = []
    for _ in range(2):
        upper = wide + float(rng.uniform(-0.03, 0.04))
        limbs.append(Limb(upper, upper + float(rng.uniform(-0.08, 0.03))))
    return limbs[0], limbs[1]


def _hanging(rng: np.random.Generator) -> Limb:
    upper = float(rng.uniform(0.1, 0.34))
    return Limb(upper, upper + float(rng.uniform(-0.24, 0.1)))


def _lifted(rng: np.random.Generator) -> Limb:
    upper = float(rng.uniform(0.45, 0.95))
    return Limb(upper, upper + float(rng.uniform(-0.45, 0.3)))


def _on_hip(rng: np.random.Generator) -> Limb:
    return Limb(float(rng.uniform(0.6, 0.75)), float(rng.uniform(-0.82, -0.68)))


def _outfit(garment: Garment, seed: int) -> tuple[Garment, ...]:
    """The garment with what it leaves bare covered, the lower one first."""
    if garment.category not in WORN:
        raise InputError(
            f"Person: a {garment.category} can't be worn. Choose one of {', '.join(WORN)}."
        )
    if garment.category == "dress":
        return (garment,)
    rng = stream(seed, "outfit")
    upper = garment.category in UPPER
    others = ("pants", "pants", "pants", "skirt", "shorts") if upper else UPPER[:3]
    other = sample_garment(
        seed + 1, category=others[int(rng.integers(len(others)))], pattern=_calm(garment, rng)
    )
    return (other, garment) if upper else (garment, other)


def _calm(garment: Garment, rng: np.random.Generator) -> str | None:
    """Plain beside a pattern, mostly: two patterns are hard to look at."""
    return "plain" if garment.pattern != "plain" and rng.random() < 0.8 else None

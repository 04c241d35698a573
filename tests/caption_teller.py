"""A small real captioner for tests: it says the main colour and the size of a picture."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from PIL import Image

from unifashion_core.errors import InputError
from unifashion_core.types import Attribute, ColourShare, GarmentAttributes, OnStep

COLOURS = {"red": (220, 20, 30), "green": (20, 160, 40), "blue": (30, 40, 200)}


@dataclass
class Teller:
    """Says "a red dress" of a red picture; a black one is more than it can do."""

    version: int = 1
    abilities: frozenset[str] = frozenset({"caption", "attributes"})
    told: list[str] = field(default_factory=list)
    batches: list[int] = field(default_factory=list)
    name: str = "teller"
    input_size: int = 8

    @property
    def fingerprint(self) -> str:
        return hashlib.sha256(f"teller {self.version}".encode()).hexdigest()

    def caption(
        self, images: Sequence[Image.Image], *, on_step: OnStep | None = None, seed: int = 0
    ) -> tuple[str, ...]:
        if on_step is not None:
            on_step(0, len(images))
        self.batches.append(len(images))
        said = [f"a {self._colour(image)} dress" for image in images]
        self.told += said
        return tuple(f"{words} {self.version}" if self.version > 1 else words for words in said)

    def describe(
        self,
        images: Sequence[Image.Image],
        *,
        masks: Sequence[Any] | None = None,
        on_step: OnStep | None = None,
    ) -> tuple[GarmentAttributes, ...]:
        return tuple(
            GarmentAttributes(
                category=Attribute("dress", 0.9),
                colours=(ColourShare(self._colour(image), 0.75),),
                details=("buttons",),
            )
            for image in images
        )

    def _colour(self, image: Image.Image) -> str:
        pixel: Any = image.resize((1, 1)).getpixel((0, 0))
        if max(pixel) < 10:
            raise InputError("Teller: a black picture. Turn on the light.")

        def distance(name: str) -> int:
            return sum(abs(a - b) for a, b in zip(COLOURS[name], pixel, strict=True))

        return min(COLOURS, key=distance)


@dataclass(frozen=True)
class Style:
    """A style with a prefix."""

    key: str = "plain"
    prefix: str = ""

    def apply(self, caption: str, attributes: GarmentAttributes | None) -> str:
        return self.prefix + caption


def save_pictures(folder: Path, *names: str) -> list[Path]:
    """Pictures named `red-1.png` and so on, each of its colour and all different."""
    folder.mkdir(parents=True, exist_ok=True)
    paths: list[Path] = []
    for name in names:
        colour = Path(name).name.split("-")[0]
        picture = Image.new("RGB", (24, 24), COLOURS.get(colour, (0, 0, 0)))
        if colour in COLOURS:
            mark = hashlib.sha256(name.encode()).digest()
            picture.putpixel((0, 0), (mark[0], mark[1], mark[2]))
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        picture.save(path)
        paths.append(path)
    return paths

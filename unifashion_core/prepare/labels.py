"""Parse maps of the usual label sets, read into one set of body parts."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (numpy's stubs lose the element type in copy, reshape, clip and where)

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, PngImagePlugin

from ..errors import InputError
from ..imaging import decode_image, read_file

Ids = NDArray[np.uint8]
Colour = tuple[int, int, int]


class Part(IntEnum):
    """What a pixel of a person shows, in the finest form that any source tells apart."""

    BACKGROUND = 0
    HAIR = 1
    FACE = 2
    HEAD = 3  # face and neck in one, as DressCode labels them
    HAT = 4
    GLASSES = 5
    NECK = 6  # skin between face and garment
    UPPER = 7
    COAT = 8
    LOWER = 9  # trousers
    SKIRT = 10
    DRESS = 11
    JUMPSUIT = 12
    LEFT_ARM = 13
    RIGHT_ARM = 14
    LEFT_HAND = 15
    RIGHT_HAND = 16
    LEFT_LEG = 17
    RIGHT_LEG = 18
    LEFT_SHOE = 19
    RIGHT_SHOE = 20
    SOCKS = 21
    GLOVES = 22
    BELT = 23
    BAG = 24
    SCARF = 25


@dataclass(frozen=True)
class LabelSet:
    """One numbering of a person's parts.

    Attributes:
        name: As a user chooses it.
        parts: The part of each id, by id.
        palettes: The colours that files of the set are drawn with, one a tool, by id.
    """

    name: str
    parts: tuple[Part, ...]
    palettes: tuple[tuple[Colour, ...], ...]


@dataclass(frozen=True)
class PartMap:
    """The parts of one photo.

    Attributes:
        parts: A `Part` a pixel, (H, W), uint8; may be of another size than the photo.
        source: What it was read from, for people: "parse map (cihp)".
    """

    parts: Ids
    source: str


def _bit_palette(count: int) -> tuple[Colour, ...]:
    """PASCAL VOC's colours: the bits of the id, spread over the channels from the top down."""
    made: list[Colour] = []
    for index in range(count):
        r = g = b = 0
        for step in range(8):
            bits = index >> (3 * step)
            r |= (bits & 1) << (7 - step)
            g |= (bits >> 1 & 1) << (7 - step)
            b |= (bits >> 2 & 1) << (7 - step)
        made.append((r, g, b))
    return tuple(made)


# Look Into Person's own colours, which VITON-HD's files carry as well.
_LIP_COLOURS: tuple[Colour, ...] = (
    (0, 0, 0), (128, 0, 0), (255, 0, 0), (0, 85, 0), (170, 0, 51), (255, 85, 0), (0, 0, 85),
    (0, 119, 221), (85, 85, 0), (0, 85, 85), (85, 51, 0), (52, 86, 128), (0, 128, 0), (0, 0, 255),
    (51, 170, 221), (0, 255, 255), (85, 255, 170), (170, 255, 85), (255, 255, 0), (255, 170, 0),
)  # fmt: skip
# The same as some writers store them: a byte lower where the value is not a multiple of 17 or so.
_LIP_COLOURS_LOWER = tuple(
    (max(r - (r in (255, 170, 221)), 0), g - (g in (255, 170, 221)), b - (b in (255, 170, 221)))
    for r, g, b in _LIP_COLOURS
)

_P = Part
_ATR = (
    _P.BACKGROUND, _P.HAT, _P.HAIR, _P.GLASSES, _P.UPPER, _P.SKIRT, _P.LOWER, _P.DRESS, _P.BELT,
    _P.LEFT_SHOE, _P.RIGHT_SHOE, _P.FACE, _P.LEFT_LEG, _P.RIGHT_LEG, _P.LEFT_ARM, _P.RIGHT_ARM,
    _P.BAG, _P.SCARF,
)  # fmt: skip
_LIP = (
    _P.BACKGROUND, _P.HAT, _P.HAIR, _P.GLOVES, _P.GLASSES, _P.UPPER, _P.DRESS, _P.COAT, _P.SOCKS,
    _P.LOWER, _P.JUMPSUIT, _P.SCARF, _P.SKIRT, _P.FACE, _P.LEFT_ARM, _P.RIGHT_ARM, _P.LEFT_LEG,
    _P.RIGHT_LEG, _P.LEFT_SHOE, _P.RIGHT_SHOE,
)  # fmt: skip
_CIHP = (*_LIP[:10], _P.NECK, *_LIP[11:])
_DRESSCODE = (*_ATR[:11], _P.HEAD, *_ATR[12:])

LABEL_SETS: dict[str, LabelSet] = {
    made.name: made
    for made in (
        LabelSet("atr", _ATR, (_bit_palette(18),)),
        LabelSet("lip", _LIP, (_LIP_COLOURS, _LIP_COLOURS_LOWER, _bit_palette(20))),
        LabelSet("cihp", _CIHP, (_LIP_COLOURS, _LIP_COLOURS_LOWER, _bit_palette(20))),
        LabelSet("dresscode", _DRESSCODE, (_bit_palette(18),)),
    )
}
"""atr is also SegFormer-clothes; cihp is VITON-HD's; dresscode differs from atr in its head."""


def read_parse_file(path: Path, labels: str | None = None) -> PartMap:
    """Read a parse map from a file; an index PNG by its ids, whatever its palette.

    Raises:
        ImageError: If it is no picture that can be read.
        InputError: As in `read_parse_map`.
    """
    data = read_file(path)
    upright = decode_image(data, str(path))  # checks everything, once
    if data[:8] != b"\x89PNG\r\n\x1a\n":
        return read_parse_map(upright, labels, str(path))
    stored = PngImagePlugin.PngImageFile(io.BytesIO(data))
    stored.load()
    return read_parse_map(stored, labels, str(path))


def read_parse_map(
    image: Image.Image, labels: str | None = None, where: str = "parse map"
) -> PartMap:
    """Read a parse map from a picture.

    Args:
        image: An index PNG, a picture with one channel, or colours. Grey colours count as ids.
        labels: Name of its label set; None where its ids or colours decide.
        where: What to call it in an error.

    Returns:
        The parts, as large as the picture.

    Raises:
        InputError: If the set is unknown, an id or a colour is none of the set's, or several sets
            would read the picture differently.
    """
    if image.mode in ("P", "L", "1", "I", "I;16"):
        # 8-bit 0/255 pictures of mode "1" hold no ids, and fail below as unknown ones
        return from_ids(np.asarray(image), labels, where)
    rgb = np.asarray(image.convert("RGB"))
    if bool((rgb[..., 0] == rgb[..., 1]).all()) and bool((rgb[..., 1] == rgb[..., 2]).all()):
        return from_ids(rgb[..., 0], labels, where)
    return _from_colours(rgb, labels, where)


def from_ids(ids: NDArray[np.generic], labels: str | None, where: str = "parse map") -> PartMap:
    """As `read_parse_map`, from an array of ids, (H, W)."""
    found = [int(value) for value in np.unique(ids)]
    fitting: list[LabelSet] = []
    for candidate in _candidates(labels, where):
        unknown = [value for value in found if not 0 <= value < len(candidate.parts)]
        if not unknown:
            fitting.append(candidate)
        elif labels is not None:
            raise InputError(
                f"{where}: ids {_listed(unknown)} are not in label set '{labels}', which has 0 to "
                f"{len(candidate.parts) - 1}. Choose the set that the map was made with."
            )
    if not fitting:
        most = max(len(known.parts) for known in LABEL_SETS.values())
        unknown = [value for value in found if not 0 <= value < most]
        raise InputError(
            f"{where}: ids {_listed(unknown)} are in none of the label sets "
            f"{', '.join(LABEL_SETS)}. Give a map of one of these sets."
        )
    chosen = _decide(fitting, found, where)
    table = np.zeros(256, np.uint8)
    table[: len(chosen.parts)] = chosen.parts
    return PartMap(table[ids.astype(np.uint8)], f"parse map ({chosen.name})")


def _from_colours(rgb: Ids, labels: str | None, where: str) -> PartMap:
    packed = rgb[..., 0].astype(np.int32) << 16 | rgb[..., 1].astype(np.int32) << 8 | rgb[..., 2]
    found = [int(value) for value in np.unique(packed)]
    fitting: list[tuple[LabelSet, dict[int, int]]] = []
    nearest: list[int] | None = None
    for candidate in _candidates(labels, where):
        for palette in candidate.palettes:
            ids = {r << 16 | g << 8 | b: index for index, (r, g, b) in enumerate(palette)}
            unknown = [value for value in found if value not in ids]
            if not unknown:
                fitting.append((candidate, ids))
                break
            if nearest is None or len(unknown) < len(nearest):
                nearest = unknown
    if not fitting:
        shown = _listed([f"#{value:06x}" for value in nearest or []])
        raise InputError(
            f"{where}: colours {shown} are in no palette of "
            f"{f'label set {labels!r}' if labels else 'the label sets ' + ', '.join(LABEL_SETS)}. "
            "Give the map as it was written (PNG, not resized or saved as JPEG), or its ids."
        )
    # Where palettes differ, the same colour may be another id: compare what comes out.
    chosen, ids = fitting[0]
    if any(
        known.parts[other[value]] != chosen.parts[ids[value]]
        for known, other in fitting[1:]
        for value in found
    ):
        raise _undecided([known.name for known, _ in fitting], where)
    values = np.array(found, np.int32)
    parts = np.array([chosen.parts[ids[value]] for value in found], np.uint8)
    return PartMap(parts[np.searchsorted(values, packed)], f"parse map ({chosen.name})")


def _candidates(labels: str | None, where: str) -> list[LabelSet]:
    if labels is None:
        return list(LABEL_SETS.values())
    if labels not in LABEL_SETS:
        raise InputError(
            f"{where}: label set '{labels}' is unknown. Choose one of {', '.join(LABEL_SETS)}."
        )
    return [LABEL_SETS[labels]]


def _decide(fitting: Sequence[LabelSet], found: Sequence[int], where: str) -> LabelSet:
    """The one set, or any where all read the ids alike."""
    first = fitting[0]
    if all(known.parts[value] == first.parts[value] for known in fitting[1:] for value in found):
        return first
    raise _undecided([known.name for known in fitting], where)


def _undecided(names: Sequence[str], where: str) -> InputError:
    return InputError(
        f"{where}: the label sets {', '.join(names)} all fit, and they read it differently. "
        "Say which one it is (labels)."
    )


def _listed(values: Sequence[object]) -> str:
    shown = ", ".join(str(value) for value in values[:12])
    return shown + (f" and {len(values) - 12} more" if len(values) > 12 else "")

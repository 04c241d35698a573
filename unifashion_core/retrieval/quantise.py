"""Eight-bit copies of stored vectors, with a proof of how far each image's copy can be off.

One scale a token: t ~ scale * t8 with t8 in -127..127. The bound of an image is the largest length
of t - scale * t8 over its tokens, so by Cauchy-Schwarz a score of the copy against a query q is off
by at most bound * |q|. Needs no torch: the store calls it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import numpy.typing as npt

from .machine.narrowing import can_narrow, narrow

Half: TypeAlias = npt.NDArray[np.float16]
Bytes: TypeAlias = npt.NDArray[np.int8]
Floats: TypeAlias = npt.NDArray[np.float32]

LEVELS = 127
NARROW_VALUES = 1 << 19
"""Values from which machine code is worth its compiling."""
_BLOCK_VALUES = 1 << 16
"""Values widened at once: what stays in a core's cache through all the passes."""


def quantise(tokens: Half) -> tuple[Bytes, Floats, Floats]:
    """Make the eight-bit copy of some images.

    Args:
        tokens: Stored tokens, (N, T, D), float16, finite.

    Returns:
        The copy, (N, T, D); a scale for each token, (N, T); a bound for each image, (N,), which is
        never below the true distance, whatever was rounded on the way.
    """
    made = quantise_and_measure(tokens)
    return made.copy, made.scales, made.bounds


@dataclass(frozen=True)
class EightBit:
    """The eight-bit copy of some images, and how long their tokens are.

    Attributes:
        copy, scales, bounds: As `quantise` gives them.
        lengths: Of each token, (N, T), float32; NaN where it isn't finite.
    """

    copy: Bytes
    scales: Floats
    bounds: Floats
    lengths: Floats


def quantise_and_measure(tokens: Half) -> EightBit:
    """As `quantise`; also says how long the tokens are, since it reads them anyway.

    Args:
        tokens: Stored tokens, (N, T, D), float16; the copy of one that isn't finite is of no use.
    """
    count, per_image, width = tokens.shape
    copy = np.empty(tokens.shape, np.int8)
    scales = np.empty((count, per_image), np.float32)
    errors, squares = np.empty_like(scales), np.empty_like(scales)
    if tokens.size >= NARROW_VALUES and tokens.flags.c_contiguous and can_narrow():
        flat = (np.reshape(tokens, (-1, width)), np.reshape(copy, (-1, width)))
        narrow(*flat, np.reshape(scales, -1), np.reshape(errors, -1), np.reshape(squares, -1))
    else:
        _in_blocks(tokens, copy, scales, errors, squares)
    return EightBit(copy, scales, _bounds(errors, width), np.sqrt(squares))


def _in_blocks(tokens: Half, copy: Bytes, scales: Floats, errors: Floats, squares: Floats) -> None:
    count, per_image, width = tokens.shape
    size = max(1, _BLOCK_VALUES // max(1, per_image * width))
    wide = np.empty((size, per_image, width), np.float32)
    spare = np.empty_like(wide)
    for start in range(0, count, size):
        here = slice(start, min(start + size, count))
        many = here.stop - start
        values, room = wide[:many], spare[:many]
        with np.errstate(invalid="ignore"):  # what isn't finite has no length, which says so
            np.copyto(values, tokens[here])
            np.einsum("ntd,ntd->nt", values, values, out=squares[here])
            _block(values, room, copy[here], scales[here])
            np.multiply(copy[here], scales[here][..., None], out=room, dtype=np.float32)
            np.subtract(values, room, out=room)
            np.einsum("ntd,ntd->nt", room, room, out=errors[here])


def _block(wide: Floats, spare: Floats, copy: Bytes, scales: Floats) -> None:
    np.abs(wide, out=spare)
    largest = spare.max(-1, initial=0.0)
    np.divide(largest, np.float32(LEVELS), out=scales)
    steps = np.divide(LEVELS, largest, out=np.zeros_like(largest), where=largest > 0.0)
    np.multiply(wide, steps[..., None], out=spare)
    np.rint(spare, out=spare)
    copy[...] = spare


def _bounds(errors: Floats, width: int) -> Floats:
    """Upper bounds of the longest difference, (images,), from squared lengths as computed.

    A product scale * t8 errs by 2^-24 of itself and the difference by 2^-24 of it, so a difference
    as computed is off by less than 2^-22 of the token's length (at most 1.01); the sum of D squares
    and its root err by less than D 2^-23 of the result, in any order.
    """
    longest = np.sqrt(errors.max(-1, initial=0.0))
    return (longest * np.float32(1.0 + width * 2.0**-23) + np.float32(2.0**-21)).astype(np.float32)

"""Eight-bit copies of stored vectors, with a proof of how far each image's copy can be off.

One scale a token: t ~ scale * t8 with t8 in -127..127. The bound of an image is the largest length
of t - scale * t8 over its tokens, so by Cauchy-Schwarz a score of the copy against a query q is off
by at most bound * |q|. Numpy alone: the store calls it.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
import numpy.typing as npt

Half: TypeAlias = npt.NDArray[np.float16]
Bytes: TypeAlias = npt.NDArray[np.int8]
Floats: TypeAlias = npt.NDArray[np.float32]

LEVELS = 127
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
    count, per_image, width = tokens.shape
    copy = np.empty(tokens.shape, np.int8)
    scales = np.empty((count, per_image), np.float32)
    bounds = np.empty(count, np.float32)
    size = max(1, _BLOCK_VALUES // max(1, per_image * width))
    wide = np.empty((size, per_image, width), np.float32)
    spare = np.empty_like(wide)
    for start in range(0, count, size):
        here = slice(start, min(start + size, count))
        many = here.stop - start
        _block(tokens[here], wide[:many], spare[:many], copy[here], scales[here])
        bounds[here] = _lengths(wide[:many], spare[:many], copy[here], scales[here])
    return copy, scales, bounds


def _block(values: Half, wide: Floats, spare: Floats, copy: Bytes, scales: Floats) -> None:
    np.copyto(wide, values)
    np.abs(wide, out=spare)
    largest = spare.max(-1, initial=0.0)
    np.divide(largest, np.float32(LEVELS), out=scales)
    steps = np.divide(LEVELS, largest, out=np.zeros_like(largest), where=largest > 0.0)
    np.multiply(wide, steps[..., None], out=spare)
    np.rint(spare, out=spare)
    copy[...] = spare


def _lengths(wide: Floats, spare: Floats, copy: Bytes, scales: Floats) -> Floats:
    """Upper bounds of the longest difference, (images,).

    A product scale * t8 errs by 2^-24 of itself and the difference by 2^-24 of it, so a difference
    as computed is off by less than 2^-22 of the token's length (at most 1.01); the sum of D squares
    and its root err by less than D 2^-23 of the result.
    """
    np.multiply(copy, scales[..., None], out=spare, dtype=np.float32)
    np.subtract(wide, spare, out=spare)
    squares = np.einsum("ntd,ntd->nt", spare, spare)
    width = wide.shape[-1]
    longest = np.sqrt(squares.max(-1, initial=0.0))
    return (longest * np.float32(1.0 + width * 2.0**-23) + np.float32(2.0**-21)).astype(np.float32)

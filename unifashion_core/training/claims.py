"""Which images satisfy a caption: what makes every such image a positive, and no such image a
negative."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

from .lexicon import phrase_claims

Claim = tuple[str, frozenset[str]]
"""An attribute and the values of which an image must have one."""

Attributes = Mapping[str, str | Sequence[str]]
"""What is known of an image: a value, or all values, of each attribute; an absent attribute is not
known."""

YES, UNKNOWN, NO = 1, 0, -1

_WORD = re.compile(r"[a-z0-9]+|[^\sa-z0-9]")


class ClaimReader:
    """Finds the claims of captions: our lexicon's phrases, and the very values that a data set's
    attributes have.

    The longest phrase wins: "t-shirt" is no shirt, and the "long" of "long sleeves" claims no
    length.
    """

    def __init__(self, attributes: Sequence[Attributes] = ()) -> None:
        self._phrases: dict[tuple[str, ...], tuple[Claim, ...]] = {}
        for phrase, claims in phrase_claims().items():
            self._phrases[words_of(phrase)] = claims
        for record in attributes:
            for attribute, value in record.items():
                for one in values_of(value):
                    self._phrases.setdefault(words_of(one), ((attribute, frozenset({one})),))
        self._phrases.pop((), None)
        self._longest = max(map(len, self._phrases))

    def claims(self, caption: str) -> tuple[Claim, ...]:
        """What a caption claims, in reading order, each once."""
        words = words_of(caption)
        found: dict[Claim, None] = {}
        at = 0
        while at < len(words):
            step = 1
            for length in range(min(self._longest, len(words) - at), 0, -1):
                claims = self._phrases.get(words[at : at + length])
                if claims is not None:
                    found.update(dict.fromkeys(claims))
                    step = length
                    break
            at += step
        return tuple(found)


class ClaimTable:
    """Verdicts of many captions over many images, looked up fast.

    Args:
        captions: Claims of each caption.
        images: Attributes of each image.
    """

    def __init__(self, captions: Sequence[Sequence[Claim]], images: Sequence[Attributes]) -> None:
        number: dict[Claim, int] = {}
        rows = [[number.setdefault(c, len(number)) for c in claims] for claims in captions]
        width = max((len(r) for r in rows), default=0)
        # One more row, all YES, fills up captions with fewer claims.
        self._rows = np.full((len(rows), max(width, 1)), len(number), dtype=np.int32)
        for i, row in enumerate(rows):
            self._rows[i, : len(row)] = row
        self._silent = np.array([not row for row in rows], dtype=bool)
        self._verdicts = np.full((len(number) + 1, len(images)), YES, dtype=np.int8)
        for claim, i in number.items():
            self._verdicts[i] = [verdict(claim, attributes) for attributes in images]

    def verdicts(
        self, captions: npt.NDArray[np.int64], images: npt.NDArray[np.int64]
    ) -> npt.NDArray[np.int8]:
        """YES, UNKNOWN or NO for each caption (rows) and image (columns), both by index.

        A caption that claims nothing is UNKNOWN everywhere: only its own image is known to fit.
        """
        each = self._verdicts[self._rows[captions][:, :, None], images[None, None, :]]
        result = each.min(axis=1)
        result[self._silent[captions]] = UNKNOWN
        return result


def verdict(claim: Claim, attributes: Attributes) -> int:
    """Whether an image satisfies one claim."""
    attribute, wanted = claim
    if attribute not in attributes:
        return UNKNOWN
    return YES if wanted.intersection(values_of(attributes[attribute])) else NO


def values_of(value: str | Sequence[str]) -> tuple[str, ...]:
    """One value or several, as several."""
    return (value,) if isinstance(value, str) else tuple(value)


def words_of(text: str) -> tuple[str, ...]:
    """Lower-case words and single marks, split as the tokenizer splits them."""
    return tuple(_WORD.findall(text.lower()))

"""The pocket encoder's own vocabulary: whole words of its grammar, so that a word which it can't
know is seen."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from .claims import words_of

SPECIALS = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]")
"""Ids 0 to 4."""

_MARKS = (",", "-", "'", "&", "/", "?")


def write_vocabulary(texts: Iterable[str], path: Path) -> int:
    """Write vocab.txt: specials, marks, then every word of the texts in alphabetical order.

    A plural that the texts lack is two pieces, `##s` and `##es`.

    Returns:
        Number of entries.
    """
    words = {w for text in texts for w in words_of(text)}
    entries = [*SPECIALS, *_MARKS, "##s", "##es", *sorted(words - set(_MARKS))]
    path.write_text("\n".join(entries) + "\n", encoding="utf-8")
    return len(entries)

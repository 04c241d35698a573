"""Vectors of captions: encoded together, or one by one where a text can't be."""

from __future__ import annotations

from collections.abc import Iterator

from ..errors import InputError
from ..types import TextEncoder, TextFeatures


def encode_texts(
    encoder: TextEncoder, texts: list[str], reasons: dict[str, str]
) -> Iterator[tuple[list[str], TextFeatures]]:
    """Encode texts.

    Args:
        encoder: The gallery's.
        texts: At least one.
        reasons: Takes the texts that can't be encoded, with why.

    Returns:
        Texts with their features, in parts.
    """
    try:
        features = encoder.encode_texts(texts)
    except InputError as e:
        if len(texts) == 1:
            reasons[texts[0]] = str(e)
            return
    else:
        yield texts, features
        return
    for text in texts:
        yield from encode_texts(encoder, [text], reasons)

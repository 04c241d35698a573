"""Queries: what encoders make of texts and pictures, blended and with exclusions."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import replace
from typing import TypeVar

import torch
from PIL import Image

from ..errors import AbilityError, InputError
from ..types import (
    Composer,
    Embedding,
    FashionEncoder,
    ImageEncoder,
    ImageFeatures,
    OnStep,
    Query,
    QueryPart,
    TextEncoder,
    TextFeatures,
)

EXCLUSION_WEIGHT = -0.5
_T = TypeVar("_T")


def text_query(encoder: TextEncoder, texts: Sequence[str]) -> Embedding:
    """One query a text.

    Args:
        encoder: The gallery's encoder.
        texts: At least one.

    Returns:
        Queries of one text part each; notes name cut texts and unknown words.

    Raises:
        InputError: If there is no text, or the encoder can't read one.
    """
    if not texts:
        raise InputError("Text query: no text. Give at least one.")
    features = encoder.encode_texts(list(texts))
    parts = [
        QueryPart(features.vectors[number : number + 1], "text", text=text)
        for number, text in enumerate(texts)
    ]
    return Embedding(_queries(parts, features), encoder.fingerprint)


def image_query(
    encoder: ImageEncoder,
    images: Sequence[Image.Image],
    *,
    batch_size: int = 16,
    on_step: OnStep | None = None,
) -> Embedding:
    """One query a picture.

    Args:
        encoder: The gallery's encoder.
        images: Upright RGB pictures, at least one, of any sizes.
        batch_size: Pictures encoded at once.
        on_step: Called with (pictures done, pictures).

    Returns:
        Queries of one image part each, with the vision tokens that composing and reranking read.

    Raises:
        InputError: If there is no picture.
    """
    if not images:
        raise InputError("Image query: no picture. Give at least one.")
    queries: list[Query] = []
    for start in range(0, len(images), batch_size):
        batch = images[start : start + batch_size]
        pixels = torch.stack([encoder.preprocess(image) for image in batch])
        queries += image_queries(encoder.encode_pixels(pixels))
        if on_step is not None:
            on_step(len(queries), len(images))
    return Embedding(tuple(queries), encoder.fingerprint)


def image_queries(features: ImageFeatures) -> tuple[Query, ...]:
    """Queries of one image part each, of features that were computed elsewhere."""
    return tuple(
        Query(
            (
                QueryPart(
                    tokens,
                    "image",
                    vision=None if features.vision is None else features.vision[number],
                    query_outputs=None
                    if features.query_outputs is None
                    else features.query_outputs[number],
                ),
            )
        )
        for number, tokens in enumerate(features.tokens)
    )


def composed_query(encoder: Composer, images: Embedding, texts: Sequence[str]) -> Embedding:
    """This picture, changed as the text says: one vector a query.

    Args:
        encoder: The encoder that made `images`, with a composed mode.
        images: Image queries with vision tokens, one or as many as texts.
        texts: What to change, one or as many as images.

    Returns:
        Queries of one composed part each.

    Raises:
        InputError: If counts don't fit, the encoder is another, or a query isn't one picture.
        AbilityError: If the pictures carry no vision tokens.
    """
    _same_encoder([images.fingerprint, encoder.fingerprint])
    pictures, words = _paired(images, texts, "Compose")
    for picture in pictures:
        if picture.vision is None:
            raise AbilityError(
                "Compose: the picture's embedding carries no vision tokens. Encode it with an "
                "encoder that has a "
                "composed mode, or blend text and picture instead."
            )
    vision = torch.stack([picture.vision for picture in pictures if picture.vision is not None])
    features = encoder.compose_from_vision(vision, words)
    parts = [
        QueryPart(
            features.vectors[number : number + 1],
            "composed",
            text=text,
            vision=picture.vision,
            query_outputs=None
            if features.query_outputs is None
            else features.query_outputs[number],
        )
        for number, (picture, text) in enumerate(zip(pictures, words, strict=True))
    ]
    return Embedding(_queries(parts, features), encoder.fingerprint)


def blended_query(encoder: TextEncoder, images: Embedding, texts: Sequence[str]) -> Embedding:
    """Picture and text in equal shares, for an encoder without a composed mode; a note says so.

    Args:
        encoder: The encoder that made `images`.
        images: Image queries, one or as many as texts.
        texts: One or as many as images.

    Returns:
        Queries of an image part and a text part, weight 1 each.

    Raises:
        InputError: As `composed_query`.
    """
    _same_encoder([images.fingerprint, encoder.fingerprint])
    pictures, words = _paired(images, texts, "Compose")
    said = text_query(encoder, words)
    note = "this encoder has no composed mode: picture and text are blended 1:1"
    queries = tuple(
        replace(query, parts=(picture, *query.parts), notes=(note, *query.notes))
        for picture, query in zip(pictures, said.queries, strict=True)
    )
    return Embedding(queries, encoder.fingerprint)


def picture_and_text_query(
    encoder: FashionEncoder, images: Embedding, texts: Sequence[str]
) -> Embedding:
    """Picture and text together: composed where the encoder can, else blended, which a note says.

    Args:
        encoder: The encoder that made `images`.
        images: Image queries, one or as many as texts.
        texts: One or as many as images.

    Raises:
        InputError: As `composed_query`.
    """
    if isinstance(encoder, Composer):
        return composed_query(encoder, images, texts)
    return blended_query(encoder, images, texts)


def _paired(
    images: Embedding, texts: Sequence[str], where: str
) -> tuple[list[QueryPart], list[str]]:
    pictures: list[QueryPart] = []
    for query in images.queries:
        if len(query.parts) != 1 or query.parts[0].kind != "image":
            raise InputError(f"{where}: the query isn't one picture. Connect an encoded picture.")
        pictures.append(query.parts[0])
    count = _common_count([len(pictures), len(texts)], where)
    return _spread(pictures, count), _spread(list(texts), count)


def _queries(parts: Sequence[QueryPart], features: TextFeatures) -> tuple[Query, ...]:
    queries: list[Query] = []
    for number, part in enumerate(parts):
        cut, unknown = features.truncated[number], features.unknown_words[number]
        notes: list[str] = []
        if cut:
            notes.append("the text was cut to what the encoder reads")
        if unknown:
            notes.append(f"words that the encoder doesn't know: {', '.join(unknown)}")
        queries.append(Query((part,), tuple(notes), cut, tuple(unknown)))
    return tuple(queries)


def blend(weighted: Sequence[tuple[Embedding, float]]) -> Embedding:
    """Add queries: every part's weight is multiplied by its embedding's.

    Args:
        weighted: Embeddings of one encoder, each with a weight; a batch of one goes with every
            batch. A negative weight pushes away.

    Returns:
        One query a place in the batch, with the parts of all embeddings.

    Raises:
        InputError: If encoders or batch sizes differ, a weight isn't finite, or all are zero.
    """
    if not weighted:
        raise InputError("Blend: no query. Connect at least one.")
    _same_encoder([embedding.fingerprint for embedding, _ in weighted])
    count = _common_count([len(embedding.queries) for embedding, _ in weighted], "Blend")
    columns = [
        _spread([_scaled(query, weight) for query in embedding.queries], count)
        for embedding, weight in weighted
    ]
    queries = tuple(_joined(row) for row in zip(*columns, strict=True))
    return Embedding(queries, weighted[0][0].fingerprint)


def exclude(
    embedding: Embedding, unwanted: Embedding, weight: float = EXCLUSION_WEIGHT
) -> Embedding:
    """Add parts that count against an item, such as "floral"; nothing is folded into a vector.

    Args:
        embedding: What is wanted.
        unwanted: What is not, of the same encoder; its parts' weights are multiplied by `weight`.
        weight: Below 0; -1 counts as much against as one wanted part counts for.

    Returns:
        The wanted queries with the parts of the unwanted ones.

    Raises:
        InputError: If the weight isn't negative, or as `blend`.
    """
    if not weight < 0:
        raise InputError(
            f"Exclude: the weight is {weight}, wanted below 0. Use {EXCLUSION_WEIGHT}."
        )
    return blend([(embedding, 1.0), (unwanted, weight)])


def _scaled(query: Query, weight: float) -> Query:
    if not math.isfinite(weight):
        raise InputError(f"Blend: a weight is {weight}. Give a finite number.")
    return replace(
        query, parts=tuple(replace(part, weight=part.weight * weight) for part in query.parts)
    )


def _joined(queries: Sequence[Query]) -> Query:
    parts = tuple(part for query in queries for part in query.parts if part.weight)
    if not parts:
        raise InputError("Blend: every weight is zero. Give one query another weight.")
    return Query(
        parts,
        notes=tuple(dict.fromkeys(note for query in queries for note in query.notes)),
        truncated=any(query.truncated for query in queries),
        unknown_words=tuple(
            dict.fromkeys(word for query in queries for word in query.unknown_words)
        ),
    )


def _same_encoder(fingerprints: Sequence[str]) -> None:
    for other in fingerprints[1:]:
        if other != fingerprints[0]:
            raise InputError(
                f"Query: made with encoder {fingerprints[0][:8]}…, the other one with "
                f"{other[:8]}…. "
                "Make both with the same encoder."
            )


def _common_count(counts: Iterable[int], where: str) -> int:
    sizes = set(counts)
    if 0 in sizes or len(sizes - {1}) > 1:
        raise InputError(
            f"{where}: batches of {', '.join(map(str, sorted(sizes)))} don't fit. Give equal "
            "numbers, or one."
        )
    return max(sizes)


def _spread(values: list[_T], count: int) -> list[_T]:
    return values * count if len(values) == 1 else values

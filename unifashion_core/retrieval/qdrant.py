"""Points of one collection on a Qdrant server, or in the library's local mode.

Tokens are a multivector in float16 on disk, without an index (HNSW off): every search is exact.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from ..deps import require
from ..errors import GalleryError
from .points import CAPTION, MEAN, TOKENS, Atom, Condition, Point

KEY = "UNIFASHION_QDRANT_KEY"
_TIMEOUT_S = 60


def connect(url: str, collection: str) -> QdrantPoints:
    """The points of a collection on a server; nothing is asked of it yet.

    Args:
        url: The server's address.
        collection: Its name there.

    Raises:
        MissingPackageError: If qdrant-client isn't installed.
    """
    client = require("qdrant_client", package="qdrant-client", minimum="1.19.1")
    key = os.environ.get(KEY) or None
    made = client.QdrantClient(url=url, api_key=key, timeout=_TIMEOUT_S, check_compatibility=False)
    return QdrantPoints(made, collection)


class QdrantPoints:
    """A collection through a `qdrant_client.QdrantClient`; see `Points`.

    Args:
        client: The client.
        collection: Name of the collection.
    """

    def __init__(self, client: Any, collection: str) -> None:
        self._client = client
        self._collection = collection
        self._models: Any = require("qdrant_client.models", package="qdrant-client")

    def _ask(self, call: Callable[..., Any], **values: Any) -> Any:
        try:
            return call(collection_name=self._collection, **values)
        except Exception as e:  # the client has an exception class for each transport
            raise GalleryError(
                f"Server gallery: collection '{self._collection}' can't be used "
                f"({type(e).__name__}: {str(e)[:200]}). Check that the server runs, its address "
                f"(`gallery connect`), and the key in {KEY}."
            ) from e

    def exists(self) -> bool:
        """Whether the collection is there."""
        return bool(self._ask(self._client.collection_exists))

    def create(self, width: int) -> None:
        """Make the collection, empty; an old one of this name is replaced."""
        m = self._models
        self._ask(self._client.delete_collection)
        off, half = m.HnswConfigDiff(m=0), m.Datatype.FLOAT16

        def vectors(**more: Any) -> Any:
            return m.VectorParams(
                size=width, distance=m.Distance.DOT, on_disk=True, datatype=half, **more
            )

        several = m.MultiVectorConfig(comparator=m.MultiVectorComparator.MAX_SIM)
        params = {
            TOKENS: vectors(hnsw_config=off, multivector_config=several),
            CAPTION: vectors(hnsw_config=off),
            MEAN: vectors(),
        }
        self._ask(self._client.create_collection, vectors_config=params)

    def put(self, points: Sequence[Point]) -> None:
        """Add points, or replace those of the same id."""
        made = [
            self._models.PointStruct(id=p.id, vector=p.vectors, payload=p.payload) for p in points
        ]
        self._ask(self._client.upsert, points=made, wait=True)

    def delete(self, ids: Sequence[int]) -> None:
        """Remove points."""
        self._ask(self._client.delete, points_selector=list(ids), wait=True)

    def get(self, ids: Sequence[int], *, vectors: bool = False) -> list[Point]:
        """Some points; absent ones are left out."""
        found = self._ask(
            self._client.retrieve, ids=list(ids), with_payload=True, with_vectors=vectors
        )
        return [_point(p) for p in found]

    def scroll(self, start: int, limit: int, *, vectors: bool) -> list[Point]:
        """Points from an id on, in order of id."""
        found, _ = self._ask(
            self._client.scroll,
            offset=start,
            limit=limit,
            with_payload=True,
            with_vectors=vectors,
        )
        return [_point(p) for p in found]

    def count(self) -> int:
        """All points."""
        return int(self._ask(self._client.count, exact=True).count)

    def nearest(
        self,
        using: str,
        query: Any,
        limit: int,
        conditions: Sequence[Condition] = (),
        prefetch: tuple[Any, int] | None = None,
    ) -> list[tuple[int, float]]:
        """Ids and scores of the best points.

        Args:
            using: Name of the vector.
            query: A vector, or a list of them.
            limit: How many.
            conditions: All have to hold.
            prefetch: A mean vector and how many of its nearest to look at only; not exact.
        """
        m = self._models
        only = self._filter(conditions)
        first = None
        if prefetch is not None:
            first = m.Prefetch(query=prefetch[0], using=MEAN, limit=prefetch[1], filter=only)
        found = self._ask(
            self._client.query_points,
            query=query,
            using=using,
            limit=limit,
            query_filter=None if first is not None else only,
            prefetch=first,
            search_params=m.SearchParams(exact=first is None),
            with_payload=False,
        )
        return [(int(p.id), float(p.score)) for p in found.points]

    def _filter(self, conditions: Sequence[Condition]) -> Any:
        if not conditions:
            return None
        m = self._models
        parts: dict[bool, list[Any]] = {False: [], True: []}
        for condition in conditions:
            either = m.Filter(should=[self._atom(atom) for atom in condition.either])
            parts[condition.negated].append(either)
        return m.Filter(must=parts[False] or None, must_not=parts[True] or None)

    def _atom(self, atom: Atom) -> Any:
        m = self._models
        if atom.kind == "ids":
            return m.HasIdCondition(has_id=list(atom.ids))
        if atom.kind == "match":
            return m.FieldCondition(key=atom.key, match=m.MatchValue(value=atom.text))
        return m.FieldCondition(key=atom.key, range=m.Range(**dict(atom.bounds)))


def _point(found: Any) -> Point:
    return Point(int(found.id), dict(found.vector or {}), dict(found.payload or {}))

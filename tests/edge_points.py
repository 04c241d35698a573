"""Points of a server gallery in qdrant-edge-py's embedded engine, for the search contract."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import qdrant_edge as edge

from unifashion_core.retrieval.points import CAPTION, MEAN, TOKENS, Atom, Condition, Point


class EdgePoints:
    """As `Points` asks, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.shard: Any = None

    def exists(self) -> bool:
        return self.shard is not None

    def create(self, width: int) -> None:
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        half, dot = edge.VectorStorageDatatype.Float16, edge.Distance.Dot
        several = edge.MultiVectorConfig(edge.MultiVectorComparator.MaxSim)
        vectors = {
            TOKENS: edge.EdgeVectorParams(width, dot, datatype=half, multivector_config=several),
            CAPTION: edge.EdgeVectorParams(width, dot, datatype=half),
            MEAN: edge.EdgeVectorParams(width, dot, datatype=half),
        }
        self.shard = edge.EdgeShard.create(str(self.folder), edge.EdgeConfig(vectors=vectors))

    def put(self, points: Sequence[Point]) -> None:
        made = [edge.Point(p.id, p.vectors, p.payload) for p in points]
        self.shard.update(edge.UpdateOperation.upsert_points(made))

    def delete(self, ids: Sequence[int]) -> None:
        self.shard.update(edge.UpdateOperation.delete_points(list(ids)))

    def get(self, ids: Sequence[int], *, vectors: bool = False) -> list[Point]:
        found = self.shard.retrieve(list(ids), True, vectors)
        return [Point(int(p.id), dict(p.vector or {}), dict(p.payload or {})) for p in found]

    def scroll(self, start: int, limit: int, *, vectors: bool) -> list[Point]:
        request = edge.ScrollRequest(
            offset=start, limit=limit, with_payload=True, with_vector=vectors
        )
        found, _ = self.shard.scroll(request)
        return [Point(int(p.id), dict(p.vector or {}), dict(p.payload or {})) for p in found]

    def count(self) -> int:
        return int(self.shard.count(edge.CountRequest(exact=True)))

    def nearest(
        self,
        using: str,
        query: Any,
        limit: int,
        conditions: Sequence[Condition] = (),
        prefetch: tuple[Any, int] | None = None,
    ) -> list[tuple[int, float]]:
        only = self._filter(conditions)
        first = []
        if prefetch is not None:
            means = edge.Query.Nearest(prefetch[0], using=MEAN)
            first = [edge.Prefetch(prefetch[1], query=means, filter=only)]
        request = edge.QueryRequest(
            limit,
            query=edge.Query.Nearest(query, using=using),
            filter=None if first else only,
            prefetches=first,
            params=edge.SearchParams(exact=True),
        )
        return [(int(p.id), float(p.score)) for p in self.shard.query(request)]

    def _filter(self, conditions: Sequence[Condition]) -> Any:
        if not conditions:
            return None
        parts: dict[bool, list[Any]] = {False: [], True: []}
        for condition in conditions:
            either = edge.Filter(should=[self._atom(atom) for atom in condition.either])
            parts[condition.negated].append(either)
        return edge.Filter(must=parts[False] or None, must_not=parts[True] or None)

    def _atom(self, atom: Atom) -> Any:
        if atom.kind == "ids":
            return edge.HasIdCondition(set(atom.ids))
        if atom.kind == "match":
            return edge.FieldCondition(key=atom.key, match=edge.MatchValue(atom.text))
        return edge.FieldCondition(key=atom.key, range=edge.RangeFloat(**dict(atom.bounds)))

"""A gallery on a server, which a small file in the galleries folder names.

It answers searches as an embedded gallery does, exactly unless a prefetch is asked for. It is
filled by `push`; the server looks after its own files.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import cast

import numpy as np

from ..errors import GalleryError, InputError
from ..types import Embedding, Hit, Hits
from .asked import Asked, Single, mean_of
from .columns import Columns, flat
from .facets import Facets, count_cells
from .filters import Clause, Where, check_columns, parse_where
from .points import (
    CAPTION,
    TOKENS,
    About,
    Atom,
    Condition,
    Point,
    Points,
    condition_of,
    meta_point,
    passes,
)

_PART = 64


class ServerGallery:
    """A gallery whose items are points of a collection.

    Args:
        path: The file that names it.
        url: The server's address, for showing.
        points: Its collection.

    Raises:
        GalleryError: If the server can't be reached, or holds no gallery of ours there.
    """

    def __init__(self, path: Path, url: str, points: Points) -> None:
        self.path = path
        self.name = path.stem
        self.url = url
        self.points = points
        about = self._about()
        self.fingerprint, self.encoder_name = about.fingerprint, about.encoder_name
        self.tokens_per_image, self.width = about.tokens_per_image, about.width

    def _about(self) -> About:
        found = self.points.get([0]) if self.points.exists() else []
        if not found or "fingerprint" not in found[0].payload:
            raise GalleryError(
                f"Gallery '{self.name}': the server holds no gallery of this name yet. Fill it "
                f"with `gallery push {self.name} --gallery DIR`."
            )
        payload = found[0].payload
        return About(
            str(payload["fingerprint"]),
            str(payload["encoder_name"]),
            int(payload["tokens_per_image"]),
            int(payload["width"]),
            int(payload["revision"]),
            tuple(payload["columns"]),
        )

    @property
    def revision(self) -> int:
        """Number of the newest change."""
        return self._about().revision

    @property
    def columns(self) -> tuple[str, ...]:
        """Metadata columns that some item has, sorted."""
        return self._about().columns

    @property
    def count(self) -> int:
        """Items."""
        return self.points.count() - 1

    def require_encoder(self, fingerprint: str) -> None:
        """As of an embedded gallery.

        Raises:
            GalleryError: If it is another encoder's.
        """
        if fingerprint != self.fingerprint:
            raise GalleryError(
                f"Gallery '{self.name}': made with encoder {self.fingerprint[:8]}… "
                f"({self.encoder_name}), connected encoder is {fingerprint[:8]}…. Re-index, or "
                "load the matching encoder."
            )

    # ---- filters

    def conditions(self, where: Where) -> list[Condition]:
        """A filter as the server compares; what it can't compare is looked up here.

        Raises:
            InputError: If it is wrong or names an unknown column.
        """
        clauses = parse_where(where)
        check_columns(clauses, self.columns, self.name)
        made: list[Condition] = []
        for clause in clauses:
            condition = condition_of(clause)
            if condition is None:
                ids = tuple(p.id for p in self.each() if passes(clause, p.payload))
                condition = Condition((Atom("ids", ids=ids),))
            made.append(condition)
        return made

    def each(self, *, vectors: bool = False) -> Iterator[Point]:
        """All items' points, by id."""
        start = 1
        while found := self.points.scroll(start, _PART if vectors else 1024, vectors=vectors):
            yield from found
            start = found[-1].id + 1

    # ---- search

    def search(
        self,
        embedding: Embedding,
        *,
        top_k: int,
        where: Where = None,
        caption_weight: float = 0.0,
        prefetch: int = 0,
    ) -> Hits:
        """As `search.search`.

        Args:
            embedding: The queries.
            top_k: Hits a query.
            where: A filter.
            caption_weight: As there.
            prefetch: Above 0: only so many of the nearest mean vectors are scored; the result says
                that it isn't exact.

        Raises:
            InputError: As there.
            GalleryError: As there, or if the server can't be reached.
        """
        self.require_encoder(embedding.fingerprint)
        if top_k < 1 or caption_weight < 0:
            raise InputError(
                f"Search: top-k is {top_k}, caption weight {caption_weight}. Give 1 or more, and "
                "0 or more."
            )
        about, conditions = self._about(), self.conditions(where)
        total = max(1, self.count)
        rows: list[tuple[Hit, ...]] = []
        scored: list[int] = []
        for query in embedding.queries:
            asked = Asked(query, tuple(conditions), top_k, total, caption_weight, prefetch)
            best, candidates = self._best(asked)
            rows.append(self._hits(best))
            scored.append(candidates)
        notes = () if any(rows) else ("no item passes the filter",) if conditions else ()
        return Hits(
            tuple(rows),
            embedding.queries,
            self.fingerprint,
            self.name,
            about.revision,
            notes,
            exact=prefetch == 0,
            candidates=tuple(scored),
            kernel="server",
        )

    def _best(self, asked: Asked) -> tuple[list[tuple[int, float]], int]:
        """Ids and scores of the best items, and how many were scored here.

        A server rounds a query to float16, as it keeps the vectors. So all items whose score could
        still be among the best are scored again here, from the vectors as they are stored.
        """
        limit = min(asked.total, asked.top_k + 16) if asked.plain else asked.total
        while True:
            rough = self._rough(asked, limit)
            order = sorted(rough.items(), key=lambda entry: (-entry[1], entry[0]))
            if len(order) <= asked.top_k:
                chosen = [item for item, _ in order]
                break
            least = order[asked.top_k - 1][1] - 2.0 * asked.rounding
            chosen = [item for item, score in order if score >= least]
            if not asked.plain or asked.prefetch or len(chosen) < limit or limit == asked.total:
                break
            limit = min(asked.total, 4 * limit)
        exact: list[tuple[int, float]] = []
        for start in range(0, len(chosen), _PART):
            for point in self.points.get(chosen[start : start + _PART], vectors=True):
                exact.append((point.id, asked.score(point.vectors)))
        return sorted(exact, key=lambda entry: (-entry[1], entry[0]))[: asked.top_k], len(exact)

    def _rough(self, asked: Asked, limit: int) -> dict[int, float]:
        """Scores as the server gives them, by item id."""
        weighed: dict[int, float] = {}
        for tokens, share in asked.parts:
            first = None
            if asked.prefetch:
                first = (mean_of(tokens), max(asked.prefetch, asked.top_k))
            found = self.points.nearest(TOKENS, tokens.tolist(), limit, asked.conditions, first)
            scores = {item: score / len(tokens) for item, score in found}
            if asked.caption_weight and len(tokens) == 1:
                words = tokens[0].tolist()
                for item, score in self.points.nearest(CAPTION, words, limit, asked.conditions):
                    if item in scores:
                        scores[item] = asked.fused(scores[item], score)
            for item, score in scores.items():
                weighed[item] = weighed.get(item, 0.0) + share * score
        return weighed

    def _hits(self, order: Sequence[tuple[int, float]]) -> tuple[Hit, ...]:
        payloads = {p.id: p.payload for p in self.points.get([item for item, _ in order])}
        return tuple(
            Hit(
                rank=rank,
                item_id=item,
                path=Path(payloads[item]["root"], payloads[item]["file"]),
                file=payloads[item]["file"],
                score=score,
                columns={k: flat(v) for k, v in json.loads(payloads[item]["columns"]).items()},
                missing=bool(payloads[item]["missing"]),
            )
            for rank, (item, score) in enumerate(order, start=1)
        )

    # ---- changes

    def find(self, paths: Sequence[Path]) -> list[int]:
        """As `Snapshot.find`."""
        wanted = {path.as_posix() for path in paths}
        found: dict[int, set[str]] = {}
        for point in self.each():
            whole = Path(point.payload["root"], point.payload["file"]).as_posix()
            names = {point.payload["file"], whole} & wanted
            if names:
                found[point.id] = names
        lost = wanted.difference(*found.values())
        if lost:
            raise InputError(
                f"Gallery '{self.name}': {min(lost)} is not in it. Give a file's absolute path, or "
                "its path below the folder that was indexed."
            )
        return sorted(found)

    def tokens_of(self, ids: Sequence[int]) -> Single:
        """Stored tokens of some items, (N, T, D).

        Raises:
            GalleryError: If one isn't there.
        """
        found = {p.id: p.vectors[TOKENS] for p in self.points.get(ids, vectors=True)}
        lost = [item for item in ids if item not in found]
        if lost:
            raise GalleryError(f"Gallery '{self.name}': no item {lost[0]}. Search again.")
        return np.array([found[item] for item in ids], np.float32)

    def remove_ids(self, ids: Sequence[int]) -> int:
        """As `removal.remove_ids`."""
        there = [point.id for point in self.points.get(sorted(set(ids) - {0}))]
        if there:
            self.points.delete(there)
            self._note_change(self.columns)
        return len(there)

    def remove(self, paths: Sequence[Path], where: Where) -> tuple[int, int]:
        """As `removal.remove_items`."""
        clauses = parse_where(where)
        check_columns(clauses, self.columns, self.name)
        ids = set(self.find(paths)) if paths else set[int]()
        if clauses:
            ids |= {p.id for p in self.each() if all(passes(c, p.payload) for c in clauses)}
        return self.remove_ids(sorted(ids)), self.revision

    def _note_change(self, columns: Sequence[str]) -> None:
        about = self._about()
        self.points.put([meta_point(about, about.revision + 1, columns)])

    def count_values(self, column: str, where: Where) -> Facets:
        """As `facets.count_values`."""
        clauses = [Clause(column, "=", ""), *parse_where(where)]
        check_columns(clauses, self.columns, self.name)
        kept = [p for p in self.each() if all(passes(c, p.payload) for c in clauses[1:])]
        values = [(p.id, cast("Columns", json.loads(p.payload["columns"]))) for p in kept]
        return count_cells(column, values, self.revision)

"""Exact scores of queries against stored float16 vectors, and their best items.

Definitions, for a part with tokens q (Q, D), an item with tokens t (T, D) and caption c (D,):

    image part    s_i = mean over q of the max over t of <q, t>
    with captions s_i = (s_i + w <q, c>) / (1 + w), where Q = 1 and the item has a caption vector
    query         s   = sum(weight_i s_i) / sum(|weight_i|)

so every score is in [-1, 1], and an item without a caption competes with its image alone. With w =
1 and captions everywhere, the order is that of the paper's sum.

A scan of eight-bit copies scores everything, with a bound on its error (bounds.py); what that can't
exclude is scored from the stored vectors in one fixed order of float32 additions. So a score never
depends on the kernel, on chunks, filters or the rest of the batch, and equal vectors get equal
scores.

Source: unifashion_spec 1.5; Khattab and Zaharia 2020, section 3.3.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import accumulate

import numpy as np
import torch

from ..errors import InputError, ShapeError
from .bounds import Double, Margins, ScoredPart, first_and_open, margins
from .items import ItemRows
from .kernels import Kernel, choose_kernel
from .layout import Rows
from .placement import CaptionPlacement, Placement, Truths
from .quantise import Floats
from .two_passes import LEAST_SHARE, LEAST_TOKENS, best_in_two_passes

SCAN_VALUES = 1 << 20
"""Scores of query vectors that a scan holds at once (4 MB), before they become scores of parts."""
GROUP_VALUES = 1 << 25
"""Rough scores of a group of queries (128 MB)."""
PAIRS = 1 << 17
"""Exact scores that are asked for at once."""
MASK_SHARE = 0.6
"""Share of items from which reading them all is faster than going from one to the next."""


@dataclass(frozen=True)
class Ranking:
    """The best items of one query, best first: by score, then by item id.

    Attributes:
        ids: Item ids, (K,).
        scores: Their scores, (K,), float32.
        candidates: Items that the scan couldn't exclude and that were scored exactly.
        kernel: What scanned.
    """

    ids: Rows
    scores: Floats
    candidates: int
    kernel: str


@dataclass(frozen=True)
class Captions:
    """Captions of a gallery, and how much they count.

    Attributes:
        placement: Where their vectors are.
        weight: w above, over 0.
    """

    placement: CaptionPlacement
    weight: float


def rank(
    placement: Placement,
    queries: Sequence[Sequence[ScoredPart]],
    *,
    top_k: int,
    items: ItemRows | None = None,
    captions: Captions | None = None,
    kernel: Kernel | None = None,
) -> list[Ranking]:
    """Find the best items of each query, exactly.

    Args:
        placement: The items of a revision.
        queries: Parts of each query.
        top_k: How many to give; fewer when there are fewer items.
        items: Those that may be found; None for all.
        captions: Fused into the scores; None leaves them out.
        kernel: What computes; the machine's fastest when None.

    Returns:
        One ranking a query.

    Raises:
        InputError: If `top_k` or a weight is out of range.
        ShapeError: If a part's width differs from the gallery's.
        GalleryError: If a stored vector isn't what was committed.
    """
    if top_k < 1:
        raise InputError(f"Search: top-k is {top_k}. Give 1 or more.")
    if captions is not None and not 0.0 < captions.weight < float("inf"):
        raise InputError(f"Search: caption weight is {captions.weight}. Give 0 or more.")
    for parts in queries:
        _check_parts(parts, placement.copies.shape[-1])
    kernel = kernel or choose_kernel()
    places = placement.every if items is None else placement.places(items.ids)
    search = _Search(placement, places, captions, kernel, top_k)
    size = max(1, GROUP_VALUES // max(1, len(placement)))
    groups = (queries[start : start + size] for start in range(0, len(queries), size))
    return [found for group in groups for found in search.rank(group)]


def _check_parts(parts: Sequence[ScoredPart], width: int) -> None:
    if not any(part.weight for part in parts):
        raise InputError("Search: every weight of the query is zero. Give one part another weight.")
    for part in parts:
        if not np.isfinite(part.weight):
            raise InputError(f"Search: a weight is {part.weight}. Give a finite number.")
        if part.tokens.ndim != 2 or not len(part.tokens) or part.tokens.shape[1] != width:
            raise ShapeError(
                f"Search: query tokens have shape {tuple(part.tokens.shape)}, wanted (Q, {width}). "
                "Make the query with the gallery's encoder."
            )


@dataclass(frozen=True)
class _Group:
    """Some queries with the rows of their parts' vectors.

    Attributes:
        queries: Parts of each query.
        vectors: Vectors of all parts, (P, D).
        parts: Query number, part, first vector and the vector behind its last one, of each part.
    """

    queries: Sequence[Sequence[ScoredPart]]
    vectors: Floats
    parts: list[tuple[int, ScoredPart, int, int]]


def _group(queries: Sequence[Sequence[ScoredPart]]) -> _Group:
    flat = [(number, part) for number, parts in enumerate(queries) for part in parts]
    ends = list(accumulate(len(part.tokens) for _, part in flat))
    parts = [
        (n, part, end - len(part.tokens), end) for (n, part), end in zip(flat, ends, strict=True)
    ]
    vectors = torch.cat([part.tokens for _, part in flat]).float().contiguous().numpy()
    return _Group(queries, vectors, parts)


@dataclass(frozen=True)
class _Search:
    placement: Placement
    places: Rows  # of the items that may be found
    captions: Captions | None
    kernel: Kernel
    top_k: int

    def rank(self, queries: Sequence[Sequence[ScoredPart]]) -> Iterator[Ranking]:
        group = _group(queries)
        two = self._in_two_passes(group)
        if two is not None:
            yield self._best(*two)
            return
        similar = self._caption_scores(group)
        rough, errors = self._scan(group, similar)
        bounds, has = self._of_items()
        weight = self.captions.weight if self.captions else None
        widest = float(bounds.max(initial=0.0))
        opened: list[tuple[Rows, Rows, Floats]] = []
        for parts, line, error in zip(queries, rough, errors, strict=True):
            margin = margins(parts, error, caption_weight=weight)

            def of_some(chosen: Rows, margin: Margins = margin) -> Floats:
                return margin.of(bounds[chosen], None if has is None else has[chosen])

            opened.append(first_and_open(line, self.top_k, margin.most(widest), of_some))
        firsts = self._exact(group, [first for first, _, _ in opened], similar)
        rest: list[Rows] = []
        for (first, others, upper), scores in zip(opened, firsts, strict=True):
            # The k-th best of k items bounds the k-th best of all from below.
            floor = scores.min(initial=np.inf) if len(first) >= self.top_k else -np.inf
            rest.append(others[upper >= floor])
        seconds = self._exact(group, rest, similar)
        for (first, _, _), more, *scores in zip(opened, rest, firsts, seconds, strict=True):
            yield self._best(np.concatenate([first, more]), np.concatenate(scores))

    def _in_two_passes(self, group: _Group) -> tuple[Rows, Floats] | None:
        """Items with their exact scores, the best among them, for one vector of weight 1."""
        scan, many, parts = self.kernel.coarse, len(self.places), group.parts
        if scan is None or self.captions or len(group.vectors) != 1 or parts[0][1].weight != 1.0:
            return None
        if many * self.placement.copies.shape[0] < LEAST_TOKENS or many < LEAST_SHARE * self.top_k:
            return None
        coarse = scan.copies(self.placement)
        if coarse is None:
            return None

        def exact(chosen: Rows) -> Floats:
            return self._exact(group, [chosen], {})[0]

        part = parts[0][1]
        return best_in_two_passes(
            self.placement, coarse, self.places, part, scan, self.top_k, exact
        )

    def _best(self, chosen: Rows, scores: Floats) -> Ranking:
        ids = self.placement.items.ids[self.places[chosen]]
        order = np.lexsort((ids, -scores))[: self.top_k]
        return Ranking(ids[order], scores[order], len(chosen), self.kernel.name)

    def _of_items(self) -> tuple[Floats, Truths | None]:
        """Bounds of the items' copies, and whether they have captions that count."""
        has = self.captions.placement.has[self.places] if self.captions else None
        everything = self.places is self.placement.every
        bounds = self.placement.bounds
        return bounds if everything else bounds[self.places], has

    # ---- rough scores

    def _scan(self, group: _Group, similar: dict[int, Floats]) -> tuple[Floats, list[list[Double]]]:
        """Rough scores of the queries, (B, items), and the errors of each query's vectors."""
        queries = self.kernel.prepare(group.vectors)
        many, everything = len(self.places), len(self.placement)
        masked = many > MASK_SHARE * everything
        scanned = self.placement.every if masked else self.places
        plain = len(group.parts) == len(group.vectors) == len(group.queries)
        plain = plain and not similar and all(part.weight == 1.0 for _, part, _, _ in group.parts)
        if plain:
            rough = np.empty((len(group.queries), len(scanned)), np.float32)
            self.kernel.scan(self.placement, scanned, queries, rough)
        else:
            rough = np.zeros((len(group.queries), len(scanned)), np.float32)
            size = max(1, SCAN_VALUES // len(group.vectors))
            for start in range(0, len(scanned), size):
                here = slice(start, start + size)
                best = np.empty((len(group.vectors), len(scanned[here])), np.float32)
                self.kernel.scan(self.placement, scanned[here], queries, best)
                self._weigh_scan(group, best, rough[:, here], scanned[here], similar)
        errors: list[list[Double]] = [[] for _ in group.queries]
        for number, _, first, last in group.parts:
            errors[number].append(queries.errors[first:last])
        return rough[:, self.places] if masked and many < everything else rough, errors

    def _weigh_scan(
        self,
        group: _Group,
        best: Floats,
        rough: Floats,
        places: Rows,
        similar: dict[int, Floats],
    ) -> None:
        """Means over query tokens, captions and weights of a chunk of a scan."""
        totals = [sum(abs(part.weight) for part in parts) for parts in group.queries]
        for place, (number, part, first, last) in enumerate(group.parts):
            score = best[first] if last == first + 1 else best[first:last].mean(0)
            if place in similar:
                score = self._fuse(score, similar[place], places)
            rough[number] += score * np.float32(part.weight / totals[number])

    # ---- captions

    def _caption_scores(self, group: _Group) -> dict[int, Floats]:
        """Exact similarity to each caption, by number of the part, for parts of one vector."""
        if self.captions is None or self.captions.placement.values is None:
            return {}
        values, found = self.captions.placement.values, dict[int, Floats]()
        places = np.arange(len(values))
        for place, (_, part, first, last) in enumerate(group.parts):
            if part.takes_captions:
                row = np.full(len(places), first, np.int64)
                similar = np.full(len(self.placement), np.nan, np.float32)
                similar[self.captions.placement.places] = self.kernel.exact(
                    values, places, row, row + last - first, group.vectors
                )
                found[place] = similar
        return found

    def _fuse(self, image: Floats, similar: Floats, places: Rows) -> Floats:
        """A part's scores of some items, with the captions of those that have one."""
        assert self.captions is not None
        weight, caption = self.captions.weight, similar[places]
        total = np.add(image, np.multiply(caption, np.float32(weight)))
        fused = np.divide(total, np.float32(1.0 + weight))
        return np.where(self.captions.placement.has[places], fused, image)

    # ---- exact scores

    def _exact(
        self, group: _Group, chosen: Sequence[Rows], similar: dict[int, Floats]
    ) -> list[Floats]:
        """Scores of each query's chosen items, from the stored vectors."""
        found: list[Floats] = []
        start = 0
        while start < len(chosen):
            stop, pairs = start, 0
            while stop < len(chosen) and (stop == start or pairs < PAIRS):
                pairs += len(chosen[stop]) * len(group.queries[stop])
                stop += 1
            found += self._exact_some(group, chosen, similar, range(start, stop))
            start = stop
        return found

    def _exact_some(
        self,
        group: _Group,
        chosen: Sequence[Rows],
        similar: dict[int, Floats],
        numbers: range,
    ) -> Iterator[Floats]:
        parts = [(place, one) for place, one in enumerate(group.parts) if one[0] in numbers]
        sizes = np.array([len(chosen[number]) for _, (number, *_) in parts])
        places = self.places[np.concatenate([chosen[number] for _, (number, *_) in parts])]
        self.placement.check(places)
        firsts = np.repeat([first for _, (_, _, first, _) in parts], sizes)
        lasts = np.repeat([last for _, (_, _, _, last) in parts], sizes)
        order = np.argsort(places, kind="stable")  # an image of several queries is read once
        scores = np.empty(len(places), np.float32)
        scores[order] = self.kernel.exact(
            self.placement.values, places[order], firsts[order], lasts[order], group.vectors
        )
        totals = {n: np.zeros(len(chosen[n]), np.float64) for n in numbers}
        lines = np.split(scores, np.cumsum(sizes)[:-1])
        for (place, (number, part, _, _)), line in zip(parts, lines, strict=True):
            if place in similar:
                line = self._fuse(line, similar[place], self.places[chosen[number]])
            totals[number] += part.weight * line.astype(np.float64)
        for number, total in totals.items():
            weights = sum(abs(part.weight) for part in group.queries[number])
            yield (total / weights).astype(np.float32)

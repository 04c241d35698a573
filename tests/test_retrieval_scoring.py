"""Exact scores and their order, against the slow definition in reference/retrieval_scores.py."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from reference import retrieval_scores as oracle

from unifashion_core.errors import GalleryError, InputError, ShapeError
from unifashion_core.retrieval import scoring
from unifashion_core.retrieval.bounds import ScoredPart
from unifashion_core.retrieval.items import ItemRows
from unifashion_core.retrieval.kernels import portable
from unifashion_core.retrieval.kernels.fixed import dot, late_interaction
from unifashion_core.retrieval.layout import HALF
from unifashion_core.retrieval.placement import CaptionPlacement, Placement, stored
from unifashion_core.retrieval.quantise import quantise
from unifashion_core.retrieval.scoring import Captions, Ranking, rank
from unifashion_core.retrieval.segments import SegmentView

T, D = 3, 10


def units(random: np.random.Generator, *shape: int) -> np.ndarray:
    values = random.standard_normal(shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


class Bench:
    """Stored vectors in several segments, and the same values for the oracle."""

    def __init__(
        self, count: int, *, seed: int = 0, captions: bool = False, split: int = 7
    ) -> None:
        self.random = np.random.default_rng(seed)
        self.values = units(self.random, count, T, D).astype(HALF)
        self.captions = units(self.random, count, D).astype(HALF)
        self.split = split
        has = self.random.random(count) < 0.6 if captions else np.zeros(count, bool)
        numbers = np.arange(count)
        self.items = ItemRows(numbers + 1, numbers, np.where(has, numbers, -1))
        self.chosen: ItemRows | None = None

    @property
    def placement(self) -> Placement:
        return Placement(views_of(self.values, self.split), self.items, (T, D))

    def caption_terms(self, weight: float) -> Captions | None:
        if not weight:
            return None
        places = np.flatnonzero(self.items.caption_rows >= 0)
        rows = self.items.caption_rows[places]
        values = stored([self.captions[:, None]], np.zeros(len(rows), np.int64), rows)
        return Captions(CaptionPlacement(self.items.caption_rows >= 0, places, values), weight)

    def part(self, size: int, weight: float = 1.0) -> ScoredPart:
        return ScoredPart(torch.from_numpy(units(self.random, size, D)), weight)

    def ranks(
        self, queries: list[list[ScoredPart]], top_k: int, weight: float = 0.0
    ) -> list[Ranking]:
        return rank(
            self.placement,
            queries,
            top_k=top_k,
            items=self.chosen,
            captions=self.caption_terms(weight),
        )

    def rank(self, query: list[ScoredPart], top_k: int, weight: float = 0.0) -> Ranking:
        return self.ranks([query], top_k, weight)[0]

    def slow(self, query: list[ScoredPart], weight: float = 0.0) -> dict[int, float]:
        parts = [(part.tokens.numpy(), part.weight) for part in query]
        scores: dict[int, float] = {}
        for item_id, row, caption in zip(
            self.items.ids, self.items.token_rows, self.items.caption_rows, strict=True
        ):
            said = self.captions[caption] if caption >= 0 and weight else None
            scores[int(item_id)] = oracle.score(parts, self.values[row], said, weight)
        return scores


def views_of(values: np.ndarray, split: int) -> list[SegmentView]:
    """Segments of `split` rows, as a store maps them."""
    views: list[SegmentView] = []
    for first in range(0, len(values), split):
        part = np.ascontiguousarray(values[first : first + split])
        views.append(SegmentView(first, len(part), part, *quantise(part), where="Gallery 'b': x"))
    return views


QUERIES = {
    "text": [(1, 1.0)],
    "image": [(T, 1.0)],
    "blend": [(1, 0.3), (T, 2.0)],
    "exclusion": [(1, 1.0), (1, -0.5)],
    "image without text": [(T, 1.0), (1, -0.5)],
    "only against": [(1, -1.0)],
    "five query tokens": [(5, 1.0)],
}


@pytest.mark.parametrize("kind", QUERIES)
@pytest.mark.parametrize("weight", [0.0, 1.0, 0.4])
def test_every_kind_of_query_scores_as_its_definition(kind: str, weight: float) -> None:
    bench = Bench(40, captions=True)
    query = [bench.part(size, share) for size, share in QUERIES[kind]]

    found = bench.rank(query, 40, weight)

    slow = bench.slow(query, weight)
    assert found.ids.tolist() == oracle.ranking(slow)
    assert found.scores == pytest.approx([slow[i] for i in found.ids.tolist()], abs=1e-6)
    assert found.scores.dtype == np.float32
    assert np.abs(found.scores).max() <= 1.0


@pytest.mark.parametrize("top_k", [1, 3, 10, 39, 40, 1000])
def test_top_k_is_the_head_of_the_whole_ranking(top_k: int) -> None:
    bench = Bench(40)
    query = [bench.part(1)]

    found, whole = bench.rank(query, top_k), bench.rank(query, 40)

    assert found.ids.tolist() == whole.ids.tolist()[:top_k]
    assert found.scores.tolist() == whole.scores.tolist()[:top_k]


def test_a_first_pass_leaves_few_candidates() -> None:
    bench = Bench(500, split=100)

    assert bench.rank([bench.part(1)], 10).candidates < 20


def test_equal_scores_are_ordered_by_item_id() -> None:
    bench = Bench(30)
    bench.values[:] = bench.values[4]
    bench.items = ItemRows(
        bench.items.ids, bench.items.token_rows[::-1].copy(), bench.items.caption_rows
    )

    found = bench.rank([bench.part(T)], 12)

    assert found.ids.tolist() == list(range(1, 13))
    assert len(set(found.scores.tolist())) == 1


def test_duplicates_at_the_cut_are_never_lost_to_rounding() -> None:
    bench = Bench(64)
    near = bench.values[0].astype(np.float32)
    for number in range(1, 64):
        bench.values[number] = near
        if number % 3 == 0:  # the smallest step that float16 knows, in one value
            place = np.unravel_index(number % (T * D), (T, D))
            bench.values[number][place] = np.nextafter(bench.values[number][place], HALF.type(0))
    query = [ScoredPart(torch.from_numpy(near[:1]), 1.0)]

    found = bench.rank(query, 20)
    whole = bench.rank(query, 64)

    assert found.ids.tolist() == whole.ids.tolist()[:20]
    assert whole.scores == pytest.approx(
        [bench.slow(query)[i] for i in whole.ids.tolist()], abs=1e-6
    )


@pytest.mark.parametrize("precision", ["high", "medium"])
def test_a_process_that_allows_coarse_products_gets_the_same_bits(precision: str) -> None:
    bench = Bench(200, split=64)
    query = [bench.part(1), bench.part(1, -0.5)]
    wanted = bench.rank(query, 15)
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision(precision)
        found = bench.rank(query, 15)
    finally:
        torch.set_float32_matmul_precision(before)

    assert found.ids.tolist() == wanted.ids.tolist()
    assert found.scores.tolist() == wanted.scores.tolist()


@pytest.mark.parametrize("values", [1, 4, 17])
def test_chunked_equals_whole_to_the_bit(values: int, monkeypatch: pytest.MonkeyPatch) -> None:
    bench = Bench(50, captions=True)
    query = [bench.part(1), bench.part(T, 0.5), bench.part(1, -0.5)]
    whole = bench.rank(query, 50, 1.0)
    for name in ("SCAN_VALUES", "GROUP_VALUES", "PAIRS"):
        monkeypatch.setattr(scoring, name, values)
    for name in ("CHUNK_BYTES", "EXACT_BYTES", "STREAM_BYTES"):
        monkeypatch.setattr(portable, name, values)

    chunked = bench.rank(query, 50, 1.0)

    assert chunked.ids.tolist() == whole.ids.tolist()
    assert chunked.scores.tolist() == whole.scores.tolist()


def test_a_batch_equals_its_queries_alone() -> None:
    bench = Bench(50, captions=True)
    queries = [[bench.part(size)] for size in (1, T, 1, 2)] + [[bench.part(1), bench.part(1, -0.5)]]

    batch = bench.ranks(queries, 9, 0.7)

    for query, together in zip(queries, batch, strict=True):
        alone = bench.rank(query, 9, 0.7)
        assert together.ids.tolist() == alone.ids.tolist()
        assert together.scores.tolist() == alone.scores.tolist()


def test_permuting_rows_changes_no_score() -> None:
    bench = Bench(30)
    query = [bench.part(T)]
    before = bench.rank(query, 30)
    order = np.random.default_rng(3).permutation(30)
    bench.values = bench.values[order]
    bench.items = ItemRows(bench.items.ids, np.argsort(order), bench.items.caption_rows)

    after = bench.rank(query, 30)

    assert after.ids.tolist() == before.ids.tolist()
    assert after.scores.tolist() == before.scores.tolist()


def test_a_subset_scores_as_in_the_whole() -> None:
    bench = Bench(40, captions=True)
    query = [bench.part(1)]
    whole = bench.rank(query, 40, 1.0)
    keep = np.random.default_rng(5).random(40) < 0.3
    bench.chosen = bench.items.subset(keep)

    found = bench.rank(query, 5, 1.0)

    kept = [(i, s) for i, s in zip(whole.ids, whole.scores, strict=True) if keep[i - 1]]
    assert found.ids.tolist() == [i for i, _ in kept][:5]
    assert found.scores.tolist() == [s for _, s in kept][:5]


def test_repeating_a_token_changes_nothing() -> None:
    random = np.random.default_rng(0)
    items = torch.from_numpy(units(random, 6, T, D))
    query = torch.from_numpy(units(random, 2, D))

    padded = torch.cat([items, items[:, :1], items[:, :1]], dim=1)

    assert torch.equal(late_interaction(query, padded), late_interaction(query, items))


def test_items_that_share_a_row_share_the_score() -> None:
    bench = Bench(10)
    bench.items = ItemRows(np.arange(1, 6), np.array([3, 3, 9, 3, 9]), np.full(5, -1))

    found = bench.rank([bench.part(1)], 5)

    assert len(set(found.scores.tolist())) == 2
    assert sorted(found.ids.tolist()) == [1, 2, 3, 4, 5]


def test_an_empty_and_a_single_gallery() -> None:
    empty = Bench(0)
    single = Bench(1)

    assert empty.rank([empty.part(1)], 5).ids.tolist() == []
    assert single.rank([single.part(1)], 5).ids.tolist() == [1]


def test_a_caption_is_fused_only_where_there_is_one() -> None:
    bench = Bench(20, captions=True)
    query = [bench.part(1)]

    plain, fused = bench.rank(query, 20), bench.rank(query, 20, 2.0)

    before = dict(zip(plain.ids.tolist(), plain.scores.tolist(), strict=True))
    for item_id, score in zip(fused.ids.tolist(), fused.scores.tolist(), strict=True):
        assert (score == before[item_id]) == (bench.items.caption_rows[item_id - 1] < 0)


def test_the_order_with_captions_everywhere_is_the_papers_sum() -> None:
    bench = Bench(25)
    bench.items = ItemRows(bench.items.ids, bench.items.token_rows, bench.items.token_rows)
    query = [bench.part(1)]

    found = bench.rank(query, 25, 1.0)

    q = query[0].tokens[0].numpy()
    sums = {
        number + 1: oracle.part_score(q[None], bench.values[number])
        + oracle.inner(q, bench.captions[number])
        for number in range(25)
    }
    assert found.ids.tolist() == oracle.ranking(sums)


@pytest.mark.parametrize("width", [1, 2, 3, 7, 64, 100, 256])
def test_dot_has_one_order_for_any_shape(width: int) -> None:
    random = np.random.default_rng(width)
    values = torch.from_numpy(units(random, 5, 4, width))
    vector = torch.from_numpy(units(random, width))

    whole = dot(values, vector)

    for first in range(5):
        for second in range(4):
            assert dot(values[first, second].clone(), vector) == whole[first, second]
    assert torch.allclose(whole, values @ vector, atol=1e-6)


def test_wrong_numbers_are_named() -> None:
    bench = Bench(4)
    with pytest.raises(InputError, match="top-k is 0"):
        bench.rank([bench.part(1)], 0)
    with pytest.raises(InputError, match="every weight of the query is zero"):
        bench.rank([bench.part(1, 0.0)], 1)
    with pytest.raises(InputError, match="a weight is nan"):
        bench.rank([bench.part(1, float("nan"))], 1)
    with pytest.raises(InputError, match=r"caption weight is -1\.0"):
        bench.rank([bench.part(1)], 1, -1.0)
    with pytest.raises(ShapeError, match=r"shape \(1, 4\), wanted \(Q, 10\)"):
        bench.rank([ScoredPart(torch.ones(1, 4), 1.0)], 1)


def test_a_row_that_was_never_stored_is_damage_and_not_served() -> None:
    bench = Bench(4)
    bench.items = ItemRows(bench.items.ids, np.array([0, 1, 2, 4]), bench.items.caption_rows)

    with pytest.raises(GalleryError, match="points at vector 4, 4 are stored"):
        bench.rank([bench.part(1)], 4)

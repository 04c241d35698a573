"""A search in two passes finds what the full scan finds, and its bounds hold for every token."""

from __future__ import annotations

from dataclasses import replace
from functools import cache, lru_cache

import numpy as np
import pytest
import torch
from test_retrieval_kernels import (
    KERNELS,
    WRITTEN_OUT,
    check,
    kernel_named,
    parts_of,
    placed,
    query_vectors,
    units,
)

from unifashion_core.evaluation.retrieval import make_features
from unifashion_core.retrieval import placement as placement_module
from unifashion_core.retrieval import scoring, two_passes
from unifashion_core.retrieval.bounds import ScoredPart, margin_of
from unifashion_core.retrieval.kernels import Kernel, choose_kernel, shared
from unifashion_core.retrieval.kernels.halves import CoarseScan
from unifashion_core.retrieval.layout import HALF
from unifashion_core.retrieval.placement import Coarse, Placement
from unifashion_core.retrieval.scoring import rank

NATIVE = [name for name in KERNELS if name not in ("numkong", "torch")]
pytestmark = pytest.mark.skipif(not NATIVE, reason="the extra `fast` is not installed")
COUNT = 700
SHAPES = {"one vector": (1, 512), "few tokens": (5, 128), "many": (33, 256), "a block": (16, 128)}


@pytest.fixture(params=NATIVE)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return kernel_named(request.param)


@pytest.fixture(autouse=True)
def always(monkeypatch: pytest.MonkeyPatch) -> None:
    """Two passes also for few images, whatever the first one leaves."""
    monkeypatch.setattr(scoring, "LEAST_TOKENS", 1)
    monkeypatch.setattr(scoring, "LEAST_SHARE", 1)
    monkeypatch.setattr(two_passes, "MOST_LEFT", 1.0)


@cache
def images(kind: str) -> np.ndarray:
    random = np.random.default_rng(4)
    if kind in ("tight", "spread"):
        return np.array(make_features(COUNT, kind).f16)
    if kind == "copies":  # every image many times, some of them one bit off
        values = units(random, 9, 5, 128).astype(HALF)[random.integers(9, size=COUNT)]
        near = random.random(COUNT) < 0.3
        values[near, 2, 5] = np.nextafter(values[near, 2, 5], HALF.type(0))
        return values
    if kind == "one number holds all":
        values = np.zeros((COUNT, 3, 256), HALF)
        values[np.arange(COUNT), :, random.integers(256, size=COUNT)] = 1
        return values
    return units(random, COUNT, *SHAPES[kind]).astype(HALF)


def copies_of(kernel: Kernel, placement: Placement) -> tuple[CoarseScan, Coarse]:
    scan = kernel.coarse
    assert scan is not None
    assert scan.copies(placement) is None  # at the first search they aren't made
    coarse = scan.copies(placement)
    assert coarse is not None
    return scan, coarse


KINDS = ["tight", "spread", "copies", "one number holds all", *SHAPES]


@lru_cache(maxsize=1)
def made(kernel: Kernel, kind: str) -> Placement:
    """Images with their coarse copies, once for the tests of one kind that follow each other."""
    placement = placed(images(kind))
    copies_of(kernel, placement)
    return placement


@pytest.mark.parametrize("top_k", [1, 10, 100])
@pytest.mark.parametrize("kind", KINDS)
def test_the_best_are_the_full_scans(kernel: Kernel, kind: str, top_k: int) -> None:
    values, placement = images(kind), made(kernel, kind)
    for seed in range(3):
        query = parts_of(query_vectors(values, 1, seed), [(1, 1.0)])
        (found,) = rank(placement, [query], top_k=top_k, kernel=kernel)
        check(found, query, values, placement.items.ids, top_k)
        assert found.kernel == kernel.name


@pytest.mark.parametrize("share", [0.3, 0.9, 1.0])
def test_a_filtered_query_gives_the_best_that_pass(kernel: Kernel, share: float) -> None:
    values = images("spread")
    placement = placed(values)
    copies_of(kernel, placement)
    keep = np.random.default_rng(1).random(COUNT) < share
    query = parts_of(query_vectors(values, 1), [(1, 1.0)])

    (found,) = rank(placement, [query], top_k=20, items=placement.items.subset(keep), kernel=kernel)

    check(found, query, values[keep], placement.items.ids[keep], 20)


@pytest.mark.parametrize("kind", KINDS)
def test_bounds_hold_for_every_token(kernel: Kernel, kind: str) -> None:
    values = images(kind)
    placement = placed(values)
    scan, coarse = copies_of(kernel, placement)
    tokens = values.shape[1]
    places = np.random.default_rng(0).permutation(COUNT)[:333]
    wide = values[places].astype(np.float64)
    for vector in [*query_vectors(values, 3), np.eye(values.shape[2], dtype=np.float32)[1]]:
        part = ScoredPart(torch.from_numpy(vector[None].copy()), 1.0)
        exact = wide @ vector.astype(np.float64)

        uppers, best = scan.uppers(placement, coarse, places, part)
        assert (uppers[:, :tokens] >= exact).all()
        assert (uppers[:, tokens:] == -np.inf).all()
        assert (best == uppers.max(1)).all()
        assert (uppers[:, :tokens] - exact).max() < (1.2 if "holds all" in kind else 0.3)

        floor = float(np.quantile(exact, 0.9))
        second = scan.second(placement, places, part, (uppers, best), floor)
        reach = exact.max(1) >= floor
        assert (second[reach] >= exact.max(1)[reach]).all()
        assert (second[uppers.max(1) < floor] == -np.inf).all()
        margin = margin_of([part], [kernel.prepare(vector[None]).errors])
        some = second > -np.inf
        excess = second[some] - exact.max(1)[some]
        assert (excess <= 2.1 * margin.of(placement.bounds[places[some]])).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", WRITTEN_OUT)
@pytest.mark.parametrize("kind", ["copies", "many", "a block", "spread"])
def test_programs_for_other_cpus_find_the_same(name: str, kind: str) -> None:
    test_the_best_are_the_full_scans(kernel_named(name), kind, 10)
    test_bounds_hold_for_every_token(kernel_named(name), kind)


def test_a_query_of_zeros_finds_the_first_items(kernel: Kernel) -> None:
    placement = placed(images("few tokens"))
    copies_of(kernel, placement)
    query = [ScoredPart(torch.zeros(1, 128), 1.0)]

    (found,) = rank(placement, [query], top_k=5, kernel=kernel)

    assert found.ids.tolist() == [1, 2, 3, 4, 5]
    assert found.scores.tolist() == [0.0] * 5


def test_where_the_first_pass_leaves_much_one_pass_finds_the_same(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(two_passes, "MOST_LEFT", 0.0)
    values = images("spread")
    placement = placed(values)
    copies_of(kernel, placement)
    query = parts_of(query_vectors(values, 1), [(1, 1.0)])

    (found,) = rank(placement, [query], top_k=100, kernel=kernel)

    check(found, query, values, placement.items.ids, 100)


def test_coarse_copies_take_no_more_room_than_they_may(
    kernel: Kernel, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(placement_module, "COARSE_BYTES", 1000)
    placement = placed(images("few tokens"))
    assert kernel.coarse is not None
    assert [kernel.coarse.copies(placement) for _ in range(3)] == [None] * 3


def test_a_commit_makes_coarse_copies_of_its_own_rows_alone(kernel: Kernel) -> None:
    placement = placed(images("few tokens"))
    scan, coarse = copies_of(kernel, placement)
    views = placement._views
    fresh = placed(images("few tokens")[:100])._views[0]
    more = replace(fresh, first_item=COUNT)
    items = placed(np.zeros((COUNT + 100, 5, 128), HALF)).items

    found = scan.copies(Placement([*views, more], items, (5, 128)))

    assert found is not None  # although it is this revision's first search
    assert all(a is b for a, b in zip(found.records.parts, coarse.records.parts, strict=False))


def test_widths_that_do_not_fit_have_no_coarse_copies(kernel: Kernel) -> None:
    placement = placed(units(np.random.default_rng(0), 20, 3, 64).astype(HALF))
    assert kernel.coarse is not None
    assert [kernel.coarse.copies(placement) for _ in range(3)] == [None] * 3


@pytest.mark.parametrize("team", [True, False])
def test_threads_of_torch_and_threads_of_ours_find_the_same(
    team: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    if team:
        real = shared.team_of_threads()
        if real is None:
            pytest.skip("torch's threads are not GNU's OpenMP here")

        def counted(*values: int) -> None:
            asked.append(values[2])
            real(*values)

        monkeypatch.setattr(shared, "team_of_threads", lambda: counted)
    else:
        monkeypatch.setattr(shared, "team_of_threads", lambda: None)
    values = images("spread")
    placement = placed(values)
    kernel = choose_kernel(NATIVE[0], threads=3)
    copies_of(kernel, placement)
    query = parts_of(query_vectors(values, 1), [(1, 1.0)])

    (found,) = rank(placement, [query], top_k=20, kernel=kernel)

    check(found, query, values, placement.items.ids, 20)
    assert set(asked) == ({3} if team else set())

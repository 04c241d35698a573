"""Every kernel that this machine can run gives the full scan's best items, to the bit."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from reference import retrieval_scan as oracle

from unifashion_core.attention import sdpa_attention
from unifashion_core.encoder.checkpoint import load_encoder
from unifashion_core.errors import InputError
from unifashion_core.evaluation.retrieval import make_features
from unifashion_core.pocket import BERT_VOCABULARY, EFFICIENTNET_LITE0, ENCODER
from unifashion_core.retrieval import kernels
from unifashion_core.retrieval import quantise as quantise_module
from unifashion_core.retrieval.bounds import ScoredPart, largest_kth, margins
from unifashion_core.retrieval.items import ItemRows
from unifashion_core.retrieval.kernels import Kernel, choose_kernel, kernel_names
from unifashion_core.retrieval.kernels.device import DeviceCopies, DeviceKernel
from unifashion_core.retrieval.kernels.native import NativeKernel
from unifashion_core.retrieval.layout import HALF
from unifashion_core.retrieval.machine.compiling import available_instructions
from unifashion_core.retrieval.machine.instructions import X86
from unifashion_core.retrieval.machine.narrowing import can_narrow
from unifashion_core.retrieval.placement import CaptionPlacement, Placement, stored
from unifashion_core.retrieval.quantise import quantise, quantise_and_measure
from unifashion_core.retrieval.scoring import Captions, Ranking, rank
from unifashion_core.retrieval.segments import SegmentView
from unifashion_core.wardrobe.collection import collection
from unifashion_core.wardrobe.render import render

COUNT = 300
KERNELS = kernel_names()
WRITTEN_OUT = ["vnni512 written out", "vnni256 written out"] if "avx2" in KERNELS else []
"""VNNI's programs with its instruction in plain ones, where a CPU can run the rest of them."""


@cache
def kernel_named(name: str) -> Kernel:
    """A kernel; the instructions that this CPU may lack can be written out in plain ones."""
    if name.endswith(" written out"):
        how = next(how for how in X86 if how.name == name.split()[0])
        return NativeKernel(replace(how, emulated=True), threads=2)
    return choose_kernel(name, threads=2)


@pytest.fixture(params=KERNELS)
def kernel(request: pytest.FixtureRequest) -> Kernel:
    return kernel_named(request.param)


def units(random: np.random.Generator, *shape: int) -> np.ndarray:
    values = random.standard_normal(shape)
    return (values / np.linalg.norm(values, axis=-1, keepdims=True)).astype(np.float32)


def placed(values: np.ndarray, split: int = 128, ids: np.ndarray | None = None) -> Placement:
    views: list[SegmentView] = []
    for first in range(0, len(values), split):
        part = np.ascontiguousarray(values[first : first + split])
        views.append(SegmentView(first, len(part), part, *quantise(part)))
    numbers = np.arange(len(values))
    items = ItemRows(numbers + 1 if ids is None else ids, numbers, np.full(len(values), -1))
    return Placement(views, items, values.shape[1:])


@cache
def images(kind: str) -> np.ndarray:
    if kind in ("tight", "spread"):
        return np.array(make_features(COUNT, kind).f16)
    random = np.random.default_rng(7)
    if kind == "one vector":
        return units(random, COUNT, 1, 512).astype(HALF)
    if kind == "odd width":
        return units(random, COUNT, 3, 10).astype(HALF)
    few = units(random, 9, 5, 64).astype(HALF)
    values = few[random.integers(9, size=COUNT)]  # every image many times
    near = random.random(COUNT) < 0.3
    values[near, 2, 5] = np.nextafter(values[near, 2, 5], HALF.type(0))
    return values


def query_vectors(values: np.ndarray, count: int, seed: int = 0) -> np.ndarray:
    """Near some stored token, as queries are."""
    random = np.random.default_rng(seed)
    tokens, width = values.shape[1:]
    near = values[random.integers(len(values), size=count), random.integers(tokens, size=count)]
    noisy = near.astype(np.float32) + 0.8 * units(random, count, width)
    return (noisy / np.linalg.norm(noisy, axis=1, keepdims=True)).astype(np.float32)


def parts_of(vectors: np.ndarray, shares: list[tuple[int, float]]) -> list[ScoredPart]:
    ends = np.cumsum([size for size, _ in shares])
    return [
        ScoredPart(torch.from_numpy(vectors[end - size : end].copy()), weight)
        for end, (size, weight) in zip(ends, shares, strict=True)
    ]


def check(
    found: Ranking,
    query: list[ScoredPart],
    values: np.ndarray,
    ids: np.ndarray,
    top_k: int,
    captions: tuple[np.ndarray, np.ndarray, float] | None = None,
) -> None:
    """The ids and the bits of the scores are those of the full scan."""
    said, has, weight = captions or (None, None, 0.0)
    parts = [(part.tokens.numpy(), part.weight) for part in query]
    wanted = oracle.best(oracle.scores(parts, values, said, has, weight), ids, top_k)
    assert found.ids.tolist() == wanted[0]
    assert found.scores.tolist() == wanted[1]


@pytest.fixture(scope="module")
def pocket_tokens() -> np.ndarray:
    """What the pocket encoder makes of garments, (24, T, D), float32."""
    encoder = load_encoder(
        ENCODER,
        tower=EFFICIENTNET_LITE0,
        attention=sdpa_attention(),
        bert_vocabulary=BERT_VOCABULARY,
    )
    pictures = [render(garment, size=224, supersample=1) for garment in collection(0, 24)]
    pixels = torch.stack([encoder.preprocess(picture) for picture in pictures])
    return encoder.encode_pixels(pixels).tokens.numpy()


KINDS = ["tight", "spread", "copies", "one vector", "odd width"]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("top_k", [10, 100])
def test_the_best_of_a_query_are_the_full_scans(kernel: Kernel, kind: str, top_k: int) -> None:
    values = images(kind)
    placement = placed(values)
    query = parts_of(query_vectors(values, 1), [(1, 1.0)])

    (found,) = rank(placement, [query], top_k=top_k, kernel=kernel)

    check(found, query, values, placement.items.ids, top_k)
    assert found.kernel == kernel.name
    assert top_k <= found.candidates <= COUNT


@pytest.mark.parametrize("kind", KINDS)
def test_a_batch_gives_each_querys_best(kernel: Kernel, kind: str) -> None:
    values = images(kind)
    placement = placed(values)
    queries = [parts_of(vector[None], [(1, 1.0)]) for vector in query_vectors(values, 9)]

    found = rank(placement, queries, top_k=10, kernel=kernel)

    for query, ranking in zip(queries, found, strict=True):
        check(ranking, query, values, placement.items.ids, 10)


@pytest.mark.slow
@pytest.mark.parametrize("top_k", [10, 100])
def test_the_pocket_encoders_features_give_the_full_scans_best(
    kernel: Kernel, top_k: int, pocket_tokens: np.ndarray
) -> None:
    values = np.concatenate([pocket_tokens.astype(HALF)] * 6)  # each picture six times: ties
    queries = [[ScoredPart(torch.from_numpy(pocket_tokens[number]), 1.0)] for number in (0, 7)] + [
        parts_of(query_vectors(values, 1), [(1, 1.0)])
    ]
    placement = placed(values, split=50)

    found = rank(placement, queries, top_k=top_k, kernel=kernel)

    for query, ranking in zip(queries, found, strict=True):
        check(ranking, query, values, placement.items.ids, top_k)


SHARES = {
    "a picture's tokens": [(32, 1.0)],
    "a blend": [(1, 0.3), (32, 2.0)],
    "an exclusion": [(1, 1.0), (1, -0.5)],
    "a picture without a text": [(5, 1.0), (1, -0.5)],
    "only against": [(1, -1.0)],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", SHARES)
@pytest.mark.parametrize("weight", [0.0, 0.4])
def test_queries_of_several_parts_and_captions(kernel: Kernel, name: str, weight: float) -> None:
    values = images("spread")
    placement = placed(values)
    random = np.random.default_rng(3)
    said = units(random, COUNT, 256).astype(HALF)
    has = random.random(COUNT) < 0.6
    places = np.flatnonzero(has)
    rows = stored([said[:, None]], np.zeros(len(places), np.int64), places)
    captions = Captions(CaptionPlacement(has, places, rows), weight) if weight else None
    vectors = query_vectors(values, sum(size for size, _ in SHARES[name]))
    query = parts_of(vectors, SHARES[name])

    (found,) = rank(placement, [query], top_k=40, captions=captions, kernel=kernel)

    terms = (said, has, weight) if weight else None
    check(found, query, values, placement.items.ids, 40, terms)


@pytest.mark.parametrize("share", [0.02, 0.59, 0.8])
def test_a_filtered_query_gives_the_best_that_pass(kernel: Kernel, share: float) -> None:
    values = images("spread")
    placement = placed(values)
    keep = np.random.default_rng(1).random(COUNT) < share
    query = parts_of(query_vectors(values, 1), [(1, 1.0)])

    (found,) = rank(placement, [query], top_k=20, items=placement.items.subset(keep), kernel=kernel)

    check(found, query, values[keep], placement.items.ids[keep], 20)


def test_items_in_any_order_of_rows_and_ids_with_gaps(kernel: Kernel) -> None:
    values = images("spread")
    random = np.random.default_rng(2)
    order = random.permutation(COUNT)
    ids = np.sort(random.choice(5000, COUNT, replace=False)) + 1
    views = placed(values, split=50)
    items = ItemRows(ids, order, np.full(COUNT, -1))
    placement = Placement(views._views, items, values.shape[1:])
    query = parts_of(query_vectors(values, 1), [(1, 1.0)])

    (found,) = rank(placement, [query], top_k=30, kernel=kernel)

    check(found, query, values[order], ids, 30)


def test_a_query_of_zeros_finds_the_first_items(kernel: Kernel) -> None:
    values = images("copies")
    query = [ScoredPart(torch.zeros(1, 64), 1.0)]

    (found,) = rank(placed(values), [query], top_k=5, kernel=kernel)

    assert found.ids.tolist() == [1, 2, 3, 4, 5]
    assert found.scores.tolist() == [0.0] * 5


@pytest.mark.parametrize("count", [1, 2, 9])
@pytest.mark.parametrize(("tokens", "width"), [(32, 256), (3, 10), (1, 768), (1, 1), (17, 70)])
def test_a_scan_errs_less_than_its_bound(
    kernel: Kernel, count: int, tokens: int, width: int
) -> None:
    random = np.random.default_rng(tokens * width + count)
    values = units(random, 40, tokens, width).astype(HALF)
    placement = placed(values, split=15)
    vectors = units(random, count, width)
    if width > 1:
        vectors[0] = np.eye(width)[1]  # one number holds all
    places = random.permutation(40)[:33]
    queries = kernel.prepare(vectors)
    rough = np.empty((count, len(places)), np.float32)

    kernel.scan(placement, places, queries, rough)

    for vector, line, error in zip(vectors, rough, queries.errors, strict=True):
        part = ScoredPart(torch.from_numpy(vector[None]), 1.0)
        margin = margins([part], [np.array([error])]).of(placement.bounds[places], None)
        exact = oracle.part_scores(vector[None], values[places])
        assert (np.abs(line - exact) <= margin).all()
        assert margin.max() < 0.2


@pytest.mark.parametrize(("tokens", "width"), [(32, 256), (3, 10), (1, 768), (2, 1), (4, 20)])
def test_exact_scores_have_the_same_bits_everywhere(
    kernel: Kernel, tokens: int, width: int
) -> None:
    random = np.random.default_rng(tokens * width)
    values = units(random, 30, tokens, width).astype(HALF)
    vectors = units(random, 4, width)
    places = random.permutation(30)
    firsts = random.integers(0, 2, 30)
    lasts = firsts + random.integers(1, 3, 30)

    found = kernel.exact(placed(values, split=9).values, places, firsts, lasts, vectors)

    wanted = [
        oracle.part_scores(vectors[first:last], values[place : place + 1])[0]
        for place, first, last in zip(places, firsts, lasts, strict=True)
    ]
    assert found.tolist() == wanted


@pytest.mark.parametrize("name", WRITTEN_OUT)
@pytest.mark.parametrize("count", [1, 9])
@pytest.mark.parametrize(("tokens", "width"), [(6, 64), (3, 10)])
def test_programs_for_other_cpus_err_less_than_their_bound(
    name: str, count: int, tokens: int, width: int
) -> None:
    test_a_scan_errs_less_than_its_bound(kernel_named(name), count, tokens, width)


def test_a_first_stage_leaves_few_candidates(kernel: Kernel) -> None:
    values = images("spread")

    (found,) = rank(
        placed(values), [parts_of(query_vectors(values, 1), [(1, 1.0)])], top_k=5, kernel=kernel
    )

    assert found.candidates < 30


@pytest.mark.parametrize("budget", [1 << 30, 1 << 20, 1 << 14])
@pytest.mark.parametrize("kind", ["spread", "copies", "odd width"])
def test_a_device_gives_the_same_resident_and_streamed(kind: str, budget: int) -> None:
    values = images(kind)
    placement = placed(values)
    device = DeviceKernel(torch.device("cpu"), budget, choose_kernel("torch"))
    queries = [parts_of(vector[None], [(1, 1.0)]) for vector in query_vectors(values, 3)]
    keep = np.random.default_rng(1).random(COUNT) < 0.3
    few = placement.items.subset(keep)

    rank(placement, queries, top_k=10, kernel=device)
    rank(placement, queries[:1], top_k=10, items=few, kernel=device)
    # What is resident now was put there by the first two.
    whole = rank(placement, queries, top_k=10, kernel=device)
    (passed,) = rank(placement, queries[:1], top_k=10, items=few, kernel=device)

    for query, ranking in zip(queries, whole, strict=True):
        check(ranking, query, values, placement.items.ids, 10)
    check(passed, queries[0], values[keep], few.ids, 10)
    size = values.size + 4 * values.shape[0] * values.shape[1]
    assert device.is_resident == (budget > 2 * size)


class Shelf:
    """A stand-in for a manager of memory: counts how often copies are brought."""

    def __init__(self) -> None:
        self.held: list[DeviceCopies] = []
        self.brought = 0

    def hold(self, copies: DeviceCopies) -> Shelf:
        self.held.append(copies)
        return self

    def ready(self, memory_bytes: int) -> None:
        assert memory_bytes > 0
        self.held[-1].to(DEVICE)
        self.brought += 1


DEVICE = torch.device("cuda" if torch.cuda.is_available() else "cpu")


@pytest.mark.parametrize("kind", ["spread", "odd width"])
def test_held_copies_are_brought_before_each_scan_and_stay_with_their_items(kind: str) -> None:
    values, shelf = images(kind), Shelf()
    placement = placed(values)
    queries = [parts_of(vector[None], [(1, 1.0)]) for vector in query_vectors(values, 3)]
    for _ in range(2):  # a search has a kernel of its own
        kernel = DeviceKernel(DEVICE, 1 << 30, choose_kernel("torch"), shelf.hold)
        found = rank(placement, queries, top_k=10, kernel=kernel)
        assert kernel.is_resident
        for query, ranking in zip(queries, found, strict=True):
            check(ranking, query, values, placement.items.ids, 10)
    assert (len(shelf.held), shelf.brought) == (1, 2)


@pytest.mark.gpu
@pytest.mark.parametrize("budget", [1 << 30, 1 << 20, 1 << 14])
@pytest.mark.parametrize("kind", KINDS)
def test_a_graphics_card_gives_the_full_scans_best(kind: str, budget: int) -> None:
    values = images(kind)
    placement = placed(values)
    device = DeviceKernel(torch.device("cuda"), budget, choose_kernel("torch"))
    queries = [parts_of(vector[None], [(1, 1.0)]) for vector in query_vectors(values, 9)]
    keep = np.random.default_rng(1).random(COUNT) < 0.3
    few = placement.items.subset(keep)

    whole = rank(placement, queries, top_k=10, kernel=device)
    (passed,) = rank(placement, queries[:1], top_k=10, items=few, kernel=device)

    for query, ranking in zip(queries, whole, strict=True):
        check(ranking, query, values, placement.items.ids, 10)
    check(passed, queries[0], values[keep], few.ids, 10)


@pytest.mark.skipif(not can_narrow(), reason="the extra `fast` is not installed")
@pytest.mark.parametrize("shape", [(9, 32, 256), (7, 3, 10), (5, 1, 768), (4, 1, 1)])
def test_machine_code_makes_the_copies_that_numpy_makes(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[int, ...]
) -> None:
    values = units(np.random.default_rng(0), *shape).astype(HALF)
    values[0] = 0

    monkeypatch.setattr(quantise_module, "NARROW_VALUES", 1 << 60)
    wanted = quantise_and_measure(values)
    monkeypatch.setattr(quantise_module, "NARROW_VALUES", 0)
    found = quantise_and_measure(values)
    values[1, 0, 0], values[2, 0, 0] = np.nan, np.inf
    broken = quantise_and_measure(values).lengths

    assert np.array_equal(found.copy, wanted.copy)
    assert np.array_equal(found.scales, wanted.scales)
    lost = values[3:].astype(np.float64) - found.copy[3:] * found.scales[3:, :, None].astype(float)
    assert (np.linalg.norm(lost, axis=-1).max(-1) <= found.bounds[3:]).all()
    assert found.bounds == pytest.approx(wanted.bounds, abs=1e-7)
    assert found.lengths == pytest.approx(wanted.lengths, abs=1e-6)
    assert np.isnan(broken[1, 0])
    assert np.isinf(broken[2, 0])


@pytest.mark.parametrize("k", [1, 10, 100, 3000, 5000])
def test_the_kth_largest_is_that_of_a_sort(k: int) -> None:
    values = np.random.default_rng(k).integers(0, 900, 5000).astype(np.float32)

    assert largest_kth(values, k) == np.sort(values)[::-1][k - 1]
    assert largest_kth(values, 5001) == -np.inf


def test_instructions_that_the_cpu_lacks_are_never_chosen(monkeypatch: pytest.MonkeyPatch) -> None:
    for how in X86:
        assert not how.available({})
        assert not how.available(dict.fromkeys(how.needs[0][1:], True))
        assert how.available(dict.fromkeys(how.needs[0], True))
    names = {how.name for how in available_instructions()}
    monkeypatch.setattr(kernels, "available_instructions", list)

    assert not names & set(kernel_names())
    assert kernel_names()[-1] == "torch"


def test_a_kernel_that_is_not_here_is_named() -> None:
    with pytest.raises(InputError, match="kernel 'sse9' can't run here. Choose one of .*torch"):
        choose_kernel("sse9")


@pytest.mark.slow
def test_without_the_fast_extra_torch_does_all() -> None:
    code = (
        "import sys\n"
        "for name in ('llvmlite', 'numba', 'numkong'): sys.modules[name] = None\n"
        "from unifashion_core.retrieval.kernels import choose_kernel, kernel_names\n"
        "assert kernel_names() == ('torch',), kernel_names()\n"
        "assert choose_kernel().name == 'torch'\n"
    )
    root = Path(kernels.__file__).parents[3]

    done = subprocess.run(
        [sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False
    )

    assert done.returncode == 0, done.stderr


@pytest.mark.skipif(kernel_names() == ("torch",), reason="the extra `fast` is not installed")
def test_the_fast_extra_is_preferred() -> None:
    assert choose_kernel().name == kernel_names()[0] != "torch"

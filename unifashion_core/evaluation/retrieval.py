"""How long an exact search takes beside other ways to do it, in one process: `bench retrieval`.

Every engine gets the same queries in turn and the same threads; figures are medians of rounds.
Beside them stands a plain read of the same bytes, below which no scan can come. Features are a
seeded mixture: 2,000 centres, images around them, tokens around their image ("tight": close to it,
"spread": far apart), and queries that are a token with noise and a constant gap.
"""

from __future__ import annotations

import os
import platform
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from ..deps import require
from ..errors import InputError
from ..retrieval.bounds import ScoredPart
from ..retrieval.items import ItemRows
from ..retrieval.kernels import Kernel, choose_kernel
from ..retrieval.layout import Half, Rows
from ..retrieval.placement import Placement
from ..retrieval.quantise import Bytes, quantise
from ..retrieval.scoring import Ranking, rank
from ..retrieval.segments import SegmentView
from ..types import OnStep

TOKENS, WIDTH, BATCH = 32, 256, 64
SPREADS = {"tight": 0.33, "spread": 1.56}
"""Squared length of a token's noise: neighbours have a cosine of 0.75 or 0.39."""
CENTRES, IMAGE_NOISE, QUERY_NOISE, GAP = 2000, 0.5, 0.8, 0.6
BLOCK = 2048  # images of a segment
ROUNDS, BATCH_ROUNDS, WARM = 11, 3, 2
CHUNK = 1000  # images of a step of the other engines' batches
COMPARE_BYTES = 8 << 30  # of float32 features, up to which other engines are measured beside

StoreFigures = Callable[[Half, Path], Mapping[str, float]]


@dataclass(frozen=True)
class Features:
    """Generated images as a store holds them, and queries for them.

    Attributes:
        placement: The images.
        queries: Unit vectors, (Q, D).
        f16: All stored tokens, (N, T, D).
        int8: Their copies, (N, T, D).
    """

    placement: Placement
    queries: torch.Tensor
    f16: Half
    int8: Bytes


def make_features(
    images: int, spread: str, *, folder: Path | None = None, seed: int = 0, queries: int = 128
) -> Features:
    """Generate images.

    Args:
        images: How many.
        spread: "tight" or "spread".
        folder: Where their files are made; None for memory.
        seed: Of the noise.
        queries: How many queries.
    """
    random = torch.Generator().manual_seed(seed)
    centres = _unit(torch.randn(CENTRES, WIDTH, generator=random))
    shape = (images, TOKENS, WIDTH)
    f16 = _room(folder, "f16", np.dtype(np.float16), shape)
    int8 = _room(folder, "int8", np.dtype(np.int8), shape)
    views: list[SegmentView] = []
    for first in range(0, images, BLOCK):
        many = min(BLOCK, images - first)
        chosen = torch.randint(CENTRES, (many,), generator=random)
        image = centres[chosen] + _noise(random, many, WIDTH) * IMAGE_NOISE
        noise = _noise(random, many, TOKENS, WIDTH) * SPREADS[spread] ** 0.5
        tokens = _unit(_unit(image)[:, None] + noise)
        here = slice(first, first + many)
        f16[here] = tokens.half().numpy()
        int8[here], scales, bounds = quantise(f16[here])
        views.append(SegmentView(first, many, f16[here], int8[here], scales, bounds))
    numbers = np.arange(images, dtype=np.int64)
    items = ItemRows(numbers + 1, numbers, np.full(images, -1, np.int64))
    rows = torch.randint(images, (queries,), generator=random).numpy()
    near = torch.as_tensor(np.array([f16[row][row % TOKENS] for row in rows])).float()
    gap = _noise(random, 1, WIDTH) * GAP
    asked = _unit(near + _noise(random, queries, WIDTH) * QUERY_NOISE + gap)
    return Features(Placement(views, items, shape[1:]), asked, f16, int8)


def _unit(values: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(values, dim=-1)


def _noise(random: torch.Generator, *shape: int) -> torch.Tensor:
    """Noise of length 1 along the last dimension, on average."""
    return torch.randn(*shape, generator=random) * shape[-1] ** -0.5


def _room(
    folder: Path | None, name: str, kind: np.dtype[Any], shape: tuple[int, ...]
) -> npt.NDArray[Any]:
    if folder is None:
        return np.zeros(shape, kind)
    return np.memmap(folder / name, kind, mode="w+", shape=shape)


def need_bytes(images: int) -> int:
    """Bytes of generated images on disk: float16, eight-bit copies, and some room."""
    return images * TOKENS * (WIDTH * 3 + 8) * 21 // 20


def on_disk(images: int) -> bool:
    """Whether so many images are made on disk, without other engines beside."""
    return images * TOKENS * WIDTH * 4 > COMPARE_BYTES


# ---- engines


@dataclass(frozen=True)
class Engine:
    """A way to search, or to read the bytes that one reads.

    Attributes:
        name: Of its figure.
        run: Searches for query vectors, (B, D).
    """

    name: str
    run: Callable[[torch.Tensor], Any]


def search_ours(
    features: Features, kernel: Kernel, k: int, items: ItemRows | None = None
) -> Callable[[torch.Tensor], list[Ranking]]:
    """The scorer, for query vectors, (B, D)."""

    def run(queries: torch.Tensor) -> list[Ranking]:
        parts = [[ScoredPart(query[None], 1.0)] for query in queries]
        return rank(features.placement, parts, top_k=k, items=items, kernel=kernel)

    return run


def other_engines(features: Features, k: int, threads: int) -> list[Engine]:
    """What a user could install or write instead, on float32 copies of the stored vectors."""
    wide = torch.as_tensor(features.f16).float()
    flat = wide.view(-1, WIDTH)
    faiss = require("faiss", package="faiss-cpu")
    faiss.omp_set_num_threads(threads)
    index = faiss.IndexFlatIP(WIDTH)
    index.add(flat.numpy())

    def flat_index(queries: torch.Tensor) -> list[Rows]:
        _, found = index.search(queries.numpy(), min(k * TOKENS, len(flat)))
        return [_first_of_each(row // TOKENS)[:k] for row in found]

    def einsum(queries: torch.Tensor) -> object:
        step = len(wide) if len(queries) == 1 else CHUNK  # no [64, N, T] tensor
        best = torch.empty(len(queries), len(wide))
        for start in range(0, len(wide), step):
            products = torch.einsum("bd,ntd->bnt", queries, wide[start : start + step])
            best[:, start : start + step] = products.amax(-1)
        return best.topk(min(k, len(wide)))

    def reference(queries: torch.Tensor) -> object:
        products = torch.matmul(queries[:, None, None], wide.permute(0, 2, 1))
        return products.squeeze(2).amax(-1).topk(min(k, len(wide)))

    return [
        Engine("faiss_ms", flat_index),
        Engine("einsum_ms", einsum),
        Engine("reference_ms", reference),
        Engine("stream_f32_ms", lambda _: _read(wide)),
    ]


def _first_of_each(values: Rows) -> Rows:
    """Each value once, in the order of its first place."""
    _, places = np.unique(values, return_index=True)
    return values[np.sort(places)]


def _read(values: torch.Tensor) -> torch.Tensor:
    """Read every byte, as fast as memory gives them."""
    return values.view(torch.int64).sum()


def medians(
    engines: Sequence[Engine],
    batches: Sequence[torch.Tensor],
    *,
    on_step: OnStep | None = None,
) -> dict[str, float]:
    """Milliseconds of each engine, medians over batches; the first `WARM` batches don't count.

    Args:
        engines: They take turns.
        batches: Query vectors, (B, D) each.
        on_step: Called with (batches done, all batches).
    """
    times: dict[str, list[float]] = {engine.name: [] for engine in engines}
    for number, batch in enumerate(batches):
        for engine in engines:
            start = time.perf_counter()
            engine.run(batch)
            if number >= WARM:
                times[engine.name].append((time.perf_counter() - start) * 1e3)
        if on_step is not None:
            on_step(number + 1, len(batches))
    return {name: statistics.median(values) for name, values in times.items()}


# ---- the figures


def measure_retrieval(
    images: int,
    k: int,
    *,
    kernel: str | None = None,
    folder: Path | None = None,
    store_figures: StoreFigures | None = None,
    on_step: OnStep | None = None,
) -> dict[str, Any]:
    """Measure a search of `images` generated images.

    Args:
        images: How many.
        k: Hits of a query.
        kernel: What scans; the machine's fastest when None.
        folder: Where files may be made: the images', when they are too many for the memory of the
            other engines, and the store's.
        store_figures: Measures the store with (N, T, D) tokens in an empty folder.
        on_step: Called with (rounds done, rounds) of each part.

    Returns:
        The figures; None where an engine can't hold so many.

    Raises:
        InputError: If a number is out of range.
    """
    if images < k or k < 1:
        raise InputError(f"bench retrieval: {images} images and k {k}. Give 1 <= k <= images.")
    threads = torch.get_num_threads()
    chosen = choose_kernel(kernel, threads=threads)
    compare = not on_disk(images)
    with tempfile.TemporaryDirectory(dir=folder) as made:
        features = make_features(images, "spread", folder=None if compare else Path(made))
        others = other_engines(features, k, threads) if compare else []
        figures: dict[str, Any] = {
            "images": images,
            "k": k,
            "threads": threads,
            "cpu": cpu_name(),
            "kernel": chosen.name,
            "single": _single(features, chosen, others, k, on_step),
            "batch64": _batch(features, chosen, others, k, on_step),
            "filtered": _filtered(features, chosen, k, on_step),
        }
        del others
        room = Path(made, "store")
        room.mkdir()
        stored: Mapping[str, float] = {}
        if store_figures is not None and compare:
            stored = store_figures(features.f16, room)
        names = ("ingest_ratio", "add100_ratio", "remove100_ratio", "open_ms", "disk_ratio")
        figures["store"] = {name: stored.get(name) for name in names}
    return figures


def _single(
    features: Features, kernel: Kernel, others: Sequence[Engine], k: int, on_step: OnStep | None
) -> dict[str, Any]:
    batches = [query[None] for query in features.queries[: ROUNDS + WARM]]
    names = ("faiss", "einsum", "reference")
    return _beside(features, kernel, others, k, (batches, names), on_step)


def _batch(
    features: Features, kernel: Kernel, others: Sequence[Engine], k: int, on_step: OnStep | None
) -> dict[str, Any]:
    whole = features.queries[:BATCH]
    batches = [whole.roll(number, 0) for number in range(BATCH_ROUNDS + WARM)]
    others = [engine for engine in others if engine.name != "reference_ms"]
    return _beside(features, kernel, others, k, (batches, ("faiss", "einsum")), on_step)


def _beside(
    features: Features,
    kernel: Kernel,
    others: Sequence[Engine],
    k: int,
    asked: tuple[Sequence[torch.Tensor], Sequence[str]],
    on_step: OnStep | None,
) -> dict[str, Any]:
    """Ours and the others' medians, and the ratios; `asked` are batches and names of others."""
    batches, names = asked
    ours, candidates = search_ours(features, kernel, k), list[int]()

    def counted(queries: torch.Tensor) -> None:
        candidates.extend(found.candidates for found in ours(queries))

    copies = torch.as_tensor(features.int8)
    engines = [Engine("ms", counted), *others, Engine("stream_int8_ms", lambda _: _read(copies))]
    times = medians(engines, batches, on_step=on_step)
    figures: dict[str, Any] = {"ms": times["ms"]}
    for name in (*(f"{name}_ms" for name in names), "stream_f32_ms", "stream_int8_ms"):
        figures[name] = times.get(name)
    for name in names:
        other = times.get(f"{name}_ms")
        figures[f"x_{name}"] = None if other is None else other / times["ms"]
    figures["x_stream"] = times["ms"] / times["stream_int8_ms"]
    figures["candidates"] = statistics.mean(candidates)
    return figures


def _filtered(
    features: Features, kernel: Kernel, k: int, on_step: OnStep | None
) -> dict[str, float]:
    """Time of a filtered query as a share of an unfiltered one's: all pass, every tenth passes."""
    items = features.placement.items
    keep = np.random.default_rng(0).random(len(items)) < 0.1
    every = np.ones(len(items), np.bool_)
    engines = [
        Engine(name, search_ours(features, kernel, k, subset))
        for name, subset in (
            ("none", None),
            ("all", items.subset(every)),
            ("tenth", items.subset(keep)),
        )
    ]
    times = medians(
        engines, [query[None] for query in features.queries[: ROUNDS + WARM]], on_step=on_step
    )
    return {f"{name}_ratio": times[name] / times["none"] for name in ("all", "tenth")}


def cpu_name() -> str:
    """The processor, as the system calls it."""
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8", "replace").splitlines()
    except OSError:
        lines = list[str]()
    named = [line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")]
    return named[0] if named else platform.processor() or platform.machine()


def peak_bytes() -> int | None:
    """The most memory that this process has had, where the system says so."""
    if os.name == "nt":
        return None
    resource = require("resource")
    peak = int(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
    return peak if sys.platform == "darwin" else peak * 1024

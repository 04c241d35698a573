"""`bench retrieval`: its engines agree with each other, and its figures are those of the issue."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from unifashion_core.errors import InputError
from unifashion_core.evaluation.retrieval import (
    make_features,
    measure_retrieval,
    other_engines,
    search_ours,
)
from unifashion_core.retrieval.kernels import choose_kernel

pytest.importorskip("faiss", reason="faiss-cpu comes with the lock's test section")


@pytest.mark.parametrize("spread", ["tight", "spread"])
def test_all_engines_find_the_same(spread: str) -> None:
    features = make_features(300, spread)
    queries = features.queries[:4]
    engines = {engine.name: engine.run for engine in other_engines(features, 20, 1)}

    ours = search_ours(features, choose_kernel(), 20)(queries)

    scores = torch.as_tensor(np.stack([found.scores for found in ours]))
    for name in ("einsum_ms", "reference_ms"):
        values, rows = engines[name](queries)
        assert torch.allclose(values, scores, rtol=0.0, atol=1e-6)
        assert (rows + 1).tolist() == [found.ids.tolist() for found in ours]
    by_index = engines["faiss_ms"](queries)
    assert [(row + 1).tolist() for row in by_index] == [found.ids.tolist() for found in ours]


def test_features_are_seeded_and_as_far_apart_as_they_say() -> None:
    for spread, wanted in (("tight", 0.75), ("spread", 0.39)):
        features = make_features(64, spread)
        tokens = torch.as_tensor(features.f16).float()
        likeness = (tokens @ tokens.transpose(1, 2)).sum((1, 2)) - 32
        assert float(likeness.mean()) / (32 * 31) == pytest.approx(wanted, abs=0.02)
        assert np.array_equal(features.f16, make_features(64, spread).f16)


@pytest.mark.slow
def test_the_figures_have_their_names(tmp_path: Path) -> None:
    figures = measure_retrieval(1000, 10, folder=tmp_path, store_figures=lambda _, folder: {
        "open_ms": 1.0, "disk_ratio": float(not any(folder.iterdir()))
    })  # fmt: skip

    assert list(figures) == [
        *("images", "k", "threads", "cpu", "kernel", "single", "batch64", "filtered", "store")
    ]
    others = ["faiss_ms", "einsum_ms", "reference_ms", "stream_f32_ms", "stream_int8_ms"]
    ratios = ["x_faiss", "x_einsum", "x_reference", "x_stream", "candidates"]
    assert list(figures["single"]) == ["ms", *others, *ratios]
    assert set(figures["single"]) - set(figures["batch64"]) == {"reference_ms", "x_reference"}
    assert list(figures["filtered"]) == ["all_ratio", "tenth_ratio"]
    assert figures["store"]["disk_ratio"] == 1.0
    for name in ("faiss", "einsum", "reference"):
        single = figures["single"]
        assert single[f"x_{name}"] == single[f"{name}_ms"] / single["ms"] > 0
    assert list(tmp_path.iterdir()) == []


def test_impossible_numbers_are_named() -> None:
    with pytest.raises(InputError, match="5 images and k 10"):
        measure_retrieval(5, 10)

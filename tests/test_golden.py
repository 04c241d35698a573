"""Equality with the reference vectors of the paper's code; the small sets are in tests/golden."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from unifashion_core.attention import AttentionBackend, math_attention, sdpa_attention
from unifashion_core.evaluation.parity import CHECKS, check_folder
from unifashion_core.evaluation.reference_sets import find_sets, kind_of

GOLDEN = Path(__file__).parent / "golden"
REFERENCE = os.environ.get("UNIFASHION_REFERENCE")


@pytest.mark.parametrize("backend", [math_attention(), sdpa_attention()], ids=lambda b: b.name)
@pytest.mark.parametrize("name", ["eva_vit_a", "qformer_a", "losses_a", "preprocess_a"])
def test_set_holds(name: str, backend: AttentionBackend) -> None:
    (result,) = (r for r in check_folder(GOLDEN, backend, only=[kind_of(name)]) if r.name == name)
    assert result.ok, result.line()
    assert result.error is not None
    assert result.tolerance is not None
    assert result.error < result.tolerance / 10  # far from the limit, so no luck


def test_every_output_of_the_small_sets_is_compared() -> None:
    counts = {r.name: r.compared for r in check_folder(GOLDEN, math_attention())}
    assert counts == {"eva_vit_a": 1, "qformer_a": 11, "losses_a": 16, "preprocess_a": 5}


@pytest.mark.slow
def test_other_sets_of_the_reference_folder_hold() -> None:
    if not REFERENCE:
        pytest.skip("UNIFASHION_REFERENCE names no folder with the large reference sets")
    folder = Path(REFERENCE)
    assert {kind_of(name) for name in find_sets(folder)} <= set(CHECKS)
    for result in check_folder(folder, sdpa_attention()):
        assert result.ok, result.line()

"""The cache of preparations: equal to no cache, bounded, and to be looked into."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from unifashion_core.prepare.cache import PreparationCache, content_key, size_of
from unifashion_core.prepare.fit import Fit, fit


@dataclass(frozen=True)
class Made:
    mask: torch.Tensor
    note: str


def test_a_value_is_made_once_and_bit_equal():
    cache, calls = PreparationCache(), []
    image = torch.rand(20, 10, 3)

    def make():
        calls.append(1)
        return Made(image.sqrt(), "x")

    first = cache.get_or_make("mask", [image, 3.0], make)
    second = cache.get_or_make("mask", [image.clone(), 3.0], make)
    assert len(calls) == 1
    assert torch.equal(first.mask, image.sqrt())
    assert torch.equal(second.mask, first.mask)
    assert (cache.hits, cache.misses) == (1, 1)


def test_what_was_handed_out_can_be_changed_without_harm():
    cache = PreparationCache()
    for _ in range(3):
        value = cache.get_or_make("mask", [1], lambda: torch.zeros(4))
        assert torch.equal(value, torch.zeros(4))
        value += 1


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ([torch.zeros(2, 3)], [torch.zeros(3, 2)]),
        ([torch.zeros(4)], [torch.zeros(4, dtype=torch.float16)]),
        ([torch.tensor([0.5])], [torch.tensor([128 / 255])]),
        ([torch.tensor([1e-9])], [torch.tensor([0.0])]),
        ([torch.tensor([1.0])], [torch.tensor([257 / 255])]),
        ([torch.tensor([0.0])], [torch.tensor([-256 / 255])]),
        ([torch.tensor([0.0])], [torch.tensor([float("nan")])]),
        ([torch.tensor([0.0])], [torch.tensor([float("inf")])]),
        ([torch.zeros(70_000)], [torch.cat([torch.zeros(69_999), torch.tensor([1e-9])])]),
        ([1], [1.0]),
        ([True], [1]),
        (["a", "b"], ["ab"]),
        ([("a",), "b"], [("a", "b")]),
        ([None], ["None"]),
        ([{"a": 1}], [{"a": 2}]),
        ([Image.new("L", (2, 8))], [Image.new("L", (8, 2))]),
        ([np.zeros(2, np.uint8)], [np.zeros(2, np.int8)]),
    ],
)
def test_different_inputs_have_different_keys(one, other):
    assert content_key("x", one) != content_key("x", other)
    assert content_key("x", one) == content_key("x", one)
    assert content_key("x", one) != content_key("y", one)


def test_the_longest_unused_go_when_the_budget_is_reached():
    cache = PreparationCache(budget_bytes=100)
    for name in "abc":
        cache.get_or_make(name, [], lambda: torch.zeros(10))
    assert [entry.name for entry in cache.entries()] == ["b", "c"]
    cache.get_or_make("b", [], lambda: torch.ones(10))
    cache.get_or_make("d", [], lambda: torch.zeros(10))
    assert [(entry.name, entry.uses) for entry in cache.entries()] == [("b", 1), ("d", 0)]
    assert cache.size_bytes == 80
    cache.get_or_make("too large", [], lambda: torch.zeros(1000))
    assert "too large" not in [entry.name for entry in cache.entries()]
    cache.clear()
    assert cache.entries() == ()


def test_no_budget_keeps_nothing():
    cache = PreparationCache(0)
    cache.get_or_make("a", [], lambda: torch.zeros(10))
    assert cache.entries() == ()


def test_errors_pass_through_and_nothing_is_kept():
    cache = PreparationCache()
    with pytest.raises(ZeroDivisionError):
        cache.get_or_make("a", [], lambda: 1 // 0)
    assert cache.get_or_make("a", [], lambda: 5) == 5


def test_fits_and_none_can_be_kept():
    cache = PreparationCache()
    image = torch.rand(70, 64, 3)
    made = cache.get_or_make("fit", [image], lambda: fit(image, None, (64, 64)))
    again: Any = cache.get_or_make("fit", [image], lambda: None)
    assert isinstance(again[2], Fit)
    assert again[2] == made[2]
    assert cache.get_or_make("none", [], lambda: None) is None
    assert size_of(made) > made[0].numel() * 4


def test_what_has_no_content_is_refused():
    with pytest.raises(TypeError, match="a object has no content to key by"):
        content_key("x", [object()])

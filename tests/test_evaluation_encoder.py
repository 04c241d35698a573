"""The pocket figures' definitions, on galleries small enough to count by hand."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch

from unifashion_core.evaluation import captions
from unifashion_core.evaluation import encoder as bench
from unifashion_core.evaluation.rerank import rerank_gain
from unifashion_core.pocket.photos import Photo


def photo(number: int, label: str, *colours: str) -> Photo:
    return Photo(f"{label}/{number}.jpg", f"{number:064x}", label, colours)


def gallery(photos: list[Photo], tokens: torch.Tensor) -> bench.Features:
    return bench.Features(tuple(photos), tokens, torch.zeros(len(photos), 1, 1))


def test_image_precision_leaves_the_query_out() -> None:
    photos = [photo(i, "dress") for i in range(12)] + [photo(i + 50, "hat") for i in range(12)]
    first = torch.tensor([[1.0, 0.0]]).expand(12, 2)
    second = torch.tensor([[0.0, 1.0]]).expand(12, 2)
    report = bench.image_precision(gallery(photos, torch.cat([first, second])[:, None]))
    assert report == {"value": 1.0, "n": 24}


def test_image_precision_counts_only_classes_of_ten_others() -> None:
    photos = [photo(i, "dress") for i in range(11)] + [photo(i + 50, "hat") for i in range(10)]
    torch.manual_seed(0)
    tokens = torch.nn.functional.normalize(torch.randn(21, 2, 4), dim=-1)
    assert bench.image_precision(gallery(photos, tokens))["n"] == 11


def test_image_score_is_the_mean_over_query_tokens_of_the_best_item_token() -> None:
    torch.manual_seed(0)
    queries, items = torch.randn(3, 2, 4), torch.randn(5, 6, 4)
    slow = torch.tensor(
        [[sum(max(float(t @ u) for u in i) for t in q) / len(q) for i in items] for q in queries]
    )
    assert torch.allclose(bench.image_scores(queries, items), slow, atol=1e-5)


def test_eligible_cells_have_ten_photos_by_either_colour() -> None:
    photos = [photo(i, "dress", "red", "white") for i in range(10)]
    photos += [photo(i + 20, "dress", "blue") for i in range(9)]
    assert bench.eligible_cells(photos) == [("dress", "white"), ("dress", "red")]


@pytest.mark.parametrize(
    ("caption", "label"),
    [
        ("a red t - shirt with short sleeves", "t-shirt"),
        ("a red t-shirt", "t-shirt"),
        ("a blue shirt with a collar", "shirt"),
        ("a grey long sleeve top", "longsleeve"),
        ("black denim shorts", "shorts"),
        ("a black leather jacket with a zip", "outwear"),
        ("a green polo shirt", "shirt"),
        ("a dress and a skirt", None),
        ("something red", None),
    ],
)
def test_class_of_a_caption_is_its_longest_match(caption: str, label: str | None) -> None:
    assert captions.caption_class(caption) == label


def test_first_colour_word_is_the_main_colour() -> None:
    assert captions.first_colour("a red and white dress") == "red"
    assert captions.first_colour("a dress") is None


def test_repeated_content_word_is_seen() -> None:
    assert captions.repeats_itself("a red dress with a red collar")
    assert not captions.repeats_itself("a red dress with a collar and a zip")


def test_words_of_captions_belong_to_one_class() -> None:
    words = [w for phrases in captions.CAPTION_WORDS.values() for w in phrases]
    assert len(words) == len(set(words))


def test_prompts_have_the_right_article() -> None:
    assert bench.coloured_noun("dress", "orange") == "an orange dress"
    assert bench.coloured_noun("pants", "orange") == "orange pants"


class Judge:
    """Scores by search as `vector` says; its ITM head by the number that a photo's tokens hold."""

    def __init__(self, vector: torch.Tensor) -> None:
        self.vector = vector
        self.model = self

    def require(self, ability: str, where: str) -> None:
        assert ability == "itm"

    def tokenize(self, texts: list[str]) -> Any:
        return SimpleNamespace(ids=torch.ones(len(texts), 2), mask=torch.ones(len(texts), 2))

    def encode_texts(self, texts: list[str]) -> Any:
        return SimpleNamespace(vectors=self.vector.expand(len(texts), -1))

    def compose_from_vision(self, vision: torch.Tensor, texts: list[str]) -> Any:
        return SimpleNamespace(vectors=self.vector.expand(len(vision), -1))

    def itm_logits(
        self, vision: torch.Tensor, ids: torch.Tensor, mask: torch.Tensor
    ) -> torch.Tensor:
        assert len(vision) == len(ids) == len(mask)
        return torch.stack([-vision[:, -1, 0], vision[:, -1, 0]], dim=1)

    def rerank_probability(
        self,
        reference: torch.Tensor,
        target: torch.Tensor,
        ids: torch.Tensor,
        mask: torch.Tensor,
    ) -> torch.Tensor:
        assert len(reference) == len(target)
        return self.itm_logits(target, ids, mask).softmax(dim=1)[:, 1]


def test_rerank_gain_compares_the_order_of_itm_with_that_of_the_search() -> None:
    photos = [photo(i, "dress", "red") for i in range(12)]
    photos += [photo(i + 20, "hat", "navy", "beige") for i in range(12)]
    # The search ranks hats first, the ITM head knows dresses; of 24 hits the first 16 are seen.
    tokens = torch.tensor([[0.0, 1.0]]).repeat(12, 1)
    tokens = torch.cat([tokens, torch.tensor([[1.0, 0.0]]).repeat(12, 1)])
    tokens[:, 0] += torch.arange(24) * 1e-3
    known = torch.cat([torch.ones(12), torch.zeros(12)])
    held = bench.Features(tuple(photos), tokens[:, None], known[:, None, None].half())
    judge: Any = Judge(torch.tensor([1.0, 0.0]))
    report = rerank_gain(judge, held, first=16)
    # Cells: red dress 0 -> 4 of 10; navy hat and beige hat 10 -> 6 of 10.
    assert report["text"]["n"] == 3
    assert report["text"]["without"] == pytest.approx(2 / 3)
    assert report["text"]["value"] == pytest.approx((0.4 + 0.6 + 0.6) / 3)
    assert report["composed"] == {"value": None, "without": None, "first": 16, "n": 0}

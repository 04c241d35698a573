"""Soft targets, mixed pictures, noise and the two rerank losses of the encoder's training."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from torch.nn import functional as F
from training_samples import make_data, phase2_run, tiny_run

from unifashion_core.attention import sdpa_attention
from unifashion_core.errors import InputError
from unifashion_core.pocket import EFFICIENTNET_LITE0
from unifashion_core.text import Tokenizer
from unifashion_core.training.batches import CaptionBook, PairSource
from unifashion_core.training.beliefs import class_beliefs, fold_of_origin
from unifashion_core.training.config import CacheConfig, TrainConfig
from unifashion_core.training.features import FeatureSource, _disturb
from unifashion_core.training.loop import Progress
from unifashion_core.training.objectives import soft_contrast, spread_contrast, spread_targets
from unifashion_core.training.phases import Paths, run_phase
from unifashion_core.training.prompts import prompt_texts
from unifashion_core.training.records import ImageRecord, read_phase1


def planted(count: int = 200) -> tuple[torch.Tensor, torch.Tensor, list[str]]:
    """Features whose first values tell the class."""
    generator = torch.Generator().manual_seed(0)
    labels = torch.randint(0, 3, (count,), generator=generator)
    features = torch.randn(count, 12, generator=generator)
    features[torch.arange(count), labels] += 3.0
    return features, labels, [f"photo {i}" for i in range(count)]


def test_beliefs_find_a_planted_class_and_are_chances() -> None:
    features, labels, origins = planted()
    found = class_beliefs(features, labels, origins, 3)
    torch.testing.assert_close(found.chances.sum(dim=1), torch.ones(len(labels)))
    assert (found.chances.argmax(dim=1) == labels).float().mean() > 0.9


def test_a_wrong_label_is_not_learnt_by_heart() -> None:
    features, labels, origins = planted()
    wrong = labels.clone()
    wrong[7] = (labels[7] + 1) % 3
    found = class_beliefs(features, wrong, origins, 3)
    assert int(found.chances[7].argmax()) == int(labels[7])


def test_copies_are_in_the_fold_of_their_origin() -> None:
    assert fold_of_origin("a") == fold_of_origin("a")
    assert len({fold_of_origin(str(i)) for i in range(100)}) == 8


def test_soft_contrast_of_spread_targets_is_the_spread_contrast() -> None:
    generator = torch.Generator().manual_seed(1)
    scores = torch.randn(5, 7, generator=generator)
    verdicts = torch.randint(-1, 2, (5, 7), generator=generator)
    verdicts[torch.arange(5), torch.arange(5)] = 1
    found = soft_contrast(scores, spread_targets(verdicts), verdicts == 0)
    torch.testing.assert_close(found, spread_contrast(scores, verdicts))


def test_a_row_without_target_changes_no_soft_contrast() -> None:
    scores, targets = torch.randn(2, 4), torch.tensor([[0.5, 0.5, 0, 0], [0.0, 0, 0, 0]])
    none = torch.zeros(2, 4, dtype=torch.bool)
    alone = soft_contrast(scores[:1], targets[:1], none[:1])
    torch.testing.assert_close(soft_contrast(scores, targets, none), alone)
    assert soft_contrast(scores[1:], targets[1:], none[1:]) == 0.0


def believing(template: str) -> tuple[PairSource, list[ImageRecord], TrainConfig]:
    """A source of batches over 60 planted photos in three classes and two colours."""
    features, labels, origins = planted(60)
    kinds, colours = ("dress", "shirt", "skirt"), ("blue", "red")
    records = [
        ImageRecord(
            f"{i}.png",
            ("a dress",),
            {"category": kinds[int(k)], "colours": (colours[i % 2],)},
            "photo",
            origins[i],
        )
        for i, k in enumerate(labels)
    ]
    config = tiny_run()
    config = replace(
        config,
        loss=replace(config.loss, prompts=1.0, beliefs=0.5),
        sampling=replace(config.sampling, prompt_templates=(template,)),
    )
    texts = ["a dress", *prompt_texts(records, config)[0]]
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "a", *kinds, *colours])
    book = CaptionBook(texts, [r.attributes for r in records], tokenizer, config)
    source = FeatureSource(lambda rows, _: torch.zeros(len(rows), 4, 16), lambda: features)
    return PairSource(records, book, source, config), records, config


@pytest.mark.parametrize("template", ["a {colours} {category}", "{category} a {colours}"])
def test_believed_prompts_have_the_beliefs_of_their_class_in_the_pictures_colour(
    template: str,
) -> None:
    pairs, records, config = believing(template)
    batch, chosen = pairs.batch(0, np.random.default_rng(0))
    assert batch.prompt_beliefs is not None
    features, labels, origins = planted(60)
    chances = class_beliefs(features, labels, origins, 3).chances
    prompts = prompt_texts(records, config)[0]
    kinds = ("dress", "shirt", "skirt")
    for column, i in enumerate(int(c) for c in chosen):
        for row, prompt in enumerate(prompts):
            kind = next(k for k in kinds if k in prompt.split())
            own = records[i].attributes["colours"][0] in prompt.split()
            wanted = float(chances[i, kinds.index(kind)]) if own else 0.0
            assert float(batch.prompt_beliefs[row, column]) == pytest.approx(wanted, abs=1e-6)


def test_prompts_without_the_class_have_no_beliefs() -> None:
    pairs, _, _ = believing("a {colours}")
    batch, _ = pairs.batch(0, np.random.default_rng(0))
    assert batch.prompt_beliefs is None
    assert batch.prompts is not None


def test_noise_reaches_what_it_is_meant_for() -> None:
    tokens = torch.zeros(2, 5, 16)
    rng = np.random.default_rng(0)
    pooled = _disturb(tokens, CacheConfig(pooled_noise=1.0), rng, pooled=True)
    assert bool((pooled[:, 0] != 0).all())
    assert not bool(pooled[:, 1:].any())
    shared = _disturb(tokens, CacheConfig(shared_noise=1.0), rng, pooled=True)
    assert not bool(shared[:, 0].any())
    assert not bool(shared[:, 1:, 12:].any())  # the lower maps' part
    assert bool((shared[:, 1:, :12] != 0).all())
    torch.testing.assert_close(shared[:, 1:, :12], shared[:, 1:2, :12].expand(-1, 4, -1))
    assert torch.equal(_disturb(tokens, CacheConfig(), rng, pooled=True), tokens)


def softened(config: TrainConfig) -> TrainConfig:
    """All of it at once."""
    loss = replace(
        config.loss,
        prompts=1.0,
        beliefs=0.5,
        prompt_mixup=0.4,
        rerank=0.5,
        itm_prompts=0.5,
        itm_negatives="sampled",
    )
    sampling = replace(config.sampling, prompt_templates=("a {colours} {category}", "{category}"))
    cache = replace(config.cache, pooled_noise=0.3, shared_noise=0.2, seed=2)
    return replace(config, loss=loss, sampling=sampling, cache=cache)


def with_origins(folder: Path) -> Path:
    """The tiny data, each picture its own origin."""
    make_data(folder)
    path = folder / "phase1.jsonl"
    lines = path.read_text().splitlines()
    marked = [f'{line[:-1]}, "origin": "{i}"}}' for i, line in enumerate(lines)]
    path.write_text("\n".join(marked) + "\n")
    return folder


@pytest.mark.slow
def test_all_of_it_trains_and_resumes_exactly(tmp_path: Path) -> None:
    (tmp_path / "data").mkdir()
    data = with_origins(tmp_path / "data")
    assert [r.origin for r in read_phase1(data)] == list("012345")
    seen: list[Progress] = []

    def run(
        phase: int, out: str, start: Path | None = None, stop: int | None = None
    ) -> Path | None:
        config = softened(tiny_run(2) if phase == 1 else phase2_run(2))
        paths = Paths(data, tmp_path / out, EFFICIENTNET_LITE0, start)
        return run_phase(
            phase, paths, config, sdpa_attention(), on_progress=seen.append, stop_after=stop
        )

    first = run(1, "first")
    assert first is not None
    assert run(2, "parts", first, stop=1) is None
    parts, whole = run(2, "parts", first), run(2, "whole", first)
    assert parts is not None
    assert whole is not None
    a, b = (load_file(folder / "model.safetensors") for folder in (parts, whole))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert {"rerank", "itm_prompts", "prompts"} <= set(seen[-1].losses)
    assert all(np.isfinite(list(p.losses.values())).all() for p in seen)


def test_beliefs_without_cached_features_are_refused() -> None:
    pairs, records, config = believing("a {category}")
    del pairs
    tokenizer = Tokenizer(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "a", "dress"])
    texts = ["a dress", *prompt_texts(records, config)[0]]
    book = CaptionBook(texts, [r.attributes for r in records], tokenizer, config)
    live = FeatureSource(lambda rows, _: F.pad(torch.zeros(len(rows), 4, 8), (0, 8)))
    with pytest.raises(InputError, match="'beliefs' read cached features"):
        PairSource(records, book, live, config)

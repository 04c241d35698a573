"""Greedy, beam and nucleus decoding against a slow search; cached against uncached."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from encoder_samples import WORDS, tiny_config, tiny_state
from reference import caption_decoding as slow
from torch import Tensor

from unifashion_core.attention import math_attention
from unifashion_core.caption.decoding import (
    FUNCTION_WORDS,
    Alphabet,
    ContentWords,
    DecodingSettings,
    Evidence,
    decode,
)
from unifashion_core.encoder.encoder import MultimodalEncoder
from unifashion_core.encoder.model import UniFashionEncoderModel
from unifashion_core.errors import InputError
from unifashion_core.text import Tokenizer

VOCABULARY = {word: i for i, word in enumerate(WORDS)}
BEGIN, END = VOCABULARY["[DEC]"], VOCABULARY["[SEP]"]
NEVER = (0, 1, 2, BEGIN)
ALPHABET = Alphabet(BEGIN, END, NEVER, ContentWords(VOCABULARY))
RULES = (NEVER, dict(enumerate(WORDS)), FUNCTION_WORDS)
SHORT = DecodingSettings(min_tokens=1, max_tokens=12)
ALL = [
    SHORT,
    DecodingSettings(),
    replace(SHORT, beams=1),
    replace(SHORT, beams=4, length_penalty=0.5, repeat_words=False),
    replace(SHORT, repetition_penalty=1.5, min_tokens=5),
    replace(SHORT, strategy="greedy"),
    replace(SHORT, strategy="greedy", repetition_penalty=1.3, repeat_words=False),
    replace(SHORT, strategy="nucleus"),
    replace(SHORT, strategy="nucleus", top_p=0.4, temperature=1.7, repeat_words=False),
]


@pytest.fixture(scope="module")
def encoder() -> MultimodalEncoder:
    config = tiny_config()
    model = UniFashionEncoderModel(config, math_attention(), ["itm", "lm"])
    model.load_state_dict(
        {k: v for k, v in tiny_state(config, seed=3).items() if k != "prompt_tokens"}, strict=False
    )
    # A head that shares its table with the input would say the last word again and again.
    table = torch.randn(len(WORDS), 32, generator=torch.Generator().manual_seed(5)) * 0.3
    assert model.Qformer.cls is not None
    model.Qformer.cls.predictions.decoder.weight = torch.nn.Parameter(table)
    return MultimodalEncoder(model, Tokenizer(WORDS), "f" * 64)


@pytest.fixture(scope="module")
def vision() -> Tensor:
    return 3 * torch.randn(3, 5, 32, generator=torch.Generator().manual_seed(4))


def uncached(encoder: MultimodalEncoder, image: Tensor) -> slow.Logits:
    """Each call reads the image and the whole caption anew."""

    def logits(ids) -> Tensor:
        _, state = encoder.model.image_cache(image[None])
        row = torch.tensor([list(ids)])
        with torch.inference_mode():
            return encoder.model.lm_logits(row, torch.ones_like(row), state)[0, -1]

    return logits


def by_hand(encoder: MultimodalEncoder, image: Tensor, settings: DecodingSettings) -> list[int]:
    logits = uncached(encoder, image)
    if settings.strategy == "nucleus":
        return slow.nucleus(logits, BEGIN, END, settings, RULES, seed=7)
    search = slow.beam if settings.strategy == "beam" else slow.greedy
    return search(logits, BEGIN, END, settings, RULES)


@pytest.mark.slow
@pytest.mark.parametrize("settings", ALL, ids=str)
def test_decoding_equals_a_slow_search_without_cache(encoder, vision, settings):
    found = decode(encoder.begin_caption(vision), 3, ALPHABET, settings, seed=7)
    wanted = [by_hand(encoder, image, settings) for image in vision]
    assert found == wanted
    assert len({tuple(f) for f in found}) > 1, "the images should tell the captions apart"


@pytest.mark.parametrize("strategy", ["greedy", "beam", "nucleus"])
def test_a_caption_does_not_depend_on_the_others(encoder, vision, strategy):
    settings = replace(SHORT, strategy=strategy)
    together = decode(encoder.begin_caption(vision), 3, ALPHABET, settings, seed=2)
    alone = [
        decode(encoder.begin_caption(v[None]), 1, ALPHABET, settings, seed=2)[0] for v in vision
    ]
    assert together == alone


def test_another_seed_draws_another_caption(encoder, vision):
    settings = replace(SHORT, strategy="nucleus", top_p=1.0, temperature=2.0)
    first = decode(encoder.begin_caption(vision), 3, ALPHABET, settings, seed=1)
    assert first == decode(encoder.begin_caption(vision), 3, ALPHABET, settings, seed=1)
    assert first != decode(encoder.begin_caption(vision), 3, ALPHABET, settings, seed=2)


@pytest.mark.parametrize("strategy", ["greedy", "beam", "nucleus"])
def test_lengths_count_the_begin_id(encoder, vision, strategy):
    settings = DecodingSettings(strategy, min_tokens=6, max_tokens=8)
    found = decode(encoder.begin_caption(vision), 3, ALPHABET, settings)
    assert all(5 <= len(ids) <= 7 for ids in found)


@pytest.mark.parametrize("strategy", ["greedy", "beam", "nucleus"])
def test_no_content_word_stands_twice(encoder, vision, strategy):
    settings = DecodingSettings(strategy, min_tokens=9, max_tokens=12, repeat_words=False)
    for ids in decode(encoder.begin_caption(vision), 3, ALPHABET, settings):
        content = [WORDS[i] for i in ids if WORDS[i] not in FUNCTION_WORDS]
        assert len(content) == len(set(content))
    free = replace(settings, repeat_words=True)
    repeated = decode(encoder.begin_caption(vision), 3, ALPHABET, free)
    assert any(len(ids) != len(set(ids)) for ids in repeated), "the rule had nothing to do"


def test_words_of_several_pieces_are_words():
    words = ["[DEC]", "dress", "##es", "t", "-", "shirt", "a", "##y", "with"]
    ids = {w: i for i, w in enumerate(words)}
    rule = ContentWords(ids)
    assert rule.banned([0]) == set()
    assert rule.banned([0, ids["a"], ids["with"], ids["-"]]) == set()
    assert rule.banned([0, ids["dress"], ids["##es"]]) == set()
    after = [0, ids["dress"], ids["##es"], ids["dress"]]
    assert rule.banned(after) == {ids["##es"], ids["dress"]}
    assert rule.banned([0, ids["t"], ids["-"], ids["shirt"]]) == {ids["t"], ids["shirt"]}


def test_cancelling_stops_within_a_step(encoder, vision):
    calls: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        calls.append((done, total))
        if done == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        decode(encoder.begin_caption(vision), 3, ALPHABET, SHORT, on_step=stop)
    assert calls == [(0, 11), (1, 11), (2, 11)]


def test_evidence_moves_belief_among_its_words_only():
    logs = torch.randn(9, generator=torch.Generator().manual_seed(0)).log_softmax(dim=0)
    before = logs.clone()
    support = torch.tensor([[0.0, 0.0, 0.0], [3.0, 0.0, -2.0]])
    Evidence((2, 4, 7), support).apply(logs, [0, 7], 1)
    chosen, others = [2, 4], [0, 1, 3, 5, 6, 7, 8]
    assert torch.equal(logs[others], before[others])
    assert torch.allclose(logs[chosen].exp().sum(), before[chosen].exp().sum())
    assert torch.allclose(logs[2] - logs[4], before[2] - before[4] + 3.0)


def test_evidence_decides_between_words(encoder, vision):
    colours = tuple(VOCABULARY[c] for c in ("red", "blue", "green"))
    settings = DecodingSettings("greedy", min_tokens=12, max_tokens=12, repeat_words=False)
    for place in range(3):
        support = torch.zeros(3, 3)
        support[:, place] = 50.0
        found = decode(
            encoder.begin_caption(vision),
            len(vision),
            ALPHABET,
            settings,
            evidence=Evidence(colours, support),
        )
        named = [[i for i in ids if i in colours] for ids in found]
        assert any(named), "no caption names a colour"
        assert all(n[0] == colours[place] for n in named if n)


@pytest.mark.parametrize(
    ("card", "text"),
    [
        ({"caption": {"beam": 2}}, "beam as no setting is"),
        ({"caption": {"beams": "2"}}, "beams as no setting is"),
        ({"caption": {"beams": 0}}, "beams 0, wanted 1 to 64"),
        ({"caption": {"top_p": 0}}, "top_p 0, wanted above 0"),
        ({"caption": {"min_tokens": 40}}, "min_tokens 40 and max_tokens 30"),
        ({"caption": {"strategy": "best"}}, "strategy 'best', wanted greedy, beam, nucleus"),
    ],
)
def test_a_wrong_setting_of_a_card_is_named(card, text):
    with pytest.raises(InputError, match=text):
        DecodingSettings.from_card(card)


def test_without_a_card_the_settings_are_those_of_blip2():
    found = DecodingSettings.from_card({})
    assert (found.strategy, found.beams, found.min_tokens, found.max_tokens) == ("beam", 3, 10, 30)
    assert DecodingSettings.from_card({"caption": {"min_tokens": 1}}).min_tokens == 1

"""The encoder's networks against independent forms of them, in sizes that no other test has."""

from __future__ import annotations

import pytest
import torch
from reference.encoder_oracles import Blip2Oracle, random_model, slow_qformer, small_config
from torch import Tensor

from unifashion_core.attention import math_attention
from unifashion_core.encoder.config import EncoderConfig, TowerConfig
from unifashion_core.encoder.model import UniFashionEncoderModel
from unifashion_core.errors import AbilityError, InputError, ShapeError

SIZES = [
    small_config(),
    small_config(
        tower=TowerConfig(image_size=30, patch_size=10, width=20, layers=1, heads=2, mlp_hidden=33),
        vision_width=20,
        hidden=36,
        heads=2,
        layers=4,
        cross_attention_freq=3,
        num_query_tokens=7,
        embed_dim=9,
    ),
]


@pytest.fixture(scope="module", params=SIZES, ids=["a", "b"])
def model(request: pytest.FixtureRequest) -> UniFashionEncoderModel:
    return random_model(request.param, seed=3)


@pytest.fixture(scope="module")
def batch(model: UniFashionEncoderModel) -> tuple[Tensor, Tensor, Tensor]:
    """Vision (3, 6, W), ids and mask (3, 7) of texts of 7, 4 and 2 tokens."""
    generator = torch.Generator().manual_seed(5)
    q = model.config.qformer
    vision = torch.randn(3, 6, q.vision_width, generator=generator)
    ids = torch.randint(5, q.vocab_size, (3, 7), generator=generator)
    mask = torch.tensor([[1] * 7, [1] * 4 + [0] * 3, [1] * 2 + [0] * 5])
    return vision, ids * mask, mask


@torch.inference_mode()
def test_tower_equals_blip2(model: UniFashionEncoderModel) -> None:
    side = model.config.tower.image_size
    pixels = torch.randn(2, 3, side, side, generator=torch.Generator().manual_seed(1))
    expected = Blip2Oracle(model).vit(pixels)
    torch.testing.assert_close(model.visual_encoder(pixels), expected, atol=2e-5, rtol=0)


@torch.inference_mode()
def test_image_text_and_composed_modes_equal_blip2(
    model: UniFashionEncoderModel, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    vision, ids, mask = batch
    oracle = Blip2Oracle(model)
    real = torch.cat([torch.ones(3, model.config.qformer.num_query_tokens), mask], 1).bool()
    pairs = [
        (model.image_states(vision), oracle.states(vision, None, None)),
        (model.text_states(ids, mask)[mask.bool()], oracle.states(None, ids, mask)[mask.bool()]),
        (model.composed_states(vision, ids, mask)[real], oracle.states(vision, ids, mask)[real]),
    ]
    for got, expected in pairs:
        torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)


@torch.inference_mode()
def test_lm_mode_equals_one_joint_pass(
    model: UniFashionEncoderModel, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    """Queries see queries; text sees the queries and the text before it."""
    vision, ids, mask = batch
    config, state = model.config.qformer, model.state_dict()
    count, length = config.num_query_tokens, ids.shape[1]
    _, cache = model.image_cache(vision)
    got = model.Qformer.decode(ids, mask, cache.cache, count).states
    for i in range(len(ids)):
        allowed = torch.zeros(count + length, count + length, dtype=torch.bool)
        allowed[:, :count] = True
        allowed[count:, count:] = torch.ones(length, length).tril() * mask[i] > 0
        expected = slow_qformer(state, config, model.query_tokens[0], ids[i], allowed, vision[i])[
            count:
        ]
        real = mask[i].bool()
        torch.testing.assert_close(got[i][real].double(), expected[real], atol=2e-5, rtol=0)


@torch.inference_mode()
def test_queries_with_text_but_no_image_take_the_text_ffn(
    model: UniFashionEncoderModel, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    _, ids, mask = batch
    config = model.config.qformer
    got = model.Qformer(model.query_tokens, ids[:1], mask[:1]).states[0]
    size = config.num_query_tokens + ids.shape[1]
    expected = slow_qformer(
        model.state_dict(),
        config,
        model.query_tokens[0],
        ids[0],
        torch.ones(size, size, dtype=torch.bool),
        None,
        text_ffn_for_queries=True,
    )
    torch.testing.assert_close(got.double(), expected, atol=2e-5, rtol=0)


@torch.inference_mode()
def test_decode_steps_equal_the_whole_caption(
    model: UniFashionEncoderModel, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    vision, ids, _ = batch
    _, state = model.image_cache(vision)
    whole = model.lm_logits(ids, torch.ones_like(ids), state)
    for place in range(ids.shape[1]):
        logits, state = model.decode_step(ids[:, place], state)
        torch.testing.assert_close(logits, whole[:, place], atol=2e-5, rtol=0)
    assert state.length == ids.shape[1]


@torch.inference_mode()
def test_selected_decode_state_goes_on_with_those_rows(
    model: UniFashionEncoderModel, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    vision, ids, _ = batch
    _, state = model.decode_step(ids[:, 0], model.image_cache(vision)[1])
    rows = torch.tensor([2, 0, 0, 1])
    got, _ = model.decode_step(ids[rows, 1], state.select(rows))
    expected, _ = model.decode_step(ids[:, 1], state)
    torch.testing.assert_close(got, expected[rows], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_padding_changes_nothing(
    model: UniFashionEncoderModel, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    vision, ids, mask = batch
    wide = torch.nn.functional.pad(ids, (0, 4), value=9)  # padding of any id
    wide_mask = torch.nn.functional.pad(mask, (0, 4))
    state = model.image_cache(vision)[1]
    for got, expected in (
        (model.text_features(wide, wide_mask), model.text_features(ids, mask)),
        (
            model.composed_features(vision, wide, wide_mask),
            model.composed_features(vision, ids, mask),
        ),
        (model.itm_logits(vision, wide, wide_mask), model.itm_logits(vision, ids, mask)),
        (model.lm_logits(wide, wide_mask, state)[:, :7], model.lm_logits(ids, mask, state)),
    ):
        torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


@torch.inference_mode()
def test_each_item_alone_equals_the_batch(
    model: UniFashionEncoderModel, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    vision, ids, mask = batch
    state = model.image_cache(vision)[1]
    whole = (
        model.image_features(vision),
        model.text_features(ids, mask),
        model.composed_features(vision, ids, mask),
        model.itm_logits(vision, ids, mask),
        model.rerank_probability(vision, vision.flip(0), ids, mask),
        model.lm_logits(ids, mask, state),
    )
    for i in range(3):
        v, t, m = vision[i : i + 1], ids[i : i + 1], mask[i : i + 1]
        alone = (
            model.image_features(v),
            model.text_features(t, m),
            model.composed_features(v, t, m),
            model.itm_logits(v, t, m),
            model.rerank_probability(v, vision.flip(0)[i : i + 1], t, m),
            model.lm_logits(t, m, model.image_cache(v)[1]),
        )
        for a, b in zip(alone, whole, strict=True):
            assert a.shape == (1, *b.shape[1:])
            torch.testing.assert_close(a[0], b[i], atol=1e-5, rtol=0)


@torch.inference_mode()
def test_rerank_is_itm_over_the_tokens_of_both_images(
    model: UniFashionEncoderModel, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    vision, ids, mask = batch
    both = torch.cat([vision, vision.flip(0)], dim=1)
    expected = model.itm_logits(both, ids, mask).softmax(-1)[:, 1]
    got = model.rerank_probability(vision, vision.flip(0), ids, mask)
    torch.testing.assert_close(got, expected, atol=1e-6, rtol=0)


@torch.inference_mode()
def test_itm_logit_is_the_mean_over_the_queries(
    model: UniFashionEncoderModel, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    vision, ids, mask = batch
    count = model.config.qformer.num_query_tokens
    states = Blip2Oracle(model).states(vision, ids, mask)[:, :count]
    expected = torch.stack([model.itm_head(states[:, k]) for k in range(count)]).mean(0)
    got = model.itm_logits(vision, ids, mask)
    torch.testing.assert_close(got, expected, atol=2e-5, rtol=0)


def test_dropout_acts_in_training_only(
    model: UniFashionEncoderModel, batch: tuple[Tensor, Tensor, Tensor]
) -> None:
    vision, _, _ = batch
    torch.manual_seed(0)
    with torch.no_grad():
        model.train()
        noisy = [model.image_states(vision) for _ in range(2)]
        model.eval()
        quiet = [model.image_states(vision) for _ in range(2)]
    assert (noisy[0] - noisy[1]).abs().max() > 1e-3
    torch.testing.assert_close(quiet[0], quiet[1], atol=0, rtol=0)


def test_ln_vision_is_computed_in_float32(model: UniFashionEncoderModel) -> None:
    tokens = torch.randn(1, 4, model.config.qformer.vision_width) * 300
    half = UniFashionEncoderModel(model.config, math_attention())
    half.load_state_dict(model.state_dict())
    half.to(torch.float16)
    with torch.no_grad():
        got, expected = half.normalise(tokens.half()), model.normalise(tokens.half())
    assert got.dtype == torch.float16
    torch.testing.assert_close(got.float(), expected, atol=5e-3, rtol=0)


def test_tower_refuses_another_image_size(model: UniFashionEncoderModel) -> None:
    with pytest.raises(ShapeError, match="EVA tower: pixels are .* wanted"):
        model.tower(torch.zeros(1, 3, 8, 8))


def test_text_longer_than_the_positions_is_an_error(model: UniFashionEncoderModel) -> None:
    ids = torch.ones(1, 21, dtype=torch.int64)
    with pytest.raises(ShapeError, match="a text of 21 tokens, at most 20 fit"):
        model.text_states(ids, ids)


def test_qformer_without_input_is_an_error(model: UniFashionEncoderModel) -> None:
    with pytest.raises(InputError, match="neither queries nor text"):
        model.Qformer()
    with pytest.raises(InputError, match="without its mask"):
        model.Qformer(ids=torch.ones(1, 2, dtype=torch.int64))


@pytest.mark.parametrize(
    ("group", "part"), [("itm", "itm_head"), ("lm", "Qformer.cls"), ("prompt", "prompt_tokens")]
)
def test_absent_group_is_named(group: str, part: str) -> None:
    rest = {"itm", "lm", "prompt"} - {group}
    model = UniFashionEncoderModel(small_config(), math_attention(), rest)
    assert not any(part in key for key in model.state_dict())
    with pytest.raises(AbilityError, match=f"no {part}"):
        model.need(group)
    for other in rest:
        model.need(other)


def test_tied_decoder_is_one_tensor_and_stays_one_after_loading() -> None:
    config = small_config()
    source = random_model(config, seed=1)
    for assign in (False, True):
        model = UniFashionEncoderModel(config, math_attention())
        state = {k: v.clone() for k, v in source.state_dict().items()}
        model.load_state_dict(state, assign=assign)
        head, table = model.Qformer.cls.predictions, model.Qformer.bert.embeddings.word_embeddings  # type: ignore[union-attr]
        assert head.decoder.weight is table.weight
        assert head.bias is head.decoder.bias


def test_decoder_of_its_own_is_kept_apart() -> None:
    config = small_config()
    source = random_model(config, seed=1)
    state = {k: v.clone() for k, v in source.state_dict().items()}
    name = "Qformer.cls.predictions.decoder.weight"
    state[name] += 1
    for assign in (False, True):
        model = UniFashionEncoderModel(config, math_attention())
        model.load_state_dict(state, assign=assign)
        for key, value in model.state_dict().items():
            torch.testing.assert_close(value, state[key], atol=0, rtol=0)


def test_initial_weights_follow_the_seed() -> None:
    config = small_config()
    states: list[dict[str, Tensor]] = []
    for seed in (1, 1, 2):
        model = UniFashionEncoderModel(config, math_attention())
        model.initialise(seed)
        states.append(model.state_dict())
    assert all(torch.equal(states[0][k], states[1][k]) for k in states[0])
    assert not torch.equal(states[0]["query_tokens"], states[2]["query_tokens"])
    assert 0.01 < states[0]["query_tokens"].std() < 0.03


def test_config_survives_json() -> None:
    config = small_config()
    assert EncoderConfig.from_dict(config.to_dict()) == config

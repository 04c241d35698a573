"""The encoder as other parts see it: pictures and texts in, unit vectors out, in several views and
with a PCA stem.
"""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference.encoder_oracles import random_model, small_config
from torch import Tensor

from unifashion_core.encoder.config import (
    EncoderConfig,
    PreprocessConfig,
    StemConfig,
    TextConfig,
    TowerConfig,
)
from unifashion_core.encoder.efficientnet_lite import HEAD_WIDTH, LITE0_WIDTH
from unifashion_core.encoder.encoder import MultimodalEncoder
from unifashion_core.encoder.model import Stem, TowerOutput
from unifashion_core.errors import AbilityError, CheckpointError, InputError, ShapeError
from unifashion_core.text import Tokenizer
from unifashion_core.types import ImageEncoder, PairScorer, TextEncoder

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[DEC]", "red", "blue", "dress", "with", "long"]
WORDS += [f"word{i}" for i in range(61 - len(WORDS))]


def config_of(views: tuple[str, ...] = ("targetpad",), **changes: Any) -> EncoderConfig:
    config = replace(
        small_config(),
        preprocess=PreprocessConfig(size=28, views=views),
        text=TextConfig("folder", max_tokens=12, cls_id=2, sep_id=3, bos_id=4),
    )
    return replace(config, **changes)


def encoder_of(config: EncoderConfig, **kwargs: Any) -> MultimodalEncoder:
    model = random_model(config, seed=6, **kwargs)
    return MultimodalEncoder(model, Tokenizer(WORDS), "f" * 64, name="tiny")


@pytest.fixture(params=[("targetpad",), ("targetpad", "squash", "pad")], ids=["one", "three"])
def encoder(request: pytest.FixtureRequest) -> MultimodalEncoder:
    return encoder_of(config_of(request.param))


def pictures(encoder: MultimodalEncoder, count: int = 3) -> Tensor:
    generator = np.random.default_rng(0)
    sizes = [(50, 30), (28, 28), (20, 70)][:count]
    images = [
        Image.fromarray(generator.integers(0, 256, (h, w, 3), dtype=np.uint8)) for w, h in sizes
    ]
    return torch.stack([encoder.preprocess(image) for image in images])


def test_encoder_satisfies_the_protocols(encoder: MultimodalEncoder) -> None:
    for protocol in (ImageEncoder, TextEncoder, PairScorer):
        assert isinstance(encoder, protocol)
    assert encoder.width == 12
    assert encoder.input_size == 28
    assert encoder.tokens_per_image == 5 * len(encoder.config.preprocess.views)


def test_image_features_have_unit_vectors_of_every_view(encoder: MultimodalEncoder) -> None:
    found = encoder.encode_pixels(pictures(encoder))
    views = len(encoder.config.preprocess.views)
    assert found.tokens.shape == (3, encoder.tokens_per_image, 12)
    assert found.tokens.dtype == torch.float32
    torch.testing.assert_close(found.tokens.norm(dim=-1), torch.ones(3, 5 * views))
    assert found.vision is not None
    assert found.vision.shape == (3, 17 * views, 24)
    assert found.query_outputs is not None
    assert found.query_outputs.shape == (3, 5 * views, 32)


def test_views_are_encoded_apart_and_joined_in_order() -> None:
    config = config_of(("squash", "targetpad"))
    both = encoder_of(config)
    pixels = pictures(both)
    whole = both.encode_pixels(pixels)
    for i, view in enumerate(config.preprocess.views):
        alone = encoder_of(config_of((view,))).encode_pixels(pixels[:, i : i + 1])
        for a, b in ((alone.tokens, whole.tokens), (alone.vision, whole.vision)):
            assert a is not None
            assert b is not None
            part = b[:, i * a.shape[1] : (i + 1) * a.shape[1]]
            torch.testing.assert_close(part, a, atol=1e-5, rtol=0)


def test_chunks_equal_the_whole(encoder: MultimodalEncoder) -> None:
    pixels, texts = pictures(encoder), ["red dress", "blue", "long dress with word3"]
    whole = encoder.encode_pixels(pixels).tokens
    parts = torch.cat([encoder.encode_pixels(pixels[i : i + 1]).tokens for i in range(3)])
    torch.testing.assert_close(parts, whole, atol=1e-5, rtol=0)
    vectors = encoder.encode_texts(texts).vectors
    one_by_one = torch.cat([encoder.encode_texts([t]).vectors for t in texts])
    torch.testing.assert_close(one_by_one, vectors, atol=1e-5, rtol=0)
    composed = encoder.compose(pixels, texts).vectors
    singly = [encoder.compose(pixels[i : i + 1], [texts[i]]).vectors for i in range(3)]
    torch.testing.assert_close(torch.cat(singly), composed, atol=1e-5, rtol=0)


def test_empty_batches_give_empty_features(encoder: MultimodalEncoder) -> None:
    found = encoder.encode_pixels(pictures(encoder)[:0])
    assert found.tokens.shape == (0, encoder.tokens_per_image, 12)


def test_text_vectors_tell_what_was_cut_and_unknown(encoder: MultimodalEncoder) -> None:
    found = encoder.encode_texts(["Red peplum dress!", "red " * 30])
    assert found.vectors.shape == (2, 12)
    torch.testing.assert_close(found.vectors.norm(dim=-1), torch.ones(2))
    assert found.truncated == (False, True)
    assert found.unknown_words == (("peplum",), ())
    same = encoder.encode_texts(["red ... PEPLUM dress"]).vectors
    torch.testing.assert_close(same, found.vectors[:1], atol=1e-5, rtol=0)


def test_composed_query_from_pixels_equals_that_from_vision(encoder: MultimodalEncoder) -> None:
    pixels, texts = pictures(encoder), ["red", "blue dress", "long"]
    direct = encoder.compose(pixels, texts)
    vision = encoder.encode_pixels(pixels).vision
    assert vision is not None
    later = encoder.compose_from_vision(vision, texts)
    torch.testing.assert_close(direct.vectors, later.vectors, atol=1e-6, rtol=0)
    torch.testing.assert_close(direct.vectors.norm(dim=-1), torch.ones(3))
    assert direct.query_outputs is not None
    assert direct.query_outputs.shape == (3, 5, 32)


def test_composed_query_is_the_token_after_the_queries(encoder: MultimodalEncoder) -> None:
    pixels = pictures(encoder, 1)
    vision = encoder.encode_pixels(pixels).vision
    assert vision is not None
    batch = encoder.tokenize(["red dress"])
    model = encoder.model
    with torch.inference_mode():
        states = model.Qformer(model.query_tokens, batch.ids, batch.mask, vision).states
        expected = torch.nn.functional.normalize(model.text_proj(states[:, 5]), dim=-1)
    torch.testing.assert_close(
        encoder.compose(pixels, ["red dress"]).vectors, expected, atol=1e-6, rtol=0
    )


def test_text_score_is_the_itm_logit_of_each_pair(encoder: MultimodalEncoder) -> None:
    pixels = pictures(encoder)
    got = encoder.score_pairs("red dress", pixels)
    batch = encoder.tokenize(["red dress"])
    for i in range(3):
        vision = encoder.encode_pixels(pixels[i : i + 1]).vision
        assert vision is not None
        with torch.inference_mode():
            expected = encoder.model.itm_logits(vision, batch.ids, batch.mask)[0, 1]
        torch.testing.assert_close(got[i], expected, atol=1e-5, rtol=0)


def test_composed_score_is_a_probability_over_both_images(encoder: MultimodalEncoder) -> None:
    pixels = pictures(encoder)
    vision = encoder.encode_pixels(pixels).vision
    assert vision is not None
    got = encoder.score_pairs("blue", pixels, vision[1])
    assert got.shape == (3,)
    assert ((got > 0) & (got < 1)).all()
    batch = encoder.tokenize(["blue"])
    with torch.inference_mode():
        both = torch.cat([vision[1:2], vision[2:3]], dim=1)
        expected = encoder.model.itm_logits(both, batch.ids, batch.mask).softmax(-1)[0, 1]
    torch.testing.assert_close(got[2], expected, atol=1e-5, rtol=0)


def test_captions_are_decoded_from_the_vision_tokens(encoder: MultimodalEncoder) -> None:
    vision = encoder.encode_pixels(pictures(encoder)).vision
    assert vision is not None
    state = encoder.begin_decode(vision)
    ids = torch.full((3,), encoder.tokenizer.bos_id)
    logits, state = encoder.decode_step(ids, state)
    assert logits.shape == (3, 61)
    assert logits.dtype == torch.float32
    assert state.length == 1


def test_prompt_queries_are_a_choice_of_the_config() -> None:
    config = config_of()
    query = encoder_of(config)
    prompt = encoder_of(replace(config, gallery_queries="prompt"))
    pixels = pictures(query)
    assert (
        query.encode_pixels(pixels).tokens - prompt.encode_pixels(pixels).tokens
    ).abs().max() > 0.01
    with torch.inference_mode():
        vision = query.model.encode_vision(pixels[:, 0])
        expected = query.model.image_features(vision, "prompt")
    torch.testing.assert_close(prompt.encode_pixels(pixels).tokens, expected, atol=1e-5, rtol=0)


def test_abilities_follow_the_groups() -> None:
    bare = encoder_of(config_of(), groups=())
    assert bare.abilities == {"image", "text", "composed"}
    assert encoder_of(config_of()).abilities == bare.abilities | {"itm", "lm", "prompt"}
    with pytest.raises(AbilityError, match=r"rerank: encoder 'tiny' has no itm_head \(abil"):
        bare.score_pairs("red", pictures(bare))
    with pytest.raises(AbilityError, match=r"caption: encoder 'tiny' has no Qformer\.cls"):
        bare.begin_decode(torch.zeros(1, 17, 24))
    bare.require("composed", "query")


def test_wrong_views_and_numbers_are_errors(encoder: MultimodalEncoder) -> None:
    with pytest.raises(ShapeError, match="encoder 'tiny': views are"):
        encoder.encode_pixels(torch.zeros(1, 4, 3, 28, 28))
    with pytest.raises(ShapeError, match="Make them with its own preprocess"):
        encoder.encode_pixels(torch.zeros(3, 28, 28))
    with pytest.raises(InputError, match="3 images and 2 texts"):
        encoder.compose(pictures(encoder), ["red", "blue"])


def test_tokenizer_of_another_encoder_is_refused() -> None:
    model = random_model(config_of(), seed=0)
    with pytest.raises(CheckpointError, match="its tokenizer has 60 words"):
        MultimodalEncoder(model, Tokenizer(WORDS[:60]), "f" * 64)
    moved = [*WORDS[:2], "[SEP]", "[CLS]", *WORDS[4:]]
    with pytest.raises(CheckpointError, match=r"special ids \(0, 3, 2, 4\)"):
        MultimodalEncoder(model, Tokenizer(moved), "f" * 64)


def test_results_are_float32_on_the_cpu_whatever_the_weights_are(
    encoder: MultimodalEncoder,
) -> None:
    pixels = pictures(encoder)
    expected = encoder.encode_pixels(pixels).tokens
    encoder.model.to(torch.bfloat16)
    found = encoder.encode_pixels(pixels)
    texts = encoder.compose(pixels, ["red", "blue", "long"])
    score = encoder.score_pairs(
        "red", pixels, found.vision[0] if found.vision is not None else None
    )
    for value in (found.tokens, found.vision, found.query_outputs, texts.vectors, score):
        assert value is not None
        assert value.dtype == torch.float32
    assert torch.cosine_similarity(found.tokens, expected, dim=-1).min() > 0.98


def test_encoding_leaves_no_gradient(encoder: MultimodalEncoder) -> None:
    assert not encoder.encode_texts(["red"]).vectors.requires_grad
    assert not encoder.model.training


# The pocket shape: a convolutional tower behind a PCA stem


def pocket_config(*, pooled: bool) -> EncoderConfig:
    config = config_of(("squash", "centre"))
    return replace(
        config,
        tower=TowerConfig(kind="efficientnet_lite0", image_size=64, width=LITE0_WIDTH),
        stem=StemConfig("pca", in_width=LITE0_WIDTH, out_width=24, pooled_token=pooled),
        preprocess=PreprocessConfig(size=64, views=("squash", "centre")),
    )


@pytest.mark.parametrize("pooled", [False, True])
def test_pocket_encoder_reads_the_stem(pooled: bool) -> None:
    encoder = encoder_of(pocket_config(pooled=pooled))
    found = encoder.encode_pixels(pictures(encoder))
    assert found.tokens.shape == (3, 10, 12)
    assert found.vision is not None
    assert found.vision.shape == (3, 2 * (4 + pooled), 24)  # a 2x2 map of each view
    keys = {k for k in encoder.model.state_dict() if k.startswith("stem.")}
    extra = {"stem.pooled_mean", "stem.pooled_weight"} if pooled else set()
    assert keys == {"stem.mean", "stem.weight"} | extra
    assert not any(name.startswith("stem.") for name, _ in encoder.model.named_parameters())


def test_stem_is_a_linear_map_of_the_centred_tokens() -> None:
    stem = Stem(StemConfig("pca", in_width=6, out_width=3, pooled_token=True), pooled_width=4)
    generator = torch.Generator().manual_seed(0)
    for buffer in stem.buffers():
        buffer.copy_(torch.randn(buffer.shape, generator=generator))
    tower = TowerOutput(torch.randn(2, 5, 6), torch.randn(2, 4))
    got = stem(tower)
    assert got.shape == (2, 6, 3)
    assert tower.pooled is not None
    for b in range(2):
        expected = stem.pooled_weight @ (tower.pooled[b] - stem.pooled_mean)
        torch.testing.assert_close(got[b, 0], expected)
        for p in range(5):
            expected = stem.weight @ (tower.tokens[b, p] - stem.mean)
            torch.testing.assert_close(got[b, 1 + p], expected)
    with pytest.raises(InputError, match="a pooled token is configured"):
        stem(TowerOutput(tower.tokens))


def test_pooled_width_is_the_towers() -> None:
    assert HEAD_WIDTH == 1280

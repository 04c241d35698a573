"""What a text's words tell of colours: kept with the model, learnt, and given to the start."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from tryon_tiny import TOKENIZER, table, tiny_condition, tiny_config, tiny_model

from unifashion_core.attention import math_attention
from unifashion_core.errors import CheckpointError, ShapeError
from unifashion_core.pocket import CLIP_MERGES
from unifashion_core.training.tryon import TryOnPaths
from unifashion_core.training.wardrobe_pairs import PairsConfig, build_pairs
from unifashion_core.training.word_colours import fit_word_colours, mean_latents, train_words
from unifashion_core.tryon.checkpoint import TryOnModel, convert_tryon, load_tryon, save_tryon
from unifashion_core.tryon.context import encode_texts
from unifashion_core.tryon.fingerprint import tryon_fingerprint
from unifashion_core.tryon.sampling import SamplerSettings, sample
from unifashion_core.tryon.word_colours import WordColours

FAST = SamplerSettings("ddim", 2)


def knowing() -> TryOnModel:
    model = tiny_model(tiny_config(word_colours=True))
    assert model.colours is not None
    torch.manual_seed(3)
    model.colours.weight.copy_(torch.randn_like(model.colours.weight))
    model.colours.bias.copy_(torch.randn_like(model.colours.bias))
    return model


def test_a_text_tells_the_sum_of_its_words_each_once():
    model = knowing()
    assert model.colours is not None
    found = encode_texts(model, TOKENIZER, ["red dress", "dress red red", "", "blue"])
    rows = {i: row for row, i in enumerate(table())}
    words = {
        name: [rows[i] for _, ids in TOKENIZER.encode(name) for i in ids]
        for name in ("red", "dress", "blue")
    }
    ends = [rows[i] for i in table()[-2:]]
    weight, bias = model.colours.weight, model.colours.bias
    red = weight[[*words["red"], *words["dress"], *ends]].sum(dim=0) + bias
    first, second, empty, blue = found.colours
    assert first is not None
    assert second is not None
    assert blue is not None
    assert empty is None
    torch.testing.assert_close(first, red)
    torch.testing.assert_close(second, red)
    torch.testing.assert_close(blue, weight[[*words["blue"], *ends]].sum(dim=0) + bias)
    assert encode_texts(tiny_model(), TOKENIZER, ["red"]).colours == (None,)


def test_what_words_tell_is_saved_loaded_and_converted(tmp_path: Path):
    model = knowing()
    assert model.colours is not None
    save_tryon(tmp_path / "saved", model)
    convert_tryon(tmp_path / "saved", tmp_path / "converted")
    for name in ("saved", "converted"):
        loaded = load_tryon(tmp_path / name, attention=math_attention())
        assert loaded.colours is not None
        assert torch.equal(loaded.colours.weight, model.colours.weight)
        assert tryon_fingerprint(loaded) == tryon_fingerprint(model)
    other = replace(model, colours=WordColours(len(table()), 4))
    assert tryon_fingerprint(other) != tryon_fingerprint(model)


def test_a_config_and_weights_that_disagree_are_an_error(tmp_path: Path):
    model = knowing()
    save_tryon(tmp_path / "more", replace(model, config=tiny_config()))
    with pytest.raises(CheckpointError, match="weights of colours"):
        load_tryon(tmp_path / "more", attention=math_attention())
    save_tryon(tmp_path / "less", replace(model, colours=None))
    with pytest.raises(CheckpointError, match="word_colours"):
        load_tryon(tmp_path / "less", attention=math_attention())


def test_the_start_tells_the_colours_inside_the_mask_of_items_that_have_some():
    """The UNet's first input begins with the start."""
    model = tiny_model()
    plain = tiny_condition(model)
    told = torch.tensor([0.5, -1.0, 2.0, 0.0])
    condition = replace(plain, colours=(None, told, None))
    seen: list[torch.Tensor] = []
    handle = model.unet.register_forward_pre_hook(lambda _, given: seen.append(given[0][:, :4]))
    sample(model, plain, FAST, [5, 6, 7])
    noise = seen[0]
    seen.clear()
    sample(model, condition, FAST, [5, 6, 7])
    start = seen[0]
    seen.clear()
    sample(model, condition.select([1]), FAST, [6])
    handle.remove()
    alone = seen[0]
    inside = 1 - plain.keep[1]
    assert torch.equal(start[0], noise[0])
    assert torch.equal(start[2], noise[2])
    assert torch.equal(start[1] * (inside == 0), noise[1] * (inside == 0))
    torch.testing.assert_close(alone[0], start[1])
    mean = (start[1] * inside).sum(dim=(1, 2)) / inside.sum()
    own = (noise[1] * inside).sum(dim=(1, 2)) / inside.sum()
    share = (inside * inside).sum() / inside.sum()  # half-masked places take half of it
    signal = 0.068265  # square root of the last time step's product of alphas
    torch.testing.assert_close(mean, own + share * (2.5 * signal * told - own), atol=1e-4, rtol=0)


def test_colours_of_another_count_are_an_error():
    model = tiny_model()
    with pytest.raises(ShapeError, match="3 persons"):
        tiny_condition(model, colours=[None])


def test_words_colours_are_found_again_and_other_words_tell_none():
    rng = torch.Generator().manual_seed(0)
    colours = torch.randn(3, 4, generator=rng)  # of the rows 2, 3 and 4; 5 to 7 are other words
    which = torch.randint(0, 3, (300,), generator=rng)
    ids = [
        torch.tensor([[0, 2 + int(w), 5 + int(torch.randint(0, 3, (1,), generator=rng)), 1, 1]])
        for w in which
    ]
    means = colours[which] + 0.05 * torch.randn(300, 4, generator=rng)
    made = fit_word_colours(ids, means, 8)
    for row in range(3):
        text = torch.tensor([[0, 2 + row, 6, 1, 1]])
        torch.testing.assert_close(made(text)[0], colours[row], atol=0.1, rtol=0)
    assert float(made.weight[5:].abs().max()) < 0.1


def test_a_mean_latent_is_the_worn_garments():
    latents = torch.arange(32.0).reshape(1, 2, 4, 4).repeat(2, 1, 1, 1)
    worn = torch.zeros(2, 1, 8, 8)
    worn[0, :, :4, :4] = 1.0  # the first four places
    means, shown = mean_latents(latents, worn)
    assert means[0].tolist() == [2.5, 18.5]
    assert shown.tolist() == [True, False]


@pytest.mark.slow
def test_words_are_trained_and_the_rest_of_the_model_stays(tmp_path: Path):
    build_pairs(tmp_path / "pairs", 3, PairsConfig(size=64, height=128))
    model = tiny_model(tiny_config(size=(64, 64)))
    before = {
        n: {k: v.clone() for k, v in m.state_dict().items()} for n, m in model.modules.items()
    }
    folder = train_words(TryOnPaths(tmp_path / "pairs", tmp_path / "out", CLIP_MERGES), model)
    after = load_tryon(folder, attention=math_attention())
    assert after.config.word_colours
    assert after.colours is not None
    assert float(after.colours.weight.abs().max()) > 0
    for name, old in before.items():
        new = after.modules[name].state_dict()
        assert all(torch.equal(old[key], new[key]) for key in old)

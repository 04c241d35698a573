"""Whole runs of both phases on tiny data: exact resume, what is saved, clear errors."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file
from training_samples import make_data, phase2_run, tiny_model, tiny_run

from unifashion_core.attention import sdpa_attention
from unifashion_core.encoder.checkpoint import load_encoder
from unifashion_core.encoder.encoder import MultimodalEncoder
from unifashion_core.errors import CheckpointError, FolderError, InputError
from unifashion_core.pocket import EFFICIENTNET_LITE0
from unifashion_core.pocket import ENCODER as POCKET_ENCODER
from unifashion_core.training.average import averaged
from unifashion_core.training.config import OptimConfig, TrainConfig, read_config
from unifashion_core.training.loop import Progress, rate_at
from unifashion_core.training.loss_values import Texts
from unifashion_core.training.losses import similarity
from unifashion_core.training.objectives import prompt_loss
from unifashion_core.training.phases import Paths, run_phase


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return make_data(tmp_path_factory.mktemp("data"))


def run(
    data: Path,
    out: Path,
    config: TrainConfig,
    *,
    phase: int = 1,
    start: Path | None = None,
    stop_after: int | None = None,
    seen: list[Progress] | None = None,
) -> Path | None:
    return run_phase(
        phase,
        Paths(data, out, EFFICIENTNET_LITE0, start),
        config,
        sdpa_attention(),
        on_progress=None if seen is None else seen.append,
        stop_after=stop_after,
    )


@pytest.fixture(scope="module")
def finished(data: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = run(data, tmp_path_factory.mktemp("phase1"), tiny_run())
    assert folder is not None
    return folder


@pytest.mark.slow
def test_interrupted_run_ends_bit_for_bit_as_the_unbroken_one(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    assert run(data, tmp_path, tiny_run(), stop_after=3) is None
    resumed = run(data, tmp_path, tiny_run())
    assert resumed is not None
    a, b = load_file(finished / "model.safetensors"), load_file(resumed / "model.safetensors")
    assert a.keys() == b.keys()
    assert [n for n in a if not torch.equal(a[n], b[n])] == []
    last = "checkpoint-000006"
    for name in ("model", "optimizer", "average"):
        x = load_file(finished.parent / last / f"{name}.safetensors")
        y = load_file(tmp_path / last / f"{name}.safetensors")
        assert [n for n in x if not torch.equal(x[n], y[n])] == [], name


def with_prompts(template: str = "a {colours} {category}") -> TrainConfig:
    config = tiny_run()
    return replace(
        config,
        loss=replace(config.loss, prompts=1.0, itm_negatives="random"),
        sampling=replace(config.sampling, prompt_templates=(template,)),
    )


@pytest.mark.slow
def test_prompts_and_random_negatives_resume_exactly(data: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    whole = run(data, tmp_path / "whole", with_prompts(), seen=seen)
    assert run(data, tmp_path / "parts", with_prompts(), stop_after=3) is None
    resumed = run(data, tmp_path / "parts", with_prompts())
    assert whole is not None
    assert resumed is not None
    a, b = (load_file(folder / "model.safetensors") for folder in (whole, resumed))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert all(p.losses["prompts"] > 0 for p in seen)


@pytest.mark.slow
def test_a_prompt_of_an_attribute_that_no_record_has_is_an_error(
    data: Path, tmp_path: Path
) -> None:
    with pytest.raises(InputError, match="names 'price', which no record has"):
        run(data, tmp_path, with_prompts("a {price} {category}"))


def test_a_picture_that_no_prompt_is_true_of_changes_no_prompt_loss() -> None:
    torch.manual_seed(0)
    model = tiny_model().eval()
    images = torch.nn.functional.normalize(
        torch.randn(3, 2, model.config.qformer.embed_dim), dim=-1
    )
    prompts = Texts(torch.tensor([[2, 5, 3], [2, 6, 3]]), torch.ones(2, 3, dtype=torch.int64))
    verdicts = torch.tensor([[1, -1], [-1, 1], [-1, -1]], dtype=torch.int8)
    scores = similarity(model.text_features(prompts.ids, prompts.mask), images).T / model.temp
    alone = prompt_loss(scores[:2], verdicts[:2])
    assert torch.isfinite(alone)
    torch.testing.assert_close(prompt_loss(scores, verdicts), alone)
    assert prompt_loss(scores[2:], verdicts[2:]) == 0.0


@pytest.mark.slow
def test_second_phase_resumes_exactly(data: Path, finished: Path, tmp_path: Path) -> None:
    whole = run(data, tmp_path / "whole", phase2_run(), phase=2, start=finished)
    run(data, tmp_path / "parts", phase2_run(), phase=2, start=finished, stop_after=1)
    parts = run(data, tmp_path / "parts", phase2_run(), phase=2, start=finished)
    assert whole is not None
    assert parts is not None
    a, b = load_file(whole / "model.safetensors"), load_file(parts / "model.safetensors")
    assert [n for n in a if not torch.equal(a[n], b[n])] == []


@pytest.mark.slow
def test_triplets_alone_train_without_phase1_losses(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    seen: list[Progress] = []
    config = replace(phase2_run(2), keep_phase1=False)
    assert run(data, tmp_path, config, phase=2, start=finished, seen=seen) is not None
    assert set(seen[-1].losses) == {"composed", "caption", "itm", "total"}


@pytest.mark.slow
def test_finished_encoder_loads_and_encodes(finished: Path) -> None:
    encoder = load_encoder(finished, tower=EFFICIENTNET_LITE0, attention=sdpa_attention())
    assert isinstance(encoder, MultimodalEncoder)
    assert {"itm", "lm"} <= encoder.abilities
    vectors = encoder.encode_texts(["a red dress"]).vectors
    assert vectors.shape == (1, 8)
    assert torch.isfinite(vectors).all()


@pytest.mark.slow
def test_weights_move_and_temperature_stays_in_bounds(finished: Path) -> None:
    fresh = load_file(finished.parent / "fresh" / "model.safetensors")
    trained = load_file(finished / "model.safetensors")
    assert not torch.equal(fresh["query_tokens"].half(), trained["query_tokens"])
    assert 0.02 <= float(trained["temp"]) <= 0.5


@pytest.mark.slow
def test_progress_tells_losses_and_time_left(data: Path, tmp_path: Path) -> None:
    seen: list[Progress] = []
    run(data, tmp_path, tiny_run(2), seen=seen)
    assert [(p.step, p.steps) for p in seen] == [(1, 2), (2, 2)]
    assert set(seen[0].losses) == {"itc", "itm", "lm", "total"}
    assert seen[-1].seconds_left == 0
    lines = (tmp_path / "log.jsonl").read_text().splitlines()
    assert json.loads(lines[-1])["step"] == 2


@pytest.mark.slow
def test_live_features_train_without_cache(data: Path, tmp_path: Path) -> None:
    base = tiny_run(1)
    encoder = replace(base.encoder, stem=replace(base.encoder.stem, pooled_token=False))
    config = replace(base, encoder=encoder, cache=replace(base.cache, views={}))
    with pytest.raises(InputError, match="stem of zeros"):
        run(data, tmp_path, config)


@pytest.mark.slow
def test_other_config_in_the_same_folder_is_refused(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path, tiny_run(4), stop_after=2)
    with pytest.raises(CheckpointError, match="it holds a run with other batch_size"):
        run(data, tmp_path, replace(tiny_run(4), batch_size=3))


@pytest.mark.slow
def test_damaged_checkpoint_is_named(data: Path, tmp_path: Path) -> None:
    run(data, tmp_path, tiny_run(4), stop_after=2)
    (tmp_path / "checkpoint-000002" / "optimizer.safetensors").write_bytes(b"no")
    with pytest.raises(CheckpointError, match="checkpoint-000002: it is damaged"):
        run(data, tmp_path, tiny_run(4))


@pytest.mark.slow
def test_start_of_other_sizes_is_refused(data: Path, finished: Path, tmp_path: Path) -> None:
    config = phase2_run()
    other = replace(config.encoder, qformer=replace(config.encoder.qformer, num_query_tokens=4))
    with pytest.raises(CheckpointError, match="its qformer differ"):
        run(data, tmp_path, replace(config, encoder=other), phase=2, start=finished)


@pytest.mark.parametrize(
    ("line", "text"),
    [
        ("{", "line 1: not JSON"),
        ("[]", "line 1: not an object"),
        ('{"image": "red_dress.png"}', "line 1: no caption"),
        ('{"image": 3, "caption": "x"}', "line 1: 'image' is 3"),
        ('{"image": "red_dress.png", "captions": "x"}', "line 1: 'captions' is no list"),
        ('{"image": "red_dress.png", "caption": "x", "attributes": []}', "no object"),
        ("", "phase1.jsonl: it is empty"),
    ],
)
def test_bad_line_is_an_error_with_its_number(tmp_path: Path, line: str, text: str) -> None:
    make_data(tmp_path)
    (tmp_path / "phase1.jsonl").write_text(line + "\n")
    with pytest.raises(InputError, match=text):
        run(tmp_path, tmp_path / "out", tiny_run())


def test_missing_pictures_are_counted(tmp_path: Path) -> None:
    make_data(tmp_path)
    (tmp_path / "red_dress.png").unlink()
    with pytest.raises(FolderError, match="1 pictures named in phase1.jsonl are missing"):
        run(tmp_path, tmp_path / "out", tiny_run())


def test_config_parts_of_a_phase_go_over_the_rest(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text(
        json.dumps({"seed": 3, "loss": {"itm": 0.5}, "phase2": {"steps": 7, "loss": {"lm": 0}}})
    )
    config = read_config(path, "phase2")
    assert (config.seed, config.steps, config.loss.itm, config.loss.lm) == (3, 7, 0.5, 0)
    assert read_config(path, "phase1").steps == 0
    assert TrainConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config


def test_unknown_name_in_a_config_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"stepz": 3}')
    with pytest.raises(InputError, match="stepz"):
        read_config(path, "phase1")


def test_rate_warms_up_and_falls() -> None:
    config = OptimConfig(learning_rate=1.0, warmup_share=0.1, final_share=0.1)
    rates = [rate_at(s, 100, config) for s in range(100)]
    assert rates[0] == pytest.approx(0.1)
    assert max(rates) == pytest.approx(1.0)
    assert rates[-1] == pytest.approx(0.1, abs=0.01)


def loaded(folder: Path) -> MultimodalEncoder:
    encoder = load_encoder(folder, tower=EFFICIENTNET_LITE0, attention=sdpa_attention())
    assert isinstance(encoder, MultimodalEncoder)
    return encoder


@pytest.mark.slow
def test_the_average_is_the_mean_of_every_weight(
    data: Path, finished: Path, tmp_path: Path
) -> None:
    later = run(data, tmp_path, tiny_run(2), start=finished)
    assert later is not None
    a, b = loaded(finished), loaded(later)
    mean = averaged([a, b])
    one, two = a.model.state_dict(), b.model.state_dict()
    assert any(not torch.equal(one[n], two[n]) for n in one)
    for name in one:
        torch.testing.assert_close(mean[name], (one[name].float() + two[name].float()) / 2)


@pytest.mark.slow
def test_encoders_of_other_words_or_sizes_have_no_average(finished: Path) -> None:
    pocket = loaded(POCKET_ENCODER)
    with pytest.raises(InputError, match="encoder 2 has other sizes or preprocessing"):
        averaged([loaded(finished), pocket])
    with pytest.raises(InputError, match="one encoder alone"):
        averaged([pocket])

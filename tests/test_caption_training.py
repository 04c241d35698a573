"""`train caption`: a clean prefix, exact resume, and a captioner that loads."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from caption_model_samples import llama_folder, tokenizer
from encoder_samples import tiny_config, tiny_state, write_torch
from safetensors.torch import load_file
from training_samples import make_data

from unifashion_core.attention import sdpa_attention
from unifashion_core.caption.llm import LlmCaptioner
from unifashion_core.caption.llm_folder import Placement, load_language_model
from unifashion_core.caption.loading import load_captioner
from unifashion_core.caption.prompts import PAPER_LLM
from unifashion_core.encoder.checkpoint import load_encoder
from unifashion_core.encoder.encoder import MultimodalEncoder
from unifashion_core.errors import CheckpointError, InputError
from unifashion_core.imaging import open_image
from unifashion_core.training.caption import (
    CaptionObjective,
    CaptionPaths,
    make_network,
    run_caption,
)
from unifashion_core.training.caption_batches import IGNORED, CaptionSource, caption_tokens
from unifashion_core.training.caption_config import CaptionConfig, read_caption_config
from unifashion_core.training.config import OptimConfig
from unifashion_core.training.loop import Progress
from unifashion_core.training.records import read_phase1
from unifashion_core.training.sampling import step_generator

pytestmark = pytest.mark.usefixtures("_offline")
TINY = CaptionConfig(
    rank=2,
    alpha=4,
    dropout=0.1,
    instructions=("describe this garment", "write a caption"),
    optim=OptimConfig(learning_rate=1e-2, weight_decay=0.0, ema=0.9),
    steps=4,
    batch_size=4,
    micro_batch=3,
    save_every=2,
    seed=3,
)


@pytest.fixture(scope="module")
def _offline() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def paths(tmp_path_factory: pytest.TempPathFactory) -> CaptionPaths:
    root = tmp_path_factory.mktemp("caption-training")
    (root / "data").mkdir()
    make_data(root / "data")
    config = tiny_config()
    encoder = write_torch(root / "encoder", tiny_state(config), config)
    llm = llama_folder(root / "tiny-llama")
    return CaptionPaths(root / "data", root / "out", encoder, llm)


@pytest.fixture(scope="module")
def encoder(paths: CaptionPaths) -> MultimodalEncoder:
    found = load_encoder(paths.encoder, attention=sdpa_attention())
    assert isinstance(found, MultimodalEncoder)
    return found


def run(
    paths: CaptionPaths, out: Path, config: CaptionConfig = TINY, **options: Any
) -> Path | None:
    return run_caption(replace(paths, out=out), config, sdpa_attention(), **options)


@pytest.fixture(scope="module")
def finished(paths: CaptionPaths) -> Path:
    folder = run(paths, paths.out)
    assert folder is not None
    return folder


@pytest.mark.slow
def test_interrupted_run_ends_bit_for_bit_as_the_unbroken_one(
    paths: CaptionPaths, finished: Path, tmp_path: Path
) -> None:
    assert run(paths, tmp_path, stop_after=1) is None
    assert run(paths, tmp_path, stop_after=3) is None
    assert run(paths, tmp_path) is not None
    for name in ("captioner/llm_proj", "captioner/adapter/adapter_model"):
        a, b = (load_file(f / f"{name}.safetensors") for f in (finished.parent, tmp_path))
        assert a.keys() == b.keys()
        assert [n for n in a if not torch.equal(a[n], b[n])] == []
    for name in ("model", "optimizer", "average"):
        file = f"checkpoint-000004/{name}.safetensors"
        a, b = load_file(finished.parent / file), load_file(tmp_path / file)
        assert [n for n in a if not torch.equal(a[n], b[n])] == []
        assert a.keys() == b.keys()


@pytest.mark.slow
def test_captioner_loads_and_has_the_logits_of_training(
    paths: CaptionPaths, finished: Path, encoder: MultimodalEncoder
) -> None:
    found = load_captioner(
        finished,
        encoder_decoder=encoder,
        base=paths.llm,
        attention=sdpa_attention(),
        settings=PAPER_LLM.changed(beams=2, max_tokens=4),
    )
    assert isinstance(found, LlmCaptioner)
    assert found.prompt == TINY.instructions[0]
    image = open_image(paths.data / "red_dress.png")
    assert len(found.caption([image])) == 1
    weights = load_file(paths.out / "checkpoint-000004" / "average.safetensors")
    llm = load_language_model(paths.llm, Placement(sdpa_attention()))
    network = make_network(llm, 32, TINY).eval()
    network.load_state_dict(weights, strict=False)
    queries, ids = torch.randn(1, 3, 32), torch.arange(4, 9)[None]
    with torch.inference_mode():
        wanted, got = (
            n.llm(inputs_embeds=n(queries, ids)).logits  # type: ignore[operator]
            for n in (network, found.network)
        )
    torch.testing.assert_close(got, wanted, rtol=1e-4, atol=1e-4)


@pytest.mark.slow
def test_only_projection_and_adapters_are_trained(paths: CaptionPaths, finished: Path) -> None:
    held = load_file(finished.parent / "checkpoint-000004" / "model.safetensors")
    assert {"lora_" in n or n.startswith("llm_proj.") for n in held} == {True}
    first = make_network(load_language_model(paths.llm, Placement(sdpa_attention())), 32, TINY)
    fresh = dict(first.named_parameters())
    assert [n for n in held if torch.equal(held[n], fresh[n])] == []
    assert not any("lm_head" in n for n in held)


@pytest.mark.slow
def test_no_adapter_means_no_peft(
    paths: CaptionPaths, encoder: MultimodalEncoder, tmp_path: Path, monkeypatch: Any
) -> None:
    import sys

    monkeypatch.setitem(sys.modules, "peft", None)
    folder = run(paths, tmp_path, replace(TINY, rank=0, steps=1))
    assert folder is not None
    assert not (folder / "adapter").exists()
    found = load_captioner(
        folder, encoder_decoder=encoder, base=paths.llm, attention=sdpa_attention()
    )
    assert isinstance(found, LlmCaptioner)


def test_texts_are_instruction_caption_end_and_filling() -> None:
    words = tokenizer()
    found = caption_tokens(words, "describe", ["a red dress", "a"], 8)
    asked = words("describe")["input_ids"]
    caption = words("a red dress", add_special_tokens=False)["input_ids"]
    assert found.ids[0].tolist() == [*asked, *caption, 2]
    assert found.labels[0].tolist() == [IGNORED] * len(asked) + [*caption, 2]
    assert found.labels[1].tolist() == [IGNORED] * len(asked) + [caption[0], 2] + [IGNORED] * 2
    assert found.mask[1].tolist() == [1] * (len(asked) + 2) + [0] * 2
    assert found.learned == 6
    cut = caption_tokens(words, "describe", ["a red dress"], 2)
    assert cut.labels[0].tolist()[-2:] == caption[:2]  # a cut caption has no end to learn
    words.eos_token = None
    with pytest.raises(InputError, match="no end token"):
        caption_tokens(words, "describe", ["a"], 8)


@pytest.mark.slow
def test_the_prefix_knows_nothing_of_the_caption(
    paths: CaptionPaths, encoder: MultimodalEncoder
) -> None:
    records = read_phase1(paths.data)
    changed = [replace(r, captions=("white skirt with long sleeves",)) for r in records]
    batches = [
        CaptionSource(rows, paths.data, encoder, tokenizer(), TINY).batch(0, step_generator(3, 0))
        for rows in (records, changed)
    ]
    assert torch.equal(batches[0].queries, batches[1].queries)
    assert not torch.equal(batches[0].tokens.ids, batches[1].tokens.ids)
    assert batches[0].queries.shape[1] == encoder.tokens_per_image  # no text position among them


@pytest.mark.slow
def test_loss_is_the_mean_surprise_of_caption_and_end(paths: CaptionPaths) -> None:
    """Against one token after another."""
    llm = load_language_model(paths.llm, Placement(sdpa_attention()))
    network = make_network(llm, 32, replace(TINY, rank=0)).eval()
    tokens = caption_tokens(tokenizer(), "describe", ["a red dress", "a"], 8)
    queries = torch.randn(2, 3, 32, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        found = CaptionObjective(network)(queries, tokens.ids, tokens.mask, tokens.labels)
        wanted = 0.0
        for row in range(2):
            length = int(tokens.mask[row].sum())
            ids = tokens.ids[row : row + 1, :length]
            logits: Any = llm.model(inputs_embeds=network(queries[row : row + 1], ids)).logits[0]
            for place in range(length):
                if tokens.labels[row, place] != IGNORED:
                    seen = logits[3 + place - 1].log_softmax(dim=-1)
                    wanted -= float(seen[ids[0, place]])
    assert float(found) == pytest.approx(wanted, rel=1e-4)


@pytest.mark.slow
def test_micro_batches_change_no_step(paths: CaptionPaths, tmp_path: Path) -> None:
    seen: dict[int, list[Progress]] = {1: [], 4: []}
    plain = replace(TINY, dropout=0.0, steps=2)
    for size, progress in seen.items():
        run(
            paths,
            tmp_path / str(size),
            replace(plain, micro_batch=size),
            on_progress=progress.append,
        )
    one, four = ([p.losses["lm"] for p in seen[size]] for size in (1, 4))
    assert one == pytest.approx(four, rel=1e-4)


@pytest.mark.slow
def test_loss_falls(paths: CaptionPaths, tmp_path: Path) -> None:
    seen: list[float] = []
    config = replace(TINY, steps=30, batch_size=6, micro_batch=6, save_every=100)
    run(paths, tmp_path, config, on_progress=lambda p: seen.append(p.losses["lm"]))
    assert sum(seen[-3:]) < 0.7 * sum(seen[:3])


@pytest.mark.slow
def test_another_run_in_the_same_folder_is_refused(paths: CaptionPaths, tmp_path: Path) -> None:
    run(paths, tmp_path, stop_after=2)
    with pytest.raises(CheckpointError, match="it holds a run with other rank"):
        run(paths, tmp_path, replace(TINY, rank=3))
    other = llama_folder(tmp_path / "other", seed=1)
    with pytest.raises(CheckpointError, match="it holds a run with other llm"):
        run(replace(paths, llm=other), tmp_path)


def test_config_file_is_read_and_checked(tmp_path: Path) -> None:
    path = tmp_path / "c.json"
    path.write_text('{"rank": 4, "optim": {"learning_rate": 1e-3}}')
    config = read_caption_config(path)
    assert (config.rank, config.optim.learning_rate, config.optim.warmup_share) == (4, 1e-3, 0.03)
    assert CaptionConfig.from_dict(json.loads(json.dumps(config.to_dict()))) == config
    defaults = read_caption_config(None)
    assert (defaults.rank, defaults.alpha, defaults.dropout) == (128, 256, 0.05)
    for text, wrong in (
        ('{"ranks": 4}', "ranks"),
        ("{", "can't be read"),
        ("[]", "no JSON object"),
    ):
        path.write_text(text)
        with pytest.raises(InputError, match=wrong):
            read_caption_config(path)
    with pytest.raises(InputError, match="batch_size 0"):
        CaptionConfig(batch_size=0)

"""The Q-Former's language model as a captioner: our folder, the paper's layout, adapters."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from caption_model_samples import WIDTH, llama_folder, picture, tokenizer
from encoder_samples import hugging_face_folder, only, tiny_config, tiny_state, write_torch
from safetensors.torch import load_file, save_file
from torch import nn

from unifashion_core.attention import (
    math_attention,
    register_with_transformers,
    sdpa_attention,
)
from unifashion_core.caption.adapters import read_adapter
from unifashion_core.caption.llm import LlmCaptioner, instruction_ids, query_outputs
from unifashion_core.caption.llm_folder import Placement, load_language_model
from unifashion_core.caption.loading import (
    CaptionerFiles,
    load_captioner,
    recognise_captioner,
    save_llm_captioner,
)
from unifashion_core.caption.prompts import INSTRUCTIONS, PAPER_LLM
from unifashion_core.encoder.checkpoint import load_encoder
from unifashion_core.encoder.encoder import MultimodalEncoder
from unifashion_core.errors import AbilityError, BackendError, CheckpointError, InputError
from unifashion_core.types import Captioner

pytestmark = pytest.mark.usefixtures("_offline")
HIDDEN, RANK = 32, 2  # the tiny encoder's Q-Former width; rank of the adapters here
QUICK = PAPER_LLM.changed(beams=2, max_tokens=5)


@pytest.fixture(scope="module")
def _offline() -> Any:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("HF_HUB_OFFLINE", "1")
        yield


@pytest.fixture(scope="module")
def encoder(tmp_path_factory: pytest.TempPathFactory) -> MultimodalEncoder:
    config = tiny_config()
    folder = write_torch(tmp_path_factory.mktemp("encoder"), tiny_state(config), config)
    found = load_encoder(folder, attention=sdpa_attention())
    assert isinstance(found, MultimodalEncoder)
    return found


@pytest.fixture(scope="module")
def shelf(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A models folder with a language model in it."""
    root = tmp_path_factory.mktemp("models")
    llama_folder(root / "tiny-llama")
    return root


def projection() -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(5)
    return {
        "llm_proj.weight": torch.randn(WIDTH, HIDDEN, generator=generator),
        "llm_proj.bias": torch.randn(WIDTH, generator=generator),
    }


LAYERS = ("self_attn.q_proj", "self_attn.v_proj", "mlp.down_proj")


def adapter_tensors(llm: Path, seed: int = 7) -> dict[str, torch.Tensor]:
    """Pairs for some layers of a LLaMA, under peft's names."""
    generator = torch.Generator().manual_seed(seed)
    held, made = load_file(llm / "model.safetensors"), {}
    for layer in ("model.layers.0", "model.layers.1"):
        for name in LAYERS:
            rows, columns = held[f"{layer}.{name}.weight"].shape
            stem = f"base_model.model.{layer}.{name}"
            made[f"{stem}.lora_A.weight"] = torch.randn(RANK, columns, generator=generator)
            made[f"{stem}.lora_B.weight"] = torch.randn(rows, RANK, generator=generator)
    return made


def write_adapter(folder: Path, tensors: dict[str, torch.Tensor], **settings: Any) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    save_file(tensors, folder / "adapter_model.safetensors")
    values = {
        "peft_type": "LORA",
        "base_model_name_or_path": "someone/tiny-llama",
        "r": RANK,
        "lora_alpha": 4,
        "target_modules": ["q_proj", "v_proj", "down_proj"],
        **settings,
    }
    (folder / "adapter_config.json").write_text(json.dumps(values))
    return folder


def paper_run(shelf: Path, state: dict[str, torch.Tensor] | None = None, name: str = "run") -> Path:
    """saved_models/none_lora_0.pt with the flat names, the adapter in the run's folder."""
    run = write_adapter(shelf / name, adapter_tensors(shelf / "tiny-llama"))
    (run / "saved_models").mkdir(exist_ok=True)
    flat = {**(state or {}), **projection(), "llm_query_tokens": torch.zeros(1, 2, WIDTH)}
    torch.save(flat, run / "saved_models" / "none_lora_0.pt")
    return run


def load(path: Path, encoder: Any = None, **changes: Any) -> LlmCaptioner:
    found = load_captioner(
        path, encoder_decoder=encoder, attention=math_attention(), settings=QUICK, **changes
    )
    assert isinstance(found, LlmCaptioner)
    return found


@pytest.fixture(scope="module")
def paper(shelf: Path, encoder: MultimodalEncoder) -> LlmCaptioner:
    return load(paper_run(shelf), encoder)


def llm_of(captioner: LlmCaptioner) -> Any:
    """Its language model, untyped as transformers' classes are."""
    return captioner.network.llm


def merged_by_hand(llm: Path) -> dict[str, torch.Tensor]:
    """W + alpha / r * B A, in numbers of their own."""
    weights, pairs = load_file(llm / "model.safetensors"), adapter_tensors(llm)
    for name, a in pairs.items():
        if name.endswith("lora_A.weight"):
            target = name.removeprefix("base_model.model.").replace("lora_A.weight", "weight")
            weights[target] = weights[target] + 4 / RANK * pairs[name.replace("_A", "_B")] @ a
    return weights


def test_paper_layout_has_the_logits_of_hand_merged_weights(
    shelf: Path, paper: LlmCaptioner
) -> None:
    from transformers import LlamaForCausalLM

    oracle = LlamaForCausalLM.from_pretrained(
        shelf / "tiny-llama", attn_implementation="eager"
    ).eval()
    plain = torch.arange(4, 10)[None]
    with torch.inference_mode():
        unmerged = oracle(plain).logits
        oracle.load_state_dict(merged_by_hand(shelf / "tiny-llama"))
        wanted = oracle(plain).logits
        found = llm_of(paper)(plain).logits
    torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-4)
    assert (wanted - unmerged).abs().max() > 0.1


def slow_greedy(captioner: LlmCaptioner, image: Any, steps: int) -> list[int]:
    """No cache, no library: the whole sequence through the network at every token."""
    proj, llm = captioner.network.llm_proj, llm_of(captioner)
    states = query_outputs(captioner.encoder, [image])[0] @ proj.weight.T + proj.bias
    words = tokenizer()(captioner.prompt)["input_ids"]
    sequence = torch.cat([states, llm.get_input_embeddings()(torch.tensor(words))])
    found: list[int] = []
    for _ in range(steps):
        logits = llm(inputs_embeds=sequence[None]).logits[0, -1]
        if not found:  # at least one token before the end
            logits[2] = -torch.inf
        found.append(int(logits.argmax()))
        if found[-1] == 2:
            break
        embedded = llm.get_input_embeddings()(torch.tensor(found[-1:]))
        sequence = torch.cat([sequence, embedded])
    return found


@torch.inference_mode()
def test_a_caption_is_what_the_prefixed_model_continues(paper: LlmCaptioner) -> None:
    settings = QUICK.changed(strategy="greedy", repetition_penalty=1.0, max_tokens=8)
    captioner = paper.changed(settings=settings)
    images = [picture(0), picture(1)]
    wanted = [tokenizer().decode(slow_greedy(captioner, i, 8), True) for i in images]
    assert list(captioner.caption(images)) == [" ".join(text.split()) for text in wanted]


def test_batches_change_no_caption(paper: LlmCaptioner) -> None:
    images = [picture(i) for i in range(5)]
    whole = paper.changed(batch_size=5).caption(images)
    assert len(set(whole)) > 1
    assert paper.changed(batch_size=2).caption(images) == whole
    assert tuple(paper.caption([i])[0] for i in images) == whole


def test_it_satisfies_the_protocol_and_its_fingerprint_follows_settings(
    paper: LlmCaptioner, shelf: Path, encoder: MultimodalEncoder
) -> None:
    assert isinstance(paper, Captioner)
    assert paper.abilities == {"caption"}
    assert load(shelf / "run", encoder).fingerprint == paper.fingerprint
    assert paper.changed(prompt="Describe.").fingerprint != paper.fingerprint
    assert paper.changed(settings=PAPER_LLM).fingerprint != paper.fingerprint
    with pytest.raises(AbilityError, match="it writes captions only"):
        paper.describe([picture()])


def test_defaults_are_the_papers(shelf: Path, encoder: MultimodalEncoder) -> None:
    found = load_captioner(shelf / "run", encoder_decoder=encoder, attention=sdpa_attention())
    s = found.settings
    assert (s.strategy, s.beams, s.min_tokens, s.max_tokens) == ("beam", 5, 1, 256)
    assert (s.repetition_penalty, s.length_penalty) == (1.5, 1.0)
    assert found.prompt == INSTRUCTIONS[0]
    assert len(set(INSTRUCTIONS)) == 12


class Stop(Exception):
    pass


def test_progress_comes_with_every_token_and_stops_within_one(paper: LlmCaptioner) -> None:
    seen: list[tuple[int, int]] = []
    captioner = paper.changed(batch_size=2)
    captioner.caption([picture(i) for i in range(3)], on_step=lambda *at: seen.append(at))
    assert seen[0] == (0, 15)
    assert seen[-1] == (15, 15)
    assert [done for done, _ in seen] == sorted(done for done, _ in seen)
    assert len(seen) >= 6

    asked = len(seen)
    seen.clear()

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if len(seen) == 3:
            raise Stop

    with pytest.raises(Stop):
        captioner.caption([picture(i) for i in range(3)], on_step=stop)
    assert len(seen) == 3 < asked


def test_nucleus_draws_by_the_seed_and_not_by_the_batch(paper: LlmCaptioner) -> None:
    captioner = paper.changed(settings=QUICK.changed(strategy="nucleus", max_tokens=8))
    images = [picture(0), picture(1)]
    state = torch.get_rng_state()
    first = captioner.caption(images, seed=3)
    assert torch.equal(torch.get_rng_state(), state)
    assert captioner.caption(images, seed=3) == first
    assert captioner.caption(images[1:], seed=3) == first[1:]
    assert captioner.caption(images, seed=4) != first


def starve(module: nn.Module, at_most: int) -> Any:
    """Ask for memory that no machine has when a batch is larger."""

    def hook(_: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        given = kwargs.get("inputs_embeds")
        if len(kwargs["input_ids"] if given is None else given) > at_most:
            torch.empty(1 << 58)

    return module.register_forward_pre_hook(hook, with_kwargs=True)


def test_memory_that_runs_out_halves_the_batch_then_names_the_setting(
    paper: LlmCaptioner,
) -> None:
    captioner = paper.changed(settings=QUICK.changed(strategy="greedy"), batch_size=4)
    images = [picture(i) for i in range(4)]
    wanted = captioner.caption(images)
    hook = starve(llm_of(captioner).model, at_most=1)
    try:
        assert captioner.caption(images) == wanted
    finally:
        hook.remove()
    hook = starve(llm_of(captioner).model, at_most=0)
    try:
        with pytest.raises(BackendError, match="out of memory with one image.*batch_size"):
            captioner.caption(images)
    finally:
        hook.remove()


def test_half_precision_weights_caption(shelf: Path, encoder: MultimodalEncoder) -> None:
    captioner = load(shelf / "run", encoder, dtype=torch.bfloat16)
    kinds = {p.dtype for m in captioner.modules.values() for p in m.parameters()}
    assert kinds == {torch.bfloat16}
    assert len(captioner.caption([picture()])) == 1
    assert captioner.activation_bytes(1) > 0


@pytest.fixture(scope="module")
def own(shelf: Path, encoder: MultimodalEncoder, paper: LlmCaptioner) -> Path:
    """A folder of ours, as training writes it, without an adapter."""
    digest = str(paper.identity).split("+")[1]
    files = CaptionerFiles("tiny-llama", encoder.fingerprint, digest, "Describe.")
    save_llm_captioner(shelf / "ours", paper.network.llm_proj, None, files)
    return shelf / "ours"


def test_our_folder_loads_and_names_no_path(
    own: Path, shelf: Path, encoder: MultimodalEncoder, paper: LlmCaptioner
) -> None:
    assert recognise_captioner(own) == "own"
    found = load(own, encoder)
    assert found.prompt == "Describe."
    assert torch.equal(found.network.llm_proj.weight, paper.network.llm_proj.weight)
    texts = "".join(p.read_text("utf-8") for p in own.rglob("*.json"))
    assert str(shelf) not in texts


def test_another_encoder_is_refused(own: Path, tmp_path: Path) -> None:
    other = hugging_face_folder(tmp_path, tiny_state(tiny_config(), seed=9))
    strange = load_encoder(other, attention=sdpa_attention(), bert_vocabulary=other / "vocab.txt")
    with pytest.raises(CheckpointError, match="trained with encoder .{8}, connected is .{8}"):
        load(own, strange)


def test_another_language_model_of_the_same_name_is_refused(
    own: Path, encoder: MultimodalEncoder, tmp_path: Path
) -> None:
    llama_folder(tmp_path / "tiny-llama", seed=1)
    with pytest.raises(CheckpointError, match="is not the one that it was trained with"):
        load(own, encoder, base=tmp_path / "tiny-llama")


def test_paper_file_with_another_q_former_is_refused(
    shelf: Path, encoder: MultimodalEncoder
) -> None:
    state = tiny_state(tiny_config(), seed=0)
    same = paper_run(shelf, only(state, "query_tokens"), "same")
    assert load(same, encoder).caption([picture()])
    other = {"query_tokens": state["query_tokens"] + 1}
    with pytest.raises(CheckpointError, match="another Q-Former than the connected"):
        load(paper_run(shelf, other, "other"), encoder)


def test_the_file_itself_may_be_given(
    shelf: Path, encoder: MultimodalEncoder, paper: LlmCaptioner
) -> None:
    found = load(shelf / "run" / "saved_models" / "none_lora_0.pt", encoder)
    images = [picture(0), picture(1)]
    assert found.caption(images) == paper.caption(images)


def test_no_encoder_and_no_language_model_are_errors(
    shelf: Path, encoder: MultimodalEncoder, tmp_path: Path
) -> None:
    with pytest.raises(AbilityError, match="Connect the encoder"):
        load(shelf / "run")
    alone = tmp_path / "run"
    shutil.copytree(shelf / "run", alone)
    with pytest.raises(CheckpointError, match="language model 'tiny-llama' was not found"):
        load(alone, encoder)
    assert load(alone, encoder, base=shelf / "tiny-llama").caption([picture()])


def test_width_that_does_not_fit_is_an_error(
    shelf: Path, encoder: MultimodalEncoder, tmp_path: Path
) -> None:
    llama_folder(tmp_path / "wide", width=64)
    with pytest.raises(CheckpointError, match="makes vectors of 32, language model 'wide' reads"):
        load(shelf / "run", encoder, base=tmp_path / "wide")
    narrow = tmp_path / "narrow"
    shutil.copytree(shelf / "run", narrow)
    torch.save(
        {"llm_proj.weight": torch.zeros(WIDTH, 8), "llm_proj.bias": torch.zeros(WIDTH)},
        narrow / "saved_models" / "none_lora_0.pt",
    )
    found = load(narrow, encoder, base=shelf / "tiny-llama")
    with pytest.raises(CheckpointError, match="reads vectors of 8, the encoder gives 32"):
        found.caption([picture()])


def test_folder_without_tokenizer_is_an_error(
    shelf: Path, encoder: MultimodalEncoder, tmp_path: Path
) -> None:
    mute = tmp_path / "mute"
    shutil.copytree(shelf / "tiny-llama", mute)
    for file in mute.glob("tokenizer*"):
        file.unlink()
    with pytest.raises(CheckpointError, match="mute: no tokenizer in it"):
        load(shelf / "run", encoder, base=mute)


def test_tokenizer_with_more_words_than_the_model_is_an_error(
    shelf: Path, encoder: MultimodalEncoder, tmp_path: Path
) -> None:
    odd = tmp_path / "odd"
    shutil.copytree(shelf / "tiny-llama", odd)
    tokenizer("<one>", "<two>").save_pretrained(odd)
    with pytest.raises(CheckpointError, match="its embeddings 54 rows|its tokenizer has"):
        load(shelf / "run", encoder, base=odd)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ("other layer", "layers do not fit this model.*trained on 'tiny-llama'"),
        ("other width", "layers do not fit this model"),
        ("half", "half of a pair is missing"),
        ("no lora", "are no LoRA weights"),
        ("dora", "use_dora are not supported"),
        ("nan", "holds values that are no numbers"),
    ],
)
def test_adapter_that_would_be_left_out_in_part_is_an_error(
    shelf: Path, encoder: MultimodalEncoder, tmp_path: Path, change: str, text: str
) -> None:
    tensors = adapter_tensors(shelf / "tiny-llama")
    first = "base_model.model.model.layers.0.self_attn.q_proj.lora_A.weight"
    settings: dict[str, Any] = {}
    if change == "other layer":
        tensors = {k.replace("layers.1.", "layers.9."): v for k, v in tensors.items()}
    elif change == "other width":
        tensors[first] = torch.zeros(RANK, 16)
    elif change == "half":
        del tensors[first]
    elif change == "no lora":
        tensors["base_model.model.lm_head.weight"] = torch.zeros(2)
    elif change == "nan":
        tensors[first] = torch.full((RANK, WIDTH), torch.nan)
    else:
        settings["use_dora"] = True
    run = tmp_path / "run"
    shutil.copytree(shelf / "run", run)
    write_adapter(run, tensors, **settings)
    with pytest.raises(CheckpointError, match=text):
        load(run, encoder, base=shelf / "tiny-llama")


def test_ranks_and_scales_of_single_layers_are_kept(
    shelf: Path, encoder: MultimodalEncoder, tmp_path: Path
) -> None:
    tensors = adapter_tensors(shelf / "tiny-llama")
    stem = "base_model.model.model.layers.0.self_attn.q_proj"
    generator = torch.Generator().manual_seed(1)
    a = torch.randn(5, WIDTH, generator=generator)
    b = torch.randn(WIDTH, 5, generator=generator)
    tensors[f"{stem}.lora_A.weight"], tensors[f"{stem}.lora_B.weight"] = a, b
    run = tmp_path / "run"
    shutil.copytree(shelf / "run", run)
    layer = "model.layers.0.self_attn.q_proj"
    write_adapter(run, tensors, rank_pattern={layer: 5}, alpha_pattern={layer: 10})
    found = load(run, encoder, base=shelf / "tiny-llama")
    plain = load_file(shelf / "tiny-llama" / "model.safetensors")[f"{layer}.weight"]
    weight = dict(found.network.llm.named_parameters())[f"{layer}.weight"]
    torch.testing.assert_close(weight, plain + 10 / 5 * b @ a)


def test_adapter_names_its_base_by_the_last_part(shelf: Path) -> None:
    adapter = read_adapter(shelf / "run")
    assert adapter.base == "tiny-llama"
    assert len(adapter.layers) == 6


def test_paths_that_are_no_captioner_say_what_they_are(shelf: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="model_type 'llama' sees no pictures"):
        recognise_captioner(shelf / "tiny-llama")
    (tmp_path / "config.json").write_text('{"qformer": {}, "tower": {}}')
    with pytest.raises(CheckpointError, match="it is an encoder"):
        recognise_captioner(tmp_path)


def test_capped_scores_are_left_to_transformers_own_attention(tmp_path: Path) -> None:
    """Gemma 2 caps its attention scores, which the dispatcher can't: its logits must still hold."""
    from transformers import AutoModelForCausalLM, Gemma2Config, Gemma2ForCausalLM

    words = tokenizer()
    torch.manual_seed(0)
    config = Gemma2Config(
        vocab_size=len(words),
        hidden_size=WIDTH,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        num_key_value_heads=2,
        head_dim=8,
        attn_logit_softcapping=0.5,
        initializer_range=0.5,
    )
    Gemma2ForCausalLM(config).save_pretrained(tmp_path)
    words.save_pretrained(tmp_path)
    ours = load_language_model(tmp_path, Placement(sdpa_attention())).model
    oracle: Any = AutoModelForCausalLM.from_pretrained(tmp_path, attn_implementation="eager")
    routed: Any = AutoModelForCausalLM.from_pretrained(
        tmp_path, attn_implementation=register_with_transformers(math_attention())
    )
    ids = torch.arange(4, 12)[None]
    with torch.inference_mode():
        torch.testing.assert_close(ours(ids).logits, oracle.eval()(ids).logits)
        with pytest.raises(BackendError, match="wants softcap, which it can't compute"):
            routed(ids)


def test_repeat_words_is_for_q_formers_alone(paper: LlmCaptioner) -> None:
    with pytest.raises(InputError, match="repetition_penalty"):
        paper.changed(settings=QUICK.changed(repeat_words=False))


def test_an_instruction_ends_without_an_end_token() -> None:
    words = tokenizer()
    ids = instruction_ids(words, "describe this garment </s>")
    assert ids[0, 0] == 1
    assert 2 not in ids

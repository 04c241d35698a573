"""CLIP and SigLIP folders give one vector an image and a text, with every attention, and nothing
that joins the two.
"""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from torch import Tensor

from unifashion_core.attention import AttentionBackend, math_attention, sdpa_attention
from unifashion_core.encoder.checkpoint import Placement, load_encoder, open_encoder
from unifashion_core.encoder.dual import DualEncoder, load_dual
from unifashion_core.errors import AbilityError, CheckpointError, InputError, ShapeError
from unifashion_core.types import ImageEncoder, PairScorer, TextEncoder

pytestmark = pytest.mark.image_processors

SIDE: dict[str, Any] = {"hidden_size": 32, "intermediate_size": 48, "num_hidden_layers": 2}
SIDE["num_attention_heads"] = 4
TEXTS = ["a red dress", "red", "a long blue shirt with red sleeves"]


def byte_letters() -> list[str]:
    """The 256 letters of a byte-level BPE."""
    return sorted(pre_tokenizers.ByteLevel.alphabet())


def clip_folder(folder: Path, *, legacy: bool = False) -> Path:
    """As FashionCLIP's: vocab.json and merges.txt, and with `legacy` its wrong eos_token_id 2."""
    from transformers import CLIPConfig, CLIPImageProcessor, CLIPModel

    letters = byte_letters()
    words = [*letters, *(c + "</w>" for c in letters), "re", "red</w>"]
    words += ["<|startoftext|>", "<|endoftext|>"]
    end = len(words) - 1
    text = {**SIDE, "vocab_size": len(words), "max_position_embeddings": 16}
    text |= {"bos_token_id": end - 1, "eos_token_id": 2 if legacy else end, "pad_token_id": end}
    vision = {**SIDE, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    config = CLIPConfig(text_config=text, vision_config=vision, projection_dim=24)
    spread(CLIPModel(config)).save_pretrained(folder)
    (folder / "vocab.json").write_text(json.dumps({w: i for i, w in enumerate(words)}))
    (folder / "merges.txt").write_text("#version: 0.2\nr e\nre d</w>\n")
    special = {"bos_token": "<|startoftext|>", "eos_token": "<|endoftext|>"}
    special |= {"unk_token": "<|endoftext|>", "pad_token": "<|endoftext|>"}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "CLIPTokenizer", **special})
    picture = {"size": {"shortest_edge": 16}, "crop_size": {"height": 16, "width": 16}}
    write_json(
        folder / "preprocessor_config.json",
        {**picture, "image_processor_type": CLIPImageProcessor.__name__.removesuffix("Pil")},
    )
    return folder


def siglip_folder(folder: Path) -> Path:
    from transformers import SiglipConfig, SiglipModel

    words = ["<pad>", "</s>", "<unk>"]
    words += ["▁" + w for w in "red blue dress shirt long with sleeves a".split()]  # noqa: SIM905
    tokenizer: Any = Tokenizer(models.Unigram([(w, -float(i)) for i, w in enumerate(words)], 2))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", special_tokens=[("</s>", 1)]
    )
    tokenizer.enable_truncation(3)  # files bake such settings in; they must not act
    folder.mkdir(exist_ok=True)
    tokenizer.save(str(folder / "tokenizer.json"))
    special = {"eos_token": "</s>", "unk_token": "<unk>", "pad_token": {"content": "</s>"}}
    write_json(folder / "tokenizer_config.json", {"tokenizer_class": "SiglipTokenizer", **special})
    text = {**SIDE, "vocab_size": len(words), "max_position_embeddings": 64}
    vision = {**SIDE, "image_size": 16, "patch_size": 8}
    torch.manual_seed(0)
    config = SiglipConfig(text_config={**text, "projection_size": 32}, vision_config=vision)
    spread(SiglipModel(config)).save_pretrained(folder)
    write_json(
        folder / "preprocessor_config.json",
        {
            "size": {"height": 16, "width": 16},
            "image_processor_type": "SiglipImageProcessor",
            "image_mean": [0.5, 0.5, 0.5],
            "image_std": [0.5, 0.5, 0.5],
        },
    )
    return folder


def spread(model: Any) -> Any:
    """Larger weights than a fresh model's, so that attention is far from uniform."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.ndim > 1:
                parameter.normal_(0, 0.3)
            if "logit" in name:
                parameter.fill_(1.0)
    return model


def write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value), encoding="utf-8")


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    root = tmp_path_factory.mktemp("dual")
    return {"clip": clip_folder(root / "clip"), "siglip": siglip_folder(root / "siglip")}


def load(folder: Path, attention: AttentionBackend | None = None) -> DualEncoder:
    encoder = load_encoder(folder, attention=attention or math_attention())
    assert isinstance(encoder, DualEncoder)
    return encoder


def picture(encoder: DualEncoder, value: int = 90) -> Tensor:
    image = Image.linear_gradient("L").resize((40, 30)).convert("RGB")
    image.putpixel((3, 4), (value, 0, 0))
    return encoder.preprocess(image)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_it_is_an_encoder_of_one_vector(folders: dict[str, Path], kind: str) -> None:
    encoder = load(folders[kind])
    assert isinstance(encoder, ImageEncoder)
    assert isinstance(encoder, TextEncoder)
    assert isinstance(encoder, PairScorer)
    assert encoder.tokens_per_image == 1
    assert encoder.input_size == 16
    assert encoder.width == {"clip": 24, "siglip": 32}[kind]
    found = encoder.encode_pixels(torch.stack([picture(encoder), picture(encoder, 3)]))
    assert tuple(found.tokens.shape) == (2, 1, encoder.width)
    assert found.tokens.dtype == torch.float32
    torch.testing.assert_close(found.tokens.norm(dim=-1), torch.ones(2, 1))
    texts = encoder.encode_texts(TEXTS)
    assert tuple(texts.vectors.shape) == (3, encoder.width)
    torch.testing.assert_close(texts.vectors.norm(dim=-1), torch.ones(3))


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_it_equals_transformers_own_computation(folders: dict[str, Path], kind: str) -> None:
    from transformers import AutoModel

    encoder = load(folders[kind])
    model = AutoModel.from_pretrained(folders[kind], attn_implementation="eager").eval()
    batch = encoder.text.encode(TEXTS)
    inputs: dict[str, Tensor] = {"input_ids": batch.ids}
    if kind == "clip":
        inputs["attention_mask"] = batch.mask
    with torch.no_grad():
        wanted = model.get_text_features(**inputs)
        image = model.get_image_features(pixel_values=picture(encoder))
    wanted, image = (getattr(o, "pooler_output", o) for o in (wanted, image))
    unit = torch.nn.functional.normalize
    torch.testing.assert_close(encoder.encode_texts(TEXTS).vectors, unit(wanted, dim=-1))
    found = encoder.encode_pixels(picture(encoder)[None]).tokens[0]
    torch.testing.assert_close(found, unit(image, dim=-1))


def _text_states(encoder: DualEncoder, inputs: dict[str, Tensor]) -> Tensor:
    model: Any = encoder.model
    return model.text_model(**inputs).last_hidden_state


def backends() -> list[AttentionBackend]:
    def host(q: Tensor, k: Tensor, v: Tensor, heads: int, mask: Tensor | None, **_: Any) -> Tensor:
        return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)

    from unifashion_core.attention import choose_attention

    return [sdpa_attention(), choose_attention("host", host_function=host)]


@pytest.mark.parametrize("kind", ["clip", "siglip"])
@pytest.mark.parametrize("backend", backends(), ids=lambda b: b.name)
def test_every_attention_equals_math_on_padded_text(
    folders: dict[str, Path], kind: str, backend: AttentionBackend
) -> None:
    wanted, other = load(folders[kind]), load(folders[kind], backend)
    ids = wanted.text.encode(TEXTS).ids
    mask = torch.ones_like(ids)
    mask[0, :2] = 0  # on the left, where even a causal model would see the filling
    for inputs in ({"input_ids": ids}, {"input_ids": ids, "attention_mask": mask}):
        with torch.no_grad():
            a, b = (_text_states(e, inputs) for e in (wanted, other))
        torch.testing.assert_close(a[:, 2:], b[:, 2:], rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_padding_mask_reaches_the_attention(folders: dict[str, Path], kind: str) -> None:
    encoder = load(folders[kind])
    ids = encoder.text.encode(TEXTS[2:]).ids[:, :8]
    mask = torch.ones_like(ids)
    mask[:, 0] = 0
    changed = ids.clone()
    changed[:, 0] = 5
    model: Any = encoder.model.text_model
    with torch.no_grad():
        a = model(input_ids=ids, attention_mask=mask).last_hidden_state
        b = model(input_ids=changed, attention_mask=mask).last_hidden_state
        c = model(input_ids=changed).last_hidden_state
    torch.testing.assert_close(a[:, 1:], b[:, 1:])
    assert not torch.allclose(a[:, 1:], c[:, 1:], atol=1e-3)


@pytest.mark.parametrize(("kind", "calls"), [("clip", 4), ("siglip", 5)])
def test_every_layer_goes_through_the_dispatcher(
    folders: dict[str, Path], kind: str, calls: int
) -> None:
    seen: list[tuple[int, ...]] = []
    plain = math_attention()

    def run(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
        seen.append(tuple(q.shape))
        return plain.run(q, k, v, bias, dropout)

    encoder = load(folders[kind], AttentionBackend("math", run))
    encoder.encode_pixels(picture(encoder)[None])
    encoder.encode_texts(["a red dress"])
    # two layers a side; SigLIP's pooling head, which transformers routes nowhere, is the fifth
    assert len(seen) == calls


def test_clip_text_alone_equals_text_in_a_batch(folders: dict[str, Path]) -> None:
    encoder = load(folders["clip"])
    together = encoder.encode_texts(TEXTS).vectors
    alone = torch.cat([encoder.encode_texts([t]).vectors for t in TEXTS])
    torch.testing.assert_close(together, alone, rtol=1e-5, atol=1e-5)


def test_clip_pools_at_the_end_token_in_old_configs_too(
    folders: dict[str, Path], tmp_path: Path
) -> None:
    legacy = load(clip_folder(tmp_path / "legacy", legacy=True))
    wanted = load(folders["clip"]).encode_texts(TEXTS).vectors
    torch.testing.assert_close(legacy.encode_texts(TEXTS).vectors, wanted)


def test_clip_tokenizer_of_another_model_is_refused(tmp_path: Path) -> None:
    path = clip_folder(tmp_path / "m")
    data = json.loads((path / "config.json").read_text())
    data["text_config"]["eos_token_id"] = 7
    write_json(path / "config.json", data)
    with pytest.raises(CheckpointError, match="the model looks for 7"):
        load(path)


def test_siglip_texts_are_filled_to_64_and_read_without_mask(folders: dict[str, Path]) -> None:
    encoder = load(folders["siglip"])
    batch = encoder.text.encode(["A Red dress!"])
    assert tuple(batch.ids.shape) == (1, 64)
    assert batch.ids[0, :4].tolist() == [10, 3, 5, 1]  # lower-cased, without punctuation
    assert set(batch.ids[0, 4:].tolist()) == {1}
    assert batch.truncated == (False,)


@pytest.mark.parametrize(("kind", "length"), [("clip", 16), ("siglip", 64)])
def test_long_texts_are_cut_and_said(folders: dict[str, Path], kind: str, length: int) -> None:
    encoder = load(folders[kind])
    batch = encoder.text.encode(["red dress " * 100, "red"])
    assert batch.truncated == (True, False)
    assert batch.ids.shape[1] == length
    assert batch.ids[0, -1] == encoder.text.encode(["red"]).ids[0, batch.mask[1].sum() - 1]
    assert encoder.encode_texts(["red dress " * 100]).truncated == (True,)


def test_words_that_the_vocabulary_lacks_are_named(folders: dict[str, Path]) -> None:
    encoder = load(folders["siglip"])
    assert encoder.encode_texts(["a red qqq dress"]).unknown_words == (("qqq",),)
    with pytest.raises(InputError, match=r"knows none of its words \(qqq\)"):
        encoder.encode_texts(["qqq"])
    assert load(folders["clip"]).encode_texts(["qqq"]).unknown_words == ((),)


@pytest.mark.parametrize(
    ("texts", "words"), [([], "none was given"), (["  "], "empty"), (["a " * 1001], "1001 words")]
)
def test_bad_texts_are_input_errors(folders: dict[str, Path], texts: list[str], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load(folders["clip"]).encode_texts(texts)


def test_it_has_no_composed_mode_and_no_itm(folders: dict[str, Path]) -> None:
    encoder = load(folders["clip"])
    assert encoder.abilities == {"image", "text"}
    assert "blended 1:1" in encoder.blend_note
    with pytest.raises(AbilityError, match="rerank: encoder 'clip' is a CLIP folder"):
        encoder.score_pairs("red", picture(encoder)[None])
    with pytest.raises(AbilityError, match="can't do 'composed'"):
        encoder.require("composed", "compose query")


def test_views_of_another_size_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(ShapeError, match=r"wanted \(B, 1, 3, 16, 16\)"):
        load(folders["clip"]).encode_pixels(torch.zeros(1, 3, 16, 16))


def test_second_tower_and_query_choice_are_refused(folders: dict[str, Path]) -> None:
    with pytest.raises(InputError, match="Leave the second file and gallery_queries out"):
        load_encoder(folders["clip"], attention=math_attention(), gallery_queries="query")


def test_fingerprint_is_of_weights_and_settings(folders: dict[str, Path], tmp_path: Path) -> None:
    first = load(folders["clip"])
    half = load_dual(folders["clip"], attention=sdpa_attention(), dtype=torch.bfloat16)
    assert half.fingerprint == first.fingerprint
    assert first.fingerprint != load(folders["siglip"]).fingerprint
    path = clip_folder(tmp_path / "clip")
    assert load(path).fingerprint == first.fingerprint
    torch.save(load_file(path / "model.safetensors"), path / "pytorch_model.bin")
    (path / "model.safetensors").unlink()
    assert load(path).fingerprint == first.fingerprint
    data = json.loads((path / "preprocessor_config.json").read_text())
    write_json(path / "preprocessor_config.json", {**data, "do_center_crop": False})
    assert load(path).fingerprint != first.fingerprint


def test_missing_weight_is_not_filled_with_noise(tmp_path: Path) -> None:
    path = clip_folder(tmp_path / "m")
    state = load_file(path / "model.safetensors")
    del state["text_projection.weight"]
    save_file(state, path / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(CheckpointError, match=r"1 weights are missing.*text_projection\.weight"):
        load(path)


def test_weights_that_need_the_repositorys_code_are_refused(tmp_path: Path) -> None:
    code = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}
    write_json(tmp_path / "config.json", {"model_type": "siglip", "auto_map": code})
    (tmp_path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    save_file({"model.visual.trunk.cls": torch.ones(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match="OpenCLIP's layout and need code"):
        load(tmp_path)
    assert not (tmp_path / "ran").exists()


def test_code_beside_readable_weights_is_not_run(tmp_path: Path) -> None:
    path = clip_folder(tmp_path / "m")
    code = {"AutoConfig": "mine.Config", "AutoModel": "mine.Model"}
    data = json.loads((path / "config.json").read_text())
    write_json(path / "config.json", {**data, "auto_map": code})
    (path / "mine.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    assert load(path).abilities == {"image", "text"}
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("preprocessor_config.json", "preprocessor_config.json"),
        ("tokenizer.json", "tokenizer.json"),
    ],
)
def test_missing_parts_are_named(tmp_path: Path, name: str, words: str) -> None:
    path = siglip_folder(tmp_path / "m")
    (path / name).unlink()
    with pytest.raises(CheckpointError, match=words):
        load(path)


def test_report_says_what_it_is(folders: dict[str, Path]) -> None:
    found = open_encoder(folders["siglip"], Placement(math_attention()))
    assert found.report.layout == "SigLIP folder"
    assert found.report.abilities == {"image", "text"}
    assert isinstance(found.encoder, DualEncoder)
    renamed = replace(found.encoder, name="x")
    assert "encoder 'x' has no composed mode" in renamed.blend_note

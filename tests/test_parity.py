"""The parity check: sets of other sizes made by independent code, and every way in which a set may
fail.
"""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from reference.encoder_oracles import Blip2Oracle, random_model, slow_qformer, small_config
from safetensors.torch import load_file, save_file
from torch import Tensor

from unifashion_core.attention import sdpa_attention
from unifashion_core.encoder.config import TowerConfig
from unifashion_core.encoder.model import UniFashionEncoderModel
from unifashion_core.errors import FolderError, InputError
from unifashion_core.evaluation.parity import check_folder
from unifashion_core.evaluation.reference_sets import SetResult, find_sets, kind_of

Tensors = dict[str, Tensor]


def write_set(
    folder: Path, name: str, meta: dict[str, Any], io: Tensors, weights: Tensors | None = None
) -> None:
    (folder / f"{name}_meta.json").write_text(json.dumps(meta))
    save_file({k: v.contiguous() for k, v in io.items()}, folder / f"{name}_io.safetensors")
    if weights is not None:
        whole = {k: v.clone().contiguous() for k, v in weights.items()}
        save_file(whole, folder / f"{name}_weights.safetensors")


def eva_set(folder: Path, name: str, tower: TowerConfig, dtype: torch.dtype) -> None:
    model = random_model(small_config(tower=tower, vision_width=tower.width), seed=8)
    model.to(dtype).float()  # float16-exact values
    pixels = torch.randn(3, 3, tower.image_size, tower.image_size)
    with torch.inference_mode():
        hidden = Blip2Oracle(model).vit(pixels)
    state = model.state_dict()
    weights = {k: v.to(dtype) for k, v in state.items() if k.startswith("visual_encoder.")}
    meta = {
        "image_size": tower.image_size,
        "patch_size": tower.patch_size,
        "hidden": tower.width,
        "layers": tower.layers,
        "heads": tower.heads,
        "mlp_ratio": 4.3637,
        "layer_norm_eps": 1e-6,
    }
    write_set(folder, name, meta, {"pixels": pixels, "hidden": hidden}, weights)


def unit(x: Tensor) -> Tensor:
    return x / x.norm(dim=-1, keepdim=True)


@torch.inference_mode()
def qformer_outputs(model: UniFashionEncoderModel, io: Tensors) -> Tensors:
    """Everything that a Q-Former set holds, by Hugging Face's classes and the slow Q-Former."""
    oracle, s, c = Blip2Oracle(model), model.state_dict(), model.config.qformer
    ids, mask, n = io["input_ids"], io["attention_mask"], c.num_query_tokens
    vision = torch.nn.functional.layer_norm(
        io["vit_hidden"],
        (c.vision_width,),
        s["ln_vision.weight"],
        s["ln_vision.bias"],
        model.config.ln_vision_eps,
    )

    def linear(x: Tensor, name: str) -> Tensor:
        return x @ s[f"{name}.weight"].T + s[f"{name}.bias"]

    image, text = oracle.states(vision, None, None), oracle.states(None, ids, mask)
    fused = oracle.states(vision, ids, mask)
    gallery = unit(linear(image, "vision_proj"))
    text_feat = unit(linear(text[:, 0], "text_proj"))
    composed = unit(linear(fused[:, n], "text_proj"))
    captions = io["decoder_input_ids"]
    logits: list[Tensor] = []
    length = ids.shape[1]
    for i in range(len(ids)):
        allowed = torch.zeros(n + length, n + length, dtype=torch.bool)
        allowed[:, :n] = True
        allowed[n:, n:] = torch.ones(length, length).tril() * mask[i] > 0
        x = slow_qformer(s, c, model.query_tokens[0], captions[i], allowed, vision[i])[n:].float()
        x = torch.nn.functional.gelu(linear(x, "Qformer.cls.predictions.transform.dense"))
        x = torch.nn.functional.layer_norm(
            x,
            (c.hidden,),
            s["Qformer.cls.predictions.transform.LayerNorm.weight"],
            s["Qformer.cls.predictions.transform.LayerNorm.bias"],
            c.layer_norm_eps,
        )
        logits.append(linear(x, "Qformer.cls.predictions.decoder"))
    lm = torch.stack(logits)
    steps: list[Tensor] = []
    for i, j in torch.argwhere(captions[:, 1:] != 0).tolist():
        log = lm[i, j].log_softmax(-1)
        steps.append(-0.9 * log[captions[i, j + 1]] - 0.1 * log.mean())
    return {
        "image_query_states": image,
        "text_states": text,
        "fused_states": fused,
        "gallery_feats": gallery,
        "text_feat": text_feat,
        "composed_feat": composed,
        "scores_text_to_image": torch.einsum("ad,bqd->abq", text_feat, gallery).amax(-1),
        "scores_composed_to_image": torch.einsum("ad,bqd->abq", composed, gallery).amax(-1),
        "itm_logits": linear(fused[:, :n], "itm_head").mean(1),
        "lm_logits": lm,
        "lm_loss": torch.stack(steps).mean(),
    }


def qformer_set(
    folder: Path, name: str, *, bare_meta: bool = False, untied: bool = False, **sizes: Any
) -> None:
    config = small_config(**sizes)
    model = random_model(config, seed=12, groups={"itm", "lm"})
    if untied:
        own = {k: v.clone() for k, v in model.state_dict().items()}
        own["Qformer.cls.predictions.decoder.weight"] *= -0.5
        model.load_state_dict(own)
    c, generator = config.qformer, torch.Generator().manual_seed(3)
    lengths = [9, 5, 2]
    mask = torch.tensor([[1] * n + [0] * (9 - n) for n in lengths])
    ids = torch.randint(5, c.vocab_size, (3, 9), generator=generator) * mask
    ids[:, 0] = 2
    captions = ids.clone()
    captions[:, 0] = 3
    io = {
        "vit_hidden": torch.randn(3, 13, c.vision_width, generator=generator) * 3,
        "input_ids": ids,
        "attention_mask": mask,
        "decoder_input_ids": captions,
    }
    meta: dict[str, Any] = {
        "vocab": c.vocab_size,
        "hidden": c.hidden,
        "layers": c.layers,
        "heads": c.heads,
        "inter": c.intermediate,
        "vis_w": c.vision_width,
        "nq": c.num_query_tokens,
        "embed": c.embed_dim,
    }
    if not bare_meta:
        meta |= {
            "cross_attention_freq": c.cross_attention_freq,
            "layer_norm_eps": c.layer_norm_eps,
            "ln_vision_eps": config.ln_vision_eps,
            "pad_token_id": 0,
        }
    state = model.state_dict()
    weights = {k: v for k, v in state.items() if not k.startswith("visual_encoder.")}
    write_set(folder, name, meta, {**io, **qformer_outputs(model, io)}, weights)


def preprocess_set(folder: Path, name: str, dim: int, ratio: float) -> None:
    """Padding and cropping by array slices; Pillow does the resampling, as it does in the
    reference.
    """
    sizes = [(37, 81), (120, 77), (40, 40), (33, 200), (10, 7)]
    io: Tensors = {}
    generator = np.random.default_rng(2)
    for i, (width, height) in enumerate(sizes):
        array = generator.integers(0, 256, (height, width, 3), dtype=np.uint8)
        io[f"image_{i}"] = torch.tensor(array)
        if max(array.shape[:2]) / min(array.shape[:2]) >= ratio:
            side = max(array.shape[:2]) / ratio
            down, across = (max(int((side - s) / 2), 0) for s in array.shape[:2])
            array = np.pad(array, ((down, down), (across, across), (0, 0)))
        h, w = array.shape[:2]
        new = (dim, int(dim * h / w)) if w <= h else (int(dim * w / h), dim)
        picture = np.asarray(Image.fromarray(array).resize(new, Image.Resampling.BICUBIC))
        top, left = round((new[1] - dim) / 2), round((new[0] - dim) / 2)
        crop = picture[top : top + dim, left : left + dim] / 255
        mean = np.array([0.48145466, 0.4578275, 0.40821073])
        std = np.array([0.26862954, 0.26130258, 0.27577711])
        pixels = torch.tensor((crop - mean) / std).permute(2, 0, 1).float()
        io[f"pixels_{i}"] = pixels
    meta = {
        "dim": dim,
        "target_ratio": ratio,
        "sizes_wh": sizes,
        "caption_processor": [["A  red* dress!\n", "a red dress"], ["Two\ttabs", "two\ttabs"]],
        "fashion_iq_join": [["is RED.", "long?", "Is red and long", "is red and long"]],
    }
    write_set(folder, name, meta, io)


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two sets of each network and one of pictures, none in the sizes of tests/golden."""
    path = tmp_path_factory.mktemp("sets")
    torch.manual_seed(0)
    towers = [
        TowerConfig(image_size=42, patch_size=14, width=48, layers=4, heads=6, mlp_hidden=209),
        TowerConfig(image_size=32, patch_size=16, width=20, layers=2, heads=2, mlp_hidden=87),
    ]
    eva_set(path, "eva_vit_b", towers[0], torch.float16)
    eva_set(path, "eva_vit_other", towers[1], torch.float32)
    qformer_set(path, "qformer_b", layers=5, cross_attention_freq=3, num_query_tokens=4)
    qformer_set(
        path, "qformer_c", bare_meta=True, layers=3, hidden=40, heads=5, embed_dim=7, vocab_size=77
    )
    qformer_set(path, "qformer_untied", untied=True, intermediate=24)
    preprocess_set(path, "preprocess_b", 40, 1.5)
    return path


def only(folder: Path, name: str) -> SetResult:
    (result,) = (r for r in check_folder(folder, sdpa_attention()) if r.name == name)
    return result


def copy_set(folder: Path, name: str, to: Path) -> tuple[dict[str, Any], Tensors, Tensors]:
    meta = json.loads((folder / f"{name}_meta.json").read_text())
    io = load_file(folder / f"{name}_io.safetensors")
    path = folder / f"{name}_weights.safetensors"
    weights = load_file(path) if path.exists() else {}
    write_set(to, name, meta, io, weights or None)
    return meta, io, weights


def test_sets_of_other_sizes_hold(folder: Path) -> None:
    results = check_folder(folder, sdpa_attention())
    assert [r.name for r in results] == find_sets(folder)
    assert len(results) == 6
    for result in results:
        assert result.ok, result.line()


def test_line_tells_error_and_tolerance(folder: Path) -> None:
    line = only(folder, "qformer_b").line()
    assert line.startswith("qformer_b")
    assert "tolerance 1e-04, 11 outputs" in line
    assert "ok" in line


def test_kind_is_the_name_up_to_the_last_underscore() -> None:
    assert kind_of("eva_vit_a") == "eva_vit"
    assert kind_of("qformer_xyz2") == "qformer"


@pytest.mark.parametrize("name", ["text_feat", "lm_loss", "image_query_states"])
def test_wrong_output_fails_by_name(folder: Path, tmp_path: Path, name: str) -> None:
    meta, io, weights = copy_set(folder, "qformer_b", tmp_path)
    io[name] = io[name] + 3e-4
    write_set(tmp_path, "qformer_b", meta, io, weights)
    result = only(tmp_path, "qformer_b")
    assert not result.ok
    assert result.tensor == name
    said = re.search(rf"{name}: error (\S+)", result.line())
    assert said is not None
    assert float(said[1]) == pytest.approx(3e-4, rel=0.02)


def test_output_that_is_not_compared_fails_by_name(folder: Path, tmp_path: Path) -> None:
    meta, io, weights = copy_set(folder, "eva_vit_b", tmp_path)
    io["attention_map"] = torch.zeros(3)
    write_set(tmp_path, "eva_vit_b", meta, io, weights)
    result = only(tmp_path, "eva_vit_b")
    assert not result.ok
    assert "not compared: attention_map" in result.line()


def test_output_of_nan_or_another_shape_fails(folder: Path, tmp_path: Path) -> None:
    meta, io, weights = copy_set(folder, "qformer_b", tmp_path)
    io["text_feat"][0, 0] = float("nan")
    io["itm_logits"] = io["itm_logits"][:1]
    write_set(tmp_path, "qformer_b", meta, io, weights)
    problems = "; ".join(only(tmp_path, "qformer_b").problems)
    assert "text_feat: error nan" in problems
    assert "itm_logits: (3, 2), wanted (1, 2)" in problems


def test_set_without_outputs_fails(folder: Path, tmp_path: Path) -> None:
    meta, io, weights = copy_set(folder, "eva_vit_b", tmp_path)
    write_set(tmp_path, "eva_vit_b", meta, {"pixels": io["pixels"]}, weights)
    assert "holds no output" in only(tmp_path, "eva_vit_b").line()


def test_string_that_differs_fails(folder: Path, tmp_path: Path) -> None:
    meta, io, _ = copy_set(folder, "preprocess_b", tmp_path)
    meta["caption_processor"][0][1] = "a red  dress"
    write_set(tmp_path, "preprocess_b", meta, io)
    assert "string 'a red dress', wanted 'a red  dress'" in only(tmp_path, "preprocess_b").line()


def test_missing_weight_and_unknown_weight_are_named(folder: Path, tmp_path: Path) -> None:
    meta, io, weights = copy_set(folder, "qformer_b", tmp_path)
    del weights["text_proj.bias"]
    weights["surprise.weight"] = torch.zeros(2)
    write_set(tmp_path, "qformer_b", meta, io, weights)
    line = only(tmp_path, "qformer_b").line()
    assert "text_proj.bias" in line
    assert "surprise.weight" in line


def test_dead_extras_are_no_matter(folder: Path, tmp_path: Path) -> None:
    meta, io, weights = copy_set(folder, "qformer_b", tmp_path)
    weights["query_proj.weight"] = torch.zeros(7, 7)
    weights["Qformer.bert.embeddings.position_ids"] = torch.arange(20)[None]
    write_set(tmp_path, "qformer_b", meta, io, weights)
    assert only(tmp_path, "qformer_b").ok


def test_unknown_kind_fails_by_name(folder: Path, tmp_path: Path) -> None:
    copy_set(folder, "eva_vit_b", tmp_path)
    write_set(tmp_path, "segmenter_a", {}, {"x": torch.zeros(1)})
    result = only(tmp_path, "segmenter_a")
    assert not result.ok
    assert "unknown kind of set: segmenter" in result.line()
    assert only(tmp_path, "eva_vit_b").ok


def test_incomplete_and_broken_sets_fail(folder: Path, tmp_path: Path) -> None:
    copy_set(folder, "qformer_b", tmp_path)
    (tmp_path / "qformer_b_weights.safetensors").unlink()
    (tmp_path / "eva_vit_z_weights.safetensors").write_bytes(b"")
    (tmp_path / "preprocess_z_meta.json").write_text("{")
    (tmp_path / "preprocess_z_io.safetensors").write_bytes(b"no tensors")
    results = {r.name: r for r in check_folder(tmp_path, sdpa_attention())}
    assert "qformer_b_weights.safetensors is missing" in results["qformer_b"].line()
    assert "eva_vit_z_meta.json is missing" in results["eva_vit_z"].line()
    assert not results["preprocess_z"].ok


def test_weights_may_be_those_of_another_set(folder: Path, tmp_path: Path) -> None:
    meta, io, weights = copy_set(folder, "qformer_b", tmp_path)
    (tmp_path / "qformer_b_weights.safetensors").rename(tmp_path / "shared_w_weights.safetensors")
    write_set(tmp_path, "qformer_b", {**meta, "weights": "shared_w_weights.safetensors"}, io)
    assert weights
    assert only(tmp_path, "qformer_b").ok


def test_kinds_that_are_left_out_are_not_read(folder: Path, tmp_path: Path) -> None:
    copy_set(folder, "eva_vit_b", tmp_path)
    for kind in ("vae", "tryon", "atv"):
        write_set(tmp_path, f"{kind}_a", {}, {"x": torch.zeros(1)})
    failed = [r for r in check_folder(tmp_path, sdpa_attention()) if not r.ok]
    assert {r.kind for r in failed} == {"vae", "tryon", "atv"}
    kept = check_folder(tmp_path, sdpa_attention(), only=["eva_vit", "qformer"])
    assert [r.name for r in kept] == ["eva_vit_b"]
    assert all(r.ok for r in kept)


def test_wrong_folder_and_wrong_kind_are_errors(folder: Path, tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="no folder"):
        check_folder(tmp_path / "absent", sdpa_attention())
    with pytest.raises(FolderError, match="holds no reference set"):
        check_folder(tmp_path, sdpa_attention())
    with pytest.raises(FolderError, match="of these kinds"):
        check_folder(folder, sdpa_attention(), only=["losses"])
    with pytest.raises(InputError, match="unknown kind qfromer"):
        check_folder(folder, sdpa_attention(), only=["qfromer"])


def test_results_are_told_as_they_come(folder: Path) -> None:
    seen: list[str] = []
    check_folder(folder, sdpa_attention(), on_result=lambda r: seen.append(r.name))
    assert seen == find_sets(folder)

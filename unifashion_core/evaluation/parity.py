"""Compare our networks with reference vectors: weights, inputs and outputs of the paper's own code.

A set is `NAME_io.safetensors`, `NAME_meta.json` and, for networks, weights; its kind is the name up
to the last underscore. Sizes come from the files. A set holds only when every output tensor of its
io file was compared.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Mapping
from itertools import count
from pathlib import Path
from typing import Any

import torch
from PIL import Image
from safetensors import SafetensorError
from torch import Tensor

from ..attention import AttentionBackend
from ..encoder.config import EncoderConfig, PreprocessConfig, QFormerConfig, TowerConfig
from ..encoder.eva_vit import EvaVit
from ..encoder.model import UniFashionEncoderModel
from ..encoder.preprocess import preprocess
from ..errors import FolderError, InputError, UniFashionError
from ..text import join_fashion_iq, process_caption
from ..training.losses import (
    LossOptions,
    PhaseLosses,
    Texts,
    lm_loss,
    phase1_losses,
    phase2_losses,
    similarity,
)
from .parity_tryon import check_atv, check_tryon, check_vae
from .reference_sets import (
    Comparison,
    ReferenceSet,
    SetResult,
    find_sets,
    kind_of,
    read_set,
)

_DEAD = ("query_proj.", "caption_proj.", "Qformer.bert.embeddings.position_ids")
_TABLES = ("word", "position")
_FIRST = "Qformer.bert.encoder.layer.0"
_READ_ERRORS = (UniFashionError, SafetensorError, OSError, KeyError, RuntimeError, ValueError)


def check_folder(
    folder: Path,
    attention: AttentionBackend,
    *,
    only: Iterable[str] | None = None,
    on_result: Callable[[SetResult], None] | None = None,
) -> list[SetResult]:
    """Compare every set of a folder.

    Args:
        folder: Holds the sets' files.
        attention: What the networks compute with.
        only: Kinds to compare; the others are left out. None = all.
        on_result: Called after each set.

    Returns:
        One result a set, by name.

    Raises:
        FolderError: If the folder is missing or holds no set of these kinds.
        InputError: If `only` names a kind that nobody knows.
    """
    names = find_sets(folder)
    if only is not None:
        wanted = set(only)
        present = {kind_of(name) for name in names}
        strange = sorted(wanted - set(CHECKS) - present)
        if strange or not wanted:
            raise InputError(
                f"parity: unknown kind {', '.join(strange) or '(none given)'}. "
                f"Choose from {', '.join(sorted(CHECKS))}."
            )
        names = [name for name in names if kind_of(name) in wanted]
    if not names:
        raise FolderError(
            f"parity: {folder} holds no reference set"
            f"{' of these kinds' if only is not None else ''}. "
            "Give a folder with *_io.safetensors and *_meta.json files."
        )
    results: list[SetResult] = []
    for name in names:
        results.append(check_set(folder, name, attention))
        if on_result is not None:
            on_result(results[-1])
    return results


def check_set(folder: Path, name: str, attention: AttentionBackend) -> SetResult:
    """Compare one set; what can't be read or run is a result that says so, never an exception."""
    kind = kind_of(name)
    if kind not in CHECKS:
        return SetResult(name, kind, False, problems=(f"unknown kind of set: {kind}",))
    try:
        return CHECKS[kind](read_set(folder, name, kind), attention).result(kind)
    except _READ_ERRORS as e:
        return SetResult(name, kind, False, problems=(f"{type(e).__name__}: {e}",))


def _check_eva_vit(reference: ReferenceSet, attention: AttentionBackend) -> Comparison:
    meta, weights = reference.meta, reference.weights
    prefix = "visual_encoder."
    config = TowerConfig(
        image_size=meta["image_size"],
        patch_size=meta["patch_size"],
        width=meta["hidden"],
        layers=meta["layers"],
        heads=meta["heads"],
        # The ratio is rounded; the weights say what it came to.
        mlp_hidden=_weight(reference, f"{prefix}blocks.0.mlp.fc1.weight").shape[0],
        layer_norm_eps=meta.get("layer_norm_eps", 1e-6),
    )
    tower = EvaVit(config, attention).eval()
    tower.load_state_dict({k.removeprefix(prefix): v for k, v in weights.items()})
    comparison = Comparison(reference, lambda name: name == "pixels")
    with torch.inference_mode():
        comparison.add("hidden", tower(reference.tensors["pixels"]), 2e-4)
    return comparison


def _encoder(reference: ReferenceSet, attention: AttentionBackend) -> UniFashionEncoderModel:
    """A model of the set's sizes, without a tower: the sets hold the tower's outputs."""
    meta = reference.meta

    def size(key: str, weight: str, axis: int) -> int:
        return int(meta[key] if key in meta else _weight(reference, weight).shape[axis])

    words, positions = (f"Qformer.bert.embeddings.{n}_embeddings.weight" for n in _TABLES)
    config = QFormerConfig(
        vocab_size=size("vocab", words, 0),
        hidden=size("hidden", words, 1),
        layers=meta.get("layers", _count_layers(reference.weights)),
        heads=meta["heads"],
        intermediate=size("inter", f"{_FIRST}.intermediate.dense.weight", 0),
        max_positions=_weight(reference, positions).shape[0],
        cross_attention_freq=meta.get("cross_attention_freq", 2),
        num_query_tokens=size("nq", "query_tokens", 1),
        vision_width=size("vis_w", "ln_vision.weight", 0),
        embed_dim=size("embed", "text_proj.weight", 0),
        layer_norm_eps=meta.get("layer_norm_eps", 1e-12),
    )
    none = TowerConfig(image_size=1, patch_size=1, width=1, layers=0, heads=1, mlp_hidden=1)
    groups = {"itm": "itm_head.weight", "prompt": "prompt_tokens"}
    present = {name for name, key in groups.items() if key in reference.weights}
    if any(key.startswith("Qformer.cls.") for key in reference.weights):
        present.add("lm")
    eps = meta.get("ln_vision_eps", 1e-5)
    whole = EncoderConfig(tower=none, qformer=config, ln_vision_eps=eps)
    model = UniFashionEncoderModel(whole, attention, present).eval()
    report: Any = model.load_state_dict(dict(reference.weights), strict=False)
    missing: list[str] = [k for k in report.missing_keys if not k.startswith("visual_encoder.")]
    strange: list[str] = [k for k in report.unexpected_keys if not k.startswith(_DEAD)]
    if missing or strange:
        raise InputError(
            f"set {reference.name}: weights missing: {missing}, without a place: {strange}. "
            "Check the set."
        )
    return model


def _weight(reference: ReferenceSet, name: str) -> Tensor:
    if name not in reference.weights:
        raise InputError(f"set {reference.name}: weights missing: {name}. Check the set.")
    return reference.weights[name]


def _count_layers(weights: Mapping[str, Tensor]) -> int:
    name = _FIRST.replace(".0", ".{}.attention.self.query.weight")
    return next(i for i in count() if name.format(i) not in weights)


def _special_id(meta: Mapping[str, Any], name: str, default: int) -> int:
    """An id by its key, or out of a note such as "bos 3, pad 0"."""
    if f"{name}_token_id" in meta:
        return int(meta[f"{name}_token_id"])
    notes = " ".join(str(v) for k, v in meta.items() if k.endswith("note"))
    found = re.search(rf"\b{name}(?: id)? (\d+)", notes)
    return int(found.group(1)) if found else default


_QFORMER_INPUTS = frozenset({"vit_hidden", "input_ids", "attention_mask", "decoder_input_ids"})


def _check_qformer(reference: ReferenceSet, attention: AttentionBackend) -> Comparison:
    model, io = _encoder(reference, attention), reference.tensors
    comparison = Comparison(reference, _QFORMER_INPUTS.__contains__)
    with torch.inference_mode():
        for name, value in _qformer_outputs(model, io, reference.meta).items():
            comparison.add(name, value, 1e-4)
    return comparison


def _qformer_outputs(
    model: UniFashionEncoderModel, io: Mapping[str, Tensor], meta: Mapping[str, Any]
) -> dict[str, Tensor]:
    ids, mask = io["input_ids"], io["attention_mask"]
    vision = model.normalise(io["vit_hidden"])
    states, cache = model.image_cache(vision)
    text_states = model.text_states(ids, mask)
    fused = model.composed_states(vision, ids, mask)
    images, composed = model.project_images(states), model.project_composed(fused)
    text = model.text_features(ids, mask)
    outputs = {
        "image_query_states": states,
        "text_states": text_states,
        "fused_states": fused,
        "gallery_feats": images,
        "text_feat": text,
        "composed_feat": composed,
        "scores_text_to_image": similarity(text, images),
        "scores_composed_to_image": similarity(composed, images),
    }
    if "itm" in model.groups:
        outputs["itm_logits"] = model.itm_logits(vision, ids, mask)
    if "lm" in model.groups and "decoder_input_ids" in io:
        caption = io["decoder_input_ids"]
        outputs["lm_logits"] = model.lm_logits(caption, mask, cache)
        outputs["lm_loss"] = lm_loss(outputs["lm_logits"], caption, _special_id(meta, "pad", 0))
    return outputs


def _is_loss_input(name: str) -> bool:
    return name in ("vit_reference", "vit_target") or name.startswith(("text_", "target_caption_"))


def _check_losses(reference: ReferenceSet, attention: AttentionBackend) -> Comparison:
    model, io, meta = _encoder(reference, attention), reference.tensors, reference.meta
    comparison = Comparison(reference, _is_loss_input)
    options = LossOptions(reference_compat=True)
    texts = Texts(io["text_ids"], io["text_mask"])

    def phase1() -> PhaseLosses:
        return phase1_losses(
            model,
            model.normalise(io["vit_reference"]),
            texts,
            bos_id=_special_id(meta, "bos", 3),
            pad_id=_special_id(meta, "pad", 0),
            options=options,
        )

    def phase2() -> PhaseLosses:
        captions = Texts(io["target_caption_ids"], io["target_caption_mask"])
        return phase2_losses(
            model,
            model.normalise(io["vit_reference"]),
            model.normalise(io["vit_target"]),
            texts,
            captions,
            options=options,
        )

    for phase, compute in (("phase1", phase1), ("phase2", phase2)):
        if any(name.startswith(f"{phase}.") for name in io):
            _compare_phase(comparison, model, phase, compute())
    return comparison


def _compare_phase(
    comparison: Comparison, model: UniFashionEncoderModel, phase: str, losses: PhaseLosses
) -> None:
    named = {"itc": losses.itc, "itm": losses.itm, "lm": losses.lm, "ttc": losses.ttc}
    for name, value in {**named, "total": losses.total}.items():
        if value is not None:
            comparison.add(f"{phase}.loss_{name}", value, 1e-4)
    model.zero_grad()
    torch.autograd.backward(losses.total)
    for name, parameter in model.named_parameters(remove_duplicate=False):
        if parameter.grad is not None:
            comparison.add(f"{phase}.grad.{name}", parameter.grad, 1e-3, relative=True)


def _check_preprocess(reference: ReferenceSet, attention: AttentionBackend) -> Comparison:
    meta, io = reference.meta, reference.tensors
    comparison = Comparison(reference, lambda name: name.startswith("image_"))
    config = PreprocessConfig(size=meta["dim"], target_ratio=meta.get("target_ratio", 1.25))
    for name in sorted(io):
        if name.startswith("image_"):
            picture = Image.fromarray(io[name].numpy())
            pixels = preprocess(picture, config)[0]
            comparison.add(name.replace("image_", "pixels_", 1), pixels, 2e-3)
    words = meta.get("max_words", 50)
    strings = [(process_caption(a, words), b) for a, b in meta.get("caption_processor", ())]
    for first, second, joined, processed in meta.get("fashion_iq_join", ()):
        got = join_fashion_iq(first, second)
        strings += [(got, joined), (process_caption(got, words), processed)]
    for got, expected in strings:
        if got != expected:
            comparison.problems.append(f"string {got!r}, wanted {expected!r}")
    return comparison


CHECKS: Mapping[str, Callable[[ReferenceSet, AttentionBackend], Comparison]] = {
    "eva_vit": _check_eva_vit,
    "qformer": _check_qformer,
    "losses": _check_losses,
    "preprocess": _check_preprocess,
    "vae": check_vae,
    "tryon": check_tryon,
    "atv": check_atv,
}
"""Kinds, with what compares them."""

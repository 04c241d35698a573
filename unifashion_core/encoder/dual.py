"""CLIP and SigLIP models through transformers: one vector an image, one a text, and nothing that
joins the two.

Read are folders that transformers itself reads, such as FashionCLIP's. Marqo's fashion models hold
OpenCLIP's weights, which need the repository's own code; that is refused with a message.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import (
    AttentionBackend,
    register_with_transformers,
    route_multihead_attention,
)
from ..deps import require
from ..errors import AbilityError, CheckpointError, ShapeError
from ..types import ImageFeatures, TextFeatures
from ..weights import Weights, read_config, read_weights, shorten
from .dual_text import READ_ERRORS, TRANSFORMERS, TextRules, first_line, load_text_rules
from .fingerprint import digest_weights, remembered

DUAL_TYPES = ("clip", "siglip")
"""`model_type` of the folders that are read here."""

_PROCESSOR_KEYS = (
    "do_resize",
    "size",
    "resample",
    "do_center_crop",
    "crop_size",
    "do_rescale",
    "rescale_factor",
    "do_normalize",
    "image_mean",
    "image_std",
)


@dataclass(frozen=True)
class DualEncoder:
    """A loaded CLIP or SigLIP model: satisfies `ImageEncoder` and `TextEncoder`; as a `PairScorer`
    it raises.

    It computes where its weights are and in their dtype; results are float32 on the CPU.

    Attributes:
        model: transformers' CLIPModel or SiglipModel, in eval mode.
        processor: Its image processor, Pillow's variant.
        text: How texts become ids.
        fingerprint: Hex SHA-256 of settings and weights.
        width: Length of a vector, D.
        input_size: Side in pixels that the tower reads.
        name: For messages.
        layout: What the folder is, in words.
        files: Its weight files.
        card: Empty: nothing was measured for it.
    """

    model: nn.Module
    processor: Any
    text: TextRules
    fingerprint: str
    width: int
    input_size: int
    name: str = "encoder"
    layout: str = ""
    files: tuple[Path, ...] = ()
    card: Mapping[str, Any] = field(default_factory=dict[str, Any])

    @property
    def tokens_per_image(self) -> int:
        """One vector an image."""
        return 1

    @property
    def abilities(self) -> frozenset[str]:
        """ "image" and "text"."""
        return frozenset({"image", "text"})

    @property
    def blend_note(self) -> str:
        """What a result says when an image and a text are asked for together."""
        return (
            f"encoder '{self.name}' has no composed mode: image and text are blended 1:1, "
            "so the text is searched for beside the picture and does not change it"
        )

    def require(self, ability: str, where: str) -> None:
        """Check that it can do what a step needs.

        Raises:
            AbilityError: If it can't.
        """
        if ability not in self.abilities:
            raise AbilityError(
                f"{where}: encoder '{self.name}' is a {self.layout} and can't do '{ability}' (it "
                "has "
                f"{', '.join(sorted(self.abilities))}). Load a UniFashion or BLIP-2 encoder."
            )

    def preprocess(self, image: Image.Image) -> Tensor:
        """An upright RGB picture to its one normalised view, (1, 3, S, S), float32; safe in
        threads.
        """
        found: Any = self.processor(images=image, return_tensors="np")["pixel_values"]
        return torch.tensor(np.asarray(found, dtype=np.float32))

    @torch.inference_mode()
    def encode_pixels(self, pixels: Tensor) -> ImageFeatures:
        """Encode images.

        Args:
            pixels: Their one view each, (B, 1, 3, S, S).

        Returns:
            `tokens` (B, 1, D) alone.

        Raises:
            ShapeError: If the views are not this encoder's.
        """
        size = self.input_size
        if pixels.ndim != 5 or tuple(pixels.shape[1:]) != (1, 3, size, size):
            raise ShapeError(
                f"encoder '{self.name}': views are {tuple(pixels.shape)}, wanted "
                f"(B, 1, 3, {size}, {size}). Make them with its own preprocess."
            )
        model: Any = self.model
        found = model.get_image_features(
            pixel_values=pixels[:, 0].to(self._like.device, self._like.dtype)
        )
        return ImageFeatures(tokens=_unit(found)[:, None])

    @torch.inference_mode()
    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        """Encode texts.

        Raises:
            InputError: If a text is empty, too long, or holds no word that the
                vocabulary does.
        """
        batch = self.text.encode(texts)
        model: Any = self.model
        inputs = {"input_ids": batch.ids.to(self._like.device)}
        if not self.text.fixed:
            inputs["attention_mask"] = batch.mask.to(self._like.device)
        vectors = _unit(model.get_text_features(**inputs))
        return TextFeatures(vectors, batch.truncated, batch.unknown_words)

    def score_pairs(self, text: str, pixels: Tensor, reference: Tensor | None = None) -> Tensor:
        """Raise an AbilityError: there is no ITM head."""
        self.require("itm", "rerank")
        raise AssertionError("unreachable")

    @property
    def _like(self) -> Tensor:
        """A weight: what comes in follows its device and dtype."""
        return next(self.model.parameters())


def load_dual(
    folder: Path,
    *,
    attention: AttentionBackend,
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    cache: Path | None = None,
) -> DualEncoder:
    """Load a CLIP or SigLIP folder; no code of it is run and nothing is downloaded.

    Args:
        folder: Holds config.json, weights, tokenizer and preprocessor_config.json.
        attention: What every attention goes through.
        device: Where the weights go.
        dtype: What they become.
        cache: Folder that keeps fingerprints of large files.

    Raises:
        CheckpointError: If transformers can't read it without code from it, or parts are missing.
        MissingPackageError: If transformers is absent or too old.
    """
    config = read_config(folder) or {}
    weights = read_weights(folder)  # refuses what is unsafe before transformers opens it
    _check_names(folder, config, weights)
    model = _load_model(folder, attention)
    processor = _load_processor(folder)
    text = load_text_rules(folder, model.config)
    settings = _settings(model.config, processor, text)
    size = int(model.config.vision_config.image_size)
    identity = remembered(
        settings, weights.files, cache, lambda: digest_weights(settings, _embedding(weights))
    )
    kind = "SigLIP" if text.fixed else "CLIP"
    width = _width(model)
    return DualEncoder(
        model=model.to(device=device, dtype=dtype).eval(),
        processor=processor,
        text=text,
        fingerprint=identity,
        width=width,
        input_size=size,
        name=folder.name,
        layout=f"{kind} folder",
        files=weights.files,
    )


def _check_names(folder: Path, config: Mapping[str, Any], weights: Weights) -> None:
    """Refuse weights that transformers would pass over: it would fill the network with noise."""
    if any(n.startswith("text_model.") for n in weights.tensors) and any(
        n.startswith("vision_model.") for n in weights.tensors
    ):
        return
    if "auto_map" in config or "open_clip_model_name" in config:
        raise CheckpointError(
            f"encoder {folder}: its weights are of OpenCLIP's layout and need code from the "
            "folder, which is "
            "never run. Convert it to transformers' own CLIP or SigLIP layout first."
        )
    raise CheckpointError(
        f"encoder {folder}: no {config.get('model_type')} model with both sides, it holds "
        f"{shorten(weights.tensors, 4)}. Give a whole CLIPModel or SiglipModel folder."
    )


def _load_model(folder: Path, attention: AttentionBackend) -> Any:
    transformers: Any = require("transformers", minimum=TRANSFORMERS)
    try:
        model, report = transformers.AutoModel.from_pretrained(
            str(folder),
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation=register_with_transformers(attention),
            output_loading_info=True,
        )
    except READ_ERRORS as e:
        raise CheckpointError(
            f"encoder {folder}: transformers can't read it ({first_line(e)}). "
            "Give a CLIPModel or SiglipModel folder."
        ) from e
    lost = [str(k) for part in ("missing_keys", "mismatched_keys") for k in report[part]]
    lost = [k for k in lost if not k.endswith(("position_ids", "logit_scale", "logit_bias"))]
    if lost:
        raise CheckpointError(
            f"encoder {folder}: {len(lost)} weights are missing or of another shape: "
            f"{shorten(lost)}. "
            "Get the folder again."
        )
    route_multihead_attention(model, attention)  # SigLIP's pooling head has one of its own
    return model


def _load_processor(folder: Path) -> Any:
    transformers: Any = require("transformers", minimum=TRANSFORMERS)
    new = int(str(transformers.__version__).split(".")[0]) >= 5
    pillow = {"backend": "pil"} if new else {"use_fast": False}  # the other one is torchvision's
    try:
        return transformers.AutoImageProcessor.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False, **pillow
        )
    except READ_ERRORS as e:
        raise CheckpointError(
            f"encoder {folder}: no image settings that transformers can read ({first_line(e)}). "
            "Put its preprocessor_config.json there."
        ) from e


def _settings(config: Any, processor: Any, text: TextRules) -> str:
    """All settings that make an embedding, as one text: the same whatever version of transformers
    read them.
    """
    fields = {
        part: {
            key: getattr(getattr(config, part), key, None)
            for key in (
                "hidden_size",
                "intermediate_size",
                "num_hidden_layers",
                "num_attention_heads",
                "hidden_act",
                "layer_norm_eps",
                "image_size",
                "patch_size",
                "max_position_embeddings",
            )
        }
        for part in ("text_config", "vision_config")
    }
    picture = {key: _plain(getattr(processor, key, None)) for key in _PROCESSOR_KEYS}
    words = json.dumps(sorted(cast("dict[str, int]", text.tokenizer.get_vocab()).items()))
    rules = [text.length, text.pad_id, text.fixed, text.lower, text.strip]
    values = [1, config.model_type, fields, picture, words, rules]
    return json.dumps(values, sort_keys=True, default=str)


def _plain(value: Any) -> Any:
    """Sizes and lists in one form: transformers 5 wraps them."""
    if hasattr(value, "items"):
        return {str(k): int(v) for k, v in value.items() if v is not None}
    return list(cast("Sequence[Any]", value)) if isinstance(value, (list, tuple)) else value


def _embedding(weights: Weights) -> dict[str, Any]:
    skipped = ("position_ids", "logit_scale", "logit_bias")
    return {name: t for name, t in weights.tensors.items() if not name.endswith(skipped)}


def _width(model: Any) -> int:
    projection = getattr(model.config, "projection_dim", None)
    if model.config.model_type == "clip" and projection:
        return int(projection)
    return int(model.config.vision_config.hidden_size)


def _unit(found: Any) -> Tensor:
    """Features of transformers 4 (a tensor) or 5 (an output with them as pooler_output), (B, D)."""
    features = found if isinstance(found, Tensor) else found.pooler_output
    return F.normalize(features.float(), dim=-1).cpu()

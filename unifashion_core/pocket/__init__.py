"""What ships as data, each part with a card: how made, on what, licence, measured quality."""

from __future__ import annotations

from pathlib import Path

from ..errors import FolderError

_HERE = Path(__file__).parent

ENCODER = _HERE / "encoder"
"""Folder of the pocket multimodal encoder: config.json, model.safetensors, vocab.txt, CARD.md."""

EFFICIENTNET_LITE0 = _HERE / "efficientnet_lite0"
"""Folder of its frozen image tower: model.safetensors, CARD.md."""

BERT_VOCABULARY = _HERE / "tokenizers" / "bert-base-uncased" / "vocab.txt"
"""The 30,522 word pieces of bert-base-uncased; `[DEC]` is added by the tokenizer."""

CLIP_MERGES = _HERE / "tokenizers" / "clip" / "merges.txt"
"""The 48,894 byte-pair merges of CLIP's tokenizer, one a line."""

MEDIAPIPE = _HERE / "mediapipe"
"""Folder of MediaPipe's person networks: person_detector, pose_landmarks and selfie_segmentation,
.safetensors each, CARD.md."""

TRYON = _HERE / "tryon"
"""Folder of the pocket try-on model: config.json, model.safetensors, CARD.md."""


def pocket_tryon() -> Path:
    """`TRYON`, if this copy of the pack holds it.

    Raises:
        FolderError: If it does not.
    """
    if not TRYON.is_dir():
        raise FolderError(
            f"{TRYON}: this copy of the pack lacks the pocket try-on model. Get the pack again, or "
            "choose a model of yours (in models/unifashion_tryon, or with --model)."
        )
    return TRYON

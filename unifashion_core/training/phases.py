"""`train phase1` and `train phase2`: from a data folder and a config to a folder with an encoder
in it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import torch

from ..attention import AttentionBackend
from ..encoder.checkpoint import load_encoder, save_encoder
from ..encoder.config import EncoderConfig
from ..encoder.encoder import MultimodalEncoder
from ..encoder.model import UniFashionEncoderModel
from ..errors import CheckpointError, InputError
from ..text import Tokenizer
from ..types import OnStep
from .batches import CaptionBook, PairSource, TripletSource
from .config import TrainConfig
from .features import FeatureSource, cached_features, live_features
from .loop import OnProgress, training_device
from .prompts import prompt_texts
from .records import ImageRecord, Triplet, read_phase1, read_phase2
from .trainer import Run, train

MODEL_FOLDER = "encoder"
"""Where a finished run leaves its weights, below --out."""

_CACHE_FOLDER = "cache"
_BERT_WIDTH = 768


@dataclass(frozen=True)
class Paths:
    """The folders of a run.

    Attributes:
        data: Holds phase1.jsonl and phase2.jsonl.
        out: Gets checkpoints, log and the encoder.
        tower: Weights of the tower: a file or a folder.
        start: Encoder folder to start from, None = fresh weights.
        bert_vocabulary: The shipped vocab.txt.
    """

    data: Path
    out: Path
    tower: Path | None = None
    start: Path | None = None
    bert_vocabulary: Path | None = None


def run_phase(
    phase: int,
    paths: Paths,
    config: TrainConfig,
    attention: AttentionBackend,
    *,
    on_features: OnStep | None = None,
    on_progress: OnProgress | None = None,
    stop_after: int | None = None,
) -> Path | None:
    """Train one phase to its end, going on from what `paths.out` holds.

    Args:
        phase: 1 or 2.
        paths: Where everything is.
        config: The run.
        attention: What every attention of the model goes through.
        on_features: Progress of the tower's features.
        on_progress: Called after every step.
        stop_after: Stop at this step.

    Returns:
        The encoder's folder, or None where it stopped before the end.

    Raises:
        FolderError: If the data is missing.
        InputError: If the data or the config can't be worked with.
        CheckpointError: If weights are missing or do not fit.
    """
    records = read_phase1(paths.data) if phase == 1 or config.keep_phase1 else ()
    triplets = read_phase2(paths.data) if phase == 2 else ()
    pictures, known = _pictures(records, triplets, paths.data)
    tokenizer = _tokenizer(config, paths)
    config = _with_vocabulary(config, tokenizer)
    model = _model(config, paths, tokenizer, attention).to(training_device())
    features = _features(model, paths, config, pictures, known, on_features)
    texts = [c for r in records for c in r.captions]
    texts += [t for prompts in prompt_texts(records, config) for t in prompts]
    texts += [t for r in triplets for t in (r.text, r.target_caption) if t]
    book = CaptionBook(texts, [r.attributes for r in known], tokenizer, config)
    pairs = PairSource(known[: len(records)], book, features, config) if records else None
    edits = TripletSource(triplets, pictures, book, features, config) if triplets else None
    sampler = edits.sampler if edits is not None else pairs.sampler if pairs is not None else None
    steps = config.steps or config.epochs * getattr(sampler, "steps_per_epoch", 0)
    if not steps:
        raise InputError(
            "Training config: 'steps' is 0 and drawing by shares has no rounds. Set 'steps'."
        )
    run = Run(model, config, steps, pairs, edits)
    if not train(run, paths.out, on_progress=on_progress, stop_after=stop_after):
        return None
    folder = paths.out / MODEL_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    own = tokenizer if config.encoder.text.tokenizer == "folder" else None
    save_encoder(
        folder,
        {name: value.cpu() for name, value in model.state_dict().items()},
        config.encoder,
        vocabulary=own,
        dtype=torch.float16,
        tower=False,
    )
    return folder


def _pictures(
    records: Sequence[ImageRecord], triplets: Sequence[Triplet], folder: Path
) -> tuple[list[str], list[ImageRecord]]:
    """Every picture once, those of phase 1 first, and what is known of each."""
    known = list(records)
    pictures = [r.image for r in records]
    seen = set(pictures)
    described = {r.image: r for r in _described(folder)} if triplets and not records else {}
    for path in (p for t in triplets for p in (t.reference, t.target)):
        if path not in seen:
            seen.add(path)
            pictures.append(path)
            known.append(described.get(path, ImageRecord(path, ("",))))
    return pictures, known


def _described(folder: Path) -> Sequence[ImageRecord]:
    """phase1.jsonl beside the triplets, for the attributes of their pictures; it need not be
    there."""
    return read_phase1(folder) if (folder / "phase1.jsonl").is_file() else ()


def _tokenizer(config: TrainConfig, paths: Paths) -> Tokenizer:
    if config.encoder.text.tokenizer == "folder":
        return Tokenizer.from_file(paths.data / (config.vocabulary or "vocab.txt"))
    if paths.bert_vocabulary is None:
        raise InputError("Training: the bert-base-uncased vocabulary is not given. Pass its path.")
    return Tokenizer.from_file(paths.bert_vocabulary)


def _with_vocabulary(config: TrainConfig, tokenizer: Tokenizer) -> TrainConfig:
    """A vocabulary of one's own decides the embedding's size and the special ids."""
    encoder = config.encoder
    if encoder.text.tokenizer == "folder":
        text = replace(
            encoder.text,
            pad_id=tokenizer.pad_id,
            cls_id=tokenizer.cls_id,
            sep_id=tokenizer.sep_id,
            bos_id=tokenizer.bos_id,
        )
        qformer = replace(encoder.qformer, vocab_size=len(tokenizer))
        encoder = replace(encoder, text=text, qformer=qformer)
    return replace(config, encoder=encoder)


def _model(
    config: TrainConfig, paths: Paths, tokenizer: Tokenizer, attention: AttentionBackend
) -> UniFashionEncoderModel:
    """The network with its tower, fresh or from a folder."""
    start = paths.start or _fresh(config, paths, tokenizer, attention)
    loaded = load_encoder(
        start, tower=paths.tower, attention=attention, bert_vocabulary=paths.bert_vocabulary
    )
    if not isinstance(loaded, MultimodalEncoder):
        raise CheckpointError(
            f"Training start {start}: a single-vector model has no Q-Former. "
            "Give a multimodal encoder."
        )
    _check_same(loaded.config, config.encoder, start)
    return loaded.model


def _fresh(
    config: TrainConfig, paths: Paths, tokenizer: Tokenizer, attention: AttentionBackend
) -> Path:
    """Drawn weights as a folder, so that they are loaded and checked as any others are."""
    if paths.tower is None:
        raise InputError(
            "Training: there is no tower to start with. Name its weights with --tower."
        )
    groups = ["itm", "lm", *(["prompt"] if config.loss.reference_compat else [])]
    model = UniFashionEncoderModel(config.encoder, attention, groups)
    model.initialise(config.seed)
    _widen(model)
    folder = paths.out / "fresh"
    own = tokenizer if config.encoder.text.tokenizer == "folder" else None
    save_encoder(folder, model.state_dict(), config.encoder, vocabulary=own, tower=False)
    return folder


@torch.no_grad()
def _widen(model: UniFashionEncoderModel) -> None:
    """BERT's 0.02 is meant for 768 inputs; with fewer, a layer would hardly change what passes it.

    Each matrix is scaled so that its output varies as much as at that width (measured: a 128-wide
    Q-Former then learns twice as fast). At 768 and more nothing is touched.
    """
    if model.config.qformer.hidden >= _BERT_WIDTH:
        return
    tower = set(model.visual_encoder.modules())
    for module in model.modules():
        if isinstance(module, torch.nn.Linear) and module not in tower:
            module.weight.mul_((_BERT_WIDTH / module.in_features) ** 0.5)


def _check_same(held: EncoderConfig, wanted: EncoderConfig, path: Path) -> None:
    a, b = held.to_dict(), wanted.to_dict()
    changed = sorted(k for k in b if json.dumps(a[k]) != json.dumps(b[k]))
    if changed:
        raise CheckpointError(
            f"Training start {path}: its {', '.join(changed)} differ from the config's "
            "encoder. Use the config it was trained with."
        )


def _features(
    model: UniFashionEncoderModel,
    paths: Paths,
    config: TrainConfig,
    pictures: Sequence[str],
    known: Sequence[ImageRecord],
    on_features: OnStep | None,
) -> FeatureSource:
    if not config.cache.views:
        if model.stem is not None and not bool(model.stem.weight.any()):
            raise InputError(
                "Training config: a stem of zeros can only be fitted with cached features. "
                "Set 'cache': {'views': {'': 1}}."
            )
        return live_features(model, paths.data, pictures)
    return cached_features(
        model,
        paths.data,
        pictures,
        [r.source for r in known],
        config.cache,
        cache=paths.data / _CACHE_FOLDER,
        seed=config.seed if config.cache.seed is None else config.cache.seed,
        on_step=on_features,
    )

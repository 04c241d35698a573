"""`train caption`: the projection and the LoRA adapters between a frozen Q-Former and a frozen
language model.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from ..attention import AttentionBackend
from ..caption.adapters import wrap_lora
from ..caption.llm import PrefixModel, query_outputs
from ..caption.llm_folder import LanguageModel, Placement, linear_names, load_language_model
from ..caption.loading import CaptionerFiles, save_llm_captioner
from ..deps import require
from ..encoder.checkpoint import load_encoder
from ..imaging import open_image
from ..types import ImageEncoder
from .caption_batches import IGNORED, CaptionBatch, CaptionSource, CaptionTokens
from .caption_config import CaptionConfig
from .loop import OnProgress, Stage, run_loop
from .records import ImageRecord, read_phase1

CAPTIONER_FOLDER = "captioner"
"""Where a finished run leaves its captioner, below --out."""


@dataclass(frozen=True)
class CaptionPaths:
    """The folders of a run.

    Attributes:
        data: Holds phase1.jsonl.
        out: Gets checkpoints, log and the captioner.
        encoder: Encoder whose Q-Former is read.
        llm: Folder of the language model.
        tower: Weights of the encoder's tower, where its own file has none.
        bert_vocabulary: The shipped vocab.txt.
    """

    data: Path
    out: Path
    encoder: Path
    llm: Path
    tower: Path | None = None
    bert_vocabulary: Path | None = None


class CaptionObjective(nn.Module):
    """The loss of captions after their pictures: summed over the caption's tokens and its end."""

    def __init__(self, network: PrefixModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, queries: Tensor, ids: Tensor, mask: Tensor, labels: Tensor) -> Tensor:
        embeddings = self.network(queries, ids)  # (B, Q + L, W)
        prefix = embeddings.shape[1] - ids.shape[1]
        whole = torch.cat([mask.new_ones(len(mask), prefix), mask], dim=1)
        out = cast(Any, self.network.llm)(
            inputs_embeds=embeddings, attention_mask=whole, use_cache=False
        )
        # The token at a place is told by the logits of the place before it.
        logits: Tensor = out.logits[:, prefix - 1 : -1]  # (B, L, vocabulary)
        return F.cross_entropy(
            logits.flatten(0, 1).float(), labels.flatten(), ignore_index=IGNORED, reduction="sum"
        )


@dataclass(frozen=True)
class CaptionRun:
    """What the loop needs.

    Attributes:
        network: Projection, language model and adapters; the last two frozen where they should be.
        source: Batches.
        config: The run's config.
        steps: Optimiser steps in all.
        made_with: Encoder and language model, by their digests.
    """

    network: PrefixModel
    source: CaptionSource
    config: CaptionConfig
    steps: int
    made_with: Mapping[str, str]

    def to_dict(self) -> dict[str, Any]:
        """The config and what a checkpoint belongs to."""
        return {**self.config.to_dict(), **self.made_with}


def run_caption(
    paths: CaptionPaths,
    config: CaptionConfig,
    attention: AttentionBackend,
    *,
    on_progress: OnProgress | None = None,
    stop_after: int | None = None,
) -> Path | None:
    """Train to the end, going on from what `paths.out` holds.

    Args:
        paths: Where everything is.
        config: The run.
        attention: What every attention goes through.
        on_progress: Called after every step.
        stop_after: Stop at this step.

    Returns:
        The captioner's folder, or None where it stopped before the end.

    Raises:
        AbilityError: If the encoder has no Q-Former.
        CheckpointError: If weights are missing or do not fit, or `out` holds another run.
        FolderError: If the data is missing.
        InputError: If the data or the config can't be worked with.
        MissingPackageError: If transformers, accelerate or peft is absent.
    """
    accelerate: Any = require("accelerate")
    accelerator: Any = accelerate.Accelerator(mixed_precision=config.precision)
    records = read_phase1(paths.data)
    encoder = load_encoder(
        paths.encoder,
        tower=paths.tower,
        device=accelerator.device,
        attention=attention,
        bert_vocabulary=paths.bert_vocabulary,
    )
    dtype = torch.bfloat16 if config.precision == "bf16" else torch.float32
    llm = load_language_model(paths.llm, Placement(attention, accelerator.device, dtype))
    network = make_network(llm, _width(encoder, records, paths.data), config)
    source = CaptionSource(records, paths.data, encoder, llm.tokenizer, config)
    steps = config.steps or config.epochs * source.sampler.steps_per_epoch
    made_with = {"encoder": encoder.fingerprint, "llm": llm.digest}
    run = CaptionRun(network.to(accelerator.device), source, config, steps, made_with)
    if not train_caption(run, paths.out, on_progress, stop_after):
        return None
    folder = paths.out / CAPTIONER_FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    files = CaptionerFiles(llm.name, encoder.fingerprint, llm.digest, config.instructions[0])
    save_llm_captioner(folder, network.llm_proj, network.llm if config.rank else None, files)
    return folder


def make_network(llm: LanguageModel, hidden: int, config: CaptionConfig) -> PrefixModel:
    """A fresh projection and fresh adapters over a frozen language model.

    Args:
        llm: As loaded.
        hidden: Width of the Q-Former's outputs.
        config: Rank, scale, dropout and seed.
    """
    generator = torch.Generator().manual_seed(config.seed)
    projection = nn.Linear(hidden, llm.width)
    with torch.no_grad():
        projection.weight.normal_(0, 0.02, generator=generator)
        projection.bias.zero_()
    model: Any = llm.model.requires_grad_(False)
    if config.rank:
        torch.manual_seed(  # pyright: ignore[reportUnknownMemberType] - torch leaves it untyped
            config.seed
        )
        model = wrap_lora(
            model,
            linear_names(model),
            r=config.rank,
            lora_alpha=config.alpha,
            lora_dropout=config.dropout,
        )
    return PrefixModel(projection, model)


def train_caption(
    run: CaptionRun,
    out: Path,
    on_progress: OnProgress | None = None,
    stop_after: int | None = None,
) -> bool:
    """Train in place to the end, or go on from the last checkpoint in `out`; see `run_loop`.

    Args:
        run: Network, data, config.
        out: Folder of checkpoints and log.jsonl.
        on_progress: Called after every step.
        stop_after: Save and stop at this step.

    Returns:
        Whether the run is complete.

    Raises:
        CheckpointError: If `out` holds a run of another config, or the loss is no number.
    """

    def backward(accelerator: Any, objective: Any, batch: CaptionBatch) -> dict[str, float]:
        learned = batch.tokens.learned
        parts = _parts(batch, run.config.micro_batch)
        loss = sum(_backward(part, learned, accelerator, objective) for part in parts)
        return {"lm": loss, "total": loss}

    stage = Stage(
        CaptionObjective(run.network),
        run.config,
        lambda rng, step: run.source.batch(step, rng),
        model=run.network,
        steps=run.steps,
        settings=run,
        backward=backward,
    )
    return run_loop(stage, out, on_progress=on_progress, stop_after=stop_after)


def _parts(batch: CaptionBatch, size: int) -> list[CaptionBatch]:
    count = len(batch.queries)
    return [
        CaptionBatch(batch.queries[i : i + size], batch.tokens.rows(i, i + size))
        for i in range(0, count, size)
    ]


def _backward(part: CaptionBatch, learned: int, accelerator: Any, objective: Any) -> float:
    """Gradients of a part's share of the mean over all learned tokens of the batch."""
    tokens: CaptionTokens = part.tokens
    loss: Tensor = objective(part.queries, tokens.ids, tokens.mask, tokens.labels) / learned
    accelerator.backward(loss)
    return float(loss.detach())


def _width(encoder: ImageEncoder, records: tuple[ImageRecord, ...], folder: Path) -> int:
    """Width of the Q-Former's outputs, asked of the encoder itself."""
    image = open_image(folder / records[0].image, min_side=encoder.input_size)
    return int(query_outputs(encoder, [image]).shape[-1])

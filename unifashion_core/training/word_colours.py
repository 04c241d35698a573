"""The stage `train words`: which mean latent each word tells, by ridge regression."""

# pyright: reportUnknownMemberType=false, reportUnknownVariableType=false
# pyright: reportUnknownArgumentType=false
# (torch.linalg has no types)

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import torch
from torch import Tensor
from torch.nn import functional as F

from ..errors import CheckpointError, FolderError
from ..tryon.checkpoint import TryOnModel, save_tryon
from ..tryon.condition_encoders import ClipText
from ..tryon.tokens import ClipTokenizer
from ..tryon.word_colours import WordColours, presence
from ..types import OnStep
from .tryon import TryOnPaths
from .tryon_config import TryOnTrainConfig
from .tryon_latents import encode_records

_CAPTIONS = 12  # drawn for each record
_RIDGE = 3.0
_LEAST_PLACES = 4.0  # of a worn garment, in latent places


def train_words(paths: TryOnPaths, model: TryOnModel, *, on_step: OnStep | None = None) -> Path:
    """Learn the words' colours and save the whole model with them.

    Args:
        paths: Folders; the result is `out`'s subfolder `tryon`.
        model: A trained try-on model that reads text.
        on_step: Called with (records encoded, records in all).

    Returns:
        The folder of the saved model.

    Raises:
        CheckpointError: If the model reads no text.
        FolderError: If there are no records, or none shows its garment.
    """
    if not isinstance(model.context, ClipText):
        raise CheckpointError(
            "train words: the model reads pictures as context (StableVITON). Give UniFashion's, "
            "which reads text."
        )
    settings = TryOnTrainConfig(
        unet=model.config.unet, size=model.config.size, train_all=True, captions=_CAPTIONS
    )
    model.autoencoder.eval()
    data = encode_records(
        paths.data, "train", model.autoencoder, settings, paths.out / "latents", on_step=on_step
    )
    tokenizer = ClipTokenizer(paths.merges)
    text = model.context.config
    ids = [tokenizer.tokenize(texts, text).ids for texts in data.texts]
    means, shown = mean_latents(data.latents["target"].float(), data.worn.float())
    if not bool(shown.any()):
        raise FolderError(f"train words: no record of {paths.data} shows its garment.")
    known = [some for some, there in zip(ids, shown, strict=True) if bool(there)]
    colours = fit_word_colours(known, means[shown], text.vocabulary)
    folder = paths.out / "tryon"
    config = replace(model.config, word_colours=True)
    save_tryon(folder, replace(model, config=config, colours=colours))
    return folder


def mean_latents(latents: Tensor, worn: Tensor) -> tuple[Tensor, Tensor]:
    """The mean latent of each worn garment.

    Args:
        latents: Of the pictures, (N, z, h, w).
        worn: 1 on the garment, (N, 1, H, W).

    Returns:
        (N, z), and which records show enough of it, (N,).
    """
    share = F.adaptive_avg_pool2d(worn, (latents.shape[2], latents.shape[3]))
    places = share.sum(dim=(2, 3))
    means = (latents * share).sum(dim=(2, 3)) / places.clamp(min=1e-6)
    return means, places[:, 0] >= _LEAST_PLACES


def fit_word_colours(ids: Sequence[Tensor], means: Tensor, vocabulary: int) -> WordColours:
    """Ridge regression from the words of captions to mean latents.

    Args:
        ids: Token rows of each record's captions, (captions, L) each.
        means: (N, z).
        vocabulary: Rows of the table.
    """
    words = torch.cat([presence(some, vocabulary) for some in ids]).double()
    told = torch.cat(
        [mean.expand(len(some), -1) for mean, some in zip(means, ids, strict=True)]
    ).double()
    centre, level = words.mean(dim=0), told.mean(dim=0)
    apart = words - centre
    penalty = _RIDGE * torch.eye(vocabulary, dtype=torch.float64)
    weight = torch.linalg.solve(apart.T @ apart + penalty, apart.T @ (told - level))
    made = WordColours(vocabulary, means.shape[1])
    with torch.no_grad():
        made.weight.copy_(weight)
        made.bias.copy_(level - centre @ weight)
    return made.requires_grad_(False)

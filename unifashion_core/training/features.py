"""What the Q-Former sees of the training pictures: tower features, cached where the tower is
frozen."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - PathLike of anything
    save_file,  # pyright: ignore[reportUnknownVariableType] - likewise
)
from torch import Tensor

from ..encoder.config import PreprocessConfig
from ..encoder.efficientnet_lite import HEAD_WIDTH
from ..encoder.model import UniFashionEncoderModel
from ..encoder.preprocess import preprocess
from ..imaging import content_hash, open_image
from ..types import OnStep
from .arrays import as_tensor
from .augment import random_view
from .config import CacheConfig
from .stem import fit_stem

Indices = npt.NDArray[np.int64]
_STEM_PICTURES = 1200
_LOW_PART = 4  # of a PCA stem's components, one in four reads the tower's lower maps


class FeatureSource:
    """Gives the stem tokens of pictures by index; `cached` or straight from the files.

    Attributes:
        summaries: Gives, of cached pictures, the mean over their views of the first token and of
            all others, (N, 2 W).
    """

    def __init__(
        self,
        fetch: Callable[[Indices, np.random.Generator], Tensor],
        summaries: Callable[[], Tensor] | None = None,
    ) -> None:
        self._fetch = fetch
        self.summaries = summaries

    def __call__(self, pictures: Indices, rng: np.random.Generator) -> Tensor:
        """Tokens before ln_vision, (B, P, W), float32; which view is seen is drawn."""
        return self._fetch(pictures, rng)


def live_features(
    model: UniFashionEncoderModel, folder: Path, images: Sequence[str]
) -> FeatureSource:
    """Encode pictures when they are asked for, as the encoder will see them: the only way to train
    on a large tower's data."""
    config = model.config.preprocess

    @torch.no_grad()
    def fetch(pictures: Indices, rng: np.random.Generator) -> Tensor:
        del rng  # one view, no augmentation, as in the paper
        pixels = torch.stack(
            [preprocess(open_image(folder / images[int(i)]), config)[0] for i in pictures]
        )
        device = next(model.parameters()).device
        return model.stem_tokens(model.tower(pixels.to(device))).float()

    return FeatureSource(fetch)


def cached_features(
    model: UniFashionEncoderModel,
    folder: Path,
    images: Sequence[str],
    sources: Sequence[str],
    config: CacheConfig,
    *,
    cache: Path,
    seed: int,
    on_step: OnStep | None = None,
) -> FeatureSource:
    """Encode some random views of every picture once; a stem of zeros is fitted first.

    Args:
        model: Its tower is used, its stem is fitted in place when it is empty.
        folder: What the paths are relative to.
        images: The pictures.
        sources: The source of each, for the number of views.
        config: Numbers of views, token drop, noise.
        cache: Folder for the features and the stem; what is there is used when it was made from
            the same.
        seed: Of the views.
        on_step: Called with (pictures done, pictures in all).
    """
    cache.mkdir(parents=True, exist_ok=True)
    if model.stem is not None and not bool(model.stem.weight.any()):
        _fit_or_load_stem(model, folder, images, sources, cache, seed)
    counts = [config.views.get(s, config.views.get("", 1)) for s in sources]
    store = _load_all(model, folder, images, counts, cache / _model_key(model, seed), seed, on_step)
    starts = np.concatenate([[0], np.cumsum(counts)])
    views = np.asarray(counts)
    held = as_tensor(store).to(next(model.parameters()).device)

    def fetch(pictures: Indices, rng: np.random.Generator) -> Tensor:
        rows = starts[pictures] + rng.integers(0, views[pictures])
        tokens = held[as_tensor(rows).to(held.device)].float()
        return _disturb(tokens, config, rng, pooled=_has_pooled(model))

    return FeatureSource(fetch, lambda: _summaries(held, counts))


@torch.no_grad()
def _summaries(held: Tensor, counts: Sequence[int]) -> Tensor:
    """The mean over a picture's views of its first token and of its others, (N, 2 W)."""
    rows: list[Tensor] = []
    at = 0
    for count in counts:
        views = held[at : at + count].float()
        rows.append(torch.cat([views[:, 0], views[:, 1:].mean(dim=1)], dim=1).mean(dim=0))
        at += count
    return torch.stack(rows).cpu()


def _disturb(
    tokens: Tensor, config: CacheConfig, rng: np.random.Generator, *, pooled: bool
) -> Tensor:
    """Draw some of the tokens (the pooled one stays) and add noise.

    The noise is drawn where the tokens are: on the processor by `rng` itself, elsewhere by a
    generator that it seeds.
    """
    if config.tokens:
        first = int(pooled)
        kept = np.sort(rng.permutation(tokens.shape[1] - first)[: config.tokens]) + first
        order = np.concatenate([np.arange(first), kept])
        tokens = tokens[:, as_tensor(order).to(tokens.device)]
    # The stem gives components of mean square 1, so the noise needs no scale of its own.
    if config.noise:
        tokens = tokens + config.noise * _normal(tokens.shape, tokens.device, rng)
    if config.pooled_noise and pooled:
        first = tokens[:, :1]
        first = first + config.pooled_noise * _normal(first.shape, tokens.device, rng)
        tokens = torch.cat([first, tokens[:, 1:]], dim=1)
    if config.shared_noise:
        shape = torch.Size([len(tokens), 1, tokens.shape[2] - tokens.shape[2] // _LOW_PART])
        shared = config.shared_noise * _normal(shape, tokens.device, rng)
        wide = torch.nn.functional.pad(shared, (0, tokens.shape[2] - shape[2]))
        rest = tokens[:, int(pooled) :] + wide
        tokens = torch.cat([tokens[:, : int(pooled)], rest], dim=1)
    return tokens


def _normal(shape: torch.Size, device: torch.device, rng: np.random.Generator) -> Tensor:
    if device.type == "cpu":
        return as_tensor(rng.standard_normal(tuple(shape), dtype=np.float32))
    generator = torch.Generator(device).manual_seed(int(rng.integers(2**62)))
    return torch.randn(shape, generator=generator, device=device)


def _has_pooled(model: UniFashionEncoderModel) -> bool:
    return model.stem is not None and model.stem.config.pooled_token


@torch.no_grad()
def _fit_or_load_stem(
    model: UniFashionEncoderModel,
    folder: Path,
    images: Sequence[str],
    sources: Sequence[str],
    cache: Path,
    seed: int,
) -> None:
    """Fit on photos where there are any: what is searched later are photos."""
    assert model.stem is not None
    photos = [n for n, s in zip(images, sources, strict=True) if s == "photo"] or list(images)
    listed = hashlib.sha256("\n".join(photos).encode()).hexdigest()[:8]
    path = cache / f"stem_{_model_key(model, seed)}_{listed}.safetensors"
    if path.is_file():
        model.stem.load_state_dict(load_file(path))
        return
    rng = np.random.default_rng([seed, 11])
    chosen = rng.permutation(len(photos))[:_STEM_PICTURES]
    tokens: list[Tensor] = []
    pooled: list[Tensor] = []
    for i in chosen:
        view = random_view(open_image(folder / photos[int(i)]), model.config.preprocess, rng)
        out = model.tower(view[None].to(model.stem.weight.device))
        tokens.append(out.tokens[0].cpu())
        if out.pooled is not None:
            pooled.append(out.pooled.cpu())
    wide = model.config.stem.out_width
    low = wide // _LOW_PART
    state = fit_stem(
        torch.cat(tokens),
        torch.cat(pooled) if model.stem.config.pooled_token else None,
        widths=(wide - low, low),
        head_width=HEAD_WIDTH,
    )
    # The weights ship in fp16: what the Q-Former is trained on is what it will see.
    state = {k: v.half().float() for k, v in state.items()}
    model.stem.load_state_dict(state)
    save_file(state, path)


def _load_all(
    model: UniFashionEncoderModel,
    folder: Path,
    images: Sequence[str],
    counts: Sequence[int],
    cache: Path,
    seed: int,
    on_step: OnStep | None,
) -> npt.NDArray[np.float16]:
    """The features of all views in order, (sum of counts, P, W); a file a picture, named by its
    content."""
    cache.mkdir(exist_ok=True)
    places, width = _token_shape(model)
    store = np.empty((sum(counts), places, width), dtype=np.float16)
    at = 0
    for i, (name, count) in enumerate(zip(images, counts, strict=True)):
        digest = content_hash(folder / name)
        path = cache / f"{digest[:20]}_{count}.npy"
        if path.is_file():
            found = np.load(path)
        else:
            views = picture_views(
                folder / name, model.config.preprocess, count, [seed, int(digest[:12], 16)]
            )
            found = _encode(model, views)
            partial = path.with_suffix(".partial.npy")
            np.save(partial, found)
            partial.replace(path)
        store[at : at + count] = found
        at += count
        if on_step is not None:
            on_step(i + 1, len(images))
    return store


@torch.no_grad()
def _encode(model: UniFashionEncoderModel, views: Sequence[Tensor]) -> npt.NDArray[np.float16]:
    """Stem tokens of views, (V, P, W). On a processor in twos: a small tower is fastest when its
    maps stay in the cache."""
    device = next(model.parameters()).device
    rows: list[npt.NDArray[np.float16]] = []
    count = 2 if device.type == "cpu" else 64
    for at in range(0, len(views), count):
        pixels = torch.stack(list(views[at : at + count])).to(device)
        tower = model.tower(pixels.contiguous(memory_format=torch.channels_last))
        rows.append(model.stem_tokens(tower).half().cpu().numpy())
    return np.concatenate(rows)


def picture_views(
    path: Path, config: PreprocessConfig, count: int, seed: Sequence[int]
) -> list[Tensor]:
    """The encoder's own views of a picture and random ones, `count` in all, (3, H, W) each."""
    image = open_image(path)
    own = list(preprocess(image, config).unbind(0))[:count]
    rng = np.random.default_rng(list(seed))
    return own + [random_view(image, config, rng) for _ in range(count - len(own))]


def _token_shape(model: UniFashionEncoderModel) -> tuple[int, int]:
    size = model.config.preprocess.size
    pixels = torch.zeros(1, 3, size, size, device=next(model.parameters()).device)
    with torch.no_grad():
        shape = model.stem_tokens(model.tower(pixels)).shape
    return int(shape[1]), int(shape[2])


def _model_key(model: UniFashionEncoderModel, seed: int) -> str:
    """A name for what the features depend on beside the picture: config, tower, stem, seed of the
    views."""
    config: dict[str, Any] = {
        "stem": asdict(model.config.stem),
        "tower": asdict(model.config.tower),
        "pre": asdict(model.config.preprocess),
        "seed": seed,
    }
    digest = hashlib.sha256(json.dumps(config, sort_keys=True).encode())
    for parameter in model.visual_encoder.parameters():
        digest.update(parameter.detach().half().cpu().numpy().tobytes())
    for value in model.stem.state_dict().values() if model.stem is not None else ():
        digest.update(value.detach().half().cpu().numpy().tobytes())
    return digest.hexdigest()[:16]

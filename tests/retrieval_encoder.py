"""A small real encoder for retrieval tests: seeded projections of pictures and texts."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from unifashion_core.errors import InputError
from unifashion_core.types import ImageFeatures, TextFeatures

TOKENS, WIDTH, SIDE = 3, 10, 8


def unit(values: torch.Tensor) -> torch.Tensor:
    return torch.nn.functional.normalize(values, dim=-1)


class ProjectionEncoder:
    """Pixels and hashed words through fixed random matrices; has every ability there is."""

    def __init__(self, seed: int = 0) -> None:
        random = torch.Generator().manual_seed(seed)
        self._pixels = torch.randn(3 * SIDE * SIDE, TOKENS * WIDTH, generator=random)
        self._words = torch.randn(256, WIDTH, generator=random)
        self.fingerprint = hashlib.sha256(f"projection {seed}".encode()).hexdigest()
        self.tokens_per_image, self.width, self.input_size = TOKENS, WIDTH, SIDE
        self.encoded_images = 0
        self.encoded_texts: list[str] = []
        self.batches: list[int] = []

    def preprocess(self, image: Image.Image) -> torch.Tensor:
        small = image.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
        values = np.asarray(small, dtype=np.float32) / 127.5 - 1.0
        return torch.from_numpy(values).permute(2, 0, 1)[None]

    def encode_pixels(self, pixels: torch.Tensor) -> ImageFeatures:
        self.encoded_images += len(pixels)
        self.batches.append(len(pixels))
        flat = pixels[:, 0].flatten(1) + 0.01  # a grey picture has a direction too
        return ImageFeatures(
            unit((flat @ self._pixels).view(-1, TOKENS, WIDTH)), vision=pixels[:, 0].flatten(2)
        )

    def encode_texts(self, texts: Sequence[str]) -> TextFeatures:
        for text in texts:
            words = text.split()
            if len(words) > 1000:
                raise InputError(f"Text: {len(words)} words, at most 1000. Shorten it.")
            if all(word.startswith("qq") for word in words):
                raise InputError("Text: no known word. Use other words.")
        self.encoded_texts += texts
        vectors = torch.stack([self._vector(text) for text in texts])
        unknown = tuple(tuple(w for w in text.split() if w.startswith("qq")) for text in texts)
        return TextFeatures(vectors, tuple(len(t.split()) > 50 for t in texts), unknown)

    def _vector(self, text: str) -> torch.Tensor:
        places = [hashlib.sha256(word.encode()).digest()[0] for word in text.split()[:50]]
        return unit(self._words[places].sum(0))

    def compose_from_vision(self, vision: torch.Tensor, texts: Sequence[str]) -> TextFeatures:
        said = self.encode_texts(texts)
        seen = unit((vision.flatten(1) @ self._pixels)[:, :WIDTH])
        return TextFeatures(unit(said.vectors + seen), said.truncated, said.unknown_words)

    def score_pairs(
        self, text: str, pixels: torch.Tensor, reference: torch.Tensor | None = None
    ) -> torch.Tensor:
        tokens = self.encode_pixels(pixels).tokens
        query = self._vector(text)
        if reference is None:
            return (tokens @ query).mean(1) * 4
        return torch.sigmoid((tokens @ query).mean(1) + reference.mean())


def save_pictures(folder: Path, count: int, seed: int = 0, suffix: str = ".png") -> list[Path]:
    """Distinct small pictures: item00.png, item01.png …"""
    folder.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(seed)
    paths: list[Path] = []
    for number in range(count):
        path = folder / f"item{number:02d}{suffix}"
        values = random.integers(0, 256, (12, 10, 3), dtype=np.uint8)
        Image.fromarray(values).save(path)
        paths.append(path)
    return paths

"""Generation with transformers: settings, progress at every token, cancelling within one."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from typing import Any

import torch
from torch import Tensor, nn

from ..errors import InputError
from ..types import OnStep
from .decoding import DecodingSettings
from .llm_folder import memory_errors, place_of

_SCORES, _FLOAT32 = 3, 4  # of the next words, in float32: as given, shifted, their logarithms


class Progress:
    """Counts the tokens of one batch after another for `on_step`, which may raise to cancel.

    It is called by transformers as a stopping criterion, which is asked after every token.

    Attributes:
        done: Images that are finished.
    """

    def __init__(self, on_step: OnStep | None, images: int, tokens: int) -> None:
        self._on_step = on_step
        self._images, self._tokens = images, tokens
        self._batch = self._made = 0
        self.done = 0

    def begin(self, batch: int) -> None:
        """A batch of so many images begins."""
        self._batch, self._made = batch, 0
        self._report(0)

    def end(self) -> None:
        """It is finished, in however few tokens."""
        self.done += self._batch
        self._batch = 0
        self._report(0)

    def __call__(self, ids: Tensor, scores: Any, **_: Any) -> Tensor:
        self._made = min(self._made + 1, self._tokens)
        self._report(self._made)
        return torch.zeros(ids.shape[0], dtype=torch.bool, device=ids.device)

    def _report(self, made: int) -> None:
        if self._on_step is not None:
            self._on_step(
                self.done * self._tokens + self._batch * made, self._images * self._tokens
            )


def check_settings(settings: DecodingSettings, where: str) -> None:
    """Refuse what only a Q-Former's own decoding can do.

    Raises:
        InputError: If words may not be repeated: a language model's pieces are no words.
    """
    if not settings.repeat_words:
        raise InputError(
            f"{where}: repeat_words false is for Q-Former captioners alone. Raise "
            "repetition_penalty instead."
        )


def generation_arguments(settings: DecodingSettings, tokenizer: Any, model: Any) -> dict[str, Any]:
    """`generate`'s arguments; what they don't say is the folder's own generation config."""
    chosen: dict[str, Any] = {
        "max_new_tokens": settings.max_tokens,
        "min_new_tokens": settings.min_tokens,
        "num_beams": settings.beams if settings.strategy == "beam" else 1,
        "do_sample": settings.strategy == "nucleus",
        "repetition_penalty": settings.repetition_penalty,
        "pad_token_id": tokenizer.pad_token_id,
        "use_cache": True,
    }
    ends = getattr(model.generation_config, "eos_token_id", None)
    known = [] if ends is None else [ends] if isinstance(ends, int) else list(ends)
    if tokenizer.eos_token_id is not None and tokenizer.eos_token_id not in known:
        known.append(tokenizer.eos_token_id)
    chosen["eos_token_id"] = known
    if settings.strategy == "nucleus":
        chosen |= {"top_p": settings.top_p, "top_k": 0, "temperature": settings.temperature}
    if settings.strategy == "beam":
        chosen["length_penalty"] = settings.length_penalty
    return chosen


def generate(
    model: Any,
    inputs: Mapping[str, Any],
    arguments: Mapping[str, Any],
    progress: Progress,
    *,
    seed: int,
) -> Tensor:
    """Run `generate` on one batch; memory that runs out is one kind of error.

    Args:
        model: transformers' network.
        inputs: Of the batch.
        arguments: Of `generation_arguments`.
        progress: Asked after every token.
        seed: What sampling draws from; the process's own random state stays as it is.

    Raises:
        OutOfMemoryError: torch's, on every device.
    """
    device = place_of(model).device
    cards = [device.index or 0] if device.type == "cuda" else []
    kept: Any = torch.random  # fork_rng is untyped in torch
    with kept.fork_rng(devices=cards, enabled=bool(arguments["do_sample"])):
        if arguments["do_sample"]:
            torch.manual_seed(seed)  # pyright: ignore[reportUnknownMemberType] - untyped in torch
        with memory_errors(), warnings.catch_warnings():
            # It says that a prefix of vectors is not penalised, as in the paper.
            warnings.filterwarnings("ignore", message="Passing `repetition_penalty`")
            return model.generate(**inputs, **arguments, stopping_criteria=[progress])


def decoded(tokenizer: Any, rows: Tensor) -> list[str]:
    """Texts of generated ids, without special tokens and outer spaces."""
    texts: Sequence[str] = tokenizer.batch_decode(rows, skip_special_tokens=True)
    return [text.strip() for text in texts]


def one_line(text: str) -> str:
    """A caption without line breaks and runs of spaces."""
    return " ".join(text.split())


def settings_digest(kind: str, identity: str, settings: DecodingSettings, prompt: str) -> str:
    """Hex digest of everything that decides what a captioner writes."""
    parts: list[Any] = [kind, identity, asdict(settings), prompt]
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def generation_bytes(model: nn.Module, config: Any, rows: int, prompt: int, new: int) -> int:
    """Bytes that a generation takes at most beside the weights, for the host's memory manager.

    That is while the prompt is read, in the last layer's feed-forward, with the keys and values of
    all layers; or at the end, with those of all tokens, one layer's twice, and the words' scores.

    Args:
        model: The network.
        config: Of its language model.
        rows: Sequences at a time: images x beams.
        prompt: Tokens of the prompt, pictures among them.
        new: Tokens that are written at most.
    """
    size = place_of(model).element_size()
    hidden = int(getattr(config, "hidden_size", None) or getattr(config, "d_model", 0))
    layers = int(getattr(config, "num_hidden_layers", 0) or 1)
    inner = getattr(config, "intermediate_size", None) or getattr(config, "decoder_ffn_dim", 0)
    heads = int(getattr(config, "num_attention_heads", 0) or 1)
    groups = int(getattr(config, "num_key_value_heads", None) or heads)
    width = int(getattr(config, "head_dim", None) or hidden // heads) * groups
    reading = prompt * (2 * layers * width + 3 * int(inner) + 3 * hidden)
    written = (prompt + new) * 2 * (layers + 1) * width
    scores = int(getattr(config, "vocab_size", 0)) * (size + _SCORES * _FLOAT32)
    return rows * (max(reading, written) * size + scores)

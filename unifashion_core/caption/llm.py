"""A Q-Former's query outputs as the prefix of a language model, which writes the caption."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import AbilityError, CheckpointError
from ..types import GarmentAttributes, ImageEncoder, OnStep
from .batches import in_batches
from .decoding import DecodingSettings
from .llm_folder import LanguageModel, place_of
from .llm_generate import (
    Progress,
    check_settings,
    decoded,
    generate,
    generation_arguments,
    generation_bytes,
    one_line,
    settings_digest,
)
from .prompts import INSTRUCTIONS, PAPER_LLM

BATCH_SIZE = 8


class PrefixModel(nn.Module):
    """The projection and the language model: one network, so that they move together.

    Source: Li et al. 2023 (BLIP-2), section 3.3; the paper's `llm_proj` and `llm_model`.
    """

    def __init__(self, projection: nn.Linear, llm: nn.Module) -> None:
        super().__init__()
        self.llm_proj = projection
        self.llm = llm

    def forward(self, query_outputs: Tensor, ids: Tensor) -> Tensor:
        place = place_of(self.llm)
        prefix = self.llm_proj(query_outputs.to(place.device, self.llm_proj.weight.dtype))
        words = cast(Any, self.llm).get_input_embeddings()(ids.to(place.device))  # (B, L, W)
        return torch.cat([prefix.to(words.dtype), words], dim=1)  # (B, Q + L, W)


@dataclass(frozen=True)
class LlmCaptioner:
    """Satisfies `Captioner`.

    It computes where its weights are; the encoder's are the encoder's own affair.

    Attributes:
        encoder: Gives the Q-Former's query outputs.
        network: Projection and language model.
        tokenizer: The language model's.
        name: For messages.
        identity: Digest of the weights, encoder included.
        settings: How it generates.
        prompt: What stands after the prefix.
        batch_size: Images at a time.
        notes: What was found while loading.
    """

    encoder: ImageEncoder
    network: PrefixModel
    tokenizer: Any
    name: str
    identity: str
    settings: DecodingSettings = PAPER_LLM
    prompt: str = INSTRUCTIONS[0]
    batch_size: int = BATCH_SIZE
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self.settings, f"captioner {self.name!r}")
        self.network.eval()

    @property
    def abilities(self) -> frozenset[str]:
        return frozenset({"caption"})

    @property
    def fingerprint(self) -> str:
        """Of weights, settings and prompt."""
        return settings_digest("llm", self.identity, self.settings, self.prompt)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """What the host's memory manager has to hold, by name; the encoder is not in it."""
        return {"UniFashionCaptioner": self.network}

    def activation_bytes(self, images: int) -> int:
        """Bytes beside the weights that a call with so many images takes at most."""
        batch = min(images, self.batch_size)
        beams = self.settings.beams if self.settings.strategy == "beam" else 1
        queries = int(getattr(self.encoder, "tokens_per_image", 32))
        prompt = queries + instruction_ids(self.tokenizer, self.prompt).shape[1]
        config = cast(Any, self.network.llm).config
        rows, new = batch * beams, self.settings.max_tokens
        return generation_bytes(self.network, config, rows, prompt, new)

    def caption(
        self, images: Sequence[Image.Image], *, on_step: OnStep | None = None, seed: int = 0
    ) -> tuple[str, ...]:
        """One caption an image; see `Captioner`."""
        return tuple(one_line(t) for t in self.ask(images, self.prompt, on_step=on_step, seed=seed))

    def ask(
        self,
        images: Sequence[Image.Image],
        prompt: str,
        *,
        on_step: OnStep | None = None,
        seed: int = 0,
    ) -> tuple[str, ...]:
        """The model's answer about each image.

        Args:
            images: Upright RGB.
            prompt: What is asked.
            on_step: As in `Captioner`.
            seed: What sampling draws from, for each image anew.

        Raises:
            AbilityError: If the encoder has no Q-Former.
            BackendError: If memory runs out on one image.
        """
        progress = Progress(on_step, len(images), self.settings.max_tokens)
        one = self.settings.strategy == "nucleus"  # a drawn text must not depend on its batch
        answers = in_batches(
            images,
            1 if one else self.batch_size,
            lambda part: self._answer(part, prompt, progress, seed),
            f"caption with {self.name!r}",
        )
        return tuple(answers)

    def describe(
        self,
        images: Sequence[Image.Image],
        *,
        masks: Sequence[np.ndarray[Any, Any] | None] | None = None,
        on_step: OnStep | None = None,
    ) -> tuple[GarmentAttributes, ...]:
        """Raise an AbilityError: it was trained on captions alone."""
        raise AbilityError(
            f"attributes with {self.name!r}: it writes captions only. Take them from the encoder, "
            "or from a vision-language model."
        )

    @torch.inference_mode()
    def _answer(
        self, images: Sequence[Image.Image], prompt: str, progress: Progress, seed: int
    ) -> list[str]:
        progress.begin(len(images))
        queries = query_outputs(self.encoder, images)
        ids = instruction_ids(self.tokenizer, prompt).expand(len(images), -1)
        check_prefix(self.network.llm_proj, queries.shape[-1], self.name)
        embeddings = self.network(queries, ids)
        inputs = {
            "inputs_embeds": embeddings,
            "attention_mask": torch.ones(
                embeddings.shape[:2], dtype=torch.int64, device=embeddings.device
            ),
        }
        llm: Any = self.network.llm
        arguments = generation_arguments(self.settings, self.tokenizer, llm)
        rows = generate(llm, inputs, arguments, progress, seed=seed)
        progress.end()
        return decoded(self.tokenizer, rows)

    def changed(self, **values: Any) -> LlmCaptioner:
        """This captioner with other settings, prompt or batch size; its fingerprint follows."""
        return replace(self, **values)


def query_outputs(encoder: ImageEncoder, images: Sequence[Image.Image]) -> Tensor:
    """The Q-Former's outputs of images alone, (B, Q, hidden): no text, so no caption can leak in.

    Raises:
        AbilityError: If the encoder has no Q-Former.
    """
    pixels = torch.stack([encoder.preprocess(image) for image in images])
    found = encoder.encode_pixels(pixels).query_outputs
    if found is None:
        raise AbilityError(
            "captioner: the encoder has no Q-Former, so there is nothing for the language model to "
            "read. Connect a UniFashion or BLIP-2 encoder."
        )
    return found


def instruction_ids(tokenizer: Any, prompt: str) -> Tensor:
    """An instruction as the model reads it, with its begin token and without an end, (1, L)."""
    ids: list[int] = tokenizer(prompt)["input_ids"]
    while ids and ids[-1] == tokenizer.eos_token_id:
        ids.pop()
    return torch.tensor([ids], dtype=torch.int64)


def check_prefix(projection: nn.Linear, hidden: int, name: str) -> None:
    """Compare what the projection reads with what an encoder gives.

    Raises:
        CheckpointError: If the widths differ.
    """
    if projection.in_features != hidden:
        raise CheckpointError(
            f"captioner {name!r}: llm_proj reads vectors of {projection.in_features}, the encoder "
            f"gives {hidden}. Connect the encoder that it was trained with."
        )


def make_projection(weight: Tensor, bias: Tensor, llm: LanguageModel, name: str) -> nn.Linear:
    """`llm_proj` from its two tensors, where the language model is and in its dtype.

    Raises:
        CheckpointError: If the language model reads another width.
    """
    if weight.ndim != 2 or bias.shape != weight.shape[:1]:
        raise CheckpointError(
            f"captioner {name!r}: llm_proj is {tuple(weight.shape)} with a bias of "
            f"{tuple(bias.shape)}, wanted (width, hidden) and (width,). Get the file again."
        )
    if weight.shape[0] != llm.width:
        raise CheckpointError(
            f"captioner {name!r}: llm_proj makes vectors of {weight.shape[0]}, language model "
            f"{llm.name!r} reads {llm.width}. Give the language model that it was trained with "
            "(4096: Vicuna 7B, 5120: 13B)."
        )
    projection = nn.Linear(weight.shape[1], weight.shape[0])
    with torch.no_grad():
        projection.weight.copy_(weight)
        projection.bias.copy_(bias)
    place = place_of(llm.model)
    return projection.to(place.device, place.dtype)

"""Vision-language models of transformers' image-text-to-text classes as captioners."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

from ..errors import AbilityError, ShapeError
from ..types import GarmentAttributes, OnStep
from .batches import in_batches
from .decoding import DecodingSettings
from .llm_folder import memory_errors, place_of
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
from .prompts import GREEDY
from .records import attributes_from_json, json_request
from .vlm_processor import VisionPrompt
from .vocabulary import load_vocabulary

BATCH_SIZE = 4

_SAMPLE = (1024, 1024)  # of a picture: in some families larger ones take more tokens


@dataclass(frozen=True)
class VlmCaptioner:
    """Satisfies `Captioner`; it computes where its weights are.

    Attributes:
        network: transformers' network.
        prompts: Its processor and the form of its prompts.
        name: For messages.
        identity: Digest of its weights.
        settings: How it generates.
        prompt: What it is asked for a caption.
        batch_size: Images at a time.
        notes: What was found while loading.
    """

    network: nn.Module
    prompts: VisionPrompt
    name: str
    identity: str
    settings: DecodingSettings
    prompt: str
    batch_size: int = BATCH_SIZE
    notes: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        check_settings(self.settings, f"captioner {self.name!r}")
        self.network.eval()

    @property
    def abilities(self) -> frozenset[str]:
        return frozenset({"caption", *(["attributes"] if self.prompts.family.attributes else [])})

    @property
    def fingerprint(self) -> str:
        """Of weights, settings and prompt."""
        return settings_digest("vlm", self.identity, self.settings, self.prompt)

    @property
    def modules(self) -> Mapping[str, nn.Module]:
        """What the host's memory manager has to hold, by name."""
        return {"UniFashionCaptioner": self.network}

    def activation_bytes(self, images: int) -> int:
        """Bytes beside the weights that a call with so many images takes at most."""
        config: Any = cast(Any, self.network).config
        text = config.get_text_config()
        beams = self.settings.beams if self.settings.strategy == "beam" else 1
        rows = min(images, self.batch_size) * beams
        sample = self.prompts.batch([Image.new("RGB", _SAMPLE)], self.prompt)
        prompt = int(sample["input_ids"].shape[1])
        return generation_bytes(self.network, text, rows, prompt, self.settings.max_tokens)

    def caption(
        self, images: Sequence[Image.Image], *, on_step: OnStep | None = None, seed: int = 0
    ) -> tuple[str, ...]:
        """One caption an image; see `Captioner`."""
        return tuple(
            one_line(text)
            for text in self._answers(images, self.prompt, on_step=on_step, seed=seed)
        )

    def ask(
        self,
        images: Sequence[Image.Image],
        prompt: str,
        *,
        on_step: OnStep | None = None,
        seed: int = 0,
    ) -> tuple[str, ...]:
        """The model's answer about each image, line breaks and all.

        Args:
            images: Upright RGB.
            prompt: What is asked; its form is the model's own affair.
            on_step: As in `Captioner`.
            seed: What sampling draws from, for each image anew.

        Raises:
            AbilityError: If the model only captions.
            BackendError: If memory runs out on one image.
            InputError: If the prompt holds the model's token for a picture.
        """
        if not self.prompts.family.asks:
            raise AbilityError(
                f"captioner {self.name!r}: it writes captions and answers no other prompt. Load a "
                "model that follows instructions, such as LLaVA or Qwen-VL."
            )
        return self._answers(images, prompt, on_step=on_step, seed=seed)

    def describe(
        self,
        images: Sequence[Image.Image],
        *,
        masks: Sequence[np.ndarray[Any, Any] | None] | None = None,
        on_step: OnStep | None = None,
    ) -> tuple[GarmentAttributes, ...]:
        """Attributes of each image, as the model's JSON says them; see `Captioner`.

        Args:
            images: Upright RGB.
            masks: What is no garment becomes white before the model sees it.
            on_step: As in `Captioner`.

        Raises:
            AbilityError: If its kind writes no JSON.
            InputError: If an answer is no such object; ask for that image alone to know which.
        """
        if "attributes" not in self.abilities:
            raise AbilityError(
                f"attributes with {self.name!r}: this kind of model writes no JSON. Take them from "
                "the encoder, or load a chat model such as LLaVA-NeXT or Qwen-VL."
            )
        vocabulary = load_vocabulary()
        shown = list(images) if masks is None else list(map(_cut_out, images, masks))
        reader = self.changed(settings=GREEDY)  # whatever length and search captions have
        answers = reader.ask(shown, json_request(vocabulary), on_step=on_step)
        return tuple(attributes_from_json(answer, vocabulary) for answer in answers)

    def changed(self, **values: Any) -> VlmCaptioner:
        """This captioner with other settings, prompt or batch size; its fingerprint follows."""
        return replace(self, **values)

    def _answers(
        self, images: Sequence[Image.Image], prompt: str, *, on_step: OnStep | None, seed: int
    ) -> tuple[str, ...]:
        progress = Progress(on_step, len(images), self.settings.max_tokens)
        one = self.settings.strategy == "nucleus"  # a drawn text must not depend on its batch
        return tuple(
            in_batches(
                images,
                1 if one else self.batch_size,
                lambda part: self._answer(part, prompt, progress, seed),
                f"caption with {self.name!r}",
            )
        )

    @torch.inference_mode()
    def _answer(
        self, images: Sequence[Image.Image], prompt: str, progress: Progress, seed: int
    ) -> list[str]:
        progress.begin(len(images))
        network: Any = self.network
        with memory_errors():
            inputs = self._placed(self.prompts.batch(images, prompt))
        arguments = generation_arguments(self.settings, self.prompts.tokenizer, network)
        rows = generate(network, inputs, arguments, progress, seed=seed)
        progress.end()
        return decoded(self.prompts.tokenizer, _answer_ids(rows, inputs["input_ids"]))

    def _placed(self, inputs: Mapping[str, Any]) -> dict[str, Any]:
        place = place_of(self.network)
        placed: dict[str, Any] = {}
        for name, value in inputs.items():
            if isinstance(value, Tensor):
                value = value.to(place.device)
                value = value.to(place.dtype) if value.is_floating_point() else value
            placed[name] = value
        return placed


def _cut_out(image: Image.Image, mask: np.ndarray[Any, Any] | None) -> Image.Image:
    """A picture with everything but its garment white."""
    if mask is None:
        return image
    if mask.shape != (image.height, image.width):
        raise ShapeError(
            f"attributes: a mask is {mask.shape}, its picture {(image.height, image.width)}. Make "
            "them the same size."
        )
    white = Image.new("RGB", image.size, (255, 255, 255))
    keep = Image.fromarray((mask > 0.5).astype(np.uint8) * 255)
    return Image.composite(image, white, keep)


def _answer_ids(rows: Tensor, prompt: Tensor) -> Tensor:
    """What was generated: some classes give it after the prompt, others alone."""
    length = prompt.shape[1]
    repeated = rows.shape[1] >= length and torch.equal(rows[:, :length], prompt)
    return rows[:, length:] if repeated else rows

"""Model folders that transformers reads, opened without their code, the network or torchvision."""

from __future__ import annotations

import hashlib
from collections.abc import Generator, Iterable, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import torch
from torch import Tensor, nn

from ..attention import AttentionBackend, register_with_transformers
from ..deps import require
from ..errors import BackendError, CheckpointError
from ..weights import StoredTensor, raw_bytes, read_config, read_weights, shorten

TRANSFORMERS = "4.53"
"""The first version with a mask interface."""

READ_ERRORS = (OSError, ValueError, RuntimeError, TypeError, LookupError, AttributeError)
"""What transformers is known to raise for a folder that it can't read."""

_TOKENIZERS = ("tokenizer.json", "tokenizer.model", "spiece.model", "vocab.json", "vocab.txt")
_SAMPLE = 4096  # bytes of each end of a tensor that its digest reads
_BUFFERS = ("position_ids", "inv_freq", "masked_bias", ".attn.bias")


@dataclass(frozen=True)
class Placement:
    """Where and how a captioner's networks compute.

    Attributes:
        attention: What every attention goes through.
        device: Of the weights.
        dtype: Of the weights.
    """

    attention: AttentionBackend
    device: torch.device | str = "cpu"
    dtype: torch.dtype = torch.float32


@dataclass(frozen=True)
class LanguageModel:
    """A causal language model and its tokenizer.

    Attributes:
        model: transformers' network, in eval mode.
        tokenizer: transformers' tokenizer, with a padding token.
        width: Of its embeddings.
        digest: Of its folder; see `folder_digest`.
        name: Of its folder.
    """

    model: Any
    tokenizer: Any
    width: int
    digest: str
    name: str


def load_language_model(folder: Path, place: Placement) -> LanguageModel:
    """Load any causal language model that transformers reads; no code of the folder is run.

    Args:
        folder: Holds config.json, weights and tokenizer.
        place: Attention, device, dtype.

    Raises:
        CheckpointError: If it is no such folder, lacks its tokenizer, or weights are missing.
        MissingPackageError: If transformers, or what its tokenizer needs, is absent.
    """
    where = f"language model {folder}"
    config = folder_config(folder, where)
    tokenizer = load_tokenizer(folder, where)
    digest = folder_digest(folder)
    transformers: Any = require("transformers", minimum=TRANSFORMERS)
    model = read_model(transformers.AutoModelForCausalLM, folder, place, where, config)
    embeddings: Any = model.get_input_embeddings()
    if len(tokenizer) > embeddings.num_embeddings:
        raise CheckpointError(
            f"{where}: its tokenizer has {len(tokenizer)} words, its embeddings "
            f"{embeddings.num_embeddings} rows. Use the tokenizer that belongs to these weights."
        )
    return LanguageModel(model, tokenizer, int(embeddings.embedding_dim), digest, folder.name)


def folder_config(folder: Path, where: str) -> dict[str, Any]:
    """The config.json of a model folder.

    Raises:
        CheckpointError: If there is none, or it says no model type.
    """
    config = read_config(folder) if folder.is_dir() else None
    if config is None or not isinstance(config.get("model_type"), str):
        raise CheckpointError(
            f"{where}: not a model folder that transformers reads (no config.json with a "
            "model_type). Give the folder with config.json, weights and tokenizer."
        )
    return config


def load_tokenizer(folder: Path, where: str) -> Any:
    """The tokenizer of a folder, padding on the left, with a padding token.

    Raises:
        CheckpointError: If the folder has none.
        MissingPackageError: If only a SentencePiece file is there and that package is absent.
    """
    if not any((folder / name).is_file() for name in _TOKENIZERS):
        raise CheckpointError(
            f"{where}: no tokenizer in it ({', '.join(_TOKENIZERS)}). Put the tokenizer files of "
            "this model there."
        )
    only_pieces = not any((folder / n).is_file() for n in ("tokenizer.json", "vocab.json"))
    if only_pieces and any((folder / n).is_file() for n in ("tokenizer.model", "spiece.model")):
        require("sentencepiece")
        require("google.protobuf", package="protobuf")
    transformers: Any = require("transformers", minimum=TRANSFORMERS)
    with reading(where, "tokenizer", "Put the tokenizer files of this model there"):
        tokenizer = transformers.AutoTokenizer.from_pretrained(
            str(folder), local_files_only=True, trust_remote_code=False
        )
    return prepare_tokenizer(tokenizer)


def prepare_tokenizer(tokenizer: Any) -> Any:
    """Padding on the left, as generation needs it, with a token that is masked anyway."""
    tokenizer.padding_side = "left"
    if tokenizer.pad_token is None:
        tokenizer.pad_token = tokenizer.unk_token or tokenizer.eos_token
    return tokenizer


def read_model(
    auto: Any,
    folder: Path | None,
    place: Placement,
    where: str,
    described: Mapping[str, Any],
    **values: Any,
) -> Any:
    """A network by one of transformers' classes, whole, in eval mode and where it belongs.

    Args:
        auto: An auto class or a model class.
        folder: Its folder; None where `values` bring `config` and `state_dict`.
        place: Attention, device, dtype.
        where: For messages.
        described: The folder's config.json.
        values: More for `from_pretrained`.

    Raises:
        CheckpointError: If it can't be read without code from it, or weights are missing.
    """
    if folder is not None:
        read_weights(folder)  # refuses what is unsafe before transformers opens it
    with reading(where, "model", "Give a folder that this version of transformers knows"):
        model, report = auto.from_pretrained(
            None if folder is None else str(folder),
            local_files_only=True,
            trust_remote_code=False,
            attn_implementation=_attention_name(described, place.attention),
            output_loading_info=True,
            **{"dtype" if is_new() else "torch_dtype": place.dtype},
            **values,
        )
    lost = [str(k) for part in ("missing_keys", "mismatched_keys") for k in report[part]]
    lost = [name for name in lost if not name.endswith(_BUFFERS)]
    if lost:
        raise CheckpointError(
            f"{where}: {len(lost)} weights are missing or of another shape: {shorten(lost)}. "
            "Get the folder again."
        )
    return model.to(place.device).eval()


@contextmanager
def reading(where: str, what: str, remedy: str) -> Generator[None, None, None]:
    """Say in our form what transformers raises about a folder; its progress bars stay off."""
    logging: Any = require("transformers.utils.logging", package="transformers")
    shown = bool(logging.is_progress_bar_enabled())
    logging.disable_progress_bar()
    try:
        yield
    except READ_ERRORS as e:
        raise CheckpointError(
            f"{where}: transformers can't read its {what} ({first_line(e)}). {remedy}."
        ) from e
    finally:
        if shown:
            logging.enable_progress_bar()


def is_new() -> bool:
    """Whether transformers is 5 or newer, which renamed some of its arguments."""
    transformers: Any = require("transformers", minimum=TRANSFORMERS)
    return int(str(transformers.__version__).split(".")[0]) >= 5


def first_line(error: BaseException) -> str:
    """The first line of a message, which for transformers is the one that says it."""
    return (str(error).strip() or type(error).__name__).splitlines()[0]


def folder_digest(path: Path) -> str:
    """A digest of weights that takes no reading of all of them: names, shapes, types, and both
    ends of each tensor.

    A language model has many gigabytes; any training changes every tensor that it touches.
    """
    weights = read_weights(path)
    return digest_tensors(weights.tensors)


def digest_tensors(tensors: Mapping[str, StoredTensor]) -> str:
    """`folder_digest` of tensors."""
    digest = hashlib.sha256()
    for name in sorted(tensors):
        stored = tensors[name]
        digest.update(f"{name} {stored.shape} {stored.dtype}\n".encode())
        flat = stored.read().reshape(-1)
        count = max(_SAMPLE // flat.element_size(), 1)
        digest.update(raw_bytes(flat[:count]))
        digest.update(raw_bytes(flat[-count:]))
    return digest.hexdigest()


def linear_names(model: nn.Module, *, inside: str = "") -> list[str]:
    """Names of all Linear layers below `inside` but the output head: what LoRA adapts."""
    modules: Iterable[tuple[str, nn.Module]] = cast(Any, model).named_modules()
    head = cast(Any, model).get_output_embeddings()
    return [
        name
        for name, module in modules
        if isinstance(module, nn.Linear) and module is not head and name.startswith(inside)
    ]


def place_of(model: nn.Module) -> Tensor:
    """A weight: what comes in follows its device and dtype."""
    return next(model.parameters())


@contextmanager
def memory_errors() -> Generator[None, None, None]:
    """Every way in which a device says that its memory is full, as torch's one error for it."""
    try:
        yield
    except torch.OutOfMemoryError:
        raise
    except (RuntimeError, MemoryError) as e:
        text = str(e).lower()
        if isinstance(e, BackendError) or not any(
            sign in text for sign in ("out of memory", "can't allocate", "not enough memory")
        ):
            raise
        raise torch.OutOfMemoryError(first_line(e)) from e


def _attention_name(config: Mapping[str, Any], attention: AttentionBackend) -> str:
    """Our dispatcher's name; models that cap their scores or have sinks compute their own."""
    parts: list[Any] = [v for v in config.values() if isinstance(v, Mapping)]
    described: list[Mapping[str, Any]] = [config, *parts]
    own = any(
        d.get("attn_logit_softcapping") or d.get("model_type") in ("gpt_oss", "t5")
        for d in described
    )
    return "eager" if own else register_with_transformers(attention)

"""The one attention dispatcher that every network goes through: host, xformers, torch's SDPA, or
plain mathematics.

The backend is chosen once, when a model is loaded, and handed to its modules. Nothing is registered
or patched at import.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from itertools import count
from typing import Any, Literal, cast

import torch
from torch import Tensor
from torch.nn import functional as F

from .deps import require
from .errors import BackendError, InputError, ShapeError

AttentionName = Literal["auto", "host", "xformers", "sdpa", "math"]
ATTENTION_NAMES: tuple[AttentionName, ...] = ("auto", "host", "xformers", "sdpa", "math")
"""What a loader node or a command offers."""

HostFunction = Callable[..., Tensor]
"""ComfyUI's optimized_attention(q, k, v, heads, mask=, skip_reshape=, skip_output_reshape=)."""

_Run = Callable[[Tensor, Tensor, Tensor, "Tensor | None", float], Tensor]

_log = logging.getLogger("unifashion.attention")

# What an unusable xformers is known to raise: absent, built for another torch, no kernel for this
# device.
_PROBE_ERRORS = (
    ImportError,
    OSError,
    AttributeError,
    NotImplementedError,
    RuntimeError,
    TypeError,
    ValueError,
)


@dataclass(frozen=True)
class AttentionBackend:
    """One way to compute attention; call it with q, k, v and a mask.

    Attributes:
        name: "host", "xformers", "sdpa" or "math".
        run: The computation, given an additive mask in q's dtype, or None, and a dropout rate.
    """

    name: str
    run: _Run

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None = None, *, dropout: float = 0.0
    ) -> Tensor:
        """Softmax(q k^T / sqrt(K) + mask) v.

        Args:
            q: Queries, (B, H, Mq, K).
            k: Keys, (B, H, Mk, K).
            v: Values, (B, H, Mk, K).
            mask: Boolean (True = attend) or additive, broadcastable to (B, H, Mq, Mk).
            dropout: Share of attention weights dropped; training only.

        Returns:
            Attended values, (B, H, Mq, K).

        Raises:
            InputError: If the mask is neither boolean nor floating-point.
            ShapeError: If the shapes do not fit each other.
        """
        if q.ndim != 4 or k.shape != v.shape or q.shape[:2] != k.shape[:2]:
            raise ShapeError(
                f"attention: q {tuple(q.shape)}, k {tuple(k.shape)}, v {tuple(v.shape)} don't fit. "
                "Pass (B, H, M, K) with equal B, H and K."
            )
        return self.run(q, k, v, None if mask is None else _additive(mask, q), dropout)


def choose_attention(
    name: AttentionName | str = "auto",
    device: torch.device | str = "cpu",
    dtype: torch.dtype = torch.float32,
    host_function: HostFunction | None = None,
) -> AttentionBackend:
    """Pick the attention that every network of a model will use, and log it once.

    Args:
        name: "auto" takes the host's function when there is one, else xformers when a tiny call of
            it works, else SDPA.
        device: Where the model will run.
        dtype: What it will compute in.
        host_function: The host's attention, as the loader node passes it in.

    Raises:
        BackendError: If an explicit choice can't run here.
        InputError: If the name is none of `ATTENTION_NAMES`.
    """
    device = torch.device(device)
    if name not in ATTENTION_NAMES:
        raise InputError(
            f"attention: {name!r} is not a backend. Choose one of {', '.join(ATTENTION_NAMES)}."
        )
    backend = _automatic(device, dtype, host_function) if name == "auto" else None
    backend = backend or _explicit(name, device, dtype, host_function)
    _log_once(backend.name, name, str(device))
    return backend


def math_attention() -> AttentionBackend:
    """The oracle: matrix products and a softmax in float32."""
    return AttentionBackend("math", _run_math)


def sdpa_attention() -> AttentionBackend:
    """Torch's scaled_dot_product_attention, which runs everywhere."""
    return AttentionBackend("sdpa", _run_sdpa)


def register_with_transformers(attention: AttentionBackend) -> str:
    """Make a backend known to transformers, and return the name to use as `attn_implementation`.

    It is entered in the attention interface and in the mask interface: without the second,
    transformers drops the padding mask silently. Calling it again with the same backend gives the
    same name; another backend never takes over a name.

    Raises:
        MissingPackageError: If transformers is absent or too old.
    """
    functions: Any = require("transformers.modeling_utils", package="transformers", minimum="4.50")
    masks: Any = require("transformers.masking_utils", package="transformers", minimum="4.53")
    interface, mask_interface = functions.ALL_ATTENTION_FUNCTIONS, masks.AttentionMaskInterface()
    entry = _TransformersAttention(attention)
    for number in count():
        name = f"unifashion_{attention.name}" + (f"_{number}" if number else "")
        known = interface.get(name)
        if known is None:
            interface.register(name, entry)
        if known is None or known == entry:
            mask_interface.register(name, _explicit_mask)
            return name
    raise AssertionError("unreachable")


def route_multihead_attention(model: torch.nn.Module, attention: AttentionBackend) -> int:
    """Send every `torch.nn.MultiheadAttention` inside a model through the dispatcher; keys stay.

    transformers' SigLIP pools its image tokens with one, beside its own attention interface.

    Returns:
        How many there were.
    """
    modules: list[torch.nn.Module] = list(cast(Any, model).modules())
    found = 0
    for parent in modules:
        children: list[tuple[str, torch.nn.Module]] = list(parent.named_children())
        for name, child in children:
            if isinstance(child, torch.nn.MultiheadAttention):
                setattr(parent, name, _RoutedMultihead(child, attention))
                found += 1
    return found


def _automatic(
    device: torch.device, dtype: torch.dtype, host_function: HostFunction | None
) -> AttentionBackend:
    if host_function is not None:
        return AttentionBackend("host", _HostRun(host_function))
    try:
        return _xformers(device, dtype)
    except BackendError as e:
        _log.debug("auto: %s", e)
        return sdpa_attention()


def _explicit(
    name: str, device: torch.device, dtype: torch.dtype, host_function: HostFunction | None
) -> AttentionBackend:
    if name == "math":
        return math_attention()
    if name == "sdpa":
        return sdpa_attention()
    if name == "xformers":
        return _xformers(device, dtype)
    if host_function is None:
        raise BackendError(
            "attention 'host': no host offers one here. Choose auto, xformers, sdpa or math."
        )
    return AttentionBackend("host", _HostRun(host_function))


def _xformers(device: torch.device, dtype: torch.dtype) -> AttentionBackend:
    """xformers, if a tiny call agrees with the oracle: it can import and still have no kernel for
    the device.
    """
    try:
        ops: Any = require("xformers.ops", package="xformers")
        backend = AttentionBackend("xformers", _XformersRun(ops.memory_efficient_attention))
        _probe(backend, device, dtype)
    except _PROBE_ERRORS as e:
        raise BackendError(
            f"attention 'xformers': can't run on {device} in {dtype} ({type(e).__name__}: {e}). "
            "Choose auto or sdpa, or install the xformers that fits this torch."
        ) from e
    return backend


def _probe(backend: AttentionBackend, device: torch.device, dtype: torch.dtype) -> None:
    """One tiny call with a mask; a wrong answer counts as a failure."""
    ramp = torch.linspace(-1, 1, 3 * 2 * 5 * 32, device=device).view(3, 1, 2, 5, 32).to(dtype)
    q, k, v = ramp.unbind(0)
    mask = torch.arange(5, device=device)[None, None, None, :] < 4
    got, expected = backend(q, k, v, mask), math_attention()(q, k, v, mask)
    difference = float((got.float() - expected.float()).abs().max())
    if got.shape != q.shape or not difference < 2e-2:
        raise RuntimeError(f"its answer to a tiny call is off by {difference:.3g}")


@lru_cache(maxsize=64)
def _log_once(used: str, asked: str, device: str) -> None:
    _log.info("attention on %s: %s%s", device, used, "" if used == asked else f" (by {asked})")


def _additive(mask: Tensor, q: Tensor) -> Tensor:
    """An additive mask in q's dtype, finite: a kernel that works in chunks makes NaN of a chunk
    that is all -inf.
    """
    lowest = torch.finfo(q.dtype).min / 2
    mask = mask.reshape((1,) * (4 - mask.ndim) + tuple(mask.shape))
    if mask.dtype == torch.bool:
        bias = torch.zeros(mask.shape, dtype=q.dtype, device=mask.device)
        return bias.masked_fill_(~mask, lowest)
    if not mask.is_floating_point():
        raise InputError(
            f"attention: a mask of {mask.dtype} has no one meaning. Pass a boolean or additive one."
        )
    return mask.clamp(min=lowest).to(q.dtype)


def _spread(bias: Tensor, q: Tensor, k: Tensor, multiple: int = 1) -> Tensor:
    """A bias as (B or 1, H or 1, Mq, Mk), its rows padded in memory to a multiple."""
    rows, keys = q.shape[2], k.shape[2]
    room = bias.new_zeros(bias.shape[0], bias.shape[1], rows, -(-keys // multiple) * multiple)
    room[..., :keys] = bias
    return room[..., :keys]


def _run_math(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    scores = (q.float() @ k.float().transpose(-1, -2)) / math.sqrt(q.shape[-1])
    if bias is not None:
        scores = scores + bias.float()
    weights = scores.softmax(dim=-1)
    if dropout:
        weights = F.dropout(weights, dropout)
    return (weights @ v.float()).to(q.dtype)


def _run_sdpa(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
    return F.scaled_dot_product_attention(q, k, v, attn_mask=bias, dropout_p=dropout)


@dataclass(frozen=True)
class _XformersRun:
    """xformers' layout is [B, M, H, K]; a bias must be (B, H, Mq, Mk) with rows that start at
    multiples of 8.
    """

    function: Callable[..., Tensor]

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float
    ) -> Tensor:
        if bias is not None:
            bias = _spread(bias, q, k, multiple=8).expand(q.shape[0], q.shape[1], -1, -1)
        q, k, v = (t.transpose(1, 2) for t in (q, k, v))  # (B, M, H, K)
        return self.function(q, k, v, attn_bias=bias, p=dropout).transpose(1, 2)


@dataclass(frozen=True)
class _HostRun:
    """ComfyUI's function; some of its kernels misread boolean or thin masks, so it gets a whole
    additive one.
    """

    function: HostFunction

    def __call__(
        self, q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float
    ) -> Tensor:
        if dropout:
            raise BackendError("attention 'host': it has no dropout. Train with sdpa or math.")
        mask = None if bias is None else _spread(bias, q, k)
        return self.function(
            q, k, v, q.shape[1], mask=mask, skip_reshape=True, skip_output_reshape=True
        )


class _RoutedMultihead(torch.nn.Module):
    """A MultiheadAttention with the weights of another, computed by a backend; batch first, no
    weights returned.
    """

    def __init__(self, source: torch.nn.MultiheadAttention, attention: AttentionBackend) -> None:
        super().__init__()
        self.attention = attention
        self.heads: int = int(cast(Any, source).num_heads)
        self.in_proj_weight = source.in_proj_weight
        self.in_proj_bias = source.in_proj_bias
        self.out_proj = source.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None
    ) -> tuple[Tensor, None]:
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        q, k, v = (
            self._split(F.linear(x, w, b))
            for x, w, b in zip((query, key, value), weights, biases, strict=True)
        )
        if attn_mask is not None:
            if attn_mask.dtype == torch.bool:
                attn_mask = ~attn_mask  # torch's module marks what may not be seen
            if attn_mask.ndim == 3:  # (B * H, Mq, Mk)
                attn_mask = attn_mask.view(q.shape[0], self.heads, *attn_mask.shape[1:])
        seen = self.attention(q, k, v, attn_mask)
        return self.out_proj(seen.transpose(1, 2).flatten(2)), None

    def _split(self, x: Tensor) -> Tensor:  # (B, M, hidden) -> (B, H, M, K)
        batch, length, hidden = x.shape
        return x.view(batch, length, self.heads, hidden // self.heads).transpose(1, 2)


# What some language models pass to their attention; left out, their answers would be wrong.
_NOT_COMPUTED = ("softcap", "s_aux", "position_bias")


@dataclass(frozen=True)
class _TransformersAttention:
    """A backend behind transformers' attention interface."""

    attention: AttentionBackend

    def __call__(
        self,
        module: torch.nn.Module,
        query: Tensor,
        key: Tensor,
        value: Tensor,
        attention_mask: Tensor | None,
        dropout: float = 0.0,
        scaling: float | None = None,
        is_causal: bool | None = None,
        **kwargs: Any,
    ) -> tuple[Tensor, None]:
        odd = [name for name in _NOT_COMPUTED if kwargs.get(name) is not None]
        if odd:
            raise BackendError(
                f"attention {self.attention.name!r}: {type(module).__name__} wants "
                f"{', '.join(odd)}, which it can't compute. Load this model with transformers' "
                "'eager'."
            )
        if is_causal is None:
            is_causal = bool(getattr(module, "is_causal", False))
        if key.shape[1] != query.shape[1]:  # grouped queries share keys: (B, groups, Mk, K)
            shared = query.shape[1] // key.shape[1]
            key, value = (t.repeat_interleave(shared, dim=1) for t in (key, value))
        if attention_mask is None and is_causal and query.shape[2] > 1:
            # transformers may leave a causal mask to the kernel; ours take it as a tensor.
            shape = (query.shape[2], key.shape[2])
            attention_mask = torch.ones(shape, dtype=torch.bool, device=query.device).tril(
                key.shape[2] - query.shape[2]
            )
        if scaling is not None and not math.isclose(scaling, query.shape[-1] ** -0.5):
            query = query * (scaling * math.sqrt(query.shape[-1]))
        out = self.attention(query, key, value, attention_mask, dropout=dropout)
        return out.transpose(1, 2).contiguous(), None  # (B, Mq, H, K)


def _explicit_mask(*args: Any, **kwargs: Any) -> Tensor | None:
    """transformers' boolean mask, never left to a kernel's `is_causal` flag."""
    masks: Any = require("transformers.masking_utils", package="transformers")
    kwargs["allow_is_causal_skip"] = False
    return masks.AttentionMaskInterface()["sdpa"](*args, **kwargs)

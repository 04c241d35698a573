"""The attention dispatcher: each backend against plain mathematics, the choice, and the way into
transformers.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable
from types import ModuleType
from typing import Any

import pytest
import torch
from reference.encoder_oracles import random_model, small_config
from torch import Tensor

from unifashion_core.attention import (
    ATTENTION_NAMES,
    AttentionBackend,
    choose_attention,
    math_attention,
    register_with_transformers,
    route_multihead_attention,
    sdpa_attention,
)
from unifashion_core.errors import BackendError, InputError, ShapeError

B, H, MQ, MK, K = 2, 3, 5, 11, 8


def xformers_function(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attn_bias: Tensor | None = None,
    p: float = 0.0,
) -> Tensor:
    """As xformers.ops.memory_efficient_attention: [B, M, H, K], a whole bias whose rows start at
    multiples of 8.
    """
    batch, rows, heads, width = query.shape
    keys = key.shape[1]
    assert key.shape == value.shape == (batch, keys, heads, width)
    if attn_bias is not None:
        assert attn_bias.shape == (batch, heads, rows, keys)
        assert attn_bias.dtype == query.dtype
        assert attn_bias.stride(-2) % 8 == 0
        assert attn_bias.stride(-1) == 1
    scores = torch.einsum("bqhk,bmhk->bhqm", query, key) * width**-0.5
    if attn_bias is not None:
        scores = scores + attn_bias
    return torch.einsum("bhqm,bmhk->bqhk", scores.softmax(-1), value)


def host_function(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    heads: int,
    mask: Tensor | None = None,
    skip_reshape: bool = False,
    skip_output_reshape: bool = False,
    **kwargs: Any,
) -> Tensor:
    """As ComfyUI's optimized_attention, with a mask as the strictest of its kernels reads it."""
    assert skip_reshape
    assert skip_output_reshape
    assert heads == q.shape[1]
    if mask is not None:
        assert mask.is_floating_point()
        assert mask.shape[-2:] == (q.shape[2], k.shape[2])
        assert torch.isfinite(mask).all()
        flat = mask.expand(q.shape[0], heads, -1, -1).reshape(-1, *mask.shape[-2:])
        mask = flat.view(q.shape[0], heads, *flat.shape[1:])
    return torch.nn.functional.scaled_dot_product_attention(q, k, v, attn_mask=mask)


@pytest.fixture
def fake_xformers(monkeypatch: pytest.MonkeyPatch) -> Callable[[Callable[..., Tensor]], None]:
    """Install a stand-in module with a given function."""

    def install(function: Callable[..., Tensor]) -> None:
        package, ops = ModuleType("xformers"), ModuleType("xformers.ops")
        vars(ops)["memory_efficient_attention"] = function
        vars(package)["ops"] = ops
        monkeypatch.setitem(sys.modules, "xformers", package)
        monkeypatch.setitem(sys.modules, "xformers.ops", ops)

    return install


@pytest.fixture(params=["host", "xformers", "sdpa"])
def backend(
    request: pytest.FixtureRequest, fake_xformers: Callable[[Callable[..., Tensor]], None]
) -> AttentionBackend:
    fake_xformers(xformers_function)
    return choose_attention(request.param, host_function=host_function)


def tensors(seed: int = 0, dtype: torch.dtype = torch.float32) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    q = torch.randn(B, H, MQ, K, generator=generator, dtype=dtype)
    k, v = torch.randn(2, B, H, MK, K, generator=generator, dtype=dtype)
    return q, k, v


def padding() -> Tensor:
    """(B, 1, 1, MK), the last keys of each item are padding."""
    return (torch.arange(MK) < torch.tensor([[7], [3]]))[:, None, None, :]


MASKS = {
    "none": None,
    "padding": padding(),
    "causal": torch.ones(MQ, MK, dtype=torch.bool).tril(3),
    "per head": torch.rand(B, H, MQ, MK, generator=torch.Generator().manual_seed(2)) > 0.3,
    "additive": torch.randn(B, 1, MQ, MK, generator=torch.Generator().manual_seed(3)),
    "additive of one row": torch.randn(MK, generator=torch.Generator().manual_seed(4)),
    "minus infinity": torch.zeros(B, 1, 1, MK).masked_fill(~padding(), float("-inf")),
    "nothing to see": torch.zeros(1, 1, 1, MK, dtype=torch.bool),
}


@pytest.mark.parametrize("name", MASKS)
def test_every_backend_equals_math(backend: AttentionBackend, name: str) -> None:
    q, k, v = tensors()
    expected = math_attention()(q, k, v, MASKS[name])
    got = backend(q, k, v, MASKS[name])
    assert torch.isfinite(got).all()
    torch.testing.assert_close(got, expected, atol=2e-6, rtol=0)


def test_math_equals_a_loop() -> None:
    q, k, v = tensors()
    got = math_attention()(q, k, v, padding())
    for b in range(B):
        count = int(padding()[b].sum())
        for h in range(H):
            for i in range(MQ):
                weights = (k[b, h, :count] @ q[b, h, i] * K**-0.5).softmax(0)
                expected = weights @ v[b, h, :count]
                torch.testing.assert_close(got[b, h, i], expected, atol=1e-6, rtol=0)


def test_padded_keys_have_no_influence(backend: AttentionBackend) -> None:
    q, k, v = tensors()
    hidden = ~padding().transpose(-1, -2)
    changed = backend(q, k.masked_fill(hidden, 50.0), v.masked_fill(hidden, -50.0), padding())
    torch.testing.assert_close(changed, backend(q, k, v, padding()), atol=0, rtol=0)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_keeps_its_dtype(backend: AttentionBackend, dtype: torch.dtype) -> None:
    q, k, v = tensors(dtype=dtype)
    got = backend(q, k, v, padding())
    assert got.dtype == dtype
    expected = math_attention()(q, k, v, padding())
    torch.testing.assert_close(got.float(), expected.float(), atol=3e-2, rtol=0)


def test_gradients_equal_those_of_math() -> None:
    found: list[Tensor] = []
    for backend in (math_attention(), sdpa_attention()):
        q, k, v = (t.requires_grad_() for t in tensors())
        backend(q, k, v, padding()).square().sum().backward()
        assert q.grad is not None
        found.append(q.grad)
    torch.testing.assert_close(found[0], found[1], atol=1e-5, rtol=0)


def test_dropout_drops_and_the_host_refuses_it() -> None:
    q, k, v = tensors()
    torch.manual_seed(0)
    for backend in (math_attention(), sdpa_attention()):
        assert not torch.equal(backend(q, k, v, dropout=0.5), backend(q, k, v))
    with pytest.raises(BackendError, match="it has no dropout"):
        choose_attention("host", host_function=host_function)(q, k, v, dropout=0.5)


def test_wrong_shapes_are_named() -> None:
    q, k, v = tensors()
    with pytest.raises(ShapeError, match="don't fit"):
        math_attention()(q, k[:, :, :-1], v)
    with pytest.raises(ShapeError, match=r"Pass \(B, H, M, K\)"):
        math_attention()(q[0], k[0], v[0])


def test_mask_of_integers_is_refused() -> None:
    q, k, v = tensors()
    with pytest.raises(InputError, match="a mask of torch.int64 has no one meaning"):
        math_attention()(q, k, v, torch.ones(MK, dtype=torch.int64))


def test_auto_takes_the_host_then_xformers_then_sdpa(
    fake_xformers: Callable[[Callable[..., Tensor]], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    fake_xformers(xformers_function)
    assert choose_attention("auto", host_function=host_function).name == "host"
    assert choose_attention("auto").name == "xformers"
    monkeypatch.setitem(sys.modules, "xformers.ops", None)  # import fails
    assert choose_attention("auto").name == "sdpa"


def raises_not_implemented(*args: Any, **kwargs: Any) -> Tensor:
    raise NotImplementedError("No operator found for memory_efficient_attention_forward")


def answers_wrong(query: Tensor, *args: Any, **kwargs: Any) -> Tensor:
    return torch.zeros_like(query)


@pytest.mark.parametrize("function", [raises_not_implemented, answers_wrong])
def test_unusable_xformers_is_passed_over_by_auto_and_refused_when_asked_for(
    fake_xformers: Callable[[Callable[..., Tensor]], None], function: Callable[..., Tensor]
) -> None:
    fake_xformers(function)
    assert choose_attention("auto").name == "sdpa"
    with pytest.raises(BackendError, match="attention 'xformers': can't run on cpu"):
        choose_attention("xformers")


def test_absent_xformers_and_absent_host_are_errors(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "xformers", None)
    monkeypatch.setitem(sys.modules, "xformers.ops", None)
    with pytest.raises(BackendError, match="attention 'xformers': can't run"):
        choose_attention("xformers")
    with pytest.raises(BackendError, match="attention 'host': no host offers one"):
        choose_attention("host")


def test_unknown_name_lists_the_choices() -> None:
    with pytest.raises(InputError, match="'flash' is not a backend. Choose one of auto, host"):
        choose_attention("flash")
    assert set(ATTENTION_NAMES) == {"auto", "host", "xformers", "sdpa", "math"}


def test_log_says_once_which_backend_runs(logged: Any) -> None:
    seen = logged("unifashion.attention", logging.INFO)
    for _ in range(3):
        choose_attention("math", torch.device("cpu", 0))
    lines = [line for line in seen.lines if "math" in line]
    assert lines == ["attention on cpu:0: math"]


@pytest.mark.gpu
def test_real_xformers_equals_math() -> None:
    pytest.importorskip("xformers")
    if not torch.cuda.is_available():
        pytest.skip("needs a CUDA device")
    for dtype in (torch.float16, torch.float32):
        backend = choose_attention("xformers", "cuda", dtype)
        q, k, v = (t.cuda() for t in tensors(dtype=dtype))
        for mask in (None, padding().cuda(), MASKS["per head"]):
            mask = mask if mask is None else mask.cuda()
            expected = math_attention()(q, k, v, mask)
            torch.testing.assert_close(
                backend(q, k, v, mask).float(), expected.float(), atol=5e-3, rtol=0
            )


@torch.inference_mode()
def test_padded_text_of_the_qformer_equals_math(backend: AttentionBackend) -> None:
    """All four modes, with texts of three lengths."""
    ids = torch.tensor([[4, 9, 7, 5, 6], [4, 8, 5, 0, 0], [4, 0, 0, 0, 0]])
    mask = (ids > 0).long()
    vision = torch.randn(3, 6, 24, generator=torch.Generator().manual_seed(0))
    found: list[Tensor] = []
    for attention in (math_attention(), backend):
        model = random_model(small_config(), seed=4, attention=attention)
        parts = [
            model.image_states(vision),
            model.text_states(ids, mask)[mask.bool()],
            model.composed_features(vision, ids, mask),
            model.itm_logits(vision, ids, mask),
            model.lm_logits(ids, mask, model.image_cache(vision)[1])[mask.bool()],
        ]
        found.append(torch.cat([part.flatten() for part in parts]))
    torch.testing.assert_close(found[0], found[1], atol=2e-5, rtol=0)


# transformers


def text_model(kind: str, name: str) -> torch.nn.Module:
    import transformers

    sizes: dict[str, Any] = {
        "vocab_size": 50,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "max_position_embeddings": 16,
    }
    torch.manual_seed(0)
    if kind == "clip":
        config = transformers.CLIPTextConfig(**sizes, eos_token_id=2, bos_token_id=1)
        return transformers.CLIPTextModel._from_config(config, attn_implementation=name).eval()
    config = transformers.SiglipTextConfig(**sizes)
    return transformers.SiglipTextModel._from_config(config, attn_implementation=name).eval()


def padded_texts() -> dict[str, Tensor]:
    ids = torch.randint(3, 50, (3, 9), generator=torch.Generator().manual_seed(1))
    mask = torch.tensor([[1] * 9, [1] * 6 + [0] * 3, [1] * 2 + [0] * 7])
    return {"input_ids": ids * mask + 2 * (1 - mask), "attention_mask": mask}


@pytest.mark.parametrize("kind", ["clip", "siglip"])
def test_padded_text_of_transformers_models_equals_eager(
    kind: str, backend: AttentionBackend
) -> None:
    """Without an entry in the mask interface the padding mask would be dropped silently."""
    texts = padded_texts()
    real = texts["attention_mask"].bool()
    with torch.inference_mode():
        eager = text_model(kind, "eager")(**texts).last_hidden_state[real]
        for ours in (math_attention(), backend):
            model = text_model(kind, register_with_transformers(ours))
            got = model(**texts).last_hidden_state[real]
            torch.testing.assert_close(got, eager, atol=1e-5, rtol=0)
            changed = {**texts, "input_ids": texts["input_ids"].masked_fill(~real, 7)}
            again = model(**changed).last_hidden_state[real]
            torch.testing.assert_close(again, got, atol=1e-6, rtol=0)


def test_multihead_modules_are_routed_with_their_weights_and_masks(
    backend: AttentionBackend,
) -> None:
    torch.manual_seed(0)
    holder = torch.nn.ModuleDict({"pool": torch.nn.MultiheadAttention(16, 2, batch_first=True)})
    x, probe = torch.randn(3, 7, 16), torch.randn(3, 1, 16)
    hidden = torch.rand(6, 1, 7) > 0.6  # (B * H, Mq, Mk), True = not seen
    hidden[..., 0] = False
    names = set(holder.state_dict())
    expected = [holder["pool"](probe, x, x, attn_mask=m)[0] for m in (None, hidden)]
    assert route_multihead_attention(holder, backend) == 1
    assert set(holder.state_dict()) == names
    for mask, value in zip((None, hidden), expected, strict=True):
        got = holder["pool"](probe, x, x, attn_mask=mask)[0]
        torch.testing.assert_close(got, value, atol=1e-5, rtol=0)
    assert route_multihead_attention(holder, backend) == 0


@torch.inference_mode()
def test_siglip_vision_model_has_no_attention_beside_the_dispatcher() -> None:
    import transformers

    config = transformers.SiglipVisionConfig(
        hidden_size=32,
        intermediate_size=48,
        num_hidden_layers=2,
        num_attention_heads=4,
        image_size=28,
        patch_size=7,
    )
    calls: list[str] = []

    def run(q: Tensor, k: Tensor, v: Tensor, bias: Tensor | None, dropout: float) -> Tensor:
        calls.append("x")
        return math_attention().run(q, k, v, bias, dropout)

    counted = AttentionBackend("math", run)
    name = register_with_transformers(counted)
    model = transformers.SiglipVisionModel._from_config(config, attn_implementation=name).eval()
    pixels = torch.randn(2, 3, 28, 28, generator=torch.Generator().manual_seed(0))
    expected = model(pixels).pooler_output
    calls.clear()
    assert route_multihead_attention(model, counted) == 1
    got = model(pixels).pooler_output
    assert len(calls) == 3  # two layers and the pooling head
    torch.testing.assert_close(got, expected, atol=1e-5, rtol=0)


def test_registering_again_gives_the_same_name_and_another_backend_another() -> None:
    first = register_with_transformers(sdpa_attention())
    assert register_with_transformers(sdpa_attention()) == first
    counted = AttentionBackend("sdpa", lambda q, k, v, bias, dropout: q)
    other = register_with_transformers(counted)
    assert other != first
    assert register_with_transformers(counted) == other
    assert register_with_transformers(sdpa_attention()) == first

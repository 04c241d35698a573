"""A precision that is slow on this machine is told; training itself stays as it was asked for."""

import platform
from collections.abc import Callable
from typing import Any

import pytest
import torch

from unifashion_core.training import precision
from unifashion_core.training.precision import has_bf16, make_accelerator

pytest.importorskip("accelerate")


class _Device:
    def __init__(self, kind: str) -> None:
        self.device = torch.device(kind)


@pytest.mark.parametrize(
    ("wanted", "device", "able", "warned"),
    [
        ("bf16", "cpu", False, True),
        ("bf16", "cpu", True, False),
        ("no", "cpu", False, False),
        ("bf16", "meta", False, False),
    ],
)
def test_bf16_without_its_instructions_is_told(
    wanted: str,
    device: str,
    able: bool,
    warned: bool,
    monkeypatch: pytest.MonkeyPatch,
    logged: Callable[..., Any],
) -> None:
    import accelerate

    asked: list[str] = []

    def accelerator(mixed_precision: str) -> _Device:
        asked.append(mixed_precision)
        return _Device(device)

    monkeypatch.setattr(accelerate, "Accelerator", accelerator)
    monkeypatch.setattr(precision, "has_bf16", lambda: able)
    lines = logged("unifashion.training").lines
    make_accelerator(wanted)
    assert asked == [wanted]
    assert (any("ten times slower" in line for line in lines)) == warned


def test_other_processors_are_not_judged(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("_is_avx512_bf16_supported", "_is_amx_tile_supported"):
        monkeypatch.setattr(torch.cpu, name, lambda: False, raising=False)
    monkeypatch.setattr(platform, "machine", lambda: "arm64")
    assert has_bf16()
    monkeypatch.setattr(platform, "machine", lambda: "x86_64")
    assert not has_bf16()
    monkeypatch.setattr(torch.cpu, "_is_amx_tile_supported", lambda: True)
    assert has_bf16()

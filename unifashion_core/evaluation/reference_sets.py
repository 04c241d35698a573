"""Reference sets on disk, and what comparing one gives."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from safetensors.torch import load_file  # pyright: ignore[reportUnknownVariableType] - PathLike
from torch import Tensor

from ..errors import FolderError

_SUFFIXES = ("_io.safetensors", "_meta.json", "_weights.safetensors")


@dataclass(frozen=True)
class ReferenceSet:
    """A set's files, read.

    Attributes:
        name: Such as "qformer_a".
        meta: Sizes, notes, strings.
        tensors: Inputs and outputs.
        weights: Float32; empty where a kind has none.
    """

    name: str
    meta: Mapping[str, Any]
    tensors: Mapping[str, Tensor]
    weights: Mapping[str, Tensor]


@dataclass(frozen=True)
class SetResult:
    """What the comparison of one set gave.

    Attributes:
        name: The set.
        kind: Its kind.
        ok: Whether every output agrees.
        error: Largest error, None where nothing was compared.
        tolerance: What it had to stay within.
        tensor: The output with that error.
        compared: Number of outputs that were compared.
        problems: Why it does not hold; empty when it does.
    """

    name: str
    kind: str
    ok: bool
    error: float | None = None
    tolerance: float | None = None
    tensor: str | None = None
    compared: int = 0
    problems: tuple[str, ...] = ()

    def line(self) -> str:
        """One line for people."""
        if self.error is None:
            return f"{self.name:<16} FAIL  {'; '.join(self.problems)}"
        head = f"{self.name:<16} {'ok  ' if self.ok else 'FAIL'}"
        text = (
            f"{head}  largest error {self.error:.2e} ({self.tensor}), tolerance "
            f"{self.tolerance:.0e}, {self.compared} outputs"
        )
        return text if self.ok else f"{text}; {'; '.join(self.problems)}"


@dataclass
class Comparison:
    """Collects the outputs of one set.

    Attributes:
        reference: The set.
        inputs: Tells its inputs from its outputs by name.
        errors: Error, tolerance and name of each output that was compared.
        problems: What does not hold.
        seen: Outputs that were compared.
    """

    reference: ReferenceSet
    inputs: Callable[[str], bool]
    errors: list[tuple[float, float, str]] = field(default_factory=list[tuple[float, float, str]])
    problems: list[str] = field(default_factory=list[str])
    seen: set[str] = field(default_factory=set[str])

    def add(self, name: str, got: Tensor, tolerance: float, *, relative: bool = False) -> None:
        """Compare one output; a name that the set does not have is no matter."""
        expected = self.reference.tensors.get(name)
        if expected is None:
            return
        self.seen.add(name)
        if got.shape != expected.shape:
            self.problems.append(f"{name}: {tuple(got.shape)}, wanted {tuple(expected.shape)}")
            return
        if expected.numel() == 0:
            return
        error = (got.detach().double() - expected.double()).abs().max().item()
        if relative:
            error /= max(expected.double().abs().max().item(), 1e-30)
        self.errors.append((error, tolerance, name))
        if not error <= tolerance:  # also false for NaN
            self.problems.append(f"{name}: error {error:.2e} over {tolerance:.0e}")

    def result(self, kind: str) -> SetResult:
        """What was found so far, as the set's result."""
        outputs = {name for name in self.reference.tensors if not self.inputs(name)}
        missed = sorted(outputs - self.seen)
        if missed:
            self.problems.append(f"not compared: {', '.join(missed)}")
        if not outputs:
            self.problems.append("its io file holds no output")
        worst = max(self.errors, key=_badness, default=(None, None, None))
        return SetResult(
            self.reference.name,
            kind,
            not self.problems,
            *worst,
            compared=len(self.seen),
            problems=tuple(self.problems),
        )


def _badness(entry: tuple[float, float, str]) -> float:
    """How much of its tolerance an error uses; NaN is the worst."""
    error, tolerance, _ = entry
    return error / tolerance if error == error else float("inf")


def find_sets(folder: Path) -> list[str]:
    """Names of the sets in a folder, by any of their files.

    Raises:
        FolderError: If there is no such folder.
    """
    if not folder.is_dir():
        raise FolderError(f"parity: no folder {folder}. Give one with reference sets.")
    names: set[str] = set()
    for path in folder.iterdir():
        names.update(path.name[: -len(s)] for s in _SUFFIXES if path.name.endswith(s))
    return sorted(names)


def kind_of(name: str) -> str:
    """A set's kind: its name up to the last underscore."""
    return name.rpartition("_")[0] or name


def read_set(folder: Path, name: str, kind: str) -> ReferenceSet:
    """Read a set's files.

    Raises:
        FolderError: If one of them is missing.
    """
    meta_path, io_path = folder / f"{name}_meta.json", folder / f"{name}_io.safetensors"
    for path in (meta_path, io_path):
        if not path.is_file():
            raise FolderError(f"set {name}: {path.name} is missing. Complete the set.")
    meta: dict[str, Any] = json.loads(meta_path.read_text(encoding="utf-8"))
    weights: dict[str, Tensor] = {}
    if kind != "preprocess":
        path = folder / Path(str(meta.get("weights", f"{name}_weights.safetensors"))).name
        if not path.is_file():
            raise FolderError(f"set {name}: {path.name} is missing. Complete the set.")
        weights = {k: v.float() for k, v in load_file(path).items()}
    return ReferenceSet(name, meta, load_file(io_path), weights)

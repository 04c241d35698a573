"""Judges of try-on results that are kept: trained once for the same pictures, code and steps."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from safetensors import SafetensorError
from safetensors.torch import (
    load_file,  # pyright: ignore[reportUnknownVariableType] - PathLike of anything
    save_file,  # pyright: ignore[reportUnknownVariableType] - likewise
)
from torch import nn

from ..errors import CheckpointError, FolderError
from ..training.tryon_layout import worn_files
from ..types import OnStep
from . import tryon_judge_training, tryon_judges
from .tryon_judge_training import (
    Renders,
    read_renders,
    render_names,
    train_outline_judge,
    train_pattern_judge,
)
from .tryon_judges import OutlineJudge, PatternJudge

Judge = TypeVar("Judge", PatternJudge, OutlineJudge)


@dataclass(frozen=True)
class JudgeSchool:
    """What judges learn from, and how long.

    Attributes:
        data: Folder of `train pairs`.
        size: Height and width of the pictures.
        records: True renders at most.
        pattern_steps: Training steps of the pattern judge.
        outline_steps: Of the outline judge.
        seed: Of weights, batches and colours.
    """

    data: Path
    size: tuple[int, int]
    records: int = 3000
    pattern_steps: int = 4500
    outline_steps: int = 2600
    seed: int = 0

    def key(self, kind: str, steps: int) -> str:
        """Of all that a judge depends on: the pictures' files, the code, the numbers.

        Raises:
            FolderError: As `render_names`.
        """
        digest = hashlib.sha256(f"{kind} {steps} {self.size} {self.seed}".encode())
        for module in (tryon_judges, tryon_judge_training):
            digest.update(Path(str(module.__file__)).read_bytes())
        for name in render_names(self.data, "train", self.records):
            digest.update(name.encode())
            for path in worn_files(self.data, "train", name):
                digest.update(hashlib.sha256(path.read_bytes()).digest())
        return digest.hexdigest()[:16]


@dataclass(frozen=True)
class Judges:
    """Both judges.

    Attributes:
        patterns: Tells patterns.
        outlines: Tells outlines.
        read: Files that they were read from; those that were trained now are not among them.
    """

    patterns: PatternJudge
    outlines: OutlineJudge
    read: tuple[Path, ...]


def kept_judges(school: JudgeSchool, folder: Path, on_step: OnStep | None = None) -> Judges:
    """The judges from a folder; what is not there is trained and put there.

    Args:
        school: What they learn from.
        folder: Made where it does not exist.
        on_step: Called with (steps done, steps in all) of each training.

    Raises:
        FolderError: If there is nothing to learn from, or the folder can't be written.
        CheckpointError: If a kept file is damaged.
    """
    read: list[Path] = []
    renders: list[Renders] = []

    def seen() -> Renders:
        if not renders:
            renders.append(read_renders(school.data, "train", school.size, school.records))
        return renders[0]

    def kept(kind: str, steps: int, blank: Judge, train: Callable[[], Judge]) -> Judge:
        path = folder / f"tryon-judge-{kind}-{school.key(kind, steps)}.safetensors"
        if path.is_file():
            _fill(blank, path)
            read.append(path)
            return blank
        made = train()
        _save(made, path)
        return made

    steps, seed = (school.pattern_steps, school.outline_steps), school.seed
    patterns = kept(
        "pattern",
        steps[0],
        PatternJudge(),
        lambda: train_pattern_judge(seen(), steps=steps[0], seed=seed, on_step=on_step),
    )
    outlines = kept(
        "outline",
        steps[1],
        OutlineJudge(),
        lambda: train_outline_judge(seen(), steps=steps[1], seed=seed, on_step=on_step),
    )
    return Judges(patterns, outlines, tuple(read))


def _fill(judge: nn.Module, path: Path) -> None:
    try:
        judge.load_state_dict(load_file(path))
    except (OSError, RuntimeError, SafetensorError) as e:
        raise CheckpointError(f"Judge {path}: can't be read ({e}). Delete it to train anew.") from e
    judge.eval().requires_grad_(False)


def _save(judge: nn.Module, path: Path) -> None:
    partial = path.with_suffix(".partial")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        save_file({name: v.contiguous() for name, v in judge.state_dict().items()}, partial)
        partial.replace(path)
    except OSError as e:
        raise FolderError(f"Judges: {path.parent} can't be written ({e}).") from e

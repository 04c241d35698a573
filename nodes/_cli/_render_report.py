"""What a run is told as: its counts in words or JSON, the items asked for, and the time left."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ...unifashion_core.errors import InputError

if TYPE_CHECKING:
    from ...unifashion_core.rendering.manifest import Manifest


@dataclass
class Report:
    """Counts of one run.

    Attributes:
        total: Items that were asked for.
        manifest: Its file.
        done: Made now.
        skipped: Were there already.
        failed: Index, id and reason of each that could not be made.
        servers: Of each server: how many it made, and what became of it.
    """

    total: int
    manifest: Path
    done: int = 0
    skipped: int = 0
    failed: list[dict[str, Any]] = field(default_factory=list)
    servers: dict[str, dict[str, Any]] = field(default_factory=dict)

    def fail(self, index: int, item: str, reason: str) -> None:
        """Note an item that could not be made."""
        self.failed.append({"index": index, "id": item, "reason": reason})

    def to_json(self) -> dict[str, Any]:
        """The form of --json."""
        return {
            "total": self.total,
            "done": self.done,
            "skipped": self.skipped,
            "failed": sorted(self.failed, key=lambda f: f["index"]),
            "servers": self.servers,
            "manifest": str(self.manifest),
        }

    def show(self, as_json: bool) -> int:
        """Print it; the command's exit code: 1 where nothing could be made."""
        if as_json:
            print(json.dumps(self.to_json(), ensure_ascii=False))
        else:
            print(
                f"{self.total} items: {self.done} made, {self.skipped} were there, "
                f"{len(self.failed)} failed\n{self.manifest}"
            )
            for url, about in self.servers.items():
                print(f"  {url}: {about['done']} made, {about['state']}")
        for failure in sorted(self.failed, key=lambda f: f["index"]):
            print(f"item {failure['index']} failed: {failure['reason']}", file=sys.stderr)
        return 1 if self.failed and not self.done + self.skipped else 0


def show_plan(
    report: Report, todo: int, seconds: float | None, as_json: bool, preview: str = ""
) -> int:
    """Print what a run would do; the exit code.

    Args:
        report: With what is there already.
        todo: Items to make.
        seconds: How long that may take; None where nothing has been made yet.
        as_json: As JSON, with "todo" and "estimate_seconds" beside the counts.
        preview: The plan in words.
    """
    if as_json:
        more = {"todo": todo, "estimate_seconds": None if seconds is None else round(seconds, 1)}
        print(json.dumps({**report.to_json(), **more}, ensure_ascii=False))
        return 0
    if preview:
        print(preview)
    time = "unknown until the first item is made" if seconds is None else say_time(seconds)
    print(f"{report.total} items: {report.skipped} are there, {todo} to make; time: {time}")
    return 0


def estimate(manifest: Manifest, todo: int, workers: int = 1) -> float | None:
    """Seconds that so many items may take, from those that were made; None where there are none."""
    took = sorted(x.seconds for x in manifest.lines.values() if x.state == "done" and x.seconds)
    return took[len(took) // 2] * todo / max(workers, 1) if took else None


def say_time(seconds: float) -> str:
    """A duration for people."""
    minutes = round(seconds / 60)
    if seconds < 90:
        return f"about {max(round(seconds), 1)} s"
    return f"about {minutes} min" if minutes < 90 else f"about {minutes / 60:.1f} h"


def parse_only(text: str | None, count: int) -> set[int]:
    """Places that --only names: `0,4-7`; all of them when None.

    Raises:
        InputError: If it can't be read, or names no item.
    """
    if text is None:
        return set(range(count))
    found: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.strip().partition("-")
        numbers = [n.strip() for n in ((first, last) if dash else (first, first))]
        if not all(n.isdecimal() for n in numbers):
            raise InputError(f"--only '{text}': wanted places such as 0,4-7, counted from 0.")
        begin, end = int(numbers[0]), int(numbers[1])
        if begin > end or end >= count:
            raise InputError(f"--only '{text}': {part.strip()} is not among 0 to {count - 1}.")
        found.update(range(begin, end + 1))
    return found


def warn(lines: Sequence[str]) -> None:
    """Say something on stderr, a line each."""
    for line in lines:
        print(f"render: {line}", file=sys.stderr)

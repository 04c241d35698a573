"""The demo's try-ons: garments that it found on drawn persons, as the run of a plan."""

from __future__ import annotations

import shutil
import sys
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

    from ...unifashion_core.rendering.item import TryOnTools
    from ...unifashion_core.rendering.plan import Plan
    from ...unifashion_core.types import ImageEncoder
    from ._report import Search

FOLDER = "try-on"
_PERSONS = {"Ana": 10, "Bo": 12}  # and their seeds in the wardrobe
_HEIGHT = 512
_EACH, _MOST = 2, 4  # garments of a search, and of all


@dataclass(frozen=True)
class TryOn:
    """One person in one garment.

    Attributes:
        person: Their name.
        garment: The garment's file.
        region: Where it is worn.
        file: The picture that was made.
        similarity: Of what is worn and the garment, by the encoder.
    """

    person: str
    garment: Path
    region: str
    file: Path
    similarity: float


@dataclass(frozen=True)
class Wearing:
    """All of them, and how they were made.

    Attributes:
        weights: The model, in words.
        items: What was made.
        sheet: The contact sheet, persons down and garments across; None where nothing was made.
        seconds: From loading the model to the last picture.
        failed: Why what is missing could not be made.
    """

    weights: str
    items: Sequence[TryOn]
    sheet: Path | None
    seconds: float
    failed: Sequence[str] = ()

    def to_json(self) -> dict[str, Any]:
        """Plain values."""
        items = [
            {
                "person": item.person,
                "garment": item.garment.name,
                "region": item.region,
                "file": str(item.file),
                "similarity": item.similarity,
            }
            for item in self.items
        ]
        return {
            "weights": self.weights,
            "seconds": self.seconds,
            "sheet": str(self.sheet) if self.sheet else None,
            "items": items,
            "failed": list(self.failed),
        }


@dataclass(frozen=True)
class Designed:
    """A garment made of a sketch and words.

    Attributes:
        text: The words.
        sketch: (H, W, 3), 0..1.
        images: One a seed, (B, H, W, 3).
        seconds: For all of them.
    """

    text: str
    sketch: torch.Tensor
    images: torch.Tensor
    seconds: float

    def to_json(self) -> dict[str, Any]:
        """Plain values, without the pictures."""
        return {"text": self.text, "count": len(self.images), "seconds": self.seconds}


def try_on(out: Path, searches: Sequence[Search], encoder: ImageEncoder) -> Wearing:
    """Put the first garments of each search on the persons; into out/try-on.

    Args:
        out: The demo's folder; the try-ons of an earlier demo are replaced.
        searches: What was found.
        encoder: Scores the results, its weights on the device.
    """
    from ...unifashion_core.rendering.looks import lines_of, page_items, plan_sheets
    from ...unifashion_core.rendering.manifest import Manifest
    from ...unifashion_core.rendering.page import write_page
    from ...unifashion_core.rendering.run import PARTS, RunHooks, RunOptions, plan_job, render_plan
    from ...unifashion_core.rendering.scores import SIMILARITY, RunScorer
    from ._progress import ProgressLine
    from ._tryon import load_tools

    started = time.monotonic()
    folder = out / FOLDER
    shutil.rmtree(folder, ignore_errors=True)
    tools = load_tools("pocket")
    plan = _plan(folder / "persons", _wearable(searches))
    line, job = ProgressLine("Try on"), plan_job(plan, tools)
    with Manifest.open(folder, job) as manifest:
        hooks = RunHooks(
            on_step=lambda done, total: line(done // PARTS, max(total // PARTS, 1)),
            score=RunScorer(lambda: encoder),
        )
        report = render_plan(plan, tools, manifest, RunOptions("{person}_{garment}"), hooks)
        known = lines_of(manifest, plan, job.key)
        write_page(folder, "Demo: try-ons", page_items(known))
        sheets = plan_sheets(manifest, known, "Persons in the garments that were found")
    made: list[TryOn] = []
    for item, told in known:
        if told.state == "done" and item.person and item.garment and item.garment.path:
            file, score = folder / told.files[0].file, (told.scores or {}).get(SIMILARITY, 0.0)
            made.append(TryOn(item.person.name, item.garment.path, item.region, file, score))
    failed = [reason for _, _, reason in report.failed]
    for reason in failed:
        print(f"not tried on: {reason}", file=sys.stderr)
    seconds = round(time.monotonic() - started, 1)
    return Wearing(describe(tools), made, sheets[0] if made else None, seconds, failed)


def describe(tools: TryOnTools) -> str:
    """The model in words."""
    config = tools.model.config
    weights = sum(p.numel() for m in tools.model.modules.values() for p in m.parameters())
    height, width = config.size
    return (
        f"the pocket try-on model ({weights / 1e6:.0f} million weights, {width} x {height} pixels)"
    )


def _wearable(searches: Sequence[Search]) -> dict[Path, str]:
    """The first garments of the searches that can be worn, each with its region."""
    found: dict[Path, str] = {}
    for search in (searches[0], searches[-1], *searches[1:-1]):
        some = [(hit.path, _region(str(hit.columns.get("category") or search.words(hit))))
                for hit in search.hits]  # fmt: skip
        fresh = [(path, region) for path, region in some if region and path not in found]
        found |= dict(fresh[:_EACH])
    return dict(list(found.items())[:_MOST])


def _region(words: str) -> str:
    """Where what is named is worn; "" for shoes, hats and bags, upper where nothing is named."""
    from ...unifashion_core.wardrobe import CATEGORIES
    from ...unifashion_core.wardrobe.person import WORN
    from ._tryon import region_of

    named = set(words.lower().replace(",", " ").replace(".", " ").split())
    if named & (set(CATEGORIES) - set(WORN)):
        return ""
    return region_of(words)


def _plan(folder: Path, garments: dict[Path, str]) -> Plan:
    """Every person in every garment; the persons are drawn into the folder."""
    from ...unifashion_core.rendering.plan import Picture, Plan, PlanItem
    from ...unifashion_core.wardrobe import render_person, sample_garment, sample_person

    folder.mkdir(parents=True)
    persons: list[Picture] = []
    for name, seed in _PERSONS.items():
        path = folder / f"{name}.png"
        person = sample_person(seed, sample_garment(seed, category="t-shirt"), framing="full")
        render_person(person, _HEIGHT).image.save(path)
        persons.append(Picture(name, path))
    return Plan(
        tuple(
            PlanItem(person, Picture(path.stem, path), region)
            for person in persons
            for path, region in garments.items()
        )
    )

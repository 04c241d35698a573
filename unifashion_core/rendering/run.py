"""A plan's run: persons and garments prepared once, painted in batches, saved as they are made."""

from __future__ import annotations

import time
from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeVar

from PIL import Image

from ..errors import UniFashionError
from ..imaging import to_pil, to_tensor
from ..tryon.sampling import SamplerSettings
from ..types import OnStep, Scalar
from .item import (
    OnPreview,
    PreparedGarment,
    PreparedPerson,
    Rendered,
    RenderSettings,
    TryOnItem,
    TryOnTools,
    prepare_garment,
    prepare_person,
    render_items,
)
from .manifest import Job, Line, Manifest
from .mannequin import prepare_mannequin
from .names import DEFAULT_TEMPLATE, check_template, file_name
from .plan import Picture, Plan, PlanItem, canonical_hash, item_ids
from .saved import FORMATS, encode_picture

T = TypeVar("T")

PARTS = 100
"""What a run's progress counts of one picture."""

_PLACING = ("feather", "match_colour")  # settings that are not the sampler's
_WINDOW = 4  # batches that are prepared at a time
_PERSONS, _GARMENTS = 16, 64  # prepared ones at hand; the tools' cache may hold more


@dataclass(frozen=True)
class RunOptions:
    """How a run's pictures are saved.

    Attributes:
        template: Of their names; see `names`.
        format: "png", "jpeg" or "webp".
        batch: Items that are painted together at most.
        only: Places in the plan; None: all.
        metadata: Whether files say what they were made from.
    """

    template: str = DEFAULT_TEMPLATE
    format: str = "png"
    batch: int = 8
    only: frozenset[int] | None = None
    metadata: bool = True


def _nothing(item: PlanItem) -> Mapping[str, Any]:
    return {}


@dataclass(frozen=True)
class RunHooks:
    """Who is told of a run, and asked.

    Attributes:
        on_step: Called with (done, total) in hundredths of pictures; may raise to cancel.
        on_preview: Sees batches while they are painted.
        on_picture: Sees each finished picture with its place, item and line.
        texts: Further texts of an item's PNG: the workflow that makes this one picture.
        score: Measures a result, such as `scores.RunScorer`; its scores go into the manifest.
    """

    on_step: OnStep | None = None
    on_preview: OnPreview | None = None
    on_picture: Callable[[int, PlanItem, Line, Image.Image], None] | None = None
    texts: Callable[[PlanItem], Mapping[str, Any]] = _nothing
    score: Callable[[PlanItem, Rendered], Mapping[str, float]] | None = None


@dataclass
class RunReport:
    """What a run did.

    Attributes:
        total: Items that were asked for.
        done: Made now.
        skipped: Were there already.
        failed: Place, id and reason of each that could not be made.
        preparations: Persons and garments that were prepared.
        batches: How many times the sampler ran.
        notes: What the user should know, each once.
    """

    total: int = 0
    done: int = 0
    skipped: int = 0
    failed: list[tuple[int, str, str]] = field(default_factory=list[tuple[int, str, str]])
    preparations: int = 0
    batches: int = 0
    notes: list[str] = field(default_factory=list[str])


def plan_job(plan: Plan, tools: TryOnTools) -> Job:
    """The job of a plan: its model and settings, without its items."""
    settings = dict(plan.settings)
    made_by = {"model": tools.fingerprint, "preparer": tools.preparer.fingerprint}
    return Job(
        canonical_hash({"plan": settings, **made_by}), "plan", {"settings": settings, **made_by}
    )


def render_plan(
    plan: Plan,
    tools: TryOnTools,
    manifest: Manifest,
    options: RunOptions | None = None,
    hooks: RunHooks | None = None,
) -> RunReport:
    """Make the pictures of a plan that are not there yet.

    Each is on the disk with its line as soon as its batch is painted. What fails is noted, and the
    rest goes on; the next run tries it again. An item is the same alone and in any run.

    Args:
        plan: What to make.
        tools: The model and what prepares.
        manifest: Of `plan_job(plan, tools)`, open.
        options: How pictures are saved.
        hooks: Who is told.

    Raises:
        InputError: If the file name's template is wrong.
        FolderError: If the disk refuses.
    """
    return _Run(plan, tools, manifest, options or RunOptions(), hooks or RunHooks()).go()


@dataclass(frozen=True)
class _Todo:
    place: int
    id: str
    item: PlanItem


class _SaveError(Exception):
    """Carries the disk's refusal out of the sampler."""


class _Run:
    def __init__(
        self,
        plan: Plan,
        tools: TryOnTools,
        manifest: Manifest,
        options: RunOptions,
        hooks: RunHooks,
    ) -> None:
        self.plan, self.tools, self.manifest = plan, tools, manifest
        self.options, self.hooks = options, hooks
        self.report = RunReport()
        self.job = plan_job(plan, tools).key
        self._contents: dict[object, str] = {}
        self._persons: OrderedDict[Hashable, PreparedPerson] = OrderedDict()
        self._garments: OrderedDict[Hashable, PreparedGarment] = OrderedDict()
        self._to_make = self._handled = self._told = 0
        check_template(options.template)

    def go(self) -> RunReport:
        wanted = self._wanted()
        self.report.total = len(wanted) + len(self.report.failed)
        finished = self.manifest.finished(todo.id for todo in wanted)
        rest = [todo for todo in wanted if todo.id not in finished]
        self.manifest.forget(todo.id for todo in rest)
        rest = [todo for todo in rest if not self._adopted(todo)]
        self.report.skipped = len(wanted) - len(rest)
        self._to_make = len(rest)
        for settings, window in self._windows(rest):
            self._make(settings, window)
        return self.report

    def _wanted(self) -> list[_Todo]:
        """The items that were asked for, each id once."""
        only = self.options.only
        places = [p for p in range(len(self.plan)) if only is None or p in only]
        ids = item_ids(self.job, [self.plan.items[p] for p in places])
        found: dict[str, _Todo] = {}
        for place, (name, error) in zip(places, ids, strict=True):
            todo = _Todo(place, name, self.plan.items[place])
            if error is not None:
                self._fail(todo, error)
            else:
                found.setdefault(name, todo)
        return list(found.values())

    def _content(self, picture: Picture) -> str:
        key = picture.path if picture.path is not None else id(picture.image)
        if key not in self._contents:
            self._contents[key] = picture.content()
        return self._contents[key]

    def _name(self, todo: _Todo) -> str:
        values: dict[str, str | int] = {
            "index": todo.place,
            "id": todo.id,
            "date": self.manifest.begun,
            **{k: v for k, v in todo.item.values().items() if isinstance(v, str | int)},
        }
        return file_name(self.options.template, values, FORMATS[self.options.format])

    def _adopted(self, todo: _Todo) -> bool:
        return self.manifest.adopt(todo.id, todo.place, self._name(todo), None, todo.item.seed)

    def _windows(self, rest: Sequence[_Todo]) -> Iterator[tuple[RenderSettings, list[_Todo]]]:
        """What is prepared and painted together: items of like settings, a person's side by side,
        so that each person is prepared once however many there are."""
        groups: dict[RenderSettings, dict[Hashable, list[_Todo]]] = {}
        for todo in rest:
            try:
                settings = self._settings(todo.item.settings)
            except UniFashionError as e:
                self._fail(todo, str(e))
                continue
            persons = groups.setdefault(settings, {})
            persons.setdefault(self._person_key(todo.item), []).append(todo)
        size = max(1, self.options.batch) * _WINDOW
        for settings, persons in groups.items():
            ordered = [todo for todos in persons.values() for todo in todos]
            for start in range(0, len(ordered), size):
                yield settings, ordered[start : start + size]

    def _settings(self, own: Mapping[str, Scalar]) -> RenderSettings:
        values: dict[str, Any] = {**self.plan.settings, **own}
        placed = {name: values.pop(name) for name in _PLACING if name in values}
        sampler = SamplerSettings(**values)
        return RenderSettings(sampler, batch=self.options.batch, **placed)

    def _person_key(self, item: PlanItem) -> Hashable:
        return item.person and self._content(item.person), item.region

    def _make(self, settings: RenderSettings, window: Sequence[_Todo]) -> None:
        ready: list[tuple[_Todo, TryOnItem]] = []
        for todo in window:
            try:
                ready.append((todo, self._prepared(todo.item)))
            except UniFashionError as e:
                self._fail(todo, str(e))
        left = self._paint(settings, ready)
        if isinstance(left, str) and len(ready) == 1:
            self._fail(ready[0][0], left)
        elif isinstance(left, str):  # one of them is to blame: each alone
            for pair in ready:
                if not self._is_done(pair[0]):
                    reason = self._paint(settings, [pair])
                    if reason is not None:
                        self._fail(pair[0], reason)

    def _is_done(self, todo: _Todo) -> bool:
        line = self.manifest.lines.get(todo.id)
        return line is not None and line.state == "done"

    def _prepared(self, item: PlanItem) -> TryOnItem:
        def person() -> PreparedPerson:
            if item.person is None:
                return prepare_mannequin(self.tools, item.region)
            return prepare_person(self.tools, to_tensor(item.person.open()), item.region)

        hint, kind = item.sketch or item.garment, "sketch" if item.sketch else "garment"
        worn = self._once(self._persons, _PERSONS, self._person_key(item), person)
        if hint is None:
            return TryOnItem(worn, None, item.prompt, item.seed)

        def garment() -> PreparedGarment:
            return prepare_garment(self.tools, to_tensor(hint.open()), kind)

        key = (self._content(hint), kind)
        made = self._once(self._garments, _GARMENTS, key, garment)
        return TryOnItem(worn, made, item.prompt, item.seed)

    def _once(
        self, known: OrderedDict[Hashable, T], most: int, key: Hashable, make: Callable[[], T]
    ) -> T:
        if key not in known:
            known[key] = make()
            self.report.preparations += 1
            while len(known) > most:
                known.popitem(last=False)
        known.move_to_end(key)
        return known[key]

    def _paint(
        self, settings: RenderSettings, ready: Sequence[tuple[_Todo, TryOnItem]]
    ) -> str | None:
        """Paint and save items; why that failed, None where it did not."""
        if not ready:
            return None
        began, finished = time.monotonic(), 0

        def keep(place: int, made: Rendered) -> None:
            nonlocal finished
            finished += 1
            seconds = (time.monotonic() - began) / finished
            try:
                self._save(ready[place][0], settings, made, seconds)
            except (UniFashionError, OSError) as e:
                raise _SaveError from e

        before = self._handled

        def step(done: int, total: int) -> None:
            part = PARTS * len(ready) * done // max(total, 1)
            self._tell(min(PARTS * before + part, PARTS * self._to_make))

        try:
            found = render_items(
                self.tools,
                [item for _, item in ready],
                settings,
                on_step=step,
                on_preview=self.hooks.on_preview,
                on_item=keep,
            )
        except _SaveError as e:
            raise (e.__cause__ or e) from None
        except (UniFashionError, RuntimeError) as e:  # torch tells of too little memory so
            return str(e).strip().split("\n")[0]
        self.report.batches += found.batches
        return None

    def _save(self, todo: _Todo, settings: RenderSettings, made: Rendered, seconds: float) -> None:
        picture, item = to_pil(made.image), todo.item
        scores = self._scored(item, made)
        metadata = self.options.metadata
        parameters = self._parameters(todo, made, scores) if metadata else {}
        told = self.hooks.texts if metadata and self.options.format == "png" else _nothing
        data = encode_picture(picture, self.options.format, parameters, told(item))
        files = self.manifest.save([(None, self._name(todo), data)])
        line = Line(todo.id, todo.place, "done", files, round(seconds, 3), item.seed, scores)
        self.manifest.add(line)
        self.report.done += 1
        self._handled += 1
        self.report.notes += [note for note in made.notes if note not in self.report.notes]
        self._tell(PARTS * self._handled)
        if self.hooks.on_picture is not None:
            self.hooks.on_picture(todo.place, item, line, picture)

    def _scored(self, item: PlanItem, made: Rendered) -> dict[str, float] | None:
        if self.hooks.score is None:
            return None
        try:
            return dict(self.hooks.score(item, made)) or None
        except UniFashionError as e:  # a picture is worth keeping without a score too
            self.report.notes.append(f"no score: {e}")
            return None

    def _parameters(
        self, todo: _Todo, made: Rendered, scores: dict[str, float] | None
    ) -> dict[str, Any]:
        """What stands in the file."""
        contents = {name: self._content(p) for name, p in todo.item.pictures().items()}
        return {
            "job": self.job,
            "id": todo.id,
            "index": todo.place,
            "values": todo.item.values(),
            "sha256": contents,
            "settings": {**self.plan.settings, **todo.item.settings},
            "model": self.tools.fingerprint,
            "scores": scores,
            "notes": list(made.notes),
        }

    def _fail(self, todo: _Todo, reason: str) -> None:
        self.report.failed.append((todo.place, todo.id, reason))
        self.manifest.add(Line(todo.id, todo.place, "failed", seed=todo.item.seed, error=reason))
        if self._to_make:
            self._handled += 1
            self._tell(PARTS * self._handled)

    def _tell(self, done: int) -> None:
        """Progress, which never goes back: a batch is painted before its pictures are saved."""
        self._told = max(self._told, done)
        if self.hooks.on_step is not None:
            self.hooks.on_step(self._told, PARTS * self._to_make)

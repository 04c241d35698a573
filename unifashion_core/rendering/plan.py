"""What to make, as a value: persons x garments x prompts x seeds, or lists that go in pairs."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import Any, Literal, TypeVar

from PIL import Image

from ..errors import InputError, UniFashionError
from ..imaging import content_hash, open_image
from ..retrieval.columns import fold, number_of
from ..retrieval.filters import Clause, parse_where
from ..types import Hit, Scalar
from .prompts import every_prompt, one_prompt

MAX_ITEMS = 100_000
PICTURE_COLUMNS = ("person", "garment", "sketch")
COLUMNS = (*PICTURE_COLUMNS, "region", "prompt", "seed")
DEFAULT_REGION = "upper"
SETTINGS: Mapping[str, type] = {
    "steps": int,
    "solver": str,
    "spacing": str,
    "guidance": float,
    "garment_guidance": float,
    "guidance_until": float,
    "start": str,
    "feather": int,
    "match_colour": bool,
}
"""What of the sampler a plan, or a single item, may set."""

_SEED_BITS = 53  # what a page's numbers hold exactly

SeedKind = Literal["fixed", "counted", "hash"]
T = TypeVar("T")


@dataclass(frozen=True)
class Picture:
    """A picture of a plan: a file, or pixels that a node holds.

    Attributes:
        name: In file names and headers.
        path: The file; None where there are pixels.
        image: The pixels, RGB.
    """

    name: str
    path: Path | None = None
    image: Image.Image | None = None

    def content(self) -> str:
        """SHA-256 of the file, or of the pixels with their size, hex.

        Raises:
            ImageError: If the file can't be read.
        """
        if self.path is not None:
            return content_hash(self.path)
        image = self._pixels()
        head = f"{image.mode} {image.size} ".encode()
        return hashlib.sha256(head + image.tobytes()).hexdigest()

    def open(self) -> Image.Image:
        """The picture, upright RGB.

        Raises:
            ImageError: If the file can't be read.
        """
        return open_image(self.path) if self.path is not None else self._pixels()

    def _pixels(self) -> Image.Image:
        if self.image is None:
            raise InputError(f"picture '{self.name}': it has neither a file nor pixels. Give one.")
        return self.image


def hit_pictures(hits: Iterable[Hit]) -> list[Picture]:
    """Search hits as garments of a plan, named by their files."""
    return [Picture(Path(hit.file).stem, hit.path) for hit in hits]


@dataclass(frozen=True)
class Seeds:
    """How items get their seeds.

    Attributes:
        kind: "fixed": each combination has `base`, `base` + 1 …; "counted": the whole plan counts
            on from `base`; "hash": from what the item is made of, so that editing the plan changes
            no other item's seed (`base` is mixed in).
        base: The first one.
        repeats: How many a combination.
    """

    kind: SeedKind = "fixed"
    base: int = 0
    repeats: int = 1


@dataclass(frozen=True)
class PlanItem:
    """One picture to make.

    Attributes:
        person: Who wears it.
        garment: What is worn; None with a prompt or a sketch alone.
        region: What is painted anew.
        prompt: Words, without choices.
        sketch: Lines that it follows.
        seed: Of the noise.
        settings: What differs from the plan's settings.
    """

    person: Picture | None = None
    garment: Picture | None = None
    region: str = DEFAULT_REGION
    prompt: str = ""
    sketch: Picture | None = None
    seed: int = 0
    settings: Mapping[str, Scalar] = field(default_factory=dict[str, Scalar])

    def pictures(self) -> dict[str, Picture]:
        """Its pictures by column."""
        found = {name: getattr(self, name) for name in PICTURE_COLUMNS}
        return {name: picture for name, picture in found.items() if picture is not None}

    def values(self) -> dict[str, Scalar]:
        """Its cells as a table shows them; pictures by name."""
        names: dict[str, Scalar] = {name: p.name for name, p in self.pictures().items()}
        rest = {"region": self.region, "prompt": self.prompt, "seed": self.seed}
        return {**names, **rest, **self.settings}


@dataclass(frozen=True)
class Plan:
    """Pictures to make, in order.

    Attributes:
        items: One a picture.
        settings: Of the sampler, for all items; with the model they are the job.
    """

    items: tuple[PlanItem, ...]
    settings: Mapping[str, Scalar] = field(default_factory=dict[str, Scalar])

    def __len__(self) -> int:
        return len(self.items)

    def different(self, column: str) -> int:
        """How many different values (pictures by file or pixels) a column has."""
        if column in PICTURE_COLUMNS:
            found = (item.pictures().get(column) for item in self.items)
            return len({_picture_key(p) for p in found if p is not None})
        return len({item.values().get(column) for item in self.items} - {None, ""})

    @property
    def preparations(self) -> int:
        """How many pictures have to be prepared, each once: persons, garments and sketches."""
        persons = {(_picture_key(item.person), item.region) for item in self.items if item.person}
        rest = {
            (column, _picture_key(item.pictures()[column]))
            for item in self.items
            for column in ("garment", "sketch")
            if column in item.pictures()
        }
        return len(persons) + len(rest)

    def filtered(self, where: str) -> Plan:
        """The items that pass a filter such as `garment~red AND seed<5`.

        Raises:
            InputError: If the filter can't be read.
        """
        clauses = parse_where(where)
        keep = [i for i in self.items if all(_passes(c, i.values()) for c in clauses)]
        return replace(self, items=tuple(keep))

    def preview(self, first: int = 8) -> str:
        """The plan in words: how many of what, and its first items, a line each."""
        counted = [
            f"{n} {column}{'s' if n != 1 else ''}"
            for column in COLUMNS
            if (n := self.different(column))
        ]
        head = f"{len(self)} pictures: {', '.join(counted)}; {self.preparations} preparations"
        lines = [
            f"{number:5d}  " + "  ".join(f"{k}={v}" for k, v in item.values().items() if v != "")
            for number, item in enumerate(self.items[:first])
        ]
        more = len(self) - first
        return "\n".join([head, *lines, *([f"… and {more} more"] if more > 0 else [])])


@dataclass(frozen=True)
class PlanLists:
    """Lists to make a plan of.

    Attributes:
        persons: Who wears it; empty: nobody, as for a design.
        garments: What is worn; empty: none.
        regions: What is painted anew.
        prompts: Texts, with choices.
        sketches: Lines to follow; empty: none.
        seeds: How items get theirs.
        settings: Of the sampler, for all.
        choices: Named lists for the prompts.
    """

    persons: Sequence[Picture] = ()
    garments: Sequence[Picture] = ()
    regions: Sequence[str] = (DEFAULT_REGION,)
    prompts: Sequence[str] = ()
    sketches: Sequence[Picture] = ()
    seeds: Seeds = field(default_factory=Seeds)
    settings: Mapping[str, Scalar] = field(default_factory=dict[str, Scalar])
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict[str, Sequence[str]])

    def product(self) -> Plan:
        """Every combination, with every choice of a prompt; the person changes slowest, the seed
        fastest.

        Raises:
            InputError: If a prompt can't be read, or there would be more than `MAX_ITEMS` pictures.
        """
        said = [t for prompt in self.prompts or [""] for t in every_prompt(prompt, self.choices)]
        axes: tuple[Sequence[Any], ...] = (
            self.persons or [None],
            self.garments or [None],
            self.regions,
            said,
            self.sketches or [None],
        )
        count = self.seeds.repeats
        for axis in axes:
            count *= len(axis)
        _check_count(count)
        found = [PlanItem(*values) for values in product(*axes)]
        return Plan(tuple(seeded(found, self.seeds)), dict(self.settings))

    def pairs(self) -> Plan:
        """The first of each list, then the second, and so on; a list of one is used for all. Of a
        prompt's choices one is taken, told by the item's seed.

        Raises:
            InputError: If the lists differ in length, or a prompt can't be read.
        """
        columns: dict[str, Sequence[Any]] = {
            "persons": self.persons or [None],
            "garments": self.garments or [None],
            "regions": self.regions,
            "prompts": self.prompts or [""],
            "sketches": self.sketches or [None],
        }
        length = max(len(column) for column in columns.values())
        odd = {name: len(c) for name, c in columns.items() if len(c) not in (1, length)}
        if odd:
            said = ", ".join(f"{count} {name}" for name, count in odd.items())
            raise InputError(
                f"plan: pairs need lists of one length, got {said} beside lists of {length}. Make "
                "them equally long, or combine every one with every other."
            )
        _check_count(length * self.seeds.repeats)
        rows = zip(*(_stretched(column, length) for column in columns.values()), strict=True)
        items = seeded([PlanItem(*row) for row in rows], self.seeds)
        said = [replace(i, prompt=one_prompt(i.prompt, i.seed, self.choices)) for i in items]
        return Plan(tuple(said), dict(self.settings))


def seeded(items: Sequence[PlanItem], seeds: Seeds) -> list[PlanItem]:
    """Items with their seeds, each repeated as often as the seeds say."""
    found: list[PlanItem] = []
    for item in items:
        for repeat in range(seeds.repeats):
            number = len(found) if seeds.kind == "counted" else repeat
            seed = seeds.base + number
            if seeds.kind == "hash":
                seed = _hashed_seed(item, seeds.base, repeat)
            found.append(replace(item, seed=seed))
    return found


def item_id(
    job: str, item: PlanItem, content_of: Callable[[Picture], str] = Picture.content
) -> str:
    """What tells an item of a job from every other, hex: another prompt, seed or picture, another
    id.

    Args:
        job: The job's hash.
        item: The item.
        content_of: `Picture.content`, or one that remembers.

    Raises:
        ImageError: If a picture can't be read.
    """
    pictures = {name: content_of(picture) for name, picture in item.pictures().items()}
    values = {**item.values(), **pictures, "job": job}
    return canonical_hash(values)


def item_ids(job: str, items: Sequence[PlanItem]) -> list[tuple[str, str | None]]:
    """The id of each item, and why it can't be read; None where it can.

    An item whose picture can't be read has an id by its names, so that it can be told of.
    """
    known: dict[object, str] = {}

    def content(picture: Picture) -> str:
        key = _picture_key(picture)
        if key not in known:
            known[key] = picture.content()
        return known[key]

    found: list[tuple[str, str | None]] = []
    for item in items:
        try:
            found.append((item_id(job, item, content), None))
        except UniFashionError as e:
            cells = {**item.values(), "unreadable": True, "job": job}
            found.append((canonical_hash(cells), str(e)))
    return found


def canonical_hash(value: object) -> str:
    """SHA-256 of a JSON value, hex, the same whatever the order of its keys."""
    text = json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
    return hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def _hashed_seed(item: PlanItem, base: int, repeat: int) -> int:
    made_of = canonical_hash([{**item.values(), "seed": base}, repeat])
    return int(made_of, 16) >> (256 - _SEED_BITS)


def _stretched(column: Sequence[T], length: int) -> Sequence[T]:
    return list(column) * length if len(column) == 1 else column


def _check_count(count: int) -> None:
    if count > MAX_ITEMS:
        raise InputError(
            f"plan: {count:,} pictures, at most {MAX_ITEMS:,} are taken. Use shorter lists, or "
            "several plans."
        )
    if count < 1:
        raise InputError("plan: no picture in it. Give at least one person, garment or prompt.")


def _picture_key(picture: Picture | None) -> object:
    if picture is None:
        return None
    return picture.path if picture.path is not None else id(picture.image)


def _passes(clause: Clause, values: Mapping[str, Scalar]) -> bool:
    """The filter language of galleries on one item's cells."""
    value = values.get(clause.column)
    if not clause.value:
        return (value in (None, "")) == (clause.operator == "=")
    if value is None:
        return clause.operator == "!="
    text, wanted = fold(str(value)), fold(clause.value)
    left, right = number_of(str(value)), number_of(clause.value)
    if clause.operator == "~":
        return wanted in text
    if clause.operator in ("=", "!="):
        same = text == wanted or (left is not None and left == right)
        return same == (clause.operator == "=")
    a, b = (left, right) if left is not None and right is not None else (text, wanted)
    return _ORDER[clause.operator](a, b)


_ORDER: dict[str, Callable[[Any, Any], bool]] = {
    "<": lambda a, b: a < b,
    "<=": lambda a, b: a <= b,
    ">": lambda a, b: a > b,
    ">=": lambda a, b: a >= b,
}

"""Weights that others publish: what is known of each, as data with a source beside each fact.

`known.json` holds what was read in a source and nothing else; null means that no source said it.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Literal, cast
from urllib.parse import quote, urlsplit

from ..errors import InputError

HUB = "https://huggingface.co"
_DATA = Path(__file__).with_name("known.json")

Sold = Literal["yes", "no", "conditions", "unknown"]

_SOLD = {
    "yes": "what you make with it may be sold",
    "no": "not for anything that is sold",
    "conditions": "may be sold on conditions that the licence sets",
    "unknown": "whether results may be sold is unknown",
}


@dataclass(frozen=True)
class KnownFile:
    """One file of an entry.

    Attributes:
        path: Where it lies in its repository.
        save_as: What it is called here.
        size: In bytes, where a source gives all digits.
        about_bytes: In bytes, as a page rounds it.
        sha256: Of its content, 64 hexadecimal digits.
    """

    path: str
    save_as: str
    size: int | None = None
    about_bytes: int | None = None
    sha256: str | None = None

    @property
    def expected_bytes(self) -> int:
        """Its size as far as it is known, 0 where it is not."""
        return self.size or self.about_bytes or 0


@dataclass(frozen=True)
class KnownWeights:
    """One entry: weights that can be downloaded by name.

    Attributes:
        name: What the user chooses.
        title: What it is.
        kind: The models folder that it belongs into.
        folder: Folder of its own below that; "" where its files lie in it directly.
        address: Of its only file, where it lies in no repository.
        repository: "owner/name" on the hub.
        revision: The commit; None where none is known, and the newest is taken.
        files: What is downloaded, what makes a folder loadable last.
        licence: As its publisher names it.
        sold: Whether what is made with it may be sold.
        note: What the user should know before.
        sources: Where each fact was read.
    """

    name: str
    title: str
    kind: str
    folder: str
    address: str | None
    repository: str | None
    revision: str | None
    files: tuple[KnownFile, ...]
    licence: str
    sold: Sold
    note: str
    sources: dict[str, str]

    @property
    def expected_bytes(self) -> int:
        """Size of all files as far as it is known."""
        return sum(file.expected_bytes for file in self.files)

    @property
    def unknown(self) -> tuple[str, ...]:
        """Which of revision, size and SHA-256 are not known; none of them: it is pinned."""
        lacks = {
            "revision": self.revision is None,
            "size": any(file.size is None for file in self.files),
            "SHA-256": any(file.sha256 is None for file in self.files),
        }
        return tuple(name for name, lacking in lacks.items() if lacking)

    @property
    def pin(self) -> str:
        """ "pinned", or "not pinned" with what is unknown."""
        hashed = sum(file.sha256 is not None for file in self.files)
        if not self.unknown:
            return "pinned"
        lacking = ", ".join(self.unknown)
        return f"not pinned ({lacking} not known; {hashed} of {len(self.files)} files checked)"

    @property
    def licence_line(self) -> str:
        """The licence in plain words."""
        return f"{self.title}: licence {self.licence}; {_SOLD[self.sold]}"

    def url(self, file: KnownFile, mirror: str | None = None) -> str:
        """Where a file is fetched from.

        Args:
            file: One of `files`.
            mirror: Address that stands for the hub's, or for the scheme and host of `address`.
        """
        if self.address is not None:
            path = urlsplit(self.address).path
            return self.address if mirror is None else mirror.rstrip("/") + path
        base = (mirror or HUB).rstrip("/")
        return f"{base}/{self.repository}/resolve/{self.revision or 'main'}/{quote(file.path)}"


@cache
def known_weights() -> dict[str, KnownWeights]:
    """All entries by name, in the list's order."""
    data = json.loads(_DATA.read_text(encoding="utf-8"))
    entries = [_entry(cast("dict[str, Any]", row)) for row in data["weights"]]
    return {entry.name: entry for entry in entries}


def find_known(name: str) -> KnownWeights:
    """The entry of a name.

    Raises:
        InputError: If there is none; it lists the names.
    """
    found = known_weights().get(name)
    if found is None:
        raise InputError(
            f"weights {name[:80]!r}: not in the list of known weights, which are "
            f"{', '.join(known_weights())}. Choose one of them."
        )
    return found


def _entry(row: dict[str, Any]) -> KnownWeights:
    files = tuple(
        KnownFile(
            file["path"],
            file.get("save_as") or file["path"].rsplit("/", 1)[-1],
            file["size"],
            file["about_bytes"],
            file["sha256"],
        )
        for file in cast("list[dict[str, Any]]", row["files"])
    )
    # a folder is listed once its config.json is there
    ordered = tuple(sorted(files, key=lambda file: file.save_as == "config.json"))
    return KnownWeights(
        name=row["name"],
        title=row["title"],
        kind=row["kind"],
        folder=row["folder"],
        address=row.get("url"),
        repository=row["repository"],
        revision=row["revision"],
        files=ordered,
        licence=row["licence"],
        sold=row["sold"],
        note=row["note"],
        sources=row["sources"],
    )

"""The pack's own nodes on the embedded host, for commands that run graphs."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .._host import Folders, Host


def make_host(
    base: Path, change: Callable[[Folders], Folders] | None = None, *, make: bool = True
) -> Host:
    """A host whose folders lie below `base`.

    Args:
        base: Made where it is missing.
        change: Adds what the user typed to the folders.
        make: Whether to make the folders now; else the first run does.
    """
    from .. import comfy_entrypoint
    from .._host import Folders, Host, pack_nodes

    folders = Folders.under(base)
    host = Host(folders if change is None else change(folders), pack_nodes(comfy_entrypoint))
    if make:
        host.folders.make()
    return host


def read_workflow(pack: Path, name: str) -> dict[str, Any]:
    """One of our graphs in API format, to be changed and run."""
    return json.loads((pack / "workflows" / "api" / f"{name}.json").read_text("utf-8"))

"""Optional packages, imported where used; a missing one is an error with its install line."""

from __future__ import annotations

import importlib
from importlib import metadata
from types import ModuleType

from .errors import MissingPackageError


def require(module: str, *, package: str | None = None, minimum: str | None = None) -> ModuleType:
    """Import an optional module.

    Args:
        module: Name to import, such as "transformers".
        package: Name that pip knows it by, if it differs.
        minimum: Lowest version that will do, such as "4.50".

    Raises:
        MissingPackageError: If it can't be imported or is older than `minimum`.
    """
    name = package or module.split(".")[0]
    wanted = f"{name}>={minimum}" if minimum else name
    try:
        found = importlib.import_module(module)
    except ImportError as e:
        raise MissingPackageError(
            f"{module}: not installed ({e}). Install it with: python -m pip install '{wanted}'"
        ) from e
    if minimum and _numbers(metadata.version(name)) < _numbers(minimum):
        raise MissingPackageError(
            f"{module}: version {metadata.version(name)} is too old, {minimum} or newer is needed. "
            f"Update it with: python -m pip install --upgrade '{wanted}'"
        )
    return found


def _numbers(version: str) -> tuple[int, ...]:
    """Leading numeric parts of a version: '4.57.6.dev0' -> (4, 57, 6)."""
    parts: list[int] = []
    for part in version.split("+")[0].split("."):
        if not part.isdigit():
            break
        parts.append(int(part))
    return tuple(parts)

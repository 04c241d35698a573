"""The `pack` fixture: the pack as ComfyUI loads it, under a name nothing imports absolutely."""

from __future__ import annotations

import gc
import importlib.util
import logging
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

ROOT = Path(__file__).resolve().parent.parent
NAME = "unifashion_pack_under_test"


class Pack:
    """The loaded pack and its modules: `pack.nodes`, `pack.comfy`, `pack.host`, `pack.core`."""

    def __init__(self, root: ModuleType):
        self.root = root

    def module(self, name: str) -> ModuleType:
        """A module by its dotted path below the pack's root."""
        return import_module(f"{NAME}.{name}")

    @property
    def nodes(self) -> ModuleType:
        """The `nodes` package."""
        return self.module("nodes")

    @property
    def comfy(self) -> ModuleType:
        """`nodes/_comfy.py`."""
        return self.module("nodes._comfy")

    @property
    def host(self) -> ModuleType:
        """The embedded host."""
        return self.module("nodes._host")

    @property
    def core(self) -> ModuleType:
        """This pack's own copy of `unifashion_core`."""
        return self.module("unifashion_core")

    def make_host(
        self, base: Path, node_classes: Iterable[type] | None = None, **options: Any
    ) -> Any:
        """A host in folders below `base`, with the pack's nodes if none are given."""
        if node_classes is None:
            node_classes = self.host.pack_nodes(self.nodes.comfy_entrypoint)
        return self.host.Host(self.host.Folders.under(base), node_classes, **options)

    def run(self, prompt: Mapping[str, Any], base: Path, **options: Any) -> Any:
        """Run a prompt of the pack's nodes on a fresh host below `base`."""
        return self.make_host(base).run(prompt, **options)


def chromium() -> str | None:
    """Path of the browser, or None."""
    names = ("chromium", "chromium-browser", "google-chrome")
    return os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, names)), None)


def _no_browser() -> str | None:
    absent = [name for name in ("node", "npm") if shutil.which(name) is None]
    absent += [] if chromium() else ["chromium"]
    modules = ("aiohttp", "comfyui_frontend_package")
    absent += [name for name in modules if importlib.util.find_spec(name) is None]
    return f"not installed: {', '.join(absent)}" if absent else None


def _no_card() -> str | None:
    import torch

    return None if torch.cuda.is_available() else "no CUDA device"


def _no_comfyui() -> str | None:
    return None if os.environ.get("COMFYUI_PATH") else "COMFYUI_PATH names no ComfyUI checkout"


def _no_patience() -> str | None:
    return (
        None if os.environ.get("UNIFASHION_LONG") else "UNIFASHION_LONG is not set; takes minutes"
    )


def _no_image_processors(named: str = "AutoImageProcessor") -> str | None:
    """The oldest transformers of ours want torchvision for every image; ComfyUI brings it."""
    import transformers

    lacking = vars(getattr(transformers, named)).get("_backends", ())  # of its stand-in class
    if "torchvision" not in lacking:
        return None
    return f"{named} of transformers {transformers.__version__} wants torchvision"


def _no_segformer() -> str | None:
    """That of Python 3.10 wants it for the pictures of this family."""
    return _no_image_processors("SegformerImageProcessorPil")


_TIERS = {
    "long": _no_patience,
    "browser": _no_browser,
    "gpu": _no_card,
    "comfy": _no_comfyui,
    "image_processors": _no_image_processors,
    "segformer": _no_segformer,
}


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A tier that can't run here is one skip with its reason, however many tests it has."""
    for tier, why_not in _TIERS.items():
        members = [item for item in items if item.get_closest_marker(tier)]
        reason = why_not() if members else None
        if reason is None:
            continue
        first, *others = members
        first.add_marker(pytest.mark.skip(reason=f"tier {tier}, {len(members)} tests: {reason}"))
        items[:] = [item for item in items if item not in others]
        config.hook.pytest_deselected(items=others)


def pytest_collection_finish() -> None:
    """What was imported stays until the end: no garbage collection looks through it again, and
    those that look through everything are rare: they took a twentieth of the tests' time."""
    gc.freeze()
    gc.set_threshold(700, 10, 200)


class Logged(logging.Handler):
    """What was logged while a test ran, from this level on."""

    def __init__(self, level: int) -> None:
        super().__init__(level)
        self.lines: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        self.lines.append(record.getMessage())


@pytest.fixture
def logged() -> Iterator[Callable[..., Logged]]:
    """Watch a logger: `lines = logged("unifashion.x", logging.INFO).lines`.

    pytest's own plugin for it is off (`run.py test`): around each phase of each test it changes
    every logger of torch, which took longer than most tests.
    """
    undo: list[Callable[[], None]] = []

    def watch(name: str, level: int = logging.WARNING) -> Logged:
        logger, handler = logging.getLogger(name), Logged(level)
        undo.append(partial(logger.setLevel, logger.level))
        undo.append(partial(logger.removeHandler, handler))
        logger.addHandler(handler)
        logger.setLevel(level)
        return handler

    yield watch
    for step in undo:
        step()


@pytest.fixture(scope="session")
def pack() -> Pack:
    """The pack, loaded once by path, as run.py and ComfyUI do."""
    spec = importlib.util.spec_from_file_location(
        NAME, ROOT / "__init__.py", submodule_search_locations=[str(ROOT)]
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[NAME] = module
    spec.loader.exec_module(module)
    return Pack(module)

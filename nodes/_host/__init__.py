"""The embedded host: the part of ComfyUI's contract that our graphs use, where no ComfyUI is.

`Host(Folders.under(path), node_classes).run(prompt)` runs a graph in API format. `io` and `ui` are
the namespaces that nodes import through `_comfy`. `http` (not imported here) serves a host to the
real page.
"""

from . import io, ui
from .folders import Folders
from .host import Host, NodeError, RunResult, pack_nodes
from .models import ModelManager, ModelPatcher
from .schema import ComfyExtension
from .session import InterruptProcessing, ProgressBar, activate, current
from .validation import PromptError

__all__ = [
    "ComfyExtension",
    "Folders",
    "Host",
    "InterruptProcessing",
    "ModelManager",
    "ModelPatcher",
    "NodeError",
    "ProgressBar",
    "PromptError",
    "RunResult",
    "activate",
    "current",
    "io",
    "pack_nodes",
    "ui",
]

"""The one door to the host: ComfyUI's modules where they are, the embedded host where not.

Nodes import from here alone. `io`, `ui` and `ComfyExtension` are V3's; the functions below cover
devices, models, folders, progress, interrupt and attention. Nothing happens at import;
`register_folders` belongs into `on_load`.
"""

# Size: every call into the host is in this one file, so that nothing else touches it

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable, Iterable, Sequence
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any, Protocol, TypeVar
from urllib.parse import quote

import torch
from torch import nn

from ..unifashion_core.errors import InputError
from ._host import paths

IN_COMFYUI = find_spec("folder_paths") is not None and find_spec("comfy_api") is not None

if TYPE_CHECKING or not IN_COMFYUI:
    from ._host import ComfyExtension, InterruptProcessing, current, io, ui
    from ._host.session import ProgressBar, throw_if_interrupted

if IN_COMFYUI:
    # attributes are looked up at each use: main.py rebinds some of them after packs are loaded
    _folders: Any = import_module("folder_paths")
    _mm: Any = import_module("comfy.model_management")
    _patching: Any = import_module("comfy.model_patcher")

if IN_COMFYUI and not TYPE_CHECKING:  # a type checker takes the embedded host's names
    _latest = import_module("comfy_api.latest")
    io, ui, ComfyExtension = _latest.io, _latest.ui, _latest.ComfyExtension
    ProgressBar = import_module("comfy.utils").ProgressBar
    InterruptProcessing = _mm.InterruptProcessingException
    throw_if_interrupted = _mm.throw_exception_if_processing_interrupted

__all__ = [
    "IN_COMFYUI",
    "ComfyExtension",
    "InterruptProcessing",
    "Patcher",
    "ProgressBar",
    "add_pack_routes",
    "annotated_input_path",
    "attention_function",
    "check_gallery_name",
    "device",
    "download_folder",
    "find_model",
    "free_memory",
    "galleries_folder",
    "gallery_path",
    "image_folders",
    "input_folder",
    "intermediate_device",
    "intermediate_dtype",
    "io",
    "latent_previewer",
    "list_galleries",
    "list_models",
    "load_models",
    "manage",
    "metadata_wanted",
    "model_dtype",
    "model_folders",
    "node_info",
    "offload_device",
    "once_a_process",
    "output_folder",
    "register_folders",
    "resolve_image_folder",
    "serve_pack",
    "temp_folder",
    "throw_if_interrupted",
    "ui",
    "user_cache",
    "with_checked_links",
]

IMAGES_KEY = "unifashion_images"
"""Name in extra_model_paths.yaml of the folders that may be indexed."""

T = TypeVar("T")

_USER_KEY = "unifashion"
_HALF = (torch.float16, torch.bfloat16)
_once: dict[str, Any] = {}
_once_lock = Lock()

check_gallery_name = paths.check_gallery_name


class Patcher(Protocol):
    """A module under the host's model manager; the value that travels on a wire."""

    model: Any
    load_device: torch.device
    offload_device: torch.device


class _Holder(nn.Module):
    """Carries a module whose own `device` is read-only, which the host could not set."""

    def __init__(self, module: nn.Module):
        super().__init__()
        self.module = module

    def get_dtype(self) -> torch.dtype:
        """Type of the weights, as the host's `model_dtype()` asks for it."""
        kinds = (p.dtype for p in self.module.parameters() if p.is_floating_point())
        return next(kinds, torch.float32)


def manage(module: nn.Module, *, name: str) -> Patcher:
    """Put a module under the host's model manager; it is loaded by `load_models`.

    Args:
        module: The network, on `offload_device()`; reach it through the reference you keep.
        name: What the host's log calls it.
    """
    holder = type(name, (_Holder,), {})(module.eval())
    if not IN_COMFYUI:
        return current().models.manage(holder)
    patcher = getattr(_patching, "CoreModelPatcher", _patching.ModelPatcher)
    return patcher(holder, load_device=device(), offload_device=offload_device())


def load_models(patchers: Sequence[Patcher], memory_bytes: int = 0) -> None:
    """Bring all models of one step onto the device, whole, right before they are used.

    Args:
        patchers: From `manage`.
        memory_bytes: What the step's activations need, in bytes, without the weights.
    """
    if not IN_COMFYUI:
        current().models.load(patchers, memory_bytes)  # type: ignore[arg-type] # its own patchers
        return
    load = _mm.load_models_gpu
    whole = {"force_full_load": True} if _takes(load, "force_full_load") else {}
    load(list(patchers), memory_required=memory_bytes, **whole)


def _takes(function: Callable[..., Any], argument: str) -> bool:
    return argument in inspect.signature(function).parameters


_LINKED = ("UNIFASHION_", "IMAGE", "MASK", "LATENT")
_PLAIN = (str, int, float, list, dict)  # what JSON can write where a link belongs


def with_checked_links(nodes: Sequence[type[Any]]) -> list[type[Any]]:
    """Let nodes refuse plain values in place of links, which the host hands on unlooked at.

    Args:
        nodes: Node classes; their `execute` is wrapped once.
    """
    for node in nodes:
        function = node.execute.__func__
        if not hasattr(function, "__wrapped__"):
            node.execute = classmethod(_checked(function))
    return list(nodes)


def _checked(execute: Callable[..., Any]) -> Callable[..., Any]:
    wanted: dict[str, tuple[str, bool]] = {}  # filled by the first run: folders are known then
    as_lists: list[bool] = []  # likewise: whether a link is a list of what came over it
    parameters = inspect.signature(execute).parameters
    takes_more = any(p.kind is p.VAR_KEYWORD for p in parameters.values())

    @functools.wraps(execute)
    def run(cls: Any, **values: Any) -> Any:
        if not wanted:  # define_schema: GET_SCHEMA writes to the class, which is locked here
            schema = cls.define_schema()
            entries = [(entry, entry.get_io_type()) for entry in schema.inputs]
            links = [(entry, kind) for entry, kind in entries if kind.startswith(_LINKED)]
            wanted.update({entry.id: (kind, bool(entry.optional)) for entry, kind in links})
            wanted.setdefault("", ("", True))
            as_lists.append(bool(schema.is_input_list))
        strange = [] if takes_more else [name for name in values if name not in parameters]
        if strange:
            raise InputError(
                f"{cls.__name__}: it has no input {strange[0][:60]!r}. Remove it from the workflow."
            )
        for name, (kind, optional) in wanted.items():
            value = values.get(name)
            held = value if as_lists[0] and isinstance(value, list) else [value]
            if any(isinstance(one, _PLAIN) for one in held) or (
                value is None and name in values and not optional
            ):
                raise InputError(
                    f"{cls.__name__}: {name} is {str(value)[:60]!r}, a link of type {kind} wanted. "
                    "Connect the node that gives it."
                )
        return execute(cls, **values)

    return run


def device() -> torch.device:
    """Where models compute."""
    return _mm.get_torch_device() if IN_COMFYUI else current().models.device


def offload_device() -> torch.device:
    """Where models wait."""
    return _mm.unet_offload_device() if IN_COMFYUI else current().models.offload_device


def intermediate_device() -> torch.device:
    """Where results leave a node."""
    return _mm.intermediate_device() if IN_COMFYUI else torch.device("cpu")


def intermediate_dtype() -> torch.dtype:
    """In which type pictures leave a node."""
    if IN_COMFYUI and hasattr(_mm, "intermediate_dtype"):
        return _mm.intermediate_dtype()
    return torch.float32


def model_dtype(parameters: int, supported: Sequence[torch.dtype] = _HALF) -> torch.dtype:
    """The type to hold a network's weights in.

    Args:
        parameters: How many it has.
        supported: Types beside float32 that it works in, best first.
    """
    if not IN_COMFYUI:
        return current().models.dtype(supported)
    return _mm.unet_dtype(
        device=device(), model_params=parameters, supported_dtypes=[*supported, torch.float32]
    )


def once_a_process(name: str, make: Callable[[], T]) -> T:
    """The one value of a name in this process, made when it is first asked for.

    For what must outlive a run and is bounded by itself: the cache of preparations.
    """
    with _once_lock:
        if name not in _once:
            _once[name] = make()
        return _once[name]


def free_memory() -> int:
    """Bytes that are free on `device()`."""
    return int(_mm.get_free_memory(device())) if IN_COMFYUI else current().models.memory().free


def node_info(kind: str) -> dict[str, Any] | None:
    """What the host's `/object_info` says of a node class; None where it has no such class."""
    if not IN_COMFYUI:
        found = current().registry.get(kind)
        return None if found is None else found.GET_NODE_INFO_V1()
    known = import_module("nodes")
    found = known.NODE_CLASS_MAPPINGS.get(kind)
    if found is None or hasattr(found, "GET_NODE_INFO_V1"):
        return None if found is None else found.GET_NODE_INFO_V1()
    return {
        "input": found.INPUT_TYPES(),
        "output": list(found.RETURN_TYPES),
        "output_name": list(getattr(found, "RETURN_NAMES", found.RETURN_TYPES)),
        "display_name": known.NODE_DISPLAY_NAME_MAPPINGS.get(kind, kind),
    }


def attention_function() -> Callable[..., torch.Tensor] | None:
    """The host's attention, so that its flags count; None where the host has none.

    Returns:
        ComfyUI's `optimized_attention`, as `choose_attention` takes it.
    """
    if not IN_COMFYUI:
        return None
    return import_module("comfy.ldm.modules.attention").optimized_attention


def latent_previewer() -> Callable[[torch.Tensor], Any] | None:
    """How the host draws Stable Diffusion 1's latents while they are sampled.

    Returns:
        From latents, (B, 4, h, w), scaled, to what `ProgressBar` takes as a preview; None where the
        user wants none, or the host has none.
    """
    if not IN_COMFYUI:
        return None
    formats = import_module("comfy.latent_formats")
    previewer = import_module("latent_preview").get_previewer(device(), formats.SD15())
    if previewer is None:
        return None
    return lambda latents: previewer.decode_latent_to_preview_image("JPEG", latents)


def register_folders(kinds: Iterable[str]) -> None:
    """Make model kinds known to the host; paths of extra_model_paths.yaml stay in front.

    Args:
        kinds: Folder names below `models`.
    """
    if not IN_COMFYUI:
        return
    for kind in kinds:
        _folders.add_model_folder_path(kind, str(Path(_folders.models_dir) / kind))
        known, suffixes = _folders.folder_names_and_paths[kind]
        # paths from the yaml come with an empty set, which would list every file
        _folders.folder_names_and_paths[kind] = (known, set(suffixes) | paths.WEIGHT_SUFFIXES)


_SERVED = {"workflow_templates": "workflows", "extensions": "web"}


def serve_pack(folder: Path) -> None:
    """Serve the pack's templates and help pages where the host can't.

    ComfyUI gives each pack static routes that hold its folder's name. aiohttp compares such a route
    quoted with an address unquoted, so a name with a space (a copy's, "pack (1)") is never found.

    Args:
        folder: The pack's.
    """
    if IN_COMFYUI and quote(folder.name) != folder.name:
        server = getattr(import_module("server").PromptServer, "instance", None)
        if server is not None:
            add_pack_routes(server.routes, folder)


def add_pack_routes(routes: Any, folder: Path) -> None:
    """The routes of `serve_pack`: files of the pack's own two folders, and of no other pack.

    Args:
        routes: aiohttp's table of routes.
        folder: The pack's.
    """
    web = import_module("aiohttp.web")
    name = folder.name.replace("%", "%25")  # the one sign that aiohttp leaves quoted
    plain = "".join(c if c.isalnum() and c.isascii() else f"\\U{ord(c):08x}" for c in name)
    for address, below in _SERVED.items():
        top = (folder / below).resolve()

        async def send(request: Any, top: Path = top) -> Any:
            path = (top / request.match_info["file"]).resolve()
            if not (path.is_relative_to(top) and path.is_file()):
                raise web.HTTPNotFound
            return web.FileResponse(path)

        routes.get(f"/{address}/{{pack:{plain}}}/{{file:.+}}")(send)


def model_folders(kind: str) -> list[Path]:
    """Folders that models of a kind lie in, in the order they are searched."""
    if not IN_COMFYUI:
        return current().folders.model_folders(kind)
    return [Path(p) for p in _registered(kind)]


def download_folder(kind: str) -> Path:
    """Where new models of a kind go: the first folder that is listed for it; it may not exist."""
    if not IN_COMFYUI:
        return current().folders.models / kind
    listed = _registered(kind)
    return Path(listed[0]) if listed else Path(_folders.models_dir) / kind


def list_models(kind: str) -> list[str]:
    """Weight files and model folders (with a config.json) of a kind, for a combo; may be empty."""
    return paths.list_models(model_folders(kind))


def find_model(kind: str, name: str) -> Path:
    """The file or folder behind a name of `list_models`.

    Raises:
        FolderError: If there is none, or the name leaves the folders.
    """
    return paths.find_model(name, model_folders(kind), f"Model {name!r}")


def _registered(kind: str) -> list[str]:
    known = _folders.folder_names_and_paths
    return list(known[kind][0]) if kind in known else []


def galleries_folder() -> Path:
    """Where galleries lie; it may not exist yet."""
    if not IN_COMFYUI:
        return current().folders.gallery_root
    if hasattr(_folders, "get_system_user_directory"):
        return Path(_folders.get_system_user_directory(_USER_KEY)) / "galleries"
    return Path(_folders.get_user_directory()) / f"__{_USER_KEY}" / "galleries"


def user_cache() -> Path:
    """Where small things that can be computed again are kept; it may not exist yet."""
    return galleries_folder().parent / "cache"


def gallery_path(name: str) -> Path:
    """The folder of a gallery; it may not exist yet.

    Raises:
        FolderError: If the name can't be one folder's name.
    """
    return galleries_folder() / check_gallery_name(name)


def list_galleries() -> list[str]:
    """Names of galleries, sorted, for a combo: folders, and files that name one on a server."""
    root = galleries_folder()
    entries = list(root.iterdir()) if root.is_dir() else []
    found = {p.name for p in entries if p.is_dir()}
    found |= {p.stem for p in entries if p.suffix == ".json" and p.is_file()}
    return sorted(name for name in found if not name.startswith("."))


def metadata_wanted() -> bool:
    """Whether saved pictures may carry their graph; the user can start the host without it."""
    if not IN_COMFYUI:
        return current().metadata
    return not import_module("comfy.cli_args").args.disable_metadata


def input_folder() -> Path:
    """The host's input folder."""
    return Path(_folders.get_input_directory()) if IN_COMFYUI else current().folders.input


def output_folder() -> Path:
    """The host's output folder."""
    return Path(_folders.get_output_directory()) if IN_COMFYUI else current().folders.output


def temp_folder() -> Path:
    """The host's temporary folder."""
    return Path(_folders.get_temp_directory()) if IN_COMFYUI else current().folders.temp


def image_folders() -> list[Path]:
    """Folders whose pictures may be indexed: input, output, and those listed by the user."""
    return [path for _, path in _image_roots()]


def _image_roots() -> list[tuple[str, Path]]:
    if not IN_COMFYUI:
        return current().folders.image_roots()
    listed = [(Path(p).name, Path(p)) for p in _registered(IMAGES_KEY)]
    return [("input", input_folder()), ("output", output_folder()), *listed]


def resolve_image_folder(text: str) -> Path:
    """The folder to index that a user's text means: "input", "output/july", or an absolute path.

    Raises:
        FolderError: If it is no folder, or outside `image_folders()`; it says how to list it.
    """
    return paths.find_image_folder(text, _image_roots())


def annotated_input_path(name: str) -> Path:
    """Path of a file named as LoadImage does: `name`, `sub/name`, `name [output]`.

    Raises:
        ValueError: If it leaves its folder.
    """
    if IN_COMFYUI:
        return Path(_folders.get_annotated_filepath(name))
    return current().folders.annotated(name)

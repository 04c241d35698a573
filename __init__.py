"""ComfyUI-UniFashion: the pack's entry point, present only where ComfyUI is."""

from importlib.util import find_spec

__all__: list[str] = []
if find_spec("folder_paths") is not None:  # only true inside ComfyUI
    from .nodes import comfy_entrypoint as comfy_entrypoint

    WEB_DIRECTORY = "./web"  # the help pages; there is no script in it
    __all__ += ["WEB_DIRECTORY", "comfy_entrypoint"]

"""The `ui` namespace that nodes import: what a node shows on the page."""

from __future__ import annotations

import secrets
from typing import Any

import torch

from .pictures import SavedFile, save_images
from .values import FolderType

_FASTEST = 1  # previews are written for one look


class SavedImages:
    """Files that the page shows.

    Args:
        results: Files, as the page asks for them.
    """

    def __init__(self, results: list[SavedFile]):
        self.results = results

    def as_dict(self) -> dict[str, Any]:
        """The node's `ui` dict."""
        return {"images": self.results}


class PreviewImage:
    """Temporary files of a batch, shown on the node.

    Args:
        image: (B, H, W, C), 0..1.
        cls: The node that shows it; its graph is stored in the files.
    """

    def __init__(self, image: torch.Tensor, *, cls: Any = None):
        prefix = f"ComfyUI_temp_{secrets.token_hex(3)}"
        self.values = save_images(image, prefix, "temp", _metadata(cls), _FASTEST)

    def as_dict(self) -> dict[str, Any]:
        """The node's `ui` dict."""
        return {"images": self.values, "animated": (False,)}


class PreviewMask(PreviewImage):
    """Temporary files of masks, shown as grey pictures.

    Args:
        mask: (B, H, W), 0..1.
        cls: As in `PreviewImage`.
    """

    def __init__(self, mask: torch.Tensor, *, cls: Any = None):
        grey = mask.reshape((-1, *mask.shape[-2:], 1)).expand(-1, -1, -1, 3)
        super().__init__(grey, cls=cls)


class PreviewText:
    """A text, shown where the page draws it.

    Args:
        value: The text.
    """

    def __init__(self, value: str):
        self.value = value

    def as_dict(self) -> dict[str, Any]:
        """The node's `ui` dict."""
        return {"text": (self.value,)}


class ImageSaveHelper:
    """Saves pictures from a node."""

    @staticmethod
    def save_images(
        images: torch.Tensor,
        filename_prefix: str,
        folder_type: FolderType,
        cls: Any,
        compress_level: int = 4,
    ) -> list[SavedFile]:
        """Write a batch; see `pictures.save_images`."""
        metadata = _metadata(cls)
        return save_images(images, filename_prefix, folder_type.value, metadata, compress_level)

    @staticmethod
    def get_save_images_ui(
        images: torch.Tensor, filename_prefix: str, cls: Any, compress_level: int = 4
    ) -> SavedImages:
        """Write a batch to the output folder and show it."""
        return SavedImages(
            ImageSaveHelper.save_images(
                images, filename_prefix, FolderType.output, cls, compress_level
            )
        )


def _metadata(cls: Any) -> dict[str, Any]:
    hidden = getattr(cls, "hidden", None)
    if hidden is None:
        return {}
    return {"prompt": hidden.prompt, **(hidden.extra_pnginfo or {})}

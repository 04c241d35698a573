"""The pack's own errors: `<where>: <what is wrong, got and wanted>. <what to do>.`"""


class UniFashionError(Exception):
    """Base of every error that the pack raises on purpose."""


class ShapeError(UniFashionError, ValueError):
    """A tensor has another shape than the function takes."""


class InputError(UniFashionError, ValueError):
    """A text, an image, a number or a choice that can't be worked with."""


class ImageError(InputError):
    """A picture that can't be read, or that is outside the limits."""


class CheckpointError(UniFashionError, ValueError):
    """A weight file that is unknown, incomplete, unsafe or does not fit."""


class AbilityError(UniFashionError, ValueError):
    """The connected model lacks the part that this step needs."""


class GalleryError(UniFashionError, ValueError):
    """A gallery that is missing, damaged, of another encoder or of a newer format."""


class GalleryBusyError(GalleryError):
    """Another process writes to this gallery."""


class FolderError(UniFashionError, ValueError):
    """A path that is missing, empty or outside the allowed folders."""


class MissingPackageError(UniFashionError, ImportError):
    """An optional package is absent or too old; the text has the install line."""


class BackendError(UniFashionError, RuntimeError):
    """A chosen attention backend or device can't run here."""


class DownloadError(UniFashionError, OSError):
    """A file can't be fetched, or is not the one that is known."""

"""Pictures: upright RGB within limits, clear errors for everything else."""

from __future__ import annotations

import hashlib
import os
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from unifashion_core import imaging
from unifashion_core.errors import FolderError, ImageError, ShapeError
from unifashion_core.imaging import content_hash, iter_images, open_image, to_pil, to_tensor

RED, BLUE = (200, 30, 30), (30, 30, 200)


def two_halves(width: int = 40, height: int = 20) -> Image.Image:
    """Red on the left, blue on the right."""
    image = Image.new("RGB", (width, height), RED)
    image.paste(BLUE, (width // 2, 0, width, height))
    return image


def near(pixel: tuple[int, ...], wanted: tuple[int, ...], tolerance: int = 12) -> bool:
    return all(abs(a - b) <= tolerance for a, b in zip(pixel, wanted, strict=True))


def png_header(width: int, height: int) -> bytes:
    """A PNG that claims a size and holds almost nothing."""
    chunks = [(b"IHDR", struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0))]
    chunks += [(b"IDAT", zlib.compress(b"\0" * 64)), (b"IEND", b"")]
    data = b"\x89PNG\r\n\x1a\n"
    for kind, body in chunks:
        data += struct.pack(">I", len(body)) + kind + body
        data += struct.pack(">I", zlib.crc32(kind + body))
    return data


@pytest.mark.parametrize(
    ("orientation", "top_left", "bottom_right"),
    [(1, RED, BLUE), (2, BLUE, RED), (3, BLUE, RED), (4, RED, BLUE)]
    + [(5, RED, BLUE), (6, RED, BLUE), (7, BLUE, RED), (8, BLUE, RED)],
)
def test_exif_orientation_turns_the_picture_upright(
    tmp_path: Path, orientation: int, top_left: tuple[int, ...], bottom_right: tuple[int, ...]
) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    two_halves().save(tmp_path / "a.jpg", exif=exif, quality=95)

    image = open_image(tmp_path / "a.jpg")

    assert image.size == ((40, 20) if orientation < 5 else (20, 40))
    assert near(image.getpixel((2, 2)), top_left)  # type: ignore[arg-type]
    assert near(image.getpixel((image.width - 3, image.height - 3)), bottom_right)  # type: ignore[arg-type]


def test_a_broken_exif_block_turns_nothing(tmp_path: Path) -> None:
    two_halves().save(tmp_path / "a.jpg", exif=b"Exif\0\0MM\0*\xff\xff\xff\xff" + b"\1" * 20)

    assert open_image(tmp_path / "a.jpg").size == (40, 20)


@pytest.mark.parametrize("mode", ["RGBA", "LA"])
def test_transparency_goes_on_white(tmp_path: Path, mode: str) -> None:
    image = Image.new("RGBA", (4, 2), (0, 0, 0, 0))
    image.putpixel((0, 0), (10, 10, 10, 255))
    image.convert(mode).save(tmp_path / "a.png")

    opened = open_image(tmp_path / "a.png")

    assert opened.getpixel((0, 0)) == (10, 10, 10)
    assert opened.getpixel((3, 1)) == (255, 255, 255)


def test_half_transparency_is_mixed_with_white(tmp_path: Path) -> None:
    Image.new("RGBA", (2, 2), (0, 0, 0, 128)).save(tmp_path / "a.webp", lossless=True)

    assert near(open_image(tmp_path / "a.webp").getpixel((0, 0)), (127, 127, 127), 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(("mode", "value", "clear"), [("P", 3, 3), ("L", 7, 7)])
def test_a_transparent_palette_entry_or_grey_goes_on_white(
    tmp_path: Path, mode: str, value: int, clear: int
) -> None:
    image = Image.new(mode, (2, 1), value)
    if mode == "P":
        image.putpalette([0, 0, 0] * 8)
    image.putpixel((1, 0), 1)
    image.save(tmp_path / "a.png", transparency=clear)

    opened = open_image(tmp_path / "a.png")

    assert opened.getpixel((0, 0)) == (255, 255, 255)
    assert opened.getpixel((1, 0)) != (255, 255, 255)


def test_a_cmyk_jpeg_keeps_its_colours(tmp_path: Path) -> None:
    Image.new("RGB", (16, 16), RED).convert("CMYK").save(tmp_path / "a.jpg", quality=95)

    assert near(open_image(tmp_path / "a.jpg").getpixel((8, 8)), RED)  # type: ignore[arg-type]


def test_16_bit_grey_is_scaled_not_clipped(tmp_path: Path) -> None:
    values = np.array([[0, 257 * 100, 65535]], dtype=np.uint16)
    Image.fromarray(values).save(tmp_path / "a.png")

    image = open_image(tmp_path / "a.png")

    assert [image.getpixel((x, 0)) for x in range(3)] == [(0,) * 3, (100,) * 3, (255,) * 3]


def test_an_animation_gives_its_first_frame(tmp_path: Path) -> None:
    frames = [Image.new("RGB", (8, 8), colour) for colour in (RED, BLUE)]
    frames[0].save(
        tmp_path / "a.webp", save_all=True, append_images=frames[1:], lossless=True, duration=50
    )

    assert open_image(tmp_path / "a.webp").getpixel((4, 4)) == RED


def test_a_picture_is_recognised_by_content_not_suffix(tmp_path: Path) -> None:
    two_halves().save(tmp_path / "a.jpg", format="PNG")

    assert open_image(tmp_path / "a.jpg").getpixel((0, 0)) == RED


@pytest.mark.parametrize(
    ("size", "min_side", "wanted"),
    [
        ((800, 640), None, (800, 640)),
        ((800, 640), 40, (100, 80)),
        ((800, 640), 41, (200, 160)),
        ((800, 640), 161, (800, 640)),
        ((800, 640), 1000, (800, 640)),
        ((8000, 64), 64, (8000, 64)),
    ],
)
def test_a_jpeg_is_decoded_small_but_never_below_twice_min_side(
    tmp_path: Path, size: tuple[int, int], min_side: int | None, wanted: tuple[int, int]
) -> None:
    two_halves(*size).save(tmp_path / "a.jpg")

    assert open_image(tmp_path / "a.jpg", min_side=min_side).size == wanted


def test_one_pixel_is_a_picture(tmp_path: Path) -> None:
    Image.new("RGB", (1, 1), RED).save(tmp_path / "a.png")

    assert open_image(tmp_path / "a.png", min_side=224).size == (1, 1)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("size", [(30_000, 30_000), (30_000, 1), (16_000, 16_000)])
def test_a_picture_beyond_the_limits_is_refused_before_decoding(
    tmp_path: Path, size: tuple[int, int]
) -> None:
    (tmp_path / "a.png").write_bytes(png_header(*size))

    wanted = rf"a\.png: {size[0]:,} x .* pixels, at most .*Scale it down"
    with pytest.raises(ImageError, match=wanted):
        open_image(tmp_path / "a.png")


def test_a_large_webp_canvas_is_refused_before_its_decoder_starts(tmp_path: Path) -> None:
    Image.new("RGBA", (4, 4), (1, 2, 3, 4)).save(tmp_path / "a.webp", lossless=True)
    data = bytearray((tmp_path / "a.webp").read_bytes())
    header = b"VP8X" + struct.pack("<I", 10) + b"\x10\0\0\0" + b"\xff\x3e\x00" + b"\xff\x3e\x00"
    (tmp_path / "a.webp").write_bytes(data[:12] + header + data[12:])

    with pytest.raises(ImageError, match=r"16,128 x 16,128 pixels, at most"):
        open_image(tmp_path / "a.webp")


def test_a_jpeg_above_the_decoded_limit_opens_where_it_may_be_small(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_halves(800, 640).save(tmp_path / "a.jpg")
    monkeypatch.setattr(imaging, "MAX_DECODED_PIXELS", 100_000)

    assert open_image(tmp_path / "a.jpg", min_side=40).size == (100, 80)
    with pytest.raises(ImageError, match="800 x 640 pixels"):
        open_image(tmp_path / "a.jpg")


def test_pillows_own_limit_stays_as_it_was(tmp_path: Path) -> None:
    before = Image.MAX_IMAGE_PIXELS
    (tmp_path / "a.png").write_bytes(png_header(12_000, 9_000))

    with pytest.raises(ImageError):
        open_image(tmp_path / "a.png")

    assert before == Image.MAX_IMAGE_PIXELS


def test_an_empty_file_is_named(tmp_path: Path) -> None:
    (tmp_path / "a.jpg").touch()

    with pytest.raises(ImageError, match=r"a\.jpg: the file is empty \(0 bytes\)\. Copy it again"):
        open_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
@pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
def test_a_truncated_file_is_an_error_and_never_filled(
    tmp_path: Path, suffix: str, share: float
) -> None:
    noise = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    path = tmp_path / f"a.{suffix}"
    Image.fromarray(noise).save(path)
    path.write_bytes(path.read_bytes()[: int(path.stat().st_size * share)])

    with pytest.raises(ImageError, match=r"damaged or truncated .*Copy it again"):
        open_image(path)


@pytest.mark.parametrize(
    ("data", "what"),
    [(b"hello, no picture", "bytes that begin with"), (b"GIF89a....", "a GIF"), (b"BM..", "a BMP")],
)
def test_what_is_no_picture_is_an_error(tmp_path: Path, data: bytes, what: str) -> None:
    (tmp_path / "a.png").write_bytes(data)

    with pytest.raises(ImageError, match=f"got {what}.* Save it as JPEG, PNG or WebP"):
        open_image(tmp_path / "a.png")


def test_a_missing_file_and_a_folder_are_errors(tmp_path: Path) -> None:
    for path in (tmp_path / "no.jpg", tmp_path):
        with pytest.raises(ImageError, match="can't be read"):
            open_image(path)


@pytest.mark.parametrize("suffix", ["jpg", "png", "webp"])
def test_damaged_bytes_give_a_picture_or_our_error(tmp_path: Path, suffix: str) -> None:
    two_halves(48, 48).save(tmp_path / f"a.{suffix}")
    data = (tmp_path / f"a.{suffix}").read_bytes()
    random = np.random.default_rng(1)
    for _ in range(150):
        broken = bytearray(data)
        for place in random.integers(0, len(data), 4):
            broken[place] = int(random.integers(0, 256))
        (tmp_path / f"b.{suffix}").write_bytes(broken)
        try:
            image = open_image(tmp_path / f"b.{suffix}")
        except ImageError:
            continue
        assert image.mode == "RGB"


def test_the_hash_is_of_the_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.bin").write_bytes(b"abc" * 10)

    assert content_hash(tmp_path / "a.bin") == hashlib.sha256(b"abc" * 10).hexdigest()
    with pytest.raises(ImageError, match="can't be read"):
        content_hash(tmp_path / "none")


def test_images_are_found_sorted_below_the_folder(tmp_path: Path) -> None:
    names = ["b.JPG", "a b/ä ö.png", "a b/x.webp", "c.jpeg", "sub/deep/d.PnG"]
    hidden = [".git/x.png", "._b.jpg", "sub/.thumbs/t.jpg"]
    for name in [*names, *hidden, "note.txt", "jpg", "x.gif"]:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    (tmp_path / "folder.jpg").mkdir()

    found = [path.relative_to(tmp_path).as_posix() for path in iter_images(tmp_path)]

    assert found == sorted(names)


@pytest.mark.skipif(os.name == "nt", reason="links need rights on Windows")
def test_links_never_lead_out_of_the_folder(tmp_path: Path) -> None:
    inside, outside = tmp_path / "in", tmp_path / "out"
    inside.mkdir()
    outside.mkdir()
    (outside / "secret.png").touch()
    (inside / "a.png").touch()
    (inside / "own.png").symlink_to(inside / "a.png")
    (inside / "linked.png").symlink_to(outside / "secret.png")
    (inside / "gone.png").symlink_to(inside / "nothing.png")
    (inside / "folder").symlink_to(outside)
    (inside / "loop").symlink_to(inside)

    assert [path.name for path in iter_images(inside)] == ["a.png", "own.png"]


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="no named pipes here")
def test_a_named_pipe_is_not_opened(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "a.png")

    assert list(iter_images(tmp_path)) == []


def test_a_missing_folder_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FolderError, match="can't be listed"):
        list(iter_images(tmp_path / "none"))


def test_a_picture_survives_the_way_to_a_tensor_and_back() -> None:
    image = two_halves()

    tensor = to_tensor(image)

    assert tensor.shape == (20, 40, 3)
    assert tensor.dtype == torch.float32
    assert 0.0 <= float(tensor.min()) <= float(tensor.max()) <= 1.0
    assert to_pil(tensor).tobytes() == image.tobytes()


def test_to_pil_clips_and_refuses_other_shapes() -> None:
    assert to_pil(torch.tensor([[[-1.0, 0.5, 2.0]]])).getpixel((0, 0)) == (0, 128, 255)
    with pytest.raises(ShapeError, match=r"wanted \(H, W, 3\)"):
        to_pil(torch.zeros(1, 4, 4, 3))

"""Values that a stranger's workflow may hold, and pictures that a stranger's folder may hold."""

from __future__ import annotations

import random
import struct
import zlib
from pathlib import Path
from typing import Any

from PIL import Image
from PIL.PngImagePlugin import PngInfo


def texts(secret: Path) -> list[str]:
    """Paths out of the folders in every system's form, and texts that break careless code."""
    up = "../" * 12
    return [
        f"{secret}",
        f"{secret}/picture.png",
        f"{up}{str(secret).lstrip('/')}/picture.png",
        "../secret",
        "../secret/picture.png",
        "../secret/picture.png [output]",
        "../secret/picture.png [input]",
        "../secret/picture.png [temp]",
        "input/../../secret",
        "output/../../secret",
        "way_out",
        "way_out/picture.png",
        "input/way_out",
        "./../secret",
        "....//....//secret",
        "..\\secret",
        "..\\..\\secret\\picture.png",
        "input\\..\\..\\secret",
        "C:\\Windows\\System32\\drivers\\etc\\hosts",
        "C:/Windows/win.ini",
        "C:secret",
        "\\\\server\\share\\picture.png",
        "//server/share/picture.png",
        "\\\\?\\C:\\secret",
        "\\\\.\\PhysicalDrive0",
        "/etc/passwd",
        "/proc/self/environ",
        "/dev/zero",
        "~/.ssh/id_rsa",
        "~root",
        "$HOME/secret",
        "%USERPROFILE%\\secret",
        "file:///etc/passwd",
        "https://evil.example/model.safetensors",
        "CON",
        "con.txt",
        "NUL",
        "aux.png",
        "LPT1",
        "COM9.json",
        "picture.png\0.txt",
        "\0",
        "",
        " ",
        ".",
        "..",
        "...",
        "name.",
        "name ",
        " name",
        "-rf",
        "\u202egnp.exe",
        "\uff0e\uff0e\uff0fsecret",
        "\u2025/secret",
        "..%2fsecret",
        "..%c0%afsecret",
        "caf\u0065\u0301",
        "\ud800",
        "\U0001f457" * 500,
        "a" * 300,
        "a" * 100_000,
        "a/" * 2000,
        "\r\n\r\nSet-Cookie: a=b",
        "\x1b[2J",
        "{0.__class__.__mro__}",
        "%s%s%s%n",
        "%year%/../../secret/%batch_num%",
        "'; DROP TABLE items;--",
        "category=dress AND 1=1; ATTACH DATABASE '/tmp/x' AS y",
        "category='" + "(" * 5000,
        "(" * 20_000,
        "NOT " * 5000 + "a=b",
        "a->b\n" * 3000,
        "__import__('os').system('id')",
        "<script>alert(1)</script>",
        "(a+)+$" * 50,
        "1, " * 5000,
        "[[[[[[[[[[",
        '{"a":' * 5000,
        "none",
        "None",
        "nan",
        "1e400",
    ]


def oddities() -> list[Any]:
    """Values of the wrong kind, and numbers past every range."""
    deep: Any = "end"
    for _ in range(400):
        deep = [deep]
    return [
        None,
        True,
        False,
        -1,
        0,
        -(2**31) - 1,
        2**31,
        2**63,
        2**64,
        -(2**64),
        10**400,
        0.5,
        -0.0,
        1e308,
        1e-320,
        float("inf"),
        float("-inf"),
        float("nan"),
        "7",
        " 12 ",
        "0x10",
        "\u0661\u0662",
        "1_000",
        [],
        {},
        [1, 2, 3],
        ["load", 0],
        ["load", 99],
        ["load", -1],
        ["load", "0"],
        ["load", 0.5],
        ["load", None],
        ["nobody", 0],
        [None, 0],
        [["load", 0], 0],
        {"__value__": ["a", "b"]},
        {"__value__": {"__value__": 1}},
        {"__class__": "x"},
        {"a": {"b": {"c": []}}},
        deep,
        b"bytes".decode(),
    ]


def picture_files(folder: Path) -> None:
    """Pictures that are none, that lie about their size, or that carry more than pixels."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "empty.png").write_bytes(b"")
    (folder / "text.png").write_text("not a picture")
    (folder / "bomb.png").write_bytes(_png(60_000, 60_000, b"\0" * 1000))
    (folder / "wide.png").write_bytes(_png(2**31 - 1, 1, b"\0"))
    (folder / "zero.png").write_bytes(_png(0, 0, b""))
    (folder / "text_bomb.png").write_bytes(_text_bomb())
    (folder / "script.svg").write_text("<svg xmlns='http://www.w3.org/2000/svg'><script/></svg>")
    (folder / "gif.jpg").write_bytes(b"GIF89a\x01\x00\x01\x00\x00\x00\x00;")
    (folder / "eps.png").write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n")
    small = Image.new("RGB", (24, 24), (200, 30, 30))
    notes = PngInfo()
    notes.add_text("prompt", '{"1": {"class_type": "__import__", "inputs": {}}}' * 100)
    notes.add_text("workflow", "{" * 10_000)
    small.save(folder / "metadata.png", pnginfo=notes)
    whole = folder / "whole.jpg"
    small.save(whole)
    (folder / "cut.jpg").write_bytes(whole.read_bytes()[:200])
    exif = Image.Exif()
    exif[0x0112] = 6
    exif[0x010E] = "../../secret" * 500
    small.save(folder / "exif.jpg", exif=exif)


def _png(width: int, height: int, data: bytes) -> bytes:
    head = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    chunks = (b"IHDR", head), (b"IDAT", zlib.compress(data)), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _text_bomb() -> bytes:
    """100 MB of text in 100 kB."""
    text = b"workflow\0\0" + zlib.compress(b" " * 100_000_000, 9)
    head = struct.pack(">IIBBBBB", 8, 8, 8, 2, 0, 0, 0)
    body = zlib.compress((b"\0" + b"\x80" * 24) * 8)
    chunks = (b"IHDR", head), (b"zTXt", text), (b"IDAT", body), (b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(_chunk(*chunk) for chunk in chunks)


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def damage(value: Any, draw: random.Random, junk: list[Any], depth: int = 0) -> Any:
    """A workflow's JSON with one part taken out, doubled, renamed or replaced."""
    if isinstance(value, dict) and value and (depth == 0 or draw.random() < 0.75):
        key = draw.choice(list(value))
        kind = draw.random()
        if kind < 0.15:
            return {k: v for k, v in value.items() if k != key}
        if kind < 0.25:
            return {**value, draw.choice(["", "__proto__", "\0", "9" * 400, "load "]): value[key]}
        if kind < 0.35:
            return {draw.choice(["class_type", "inputs", "x", k]): v for k, v in value.items()}
        return {**value, key: damage(value[key], draw, junk, depth + 1)}
    if isinstance(value, list) and value and draw.random() < 0.5:
        place = draw.randrange(len(value))
        return [damage(v, draw, junk, depth + 1) if i == place else v for i, v in enumerate(value)]
    return draw.choice(junk)

"""The program that makes eight-bit copies of float16 tokens: one pass over what memory gives."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy.typing as npt

from .assembly import Assembly
from .compiling import address, available_instructions, compiled

BLOCK = 16
_KIND, _HALVES, _BYTES = f"<{BLOCK} x float>", f"<{BLOCK} x half>", f"<{BLOCK} x i8>"
_DECLARED = f"""
declare {_KIND} @llvm.fabs.v{BLOCK}f32({_KIND})
declare {_KIND} @llvm.rint.v{BLOCK}f32({_KIND})
"""


@lru_cache(maxsize=1)
def can_narrow() -> bool:
    """Whether this machine has what the program needs."""
    return bool(available_instructions())


def narrow(
    tokens: npt.NDArray[Any],
    copy: npt.NDArray[Any],
    scales: npt.NDArray[Any],
    errors: npt.NDArray[Any],
    squares: npt.NDArray[Any],
) -> None:
    """Fill the copies of some tokens, to the same bits as `quantise` without it.

    Args:
        tokens: Stored tokens, (N, D), float16.
        copy: For their copies, (N, D), int8.
        scales: For each token's scale, (N,), float32.
        errors: For each squared length of token - scale * copy, as float32 adds it up, (N,).
        squares: For each token's squared length, likewise, (N,).
    """
    count, width = tokens.shape
    run = compiled(_program(width), _DECLARED)
    run(*map(address, (tokens, copy, scales, errors, squares)), count)


@lru_cache(maxsize=8)
def _program(width: int) -> str:
    code = Assembly(
        "program",
        [
            *("ptr noalias %tokens", "ptr noalias %copy", "ptr noalias %scales"),
            *("ptr noalias %errors", "ptr noalias %squares", "i64 %count"),
        ],
    )
    return _Narrowing(code, width).write()


class _Narrowing:
    def __init__(self, code: Assembly, width: int) -> None:
        self.code, self.width = code, width
        self.blocks, self.rest = width // BLOCK, width % BLOCK
        self.spare = code.let(f"alloca {_HALVES}, align 32")

    def write(self) -> str:
        self.code.loop("0", "%count", lambda index, _: self.token(index))
        return self.code.finish()

    def token(self, index: str) -> list[str]:
        code = self.code
        token = code.at("%tokens", f"[{self.width} x half]", index)
        copy = code.at("%copy", f"[{self.width} x i8]", index)

        def look(values: str, found: list[str], _: str, __: int) -> list[str]:
            size = code.let(f"call {_KIND} @llvm.fabs.v{BLOCK}f32({_KIND} {values})")
            square = code.let(f"fmul {_KIND} {values}, {values}")
            total = code.let(f"fadd {_KIND} {found[1]}, {square}")
            return [self.greater(_KIND, size, found[0]), total]

        largest, squares = self.over(token, copy, look, 2)
        most = self.across(largest, "greater")
        scale = code.let(f"fdiv float {most}, 1.270000e+02")
        step = code.let(f"fdiv float 1.270000e+02, {most}")
        some = code.let(f"fcmp ogt float {most}, 0.0")
        step = code.let(f"select i1 {some}, float {step}, float 0.0")
        scale_all, step_all = self.everywhere(scale), self.everywhere(step)

        def round_off(values: str, found: list[str], place: str, many: int) -> list[str]:
            moved = code.let(f"fmul {_KIND} {values}, {step_all}")
            whole = code.let(f"call {_KIND} @llvm.rint.v{BLOCK}f32({_KIND} {moved})")
            wide = code.let(f"fptosi {_KIND} {whole} to <{BLOCK} x i32>")
            self.store(code.let(f"trunc <{BLOCK} x i32> {wide} to {_BYTES}"), place, many)
            back = code.let(f"fmul {_KIND} {whole}, {scale_all}")
            lost = code.let(f"fsub {_KIND} {values}, {back}")
            square = code.let(f"fmul {_KIND} {lost}, {lost}")
            return [code.let(f"fadd {_KIND} {found[0]}, {square}")]

        (errors,) = self.over(token, copy, round_off, 1)
        found = {"%scales": scale, "%errors": self.across(errors, "sum")}
        found["%squares"] = self.across(squares, "sum")
        for name, value in found.items():
            code.do(f"store float {value}, ptr {code.at(name, 'float', index)}, align 4")
        return []

    def over(self, token: str, copy: str, body: Any, carried: int) -> list[str]:
        """Go over a token's blocks, widened; the last one may be filled up with zeros."""
        code = self.code

        def block(number: str, found: list[str]) -> list[str]:
            half = code.load(token, _HALVES, number, 2)
            values = code.let(f"fpext {_HALVES} {half} to {_KIND}")
            return body(values, found, code.at(copy, _BYTES, number), BLOCK)

        start = [(_KIND, "zeroinitializer")] * carried
        found = ["zeroinitializer"] * carried
        if self.blocks:
            found = code.loop("0", str(self.blocks), block, start)
        if self.rest:
            place = code.at(token, _HALVES, str(self.blocks))
            code.do(f"store {_HALVES} zeroinitializer, ptr {self.spare}")
            self.move(self.spare, place, 2 * self.rest)
            half = code.let(f"load {_HALVES}, ptr {self.spare}, align 32")
            values = code.let(f"fpext {_HALVES} {half} to {_KIND}")
            found = body(values, found, code.at(copy, _BYTES, str(self.blocks)), self.rest)
        return found

    def store(self, values: str, place: str, many: int) -> None:
        if many == BLOCK:
            self.code.do(f"store {_BYTES} {values}, ptr {place}, align 1")
            return
        self.code.do(f"store {_BYTES} {values}, ptr {self.spare}, align 16")
        self.move(place, self.spare, many)

    def move(self, to: str, place: str, size: int) -> None:
        copy = f"ptr {to}, ptr {place}, i64 {size}, i1 false"
        self.code.do(f"call void @llvm.memcpy.p0.p0.i64({copy})")

    def greater(self, kind: str, first: str, second: str) -> str:
        truth = kind.replace("float", "i1")
        more = self.code.let(f"fcmp ogt {kind} {first}, {second}")
        return self.code.let(f"select {truth} {more}, {kind} {first}, {kind} {second}")

    def everywhere(self, value: str) -> str:
        one = self.code.let(f"insertelement {_KIND} poison, float {value}, i64 0")
        places = f"<{BLOCK} x i32> zeroinitializer"
        return self.code.let(f"shufflevector {_KIND} {one}, {_KIND} poison, {places}")

    def across(self, vector: str, what: str) -> str:
        """The sum or the greatest of a register's values."""
        code, size = self.code, BLOCK
        while size > 1:
            half = size // 2
            kind, part = f"<{size} x float>", f"<{half} x float>"
            low, high = (
                code.let(f"shufflevector {kind} {vector}, {kind} poison, {_places(first, half)}")
                for first in (0, half)
            )
            if what == "sum":
                vector = code.let(f"fadd {part} {low}, {high}")
            else:
                vector = self.greater(part, low, high)
            size = half
        return code.let(f"extractelement <1 x float> {vector}, i64 0")


def _places(first: int, many: int) -> str:
    return f"<{many} x i32> <{', '.join(f'i32 {first + n}' for n in range(many))}>"

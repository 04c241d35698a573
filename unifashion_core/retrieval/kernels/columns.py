"""The first scan of two passes (coarse.py) as LLVM assembly, for images of whole blocks of tokens.

Coarse copies lie turned: beside each other are the same eight dimensions of sixteen tokens, four
bytes each. So a lane is a token, a query's four bytes meet all of them, and nothing is added across
lanes, which costs more than the products.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import numpy.typing as npt

from ..machine.assembly import Assembly
from ..machine.instructions import Instructions
from .coarse import (
    COARSE_ARGUMENTS,
    HALF_RUN,
    RUN,
    STEPS,
    copy_bytes,
    parts_of_record,
    record_bytes,
)
from .programs import LINE, LOWEST, Shape, ask_for, following_one, greater, places_of

TOKENS = 16
"""Of a block, whose four bytes each are a line of memory."""
WORDS = HALF_RUN // 4  # of a token in a run


def turns(shape: Shape) -> bool:
    """Whether the coarse copies of a shape lie turned."""
    return shape.tokens % TOKENS == 0 and shape.width % RUN == 0


def turn(copies: npt.NDArray[np.uint8], out: npt.NDArray[np.uint8]) -> None:
    """Turn coarse copies.

    Args:
        copies: As `halve_program` writes them, (N, T, D / 2).
        out: For them as this scan reads them, (N, T D / 2).
    """
    count, _, size = copies.shape
    words = np.reshape(np.frombuffer(copies.data, np.uint32), (count, -1, TOKENS, size // 4))
    fours: npt.NDArray[np.uint32] = out.view(np.uint32)  # pyright: ignore[reportUnknownMemberType] # an overload of numpy's
    places = np.reshape(fours, (count, -1, size // 4, TOKENS))
    places[...] = np.swapaxes(words, 2, 3)


def turned_program(name: str, shape: Shape, how: Instructions) -> str:
    """Write `coarse` of `coarse_program` for turned copies, with the same arguments.

    Args:
        name: Of the function.
        shape: Of an image; its tokens are a multiple of a block.
        how: The CPU's instructions for products of bytes.
    """
    return _Turned(Assembly(name, COARSE_ARGUMENTS), shape, how).write()


class _Turned:
    def __init__(self, code: Assembly, shape: Shape, how: Instructions) -> None:
        # Sums of 16 bits hold eight products of factors up to 15.
        how = replace(how, run=8) if how.run else how
        self.code, self.shape, self.how = code, shape, how
        self.kind, self.real = f"<{how.lanes} x i32>", f"<{how.lanes} x float>"
        self.steps = shape.width // 8
        self.parts = TOKENS // how.lanes  # registers of a block
        blocks = shape.tokens // TOKENS
        self.together = 2 if blocks % 2 == 0 and self.parts == 1 else 1

    def write(self) -> str:
        self.code.shares("%counter", "%count", "%step", self.image)
        return self.code.finish()

    def every(self, value: str, kind: str) -> str:
        code, vector = self.code, f"<{self.how.lanes} x {kind}>"
        one = code.let(f"insertelement {vector} poison, {kind} {value}, i64 0")
        same = f"<{self.how.lanes} x i32> zeroinitializer"
        return code.let(f"shufflevector {vector} {one}, {vector} poison, {same}")

    def image(self, index: str) -> None:
        code = self.code
        image, following = code.load("%images", "ptr", index, 8), following_one(code, index)
        scales, errors = parts_of_record(code, self.shape, image)
        behind, _ = parts_of_record(code, self.shape, following)
        ask_for(code, behind, record_bytes(self.shape) - copy_bytes(self.shape))
        line = code.at("%uppers", f"[{self.shape.tokens} x float]", index)
        numbers = [
            self.every(code.load("%numbers", "float", str(place), 4), "float") for place in range(3)
        ]
        offset = self.every(code.load("%numbers", "i32", "3", 4), "i32")

        def blocks(number: str, best: list[str]) -> list[str]:
            first = code.let(f"mul i64 {number}, {self.together * self.steps}")
            rows = [
                code.at(image, f"[{LINE} x i8]", code.let(f"add i64 {first}, {n * self.steps}"))
                for n in range(self.together)
            ]
            ahead = code.at(following, f"[{LINE} x i8]", first)
            for place, whole in enumerate(self.sums(rows, ahead)):
                token = code.let(f"mul i64 {number}, {self.together * TOKENS}")
                token = code.let(f"add i64 {token}, {place * self.how.lanes}")
                upper = self.upper(whole, scales, errors, token, numbers, offset)
                where = code.at(line, "float", token)
                code.do(f"store {self.real} {upper}, ptr {where}, align 4")
                best = [greater(code, self.real, upper, best[0])]
            return best

        lowest = f"<{', '.join([f'float {LOWEST}'] * self.how.lanes)}>"
        rounds = str(self.shape.tokens // TOKENS // self.together)
        (best,) = code.loop("0", rounds, blocks, [(self.real, lowest)])
        place = code.at("%best", "float", index)
        code.do(f"store float {self.largest(best)}, ptr {place}, align 4")

    def upper(
        self,
        whole: str,
        scales: str,
        errors: str,
        token: str,
        numbers: list[str],
        offset: str,
    ) -> str:
        """Upper bounds of a register of tokens, from their sums."""
        code, real = self.code, self.real
        step, slope, base = numbers
        whole = self.plus(code.let(f"mul {self.kind} {whole}, {self.same(STEPS)}"), offset)
        score = code.let(f"sitofp {self.kind} {whole} to {real}")
        scale = code.let(f"load {real}, ptr {code.at(scales, 'float', token)}, align 4")
        scale = code.let(f"fmul {real} {scale}, {step}")
        score = code.let(f"fmul {real} {score}, {scale}")
        error = code.let(f"load {real}, ptr {code.at(errors, 'float', token)}, align 4")
        margin = code.let(f"fmul {real} {error}, {slope}")
        margin = code.let(f"fadd {real} {margin}, {base}")
        return code.let(f"fadd {real} {score}, {margin}")

    # ---- sums

    def sums(self, rows: list[str], ahead: str) -> list[str]:
        """Sums of the products of all dimensions, a register of tokens each."""
        code, how = self.code, self.how
        many = self.together * self.parts
        if how.run:
            together, apart = how.run // 2, 1
        else:  # two steps with sums of their own, which don't wait for each other
            together, apart = 2, 4

        def some(number: str, sums: list[str]) -> list[str]:
            parts = ["zeroinitializer"] * many if how.run else sums
            for place in range(together):
                step = code.let(f"mul i64 {number}, {together}")
                step = code.let(f"add i64 {step}, {place}")
                factors = self.factors(rows, ahead, step)
                for half, (values, query) in enumerate(factors):
                    first = (2 * place + half) % apart * many
                    for at, value in enumerate(values, start=first):
                        parts = [*parts]
                        parts[at] = how.add(code, parts[at], value, query)
            if not how.run:
                return parts
            return [how.widen(code, a, b) for a, b in zip(sums, parts, strict=True)]

        start = [(self.kind, "zeroinitializer")] * (many * apart)
        sums = code.loop("0", str(self.steps // together), some, start)
        if how.run:
            return sums
        lower, upper = (
            [self.plus(sums[n + half * many], sums[n + (half + 2) * many]) for n in range(many)]
            for half in (0, 1)
        )
        # The upper four bits were taken as 16 times what they are.
        upper = [code.let(f"ashr {self.kind} {one}, {self.same(4)}") for one in upper]
        return [self.plus(a, b) for a, b in zip(lower, upper, strict=True)]

    def factors(self, rows: list[str], ahead: str, step: str) -> list[tuple[list[str], str]]:
        """Of eight dimensions: the lower four bits of each register, the upper ones, and the
        query's bytes that they are multiplied by."""
        code, how = self.code, self.how
        run = code.let(f"udiv i64 {step}, {WORDS}")
        word = code.let(f"add i64 {step}, {code.let(f'mul i64 {run}, {WORDS}')}")
        lower_query, upper_query = (
            self.every(code.load("%queries", "i32", place, 4), "i32")
            for place in (word, code.let(f"add i64 {word}, {WORDS}"))
        )
        values: list[str] = []
        for number, row in enumerate(rows):
            line = code.at(row, f"[{LINE} x i8]", step)
            values += [code.load(line, self.kind, str(part), 4) for part in range(self.parts)]
            later = code.let(f"add i64 {step}, {number * self.steps}")
            ask_for(code, code.at(ahead, f"[{LINE} x i8]", later), LINE)
        lower = [code.let(f"and {self.kind} {one}, {self.same(0x0F0F0F0F)}") for one in values]
        if how.run:  # else 16 bits would not hold the sums
            values = [code.let(f"lshr {self.kind} {one}, {self.same(4)}") for one in values]
        mask = self.same(0x0F0F0F0F if how.run else 0xF0F0F0F0 - (1 << 32))
        upper = [code.let(f"and {self.kind} {one}, {mask}") for one in values]
        return [(lower, lower_query), (upper, upper_query)]

    def same(self, value: int) -> str:
        return f"<{', '.join([f'i32 {value}'] * self.how.lanes)}>"

    def plus(self, first: str, second: str) -> str:
        return self.code.let(f"add {self.kind} {first}, {second}")

    def largest(self, values: str) -> str:
        """The largest lane."""
        code, lanes = self.code, self.how.lanes
        while lanes > 1:
            whole = f"<{lanes} x float>"
            low, high = (
                code.let(f"shufflevector {whole} {values}, {whole} poison, {places_of(places)}")
                for places in (range(lanes // 2), range(lanes // 2, lanes))
            )
            lanes //= 2
            values = greater(code, f"<{lanes} x float>", low, high)
        return code.let(f"extractelement <1 x float> {values}, i64 0")

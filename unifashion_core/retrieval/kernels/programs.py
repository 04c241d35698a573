"""The scorer's two programs as LLVM assembly, made for one shape of image.

`scan` gives the best token of each image's eight-bit copy for each query vector. `exact` gives the
mean over a part's query vectors of the best stored token, in the fixed order of float32 additions
of `scoring.dot`, so that every kernel gives the same bits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import reduce

from ..machine.assembly import Assembly
from ..machine.instructions import Instructions

LOWEST = "0xFFF0000000000000"  # minus infinity
GROUP = 4  # tokens whose sums are added across lanes together
BLOCK = 8  # floats of a register in `exact`
LINE = 64  # bytes that memory gives at once
SCAN_ARGUMENTS = [
    *("ptr noalias %images", "ptr noalias %scales", "ptr noalias %queries"),
    *("ptr noalias %offsets", "i64 %tiles", "ptr noalias %out"),
    *("i64 %stride", "ptr %counter", "i64 %count", "i64 %step"),
]


@dataclass(frozen=True)
class Shape:
    """What a program is made for.

    Attributes:
        tokens: Tokens of an image, T.
        width: Length of a token, D.
    """

    tokens: int
    width: int


def scan_program(name: str, shape: Shape, how: Instructions, tile: int) -> str:
    """Write `scan`: for each image i and query vector p, the best of scale * <t8, q8>.

    Its arguments: addresses of each image's copy, (T, D) i8, and of its scales, (T,) f32; queries
    (tiles * tile, padded D); offsets (tiles * tile,) i32 to begin the sums with; tiles; out
    (tiles * tile, stride) f32; stride; a shared counter, the count of images, and how many of them
    a thread takes at once.

    Args:
        name: Of the function.
        shape: Of an image.
        how: The CPU's instructions.
        tile: Query vectors that are worked on together.
    """
    return ScanProgram(Assembly(name, SCAN_ARGUMENTS), shape, how, tile).write()


class ScanProgram:
    """Writes `scan`; what other programs share with it."""

    def __init__(self, code: Assembly, shape: Shape, how: Instructions, tile: int) -> None:
        self.code, self.shape, self.how, self.tile = code, shape, how, tile
        self.blocks = -(-shape.width // how.step)
        self.following = ""  # the next image, which memory is asked for early
        self.unroll = 1 if tile > 1 else 4
        self.spare = code.let(f"alloca <{how.step} x i8>, align 64")
        # Several tiles read an image again, so its factors are made once.
        values = shape.tokens * self.blocks
        self.factors = code.let(f"alloca {how.factors}, i64 {values}, align 64") if tile > 1 else ""

    def write(self) -> str:
        """Write the function; gives its text."""
        self.code.shares("%counter", "%count", "%step", self.image)
        return self.code.finish()

    def image(self, index: str) -> None:
        """Write the work of one image."""
        code = self.code
        image, scales = (code.load(name, "ptr", index, 8) for name in ("%images", "%scales"))
        if self.tile == 1:
            self.following = following_one(code, index)
        if self.factors:
            tokens = str(self.shape.tokens)
            code.loop("0", tokens, lambda token, _: self.widen(image, token))

        def tile(number: str, _: list[str]) -> list[str]:
            best = self.best(image, scales, number)
            for place, value in enumerate(best):
                vector = code.let(f"add i64 {code.let(f'mul i64 {number}, {self.tile}')}, {place}")
                line = code.at("%out", "float", code.let(f"mul i64 {vector}, %stride"))
                code.do(f"store float {value}, ptr {code.at(line, 'float', index)}")
            return []

        code.loop("0", "%tiles", tile)

    def widen(self, image: str, token: str) -> list[str]:
        """Keep a token's factors for all tiles."""
        start = self.code.at(self.factors, f"[{self.blocks} x {self.how.factors}]", token)
        for block in range(self.blocks):
            value = self.read(image, token, str(block))
            place = self.code.at(start, self.how.factors, str(block))
            self.code.do(f"store {self.how.factors} {value}, ptr {place}, align 64")
        return []

    def read(self, image: str, token: str, block: str) -> str:
        """The factors of a block of a token, from the stored bytes."""
        code, step = self.code, self.how.step
        start = code.at(image, f"[{self.shape.width} x i8]", token)
        place = code.at(start, f"<{step} x i8>", block)
        many = self.shape.width % step
        if many and block == str(self.blocks - 1):  # never past the end of a token
            code.do(f"store <{step} x i8> zeroinitializer, ptr {self.spare}")
            copy = f"ptr {self.spare}, ptr {place}, i64 {many}, i1 false"
            code.do(f"call void @llvm.memcpy.p0.p0.i64({copy})")
            place = self.spare
        return self.how.read(code, place)

    def best(self, image: str, scales: str, tile: str) -> list[str]:
        """The best token for each query vector of a tile."""
        code, whole = self.code, self.shape.tokens // GROUP
        per_tile = self.tile * self.blocks
        queries = code.at("%queries", f"[{per_tile} x {self.how.factors}]", tile)
        offsets = code.at("%offsets", f"[{self.tile} x i32]", tile)

        def group(number: str, best: list[str]) -> list[str]:
            first = code.let(f"mul i64 {number}, {GROUP}")
            return self.better(image, scales, queries, offsets, first, GROUP, best)

        lowest = ", ".join([f"float {LOWEST}"] * GROUP)
        start = [("<4 x float>", f"<{lowest}>")] * self.tile
        best = code.loop("0", str(whole), group, start) if whole else [v for _, v in start]
        rest = self.shape.tokens - whole * GROUP
        if rest:
            first = str(whole * GROUP)
            best = self.better(image, scales, queries, offsets, first, rest, best)
        return [self.largest(value) for value in best]

    def better(  # Size: one register tile, loads to maxima
        self,
        image: str,
        scales: str,
        queries: str,
        offsets: str,
        first: str,
        many: int,
        best: list[str],
    ) -> list[str]:
        """The best so far and `many` tokens more."""
        code = self.code
        if self.following:
            start = code.at(self.following, f"[{self.shape.width} x i8]", first)
            ask_for(code, start, many * self.shape.width)
        places = [code.let(f"add i64 {first}, {number}") for number in range(many)]
        sums = self.sums(image, queries, places)
        found: list[str] = []
        scale = self.scales(scales, first, many)
        for vector in range(self.tile):
            whole = self.across(sums[vector * many : (vector + 1) * many])
            offset = code.load(offsets, "i32", str(vector), 4)
            lane = code.let(f"insertelement <4 x i32> poison, i32 {offset}, i64 0")
            same = "<4 x i32> zeroinitializer"
            offset = code.let(f"shufflevector <4 x i32> {lane}, <4 x i32> poison, {same}")
            whole = code.let(f"add <4 x i32> {whole}, {offset}")
            score = code.let(f"sitofp <4 x i32> {whole} to <4 x float>")
            score = code.let(f"fmul <4 x float> {score}, {scale}")
            found.append(greater(code, "<4 x float>", score, best[vector]))
        return found

    def sums(self, image: str, queries: str, places: list[str]) -> list[str]:
        """Sums over all blocks of dimensions: a line a query, a token each.

        A loop and no long line of instructions: LLVM would reorder that until registers run out.
        """
        code, how = self.code, self.how
        kind, many = f"<{how.lanes} x i32>", len(places) * self.tile
        together = how.run or self.unroll
        rounds = self.shape.width // how.step // together
        zeros = ["zeroinitializer"] * many

        def one(number: str, sums: list[str]) -> list[str]:
            first = code.let(f"mul i64 {number}, {together}")
            if how.run:
                last = code.let(f"add i64 {first}, {together}")
                return widened(sums, code.loop(first, last, block, [(how.part, z) for z in zeros]))
            for place in range(together):
                sums = block(code.let(f"add i64 {first}, {place}"), sums)
            return sums

        def block(number: str, sums: list[str]) -> list[str]:
            return self.block(image, queries, places, number, sums)

        def widened(sums: list[str], parts: list[str]) -> list[str]:
            return [how.widen(code, a, b) for a, b in zip(sums, parts, strict=True)]

        sums = code.loop("0", str(rounds), one, [(kind, zero) for zero in zeros])
        rest = zeros if how.run else sums
        for number in range(rounds * together, self.blocks):
            rest = block(str(number), rest)
        return (
            widened(sums, rest) if how.run and rest is not zeros else rest if not how.run else sums
        )

    def block(
        self, image: str, queries: str, places: list[str], block: str, sums: list[str]
    ) -> list[str]:
        """Sums with one block of dimensions more: a line a query, a token each."""
        code, how = self.code, self.how
        factors = [self.factor(image, place, block) for place in places]
        found: list[str] = []
        for line in range(self.tile):
            start = code.at(queries, f"[{self.blocks} x {how.factors}]", str(line))
            query = code.load(start, how.factors, block, 64)
            for factor in factors:
                found.append(how.add(code, sums[len(found)], factor, query))
        return found

    def factor(self, image: str, token: str, block: str) -> str:
        """The factors of a block of a token."""
        if not self.factors:
            return self.read(image, token, block)
        start = self.code.at(self.factors, f"[{self.blocks} x {self.how.factors}]", token)
        return self.code.load(start, self.how.factors, block, 64)

    def scales(self, scales: str, first: str, many: int) -> str:
        """Scales of the group; where it isn't full its last token is repeated."""
        code = self.code
        start = code.at(scales, "float", first)
        if many == GROUP:
            return code.let(f"load <4 x float>, ptr {start}, align 4")
        vector = "poison"
        for place in range(GROUP):
            one = code.load(start, "float", str(min(place, many - 1)), 4)
            vector = code.let(f"insertelement <4 x float> {vector}, float {one}, i64 {place}")
        return vector

    def across(self, sums: list[str]) -> str:
        """Add up to four registers across their lanes: <4 x i32>, a token each."""
        code, lanes = self.code, self.how.lanes
        four = [sums[min(token, len(sums) - 1)] for token in range(GROUP)]
        while lanes > 8:
            lanes //= 2
            four = [_halves(code, "i32", "add", one, lanes) for one in four]
        pairs = [self.neighbours(four[0], four[1]), self.neighbours(four[2], four[3])]
        return _halves(code, "i32", "add", self.neighbours(*pairs), 4)

    def neighbours(self, first: str, second: str) -> str:
        """What x86's phaddd does."""
        code, kind = self.code, "<8 x i32>"
        parts = [
            code.let(f"shufflevector {kind} {first}, {kind} {second}, {places_of(places)}")
            for places in ([0, 2, 8, 10, 4, 6, 12, 14], [1, 3, 9, 11, 5, 7, 13, 15])
        ]
        return code.let(f"add {kind} {parts[0]}, {parts[1]}")

    def largest(self, four: str) -> str:
        """The largest of four."""
        values = [self.code.let(f"extractelement <4 x float> {four}, i64 {i}") for i in range(4)]
        return reduce(lambda a, b: greater(self.code, "float", a, b), values)


def greater(code: Assembly, kind: str, first: str, second: str) -> str:
    """The greater of two values, lane by lane."""
    truth = kind.replace("float", "i1")
    more = code.let(f"fcmp ogt {kind} {first}, {second}")
    return code.let(f"select {truth} {more}, {kind} {first}, {kind} {second}")


def places_of(places: Sequence[int]) -> str:
    """Places as a shuffle wants them."""
    return f"<{len(places)} x i32> <{', '.join(f'i32 {place}' for place in places)}>"


def following_one(code: Assembly, index: str) -> str:
    """The address of the next image; the last one's own."""
    after = code.let(f"add i64 {index}, 1")
    last = code.let("sub i64 %count, 1")
    after = code.let(f"call i64 @llvm.smin.i64(i64 {after}, i64 {last})")
    return code.load("%images", "ptr", after, 8)


def ask_for(code: Assembly, start: str, size: int) -> None:
    """Let memory bring some bytes, while something else is computed."""
    for line in range(0, size, LINE):
        place = code.at(start, "i8", str(line))
        code.do(f"call void @llvm.prefetch.p0(ptr {place}, i32 0, i32 3, i32 1)")


def _halves(code: Assembly, kind: str, operation: str, vector: str, half: int) -> str:
    """The lower half of a vector, and its upper one added to it."""
    whole = f"<{2 * half} x {kind}>"
    low, high = (
        code.let(f"shufflevector {whole} {vector}, {whole} poison, {places_of(places)}")
        for places in (range(half), range(half, 2 * half))
    )
    return code.let(f"{operation} <{half} x {kind}> {low}, {high}")


def exact_program(name: str, shape: Shape) -> str:
    """Write `exact`: for pair i, the score of the query vectors firsts[i] to lasts[i] on image i.

    Its arguments: the address of each pair's image, (T, D) f16; firsts and lasts (count,) i64;
    queries (., padded D) f32; out (count,) f32; a shared counter, the count and the step.
    """
    code = Assembly(
        name,
        [
            *("ptr noalias %images", "ptr noalias %firsts", "ptr noalias %lasts"),
            *("ptr noalias %queries", "ptr noalias %out"),
            *("ptr %counter", "i64 %count", "i64 %step"),
        ],
    )
    padded = -(-shape.width // BLOCK) * BLOCK
    spare = code.let(f"alloca <{BLOCK} x half>, align 16")

    def pair(index: str) -> None:
        image = code.load("%images", "ptr", index, 8)
        first, last = (code.load(name, "i64", index, 8) for name in ("%firsts", "%lasts"))
        following = following_one(code, index)

        def vector(number: str, total: list[str]) -> list[str]:
            query = code.at("%queries", f"[{padded} x float]", number)

            def token(place: str, best: list[str]) -> list[str]:
                start = code.at(image, f"[{shape.width} x half]", place)
                ahead = code.at(following, f"[{shape.width} x half]", place)
                ask_for(code, ahead, 2 * shape.width)
                dot = _dot(code, start, query, shape.width, spare)
                return [greater(code, "float", dot, best[0])]

            (best,) = code.loop("0", str(shape.tokens), token, [("float", LOWEST)])
            return [code.let(f"fadd float {total[0]}, {best}")]

        (total,) = code.loop(first, last, vector, [("float", "0.0")])
        many = code.let(f"sitofp i64 {code.let(f'sub i64 {last}, {first}')} to float")
        mean = code.let(f"fdiv float {total}, {many}")
        code.do(f"store float {mean}, ptr {code.at('%out', 'float', index)}, align 4")

    code.shares("%counter", "%count", "%step", pair)
    return code.finish()


def _dot(code: Assembly, token: str, query: str, width: int, spare: str) -> str:
    """Halves are added until one is left; what lies behind the width is zero and left out."""
    kind = f"<{BLOCK} x float>"

    def product(block: int) -> str:
        place, many = code.at(token, "half", str(block * BLOCK)), width - block * BLOCK
        if many < BLOCK:
            code.do(f"store <{BLOCK} x half> zeroinitializer, ptr {spare}")
            copy = f"ptr {spare}, ptr {place}, i64 {2 * many}, i1 false"
            code.do(f"call void @llvm.memcpy.p0.p0.i64({copy})")
            place = spare
        half = code.let(f"load <{BLOCK} x half>, ptr {place}, align 2")
        wide = code.let(f"fpext <{BLOCK} x half> {half} to {kind}")
        start = code.at(query, "float", str(block * BLOCK))
        other = code.let(f"load {kind}, ptr {start}, align 4")
        return code.let(f"fmul {kind} {wide}, {other}")

    def tree(block: int, apart: int, full: int) -> str:
        """Sum of the blocks at every `apart` from `block`: those of the first half come first."""
        if apart == full:
            return product(block)
        first = tree(block, 2 * apart, full)
        if block + apart >= -(-width // BLOCK):
            return first
        return code.let(f"fadd {kind} {first}, {tree(block + apart, 2 * apart, full)}")

    full = max(1, (1 << (width - 1).bit_length()) // BLOCK)
    total = tree(0, 1, full)
    for half in (4, 2):
        total = _halves(code, "float", "fadd", total, half)
    low, high = (code.let(f"extractelement <2 x float> {total}, i64 {i}") for i in (0, 1))
    return code.let(f"fadd float {low}, {high}")

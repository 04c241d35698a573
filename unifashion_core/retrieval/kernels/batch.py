"""The scan of a batch as LLVM assembly: a lane of a register is a token of the image.

An image is turned once so that four neighbouring dimensions of many tokens lie together; then the
sums of a query need no adding across lanes, which costs a row-wise scan more than its products.
"""

from __future__ import annotations

from ..machine.assembly import Assembly
from ..machine.instructions import Instructions
from .programs import LINE, SCAN_ARGUMENTS, Shape, ask_for, following_one, greater, places_of

ASKED_IN = 8  # tiles over which the bytes of the next image are asked for
UNROLL = 2  # dimensions, by fours, of a round


def batch_program(name: str, shape: Shape, how: Instructions, tile: int) -> str:
    """Write `scan` of `programs.scan_program` with the same arguments.

    Args:
        name: Of the function.
        shape: Of an image; half a register of tokens or more, else lanes go to waste.
        how: The CPU's instructions, for products of bytes.
        tile: Query vectors that are worked on together: a power of two, not above the lanes.
    """
    return _Batch(Assembly(name, SCAN_ARGUMENTS), shape, how, tile).write()


class _Batch:
    def __init__(self, code: Assembly, shape: Shape, how: Instructions, tile: int) -> None:
        self.code, self.shape, self.how, self.tile = code, shape, how, tile
        self.blocks = -(-shape.width // how.step)
        self.groups = -(-shape.tokens // how.lanes)
        self.together = min(how.groups, self.groups)
        self.kind, self.real = f"<{how.lanes} x i32>", f"<{how.lanes} x float>"
        self.spare = code.let(f"alloca <{how.step} x i8>, align 64")
        many = self.groups * self.blocks * how.lanes
        self.turned = code.let(f"alloca {self.kind}, i64 {many}, align 64")
        self.scales = code.let(f"alloca float, i64 {self.groups * how.lanes}, align 64")

    @property
    def steps(self) -> int:
        """Dimensions of a token, by fours."""
        return self.blocks * self.how.lanes

    def write(self) -> str:
        self.code.shares("%counter", "%count", "%step", self.image)
        return self.code.finish()

    def image(self, index: str) -> None:
        code = self.code
        image, scales = (code.load(name, "ptr", index, 8) for name in ("%images", "%scales"))
        for place in range(self.groups * self.how.lanes):  # the last token fills the lanes up
            one = code.load(scales, "float", str(min(place, self.shape.tokens - 1)), 4)
            code.do(f"store float {one}, ptr {code.at(self.scales, 'float', str(place))}, align 4")
        code.loop("0", str(self.groups), lambda group, _: self.turn(image, group))

        following = following_one(code, index)
        size = self.shape.tokens * self.shape.width
        share = -(-size // ASKED_IN // LINE) * LINE

        def tile(number: str, _: list[str]) -> list[str]:
            # Of the next image's bytes a share a tile; past its end lies the last share again.
            start = code.let(f"mul i64 {number}, {share}")
            start = code.let(f"call i64 @llvm.smin.i64(i64 {start}, i64 {max(0, size - share)})")
            ask_for(code, code.at(following, "i8", start), share)
            best = self.best(number)
            for place in range(self.tile):
                value = code.let(f"extractelement <{self.tile} x float> {best}, i64 {place}")
                vector = code.let(f"add i64 {code.let(f'mul i64 {number}, {self.tile}')}, {place}")
                line = code.at("%out", "float", code.let(f"mul i64 {vector}, %stride"))
                code.do(f"store float {value}, ptr {code.at(line, 'float', index)}")
            return []

        code.loop("0", "%tiles", tile)

    # ---- turning an image

    def turn(self, image: str, group: str) -> list[str]:
        code, lanes = self.code, self.how.lanes
        first = code.let(f"mul i64 {group}, {lanes}")
        rows: list[str] = []
        for place in range(lanes):
            token = code.let(f"add i64 {first}, {place}")
            last = self.shape.tokens - 1
            token = code.let(f"call i64 @llvm.smin.i64(i64 {token}, i64 {last})")
            rows.append(code.at(image, f"[{self.shape.width} x i8]", token))

        def block(number: str, _: list[str]) -> list[str]:
            self.turn_block(rows, group, number, whole=True)
            return []

        whole = self.shape.width // self.how.step
        code.loop("0", str(whole), block)
        if whole < self.blocks:
            self.turn_block(rows, group, str(whole), whole=False)
        return []

    def turn_block(self, rows: list[str], group: str, block: str, *, whole: bool) -> None:
        code, how = self.code, self.how
        values: list[str] = []
        for row in rows:
            place = code.at(row, f"<{how.step} x i8>", block)
            if not whole:  # never past the end of a token
                many = self.shape.width % how.step
                code.do(f"store <{how.step} x i8> zeroinitializer, ptr {self.spare}")
                copy = f"ptr {self.spare}, ptr {place}, i64 {many}, i1 false"
                code.do(f"call void @llvm.memcpy.p0.p0.i64({copy})")
                place = self.spare
            values.append(how.read(code, place))
        apart = how.lanes // 2
        while apart:  # swap ever smaller quarters, until rows are columns
            for first in (n for n in range(how.lanes) if not n & apart):
                pair = values[first], values[first + apart]
                values[first], values[first + apart] = (
                    self.pick(*pair, [self.swapped(n, apart, upper) for n in range(how.lanes)])
                    for upper in (False, True)
                )
            apart //= 2
        start = code.let(f"mul i64 {group}, {self.steps}")
        start = code.let(f"add i64 {start}, {code.let(f'mul i64 {block}, {how.lanes}')}")
        place = code.at(self.turned, self.kind, start)
        for number, value in enumerate(values):
            code.do(f"store {self.kind} {value}, ptr {code.at(place, self.kind, str(number))}")

    def swapped(self, lane: int, apart: int, upper: bool) -> int:
        """Where a lane comes from: two rows exchange what lies off the diagonal."""
        from_second = bool(lane & apart)
        column = (lane | apart) if upper else (lane & ~apart)
        return column + self.how.lanes * from_second

    def pick(self, first: str, second: str, places: list[int]) -> str:
        pair = f"{self.kind} {first}, {self.kind} {second}"
        return self.code.let(f"shufflevector {pair}, {places_of(places)}")

    # ---- sums and the best of them

    def best(self, tile: str) -> str:
        """The best token for each query vector of a tile, <tile x float>."""
        code = self.code
        size = self.tile * self.steps
        queries = code.at("%queries", f"[{size} x i32]", tile)
        offsets = code.at("%offsets", f"[{self.tile} x i32]", tile)
        lowest = ", ".join(["float 0xFFF0000000000000"] * self.how.lanes)
        start = [(self.real, f"<{lowest}>")] * self.tile

        def groups(number: str, best: list[str], many: int) -> list[str]:
            first = code.let(f"mul i64 {number}, {self.together}")
            names = [code.let(f"add i64 {first}, {place}") for place in range(many)]
            return self.better(queries, offsets, names, best)

        whole, rest = divmod(self.groups, self.together)
        best = code.loop(
            "0", str(whole), lambda number, found: groups(number, found, self.together), start
        )
        if rest:
            best = groups(str(whole), best, rest)
        return self.largest(best)

    def better(self, queries: str, offsets: str, groups: list[str], best: list[str]) -> list[str]:
        """The best so far and the tokens of some groups more."""
        code = self.code
        rows = [
            code.at(self.turned, self.kind, code.let(f"mul i64 {group}, {self.steps}"))
            for group in groups
        ]
        begin = [self.everywhere(code.load(offsets, "i32", str(q), 4)) for q in range(self.tile)]
        sums = self.sums(queries, rows, [one for one in begin for _ in groups])
        found: list[str] = []
        for query, value in enumerate(best):
            for place, group in enumerate(groups):
                whole = sums[query * len(groups) + place]
                score = code.let(f"sitofp {self.kind} {whole} to {self.real}")
                scale = code.load(self.scales, self.real, group, 4)
                score = code.let(f"fmul {self.real} {score}, {scale}")
                value = greater(code, self.real, score, value)
            found.append(value)
        return found

    def sums(self, queries: str, rows: list[str], begin: list[str]) -> list[str]:
        """Sums over all dimensions: a query each, and in it a group each."""
        code, how = self.code, self.how
        together = how.run or UNROLL

        def one(number: str, sums: list[str]) -> list[str]:
            first = code.let(f"mul i64 {number}, {together}")
            parts = ["zeroinitializer"] * len(sums) if how.run else sums
            for place in range(together):
                parts = self.step(queries, rows, code.let(f"add i64 {first}, {place}"), parts)
            if not how.run:
                return parts
            return [how.widen(code, a, b) for a, b in zip(sums, parts, strict=True)]

        carried = [(self.kind, value) for value in begin]
        return code.loop("0", str(self.steps // together), one, carried)

    def step(self, queries: str, rows: list[str], place: str, sums: list[str]) -> list[str]:
        code = self.code
        tokens = [code.load(row, self.kind, place, 4 * self.how.lanes) for row in rows]
        found: list[str] = []
        for query in range(self.tile):
            line = code.at(queries, "i32", str(query * self.steps))
            value = self.everywhere(code.load(line, "i32", place, 4))
            for token in tokens:
                found.append(self.how.add(code, sums[len(found)], token, value))
        return found

    def everywhere(self, value: str) -> str:
        one = self.code.let(f"insertelement {self.kind} poison, i32 {value}, i64 0")
        same = f"<{self.how.lanes} x i32> zeroinitializer"
        return self.code.let(f"shufflevector {self.kind} {one}, {self.kind} poison, {same}")

    def largest(self, values: list[str]) -> str:
        """The greatest lane of each register, side by side."""
        lanes, parts = self.how.lanes, 1
        while len(values) > 1:
            half = lanes // (2 * parts)
            places = [p * 2 * half + n for p in range(parts) for n in range(half)]
            places += [lanes + place for place in places]
            pairs = zip(values[::2], values[1::2], strict=True)
            values = [self.greater_of(a, b, lanes, places, half) for a, b in pairs]
            parts *= 2
        (value,) = values
        while lanes > parts:
            half = lanes // (2 * parts)
            places = [p * 2 * half + n for p in range(parts) for n in range(half)]
            value = self.greater_of(value, value, lanes, places, half)
            lanes //= 2
        return value

    def greater_of(self, first: str, second: str, lanes: int, places: list[int], half: int) -> str:
        code, kind = self.code, f"<{lanes} x float>"
        low, high = (
            code.let(
                f"shufflevector {kind} {first}, {kind} {second}, "
                f"{places_of([place + more for place in places])}"
            )
            for more in (0, half)
        )
        return greater(code, f"<{len(places)} x float>", low, high)

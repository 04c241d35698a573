"""Scans in two passes as LLVM assembly: first the upper four bits of each value of an eight-bit
copy, then all eight of the tokens that are left.

A value of a copy is t8 = 16 n - 120.5 + r with n in 0..15 and |r| <= 7.5, so a token's score is
scale * (16 <n, q8> - 120.5 sum(q8)), off by at most |q| times the length of scale * r. Two values
share a byte: those of the first half of a run of 128 are the lower four bits, those of the second
half the upper ones, so that a register of bytes becomes two of factors by a mask and a shift.

A record is what the first scan reads of an image, in one piece: its coarse copy, (T, D / 2) u8, its
scales and its errors, (T,) f32 each. Apart, each would be a stream of its own from memory.
"""

from __future__ import annotations

from dataclasses import replace

from ..machine.assembly import Assembly
from ..machine.instructions import Instructions
from .programs import GROUP, LOWEST, ScanProgram, Shape, ask_for, following_one, greater

RUN = 128  # values that share 64 bytes
HALF_RUN = RUN // 2
STEPS, MIDDLE = 32, 241  # twice 16 and 120.5: whole numbers

COARSE_ARGUMENTS = [
    *("ptr noalias %images", "ptr noalias %queries", "ptr noalias %numbers"),
    *("ptr noalias %uppers", "ptr noalias %best"),
    *("ptr %counter", "i64 %count", "i64 %step"),
]
SECOND_DECLARED = "declare i64 @llvm.ctpop.i64(i64)\ndeclare i64 @llvm.cttz.i64(i64, i1)"
HALVE_DECLARED = f"declare i32 @llvm.vector.reduce.add.v{HALF_RUN}i32(<{HALF_RUN} x i32>)"


def takes(shape: Shape) -> bool:
    """Whether images of a shape have coarse copies."""
    return shape.width % RUN == 0


def copy_bytes(shape: Shape) -> int:
    """Bytes of an image's coarse copy."""
    return shape.tokens * shape.width // 2


def record_bytes(shape: Shape) -> int:
    """Bytes of an image's record."""
    return copy_bytes(shape) + 2 * shape.tokens * 4


def parts_of_record(code: Assembly, shape: Shape, record: str) -> tuple[str, str]:
    """Addresses of the scales and errors in a record."""
    scales = code.at(record, "i8", str(copy_bytes(shape)))
    return scales, code.at(scales, "float", str(shape.tokens))


def stride_of(shape: Shape) -> int:
    """Upper bounds of an image: its tokens' and, up to a multiple of a group, minus infinity."""
    return -(-shape.tokens // GROUP) * GROUP


def coarse_program(name: str, shape: Shape, how: Instructions) -> str:
    """Write `coarse`: for each image, upper bounds of its tokens' scores, and their largest.

    Its arguments: addresses of each image's record; the query (D,) s8; four numbers: what a whole
    number times a scale is multiplied by, the slope and base of the margin, f32, and the offset of
    the sums, i32; uppers (images, stride) f32; best (images,) f32; a shared counter, the count, the
    step.

    Args:
        name: Of the function.
        shape: Of an image.
        how: The CPU's instructions for products of bytes.
    """
    how = replace(how, run=RUN // how.step) if how.run else how
    return _Coarse(Assembly(name, COARSE_ARGUMENTS), shape, how, 1).write()


class _Fours(ScanProgram):
    def four(self, kind: str, value: str) -> str:
        if not value.startswith("%"):
            return f"<{', '.join([f'{kind} {value}'] * GROUP)}>"
        one = self.code.let(f"insertelement <4 x {kind}> poison, {kind} {value}, i64 0")
        same = "<4 x i32> zeroinitializer"
        return self.code.let(f"shufflevector <4 x {kind}> {one}, <4 x {kind}> poison, {same}")


class _Coarse(_Fours):
    def image(self, index: str) -> None:
        code = self.code
        image = code.load("%images", "ptr", index, 8)
        scales, errors = parts_of_record(code, self.shape, image)
        self.following = following_one(code, index)
        self.numbers = [code.load("%numbers", "float", str(place), 4) for place in range(3)]
        self.offset = code.load("%numbers", "i32", "3", 4)
        line = code.at("%uppers", f"[{stride_of(self.shape)} x float]", index)
        whole, rest = divmod(self.shape.tokens, GROUP)

        def group(number: str, best: list[str]) -> list[str]:
            first = code.let(f"mul i64 {number}, {GROUP}")
            upper = self.uppers(image, scales, errors, first, GROUP)
            code.do(f"store <4 x float> {upper}, ptr {code.at(line, 'float', first)}, align 4")
            return [greater(code, "<4 x float>", upper, best[0])]

        lowest = f"<{', '.join([f'float {LOWEST}'] * GROUP)}>"
        (best,) = code.loop("0", str(whole), group, [("<4 x float>", lowest)])
        if rest:
            first = str(whole * GROUP)
            upper = self.uppers(image, scales, errors, first, rest)
            for place in range(rest, GROUP):
                upper = code.let(f"insertelement <4 x float> {upper}, float {LOWEST}, i64 {place}")
            code.do(f"store <4 x float> {upper}, ptr {code.at(line, 'float', first)}, align 4")
            best = greater(code, "<4 x float>", upper, best)
        place = code.at("%best", "float", index)
        code.do(f"store float {self.largest(best)}, ptr {place}, align 4")

    def uppers(self, image: str, scales: str, errors: str, first: str, many: int) -> str:
        """Upper bounds of the scores of `many` tokens, <4 x float>."""
        code, size = self.code, self.shape.width // 2
        ahead = code.at(self.following, f"[{size} x i8]", first)
        ask_for(code, ahead, many * size)
        tokens = [
            code.at(image, f"[{size} x i8]", code.let(f"add i64 {first}, {place}"))
            for place in range(many)
        ]
        kind = f"<{self.how.lanes} x i32>"
        start = [(kind, "zeroinitializer")] * many
        runs = str(self.shape.width // RUN)
        sums = code.loop("0", runs, lambda run, found: self.run(tokens, run, found), start)
        whole = code.let(f"mul <4 x i32> {self.across(sums)}, {self.four('i32', str(STEPS))}")
        whole = code.let(f"add <4 x i32> {whole}, {self.four('i32', self.offset)}")
        score = code.let(f"sitofp <4 x i32> {whole} to <4 x float>")
        step, slope, base = (self.four("float", number) for number in self.numbers)
        scale = code.let(f"fmul <4 x float> {self.scales(scales, first, many)}, {step}")
        score = code.let(f"fmul <4 x float> {score}, {scale}")
        margin = code.let(f"fmul <4 x float> {self.scales(errors, first, many)}, {slope}")
        margin = code.let(f"fadd <4 x float> {margin}, {base}")
        return code.let(f"fadd <4 x float> {score}, {margin}")

    def run(self, tokens: list[str], run: str, sums: list[str]) -> list[str]:
        """Sums with the values of one run more."""
        code, how = self.code, self.how
        parts = HALF_RUN // how.step
        queries = code.at("%queries", f"[{RUN} x i8]", run)
        query = [code.load(queries, how.factors, str(n), how.step) for n in range(2 * parts)]
        found: list[str] = []
        for token, total in zip(tokens, sums, strict=True):
            start = code.at(token, f"[{HALF_RUN} x i8]", run)
            part = "zeroinitializer" if how.run else total
            for place in range(parts):
                both = code.load(start, how.factors, str(place))
                for upper in (False, True):
                    factor = self.half(both, upper)
                    part = how.add(code, part, factor, query[place + upper * parts])
            found.append(how.widen(code, total, part) if how.run else part)
        return found

    def half(self, both: str, upper: bool) -> str:
        code, kind = self.code, self.how.factors
        lanes = self.how.lanes
        if upper:
            shift = ", ".join(["i32 4"] * lanes)
            both = code.let(f"lshr {kind} {both}, <{shift}>")
        mask = ", ".join([f"i32 {0x0F0F0F0F}"] * lanes)
        return code.let(f"and {kind} {both}, <{mask}>")


LISTED = 2048  # tokens of images that are looked through together
AHEAD = 24
"""Listed tokens whose bytes memory is asked for before the first of them is read."""
SECOND_ARGUMENTS = [
    *("ptr noalias %images", "ptr noalias %scales", "ptr noalias %bounds"),
    *("ptr noalias %queries", "ptr noalias %offsets", "ptr noalias %numbers"),
    *("ptr noalias %uppers", "ptr noalias %best", "ptr noalias %out", "i64 %many"),
    *("ptr %counter", "i64 %count", "i64 %step"),
]


def images_together(shape: Shape) -> int:
    """Images whose tokens are listed together by `second`."""
    return max(1, LISTED // shape.tokens)


def second_program(name: str, shape: Shape, how: Instructions) -> str:
    """Write `second`: upper bounds of images by the eight-bit copies of the tokens that are left.

    Its arguments: addresses of each image's copy, (T, D) i8, and of its scales, (T,) f32; how far
    its copy may be off, (images,) f32; the query and its offset as in `scan`; four numbers: the
    floor, the query's scale, the slope and base of the margin, f32; uppers and best as `coarse`
    gives them; out (images,) f32, minus infinity where no token reaches the floor; the images; a
    shared counter, how many times `images_together` images there are, and the step.

    Args:
        name: Of the function.
        shape: Of an image.
        how: The CPU's instructions.
    """
    return _Second(Assembly(name, SECOND_ARGUMENTS), shape, how, 1).write()


class _Second(_Fours):
    def write(self) -> str:
        code = self.code
        names = ("floor", "scale", "slope", "base")
        self.number = {
            name: code.load("%numbers", "float", str(place), 4) for place, name in enumerate(names)
        }
        room = images_together(self.shape) * self.shape.tokens + 1
        self.tokens, self.owners, self.factors_of = (
            code.let(f"alloca {kind}, i64 {room}, align 64") for kind in ("ptr", "i64", "ptr")
        )
        code.shares("%counter", "%count", "%step", self.block_of_images)
        return code.finish()

    def block_of_images(self, index: str) -> None:
        code, together = self.code, images_together(self.shape)
        first = code.let(f"mul i64 {index}, {together}")
        last = code.let(f"add i64 {first}, {together}")
        last = code.let(f"call i64 @llvm.smin.i64(i64 {last}, i64 %many)")
        (listed,) = code.loop(first, last, self.list_image, [("i64", "0")])

        last = code.let(f"sub i64 {listed}, 1")

        def ask(place: str, _: list[str]) -> list[str]:
            place = code.let(f"call i64 @llvm.smin.i64(i64 {place}, i64 {last})")
            ask_for(code, code.load(self.tokens, "ptr", place, 8), self.shape.width)
            ask_for(code, code.load(self.factors_of, "ptr", place, 8), 4)
            return []

        def ask_and_read(place: str, _: list[str]) -> list[str]:
            ask(code.let(f"add i64 {place}, {AHEAD}"), [])
            return self.read_token(place)

        code.loop("0", code.let(f"call i64 @llvm.smin.i64(i64 {listed}, i64 {AHEAD})"), ask)
        code.loop("0", listed, ask_and_read)

    def list_image(self, image: str, listed: list[str]) -> list[str]:
        """List the tokens that reach the floor."""
        code, floor = self.code, self.number["floor"]
        code.do(f"store float {LOWEST}, ptr {code.at('%out', 'float', image)}, align 4")
        best = code.load("%best", "float", image, 4)
        some = code.let(f"fcmp oge float {best}, {floor}")
        groups = code.let(f"select i1 {some}, i64 {stride_of(self.shape) // GROUP}, i64 0")
        copy, scales = (code.load(name, "ptr", image, 8) for name in ("%images", "%scales"))
        line = code.at("%uppers", f"[{stride_of(self.shape)} x float]", image)

        def group(number: str, count: list[str]) -> list[str]:
            four = code.load(line, "<4 x float>", number, 4)
            reach = code.let(f"fcmp oge <4 x float> {four}, {self.four('float', floor)}")
            bits = code.let(f"bitcast <4 x i1> {reach} to i4")
            bits = code.let(f"zext i4 {bits} to i64")
            many = code.let(f"call i64 @llvm.ctpop.i64(i64 {bits})")
            first = code.let(f"mul i64 {number}, {GROUP}")

            def token(_: str, found: list[str]) -> list[str]:
                count, left = found
                lowest = code.let(f"call i64 @llvm.cttz.i64(i64 {left}, i1 false)")
                place = code.let(f"add i64 {first}, {lowest}")
                start = code.at(copy, f"[{self.shape.width} x i8]", place)
                scale = code.at(scales, "float", place)
                code.do(f"store ptr {start}, ptr {code.at(self.tokens, 'ptr', count)}, align 8")
                code.do(f"store i64 {image}, ptr {code.at(self.owners, 'i64', count)}, align 8")
                code.do(f"store ptr {scale}, ptr {code.at(self.factors_of, 'ptr', count)}, align 8")
                fewer = code.let(f"and i64 {left}, {code.let(f'sub i64 {left}, 1')}")
                return [code.let(f"add i64 {count}, 1"), fewer]

            found = code.loop("0", many, token, [("i64", count[0]), ("i64", bits)])
            return [found[0]]

        return code.loop("0", groups, group, [("i64", listed[0])])

    def read_token(self, place: str) -> list[str]:
        code, number = self.code, self.number
        token = code.load(self.tokens, "ptr", place, 8)
        whole = self.across(self.sums(token, "%queries", ["0"]))
        one = code.let(f"extractelement <4 x i32> {whole}, i64 0")
        one = code.let(f"add i32 {one}, {code.load('%offsets', 'i32', '0', 4)}")
        score = code.let(f"sitofp i32 {one} to float")
        scale = code.load(code.load(self.factors_of, "ptr", place, 8), "float", "0", 4)
        score = code.let(f"fmul float {score}, {scale}")
        score = code.let(f"fmul float {score}, {number['scale']}")
        owner = code.load(self.owners, "i64", place, 8)
        margin = code.let(
            f"fmul float {code.load('%bounds', 'float', owner, 4)}, {number['slope']}"
        )
        margin = code.let(f"fadd float {margin}, {number['base']}")
        upper = code.let(f"fadd float {score}, {margin}")
        there = code.at("%out", "float", owner)
        before = code.let(f"load float, ptr {there}, align 4")
        code.do(f"store float {greater(code, 'float', upper, before)}, ptr {there}, align 4")
        return []


def halve_program(name: str, width: int) -> str:
    """Write `halve`: the coarse copies of tokens.

    Its arguments: tokens (N, D) s8; for their coarse copies, (N, D / 2) u8; for the squared length
    of 2 r of each, (N,) i32; the count.
    """
    code = Assembly(
        name,
        ["ptr noalias %tokens", "ptr noalias %coarse", "ptr noalias %squares", "i64 %count"],
    )
    small, wide = f"<{HALF_RUN} x i8>", f"<{HALF_RUN} x i32>"

    def every(kind: str, value: int) -> str:
        return f"<{', '.join([f'{kind} {value}'] * HALF_RUN)}>"

    def token(index: str, _: list[str]) -> list[str]:
        start = code.at("%tokens", f"[{width} x i8]", index)
        end = code.at("%coarse", f"[{width // 2} x i8]", index)

        def run(number: str, found: list[str]) -> list[str]:
            place = code.at(start, f"[{RUN} x i8]", number)
            (total,) = found
            values: list[str] = []
            for half in ("0", "1"):
                value = code.load(place, small, half)
                value = code.let(f"xor {small} {value}, {every('i8', -128)}")
                values.append(value)
                rest = code.let(f"and {small} {value}, {every('i8', 15)}")
                rest = code.let(f"zext {small} {rest} to {wide}")
                rest = code.let(f"shl {wide} {rest}, {every('i32', 1)}")
                rest = code.let(f"sub {wide} {rest}, {every('i32', 15)}")
                square = code.let(f"mul {wide} {rest}, {rest}")
                total = code.let(f"add {wide} {total}, {square}")
            low = code.let(f"lshr {small} {values[0]}, {every('i8', 4)}")
            high = code.let(f"and {small} {values[1]}, {every('i8', -16)}")
            both = code.let(f"or {small} {low}, {high}")
            code.do(f"store {small} {both}, ptr {code.at(end, small, number)}, align 1")
            return [total]

        (total,) = code.loop("0", str(width // RUN), run, [(wide, "zeroinitializer")])
        one = code.let(f"call i32 @llvm.vector.reduce.add.v{HALF_RUN}i32({wide} {total})")
        code.do(f"store i32 {one}, ptr {code.at('%squares', 'i32', index)}, align 4")
        return []

    code.loop("0", "%count", token)
    return code.finish()

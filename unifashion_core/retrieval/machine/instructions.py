"""Which instructions a CPU has for products of small integers, and how they are written."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from .assembly import Assembly


@dataclass(frozen=True)
class Instructions:
    """How a CPU multiplies small integers and adds the products.

    Attributes:
        name: The kernel's name in results.
        needs: LLVM's names of the features; any one group of them will do.
        lanes: Sums of 32 bits in a register.
        depth: Products that one instruction adds to a sum: 2 of 16 bits, or 4 of 8 bits.
        tile: Query vectors of a batch that share the tokens' factors.
        turned: Likewise where an image is turned, so that lanes are tokens (kernels/batch.py).
        groups: Registers of tokens that are worked on together there.
        run: Instructions whose sums fit 16 bits, where they are added up so; 0 for sums of 32 bits.
        batch: What a batch is better scanned with.
        emulated: Whether the instruction is written out in plain operations; for tests.
    """

    name: str
    needs: tuple[tuple[str, ...], ...]
    lanes: int
    depth: int
    tile: int
    turned: int = 1
    groups: int = 1
    run: int = 0
    batch: Instructions | None = None
    emulated: bool = False

    @property
    def step(self) -> int:
        """Dimensions that one instruction covers."""
        return self.lanes * self.depth

    @property
    def is_wide(self) -> bool:
        """Whether factors have 16 bits; else tokens are given as t + 128, queries as 8 bits."""
        return self.depth == 2

    @property
    def factors(self) -> str:
        """Type of a register of factors."""
        return f"<{self.step} x i16>" if self.is_wide else f"<{self.lanes} x i32>"

    @property
    def part(self) -> str:
        """Type of a register of sums, before `widen`."""
        return f"<{2 * self.lanes} x i16>" if self.run else f"<{self.lanes} x i32>"

    @property
    def declaration(self) -> str:
        """Of the instructions."""
        whole, half = f"<{self.lanes} x i32>", f"<{2 * self.lanes} x i16>"
        if self.emulated:
            return ""
        if self.is_wide:
            return f"declare {whole} {_MADD}({half}, {half})"
        if self.run:
            narrow = f"<{self.step} x i8>"
            return (
                f"declare {half} {_MADD_BYTES}({narrow}, {narrow})\n"
                f"declare {whole} {_MADD}({half}, {half})"
            )
        return f"declare {whole} {self._vnni}({whole}, {whole}, {whole})"

    @property
    def _vnni(self) -> str:
        return f"@llvm.x86.avx512.vpdpbusd.{self.lanes * 32}"

    def available(self, features: Mapping[str, bool]) -> bool:
        """Whether a CPU with these features has it."""
        return any(all(features.get(name, False) for name in group) for group in self.needs)

    def read(self, code: Assembly, place: str) -> str:
        """Load stored bytes as factors."""
        if self.is_wide:
            values = code.let(f"load <{self.step} x i8>, ptr {place}, align 1")
            return code.let(f"sext <{self.step} x i8> {values} to {self.factors}")
        values = code.let(f"load {self.factors}, ptr {place}, align 1")
        flips = ", ".join([f"i32 {0x80808080 - (1 << 32)}"] * self.lanes)
        return code.let(f"xor {self.factors} {values}, <{flips}>")

    def add(self, code: Assembly, sums: str, token: str, query: str) -> str:
        """Add the products of two registers of factors to a register of `part` sums."""
        kind = f"<{self.lanes} x i32>"
        if self.emulated:
            products = self._products(code, token, query)
        elif self.run:
            narrow = f"<{self.step} x i8>"
            both = [code.let(f"bitcast {kind} {one} to {narrow}") for one in (token, query)]
            arguments = ", ".join(f"{narrow} {one}" for one in both)
            products = code.let(f"call {self.part} {_MADD_BYTES}({arguments})")
        elif self.is_wide:
            arguments = f"{self.factors} {token}, {self.factors} {query}"
            products = code.let(f"call {kind} {_MADD}({arguments})")
        else:
            arguments = f"{kind} {sums}, {kind} {token}, {kind} {query}"
            return code.let(f"call {kind} {self._vnni}({arguments})")
        return code.let(f"add {self.part} {sums}, {products}")

    def widen(self, code: Assembly, sums: str, part: str) -> str:
        """Add a run's sums of 16 bits to a register of sums of 32 bits."""
        kind, ones = f"<{self.lanes} x i32>", ", ".join(["i16 1"] * (2 * self.lanes))
        wide = code.let(f"call {kind} {_MADD}({self.part} {part}, {self.part} <{ones}>)")
        return code.let(f"add {kind} {sums}, {wide}")

    def _products(self, code: Assembly, token: str, query: str) -> str:
        """The instruction in plain operations: products of neighbours, added in each lane."""
        bits = 32 // self.depth
        narrow, wide = f"<{self.step} x i{bits}>", f"<{self.step} x i32>"
        factors: list[str] = []
        for value, extend in ((token, "sext" if self.is_wide else "zext"), (query, "sext")):
            if not self.is_wide:
                value = code.let(f"bitcast {self.factors} {value} to {narrow}")
            factors.append(code.let(f"{extend} {narrow} {value} to {wide}"))
        products = code.let(f"mul {wide} {factors[0]}, {factors[1]}")
        total = "zeroinitializer"
        for place in range(self.depth):
            every = ", ".join(f"i32 {lane * self.depth + place}" for lane in range(self.lanes))
            mask = f"<{self.lanes} x i32> <{every}>"
            one = code.let(f"shufflevector {wide} {products}, {wide} poison, {mask}")
            total = code.let(f"add <{self.lanes} x i32> {total}, {one}")
        return total


_MADD = "@llvm.x86.avx2.pmadd.wd"
_MADD_BYTES = "@llvm.x86.avx2.pmadd.ub.sw"
_VNNI512 = (("avx512vnni", "avx512f", "avx512bw", "f16c"),)
_VNNI256 = (("avxvnni", "f16c"), ("avx512vnni", "avx512vl", "f16c"))
_AVX2 = (("avx2", "f16c"),)
_AVX2_BATCH = Instructions("avx2", _AVX2, 8, 4, 2, turned=4, run=4)

X86: tuple[Instructions, ...] = (
    Instructions("vnni512", _VNNI512, 16, 4, 4, turned=8, groups=2),
    Instructions("vnni256", _VNNI256, 8, 4, 2, turned=4, groups=2),
    # The factors of 16 bits are exact enough for few candidates where memory is what limits; those
    # of 8 bits are faster where a batch computes more than it reads.
    Instructions("avx2", _AVX2, 8, 2, 2, batch=_AVX2_BATCH),
)
"""Fastest first."""

"""Compiling LLVM assembly, when it is first needed: some hundredths of a second for a program, so
nothing is kept on disk.

llvmlite comes with numba (the extra `fast`). It aborts the process when an instruction is asked for
that the CPU lacks, hence the look at the CPU's features before anything is compiled.
"""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy.typing as npt

from ...deps import require
from ...errors import MissingPackageError
from .assembly import Assembly
from .instructions import X86, Instructions

PREAMBLE = """
declare i64 @llvm.smin.i64(i64, i64)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""


_LOG = logging.getLogger("unifashion.retrieval")
_MINIMUM = "0.45"  # with numba 0.62; before, a pointer told the type of what it points to


@lru_cache(maxsize=1)
def available_instructions() -> list[Instructions]:
    """What this CPU can run and llvmlite can write, fastest first; empty without llvmlite, or with
    one that is too old, which the log says."""
    if find_spec("llvmlite") is None:
        return []
    try:
        binding = require("llvmlite.binding", package="llvmlite", minimum=_MINIMUM)
    except MissingPackageError as e:
        _LOG.warning("search goes on with a slower scan: %s", e)
        return []
    features = binding.get_host_cpu_features()
    return [how for how in X86 if how.available(features)]


@dataclass(frozen=True)
class Program:
    """Machine code: a function of addresses and integers.

    Attributes:
        function: It.
        from_memory: The address of a function that is given the address of the arguments, eight
            bytes each: what a team of threads calls.
        engine: What the code lives as long as.
    """

    function: Any
    from_memory: int
    engine: Any

    def __call__(self, *arguments: int) -> None:
        """Run it; ctypes lets go of Python's lock meanwhile."""
        self.function(*arguments)


@lru_cache(maxsize=64)
def compiled(text: str, declaration: str = "") -> Program:
    """Compile a function of addresses and integers.

    Args:
        text: Of one function named `program`, by `Assembly`; no instruction that the CPU lacks.
        declaration: Of intrinsics that it calls beside those of `PREAMBLE`.
    """
    binding = require("llvmlite.binding")
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    kinds = [part.split()[0] for part in text.split("(", 1)[1].split(")", 1)[0].split(",")]
    module = binding.parse_assembly("\n".join([PREAMBLE, declaration, text, _from_memory(kinds)]))
    module.verify()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
    )
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * len(kinds))
    function = kind(engine.get_function_address("program"))
    return Program(function, engine.get_function_address("from_memory"), engine)


def _from_memory(kinds: list[str]) -> str:
    """A function that calls `program` with the arguments that lie at an address."""
    code = Assembly("from_memory", ["ptr %arguments"])
    values = [code.load("%arguments", kind, str(place), 8) for place, kind in enumerate(kinds)]
    given = ", ".join(f"{kind} {value}" for kind, value in zip(kinds, values, strict=True))
    code.do(f"call void @program({given})")
    return code.finish()


def address(values: npt.NDArray[Any]) -> int:
    """The address of an array that the machine code reads or writes as one piece."""
    if not values.flags.c_contiguous:
        raise ValueError("an array for machine code has to lie in one piece")
    return values.ctypes.data

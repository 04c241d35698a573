"""Compiling LLVM assembly, when it is first needed: some hundredths of a second for a program, so
nothing is kept on disk.

llvmlite comes with numba (the extra `fast`). It aborts the process when an instruction is asked for
that the CPU lacks, hence the look at the CPU's features before anything is compiled.
"""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from functools import lru_cache
from importlib.util import find_spec
from typing import Any

import numpy.typing as npt

from ...deps import require
from .instructions import X86, Instructions

PREAMBLE = """
declare i64 @llvm.smin.i64(i64, i64)
declare void @llvm.prefetch.p0(ptr, i32, i32, i32)
declare void @llvm.memcpy.p0.p0.i64(ptr, ptr, i64, i1)
"""


def available_instructions() -> list[Instructions]:
    """What this CPU can run and llvmlite can write, fastest first; empty without llvmlite."""
    if find_spec("llvmlite") is None:
        return []
    features = require("llvmlite.binding").get_host_cpu_features()
    return [how for how in X86 if how.available(features)]


@lru_cache(maxsize=64)
def compiled(text: str, declaration: str = "") -> Callable[..., None]:
    """A function of addresses and integers.

    Args:
        text: Of one function named `program`, by `Assembly`; no instruction that the CPU lacks.
        declaration: Of intrinsics that it calls beside those of `PREAMBLE`.
    """
    binding = require("llvmlite.binding")
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    module = binding.parse_assembly("\n".join([PREAMBLE, declaration, text]))
    module.verify()
    machine = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(),
        features=binding.get_host_cpu_features().flatten(),
        opt=3,
    )
    engine = binding.create_mcjit_compiler(module, machine)
    engine.finalize_object()
    arguments = text.split("(", 1)[1].split(")", 1)[0].count(",") + 1
    kind = ctypes.CFUNCTYPE(None, *[ctypes.c_int64] * arguments)
    function = kind(engine.get_function_address("program"))
    function.engine = engine  # type: ignore[attr-defined] # the code lives as long as its engine
    return function


def address(values: npt.NDArray[Any]) -> int:
    """The address of an array that the machine code reads or writes as one piece."""
    if not values.flags.c_contiguous:
        raise ValueError("an array for machine code has to lie in one piece")
    return values.ctypes.data

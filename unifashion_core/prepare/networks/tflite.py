"""Read the convolutions of a .tflite file, in the order in which they run. Not a TFLite runtime:
it is there to make the pocket's weights once.

Source: tensorflow/lite/schema/schema.fbs (Apache-2.0) for the slots of the tables below.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...errors import CheckpointError

_CONV, _DEPTHWISE, _DEQUANTIZE, _DENSIFY, _CUSTOM = 3, 4, 6, 124, 32
_FLOAT16, _FLOAT32 = 1, 0
_INDEX_TYPES = {1: "<i4", 2: "<u2", 3: "u1"}


@dataclass(frozen=True)
class Layer:
    """One convolution.

    Attributes:
        weight: In torch's order of axes, float32.
        bias: (C,), float32.
    """

    weight: Tensor
    bias: Tensor


def read_layers(path: Path) -> list[Layer]:
    """The convolutions of a file's graph, in the order in which they run.

    Raises:
        CheckpointError: If it is no such file, or its weights are in a form that is not read.
    """
    data = path.read_bytes()
    if data[4:8] != b"TFL3":
        raise CheckpointError(
            f"{path}: is not a TFLite file. Give a .tflite file, or MediaPipe's .data file of one."
        )
    try:
        return _Graph(data).layers()
    except (struct.error, IndexError, KeyError, ValueError) as e:
        raise CheckpointError(
            f"{path}: the file is damaged or of another form ({e}). Get it again from its package."
        ) from e


class _Table:
    """A table of a flatbuffer: fields by their slots."""

    def __init__(self, data: bytes, at: int) -> None:
        self.data, self.at = data, at
        self.slots = at - struct.unpack_from("<i", data, at)[0]

    def _field(self, slot: int) -> int:
        """Where a field lies; 0 if it is not there."""
        offset = 4 + 2 * slot
        if offset >= struct.unpack_from("<H", self.data, self.slots)[0]:
            return 0
        relative = struct.unpack_from("<H", self.data, self.slots + offset)[0]
        return self.at + relative if relative else 0

    def number(self, slot: int, form: str) -> int:
        at = self._field(slot)
        return struct.unpack_from(form, self.data, at)[0] if at else 0

    def table(self, slot: int) -> _Table | None:
        at = self._field(slot)
        return _Table(self.data, _follow(self.data, at)) if at else None

    def tables(self, slot: int) -> list[_Table]:
        start = _follow(self.data, self._field(slot))
        count = struct.unpack_from("<I", self.data, start)[0]
        return [_Table(self.data, _follow(self.data, start + 4 + 4 * i)) for i in range(count)]

    def array(self, slot: int, dtype: str) -> NDArray[np.generic]:
        at = self._field(slot)
        if not at:
            return np.zeros(0, dtype)
        start = _follow(self.data, at)
        count = struct.unpack_from("<I", self.data, start)[0]
        return np.frombuffer(self.data, dtype, count, start + 4)


def _follow(data: bytes, at: int) -> int:
    return at + struct.unpack_from("<I", data, at)[0]


class _Graph:
    def __init__(self, data: bytes) -> None:
        model = _Table(data, _follow(data, 0))
        graph = model.tables(2)[0]
        self.codes = [max(c.number(0, "<b"), c.number(3, "<i")) for c in model.tables(1)]
        self.buffers, self.tensors = model.tables(4), graph.tables(0)
        self.operators = graph.tables(3)
        self.made_by: dict[int, tuple[int, int]] = {}  # of a tensor: the code, its first input

    def layers(self) -> list[Layer]:
        found: list[Layer] = []
        for operator in self.operators:
            code = self.codes[operator.number(0, "<I")]
            inputs = [int(i) for i in operator.array(1, "<i4")]
            for output in operator.array(2, "<i4"):
                self.made_by[int(output)] = (code, inputs[0])
            if code in (_CONV, _DEPTHWISE, _CUSTOM):
                weight, bias = (self._constant(i) for i in inputs[1:3])
                # Depthwise (1, h, w, C) -> (C, 1, h, w); (O, h, w, I) -> (O, I, h, w), and the one
                # custom op, a transposed convolution, (O, h, w, I) -> (I, O, h, w).
                order = {_CONV: (0, 3, 1, 2), _DEPTHWISE: (3, 0, 1, 2), _CUSTOM: (3, 0, 1, 2)}
                found.append(Layer(weight.permute(order[code]).contiguous(), bias.clone()))
        return found

    def _constant(self, index: int) -> Tensor:
        code, source = self.made_by.get(index, (-1, index))
        if code in (_DEQUANTIZE, _DENSIFY):
            return self._constant(source)
        tensor = self.tensors[index]
        shape = tensor.array(0, "<i4").tolist()
        dtype = {_FLOAT16: "<f2", _FLOAT32: "<f4"}[tensor.number(1, "<b")]
        raw = np.frombuffer(self.buffers[tensor.number(2, "<I")].array(0, "u1").tobytes(), dtype)
        values = raw.astype(np.float32)
        sparsity = tensor.table(6)
        if sparsity is not None:
            values = _densify(values, sparsity, shape)
        return torch.from_numpy(values).reshape(shape)  # pyright: ignore[reportUnknownMemberType]


def _densify(
    values: NDArray[np.float32], sparsity: _Table, shape: list[int]
) -> NDArray[np.float32]:
    """Fill in the zeros of a tensor whose last axis alone is sparse (rows of a CSR matrix)."""
    axes = sparsity.tables(2)
    plain = sparsity.array(0, "<i4").tolist() == list(range(len(shape)))
    if not plain or [a.number(0, "<b") for a in axes] != [0] * (len(shape) - 1) + [1]:
        raise ValueError("a sparse weight of another layout than rows of the last axis")
    segments, indices = (
        _values(axes[-1].table(slot), axes[-1].number(slot - 1, "<B")) for slot in (3, 5)
    )
    dense = np.zeros((int(np.prod(shape[:-1])), shape[-1]), np.float32)
    rows = np.repeat(np.arange(len(dense)), np.diff(segments))
    dense[rows, indices] = values
    return dense


def _values(table: _Table | None, kind: int) -> NDArray[np.int64]:
    if table is None:
        raise ValueError("a sparse weight without its indices")
    return table.array(0, _INDEX_TYPES[kind]).astype(np.int64)

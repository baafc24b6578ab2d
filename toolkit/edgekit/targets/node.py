"""Operators and tensors as plain values, for targets and cost formulas.

They do not depend on a file format, so that rules can be read and tested separately.

They are never changed, but not frozen: a model may have hundreds of thousands of them, and creating
a frozen one takes six times as long.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.records import Array


@dataclass(slots=True, kw_only=True, eq=False)
class Tensor:
    """One tensor of a graph.

    Attributes:
        index: Position among the tensors of its graph.
        name: Its name.
        shape: Dimensions.
        dtype: Name of the type in the schema, in lower case: float32, int8, int4, string.
        quantized: Whether it has scales.
        dynamic: Whether a dimension is known only at run time.
        free_batch: Whether the first dimension is, and no other.
        variable: Whether it keeps its value from one inference to the next.
        data: Bytes `[n]` (uint8) if the values are stored in the file, else None.
        scales: Scales `[1]` or `[channels]`, None where there are none.
    """

    index: int
    name: str
    shape: tuple[int, ...]
    dtype: str
    quantized: bool = False
    dynamic: bool = False
    free_batch: bool = False
    variable: bool = False
    data: Array | None = None
    scales: Array | None = None

    @property
    def constant(self) -> bool:
        """Whether the values are stored in the file."""
        return self.data is not None

    @property
    def elements(self) -> int:
        """Return the number of values."""
        return math.prod(self.shape)

    def integers(self) -> tuple[int, ...] | None:
        """Return the values of an int32 or int64 constant (axes, paddings, strides), else None."""
        if self.data is None or self.dtype not in {"int32", "int64"}:
            return None
        if len(self.data) != self.elements * np.dtype(self.dtype).itemsize:
            return None
        return tuple(np.asarray(self.data).view(self.dtype).tolist())


@dataclass(slots=True, kw_only=True, eq=False)
class Node:
    """One operator of a graph.

    Attributes:
        index: Position in execution order, counted through all graphs of the file.
        name: Operator name in the schema, or the custom operator's own.
        graph: Index of its graph in the file; 0 is the main graph.
        inputs: In the schema's order; None where an optional input is missing.
        outputs: Likewise.
        options: The operator's options, an object with the schema's field names, or None.
    """

    index: int
    name: str
    graph: int = 0
    inputs: tuple[Tensor | None, ...] = ()
    outputs: tuple[Tensor, ...] = ()
    options: Any = None

    def input(self, position: int) -> Tensor | None:
        """Return the input at `position`, or None if absent."""
        return self.inputs[position] if position < len(self.inputs) else None

    def option(self, name: str, default: Any) -> Any:
        """Return an option by its name in the schema, or the default if it is not stored."""
        return getattr(self.options, name, default)

"""Describe the first difference between two models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from edgekit.tflite.graph import operator_name

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, TensorT


def first_difference(before: ModelT, after: ModelT) -> str:
    """Return the first difference: in operators, tensors, quantization or stored values."""
    for was, now in zip(before.subgraphs, after.subgraphs, strict=False):
        operators = [operator_name(before, op) for op in was.operators]
        others = [operator_name(after, op) for op in now.operators]
        if operators != others:
            return f"the operators differ ({len(operators)} before, {len(others)} after)"
        if len(was.tensors) != len(now.tensors):
            return f"{len(was.tensors)} tensors became {len(now.tensors)}"
        for old, new in zip(was.tensors, now.tensors, strict=True):
            if kind := _difference(before, old, after, new):
                return f"the {kind} of tensor {old.name.split(';')[0]} differ"
    return "the graphs are equal; metadata or the order of bytes differ"


def _difference(before: ModelT, was: TensorT, after: ModelT, now: TensorT) -> str | None:
    if was.name != now.name:
        return "names"
    if was.type != now.type or was.shape.tolist() != now.shape.tolist():
        return "type and shape"
    scales, others = (
        None if tensor.quantization is None else tensor.quantization.scale for tensor in (was, now)
    )
    if not _equal(scales, others):
        return "scales"
    values, found = before.buffers[was.buffer].data, after.buffers[now.buffer].data
    return None if _equal(values, found) else "stored values"


def _equal(one: Any, other: Any) -> bool:
    if one is None or other is None:
        return one is other
    return bool(np.array_equal(one, other))

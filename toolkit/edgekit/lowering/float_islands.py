"""Operators that TensorFlow's quantizer must leave in float, hidden from it.

It has a list of names for them, but quantizes some kinds all the same: TRANSPOSE_CONV, REDUCE_MAX
and others whose input and output share a scale (TensorFlow 2.21). Custom operators it leaves as
they are, with float inputs and outputs; so each operator is written as one, and written back.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit.tflite.graph import as_text, code_name, operator_code, read, write

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT

_CUSTOM: Final = b"edgekit_float"
_OPTIONS: Final = (
    *("builtinOptions", "builtinOptionsType", "builtinOptions2", "builtinOptions2Type"),
    *("customOptions", "customOptionsFormat"),
)


class Hidden:
    """A float graph whose chosen operators are hidden.

    Operators with graphs of their own, or with a state, are not hidden.

    Args:
        data: The graph.
        names: Names of output tensors of the operators.

    Attributes:
        data: The graph with them hidden.
    """

    def __init__(self, data: bytes, names: Collection[str]) -> None:
        from ai_edge_litert import schema_py_generated as schema

        self.data = data
        self._kept: list[tuple[str, int, dict[str, object]]] = []
        if not names:
            return
        model, chosen = read(data), set(names)
        for graph in model.subgraphs[:1]:
            for op in graph.operators:
                code = model.operatorCodes[op.opcodeIndex]
                outputs = {as_text(graph.tensors[i].name) for i in op.outputs}
                if not outputs <= chosen or code.customCode or not _is_plain(graph, op):
                    continue
                options = {field: getattr(op, field) for field in _OPTIONS}
                self._kept.append((code_name(code), code.version, options))
                for field in _OPTIONS:
                    setattr(op, field, getattr(schema.OperatorT(), field))
                op.customOptions = np.array([len(self._kept) - 1], "<u4").view(np.uint8)
                op.opcodeIndex = len(model.operatorCodes)
        if self._kept:
            custom = schema.BuiltinOperator.CUSTOM
            model.operatorCodes.append(
                schema.OperatorCodeT(
                    deprecatedBuiltinCode=custom, builtinCode=custom, customCode=_CUSTOM, version=1
                )
            )
            self.data = write(model)

    def restored(self, data: bytes) -> bytes:
        """Return a quantized graph with the hidden operators as they were."""
        if not self._kept:
            return data
        model = read(data)
        for op in model.subgraphs[0].operators:
            code = model.operatorCodes[op.opcodeIndex]
            if as_text(code.customCode) != as_text(_CUSTOM):
                continue
            number = int(np.asarray(op.customOptions, np.uint8).view("<u4")[0])
            name, version, options = self._kept[number]
            for field, value in options.items():
                setattr(op, field, value)
            op.opcodeIndex = operator_code(model, name, version)
        _drop_custom(model)
        return write(model)


def _drop_custom(model: ModelT) -> None:
    """Remove the code of hidden operators, which no runtime knows."""
    codes = list(enumerate(model.operatorCodes))
    kept = [i for i, code in codes if as_text(code.customCode) != as_text(_CUSTOM)]
    for graph in model.subgraphs:
        for op in graph.operators:
            op.opcodeIndex = kept.index(op.opcodeIndex)
    model.operatorCodes = [model.operatorCodes[i] for i in kept]


def _is_plain(graph: SubGraphT, op: OperatorT) -> bool:
    options = op.builtinOptions
    nested = any("ubgraph" in field.lower() for field in vars(options)) if options else False
    return not nested and not any(graph.tensors[i].isVariable for i in op.inputs if i >= 0)

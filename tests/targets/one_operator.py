"""Files of a single operator, and which operators of a file XNNPACK computes on this machine."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from ai_edge_litert import schema_py_generated as schema

from edgekit.tflite import write

TYPES = {
    "float32": schema.TensorType.FLOAT32,
    "int8": schema.TensorType.INT8,
    "uint8": schema.TensorType.UINT8,
    "int16": schema.TensorType.INT16,
    "int32": schema.TensorType.INT32,
}
FLOAT_OPTIONS = {"alpha": 0.1, "beta": 1.0}


def one_operator(
    name: str,
    *,
    shapes: Sequence[tuple[int, ...]] = ((1, 4, 4, 8),),
    outputs: Sequence[tuple[int, ...]] = ((1, 4, 4, 8),),
    dtype: str = "float32",
    constants: Sequence[Any] = (),
    first: bool = False,
    options: str | None = None,
    **fields: Any,
) -> bytes:
    """Write a file of one operator: computed inputs of `shapes`, then int32 `constants`.

    Args:
        name: The operator.
        shapes: Shapes of the computed inputs.
        outputs: Shapes of the outputs.
        dtype: Type of both; integers are quantized with scale 0.1.
        constants: Values of the constant inputs, after the computed ones.
        first: Whether the constants come before them instead.
        options: Name of the options' table in the schema.
        **fields: Fields of that table.
    """
    tensors, buffers = [], [schema.BufferT()]

    def tensor(shape: tuple[int, ...], kind: str, data: np.ndarray | None = None) -> int:
        number = len(tensors)
        if data is not None:
            buffers.append(schema.BufferT(data=np.frombuffer(data.tobytes(), np.uint8)))
        quantization = None
        if kind in {"int8", "uint8", "int16"}:
            quantization = schema.QuantizationParametersT(
                scale=np.array([0.1], np.float32), zeroPoint=np.array([0], np.int64)
            )
        tensors.append(
            schema.TensorT(
                name=f"t{number}",
                shape=np.array(shape, np.int32),
                type=TYPES[kind],
                quantization=quantization,
                buffer=len(buffers) - 1 if data is not None else 0,
            )
        )
        return number

    computed = [tensor(shape, dtype) for shape in shapes]
    stored = []
    for values in constants:
        data = np.asarray(values)
        kind = "float32" if data.dtype.kind == "f" else "int32"
        stored.append(tensor(data.shape, kind, data.astype(kind)))
    results = [tensor(shape, dtype) for shape in outputs]
    table = getattr(schema, f"{options}T")() if options else None
    for key, value in fields.items():
        setattr(table, key, value)
    graph = schema.SubGraphT(
        tensors=tensors,
        inputs=np.array(computed, np.int32),
        outputs=np.array(results, np.int32),
        operators=[
            schema.OperatorT(
                inputs=np.array([*stored, *computed] if first else [*computed, *stored], np.int32),
                outputs=np.array(results, np.int32),
                builtinOptionsType=getattr(schema.BuiltinOptions, options) if options else 0,
                builtinOptions=table,
            )
        ],
    )
    code = getattr(schema.BuiltinOperator, name)
    return write(
        schema.ModelT(
            version=3,
            operatorCodes=[
                schema.OperatorCodeT(
                    version=2 if dtype != "float32" else 1,
                    builtinCode=code,
                    deprecatedBuiltinCode=min(code, 127),
                )
            ],
            buffers=buffers,
            subgraphs=[graph],
        )
    )


def delegated(path: Path) -> dict[int, bool]:
    """Load a file with LiteRT and return for each operator whether XNNPACK took it.

    What a delegate computes lies between its inputs and its outputs.

    Raises:
        ValueError: The runtime cannot load it.
    """
    from ai_edge_litert.interpreter import Interpreter

    try:
        interpreter = Interpreter(model_path=str(path), num_threads=1)
        interpreter.allocate_tensors()
    except RuntimeError as error:
        raise ValueError(str(error)) from error
    found = interpreter._get_ops_details()
    operators = [operator for operator in found if operator["op_name"] != "DELEGATE"]
    producers = {int(index): o["index"] for o in operators for index in o["outputs"]}
    inputs = {o["index"]: [int(index) for index in o["inputs"]] for o in operators}
    inside: set[int] = set()
    for delegate in found:
        if delegate["op_name"] != "DELEGATE":
            continue
        boundary = {int(index) for index in delegate["inputs"]}
        ahead = [int(index) for index in delegate["outputs"]]
        while ahead:
            index = ahead.pop()
            if index in boundary or producers.get(index) in {None, *inside}:
                continue
            inside.add(producers[index])
            ahead += inputs[producers[index]]
    return {operator["index"]: operator["index"] in inside for operator in operators}

"""Loops (WHILE) of a graph: taken out to be quantized by themselves, and put back in integers.

A loop carries values from step to step: the graph that calls it, its condition and its body each
have a tensor for every one. In integers these share one scale, and so do all steps.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit.errors import ConversionError
from edgekit.records import Array, Ranges
from edgekit.tflite.graph import (
    DTYPES,
    FLOAT32,
    INT16,
    builtin_code,
    clone,
    constant,
    is_constant,
    operator_code,
    operator_name,
    quantized,
)

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT, SubGraphT, TensorT

_LOOP: Final = "WHILE"
STAND_IN: Final = "EdgekitLoop"
"""Beginning of the names of the custom operators that stand for loops."""
_CUSTOM: Final = 32


@dataclass(frozen=True, slots=True, eq=False)
class Loop:
    """A loop of the first graph.

    Attributes:
        position: Number of its operator in that graph.
        condition: Number of the graph that decides whether there is another step.
        body: Number of the graph of a step.
    """

    position: int
    condition: int
    body: int


def loops_of(model: ModelT) -> tuple[Loop, ...]:
    """Return the loops of the first graph that can be taken out and put back.

    Left out are those that hold further graphs or share theirs, and those whose conditions read
    floats.
    """
    found = [
        Loop(
            position,
            int(op.builtinOptions.condSubgraphIndex),
            int(op.builtinOptions.bodySubgraphIndex),
        )
        for position, op in enumerate(model.subgraphs[0].operators)
        if operator_name(model, op) == _LOOP
    ]
    shared = [number for loop in found for number in (loop.condition, loop.body)]
    return tuple(
        loop
        for loop in found
        if shared.count(loop.condition) == shared.count(loop.body) == 1
        and not any(
            "ubgraph" in name
            for number in (loop.condition, loop.body)
            for op in model.subgraphs[number].operators
            for name in (vars(op.builtinOptions) if op.builtinOptions else ())
        )
        and not _reads_floats(model.subgraphs[loop.condition])
    )


def alone(model: ModelT, number: int) -> ModelT:
    """Return a model of one of another's graphs, with the same tensors."""
    single = clone(model)
    single.subgraphs = [single.subgraphs[number]]
    single.signatureDefs, single.metadata, single.metadataBuffer = [], [], None
    return _without_other_weights(single)


def carried(model: ModelT, loop: Loop) -> list[tuple[str, ...]]:
    """Return the names of the tensors that hold each float value that is carried."""
    outer, inner = model.subgraphs[0], model.subgraphs[loop.body]
    op = outer.operators[loop.position]
    slots = zip(op.inputs, op.outputs, inner.inputs, inner.outputs, strict=True)
    return [
        (
            *(outer.tensors[i].name for i in (given, result)),
            *(inner.tensors[i].name for i in (before, after)),
        )
        for given, result, before, after in slots
        if inner.tensors[before].type == FLOAT32
    ]


def quantizable(model: ModelT, ranges: Ranges, denied: Collection[str]) -> tuple[Loop, ...]:
    """Return the loops of the first graph to quantize: their ranges are known, and none is denied.

    Args:
        model: A float model.
        ranges: Ranges by tensor name.
        denied: Names of outputs of operators that remain float.
    """
    outer = model.subgraphs[0]
    return tuple(
        loop
        for loop in loops_of(model)
        if {name for names in carried(model, loop) for name in names[2:]} <= set(ranges.low)
        and not {outer.tensors[i].name for i in outer.operators[loop.position].outputs} <= {*denied}
    )


def without_loops(model: ModelT, loops: Sequence[Loop]) -> ModelT:
    """Return a model in whose first graph custom operators stand for these loops."""
    from ai_edge_litert import schema_py_generated as schema

    model = clone(model)
    for number, loop in enumerate(loops):
        model.operatorCodes.append(
            schema.OperatorCodeT(
                deprecatedBuiltinCode=_CUSTOM,
                builtinCode=_CUSTOM,
                customCode=f"{STAND_IN}{number}",
                version=1,
            )
        )
        op = model.subgraphs[0].operators[loop.position]
        op.opcodeIndex = len(model.operatorCodes) - 1
        op.builtinOptions, op.builtinOptionsType = None, 0
    if len(model.subgraphs) == 1 + 2 * len(loops):
        model.subgraphs = model.subgraphs[:1]
    return _without_other_weights(model)


def with_loops(
    model: ModelT, original: ModelT, loops: Sequence[Loop], bodies: Sequence[ModelT]
) -> ModelT:
    """Return a model with its loops in the place of what stands for them.

    Args:
        model: What became of `without_loops(original, loops)` in a quantizer.
        original: The float model.
        loops: Loops of the original.
        bodies: What became of the body of each, `alone(original, loop.body)`, in the quantizer.

    Raises:
        ConversionError: A body was left in a form that cannot be put back.
    """
    model = clone(model)
    for number, (loop, body) in enumerate(zip(loops, bodies, strict=True)):
        (op,) = (
            op
            for op in model.subgraphs[0].operators
            if operator_name(model, op) == f"{STAND_IN}{number}"
        )
        # `model/gru/while_body`, of the layer `model/gru`
        scope = original.subgraphs[loop.body].name.rpartition("/")[0] or f"loop{number}"
        _put_back(
            model,
            op,
            condition=_adopted(model, original, loop.condition, f"{scope}/"),
            body=_adopted(model, body, 0, f"{scope}/"),
        )
        # Alone, it was the main graph.
        model.subgraphs[-1].name = original.subgraphs[loop.body].name
    return model


def _without_other_weights(model: ModelT) -> ModelT:
    """Empty the buffers that no tensor uses, in place."""
    from ai_edge_litert import schema_py_generated as schema

    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    used |= {entry.buffer for entry in model.metadata}
    model.buffers = [
        buffer if index in used else schema.BufferT() for index, buffer in enumerate(model.buffers)
    ]
    return model


def _reads_floats(graph: SubGraphT) -> bool:
    return any(graph.tensors[i].type == FLOAT32 for op in graph.operators for i in op.inputs)


def _adopted(model: ModelT, source: ModelT, number: int, scope: str) -> int:
    """Add a graph of another model to a model, with short names; return its number there."""
    source = clone(source)
    graph = source.subgraphs[number]
    for index, tensor in enumerate(graph.tensors):
        # Longer names would take up a quarter of the file.
        tensor.name = f"{scope}{index}"
        if is_constant(source, tensor):
            model.buffers.append(source.buffers[tensor.buffer])
            tensor.buffer = len(model.buffers) - 1
        else:
            tensor.buffer = 0
    for op in graph.operators:
        op.opcodeIndex = _code(model, source.operatorCodes[op.opcodeIndex])
    model.subgraphs.append(graph)
    return len(model.subgraphs) - 1


def _code(model: ModelT, code: Any) -> int:
    for index, known in enumerate(model.operatorCodes):
        if (builtin_code(known), known.version, known.customCode) == (
            builtin_code(code),
            code.version,
            code.customCode,
        ):
            return index
    model.operatorCodes.append(code)
    return len(model.operatorCodes) - 1


def _put_back(model: ModelT, op: OperatorT, *, condition: int, body: int) -> None:
    """Make a custom operator a loop, whose values have the types of its body."""
    from ai_edge_litert import schema_py_generated as schema

    step, decides = model.subgraphs[body], model.subgraphs[condition]
    op.opcodeIndex = operator_code(model, _LOOP, 1)
    op.builtinOptionsType = schema.BuiltinOptions.WhileOptions
    op.builtinOptions = schema.WhileOptionsT(condSubgraphIndex=condition, bodySubgraphIndex=body)
    op.customOptions = None
    op.inputs, op.outputs, step.outputs = op.inputs.copy(), op.outputs.copy(), step.outputs.copy()
    read = {int(i) for each in step.operators for i in each.inputs}
    for slot, (index, end) in enumerate(zip(step.inputs.tolist(), step.outputs, strict=True)):
        before = step.tensors[index]
        kind = next((t for t in (before, step.tensors[end]) if quantized(t)), None)
        if kind is None:  # no floats, or left in float
            continue
        if not quantized(before) and index in read:
            raise ConversionError(
                "A loop cannot carry a value in float and in integers.",
                found=f"Its body reads {before.name}, and quantizes what follows it.",
                hint="Choose another mode, or leave the layer in float by a rule.",
            )
        for tensor in (before, decides.tensors[decides.inputs[slot]]):
            tensor.type, tensor.quantization = kind.type, kind.quantization
        step.outputs[slot], added = _requantized(model, step, int(end), kind)
        step.operators += added
        _give(model, op, slot, kind)
        _take(model, op, slot, kind)


def _give(model: ModelT, op: OperatorT, slot: int, kind: TensorT) -> None:
    """Give a loop of the first graph an integer value instead of a float one."""
    graph = model.subgraphs[0]
    given = int(op.inputs[slot])
    maker = next((each for each in graph.operators if given in each.outputs), None)
    if maker is not None and operator_name(model, maker) == "DEQUANTIZE":
        given = int(maker.inputs[0])
    op.inputs[slot], added = _requantized(model, graph, given, kind)
    place = _place(graph, op)
    graph.operators[place:place] = added


def _take(model: ModelT, op: OperatorT, slot: int, kind: TensorT) -> None:
    """Take an integer value from a loop of the first graph, and dequantize it where necessary."""
    graph = model.subgraphs[0]
    old, new = int(op.outputs[slot]), _added(graph, graph.tensors[op.outputs[slot]], kind)
    op.outputs[slot] = new
    for user in [each for each in graph.operators if old in each.inputs]:
        if operator_name(model, user) != "QUANTIZE":
            continue
        copy = int(user.outputs[0])
        if _alike(graph.tensors[copy], kind) and copy not in graph.outputs:
            del graph.operators[_place(graph, user)]
            for each in graph.operators:
                each.inputs = np.where(each.inputs == copy, new, each.inputs).astype(np.int32)
        else:
            user.inputs = np.array([new], np.int32)
    if old in graph.outputs or any(old in each.inputs for each in graph.operators):
        follower = _operator(model, "DEQUANTIZE", 3 if kind.type == INT16 else 2, new, old)
        graph.operators.insert(_place(graph, op) + 1, follower)


def _requantized(
    model: ModelT, graph: SubGraphT, index: int, kind: TensorT
) -> tuple[int, list[OperatorT]]:
    """Return the tensor that holds a tensor's values in another type, and what computes it."""
    from ai_edge_litert import schema_py_generated as schema

    tensor = graph.tensors[index]
    if _alike(tensor, kind):
        return index, []
    made = _added(graph, tensor, kind)
    if tensor.type == FLOAT32 and is_constant(model, tensor):
        codes = _codes(constant(model, tensor), kind)
        model.buffers.append(schema.BufferT(data=codes.reshape(-1).view(np.uint8)))
        graph.tensors[made].buffer = len(model.buffers) - 1
        return made, []
    # Version 2 is the first to write int16.
    return made, [_operator(model, "QUANTIZE", 2 if kind.type == INT16 else 1, index, made)]


def _codes(values: Array, kind: TensorT) -> Array:
    scale, zero = _parameters(kind)
    limits = np.iinfo(DTYPES[kind.type])
    codes = np.clip(np.rint(values / scale) + zero, limits.min, limits.max)
    return np.ascontiguousarray(codes, DTYPES[kind.type])


def _alike(tensor: TensorT, kind: TensorT) -> bool:
    return tensor.type == kind.type and _parameters(tensor) == _parameters(kind)


def _parameters(tensor: TensorT) -> tuple[float, int]:
    stored = tensor.quantization
    zeros = stored.zeroPoint
    return float(stored.scale[0]), 0 if zeros is None or not len(zeros) else int(zeros[0])


def _added(graph: SubGraphT, like: TensorT, kind: TensorT) -> int:
    """Add an empty tensor of one's shape and another's type; return its number."""
    from ai_edge_litert import schema_py_generated as schema

    graph.tensors.append(
        schema.TensorT(
            shape=like.shape,
            type=kind.type,
            buffer=0,
            name=f"{like.name}_{DTYPES[kind.type]}",
            quantization=kind.quantization,
            hasRank=True,
        )
    )
    return len(graph.tensors) - 1


def _operator(model: ModelT, name: str, version: int, given: int, made: int) -> OperatorT:
    from ai_edge_litert import schema_py_generated as schema

    return schema.OperatorT(
        opcodeIndex=operator_code(model, name, version),
        inputs=np.array([given], np.int32),
        outputs=np.array([made], np.int32),
    )


def _place(graph: SubGraphT, op: OperatorT) -> int:
    return next(place for place, each in enumerate(graph.operators) if each is op)

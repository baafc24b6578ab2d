"""Inspect a `.tflite` file: operators, bytes, multiply-accumulates, support by targets."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from edgekit.errors import ModelError
from edgekit.modes import TFLITE_RUNTIME
from edgekit.records import Inspection, Operator, TargetFit
from edgekit.targets import target
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.edge_tpu import edge_tpu_program
from edgekit.tflite.edge_tpu_compiler import compile_for_edge_tpu
from edgekit.tflite.graph import as_text, read
from edgekit.tflite.lifetimes import alive_bytes, ends_of
from edgekit.tflite.macs import macs, repetitions
from edgekit.tflite.micro_memory import memory
from edgekit.tflite.naming import name_layers
from edgekit.tflite.nodes import nodes
from edgekit.tflite.runtime_limits import lacking_in_tflite_runtime
from edgekit.tflite.runtime_versions import oldest_runtimes
from edgekit.tflite.signature import signature
from edgekit.tflite.size_breakdown import Storage, measure
from edgekit.tflite.stored import content_of, size_of
from edgekit.tflite.vela import compile_for

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

# Types of shapes, axes and table keys; with scales, such constants are biases.
_INDEX_TYPES: Final = frozenset(
    {"bool", "int32", "int64", "resource", "string", "uint32", "uint64", "variant"}
)
# Operators between float16 or sparse weights and the operator that uses them.
_UNPACKING: Final = frozenset({"DEQUANTIZE", "DENSIFY"})
_FLOATS: Final = frozenset({"float16", "bfloat16", "float32", "float64"})


def inspect(
    path: Path, *, targets: Sequence[str] = ("coral",), compiled: bool = False
) -> Inspection:
    """Inspect a model, without TensorFlow or an interpreter.

    The operators of all graphs of the file are listed, those of loop bodies and conditions after
    the main graph. Each is listed once; the multiply-accumulates of a loop's body are those of all
    its runs (`macs.repetitions`).

    Args:
        path: A `.tflite` or `.tflite.gz` file.
        targets: Names of the targets to check the operators against.
        compiled: Whether it is compiled for an Edge TPU among them, where Google's compiler is on
            PATH: seconds, of a large model minutes. Without it, what runs there is predicted.

    Raises:
        ModelError: The file cannot be read, is no TFLite file, or is damaged.
        UsageError: There is no such target.
    """
    configured = {name: target(name) for name in targets}
    budgets = {name: one.budget for name, one in configured.items() if one.budget is not None}
    model = read(path)
    size_bytes = size_of(path)
    operators = nodes(model)
    needed = memory(model, operators, content_of(path), budgets) if budgets else {}
    storage = measure(model)
    inputs, outputs = signature(model)
    signatures = tuple([one.signatureKey for one in model.signatureDefs])
    metadata = _metadata(model)
    runtimes = oldest_runtimes(model)
    lacking = _lacking(path, runtimes)
    versions = [
        model.operatorCodes[op.opcodeIndex].version
        for graph in model.subgraphs
        for op in graph.operators
    ]
    grids = _grids(model, operators)
    edge_tpu = edge_tpu_program(model)
    ends = ends_of(model)
    # The objects of 300,000 operators take 300 MB, which can be reused from here on.
    del model
    owned = _first_users(operators, storage)
    vela = {
        name: compile_for(one.target.accelerator, content_of(path), operators, one.settings)
        for name, one in configured.items()
        if one.target.accelerator is not None
    }
    google = {
        name: run
        for name, one in configured.items()
        if compiled and one.target.edge_tpu
        if (run := compile_for_edge_tpu(content_of(path), operators)) is not None
    }
    verdicts = {
        **{name: found for name, (found, _) in vela.items()},
        **{name: run.fits for name, run in google.items() if run.fits is not None},
    }
    fits = {
        name: verdicts[name] if name in verdicts else one.fit(operators)
        for name, one in configured.items()
    }
    # Operators of equal fits share them: most models have few different ones.
    shared: dict[tuple[TargetFit, ...], Mapping[str, TargetFit]] = {}
    runs = repetitions(operators)
    alive = alive_bytes(operators, ends)
    ops = tuple(
        [
            _operator(
                node,
                layer,
                size=sum([storage.weights[node.graph, t.index][1] for t in owned[node.index]]),
                targets=_fits(node, fits, shared),
                runs=runs.get(node.graph, 1),
                version=versions[node.index],
                grid=grids[node.index],
                alive=alive[node.index],
            )
            for node, layer in zip(operators, name_layers(operators), strict=True)
        ]
    )
    constants = [(tensor, node.graph) for node in operators for tensor in owned[node.index]]
    # In a damaged file vectors may overlap; the parts must still add up to the whole.
    weight_bytes = min(storage.weight_bytes, size_bytes)
    quantization_bytes = min(storage.quantization_bytes, size_bytes - weight_bytes)
    left = size_bytes - weight_bytes - quantization_bytes
    metadata_bytes = min(sum(metadata.values()), left)
    return Inspection(
        path=path,
        size_bytes=size_bytes,
        inputs=inputs,
        outputs=outputs,
        ops=ops,
        bytes={
            "weights": weight_bytes,
            "quantization": quantization_bytes,
            "metadata": metadata_bytes,
            "graph": left - metadata_bytes,
        },
        weight_dtypes=_by_dtype(constants, storage),
        macs=sum(op.macs or 0 for op in ops),
        parameters=sum(tensor.elements for tensor, _ in constants if _computes(tensor)),
        signatures=signatures,
        metadata=metadata,
        runtimes=runtimes,
        lacking=lacking,
        memory=needed,
        estimates={name: estimate for name, (_, estimate) in vela.items()},
        edge_tpu=edge_tpu,
        compiled={name: run.run for name, run in google.items()},
    )


Grid = tuple[float | None, int | None]


def _lacking(path: Path, runtimes: Mapping[str, str | None]) -> dict[str, tuple[str, ...]]:
    """Return what tflite-runtime lacks of a file that it does not load as it is stored."""
    if runtimes[TFLITE_RUNTIME] is not None:
        return {}
    try:
        return {TFLITE_RUNTIME: lacking_in_tflite_runtime(content_of(path), path.name)}
    except ModelError:  # the constants are damaged, which whoever loads them is told
        return {}


def _metadata(model: ModelT) -> dict[str, int]:
    """Return name -> bytes of each entry, a buffer that is a constant too left out."""
    constants = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    sizes: dict[str, int] = {}
    for entry in model.metadata:
        data = model.buffers[entry.buffer].data
        size = 0 if data is None or entry.buffer in constants else len(data)
        sizes[as_text(entry.name)] = size
        constants.add(entry.buffer)
    return sizes


def _grids(model: ModelT, operators: Sequence[Node]) -> list[Grid]:
    """Return step and zero point of each operator's first output, where it has one step."""
    found: list[Grid] = []
    for node in operators:
        tensor = (
            model.subgraphs[node.graph].tensors[node.outputs[0].index] if node.outputs else None
        )
        parameters = tensor.quantization if tensor is not None else None
        if parameters is None or parameters.scale is None or len(parameters.scale) != 1:
            found.append((None, None))
            continue
        zeros = parameters.zeroPoint
        has_zero = zeros is not None and len(zeros)
        found.append((float(parameters.scale[0]), int(zeros[0]) if has_zero else 0))
    return found


def _fits(
    node: Node,
    fits: Mapping[str, Mapping[int, TargetFit]],
    shared: dict[tuple[TargetFit, ...], Mapping[str, TargetFit]],
) -> Mapping[str, TargetFit]:
    answers = tuple([found[node.index] for found in fits.values()])
    known = shared.get(answers)
    if known is None:
        known = shared[answers] = dict(zip(fits, answers, strict=True))
    return known


def _operator(
    node: Node,
    layer: str,
    *,
    size: int,
    targets: Mapping[str, TargetFit],
    runs: int,
    version: int,
    grid: Grid,
    alive: int,
) -> Operator:
    once = macs(node)
    inputs = tuple([one.dtype for one in node.inputs if one is not None and one.data is None])
    weights = max(
        [one for one in node.inputs if one is not None and one.data is not None],
        key=lambda tensor: tensor.elements,
        default=None,
    )
    return Operator(
        index=node.index,
        name=node.name,
        layer=layer,
        outputs=tuple([tensor.name for tensor in node.outputs]),
        dtype=node.outputs[0].dtype if node.outputs else "none",
        bytes=size,
        macs=None if once is None else once * runs,
        targets=targets,
        version=version,
        shape=node.outputs[0].shape if node.outputs else (),
        inputs=inputs,
        weights=None if weights is None else weights.dtype,
        scale=grid[0],
        zero_point=grid[1],
        in_float=not _FLOATS.isdisjoint([*inputs, *(one.dtype for one in node.outputs)]),
        alive_bytes=alive,
    )


def _first_users(operators: Sequence[Node], storage: Storage) -> list[list[Tensor]]:
    """Return for each operator the constants it is the first to use, each buffer once."""
    unpacked: dict[tuple[int, int], Tensor] = {}
    seen: set[tuple[int, int]] = set()
    owned: list[list[Tensor]] = []
    for node in operators:
        constants: list[Tensor] = []
        for tensor in node.inputs:
            if tensor is None:
                continue
            origin = unpacked.get((node.graph, tensor.index), tensor)
            place = storage.weights.get((node.graph, origin.index))
            if place is None:
                continue
            if node.name in _UNPACKING:
                unpacked.update({(node.graph, output.index): origin for output in node.outputs})
            elif place not in seen:
                seen.add(place)
                constants.append(origin)
        owned.append(constants)
    return owned


def _by_dtype(constants: Sequence[tuple[Tensor, int]], storage: Storage) -> dict[str, int]:
    """Return storage type -> bytes, in descending order."""
    sizes: Counter[str] = Counter()
    for tensor, graph in constants:
        sizes[tensor.dtype] += storage.weights[graph, tensor.index][1]
    return dict(sizes.most_common())


def _computes(tensor: Tensor) -> bool:
    """Whether a constant is a weight rather than a shape or an axis."""
    return tensor.quantized or tensor.dtype not in _INDEX_TYPES

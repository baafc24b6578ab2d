"""Files written in integers, against those of TensorFlow's own quantizer."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tensorflow_quantizer
import writer_graphs
from ai_edge_litert.interpreter import Interpreter, OpResolverType
from ai_edge_litert.schema_py_generated import ModelT
from tensorflow_quantizer import with_ranges

from edgekit.errors import ConversionError
from edgekit.quantization import observe
from edgekit.quantization.writer import write_integers
from edgekit.records import Array, Batch, Plan, Ranges, Samples
from edgekit.tflite import read, signature, write
from edgekit.tflite.graph import constant
from edgekit.tflite.lstm import without_resets
from edgekit.tflite.naming import with_layer_names
from edgekit.tflite.nodes import nodes
from edgekit.worker import Worker

pytestmark = pytest.mark.tensorflow

REPOSITORY = Path(__file__).parents[2]
GRAPHS = sorted(writer_graphs.NAMES)
PUBLISHED = sorted(path.parent.name for path in REPOSITORY.glob("quantized/*/float32.tflite"))
# Why the int8 file is not TensorFlow's; then it is no further from the float model.
EXPLAINED = {
    "attention": "SQUARE and NEG are products, in integers; TensorFlow leaves them in float",
    "maximum": "TensorFlow clips the model's input to the range of the minimum",
    "negative": "NEG is a product, in integers",
    "sine": "a RESHAPE from float to float stays float",
    "two_concatenations": "outputs that join values far apart are joined in float",
    "square": "SQUARE is a product, in integers: its input is rounded to a zero point",
}
CONVERSIONS = ("QUANTIZE", "DEQUANTIZE")


@dataclass(frozen=True)
class Case:
    """A float graph, samples, and the ranges over these."""

    model: ModelT
    inputs: Mapping[str, Array]
    ranges: Ranges

    def ours(self, plan: Plan) -> bytes:
        return write(with_layer_names(write_integers(self.model, self.ranges, plan).model))

    def theirs(self, plan: Plan, worker: Worker) -> bytes:
        bare, _ = without_resets(self.model)
        ranged = with_ranges(bare, self.ranges, symmetric=plan.mode != "int8")
        return worker.run(tensorflow_quantizer.quantized, write(ranged), plan)

    def run(self, data: bytes) -> dict[str, Array]:
        """Outputs of three samples through reference kernels, each in a new interpreter."""
        found: dict[str, list[Array]] = {}
        for row in range(3):
            runner = interpreter_of(data).get_signature_runner("serving_default")
            outputs = runner(**{name: v[row : row + 1] for name, v in self.inputs.items()})
            for name, values in outputs.items():
                found.setdefault(name, []).append(values.copy())
        return {name: np.concatenate(values) for name, values in found.items()}


def interpreter_of(data: bytes) -> Interpreter:
    """An interpreter with reference kernels; the default ones where one is missing or wrong."""
    if "SUM" in {node.name for node in nodes(read(data))}:  # LiteRT's issue 4079
        return opened(data, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)
    try:
        return opened(data, OpResolverType.BUILTIN_REF)
    except (RuntimeError, ValueError):
        return opened(data, OpResolverType.BUILTIN_WITHOUT_DEFAULT_DELEGATES)


def opened(data: bytes, resolver: Any) -> Interpreter:
    interpreter = Interpreter(model_content=data, experimental_op_resolver_type=resolver)
    interpreter.allocate_tensors()
    return interpreter


def case_of(content: bytes) -> Case:
    model = read(content)
    rng = np.random.default_rng(1)
    inputs = {}
    for spec in signature(model)[0]:
        shape = (8, *spec.shape[1:])
        values = rng.normal(size=shape) if spec.dtype == "float32" else rng.integers(0, 50, shape)
        inputs[spec.name] = values.astype(spec.dtype)
    samples = Samples(
        split="calibrate",
        n=8,
        sha256="",
        read=lambda rows: Batch(inputs={name: values[rows] for name, values in inputs.items()}),
    )
    return Case(model=model, inputs=inputs, ranges=observe(model, samples).ranges())


@pytest.fixture(scope="module")
def folder(worker: Worker, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("graphs")
    assert sorted(worker.run(writer_graphs.lower_all, folder)) == GRAPHS
    return folder


@pytest.fixture(scope="module", params=[*GRAPHS, *PUBLISHED])
def case(request: pytest.FixtureRequest, folder: Path) -> Case:
    path = folder / f"{request.param}.tflite"
    if request.param in PUBLISHED:
        path = REPOSITORY / "quantized" / request.param / "float32.tflite"
    return case_of(path.read_bytes())


def stored(data: bytes) -> dict[tuple[Any, ...], list[Array]]:
    """Codes of every constant with scales, by operator, shape, scales, zero points and axis."""
    model = read(data)
    found: dict[tuple[Any, ...], list[Array]] = {}
    for node in nodes(model):
        for tensor in node.inputs:
            resets = all(output.variable for output in node.outputs)
            if tensor is None or not tensor.constant or not tensor.quantized or resets:
                continue
            stored = model.subgraphs[0].tensors[tensor.index]
            parameters = stored.quantization
            axis = parameters.quantizedDimension if len(parameters.scale) > 1 else 0
            scales, points = parameters.scale.tobytes(), parameters.zeroPoint.tobytes()
            codes = constant(model, stored).astype(int)
            found.setdefault((node.name, codes.shape, scales, points, axis), []).append(codes)
    return found


def computed(data: bytes) -> Counter[tuple[Any, ...]]:
    """Every operator but conversions: its version and the parameters of its outputs."""
    model = read(data)
    found: Counter[tuple[Any, ...]] = Counter()
    for node, op in zip(nodes(model), model.subgraphs[0].operators, strict=True):
        if node.name in CONVERSIONS or any(tensor.variable for tensor in node.outputs):
            continue
        tensors = [model.subgraphs[0].tensors[tensor.index].quantization for tensor in node.outputs]
        parameters = tuple(
            (float(p.scale[0]), int(p.zeroPoint[0])) if p is not None and p.scale is not None else 0
            for p in tensors
        )
        found[node.name, model.operatorCodes[op.opcodeIndex].version, parameters] += 1
    return found


def assert_same_codes(ours: bytes, theirs: bytes) -> None:
    """Fail unless constants are equal, but for codes of values halfway between two."""
    mine, other = stored(ours), stored(theirs)
    assert {key: len(codes) for key, codes in mine.items()} == {
        key: len(codes) for key, codes in other.items()
    }
    for key, arrays in mine.items():
        left = list(other[key])
        for codes in arrays:
            off = [np.abs(codes - candidate) for candidate in left]
            best = min(range(len(off)), key=lambda i: int(off[i].sum()))
            assert off[best].max() <= 1
            # TensorFlow rounds biases in single precision, which has fewer digits than their codes.
            is_bias = np.abs(codes).max(initial=0) > 127
            assert off[best].sum() <= (codes.size if is_bias else 3 + codes.size // 1000)
            left.pop(best)


def sqnr(expected: Array, found: Array) -> float:
    noise = np.square(found.astype(np.float64) - expected).sum()
    return float(10 * np.log10(np.square(expected.astype(np.float64)).sum() / max(noise, 1e-30)))


def test_int8_is_what_tensorflow_writes(
    case: Case, worker: Worker, request: pytest.FixtureRequest
) -> None:
    name = request.node.callspec.params["case"]
    plan = Plan(variant="int8", mode="int8")
    ours, theirs = case.ours(plan), case.theirs(plan, worker)
    # A file is smaller, a small one by a tenth at least.
    assert len(ours) <= len(theirs) * (0.9 if len(theirs) < 60_000 else 1)
    plain, mine, other = (case.run(data) for data in (write(case.model), ours, theirs))
    if name in EXPLAINED:
        for output, values in plain.items():
            assert sqnr(values, mine[output]) > sqnr(values, other[output]) - 3
        return
    assert computed(ours) == computed(theirs)
    assert_same_codes(ours, theirs)
    steps = last_scales(ours)
    for output, values in other.items():
        assert np.abs(mine[output] - values).max() <= steps[output] * 1.001


def last_scales(data: bytes) -> dict[str, float]:
    """Signature name of each float output -> scale of the codes that it was made of."""
    model = read(data)
    makers = {tensor.index: node for node in nodes(model) for tensor in node.outputs}
    found = {}
    for entry in model.signatureDefs[0].outputs:
        source = makers[entry.tensorIndex].inputs[0]
        parameters = model.subgraphs[0].tensors[source.index].quantization
        known = parameters is not None and parameters.scale is not None
        found[entry.name] = float(parameters.scale[0]) if known else 1e-5
    return found


def test_int16_is_as_close_to_float_as_what_tensorflow_writes(case: Case, worker: Worker) -> None:
    plan = Plan(variant="int16x8", mode="int16x8")
    plain, mine = (case.run(data) for data in (write(case.model), case.ours(plan)))
    try:
        other = case.run(case.theirs(plan, worker))
    except (ConversionError, RuntimeError, ValueError):
        # Recurrent layers, integer inputs and comparisons are refused or do not run.
        other = dict.fromkeys(plain)
    for output, values in plain.items():
        reached = sqnr(values, mine[output])
        assert reached > 20
        if other[output] is not None:
            assert reached > sqnr(values, other[output]) - 1


def test_files_are_not_larger(case: Case, worker: Worker) -> None:
    plan = Plan(variant="int8", mode="int8")
    assert len(case.ours(plan)) <= len(case.theirs(plan, worker))


@pytest.mark.parametrize("kind", ["int8", "uint8"])
def test_integer_inputs_and_outputs_are_those_of_tensorflow(
    folder: Path, worker: Worker, kind: str
) -> None:
    case = case_of((folder / "cnn.tflite").read_bytes())
    plan = Plan(variant="v", mode="int8", input_type=kind, output_type=kind)
    ours, theirs = read(case.ours(plan)), read(case.theirs(plan, worker))
    assert [
        (spec.dtype, spec.scale, spec.zero_point) for side in signature(ours) for spec in side
    ] == [(spec.dtype, spec.scale, spec.zero_point) for side in signature(theirs) for spec in side]

"""Which operators TFLite Micro runs: the table, against its own interpreter where it is installed.

The arena is compared on the same files, operator by operator.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from micro_files import IMAGE, OPERATORS, T, integers, operator_file, weighted

from edgekit.isolate import ChildDiedError, isolated
from edgekit.targets import TARGETS, fit, micro, target
from edgekit.targets.arena import Buffer, aligned, place
from edgekit.targets.micro_operators import HINTS, KERNELS
from edgekit.tflite import micro_interpreter, read
from edgekit.tflite.arena import plan
from edgekit.tflite.c_sources import example_inputs
from edgekit.tflite.micro_memory import memory
from edgekit.tflite.nodes import nodes
from edgekit.tflite.signature import signature

needs_interpreter = pytest.mark.skipif(
    not micro_interpreter.available(), reason="tflite-micro is not installed"
)
# Types that files of edgekit and of TensorFlow's converter compute in.
TYPES = ("float32", "int8", "int16", "uint8", "int32", "int64", "bool")


def ran(content: bytes) -> micro_interpreter.MicroRun:
    model = read(content)
    inputs, outputs = signature(model)
    arrays = example_inputs([(spec.shape, spec.dtype) for spec in inputs])
    return micro_interpreter.run(content, outputs=len(outputs), inputs=[arrays])


def ran_each(contents: list[bytes], *, on_inputs: bool = True) -> list[micro_interpreter.MicroRun]:
    """Run several files in one child, or each in its own where one of them kills it."""

    def arguments(content: bytes):
        inputs, outputs = signature(read(content))
        arrays = example_inputs([(spec.shape, spec.dtype) for spec in inputs])
        return content, len(outputs), [arrays] if on_inputs else [], 1 << 20

    prepared = [arguments(content) for content in contents]
    try:
        return isolated(lambda: [micro_interpreter._run(*one) for one in prepared], limit_s=60)
    except ChildDiedError:
        return [
            micro_interpreter.run(content, outputs=outputs, inputs=inputs, arena_bytes=size)
            for content, outputs, inputs, size in prepared
        ]


def reason(content: bytes) -> str | None:
    return fit("micro", nodes(read(content)))[0].reason


@pytest.mark.parametrize("known", [True, False])
def test_a_part_of_a_size_that_is_computed_is_refused(known: bool):
    # Given a SLICE as loops have it that collect what each step returns: TFLite Micro loads it,
    # and copies as much as the file says, whatever the size is
    content = operator_file(
        "SLICE",
        [T(IMAGE, "int8"), integers(0, 0, 0, 0), T((4,), "int32")],
        [T((1, 1, 4, 8), "int8")],
        "SliceOptions",
    )
    model = read(content)
    output = model.subgraphs[0].tensors[model.subgraphs[0].outputs[0]]
    output.shapeSignature = None if known else np.array([1, -1, 4, 8], np.int32)
    answer = fit("micro", nodes(model))[0]
    assert (answer.reason is None) == known
    assert known or "--unroll" in (answer.reason or "")


@needs_interpreter
@pytest.mark.parametrize("name", ["RELU", "RELU6"])
def test_a_rectifier_that_does_not_rescale_is_refused(name: str):
    # Given a rectifier whose output has half the scale of its input
    given, made = T((1, 4), "int8", scale=0.02), T((1, 4), "int8", scale=0.01)
    content = operator_file(name, [given], [made])
    codes = np.array([[-9, 0, 10, 50]], np.int8)
    # When TFLite Micro runs it
    found = micro_interpreter.run(content, outputs=1, inputs=[[codes]])
    rescaled = np.array_equal(found.outputs[0][0], [[0, 0, 20, 100]])
    # Then what is said of it is what it does: RELU6 clamps the codes as they are.
    assert rescaled == (reason(content) is None)
    assert rescaled == (name == "RELU")


@needs_interpreter
@pytest.mark.parametrize("name", OPERATORS)
def test_an_operator_runs_in_the_types_that_are_said(name):
    contents = [OPERATORS[name](dtype) for dtype in TYPES]

    for dtype, content, found in zip(TYPES, contents, ran_each(contents), strict=True):
        predicted = reason(content)

        assert (predicted is None) == found.loads, (dtype, predicted, found.message)


@needs_interpreter
@pytest.mark.parametrize("name", OPERATORS)
def test_the_planned_arena_is_that_of_the_interpreter(name):
    contents = [OPERATORS[name](dtype) for dtype in ("float32", "int8", "int16")]

    for content, found in zip(contents, ran_each(contents, on_inputs=False), strict=True):
        if not found.loads:
            continue
        model = read(content)
        operators = nodes(model)

        planned = plan(model, operators)
        estimated = memory(model, operators, content, {"micro": {}}, interpret=False)["micro"]

        assert planned is not None
        assert planned.head_bytes == found.head_bytes
        assert found.arena_bytes <= estimated.arena_bytes
        # The operator's file loads in what is estimated, planning included.
        assert micro_interpreter.run(content, outputs=0, arena_bytes=estimated.arena_bytes).loads


def weights(kind: str, scales: int, name: str = "CONV_2D") -> bytes:
    shapes = {
        "CONV_2D": ((3, 1, 1, 8), (1, 4, 4, 3), "Conv2DOptions", 0),
        "DEPTHWISE_CONV_2D": ((1, 1, 1, 8), IMAGE, "DepthwiseConv2DOptions", 3),
        "FULLY_CONNECTED": ((3, 8), (16, 3), "FullyConnectedOptions", 0),
    }
    shape, result, options, axis = shapes[name]
    source = (16, 8) if name == "FULLY_CONNECTED" else IMAGE
    fields = {} if name == "FULLY_CONNECTED" else {"strideH": 1, "strideW": 1}
    if name == "DEPTHWISE_CONV_2D":
        fields["depthMultiplier"] = 1
    data = [T(source, "int8"), T(shape, kind, 1, scales, axis)]
    return operator_file(name, data, [T(result, "int8")], options, **fields)


INT4 = [
    ("CONV_2D", 1, True),
    ("CONV_2D", 3, True),
    ("DEPTHWISE_CONV_2D", 1, True),
    ("DEPTHWISE_CONV_2D", 8, True),
    ("FULLY_CONNECTED", 1, True),
    ("FULLY_CONNECTED", 3, False),
]


@pytest.mark.parametrize(("name", "scales", "runs"), INT4)
def test_int4_weights_run_but_for_dense_ones_by_channel(name, scales, runs):
    content = weights("int4", scales, name)

    predicted = reason(content)

    assert (predicted is None) == runs
    assert runs or "expand FILE --target micro" in predicted
    if micro_interpreter.available():
        found = ran(content)
        model = read(content)
        assert found.loads == runs
        assert not runs or plan(model, nodes(model)).head_bytes == found.head_bytes


IMAGE_5D, IMAGE_6D = (1, *IMAGE), (1, 1, *IMAGE)
LIMITS = [
    (
        operator_file("TRANSPOSE", [T(IMAGE_6D, "int8"), integers(0, 1, 2, 3, 4, 5)],
                      [T(IMAGE_6D, "int8")], "TransposeOptions"),
        "five dimensions",
    ),
    (
        operator_file("PAD", [T(IMAGE_6D, "int8"), T((6, 2), "int32", 0)], [T(IMAGE_6D, "int8")],
                      "PadOptions"),
        "five dimensions",
    ),
    (
        operator_file("PAD", [T(IMAGE, "int8"), T((4, 2), "int32")], [T(IMAGE, "int8")],
                      "PadOptions"),
        "must be constants",
    ),
    (
        operator_file("STRIDED_SLICE",
                      [T(IMAGE_5D, "int8"), *([integers(0, 0, 0, 0, 0)]),
                       integers(*IMAGE_5D), integers(1, 1, 1, 1, 1)],
                      [T(IMAGE_5D, "int8")], "StridedSliceOptions"),
        "four dimensions",
    ),
    (
        operator_file("STRIDED_SLICE",
                      [T(IMAGE, "int8"), integers(0, 0, 0, 0, 0), integers(1, 1, 4, 4, 8),
                       integers(1, 1, 1, 1, 1)],
                      [T(IMAGE_5D, "int8")], "StridedSliceOptions", newAxisMask=1),
        "cannot add dimensions",
    ),
    (
        operator_file("CONCATENATION", [T(IMAGE, "int8")] * 11, [T((1, 4, 4, 88), "int8")],
                      "ConcatenationOptions", axis=3),
        "at most ten",
    ),
    (
        operator_file("CONCATENATION", [T(IMAGE, "int8", scale=0.2), T(IMAGE, "int8")],
                      [T((1, 4, 4, 16), "int8")], "ConcatenationOptions", axis=3),
        "one scale",
    ),
    (
        operator_file("CONCATENATION", [T(IMAGE, "int8")] * 2, [T((1, 4, 4, 16), "int8")],
                      "ConcatenationOptions", axis=3, fusedActivationFunction=1),
        "No activation",
    ),
    (
        operator_file("ARG_MAX", [T(IMAGE, "int8"), integers(3)], [T((1, 4, 4), "int64")],
                      "ArgMaxOptions", outputType=4),
        "int32",
    ),
    (
        operator_file("FULLY_CONNECTED",
                      [T((1, 8), "float32"), *weighted("int8", (3, 8), 3)[:1], None],
                      [T((1, 3), "float32")], "FullyConnectedOptions"),
        "integer activations",
    ),
    (
        operator_file("DEQUANTIZE", [T(IMAGE, "float16", 1)], [T(IMAGE, "float32")],
                      "DequantizeOptions"),
        "float16 weights do not load; use --mode int8 or float32",
    ),
    (
        operator_file("DEPTHWISE_CONV_2D",
                      [T(IMAGE, "int8"), T((1, 1, 1, 8), "int8", 1, 8, 3), None],
                      [T(IMAGE, "int8")], "DepthwiseConv2DOptions",
                      strideH=1, strideW=1, depthMultiplier=1),
        "Its bias must be stored",
    ),
    (operator_file("CUSTOM", [T(IMAGE, "int8")], [T(IMAGE, "int8")], custom="Mine"),
     "no such operator"),
]  # fmt: skip


@pytest.mark.parametrize(("content", "says"), LIMITS)
def test_what_breaks_a_limit_is_refused_and_named(content, says):
    assert says in reason(content)
    if micro_interpreter.available():
        assert not ran(content).loads


def test_a_mode_is_advised_only_where_it_changes_the_type():
    assert reason(OPERATORS["GATHER"]("int16")).endswith("Use --mode int8 or float32.")
    assert "--mode" not in reason(OPERATORS["GATHER"]("int32"))


def test_hints_are_for_operators_that_are_missing():
    assert not set(HINTS) & set(KERNELS)
    for name in ("GELU", "RELU_N1_TO_1", "TILE"):
        assert HINTS[name] in reason(OPERATORS[name]("int8"))


def test_the_reference_lists_every_operator_and_its_limits():
    page = micro.reference()

    assert page.count("\n") == len(KERNELS) + 2
    assert "| SQUARE | TFLite Micro computes it in float32 only. |" in page
    assert all(name in page for name in KERNELS)


@pytest.mark.parametrize(
    ("text", "budget"),
    [
        ("micro", {}),
        ("micro:ram=256k", {"ram": 256 << 10}),
        ("micro:ram=256k,flash=1M", {"ram": 256 << 10, "flash": 1 << 20}),
        ("esp32-s3", {"ram": 416 << 10, "flash": 8 << 20}),
        ("stm32h7:ram=128k", {"ram": 128 << 10, "flash": 2 << 20}),
    ],
)
def test_a_board_has_its_memory_unless_other_is_named(text, budget):
    assert dict(target(text).budget) == budget
    assert target(text).target.needs_all


def test_only_microcontrollers_have_a_budget():
    assert [n for n in TARGETS if target(n).budget is not None] == ["micro", "esp32-s3", "stm32h7"]


spans = st.tuples(st.integers(1, 400), st.integers(0, 12), st.integers(0, 5))


@given(st.lists(spans, max_size=25))
def test_buffers_that_are_needed_together_do_not_overlap(found):
    buffers = [
        Buffer(size_bytes=size, first=first, last=first + more) for size, first, more in found
    ]

    offsets = place(buffers)

    for i, one in enumerate(buffers):
        assert offsets[i] % 16 == 0
        for j, other in enumerate(buffers[:i]):
            apart = one.first > other.last or other.first > one.last
            above = offsets[i] >= offsets[j] + aligned(other.size_bytes)
            below = offsets[j] >= offsets[i] + aligned(one.size_bytes)
            assert apart or above or below


def test_of_equal_buffers_the_last_is_placed_first():
    pair = [Buffer(size_bytes=32, first=0, last=1), Buffer(size_bytes=32, first=1, last=2)]

    assert place(pair) == [32, 0]


# What TFLite Micro's interpreter of October 2026 reports, in bytes: head, and head with tail.
MEASURED = {
    "evaluate/fashion_int8": (25088, 29344),
    "evaluate/turbofan_int8": (2112, 7584),
    "evaluate/two_in_two_out": (64, 1184),
    "fidelity/head_int8": (64, 2128),
    "inspect/loop_float32": (96, 1616),
    "inspect/several_float32": (31440, 33968),
    "inspect/speech_int8": (49600, 55568),
    "quantize/speech_float32": (198400, 204208),
    "runner/cmapss_int16": (3840, 7664),
    "runner/cmapss_uint8": (1920, 5984),
    "stateful/lstm": (304, 2832),
    "stateful/lstm_batch2": (528, 3088),
    "stateful/stream": (256, 3216),
}


@pytest.mark.parametrize(("name", "measured"), MEASURED.items())
def test_the_plan_is_exact_and_the_estimate_a_little_larger(golden: Path, name, measured):
    head, total = measured
    content = (golden / f"{name}.tflite").read_bytes()
    model = read(content)
    operators = nodes(model)

    planned = plan(model, operators)
    estimated = memory(model, operators, content, {"micro": {}}, interpret=False)["micro"]

    assert planned is not None
    assert planned.head_bytes == estimated.head_bytes == head
    assert total <= estimated.arena_bytes <= total + 2500
    assert not estimated.measured


def published(repository: Path) -> list[Path]:
    return sorted((repository / "quantized").glob("*/*.tflite"))


COMPUTED_WRONG = {"lstm_onnx.tflite"}
"""Files that TFLite Micro loads, and computes wrong."""


@needs_interpreter
@pytest.mark.parametrize("name", sorted(COMPUTED_WRONG))
def test_a_refused_file_that_loads_is_computed_wrong(golden, name):
    # Given a loop that cuts out parts of a computed size
    content = (golden / "exported" / name).read_bytes()
    (spec,), _ = signature(read(content))
    blocked = {one.reason for one in fit("micro", nodes(read(content))).values() if not one.mapped}
    assert len(blocked) == 1
    assert "size of the part must be known" in blocked.pop()
    # When it is run on different inputs
    rng = np.random.default_rng(0)
    inputs = [[rng.normal(size=spec.shape).astype(np.float32)] for _ in range(2)]
    first, second = (micro_interpreter.run(content, outputs=1, inputs=[x]) for x in inputs)
    # Then its outputs are the same.
    assert first.loads
    np.testing.assert_array_equal(first.outputs[0][0], second.outputs[0][0])


@needs_interpreter
def test_every_published_file_loads_or_is_named(repository, golden):
    ours = [path for path in sorted(golden.rglob("*.tflite")) if "vela" not in path.parts]
    # What Vela compiled needs the NPU's kernel, which the interpreter for PCs is built without.
    files = [*published(repository), *ours]
    assert len(files) > 70
    loaded = 0
    for path in files:
        content = path.read_bytes()
        model = read(content)
        operators = nodes(model)

        blocked = [one.reason for one in fit("micro", operators).values() if not one.mapped]
        found = ran(content)

        assert found.loads == (not blocked or path.name in COMPUTED_WRONG), (
            path,
            blocked,
            found.message,
        )
        if found.loads and not blocked:
            loaded += 1
            needs = memory(model, operators, content, {"micro": {}}, interpret=False)["micro"]
            assert needs.head_bytes == found.head_bytes, path
            assert found.arena_bytes <= needs.arena_bytes, path
            if needs.arena_bytes > found.arena_bytes * 1.1 + 2500:
                # What planning takes while the model loads is not among what is used afterwards.
                fewer = int((needs.arena_bytes - 2500) / 1.1)
                assert not micro_interpreter.run(content, outputs=0, arena_bytes=fewer).loads, path
            declared = micro_interpreter.run(content, outputs=0, arena_bytes=needs.arena_bytes)
            assert declared.loads, (path, declared.message)
    assert loaded > 40


@needs_interpreter
def test_int8_outputs_equal_the_reference_kernels_to_the_bit(repository, golden):
    from edgekit.tflite.reference import reference_outputs

    files = [*(repository / "quantized").glob("*/int8.tflite"), golden / "runner/fsdd_int8.tflite"]
    compared = 0
    for path in files:
        content = path.read_bytes()
        model = read(content)
        if not all(one.mapped for one in fit("micro", nodes(model)).values()):
            continue
        inputs, outputs = signature(model)
        rng = np.random.default_rng(1)
        samples = [[rng.integers(-128, 128, i.shape, np.int8) for i in inputs] for _ in range(3)]

        found = micro_interpreter.run(content, outputs=len(outputs), inputs=samples)
        expected = reference_outputs(content, samples)

        assert found.loads
        for ours, theirs in zip(found.outputs, expected, strict=True):
            for one, other in zip(ours, theirs, strict=True):
                np.testing.assert_array_equal(one.reshape(other.shape), other)
                compared += other.size
    assert compared > 100


@needs_interpreter
def test_a_stream_is_carried_and_begins_anew(golden):
    from edgekit.tflite.reference import reference_outputs

    content = (golden / "stateful" / "stream.tflite").read_bytes()
    rng = np.random.default_rng(0)
    stream = [[rng.random((1, 8), np.float32)] for _ in range(6)]

    first = micro_interpreter.run(content, outputs=1, inputs=stream)
    again = micro_interpreter.run(content, outputs=1, inputs=stream)
    alone = micro_interpreter.run(content, outputs=1, inputs=stream[-1:])
    expected = reference_outputs(content, stream)

    for (one,), (other,), (reference,) in zip(first.outputs, again.outputs, expected, strict=True):
        np.testing.assert_array_equal(one, other)
        np.testing.assert_allclose(one, reference, atol=1e-6)
    assert not np.allclose(alone.outputs[0][0], first.outputs[-1][0])

"""What is replaced in a float graph as it is read: infinite padding of maxima, and lookups."""

from __future__ import annotations

import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from ai_edge_litert.schema_py_generated import ModelT
from test_clean_up import assert_same, ints, shaped
from test_writer import Step, graph_of, operators_of, ranges_of, run

from edgekit.quantization.observe import NOTHING
from edgekit.quantization.passes.bound_padding import bound_padding
from edgekit.quantization.passes.drop_identities import drop_identities
from edgekit.quantization.passes.gather_words import gather_words
from edgekit.quantization.writer import write_integers
from edgekit.records import Array, Plan
from edgekit.tflite import read, write
from edgekit.tflite.graph import is_constant

PICTURE = np.random.default_rng(5).normal(size=(1, 8, 9, 2)).astype(np.float32)
LOWEST = float(np.finfo(np.float32).min)
EVEN = ints((0, 0), (1, 1), (1, 1), (0, 0))


def pooled(
    amounts: Array = EVEN,
    stride: int = 2,
    taps: int = 3,
    *,
    filling: float = -np.inf,
    before: str = "",
    reader: str = "MAX_POOL_2D",
) -> ModelT:
    """A maximum over windows of a padded picture, as PyTorch's MaxPool2d is converted."""
    options = schema.Pool2DOptionsT(
        padding=1, strideH=stride, strideW=stride, filterHeight=taps, filterWidth=taps
    )
    given = "r" if before else "x"
    steps: list[Step] = [(before, ["x"], "r", None)] if before else []
    steps += [
        ("PADV2", [given, "amounts", "filling"], "p", schema.PadV2OptionsT()),
        (reader, ["p"], "y", options),
    ]
    constants = {"amounts": amounts, "filling": np.array(filling, np.float32)}
    rows, columns = (size + int(a.sum()) for size, a in zip((8, 9), amounts[1:3], strict=True))
    return shaped(
        graph_of(steps, constants, shape=PICTURE.shape),
        p=(1, rows, columns, 2),
        y=(1, (rows - taps) // stride + 1, (columns - taps) // stride + 1, 2),
    )


@pytest.mark.parametrize("filling", [-np.inf, LOWEST])
@pytest.mark.parametrize(
    ("before", "amounts", "stride", "taps", "expected"),
    [
        # The kernel's own padding: a stride of 1, or no row before the first.
        ("", EVEN, 1, 3, ["MAX_POOL_2D"]),
        ("", ints((0, 0), (2, 2), (2, 2), (0, 0)), 1, 5, ["MAX_POOL_2D"]),
        ("", ints((0, 0), (0, 1), (1, 1), (0, 0)), 2, 3, ["MAX_POOL_2D"]),
        # Other windows: zeros behind a ReLU, else what is at the edge.
        ("RELU", EVEN, 2, 3, ["RELU", "PAD", "MAX_POOL_2D"]),
        ("LOGISTIC", EVEN, 2, 3, ["LOGISTIC", "PAD", "MAX_POOL_2D"]),
        ("", EVEN, 2, 3, ["MIRROR_PAD", "MAX_POOL_2D"]),
        ("HARD_SWISH", EVEN, 2, 3, ["HARD_SWISH", "MIRROR_PAD", "MAX_POOL_2D"]),
        ("", ints((0, 0), (2, 2), (2, 2), (0, 0)), 3, 4, ["MIRROR_PAD", "MAX_POOL_2D"]),
        ("", ints((0, 0), (1, 1), (1, 1), (0, 0)), 2, 2, ["MIRROR_PAD", "MAX_POOL_2D"]),
    ],
)
def test_infinite_padding_of_a_maximum_is_bounded(
    before: str, amounts: Array, stride: int, taps: int, expected: list[str], *, filling: float
) -> None:
    # Given a maximum that is padded with minus infinity
    model = pooled(amounts, stride, taps, filling=filling, before=before)
    # Then what replaces it computes the same, and no infinity is left in the file.
    changed = bound_padding(model)
    assert operators_of(changed) == expected
    assert "PADV2" in operators_of(model)
    assert_same(model, changed, PICTURE)
    assert_same(model, changed, -100 - np.abs(PICTURE))
    for tensor in changed.subgraphs[0].tensors:
        assert not (is_constant(changed, tensor) and tensor.name == "filling")


@pytest.mark.parametrize(
    "model",
    [
        pooled(filling=-1.0),
        pooled(reader="AVERAGE_POOL_2D"),
        pooled(ints((0, 0), (2, 2), (2, 2), (0, 0)), 2, 3),  # windows of nothing but padding
        pooled(ints((0, 0), (1, 1), (1, 1), (1, 1))),
    ],
    ids=["finite", "average", "wide", "channels"],
)
def test_other_padding_is_left(model: ModelT) -> None:
    assert bound_padding(model) is model


def test_padding_that_is_an_output_is_left() -> None:
    model = pooled()
    padded = next(i for i, t in enumerate(model.subgraphs[0].tensors) if t.name == "p")
    model.subgraphs[0].outputs = np.append(model.subgraphs[0].outputs, padded).astype(np.int32)
    assert bound_padding(model) is model


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
@pytest.mark.parametrize("before", ["TANH", "RELU"])
def test_a_padded_maximum_is_written_in_integers(before: str, mode: str) -> None:
    model = bound_padding(pooled(before=before))
    plan = Plan(variant=mode, mode=mode, input_type="float32", output_type="float32")
    written = write_integers(model, ranges_of(model, -4.0, 4.0), plan)
    assert not written.reasons
    step = {"int8": 8 / 255, "int16x8": 8 / 65535}[mode]
    expected = run(write(model), PICTURE)[0]
    np.testing.assert_allclose(run(write(written.model), PICTURE)[0], expected, atol=step)


def words(*, stored: bool = True) -> ModelT:
    """A sum with rows of a table, which is stored or computed."""
    table = np.random.default_rng(6).normal(size=(7, 4)).astype(np.float32)
    steps: list[Step] = [] if stored else [("ABS", ["other"], "table", None)]
    steps += [
        ("EMBEDDING_LOOKUP", ["ids", "table"], "found", None),
        ("ADD", ["x", "found"], "y", schema.AddOptionsT()),
    ]
    model = graph_of(
        steps, {"ids": ints(5, 0, 3), "table" if stored else "other": table}, shape=(3, 4)
    )
    return model if stored else shaped(model, table=(7, 4))


@pytest.mark.parametrize("mode", ["int8", "int16x8"])
def test_a_lookup_becomes_a_gather_and_integers(mode: str) -> None:
    # Given a lookup as litert-torch writes it
    model, x = words(), np.random.default_rng(7).normal(size=(3, 4)).astype(np.float32)
    changed = gather_words(model)
    # Then a GATHER computes the same, and in integers.
    assert operators_of(changed) == ["GATHER", "ADD"]
    assert operators_of(model) == ["EMBEDDING_LOOKUP", "ADD"]
    assert_same(model, changed, x)
    plan = Plan(variant=mode, mode=mode, input_type="float32", output_type="float32")
    written = write_integers(changed, ranges_of(changed, -4.0, 4.0), plan)
    assert not written.reasons
    found = run(write(written.model), x)[0]
    np.testing.assert_allclose(found, run(write(model), x)[0], atol=0.1)


def test_a_lookup_of_a_computed_table_is_left() -> None:
    model = read(write(words(stored=False)))
    assert gather_words(model) is model


def test_the_number_of_samples_may_be_free() -> None:
    # Given a graph of onnx2tf, which leaves the number of samples open
    model = pooled(before="RELU")
    for tensor in model.subgraphs[0].tensors:
        if len(tensor.shape) == 4 and tensor.name != "amounts":
            tensor.shapeSignature = np.array([-1, *tensor.shape[1:]], np.int32)
    # Then its padding is bounded as that of any other, unless rows or columns are free, too.
    assert operators_of(bound_padding(read(write(model)))) == ["RELU", "PAD", "MAX_POOL_2D"]
    for tensor in model.subgraphs[0].tensors:
        if tensor.shapeSignature is not None:
            tensor.shapeSignature = np.array([-1, -1, *tensor.shape[2:]], np.int32)
    model = read(write(model))
    assert bound_padding(model) is model


@pytest.mark.parametrize("free", [1, 2])
def test_reshapes_that_keep_the_shape_are_dropped_whatever_the_number_of_samples(free: int) -> None:
    steps: list[Step] = [
        ("RESHAPE", ["x", "to"], "same", schema.ReshapeOptionsT(newShape=[-1, 4])),
        ("RELU", ["same"], "y", None),
    ]
    model = graph_of(steps, {"to": ints(-1, 4)})
    for tensor in model.subgraphs[0].tensors:
        if tensor.name != "to":
            tensor.shapeSignature = ints(-1, *(4, -1)[free - 1 : free])
    model = read(write(model))
    found = operators_of(drop_identities(model, NOTHING, Plan(variant="float", mode="float32")))
    assert found == (["RELU"] if free == 1 else ["RESHAPE", "RELU"])

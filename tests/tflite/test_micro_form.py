"""Files written in the form that TFLite Micro loads: it loads them, and they compute the same."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pytest
from micro_files import IMAGE, OPERATORS, T, integers, operator_file

from edgekit.cli import run as run_command
from edgekit.errors import ModelError
from edgekit.targets import fit
from edgekit.tflite import micro_interpreter, read, write
from edgekit.tflite.c_sources import example_inputs
from edgekit.tflite.micro_form import micro_form
from edgekit.tflite.nodes import nodes
from edgekit.tflite.reference import reference_outputs
from edgekit.tflite.signature import signature


def dense_int4() -> bytes:
    return operator_file(
        "FULLY_CONNECTED",
        [T((1, 9), "int8"), T((5, 9), "int4", 1, 5), None],
        [T((1, 5), "int8", scale=3.0)],
        "FullyConnectedOptions",
        version=12,
    )


def tile(*repeats: int, dtype: str = "int8") -> bytes:
    result = tuple(size * count for size, count in zip(IMAGE, repeats, strict=True))
    return operator_file(
        "TILE", [T(IMAGE, dtype), integers(*repeats)], [T(result, dtype)], "TileOptions", version=2
    )


def relu6(scale: float, zero_point: int, dtype: str = "int8") -> bytes:
    given = T((1, 256), dtype, scale=0.03, zero_point=-7 if dtype == "int8" else 0)
    made = T((1, 256), dtype, scale=scale, zero_point=zero_point)
    return operator_file("RELU6", [given], [made], version=2)


CASES = {
    "relu6 to its ends": relu6(6 / 255, -128),
    "relu6 of small values": relu6(0.01, -128),
    "relu6 of a wide scale": relu6(0.05, 3),
    "relu6 int16": relu6(6 / 32767, 0, "int16"),
    "dense int4": dense_int4(),
    "tile": tile(1, 2, 3, 1),
    "tile many": tile(1, 1, 1, 40),
    "tile float": tile(1, 3, 1, 1, dtype="float32"),
    "select": OPERATORS["SELECT"]("float32"),
}


@pytest.mark.parametrize("name", CASES)
def test_what_did_not_load_loads_and_computes_the_same(name):
    before = CASES[name]
    assert not all(one.mapped for one in fit("micro", nodes(read(before))).values())

    after = write(micro_form(read(before)))

    model = read(after)
    assert all(one.mapped for one in fit("micro", nodes(model)).values())
    inputs, outputs = signature(model)
    sample = example_inputs([(spec.shape, spec.dtype) for spec in inputs])
    (expected,), (found,) = (reference_outputs(content, [sample]) for content in (before, after))
    for one, other in zip(found, expected, strict=True):
        np.testing.assert_array_equal(one, other)
    if micro_interpreter.available():
        micro = micro_interpreter.run(after, outputs=len(outputs), inputs=[sample])
        assert micro.loads, micro.message
        np.testing.assert_array_equal(micro.outputs[0][0].reshape(expected[0].shape), expected[0])


@pytest.mark.skipif(not micro_interpreter.available(), reason="tflite-micro is not installed")
@pytest.mark.parametrize(
    ("scale", "zero_point", "names"),
    [
        (6 / 255, -128, ["QUANTIZE"]),
        (0.01, -128, ["QUANTIZE"]),
        (0.0237, -128, ["QUANTIZE", "RELU6"]),
        (0.05, 3, ["QUANTIZE", "RELU6"]),
        (0.03, -7, ["RELU6"]),
    ],
)
def test_a_rectifier_rescales_every_code(scale: float, zero_point: int, names: list[str]) -> None:
    # Given an int8 RELU6 to another scale, and all codes there are
    before = relu6(scale, zero_point)
    codes = np.arange(-128, 128).astype(np.int8)[None]
    # When it is written for TFLite Micro, as QUANTIZE alone only where that clips as much
    after = write(micro_form(read(before)))
    assert [node.name for node in nodes(read(after))] == names
    # Then TFLite Micro and LiteRT compute of it what LiteRT computed before.
    (expected,), (found,) = (reference_outputs(content, [[codes]]) for content in (before, after))
    micro = micro_interpreter.run(after, outputs=1, inputs=[[codes]])
    np.testing.assert_array_equal(found[0], expected[0])
    np.testing.assert_array_equal(micro.outputs[0][0], expected[0])


@pytest.mark.parametrize(
    "content",
    [tile(1, 1, 13, 1), tile(1, 64, 64, 2), OPERATORS["SELECT_V2"]("int8")],
    ids=["13 copies", "too many", "nothing to do"],
)
def test_what_has_no_such_form_remains(content):
    names = [node.name for node in nodes(read(content))]

    assert [node.name for node in nodes(micro_form(read(content)))] == names


def test_a_convolution_keeps_its_int4_weights():
    content = operator_file(
        "CONV_2D",
        [T(IMAGE, "int8"), T((3, 1, 1, 8), "int4", 1, 3)],
        [T((1, 4, 4, 3), "int8")],
        "Conv2DOptions",
        strideH=1,
        strideW=1,
    )

    assert nodes(micro_form(read(content)))[0].inputs[1].dtype == "int4"


def test_the_source_is_not_changed():
    model = read(CASES["dense int4"])

    micro_form(model)

    assert write(model) == write(read(CASES["dense int4"]))


def test_damaged_weights_are_refused():
    model = read(dense_int4())
    weights = model.subgraphs[0].tensors[1]
    model.buffers[weights.buffer].data = model.buffers[weights.buffer].data[:-1]

    with pytest.raises(ModelError, match="does not hold what its shape"):
        micro_form(model)


def test_following_the_hint_makes_a_small_file_load(repository, tmp_path, capsys):
    source = repository / "quantized" / "fashion-mnist-small" / "small.tflite"
    target = tmp_path / "micro.tflite"
    assert run_command(["inspect", str(source), "--target", "micro"]) == 0
    told = capsys.readouterr().out
    assert "does not" in told
    assert "expand" in told

    assert run_command(["expand", str(source), "--target", "micro", "-o", str(target)]) == 0

    assert run_command(["inspect", str(target), "--target", "micro"]) == 0
    assert "mem   micro: loads: arena" in capsys.readouterr().out
    # Less than all-int8 of the same model: only the dense layer is wider.
    plain = len(write(read(source)))
    assert plain < target.stat().st_size < plain + 1000


def test_a_sparse_file_becomes_dense(golden, tmp_path):
    source = golden / "inspect" / "sparse_float32.tflite"
    target = tmp_path / "dense.tflite"

    assert run_command(["expand", str(source), "--target", "micro", "-o", str(target)]) == 0

    assert all(one.mapped for one in fit("micro", nodes(read(target))).values())


def test_what_no_form_makes_load_is_refused_with_a_hint_that_works(repository, tmp_path, capsys):
    # Given int4 weights beside float activations
    folder = repository / "quantized" / "turbofan"
    source = Path(shutil.copy(folder / "int4.tflite", tmp_path / "int4.tflite"))
    target = tmp_path / "micro.tflite"

    assert run_command(["expand", str(source), "--target", "micro", "-o", str(target)]) == 5

    said = capsys.readouterr().err
    assert f"{source} has no form that micro loads." in said
    assert "Integer weights need integer activations" in said
    assert sorted(tmp_path.iterdir()) == [source]
    # When the hint is followed
    x = np.random.default_rng(0).standard_normal((8, 30, 14)).astype(np.float32)
    np.savez(tmp_path / "data.npz", x_train=x, x_test=x)
    named = {
        "MODEL": str(folder / "float32.tflite"),
        "DATA": str(tmp_path / "data.npz"),
        "DIR": str(tmp_path / "out"),
    }
    words = said.partition("edgekit quantize ")[2].split()
    assert run_command(["quantize", *(named.get(w, w) for w in words), "--no-bench", "-q"]) == 0
    # Then what it makes loads.
    made = tmp_path / "out" / "int8.tflite"
    assert all(one.mapped for one in fit("micro", nodes(read(made))).values())


def test_other_targets_have_no_form_of_their_own(golden, tmp_path, capsys):
    words = ["expand", str(golden / "inspect" / "speech_int8.tflite"), "-o", str(tmp_path / "x")]

    assert run_command([*words, "--target", "coral"]) == 2

    assert "name a microcontroller: micro" in capsys.readouterr().err

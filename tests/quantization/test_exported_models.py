"""Float files of litert-torch and onnx2tf: PyTorch's outputs, in every mode.

`golden/make_exported_models.py` made them, with PyTorch's outputs on 16 samples.
"""

from __future__ import annotations

import gzip
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from ai_edge_litert.interpreter import Interpreter
from array_samples import samples_of
from quantize_programs import WITHOUT_TENSORFLOW

from edgekit import api
from edgekit.data import bind, open_data
from edgekit.errors import DataError
from edgekit.modes import DEFAULT_MODES, MODES
from edgekit.quantization import Calibration, FloatGraph, make, read_float_graph
from edgekit.recipe import default_plan
from edgekit.records import Array, Dataset, Plan
from edgekit.tflite import read, signature
from edgekit.tflite.nodes import nodes

NAMES = ("attention", "dense", "gru", "lstm", "mobile", "residual", "words")
FILES = [f"{name}_{converter}" for name in NAMES for converter in ("torch", "onnx")]
# The nearest to PyTorch that a mode has to come, in dB. Four bits of these few weights are coarse.
NEAR = {"float32": 100.0, "float16": 55.0, "dynamic": 30.0}
NEAR |= {"int8": 24.0, "int16x8": 33.0, "int4": 15.0}
# Without int4: too few weights to make the file smaller.
SMALL = frozenset({"gru_torch", "gru_onnx", "lstm_torch", "lstm_onnx"})
CONVOLUTIONS = frozenset({"CONV_2D", "DEPTHWISE_CONV_2D"})
# What int8 leaves in float: a DEQUANTIZE of what the float output is computed from, and that.
LEFT = frozenset({"DEQUANTIZE", "FULLY_CONNECTED"})


@dataclass(frozen=True)
class Exported:
    """A file, inputs in its layout, and PyTorch's outputs."""

    path: Path
    graph: FloatGraph
    x: Array
    y: Array
    calibration: Calibration

    def made(self, mode: str) -> bytes:
        plan: Plan = default_plan(mode)
        found = make(
            plan, self.graph, observe=self.calibration.observe, calibration=self.calibration
        )
        return found.data


@pytest.fixture(scope="module", params=FILES)
def exported(request, golden: Path) -> Exported:
    path = golden / "exported" / f"{request.param}.tflite"
    kept = np.load(path.with_name(f"{request.param.split('_', maxsplit=1)[0]}.npz"))
    graph = read_float_graph(path)
    (given,) = signature(graph.model)[0]
    x = in_layout(kept["x"], given.shape[1:]).astype(given.dtype)
    return Exported(path, graph, x, kept["y"], Calibration(samples_of({given.name: x})))


def in_layout(x: Array, shape: tuple[int, ...]) -> Array:
    """Return samples with channels last, where the file has them there."""
    return x if x.shape[1:] == shape else np.moveaxis(x, 1, -1)


def outputs(data: bytes, x: Array) -> Array:
    """Return the outputs of a file, in real numbers."""
    interpreter = Interpreter(model_content=data, num_threads=1)
    interpreter.allocate_tensors()
    (given,), (made,) = interpreter.get_input_details(), interpreter.get_output_details()
    found = []
    for row in x:
        codes = row
        if given["dtype"] != row.dtype:
            scale, zero = given["quantization"]
            ends = np.iinfo(given["dtype"])
            codes = np.clip(np.round(row / scale) + zero, ends.min, ends.max)
        interpreter.set_tensor(given["index"], codes[None].astype(given["dtype"]))
        interpreter.invoke()
        values = interpreter.get_tensor(made["index"])[0].astype(np.float32)
        scale, zero = made["quantization"]
        found.append(values if made["dtype"] == np.float32 else (values - zero) * scale)
    return np.array(found)


def decibels(expected: Array, found: Array) -> float:
    noise = float(np.square(expected - found).sum())
    return 10 * float(np.log10(np.square(expected).sum() / max(noise, 1e-30)))


def test_every_mode_is_near_the_framework(exported: Exported) -> None:
    for mode in (*DEFAULT_MODES, "int16x8"):
        if mode == "int4" and exported.path.stem in SMALL:
            continue
        data = exported.made(mode)
        near = decibels(exported.y, outputs(data, exported.x))
        assert near >= NEAR[mode], f"{exported.path.name} in {mode}: {near:.1f} dB"


def test_integers_all_through_and_names_kept(exported: Exported) -> None:
    # Given an int8 file
    model = read(exported.made("int8"))
    operators = nodes(model)
    # Then nothing before the last layer is float, and it has the names of the float file.
    floats = {n.name for n in operators if any(t.dtype == "float32" for t in n.outputs)}
    assert floats <= LEFT
    assert "PADV2" not in {n.name for n in operators}
    wanted, found = signature(exported.graph.model), signature(model)
    assert [[spec.name for spec in side] for side in found] == [
        [spec.name for spec in side] for side in wanted
    ]
    if exported.path.stem.endswith("torch"):
        assert [spec.name for side in found for spec in side] == ["args_0", "output_0"]
    layers = [tensor.name for node in operators if not node.graph for tensor in node.outputs]
    assert len(set(layers)) == len(layers)
    known = {part for t in exported.graph.model.subgraphs[0].tensors for part in t.name.split(";")}
    assert all(n.outputs[0].name in known for n in operators if n.name in CONVOLUTIONS)


def test_normalization_is_folded_by_both_converters(golden: Path) -> None:
    for converter in ("torch", "onnx"):
        path = golden / "exported" / f"dense_{converter}.tflite"
        kept = np.load(golden / "exported" / "dense.npz")
        graph = read_float_graph(path)
        assert {n.name for n in nodes(graph.model)} >= {"MUL", "ADD"}
        calibration = Calibration(samples_of({signature(graph.model)[0][0].name: kept["x"]}))
        plan = default_plan("int8")
        made = make(plan, graph, observe=calibration.observe, calibration=calibration)
        assert [n.name for n in nodes(made.model) if n.name != "DEQUANTIZE"] == [
            "FULLY_CONNECTED"
        ] * 3


def test_inspect_reads_the_file(exported: Exported) -> None:
    found = api.inspect(exported.path)
    assert [spec.shape[1:] for spec in found.inputs] == [exported.x.shape[1:]]


def test_the_command_makes_every_mode_without_tensorflow(golden: Path, tmp_path: Path) -> None:
    # Given numbers of words without targets, in int64
    path = golden / "exported" / "words_onnx.tflite"
    x = np.load(golden / "exported" / "words.npz")["x"]
    np.savez(tmp_path / "data.npz", x_train=x, x_test=x[:4])
    # When all modes are asked for, where TensorFlow cannot be started
    arguments = ["quantize", str(path), "--data", "data.npz", "--output", "out"]
    done = subprocess.run(
        [
            sys.executable,
            "-c",
            WITHOUT_TENSORFLOW,
            *arguments,
            "--all",
            "--no-bench",
            "--no-recover",
            "-q",
        ],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    # Then each is there.
    assert done.returncode == 0, done.stderr
    assert {file.stem for file in (tmp_path / "out").glob("*.tflite")} >= {*MODES} - {"mixed"}


@pytest.mark.parametrize("converter", ["torch", "onnx"])
def test_a_trained_classifier_keeps_its_accuracy(
    converter: str, golden: Path, shared_data: Path
) -> None:
    # Given a classifier of Fashion-MNIST that was trained in PyTorch, calibrated on 200 pictures
    graph = read_float_graph(golden / "exported" / f"mobile_{converter}.tflite")
    (given,) = signature(graph.model)[0]
    x, _ = fashion(shared_data, "train", 200)
    calibration = Calibration(samples_of({given.name: in_layout(x, given.shape[1:])}))
    made = make(default_plan("int8"), graph, observe=calibration.observe, calibration=calibration)
    # Then int8 is right as often, to one point.
    x, labels = fashion(shared_data, "t10k", 3000)
    x = in_layout(x, given.shape[1:])
    accuracy, reference = (
        float((outputs(data, x).argmax(1) == labels).mean()) for data in (made.data, graph.data)
    )
    assert reference >= 0.85
    assert accuracy >= reference - 0.01


def fashion(folder: Path, part: str, n: int) -> tuple[Array, Array]:
    """Return pictures `[n, 1, 28, 28]` of 0 to 1, and labels."""
    place = folder / "fashion_mnist"
    images = gzip.decompress((place / f"{part}-images-idx3-ubyte.gz").read_bytes())[16:]
    labels = gzip.decompress((place / f"{part}-labels-idx1-ubyte.gz").read_bytes())[8:]
    pixels = np.frombuffer(images, np.uint8).reshape(-1, 1, 28, 28)[:n]
    return pixels.astype(np.float32) / 255, np.frombuffer(labels, np.uint8)[:n]


def test_pictures_go_channels_first_not_reshaped(golden: Path, tmp_path: Path) -> None:
    # Given a file with PyTorch's layout, and pictures with channels last
    path = golden / "exported" / "residual_torch.tflite"
    first = np.load(golden / "exported" / "residual.npz")["x"]
    last = np.moveaxis(first, 1, -1)
    specs = signature(read(path))
    # Then they are refused, with what to do, and that does it: a reshape would scramble them.
    with pytest.raises(DataError) as refused:
        bind(arrays(last, tmp_path), *specs)
    assert "numpy.moveaxis(x, -1, 1)" in str(refused.value.hint)
    moved = np.moveaxis(last, -1, 1)
    assert bind(arrays(moved, tmp_path), *specs).test.n == len(first)


def arrays(x: Array, folder: Path) -> Dataset:
    np.savez(folder / "data.npz", x_train=x, x_test=x)
    return open_data(str(folder / "data.npz"))

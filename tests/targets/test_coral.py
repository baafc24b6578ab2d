"""The Edge TPU prediction, compared with Google's compiler, and rule by rule."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edgekit.quantization import Observed, make, read_float_graph
from edgekit.records import Plan
from edgekit.targets import coral
from edgekit.targets.node import Node, Tensor
from edgekit.tflite import read
from edgekit.tflite.nodes import nodes
from edgekit.tflite.ranges import activations

PAIRS = [
    "bodypix_mobilenet_v1_075_512_512_16_quant_decoder",
    "deeplabv3_mnv2_dm05_pascal_quant",
    "keras_lstm_mnist_ptq",
    "mobilenet_edgetpu_0.75_224_post_training_quant",
    "mobilenet_v1_0.25_128_quant",
    "mobilenet_v1_0.5_160_quant",
    "mobilenet_v2_1.0_224_quant",
    "movenet_single_pose_lightning_ptq",
    "posenet_mobilenet_v1_075_353_481_16_quant_decoder",
    "split_concat",
]


@pytest.mark.data
@pytest.mark.parametrize("name", PAIRS)
def test_the_prediction_is_what_the_compiler_did(shared_data: Path, name: str) -> None:
    # given a model before and after Google's compiler; what an ordinary operator still makes
    # in the compiled file stayed on the CPU
    original = nodes(read(shared_data / "coral_pairs" / f"{name}.tflite"))
    compiled = nodes(read(shared_data / "coral_pairs" / f"{name}_edgetpu.tflite"))
    stayed = {t.name for node in compiled if node.name != coral.COMPILED for t in node.outputs}
    mapped = {n.index for n in original if not any(t.name in stayed for t in n.outputs)}
    assert mapped

    answers = coral.fit(original)

    assert {index for index, answer in answers.items() if answer.mapped} == mapped
    assert all(answer.mapped == (answer.reason is None) for answer in answers.values())


@pytest.mark.data
def test_a_compiled_model_is_recognised(shared_data: Path) -> None:
    path = shared_data / "coral_pairs" / "deeplabv3_mnv2_dm05_pascal_quant_edgetpu.tflite"

    answers = list(coral.fit(nodes(read(path))).values())

    assert answers[0].mapped
    assert answers[0].reason == "Compiled by Google's Edge TPU compiler."
    assert not any(answer.mapped for answer in answers[1:])
    assert {a.reason for a in answers[1:]} == {"Google's Edge TPU compiler left it on the CPU."}


def test_nothing_of_a_float16_model_is_mapped(golden: Path) -> None:
    answers = coral.fit(nodes(read(golden / "inspect" / "speech_float16.tflite")))

    assert {a.reason for a in answers.values()} == {"It is not fully quantized; use --mode int8."}
    assert not any(answer.mapped for answer in answers.values())


def test_all_of_a_small_int8_model_is_mapped(golden: Path) -> None:
    answers = coral.fit(nodes(read(golden / "inspect" / "speech_int8.tflite")))

    assert all(answer.mapped for answer in answers.values())


@pytest.mark.parametrize("name", ["bccd", "fashion-mnist", "spoken-digits", "turbofan"])
def test_all_of_what_is_written_in_int8_is_mapped(repository: Path, name: str) -> None:
    # given a float graph, in int8 with ranges that do not matter here
    data = (repository / "quantized" / name / "float32.tflite").read_bytes()
    names = [read(data).subgraphs[0].tensors[i].name for i in activations(read(data))]
    ranges = Observed(low=dict.fromkeys(names, -4.0), high=dict.fromkeys(names, 4.0), n=1)
    plan = Plan(variant="int8", mode="int8", input_type="int8", output_type="int8")

    made = make(plan, read_float_graph(data), observe=lambda _: ranges)

    assert {answer.reason for answer in coral.fit(nodes(made.model)).values()} == {None}


def tensor(
    index: int, *shape: int, dtype: str = "int8", values: object = None, **fields: object
) -> Tensor:
    data = None if values is None else np.asarray(values, dtype).reshape(-1).view(np.uint8)
    return Tensor(index=index, name=f"t{index}", shape=shape, dtype=dtype, data=data, **fields)


class Options:
    """Options by the schema's names."""

    def __init__(self, **fields: object) -> None:
        self.__dict__.update(fields)


IMAGE = tensor(0, 1, 8, 8, 4)
SMALL = tensor(9, 1, 8, 8, 4)
KERNEL = tensor(1, 4, 3, 3, 4, values=np.ones(144))
ROW = tensor(0, 1, 100)


def ints(*values: int, shape: tuple[int, ...] | None = None) -> Tensor:
    return tensor(5, *(shape or (len(values),)), dtype="int32", values=values)


def node(name: str, *inputs: Tensor | None, output: Tensor = SMALL, **options: object) -> Node:
    return Node(index=0, name=name, inputs=inputs, outputs=(output,), options=Options(**options))


CONV = node("CONV_2D", IMAGE, KERNEL, ints(0, 0, 0, 0), dilationWFactor=2, dilationHFactor=2)

# operator that keeps the rule, operator that breaks it, words of the rule
CASES = [
    (node("ADD", IMAGE, IMAGE), node("ADD", IMAGE, IMAGE, output=tensor(9, 1, 8, dtype="int16")),
     "int8 or uint8"),
    (node("ADD", IMAGE, IMAGE), node("ADD", replace(IMAGE, dynamic=True), IMAGE), "not known"),
    (node("ADD", IMAGE, IMAGE), node("ADD", tensor(0, 2, 8, 8, 4), IMAGE), "batch 1"),
    (node("ADD", IMAGE, IMAGE), replace(node("ADD", IMAGE, IMAGE), graph=1), "loop"),
    (node("ADD", IMAGE, IMAGE), node("ARG_MAX", IMAGE, ints(1)), "no such operator"),
    (node("QUANTIZE", IMAGE), node("QUANTIZE", replace(IMAGE, dtype="float32")), "float"),
    (node("ADD", IMAGE, IMAGE), node("DEQUANTIZE", IMAGE, output=replace(SMALL, dtype="float32")),
     "int8 inputs and outputs"),
    (CONV, node("CONV_2D", IMAGE, KERNEL, dilationWFactor=2, dilationHFactor=1), "Dilation"),
    (CONV, node("CONV_2D", IMAGE, replace(KERNEL, data=None)), "constants"),
    (node("AVERAGE_POOL_2D", IMAGE, fusedActivationFunction=0),
     node("AVERAGE_POOL_2D", IMAGE, fusedActivationFunction=1), "activation"),
    (node("CONCATENATION", IMAGE, replace(KERNEL, data=np.zeros(144, np.uint8))),
     node("CONCATENATION", IMAGE, KERNEL), "zeros"),
    (node("CONCATENATION", IMAGE, IMAGE, IMAGE),
     node("CONCATENATION", IMAGE, IMAGE, replace(KERNEL, data=np.zeros(144, np.uint8))), "zeros"),
    (node("FULLY_CONNECTED", ROW, KERNEL, None, weightsFormat=0),
     node("FULLY_CONNECTED", ROW, KERNEL, None, weightsFormat=1), "format"),
    (node("MEAN", IMAGE, ints(1, 2)), node("MEAN", IMAGE, ints(-4)), "batch"),
    (node("SUM", IMAGE, ints(3)), node("SUM", IMAGE, replace(ints(3), data=None)), "Axes"),
    (node("SPLIT", ints(3, shape=()), IMAGE), node("SPLIT", ints(0, shape=()), IMAGE), "split"),
    (node("PACK", IMAGE, IMAGE, axis=1), node("PACK", IMAGE, IMAGE, axis=0), "pack"),
    (node("PAD", IMAGE, ints(0, 0, 1, 1, 1, 1, 0, 0, shape=(4, 2))),
     node("PAD", IMAGE, ints(1, 0, 1, 1, 1, 1, 0, 0, shape=(4, 2))), "pad"),
    (node("PRELU", IMAGE, tensor(1, 1, 1, 4, values=np.ones(4))),
     node("PRELU", IMAGE, tensor(1, 8, 8, 4, values=np.ones(256))), "shared_axes"),
    (node("SOFTMAX", tensor(0, 1, 16_000)), node("SOFTMAX", tensor(0, 1, 16_001)), "16,000"),
    (node("SOFTMAX", ROW), node("SOFTMAX", tensor(0, 2, 10)), "one row"),
    (node("STRIDED_SLICE", IMAGE, ints(0, 0), ints(1, 1), ints(1, 1)),
     node("STRIDED_SLICE", IMAGE, ints(0, 0), ints(1, 1), ints(1, 2)), "strides"),
    (node("STRIDED_SLICE", IMAGE, ints(0, 0), ints(1, 1), ints(1, 1)),
     node("STRIDED_SLICE", IMAGE, ints(0, 0), ints(1, 1), ints(1, 1), newAxisMask=1), "new axis"),
    (node("RESIZE_BILINEAR", IMAGE, ints(16, 16), output=tensor(9, 1, 16, 16, 4)),
     node("RESIZE_BILINEAR", tensor(0, 1, 1, 1, 4), ints(16, 16), output=tensor(9, 1, 16, 16, 4)),
     "1x1"),
    (node("RESIZE_NEAREST_NEIGHBOR", IMAGE, ints(64, 64), output=tensor(9, 1, 64, 64, 4)),
     node("RESIZE_NEAREST_NEIGHBOR", IMAGE, ints(65, 65), output=tensor(9, 1, 65, 65, 4)),
     "8 times"),
    (node("TRANSPOSE_CONV", ints(1, 8, 8, 4), KERNEL, IMAGE),
     node("TRANSPOSE_CONV", ints(1, 8, 8, 4), replace(KERNEL, data=None), IMAGE), "Weights"),
]  # fmt: skip


@pytest.mark.parametrize(("keeps", "breaks", "words"), CASES, ids=lambda v: getattr(v, "name", v))
def test_each_rule_tells_its_two_sides_apart(keeps: Node, breaks: Node, words: str) -> None:
    assert coral.broken_rule(keeps) is None
    assert words in (coral.broken_rule(breaks) or "")


def test_every_rule_is_tried_above() -> None:
    rules = {rule for rules in coral.OPERATORS.values() for rule in rules}
    broken = {coral.broken_rule(breaks) for _, breaks, _ in CASES}

    untried = {rule.__name__ for rule in rules if (rule.__doc__ or "").strip() not in broken}

    assert untried == set()


def test_one_partition_what_follows_an_unsupported_operator_stays() -> None:
    # given t0 -> ADD -> t1 -> GATHER -> t2 -> ADD -> t3, and t1 -> MUL -> t4 beside it
    chain = [
        Node(index=0, name="ADD", inputs=(tensor(0, 1, 4),), outputs=(tensor(1, 1, 4),)),
        Node(index=1, name="GATHER", inputs=(tensor(1, 1, 4),), outputs=(tensor(2, 1, 4),)),
        Node(index=2, name="ADD", inputs=(tensor(2, 1, 4),), outputs=(tensor(3, 1, 4),)),
        Node(index=3, name="MUL", inputs=(tensor(1, 1, 4),), outputs=(tensor(4, 1, 4),)),
    ]

    answers = coral.fit(chain)

    assert [answers[index].mapped for index in range(4)] == [True, False, False, True]
    assert "depends on GATHER (operator 1)" in (answers[2].reason or "")


def test_what_comes_before_the_partition_does_not_end_it() -> None:
    # given a CAST of the input, on which all depends, as in Google's own MoveNet
    chain = [
        Node(index=0, name="CAST", inputs=(tensor(0, 1, 4),), outputs=(tensor(1, 1, 4),)),
        Node(index=1, name="ADD", inputs=(tensor(1, 1, 4),), outputs=(tensor(2, 1, 4),)),
    ]

    answers = coral.fit(chain)

    assert [answers[index].mapped for index in range(2)] == [False, True]


def test_the_reference_names_every_operator_and_rule() -> None:
    page = coral.reference()

    for name, rules in coral.OPERATORS.items():
        row = next(line for line in page.splitlines() if line.startswith(f"| {name} |"))
        assert all((rule.__doc__ or "").strip() in row for rule in rules)
    for rule in coral.EVERY_OPERATOR:
        assert f"- {(rule.__doc__ or '').strip()}" in page

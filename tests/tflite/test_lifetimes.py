"""Memory over time, against a count by hand, a count by another way, and hostile graphs."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from edgekit.targets.node import Node, Tensor
from edgekit.tflite import read
from edgekit.tflite.inspect import inspect
from edgekit.tflite.lifetimes import alive_bytes, ends_of
from edgekit.tflite.nodes import nodes


def tensor(index: int, elements: int = 1, dtype: str = "int8", **more: object) -> Tensor:
    return Tensor(index=index, name=f"t{index}", shape=(1, elements), dtype=dtype, **more)


def ends(inputs: set[int], outputs: set[int]) -> tuple[frozenset[int], frozenset[int]]:
    return frozenset(inputs), frozenset(outputs)


def test_a_branch_stays_until_it_is_joined() -> None:
    # given x -> a -> b, and x + b
    x, a, b, y = tensor(0, 10), tensor(1, 40), tensor(2, 10), tensor(3, 10)
    graph = [
        Node(index=0, name="CONV_2D", inputs=(x,), outputs=(a,)),
        Node(index=1, name="CONV_2D", inputs=(a,), outputs=(b,)),
        Node(index=2, name="ADD", inputs=(x, b), outputs=(y,)),
    ]

    assert alive_bytes(graph, [ends({0}, {3})]) == [50, 60, 30]


def test_sizes_are_those_of_the_types_and_constants_are_left_out() -> None:
    weights = tensor(1, 1000, data=np.zeros(1000, np.uint8))
    x, y, z = tensor(0, 3, "float32"), tensor(2, 3, "int4"), tensor(3, 1, "int64")
    state = tensor(4, 5, "int16", variable=True)
    graph = [
        Node(index=0, name="CONV_2D", inputs=(x, weights, None), outputs=(y,)),
        Node(index=1, name="SVDF", inputs=(y, state), outputs=(z,)),
    ]

    # 3 int4 are 2 bytes; the state is there before the operator that reads it
    assert alive_bytes(graph, [ends({0}, {3})]) == [12 + 2 + 10, 2 + 8 + 10]


def test_a_loop_needs_what_its_body_needs_most() -> None:
    class Options:
        condSubgraphIndex, bodySubgraphIndex = 1, 2  # noqa: N815  the schema's names

    x, y = tensor(0, 4), tensor(1, 4)
    inner, large, small = tensor(0, 4), tensor(1, 100), tensor(2, 4)
    graph = [
        Node(index=0, name="WHILE", inputs=(x,), outputs=(y,), options=Options()),
        Node(index=1, name="LESS", graph=1, inputs=(inner,), outputs=(small,)),
        Node(index=2, name="TILE", graph=2, inputs=(inner,), outputs=(large,)),
        Node(index=3, name="SUM", graph=2, inputs=(large,), outputs=(small,)),
    ]
    places = [ends({0}, {1}), ends({0}, {2}), ends({0}, {2})]

    assert alive_bytes(graph, places) == [8 + 104, 8, 104, 104]


@given(st.data())
def test_agrees_with_looking_at_every_tensor_at_every_operator(data: st.DataObject) -> None:
    # given a graph in which every operator reads some earlier tensors and writes one
    sizes = data.draw(st.lists(st.integers(1, 50), min_size=2, max_size=12))
    tensors = [tensor(index, size) for index, size in enumerate(sizes)]
    graph, reads = [], []
    for index in range(1, len(sizes)):
        used = data.draw(st.sets(st.integers(0, index - 1), min_size=1, max_size=3))
        reads.append(used)
        inputs = tuple(tensors[one] for one in sorted(used))
        graph.append(Node(index=index - 1, name="ADD", inputs=inputs, outputs=(tensors[index],)))
    kept = data.draw(st.sets(st.integers(1, len(sizes) - 1)))

    found = alive_bytes(graph, [ends({0}, kept)])

    # the input is alive from the start, each other tensor from the operator that writes it
    for now, total in enumerate(found):
        alive = 0
        for index, size in enumerate(sizes):
            born = max(index - 1, 0)
            uses = [position for position, used in enumerate(reads) if index in used]
            last = len(graph) - 1 if index in kept else max([*uses, born], default=born)
            if index == 0 and not uses:
                continue  # nothing reads it: it has no place
            alive += size if born <= now <= last else 0
        assert total == alive


def test_the_peak_of_a_real_file(golden: Path) -> None:
    # given the speech model: 61 x 40 in, 31 x 20 x 32 after two layers, then 48 channels
    found = inspect(golden / "inspect" / "speech_int8.tflite", targets=())

    assert found.peak is not None
    assert found.peak.alive_bytes == 31 * 20 * (32 + 48)
    assert found.peak.layer == "conv2d_1"
    assert found.ops[0].alive_bytes == 61 * 40 + 31 * 20 * 32


def test_a_graph_that_calls_itself_ends(golden: Path) -> None:
    model = read(golden / "inspect" / "loop_float32.tflite")
    loop = model.subgraphs[0].operators[0]
    loop.builtinOptions.bodySubgraphIndex = 0  # of a damaged file

    found = alive_bytes(nodes(model), ends_of(model))

    assert len(found) == sum(len(graph.operators) for graph in model.subgraphs)
    assert min(found) >= 0


def test_what_is_float_in_a_file(repository: Path) -> None:
    folder = repository / "quantized" / "fashion-mnist"
    int8, int16x8, dynamic = (
        inspect(folder / f"{name}.tflite", targets=()) for name in ("int8", "int16x8", "dynamic")
    )

    assert int8.in_float == ()
    # its input and output are float32
    assert [op.name for op in int16x8.in_float] == ["QUANTIZE", "DEQUANTIZE"]
    assert dynamic.in_float == dynamic.ops

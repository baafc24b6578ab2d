"""XNNPACK's conditions for sparse inference, rule by rule, on a network that keeps them all."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from edgekit.targets import xnnpack_sparse
from edgekit.targets.node import Node, Tensor

VALID = 1
NAMES = ["pad", "entry", "depthwise", "pointwise", "relu", "add", "mean", "dense"]


def tensor(index: int, *shape: int, dtype: str = "float32") -> Tensor:
    return Tensor(index=index, name=f"t{index}", shape=shape, dtype=dtype)


def kernel(index: int, *shape: int, share: float = 0.0) -> Tensor:
    values = np.ones(shape, np.float32)
    values.ravel()[: round(share * values.size)] = 0
    return replace(tensor(index, *shape), data=values.view(np.uint8).ravel())


def paddings(index: int, *amounts: int) -> Tensor:
    data = np.array(amounts, np.int32).view(np.uint8)
    return replace(tensor(index, 4, 2, dtype="int32"), data=data)


def options(**given: int) -> SimpleNamespace:
    return SimpleNamespace(**{"strideH": 1, "strideW": 1, "padding": VALID, **given})


def network() -> dict[str, Node]:
    """PAD, 3x3 stride 2, depthwise 3x3, 1x1, RELU, ADD, MEAN, FULLY_CONNECTED."""
    plane = (1, 16, 16, 8)
    made = [
        Node(
            index=0,
            name="PAD",
            inputs=(tensor(0, 1, 32, 32, 3), paddings(20, 0, 0, 1, 1, 1, 1, 0, 0)),
            outputs=(tensor(1, 1, 34, 34, 3),),
        ),
        Node(
            index=1,
            name="CONV_2D",
            inputs=(tensor(1, 1, 34, 34, 3), kernel(21, 8, 3, 3, 3)),
            outputs=(tensor(2, *plane),),
            options=options(strideH=2, strideW=2),
        ),
        Node(
            index=2,
            name="DEPTHWISE_CONV_2D",
            inputs=(tensor(2, *plane), kernel(22, 1, 3, 3, 8)),
            outputs=(tensor(3, *plane),),
            options=options(padding=0, depthMultiplier=1),
        ),
        Node(
            index=3,
            name="CONV_2D",
            inputs=(tensor(3, *plane), kernel(23, 8, 1, 1, 8, share=0.75)),
            outputs=(tensor(4, *plane),),
            options=options(),
        ),
        Node(index=4, name="RELU", inputs=(tensor(4, *plane),), outputs=(tensor(5, *plane),)),
        Node(
            index=5,
            name="ADD",
            inputs=(tensor(2, *plane), tensor(5, *plane)),
            outputs=(tensor(6, *plane),),
        ),
        Node(index=6, name="MEAN", inputs=(tensor(6, *plane),), outputs=(tensor(7, 1, 8),)),
        Node(
            index=7,
            name="FULLY_CONNECTED",
            inputs=(tensor(7, 1, 8), kernel(24, 10, 8)),
            outputs=(tensor(8, 1, 10),),
        ),
    ]
    return dict(zip(NAMES, made, strict=True))


def fit(changed: dict[str, Node] | None = None, sparsity: float | None = 0.8):
    return xnnpack_sparse.fit(list({**network(), **(changed or {})}.values()), sparsity)


def test_a_network_that_keeps_every_rule_is_accelerated() -> None:
    assert fit().mapped
    assert fit().reason is None


@pytest.mark.parametrize(("sparsity", "mapped"), [(0.66, False), (2 / 3, False), (0.67, True)])
def test_it_takes_more_than_two_thirds_of_zeros(sparsity: float, mapped: bool) -> None:
    assert fit(sparsity=sparsity).mapped is mapped


def test_zeros_that_are_there_count_only_stored_as_such() -> None:
    # given the same kernel, stored dense and then behind a DENSIFY
    assert fit(sparsity=None).reason == "Its weights are not stored sparse."
    pointwise = network()["pointwise"]
    stored = replace(kernel(30, 8, 1, 1, 8), data=np.ones(16, np.float32).view(np.uint8))
    unpacked = tensor(31, 8, 1, 1, 8)
    sparse = {
        "densify": Node(index=8, name="DENSIFY", inputs=(stored,), outputs=(unpacked,)),
        **network(),
        "pointwise": replace(pointwise, inputs=(pointwise.inputs[0], unpacked)),
    }
    assert xnnpack_sparse.fit(list(sparse.values())).mapped


def with_options(name: str, **given: int) -> dict[str, Node]:
    node = network()[name]
    return {name: replace(node, options=SimpleNamespace(**{**vars(node.options), **given}))}


def with_input(name: str, position: int, value: Tensor) -> dict[str, Node]:
    node = network()[name]
    inputs = [*node.inputs[:position], value, *node.inputs[position + 1 :]]
    return {name: replace(node, inputs=tuple(inputs))}


BROKEN = {
    "uneven padding": (with_input("pad", 1, paddings(20, 0, 0, 0, 1, 0, 1, 0, 0)), "CONV_2D"),
    "one channel": (with_input("entry", 1, kernel(21, 8, 3, 3, 1)), "CONV_2D"),
    "entry of stride 1": (with_options("entry", strideH=1, strideW=1), "CONV_2D"),
    "entry pads by itself": (with_options("entry", padding=0), "CONV_2D"),
    "dilation": (with_options("pointwise", dilationHFactor=2), "neither dilation nor groups"),
    "groups": (with_input("pointwise", 1, kernel(23, 8, 1, 1, 4)), "neither dilation nor groups"),
    "strided 1x1": (with_options("pointwise", strideH=2, strideW=2), "1x1 with stride 1"),
    "3x3 inside": (with_input("pointwise", 1, kernel(23, 8, 3, 3, 8)), "1x1 with stride 1"),
    "7x7 depthwise": (with_input("depthwise", 1, kernel(22, 1, 7, 7, 8)), "3x3 or 5x5"),
    "uneven depthwise": (with_options("depthwise", strideH=2, strideW=2), "3x3 or 5x5"),
    "multiplier": (with_options("depthwise", depthMultiplier=2), "one output a channel"),
    "vector added": (with_input("add", 1, tensor(5, 8)), "four dimensions"),
    "another operator": ({"relu": replace(network()["relu"], name="SOFTMAX")}, "no such operator"),
    "integers": (
        {"relu": replace(network()["relu"], outputs=(tensor(5, 1, 16, 16, 8, dtype="int8"),))},
        "integers are not accelerated",
    ),
    "no entry": (with_input("depthwise", 0, tensor(0, 1, 16, 16, 8)), "reads the model's input"),
    "reader outside": (
        {"cast": Node(index=9, name="TANH", inputs=(tensor(4, 1, 16, 16, 8),))},
        "TANH (operator 9) reads a value from inside",
    ),
    "no mean": ({"mean": replace(network()["mean"], name="RESHAPE")}, "no mean over space"),
}


@pytest.mark.parametrize(("changed", "says"), BROKEN.values(), ids=BROKEN)
def test_a_broken_rule_is_named(changed: dict[str, Node], says: str) -> None:
    found = fit(changed)
    assert not found.mapped
    assert says in (found.reason or "")

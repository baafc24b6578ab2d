"""The table of swaps, on layers as Keras serialises them."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from edgekit.training.adapting.layers import owner
from edgekit.training.adapting.swaps import (
    SWAPS,
    WITHOUT_SWAP,
    Entry,
    activation_of,
    why_no_swap,
)


def layer(kind: str, module: str = "keras.layers", **config: Any) -> Entry:
    return {
        "class_name": kind,
        "module": module,
        "registered_name": None,
        "config": {"name": "one", "trainable": True, **config},
        "build_config": {"input_shape": (None, 8, 8, 4)},
    }


def replaced(entry: Entry, wanted: str, shape: tuple[int | None, ...] = (None, 8, 8, 4)) -> Entry:
    swap = next(swap for swap in SWAPS if swap.applies(entry, shape))
    (one,) = (found for found in swap.replacements if found.name == wanted)
    assert one.fits(entry, shape)
    one.rewrite(entry, shape)
    return entry


@pytest.mark.parametrize(
    ("entry", "function"),
    [
        (layer("Activation", activation="hard_silu"), "hard_silu"),
        (layer("Activation", activation="swish"), "silu"),
        (layer("Conv2D", activation="gelu"), "gelu"),
        (layer("Dense", activation={"class_name": "LeakyReLU", "config": {}}), "leaky_relu"),
        (layer("LeakyReLU", negative_slope=0.1), "leaky_relu"),
        (layer("ReLU", negative_slope=0.1), "leaky_relu"),
        (layer("ReLU", negative_slope=0.0), None),
        (layer("ELU"), "elu"),
        (layer("HardSilu", "keras.src.ops.nn"), "hard_silu"),
        (layer("LeakyRelu", "keras.src.ops.nn", negative_slope=0.2), "leaky_relu"),
        (layer("Conv2D", activation={"class_name": "function", "config": "mine"}), None),
        (layer("Flatten"), None),
        ({"class_name": "Odd"}, None),
    ],
)
def test_a_layer_tells_its_activation_function(entry: Entry, function: str | None) -> None:
    assert activation_of(entry) == function


def test_an_activation_is_replaced_where_it_stands() -> None:
    # Given a convolution, a layer of its own, and an operation
    convolution = replaced(layer("Conv2D", filters=8, activation="hard_silu"), "relu6")
    alone = replaced(layer("ELU", alpha=1.0), "relu6")
    operation = replaced(layer("HardSilu", "keras.src.ops.nn"), "silu")

    # Then the convolution stays one, and the others become an activation with the same name
    assert convolution["class_name"] == "Conv2D"
    assert convolution["config"]["activation"] == "relu6"
    assert convolution["config"]["filters"] == 8
    for changed, function in ((alone, "relu6"), (operation, "silu")):
        assert (changed["class_name"], changed["module"]) == ("Activation", "keras.layers")
        assert changed["config"]["name"] == "one"
        assert changed["config"]["activation"] == function
        assert "alpha" not in changed["config"]


@pytest.mark.parametrize(
    ("entry", "slope"),
    [
        (layer("LeakyReLU", negative_slope=0.1), 0.1),
        (layer("LeakyReLU"), 0.3),
        (layer("Activation", activation="leaky_relu"), 0.2),
    ],
)
def test_a_leaky_relu_is_a_prelu_of_its_slope(entry: Entry, slope: float) -> None:
    changed = replaced(entry, "prelu, one slope per channel")

    assert changed["class_name"] == "PReLU"
    assert changed["config"]["shared_axes"] == [1, 2]
    assert changed["config"]["alpha_initializer"]["config"]["value"] == slope


def test_what_does_not_fit_a_layer_is_not_offered() -> None:
    """A slope per channel needs a layer of its own, and steps need a factor that they divide."""
    fused = layer("Conv2D", activation="leaky_relu")
    by_channel = layer("PReLU", shared_axes=[1, 2])
    seven = layer("UpSampling2D", size=[7, 7], interpolation="nearest")
    shape = (None, 8, 8, 4)
    for entry in (fused, by_channel, seven):
        swap = next(swap for swap in SWAPS if swap.applies(entry, shape))
        names = {one.name for one in swap.replacements if one.fits(entry, shape)}
        assert names.isdisjoint(
            {"prelu, one slope per channel", "two steps", "nearest interpolation"}
        )


def test_sizes_and_dilations_are_rewritten() -> None:
    steps = replaced(layer("UpSampling2D", size=[16, 12], interpolation="bilinear"), "two steps")
    sizes = [one["config"]["size"] for one in steps["config"]["layers"]]
    assert sizes == [[4, 3], [4, 4]]
    assert {one["config"]["interpolation"] for one in steps["config"]["layers"]} == {"bilinear"}
    uneven = replaced(layer("Conv2D", dilation_rate=[1, 2]), "the smaller one in both")
    assert uneven["config"]["dilation_rate"] == [1, 1]
    even = replaced(layer("Conv2D", dilation_rate=[2, 2]), "no dilation")
    assert even["config"]["dilation_rate"] == [1, 1]
    largest = replaced(layer("GlobalMaxPooling2D", keepdims=False), "their average")
    assert largest["class_name"] == "GlobalAveragePooling2D"


def test_what_has_no_cure_says_why() -> None:
    assert "recurrent" in why_no_swap(layer("LSTM", units=4))
    assert "BatchNormalization" in why_no_swap(layer("LayerNormalization"))
    assert "softmax has no replacement" in why_no_swap(layer("Activation", activation="softmax"))
    assert why_no_swap(layer("Odd")) == "no replacement is known for Odd"
    assert "activation log_sigmoid" in why_no_swap(layer("Dense", activation="log_sigmoid"))


def test_the_table_names_each_cure_once_and_replaces_nothing_by_itself() -> None:
    assert max(Counter(swap.name for swap in SWAPS).values()) == 1
    for swap in SWAPS:
        names = [one.name for one in swap.replacements]
        assert names
        assert len(set(names)) == len(names)
        assert swap.name not in names
    assert all(why for why in WITHOUT_SWAP.values())


@pytest.mark.parametrize(
    ("name", "layer_name"),
    [
        ("stem", "stem"),
        ("stem/hard_silu", "stem"),
        ("stem_1", "stem"),
        ("block/act", "backbone/block/act"),
        ("backbone/block/act/Relu6", "backbone/block/act"),
        ("act_2", "act_2"),
        ("elsewhere", None),
    ],
)
def test_operators_are_found_in_their_layers(name: str, layer_name: str | None) -> None:
    paths = ("stem", "act", "act_2", "backbone/block/act")

    assert owner(name, paths) == layer_name

"""A small single-shot detector: boxes and scores from feature maps of several sizes."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, Final

from edgekit.training.zoo.parts import convolution, normalized

# Lin et al. 2017, section 4.1: what an untrained detector says of every box, so that the many
# boxes of background do not swamp the first steps.
_PRIOR: Final = 0.01


def ssd(
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    width: int = 16,
    stride: int = 8,
    levels: int = 2,
    sizes: int | Sequence[Any] = 3,
) -> Any:
    """Build an SSD on depthwise separable convolutions.

    Liu et al., "SSD: single shot multibox detector", arXiv 1512.02325, on a backbone after Howard
    et al., "MobileNets", arXiv 1704.04861. The outputs are `boxes`, `[n, 4]` offsets to anchors,
    and `scores`, `[n, outputs]` probabilities of each class by itself (Lin et al., "Focal loss for
    dense object detection", arXiv 1708.02002): two outputs, so that each gets the quantization
    its range needs. Predictions come level by level, row by row, the sizes of a cell together.

    Args:
        input_shape: `[height, width, channels]`.
        outputs: Classes.
        task: A detection.
        width: Channels of the first convolution; a level has half as many times that as its cells
            are wide, at most 16 times.
        stride: Pixels along a side of the first level's cells, a power of 2 from 4: for boxes of
            twice that or more. Those of each next level are twice as wide.
        levels: Feature maps that predict.
        sizes: Anchors of a cell, one number for all levels or one for each: how many, or their
            sizes themselves, `[[width, height], ...]` as shares of the picture.
    """
    import keras

    _ = task
    each = anchors_of_cells(levels, sizes)
    if stride < 4 or stride & (stride - 1):
        raise ValueError(f"stride must be 4, 8, 16, ...; it is {stride}.")
    image = keras.Input(input_shape, name="image")
    features = convolution(image, width, name="stem", strides=2)
    wide = 4
    while wide < stride:
        features = _separable(features, wide // 2 * width, f"down{wide}", strides=2)
        wide *= 2
    boxes: list[Any] = []
    scores: list[Any] = []
    for level, count in enumerate(each):
        channels = min((stride << level) // 2, 16) * width
        features = _separable(features, channels, f"level{level}_in", strides=2)
        features = _separable(features, channels, f"level{level}")
        found = _separable(features, channels, f"level{level}_head")
        cells = math.prod(found.shape[1:3])
        for into, units, name in ((boxes, 4, "boxes"), (scores, outputs, "scores")):
            made = keras.layers.Conv2D(
                count * units,
                1,
                name=f"level{level}_{name}",
                bias_initializer=keras.initializers.Constant(
                    -math.log((1 - _PRIOR) / _PRIOR) if into is scores else 0.0
                ),
            )(found)
            flat = keras.layers.Reshape((cells * count, units), name=f"level{level}_{name}_flat")
            into.append(flat(made))
    chances = keras.layers.Activation("sigmoid", name="scores")(_joined(scores, "scores_all"))
    return keras.Model(image, {"boxes": _joined(boxes, "boxes"), "scores": chances}, name="ssd")


def anchors_of_cells(levels: int, sizes: int | Sequence[Any]) -> tuple[int, ...]:
    """Return how many anchors the cells of each level have.

    Raises:
        ValueError: `sizes` has another length than `levels`, or a level has none.
    """
    each = (sizes,) * levels if isinstance(sizes, int) else tuple(sizes)
    counts = tuple(one if isinstance(one, int) else len(one) for one in each)
    if len(counts) != levels or not counts or min(counts) < 1:
        raise ValueError(f"{levels} levels with sizes = {sizes}.")
    return counts


def grids(input_shape: tuple[int, ...], stride: int, levels: int) -> list[list[int]]:
    """Return rows and columns of each level's cells, for pictures `[height, width, channels]`."""
    return [[-(-side // (stride << level)) for side in input_shape[:2]] for level in range(levels)]


def _separable(features: Any, channels: int, name: str, strides: int = 1) -> Any:
    import keras

    depthwise = f"{name}_depthwise"
    features = keras.layers.DepthwiseConv2D(
        3, strides=strides, padding="same", use_bias=False, name=depthwise
    )(features)
    features = normalized(features, name=depthwise)
    return convolution(features, channels, kernel=1, name=f"{name}_pointwise")


def _joined(parts: list[Any], name: str) -> Any:
    """Return the predictions of all levels `[cells * anchors, units]` as one `[n, units]`."""
    import keras

    # With one level this is a layer too: the head file finds an output by its layer's name.
    return (
        keras.layers.Concatenate(axis=1, name=name)(parts)
        if parts[1:]
        else keras.layers.Reshape(parts[0].shape[1:], name=name)(parts[0])
    )

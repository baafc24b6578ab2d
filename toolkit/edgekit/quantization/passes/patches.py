"""What each output value of a layer is computed from, as rows of a matrix (im2col)."""

from __future__ import annotations

import numpy as np

from edgekit.quantization.passes.layers import PADDED, Floats, Layer
from edgekit.records import Array


def patches(layer: Layer, given: Array, first: int = 0, step: int = 1) -> Array:
    """Return the values that each output position reads.

    Args:
        layer: A convolution, depthwise convolution or dense layer.
        given: What it reads, of one sample.
        first: The first output position.
        step: Every so many positions; 1 takes all.

    Returns:
        `[positions, inputs]`, in the order of a row of the weights; of a depthwise convolution
        `[positions, taps, channels]`.
    """
    weights = layer.weights
    if weights.ndim == 2:
        return given.reshape(-1, weights.shape[1])[first::step]
    options = layer.op.builtinOptions
    (height, width), channels = weights.shape[1:3], given.shape[-1]
    strides = options.strideH, options.strideW
    dilations = max(1, options.dilationHFactor), max(1, options.dilationWFactor)
    reach = (height - 1) * dilations[0] + 1, (width - 1) * dilations[1] + 1
    image = given
    if options.padding == PADDED:
        margins = [
            max((-(-size // stride) - 1) * stride + taps - size, 0)
            for size, stride, taps in zip(given.shape[1:3], strides, reach, strict=True)
        ]
        around = [(margin // 2, margin - margin // 2) for margin in margins]
        image = np.pad(given, [(0, 0), *around, (0, 0)])
    # [rows, columns, channels, taps down, taps across]
    windows = np.lib.stride_tricks.sliding_window_view(image[0], reach, axis=(0, 1))
    windows = windows[:: strides[0], :: strides[1], :, :: dilations[0], :: dilations[1]]
    across = windows.shape[1]
    places = np.arange(first, windows.shape[0] * across, step)
    picked: Array = windows.transpose(0, 1, 3, 4, 2)[places // across, places % across]
    if layer.axis == 3:
        return picked.reshape(-1, height * width, channels)
    return picked.reshape(-1, height * width * channels)


def response(layer: Layer, weights: Array, patch: Array) -> Floats:
    """Return what a layer with some weights computes of a patch, without its bias, `[outputs]`.

    Args:
        layer: The layer.
        weights: In the shape of its own.
        patch: `[inputs]`, or `[taps, channels]`, as of `patches`; also a mean of them.
    """
    if layer.axis == 3:
        taps, channels = patch.shape
        by_channel = weights.reshape(taps, channels, -1).astype(np.float64)
        return np.asarray((by_channel * patch[..., None]).sum(axis=0).reshape(-1), np.float32)
    flat = weights.reshape(len(weights), -1).astype(np.float64)
    return np.asarray(flat @ patch, np.float32)

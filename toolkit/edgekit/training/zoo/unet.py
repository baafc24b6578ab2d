"""A small U-Net: a class for every pixel."""

from __future__ import annotations

from typing import Any

from edgekit.training.zoo.parts import convolution


def unet(
    input_shape: tuple[int, ...],
    outputs: int,
    task: str,
    *,
    width: int = 8,
    depth: int = 2,
) -> Any:
    """Build a U-Net: pooled down and upsampled again, with features of each size passed across.

    Ronneberger et al., "U-Net: convolutional networks for biomedical image segmentation", arXiv
    1505.04597. Three things differ, for small devices: there are fewer channels and levels, edges
    are padded, so that the mask has the picture's size, and the convolution after an upsampling is
    a 1x1 before it, which gives the same values for a quarter of the work.

    Args:
        input_shape: `[height, width, channels]`, each side a multiple of `2 ** depth`.
        outputs: Classes; 1 is a single unit, the probability of the second of two.
        task: A segmentation.
        width: Channels at full size; each level down has twice as many.
        depth: Number of times the picture is halved.
    """
    import keras

    _ = task
    step = 2**depth
    if input_shape[0] % step or input_shape[1] % step:
        raise ValueError(f"Height and width must be multiples of {step}.")
    image = features = keras.Input(input_shape, name="image")
    across = []
    for level in range(depth):
        features = _twice(features, width << level, f"down{level}")
        across.append(features)
        features = keras.layers.MaxPooling2D(name=f"down{level}_pool")(features)
    features = _twice(features, width << depth, "bottom")
    for level in reversed(range(depth)):
        channels, name = width << level, f"up{level}"
        features = convolution(features, channels, kernel=1, name=f"{name}_narrow")
        features = keras.layers.UpSampling2D(name=f"{name}_size")(features)
        features = keras.layers.Concatenate(name=f"{name}_join")([across[level], features])
        features = _twice(features, channels, name)
    activation = "softmax" if outputs > 1 else "sigmoid"
    found = keras.layers.Conv2D(outputs, 1, activation=activation, name="output")(features)
    return keras.Model(image, found, name="unet")


def _twice(features: Any, channels: int, name: str) -> Any:
    features = convolution(features, channels, name=f"{name}_conv1")
    return convolution(features, channels, name=f"{name}_conv2")

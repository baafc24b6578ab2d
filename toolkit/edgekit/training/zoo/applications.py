"""The networks of `keras.applications`, without their pretrained weights."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from edgekit.training.zoo.parts import topped

# Listed here so that a name can be checked before TensorFlow is loaded.
APPLICATIONS: tuple[str, ...] = (
    *(f"ConvNeXt{size}" for size in ("Tiny", "Small", "Base", "Large", "XLarge")),
    *(f"DenseNet{depth}" for depth in (121, 169, 201)),
    *(f"EfficientNetB{size}" for size in range(8)),
    *(f"EfficientNetV2{size}" for size in ("B0", "B1", "B2", "B3", "S", "M", "L")),
    "InceptionResNetV2",
    "InceptionV3",
    "MobileNet",
    "MobileNetV2",
    "MobileNetV3Large",
    "MobileNetV3Small",
    "NASNetLarge",
    "NASNetMobile",
    *(f"ResNet{depth}{version}" for depth in (50, 101, 152) for version in ("", "V2")),
    "VGG16",
    "VGG19",
    "Xception",
)


def application(name: str) -> Callable[..., Any]:
    """Return a function that builds `keras.applications.<name>`."""

    def make(input_shape: tuple[int, ...], outputs: int, task: str, *, dropout: float = 0.2) -> Any:
        """Build the network's convolutions, global average pooling, and the zoo's last layer.

        Some of them (EfficientNet, MobileNetV3, ConvNeXt) scale pixels of 0..255 themselves.
        """
        import keras

        body = getattr(keras.applications, name)(
            input_shape=input_shape, include_top=False, weights=None, pooling="avg"
        )
        return topped(body, outputs, task, dropout=dropout, name=name.lower())

    return make

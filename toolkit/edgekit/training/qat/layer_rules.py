"""How each kind of Keras layer is quantized in a TFLite graph."""

from __future__ import annotations

from typing import Any, Literal

# weighted: an operator with integer weights.
# selecting: only selects, moves or clips values, so input and output share a scale exactly.
# joining: all inputs and the output share a scale.
# averaging: the output shares the input's scale, and is rounded.
# computing: the output has its own scale.
# fixed: the TFLite kernel prescribes the output's scale.
Kind = Literal["weighted", "selecting", "joining", "averaging", "computing", "fixed"]

_KINDS: dict[Kind, tuple[str, ...]] = {
    "weighted": ("Conv1D", "Conv2D", "Dense", "DepthwiseConv2D"),
    "selecting": (
        *("ReLU", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "MaxPooling1D"),
        *("MaxPooling2D", "Flatten", "Reshape", "Permute", "ZeroPadding1D", "ZeroPadding2D"),
        *("UpSampling1D", "UpSampling2D"),
    ),
    "joining": ("Concatenate",),
    "averaging": ("AveragePooling1D", "AveragePooling2D"),
    "computing": ("Add", "Multiply", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
    "fixed": ("Softmax",),
}
_KIND_OF = {name: kind for kind, names in _KINDS.items() for name in names}
LINEAR = "_linear"
"""Suffix for a layer whose activation was split off and took over its name."""
# Activations that only clip, which TFLite fuses into the operator before.
CLIPPING = ("linear", "relu", "relu6")
# The ranges of TFLite's 8-bit quantization specification, as 256 codes of one step.
FIXED_RANGES = {
    "softmax": (0.0, 255 / 256),
    "sigmoid": (0.0, 255 / 256),
    "tanh": (-1.0, 127 / 128),
}


def kind_of(layer: Any) -> Kind | None:
    """Return the kind of a layer, or None where it has no quantized form here."""
    import keras

    name = type(layer).__name__
    if type(layer) is not getattr(keras.layers, name, None):
        return None
    if name == "Activation":
        activation = activation_of(layer)
        return "selecting" if activation in CLIPPING else _fixed_or_none(activation)
    if name == "ReLU" and (layer.negative_slope or layer.threshold):
        return None
    if name == "UpSampling2D" and layer.interpolation != "nearest":
        return None  # computes between values; the nearest only repeats them
    return _KIND_OF.get(name)


def is_transparent(layer: Any) -> bool:
    """Whether the layer's TFLite operator requires one scale for input and output."""
    clips = type(layer).__name__ in ("ReLU", "Activation")
    return kind_of(layer) in ("selecting", "averaging") and not clips


def why_not(layer: Any, inputs: int) -> str | None:
    """Return why a layer cannot be trained for quantization, or None where it can."""
    import keras

    kind = kind_of(layer)
    if not isinstance(layer, keras.layers.Layer):
        name = type(layer).__name__
        layered = f"; keras.layers.{name} is a layer" if hasattr(keras.layers, name) else ""
        return f"is an operation on tensors{layered}"
    if kind is None:
        return "has no quantized form here"
    if kind == "weighted" and activation_of(layer) not in (*CLIPPING, *FIXED_RANGES):
        return f"its activation {activation_of(layer)} has no quantized form here"
    if kind == "computing" and inputs > 2:
        return f"takes {inputs} inputs, which TFLite adds pairwise"
    return None


def _fixed_or_none(activation: str) -> Kind | None:
    """Return the kind of an activation that does more than clip."""
    return "fixed" if activation in FIXED_RANGES else None


def fixed_range(layer: Any) -> tuple[float, float]:
    """Return the output range of a layer of kind `fixed`."""
    return FIXED_RANGES["softmax" if type(layer).__name__ == "Softmax" else activation_of(layer)]


def activation_of(layer: Any) -> str:
    """Return the name of a layer's activation function."""
    return str(getattr(layer.activation, "__name__", layer.activation))

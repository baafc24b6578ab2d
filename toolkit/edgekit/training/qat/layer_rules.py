"""How each kind of Keras layer is quantized in a TFLite graph."""

from __future__ import annotations

from typing import Any, Final, Literal

# weighted: an operator with integer weights.
# selecting: only selects, moves or clips values, so input and output share a scale exactly.
# joining: all inputs and the output share a scale.
# averaging: the output shares the input's scale, and is rounded.
# computing: the output has its own scale.
# looking up: takes indices; the table has the output's scale.
# fixed: the TFLite kernel prescribes the output's scale.
# composed: several operators, each of whose outputs has a scale of its own.
Kind = Literal[
    "weighted",
    "selecting",
    "joining",
    "averaging",
    "computing",
    "looking up",
    "fixed",
    "composed",
]

KINDS: Final[dict[Kind, tuple[str, ...]]] = {
    "weighted": (
        *("Conv1D", "Conv2D", "Dense", "DepthwiseConv1D", "DepthwiseConv2D"),
        *("Conv1DTranspose", "Conv2DTranspose"),
    ),
    "selecting": (
        *("ReLU", "Dropout", "SpatialDropout1D", "SpatialDropout2D", "GaussianNoise"),
        *("GaussianDropout", "ActivityRegularization", "Identity", "MaxPooling1D"),
        *("MaxPooling2D", "GlobalMaxPooling1D", "GlobalMaxPooling2D", "Flatten", "Reshape"),
        *("Permute", "RepeatVector", "ZeroPadding1D", "ZeroPadding2D", "Cropping1D"),
        *("Cropping2D", "UpSampling1D", "UpSampling2D"),
    ),
    "joining": ("Concatenate", "Maximum", "Minimum"),
    "averaging": ("AveragePooling1D", "AveragePooling2D"),
    "computing": (
        *("Add", "Subtract", "Multiply", "GlobalAveragePooling1D", "GlobalAveragePooling2D"),
        *("LeakyReLU", "PReLU"),
    ),
    "looking up": ("Embedding",),
    "fixed": ("Softmax",),
    "composed": ("LayerNormalization", "MultiHeadAttention", "LSTM", "GRU"),
}
"""Kind -> names of the layers of keras.layers that are of it."""
REWRITTEN: Final = (
    *("SeparableConv1D", "SeparableConv2D", "BatchNormalization", "GroupNormalization"),
    "Bidirectional",
)
"""Layers that are written as others before they are quantized (`fold`, `expansion`)."""
PREPARING: Final = frozenset(
    {
        *("Rescaling", "Normalization", "Resizing", "CenterCrop", "AutoContrast", "Equalization"),
        *("RandomBrightness", "RandomContrast", "RandomCrop", "RandomFlip", "RandomRotation"),
        *("RandomTranslation", "RandomZoom", "RandomHue", "RandomSaturation", "RandomGrayscale"),
        *("RandomColorJitter", "RandomSharpness", "RandomShear", "RandomErasing", "Solarization"),
        *("MixUp", "CutMix", "AugMix", "RandAugment", "RandomPosterization", "RandomInvert"),
        *("RandomColorDegeneration", "RandomPerspective", "RandomElasticTransform"),
        *("RandomGaussianBlur", "Masking", "Discretization", "CategoryEncoding"),
    }
)
"""Layers that prepare inputs: they are outside of what is quantized."""
_KIND_OF = {name: kind for kind, names in KINDS.items() for name in names}
QUANTIZED: Final = frozenset(_KIND_OF)
WRAPPED: Final = ("weighted", "composed")
"""Kinds whose layers are wrapped in one that rounds their weights."""
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
# Activations with an operator of their own.
COMPUTED: Final = ("gelu", "hard_silu", "leaky_relu")
SMOOTH: Final = "silu"
"""The activation that TFLite computes as a product with its sigmoid."""


def kind_of(layer: Any) -> Kind | None:
    """Return the kind of a layer, or None where it has no quantized form here."""
    import keras

    name = type(layer).__name__
    if name == "Flip" and isinstance(getattr(layer, "axis", None), int):
        return "selecting"
    if type(layer) is not getattr(keras.layers, name, None):
        return None
    if name == "Activation":
        activation = activation_of(layer)
        if activation in CLIPPING:
            return "selecting"
        if activation in COMPUTED:
            return "computing"
        return "fixed" if activation in FIXED_RANGES else None
    if name == "ReLU" and (layer.negative_slope or layer.threshold):
        return None
    if name == "LayerNormalization" and not _is_composed(layer):
        return None
    if name == "UpSampling2D" and layer.interpolation != "nearest":
        return "averaging" if layer.interpolation == "bilinear" else None
    return _KIND_OF.get(name)


def _is_composed(layer: Any) -> bool:
    """Whether a layer normalization has the quantized form of `composed`."""
    if getattr(layer, "rms_scaling", False):
        return False
    axes = [layer.axis] if isinstance(layer.axis, int) else list(layer.axis)
    return axes == [-1] or not (layer.scale or layer.center)


def is_transparent(layer: Any) -> bool:
    """Whether the layer's TFLite operator requires one scale for input and output."""
    clips = type(layer).__name__ in ("ReLU", "Activation")
    return kind_of(layer) in ("selecting", "averaging") and not clips


def fixed_range(layer: Any) -> tuple[float, float]:
    """Return the output range of a layer of kind `fixed`."""
    return FIXED_RANGES["softmax" if type(layer).__name__ == "Softmax" else activation_of(layer)]


def activation_of(layer: Any) -> str:
    """Return the name of a layer's activation function."""
    return str(getattr(layer.activation, "__name__", layer.activation))

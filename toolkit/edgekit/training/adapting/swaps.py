"""What a layer computes that a target may lack, and by what it can be replaced.

Each swap reads and changes the serialised form of a layer, so that this table needs no Keras. To
add one, add an entry to `SWAPS`; what has no replacement is named in `WITHOUT_SWAP`, with the
reason.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

Entry = dict[str, Any]
"""A layer as Keras serialises it: `class_name`, `module`, `config`."""

Shape = tuple[int | None, ...]
"""Shape of a layer's input, with the batch; empty where it is not known."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Replacement:
    """A layer in place of another.

    Attributes:
        name: What it is called.
        rewrite: Changes a layer's serialised form, given the shape of its input.
        fits: Whether it can replace this layer.
    """

    name: str
    rewrite: Callable[[Entry, Shape], None]
    fits: Callable[[Entry, Shape], bool] = lambda entry, shape: True  # noqa: ARG005


@dataclass(frozen=True, slots=True, kw_only=True)
class Swap:
    """What a layer computes, and by what it can be replaced.

    Attributes:
        name: What it computes.
        applies: Whether a layer computes that.
        replacements: The nearest function first; which is nearest in a model is measured.
        of_weights: Whether it concerns the operator that has the layer's weights; the others
            concern operators beside it.
    """

    name: str
    applies: Callable[[Entry, Shape], bool]
    replacements: tuple[Replacement, ...]
    of_weights: bool = False


WEIGHTED: Final = frozenset(
    {
        *("CONV_2D", "CONV_3D", "DEPTHWISE_CONV_2D", "FULLY_CONNECTED", "TRANSPOSE_CONV"),
        *("SPACE_TO_BATCH_ND", "BATCH_TO_SPACE_ND"),
    }
)
"""Operators of a layer's weights; those around a convolution that is written with dilation, too."""

# Layers that are an activation function.
_LAYERS: Final[Mapping[str, str]] = {
    "ELU": "elu",
    "LeakyReLU": "leaky_relu",
    "PReLU": "prelu",
    "Activation": "",
}
_RECURRENT: Final = ("LSTM", "GRU", "SimpleRNN", "RNN", "Bidirectional", "ConvLSTM2D")
_ALIASES: Final[Mapping[str, str]] = {"swish": "silu", "hard_swish": "hard_silu"}
_OPERATION_MODULES: Final = re.compile(r"keras(\.src)?\.(ops|activations)\b")
# Slopes of leaky ReLU where none is stored: the layer's, and the function's.
_LAYER_SLOPE: Final = 0.3
_FUNCTION_SLOPE: Final = 0.2
_SLOPE_PER_CHANNEL: Final = "prelu, one slope per channel"
# The Edge TPU's compiler was seen to enlarge by 8 at once.
_MOST_AT_ONCE: Final = 8


def activation_of(entry: Entry) -> str | None:
    """Return the activation function that a layer computes, alone or after something else.

    Args:
        entry: A layer, or an operation of `keras.ops` or `keras.activations`.
    """
    name, config = str(entry.get("class_name")), entry.get("config")
    if not isinstance(config, dict) or name in _RECURRENT:
        return None  # a function inside a recurrent layer is part of its operator
    if name == "ReLU":
        return "leaky_relu" if config.get("negative_slope") else None
    if is_operation(entry):
        return re.sub(r"(?<=[a-z0-9])(?=[A-Z])", "_", name).lower()
    if found := _LAYERS.get(name):
        return found
    function = config.get("activation")
    if isinstance(function, dict):
        return activation_of(function)
    return _ALIASES.get(function, function) if isinstance(function, str) else None


def is_operation(entry: Entry) -> bool:
    """Whether it is an operation of `keras.ops` rather than a layer."""
    return bool(_OPERATION_MODULES.match(str(entry.get("module"))))


def _is_alone(entry: Entry) -> bool:
    """Whether a layer computes nothing but its activation function."""
    return entry.get("class_name") in {*_LAYERS, "ReLU"} or is_operation(entry)


def _as_layer(entry: Entry, kind: str, own: Mapping[str, Any]) -> None:
    """Change a layer's class, and keep its name."""
    config = entry["config"]
    kept = {key: config[key] for key in ("name", "trainable", "dtype") if key in config}
    entry["config"] = {**kept, **own}
    entry.update(class_name=kind, module="keras.layers", registered_name=None)
    entry.pop("build_config", None)


def _activation(name: str) -> Replacement:
    def rewrite(entry: Entry, _: Shape) -> None:
        if _is_alone(entry):
            _as_layer(entry, "Activation", {"activation": name})
        else:
            entry["config"]["activation"] = name

    return Replacement(name=name, rewrite=rewrite)


def _slope(entry: Entry) -> float:
    """Return the slope of a leaky ReLU for negative numbers, or one near to a smooth function's."""
    usual = _LAYER_SLOPE if entry.get("class_name") == "LeakyReLU" else _FUNCTION_SLOPE
    return float(entry["config"].get("negative_slope") or usual)


def _shared_axes(shape: Shape) -> list[int]:
    return list(range(1, len(shape) - 1))


def _to_prelu(entry: Entry, shape: Shape) -> None:
    constant = {
        "class_name": "Constant",
        "module": "keras.initializers",
        "config": {"value": _slope(entry)},
        "registered_name": None,
    }
    own = {"alpha_initializer": constant, "shared_axes": _shared_axes(shape)}
    _as_layer(entry, "PReLU", own)


def _share_slopes(entry: Entry, shape: Shape) -> None:
    entry["config"]["shared_axes"] = _shared_axes(shape)
    entry.pop("build_config", None)


def _has_slopes_by_place(entry: Entry, shape: Shape) -> bool:
    shared = entry["config"].get("shared_axes") or []
    return len(shape) > 2 and sorted(shared) != _shared_axes(shape)


def _without_dilation(entry: Entry, _: Shape) -> None:
    entry["config"]["dilation_rate"] = [1] * len(_dilation(entry))


def _same_dilation(entry: Entry, _: Shape) -> None:
    entry["config"]["dilation_rate"] = [min(_dilation(entry))] * len(_dilation(entry))


def _dilation(entry: Entry) -> tuple[int, ...]:
    rate = entry.get("config", {}).get("dilation_rate", 1)
    return tuple(rate) if isinstance(rate, list | tuple) else (int(rate),)


def _to_average(entry: Entry, _: Shape) -> None:
    entry["class_name"] = str(entry["class_name"]).replace("Max", "Average")


def _interpolates(entry: Entry, how: str) -> bool:
    return bool(entry["config"].get("interpolation", "nearest") == how)


def _interpolation(how: str) -> Replacement:
    def rewrite(entry: Entry, _: Shape) -> None:
        entry["config"]["interpolation"] = how

    return Replacement(
        name=f"{how} interpolation",
        rewrite=rewrite,
        fits=lambda entry, _: not _interpolates(entry, how),
    )


def _factors(entry: Entry) -> tuple[int, int] | None:
    """Return by how much an upsampling enlarges; None for other layers."""
    size = entry.get("config", {}).get("size")
    if entry.get("class_name") != "UpSampling2D" or size is None:
        return None
    return (size[0], size[1]) if isinstance(size, list | tuple) else (int(size), int(size))


def _in_two_steps(entry: Entry, _: Shape) -> None:
    factors = _factors(entry)
    assert factors is not None
    first = [_divisor(factor) for factor in factors]
    second = [factor // one for factor, one in zip(factors, first, strict=True)]
    config = {key: value for key, value in entry["config"].items() if key not in ("name", "size")}
    steps = [
        {
            "class_name": "UpSampling2D",
            "module": "keras.layers",
            "registered_name": None,
            "config": {**config, "name": f"{entry['config']['name']}_{number}", "size": size},
        }
        for number, size in enumerate((first, second), start=1)
    ]
    entry.update(
        class_name="Sequential",
        module="keras",
        registered_name=None,
        config={"name": entry["config"]["name"], "layers": steps},
    )
    entry.pop("build_config", None)


def _in_two_bilinear_steps(entry: Entry, shape: Shape) -> None:
    entry["config"]["interpolation"] = "bilinear"
    _in_two_steps(entry, shape)


def _divisor(factor: int) -> int:
    """Return the largest divisor of a factor that is no larger than its root, or 1."""
    return max(n for n in range(1, math.isqrt(factor) + 1) if factor % n == 0)


def _goes_in_two_steps(entry: Entry, _: Shape) -> bool:
    factors = _factors(entry)
    return factors is not None and any(
        factor > _MOST_AT_ONCE and _divisor(factor) > 1 for factor in factors
    )


def _computes(*names: str) -> Callable[[Entry, Shape], bool]:
    return lambda entry, _: activation_of(entry) in names


def _function(name: str, *nearest: str) -> Swap:
    return Swap(name=name, applies=_computes(name), replacements=tuple(map(_activation, nearest)))


def _is_kind(*names: str) -> Callable[[Entry, Shape], bool]:
    return lambda entry, _: entry.get("class_name") in names


def _sloping(name: str, *nearest: str) -> Swap:
    """Return the swap of a function that negative numbers pass, by a slope that is trained."""
    slopes = Replacement(
        name=_SLOPE_PER_CHANNEL,
        rewrite=_to_prelu,
        fits=lambda entry, shape: _is_alone(entry) and bool(shape),
    )
    return Swap(
        name=name,
        applies=_computes(name),
        replacements=(slopes, *map(_activation, nearest)),
    )


_RELUS: Final = ("relu", "relu6")
SWAPS: Final[tuple[Swap, ...]] = (
    _function("silu", "hard_silu", *_RELUS),
    _function("hard_silu", "silu", *_RELUS),
    _function("gelu", "silu", "hard_silu", *_RELUS),
    _function("mish", "silu", "hard_silu", *_RELUS),
    _function("softplus", "relu", "silu"),
    _function("squareplus", "relu", "silu"),
    _function("sparse_plus", "relu"),
    _sloping("elu", "leaky_relu", *_RELUS),
    _sloping("selu", "elu", "leaky_relu", *_RELUS),
    _sloping("celu", "elu", "leaky_relu", *_RELUS),
    _sloping("leaky_relu", *_RELUS),
    Swap(
        name="prelu",
        applies=_is_kind("PReLU"),
        replacements=(
            Replacement(name=_SLOPE_PER_CHANNEL, rewrite=_share_slopes, fits=_has_slopes_by_place),
            *map(_activation, ("leaky_relu", *_RELUS)),
        ),
    ),
    _function("hard_sigmoid", "sigmoid"),
    _function("sigmoid", "hard_sigmoid"),
    _function("softsign", "tanh", "hard_tanh"),
    _function("tanh", "hard_tanh"),
    _function("hard_tanh", "tanh"),
    _function("tanh_shrink", "tanh", "linear"),
    _function("soft_shrink", "linear", "relu"),
    _function("hard_shrink", "linear", "relu"),
    _function("relu6", "relu"),
    Swap(
        name="maximum over all positions",
        applies=_is_kind("GlobalMaxPooling1D", "GlobalMaxPooling2D", "GlobalMaxPooling3D"),
        replacements=(Replacement(name="their average", rewrite=_to_average),),
    ),
    Swap(
        name="upsampling",
        applies=_is_kind("UpSampling2D"),
        replacements=(
            Replacement(name="two steps", rewrite=_in_two_steps, fits=_goes_in_two_steps),
            _interpolation("bilinear"),
            _interpolation("nearest"),
            Replacement(
                name="two bilinear steps",
                rewrite=_in_two_bilinear_steps,
                fits=lambda entry, shape: (
                    _goes_in_two_steps(entry, shape) and not _interpolates(entry, "bilinear")
                ),
            ),
        ),
    ),
    Swap(
        name="dilation that differs in x and y",
        applies=lambda entry, _: len(set(_dilation(entry))) > 1,
        replacements=(
            Replacement(name="the smaller one in both", rewrite=_same_dilation),
            Replacement(name="no dilation", rewrite=_without_dilation),
        ),
        of_weights=True,
    ),
    Swap(
        name="dilation",
        applies=lambda entry, _: max(_dilation(entry)) > 1,
        replacements=(Replacement(name="no dilation", rewrite=_without_dilation),),
        of_weights=True,
    ),
)
"""Every swap; of a layer that several fit, the first counts."""

_CONVOLVE: Final = "a recurrent layer has no replacement; convolutions over time may do its work"
WITHOUT_SWAP: Final[Mapping[str, str]] = {
    **dict.fromkeys(_RECURRENT, _CONVOLVE),
    "LayerNormalization": "no other normalization computes its statistics from each sample: train "
    "with BatchNormalization instead, which is folded into the layer before it",
    "GroupNormalization": "train with BatchNormalization instead, which is folded",
    "MultiHeadAttention": "attention multiplies two computed tensors, and has no replacement",
    "Softmax": "softmax has no replacement: leave it out of the model, and let the program on the "
    "device compute it",
    "Embedding": "a table of vectors has no replacement: look the vectors up in the program on the "
    "device",
    "Rescaling": "it prepares the input: leave it to the program on the device",
    "Normalization": "it prepares the input: leave it to the program on the device",
    "Resizing": "it prepares the input: leave it to the program on the device",
    "Conv2DTranspose": "train with UpSampling2D and Conv2D instead",
    "Conv3D": "there is no replacement for a convolution in three dimensions",
    "Lambda": "what a Lambda computes is code, which is not rewritten",
}
"""Class of a layer -> why there is no swap."""


def why_no_swap(entry: Entry, *, weights: bool = False) -> str:
    """Return why a layer has no swap.

    Args:
        entry: A layer that no swap applies to.
        weights: Whether the operators of its weights are in the way, and not its activation.
    """
    name = str(entry.get("class_name"))
    if name in WITHOUT_SWAP:
        return WITHOUT_SWAP[name]
    function = None if weights else activation_of(entry)
    if function == "softmax":
        return WITHOUT_SWAP["Softmax"]
    what = f"activation {function}" if function not in (None, "linear") else name
    return f"no replacement is known for {what}"

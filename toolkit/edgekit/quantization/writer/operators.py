"""The table of operators: how each is quantized. To add an operator, add its row.

Constraints are those of TFLite's quantization specification and of the kernels of LiteRT 2.3. A
version is the first whose kernel takes integers; a file gets it, or the version that the operator
has in the float graph (grouped or dilated convolutions, half-pixel resizing), whichever is higher.
int16 operators have the versions that TensorFlow writes: kernels look at types, and tflite-runtime
2.14 refuses later ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from edgekit.tflite.lstm import BIAS_INPUTS, FUSED_LSTM, STATE_INPUTS, WEIGHT_INPUTS

Scale = Literal["own", "same", "fixed", "none"]

BOTH: Final = (8, 16)
ONLY_8: Final = (8,)


@dataclass(frozen=True, slots=True)
class Parameters:
    """Quantization of an activation: real = scale * (code - zero_point).

    Attributes:
        bits: Width of the codes, 8 or 16.
        scale: Value of one step.
        zero_point: Code of 0.0; 0 where the codes have 16 bits.
    """

    bits: int
    scale: float
    zero_point: int

    def covers(self, other: Parameters) -> bool:
        """Whether all values with these other parameters have a code, to half a step."""
        (low, high), (least, most) = self.ends(), other.ends()
        return low <= least + self.scale / 2 and most - self.scale / 2 <= high

    def ends(self) -> tuple[float, float]:
        """Return the smallest and largest value that has a code."""
        codes = 1 << self.bits
        low = (-codes // 2 - self.zero_point) * self.scale
        return low, low + (codes - 1) * self.scale


@dataclass(frozen=True, slots=True, kw_only=True)
class Operator:
    """How an operator is quantized.

    Attributes:
        name: Its name in the schema.
        version: The first version with int8 activations.
        version_16: With int16 activations, where it is another one.
        bits: Widths of activations that it has kernels for.
        scale: `own`: the output has a scale of its own. `same`: all inputs and outputs share one.
            `fixed`: the kernel prescribes the scale of the output. `none`: the output holds no
            real numbers.
        fixed: Prescribed output parameters, for `fixed`.
        weight: Number of the input with the weights, symmetric int8; None if there are none.
        axis: The axis of the weights with a scale for each index; None for a single scale.
        activation: Number of the input that the weights are multiplied with.
        bias: Number of the input with the bias, in the scale of the products.
        recurrent: Whether it is an LSTM, with weights, biases and states of its own (`recurrent`).
    """

    name: str
    version: int
    version_16: int | None = None
    bits: tuple[int, ...] = BOTH
    scale: Scale = "own"
    fixed: tuple[Parameters, ...] = ()
    weight: int | None = None
    axis: int | None = 0
    activation: int = 0
    bias: int | None = None
    recurrent: bool = False

    @property
    def parts(self) -> frozenset[int]:
        """Return the numbers of the inputs that are no activations: weights, biases, an output."""
        if self.recurrent:
            return frozenset((*WEIGHT_INPUTS, *BIAS_INPUTS, STATE_INPUTS[0]))
        return frozenset(i for i in (self.weight, self.bias) if i is not None)

    def version_for(self, bits: int) -> int:
        """Return the version with activations of that width."""
        return self.version_16 if bits == 16 and self.version_16 else self.version

    def prescribed(self, bits: int) -> Parameters | None:
        """Return the output parameters that the kernel prescribes; None where it does not."""
        return next((entry for entry in self.fixed if entry.bits == bits), None)


def _rows(
    versions: Mapping[str, int], scale: Scale = "own", bits: tuple[int, ...] = BOTH
) -> Iterable[Operator]:
    for name, version in versions.items():
        yield Operator(name=name, version=version, scale=scale, bits=bits)


def _squashing(name: str, scale: float, zero_point: int, scale_16: float | None) -> Operator:
    fixed = [Parameters(8, scale, zero_point)]
    if scale_16 is not None:
        fixed.append(Parameters(16, scale_16, 0))
    return Operator(
        name=name,
        version=2,
        scale="fixed",
        fixed=tuple(fixed),
        bits=tuple(entry.bits for entry in fixed),
    )


_WEIGHTED: Final = (
    Operator(name="CONV_2D", version=3, weight=1, bias=2),
    Operator(name="DEPTHWISE_CONV_2D", version=3, weight=1, axis=3, bias=2),
    Operator(name="FULLY_CONNECTED", version=4, weight=1, bias=2),
    Operator(name="TRANSPOSE_CONV", version=2, weight=1, activation=2, bias=3),
    Operator(name="PRELU", version=1, bits=ONLY_8, weight=1, axis=None),
    Operator(name=FUSED_LSTM, version=1, bits=ONLY_8, recurrent=True),
)

# Elementwise and reducing operators, whose kernels rescale.
_OWN: Final = {
    "ABS": 2,
    "ADD": 2,
    "BATCH_MATMUL": 2,
    "EXP": 2,
    "GELU": 2,
    "LOG": 2,
    "MEAN": 2,
    "MUL": 2,
    "RELU": 2,
    "RELU6": 2,
    "SUB": 2,
    # LiteRT 2.3's reference kernel computes wrong sums of both; the default kernel does not.
    "SUM": 2,
}
_OWN_8: Final = {
    "DIV": 1,
    "HARD_SWISH": 1,
    "RELU_N1_TO_1": 1,
    "RELU_0_TO_1": 1,
    # The int16 kernel refuses an input that is rounded to zero.
    "RSQRT": 2,
    "SQRT": 2,
    "SQUARED_DIFFERENCE": 2,
}
# Operators that copy codes or compare them.
_SAME: Final = {
    "AVERAGE_POOL_2D": 2,
    "BATCH_TO_SPACE_ND": 2,
    "CONCATENATION": 2,
    "EXPAND_DIMS": 1,
    "GATHER": 2,
    "GATHER_ND": 1,
    "MAXIMUM": 2,
    "MAX_POOL_2D": 2,
    "MINIMUM": 2,
    "MIRROR_PAD": 2,
    "PACK": 2,
    "PAD": 2,
    "PADV2": 2,
    "REDUCE_MAX": 2,
    "REDUCE_MIN": 2,
    "RESHAPE": 1,
    "RESIZE_BILINEAR": 2,
    "RESIZE_NEAREST_NEIGHBOR": 2,
    "REVERSE_V2": 3,
    "SELECT": 1,
    "SELECT_V2": 1,
    "SLICE": 2,
    "SPACE_TO_BATCH_ND": 2,
    "SPLIT": 2,
    "SPLIT_V": 2,
    "SQUEEZE": 1,
    "STRIDED_SLICE": 2,
    "TILE": 3,
    "TRANSPOSE": 2,
    "UNPACK": 2,
}
_SAME_8: Final = {"DEPTH_TO_SPACE": 2, "DYNAMIC_UPDATE_SLICE": 1, "SPACE_TO_DEPTH": 2}
# The outputs are indices or truth values.
_NONE_8: Final = {
    "ARG_MAX": 2,
    "ARG_MIN": 2,
    "EQUAL": 2,
    "GREATER": 2,
    "GREATER_EQUAL": 2,
    "LESS": 2,
    "LESS_EQUAL": 2,
    "NOT_EQUAL": 2,
}

_ROWS: Final = (
    *_WEIGHTED,
    Operator(name="LEAKY_RELU", version=1, version_16=2),
    *_rows(_OWN),
    *_rows(_OWN_8, bits=ONLY_8),
    *_rows(_SAME, "same"),
    *_rows(_SAME_8, "same", ONLY_8),
    *_rows(_NONE_8, "none", ONLY_8),
    _squashing("LOGISTIC", 1 / 256, -128, 1 / 32768),
    _squashing("SOFTMAX", 1 / 256, -128, 1 / 32768),
    _squashing("TANH", 1 / 128, 0, 1 / 32768),
    _squashing("L2_NORMALIZATION", 1 / 128, 0, None),
    _squashing("LOG_SOFTMAX", 16 / 256, 127, None),
)

OPERATORS: Final[Mapping[str, Operator]] = {
    row.name: row for row in sorted(_ROWS, key=lambda row: row.name)
}
"""Name -> row, of every operator that can be quantized."""

LARGE_PRODUCT: Final = {"MUL": 3}
"""Operator -> version for int8 where the product of the input scales exceeds the output's."""

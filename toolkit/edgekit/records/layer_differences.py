"""Two models compared operator by operator."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorDifference:
    """How far what an operator computes in one model is from what it computes in another.

    Attributes:
        operator: Name of the operator in the second model; "" for an output as a whole.
        layer: Name of its layer, or of the output.
        tensor: Name of the tensor in the second model.
        types: Types of the tensor in both.
        sqnr_db: Signal-to-noise ratio in dB, the first model being the signal; None where both are
            equal to the last bit.
        cosine: Cosine of the angle between both, of all values.
        largest_error: Largest difference of two values.
        largest_value: Largest magnitude in the first model.
        saturated: Share of values beyond what the second model's integers can hold; None in float.
        dead: Channels that vary in the first model and are constant in the second.
        channels: Number of channels: the length of the last axis.
        limits: The least and the largest value that the second model's integers hold; None in
            float, and in JSON older than this field.
        seen: The least and the largest value in the first model; likewise.
    """

    operator: str
    layer: str
    tensor: str
    types: tuple[str, str]
    sqnr_db: float | None
    cosine: float
    largest_error: float
    largest_value: float
    saturated: float | None
    dead: int
    channels: int
    limits: tuple[float, float] | None = None
    seen: tuple[float, float] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LayerDifferences:
    """Two models compared operator by operator, on the same samples.

    Attributes:
        first: Name of the first model, which is the signal.
        second: Name of the second.
        n: Number of samples.
        operators: The operators that both have, in the second model's order.
        outputs: The outputs.
        threshold_db: SQNR below which two operators are said to differ.
        parts_at: Position in `operators` of the first that differs; None where none does.
        unmatched: Operators of the second model that the first does not have, `layer (OPERATOR)`.
        notes: What else the reader must know.
    """

    first: str
    second: str
    n: int
    operators: tuple[OperatorDifference, ...]
    outputs: tuple[OperatorDifference, ...]
    threshold_db: float
    parts_at: int | None
    unmatched: tuple[str, ...] = ()
    notes: tuple[str, ...] = ()

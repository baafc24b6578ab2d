"""What each operator of a model costs in a precision."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from edgekit.records.artifacts import Plan


@dataclass(frozen=True, slots=True, kw_only=True)
class OperatorCost:
    """What an operator costs in a precision, both ways.

    SQNR is the signal-to-quantization-noise ratio of the model's outputs in dB; None where they are
    equal to the last bit.

    Attributes:
        operator: Name of the operator in the schema.
        layer: Name of its layer.
        tensors: Names of its output tensors, by which rules find it.
        only_db: SQNR where this operator alone has the precision, and all others are float: what
            operators are ranked by.
        without_db: SQNR where all have it but this one, whose gain the others' noise may hide.
        only_per_output: `only_db` of each output, by name.
        only_value: Score of the file with this operator alone; None without targets.
        without_value: Score of the file without it.
        broken: Why there are no figures; "" where there are.
        kept: Whether the file that was made has it in a higher precision.
    """

    operator: str
    layer: str
    tensors: tuple[str, ...]
    only_db: float | None
    without_db: float | None
    only_per_output: Mapping[str, float | None] = field(default_factory=dict)
    only_value: float | None = None
    without_value: float | None = None
    broken: str = ""
    kept: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Sensitivity:
    """What each operator of a model costs in a precision.

    Attributes:
        model: Name of the model.
        mode: The precision.
        n: Calibration samples that the files were run on.
        costs: The operators that have a precision of their own, the most costly first.
        others: Operators that have none, as `layer (OPERATOR)`: they copy values, or remain float.
        all_db: SQNR of the file in which all operators have the precision.
        all_per_output: The same of each output, by name.
        metric: Name of the metric of `float_value`, `all_value` and the operators' values; None
            without targets.
        float_value: Score of the float graph on these samples.
        all_value: Score of the file in which all operators have the precision.
        plan: The variant that keeps the accepted loss on these samples, with the least set of
            operators in a higher precision; None where it was not asked for.
        notes: What else the reader must know.
    """

    model: str
    mode: str
    n: int
    costs: tuple[OperatorCost, ...]
    others: tuple[str, ...]
    all_db: float | None
    all_per_output: Mapping[str, float | None]
    metric: str | None = None
    float_value: float | None = None
    all_value: float | None = None
    plan: Plan | None = None
    notes: tuple[str, ...] = ()

"""What a source becomes: a float graph, and how far its outputs are from the source's."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.modes import INT8
from edgekit.pipeline.calibration_inputs import CalibrationInputs
from edgekit.pipeline.source_score import SourceScore
from edgekit.records import Dataset, Plan, Ranges, Rule, Source


@dataclass(frozen=True, slots=True, kw_only=True)
class Verification:
    """How far the float TFLite file is from its source.

    Attributes:
        max_abs_difference: Largest difference of any output element.
        samples: Number of samples compared.
        inputs: "data", or "noise" where no data was given.
    """

    max_abs_difference: float
    samples: int
    inputs: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedModel:
    """A float graph ready for quantization.

    Attributes:
        source: What it came from.
        dataset: The user's data, bound to the model's inputs, or None.
        graph: The float `.tflite`.
        verification: The comparison with the source; None where the source is that very file.
        notes: What was done without being asked for.
        picture: Where there are no data: how a picture becomes the model's input (a spec of kind
            "image"), if its first operators say so.
        head: Where there are no data: how the outputs of a detector tell boxes, if that is declared
            or their shapes tell it.
        trained: Ranges of the graph's tensors that quantization-aware training found, for int8.
        rules: For the layers that it left in float.
        scored: How the source itself scores; None where it is a float graph or has no samples.
        calibration: The calibration samples, where they were looked through while it was lowered.
    """

    source: Source
    dataset: Dataset | None
    graph: Path
    verification: Verification | None
    notes: tuple[str, ...] = ()
    picture: Mapping[str, Any] | None = None
    head: Mapping[str, Any] | None = None
    trained: Ranges | None = None
    rules: tuple[Rule, ...] = ()
    scored: SourceScore | None = None
    calibration: CalibrationInputs | None = None

    def as_trained(self, plan: Plan) -> Plan:
        """Return the plan, with what quantization-aware training left in float left so."""
        # Of rules that match one layer the last counts: the plan's own.
        rules = (*self.rules, *plan.rules) if plan.mode == INT8.name else plan.rules
        return replace(plan, rules=rules)

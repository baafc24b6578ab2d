"""A report of a mixed file: what its operators cost, and the ranges of their tensors."""

from __future__ import annotations

from dataclasses import replace

from edgekit.records import (
    LayerDifferences,
    OperatorCost,
    OperatorDifference,
    Report,
    Sensitivity,
)
from edgekit.schema import sensitivity_to_json

LAYERS = [f"model/block_{i}_expand_with_a_long_name/depthwise_conv2d.{i}" for i in range(12)]


def costs(*, kept: int = 0, both: bool = True) -> Sensitivity:
    """Twelve operators, the first of which cost most."""
    return Sensitivity(
        model="made",
        mode="int8",
        n=200,
        costs=tuple(
            OperatorCost(
                operator="DEPTHWISE_CONV_2D",
                layer=layer,
                tensors=(),
                only_db=5.0 + 3 * number,
                without_db=2.0 + number / 10 if both else None,
                kept=number < kept,
            )
            for number, layer in enumerate(LAYERS)
        ),
        others=(),
        all_db=1.5,
        all_per_output={},
    )


def tensors() -> LayerDifferences:
    """Of the same operators: the last cuts values off, the first is equal to the last bit."""
    return LayerDifferences(
        first="float32",
        second="int8",
        n=32,
        operators=tuple(
            OperatorDifference(
                operator="DEPTHWISE_CONV_2D",
                layer=layer,
                tensor=f"t{number}",
                types=("float32", "int8"),
                sqnr_db=None if number == 0 else 40.0 - number,
                cosine=1.0,
                largest_error=0.1,
                largest_value=6.0,
                saturated=0.0125 if number == len(LAYERS) - 1 else 0.0,
                dead=0,
                channels=16,
                limits=(-0.25, 5.75),
                seen=(-0.2, 6.0),
            )
            for number, layer in enumerate(LAYERS)
        ),
        outputs=(),
        threshold_db=0.0,
        parts_at=None,
    )


def with_layers(report: Report) -> Report:
    """The last row's file was searched for; its tensors are told."""
    row = report.rows[-1]
    told = sensitivity_to_json(costs(kept=2, both=False))
    artifact = replace(row.artifact, manifest={**row.artifact.manifest, "sensitivity": told})
    return replace(
        report, rows=(*report.rows[:-1], replace(row, artifact=artifact, tensors=tensors()))
    )

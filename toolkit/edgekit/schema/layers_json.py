"""What operators compute and what they cost, from JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from edgekit.fields import FieldError, Fields
from edgekit.records import LayerDifferences, OperatorCost, OperatorDifference, Sensitivity


def differences_from_json(found: Fields) -> LayerDifferences:
    """Return what `differences_to_json` wrote.

    Raises:
        FieldError: A value is missing or of another type.
    """
    return LayerDifferences(
        first=found.text("first"),
        second=found.text("second"),
        n=found.integer("n"),
        operators=tuple(map(_difference, found.objects("operators"))),
        outputs=tuple(map(_difference, found.maybe_objects("outputs"))),
        threshold_db=found.number("threshold_db"),
        parts_at=found.maybe("parts_at", found.integer),
        unmatched=found.texts("unmatched"),
        notes=found.texts("notes"),
    )


def sensitivity_of_manifest(manifest: Mapping[str, Any]) -> Sensitivity | None:
    """Return what the search for a mixed precision found each operator to cost; None if unknown.

    Args:
        manifest: A manifest, which may hold anything.
    """
    try:
        told = Fields(manifest.get("sensitivity"), "sensitivity")
        return Sensitivity(
            model=told.text("model"),
            mode=told.text("mode"),
            n=told.integer("n"),
            costs=tuple(map(_cost, told.objects("costs"))),
            others=told.texts("others"),
            all_db=told.maybe("all_db", told.number),
            all_per_output={},
        )
    except FieldError:
        return None


def _difference(one: Fields) -> OperatorDifference:
    types = one.texts("types")
    return OperatorDifference(
        operator=one.text("operator"),
        layer=one.text("layer"),
        tensor=one.text("tensor"),
        types=(types[0], types[-1]) if types else ("", ""),
        sqnr_db=one.maybe("sqnr_db", one.number),
        cosine=one.number("cosine"),
        largest_error=one.number("largest_error"),
        largest_value=one.number("largest_value"),
        saturated=one.maybe("saturated", one.number),
        dead=one.integer("dead"),
        channels=one.integer("channels"),
        limits=one.maybe("limits", one.pair),
        seen=one.maybe("seen", one.pair),
    )


def _cost(one: Fields) -> OperatorCost:
    return OperatorCost(
        operator=one.text("operator"),
        layer=one.text("layer"),
        tensors=one.texts("tensors"),
        only_db=one.maybe("only_db", one.number),
        without_db=one.maybe("without_db", one.number),
        kept=one.flag("kept", default=False),
    )

"""What is drawn of a score, to JSON and back."""

from __future__ import annotations

from typing import Any

from edgekit.fields import Fields
from edgekit.records import Histogram, PrecisionRecall, Scatter, Views


def views_to_json(views: Views) -> dict[str, Any]:
    """Return the views as one JSON object; its numbers are all finite."""
    return {
        "errors": [
            {"label": one.label, "edges": list(one.edges), "counts": list(one.counts)}
            for one in views.errors
        ],
        "scatters": [
            {"label": one.label, "true": list(one.true), "predicted": list(one.predicted)}
            for one in views.scatters
        ],
        "curves": [
            {
                "label": one.label,
                "share": one.share,
                "area": one.area,
                "recall": list(one.recall),
                "precision": list(one.precision),
            }
            for one in views.curves
        ],
        "threshold": views.threshold,
    }


def views_from_json(views: Fields) -> Views:
    """Return what `views_to_json` wrote.

    Raises:
        FieldError: A value is missing or of another type.
    """
    return Views(
        errors=tuple(
            Histogram(
                label=one.text("label"),
                edges=one.numbers("edges"),
                counts=one.integers("counts"),
            )
            for one in views.maybe_objects("errors")
        ),
        scatters=tuple(
            Scatter(
                label=one.text("label"),
                true=one.numbers("true"),
                predicted=one.numbers("predicted"),
            )
            for one in views.maybe_objects("scatters")
        ),
        curves=tuple(
            PrecisionRecall(
                label=one.text("label"),
                share=one.maybe("share", one.number),
                area=one.number("area"),
                recall=one.numbers("recall"),
                precision=one.numbers("precision"),
            )
            for one in views.maybe_objects("curves")
        ),
        threshold=views.maybe("threshold", views.number),
    )

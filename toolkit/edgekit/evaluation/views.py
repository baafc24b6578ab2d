"""What is drawn of a score, made of per-sample columns; bounded, whatever the number of samples."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from edgekit.records import Array, Histogram, PrecisionRecall, Scatter

POINTS: Final = 240
"""The most points of all scatters of a score together."""
POINTS_EACH: Final = 120
CURVE_POINTS: Final = 60
CURVES: Final = 6
"""The most precision-recall curves of a score."""
BINS_A_DECADE: Final = 16
SPAN: Final = 1e8
"""What is smaller than the largest error by more than this counts as the smallest."""


def histograms(values: Array, anomaly: Array, names: tuple[str, str]) -> tuple[Histogram, ...]:
    """Count normal samples and anomalies by a positive value, in logarithmic bins.

    The bins are those of all values there are, so that two files have the same.

    Args:
        values: `[n]`, errors.
        anomaly: `[n]`, whether a sample is an anomaly.
        names: What the others are called, and what anomalies are.
    """
    positive = values[values > 0]
    least = max(float(positive.min()), float(positive.max()) / SPAN) if len(positive) else 1.0
    place = np.floor(np.log10(np.maximum(values, least)) * BINS_A_DECADE).astype(np.int64)
    first, last = int(place.min()), int(place.max())
    edges = tuple(_short(10 ** (k / BINS_A_DECADE)) for k in range(first, last + 2))
    return tuple(
        Histogram(
            label=label,
            edges=edges,
            counts=tuple(np.bincount(place[kind] - first, minlength=last - first + 1).tolist()),
        )
        for label, kind in zip(names, (~anomaly, anomaly), strict=True)
    )


def scatters(target: Array, predicted: Array) -> tuple[Scatter, ...]:
    """Take some samples of each column, evenly among all.

    Args:
        target: `[n, k]`.
        predicted: `[n, k]`.
    """
    n, k = target.shape
    rows = np.unique(np.linspace(0, n - 1, min(n, POINTS_EACH, max(2, POINTS // k)), dtype=int))
    return tuple(
        Scatter(
            label=str(column),
            true=tuple(map(_short, target[rows, column].tolist())),
            predicted=tuple(map(_short, predicted[rows, column].tolist())),
        )
        for column in range(k)
    )


def precision_recall(
    hit: Array, score: Array, *, label: str, total: int | None = None
) -> PrecisionRecall:
    """Return the curve of one class: a point for each different score, thinned.

    Args:
        hit: `[n]`, whether what is ranked is of the class.
        score: `[n]`, higher is likelier.
        label: Name of the class.
        total: How many there are to find; those among what is ranked where None. A detector does
            not rank what it does not see, and then guessing has no precision.
    """
    order = np.argsort(-score, kind="stable")
    ends = np.append(np.flatnonzero(np.diff(score[order])), len(order) - 1)
    found = hit[order].cumsum()[ends]
    recall = found / max(1, int(hit.sum()) if total is None else total)
    precision = found / (ends + 1)
    area = float((np.diff(recall, prepend=0.0) * precision).sum())
    # Evenly by recall; of points with one recall the first is the most precise.
    wanted = np.linspace(0, float(recall[-1]), CURVE_POINTS)
    kept = np.unique(np.searchsorted(recall, wanted).clip(max=len(recall) - 1))
    return PrecisionRecall(
        label=label,
        share=_short(float(np.mean(hit))) if total is None else None,
        area=_short(area),
        recall=tuple(map(_short, recall[kept].tolist())),
        precision=tuple(map(_short, precision[kept].tolist())),
    )


def rarest_curves(
    target: Array, score: Array, labels: Sequence[str]
) -> tuple[PrecisionRecall, ...]:
    """Return the curves of the labels that occur, the rarest first, at most `CURVES`.

    Args:
        target: `[n, k]` flags.
        score: `[n, k]`.
        labels: `[k]` names.
    """
    hits = target.astype(bool)
    sizes = hits.sum(axis=0)
    rarest = [k for k in np.argsort(sizes, kind="stable").tolist() if sizes[k]]
    return tuple(
        precision_recall(hits[:, k], score[:, k], label=labels[k]) for k in rarest[:CURVES]
    )


def _short(value: float) -> float:
    """Return a number with four significant digits: more are not seen in a chart."""
    return float(f"{value:.4g}") if math.isfinite(value) else 0.0

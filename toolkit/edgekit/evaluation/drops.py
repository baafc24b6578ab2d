"""What a variant loses against the float model, judged on the same samples."""

from __future__ import annotations

import numpy as np

from edgekit.errors import DataError
from edgekit.evaluation import intervals
from edgekit.evaluation.scores import Evaluation
from edgekit.records import Drop, Score, Verdict


def budget(score_float: Score, max_drop: float) -> float:
    """Return the largest drop allowed, in the metric's unit.

    Args:
        score_float: The float model's score.
        max_drop: In points for accuracy and ROC AUC (0.5 -> 0.005), in percent of the float
            model's value for RMSE (0.5 at 16.0 -> 0.08).
    """
    scale = score_float.value if score_float.metric == "rmse" else 1.0
    return max_drop / 100 * scale


def paired_drop(float_eval: Evaluation, variant_eval: Evaluation, *, max_drop: float) -> Drop:
    """Return the loss of a variant with its paired interval and verdict.

    Accuracy by Tango's score interval, RMSE by a paired BCa bootstrap, ROC AUC by paired DeLong
    (see `intervals`). Even identical predictions leave room for a loss the samples did not show:
    3.84 / n for accuracy.

    Args:
        float_eval: The float model.
        variant_eval: The variant, on the same samples.
        max_drop: The budget, as in `budget`.

    Raises:
        DataError: The two were not evaluated on the same samples.
    """
    if float_eval.score.metric != variant_eval.score.metric or not np.array_equal(
        float_eval.targets, variant_eval.targets
    ):
        raise DataError("A drop needs both models evaluated on the same samples.")
    if len(float_eval.judged) != len(variant_eval.judged):
        raise DataError(
            "A drop needs both models evaluated on the same samples.",
            found=f"{len(float_eval.judged)} and {len(variant_eval.judged)} samples.",
        )
    interval = {"accuracy": _accuracy, "rmse": _rmse, "roc_auc": _area}[float_eval.score.metric]
    low, high = interval(float_eval, variant_eval)
    gap = float_eval.score.value - variant_eval.score.value
    allowed = budget(float_eval.score, max_drop)
    return Drop(
        value=-gap if float_eval.score.metric == "rmse" else gap,
        ci95=(low, high),
        verdict=_verdict(low, high, allowed),
    )


def agreement(float_eval: Evaluation, variant_eval: Evaluation) -> float | None:
    """Return the share of samples given the same class by both; None where it is no classifier."""
    if float_eval.score.metric != "accuracy":
        return None
    return float(np.mean(float_eval.judged == variant_eval.judged))


def _verdict(low: float, high: float, allowed: float) -> Verdict:
    if high <= allowed:
        return "kept"
    return "lost" if low > allowed else "unproven"


def _accuracy(first: Evaluation, second: Evaluation) -> intervals.Interval:
    right, still_right = first.judged == first.targets, second.judged == second.targets
    lost, won = int(np.sum(right & ~still_right)), int(np.sum(~right & still_right))
    return intervals.tango(lost, won, len(right))


def _rmse(first: Evaluation, second: Evaluation) -> intervals.Interval:
    return intervals.bootstrap(
        np.stack([first.judged, second.judged], axis=1),
        lambda means: np.sqrt(means[..., 1]) - np.sqrt(means[..., 0]),
    )


def _area(first: Evaluation, second: Evaluation) -> intervals.Interval:
    if np.array_equal(first.judged, second.judged):
        return 0.0, 0.0
    areas, covariance = intervals.delong(np.stack([first.judged, second.judged]), first.targets)
    return intervals.area_difference_interval(areas, covariance, first.targets)

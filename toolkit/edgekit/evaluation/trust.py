"""Whether scores can be believed at all: better than guessing, and the same before and after."""

from __future__ import annotations

from typing import Final

from edgekit.evaluation.metrics import metric_named
from edgekit.evaluation.scores import Evaluation
from edgekit.records import Score

SAME_SHARE: Final = 0.001
"""Difference of two scores of one model, in the metric's unit as a share of it at least, that is
rounding: float kernels of TensorFlow and of TFLite add up in different orders."""


def is_guessing(score: Score) -> bool:
    """Whether the 95 % interval of a score reaches what a prediction without the input scores."""
    if score.guess is None:
        return False
    low, high = score.ci95
    if metric_named(score.metric).higher_is_better:
        return not low > score.guess
    return not high < score.guess


def guessing_outputs(name: str, score: Score) -> list[str]:
    """Say which other outputs with targets are no better than guessing.

    Args:
        name: The model, as the subject of the sentence.
        score: Its score.
    """
    return [
        guessing_alert(f"Output {one.output!r} of {name}", one.score)
        for one in score.per_output
        if is_guessing(one.score)
    ]


def lacks_samples(score: Score) -> bool:
    """Whether a model that may guess is judged on too few test samples, or on one class only."""
    return _one_class(score) or _beyond_guess(score)


def _one_class(score: Score) -> bool:
    assert score.guess is not None
    return metric_named(score.metric).unit == "percent" and score.guess >= 1


def _beyond_guess(score: Score) -> bool:
    assert score.guess is not None
    higher = metric_named(score.metric).higher_is_better
    return score.value > score.guess if higher else score.value < score.guess


def guessing_alert(name: str, score: Score) -> str:
    """Say that a model is no better than guessing, and what guessing is.

    Args:
        name: The model, as the subject of the sentence.
        score: Its score.
    """
    metric = metric_named(score.metric)
    assert score.guess is not None
    reached = _beyond_guess(score)
    if _one_class(score):
        return (
            f"{name} cannot be judged: all {score.n:,} test samples are of one class, which a "
            "prediction that ignores the input gets right, too. Add samples of the others."
        )
    more = " More test samples would tell." if reached else ""
    verb = "is not proven to be better than guessing" if reached else "is no better than guessing"
    return (
        f"{name} {verb}: {metric.title} {_figure(score, score.value)} on {score.n:,} test samples, "
        f"where a prediction that ignores the input has {_figure(score, score.guess)}.{more}"
    )


def difference_alert(source: Evaluation, converted: Score, max_drop: float) -> str | None:
    """Say that a float file scores differently from its source, where it does.

    Args:
        source: The source's evaluation.
        converted: The score of the float file, on the same samples.
        max_drop: Accepted loss, as of `Metric.budget`.
    """
    metric, score = source.metric, source.score
    budget = metric.budget(score.value, source.columns, max_drop)
    rounding = SAME_SHARE * (abs(score.value) if metric.unit == "quantity" else 1.0)
    if abs(score.value - converted.value) <= max(budget, rounding) + 1e-9:
        return None
    return (
        f"float32 scores differently from its source: {metric.title} "
        f"{_figure(converted, converted.value)} instead of {_figure(score, score.value)} on the "
        f"same {score.n:,} samples. The conversion changed the model: no file made of it can be "
        "trusted."
    )


def _figure(score: Score, value: float) -> str:
    if metric_named(score.metric).unit == "percent":
        return f"{value:.1%}"
    return f"{value:.3g}"

"""Further scores of a row: metrics that were asked for beside the judged one, and other outputs."""

from __future__ import annotations

from edgekit.printable import printable
from edgekit.records import Score
from edgekit.reports.formatting import interval_text, metric_title, score_text
from edgekit.reports.groups import Group


def metric_at(group: Group, position: int) -> str | None:
    """Return the name of a further metric; None beyond the last."""
    return group.shown[position] if position < len(group.shown) else None


def metric_text(score: Score | None, position: int) -> str:
    """Return the value of a further metric; "" where a score has none."""
    if score is None or position >= len(score.shown):
        return ""
    name = score.shown[position]
    value = score.extras.get(name)
    return "" if value is None else score_text(name, value)


def metrics(score: Score | None) -> tuple[str, ...]:
    """Return name and value of each further metric."""
    if score is None:
        return ()
    return tuple(f"{name} {score.extras[name]!r}" for name in score.shown if name in score.extras)


def output_at(group: Group, position: int) -> str:
    """Return the name of a further output; "" beyond the last."""
    return printable(group.outputs[position]) if position < len(group.outputs) else ""


def output_metric(group: Group, position: int) -> str:
    """Return what the score of a further output is."""
    found = next((one for row in group.rows if (one := _output(row.score, position))), None)
    return metric_title(found.metric) if found else ""


def output_texts(score: Score | None, position: int) -> tuple[str, str]:
    """Return score and interval of a further output; "" where there is none."""
    found = _output(score, position)
    if found is None:
        return "", ""
    return score_text(found.metric, found.value), interval_text(found.metric, found.ci95)


def outputs(score: Score | None) -> tuple[str, ...]:
    """Return name, metric and value of each further output."""
    scores = score.per_output if score else ()
    return tuple(f"{one.output} {one.score.metric} {one.score.value!r}" for one in scores)


def _output(score: Score | None, position: int) -> Score | None:
    scores = score.per_output if score else ()
    return scores[position].score if position < len(scores) else None

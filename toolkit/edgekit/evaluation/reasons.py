"""Why a file is chosen and others are not, in sentences."""

from __future__ import annotations

import math
from typing import Final

from edgekit.choices import Prefer
from edgekit.evaluation.candidates import Files, size_of
from edgekit.evaluation.choice import Candidate, Choice, Rejection, objective_in_words
from edgekit.evaluation.fidelity import (
    ENOUGH_AGREEMENT,
    ENOUGH_CORRELATION,
    ENOUGH_SQNR_DB,
    fidelity_ok,
    worst,
)
from edgekit.evaluation.intervals import crossing
from edgekit.evaluation.metrics import metric_named
from edgekit.records import TIE, Drop, LatencyRatio, Row, Score, latency_ratio

MOST_SAMPLES = 10_000_000
WITHIN_NOISE = "as fast within the noise of the timings"
NO_INTERVAL = "its interval was not measured"
MOST_REJECTIONS = 2
"""How many files that were not chosen are explained, each for another reason."""
_NOT_RUN: Final = frozenset({"failed", "unloadable"})


def reasons(files: Files, choice: Choice, prefer: Prefer) -> str:
    """Return why a choice was made, in a few sentences.

    Args:
        files: The rows it was made of.
        choice: What was chosen, and what was rejected.
        prefer: What the file was to have least of.
    """
    sentences = [*_chosen(files, choice, prefer), *_rejections(files, choice)]
    return " ".join(filter(None, sentences))


def samples_to_settle(drop: Drop, n: int, allowed: float, *, metric: str) -> int | None:
    """Return about how many samples would prove a drop kept or lost, if it stays as measured.

    Args:
        drop: As measured on `n` samples.
        n: Number of samples.
        allowed: The budget, in the metric's unit.
        metric: Name of the metric, which knows how its interval shrinks.

    Returns:
        The number, or None beyond ten million (the drop is about the budget itself).
    """
    interval = metric_named(metric).extrapolate(drop, n)

    def unsettled(log_samples: float) -> float:
        low, high = interval(math.exp(log_samples) / n)
        return 1.0 if low <= allowed < high else -1.0

    settled = math.exp(crossing(unsettled, math.log(n), math.log(MOST_SAMPLES)))
    return math.ceil(settled) if settled < 0.99 * MOST_SAMPLES else None


def _chosen(files: Files, choice: Choice, prefer: Prefer) -> list[str]:
    """Say what is chosen and what it loses, and what the runner-up would cost."""
    row = files.row(choice.chosen)
    if choice.chosen is None or row is None:
        return [_why_none(choice)]
    if row is files.baseline:
        return [_headline(files, choice.chosen, row), _why_float32(files, choice, prefer)]
    runner_up = files.row(choice.runner_up)
    return [
        _headline(files, choice.chosen, row),
        _loss(row),
        _other_outputs(row),
        _runner_up(row, runner_up) if runner_up else "",
    ]


def _why_none(choice: Choice) -> str:
    """Say why nothing is recommended: what cannot be loaded or run may well keep the score."""
    found = {reason for _, reason in choice.rejected}
    if not found & _NOT_RUN:
        return "No file is recommended: no variant is known to keep the score."
    can = "can be run" if "failed" in found else "can be loaded"
    if found <= _NOT_RUN:
        return f"No file is recommended: none {can}."
    return f"No file is recommended: none that {can} is known to keep the score."


def _headline(files: Files, chosen: Candidate, row: Row) -> str:
    figures = [_kilobytes(size_of(row))]
    if not chosen.is_baseline:
        figures.append(f"{_size_ratio(chosen.size)} than float32")
    if row.timing:
        figures.append(f"{row.timing.p50_ms:.3g} ms a run")
        ratio = latency_ratio(row.timing, files.reference.timing)
        if ratio is not None and not chosen.is_baseline:
            figures.append(_latency_words(ratio))
    return f"Ship {chosen.name}: {', '.join(figures)}."


def _why_float32(files: Files, choice: Choice, prefer: Prefer) -> str:
    """Say why no other file is better than the float32 one."""
    if len(files.rows) == 1:
        return ""
    reasons = {reason for _, reason in choice.rejected}
    if len(choice.rejected) < len(files.rows) - 1:  # some could have been chosen
        timed = files.baseline is not None and files.baseline.timing is not None
        least = objective_in_words(prefer, timed=timed)
        return f"No file that may keep the score has a lesser {least}."
    if reasons & {"slower", "untimed"}:
        return "No file that may keep the score is known to be as fast."
    return "No other file is known to keep the score."


def _loss(row: Row) -> str:
    """Say what the chosen file loses, no more surely than the samples allow."""
    if row.drop is None and row.fidelity:
        return f"Judged by its outputs, without labels: {_farthest(row)}."
    decided = row.deciding()
    if decided is None:
        return ""
    place, score, drop = decided
    low, high = drop.ci95
    change, interval = place + _change(score, drop), _interval(score, drop)
    n = score.n
    measured = f"{change} ({interval}) on {n:,} samples"
    limit = _limit(score, drop)
    if drop.verdict == "kept" and low <= 0 <= high:
        return f"No measurable loss: {measured}, within the {limit} allowed."
    if drop.verdict == "kept":
        word = "A small, measurable loss" if low > 0 else "A measurable gain"
        return f"{word}: {measured}; {limit} are allowed."
    if interval == NO_INTERVAL:
        return f"Not proven: {measured}; {limit} are allowed."
    return (
        f"Not proven: {change} on {n:,} samples, but the {interval} reaches beyond the {limit} "
        f"allowed{_more_samples(score, drop)}."
    )


def _other_outputs(row: Row) -> str:
    """Say of a model with several outputs, one of which is scored, which is farthest."""
    if row.drop is None or len(row.fidelity) < 2:
        return ""
    far = "" if fidelity_ok(worst(row.fidelity)) else ", which is far: look at it before shipping"
    return f"Of its {len(row.fidelity)} outputs the farthest from float32's: {_farthest(row)}{far}."


def _farthest(row: Row) -> str:
    """Say how far the output farthest from float32's is."""
    far = worst(row.fidelity)
    if far.agreement is not None:
        figure = f"has the same top-1 class in {far.agreement:.1%} of {far.n:,} samples"
    elif far.correlation is not None:
        figure = f"has a correlation of {far.correlation:.4f} on {far.n:,} samples"
    else:
        figure = f"was compared on {far.n:,} samples"
    noise = "equal" if far.sqnr_db is None else f"SQNR {far.sqnr_db:z.1f} dB"
    return f"output {far.output!r} {figure}, {noise}"


def _runner_up(chosen: Row, runner_up: Row) -> str:
    """Say what the next best file would cost, against the chosen one."""
    cost = _size_ratio(size_of(runner_up) / size_of(chosen))
    latency = latency_ratio(runner_up.timing, chosen.timing)
    if latency is not None:
        cost += f" and {_latency_words(latency)}"
    if runner_up.score and runner_up.drop:
        cost += f"; {_change(runner_up.score, runner_up.drop)}"
    return f"Runner-up: {runner_up.artifact.variant}, against {chosen.artifact.variant} {cost}."


def _rejections(files: Files, choice: Choice) -> list[str]:
    """Say why files that are smaller or otherwise better than the chosen one are not chosen."""
    better = [
        (one, reason)
        for one, reason in choice.rejected
        if choice.chosen is None or _tempts(one, choice.chosen) or reason in _NOT_RUN
    ]
    # Of those that lose too much, the one that loses least: it is what more training may mend.
    better.sort(key=lambda entry: entry[0].loss if entry[1] == "beyond" else 0.0)
    first = {reason: one for one, reason in reversed(better)}
    explained = [(one, reason) for one, reason in better if first[reason] is one]
    return [_rejection(files, one, reason) for one, reason in explained[:MOST_REJECTIONS]]


def _tempts(one: Candidate, chosen: Candidate) -> bool:
    """Whether a file is smaller or faster than the chosen one."""
    faster = one.latency is not None and chosen.latency is not None and one.latency < chosen.latency
    return one.size < chosen.size or faster


def _rejection(files: Files, one: Candidate, reason: Rejection) -> str:
    row = files.rows[one.name]
    name = f"{one.name} ({_kilobytes(size_of(row))})"
    if reason == "failed":
        return f"{name} cannot be run: {(row.failure or '').rstrip('.')}."
    if reason == "unloadable":
        return f"{name} cannot be loaded: {files.excluded[one.name]}."
    if reason == "collapsed":
        first = row.collapses[0]
        return f"{name} is never recommended: {first.where}: {first.detail}."
    if reason == "slower":
        slower = _ratio(one.latency or 1.0, less="faster", equal="as fast", more="slower")
        return f"{name} is {slower} than float32, which only --prefer size accepts."
    if reason == "untimed":
        return f"{name} has no latency beside float32's, and may be slower."
    if row.drop is None and row.fidelity:
        return (
            f"{name} was rejected, judged by its outputs without labels: {_farthest(row)}; "
            f"at least {ENOUGH_AGREEMENT:.0%} (or a correlation of {ENOUGH_CORRELATION:g}) and "
            f"{ENOUGH_SQNR_DB:g} dB are wanted."
        )
    decided = row.deciding()
    if decided is None:
        return f"{name} was not considered: without test samples its loss is unknown."
    place, score, drop = decided
    measured = f"{place}{_change(score, drop)} ({_interval(score, drop)})"
    limit = f"{_limit(score, drop)} are allowed"
    more = _more_samples(score, drop) if drop.verdict == "unproven" else ""
    if reason == "unproven":
        return f"{name} is not proven to keep the score: {measured}, {limit}{more}."
    return f"{name} was rejected: {measured}, {limit}{more}."


def _more_samples(score: Score, drop: Drop) -> str:
    if drop.allowed is None or not all(map(math.isfinite, drop.ci95)):
        return ""
    settled = samples_to_settle(drop, score.n, drop.allowed, metric=score.metric)
    if settled is None or settled <= score.n:
        return ""
    return f"; about {_rounded(settled)} samples would settle it"


def _change(score: Score, drop: Drop) -> str:
    metric = metric_named(score.metric)
    if drop.value == 0:
        return f"{metric.title} is the same"
    falls = (drop.value > 0) == metric.higher_is_better
    return f"{metric.title} {'falls' if falls else 'rises'} by {_amount(score, abs(drop.value))}"


def _interval(score: Score, drop: Drop) -> str:
    """Return the paired interval of the loss, in the sign of `Drop`: below zero is a gain."""
    if not all(map(math.isfinite, drop.ci95)):
        return NO_INTERVAL
    low, high = (_number(score, end) for end in drop.ci95)
    return f"95 % interval of the loss {low} to {high}"


def _limit(score: Score, drop: Drop) -> str:
    return "unknown amount" if drop.allowed is None else _amount(score, drop.allowed)


def _amount(score: Score, value: float) -> str:
    return _number(score, value) + ("" if _is_quantity(score) else " points")


def _number(score: Score, value: float) -> str:
    return f"{value:.3g}" if _is_quantity(score) else f"{value * 100:.2f}"


def _is_quantity(score: Score) -> bool:
    return metric_named(score.metric).unit == "quantity"


def _size_ratio(ratio: float) -> str:
    return _ratio(ratio, less="smaller", equal="as large", more="larger")


def _latency_words(ratio: LatencyRatio) -> str:
    if ratio.is_equal:
        return "as fast" if 1 / TIE <= ratio.value <= TIE else WITHIN_NOISE
    return _ratio(ratio.value, less="faster", equal="as fast", more="slower")


def _ratio(ratio: float, *, less: str, equal: str, more: str) -> str:
    """Return a ratio in words: 1.3 -> "1.3x slower", 1.02 -> "2.0 % slower"."""
    if abs(ratio - 1) < 0.0005:
        return equal
    word = more if ratio > 1 else less
    factor = max(ratio, 1 / ratio)
    return f"{factor:.1f}x {word}" if factor >= 1.1 else f"{abs(ratio - 1) * 100:.1f} % {word}"


def _kilobytes(size: int) -> str:
    return f"{size / 1e6:.2f} MB" if size >= 1e6 else f"{size / 1e3:.1f} kB"


def _rounded(count: int) -> str:
    """Return a number rounded up to two digits that count: 1906 -> 2,000, 764 -> 770."""
    unit = 10 ** max(0, len(str(count)) - 2)
    return f"{math.ceil(count / unit) * unit:,}"

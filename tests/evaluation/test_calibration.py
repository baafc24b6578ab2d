"""Expected calibration error: its value, and that its intervals hold the truth."""

from __future__ import annotations

import numpy as np
import pytest
from sklearn.calibration import calibration_curve

from edgekit.evaluation.metrics import ECE
from edgekit.evaluation.scores import aggregate
from edgekit.evaluation.tasks import CLASSIFICATION
from edgekit.records import Array, Batch


def drawn(generator: np.random.Generator, n: int, gap: float) -> tuple[Array, Array]:
    """Return confidences, and whether the answers are right: less often by `gap`."""
    confidence = 1 - 0.5 * generator.beta(1, 3, n)
    return confidence, generator.random(n) < confidence - gap


def columns(confidence: Array, right: Array) -> dict[str, Array]:
    return {
        "confidence": confidence,
        "predicted": np.ones(len(right)),
        "target": np.where(right, 1.0, 0.0),
    }


@pytest.mark.parametrize("logits", [True, False])
@pytest.mark.parametrize("units", [1, 2, 7])
def test_the_value_is_that_of_scikit_learn_s_curve(units: int, logits: bool) -> None:
    # Given scores of a classifier that is too sure of itself
    generator = np.random.default_rng(units)
    classes = max(2, units)
    target = generator.integers(0, classes, 500)
    scores = 2 * generator.normal(size=(500, units))
    scores += 2 * (np.eye(classes)[target] if units > 1 else 2 * target[:, None] - 1)
    if units == 1:
        one = 1 / (1 + np.exp(-scores))
        shares = np.concatenate([1 - one, one], axis=1)
        given = scores if logits else one
    else:
        shares = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        given = scores if logits else shares
    # When
    batch = Batch(inputs={}, targets=target)
    found = aggregate(CLASSIFICATION.per_sample(given, batch), CLASSIFICATION, metric=ECE)
    # Then it is the distance of the curve from the diagonal, by the number of samples
    confidence, right = shares.max(axis=1), shares.argmax(axis=1) == target
    true, said = calibration_curve(right, confidence, n_bins=15)
    counts = np.histogram(confidence, np.linspace(0, 1, 16))[0]
    expected = np.sum(counts[counts > 0] / 500 * np.abs(true - said))
    assert found.score.value == pytest.approx(expected, rel=1e-9)
    assert found.score.guess is None


@pytest.mark.parametrize("gap", [0.0, 0.03, 0.2])
@pytest.mark.parametrize("n", [60, 500])
def test_the_interval_holds_the_truth_19_times_in_20(n: int, gap: float) -> None:
    generator = np.random.default_rng(n)
    covered, widths = [], []
    for _ in range(300):
        confidence, right = drawn(generator, n, gap)
        low, high = ECE.interval(columns(confidence, right))
        covered.append(low <= gap <= high)
        widths.append(high - low)

    # A binomial of 300 draws at 0.95 is above 0.915 in 99.5 of 100 cases.
    assert np.mean(covered) >= 0.915
    assert np.median(widths) < 6 / n**0.5 / 2


@pytest.mark.parametrize(("gap", "moved"), [(0.0, 0.0), (0.0, 0.02), (0.2, 0.05), (0.2, -0.1)])
def test_the_paired_interval_holds_the_truth_19_times_in_20(gap: float, moved: float) -> None:
    # Given a variant whose confidence is off by a little more, or less, and by some noise
    generator = np.random.default_rng(7)
    n, covered, widths = 400, [], []
    for _ in range(300):
        confidence, right = drawn(generator, n, gap)
        other = np.clip(confidence + moved + 0.003 * generator.normal(size=n), 0, 1)
        low, high = ECE.paired_interval(columns(confidence, right), columns(other, right))
        wide = drawn(generator, 200_000, gap)[0]
        there = np.clip(wide + moved, 0, 1)
        covered.append(low <= abs(np.mean(there - wide + gap)) - gap <= high)
        widths.append(high - low)

    assert np.mean(covered) >= 0.915
    assert np.median(widths) < (0.13 if abs(moved) < 0.05 else 0.3)


def test_confidence_that_did_not_change_has_no_drop() -> None:
    confidence, right = drawn(np.random.default_rng(0), 200, 0.1)
    same = columns(confidence, right)

    assert ECE.paired_interval(same, same) == (0.0, 0.0)

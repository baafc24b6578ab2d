"""Weights and outputs near the end of float32 overflow nowhere: warnings are errors here."""

from __future__ import annotations

import numpy as np

import edgekit_runner as runner
from edgekit.numerics.clipping import octav_scales
from edgekit.quantization.output_noise import distances


def test_scales_of_large_weights_are_finite():
    weights = np.array([[1e30, -2e29, 3e28], [0.5, -0.25, 0.125]], np.float32)

    scales = octav_scales(weights, axis=0)

    assert np.isfinite(scales).all()
    assert scales[0] > 1e28


def test_infinite_outputs_have_no_distance():
    reference = {"y": np.array([[np.inf, 1.0], [2.0, 3.0]], np.float32)}

    for last in (3.5, np.inf):
        made = {"y": np.array([[np.inf, 1.0], [2.0, last]], np.float32)}
        found = distances(reference, made)
        assert np.isfinite(found["y"])


def test_probabilities_of_large_scores():
    scores = np.array([[3e38, -3e38], [np.inf, 1.0]], np.float32)

    peaks = runner.softmax_peak(scores)

    assert peaks[0] == 1
    means = runner.calibration_gaps(np.array([True, False]), peaks)
    assert np.isfinite(np.concatenate(means)).all()

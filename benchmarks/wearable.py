"""Synthetic windows of a sensor worn on the body, with people kept back for the test.

Every person has a gait of their own (frequency, strength), wears the sensor turned and shifted in
their own way, and has sensors with offsets; the windows of a person overlap by half, as in the
published data sets of this kind. Nothing of the test's people is in the training data.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

RATE = 50
"""Samples per second."""
STEPS = 100
STRIDE = STEPS // 2
SECONDS = 14
"""Length of the recording of a person and an activity."""
PEOPLE = 30
TESTED = 10
GRAVITY = 9.81
# Mean frequency in Hz, vertical, forward and sideward strength in m/s2, share of the second
# harmonic, turn rate in rad/s, posture in rad
ACTIVITIES = {
    "sitting": (0.0, 0.0, 0.0, 0.0, 0.0, 0.02, 1.2),
    "standing": (0.0, 0.0, 0.0, 0.0, 0.0, 0.05, 0.1),
    "walking": (1.8, 2.6, 1.4, 0.8, 0.5, 0.8, 0.2),
    "upstairs": (1.6, 2.4, 1.9, 0.9, 0.25, 1.0, 0.35),
    "downstairs": (1.9, 3.3, 1.5, 0.9, 0.8, 0.9, 0.1),
    "running": (2.7, 7.0, 3.0, 1.6, 0.3, 1.6, 0.15),
}


def wearable(seed: int = 0) -> dict[str, NDArray[np.generic]]:
    """Return `x_train`, `y_train`, `group_train`, `x_test`, `y_test`; inputs `[n, 100, 6]`.

    Channels are acceleration in units of gravity and turn rates in rad/s, float32.
    """
    random = np.random.default_rng(seed)
    parts: dict[str, list[NDArray[np.generic]]] = {"x": [], "y": [], "group": []}
    for person in range(PEOPLE):
        habits = _habits(random)
        for label, _ in enumerate(ACTIVITIES):
            recording = _recording(label, habits, random)
            view = np.lib.stride_tricks.sliding_window_view(recording, STEPS, axis=0)[::STRIDE]
            parts["x"].append(view.transpose(0, 2, 1).astype(np.float32))
            parts["y"].append(np.full(len(view), label))
            parts["group"].append(np.full(len(view), person))
    x, y, group = (np.concatenate(parts[name]) for name in ("x", "y", "group"))
    tested = group >= PEOPLE - TESTED
    return {
        "x_train": x[~tested],
        "y_train": y[~tested],
        "group_train": group[~tested],
        "x_test": x[tested],
        "y_test": y[tested],
    }


def _habits(random: np.random.Generator) -> dict[str, NDArray[np.float64]]:
    """Return what is a person's own: tempo, strength, how the sensor sits, its offsets."""
    return {
        "tempo": random.normal(1, 0.1, 1),
        "strength": random.lognormal(0, 0.25, 3),
        "posture": random.normal(0, 0.25, len(ACTIVITIES)),
        "turned": _rotation(random.normal(0, 0.3, 3)),
        "offset": np.concatenate([random.normal(0, 0.4, 3), random.normal(0, 0.05, 3)]),
        "shape": random.normal(0, 0.15, 1),
    }


def _recording(
    label: int, habits: dict[str, NDArray[np.float64]], random: np.random.Generator
) -> NDArray[np.float64]:
    """Return one activity of one person, `[SECONDS * RATE, 6]`."""
    frequency, up, ahead, aside, second, turning, posture = list(ACTIVITIES.values())[label]
    n = SECONDS * RATE
    # the tempo drifts
    drift = 1 + 0.05 * np.cumsum(random.normal(0, 1, n)) / np.sqrt(n)
    phase = 2 * np.pi * np.cumsum(frequency * habits["tempo"] * drift) / RATE
    phase = phase + random.uniform(0, 2 * np.pi)
    share = np.clip(second + habits["shape"], 0, 1) * (frequency > 0)
    moved = np.stack(
        [
            np.sin(phase) + share * np.sin(2 * phase + 0.7),
            np.cos(phase) + share * np.sin(2 * phase),
            np.sin(phase / 2),
        ],
        axis=1,
    ) * (np.array([up, ahead, aside]) * habits["strength"])
    lean = posture + habits["posture"][label]
    moved += GRAVITY * np.array([np.cos(lean), np.sin(lean), 0.0])
    turns = (
        turning
        * np.stack([np.sin(phase / 2 + 0.4), np.cos(phase), np.sin(phase / 2)], axis=1)
        * habits["strength"]
        * (frequency > 0)
    )
    seen = np.concatenate([moved @ habits["turned"], turns @ habits["turned"]], axis=1)
    seen += habits["offset"] + random.normal(0, [0.5] * 3 + [0.1] * 3, (n, 6))
    seen[:, :3] /= GRAVITY
    return seen


def _rotation(angles: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return the rotation by angles about the three axes, one after the other."""
    turned = np.eye(3)
    for axis, angle in enumerate(angles):
        first, other = (i for i in range(3) if i != axis)
        one = np.eye(3)
        one[[first, other], [first, other]] = np.cos(angle)
        one[first, other], one[other, first] = -np.sin(angle), np.sin(angle)
        turned = turned @ one
    return turned

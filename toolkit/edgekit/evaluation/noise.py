"""How much noise a file adds to the outputs of the float file, as one figure.

`sqnr_db` of a single output is the usual one; what is here weighs outputs and columns of different
units alike, so that a score between 0 and 1 is not lost beside coordinates in pixels.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numpy as np

from edgekit.evaluation.fidelity import (
    MANY_COLUMNS,
    are_probabilities,
    as_columns,
    finite_pair,
    lists_boxes,
    sqnr_db,
)
from edgekit.records import Array


def noise_ratio(reference: Array, variant: Array) -> float:
    """Return the energy of the difference over that of the reference.

    Where the columns of an output have units of their own (a regression of several figures, lists
    of boxes), it is the mean of the columns' ratios; see `fidelity` for what a column is.

    Args:
        reference: An output of the float file, `[n, ...]`.
        variant: The same of another file.

    Returns:
        0 where they are equal; infinite where the reference is zero and the variant is not. What is
        not finite in the reference is left out; where only the variant is not, it is far off.

    Example:
        >>> reference = np.array([[640.0, 0.5], [320.0, 0.25]])
        >>> noise_ratio(reference, reference * [1.0, 0.0])
        0.5
    """
    rank = reference.ndim
    by_rows = rank == 3 and lists_boxes(reference.shape)
    first, second = finite_pair(
        *(as_columns(side, by_rows=by_rows) for side in (reference, variant))
    )
    axis = 0 if _have_units(first, rank) else None
    noise = np.atleast_1d(np.sum(np.square(second - first), axis=axis))
    signal = np.atleast_1d(np.sum(np.square(first), axis=axis))
    if signal.sum() == 0:
        return math.inf if noise.sum() > 0 else 0.0
    # A column that is zero in float is held against the others.
    return float(np.mean(noise / np.where(signal > 0, signal, signal.mean())))


def all_outputs_db(noise: Sequence[float]) -> float | None:
    """Return the SQNR of all outputs in dB: that of the mean of their noise ratios.

    So each output counts alike, whatever its unit and size, and the worst one decides. None where
    all are equal to the last bit.

    Args:
        noise: `noise_ratio` of each output.

    Example:
        >>> all_outputs_db([0.01, 0.01])
        20.0
    """
    return sqnr_db(1.0, float(np.mean(noise))) if noise else None


def _have_units(values: Array, rank: int) -> bool:
    """Whether the columns `[values, k]` of an output have units of their own."""
    columns = values.shape[1]
    if columns <= 1 or (columns > MANY_COLUMNS and rank != 3):
        return False
    within = bool(values.min() >= 0 and values.max() <= 1)
    return not (within or are_probabilities(values))

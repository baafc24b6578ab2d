"""Round weights by what their errors do to a layer's outputs, not by their own size.

A layer computes `X @ w`; on samples, the squared error of codes z with scale s against targets Y is

    (z s)' H (z s) - 2 (z s)' C + const,    H = X'X / n,  C = X'Y / n,

so that the samples are needed for two matrices only. It is minimized over integers: from the start
of Frantar et al. 2022, "GPTQ" (arXiv 2210.17323, algorithm 1), one code after the other takes the
value that is best for all others as they are (coordinate descent, as in Behdin et al. 2023,
"QuantEase", arXiv 2309.01885, section 3), until few of them change.
"""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgekit.numerics.affine import Floats

Matrix = NDArray[np.float64]

# What is added to the diagonal of H, in shares of its mean: weights that no sample tells apart stay
# near to what they were. The start needs more of it, for it inverts H.
_DAMPING_START: Final = 0.01
_DAMPING: Final = 0.003
# Codes that are changed one by one before the others learn of it, in one matrix product.
_BLOCK: Final = 64
_SWEEPS: Final = 30
_SETTLED: Final = 1e-4


def round_by_gram(
    gram: Matrix, products: Matrix, weights: Matrix, scales: Floats, bits: int = 4
) -> NDArray[np.int8]:
    """Return the codes whose outputs are nearest to targets.

    >>> weights = np.array([[0.4], [0.4]])
    >>> gram = np.ones((2, 2))  # both inputs are always the same: the sum of the weights counts
    >>> int(round_by_gram(gram, gram @ weights, weights, np.array([1.0])).sum())
    1

    Args:
        gram: H, `[inputs, inputs]`.
        products: C, `[inputs, channels]`.
        weights: The float weights, `[inputs, channels]`, which codes are near to where H says
            nothing.
        scales: `[channels]`.
        bits: Width of the codes.

    Returns:
        Symmetric narrow-range codes, `[inputs, channels]`.
    """
    largest = (1 << (bits - 1)) - 1
    steps: Matrix = scales.astype(np.float64)
    diagonal = float(np.trace(gram)) / len(gram)
    if not diagonal > 0:  # inputs that never change tell nothing
        return np.clip(np.rint(weights / steps), -largest, largest).astype(np.int8)
    damped = gram + _DAMPING_START * diagonal * np.eye(len(gram))
    # Weights that make up for what earlier layers changed.
    pulled = products + _DAMPING_START * diagonal * weights
    wanted = np.asarray(np.linalg.solve(damped, pulled), np.float64)
    codes = _start(damped, wanted, steps, largest)
    damped = gram + _DAMPING * diagonal * np.eye(len(gram))
    codes = _descend(damped, products + _DAMPING * diagonal * weights, codes, steps, largest)
    return codes.astype(np.int8)


def output_error(gram: Matrix, products: Matrix, weights: Matrix) -> float:
    """Return the mean squared error of the outputs, less what all weights have in common."""
    return float(np.sum(weights * (gram @ weights - 2 * products)))


def _start(gram: Matrix, weights: Matrix, steps: Matrix, largest: int) -> Matrix:
    """Round input by input; those not yet rounded make up for the error (GPTQ)."""
    order = np.argsort(-np.diag(gram), kind="stable")
    inverse = np.linalg.inv(gram[np.ix_(order, order)])
    upper = np.linalg.cholesky((inverse + inverse.T) / 2).T
    left = weights[order]
    codes = np.zeros_like(left)
    for first in range(0, len(left), _BLOCK):
        end = min(first + _BLOCK, len(left))
        errors = np.zeros((end - first, left.shape[1]))
        for row in range(first, end):
            codes[row] = np.clip(np.rint(left[row] / steps), -largest, largest)
            error = (left[row] - codes[row] * steps) / upper[row, row]
            errors[row - first] = error
            left[row + 1 : end] -= np.outer(upper[row, row + 1 : end], error)
        left[end:] -= upper[first:end, end:].T @ errors
    found = np.empty_like(codes)
    found[order] = codes
    return found


def _descend(gram: Matrix, products: Matrix, codes: Matrix, steps: Matrix, largest: int) -> Matrix:
    """Change codes one input at a time while that lowers the error."""
    diagonal = np.diag(gram)
    gradient = products - gram @ (codes * steps)
    for _ in range(_SWEEPS):
        changes = 0
        for first in range(0, len(gram), _BLOCK):
            end = min(first + _BLOCK, len(gram))
            before = codes[first:end].copy()
            inner = gradient[first:end].copy()
            square = gram[first:end, first:end]
            for row in range(first, end):
                exact = codes[row] + inner[row - first] / (diagonal[row] * steps)
                best = np.clip(np.rint(exact), -largest, largest)
                moved = best - codes[row]
                if moved.any():
                    inner -= np.outer(square[:, row - first], moved * steps)
                    codes[row] = best
                    changes += int(np.count_nonzero(moved))
            moved = (codes[first:end] - before) * steps
            if moved.any():
                gradient -= gram[:, first:end] @ moved
        if changes <= _SETTLED * codes.size:
            break
    return codes

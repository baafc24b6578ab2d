"""Splits whose inputs differ in scale: one of them was not prepared as the other."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgekit.records import Array, Samples

_SAMPLES: Final = 16
_MOST: Final = 10.0
"""Splits of one data set whose values differ by more are not of one scale."""


def scale_note(train: Samples, test: Samples) -> str | None:
    """Return a warning where the values of an input are of another size in test than in train.

    Pixels of 0 to 255 in one and of 0 to 1 in the other, or values that were standardized in one
    only: ranges are calibrated on train, so that integers say nothing of test. Of up to 16 samples
    of each split the median of their root mean squares counts.

    Args:
        train: Samples as the model gets them.
        test: Likewise.
    """
    sizes, others = _sizes(train), _sizes(test)
    for name, trained in sizes.items():
        tested = others.get(name, 0.0)
        if not (trained and tested) or 1 / _MOST <= tested / trained <= _MOST:
            continue
        smaller = tested < trained
        factor = trained / tested if smaller else tested / trained
        return (
            f"The values of input {name!r} are {float(f'{factor:.3g}'):,.0f} times "
            f"{'smaller' if smaller else 'larger'} in test than in train ({tested:.3g} against "
            f"{trained:.3g}, root mean square): prepare both alike, for integers are calibrated "
            "on train."
        )
    return None


def _sizes(samples: Samples) -> dict[str, float]:
    """Return the size of the values of each input that holds numbers."""
    rows = np.unique(np.linspace(0, samples.n - 1, min(samples.n, _SAMPLES)).astype(np.int64))
    return {
        name: _size(values)
        for name, values in samples.read(rows).inputs.items()
        if values.dtype.kind in "fiu"
    }


def _size(values: Array) -> float:
    squares = np.square(values.reshape(len(values), -1).astype(np.float64))
    return float(np.median(np.sqrt(squares.mean(axis=1)))) if squares.size else 0.0

"""What hypothesis draws: weights, ranges, histograms, masks, in the shapes that quantization meets.

from strategies import weights

@given(values=weights(), bits=BITS)
def test_...
"""

from __future__ import annotations

import numpy as np
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst
from hypothesis.strategies import SearchStrategy

from edgekit.numerics import Histogram

BITS = st.sampled_from([4, 8, 16])
"""Widths of integers that TFLite has kernels for."""

WEIGHT_BITS = st.sampled_from([4, 8])
"""Those of them that weights are stored in."""

FLOATS = st.floats(-1e6, 1e6, width=32)
"""Ends of an activation's range."""

SPARSITIES = st.floats(0, 0.99)
"""Shares of zeros that pruning may be asked for."""

INT4_CODES = npst.arrays(np.int8, st.integers(0, 33), elements=st.integers(-8, 7))
"""Odd and even counts: two codes share a byte."""

# Ties on purpose: few distinct values, none of them zero.
_TIED = st.sampled_from([-2.0, -1.5, -1.0, 0.5, 1.0, 1.25, 3.0])


def ranges() -> SearchStrategy[tuple[float, float]]:
    """Ends `(low, high)` with `low <= high`; zero need not lie between them."""
    return st.tuples(FLOATS, FLOATS).map(lambda ends: (min(ends), max(ends)))


def weights(
    *, min_dims: int = 2, max_dims: int = 4, limit: float = 1e3, width: int = 32
) -> SearchStrategy[np.ndarray]:
    """Float32 weights `[out_channels, ...]` in [-limit, limit]; zeros and equal values occur.

    Args:
        min_dims: Fewest axes.
        max_dims: Most axes.
        limit: Largest magnitude.
        width: Bits of the floats drawn: 16 keeps them apart by more than float32's rounding.
    """
    return npst.arrays(
        np.float32,
        npst.array_shapes(min_dims=min_dims, max_dims=max_dims, max_side=7),
        elements=st.floats(-limit, limit, width=width),
    )


def kernels(*, outputs: int = 1, inputs: int = 1) -> SearchStrategy[list[np.ndarray]]:
    """A few kernels `[taps, out_channels, in_channels]` without zeros, many weights equal.

    Args:
        outputs: What the output channels are a multiple of.
        inputs: What the input channels are a multiple of.
    """
    shapes = st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)).map(
        lambda sides: (sides[0], sides[1] * outputs, sides[2] * inputs)
    )
    kernel = shapes.flatmap(lambda shape: npst.arrays(np.float32, shape, elements=_TIED))
    return st.lists(kernel, min_size=1, max_size=4)


@st.composite
def histograms(draw: st.DrawFn) -> Histogram:
    """Histograms of an activation that was seen at least once, below zero and above."""
    counts = draw(npst.arrays(np.int64, 2048, elements=st.integers(0, 50), fill=st.just(0)))
    counts[draw(st.integers(0, 2047))] += 1
    return Histogram(low=draw(st.floats(-100, 0)), high=draw(st.floats(0.01, 100)), counts=counts)


@st.composite
def outputs(draw: st.DrawFn, *, count: int) -> list[np.ndarray]:
    """Arrays of one shape `[n, ...]` as a model's output may be: float32, any finite value."""
    shape = draw(npst.array_shapes(min_dims=1, max_dims=4, max_side=12))
    one = npst.arrays(
        np.float32, shape, elements=st.one_of(_TIED, st.floats(allow_nan=False, width=32))
    )
    return draw(st.lists(one, min_size=count, max_size=count))

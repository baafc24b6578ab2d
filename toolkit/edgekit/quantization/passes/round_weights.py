"""Round the weights of layers to four bits by their outputs on the samples.

Every convolution and dense layer whose weights get four bits is given codes by
`numerics.gram_rounding`, on what reaches it in the graph whose earlier layers are rounded, towards
what it computes in the float graph. The products of its inputs are summed image by image. The codes
that the writer would choose (`numerics.rounding`) are a candidate: they are kept in a layer where
they come out better on the samples held back. Means go into the bias, where there is one. Depthwise
layers and those with eight bits are left alone, as are weights that were trained for their codes,
for few distinct values, or with zeros.

The weights that are handed on lie on the scale of their codes, which the writer recognizes
(`numerics.clipping.grid_scales`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import numpy as np
from numpy.typing import NDArray

from edgekit.numerics import dequantize, grid_scales, output_error, round_by_gram
from edgekit.quantization.passes.graph_pass import GraphPass
from edgekit.quantization.passes.grids import Grid, grids
from edgekit.quantization.passes.layers import ChannelGraph, Layer
from edgekit.quantization.passes.patches import patches
from edgekit.quantization.passes.side_by_side import Change, Pair, fitted
from edgekit.records import Array

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

    from edgekit.quantization.observe import Observed
    from edgekit.records import Plan

# Samples of which every fourth judges; of fewer none does.
_FEWEST_TO_JUDGE: Final = 8
# Wider layers would need gigabytes for the products of their inputs.
_MOST_INPUTS: Final = 5000
# Rows that are multiplied at once: dense layers have one for each sample.
_ROWS: Final = 512
# Of the descent: what it mostly takes.
_USUAL_SWEEPS: Final = 10
# Output positions of all samples together that are enough: more take time and change little.
_MOST_ROWS: Final = 32768


def round_weights(model: ModelT, observed: Observed, settings: Plan) -> ModelT:
    """Return a graph whose weights are codes of four bits, with the biases that go with them.

    Args:
        model: A float graph; it is not changed.
        observed: The samples, and the graph whose outputs are to be reached.
        settings: Mode and rules, which say what gets four bits.
    """
    return fitted(model, observed, settings, _rounded)


ROUND_WEIGHTS: Final = GraphPass(
    name="round_weights",
    meaning="Round four-bit weights by the outputs of their layers, and correct the biases.",
    apply=round_weights,
    observes=True,
    moves_activations=True,
    fits=True,
)


Matrix = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class _Sums:
    """Sums over rows of what a layer reads (x) and what it shall compute without its bias (y).

    Both are taken from an origin near their means: inputs that hardly vary would else leave nothing
    but rounding errors of their squares.

    Attributes:
        n: Rows.
        x: `[inputs]`.
        y: `[channels]`.
        xx: `[inputs, inputs]`.
        xy: `[inputs, channels]`.
    """

    n: int
    x: Matrix
    y: Matrix
    xx: Matrix
    xy: Matrix

    def __add__(self, other: _Sums) -> _Sums:
        return _Sums(
            self.n + other.n,
            self.x + other.x,
            self.y + other.y,
            self.xx + other.xx,
            self.xy + other.xy,
        )

    def about(self, center: tuple[Matrix, Matrix]) -> tuple[Matrix, Matrix]:
        """Return the mean products of the differences to a center, of x with x and with y."""
        (x, y), (mx, my) = center, self.means
        gram = self.xx / self.n - np.outer(x, mx) - np.outer(mx - x, x)
        return gram, self.xy / self.n - np.outer(x, my) - np.outer(mx - x, y)

    @property
    def means(self) -> tuple[Matrix, Matrix]:
        """Return the means of x and y."""
        return self.x / self.n, self.y / self.n


def rounding_work(model: ModelT, settings: Plan, n: int) -> int:
    """Return about how many multiply-accumulates the pass takes, without running it.

    Args:
        model: The float graph.
        settings: Mode and rules.
        n: Number of samples.

    Returns:
        0 where no weights would be rounded.
    """
    work, chosen, graph = 0, grids(model, settings), ChannelGraph(model)
    for layer in graph.layers():
        made = graph.graph.tensors[layer.output]
        if not layer.rewritable or not _takes(layer, chosen.get(made.name)):
            continue
        channels, inputs = len(layer.weights), layer.weights[0].size
        rows = min(_MOST_ROWS, n * int(np.prod(made.shape)) // channels)
        work += inputs * (rows * (inputs + channels) + inputs * (inputs + _USUAL_SWEEPS * channels))
    return work


def _takes(layer: Layer, grid: Grid | None) -> bool:
    """Whether weights are rounded."""
    if grid is None or grid.bits != 4 or layer.axis == 3 or layer.weights[0].size > _MOST_INPUTS:
        return False
    if layer.clustered or layer.pruned:
        return False
    return not (grid_scales(layer.weights, 0) > 0).all()


def _rounded(pair: Pair) -> Change | None:
    layer, weights = pair.rounded, pair.rounded.weights
    if pair.grid is None or not _takes(layer, pair.grid):
        return None
    bias = pair.exact.bias if layer.can_add() else None
    origin = _origin(pair, shifted=bias is not None)
    rows, judging = _split(len(pair.rounded_given))
    fit = _summed(pair, rows, origin)
    held = _summed(pair, judging, origin) if len(judging) else None
    everything = fit if held is None else fit + held
    flat, scales = _by_input(weights), pair.grid.scales(weights)

    def center(sums: _Sums) -> tuple[Matrix, Matrix]:
        # The bias makes up for the means, if there is one.
        return sums.means if bias is not None else origin

    def codes(sums: _Sums) -> Matrix:
        found = round_by_gram(*sums.about(center(sums)), flat, scales)
        return dequantize(found, scales, 1).astype(np.float64)

    chosen = balanced = _by_input(pair.stored)
    judge = (held or fit).about(center(fit))
    judged = [output_error(*judge, candidate) for candidate in (codes(fit), balanced)]
    if judged[0] < judged[1]:
        chosen = codes(everything)
    if bias is not None:
        means = everything.means
        wanted, found = origin[1] + means[1], (origin[0] + means[0]) @ chosen
        bias = (bias + (wanted - found).reshape(bias.shape)).astype(np.float32)
    if chosen is balanced:
        return Change(bias=bias)
    return Change(weights=chosen.T.reshape(weights.shape).astype(np.float32), bias=bias)


def _by_input(weights: Array) -> Matrix:
    """Return weights as `[inputs, channels]`."""
    return weights.reshape(len(weights), -1).T.astype(np.float64)


def _split(n: int) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Return the samples to fit, and those that judge, if there are enough."""
    rows = np.arange(n)
    held = rows % 4 == 3 if n >= _FEWEST_TO_JUDGE else rows < 0
    return rows[~held], rows[held]


def _origin(pair: Pair, *, shifted: bool) -> tuple[Matrix, Matrix]:
    """Return the means of the first sample; zeros where no bias can make up for them."""
    x = patches(pair.rounded, pair.rounded_given[0]).mean(axis=0, dtype=np.float64)
    y = patches(pair.exact, pair.exact_given[0]).mean(axis=0, dtype=np.float64)
    return shifted * x, shifted * (y @ _by_input(pair.exact.weights))


def _summed(pair: Pair, samples: NDArray[np.int64], origin: tuple[Matrix, Matrix]) -> _Sums:
    """Return the sums over some samples."""
    target = _by_input(pair.exact.weights).astype(np.float32)
    x0, y0 = (part.astype(np.float32) for part in origin)
    total: _Sums | None = None
    for read, wanted in _pieces(pair, samples):
        x, y = read - x0, wanted @ target - y0
        part = _Sums(
            len(x),
            x.sum(axis=0, dtype=np.float64),
            y.sum(axis=0, dtype=np.float64),
            (x.T @ x).astype(np.float64),
            (x.T @ y).astype(np.float64),
        )
        total = part if total is None else total + part
    assert total is not None
    return total


def _pieces(pair: Pair, samples: NDArray[np.int64]) -> Iterator[tuple[Array, Array]]:
    """Yield what the layer reads, in the graph that is rounded and in float, many rows at once."""
    kept: list[tuple[Array, Array]] = []
    rows = 0
    whole = len(patches(pair.rounded, pair.rounded_given[0])) * len(pair.rounded_given)
    step = max(1, whole // _MOST_ROWS)
    for number in samples.tolist():
        # Other positions in each sample.
        both = (
            patches(pair.rounded, pair.rounded_given[number], number % step, step),
            patches(pair.exact, pair.exact_given[number], number % step, step),
        )
        kept.append(both)
        rows += len(both[0])
        if rows >= _ROWS or number == samples[-1]:
            yield np.concatenate([x for x, _ in kept]), np.concatenate([y for _, y in kept])
            kept, rows = [], 0

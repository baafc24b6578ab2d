"""How near a file's outputs are to the float graph's on the same inputs, and what was lost of them.

No labels are needed. Every output is compared, not only the one that is scored: on up to
`COMPARED_SAMPLES` samples, spread over all of them, of which a `Fidelity` tells the distance, and a
`Collapse` what no longer tells anything. docs/accuracy.md states the rules for users.

The last axis of an output is its columns: `[n, k]` has k of them with n values each, `[n, h, w, k]`
k with n h w values each, `[n]` one. Detections are also stored the other way round, `[n, 84, 8400]`
for 84 figures of 8,400 boxes: where the last of three axes is much the longer one, the figures are
the rows.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from edgekit.records import Array, Collapse, CollapseKind, Fidelity

Floats = NDArray[np.float64]

COMPARED_SAMPLES: Final = 512
"""Enough to tell a handful of levels from hundreds, and an agreement to a point; more would cost
time in every run."""
COMPARED_VALUES: Final = 1 << 21
"""Most values of all outputs together; fewer samples of large outputs are kept: 8 MB as float32."""

MIN_VALUES: Final = 8
"""Columns of fewer values are not judged: a few near samples may rightly become equal."""
CONSTANT_SHARE: Final = 1e-3
"""A column that moves by less than this share of its float range is constant: its last bits may
still move where an output is float behind layers that are not."""
SATURATED_SHARE: Final = 0.5
"""Share of values cut off at one end beyond which most samples look alike."""
EIGHT_BITS: Final = 256
"""Steps of a range, of which what is cut off must be at least one."""
FEW_LEVELS: Final = 8
"""With as many distinct values, 3 bits, a figure can still be ranked and compared."""
FEWER_THAN_FLOAT: Final = 4
"""What takes few values in float too has lost something only below a quarter of them."""
FEW_LEVELS_DB: Final = 10.0
"""Few values that follow the float output better than this are what it is: scores at 0 and 1."""
TWO_LEVELS_DB: Final = 20.0
"""The same for two values, by which nothing can be ranked."""

# Which columns vary at all, in float.
OWN_NOISE: Final = 1e-4
"""Of a column's greatest magnitude: below is what float32 arithmetic leaves of a constant."""
OUTPUT_NOISE: Final = 1e-6
"""Likewise, of the greatest magnitude of the whole output."""
SHARED_RANGE: Final = 0.05
"""Of the whole output's range, where columns have one unit: a class that no sample is near to, or
a pixel that is always dark, may become constant. In int8 this is 12 steps."""
SHARED_STEP: Final = 1 / 64
"""Likewise, absolute, of values between 0 and 1: 4 steps of int8 scores."""
MANY_COLUMNS: Final = 32
"""Rows `[k]` and maps `[h, w, k]` of more than this are taken for pixels, an embedding, features:
of one unit. Lists `[boxes, k]` are not: their columns are boxes and scores."""
LONGER: Final = 8
"""A last axis of more than `MANY_COLUMNS` and of so many times the one before it lists boxes."""
ROW_SUM: Final = 1e-3
"""Rows of class probabilities sum to 1 up to this."""

# A file that is recommended without labels has outputs as near as this.
ENOUGH_AGREEMENT: Final = 0.98
ENOUGH_CORRELATION: Final = 0.99
ENOUGH_SQNR_DB: Final = 20.0
"""A difference of a tenth of the signal, root mean square."""

WORST_SQNR_DB: Final = -100.0
"""Stands for no signal at all, so that every figure is finite."""
MOST_NAMED: Final = 4
"""Columns that are named one by one; more are counted."""


def compared_rows(n: int, values: int) -> NDArray[np.int64]:
    """Return which of `n` samples are compared: ascending, spread evenly over all of them.

    Data is often sorted by class, so that its beginning would be one class.

    Args:
        n: Number of samples.
        values: Values that all outputs have for one sample.

    Example:
        >>> compared_rows(10, values=COMPARED_VALUES // 4)
        array([0, 2, 5, 7])
    """
    count = min(n, COMPARED_SAMPLES, max(1, COMPARED_VALUES // max(1, values)))
    return np.arange(count, dtype=np.int64) * n // count


def compare(
    reference: Mapping[str, Array],
    variant: Mapping[str, Array],
    *,
    class_scores: str | None = None,
    baseline: str = "float32",
) -> tuple[tuple[Fidelity, ...], tuple[Collapse, ...]]:
    """Compare all outputs of a file with the float graph's on the same samples.

    Outputs belong together by name or, where names differ, by position. What is not comparable,
    because number, shapes or samples differ, is left out.

    Args:
        reference: Output name -> `[n, ...]` of the float graph, quantized values as real ones.
        variant: The same of the file.
        class_scores: The output that is known to hold a score for each class, as `variant` names
            it; others are taken for that where their rows are probabilities.
        baseline: What to call the float graph.

    Returns:
        One `Fidelity` an output, in the file's order, and what collapsed.
    """
    fidelities, collapses = [], []
    for position, (name, values) in enumerate(variant.items()):
        other = reference.get(name)
        if other is None and len(reference) == len(variant):
            other = list(reference.values())[position]
        if other is None or other.shape != values.shape or not values.size:
            continue
        pair = _Pair.of(other, values, class_scores=name == class_scores)
        fidelities.append(pair.fidelity(name))
        collapses += pair.collapses(name, baseline)
    return tuple(fidelities), tuple(collapses)


def worst(fidelities: Sequence[Fidelity]) -> Fidelity:
    """Return the output that is farthest from the float graph's: the least SQNR.

    Args:
        fidelities: At least one.
    """
    return min(fidelities, key=lambda one: math.inf if one.sqnr_db is None else one.sqnr_db)


def fidelity_ok(fidelity: Fidelity) -> bool:
    """Whether an output is near enough to the float graph's to be shipped unscored.

    At least 98 % of samples have the same top-1 class, or a correlation of at least 0.99 where
    there are no classes; and an SQNR of at least 20 dB.
    """
    if fidelity.agreement is not None:
        alike = fidelity.agreement >= ENOUGH_AGREEMENT
    else:
        alike = fidelity.correlation is None or fidelity.correlation >= ENOUGH_CORRELATION
    return alike and (fidelity.sqnr_db is None or fidelity.sqnr_db >= ENOUGH_SQNR_DB)


def sqnr_db(signal: float, noise: float) -> float | None:
    """Return the signal-to-quantization-noise ratio in dB; None where there is no noise.

    `10 log10(signal / noise)` (R. Gray, D. Neuhoff, "Quantization", IEEE Transactions on
    Information Theory 44 (1998)), with the energies of both: `signal` is the sum of squares of the
    float output, `noise` that of the difference.

    Example:
        >>> sqnr_db(100.0, 1.0)
        20.0
    """
    if noise == 0:
        return None
    if signal == 0:
        return WORST_SQNR_DB
    return max(WORST_SQNR_DB, 10 * (math.log10(signal) - math.log10(noise)))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Columns:
    """Statistics of the columns of one output of one graph, each `[k]`."""

    low: Floats
    high: Floats
    levels: NDArray[np.int64]
    step: float
    """The least distance of two values that differ, of all columns."""

    @classmethod
    def of(cls, values: Floats) -> _Columns:
        ordered = np.sort(values, axis=0)
        gaps = np.diff(ordered, axis=0)
        step = gaps.min(initial=np.inf, where=gaps > 0)
        levels = 1 + np.count_nonzero(gaps, axis=0)
        return cls(low=ordered[0], high=ordered[-1], levels=levels, step=float(step))

    @property
    def range(self) -> Floats:
        return self.high - self.low


@dataclass(frozen=True, slots=True, kw_only=True)
class _Pair:
    """One output of both graphs, `[values, k]`, with the statistics of its columns.

    Attributes:
        n: Number of samples.
        axis: What a column is called.
        class_scores: Whether each row has a score for each class.
        one_unit: Whether all columns have one unit, so that their ranges can be compared.
        judged: `[k]`, the columns that vary in float, so that a collapse would be one.
    """

    n: int
    axis: str
    reference: Floats
    variant: Floats
    before: _Columns
    after: _Columns
    class_scores: bool
    one_unit: bool
    judged: NDArray[np.bool_]

    @classmethod
    def of(cls, reference: Array, variant: Array, *, class_scores: bool) -> _Pair:
        n, rank = len(reference), reference.ndim
        by_rows = rank == 3 and lists_boxes(reference.shape)
        reference, variant = (as_columns(side, by_rows=by_rows) for side in (reference, variant))
        reference, variant = finite_pair(reference, variant)
        before = _Columns.of(reference)
        within = bool(before.low.min() >= 0 and before.high.max() <= 1)
        columns = reference.shape[1]
        scores = rank == 2 and columns > 1 and (class_scores or are_probabilities(reference))
        one_unit = scores or within or (rank != 3 and columns > MANY_COLUMNS)
        if one_unit:
            whole = before.high.max() - before.low.min()
            judged = before.range >= max(SHARED_RANGE * whole, SHARED_STEP * within)
        else:
            largest = np.maximum(np.abs(before.low), np.abs(before.high))
            judged = before.range > np.maximum(OWN_NOISE * largest, OUTPUT_NOISE * largest.max())
        return cls(
            n=n,
            axis="row" if by_rows else "column",
            reference=reference,
            variant=variant,
            before=before,
            after=_Columns.of(variant),
            class_scores=scores,
            one_unit=one_unit,
            judged=judged & (before.levels > 1) & (len(reference) >= MIN_VALUES),
        )

    def fidelity(self, name: str) -> Fidelity:
        """Return the distance of the whole output."""
        noise = float(np.sum(np.square(self.variant - self.reference)))
        agreement = None
        if self.class_scores:
            same = self.reference.argmax(axis=1) == self.variant.argmax(axis=1)
            agreement = float(same.mean())
        levels = self.after.levels[self.judged] if self.judged.any() else self.after.levels
        return Fidelity(
            output=name,
            n=self.n,
            sqnr_db=sqnr_db(float(np.sum(np.square(self.reference))), noise),
            agreement=agreement,
            correlation=None if self.class_scores else self._correlation(),
            levels=int(levels.min()),
            cut_off=None if self.class_scores else int(self._cut().sum()),
        )

    def collapses(self, name: str, baseline: str) -> list[Collapse]:
        """Return the columns that the variant no longer tells; each is said once."""
        before, after = self.before, self.after
        constant = self.judged & (after.range < CONSTANT_SHARE * before.range)
        saturated = self.judged & ~constant & (self._cut_off().max(axis=0) > SATURATED_SHARE)
        few = self.judged & ~constant & ~saturated
        few &= after.levels < np.minimum(FEW_LEVELS, before.levels / FEWER_THAN_FLOAT)
        if self.one_unit:
            # Else it is the samples that have few values, as of a class that is seldom seen.
            few &= before.range < FEW_LEVELS * after.step
        if few.any():
            limit = np.where(after.levels <= 2, TWO_LEVELS_DB, FEW_LEVELS_DB)
            few &= self._column_noise() > 10 ** (-limit / 10)

        def spanned(column: int) -> str:
            low, high = before.low[column], before.high[column]
            return f"{before.levels[column]:,} values from {low:.4g} to {high:.4g}"

        def always(column: int) -> str:
            return f"always {after.high[column] + 0.0:.4g}, {baseline} has {spanned(column)}"

        def cut_off(column: int) -> str:
            shares = self._cut_off()[:, column]
            top = shares[1] >= shares[0]
            end = after.high[column] if top else after.low[column]
            beyond = before.high[column] if top else before.low[column]
            return (
                f"{100 * shares.max():.0f} % of the values are cut off at {end:.4g}, "
                f"{baseline} goes on to {beyond:.4g}"
            )

        def counted(column: int) -> str:
            return f"{after.levels[column]} distinct values, {baseline} has {spanned(column)}"

        found: list[Collapse] = []
        kinds: tuple[tuple[CollapseKind, NDArray[np.bool_], Callable[[int], str]], ...] = (
            ("constant", constant, always),
            ("saturated", saturated, cut_off),
            ("few levels", few, counted),
        )
        for kind, lost, detail in kinds:
            columns = np.flatnonzero(lost).tolist()
            for where, column in self._places(name, columns):
                found.append(Collapse(kind=kind, where=where, detail=detail(column)))
        return found

    def _places(self, name: str, columns: list[int]) -> list[tuple[str, int]]:
        """Return where columns are, in words, each with a column to describe it by."""
        if self.reference.shape[1] == 1:
            return [(f"output {name!r}", column) for column in columns]
        if len(columns) <= MOST_NAMED:
            return [(f"output {name!r}, {self.axis} {column}", column) for column in columns]
        first = ", ".join(map(str, columns[:MOST_NAMED]))
        more = len(columns) - MOST_NAMED
        return [(f"output {name!r}, {self.axis}s {first} and {more} more", columns[0])]

    def _cut(self) -> NDArray[np.bool_]:
        """Return which values are cut off at the lower and at the upper end, `[2, values, k]`.

        The variant is at the end of what it takes, with other values, and float32 more than a step
        beyond, one of 8 bits at least: scores that are rounded to 0 or 1 are not cut off, nor are
        those of 16 bits behind logits of 8.
        """
        step = np.maximum(self.after.step, self.before.range / EIGHT_BITS)
        at_end = np.stack([self.variant == self.after.low, self.variant == self.after.high])
        lower, upper = self.after.low - step, self.after.high + step
        beyond = np.stack([self.reference < lower, self.reference > upper])
        return np.asarray(at_end & beyond & (at_end.sum(axis=1, keepdims=True) > 1))

    def _cut_off(self) -> Floats:
        """Return the shares of values cut off at the lower and the upper end, `[2, k]`.

        What sits at its own end in float too, behind a ReLU6, is no loss.
        """
        own = [(self.reference == end).mean(axis=0) for end in (self.before.low, self.before.high)]
        return np.asarray(self._cut().mean(axis=1) - np.stack(own))

    def _column_noise(self) -> Floats:
        """Return the noise of each column over its variance, `[k]`: a mean tells nothing."""
        noise = np.mean(np.square(self.variant - self.reference), axis=0)
        variance = self.reference.var(axis=0)
        return np.asarray(noise / np.where(variance > 0, variance, 1.0))

    def _correlation(self) -> float | None:
        """Return Pearson's: of all values where columns have one unit, else of the worst column."""
        if not self.judged.any():
            return None
        if self.one_unit:
            return float(_pearson(self.reference.reshape(-1, 1), self.variant.reshape(-1, 1))[0])
        return float(_pearson(self.reference[:, self.judged], self.variant[:, self.judged]).min())


def lists_boxes(shape: tuple[int, ...]) -> bool:
    """Whether an output of three axes has its columns in rows: figures of many boxes."""
    return shape[2] > MANY_COLUMNS and shape[2] > LONGER * shape[1]


def as_columns(values: Array, *, by_rows: bool) -> Floats:
    """Return an output `[n, ..., k]` as `[values, k]`; a complex one as its two parts."""
    if by_rows:
        values = np.swapaxes(values, 1, 2)
    if values.dtype.kind == "c":
        values = np.stack([values.real, values.imag], axis=-1)
    return values.reshape(-1, values.shape[-1] if values.ndim > 1 else 1).astype(np.float64)


def finite_pair(reference: Floats, variant: Floats) -> tuple[Floats, Floats]:
    """Leave out what is not finite in float; what only the variant makes of it is far off."""
    far = float(np.finfo(np.float32).max)
    sound = np.isfinite(reference)
    if not sound.all():
        reference, variant = np.where(sound, reference, 0.0), np.where(sound, variant, 0.0)
    return reference, np.nan_to_num(variant, nan=far, posinf=far, neginf=-far)


def are_probabilities(rows: Floats) -> bool:
    """Whether rows `[values, k]` have a probability for each class."""
    return bool(rows.min() >= 0 and np.all(np.abs(rows.sum(axis=1) - 1) <= ROW_SUM))


def _pearson(first: Floats, second: Floats) -> Floats:
    """Return the correlation of each column `[values, k]`; 0 where one of both is constant."""
    first, second = first - first.mean(axis=0), second - second.mean(axis=0)
    # Each over its own largest value, so that no square overflows or vanishes.
    first, second = (
        side / np.where(largest > 0, largest, 1.0)
        for side in (first, second)
        for largest in (np.abs(side).max(axis=0),)
    )
    scale = np.sqrt(np.sum(first**2, axis=0) * np.sum(second**2, axis=0))
    product = np.sum(first * second, axis=0)
    return np.asarray(np.divide(product, scale, out=np.zeros_like(scale), where=scale > 0))

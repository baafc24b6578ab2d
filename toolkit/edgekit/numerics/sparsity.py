"""Pruning masks by magnitude, and schedules of the sparsity during training.

Kernels have the layout `[..., outputs, inputs]`: the last axis is the one over which products are
summed, the input channels of a convolution, which is innermost in TFLite and in hardware with
sparse units.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from edgekit.choices import Scope
from edgekit.errors import UsageError
from edgekit.records import Array

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class Blocks:
    """Pattern of blocks of `outputs` by `inputs` weights; 1 by 1 is unstructured."""

    outputs: int = 1
    inputs: int = 1


@dataclass(frozen=True, slots=True)
class NofM:
    """Pattern with at most `n` nonzero weights in every `m` consecutive inputs of an output."""

    n: int
    m: int

    @property
    def sparsity(self) -> float:
        """Return the share of zeros that this pattern implies."""
        return 1 - self.n / self.m


Pattern = Blocks | NofM


class Schedule(Protocol):
    """Share of zeros at every training step."""

    @property
    def final(self) -> float:
        """Return the final share of zeros."""

    @property
    def end(self) -> int:
        """Return the first step with the final share."""

    def __call__(self, step: int) -> float:
        """Return the share of zeros at `step`, counted from 0."""


@dataclass(frozen=True, slots=True)
class Constant:
    """Schedule with the final share from step `begin` on.

    `Constant(0.0)` prunes no further weights, and keeps existing zeros.

    >>> Constant(0.5, begin=10)(9), Constant(0.5, begin=10)(10)
    (0.0, 0.5)
    """

    final: float
    begin: int = 0

    def __post_init__(self) -> None:
        _check_share(self.final)

    @property
    def end(self) -> int:
        """Return the step of the pruning."""
        return self.begin

    def __call__(self, step: int) -> float:
        """Return the share of zeros at `step`, counted from 0."""
        return self.final if step >= self.begin else 0.0


@dataclass(frozen=True, slots=True)
class PolynomialDecay:
    """Polynomial schedule: prunes fast at first, while the network can recover, then slower.

    `s(t) = final + (initial - final) * (1 - (t - begin) / (end - begin)) ** power`, 0 before
    `begin`, `final` after `end` (Zhu and Gupta 2017, "To Prune, or Not to Prune", equation 1, where
    the power is 3).

    >>> rise = PolynomialDecay(initial=0.0, final=0.8, begin=0, end=100)
    >>> [round(rise(step), 3) for step in (0, 25, 50, 100, 200)]
    [0.0, 0.463, 0.7, 0.8, 0.8]
    """

    initial: float
    final: float
    begin: int
    end: int
    power: float = 3.0

    def __post_init__(self) -> None:
        for share in (self.initial, self.final):
            _check_share(share)
        if not (self.initial <= self.final and 0 <= self.begin < self.end and self.power > 0):
            raise UsageError(
                "Invalid pruning schedule.",
                found=f"It is {self}.",
                hint="Give initial <= final and 0 <= begin < end.",
            )

    def __call__(self, step: int) -> float:
        """Return the share of zeros at `step`, counted from 0."""
        if step < self.begin:
            return 0.0
        left = 1 - min((step - self.begin) / (self.end - self.begin), 1.0)
        return self.final + (self.initial - self.final) * float(left**self.power)


def parse_pattern(text: str) -> Pattern:
    """Read `unstructured`, `N:M` or `block RxC` (R outputs by C inputs).

    >>> parse_pattern("2:4"), parse_pattern("block 1x4")
    (NofM(n=2, m=4), Blocks(outputs=1, inputs=4))

    Raises:
        UsageError: It is no such pattern.
    """
    if text == "unstructured":
        return Blocks()
    if found := re.fullmatch(r"([0-9]{1,4}):([0-9]{1,4})", text):
        n, m = map(int, found.groups())
        if 0 < n < m:
            return NofM(n, m)
    if found := re.fullmatch(r"block ([0-9]{1,4})x([0-9]{1,4})", text):
        outputs, inputs = map(int, found.groups())
        if outputs and inputs:
            return Blocks(outputs, inputs)
    raise UsageError(
        f"There is no sparsity pattern {text!r:.80}.",
        hint="Patterns: unstructured; N:M, such as 2:4; block RxC, such as block 1x4.",
    )


def share_of(text: str, otherwise: float) -> float:
    """Return the share of zeros that a pattern implies, or another number where it implies none.

    >>> share_of("2:4", 0.8), share_of("unstructured", 0.8)
    (0.5, 0.8)
    """
    pattern = parse_pattern(text)
    return pattern.sparsity if isinstance(pattern, NofM) else otherwise


def check_agreement(sparsity: float, pattern: Pattern) -> None:
    """Raise where a pattern implies another share of zeros.

    Sparsity 0 contradicts none: it holds existing zeros.

    Raises:
        UsageError: It does.
    """
    if isinstance(pattern, NofM) and sparsity and abs(sparsity - pattern.sparsity) > 1e-6:
        raise UsageError(
            f"{pattern.n}:{pattern.m} implies sparsity {pattern.sparsity:g}, not {sparsity:g}.",
            hint=f"Ask for {pattern.sparsity:g}, or for another pattern.",
        )


def misfit(shape: Sequence[int], pattern: Pattern) -> str | None:
    """Return why a kernel `[..., outputs, inputs]` cannot have a pattern; None where it can.

    >>> misfit((3, 3, 24, 1), NofM(2, 4))
    'its inputs (1) do not divide into groups of 4'
    """
    outputs, inputs = shape[-2:]
    rows, columns = (1, pattern.m) if isinstance(pattern, NofM) else _sides(pattern)
    if inputs % columns:
        return f"its inputs ({inputs}) do not divide into groups of {columns}"
    if outputs % rows:
        return f"its outputs ({outputs}) do not divide into groups of {rows}"
    return None


def magnitude_masks(
    weights: Sequence[Array],
    sparsity: float,
    pattern: Pattern = Blocks(),
    scope: Scope = "global",
) -> list[Mask]:
    """Return masks of the weights to keep: all but the smallest in magnitude.

    With 0.75, of `[0.3, -0.2, -0.01, 0.05]` the largest is kept:

    >>> magnitude_masks([np.array([[0.3, -0.2, -0.01, 0.05]])], 0.75)[0].tolist()
    [[True, False, False, False]]

    With 2:4, two of every four are kept, whatever the magnitudes in other groups:

    >>> row = np.array([[9, 8, 7, 6, 1, 2, 3, 4]])
    >>> magnitude_masks([row], 0.5, NofM(2, 4))[0].astype(int).tolist()
    [[1, 1, 0, 0, 0, 0, 1, 1]]

    A weight that is zero is never kept, so a mask can be recovered from the weights.

    Args:
        weights: Kernels, each `[..., outputs, inputs]`.
        sparsity: Share of weights to prune, below 1; reached to within half a block. With N:M it is
            rounded down to whole weights per group, and limited to that of the pattern.
        pattern: Pattern of the zeros, which every kernel can have (`misfit`).
        scope: Whether magnitudes are compared across all kernels, or within each kernel.

    Returns:
        Masks of the shapes of `weights`, True where a weight is kept.
    """
    _check_share(sparsity)
    magnitudes = [np.abs(np.asarray(kernel, np.float32)) for kernel in weights]
    if isinstance(pattern, NofM):
        # A share computed from n and m may be too small by a rounding error.
        drop = min(int(pattern.m * sparsity + 1e-6), pattern.m - pattern.n)
        found = [_in_groups(magnitude, pattern.m, drop) for magnitude in magnitudes]
    else:
        scores = [_block_norms(magnitude, pattern) for magnitude in magnitudes]
        parts = [scores] if scope == "global" else [[score] for score in scores]
        kept = [mask for part in parts for mask in _all_but_smallest(part, sparsity)]
        rows, columns = _sides(pattern)
        found = [mask.repeat(rows, axis=-2).repeat(columns, axis=-1) for mask in kept]
    return [mask & (magnitude != 0) for mask, magnitude in zip(found, magnitudes, strict=True)]


def _in_groups(magnitude: Array, size: int, drop: int) -> Mask:
    """Return a mask without the `drop` smallest of every `size` values along the last axis."""
    groups = magnitude.reshape(*magnitude.shape[:-1], -1, size)
    order = np.argsort(groups, axis=-1, kind="stable")
    mask = np.ones(groups.shape, np.bool_)
    np.put_along_axis(mask, order[..., :drop], False, axis=-1)
    return mask.reshape(magnitude.shape)


def _block_norms(magnitude: Array, block: Blocks) -> Array:
    """Return L2 norms of the blocks, `[..., outputs / rows, inputs / columns]`."""
    rows, columns = _sides(block)
    if (rows, columns) == (1, 1):
        return magnitude
    *rest, outputs, inputs = magnitude.shape
    tiles = magnitude.reshape(*rest, outputs // rows, rows, inputs // columns, columns)
    return np.asarray(np.sqrt(np.square(tiles).sum(axis=(-3, -1))))


def _all_but_smallest(scores: Sequence[Array], sparsity: float) -> list[Mask]:
    """Return masks without the `round(sparsity * n)` smallest scores; of equal ones the first."""
    flat = np.concatenate([score.ravel() for score in scores])
    count = round(sparsity * flat.size)
    keep = np.ones(flat.size, np.bool_)
    if count:
        limit = np.partition(flat, count - 1)[count - 1]
        keep = flat > limit
        below = np.count_nonzero(flat < limit)
        keep[np.flatnonzero(flat == limit)[count - below :]] = True
    ends = np.cumsum([score.size for score in scores])[:-1]
    return [
        part.reshape(score.shape) for part, score in zip(np.split(keep, ends), scores, strict=True)
    ]


def _sides(block: Blocks) -> tuple[int, int]:
    return block.outputs, block.inputs


def _check_share(share: float) -> None:
    if not 0 <= share < 1:
        raise UsageError(
            f"Invalid value for sparsity: {share:g}.",
            hint="Give the share of weights to prune, from 0 to below 1: 0.5 prunes half of them.",
        )

"""How a candidate is judged by the noise of its outputs, and which of two is better."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Final

import numpy as np

from edgekit.evaluation.fidelity import ENOUGH_AGREEMENT
from edgekit.quantization.output_noise import NONE_DB

ENOUGH_DB: Final = 30.0
"""Outputs whose noise is below 3 % of their spread, root mean square, are left as they are."""
MARGIN_DB: Final = 0.5
"""What other ranges, or a graph with fewer operators, may gain or lose by chance."""
MOST_LOST_DB: Final = 1.0
"""What a choice may cost any single output that is not `ENOUGH_DB` all the same."""
MOST_LARGER: Final = 1.01
"""What a choice may cost in bytes."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Trial:
    """A candidate, judged.

    Attributes:
        passes: Names of the passes that were applied to the float graph.
        ranges: How ranges were taken; None where activations remain float.
        sqnr_db: Output name -> ratio of the variance of the float output to the noise, in dB.
        agreement: Least share of samples with the float graph's top-1 class, where outputs are
            scores of classes.
        size: Bytes.
        limits: Output name -> the ratio that its own codes allow, where it has codes: a score of
            1/1000 is no code of an output from 0 to 1, whatever is done before it.
        floats: Names of the tensors whose operators are float.
        margin: By which share of their widths ranges reach further than was seen.
    """

    passes: tuple[str, ...]
    ranges: str | None
    sqnr_db: Mapping[str, float]
    agreement: float | None
    size: int
    limits: Mapping[str, float] = field(default_factory=dict)
    floats: frozenset[str] = frozenset()
    margin: float = 0.0

    @property
    def score(self) -> float:
        """Return the mean of the outputs' ratios, each as far as it counts."""
        return float(np.mean([min(db, NONE_DB) for db in self.sqnr_db.values()]))

    @property
    def enough(self) -> bool:
        """Whether every output is near enough to float."""
        if self.sqnr_db.keys() == self.limits.keys() and all(
            db >= self.limits[name] - MARGIN_DB for name, db in self.sqnr_db.items()
        ):
            return True
        alike = self.agreement is None or self.agreement >= ENOUGH_AGREEMENT
        return alike and min(self.sqnr_db.values()) >= ENOUGH_DB

    def better(
        self, other: Trial, margin: float, held: int, *, larger: float = MOST_LARGER
    ) -> bool:
        """Whether it is better by a margin in dB, and worse in nothing that counts.

        Args:
            other: What it is compared with.
            margin: Least difference of the scores.
            held: Number of samples; two of them may get another class.
            larger: What it may cost in bytes.
        """
        if self.score < other.score + margin or self.size > larger * other.size:
            return False
        if self.agreement is not None and other.agreement is not None:
            allowed = 2 / held
            if self.agreement < other.agreement - allowed:
                return False
        return all(
            db >= min(other.sqnr_db[name] - MOST_LOST_DB, ENOUGH_DB)
            for name, db in self.sqnr_db.items()
        )

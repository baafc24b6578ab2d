"""Rows of a report as candidates for the choice: what each loses, by its score or its fidelity."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from edgekit.evaluation.choice import Candidate
from edgekit.evaluation.fidelity import fidelity_ok, worst
from edgekit.modes import FLOAT32
from edgekit.records import Drop, Row, Verdict, latency_ratio


@dataclass(frozen=True, slots=True)
class Files:
    """The rows by variant, the float32 one among them, and what cannot be loaded."""

    rows: Mapping[str, Row]
    baseline: Row | None
    excluded: Mapping[str, str]

    @classmethod
    def of(cls, rows: Sequence[Row], excluded: Mapping[str, str]) -> Files:
        """Return the rows; the first float32 file is what the others are compared with."""
        baseline = next((row for row in rows if row.artifact.mode == FLOAT32.name), None)
        return cls({row.artifact.variant: row for row in rows}, baseline, excluded)

    @property
    def reference(self) -> Row:
        """What ratios are to: float32, else the first file."""
        return self.baseline or next(iter(self.rows.values()))

    def row(self, candidate: Candidate | None) -> Row | None:
        """Return the row of a candidate."""
        return self.rows[candidate.name] if candidate else None

    def candidate(self, row: Row) -> Candidate:
        """Return what the choice goes by; without float32, ratios are to the first file."""
        verdict, loss, within = (
            _by_fidelity(row) if row.drop is None and row.fidelity else _by_score(row.drop)
        )
        latency = latency_ratio(row.timing, self.reference.timing)
        return Candidate(
            name=row.artifact.variant,
            size=size_of(row) / size_of(self.reference),
            latency=None if latency is None else latency.value,
            latency_low=None if latency is None else latency.low,
            verdict=verdict,
            loss=loss,
            within_budget=within,
            collapsed=bool(row.collapses),
            loadable=row.artifact.variant not in self.excluded,
            failed=row.failure is not None,
            is_baseline=row is self.baseline,
        )


def _by_score(drop: Drop | None) -> tuple[Verdict | None, float, bool]:
    """Return verdict, measured loss and whether that is accepted."""
    if drop is None:
        return None, 0.0, False
    return drop.verdict, drop.value, drop.within_budget


def _by_fidelity(row: Row) -> tuple[Verdict | None, float, bool]:
    """Return the same where nothing was scored: outputs that are near enough are kept.

    The loss is the noise of the farthest output as a share of its signal.
    """
    near = all(map(fidelity_ok, row.fidelity))
    noise = worst(row.fidelity).sqnr_db
    return "kept" if near else "lost", 0.0 if noise is None else 10 ** (-noise / 20), near


def size_of(row: Row) -> int:
    """Return what a file takes on flash, in bytes."""
    return row.artifact.flash_bytes

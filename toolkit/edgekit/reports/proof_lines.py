"""A verified bundle: what is the same, figure by figure what is not, and what was not checked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from edgekit.folding import fold
from edgekit.records import Proof, Replayed
from edgekit.reports.formatting import plain


def proof_lines(proof: Proof, width: int | None = None) -> Iterator[str]:
    """Yield lines: for each file how many figures are the same, and each one that is not.

    Args:
        proof: What was found.
        width: To which a line is folded; None for no folding.
    """

    def told(label: str, text: str) -> list[str]:
        return fold(plain(text), width, label=label)

    for variant, group in groupby(proof.figures, key=lambda one: one.variant):
        figures = list(group)
        same = [one.figure for one in figures if one.status == "same"]
        yield from told("", f"{variant}: {len(same)} of {len(figures)} figures the same")
        for one in figures:
            if one.status == "differs":
                yield from told("  DIFFERS  ", f"{one.figure}: {_apart(one)}")
        unchecked = [one for one in figures if one.status == "not checked"]
        for reason, some in groupby(unchecked, key=lambda one: one.reason):
            names = ", ".join(one.figure for one in some)
            yield from told("  not checked  ", f"{names}: {reason}")
    counts = (
        f"{proof.count('same')} the same, {proof.count('differs')} others, "
        f"{proof.count('not checked')} not checked"
    )
    yield from told("", f"{len(proof.figures)} figures: {counts}.")


def _apart(one: Replayed) -> str:
    how = f" ({one.reason})" if one.reason else ""
    return f"{one.recorded} then, {one.found} now{how}"

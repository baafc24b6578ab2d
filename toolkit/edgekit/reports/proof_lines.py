"""A verified bundle: what is the same, figure by figure what is not, and what was not checked."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import groupby

from edgekit.records import Proof, Replayed
from edgekit.reports.formatting import TERMINAL, labelled


def proof_lines(proof: Proof) -> Iterator[str]:
    """Yield lines: for each file how many figures are the same, and each one that is not."""
    for variant, group in groupby(proof.figures, key=lambda one: one.variant):
        figures = list(group)
        same = [one.figure for one in figures if one.status == "same"]
        yield from _wrapped("", f"{variant}: {len(same)} of {len(figures)} figures the same")
        for one in figures:
            if one.status == "differs":
                yield from _wrapped("  DIFFERS  ", f"{one.figure}: {_apart(one)}")
        unchecked = [one for one in figures if one.status == "not checked"]
        for reason, some in groupby(unchecked, key=lambda one: one.reason):
            names = ", ".join(one.figure for one in some)
            yield from _wrapped("  not checked  ", f"{names}: {reason}")
    counts = (
        f"{proof.count('same')} the same, {proof.count('differs')} others, "
        f"{proof.count('not checked')} not checked"
    )
    yield from _wrapped("", f"{len(proof.figures)} figures: {counts}.")


def _wrapped(label: str, text: str) -> list[str]:
    return labelled(label, text, TERMINAL)


def _apart(one: Replayed) -> str:
    how = f" ({one.reason})" if one.reason else ""
    return f"{one.recorded} then, {one.found} now{how}"

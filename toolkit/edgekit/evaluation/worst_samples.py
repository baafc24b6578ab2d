"""The samples that are worth looking at: those on which a file is worst."""

from __future__ import annotations

from typing import Final

import numpy as np

from edgekit.evaluation.scores import Evaluation

MOST: Final = 4
NOTEWORTHY: Final = 0.02
"""Losses of a sample that are less are no reason to show it: the others are then further off."""


def worst_samples(reference: Evaluation, variant: Evaluation, most: int = MOST) -> tuple[int, ...]:
    """Return the numbers of the samples on which a file lost most, then those it does worst.

    Empty where the task cannot tell how good a single sample is, and where all are perfect.

    Args:
        reference: The float model.
        variant: The file, on the same samples.
        most: The most samples.
    """
    before, after = (one.task.quality(one.columns) for one in (reference, variant))
    if before is None or after is None:
        return ()
    loss = before - after
    lost = np.argsort(-loss, kind="stable")[:most]
    chosen = lost[loss[lost] >= NOTEWORTHY].tolist()
    for sample in np.argsort(after, kind="stable")[: 2 * most].tolist():
        if len(chosen) < most and sample not in chosen and after[sample] < 1:
            chosen.append(sample)
    return tuple(chosen)

"""The samples that files do worst, with what they say of them: pictures for the page.

A few samples are run again, on this machine: what all samples were answered is not kept.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from typing import Any, Final

import numpy as np

from edgekit import evaluation
from edgekit.errors import EdgekitError
from edgekit.evaluation.tasks import task_named
from edgekit.evaluation.worst_samples import MOST, NOTEWORTHY
from edgekit.modes import INT8
from edgekit.records import Answer, Array, Dataset, Example, Row, Samples
from edgekit_runner import picture_spec

LEAST_SIDE: Final = 8
"""Inputs that are smaller are no pictures."""
LARGEST_SIDE: Final = 400
"""Larger pictures lose rows and columns: the page shows them at half of that."""


def examples(
    rows: Sequence[Row], dataset: Dataset | None, *, output: str | None = None
) -> tuple[Example, ...]:
    """Run float32 and the files of interest on the samples that these do worst.

    Empty where samples are no pictures, or follow each other in sequences; and where a file cannot
    be run here.

    Args:
        rows: As measured, float32 first, one recommended or none.
        dataset: Bound to the model.
        output: The scored output; the first where None.
    """
    shown = files_of_interest(rows)
    if dataset is None or dataset.test is None or dataset.task is None or not shown:
        return ()
    if dataset.test.sequences is not None or not _takes_pictures(dataset.test):
        return ()
    numbers = _interleaved([row.worst_samples for row in shown])[:MOST]
    few = _part(dataset.test, numbers)
    task = task_named(dataset.task)
    try:
        outputs = {
            row.artifact.variant: evaluation.scored_output(
                evaluation.predict(row.artifact.path, few, processes=1), output, head=dataset.head
            )
            for row in (rows[0], *shown)
        }
        batch = few.read(np.arange(few.n))
        threshold = rows[0].score.views.threshold if rows[0].score else None
        answers = task.answers(outputs, batch, dataset.labels, threshold)
    except EdgekitError:
        return ()  # what only a device can run is not shown
    pictures = next(iter(batch.inputs.values()))
    return tuple(
        Example(
            index=number,
            picture=as_pixels(picture, dataset),
            answers=said,
            classes=dataset.labels or (),
            worse=_is_worse(said),
        )
        for number, picture, said in zip(numbers, pictures, answers, strict=False)
    )


def files_of_interest(rows: Sequence[Row]) -> list[Row]:
    """Return the recommended file and the int8 file, if they are others than the first.

    Where there is neither, the file that lost most.
    """
    others = [row for row in rows[1:] if row.worst_samples]
    found = [row for row in others if row.recommended]
    found += [row for row in others if row.artifact.mode == INT8.name and not row.recommended][:1]
    lost = [row for row in others if row.drop]
    return found or sorted(lost, key=lambda row: row.drop.value if row.drop else 0.0)[-1:]


def _is_worse(answers: Sequence[Answer]) -> bool:
    """Whether a file is noticeably worse than float32, which is the first of them."""
    reference, *others = (one.quality for one in answers if one.quality is not None)
    return any(reference - other >= NOTEWORTHY for other in others)


def as_pixels(values: Array, dataset: Dataset) -> Array:
    """Undo the preprocessing of a picture `[h, w, channels]`; return uint8 `[h, w]` or `[h, w, 3]`.

    Where it is unknown, the values are taken to fill [0, 1], [-1, 1] or [0, 255], else the range
    that they have.
    """
    step = -(-max(values.shape[:2]) // LARGEST_SIDE)
    values = values[::step, ::step].astype(np.float64)
    spec = picture_spec({"preprocessing": dataset.preprocessing, "picture": dataset.picture})
    if spec is not None and spec.get("kind") in ("image", "affine"):
        values = _raw(values, spec)
    else:
        low, high = _limits(values)
        values = (values - low) * (255 / (high - low))
    pixels = np.nan_to_num(values).clip(0, 255).round().astype(np.uint8)
    return pixels[..., 0] if pixels.shape[2] == 1 else pixels


def _raw(values: Array, spec: Mapping[str, Any]) -> Array:
    """Invert `edgekit_runner.affine`, and the order of channels."""
    std, mean, scale = (
        np.asarray(spec.get(key, default))
        for key, default in (("std", 1), ("mean", 0), ("scale", 1))
    )
    raw: Array = (values * std + mean) / scale
    return raw[..., ::-1] if spec.get("order") == "bgr" else raw


def _limits(values: Array) -> tuple[float, float]:
    low, high = float(np.nanmin(values)), float(np.nanmax(values))
    # What is hardly more than 1 is no picture of 255 levels.
    for least, most, brightest in ((0.0, 1.0, 0.0), (-1.0, 1.0, 0.0), (0.0, 255.0, 16.0)):
        if least <= low and brightest <= high <= most:
            return least, most
    return low, high if high > low else low + 1


def _takes_pictures(samples: Samples) -> bool:
    inputs = samples.read(np.zeros(1, np.int64)).inputs
    shape = next(iter(inputs.values())).shape
    return (
        len(inputs) == 1
        and len(shape) == 4
        and shape[3] in (1, 3)
        and min(shape[1:3]) >= LEAST_SIDE
    )


def _interleaved(lists: Sequence[Sequence[int]]) -> list[int]:
    """Return the first of each list, then the second of each, without repetitions."""
    return list(dict.fromkeys(n for n in chain(*zip_longest(*lists)) if n is not None))


def _part(samples: Samples, numbers: Sequence[int]) -> Samples:
    chosen = np.asarray(numbers, np.int64)
    return replace(samples, n=len(chosen), read=lambda indices: samples.read(chosen[indices]))

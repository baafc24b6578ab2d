"""A class a pixel, told by the highest of `k` scores or by one unit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import ClassVar, Final

import numpy as np

from edgekit.errors import DataError
from edgekit.evaluation.intervals import bootstrap
from edgekit.evaluation.metrics import MEAN_IOU, PIXEL_ACCURACY, Columns, Metric
from edgekit.evaluation.metrics.confusion_counts import iou, tallies
from edgekit.evaluation.tasks.class_labels import are_shares, label_of
from edgekit.evaluation.tasks.recalls import KNOWN, next_to_nothing
from edgekit.evaluation.tasks.task import BoundTargets, Evidence, Task, shape_mismatch
from edgekit.records import (
    TRUTH,
    Answer,
    Array,
    Batch,
    ClassScore,
    Collapse,
    Split,
    TensorSpec,
)

IGNORED: Final = -1
"""What pixels that do not count are in bound masks."""
VOID: Final = 255
"""The class number that stands for "ignore" in many data sets, such as Pascal VOC."""
FEWEST: Final = 4
"""Pictures of a class of which a loss can be proof, as with samples (`recalls.lost_recalls`)."""

_PIECE: Final = 1 << 24
"""Pixels that are looked at together."""


class Segmentation(Task):
    """Targets are masks of class numbers; the output is `[1, h, w, classes]` or `[1, h, w, 1]`."""

    name: ClassVar[str] = "segmentation"
    metrics: ClassVar[tuple[Metric, ...]] = (MEAN_IOU, PIXEL_ACCURACY)
    has_labels: ClassVar[bool] = True

    def recognizes(self, evidence: Evidence) -> bool:
        """Whether targets are masks of the classes that the output has, or fit nothing else.

        Masks of another size and of too many classes do not; so they are recognized, and refused
        by `bind`.
        """
        targets, output = evidence.targets, evidence.output
        if targets is None or len(output.shape) != 4:
            return False
        if _is_one_hot(targets, output):
            return True
        if not _are_masks(targets, output):
            return False
        if targets.shape[1:3] != output.shape[1:3]:
            return targets.dtype.kind in "biu"
        if output.shape[3] > 1:
            return True
        values = distinct(targets)
        return values is not None and _class_map(values, output) is not None

    def needs(self, output: TensorSpec) -> str:
        """Return what targets have to be for this output."""
        if len(output.shape) != 4:
            return ""
        return (
            f"masks [n, {output.shape[1]}, {output.shape[2]}] of whole numbers from 0 to "
            f"{_classes(output) - 1}"
        )

    def bind(
        self,
        targets: Array,
        output: TensorSpec,
        *,
        split: Split,
        labels: tuple[str, ...] | None,
        place: str,
    ) -> BoundTargets:
        """Return masks `[n, h, w]` of class numbers, `IGNORED` where a pixel does not count."""
        _ = labels
        if len(output.shape) != 4:
            raise DataError(
                f"{place}: a segmentation model's output is [1, height, width, classes].",
                found=f"Output {output.name!r} is {list(output.shape)}.",
                hint="Give another --task, or another model.",
            )
        height, width = output.shape[1:3]
        if _is_one_hot(targets, output):
            return BoundTargets(targets=_from_one_hot(targets))
        if not _are_masks(targets, output):
            raise DataError(
                f"{place}: the targets are no masks.",
                found=f"They are {targets.dtype} of shape {list(targets.shape)}.",
                hint=f"Give class numbers [n, {height}, {width}]"
                + (", or one-hot masks." if output.shape[3] > 1 else "."),
            )
        masks = targets[..., 0] if targets.ndim == 4 else targets
        if masks.shape[1:] != (height, width):
            raise DataError(
                f"{place}: the masks are of another size than the model's.",
                found=f"Masks are {masks.shape[1]}x{masks.shape[2]}, the output is "
                f"{height}x{width}.",
                hint="Resize the masks, by nearest neighbour: class numbers cannot be averaged.",
            )
        values = distinct(masks)
        if values is None:
            raise DataError(
                f"{place}: the masks hold other values than whole numbers.",
                hint="Give the number of a class for each pixel.",
            )
        found = _class_map(values, output)
        if found is None:
            wrong = [int(value) for value in values if value >= _classes(output)]
            row = int(np.argmax((masks == wrong[0]).any(axis=(1, 2))))
            raise DataError(
                f"{place}: the mask of sample {row} has class {wrong[0]}, the model has "
                f"{_classes(output)} classes.",
                sample=row,
                found=f"They hold {', '.join(f'{value:g}' for value in values[:12])}"
                f"{', ...' * (len(values) > 12)}.",
                hint="Number the classes from 0; pixels of 255 or below 0 are ignored.",
            )
        numbers, note = found
        if split == "test" and (numbers == IGNORED).all():
            raise DataError(f"{place}: all pixels are ignored.", hint="Add masks with classes.")
        if np.array_equal(values, numbers):
            return BoundTargets(targets=masks if masks.dtype.kind in "iu" else _whole(masks))
        return BoundTargets(targets=_renumbered(masks, values, numbers), note=note)

    def check_labels(self, labels: tuple[str, ...] | None, output: TensorSpec, name: str) -> None:
        """Raise where the data names another number of classes than the model has."""
        if labels is not None and len(labels) != _classes(output):
            raise DataError(
                f"{name} has {len(labels)} classes, the model has {_classes(output)}.",
                found=f"Classes: {', '.join(labels[:6])}{', ...' * (len(labels) > 6)}.",
                hint="List the model's classes in its order (labels.txt in the folder, or labels).",
            )

    def per_sample(self, outputs: Array, batch: Batch) -> dict[str, Array]:
        """Return `confusion`, `[n, k, k]` pixels: true class, predicted class.

        Of a model with one unit `at_half` and `at_zero`, counts for a split at 0.5 and at 0, and
        `low` and `high`, its least and largest value.
        """
        if batch.targets is None:
            raise DataError("The test split has no targets to score with.")
        masks = batch.targets
        if outputs.ndim != 4 or outputs.shape[:3] != masks.shape:
            raise shape_mismatch("targets", masks, outputs)
        flat = outputs.reshape(len(outputs), -1)
        sound = np.logical_not(np.isnan(flat).any(axis=1))
        if outputs.shape[3] > 1:
            return {
                "sound": sound,
                "confusion": confusion(masks, outputs.argmax(axis=3), outputs.shape[3]),
            }
        unit = outputs[..., 0]
        return {
            "sound": sound,
            "at_half": confusion(masks, unit > 0.5, 2),
            "at_zero": confusion(masks, unit > 0, 2),
            "low": flat.min(axis=1),
            "high": flat.max(axis=1),
        }

    def complete(self, columns: Columns) -> Columns:
        """Split a single unit, as `Classification.complete` does: by the values of all pixels."""
        if "at_half" not in columns:
            return columns
        shares = columns["low"].min() >= 0 and columns["high"].max() <= 1
        return {
            "sound": columns["sound"],
            "confusion": columns["at_half" if shares else "at_zero"],
        }

    def per_class(self, columns: Columns, labels: Sequence[str] | None) -> tuple[ClassScore, ...]:
        """Return of every class the number of pictures with it, IoU, recall and precision."""
        hits, sizes, named = tallies(columns)
        right = hits.sum(axis=0)
        each = iou(right, sizes.sum(axis=0), named.sum(axis=0))
        return tuple(
            ClassScore(
                label=label_of(i, labels),
                n=int(np.count_nonzero(sizes[:, i])),
                recall=float(right[i] / max(1, sizes[:, i].sum())),
                precision=float(right[i] / max(1, named[:, i].sum())),
                iou=float(each[i]),
            )
            for i in range(sizes.shape[1])
        )

    def quality(self, columns: Columns) -> Array:
        """Return the mean IoU of each picture, over the classes that it or its prediction has."""
        hits, sizes, named = tallies(columns)
        there = (sizes + named) > 0
        mean: Array = (iou(hits, sizes, named) * there).sum(axis=1) / there.sum(axis=1).clip(min=1)
        return np.where(there.any(axis=1), mean, 1.0)

    def answers(
        self,
        outputs: Mapping[str, Array],
        batch: Batch,
        labels: Sequence[str] | None,
        threshold: float | None = None,
    ) -> tuple[tuple[Answer, ...], ...]:
        """Return the mask of each picture, and those that files give it, with their mean IoU."""
        _ = labels, threshold  # so many pixels tell by themselves what their values are
        masks = batch.targets
        assert masks is not None
        classes = max(2, *(values.shape[3] for values in outputs.values()))
        units = [values for values in outputs.values() if values.shape[3] == 1]
        limit = 0.5 if all(map(are_shares, units)) else 0.0
        maps = {
            name: values.argmax(axis=3) if values.shape[3] > 1 else values[..., 0] > limit
            for name, values in outputs.items()
        }
        ious = {
            name: self.quality({"confusion": confusion(masks, found, classes)})
            for name, found in maps.items()
        }
        return tuple(
            (
                Answer(name=TRUTH, text="mask", mask=masks[row]),
                *(
                    Answer(
                        name=name,
                        text=f"IoU {ious[name][row]:.2f}",
                        quality=float(ious[name][row]),
                        mask=np.where(masks[row] < 0, IGNORED, found[row]),
                    )
                    for name, found in maps.items()
                ),
            )
            for row in range(len(masks))
        )

    def collapses(
        self, reference: Columns, variant: Columns, labels: Sequence[str] | None
    ) -> tuple[Collapse, ...]:
        """Return the classes that the variant no longer finds.

        The IoU of a class collapsed if next to nothing of it is left, by the shares of
        `recalls.next_to_nothing`, and if its paired drop is more than chance: the bootstrap's 95 %
        interval, over the pictures with the class or a prediction of it, excludes 0.
        """
        before, after = tallies(reference), tallies(variant)
        old, new = (iou(*(part.sum(axis=0) for part in side)) for side in (before, after))
        pictures = np.count_nonzero(before[1], axis=0)
        fewer = next_to_nothing(old >= KNOWN, old, new) & (pictures >= FEWEST)
        return tuple(
            Collapse(
                kind="class",
                where=f"class {label_of(i, labels)!r}",
                detail=f"IoU {old[i]:.2f} became {new[i]:.2f} on {pictures[i]:,} pictures",
            )
            for i in np.flatnonzero(fewer).tolist()
            if bootstrap(np.stack([part[:, i] for part in (*before, *after)], axis=1), _loss)[0] > 0
        )


def confusion(masks: Array, predicted: Array, classes: int) -> Array:
    """Count pixels of each picture by true and predicted class; masks below 0 do not count.

    Args:
        masks: `[n, h, w]` class numbers.
        predicted: `[n, h, w]` class numbers.
        classes: Their number.

    Returns:
        int64 `[n, classes, classes]`.
    """
    n, pairs = len(masks), classes**2
    code = masks.astype(np.int64) * classes + predicted
    code += np.arange(0, n * pairs, pairs)[:, None, None]
    counts = np.bincount(code[masks >= 0], minlength=n * pairs)
    return counts.reshape(n, classes, classes)


def distinct(masks: Array) -> Array | None:
    """Return the values of masks, sorted; None where they are not all whole numbers."""
    found: Array = np.zeros(0, np.int64)
    for piece in _pieces(masks):
        if piece.dtype == np.uint8:
            values: Array = np.flatnonzero(np.bincount(piece.ravel(), minlength=256))
        else:
            values = np.unique(piece)
            if not (np.isfinite(values) & (values == np.round(values))).all():
                return None
        found = np.union1d(found, values.astype(np.int64))
    return found


def classes_of_masks(targets: Array) -> int:
    """Return the number of classes, at least 2, that masks as stored show to a model yet to be.

    They are one-hot `[n, h, w, classes]`, or numbers of which 255 and those below 0 are ignored, as
    `Segmentation.bind` reads them; where there is nothing but 0 and 255, 255 is the second class.

    Raises:
        DataError: They are no masks.
    """
    masks = targets[..., 0] if targets.ndim == 4 and targets.shape[3] == 1 else targets
    if masks.ndim == 4:
        return int(masks.shape[3])
    values = distinct(masks) if masks.ndim == 3 and masks.dtype.kind in "biuf" else None
    if values is None:
        raise DataError(
            "The training targets are no masks.",
            found=f"They are {targets.dtype} of shape {list(targets.shape)}.",
            hint="Give class numbers [n, height, width], or one-hot masks.",
        )
    numbers = values[(values >= 0) & (values != VOID)]
    return max(2, int(numbers.max(initial=0)) + 1)


def _loss(means: Array) -> Array:
    before, after = np.split(means, 2, axis=-1)
    loss: Array = iou(*np.moveaxis(before, -1, 0)) - iou(*np.moveaxis(after, -1, 0))
    return loss


def _classes(output: TensorSpec) -> int:
    return max(2, output.shape[3])


def _are_masks(targets: Array, output: TensorSpec) -> bool:
    """Whether there is one value a pixel: of any size where they are integers."""
    single = targets.ndim == 3 or (targets.ndim == 4 and targets.shape[3] == 1)
    if targets.dtype.kind in "biu":
        return single
    return single and targets.dtype.kind == "f" and targets.shape[1:3] == output.shape[1:3]


def _is_one_hot(targets: Array, output: TensorSpec) -> bool:
    if targets.shape[1:] != output.shape[1:] or output.shape[3] < 2:
        return False
    return targets.dtype.kind in "biuf" and all(
        bool((((piece == 0) | (piece == 1)).all()) and (piece.sum(axis=3) == 1).all())
        for piece in _pieces(targets)
    )


def _class_map(values: Array, output: TensorSpec) -> tuple[Array, str | None] | None:
    """Return the class of each value that masks hold, and what was changed; None if none fits."""
    classes = _classes(output)
    if classes == 2 and set(values.tolist()) <= {0, VOID} and VOID in values:
        return (values == VOID).astype(np.int64), "The masks hold 0 and 255; 255 was read as 1."
    # Of more than 255 classes, 255 is one.
    ignored = (values < 0) | ((values == VOID) & (classes <= VOID))
    numbers = np.where(ignored, IGNORED, values)
    if numbers.max() >= classes:
        return None
    # What is -1 was ignored on purpose, by the data or by an earlier binding.
    said = ", ".join(str(value) for value in values[ignored] if value != IGNORED)
    return numbers, f"Pixels of {said} in the masks are ignored." if said else None


def _renumbered(masks: Array, values: Array, numbers: Array) -> Array:
    """Return masks with `numbers` in place of `values`, int16 (int32 where that is too small)."""
    small = numbers.max() < np.iinfo(np.int16).max
    found = np.empty(masks.shape, np.int16 if small else np.int32)
    start = 0
    for piece in _pieces(masks):
        found[start : start + len(piece)] = numbers[np.searchsorted(values, piece)]
        start += len(piece)
    return found


def _whole(masks: Array) -> Array:
    """Return masks of whole floats or booleans as integers."""
    return masks.astype(np.uint8 if masks.dtype.kind == "b" else np.int32)


def _from_one_hot(targets: Array) -> Array:
    kind = np.uint8 if targets.shape[3] <= VOID else np.int32
    return np.concatenate([piece.argmax(axis=3).astype(kind) for piece in _pieces(targets)])


def _pieces(masks: Array) -> Iterator[Array]:
    rows = max(1, _PIECE // max(1, int(np.prod(masks.shape[1:]))))
    for start in range(0, len(masks), rows):
        yield masks[start : start + rows]


SEGMENTATION = Segmentation()

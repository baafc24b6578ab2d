"""Objects of classes with a box around each, told by a detection head (`edgekit_runner.Head`)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar, Final

import numpy as np

from edgekit.errors import DataError, ModelError
from edgekit.evaluation.found_boxes import box_answers, box_curves, box_quality
from edgekit.evaluation.metrics import MAP, MAP50, Columns, Metric
from edgekit.evaluation.metrics.mean_average_precision import counted_boxes, rankings
from edgekit.evaluation.tasks.class_labels import label_of
from edgekit.evaluation.tasks.recalls import KNOWN, next_to_nothing
from edgekit.evaluation.tasks.task import BoundTargets, Evidence, Task
from edgekit.printable import capitalized
from edgekit.records import Answer, Array, Batch, ClassScore, Collapse, Split, TensorSpec, Views
from edgekit_runner import (
    NO_BOX,
    Head,
    as_boxes,
    box_fault,
    box_overlaps,
    detection_interval,
    match_boxes,
)

FEWEST: Final = 4
"""Pictures of a class of which a loss can be proof, as with samples (`recalls.lost_recalls`)."""
SAME: Final = 0.5
"""The overlap of two boxes from which they are of one object."""


class Detection(Task):
    """Targets are boxes `[n, m, 6]`; outputs are what a head makes of them, `[n, k, 6]`."""

    name: ClassVar[str] = "detection"
    metrics: ClassVar[tuple[Metric, ...]] = (MAP, MAP50)
    missing_targets: ClassVar[str] = "Add y_test, boxes [n, m, 5]"
    has_labels: ClassVar[bool] = True

    def recognizes(self, evidence: Evidence) -> bool:
        """Whether targets are boxes; without a head, whether they can be nothing else."""
        targets, output = evidence.targets, evidence.output
        if targets is None or not are_boxes(targets):
            return False
        shape = targets.shape[1:]
        # Whole numbers for an output of a class a pixel are masks, of another size perhaps.
        like_output = shape in (output.shape[1:], output.shape[1:3])
        masks = len(output.shape) == 4 and targets.dtype.kind in "biu"
        return evidence.headed or not (like_output or masks)

    def needs(self, output: TensorSpec) -> str:
        """Return what targets have to be for this output."""
        _ = output
        return "boxes [n, m, 5] as (x1, y1, x2, y2, class), and a head"

    def bind(
        self,
        targets: Array,
        output: TensorSpec,
        *,
        split: Split,
        labels: tuple[str, ...] | None,
        place: str,
    ) -> BoundTargets:
        """Return boxes, float32 `[n, m, 6]`: corners in [0, 1], class, ignored.

        Boxes without an area become padding, which is said.
        """
        _ = output
        if targets.dtype.kind not in "biuf" or targets.ndim != 3 or targets.shape[2] not in (5, 6):
            raise DataError(
                f"{place}: the targets are no boxes.",
                found=f"They are {targets.dtype} {list(targets.shape)}.",
                hint="Give [n, m, 5]: (x1, y1, x2, y2, class), corners as fractions of the "
                "picture; class -1 where there is no box.",
            )
        boxes = as_boxes(targets)
        fault = box_fault(boxes, len(labels) if labels else None)
        if fault is not None:
            sample, words = fault
            raise DataError(
                f"{place}: sample {sample} {words}.",
                sample=sample,
                found="Boxes are (x1, y1, x2, y2, class): left, top, right, bottom.",
                hint="Divide x by the width and y by the height of the picture."
                if np.nanmax(np.abs(boxes[..., :4]), initial=0) > 2
                else "Correct the box, or set its class to -1 to leave it out.",
            )
        boxes = boxes.copy()
        boxes[..., :4] = boxes[..., :4].clip(0, 1)
        there = boxes[..., 4] >= 0
        flat = there & ((boxes[..., 2] <= boxes[..., 0]) | (boxes[..., 3] <= boxes[..., 1]))
        boxes[flat | ~there] = NO_BOX
        if split == "test" and not counted_boxes(boxes).any():
            raise DataError(f"{place}: no picture has a box that counts.", hint="Add boxes.")
        note = f"{flat.sum():,} boxes without an area were left out." if flat.any() else None
        return BoundTargets(targets=boxes, note=note)

    def per_sample(self, outputs: Array, batch: Batch) -> dict[str, Array]:
        """Return `detections`, `hit`, `void` and `target`; see `mean_average_precision`."""
        if batch.targets is None:
            raise DataError("The test split has no targets to score with.")
        hit, void = match_boxes(outputs, batch.targets)
        return {
            "sound": np.logical_not(np.isnan(outputs[..., 4]).any(axis=1)),
            "detections": outputs,
            "hit": hit,
            "void": void,
            "target": batch.targets,
        }

    def per_class(self, columns: Columns, labels: Sequence[str] | None) -> tuple[ClassScore, ...]:
        """Return boxes, recall, precision and average precision of every class.

        Recall and precision are those of overlaps from 0.5, of the detections whose score is at
        least the one at which F1 of all classes together is largest.
        """
        detections, target = columns["detections"], columns["target"]
        counted = counted_boxes(target)
        kinds = target[..., 4][counted].astype(np.int64)
        shown = (detections[..., 4] >= best_score(columns)) & ((columns["void"] & 1) == 0)
        named = detections[..., 5][shown].astype(np.int64)
        right = detections[..., 5][shown & ((columns["hit"] & 1) == 1)].astype(np.int64)
        classes = max(len(labels or ()), int(max(kinds.max(initial=-1), named.max(initial=-1))) + 1)
        n, hits, alarms = (np.bincount(part, minlength=classes) for part in (kinds, right, named))
        ranked = rankings(columns)
        areas = ranked.areas(np.ones((1, ranked.n)))[0].mean(axis=1)
        known = dict(zip(ranked.classes.tolist(), areas.tolist(), strict=True))
        return tuple(
            ClassScore(
                label=label_of(i, labels),
                n=int(n[i]),
                recall=float(hits[i] / max(1, n[i])),
                precision=float(hits[i] / max(1, alarms[i])),
                area=known.get(i),
            )
            for i in range(classes)
        )

    def views(self, columns: Columns, labels: Sequence[str] | None) -> Views:
        """Return the precision-recall curves of the rarest classes, at an overlap of 0.5."""
        return Views(curves=box_curves(columns, labels), threshold=best_score(columns))

    def quality(self, columns: Columns) -> Array:
        """Return a mean F1 of each picture, of boxes with at least the score of `best_score`."""
        return box_quality(columns, best_score(columns))

    def answers(
        self,
        outputs: Mapping[str, Array],
        batch: Batch,
        labels: Sequence[str] | None,
        threshold: float | None = None,
    ) -> tuple[tuple[Answer, ...], ...]:
        """Return the true boxes of each picture, and those that files find."""
        assert batch.targets is not None
        return box_answers(outputs, batch.targets, labels, threshold or 0.0)

    def agreement(self, reference: Columns, variant: Columns) -> float | None:
        """Return the share of pictures in which both find the same objects.

        Those with at least the score of `best_score`, the reference's, in one of the two, each
        beside one of the other's, of the same class, which it overlaps by at least `SAME`.
        """
        score = best_score(reference)
        before, after = reference["detections"], variant["detections"]
        same = 0
        for first, second in zip(before, after, strict=True):
            sides = [side[side[:, 4] >= score].astype(np.float64) for side in (first, second)]
            same += _are_same(*sides)
        return same / len(before)

    def collapses(
        self, reference: Columns, variant: Columns, labels: Sequence[str] | None
    ) -> tuple[Collapse, ...]:
        """Return the classes that the variant no longer finds.

        The average precision at an overlap of 0.5 collapsed if next to nothing of it is left, by
        the shares of `recalls.next_to_nothing`, and if its paired drop is more than chance: the
        95 % interval over the pictures excludes 0.
        """
        before, after = rankings(reference, 1), rankings(variant, 1)
        whole = np.ones((1, before.n))
        old, new = (ranked.areas(whole)[0, :, 0] for ranked in (before, after))
        target = reference["target"]
        counted = counted_boxes(target)
        pictures = np.array(
            [((target[..., 4] == kind) & counted).any(axis=1).sum() for kind in before.classes]
        )
        fewer = next_to_nothing(old >= KNOWN, old, new) & (pictures >= FEWEST)
        return tuple(
            Collapse(
                kind="class",
                where=f"class {label_of(kind, labels)!r}",
                detail=f"average precision {old[i]:.2f} became {new[i]:.2f} on {pictures[i]:,} "
                "pictures",
            )
            for i, kind in enumerate(before.classes.tolist())
            if fewer[i]
            and detection_interval(
                rankings(reference, 1, only=kind), rankings(variant, 1, only=kind)
            )[0]
            > 0
        )


def are_boxes(targets: Array) -> bool:
    """Whether targets look like boxes: rows of 5 or 6 numbers with a whole number for a class."""
    if targets.dtype.kind not in "iuf" or targets.ndim != 3 or targets.shape[2] not in (5, 6):
        return False
    kinds = targets[..., 4]
    finite = np.isfinite(kinds)
    return bool(targets.shape[1] and (kinds[finite] == np.round(kinds[finite])).all())


def detections_of(outputs: Mapping[str, Array], head: Mapping[str, Any], about: str) -> Array:
    """Return what a head makes of the outputs `[n, ...]` of a model: `[n, k, 6]`.

    Raises:
        ModelError: The outputs are others than those of the head.
    """
    shapes = [(name, (1, *values.shape[1:])) for name, values in outputs.items()]
    try:
        found: Array = Head(head, shapes)(outputs)
    except ValueError as error:
        raise ModelError(
            f"The head does not fit the outputs of {about}.",
            found=f"{capitalized(str(error))}.",
            hint="Give the head of this model: --head.",
        ) from error
    return found


def best_score(columns: Columns) -> float:
    """Return the score at which F1 of all classes together is largest, by overlaps from 0.5."""
    scores = columns["detections"][..., 4]
    there = (scores >= 0) & ((columns["void"] & 1) == 0)
    hits, values = (columns["hit"] & 1)[there], scores[there]
    if not hits.any():
        return 1.0
    order = np.argsort(-values, kind="stable")
    right = np.cumsum(hits[order])
    named = np.arange(1, len(order) + 1)
    total = int(counted_boxes(columns["target"]).sum())
    # Of equal scores only the last place can be cut at.
    values = values[order]
    last = np.append(values[1:] != values[:-1], [True])
    f1 = np.where(last, 2 * right / (named + total), -1.0)
    return float(values[int(f1.argmax())])


def _are_same(first: Array, second: Array) -> bool:
    if len(first) != len(second):
        return False
    near = box_overlaps(first[:, :4], second[:, :4]) >= SAME
    near &= first[:, 5:6] == second[None, :, 5]
    return bool(near.any(axis=1).all() and near.any(axis=0).all())


DETECTION = Detection()

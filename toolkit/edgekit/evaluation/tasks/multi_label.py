"""Any number of labels a sample, each told by a unit of its own."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import ClassVar

import numpy as np

from edgekit.errors import DataError
from edgekit.evaluation.metrics import (
    ACCURACY,
    AVERAGE_PRECISION,
    BINARY_ACCURACY,
    F1,
    PRECISION,
    RECALL,
    Columns,
    Metric,
)
from edgekit.evaluation.tasks.class_labels import are_label_flags, are_shares, label_of
from edgekit.evaluation.tasks.recalls import lost_recalls
from edgekit.evaluation.tasks.task import BoundTargets, Evidence, Task, shape_mismatch
from edgekit.evaluation.views import rarest_curves
from edgekit.records import (
    TRUTH,
    Answer,
    Array,
    Batch,
    ClassScore,
    Collapse,
    Split,
    TensorSpec,
    Views,
)


class MultiLabel(Task):
    """Targets are flags `[n, k]`, 1 for each label of a sample; the output is `[1, k]`."""

    name: ClassVar[str] = "multi-label"
    metrics: ClassVar[tuple[Metric, ...]] = (
        F1,
        ACCURACY,
        BINARY_ACCURACY,
        PRECISION,
        RECALL,
        AVERAGE_PRECISION,
    )
    has_labels: ClassVar[bool] = True

    def recognizes(self, evidence: Evidence) -> bool:
        """Whether targets are flags for each unit: one-hot rows are asked for as classes before."""
        targets, output = evidence.targets, evidence.output
        return (
            targets is not None
            and len(output.shape) == 2
            and output.shape[1] > 1
            and targets.shape[1:] == output.shape[1:]
            and are_label_flags(targets)
        )

    def needs(self, output: TensorSpec) -> str:
        """Return what targets have to be for this output."""
        return f"0 or 1 for each label [n, {output.shape[-1]}]" if len(output.shape) == 2 else ""

    def bind(
        self,
        targets: Array,
        output: TensorSpec,
        *,
        split: Split,
        labels: tuple[str, ...] | None,
        place: str,
    ) -> BoundTargets:
        """Return the flags, uint8 `[n, k]`."""
        _ = labels
        if len(output.shape) != 2 or targets.shape[1:] != output.shape[1:]:
            raise DataError(
                f"{place}: the targets do not fit the model's output {output.name!r}.",
                found=f"Targets are {list(targets.shape)}, the output is {list(output.shape)}.",
                hint=f"Task {self.name} takes 0 or 1 for each unit of an output [1, labels].",
            )
        if not are_label_flags(targets):
            wrong = np.argwhere((targets != 0) & (targets != 1))  # NaN among them
            sample, label = wrong[0] if len(wrong) else (0, 0)
            raise DataError(
                f"{place}: the targets are not 0 or 1 for each label.",
                sample=int(sample),
                found=f"Sample {sample} has {targets[sample, label]} for label {label}.",
                hint="Give 1 for each label that a sample has, 0 for all others.",
            )
        if split == "test" and not targets.any():
            raise DataError(
                f"{place}: no sample has any label.",
                found=f"All {targets.size:,} targets are 0.",
                hint="Add samples that have some.",
            )
        return BoundTargets(targets=targets.astype(np.uint8))

    def check_labels(self, labels: tuple[str, ...] | None, output: TensorSpec, name: str) -> None:
        """Raise where the data names another number of labels than the model has."""
        if labels is not None and len(labels) != output.shape[-1]:
            raise DataError(
                f"{name} has {len(labels)} labels, the model has {output.shape[-1]}.",
                found=f"Labels: {', '.join(labels[:6])}{', ...' * (len(labels) > 6)}.",
                hint="List the model's labels in its order (labels.txt in the folder, or labels).",
            )

    def per_sample(self, outputs: Array, batch: Batch) -> dict[str, Array]:
        """Return `target` and `score`, `[n, k]` each."""
        if batch.targets is None:
            raise DataError("The test split has no targets to score with.")
        flat = outputs.reshape(len(outputs), -1)
        if batch.targets.shape != flat.shape:
            raise shape_mismatch("targets", batch.targets, outputs)
        return {
            "sound": np.logical_not(np.isnan(flat).any(axis=1)),
            "target": batch.targets.astype(np.uint8),
            "score": flat.astype(np.float64),
        }

    def complete(self, columns: Columns) -> Columns:
        """Add `predicted`: the labels whose scores are above 0.5, or above 0 for logits.

        Scores are probabilities where all of all samples lie in [0, 1].
        """
        score = columns["score"]
        predicted = (score > _threshold(score)).astype(np.uint8)
        return {**columns, "predicted": predicted}

    def per_class(self, columns: Columns, labels: Sequence[str] | None) -> tuple[ClassScore, ...]:
        """Return recall and precision of every label; 0 where nothing was there to find."""
        target, predicted = (columns[key].astype(bool) for key in ("target", "predicted"))
        present, named = target.sum(axis=0), predicted.sum(axis=0)
        right = (target & predicted).sum(axis=0)
        return tuple(
            ClassScore(
                label=label_of(i, labels),
                n=int(present[i]),
                recall=float(right[i] / max(1, present[i])),
                precision=float(right[i] / max(1, named[i])),
            )
            for i in range(target.shape[1])
        )

    def views(self, columns: Columns, labels: Sequence[str] | None) -> Views:
        """Return the precision-recall curves of the rarest labels."""
        names = [label_of(i, labels) for i in range(columns["target"].shape[1])]
        target, score = columns["target"], columns["score"]
        return Views(curves=rarest_curves(target, score, names), threshold=_threshold(score))

    def quality(self, columns: Columns) -> Array:
        """Return the share of labels that are right."""
        share: Array = np.mean(columns["target"] == columns["predicted"], axis=1)
        return share

    def answers(
        self,
        outputs: Mapping[str, Array],
        batch: Batch,
        labels: Sequence[str] | None,
        threshold: float | None = None,
    ) -> tuple[tuple[Answer, ...], ...]:
        """Return the labels of each sample, and those that files give it."""
        assert batch.targets is not None
        truth = batch.targets.astype(bool)
        flat = {name: values.reshape(truth.shape) for name, values in outputs.items()}
        limit = 0.0 if threshold is None else threshold
        said = {TRUTH: truth, **{name: values > limit for name, values in flat.items()}}

        def answer(name: str, row: int) -> Answer:
            flags = said[name][row]
            words = ", ".join(label_of(k, labels) for k in np.flatnonzero(flags).tolist())
            share = float(np.mean(flags == truth[row]))
            return Answer(
                name=name,
                text=words or "no label",
                right=None if name == TRUTH else share == 1,
                quality=None if name == TRUTH else share,
            )

        return tuple(tuple(answer(name, row) for name in said) for row in range(len(truth)))

    def agreement(self, reference: Columns, variant: Columns) -> float | None:
        """Return the share of samples that are given the same labels by both."""
        return float(np.mean((reference["predicted"] == variant["predicted"]).all(axis=1)))

    def collapses(
        self, reference: Columns, variant: Columns, labels: Sequence[str] | None
    ) -> tuple[Collapse, ...]:
        """Return the labels that the variant no longer finds; see `recalls.lost_recalls`."""
        target = reference["target"].astype(bool)
        before, after = (side["predicted"].astype(bool) & target for side in (reference, variant))
        n, *counts = (
            flags.sum(axis=0) for flags in (target, before, after, before & ~after, after & ~before)
        )
        return lost_recalls(n, *counts, labels=labels, noun="label")


def _threshold(score: Array) -> float:
    return 0.5 if are_shares(score) else 0.0


MULTI_LABEL = MultiLabel()

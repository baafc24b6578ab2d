"""The loss of a single-shot detector: which anchors shall find which box, and how well they do.

Liu et al., "SSD: single shot multibox detector", arXiv 1512.02325, section 2.2; Lin et al., "Focal
loss for dense object detection", arXiv 1708.02002, equation (5) and section 4.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from edgekit.errors import ConversionError
from edgekit.records import Array, Source
from edgekit_runner import anchors_of

MATCHED: Final = 0.5
"""An anchor is to find the box that it overlaps by this IoU or more (Liu, section 2.2)."""
UNDECIDED: Final = 0.4
"""One that overlaps by less than `MATCHED` but this much learns nothing (Lin, section 4.1)."""
ALPHA: Final = 0.25
GAMMA: Final = 2.0
"""Weights of the focal loss; the paper's best."""
NEGATIVES: Final = 3
"""Background anchors learned from, the worst ones, for each that has a box (Liu, section 2.2)."""
_SMALLEST: Final = 1e-6

Loss = Callable[[Any, Any], Any]


class Judged:
    """Returns of a model's outputs what is compared with the targets.

    That is the scored one; of a detector offsets and scores of its boxes, as one tensor.

    Args:
        source: The model, or another one with the same outputs.
        output: Name of the scored output; the first where None.
        head: How they tell boxes, as binding data to the model returns it; None where they do not.

    Raises:
        ConversionError: No loss is known for such a head.

    Attributes:
        head: As given.
        loss: The loss of a detector; None for other models.
    """

    def __init__(self, source: Source, output: str | None, head: Mapping[str, Any] | None) -> None:
        self._names = [spec.name for spec in source.outputs]
        self._output = output or self._names[0]
        self.head = head
        self.loss = None if head is None else loss_of_head(head)

    def __call__(self, outputs: Any) -> Any:
        """Return it, given a model's outputs as the model returns them."""
        import keras

        tensors = keras.tree.flatten(outputs)
        if len(tensors) == 1 and not isinstance(outputs, Mapping):
            return tensors[0]
        named = self.by_name(outputs)
        return named[self._output] if self.head is None else joined(named, self.head)

    def by_name(self, outputs: Any) -> Mapping[str, Any]:
        """Return all outputs by their names, given a model's outputs as the model returns them."""
        import keras

        if isinstance(outputs, Mapping):
            return outputs
        return dict(zip(self._names, keras.tree.flatten(outputs), strict=True))


def loss_of_head(head: Mapping[str, Any]) -> Loss:
    """Return the loss of a model by its detection head, as `edgekit_runner.check_head` returns it.

    Raises:
        ConversionError: The head's kind of outputs has no loss here.
    """
    if head["kind"] != "ssd" or (head["activation"] == "softmax" and not head["background"]):
        what = "a softmax without background" if head["kind"] == "ssd" else head["kind"]
        raise ConversionError(
            f"There is no usual loss for a detection head of kind {what}.",
            hint="Save the model compiled with the loss it was trained with.",
        )
    return multibox_loss(
        anchors_of(head),
        head["variances"],
        logits=head["activation"] != "none",
        background=head["background"],
    )


def joined(outputs: Mapping[str, Any], head: Mapping[str, Any]) -> Any:
    """Return offsets and scores of a model as one tensor `[n, a, 4 + columns]`, for the loss."""
    from keras import ops

    return ops.concatenate([outputs[head["boxes"]], outputs[head["scores"]]], axis=-1)


def multibox_loss(
    anchors: Array, variances: Sequence[float], *, logits: bool, background: bool
) -> Loss:
    """Return `loss(targets, outputs)`: smooth L1 of the offsets plus a loss of the scores.

    Scores of classes by themselves are learned by the focal loss, those of a softmax whose first
    column is the background by cross-entropy with hard negatives. Both parts are sums over the
    anchors, divided by the number of anchors with a box (Liu, equation 1).

    Args:
        anchors: `[a, 4]`, centre, width and height, as shares of the picture.
        variances: Four; an offset is divided by them.
        logits: Whether the scores are logits rather than probabilities.
        background: Whether column 0 of the scores is "nothing here", and the columns a softmax.

    Returns:
        A function of targets `[n, m, 5 or 6]` (corners, class, and 1 for boxes to be ignored; a
        class below 0 is padding), and of outputs `[n, a, 4 + columns]`, offsets then scores.
    """
    from keras import ops

    anchors = np.asarray(anchors, np.float32)

    def loss(targets: Any, outputs: Any) -> Any:
        targets = ops.cast(targets, "float32")
        offsets, scores = outputs[..., :4], outputs[..., 4:]
        best, box, undecided = match(targets, anchors)
        positive = ops.cast(best >= MATCHED, "float32")
        count = ops.maximum(ops.sum(positive), 1.0)
        matched = ops.take_along_axis(targets[..., :5], box[..., None], axis=1)
        wanted = encoded(matched[..., :4], anchors, variances)
        away = ops.sum(_smooth_l1(wanted - offsets), axis=-1)
        classes = ops.cast(ops.maximum(matched[..., 4], 0), "int32")
        columns = scores.shape[-1]
        if background:
            kinds = (classes + 1) * ops.cast(best >= MATCHED, "int32")
            each = ops.sparse_categorical_crossentropy(kinds, scores, from_logits=logits)
            counted = positive + _hardest(each, positive, undecided)
        else:
            truth = ops.one_hot(classes, columns) * positive[..., None]
            each = ops.sum(_focal(truth, scores, logits=logits), axis=-1)
            counted = 1.0 - undecided
        return (ops.sum(away * positive) + ops.sum(each * counted)) / count

    return loss


def box_distillation(head: Mapping[str, Any]) -> Loss:
    """Return `loss(teacher's outputs, student's outputs)` of a detector, joined as by `joined`.

    Scores are learned by the focal loss of soft targets (Li et al., "Generalized focal loss", arXiv
    2006.04388, equation (4)), offsets by smooth L1 where the teacher is sure of a class.
    """
    from keras import ops

    first = 1 if head["background"] else 0
    activate = {"sigmoid": ops.sigmoid, "softmax": ops.softmax}.get(head["activation"])

    def chances(outputs: Any) -> Any:
        scores = outputs[..., 4:]
        return (activate(scores) if activate else scores)[..., first:]

    def loss(teacher: Any, student: Any) -> Any:
        taught, learned = chances(teacher), chances(student)
        sure = ops.max(taught, axis=-1)
        each = ops.abs(taught - learned) ** GAMMA * ops.binary_crossentropy(taught, learned)
        away = ops.sum(_smooth_l1(teacher[..., :4] - student[..., :4]), axis=-1)
        return (ops.sum(each) + ops.sum(away * sure)) / ops.maximum(ops.sum(sure), 1.0)

    return loss


def match(targets: Any, anchors: Array) -> tuple[Any, Any, Any]:
    """Tell which box each anchor is to find.

    Args:
        targets: `[n, m, 5 or 6]`, see `multibox_loss`.
        anchors: `[a, 4]`.

    Returns:
        `[n, a]` each: the overlap with the best box, or 2 for the anchor that is the best of a
        box, so that every box has one; the index of that box; and 1 for anchors that learn
        nothing: those next to a box without being matched, or on a box to be ignored.
    """
    from keras import ops

    there = targets[..., 4] >= 0
    ignored = there & (targets[..., 5] > 0) if targets.shape[-1] > 5 else ops.zeros_like(there)
    real = there & ops.logical_not(ignored)
    overlap = _overlap(anchors, targets[..., :4])
    counted = ops.where(real[:, None], overlap, -1.0)
    chosen = ops.argmax(counted, axis=1)
    first = ops.transpose(ops.one_hot(chosen, len(anchors)), (0, 2, 1)) > 0
    counted = ops.where(first & (counted > 0), 2.0, counted)
    best = ops.max(counted, axis=2)
    on_ignored = ops.max(ops.where(ignored[:, None], overlap, 0.0), axis=2) >= MATCHED
    near = (best < MATCHED) & ((best >= UNDECIDED) | on_ignored)
    return best, ops.argmax(counted, axis=2), ops.cast(near, "float32")


def encoded(corners: Any, anchors: Array, variances: Sequence[float]) -> Any:
    """Return boxes `[n, a, 4]`, as corners, as offsets to their anchors (Liu, equation 2)."""
    from keras import ops

    low, high = corners[..., :2], corners[..., 2:]
    centres, sizes = (low + high) / 2, ops.maximum(high - low, _SMALLEST)
    moved = (centres - anchors[:, :2]) / anchors[:, 2:]
    grown = ops.log(sizes / anchors[:, 2:])
    return ops.concatenate([moved, grown], axis=-1) / np.asarray(variances, np.float32)


def _overlap(anchors: Array, boxes: Any) -> Any:
    """Return the IoU of anchors `[a, 4]` and boxes given by their corners, `[n, a, m]`."""
    from keras import ops

    low, high = anchors[:, :2] - anchors[:, 2:] / 2, anchors[:, :2] + anchors[:, 2:] / 2
    start = ops.maximum(low[None, :, None], boxes[:, None, :, :2])
    end = ops.minimum(high[None, :, None], boxes[:, None, :, 2:4])
    inner = ops.prod(ops.maximum(end - start, 0.0), axis=-1)
    areas = ops.prod(ops.maximum(boxes[..., 2:4] - boxes[..., :2], 0.0), axis=-1)
    union = (anchors[:, 2] * anchors[:, 3])[None, :, None] + areas[:, None] - inner
    return inner / ops.maximum(union, _SMALLEST)


def _smooth_l1(difference: Any) -> Any:
    """Girshick, "Fast R-CNN", arXiv 1504.08083, equation (3)."""
    from keras import ops

    size = ops.abs(difference)
    return ops.where(size < 1, 0.5 * size**2, size - 0.5)


def _focal(truth: Any, scores: Any, *, logits: bool) -> Any:
    from keras import ops

    plain = ops.binary_crossentropy(truth, scores, from_logits=logits)
    chances = ops.sigmoid(scores) if logits else scores
    missed = truth * (1 - chances) + (1 - truth) * chances
    return (truth * ALPHA + (1 - truth) * (1 - ALPHA)) * missed**GAMMA * plain


def _hardest(each: Any, positive: Any, undecided: Any) -> Any:
    """Return 1 for the background anchors with the largest losses, of each picture."""
    from keras import ops

    free = (1 - positive) * (1 - undecided)
    order = ops.argsort(ops.argsort(-ops.stop_gradient(each) * free, axis=1), axis=1)
    most = NEGATIVES * ops.maximum(ops.sum(positive, axis=1, keepdims=True), 1.0)
    return free * ops.cast(ops.cast(order, "float32") < most, "float32")

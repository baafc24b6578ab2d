"""What is drawn of a score beside its figures, and samples that are shown as pictures."""

from __future__ import annotations

from dataclasses import dataclass, field

from edgekit.records.dataset import Array


@dataclass(frozen=True, slots=True, kw_only=True)
class Histogram:
    """Number of samples of one kind (normal, anomaly) by a value.

    Attributes:
        label: The kind.
        edges: Limits of the bins, rising, one more than there are bins.
        counts: Samples in each bin.
    """

    label: str
    edges: tuple[float, ...]
    counts: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Scatter:
    """True and predicted value of some samples, the same ones for every file, of one column."""

    label: str
    true: tuple[float, ...]
    predicted: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PrecisionRecall:
    """Some points of the precision-recall curve of one class, by rising recall.

    Attributes:
        label: The class.
        share: Share of the class among what is ranked: the precision of guessing; None where that
            is not defined.
        area: Average precision, from all points.
        recall: In [0, 1].
        precision: In [0, 1].
    """

    label: str
    share: float | None
    area: float
    recall: tuple[float, ...]
    precision: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Views:
    """What is drawn of a score: small, so that it is kept in a report's JSON.

    Attributes:
        errors: Reconstruction errors of normal samples and of anomalies.
        scatters: One entry a column of a regression.
        curves: One entry a class that is rare, or detected.
        threshold: The score from which something counts as found, where the task has one: 0.5 or 0
            of a single unit or a label; for boxes that of the largest F1.
    """

    errors: tuple[Histogram, ...] = ()
    scatters: tuple[Scatter, ...] = ()
    curves: tuple[PrecisionRecall, ...] = ()
    threshold: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Box:
    """A box in a picture.

    Attributes:
        corners: (x1, y1, x2, y2), fractions of the picture.
        label: Its class.
        number: The number of its class.
        score: In [0, 1]; None for a true box.
        matched: Whether it has a counterpart: a true box that was found, a box that is right.
    """

    corners: tuple[float, float, float, float]
    label: str
    number: int
    score: float | None
    matched: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a file says of a sample, or what is true of it.

    Attributes:
        name: The file's variant; TRUTH for the target.
        text: In words ("IoU 0.81", "cat, 97 %").
        right: Whether it is as the target says; None where that is a matter of degree.
        quality: How good it is, from 0 to 1; None for the truth.
        mask: `[h, w]` class numbers of the pixels, below 0 those that do not count; or None.
        boxes: Boxes, for a detection.
    """

    name: str
    text: str
    right: bool | None = None
    quality: float | None = None
    mask: Array | None = field(default=None, compare=False)
    boxes: tuple[Box, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Example:
    """A test sample that is a picture, and what files say of it.

    Attributes:
        index: Its number in the test split.
        picture: uint8 `[h, w]` or `[h, w, 3]`.
        answers: The truth, then the files'.
        classes: Names of the classes that answers number.
        worse: Whether a file lost noticeably against float32.
    """

    index: int
    picture: Array = field(compare=False)
    answers: tuple[Answer, ...]
    classes: tuple[str, ...] = ()
    worse: bool = False


TRUTH = "true"
"""The name of the answer that the target gives."""

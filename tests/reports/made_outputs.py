"""A report with something to draw of its outputs."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from edgekit.records import (
    TRUTH,
    Answer,
    Box,
    Example,
    Histogram,
    PrecisionRecall,
    Report,
    Scatter,
    Views,
)

EDGES = (0.01, 0.03, 0.1, 0.3)
SHARES = tuple(k / 40 for k in range(41))


def views_of(shift: float) -> Views:
    true = tuple(float(k) for k in range(-15, 15))
    return Views(
        errors=(
            Histogram(label="normal", edges=EDGES, counts=(80, 15, 5)),
            Histogram(label="anomaly", edges=EDGES, counts=(1, 4, 15)),
        ),
        scatters=tuple(
            Scatter(label=str(k), true=true, predicted=tuple(x + shift * k for x in true))
            for k in range(8)
        ),
        curves=(
            PrecisionRecall(
                label="fault", share=0.02, area=0.71 - shift / 100, recall=SHARES,
                precision=tuple(1 - x**2 for x in SHARES),
            ),
            PrecisionRecall(label="fine", share=0.98, area=0.99, recall=(1.0,), precision=(0.98,)),
        ),
    )  # fmt: skip


def examples_of(label: str = "cat") -> tuple[Example, ...]:
    """A picture with masks, one with boxes, one with words."""
    random = np.random.default_rng(0)
    photo = random.integers(0, 256, (300, 400, 3), np.uint8)
    mask = np.zeros((75, 100), int)
    mask[20:50, 30:70] = 1
    mask[:5] = -1
    box = Box(corners=(0.1, 0.2, 0.5, 0.6), label=label, number=0, score=None, matched=True)
    wrong = replace(box, corners=(0.6, 0.6, 1.2, 0.9), score=0.42, matched=False)
    classes = ("background", label)
    return (
        Example(
            index=1207, picture=photo, classes=classes, worse=True,
            answers=(
                Answer(name=TRUTH, text="mask", mask=mask),
                Answer(name="float32", text="IoU 0.91", quality=0.91, mask=mask),
                Answer(name="dynamic", text="IoU 0.42", quality=0.42, mask=mask[::-1]),
            ),
        ),
        Example(
            index=3, picture=photo[..., 0], classes=(label,),
            answers=(
                Answer(name=TRUTH, text="1 box", boxes=(box,)),
                Answer(name="float32", text="1 of 1 found", boxes=(replace(box, score=0.9),)),
                Answer(name="dynamic", text="0 of 1 found, 1 wrong", boxes=(wrong,)),
            ),
        ),
        Example(
            index=4, picture=photo[:28, :28, 0],
            answers=(
                Answer(name=TRUTH, text=label),
                Answer(name="float32", text=f"{label}, 97 %", right=True),
                Answer(name="dynamic", text=f"{label} 2, 51 %", right=False),
            ),
        ),
    )  # fmt: skip


def with_outputs(report: Report) -> Report:
    """Return a report of several files with views of each, and with examples."""
    rows = tuple(
        replace(row, score=replace(row.score, views=views_of(number / 10)), worst_samples=(1207, 3))
        for number, row in enumerate(report.rows)
        if row.score
    )
    return replace(report, rows=rows, examples=examples_of())

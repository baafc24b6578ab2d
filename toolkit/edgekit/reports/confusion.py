"""The confusion matrix on the page: which class was taken for which."""

from __future__ import annotations

from edgekit.modes import FLOAT32
from edgekit.printable import printable
from edgekit.records import Score
from edgekit.reports.groups import Group
from edgekit.reports.page_scores import chosen_file
from edgekit.reports.page_text import escaped

MOST_OPEN = 20
"""Classes of a matrix that is not folded."""
MOST_DRAWN = 60
"""Classes of a matrix that is drawn; of more, the commonest errors are listed."""
MOST_ERRORS = 30
LESS_THAN_ONE = "\u00b7"
LABEL = 14  # characters of a class beside a matrix


def matrices(group: Group, *, several: bool) -> str:
    """Draw the matrix of the recommended file, else of float32; float32 beside the other.

    Args:
        group: The rows of a model.
        several: Whether the page is of several models, and each is named.
    """
    line = chosen_file(group, lambda score: score.confusion)
    if line is None or line.row.score is None:
        return ""
    shown = [(line.label, line.row.score)]
    base = group.baseline
    if base and base is not line.row and base.score and base.score.confusion:
        shown.insert(0, (FLOAT32.name, base.score))
    classes = max(len(score.confusion) for _, score in shown)
    draw = _matrix if classes <= MOST_DRAWN else _errors
    of = f"{printable(group.model)}, " if several else ""
    names = " and ".join(name for name, _ in shown)
    what = (
        "A row: the samples of a class; a column: what was predicted. Percent of the class; "
        f"{LESS_THAN_ONE}: less than 1 %."
        if classes <= MOST_DRAWN
        else f"The {MOST_ERRORS} commonest errors of {classes:,} classes."
    )
    return (
        f'<details class="card"{" open" if classes <= MOST_OPEN else ""}>'
        f"<summary>Confusion matrix: {escaped(of + names)}</summary>"
        f'<p class="note">{what}</p>'
        f'<div class="matrices">{"".join(draw(name, score) for name, score in shown)}</div>'
        "</details>"
    )


def _matrix(name: str, score: Score) -> str:
    labels = _labels(score)
    head = "".join(
        f'<th scope="col" title="{escaped(label)}"><span>{escaped(printable(label, LABEL))}</span>'
        "</th>"
        for label in labels
    )
    body = "".join(
        f'<tr><th scope="row" title="{escaped(label)}">{escaped(printable(label, LABEL))}</th>'
        + "".join(
            _cell(count, sum(counts), right=column == row, title=f"{label}: {labels[column]}")
            for column, count in enumerate(counts[: len(labels)])
        )
        + "</tr>"
        for row, (label, counts) in enumerate(zip(labels, score.confusion, strict=True))
    )
    style = "matrix" if len(labels) <= MOST_OPEN else "matrix dense"
    return (
        f'<div class="scroll" tabindex="0"><table class="{style}">'
        f"<caption>{escaped(name)}</caption>"
        f'<thead><tr><th scope="col">Class</th>{head}</tr></thead><tbody>{body}</tbody></table>'
        "</div>"
    )


def _cell(count: int, total: int, *, right: bool, title: str) -> str:
    if not count:
        return "<td></td>"
    share = count / total
    text = f"{100 * share:.0f}" if share >= 0.01 else LESS_THAN_ONE
    return (
        f'<td class="{"right" if right else "wrong"}" style="--share:{share:.2f}" '
        f'title="{escaped(title)}, {count:,} of {total:,}">{text}</td>'
    )


def _errors(name: str, score: Score) -> str:
    labels = _labels(score)
    errors = sorted(
        (-count, row, column)
        for row, counts in enumerate(score.confusion)
        for column, count in enumerate(counts[: len(labels)])
        if count and row != column
    )
    body = "".join(
        f'<tr><th scope="row">{escaped(printable(labels[row]))}</th>'
        f'<td class="text">{escaped(printable(labels[column]))}</td>'
        f"<td>{-negative:,} of {sum(score.confusion[row]):,}</td></tr>"
        for negative, row, column in errors[:MOST_ERRORS]
    )
    return (
        f'<div class="scroll" tabindex="0"><table><caption>{escaped(name)}</caption>'
        '<thead><tr><th scope="col">Class</th><th scope="col" class="text">predicted</th>'
        f'<th scope="col">samples</th></tr></thead><tbody>{body}</tbody></table></div>'
    )


def _labels(score: Score) -> list[str]:
    """Return a name for each row: the classes in their order, else their numbers."""
    named = [one.label for one in score.per_class]
    rows = len(score.confusion)
    return named if len(named) == rows else [str(number) for number in range(rows)]

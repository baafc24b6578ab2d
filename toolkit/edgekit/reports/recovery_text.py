"""What was done so that a file loses no more than is accepted, as its manifest tells."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final, TypeGuard

from edgekit.evaluation.metrics import METRICS
from edgekit.records import Row
from edgekit.reports.formatting import metric_title, score_text
from edgekit.reports.page_text import escaped

_DONE: Final[Mapping[str, str]] = {
    "round_weights": "weights rounded by outputs",
    "correct_biases": "biases corrected",
    "higher_precision": "few operators in a higher precision",
}
Told = Mapping[str, Any]


def recovery_line(row: Row) -> str | None:
    """Say in a line what was done about a file, with the result; None where nothing was."""
    told = row.artifact.manifest.get("recovery")
    if not isinstance(told, Mapping):
        return None
    before, after = (_table(told.get(key)) for key in ("before", "after"))
    steps = _steps(told)
    helped = [_name(step) for step in steps if step.get("helped") is True]
    where = f"on {told.get('samples')} {'training' if _held_back(told) else 'calibration'} samples"
    if not helped:
        return (
            f"{row.artifact.variant} lost too much ({_figures(told, before)} {where}), and "
            f"{_in_vain(steps)}.{_next_step(told)}"
        )
    change = f"{_figures(told, after)} instead of {_figures(told, before)} {where}"
    still = "; it still loses too much" if after.get("lost") is True else ""
    return f"{row.artifact.variant}: {', '.join(helped)}: {change}{still}.{_next_step(told)}"


def _in_vain(steps: Sequence[Told]) -> str:
    """Say which remedies were tried, and which were not and why."""
    tried = dict.fromkeys(_name(step) for step in steps if _was_made(step))
    others = {_name(step): str(step.get("note") or "") for step in steps if not _was_made(step)}
    left = ", ".join(
        f"{name} ({why.rstrip('.')})" if why else name
        for name, why in others.items()
        if name not in tried
    )
    if not tried:
        return f"no remedy was tried: {left}" if left else "no remedy was tried"
    said = f"no remedy helped; tried: {', '.join(tried)}"
    return f"{said}; not tried: {left}" if left else said


def precision_line(row: Row) -> str | None:
    """Say in a line which precisions a search found; None where there was none."""
    told = row.artifact.manifest.get("precisions")
    return told if isinstance(told, str) and told else None


def recovery_card(row: Row) -> str:
    """Tabulate the remedies of a file, as HTML; "" where there were none."""
    told, line = row.artifact.manifest.get("recovery"), recovery_line(row)
    if line is None or not isinstance(told, Mapping):
        return ""
    rows = [("none", _table(told.get("before")))]
    rows += [(_name(step), step) for step in _steps(told)]
    body = "".join(_line(told, name, entry) for name, entry in rows)
    return (
        f'<details class="card"><summary>{escaped(line)}</summary>'
        f"<p>Remedies were tried one after the other on {escaped(str(told.get('samples')))} "
        f"{escaped(_samples(told))}; each that helped was kept for those that follow.</p>"
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">Remedy</th>'
        '<th scope="col">SQNR of all outputs</th><th scope="col">Score</th>'
        '<th scope="col">Kept</th><th scope="col">Note</th></tr></thead>'
        f"<tbody>{body}</tbody></table></div></details>"
    )


def _line(told: Told, name: str, entry: Told) -> str:
    kept = {True: "yes", False: "no"}.get(entry.get("helped"), "")  # type: ignore[arg-type]
    figures = (_decibels(entry), _score(told, entry)) if _was_made(entry) else ("", "")
    cells = (name, *figures, kept, entry.get("note") or "")
    return "<tr>" + "".join(f"<td>{escaped(str(cell))}</td>" for cell in cells) + "</tr>"


def _was_made(entry: Told) -> bool:
    return isinstance(entry.get("lost"), bool)


def _next_step(told: Told) -> str:
    found = told.get("next_step")
    return f" Next: {found}" if isinstance(found, str) and found else ""


def _figures(told: Told, entry: Told) -> str:
    return ", ".join(filter(None, (_score(told, entry), _decibels(entry))))


def _decibels(entry: Told) -> str:
    found = entry.get("sqnr_db")
    return f"{found:z.1f} dB" if _is_number(found) else "exact"


def _score(told: Told, entry: Told) -> str:
    metric, value = told.get("metric"), entry.get("value")
    if not isinstance(metric, str) or not _is_number(value):
        return ""
    if metric not in METRICS:
        return f"{metric} {value:.4g}"
    return f"{metric_title(metric)} {score_text(metric, value)}"


def _samples(told: Told) -> str:
    return (
        "training samples that no range was taken from"
        if _held_back(told)
        else "calibration samples"
    )


def _held_back(told: Told) -> bool:
    return told.get("held_back") is True


def _steps(told: Told) -> list[Told]:
    steps = told.get("steps")
    if not isinstance(steps, Sequence) or isinstance(steps, str):
        return []
    return [step for step in steps if isinstance(step, Mapping)]


def _name(step: Told) -> str:
    name = str(step.get("remedy"))
    return _DONE.get(name, name)


def _table(value: Any) -> Told:
    return value if isinstance(value, Mapping) else {}


def _is_number(value: Any) -> TypeGuard[float]:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)

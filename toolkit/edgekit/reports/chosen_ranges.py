"""How the ranges of a file were chosen, as its manifest tells."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from edgekit.records import Row
from edgekit.reports.page_text import escaped

_USUAL: Final = "minmax"
_PASSES: Final[Mapping[str, str]] = {
    "fold_normalization": "normalization folded",
    "equalize": "channels equalized",
}


def choice_line(row: Row) -> str | None:
    """Say in a line what was chosen for a file; None where it has what is usual."""
    told = row.artifact.manifest.get("ranges")
    if not isinstance(told, Mapping):
        return None
    parts = [_PASSES.get(name, name) for name in _texts(told.get("passes"))]
    parts += _of_figures(told)
    method = told.get("method")
    if isinstance(method, str) and method != _USUAL:
        parts.append(f"ranges by {method}")
    if not parts:
        return None
    reason = told.get("reason")
    why = f": {reason}" if isinstance(reason, str) and reason else "."
    return f"{row.artifact.variant}: {', '.join(parts)}{why}"


def choice_card(row: Row) -> str:
    """Tabulate what was tried for a file, as HTML; "" where nothing was."""
    told = row.artifact.manifest.get("ranges")
    trials = told.get("trials") if isinstance(told, Mapping) else None
    if not isinstance(told, Mapping) or not isinstance(trials, list):
        return ""
    lines = [_line(trial) for trial in trials if isinstance(trial, Mapping)]
    if not lines:
        return ""
    held, reason = told.get("held_back"), told.get("reason")
    summary = choice_line(row) or f"{row.artifact.variant}: ranges are the extremes. {reason}"
    return (
        f'<details class="card"><summary>{escaped(summary)}</summary>'
        f"<p>Noise of each candidate against float, on {escaped(str(held))} calibration samples "
        "that its ranges were not taken from.</p>"
        '<div class="scroll" tabindex="0"><table><thead><tr><th scope="col">Float graph</th>'
        '<th scope="col">Ranges</th><th scope="col">SQNR by output, dB</th>'
        '<th scope="col">Same class</th></tr></thead>'
        f"<tbody>{''.join(lines)}</tbody></table></div></details>"
    )


def _line(trial: Mapping[str, Any]) -> str:
    passes = [_PASSES.get(name, name) for name in _texts(trial.get("passes"))]
    passes += _of_figures(trial)
    ratios, agreement = trial.get("sqnr_db"), trial.get("agreement")
    listed = ratios.items() if isinstance(ratios, Mapping) else ()
    cells = (
        ", ".join(passes) or "as it was",
        trial.get("method") or "none",
        ", ".join(f"{name} {db:.1f}" for name, db in listed if isinstance(db, int | float)),
        f"{agreement:.1%}" if isinstance(agreement, int | float) else "",
    )
    return "<tr>" + "".join(f"<td>{escaped(str(cell))}</td>" for cell in cells) + "</tr>"


def _of_figures(told: Mapping[str, Any]) -> list[str]:
    """Say what was done for figures without bounds."""
    margin = told.get("margin")
    further = f"{margin:.0%} further" if isinstance(margin, float) and margin else ""
    return [
        *([f"ranges reach {further}"] if further else []),
        *(["layer of figures in float"] if told.get("float_figures") is True else []),
    ]


def _texts(values: Any) -> list[str]:
    if not isinstance(values, Sequence) or isinstance(values, str):
        return []
    return [value for value in values if isinstance(value, str)]

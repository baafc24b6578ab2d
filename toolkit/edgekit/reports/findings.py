"""What a report must say first: what the files lost, and why each one is or is not chosen."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.printable import printable
from edgekit.records import Collapse, Report, Row
from edgekit.reports.formatting import plain
from edgekit.reports.groups import groups_by_model


def collapse_text(collapse: Collapse) -> str:
    """Return a collapse in words: "class 'fault': recall 97 % became 0 %"."""
    return f"{collapse.where}: {collapse.detail}"


def about_model(report: Report, row: Row) -> str:
    """Return the start of a sentence on a file: its model, where the report has several."""
    several = len({row.model for row in report.rows}) > 1
    return f"{printable(row.model)}: " if several else ""


def file_name(report: Report, row: Row) -> str:
    """Return the name of a file in its report: the variant, with its model where needed."""
    return f"{about_model(report, row)}{printable(row.artifact.variant)}"


def collapsed_files(report: Report) -> Mapping[str, tuple[str, ...]]:
    """Return what each file lost, by variant; with its model where there are several."""
    found: dict[str, dict[str, None]] = {}
    for row in report.rows:
        if row.collapses:
            texts = found.setdefault(file_name(report, row), {})
            texts |= dict.fromkeys(plain(collapse_text(one)) for one in row.collapses)
    return {name: tuple(texts) for name, texts in found.items()}


def reasons(report: Report) -> dict[str, str]:
    """Return the sentences on each model's choice; a merged report has a line for each model."""
    models = [group.model for group in groups_by_model(report)]
    found: dict[str, str] = {}
    for line in report.reason.split("\n"):
        about = next((model for model in models if line.startswith(f"{model}: ")), "")
        text = line.removeprefix(f"{about}: ")
        about = about or next(iter(models), "")
        found[about] = " ".join(filter(None, (found.get(about, ""), text)))
    return found

"""A file held against conditions: one line a condition, and JUnit's XML."""

from __future__ import annotations

from collections.abc import Iterator
from xml.etree import ElementTree as ET

from edgekit.conditions import option_of
from edgekit.folding import fold
from edgekit.printable import MOST_PATH, printable
from edgekit.records import Check, ConditionResult
from edgekit.reports.formatting import (
    drop_interval_text,
    drop_text,
    drop_unit,
    interval_text,
    latency_text,
    plain,
    score_text,
)


def check_lines(check: Check, width: int | None = None) -> Iterator[str]:
    """Yield what became of each condition: whether it is met, what was wanted, what was found.

    Args:
        check: The results.
        width: To which a line is folded; None for one line a condition.
    """
    longest = max(len(one.name) for one in check.results)
    for one in check.results:
        name = one.name.replace("_", "-").ljust(longest)
        label = f"{'met  ' if one.met else 'UNMET'}  {name}  "
        yield from fold(_said(one), width, label=label)


def junit(check: Check) -> str:
    """Return the conditions as JUnit's XML: a test case each, a failure where it is unmet."""
    suite = ET.Element(
        "testsuite",
        name=f"edgekit check {printable(check.path, MOST_PATH)}",
        tests=str(len(check.results)),
        failures=str(len(check.unmet)),
        errors="0",
        skipped="0",
    )
    for one in check.results:
        case = ET.SubElement(
            suite,
            "testcase",
            classname=f"edgekit.check.{printable(check.path.name)}",
            name=option_of(one.name),
            time="0",
        )
        said = _said(one)
        if one.met:
            ET.SubElement(case, "system-out").text = said
        else:
            ET.SubElement(case, "failure", message=said, type="unmet").text = said
    suites = ET.Element("testsuites")
    suites.append(suite)
    ET.indent(suites)
    text = ET.tostring(suites, encoding="unicode", xml_declaration=False)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n{text}\n'


def _said(one: ConditionResult) -> str:
    if one.unit == "operators":
        return plain(f"wanted none, found {one.found:.0f} {one.detail} ({one.basis})")
    wanted, found = _figure(one, one.wanted), "none"
    if one.found is not None:
        found = _figure(one, one.found)
    if one.ci95 is not None:
        interval = interval_text if one.unit == "score" else drop_interval_text
        found += f" (95 % interval {interval(one.metric or '', one.ci95)})"
    bound = "at least" if one.at_least else "at most"
    detail = f": {one.detail}" if one.detail else ""
    return plain(f"wanted {bound} {wanted}, found {found} ({one.basis}){detail}")


def _figure(one: ConditionResult, value: float) -> str:
    if one.unit == "bytes":
        # Exact: 96k is 98,304 bytes, and so is no 96 kB of other reports.
        return f"{value:,.0f} B"
    if one.unit == "ms":
        return latency_text(value)
    metric = one.metric or ""
    if one.unit == "score":
        return score_text(metric, value)
    return f"{drop_text(metric, value)} {drop_unit(metric)}"

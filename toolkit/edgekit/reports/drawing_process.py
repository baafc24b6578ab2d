"""The process that draws: one request on stdin, its answer on stdout (see `drawing`)."""

from __future__ import annotations

import os
import pickle
import signal
import sys
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from edgekit.evaluation.metrics import add_described_metric
from edgekit.records import Report, Sensitivity

if TYPE_CHECKING:
    from edgekit.reports.example_pictures import ExamplePictures


def main() -> None:
    """Answer the request; the argument is the time limit in seconds."""
    # Without a handler the alarm ends even native code, and also where the parent is gone.
    signal.alarm(int(sys.argv[1]))
    answers = os.dup(1)
    os.dup2(2, 1)  # what the library prints is no answer
    task, arguments, metrics = pickle.load(sys.stdin.buffer)
    for name, facts in metrics.items():
        add_described_metric(name, **facts)
    try:
        draw: Callable[..., object] = _TASKS[task]
        answer: tuple[str, object] = ("value", draw(*arguments))
    except Exception as error:  # any failure of the library means no charts
        answer = ("error", f"{type(error).__name__}: {error}")
    with os.fdopen(answers, "wb") as stream:
        pickle.dump(answer, stream)
    # The engine's threads may hang in an ordinary exit.
    os._exit(0)


def page(
    report: Report, with_library: bool
) -> tuple[dict[str, dict[str, Any]], dict[str, str], str, tuple[ExamplePictures, ...]]:
    """Return specifications and pictures without titles, which the page's captions are.

    And the pictures of examples.
    """
    import vl_convert

    from edgekit.reports import charts
    from edgekit.reports.example_pictures import draw_examples

    specs = {}
    for name, chart in charts.charts(report).items():
        specs[name] = chart.to_dict()
        del specs[name]["title"]
    drawn = {name: str(vl_convert.vegalite_to_svg(spec)) for name, spec in specs.items()}
    library = ""
    if specs and with_library:
        library = vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;")
    return specs, drawn, library, draw_examples(report.examples)


def pictures(report: Report, form: str) -> dict[str, str | bytes]:
    """Return every chart as `png` or `svg`."""
    from edgekit.reports import charts

    return {
        name: charts.png(chart) if form == "png" else charts.svg(chart)
        for name, chart in charts.charts(report).items()
    }


def sensitivity(found: Sensitivity) -> str:
    """Return the chart of what each operator costs as SVG, without a title."""
    import vl_convert

    from edgekit.reports.sensitivity_chart import sensitivity_chart

    chart = sensitivity_chart(found)
    if chart is None:
        return ""
    spec = chart.to_dict()
    del spec["title"]
    return str(vl_convert.vegalite_to_svg(spec))


_TASKS: Mapping[str, Callable[..., object]] = {
    "page": page,
    "pictures": pictures,
    "sensitivity": sensitivity,
}


if __name__ == "__main__":
    main()

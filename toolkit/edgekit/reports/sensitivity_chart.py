"""The chart of what each operator costs."""

from __future__ import annotations

import json
from collections import Counter
from typing import TYPE_CHECKING, Any, Final

from edgekit.printable import printable
from edgekit.records import Report, Row, Sensitivity
from edgekit.reports.chart_style import COLOURS, WIDTH, styled, tooltips
from edgekit.reports.formatting import plain
from edgekit.schema import sensitivity_of_manifest

if TYPE_CHECKING:
    import altair as alt

MOST_BARS: Final = 60
SENSITIVITY: Final = "What each operator costs"
BARS: Final = (
    "Bar: noise in the outputs (root mean square) where this operator alone has the precision."
)
TICKS: Final = "Tick: where all have it but this one."
LINE: Final = "Dashed line: where all have it."
MOST_LABEL: Final = 28  # characters, of which both ends are seen
_LABEL_PX: Final = 220


def recorded(report: Report) -> list[tuple[Row, Sensitivity]]:
    """Return the files whose precision was searched for, and what operators cost in them."""
    found = ((row, sensitivity_of_manifest(row.artifact.manifest)) for row in report.files)
    return [(row, costs) for row, costs in found if costs is not None]


def sensitivity_chart(found: Sensitivity, *, width: int = WIDTH) -> alt.LayerChart | None:
    """Draw the noise in the outputs with each operator alone in the precision, and with all but it.

    Returns:
        The chart; None where no operator costs anything.
    """
    import altair as alt

    costs = [cost for cost in found.costs[:MOST_BARS] if cost.only_db is not None]
    if not costs:
        return None
    layers = Counter(cost.layer for cost in costs)
    values: list[dict[str, Any]] = []
    for number, cost in enumerate(costs):
        name = cost.layer if layers[cost.layer] == 1 else f"{cost.layer} {cost.operator}"
        values.append(
            {
                "bar": number,
                "label": printable(name, MOST_LABEL),
                "only": noise_percent(cost.only_db),
                "without": noise_percent(cost.without_db),
                "kept": cost.kept,
                "Layer": plain(cost.layer),
                "Operator": plain(cost.operator),
                "Alone": f"{cost.only_db:z.1f} dB",
            }
        )
    base = alt.Chart(alt.Data(values=values))
    names = "".join(f"datum.value == {v['bar']} ? {json.dumps(v['label'])} : " for v in values)
    axis = alt.Axis(
        domain=False, ticks=False, labelLimit=_LABEL_PX, labelPadding=8, labelExpr=f"{names}''"
    )
    y = alt.Y("bar:N", title=None, sort=None, axis=axis)
    title = "noise in the outputs, % of the signal"
    bars: list[Any] = [
        base.mark_bar(height=12, cornerRadiusEnd=2)
        .encode(
            x=alt.X("only:Q", title=title, axis=alt.Axis(tickCount=6)),
            y=y,
            color=alt.condition(
                "datum.kept", alt.value(COLOURS["front"]), alt.value(COLOURS["accent"])
            ),
            tooltip=tooltips(values),
        )
        .properties(name="operators")
    ]
    if any(cost.without_db is not None for cost in costs):
        ticks = base.mark_tick(color=COLOURS["ink"], thickness=2, size=12)
        bars.append(ticks.encode(x=alt.X("without:Q"), y=y))
    line = alt.Chart(alt.Data(values=[{"all": noise_percent(found.all_db)}]))
    bars.append(line.mark_rule(color=COLOURS["front"], strokeDash=[4, 3]).encode(x=alt.X("all:Q")))
    drawn = styled(alt.layer(*bars), "", [], width, height=20 * len(values))
    # The library measures long labels with a narrower font than a browser may have.
    return drawn.properties(padding={"left": 28, "top": 6, "right": 6, "bottom": 6})


def noise_percent(sqnr_db: float | None) -> float:
    """Return the noise of an SQNR as a share of the signal, root mean square.

    >>> noise_percent(20.0)
    10.0
    """
    return 0.0 if sqnr_db is None else float(100 * 10 ** (-sqnr_db / 20))

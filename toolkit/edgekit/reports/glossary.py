"""What every kind of figure on the page means, for somebody who sees such figures first."""

from __future__ import annotations

from edgekit.evaluation.metrics import metric_named
from edgekit.records import Report
from edgekit.reports.figures import VERDICTS

ALWAYS = "always"
AGREEMENT = "agreement"
# ("latency", AGREEMENT or ALWAYS: when it is said; the term; what it means)
GLOSSARY = (
    (ALWAYS, "95 % interval", """The test samples are a draw from all that the device will meet.
        Another draw would give another score; 95 of 100 such intervals hold the true one.
        Overlapping intervals do not mean that two files are equally good: for that there is the
        drop."""),
    (ALWAYS, "Drop and verdict", f"""The loss against the float32 file on the very same samples,
        positive being worse. Because each sample is its own control, its interval is much narrower
        than that of the score. Kept: {VERDICTS["kept"]}. Unproven: {VERDICTS["unproven"]}.
        Lost: {VERDICTS["lost"]}."""),
    (AGREEMENT, "Agreement", """How often the file names the same class as float32, right or wrong.
        It can be lower than the drop suggests, when errors in both directions cancel out."""),
    ("latency", "Latency", """One inference at a time, after warm-up. p50 is the median; nine in ten
        inferences are faster than p90. Figures hold for the device named beside them; those of
        different devices are never put in one ratio or one chart."""),
    (ALWAYS, "Size", """Bytes of the file as stored; 1 kB is 1000 bytes. The part called graph is
        the structure: operators, shapes and names, and what the file says of itself."""),
    (ALWAYS, "Measured and predicted", """Sizes, scores and latencies are measured. What is said of
        an accelerator is predicted from its published rules, and is labelled so."""),
)  # fmt: skip


def reading(report: Report) -> str:
    """Explain the kinds of figures that occur in this report."""
    occurring = {ALWAYS}
    if any(row.agreement is not None for row in report.rows):
        occurring.add(AGREEMENT)
    if any(row.timing for row in report.rows):
        occurring.add("latency")
    names = dict.fromkeys(row.score.metric for row in report.rows if row.score)
    scored = [metric_named(name) for name in names]
    terms = [(metric.title, metric.meaning) for metric in scored if metric.meaning]
    terms += [(term, text) for when, term, text in GLOSSARY if when in occurring]
    items = "".join(f"<dt>{term}</dt><dd>{' '.join(text.split())}</dd>" for term, text in terms)
    return f'<section><h2>How to read this</h2><dl class="read">{items}</dl></section>'

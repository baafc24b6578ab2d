"""Explanations of the figures on the page, for readers who are new to them."""

from __future__ import annotations

from edgekit.evaluation.metrics import metric_named
from edgekit.records import Report
from edgekit.reports.page_text import escaped

VERDICTS = {
    "kept": "the whole interval of the drop is within the allowed loss",
    "unproven": "the allowed loss lies inside the interval: more test samples are needed",
    "lost": "the whole interval of the drop is beyond the allowed loss",
}
ALWAYS = "always"
AGREEMENT = "agreement"
# (when it is explained: "latency", AGREEMENT or ALWAYS; the term; its explanation)
GLOSSARY = (
    (ALWAYS, "95 % interval", """The test samples are a random sample of the inputs the device will
        see. Another sample would give another score; 95 of 100 such intervals contain the true
        one. Overlapping intervals do not mean that two files are equally good: compare the drop
        instead."""),
    (ALWAYS, "Drop and verdict", f"""The loss against the float32 file on the same samples;
        positive is worse. Because the comparison is paired, its interval is much narrower than
        that of the score. Kept: {VERDICTS["kept"]}. Unproven: {VERDICTS["unproven"]}.
        Lost: {VERDICTS["lost"]}."""),
    (AGREEMENT, "Agreement", """How often the file predicts the same class as float32, right or
        wrong. It can be lower than the drop suggests, when errors in both directions cancel."""),
    ("latency", "Latency", """One inference at a time, after warm-up. p50 is the median; nine in ten
        inferences are faster than p90. A latency is valid for the device named beside it;
        those of different devices are never compared in a ratio or a chart."""),
    (ALWAYS, "Size", """Bytes of the file as stored; 1 kB is 1000 bytes. The part called graph is
        the structure: operators, shapes, names and metadata."""),
    (ALWAYS, "Measured and predicted", """Sizes, scores and latencies are measured. Support on
        an accelerator is predicted from its published rules, and is labelled as predicted."""),
)  # fmt: skip


def glossary(report: Report) -> str:
    """Explain the kinds of figures in this report."""
    occurring = {ALWAYS}
    if any(row.agreement is not None for row in report.rows):
        occurring.add(AGREEMENT)
    if any(row.timing for row in report.rows):
        occurring.add("latency")
    names = dict.fromkeys(row.score.metric for row in report.rows if row.score)
    scored = [metric_named(name) for name in names]
    # Those of the user's own may come from a file.
    terms = [(escaped(one.title), escaped(one.meaning)) for one in scored if one.meaning]
    terms += [(term, text) for when, term, text in GLOSSARY if when in occurring]
    items = "".join(f"<dt>{term}</dt><dd>{' '.join(text.split())}</dd>" for term, text in terms)
    return f'<section><h2>Glossary</h2><dl class="read">{items}</dl></section>'

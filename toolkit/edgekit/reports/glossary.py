"""Explanations of the figures on the page, for readers who are new to them."""

from __future__ import annotations

from edgekit.evaluation.metrics import metric_named
from edgekit.modes import FLOAT32
from edgekit.records import Report
from edgekit.reports.groups import groups_by_model
from edgekit.reports.page_text import escaped

VERDICTS = {
    "kept": "the whole interval of the drop is within the allowed loss",
    "unproven": "the allowed loss lies inside the interval: more test samples are needed",
    "lost": "the whole interval of the drop is beyond the allowed loss",
}
ALWAYS = "always"
AGREEMENT, LATENCY = "agreement", "latency"
SOURCE_ROW, FIDELITY, COLLAPSES, FLASH = "source", "fidelity", "collapses", "flash"
# (when it is explained; the term; its explanation, with {reference} for what drops are against)
GLOSSARY = (
    (ALWAYS, "95 % interval", """The test samples are a random sample of the inputs the device will
        see. Another sample would give another score; 95 of 100 such intervals contain the true
        one. Overlapping intervals do not mean that two files are equally good: compare the drop
        instead."""),
    (SOURCE_ROW, "Source", """The model itself, scored on the same samples before anything was made
        of it. It is not a file to ship: what the float32 file scores must be what it scores."""),
    (ALWAYS, "Drop and verdict", f"""The loss against {{reference}} on the same samples;
        positive is worse. Because the comparison is paired, its interval is much narrower than
        that of the score. Kept: {VERDICTS["kept"]}. Unproven: {VERDICTS["unproven"]}.
        Lost: {VERDICTS["lost"]}."""),
    (AGREEMENT, "Agreement", """How often the file predicts the same class as {reference}, right
        or wrong. It can be lower than the drop suggests, when errors in both directions
        cancel."""),
    (FIDELITY, "Fidelity", """How near an output is to the float graph's on the same inputs; no
        labels are needed. SQNR is the ratio of the output's power to that of the difference, in
        dB: 20 dB is a difference of a tenth, 40 dB of a hundredth. Levels: how many different
        values a column takes, at least."""),
    (COLLAPSES, "Lost outputs and classes", """An output that no longer depends on the input, that
        sticks at one end of its range or takes a handful of values only, or a class that is no
        longer found. Such a file is never recommended, whatever its score."""),
    (LATENCY, "Latency", """One inference at a time, after warm-up. p50 is the median; nine in ten
        inferences are faster than p90. A latency is valid for the device named beside it;
        those of different devices are never compared in a ratio or a chart."""),
    (ALWAYS, "Size", """Bytes of the file as stored; 1 kB is 1000 bytes. The part called graph is
        the structure: operators, shapes, names and metadata."""),
    (FLASH, "Flash, size and memory", """Flash is what the file takes packed with gzip, size what
        it takes unpacked. Model memory is what a process gained by loading and running it: weights
        as kernels read them (int4 as int8), their packed copies, and the arena of activations."""),
    (ALWAYS, "Measured and predicted", """Sizes, scores and latencies are measured. Support on
        an accelerator is predicted from its published rules, and is labelled as predicted."""),
)  # fmt: skip


def glossary(report: Report) -> str:
    """Explain the kinds of figures in this report."""
    rows = report.rows
    found = {
        ALWAYS: True,
        AGREEMENT: any(row.agreement is not None for row in rows),
        LATENCY: any(row.timing for row in rows),
        SOURCE_ROW: any(row.is_source for row in rows),
        FIDELITY: any(row.fidelity for row in rows),
        COLLAPSES: any(row.collapses for row in rows),
        FLASH: any(row.artifact.gzip_bytes is not None for row in rows),
    }
    against = {group.compared_with for group in groups_by_model(report)} or {FLOAT32.name}
    reference = f"the {FLOAT32.name} file" if against == {FLOAT32.name} else "the first file"
    names = dict.fromkeys(row.score.metric for row in report.rows if row.score)
    scored = [metric_named(name) for name in names]
    # Those of the user's own may come from a file.
    terms = [(escaped(one.title), escaped(one.meaning)) for one in scored if one.meaning]
    terms += [
        (term, text.format(reference=reference)) for when, term, text in GLOSSARY if found[when]
    ]
    items = "".join(f"<dt>{term}</dt><dd>{' '.join(text.split())}</dd>" for term, text in terms)
    return f'<section><h2>Glossary</h2><dl class="read">{items}</dl></section>'

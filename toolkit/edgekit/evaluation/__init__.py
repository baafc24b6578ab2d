"""How good a file is, how sure that is, and which file to ship.

`predict` runs a file over samples on all cores; `evaluate` scores it with an interval;
`paired_drop` compares two evaluations on the same samples, `compare` their outputs; `recommend`
chooses. What is scored is
told by a task (`tasks`, one module each), by a metric (`metrics`, one module each).
"""

from edgekit.evaluation.drops import agreement, budget, paired_drop
from edgekit.evaluation.fidelity import compare, fidelity_ok, worst
from edgekit.evaluation.predict import predict
from edgekit.evaluation.reasons import samples_to_settle
from edgekit.evaluation.recommend import lost_files, recommend, unloadable
from edgekit.evaluation.scores import (
    Evaluation,
    Predictions,
    aggregate,
    check_finite,
    compared,
    compute,
    evaluate,
    evaluate_pieces,
    scorable,
    score,
    scored_output,
)

__all__ = [
    "Evaluation",
    "Predictions",
    "aggregate",
    "agreement",
    "budget",
    "check_finite",
    "compare",
    "compared",
    "compute",
    "evaluate",
    "evaluate_pieces",
    "fidelity_ok",
    "lost_files",
    "paired_drop",
    "predict",
    "recommend",
    "samples_to_settle",
    "scorable",
    "score",
    "scored_output",
    "unloadable",
    "worst",
]

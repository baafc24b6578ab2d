"""How good a file is, how sure that is, and which file to ship.

`predict` runs a file over samples on all cores; `evaluate` scores it with an interval;
`paired_drop` compares two evaluations on the same samples; `recommend` chooses. What is scored is
told by a task (`tasks`, one module each), by a metric (`metrics`, one module each).
"""

from edgekit.evaluation.drops import agreement, budget, paired_drop
from edgekit.evaluation.predict import predict
from edgekit.evaluation.recommend import recommend, samples_to_settle, unloadable
from edgekit.evaluation.scores import Evaluation, aggregate, check_finite, evaluate, score

__all__ = [
    "Evaluation",
    "aggregate",
    "agreement",
    "budget",
    "check_finite",
    "evaluate",
    "paired_drop",
    "predict",
    "recommend",
    "samples_to_settle",
    "score",
    "unloadable",
]

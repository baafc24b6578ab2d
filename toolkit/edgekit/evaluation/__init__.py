"""How good a file is, how sure that is, and which file to ship.

`predict` runs a file over samples on all cores; `evaluate` scores it with an interval;
`paired_drop` compares two evaluations on the same samples; `recommend` chooses.
"""

from edgekit.evaluation.choose import recommend, samples_to_settle
from edgekit.evaluation.drops import agreement, budget, paired_drop
from edgekit.evaluation.predict import predict
from edgekit.evaluation.scores import Evaluation, conclude, evaluate, judge, refuse_unsound, score

__all__ = [
    "Evaluation",
    "agreement",
    "budget",
    "conclude",
    "evaluate",
    "judge",
    "paired_drop",
    "predict",
    "recommend",
    "refuse_unsound",
    "samples_to_settle",
    "score",
]

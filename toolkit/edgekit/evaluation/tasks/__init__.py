"""The tasks, one module each. A new one is a module here and a line in `TASKS`."""

from __future__ import annotations

from collections.abc import Mapping

from edgekit.errors import UsageError
from edgekit.evaluation.tasks.class_labels import as_classes
from edgekit.evaluation.tasks.classification import CLASSIFICATION
from edgekit.evaluation.tasks.detection import DETECTION
from edgekit.evaluation.tasks.multi_label import MULTI_LABEL
from edgekit.evaluation.tasks.reconstruction import RECONSTRUCTION
from edgekit.evaluation.tasks.regression import REGRESSION
from edgekit.evaluation.tasks.segmentation import SEGMENTATION
from edgekit.evaluation.tasks.task import BoundTargets, Evidence, Task

__all__ = [
    "CLASSIFICATION",
    "DETECTION",
    "MULTI_LABEL",
    "RECONSTRUCTION",
    "REGRESSION",
    "SEGMENTATION",
    "TASKS",
    "BoundTargets",
    "Evidence",
    "Task",
    "as_classes",
    "infer_task",
    "task_named",
]

TASKS: Mapping[str, Task] = {
    task.name: task
    for task in (
        CLASSIFICATION,
        MULTI_LABEL,
        SEGMENTATION,
        DETECTION,
        REGRESSION,
        RECONSTRUCTION,
    )
}

# A model that rebuilds its input may have flags for targets, which look like two classes; one-hot
# rows are classes before they are labels; what is none of these is quantities.
_INFERRED_IN_ORDER = (
    RECONSTRUCTION,
    DETECTION,
    CLASSIFICATION,
    MULTI_LABEL,
    SEGMENTATION,
    REGRESSION,
)


def task_named(name: str) -> Task:
    """Return the task of that name.

    Raises:
        UsageError: There is none.
    """
    if name not in TASKS:
        raise UsageError(f"Unknown task: {name!r}.", hint=f"Known: {', '.join(TASKS)}.")
    return TASKS[name]


def infer_task(evidence: Evidence) -> Task | None:
    """Return the first task that recognizes the data; None where there are no targets."""
    return next((task for task in _INFERRED_IN_ORDER if task.recognizes(evidence)), None)

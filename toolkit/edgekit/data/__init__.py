"""Data: opened whatever its form, streamed, checked against a model before any work.

    dataset = open_data("fashion-mnist")                       # raw samples, unnamed input "x"
    dataset = bind(dataset, source.inputs, source.outputs)     # named, cast, checked, task known
    fit, validation = training_split(dataset)                  # never touches the test split
    for batch in split_of(dataset, "test").batches(): ...

A format's reader (`arrays`, `images`, `idx`, `table`, `builtin`, `function`) yields stores of raw
samples; `store.Reader` turns their rows into batches, preprocessed by the very code that the
device runs.
"""

from edgekit.data.bind import bind
from edgekit.data.formats.builtin import BUILTINS
from edgekit.data.formats.live import take
from edgekit.data.load import open_data, open_request
from edgekit.data.own_metric import asked_metrics
from edgekit.data.splits import (
    beyond_calibration,
    describe_validation,
    split_of,
    training_split,
)
from edgekit.data.store import targets_of

__all__ = [
    "BUILTINS",
    "asked_metrics",
    "beyond_calibration",
    "bind",
    "describe_validation",
    "open_data",
    "open_request",
    "split_of",
    "take",
    "targets_of",
    "training_split",
]

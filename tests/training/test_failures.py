"""The line of an error that says most."""

from __future__ import annotations

import pytest

from edgekit.training.failures import telling


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            "Graph execution error:\n\nDetected at node mse/sub defined at\n  File 'x'\n\n"
            "Incompatible shapes: [5] vs. [5,3]\n\t [[{{node mse/sub}}]] [Op:call]",
            "Incompatible shapes: [5] vs. [5,3]",
        ),
        (
            "Exception encountered when calling Learner.call().\n\n"
            "\x1b[1m'a(b)' is not a valid scope name\x1b[0m\n\nArguments received:\n  * x",
            "'a(b)' is not a valid scope name",
        ),
        ("Shapes differ.\nAt y.", "Shapes differ."),
        ("", "ValueError"),
    ],
)
def test_of_a_trace_the_reason_is_told(error, line):
    assert telling(ValueError(error)) == line

"""The line of an error that says most."""

from __future__ import annotations

import pytest

from edgekit.printable import telling


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (
            "Graph execution error:\n\nAt:\n  File 'x'\n\nIncompatible: [5]\n\t [[{{node}}]]",
            "Incompatible: [5]",
        ),
        (
            "\n".join(f"\x1b[1mException encountered when calling {x}.call()." for x in "LM")
            + "\n\n\x1b[1m'a' is none\x1b[0m\n\nGot: x",
            "'a' is none",
        ),
        ("Shapes differ.\nAt y.", "Shapes differ."),
        ("", "ValueError"),
    ],
)
def test_of_a_trace_the_reason_is_told(error, line):
    assert telling(ValueError(error)) == line

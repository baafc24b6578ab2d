"""Damaged files of every kind: each is read or refused, without any other effect.

$EDGEKIT_FUZZ_SECONDS is for all readers together, $EDGEKIT_FUZZ_FIRST the number of the first
input. For longer runs: `make fuzz`.
"""

from __future__ import annotations

import os

import pytest
from harness import hunt
from readers import READERS

pytestmark = pytest.mark.usefixtures("real_charts")
SECONDS = float(os.environ.get("EDGEKIT_FUZZ_SECONDS", "20"))
FIRST = int(os.environ.get("EDGEKIT_FUZZ_FIRST", "0"))


@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused(name, tmp_path):
    reader = READERS[name]

    outcome = hunt(
        reader, tmp_path, first=FIRST, seconds=SECONDS / len(READERS), fewest=reader.fewest
    )

    kinds = {finding.kind: str(finding) for finding in outcome.findings}
    assert not kinds, "\n".join(kinds.values())
    assert outcome.inputs >= reader.fewest
    # Both ways out were taken, or the damage is too mild or too harsh to say anything.
    assert outcome.read > 0
    assert outcome.refused > 0 or reader.skip_unsupported


@pytest.mark.parametrize("name", READERS)
def test_whole_files_are_read(name, tmp_path):
    reader = READERS[name]

    outcome = hunt(reader, tmp_path, fewest=len(reader.seeds))

    assert not outcome.findings, "\n".join(map(str, outcome.findings))
    assert (outcome.read, outcome.refused) == (len(reader.seeds), 0)


@pytest.mark.parametrize("name", READERS)
def test_an_input_does_not_depend_on_those_before_it(name):
    reader = READERS[name]
    numbers = range(100, 130)

    forwards = {number: reader.content(number) for number in numbers}
    backwards = {number: reader.content(number) for number in reversed(numbers)}

    assert forwards == backwards
    assert len(set(forwards.values())) > 10

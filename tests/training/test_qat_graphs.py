"""Quantization-aware training of graphs with branches, normalization and excluded layers."""

from __future__ import annotations

from typing import Any

import pytest
from qat_kinds import EXCLUDED, GRAPHS, check_float, check_outputs

pytestmark = pytest.mark.tensorflow
NAMES = (*GRAPHS, *(f"{name} excluded" for name in EXCLUDED))


@pytest.fixture(scope="module")
def found(run_session) -> dict[str, Any]:
    return run_session("qat_kinds", *NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_the_file_computes_what_was_trained(found, name):
    check_outputs(found[name])


@pytest.mark.parametrize("name", NAMES)
def test_only_what_has_no_quantized_form_or_was_excluded_is_float(found, name):
    check_float(name, found[name])


def test_one_wide_channel_does_not_cost_the_others_their_codes(found):
    assert found["normalized unevenly"]["kept"] >= 0.9

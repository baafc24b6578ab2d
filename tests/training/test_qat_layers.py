"""Quantization-aware training of every kind of layer."""

from __future__ import annotations

from typing import Any

import pytest
from qat_kinds import LAYERS, check_float, check_outputs

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def found(run_session) -> dict[str, Any]:
    return run_session("qat_kinds", *LAYERS)


@pytest.mark.parametrize("name", LAYERS)
def test_the_file_computes_what_was_trained(found, name):
    check_outputs(found[name])


@pytest.mark.parametrize("name", LAYERS)
def test_only_what_has_no_quantized_form_or_was_excluded_is_float(found, name):
    check_float(name, found[name])

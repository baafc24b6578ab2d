"""Quantization-aware training of every kind of layer: the file computes what was trained."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from qat_kinds_session import ISLANDS, NAMES

pytestmark = pytest.mark.tensorflow


@pytest.fixture(scope="module")
def found(run_session) -> dict[str, Any]:
    return run_session("qat_kinds")


@pytest.mark.parametrize("name", NAMES)
def test_the_file_computes_what_was_trained(found, name):
    result = found[name]
    assert "error" not in result, result
    assert result["other scales"] == []
    assert result["agreement"] >= 0.97
    assert result["difference"] <= 0.01
    # A paired interval of the two scores.
    lost = np.array(result["right"][0]) - np.array(result["right"][1])
    assert lost.mean() - 1.96 * lost.std() / np.sqrt(len(lost)) <= 0.0


@pytest.mark.parametrize("name", NAMES)
def test_only_what_has_no_quantized_form_or_was_excluded_is_float(found, name):
    result = found[name]
    left, floats = ISLANDS.get(name, ((), ()))
    assert set(result["left"]) == set(left)
    assert set(floats) <= set(result["float"])
    assert bool(floats) == bool(result["float"])
    assert {"CONV_2D", "FULLY_CONNECTED"} & set(result["integer"])

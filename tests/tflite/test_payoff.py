"""What pruning is predicted to be worth, on the published models."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.tflite.payoff import sparse_bytes, will_it_pay

PUBLISHED = ["fashion-mnist", "spoken-digits", "turbofan"]


@pytest.mark.parametrize("name", PUBLISHED)
def test_a_download_shrinks_with_the_share(repository: Path, name: str) -> None:
    data = (repository / "quantized" / name / "float32.tflite").read_bytes()
    told = [will_it_pay(data, share) for share in (0.0, 0.5, 0.8)]
    sizes = [payoff.pruned_deflated_bytes for payoff in told]
    assert sizes == sorted(sizes, reverse=True)
    assert sizes[2] < 0.4 * sizes[0]
    assert sizes[0] == pytest.approx(told[0].size_deflated_bytes, rel=0.02)
    assert told[0].sparse_bytes is None
    assert told[2].sparse_bytes < 0.5 * told[2].size_bytes
    assert [payoff.sparsity for payoff in told] == pytest.approx([0, 0.5, 0.8], abs=2e-3)


@pytest.mark.parametrize("name", PUBLISHED)
def test_integers_gain_in_download_alone(repository: Path, name: str) -> None:
    data = (repository / "quantized" / name / "int8.tflite").read_bytes()
    told = will_it_pay(data, 0.8)
    assert told.pruned_deflated_bytes < 0.7 * told.size_deflated_bytes
    assert told.sparse_bytes is None
    assert not told.faster.mapped


@given(share=st.floats(0, 1), inputs=st.sampled_from([8, 300]))
def test_a_sparse_kernel_costs_a_value_and_a_place_a_weight(share: float, inputs: int) -> None:
    mask = np.random.default_rng(0).random((16, 3, 3, inputs)) >= share
    stored = int(mask.sum())
    place = 1 if inputs < 256 else 2
    least = stored * (4 + place)
    assert least < sparse_bytes(mask, 4) <= least + (16 * 9 + 1) * 2 + 400

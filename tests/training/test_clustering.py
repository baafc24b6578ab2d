"""The demo's model clustered for real, in one process that imports TensorFlow."""

from __future__ import annotations

import pytest

LAYERS = ["conv1_1", "conv2_1", "conv2_2", "output"]

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("clustering")]


@pytest.fixture(scope="session")
def clustered(run_session, demo_model) -> dict:
    return run_session("clustering", demo_model)


@pytest.mark.parametrize("initial", ["linear", "density"])
def test_at_once_a_kernel_has_sixteen_weights_at_most(clustered, initial):
    assert clustered[initial]["distinct"] == dict.fromkeys(LAYERS, 16)
    assert clustered[initial]["accuracy"] >= clustered["float"] - 0.05


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_trained_palettes_cost_at_most_a_point(clustered, optimizer):
    found = clustered[optimizer]
    assert found["accuracy"] >= clustered["float"] - 0.01
    assert max(found["distinct"].values()) <= 16
    assert found["trained"]
    assert found["plain"]


@pytest.mark.parametrize("optimizer", ["adam", "sgd"])
def test_the_gain_is_in_the_download(clustered, optimizer):
    before, after = clustered[optimizer]["deflated"]
    assert after < 0.4 * before


def test_zeros_and_clusters_are_kept(clustered):
    found = clustered["pruned"]
    assert found["same zeros"]
    assert found["tied"]
    assert found["negative zeros"] == 0
    assert max(found["distinct"][layer] for layer in LAYERS[:3]) <= 16
    assert {layer: found["after"][layer] for layer in LAYERS[:3]} == {
        layer: found["before"][layer] for layer in LAYERS[:3]
    }


def test_an_excluded_layer_is_left_alone(clustered):
    assert clustered["pruned"]["left alone"] == {"output": "excluded"}
    assert clustered["pruned"]["distinct"]["output"] > 16


@pytest.mark.parametrize(
    ("label", "kind", "says"),
    [
        ("one", "UsageError", "1 is too small a number of clusters"),
        ("none", "ModelError", "has no kernel to cluster"),
        ("layer", "UsageError", "There is no layer 'conv9' to exclude."),
    ],
)
def test_what_goes_wrong_is_said(clustered, label, kind, says):
    error = clustered["refusals"][label]
    assert error.startswith(f"{kind}: ")
    assert says in error
    assert len(error.splitlines()) <= 3

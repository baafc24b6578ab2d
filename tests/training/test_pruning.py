"""The demo's model pruned for real, in one process that imports TensorFlow."""

from __future__ import annotations

import pytest

KERNELS = 108 + 2592 + 5184 + 240

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("pruning")]


@pytest.fixture(scope="session")
def pruned(run_session, demo_model) -> dict:
    return run_session("pruning", demo_model)


class TestOneShot:
    def test_the_share_is_met_to_the_weight(self, pruned):
        assert abs(pruned["one shot"]["global"]["total off by"]) <= 1
        assert all(abs(off) <= 1 for off in pruned["one shot"]["layer"]["off by"].values())

    @pytest.mark.parametrize("scope", ["global", "layer"])
    def test_small_weights_go_and_the_rest_stays_as_it_was(self, pruned, scope):
        found = pruned["one shot"][scope]
        assert found["rest unchanged"]
        assert found["share"] == [0.5, 0.5]
        assert found["layers"][0] == found["layers"][1]
        assert found["left dense"] == {}
        assert scope == "global" or found["smaller dropped"]

    def test_a_download_shrinks_with_the_share(self, pruned):
        found = pruned["deflated"]
        assert found["0.5"] < 0.65 * found["0.0"]
        assert found["0.8"] < 0.35 * found["0.0"]
        assert found["stored 0.8"] == found["stored 0.0"]  # zeros are stored all the same


class TestFineTuning:
    @pytest.mark.parametrize("optimizer", ["adam", "sgd"])
    def test_half_of_the_weights_cost_at_most_a_point(self, pruned, optimizer):
        assert pruned[optimizer]["accuracy"] >= pruned["float"] - 0.01

    @pytest.mark.parametrize("optimizer", ["adam", "sgd"])
    def test_no_optimizer_revives_a_weight(self, pruned, optimizer):
        found = pruned[optimizer]
        assert found["revived"] == 0
        assert found["n"] == KERNELS
        assert abs(found["zeros"] - KERNELS / 2) <= 1
        assert found["negative zeros"] == 0
        assert found["callback"] == [123, True, pytest.approx(0.5, abs=1e-3)]

    @pytest.mark.parametrize("optimizer", ["adam", "sgd"])
    def test_the_share_rises_along_the_schedule(self, pruned, optimizer):
        # 0.5 - 0.5 * (1 - (t - 5) / (82 - 5)) ** 3, chosen anew every 5 steps: t = 21
        early = 0.5 - 0.5 * (1 - 16 / 77) ** 3
        assert pruned[optimizer]["shares"] == pytest.approx([0, early, 0.5], abs=1e-3)

    @pytest.mark.parametrize("optimizer", ["adam", "sgd"])
    def test_the_result_is_the_same_plain_model(self, pruned, optimizer):
        assert pruned[optimizer]["plain"]
        assert pruned[optimizer]["biases"] == 0

    def test_an_interrupted_run_goes_on_where_it_stopped(self, pruned):
        found = pruned["resumed"]
        halfway, final = found["expected"]
        assert found["steps"] == [41, 123]
        assert found["shares"] == pytest.approx([halfway, halfway, final], abs=1e-3)
        assert found["revived"] == 0

    def test_a_schedule_cut_short_is_said(self, pruned):
        (said,) = pruned["resumed"]["warning"]
        assert said == (
            "Training ended at step 41, before the pruning schedule did (at step 82): "
            "50.9% of the weights are zero, not 60.0%."
        )

    def test_zeros_are_held_through_several_steps_at_once_and_averaging(self, pruned):
        found = pruned["held"]
        assert found["without"] < 0.01
        assert found["with"] == pytest.approx(0.7, abs=1e-3)
        assert found["revived"] == 0

    def test_a_loop_of_one_s_own_can_drive_it(self, pruned):
        found = pruned["by hand"]
        assert found["step"] == 10
        assert found["shares"][0] == pytest.approx(0.2, abs=1e-3)
        assert found["shares"] == sorted(found["shares"])
        assert found["shares"][8:] == pytest.approx([0.4] * 3, abs=1e-3)


class TestPatterns:
    def test_two_of_every_four_inputs_are_zero(self, pruned):
        found = pruned["2:4"]
        assert found["weights in a group"] == {
            "conv2_1/kernel": [2],
            "conv2_2/kernel": [2],
            "output/kernel": [2],
        }
        assert found["accuracy"] >= pruned["float"] - 0.01

    def test_a_layer_that_does_not_divide_is_named(self, pruned):
        assert pruned["2:4"]["left dense"] == {
            "conv1_1": "its inputs (1) do not divide into groups of 4"
        }
        assert pruned["2:4"]["layers"]["conv1_1"] == 0

    def test_blocks_of_inputs_go_together(self, pruned):
        counts = pruned["blocks"]["weights in a block"]
        assert counts["conv2_1/kernel"] == counts["conv2_2/kernel"] == [0, 4]
        assert set(counts["output/kernel"]) <= {0, 4}


class TestPayoff:
    def test_sizes_are_predicted_before_any_training(self, pruned):
        found = pruned["payoff"]
        for (deflated, sparse), told in zip(found["sizes"], found["predicted"], strict=True):
            assert told == [pytest.approx(deflated, rel=0.02), pytest.approx(sparse, rel=0.005)]
        # TensorFlow's converter stores the same values and places in a little more.
        for (_, sparse), theirs in zip(found["sizes"], found["converter's"], strict=True):
            assert 0.9 * theirs < sparse < theirs

    def test_speed_is_promised_from_two_thirds_on_and_stored_sparse_only(self, pruned):
        found = pruned["payoff"]
        assert found["before"] == [
            "Zeros are 60.0% of its 1x1 kernels; it takes more than two thirds.",
            None,
        ]
        assert found["after"] == ["Its weights are not stored sparse.", None]


class TestLayers:
    def test_excluded_layers_stay_dense(self, pruned):
        layers = pruned["excluded"]["layers"]
        assert (layers["conv1_1"], layers["output"]) == (0, 0)
        assert min(layers["conv2_1"], layers["conv2_2"]) > 0.7
        assert pruned["excluded"]["left dense"] == {"conv1_1": "excluded", "output": "excluded"}

    def test_kernels_of_every_kind_are_found(self, pruned):
        layers, left_dense = pruned["kinds"]["unstructured"]
        halves = {"inner/same", "transpose", "same", "attention/query", "each/inside"}
        halves |= {f"both/{way}_lstm/lstm_cell" for way in ("forward", "backward")}
        assert {layer: layers[layer] for layer in halves} == dict.fromkeys(halves, 0.5)
        assert left_dense == {
            "depthwise": "depthwise kernels have few weights, and accuracy depends on each",
            "separable/depthwise_kernel": "depthwise kernels have few weights, and accuracy "
            "depends on each",
            "frozen": "frozen (trainable=False)",
            "zeros": "its kernel is all zeros",
        }

    def test_patterns_lie_along_the_inputs_of_every_layer(self, pruned):
        _, left_dense = pruned["kinds"]["patterned"]
        assert pruned["kinds"]["transposed groups"] == 2
        assert left_dense["same"] == "its inputs (6) do not divide into groups of 4"
        assert left_dense["inner/same"] == "excluded"
        assert left_dense["both/forward_lstm/lstm_cell/recurrent_kernel"] == "excluded"
        assert left_dense["attention/query"].endswith("is not known")

    def test_a_model_without_a_graph_is_pruned_too(self, pruned):
        assert list(pruned["kinds"]["subclassed"].values()) == [0.5, 0.5]


@pytest.mark.parametrize(
    ("label", "kind", "says"),
    [
        ("no layer", "UsageError", "and 1 more"),
        ("no expression", "UsageError", "is no regular expression"),
        ("all", "UsageError", "Invalid value for sparsity: 1"),
        ("pattern", "UsageError", "no sparsity pattern '4:2'"),
        ("share", "UsageError", "2:4 implies sparsity 0.5, not 0.8"),
        ("every", "UsageError", "every 0 steps"),
        ("none fits", "ModelError", "its inputs (3) do not divide"),
        ("not built", "ModelError", "not built yet"),
    ],
)
def test_what_goes_wrong_is_said(pruned, label, kind, says):
    error = pruned["refusals"][label]
    assert error.startswith(f"{kind}: ")
    assert says in error
    assert len(error.splitlines()) <= 3

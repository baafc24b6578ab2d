"""Smaller models compared with masked ones, in one process that imports TensorFlow."""

from __future__ import annotations

from pathlib import Path

import pytest

REPOSITORY = Path(__file__).parents[2]
TURBOFAN = REPOSITORY / "models" / "turbofan" / "turbofan.keras"

MODELS = ("resnet8", "mobilenet_v2", "ds_cnn", "cnn1d", "squeeze_excite", "concatenated")
ALL = (*MODELS, "nested", "enclosed", "grouped", "attending", "stubborn", "excluded")

pytestmark = [pytest.mark.tensorflow, pytest.mark.xdist_group("shrinking")]


@pytest.fixture(scope="module")
def session(run_session, demo_model) -> dict:
    return run_session("shrinking", demo_model, TURBOFAN)


@pytest.fixture(scope="module")
def shrunk(session) -> dict:
    return session["shrunk"]


@pytest.mark.parametrize("name", ALL)
class TestSmallerModel:
    def test_its_outputs_are_those_of_the_masked_model(self, shrunk, name):
        found = shrunk[name]
        assert found["masked"] <= 1e-5
        assert found["unlike"] > 1e-4  # the channels that left did matter

    def test_its_outputs_are_those_with_the_channels_switched_off_by_hand(self, shrunk, name):
        assert shrunk[name]["switched off"] <= 1e-5

    def test_it_loads_with_plain_keras_under_the_same_names(self, shrunk, name):
        assert shrunk[name]["names"]

    def test_it_has_the_parameters_it_says(self, shrunk, name):
        found = shrunk[name]
        assert found["parameters"] == found["counted"]
        assert found["parameters"][1] < found["parameters"][0]
        assert found["macs"][1] < found["macs"][0]

    def test_the_old_model_is_left_as_it_is(self, shrunk, name):
        assert shrunk[name]["untouched"]


@pytest.mark.parametrize(
    ("name", "goal", "share"),
    [
        ("resnet8", "macs", 0.5),
        ("mobilenet_v2", "macs", 0.4),
        ("ds_cnn", "parameters", 0.5),
        ("cnn1d", "macs", 0.5),
        ("squeeze_excite", "macs", 0.5),
        ("concatenated", "macs", 0.6),
        ("nested", "macs", 0.5),
        ("enclosed", "macs", 0.6),
        ("grouped", "macs", 0.5),
        ("attending", "macs", 0.4),
    ],
)
def test_the_share_asked_for_is_gone_and_little_more(shrunk, name, goal, share):
    before, after = shrunk[name][goal]
    assert 1 - share - 0.12 <= after / before <= 1 - share


def test_multiply_accumulates_are_counted_by_hand(shrunk, session):
    # 30 steps x 5 x (14 + 32 + 32) x 32, 15 steps x 5 x 32 x 16, 15 x 16 x 32, 32
    assert shrunk["cnn1d"]["macs"][0] == 374_400 + 38_400 - 15_360 + 7_680 + 32
    assert session["sequential"][2:] == [6 * 8 + 8 * 2, 4 * 8]


def test_wide_layers_keep_a_multiple_of_eight(shrunk):
    for name in ("resnet8", "ds_cnn"):
        widths = shrunk[name]["widths"]
        assert {width % 8 for layer, width in widths.items() if layer != "output"} == {0}
    assert any(width % 8 for width in shrunk["concatenated"]["widths"].values())


def test_what_is_added_is_cut_together(shrunk):
    removed = shrunk["resnet8"]["removed"]
    together = ("block2_conv2", "block2_conv2_bn", "block2_shortcut")
    assert len({tuple(removed[layer]) for layer in together}) == 1
    assert removed["block2_conv2"] != removed.get("block2_conv1")


def test_a_concatenation_shifts_the_channels_of_its_second_part(shrunk):
    removed = shrunk["concatenated"]["removed"]
    assert removed["third"] == removed["left"] + [12 + index for index in removed["right"]]
    assert removed["deep"] == [
        2 * index + second for index in removed["third"] for second in (0, 1)
    ]


def test_every_group_loses_a_channel_at_the_same_place(shrunk):
    # Given a convolution in four groups of six filters, and one whose groups read one channel each
    found = shrunk["grouped"]
    # Then groups stay equally large, as Keras builds them,
    places = [[] for _ in range(4)]
    for index in found["removed"]["four"]:
        places[index // 6].append(index % 6)
    assert places == [places[0]] * 4
    assert places[0]
    assert found["groups"]["four"] == 4
    # and a group of one channel goes with its channel.
    assert found["groups"]["each"] == found["widths"]["four"]
    assert found["widths"]["each"] == 2 * found["widths"]["four"]


def test_whole_heads_are_cut(shrunk):
    found = shrunk["attending"]
    kept = {name: len(found["removed"].get(f"{name}/heads", ())) for name in ("own", "cross")}
    assert found["heads"] == {"own": 4 - kept["own"], "cross": 3 - kept["cross"]}
    assert sum(kept.values()) > 0


def test_what_blocks_a_cut_is_named_and_the_hint_works(session):
    blocked = session["refused"]["blocked"]
    assert "Kept whole: " in blocked
    assert "(LayerNormalization), which is not supported" in blocked
    assert "multiple 1 allows 0." in blocked
    assert session["refused"]["followed"] == "nothing"


def test_a_gate_loses_the_channels_it_gates(shrunk):
    removed = shrunk["squeeze_excite"]["removed"]
    assert removed["se_up"] == removed["one"] != []


class TestNestedModels:
    def test_they_are_cut_inside(self, shrunk):
        assert {"body/conv"} <= set(shrunk["nested"]["removed"])

    def test_they_are_cut_across_their_borders(self, shrunk):
        removed = shrunk["nested"]["removed"]
        # a sum ties what enters the model to what leaves it
        assert removed["stem"] == removed["body/back"] != []
        assert set(shrunk["nested"]["kept whole"]) == {"output"}

    def test_each_input_of_one_is_cut_for_itself(self, shrunk):
        removed = shrunk["enclosed"]["removed"]
        assert removed["body/shared"] == removed["body/point/p"] != []
        assert removed["two"] not in ([], removed["outside"])

    def test_a_layer_on_both_sides_of_a_border_stays_one(self, session):
        removed = session["rounds"]["enclosed"]["removed"]
        assert removed["shared"] == removed["body/shared"] == removed["one"] != []


class TestRounds:
    @pytest.mark.parametrize("name", ["demo", "concatenated", "enclosed"])
    def test_the_outputs_are_those_of_the_masked_model(self, session, name):
        assert session["rounds"][name]["masked"] <= 1e-5

    @pytest.mark.parametrize("name", ["demo", "concatenated", "enclosed"])
    def test_the_figures_compare_the_last_model_with_the_first(self, session, name):
        found = session["rounds"][name]
        assert found["parameters"] == found["counted"]
        assert found["macs"][0] == found["once"][0]
        assert found["macs"][1] == found["seen"][-1][1]
        assert found["kept whole"]

    @pytest.mark.parametrize(
        ("name", "share"), [("demo", 0.7), ("concatenated", 0.6), ("enclosed", 0.6)]
    )
    def test_every_round_takes_the_same_share_of_what_is_left(self, session, name, share):
        found = session["rounds"][name]
        assert [number for number, _ in found["seen"]] == [1, 2, 3]
        for number, macs in found["seen"]:
            expected = (1 - share) ** (number / 3)
            assert expected - 0.12 <= macs / found["macs"][0] <= expected

    def test_widths_stay_round_in_later_rounds(self, session):
        widths = {width for _, width in session["rounds"]["demo"]["families"]}
        assert {width % 4 for width in widths} == {0}

    def test_each_ranks_the_channels_anew(self, session):
        # The four least leave; what stays is turned round, so that its last are the least then.
        assert session["turned"] == [0, 1, 2, 3, 6, 7]

    def test_training_between_them_brings_the_accuracy_back(self, session):
        cut, tuned, left = session["tuned"]
        assert left <= 0.4
        assert tuned >= session["accuracy whole"] - 0.03
        assert tuned > cut + 0.05


class TestLargestShare:
    @pytest.mark.parametrize("name", ["demo", "stubborn"])
    def test_it_can_be_removed_and_no_more(self, session, name):
        most, left = session["shares"][name]
        assert 0 < most < 1
        assert left == pytest.approx(1 - most)
        assert "cannot be removed" in session["shares"][f"{name} more"]

    def test_a_model_of_outputs_alone_has_nothing_to_remove(self, session):
        assert session["shares"]["nothing"] == 0


def test_a_model_without_a_graph_is_refused_with_what_can_be_done_instead(session):
    found = session["without graph"]
    assert found["refused"].startswith("ModelError: ")
    assert "a subclassed model without a graph" in found["refused"]
    assert "prune or cluster this one" in found["refused"]
    assert found["zeros"] == pytest.approx(0.5, abs=0.01)
    assert max(found["distinct"].values()) <= 9  # eight, and the zero that pruning left


@pytest.mark.parametrize(
    ("layer", "reason"),
    [
        ("residual", "is tied to an input of the model"),
        ("before_norm", "is read by norm (LayerNormalization), which is not supported"),
        ("attention", "passes the activation of attention, which mixes channels"),
        ("one", "has a single channel"),
        ("free", "is read by lstm (LSTM), which is not supported"),
        ("output", "feeds an output of the model"),
    ],
)
def test_what_cannot_be_cut_is_named_with_its_reason(shrunk, layer, reason):
    assert shrunk["stubborn"]["kept whole"][layer] == reason


def test_only_what_can_be_cut_is(shrunk):
    assert set(shrunk["stubborn"]["removed"]) == {"kept"}


def test_an_excluded_layer_stays_whole(shrunk, session):
    found = shrunk["excluded"]
    assert found["kept whole"][session["excluded"]] == "was excluded by name"
    assert session["excluded"] not in found["removed"]


def test_no_output_is_ever_cut(shrunk):
    assert [name for name in ALL if "output" in shrunk[name]["removed"]] == []


def test_an_expression_excludes_all_that_it_means(session):
    assert sorted(session["expression"]) == ["conv2_1", "conv2_2", "output"]


def test_a_single_output_has_a_loss_of_its_own(session):
    assert session["binary"] == pytest.approx([0, 2])  # in units of their mean


def test_samples_of_several_inputs_go_in_by_name(session):
    assert session["two inputs"] == pytest.approx([0, 2])


@pytest.mark.parametrize("criterion", ["l2", "bn_scale", "taylor"])
def test_a_trained_model_misses_its_important_channels_more(session, criterion):
    least, most = session["accuracy"][criterion]
    assert least > most + 0.1


def test_samples_tell_more_than_weights(session):
    accuracy = session["accuracy"]
    assert accuracy["taylor"][0] > max(accuracy["l2"][0], accuracy["bn_scale"][0])


def test_a_compiled_model_stays_so_and_lends_its_loss(session):
    assert session["compiled"] == [True, False, True]


def test_a_sequential_model_stays_one_with_its_input_s_name(session):
    assert session["sequential"][:2] == ["Sequential", True]


@pytest.mark.parametrize(
    ("label", "kind", "says"),
    [
        ("subclassed", "ModelError", "a subclassed model without a graph"),
        ("axis", "ModelError", "without a fixed length"),
        ("share", "UsageError", "Received share=1.5"),
        ("rounds", "UsageError", "rounds=0"),
        ("too much in rounds", "UsageError", "At most 91 % can"),
        ("too much", "UsageError", "At most 91 % can"),
        ("name", "UsageError", "Layers that can be are output"),
        ("no data", "UsageError", "data=(x, y)"),
        ("no pairs", "DataError", " x, 3 y"),
        ("no fit", "DataError", "cannot be computed on these samples"),
        ("unknown channel", "UsageError", "has no channel 11"),
    ],
)
def test_what_goes_wrong_is_said(session, label, kind, says):
    error = session["refused"][label]
    assert error.startswith(f"{kind}: ")
    assert says in error
    assert len(error.splitlines()) <= 3

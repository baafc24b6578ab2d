"""The zoo built and digits trained for real, in one process each that imports TensorFlow."""

from __future__ import annotations

import tomllib
from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.training import TrainingConfig, fit, train

REPOSITORY = Path(__file__).parents[2]
DEMO = REPOSITORY / "toolkit" / "edgekit" / "demo" / "digits_cnn.keras"
PUBLISHED = {
    name: REPOSITORY / "models" / name / f"{name}.keras"
    for name in ("bccd", "fashion-mnist", "nuclei", "spoken-digits", "turbofan")
}


@pytest.fixture(scope="module")
def zoo(run_session) -> dict:
    return run_session("zoo", DEMO, *PUBLISHED.values())


@pytest.fixture(scope="module")
def trained(run_session) -> dict:
    return run_session("training")


@pytest.mark.tensorflow
@pytest.mark.xdist_group("training_zoo")
class TestZoo:
    @pytest.mark.parametrize(
        ("name", "parameters"),
        [
            ("resnet8", 78_666),  # MLPerf Tiny
            ("ds_cnn", 24_908),  # MLPerf Tiny
            ("autoencoder", 269_992),  # MLPerf Tiny
            ("mobilenet_v1:0.25", 221_794 - 2_736),  # MLPerf Tiny, less its idle biases
            ("mobilenet_v2", 3_538_984),  # Keras's documentation: 3.5M
            ("cnn1d_dense", 21_873),
            ("lstm", 4 * 32 * (9 + 32 + 1) + 33 * 6),
            ("gru", 3 * 32 * (9 + 32 + 2) + 33 * 6),
        ],
    )
    def test_architectures_have_their_published_size(self, zoo, name, parameters):
        assert zoo["built"][name]["parameters"] == parameters

    def test_networks_for_windows_are_small(self, zoo):
        assert max(zoo["windows"].values()) <= 10_000
        assert zoo["built"]["cnn1d"]["parameters"] <= 10_000

    def test_the_published_configuration_builds_the_published_model(self, zoo):
        assert zoo["as published"]

    def test_a_value_depends_on_when_something_happened_and_a_class_does_not(self, zoo):
        assert zoo["moved"] == {"classification": False, "regression": True}

    def test_a_tcn_sees_the_last_steps_that_its_dilations_reach(self, zoo):
        # two convolutions of two steps for each dilation
        assert zoo["causal"] == list(range(64 - 1 - 2 * (1 + 2 + 4), 64))

    def test_every_model_loads_with_plain_keras(self, zoo):
        assert [name for name, found in zoo["built"].items() if not found["same"]] == []

    def test_the_task_decides_the_last_layer(self, zoo):
        built = zoo["built"]
        assert (built["cnn"]["output"], built["cnn"]["last"]) == ([None, 10], "softmax")
        assert (built["cnn1d"]["output"], built["cnn1d"]["last"]) == ([None, 1], "linear")
        assert (built["autoencoder"]["output"], built["autoencoder"]["last"]) == (
            [None, 640],
            "linear",
        )

    def test_maps_and_boxes_have_outputs_of_their_own(self, zoo):
        assert zoo["built"]["unet"]["output"] == [None, 64, 48, 4]
        # Cells of 8 and 16 pixels, the last ones beyond the edge, with three anchors each.
        anchors = 3 * (13 * 9 + 7 * 5)
        assert zoo["built"]["ssd"]["output"] == [[None, anchors, 4], [None, anchors, 3]]

    def test_a_width_may_be_any(self, zoo):
        built = zoo["built"]
        assert built["mobilenet_v2:0.33"]["parameters"] < built["mobilenet_v2"]["parameters"] / 4

    def test_batch_normalization_forgets_within_a_small_data_set(self, zoo):
        assert all(found["momentum"] in ([0.9], []) for found in zoo["built"].values())

    @pytest.mark.usefixtures("shared_data")
    @pytest.mark.parametrize(
        ("name", "bound"),
        [
            ("bccd", 0.35),
            ("fashion-mnist", 0.920),
            ("nuclei", 0.80),
            ("spoken-digits", 0.985),
            ("turbofan", -16.2),
        ],
    )
    def test_published_weights_score_what_their_card_says(self, zoo, name, bound):
        path = PUBLISHED[name]
        card = tomllib.loads(path.with_name("model.toml").read_text())["measured"]
        score = zoo["scores"][str(path)]
        assert score == pytest.approx(card["value"], rel=5e-4)
        assert (-score if card["metric"] == "rmse" else score) >= bound
        assert card["parameters"] <= 100_000
        assert path.stat().st_size <= 2_000_000

    def test_the_demo_s_model_is_small_and_reads_digits(self, zoo):
        assert zoo["scores"][str(DEMO)] >= 0.97
        assert DEMO.stat().st_size < 60_000

    def test_every_keras_application_is_listed(self, zoo):
        assert zoo["every application"]

    @pytest.mark.parametrize(
        ("label", "says"),
        [
            ("option", "Did you mean 'widths'?"),
            ("axes", "For such samples: cnn1d, cnn1d_dense, tcn, lstm, gru."),
            ("small", "cannot be built for samples of shape [8, 8, 3]"),
            ("task", "does not do reconstruction"),
            ("strides", "1 blocks and 2 strides"),
            ("no filters", "cannot be built"),
            ("no units", "cannot be built"),
            ("type", "cannot be built"),
            ("pooled away", "cannot be built"),
        ],
    )
    def test_what_cannot_be_built_is_a_usage_error(self, zoo, label, says):
        error = zoo["refused"][label]
        assert error.startswith("UsageError")
        assert says in error
        assert len(error.splitlines()) <= 3


@pytest.mark.tensorflow
@pytest.mark.xdist_group("training_runs")
class TestTraining:
    def test_digits_are_learned(self, trained):
        assert trained["classifier"]["test"] >= 0.95

    def test_the_best_weights_are_the_ones_saved(self, trained):
        found = trained["classifier"]
        assert found["value"] == found["best"] == found["history"]
        assert found["validation"] == pytest.approx(found["value"], abs=1e-6)

    def test_a_tenth_of_the_training_split_is_kept_back(self, trained):
        assert trained["classifier"]["samples"] == [1167, 130]

    def test_the_same_seed_gives_the_same_bytes(self, trained):
        assert trained["variations"]["same, its test split unread"]
        assert not trained["variations"]["another seed"]

    def test_streamed_samples_train_alike(self, trained):
        assert trained["variations"]["streamed"]

    def test_the_test_split_is_never_read(self, trained):
        assert trained["variations"]["same, its test split unread"]

    def test_only_the_model_is_left_without_an_optimizer(self, trained):
        files = trained["variations"]["files"]
        assert {"first.keras", "short.keras"} <= set(files)
        assert not any("checkpoint" in name for name in files)
        assert not trained["classifier"]["compiled"]

    def test_a_tensorboard_log_is_written_on_request(self, trained):
        assert trained["classifier"]["log"] == [True]

    def test_progress_tells_the_figure_that_decides(self, trained):
        (done, total), detail = trained["classifier"]["told"]
        assert (done, total) == (15, 15)
        assert detail.startswith("val_accuracy 0.9")

    def test_training_stops_when_nothing_improves(self, trained):
        epochs, best = trained["early"]
        assert epochs == best + 2 < 40

    def test_an_interruption_leaves_the_best_so_far_to_go_on_from(self, trained):
        found = trained["interrupted"]
        assert found["left"] == ["stopped.checkpoint.keras"]
        assert found["checkpoint"] > 0.8
        assert found["resumed"] > found["checkpoint"] - 0.03

    def test_a_regression_predicts_in_the_unit_of_its_targets(self, trained):
        found = trained["regression"]
        assert found["rmse"] == pytest.approx(found["value"], rel=1e-3)
        assert found["rmse"] < 0.5 * found["std"]
        assert found["last"] == "linear"
        assert found["resumed"] == pytest.approx(found["value"], rel=0.2)

    def test_an_autoencoder_learns_to_rebuild(self, trained):
        found = trained["reconstruction"]
        assert found["history"][-1] < found["history"][0]
        assert found["test"] < 0.5 * found["variance"]

    @pytest.mark.parametrize(
        ("label", "kind", "says"),
        [
            ("diverged", "ConversionError", "Lower the learning rate"),
            ("no model", "ModelError", "cannot be read"),
            ("another model", "ModelError", "does not have the weights"),
            ("two inputs", "UsageError", "have one input"),
            ("no targets", "DataError", "Add y_train"),
            ("no place", "OutputError", "Cannot write"),
        ],
    )
    def test_what_goes_wrong_is_said(self, trained, label, kind, says):
        error = trained["refusals"][label]
        assert error.startswith(f"{kind}: ")
        assert says in error
        assert len(error.splitlines()) <= 3
        assert trained["refusals"]["written"] == "False"


def test_a_log_without_tensorboard_is_refused_before_any_work(monkeypatch, tmp_path):
    monkeypatch.setattr(fit.importlib.util, "find_spec", lambda _: None)
    config = TrainingConfig(name="digits", architecture="cnn", data="digits")
    with pytest.raises(UsageError, match="tensorboard"):
        train(config, destination=tmp_path / "x.keras", log_dir=tmp_path / "log")
    assert list(tmp_path.iterdir()) == []

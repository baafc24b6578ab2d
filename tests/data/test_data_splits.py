"""Drawing samples: shares, balance, groups."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from edgekit.data import beyond_calibration, describe_validation, training_split
from edgekit.data.splits import calibration_subset, held_out
from edgekit.data.store import array_store, subset, whole
from edgekit.errors import DataError, UsageError
from edgekit.records import Dataset

labels = st.lists(st.integers(0, 5), min_size=2, max_size=80).map(np.array)


def train_of(targets, groups=None):
    x = np.arange(len(targets), dtype=np.float32)[:, None]
    return whole("train", array_store({"x": x}, targets, groups), {"kind": "none"})


def dataset_of(train, task=None):
    return Dataset(name="d", task=task, train=train, calibrate=None, test=None)


@settings(deadline=None)
@given(labels, st.floats(0.05, 0.5), st.integers(0, 9))
def test_held_out_samples_are_a_fair_part(classes, share, seed):
    kept, held = held_out(len(classes), classes, share, seed)

    assert sorted([*kept, *held]) == list(range(len(classes)))
    assert len(held) == max(1, round(len(classes) * share))
    exact = len(held) / len(classes)
    for value in np.unique(classes):
        n = np.sum(classes == value)
        assert abs(np.sum(classes[held] == value) - n * exact) < 1.5


@settings(deadline=None)
@given(labels, st.integers(1, 100), st.integers(0, 9))
def test_calibration_takes_classes_in_turn(classes, n, seed):
    subset = calibration_subset(train_of(classes), n, seed)

    batch = subset.read(np.arange(subset.n))
    assert subset.n == min(n, len(classes))
    assert len(np.unique(batch.inputs["x"])) == subset.n
    if len(np.unique(classes)) <= n:
        taken = np.bincount(batch.targets, minlength=6)
        there = np.bincount(classes, minlength=6)
        for value in np.flatnonzero(taken < there):
            assert taken[value] >= taken.max() - 1


def test_quantities_are_drawn_without_regard_to_their_values():
    subset = calibration_subset(train_of(np.repeat([0.5, 1.5], [90, 10])), 20, 0)

    assert 0 <= np.sum(subset.read(np.arange(20)).targets == 1.5) <= 6


def test_groups_stay_together():
    groups = np.repeat(np.arange(20), 7)
    train = train_of(np.random.default_rng(0).normal(size=140), groups)

    fit, validation = training_split(dataset_of(train))

    def found(samples):
        return set(groups[samples.read(np.arange(samples.n)).inputs["x"][:, 0].astype(int)])

    assert len(found(validation)) == 2
    assert not found(fit) & found(validation)
    assert fit.n + validation.n == 140


def rows_of(samples):
    return samples.read(np.arange(samples.n)).inputs["x"][:, 0].astype(int)


def test_sequences_stay_together():
    ids = np.repeat(np.arange(20), 7)
    x = np.arange(140, dtype=np.float32)[:, None]
    train = whole("train", array_store({"x": x}, ids % 2, sequences=ids), {"kind": "none"})

    fit, validation = training_split(dataset_of(train))

    assert not set(ids[rows_of(fit)]) & set(ids[rows_of(validation)])
    assert validation.n == 14


def test_time_holds_back_the_end_of_the_data():
    dataset = dataset_of(train_of(np.arange(50) % 5), "classification")

    fit, validation = training_split(dataset, "time")

    assert rows_of(fit).tolist() == list(range(45))
    assert rows_of(validation).tolist() == list(range(45, 50))
    assert describe_validation(dataset, "time") == "the end of the data"
    assert describe_validation(dataset) == ""


def test_an_end_without_some_of_the_classes_says_so():
    dataset = dataset_of(train_of(np.repeat([0, 1, 2], 10)), "classification")

    assert describe_validation(dataset, "time") == "the end of the data (1 of 3 classes)"


def test_time_holds_back_the_end_of_every_group():
    # Given groups that take turns, one of them too short to give a sample of its own
    groups = np.array([0, 1] * 20 + [2])
    dataset = dataset_of(train_of(np.arange(41.0), groups))

    fit, validation = training_split(dataset, "time")

    assert rows_of(validation).tolist() == [36, 37, 38, 39]
    assert rows_of(fit).tolist() == [*range(36), 40]
    assert describe_validation(dataset, "time") == "the end of each group"


@settings(deadline=None)
@given(
    st.lists(st.integers(0, 3), min_size=2, max_size=80).map(np.array),
    st.integers(0, 3),
)
def test_no_sample_that_overlaps_the_end_is_trained_on(groups, overlap):
    x = np.arange(len(groups), dtype=np.float32)[:, None]
    store = replace(array_store({"x": x}, np.zeros(len(groups)), groups), overlap=overlap)
    dataset = dataset_of(whole("train", store, {"kind": "none"}))
    place = np.array([np.sum(groups[:i] == g) for i, g in enumerate(groups)])

    try:
        fit, validation = training_split(dataset, "time")
    except DataError:  # nothing is left beside the gap
        assert len(groups) <= 10 * (overlap + 1)
        return

    fitted, held = rows_of(fit), rows_of(validation)
    same = groups[fitted][:, None] == groups[held]
    assert np.all((place[held] - place[fitted][:, None])[same] > overlap)
    assert len(held) == max(1, round(len(groups) * 0.1))


def test_groups_that_are_not_there_cannot_be_split_by():
    with pytest.raises(UsageError, match="no groups to split by"):
        training_split(dataset_of(train_of(np.arange(50) % 5)), "group")


def test_the_draw_is_the_same_every_time():
    train = train_of(np.arange(50) % 5)

    (_, first), (_, again) = (training_split(dataset_of(train)) for _ in range(2))

    assert first.sha256 == again.sha256
    np.testing.assert_array_equal(
        first.read(np.arange(first.n)).inputs["x"], again.read(np.arange(again.n)).inputs["x"]
    )


def test_what_cannot_be_trained_on():
    with pytest.raises(DataError, match="no training samples"):
        training_split(dataset_of(None))
    with pytest.raises(DataError, match="no targets"):
        training_split(
            dataset_of(train_of(np.arange(5)), "classification").__class__(
                name="d", task=None, train=unlabelled(5), calibrate=None, test=None
            )
        )
    with pytest.raises(DataError, match="too few"):
        training_split(dataset_of(train_of(np.arange(1))))


def unlabelled(n):
    store = array_store({"x": np.ones((n, 1))}, None)
    return whole("train", store, {"kind": "none"})


def test_a_model_that_rebuilds_its_input_needs_no_targets():
    fit, validation = training_split(dataset_of(unlabelled(20), "reconstruction"))

    assert (fit.n, validation.n) == (18, 2)
    assert fit.read(np.arange(1)).targets is None


def test_calibration_draws_whole_sequences():
    # Given six sequences of five samples
    ids = np.repeat(np.arange(6), 5)
    x = np.arange(30, dtype=np.float32)[:, None]
    train = whole("train", array_store({"x": x}, ids % 2, sequences=ids), {"kind": "none"})

    subset = calibration_subset(train, 13, seed=0)

    # Then two are whole, and the third is the beginning of one.
    drawn = subset.read(np.arange(13)).inputs["x"][:, 0].astype(int)
    for start, end in ((0, 5), (5, 10), (10, 13)):
        assert drawn[start] % 5 == 0
        assert np.all(np.diff(drawn[start:end]) == 1)
    assert np.flatnonzero(subset.starts()).tolist() == [0, 5, 10]


def test_training_samples_beyond_calibration_are_told_apart():
    # Given a train split that is a part of a store, and samples of it that calibration drew
    train = subset(train_of(np.arange(60) % 3), np.arange(10, 50), "train")
    calibrate = calibration_subset(train, 12, seed=0)
    dataset = replace(dataset_of(train), calibrate=calibrate)

    # Then the others are those of the split that were not drawn.
    others = train.read(beyond_calibration(dataset)).inputs["x"]
    drawn = calibrate.read(np.arange(12)).inputs["x"]
    together = np.concatenate([others, drawn])[:, 0]
    assert sorted(together.astype(int)) == list(range(10, 50))
    # Samples of another store cannot be told apart.
    foreign = calibration_subset(train_of(np.arange(60) % 3), 12, seed=0)
    assert len(beyond_calibration(replace(dataset, calibrate=foreign))) == 0
    assert len(beyond_calibration(dataset_of(train))) == 0

"""Data given from Python: dicts, tuples, streams of batches, and what they refuse."""

from __future__ import annotations

import pickle

import numpy as np
import pytest

from edgekit.data import bind, open_data, take
from edgekit.data.formats import live
from edgekit.errors import DataError, UsageError
from edgekit.records import LiveData, TensorSpec

X = np.arange(240, dtype=np.float32).reshape(60, 4)
Y = np.arange(60) % 3
SPECS = (
    [TensorSpec(name="v", shape=(1, 4), dtype="float32")],
    [TensorSpec(name="y", shape=(1, 3), dtype="float32")],
)
NAMED = {"x_train": X[:40], "y_train": Y[:40], "x_test": X[40:], "y_test": Y[40:]}


def opened(value, **options):
    return open_data(take(value), **options)


def sizes(dataset):
    return tuple(None if part is None else part.n for part in (dataset.train, dataset.test))


def batches(x, y, size=16):
    for start in range(0, len(x), size):
        yield x[start : start + size], y[start : start + size]


class Batches:
    """As `keras.utils.PyDataset`: counted, and without an end where it is iterated over."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        return X[i * 15 : i * 15 + 15], Y[i * 15 : i * 15 + 15]


@pytest.mark.parametrize(
    "value",
    [
        NAMED,
        ((X[:40], Y[:40]), (X[40:], Y[40:])),
        ([X[:40], Y[:40]], [X[40:], Y[40:]]),
        {"train": (X[:40], Y[:40]), "test": (X[40:], Y[40:])},
        {"train": batches(X[:40], Y[:40]), "test": batches(X[40:], Y[40:])},
        {"x_train": X[:40].tolist(), "y_train": Y[:40], "x_test": {"v": X[40:]}, "y_test": Y[40:]}
        | {"x_train": {"v": X[:40]}},
        {"train": (X[:40], Y[:40]), "val": (X[40:], Y[40:])},
    ],
    ids=["dict", "Keras", "lists", "splits", "generators", "inputs", "validation"],
)
def test_every_form_with_splits_gives_the_same_samples(value):
    bound = bind(opened(value), *SPECS)

    assert sizes(bound) == (40, 20)
    batch = bound.test.read(np.arange(20))
    np.testing.assert_array_equal(batch.inputs["v"], X[40:])
    np.testing.assert_array_equal(batch.targets, Y[40:])


@pytest.mark.parametrize(
    "value",
    [(X, Y), {"x": X, "y": Y}, batches(X, Y), zip(X, Y, strict=True), Batches()],
    ids=["tuple", "dict", "batches", "samples", "PyDataset"],
)
def test_samples_without_a_split_are_divided_or_all_tested(value):
    given = take(value)

    assert sizes(open_data(given)) == (48, 12)
    assert sizes(open_data(given, split=0.5)) == (30, 30)
    # Only scored: nothing is taken away.
    assert sizes(open_data(given, needed="test")) == (None, 60)
    test = bind(open_data(given, split=0.5), *SPECS).test.read(np.arange(30))
    assert np.bincount(test.targets).tolist() == [10, 10, 10]


def test_a_generator_is_read_once_and_can_be_opened_again_elsewhere():
    given = take(batches(X, Y))

    again = pickle.loads(pickle.dumps(given))

    assert isinstance(given, LiveData)
    assert open_data(again).test.sha256 == open_data(given).test.sha256
    assert "read into memory once: 60" in open_data(given).notes[0]


def test_texts_as_targets_sample_weights_and_names_of_classes():
    names = np.array(["a", "b", "c"])

    weighted = opened((x, names[y], np.ones(len(x))) for x, y in batches(X, Y))

    assert weighted.labels == ("a", "b", "c")
    assert any("sample weights" in note for note in weighted.notes)


@pytest.mark.parametrize("size", [None, 7, 20])
@pytest.mark.parametrize("kind", ["batched", "rows", "remainder", "dict"])
@pytest.mark.tensorflow
def test_tf_data_is_read_batched_or_not(size, kind):
    import tensorflow as tf

    rows = {"v": X[:40]} if kind == "dict" else X[:40]
    data = tf.data.Dataset.from_tensor_slices((rows, Y[:40]))
    if size:
        data = data.batch(size, drop_remainder=kind == "remainder").prefetch(2)

    dataset = bind(opened((data, (X[40:], Y[40:]))), *SPECS)

    kept = 35 if (size, kind) == (7, "remainder") else 40
    assert sizes(dataset) == (kept, 20)
    np.testing.assert_array_equal(dataset.train.read(np.arange(kept)).inputs["v"], X[:kept])


@pytest.mark.tensorflow
def test_one_hot_rows_that_are_as_many_as_the_inputs_columns_are_no_batches():
    import tensorflow as tf

    hot = np.eye(4, dtype=np.float32)[np.arange(60) % 4]
    data = tf.data.Dataset.from_tensor_slices((X, hot))

    assert sizes(opened(data)) == (48, 12)
    assert sizes(opened(data.batch(4).map(lambda x, y: (x + 1, y)))) == (48, 12)
    with pytest.raises(DataError, match="without an end"):
        take(data.repeat())


def fails():
    yield X[:4], Y[:4]
    raise ValueError("no such file")  # the user's line


@pytest.mark.parametrize(
    ("value", "says"),
    [
        (3, ["not read from an int", "x_train"]),
        ([1, 2], ["not read from a list"]),
        (fails(), ["failed after 1 item.", "ValueError: no such file", "# the user's line"]),
        (iter(()), ["yielded no samples"]),
        (((X, X, Y, Y) for _ in range(2)), ["tuples of 4", "dict"]),
        ((((X, X), Y) for _ in range(2)), ["x is a tuple of 2", "by the model's names"]),
        (((X[:, :n], Y) for n in (3, 4)), ["do not fit each other"]),
        ({"x_train": [[1], [1, 2]]}, ["x_train is ragged"]),
        ({"x_train": [object()]}, ["x_train holds object"]),
        ({"a": X}, ["holds no samples", "Its arrays: a"]),
    ],
)
def test_what_cannot_be_taken_is_named(value, says):
    with pytest.raises(DataError) as caught:
        opened(value)

    assert len(str(caught.value).splitlines()) <= 3
    for words in says:
        assert words in str(caught.value)


def test_a_stream_that_fills_the_memory_is_stopped(monkeypatch):
    monkeypatch.setattr(live, "memory_limit", lambda: 4000)

    def endless():
        while True:
            yield X, Y

    with pytest.raises(DataError, match="does not fit into memory, or does not end"):
        take(endless())


@pytest.mark.parametrize("share", [0, 1, -0.2, float("nan")])
def test_a_share_is_between_0_and_1(share):
    with pytest.raises(UsageError, match="Invalid value for split"):
        opened((X, Y), split=share)


def test_a_column_of_arrays_is_refused():
    with pytest.raises(UsageError, match="no columns"):
        opened((X, Y), target="age")

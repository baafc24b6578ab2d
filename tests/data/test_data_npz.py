"""`.npz` files: contents are read, and unusable ones refused in three lines."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from edgekit.data import open_data, split_of
from edgekit.data.formats.arrays import open_arrays
from edgekit.errors import DataError, UsageError


def arrays(n_train=40, n_test=10, classes=4):
    random = np.random.default_rng(0)
    return {
        "x_train": random.normal(size=(n_train, 6)).astype(np.float32),
        "y_train": np.arange(n_train) % classes,
        "x_test": random.normal(size=(n_test, 6)).astype(np.float32),
        "y_test": np.arange(n_test) % classes,
    }


def saved(tmp_path, **changes):
    path = tmp_path / "sensors.npz"
    content = {key: value for key, value in (arrays() | changes).items() if value is not None}
    np.savez(path, **content)
    return str(path)


def refusal(spec, **options):
    with pytest.raises(DataError) as caught:
        open_data(spec, **options)
    text = str(caught.value)
    assert len(text.splitlines()) <= 3
    return text


def test_splits_come_out_as_saved(tmp_path):
    given = arrays()

    dataset = open_data(saved(tmp_path))

    assert (dataset.name, dataset.task) == ("sensors", None)
    for split in ("train", "test"):
        samples = split_of(dataset, split)
        batches = list(samples.batches(7))
        assert [len(batch.targets) for batch in batches[:-1]] == [7] * (len(batches) - 1)
        x = np.concatenate([batch.inputs["x"] for batch in batches])
        y = np.concatenate([batch.targets for batch in batches])
        np.testing.assert_array_equal(x, given[f"x_{split}"])
        np.testing.assert_array_equal(y, given[f"y_{split}"])


def test_the_digest_tells_one_content_from_another(tmp_path):
    first = open_data(saved(tmp_path))
    again = open_data(saved(tmp_path))
    changed = arrays()
    changed["x_train"][3, 2] += 1
    other = open_data(saved(tmp_path, **changed))

    assert first.train.sha256 == again.train.sha256 != other.train.sha256
    assert first.calibrate.sha256 == again.calibrate.sha256 != other.calibrate.sha256
    assert first.test.sha256 == other.test.sha256 != first.train.sha256


def test_calibration_is_a_balanced_seeded_part_of_train(tmp_path):
    spec = saved(tmp_path)

    one = open_data(spec, calibration_samples=12)
    same = open_data(spec, calibration_samples=12)
    other = open_data(spec, calibration_samples=12, seed=1)

    def values(dataset):
        return dataset.calibrate.read(np.arange(12))

    assert one.calibrate.split == "calibrate"
    np.testing.assert_array_equal(np.bincount(values(one).targets), [3, 3, 3, 3])
    assert sorted(values(one).targets[:4]) == [0, 1, 2, 3]
    np.testing.assert_array_equal(values(one).inputs["x"], values(same).inputs["x"])
    assert not np.array_equal(values(one).inputs["x"], values(other).inputs["x"])
    train = {row.tobytes() for row in arrays()["x_train"]}
    assert {row.tobytes() for row in values(one).inputs["x"]} <= train


def test_calibration_takes_all_there_is_and_refuses_none(tmp_path):
    spec = saved(tmp_path)

    assert open_data(spec, calibration_samples=1000).calibrate.n == 40
    with pytest.raises(UsageError, match="number of calibration samples: 0"):
        open_data(spec, calibration_samples=0)


def test_only_a_test_split_is_not_calibrated_on(tmp_path):
    dataset = open_data(saved(tmp_path, x_train=None, y_train=None))

    assert dataset.calibrate is None
    with pytest.raises(DataError, match=r"test split is refused") as caught:
        split_of(dataset, "calibrate")
    assert "x_train" in str(caught.value)


def test_no_test_split_says_so_when_asked(tmp_path):
    dataset = open_data(saved(tmp_path, x_test=None, y_test=None))

    with pytest.raises(DataError, match="no test samples"):
        split_of(dataset, "test")


def test_several_inputs_keep_their_names(tmp_path):
    given = arrays()
    spec = saved(
        tmp_path,
        x_train=None,
        x_test=None,
        x_train_wide=given["x_train"],
        x_train_deep=given["x_train"][:, :2],
        x_test_wide=given["x_test"],
        x_test_deep=given["x_test"][:, :2],
    )

    batch = open_data(spec).test.read(np.array([1, 0]))

    assert {name: x.shape for name, x in batch.inputs.items()} == {"wide": (2, 6), "deep": (2, 2)}


@pytest.mark.parametrize("kind", ["U", "S"])
def test_labels_as_texts_are_numbered_in_sorted_order(tmp_path, kind):
    names = np.array(["dog", "cat", "eel", "cat"]).astype(kind)
    dataset = open_data(saved(tmp_path, y_train=np.tile(names, 10), y_test=names[:1].repeat(10)))

    assert dataset.labels == ("cat", "dog", "eel")
    np.testing.assert_array_equal(dataset.train.read(np.arange(4)).targets, [1, 0, 2, 0])
    np.testing.assert_array_equal(dataset.test.read(np.arange(2)).targets, [1, 1])
    assert any("texts" in note for note in dataset.notes)


def test_declared_labels_give_the_order(tmp_path):
    names = np.array(["dog", "cat"])
    texts = {"y_train": np.tile(names, 20), "y_test": np.tile(names, 5)}

    dataset = open_data(saved(tmp_path, labels=np.array(["dog", "cat"]), **texts))

    assert dataset.labels == ("dog", "cat")
    np.testing.assert_array_equal(dataset.train.read(np.arange(2)).targets, [0, 1])
    assert "'cat' is none of the declared" in refusal(
        saved(tmp_path, labels=np.array(["dog", "cow"]), **texts)
    )


def test_arrays_not_used_are_named(tmp_path):
    dataset = open_data(saved(tmp_path, x_val=np.zeros(3)))

    assert any("x_val" in note for note in dataset.notes)


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"y_train": np.zeros(39)}, ["y_train: 39", "x_train: 40"]),
        ({"x_train": np.zeros((0, 6)), "y_train": np.zeros(0)}, ["train split is empty"]),
        ({"x_test": np.float32(3)}, ["x_test is a single value"]),
        ({"x_test": np.array([["a"]] * 10)}, ["x_test holds", "not numbers"]),
        ({"x_test": None}, ["y_test but no x_test"]),
        ({"labels": np.ones((2, 2))}, ["labels has shape"]),
        (
            {
                "x_train": None,
                "x_test": None,
                "y_train": None,
                "y_test": None,
                "train_x": np.ones(3),
            },
            ["no samples", "train_x", "x_train"],
        ),
    ],
)
def test_arrays_that_do_not_fit(tmp_path, changes, says):
    text = refusal(saved(tmp_path, **changes))

    for words in says:
        assert words in text


def test_pickled_objects_are_not_loaded(tmp_path):
    ragged = np.empty(40, object)
    ragged[:] = [np.zeros(i % 3) for i in range(40)]

    assert "Python objects" in refusal(saved(tmp_path, x_train=ragged))


def test_files_that_are_no_npz(tmp_path):
    path = tmp_path / "data.npz"
    path.write_text("x_train, y_train\n1, 2\n")
    assert "is not an .npz file" in refusal(str(path))

    whole = Path(saved(tmp_path)).read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cannot be read" in refusal(str(path))

    path.write_bytes(b"")
    assert "is not an .npz file" in refusal(str(path))


def test_places_that_hold_no_data(tmp_path):
    assert "does not exist" in refusal(str(tmp_path / "missing.npz"))
    assert "'digits'" in refusal("digit")
    assert "out of reach" in refusal("x" * 5000)
    (tmp_path / "notes.txt").write_text("hello")
    assert ".txt files" in refusal(str(tmp_path / "notes.txt"))
    with pytest.raises(UsageError, match="--column"):
        open_data(saved(tmp_path), target="y")


def test_samples_are_independent_unless_sequences_are_declared(tmp_path):
    assert open_data(saved(tmp_path)).test.sequences is None
    assert open_data(saved(tmp_path, sequence_test=False)).test.sequences is None
    one = open_data(saved(tmp_path, sequence_test=True))
    assert one.test.starts().tolist() == [True] + [False] * 9
    assert one.train.sequences is None


@pytest.mark.parametrize("ids", [[7, 7, 7, 2, 2, 7, 7, 0, 0, 0], list("aaabbaaccc")])
def test_a_sequence_ends_where_the_id_changes(tmp_path, ids):
    data = open_data(saved(tmp_path, sequence_test=np.array(ids)))

    assert np.flatnonzero(data.test.starts()).tolist() == [0, 3, 5, 7]
    # An id that comes back is another sequence.
    assert len(np.unique(data.test.sequences)) == 4
    assert data.test.sha256 != open_data(saved(tmp_path)).test.sha256


def test_one_declaration_holds_for_both_splits_and_calibration(tmp_path):
    data = open_data(saved(tmp_path, sequence=True), calibration_samples=12)

    assert data.test.starts().sum() == data.train.starts().sum() == 1
    taken = data.calibrate.read(np.arange(12)).inputs["x"]
    np.testing.assert_array_equal(taken, data.train.read(np.arange(12)).inputs["x"])
    assert data.calibrate.starts().sum() == 1


@pytest.mark.parametrize(
    ("value", "found"),
    [
        (np.ones(10, bool), "It holds bool [10], for 10 samples."),
        (np.arange(9), "It holds int64 [9], for 10 samples."),
        (np.zeros(10), "It holds float64 [10], for 10 samples."),
        (np.int64(1), "It holds int64 [], for 10 samples."),
    ],
)
def test_what_declares_no_sequences_is_refused(tmp_path, value, found):
    text = refusal(saved(tmp_path, sequence_test=value))

    assert "sequence_test declares no sequences" in text
    assert found in text


@pytest.mark.parametrize("name", ["val", "valid", "validation"])
def test_validation_arrays_are_the_test_split_where_there_is_none(tmp_path, name):
    x, y = np.arange(80, dtype=np.float32).reshape(20, 4), np.arange(20) % 2
    arrays = {"x_train": x, "y_train": y, f"x_{name}": x[:6] + 1, f"y_{name}": y[:6]}
    np.savez(tmp_path / "data.npz", **arrays)

    dataset = open_data(str(tmp_path / "data.npz"))

    assert (dataset.train.n, dataset.test.n) == (20, 6)
    assert f"no test split: x_{name} serves as one" in dataset.notes[0]
    with pytest.raises(UsageError, match="has a test split of 6 samples already"):
        open_data(str(tmp_path / "data.npz"), split=0.2)


def test_a_test_split_is_drawn_by_class_and_sequence(tmp_path):
    x, y = np.arange(400, dtype=np.float32).reshape(100, 4), np.arange(100) % 4 // 3
    np.savez(tmp_path / "data.npz", x_train=x, y_train=y)
    np.savez(tmp_path / "stream.npz", x_train=x, y_train=y, sequence=np.arange(100) // 10)

    dataset = open_data(str(tmp_path / "data.npz"), split=0.2)
    again = open_data(str(tmp_path / "data.npz"), split=0.2)
    other = open_data(str(tmp_path / "data.npz"), split=0.2, seed=1)
    stream = open_data(str(tmp_path / "stream.npz"), split=0.2)

    batch = dataset.test.read(np.arange(20))
    trained = dataset.train.read(np.arange(80))
    assert np.bincount(batch.targets).tolist() == [15, 5]
    assert not set(batch.inputs["x"][:, 0]) & set(trained.inputs["x"][:, 0])
    assert again.test.sha256 == dataset.test.sha256 != other.test.sha256
    assert "20 of 100 samples were drawn for testing (split = 0.2)." in dataset.notes
    # Whole sequences
    assert (stream.test.n, len(set(stream.test.sequences))) == (20, 2)
    assert not set(stream.test.sequences) & set(stream.train.sequences)


def test_too_few_samples_to_draw_some_are_named(tmp_path):
    np.savez(tmp_path / "data.npz", x_train=np.zeros((1, 4)), y_train=[0])

    with pytest.raises(DataError, match=r"too few samples \(1\)"):
        open_data(str(tmp_path / "data.npz"), split=0.2)


def test_a_mistyped_name_is_named_with_the_one_meant():
    x = np.zeros((3, 2), np.float32)
    opened = open_arrays({"x_test": x, "y_tset": np.arange(3)}, "made", "made")
    assert opened.notes == ("Arrays not used: y_tset. Did you mean y_test by 'y_tset'?",)
    # And: what is like no name, or like one that is there, is only counted
    opened = open_arrays({"x_test": x, "x_tests": x, "weights": x}, "made", "made")
    assert opened.notes == ("Arrays not used: x_tests, weights.",)

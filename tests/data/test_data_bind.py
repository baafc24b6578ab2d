"""Binding data to a model: mismatches of names, shapes, types and targets are errors."""

from __future__ import annotations

import os
import pickle

import numpy as np
import pytest

from edgekit.data import bind, training_split
from edgekit.data.formats.arrays import open_arrays
from edgekit.data.store import whole
from edgekit.errors import DataError
from edgekit.isolate import spread
from edgekit.records import Dataset, TensorSpec


def dataset_of(task=None, **arrays):
    opened = open_arrays(arrays, "made", "made")
    spec = {"kind": "none"}
    return Dataset(
        name="made",
        task=task,
        train=whole("train", opened.train, spec) if opened.train else None,
        calibrate=None,
        test=whole("test", opened.test, spec) if opened.test else None,
        labels=opened.labels,
        preprocessing=spec,
    )


def spec(*shape, name="input", dtype="float32", **options):
    return TensorSpec(name=name, shape=(1, *shape), dtype=dtype, **options)


def noise(*shape):
    return np.random.default_rng(sum(shape)).normal(size=shape)


def refusal(dataset, inputs, outputs):
    with pytest.raises(DataError) as caught:
        bind(dataset, inputs, outputs)
    assert len(str(caught.value).splitlines()) <= 3
    return str(caught.value)


def everything(samples):
    return samples.read(np.arange(samples.n))


def test_one_input_takes_the_models_name_and_type():
    data = dataset_of(x_test=noise(9, 5), y_test=np.arange(9) % 3)

    result = bind(data, [spec(5, name="sensors")], [spec(3)])

    batch = everything(result.test)
    assert list(batch.inputs) == ["sensors"]
    assert batch.inputs["sensors"].dtype == np.float32
    assert batch.targets.dtype == np.int64


def test_binding_twice_is_binding_once():
    data = dataset_of(x_test=noise(9, 5, 5), y_test=noise(9))
    model = [spec(5, 5, 1)], [spec(1)]

    once = bind(data, *model)
    twice = bind(once, *model)

    np.testing.assert_array_equal(
        everything(once.test).inputs["input"], everything(twice.test).inputs["input"]
    )
    assert once.notes == twice.notes
    assert everything(twice.test).targets.shape == (9, 1)


def test_a_column_too_many_may_be_left_out():
    data = dataset_of(x_test=noise(9, 6), y_test=np.arange(9) % 3)

    told = refusal(data, [spec(5)], [spec(3)])

    assert "Samples are 6, the model takes 5." in told
    assert "--ignore NAME" in told


def test_a_channel_axis_is_added_and_said():
    data = dataset_of(x_test=noise(4, 6, 7), y_test=np.arange(4))

    result = bind(data, [spec(6, 7, 1)], [spec(4)])

    assert everything(result.test).inputs["input"].shape == (4, 6, 7, 1)
    assert any("channel axis" in note for note in result.notes)


@pytest.mark.parametrize(
    ("shape", "wanted", "says"),
    [
        ((3, 32, 32), (32, 32, 3), ["moveaxis"]),
        ((28, 28), (32, 32, 3), ["28x28", "32x32x3", 'kind = "image"']),
        ((784,), (28, 28, 1), ["784", "reshape(-1, 28, 28, 1)"]),
        ((5,), (6,), ["5", "6"]),
        ((), (6,), ["single numbers"]),
    ],
)
def test_shapes_that_do_not_fit(shape, wanted, says):
    data = dataset_of(x_test=np.zeros((4, *shape)), y_test=np.arange(4))

    text = refusal(data, [spec(*wanted)], [spec(4)])

    for words in says:
        assert words in text


def test_several_inputs_are_matched_by_name():
    data = dataset_of(x_test_left=noise(4, 2), x_test_rigth=noise(4, 3), y_test=noise(4))
    text = refusal(data, [spec(2, name="left"), spec(3, name="right")], [spec(1)])
    assert "Did you mean 'right' by 'rigth'" in text

    data = dataset_of(x_test_left=noise(4, 2), x_test_right=noise(4, 3), y_test=noise(4))
    result = bind(data, [spec(3, name="right"), spec(2, name="left")], [spec(1)])
    shapes = {name: x.shape for name, x in everything(result.test).inputs.items()}
    assert shapes == {"right": (4, 3), "left": (4, 2)}
    assert "no input 'right'" in refusal(data, [spec(2, name="left")], [spec(1)])


@pytest.mark.parametrize(
    ("stored", "dtype", "scale", "handed"),
    [
        ("float64", "float32", None, "float32"),
        ("uint8", "float32", None, "float32"),
        ("bool", "float32", None, "float32"),
        ("int64", "int32", None, "int32"),
        ("int8", "int8", 0.1, "int8"),
        ("float32", "int8", 0.1, "float32"),
        ("uint8", "int8", 0.1, "float32"),
        ("uint8", "uint8", 0.1, "uint8"),
        ("float32", "int32", None, None),
    ],
)
def test_types(stored, dtype, scale, handed):
    x = (np.arange(40).reshape(10, 4) % 2).astype(stored)
    data = dataset_of(x_test=x, y_test=np.arange(10))
    zero_point = None if scale is None else 0
    model = [spec(4, dtype=dtype, scale=scale, zero_point=zero_point)], [spec(10)]

    if handed is None:
        assert "takes int32, the data is float32" in refusal(data, *model)
    else:
        assert everything(bind(data, *model).test).inputs["input"].dtype == handed


def test_bytes_for_a_float_model_stay_as_they_are_and_nothing_is_advised():
    pixels = np.random.default_rng(0).integers(0, 256, (5, 4, 4, 3), np.uint8)
    data = dataset_of(x_test=pixels, y_test=np.arange(5))

    result = bind(data, [spec(4, 4, 3)], [spec(5)])

    np.testing.assert_array_equal(everything(result.test).inputs["input"], pixels)
    assert result.notes == ()


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e300])
@pytest.mark.parametrize("split", ["train", "test"])
def test_values_that_are_no_numbers_are_found(value, split):
    arrays = {"x_train": noise(3000, 4), "x_test": noise(9, 4), "y_test": np.arange(9)}
    arrays[f"x_{split}"][7, 2] = value

    text = refusal(dataset_of(**arrays), [spec(4)], [spec(9)])

    assert f"{split} sample 7" in text


@pytest.mark.parametrize(
    ("targets", "inputs", "output", "task"),
    [
        (np.arange(8) % 4, (5,), (4,), "classification"),
        (np.arange(8)[:, None] % 4, (5,), (4,), "classification"),
        (np.eye(4)[np.arange(8) % 4], (5,), (4,), "classification"),
        ((np.arange(8) % 4).astype(float), (5,), (4,), "classification"),
        (np.arange(8) % 2, (5,), (1,), "classification"),
        (np.arange(8) % 2 == 1, (5,), (1,), "classification"),
        (np.arange(8) % 2, (2,), (2,), "classification"),
        (np.arange(8) % 3, (3,), (3,), "classification"),
        (np.arange(8) % 2, (5,), (5,), "reconstruction"),
        (np.arange(8) % 2, (5, 5, 1), (5, 5, 1), "reconstruction"),
        (np.arange(8), (5,), (1,), "regression"),
        (noise(8), (5,), (1,), "regression"),
        (noise(8, 1), (5,), (1,), "regression"),
        (noise(8, 5, 5), (5, 5, 1), (5, 5, 1), "regression"),
        (noise(8, 3), (5,), (3,), "regression"),
    ],
)
def test_the_task_is_told_by_targets_and_output(targets, inputs, output, task):
    data = dataset_of(x_test=noise(8, *inputs), y_test=targets)

    result = bind(data, [spec(*inputs)], [spec(*output)])

    bound_targets = everything(result.test).targets
    assert result.task == task
    if task == "regression":
        assert bound_targets.shape == (8, *output)
        assert bound_targets.dtype == np.float32
    else:
        assert bound_targets.shape == (8,)
        assert bound_targets.dtype == np.int64


def test_unlabelled_training_samples_serve_to_calibrate_a_classifier():
    data = dataset_of(x_train=noise(20, 5), x_test=noise(8, 5), y_test=np.arange(8) % 4)

    result = bind(data, [spec(5)], [spec(4)])

    assert result.task == "classification"
    assert everything(result.train).targets is None


def test_unlabelled_training_samples_of_a_mirror_make_it_a_reconstruction():
    data = dataset_of(x_train=noise(20, 2), x_test=noise(8, 2), y_test=np.arange(8) % 2)

    assert bind(data, [spec(2)], [spec(2)]).task == "reconstruction"


@pytest.mark.parametrize(
    ("arrays", "output", "says"),
    [
        ({"y_test": np.array([0, 1, 9, 1])}, (4,), ["sample 2 has label 9", "4 classes"]),
        ({"y_test": np.array([0, 1, -1, 1])}, (4,), ["sample 2 has label -1"]),
        ({"y_test": np.array([0.5, 1, 2, 3])}, (4,), ["fit no task", "float64 [4]"]),
        ({"y_test": np.eye(5)[:4]}, (4,), ["one-hot", "5 columns", "4 classes"]),
        ({"y_test": np.array(["a", "b", "a", "b"])}, (3,), ["2 classes", "has 3"]),
        ({"y_test": np.array(["a", "b", "c", "b"])}, (7, 7), ["3 classes", "quantities"]),
        ({"y_test": np.array([1.5, np.nan, 0, 1])}, (1,), ["target of sample 1"]),
        (
            {"x_train": np.ones((3, 5)), "y_train": np.arange(3)},
            (4,),
            ["test samples have no targets", "Add y_test, or leave y_train out"],
        ),
        ({"y_test": np.arange(4), "labels": np.array(["a", "b"])}, (4,), ["2 classes", "has 4"]),
    ],
)
def test_targets_that_do_not_fit(arrays, output, says):
    text = refusal(dataset_of(x_test=noise(4, 5), **arrays), [spec(5)], [spec(*output)])

    for words in says:
        assert words in text


@pytest.mark.parametrize("task", [None, "classification"])
@pytest.mark.parametrize("units", [4, 5])
@pytest.mark.parametrize("arrays", [{}, {"x_train": np.ones((3, 5))}])
def test_without_any_targets_there_is_no_task(arrays, units, task):
    data = dataset_of(x_test=noise(4, 5), **arrays, task=task)

    result = bind(data, [spec(5)], [spec(units)])

    assert result.task is None
    assert everything(result.test).targets is None
    assert "made has no targets: outputs are compared, and nothing is scored." in result.notes


def test_a_declared_task_is_checked():
    data = {"x_test": noise(4, 5)}
    classes = dataset_of(**data, y_test=noise(4), task="classification")
    assert "no class labels" in refusal(classes, [spec(5)], [spec(4)])
    flags = dataset_of(**data, y_test=np.arange(4), task="reconstruction")
    assert "flags 0" in refusal(flags, [spec(5)], [spec(5)])
    alike = dataset_of(**data, y_test=np.zeros(4), task="reconstruction")
    assert "all samples carry the flag 0" in refusal(alike, [spec(5)], [spec(5)])
    grid = dataset_of(**data, y_test=np.arange(4), task="classification")
    assert "[1, classes]" in refusal(grid, [spec(5)], [spec(3, 3)])


def test_what_was_done_to_labels_is_said():
    onehot = dataset_of(x_test=noise(4, 5), y_test=np.eye(4))
    floats = dataset_of(x_test=noise(4, 5), y_test=np.arange(4.0))

    assert any("one-hot" in note for note in bind(onehot, [spec(5)], [spec(4)]).notes)
    assert any("floats" in note for note in bind(floats, [spec(5)], [spec(4)]).notes)


def test_a_few_shared_samples_are_told_of():
    x = noise(60, 4)
    data = dataset_of(
        x_train=x[:40], y_train=np.arange(40) % 3, x_test=x[38:], y_test=np.arange(22) % 3
    )

    result = bind(data, [spec(4)], [spec(3)])

    assert any("2 of 22 test samples (9.1%)" in note for note in result.notes)


def test_mostly_shared_samples_are_a_warning():
    x = noise(40, 4)
    data = dataset_of(x_train=x, y_train=np.arange(40) % 3, x_test=x[20:], y_test=np.arange(20) % 3)

    notes = bind(data, [spec(4)], [spec(3)]).notes

    assert any("20 of 20 test samples (100.0%) are also in train" in note for note in notes)


def test_constant_rows_are_not_taken_for_a_leak():
    data = dataset_of(
        x_train=np.zeros((30, 4)), y_train=noise(30), x_test=np.zeros((5, 4)), y_test=noise(5)
    )

    result = bind(data, [spec(4)], [spec(1)])

    assert any("repeats itself" in note for note in result.notes)


def test_an_empty_data_set_is_refused():
    nothing = Dataset(name="none", task=None, train=None, calibrate=None, test=None)

    assert "no samples" in refusal(nothing, [spec(4)], [spec(1)])


def test_a_bound_data_set_travels_to_another_process():
    result = bind(dataset_of(x_test=noise(8, 4), y_test=noise(8)), [spec(4)], [spec(1)])

    copy = pickle.loads(pickle.dumps(result))

    np.testing.assert_array_equal(
        everything(copy.test).inputs["input"], everything(result.test).inputs["input"]
    )


def test_reading_works_in_forked_children():
    x = noise(64, 4)
    result = bind(dataset_of(x_test=x, y_test=noise(64)), [spec(4)], [spec(1)])

    def total(rows):
        return os.getpid(), float(result.test.read(rows).inputs["input"].sum())

    parts = spread(total, [np.arange(32), np.arange(32, 64)])

    assert len({pid for pid, _ in parts} | {os.getpid()}) == 3
    assert sum(value for _, value in parts) == pytest.approx(x.sum(), abs=1e-3)


@pytest.mark.parametrize(
    ("targets", "output", "needs"),
    [
        (
            noise(4, 7),
            spec(3),
            (
                "Needed for classification: whole numbers [n] from 0 to 2; multi-label: 0 or 1 for "
                "each label [n, 3]; detection: boxes [n, m, 5] as (x1, y1, x2, y2, class), and a "
                "head; regression: numbers [n, 3]; reconstruction: flags [n], and inputs [1, 3] "
                "like the output."
            ),
        ),
        (
            noise(4, 7),
            spec(8, 6, 2),
            (
                "Needed for segmentation: masks [n, 8, 6] of whole numbers from 0 to 1; "
                "detection: boxes [n, m, 5] as (x1, y1, x2, y2, class), and a head; "
                "regression: numbers [n, 8, 6, 2]; reconstruction: flags [n], and "
                "inputs [1, 8, 6, 2] like the output."
            ),
        ),
    ],
)
def test_targets_that_fit_no_task_are_told_what_each_needs(targets, output, needs):
    data = dataset_of(x_test=noise(4, 5), y_test=targets)

    first, second, third = refusal(data, [spec(5)], [output]).splitlines()

    assert first == (
        f"made, test: the targets fit no task of a model with the output {list(output.shape)}."
    )
    assert second == "They are float64 [4, 7]."
    assert third == needs


def test_masks_of_another_size_are_named():
    data = dataset_of(x_test=noise(4, 8, 8, 1), y_test=np.zeros((4, 8, 6), np.uint8))

    said = refusal(data, [spec(8, 8, 1)], [spec(8, 8, 3)])

    assert said.splitlines()[0] == ("made, test: the masks are of another size than the model's.")


def test_an_ignore_label_is_taken_out_of_the_masks():
    # Given masks of bytes with two numbers that do not count
    masks = np.arange(4 * 8 * 8, dtype=np.uint8).reshape(4, 8, 8) % 5
    data = dataset_of(
        x_test=noise(4, 8, 8, 1), y_test=masks, ignore_label=np.array([3, 4], np.uint8)
    )
    # When they are bound, also a second time
    inputs, outputs = [spec(8, 8, 1)], [spec(8, 8, 3)]
    once = bind(data, inputs, outputs)
    twice = bind(once, inputs, outputs)
    # Then they are below 0
    for bound in (once, twice):
        assert bound.task == "segmentation"
        assert "ignore" not in " ".join(bound.notes)
        np.testing.assert_array_equal(
            everything(bound.test).targets, np.where(masks > 2, -1, masks.astype(int))
        )


def test_groups_come_with_the_samples_and_keep_training_samples_together():
    # Given windows of clips
    clips = np.repeat(["b", "a", "c"], 4)
    data = dataset_of(
        x_train=noise(12, 5), x_test=noise(12, 5) + 9, y_test=np.arange(12) % 2, group=clips
    )
    # When they are read
    bound = bind(data, [spec(5)], [spec(5)])
    # Then
    assert bound.task == "reconstruction"
    assert everything(bound.test).groups.tolist() == np.repeat([1, 0, 2], 4).tolist()
    fit, validation = training_split(bound)
    assert (fit.n, validation.n) == (8, 4)


# --- Scales ---


@pytest.mark.parametrize(
    ("factor", "said"),
    [
        (1 / 255, "255 times smaller in test than in train"),
        (300, "300 times larger in test than in train"),
        (1 / 5, None),
        (0, None),  # nothing but zeros is no scale
    ],
)
def test_splits_of_two_scales_are_told(factor, said):
    pixels = np.random.default_rng(3).integers(0, 256, (80, 6, 6, 1)).astype(np.float32)
    pixels[7] = 1e9  # one sample decides nothing
    classes = np.arange(80) % 4
    data = dataset_of(x_train=pixels, y_train=classes, x_test=pixels * factor, y_test=classes)

    notes = bind(data, [spec(6, 6, 1, name="pixels")], [spec(4)]).notes

    told = [note for note in notes if note.startswith("The values of input 'pixels' are ")]
    assert [said in note for note in told] == ([True] if said else [])
    if said:
        assert "prepare both alike" in told[0]


def test_the_scale_of_each_input_counts():
    wave, level = noise(20, 30).astype(np.float32), noise(20, 2).astype(np.float32)
    data = dataset_of(
        x_train_wave=wave,
        x_train_level=level,
        y_train=np.arange(20) % 3,
        x_test_wave=wave,
        x_test_level=level * 1000,
        y_test=np.arange(20) % 3,
    )
    inputs = [spec(30, name="wave"), spec(2, name="level")]

    (note,) = [note for note in bind(data, inputs, [spec(3)]).notes if "times" in note]

    assert note.startswith("The values of input 'level' are 1,000 times larger in test")

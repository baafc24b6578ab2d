"""Data from the user's own function."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.data import bind, open_data, training_split
from edgekit.data.formats.function import load_function
from edgekit.errors import DataError
from edgekit.records import TensorSpec

CODE = """
import numpy as np
from edgekit.records import Batch, Dataset, Samples

X = np.arange(120, dtype=np.float64).reshape(60, 2)
Y = np.arange(60) % 3

def arrays():
    return {"x_train": X[:40], "y_train": Y[:40], "x_test": X[40:].tolist(), "y_test": Y[40:]}

def dataset():
    def part(name, rows):
        def read(indices):
            return Batch(inputs={"x": X[rows][indices]}, targets=Y[rows][indices])
        return Samples(split=name, n=len(rows), sha256=name, read=read)
    return Dataset(name="mine", task=None, train=part("train", np.arange(40)), calibrate=None,
                   test=part("test", np.arange(40, 60)))

def fails():
    raise KeyError("no such\\nthing")

def wrong():
    return [1, 2]

def ragged():
    return {"x_train": [[1], [1, 2]]}

def broken():
    def read(indices):
        return Batch(inputs={"x": np.full((len(indices), 2), np.nan)}, targets=Y[indices])
    samples = Samples(split="test", n=20, sha256="", read=read)
    return Dataset(name="mine", task=None, train=None, calibrate=None, test=samples)

value = 3

def text():
    return "data.npz"

def leaves():
    raise SystemExit(3)

def needs_more(path):
    return path

def chatty():
    print("42 rows read")
    return arrays()

def stops():
    yield X, Y
    raise OSError("disk")

def stream():
    import batches_of_mine
    yield from batches_of_mine.batches(X, Y)
"""
SPECS = (
    [TensorSpec(name="v", shape=(1, 2), dtype="float32")],
    [TensorSpec(name="y", shape=(1, 3), dtype="float32")],
)


@pytest.fixture(autouse=True)
def module(tmp_path, monkeypatch):
    (tmp_path / "my_readings.py").write_text(CODE)
    (tmp_path / "batches_of_mine.py").write_text("def batches(x, y):\n    yield x, y\n")
    (tmp_path / "broken_syntax.py").write_text("x = 1\ndef x(\n")
    monkeypatch.chdir(tmp_path)


def test_a_dict_of_arrays_from_the_current_directory():
    bound = bind(open_data("my_readings:arrays"), *SPECS)

    batch = bound.test.read(np.arange(20))
    assert bound.task == "classification"
    assert batch.inputs["v"].dtype == np.float32
    np.testing.assert_array_equal(batch.inputs["v"][0], [80, 81])


@pytest.mark.parametrize("name", ["arrays", "stream", "dataset"])
def test_a_function_of_a_file_anywhere(name, tmp_path, monkeypatch):
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")

    dataset = open_data(f"{tmp_path}/my_readings.py:{name}")

    # The generator's samples are in no split, and a fifth of them is drawn.
    assert (dataset.train.n, dataset.test.n) == {"stream": (48, 12)}.get(name, (40, 20))


def test_a_dataset_is_given_what_it_lacks():
    dataset = open_data("my_readings:dataset", calibration_samples=9)
    bound = bind(dataset, *SPECS)
    fit, validation = training_split(bound)

    np.testing.assert_array_equal(
        np.bincount(bound.calibrate.read(np.arange(9)).targets), [3, 3, 3]
    )
    assert bound.test.read(np.arange(2)).inputs["v"].dtype == np.float32
    assert (fit.n, validation.n) == (36, 4)


def test_a_dataset_is_checked_like_any_other():
    with pytest.raises(DataError, match="test sample 0 of 'x' holds NaN"):
        bind(open_data("my_readings:broken"), *SPECS)


@pytest.mark.parametrize(
    ("spec", "says"),
    [
        ("no_such_module_here:data", ["cannot be imported", "ModuleNotFoundError"]),
        ("my_readings:nothing", ["no function 'nothing'"]),
        ("my_readings:value", ["no function 'value'"]),
        ("my_readings:fails", ["failed", "KeyError", "my_readings.py, line ", ": raise KeyError("]),
        ("my_readings.py:fails", ["failed", "KeyError", ": raise KeyError("]),
        ("my_readings.py:nothing", ["no function 'nothing'"]),
        ("my_readings.py:text", ["returned a text", "x_train"]),
        ("my_readings.py:leaves", ["failed", "SystemExit"]),
        ("my_readings.py:needs_more", ["failed", "missing 1 required positional argument"]),
        ("broken_syntax.py:arrays", ["cannot be imported", "broken_syntax.py, line 2: def x("]),
        ("missing.py:arrays", ["missing.py", "file.py:function"]),
        ("my_readings.py:stops", ["failed after 1 item.", ": raise OSError("]),
        ("my_readings:wrong", ["not read from a list", "x_train"]),
        ("my_readings:ragged", ["x_train is ragged"]),
    ],
)
def test_functions_that_give_no_data(spec, says):
    with pytest.raises(DataError) as caught:
        open_data(spec)

    assert len(str(caught.value).splitlines()) <= 3
    for words in says:
        assert words in str(caught.value)


def test_what_it_prints_stays_out_of_the_results(capsys):
    # Given code of the user's that prints, When it is run
    open_data("my_readings:chatty")
    load_function("my_readings:chatty")()
    # Then stdout, which may be JSON, has none of it
    out, err = capsys.readouterr()
    assert out == ""
    assert err.count("42 rows read") == 2

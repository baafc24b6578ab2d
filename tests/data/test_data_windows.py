"""Windows over the rows of a table, and columns that are left out."""

from __future__ import annotations

import json

import numpy as np
import pytest

from edgekit.cli import run
from edgekit.data import bind, describe_validation, open_data, training_split
from edgekit.errors import DataError, UsageError
from edgekit.records import TableOptions, TensorSpec


def table(path, rows, header="t,a,b,machine,y"):
    path.write_text("\n".join([header, *(",".join(map(str, row)) for row in rows)]) + "\n")
    return str(path)


def machine_rows(n, machines):
    """Rows in which the machines take turns, as a logger writes them."""
    return [
        (i, 10 * m + i, i * i, f"m{m}", float(100 * m + i))
        for i in range(n)
        for m in range(machines)
    ]


def test_windows_stay_within_a_group_and_the_target_is_the_last_rows(tmp_path):
    data = table(tmp_path / "log.csv", machine_rows(12, 5))

    dataset = open_data(
        data, target="y", table=TableOptions(window=4, stride=2, group="machine", ignore=("t",))
    )

    assert (dataset.train.n, dataset.test.n) == (4 * 5, 5)
    batch = dataset.train.read(np.arange(20))
    x, y = batch.inputs["x"], batch.targets
    assert x.shape == (20, 4, 2)
    machine = (y // 100).astype(int)
    # Every row of a window is of the machine and the moment that its target tells.
    moments = (y % 100)[:, None] + np.arange(-3, 1)
    np.testing.assert_array_equal(x[..., 0], 10 * machine[:, None] + moments)
    np.testing.assert_array_equal(x[..., 1], moments**2)
    tested = set((dataset.test.read(np.arange(5)).targets // 100).astype(int))
    assert len(tested) == 1
    assert not tested & set(machine)
    assert "No split column: 1 of 5 groups were drawn for testing." in dataset.notes


def test_windows_without_groups_are_split_by_time(tmp_path):
    data = table(tmp_path / "log.csv", machine_rows(50, 1), "t,a,b,kind,y").replace("m0", "0")
    (tmp_path / "log.csv").write_text((tmp_path / "log.csv").read_text().replace("m0", "0"))

    dataset = open_data(data, target="y", split=0.3, table=TableOptions(window=5))

    train, test = (
        part.read(np.arange(part.n)).inputs["x"][..., 0] for part in (dataset.train, dataset.test)
    )
    assert (train.min(), train.max(), test.min(), test.max()) == (0, 34, 35, 49)
    assert (len(train), len(test)) == (31, 11)
    assert "No split column: the last 15 of 50 rows are for testing." in dataset.notes


def test_a_split_column_bounds_windows_too(tmp_path):
    rows = [(i, i % 2, "train" if i < 10 else "test") for i in range(20)]
    data = table(tmp_path / "log.csv", rows, "a,y,split")

    dataset = open_data(data, target="y", table=TableOptions(window=4))

    assert (dataset.train.n, dataset.test.n) == (7, 7)
    assert dataset.train.read(np.arange(7)).inputs["x"].max() == 9


def test_dates_and_the_numbers_of_rows_are_left_out_and_said(tmp_path):
    rows = [(i, f"2024-01-{1 + i} 10:00", f"1.{1 + i}.24", i * 2, i % 2) for i in range(20)]
    data = table(tmp_path / "log.csv", rows, ",when,day,a,y")

    dataset = open_data(data, target="y")

    assert dataset.train.read(np.arange(1)).inputs["x"].shape == (1, 1)
    assert (
        "Columns left out (dates, or numbers of rows): when, day, the unnamed one." in dataset.notes
    )
    # Rows that were drawn or sorted carry their numbers along.
    drawn = table(tmp_path / "drawn.csv", [rows[i] for i in (7, 3, 12, 4, 9, 16)], ",when,day,a,y")
    assert open_data(drawn, target="y").train.read(np.arange(1)).inputs["x"].shape == (1, 1)
    # A column of numbers that is named otherwise is an input, even if it counts.
    named = table(tmp_path / "named.csv", rows, "step,when,day,a,y")
    assert open_data(named, target="y").train.read(np.arange(1)).inputs["x"].shape == (1, 2)
    both = TableOptions(ignore=("step", "a"))
    with pytest.raises(DataError, match="no column beside"):
        open_data(named, target="y", table=both)


@pytest.mark.parametrize(
    ("options", "error", "says"),
    [
        (TableOptions(ignore=("tt",)), UsageError, "no column 'tt'"),
        (TableOptions(group="machines"), UsageError, "Did you mean 'machine'"),
        (TableOptions(window=13, group="machine"), DataError, "a smaller --window"),
        (TableOptions(window=4, stride=0, group="machine"), UsageError, "from 1"),
        (TableOptions(window=0, group="machine"), UsageError, "from 1"),
    ],
)
def test_what_cannot_be_cut_is_named(tmp_path, options, error, says):
    data = table(tmp_path / "log.csv", machine_rows(12, 5))

    with pytest.raises(error) as caught:
        open_data(data, target="y", table=options)

    assert says in str(caught.value)


def test_groups_that_are_too_short_are_counted(tmp_path):
    rows = [*machine_rows(12, 4), (0, 1, 1, "late", 1.0)]
    data = table(tmp_path / "log.csv", rows)

    dataset = open_data(data, target="y", table=TableOptions(window=3, group="machine"))

    assert any("1 of 5 groups have fewer rows" in note for note in dataset.notes)


def test_only_tables_have_windows(tmp_path):
    with pytest.raises(UsageError, match="is no table"):
        open_data("digits", table=TableOptions(window=4))


def rows_in(samples):
    """Rows of the table that windows hold, by the column that counts them."""
    return set(samples.read(np.arange(samples.n)).inputs["x"][..., 0].astype(int).ravel())


@pytest.mark.parametrize("stride", [1, 2, 3, 4, 5])
def test_no_window_of_the_validation_shares_rows_with_training(tmp_path, stride):
    # given 200 rows without groups, in windows of 5
    rows = [(i, i * i, i % 7 * 0.5) for i in range(200)]
    data = table(tmp_path / "log.csv", rows, "a,b,y")
    dataset = open_data(data, target="y", table=TableOptions(window=5, stride=stride))

    fit, validation = training_split(dataset)

    fitted, held = rows_in(fit), rows_in(validation)
    assert not fitted & held
    assert not (fitted | held) & rows_in(dataset.test)
    said = describe_validation(dataset)
    if stride < 5:
        assert max(fitted) < min(held)
        assert said.startswith("the end of the data after a gap of ")
        # windows between the two parts all hold rows of the end
        assert dataset.train.n - fit.n - validation.n == -(-5 // stride) - 1
    else:
        assert said == ""


def test_a_drawn_test_split_shares_no_rows_with_training_either(tmp_path):
    # given a column that says train of every row, so that --split draws windows
    rows = [(i, i % 3, "train") for i in range(100)]
    data = table(tmp_path / "log.csv", rows, "a,y,split")

    dataset = open_data(data, target="y", split=0.2, table=TableOptions(window=5))

    assert (min(rows_in(dataset.test)), max(rows_in(dataset.train))) == (77, 76)
    assert dataset.test.n == 19


@pytest.mark.parametrize(
    ("by", "said"),
    [
        ("auto", "whole groups"),
        ("group", "whole groups"),
        ("time", "the end of each group after a gap of 3 windows, which overlap with it"),
    ],
)
def test_windows_of_groups_are_validated_on_rows_of_their_own(tmp_path, by, said):
    # given twelve machines that take turns; column a holds a number for each of their rows
    rows = [(100 * m + i, i, f"m{m}", float(m)) for i in range(60) for m in range(12)]
    data = table(tmp_path / "log.csv", rows, "a,b,machine,y")
    dataset = open_data(data, target="y", table=TableOptions(window=4, group="machine"))

    fit, validation = training_split(dataset, by)

    assert not rows_in(fit) & rows_in(validation)
    assert describe_validation(dataset, by) == said
    machines = [{row // 100 for row in rows_in(part)} for part in (fit, validation)]
    assert len(machines[1]) == (10 if by == "time" else 1)
    assert bool(machines[0] & machines[1]) == (by == "time")


def test_windows_from_the_command_line_fit_a_model_of_windows(repository, tmp_path, capsys):
    # The published model of engines takes 30 rows of 14 sensors.
    random = np.random.default_rng(0)
    header = ["engine", "date", *(f"s{i}" for i in range(14)), "left"]
    lines = [
        [engine, "2024-05-01", *random.normal(size=14).round(3), 100 - row]
        for engine in range(10)
        for row in range(40)
    ]
    data = table(tmp_path / "log.csv", lines, ",".join(header))
    file = repository / "quantized" / "turbofan" / "float32.tflite"
    words = ["--window", "30", "--stride", "5", "--group", "engine", "--column", "left"]

    assert run(["eval", str(file), "--data", data, *words, "--json", "-q"]) == 0

    report = json.loads(capsys.readouterr().out)
    assert report["rows"][0]["score"]["n"] == 6  # 3 windows of 2 engines
    assert any("date" in warning for warning in report["warnings"])
    made = ["--mode", "float16", "--no-bench", "-o", str(tmp_path / "made"), "-q"]
    assert run(["quantize", str(file), "--data", data, *words, *made]) == 0
    manifest = json.loads((tmp_path / "made" / "float16.json").read_text())
    assert manifest["build"]["table"] == {
        "window": 30,
        "stride": 5,
        "group": "engine",
        "ignore": [],
    }
    assert run(["rebuild", str(tmp_path / "made" / "float16.json"), "-q"]) == 0
    assert run(["eval", str(file), "--data", data, "--stride", "2", "-q"]) == 2
    assert "--window" in capsys.readouterr().err


def test_a_model_takes_the_windows_of_a_table(tmp_path):
    data = table(tmp_path / "log.csv", machine_rows(12, 5))
    inputs = [TensorSpec(name="v", shape=(1, 4, 3), dtype="float32")]
    outputs = [TensorSpec(name="y", shape=(1, 1), dtype="float32")]

    bound = bind(
        open_data(data, target="y", table=TableOptions(window=4, group="machine")), inputs, outputs
    )

    assert bound.task == "regression"
    assert bound.train.read(np.arange(3)).inputs["v"].shape == (3, 4, 3)

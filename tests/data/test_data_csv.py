"""Tables: cells are numbers or are named with row and column."""

from __future__ import annotations

import numpy as np
import pytest

from edgekit.data import open_data
from edgekit.errors import DataError, UsageError

IRIS = "length,width,kind\n" + "".join(
    f"{i / 10},{i % 7},{('rose', 'oak', 'fern')[i % 3]}\n" for i in range(60)
)


def opened(tmp_path, text, target="kind", **options):
    path = tmp_path / "plants.csv"
    path.write_text(text, encoding="utf-8")
    return open_data(str(path), target=target, **options)


def everything(samples):
    return samples.read(np.arange(samples.n))


def test_a_fifth_of_each_class_is_drawn_for_testing(tmp_path):
    dataset = opened(tmp_path, IRIS)

    assert dataset.labels == ("fern", "oak", "rose")
    assert (dataset.train.n, dataset.test.n) == (48, 12)
    np.testing.assert_array_equal(np.bincount(everything(dataset.test).targets), [4, 4, 4])
    rows = np.concatenate([everything(s).inputs["x"] for s in (dataset.train, dataset.test)])
    assert sorted(rows[:, 0]) == pytest.approx(np.arange(60) / 10, abs=1e-6)
    assert any("12 of 60" in note for note in dataset.notes)


def test_the_draw_follows_the_seed(tmp_path):
    first, again = opened(tmp_path, IRIS), opened(tmp_path, IRIS)
    other = opened(tmp_path, IRIS, seed=1)

    assert first.test.sha256 == again.test.sha256 != other.test.sha256


def test_a_split_column_decides(tmp_path):
    text = "split,a,y\ntrain,1,0.5\ntest,2,1.5\ntrain,3,2.5\n"

    dataset = opened(tmp_path, text, target="y")

    np.testing.assert_array_equal(everything(dataset.train).inputs["x"], [[1], [3]])
    np.testing.assert_array_equal(everything(dataset.test).targets, [1.5])


@pytest.mark.parametrize("separator", [";", "\t"])
def test_other_separators_and_a_byte_order_mark(tmp_path, separator):
    text = "\ufeffa,b,y\n1,2,3\n4,5,6\n".replace(",", separator)

    dataset = opened(tmp_path, text, target="y")

    assert dataset.train.n + dataset.test.n == 2
    assert everything(dataset.train).inputs["x"].shape == (1, 2)
    assert everything(dataset.train).targets.dtype == np.int64


def test_one_row_trains_and_none_tests(tmp_path):
    dataset = opened(tmp_path, "a,y\n1,2\n", target="y")

    assert dataset.train.n == 1
    assert dataset.test is None


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("a,b,y\n1,2,3\n4,five,6\n", ["row 3", "'b'", "'five'"]),
        ("a,b,y\n1,,3\n", ["row 2", "'b'", "empty"]),
        ("a,b,y\n1,nan,3\n", ["row 2", "'b'"]),
        ("a,b,y\n1,1e300,3\n", ["row 2", "'b'"]),
        ("a,b,y\n1,2,\n", ["row 2", "'y'", "empty"]),
        ("a,b,y\n1,2\n", ["row 2", "2 cells", "3"]),
        ("1,2,3\n4,5,6\n", ["no header"]),
        ("a,a,y\n1,2,3\n", ["two columns", "'a'"]),
        ("a,b,y\n", ["no rows"]),
        ("", ["no header"]),
        ("y\n1\n", ["no column beside"]),
        ("split,a,y\ntset,1,2\n", ["row 2", "'split'", "'tset'"]),
    ],
)
def test_what_is_no_table_is_refused(tmp_path, text, says):
    with pytest.raises(DataError) as caught:
        opened(tmp_path, text, target="y")

    assert len(str(caught.value).splitlines()) <= 3
    for words in says:
        assert words in str(caught.value)


def test_the_target_is_asked_for(tmp_path):
    with pytest.raises(UsageError, match="--column kind"):
        opened(tmp_path, IRIS, target=None)
    with pytest.raises(UsageError, match="Did you mean 'kind'"):
        opened(tmp_path, IRIS, target="kinds")


def test_text_of_another_encoding(tmp_path):
    path = tmp_path / "t.csv"
    path.write_bytes("größe,y\n1,2\n".encode("latin-1"))

    with pytest.raises(DataError, match="UTF-8"):
        open_data(str(path), target="y")


def test_a_column_whose_name_moves_the_cursor(tmp_path):
    with pytest.raises(DataError, match="column 2 holds a control character"):
        opened(tmp_path, "a,b\x1b[2J,y\n1,2,3\n", target="y")


def test_a_class_whose_name_moves_the_cursor(tmp_path):
    with pytest.raises(DataError, match="class name holds a control character") as no:
        opened(tmp_path, "a,y\n1,p\x1b[2J\n2,q\n", target="y")

    assert "\x1b" not in str(no.value)


def test_whole_numbers_beyond_integers_stay_numbers(tmp_path):
    cells = "".join(f"{i},{i}00000000000000000000000\n" for i in range(1, 21))

    dataset = opened(tmp_path, "a,y\n" + cells, target="y")

    assert everything(dataset.train).targets.dtype == np.float64
    assert everything(dataset.train).targets.min() > 1e22


def test_a_name_that_is_too_long(tmp_path):
    with pytest.raises(DataError, match="too long"):
        open_data(str(tmp_path / ("n" * 300 + ".csv")), target="y")


def test_the_share_of_the_test_split(tmp_path):
    path = tmp_path / "table.csv"
    path.write_text("a,b,y\n" + "".join(f"{i},{i * i},{i % 2}\n" for i in range(40)))
    said = tmp_path / "said.csv"
    said.write_text("a,y,split\n" + "".join(f"{i},{i % 2},train\n" for i in range(40)))

    assert open_data(str(path), target="y").test.n == 8
    assert open_data(str(path), target="y", split=0.5).test.n == 20
    assert open_data(str(said), target="y", split=0.25).test.n == 10
    # Rows of validation are for testing where no others are.
    said.write_text(said.read_text() + "41,1,val\n42,0,val\n")
    assert open_data(str(said), target="y").test.n == 2
    said.write_text(said.read_text() + "43,1,test\n")
    tested = open_data(str(said), target="y")
    assert (tested.train.n, tested.test.n) == (40, 1)
    assert "Not used: split = val. split = test is the test split." in tested.notes

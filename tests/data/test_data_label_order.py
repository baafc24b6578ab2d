"""Targets are numbered in the model's order of the classes, where `--classes` declares it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from edgekit.data import open_data
from edgekit.errors import DataError, UsageError


def targets_of(path: Path, classes: tuple[str, ...]) -> list[int]:
    """Read the test targets of data with its classes in an order."""
    test = open_data(str(path), classes=classes).test
    assert test is not None
    targets = test.read(np.arange(test.n)).targets
    assert targets is not None
    return [int(one) for one in targets]


@pytest.mark.parametrize(
    ("stored", "labels", "classes"),
    [
        pytest.param(["a", "b", "c"], None, ("c", "a", "b"), id="texts"),
        pytest.param([0, 1, 2], None, ("2", "0", "1"), id="numbers"),
        pytest.param([0, 1, 2], ["a", "b", "c"], ("c", "a", "b"), id="named numbers"),
        pytest.param(np.eye(3, dtype=np.float32), ["a", "b", "c"], ("c", "a", "b"), id="one-hot"),
    ],
)
def test_targets_follow_the_declared_order(
    tmp_path: Path, stored: object, labels: list[str] | None, classes: tuple[str, ...]
) -> None:
    """Given classes a, b, c and the model's order c, a, b, then they are 1, 2, 0."""
    arrays = {"x_test": np.zeros((3, 2), np.float32), "y_test": np.array(stored)}
    if labels:
        arrays["labels"] = np.array(labels)
    np.savez(tmp_path / "d.npz", **arrays)

    assert targets_of(tmp_path / "d.npz", classes) == [1, 2, 0]


def test_class_folders_follow_the_declared_order(tmp_path: Path) -> None:
    """Given folders of pictures, then the order declared is that of the targets."""
    for name in ("ant", "bee", "cat"):
        (tmp_path / "test" / name).mkdir(parents=True)
        Image.new("L", (4, 4)).save(tmp_path / "test" / name / "0.png")
    (tmp_path / "preprocessing.toml").write_text(
        'kind = "image"\nheight = 4\nwidth = 4\nchannels = 1\nscale = 1.0\n'
    )

    assert targets_of(tmp_path, ("cat", "ant", "bee")) == [1, 2, 0]


def test_class_that_is_not_listed_is_named(tmp_path: Path) -> None:
    """Given a class of the data that the order leaves out, then the error names it."""
    np.savez(tmp_path / "d.npz", x_test=np.zeros((2, 2)), y_test=np.array(["a", "b"]))

    with pytest.raises(DataError, match="'b' is not listed"):
        open_data(str(tmp_path / "d.npz"), classes=("a", "c"))
    with pytest.raises(UsageError, match="twice"):
        open_data(str(tmp_path / "d.npz"), classes=("a", "a"))


def test_quantities_have_no_order_of_classes(tmp_path: Path) -> None:
    """Given targets that are quantities, then an order of classes is refused."""
    np.savez(tmp_path / "d.npz", x_test=np.zeros((2, 2)), y_test=np.array([0.5, 1.25]))

    with pytest.raises(DataError, match="targets are none"):
        open_data(str(tmp_path / "d.npz"), classes=("a", "b"))


@pytest.mark.parametrize("columns", [5, 6])
def test_boxes_in_arrays_follow_the_declared_order(tmp_path: Path, columns: int) -> None:
    """Given boxes of classes 0 and 2 and padding, then the order declared renumbers the boxes."""
    boxes = np.zeros((1, 3, columns), np.float32)
    boxes[0, :, :5] = [[0, 0, 0.5, 0.5, 0], [0.5, 0.5, 1, 1, 2], [0, 0, 0, 0, -1]]
    arrays = {"x_test": np.zeros((1, 8, 8, 3), np.uint8), "y_test": boxes}
    np.savez(tmp_path / "d.npz", **arrays, labels=np.array(["a", "b", "c"]))

    test = open_data(str(tmp_path / "d.npz"), classes=("c", "a", "b")).test

    assert test is not None
    targets = test.read(np.arange(1)).targets
    assert targets is not None
    assert targets[0, :, 4].tolist() == [1, 0, -1]

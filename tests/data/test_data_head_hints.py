"""A head that is invalid is refused with what its key may be, not with a head of another kind."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.data.heads import parse_head, read_head
from edgekit.errors import DataError

SSD = 'kind = "ssd", levels = [{grid = [2, 2], sizes = [[0.1, 0.1]]}]'


@pytest.mark.parametrize(
    ("head", "found", "hint"),
    [
        (f"{SSD}, score = 7", "Score is 7.", "score: a number from 0 to 1."),
        (f"{SSD}, most = 0", "Most is 0.", "most: a whole number from 1 to 1000."),
        (f"{SSD}, background = 1", "Background is 1.", "background: true or false."),
        (f"{SSD}, variances = [0.1]", "Variances is [0.1].", "variances: four numbers above 0"),
        (f"{SSD}, boxes = 3", "Boxes is 3.", "boxes: the name of an output, in quotes."),
        (f'{SSD}, activation = "relu"', "Activation is", "activation: sigmoid, softmax, none."),
        ('kind = "ssd", levels = 3', "Levels is a list", "levels: [{grid = [rows, columns]"),
        (f"{SSD}, colour = 1", "Unknown key 'colour'", "lists the keys of kind ssd."),
        ('kind = "ssd"', "An ssd needs either", "lists the keys of kind ssd."),
        ('kind = "yolo", classes = 0', "Classes is 0.", "classes: a whole number above 0."),
        ('kind = "postprocess", classes = 0', "Classes is 0.", "classes: the name of an output"),
        ('kind = "yolo", size = [3]', "Size is [3].", "size: [width, height] of the picture"),
        ('kind = "rcnn"', "Kind is 'rcnn'", """Give --head '{kind = "yolo"}'"""),
    ],
)
def test_an_invalid_value_is_told_with_what_may_be(head: str, found: str, hint: str) -> None:
    with pytest.raises(DataError) as refused:
        parse_head(f"{{{head}}}")

    what, *told = str(refused.value).splitlines()
    assert what == "head: the detection head is invalid."
    assert told[0].startswith(found)
    assert hint in told[1]


def test_the_same_in_a_file(tmp_path: Path) -> None:
    (tmp_path / "m.head.toml").write_text('[head]\nkind = "center"\niou = 5\n')

    with pytest.raises(DataError, match=r"(?s)m.head.toml.*Iou is 5.*iou: a number from 0 to 1"):
        read_head(tmp_path / "m.head.toml")

"""The registry of data formats."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.choices import DATA_FORMATS, list_data_formats
from edgekit.data import open_data
from edgekit.data.formats import FORMATS, Argument, Format
from edgekit.data.formats.builtin import BUILTINS
from edgekit.errors import DataError
from edgekit.files import what_is


def test_every_format_is_described_and_defined() -> None:
    assert len(FORMATS) == len(DATA_FORMATS)
    assert all(isinstance(form, Format) for form in FORMATS)
    assert all(name in DATA_FORMATS["builtin"] for name in BUILTINS)


def test_what_is_no_data_lists_every_format(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("no data")

    with pytest.raises(DataError, match=r"not read from \.txt files") as refused:
        open_data(str(path))

    assert list_data_formats() in (refused.value.hint or "")
    assert all(words in list_data_formats() for words in DATA_FORMATS.values())


@pytest.mark.parametrize("name", ["data.NPZ", "data.Csv"])
def test_suffixes_are_read_in_upper_case_too(tmp_path: Path, name: str) -> None:
    path = tmp_path / name
    path.touch()
    argument = Argument(text=str(path), path=path, found=what_is(path))

    assert sum(form.recognizes(argument) for form in FORMATS) == 1

"""Names that came from outside, as they are printed."""

from __future__ import annotations

import doctest
import os

import pytest

from edgekit import printable as module
from edgekit.errors import DeviceError, EdgekitError, FleetError, ModelError
from edgekit.printable import MOST_LINE, MOST_WORD, capitalized, one_line, printable


def test_examples_come_out_as_written():
    results = doctest.testmod(module)
    assert results.attempted == 6
    assert results.failed == 0


@pytest.mark.parametrize(
    "name",
    [
        "models/int8.tflite",
        "/data/my model (2).keras",
        "Größe",
        "多层/卷积",
        "می\u200cروم",
        "👩\u200d🔬",
        "C:\\x1b",
    ],
)
def test_a_harmless_name_comes_back_as_it_is(name):
    assert printable(name) == name


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\x1b[2Jb", r"a\x1b[2Jb"),
        ("a\x9b31mb", r"a\x9b31mb"),
        ("a\r\n\tb", r"a\r\n\tb"),
        ("a\x00\x7fb", r"a\x00\x7fb"),
        ("gpj.\u202etflite", r"gpj.\u202etflite"),
        ("\u2066x\u2069\u200f", r"\u2066x\u2069\u200f"),
        ("a\u2028b\u2029", r"a\u2028b\u2029"),
        ("\ud800", r"\ud800"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9"),
        ("\U000e0041", r"\U000e0041"),
    ],
)
def test_what_is_no_letter_is_shown_as_its_escape(name, shown):
    assert printable(name) == shown
    assert printable(shown) == shown


@pytest.mark.parametrize("unit", ["a", "\x1b", "\U000e0041", "ab\n"])
@pytest.mark.parametrize("width", [8, 24, 60])
def test_a_long_name_keeps_both_ends_and_whole_escapes(unit, width):
    name = "first" + unit * 1000 + "last"
    shown = printable(name, width)
    assert len(shown) <= width
    head, gap, tail = shown.partition("...")
    assert gap
    assert printable(name, 10**6).startswith(head)
    assert printable(name, 10**6).endswith(tail)
    assert head
    assert tail
    # An escape that was cut would not be followed by all its digits.
    assert not any(part.endswith("\\") for part in (head, tail))


def test_a_million_characters_are_shortened_without_reading_them_all():
    assert printable("x" * 10**7 + "\x1b", 20) == "xxxxxxxxx...xxxx\\x1b"


def test_the_lines_of_a_foreign_error_become_one():
    assert one_line("Cannot open\n   file  x\r\n\x1b[1mhere") == r"Cannot open file  x \x1b[1mhere"


def test_an_error_has_three_lines_whatever_the_names_in_it_hold():
    error = ModelError("Cannot read a\nb\x1b[2J.", found="one\ntwo\n\nthree\x07", hint="Try\rx.")
    assert str(error).split("\n") == [
        r"Cannot read a\nb\x1b[2J.",
        r"one two  three\x07",
        r"Try\rx.",
    ]
    assert len(str(error).splitlines()) == 3
    long = ModelError("x" * 10**6, found="y" * 10**6, hint="z" * 10**6)
    assert [len(line) for line in str(long).splitlines()] == [MOST_WORD] * 3
    wordy = ModelError("x " * 10**6, found="y " * 10**6, hint="z " * 10**6)
    assert [len(line) for line in str(wordy).splitlines()] == [MOST_LINE] * 3


def test_a_long_name_in_an_error_is_shortened_and_the_rest_is_not():
    name = "n" * 307
    for error in (ModelError(f"{name}.tflite does not exist."), ModelError("x", found=name)):
        line = str(error).splitlines()[-1]
        assert "nnn...nnn" in line
        assert len(line) <= MOST_WORD + len(" does not exist.")
    assert str(ModelError(f"{'n' * 255} does not exist.")) == f"{'n' * 255} does not exist."


def test_what_the_program_reads_of_an_error_is_as_it_was():
    error = EdgekitError("a\x1b", found="b\nc")
    assert (error.what, error.found) == ("a\x1b", "b\nc")


def test_several_devices_keep_a_line_each():
    error = FleetError(
        "2 of 2 devices failed.", found="pi: gone\n  plug it in\nnuc: \x1b", hint=None
    )
    assert isinstance(error, DeviceError)
    assert str(error).split("\n") == [
        "2 of 2 devices failed.",
        "pi: gone",
        "  plug it in",
        r"nuc: \x1b",
    ]


@pytest.mark.parametrize(
    ("sentence", "expected"),
    [
        ("the process died (SIGSEGV).", "The process died (SIGSEGV)."),
        ("well-known: it fails.", "Well-known: it fails."),
        ("tflite/kernels/div.cc:262 data[i] != zero_point", None),
        ("model.tflite does not run.", None),
        ("score_output is missing.", None),
        ("int8 weights need a scale.", None),
        ("", None),
    ],
)
def test_a_sentence_begins_with_a_capital_and_a_name_stays_as_it_is(sentence, expected):
    assert capitalized(sentence) == (sentence if expected is None else expected)

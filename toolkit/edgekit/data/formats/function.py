"""Data from the user's own code: `package.module:function`."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

from edgekit.data.formats.arrays import open_arrays
from edgekit.data.formats.format import Argument, Format
from edgekit.data.store import RawDataset
from edgekit.errors import DataError, EdgekitError, UsageError
from edgekit.records import Dataset

PATTERN = re.compile(r"[^\W\d]\w*(\.[^\W\d]\w*)*:[^\W\d]\w*")


def is_function(spec: str) -> bool:
    """Tell whether a DATA argument has the form `package.module:function`."""
    return PATTERN.fullmatch(spec) is not None


def open_function(spec: str) -> RawDataset | Dataset:
    """Call a function without arguments; modules in the current directory are found too.

    It returns named arrays as an `.npz` file holds them, or an `edgekit.Dataset`.

    Raises:
        DataError: It is not there, it fails, or it returns something else.
    """
    module_name, _, name = spec.partition(":")
    with _current_directory_importable():
        try:
            function = getattr(importlib.import_module(module_name), name, None)
        except Exception as error:
            raise DataError(
                f"{spec}: {module_name} cannot be imported.",
                found=_said(error),
                hint="Run where it lies, or install it; --debug shows the traceback.",
            ) from error
        if not callable(function):
            raise DataError(
                f"{spec}: {module_name} has no function {name!r}.", hint="Check the name."
            )
        try:
            result = function()
        except EdgekitError:
            raise
        except Exception as error:
            raise DataError(
                f"{spec} failed.",
                found=_said(error),
                hint="--debug shows the traceback.",
            ) from error
    if isinstance(result, Dataset):
        return result
    if isinstance(result, Mapping):
        return open_arrays(result, name, spec)
    raise DataError(
        f"{spec} returned {type(result).__name__}.",
        hint="Return a dict with x_train, y_train, x_test, y_test, or an edgekit Dataset.",
    )


def _said(error: Exception) -> str:
    """Return the kind of an error and the first line of its words."""
    words = str(error).splitlines() or ["no message"]
    return f"{type(error).__name__}: {words[0]}"


@contextmanager
def _current_directory_importable() -> Iterator[None]:
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        yield
    finally:
        sys.path.remove(here)


def _open(argument: Argument) -> RawDataset | Dataset:
    opened = open_function(argument.text)
    if isinstance(opened, Dataset) and argument.preprocessing is not None:
        raise UsageError(
            f"{argument.text} returns a Dataset, whose samples are preprocessed already.",
            hint="Drop the preprocessing, or return a dict of arrays.",
        )
    return opened


FORMAT = Format(
    recognizes=lambda argument: argument.is_missing and is_function(argument.text), open=_open
)

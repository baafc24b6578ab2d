"""Data from the user's own code: `package.module:function`, or `file.py:function`.

It is run because the user named it; `rebuild` does not run what a manifest names.
"""

from __future__ import annotations

import functools
import importlib
import importlib.util
import re
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, redirect_stdout
from pathlib import Path
from types import ModuleType
from typing import Any

from edgekit.data.formats.format import Argument, Format
from edgekit.data.formats.live import FORMS, open_live, take
from edgekit.data.formats.users_code import failure_of, hint_for
from edgekit.data.store import RawDataset
from edgekit.errors import DataError, EdgekitError, UsageError
from edgekit.files import check_input
from edgekit.records import Dataset, LiveData

NAME = r"[^\W\d]\w*"
MODULE = re.compile(rf"{NAME}(\.{NAME})*:{NAME}")
SCRIPT = re.compile(rf".*\.py:{NAME}", re.DOTALL)


def is_function(spec: str) -> bool:
    """Tell whether a DATA argument is `package.module:function` or `file.py:function`."""
    return (MODULE.fullmatch(spec) or SCRIPT.fullmatch(spec)) is not None


def open_function(spec: str) -> RawDataset | Dataset:
    """Call a function without arguments; modules in the current directory are found too.

    It returns what `live.FORMS` lists: named arrays as an `.npz` file holds them, a
    `tf.data.Dataset`, an `edgekit.Dataset`, ...

    Raises:
        DataError: It is not there, it fails, or it returns something else.
    """
    function, folder = _found(spec)
    name = spec.rpartition(":")[2]
    with _importable(folder):
        try:
            result = function()
        except EdgekitError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(
                f"{spec} failed.",
                found=failure_of(error),
                hint=hint_for(error),
            ) from error
        # In here as well: a generator runs now, and what it imports is found.
        taken = None if isinstance(result, str) else take(result, spec, name)
    if isinstance(taken, Dataset):
        return taken
    if isinstance(taken, LiveData):
        return open_live(taken, spec)
    raise DataError(f"{spec} returned a text.", hint=FORMS)


def load_function(spec: str) -> Callable[..., Any]:
    """Return a function of the user's, which finds the modules beside it whenever it is called.

    Raises:
        DataError: It is not there, or its file cannot be run.
    """
    function, folder = _found(spec)

    @functools.wraps(function)
    def call(*given: Any) -> Any:
        with _importable(folder):
            return function(*given)

    return call


def _found(spec: str) -> tuple[Callable[..., Any], Path]:
    """Return a function, and the folder of modules that it may import."""
    place, _, name = spec.rpartition(":")
    path = Path(place).expanduser() if SCRIPT.fullmatch(spec) else None
    folder = Path.cwd() if path is None else path.resolve().parent
    with _importable(folder):
        function = getattr(_loaded(spec, place, path), name, None)
    if not callable(function):
        raise DataError(f"{spec}: {place} has no function {name!r}.", hint="Check the name.")
    return function, folder


def _loaded(spec: str, place: str, path: Path | None) -> ModuleType:
    """Import the module, or run the file at `path`."""
    if path is not None:
        check_input(path, DataError, hint="Give file.py:function.")
    try:
        if path is None:
            return importlib.import_module(place)
        # Under a name of its own, so that it hides no module and is no `__main__`.
        name = f"edgekit_data_{path.stem}"
        found = importlib.util.spec_from_file_location(name, path)
        assert found is not None, "it ends in .py"
        assert found.loader is not None, "it ends in .py"
        module = importlib.util.module_from_spec(found)
        sys.modules[name] = module
        found.loader.exec_module(module)
    except (Exception, SystemExit) as error:
        hint = "Run where it lies, or install it" if path is None else "Correct that line"
        raise DataError(
            f"{spec}: {place} cannot be imported.",
            found=failure_of(error),
            hint=f"{hint}; --debug shows the traceback.",
        ) from error
    return module


@contextmanager
def _importable(folder: Path) -> Iterator[None]:
    """Make the modules in a folder importable, and keep stdout for edgekit's own results.

    What a user's code prints goes to stderr: between the lines of `--json` it would break them.
    """
    sys.path.insert(0, str(folder))
    try:
        with redirect_stdout(sys.stderr):
            yield
    finally:
        sys.path.remove(str(folder))


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

"""The user's own layers and functions, from modules named on the command line."""

from __future__ import annotations

import importlib
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from edgekit.errors import ModelError


def import_custom(names: Sequence[str]) -> dict[str, Any]:
    """Import modules and collect what a saved model may refer to by name.

    The current folder is searched last, so that a file of the user's never shadows a library.

    Args:
        names: Dotted module names.

    Returns:
        Class or function name -> object, of all classes and functions the modules define.

    Raises:
        ModelError: A module cannot be imported.
    """
    here = str(Path.cwd())
    if names and here not in sys.path:
        sys.path.append(here)
    objects: dict[str, Any] = {}
    for name in names:
        objects.update(_defined_in(_import(name)))
    return objects


def _import(name: str) -> ModuleType:
    try:
        return importlib.import_module(name)
    except Exception as error:  # a user's module may raise anything
        raise ModelError(
            f"The custom module {name} cannot be imported.",
            found=f"{type(error).__name__}: {error}",
            hint="--custom takes a module as `import` does (package.module, no .py), "
            "found from the current folder.",
        ) from error


def _defined_in(module: ModuleType) -> dict[str, Any]:
    package = module.__name__.partition(".")[0]
    return {
        name: value
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.partition(".")[0] == package
    }

"""The user's own layers and functions, from modules named on the command line."""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from edgekit.errors import ModelError
from edgekit.files import check_input


def import_custom(names: Sequence[str]) -> dict[str, Any]:
    """Import modules and collect what a saved model may refer to by name.

    The current folder is searched last, so that a file of the user's never shadows a library.

    Args:
        names: Dotted module names, or paths of `.py` files.

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
    path = Path(name).expanduser() if name.endswith(".py") else None
    if path is not None:
        check_input(path, ModelError, hint="Give --custom file.py, or --custom package.module.")
    try:
        return importlib.import_module(name) if path is None else _run(path.resolve())
    except Exception as error:  # a user's module may raise anything
        raise ModelError(
            f"The custom module {name} cannot be imported.",
            found=f"{type(error).__name__}: {error}",
            hint="--custom takes file.py, or a module as `import` does (package.module), found "
            "from the current folder.",
        ) from error


def _run(path: Path) -> ModuleType:
    """Import a file as `import` does in its folder, or by itself where a library has its name."""
    if str(path.parent) not in sys.path:
        sys.path.append(str(path.parent))
    found = importlib.util.find_spec(path.stem)
    if found is not None and found.origin == str(path):
        return importlib.import_module(path.stem)
    own = importlib.util.spec_from_file_location(f"custom_{path.stem}", path)
    assert own is not None, "it ends in .py"
    assert own.loader is not None, "it ends in .py"
    module = importlib.util.module_from_spec(own)
    sys.modules[own.name] = module
    own.loader.exec_module(module)
    return module


def _defined_in(module: ModuleType) -> dict[str, Any]:
    package = module.__name__.partition(".")[0]
    return {
        name: value
        for name, value in vars(module).items()
        if (inspect.isclass(value) or inspect.isfunction(value))
        and value.__module__.partition(".")[0] == package
    }

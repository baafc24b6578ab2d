"""Refuse a model file that contains code, before any loader opens it.

Keras' safe mode covers only some of its readers and some kinds of code; this module inspects the
file as data, for every reader.
"""

from __future__ import annotations

import json
import sys
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from edgekit.archives import walk_hdf5
from edgekit.errors import ModelError
from edgekit.sources.graph_operators import unsafe_operator
from edgekit.sources.keras_config import Finding, Trusted, code_in
from edgekit.sources.protobuf import strings

_LARGEST_CONFIG_BYTES: Final = 1 << 28
_TRUST: Final = "or pass --trust-code to run it, if you trust the file's author."


def trusted_by(custom: Sequence[str], objects: Sequence[str] = ()) -> Trusted:
    """Return what `--custom` trusts: the modules, and what they define and register with Keras.

    Args:
        custom: Names of the modules.
        objects: Names of their classes and functions, if they have been imported.
    """
    registered: list[str] = []
    for package in ("keras", "tf_keras") if custom else ():
        if keras := sys.modules.get(package):
            registered += keras.saving.get_custom_objects()
    return Trusted(modules=tuple(custom), names=frozenset((*objects, *registered)))


def refuse_code(path: Path, kind: str, trusted: Trusted) -> None:
    """Raise if loading a model would run code contained in the file.

    Args:
        path: A file or folder of that kind.
        kind: "keras", "h5" or "saved_model".
        trusted: What `--custom` trusts.

    Raises:
        ModelError: The file holds code, or its configuration is damaged.
    """
    if kind == "saved_model":
        _refuse_operators(path)
    configs = _configs(path, kind)
    for config, imports in configs:
        for finding in code_in(config, trusted):
            if imports or finding.kind != "module":
                raise _refusal(path, finding)


def other_file(path: Path, name: str) -> ModelError:
    """The error of a model file that takes contents from another file."""
    return _refusal(path, Finding(kind="file", name=name))


def code_of_loss(path: Path, kind: str, trusted: Trusted) -> str | None:
    """Return the code that the loss or a metric of a model file holds; None where there is none.

    Loading does not need them, only training does. Of HDF5 files and SavedModels nothing reads
    them.

    Args:
        path: A file or folder of that kind.
        kind: "keras", "h5" or "saved_model".
        trusted: What `--custom` trusts.
    """
    if kind != "keras":
        return None
    config = _decoded(path, _zip_config(path))
    compiled = config.get("compile_config") if isinstance(config, dict) else None
    # A class of another module is looked up among the registered ones only.
    findings = (found for found in code_in(compiled, trusted) if found.kind != "module")
    return next((found.name for found in findings), None)


def names_other_modules(path: Path, trusted: Trusted) -> bool:
    """Whether the Keras metadata of a SavedModel name modules other than those of `--custom`."""
    return any(
        finding.kind == "module" and finding.imports
        for config, _ in _saved_model_configs(path)
        for finding in code_in(config, trusted)
    )


def _configs(path: Path, kind: str) -> Iterator[tuple[Any, bool]]:
    """Yield the configurations that loaders build objects from, and whether they import modules."""
    if kind == "keras":
        config = _decoded(path, _zip_config(path))
        # Loaders do not compile the top model: see `code_of_loss`.
        if isinstance(config, dict):
            config.pop("compile_config", None)
        yield config, True
    elif kind == "h5":
        yield _decoded(path, _h5_config(path)), True
    else:
        yield from _saved_model_configs(path)


def _zip_config(path: Path) -> bytes:
    with zipfile.ZipFile(path) as archive:
        if archive.getinfo("config.json").file_size > _LARGEST_CONFIG_BYTES:
            raise _damaged(path, "It is larger than 256 MB.")
        return archive.read("config.json")


def _h5_config(path: Path) -> str | bytes:
    import h5py

    try:
        with h5py.File(path) as file:
            if other := next((one for one in walk_hdf5(file) if isinstance(one, str)), None):
                raise other_file(path, other)
            config = file.attrs.get("model_config", "null")
    except OSError:  # the loader reports the damage
        return "null"
    return config if isinstance(config, str | bytes) else repr(config)


def _saved_model_configs(path: Path) -> Iterator[tuple[Any, bool]]:
    notes: list[str] = []
    file = path / "keras_metadata.pb"
    try:
        if file.is_file():
            notes += strings(file.read_bytes(), 1, 5)
        # Before TensorFlow 2.5 the Keras metadata were part of the graph file.
        content = (path / "saved_model.pb").read_bytes()
        notes += [text for text in strings(content, 2, 7, 1, 4, 3) if text.strip()]
    except ValueError as error:
        raise _torn(path, error) from error
    for text in notes:
        try:
            config = json.loads(text)
        except (ValueError, RecursionError):
            continue  # Keras skips such an entry too, and restores only the functions
        if isinstance(config, dict):
            config.pop("training_config", None)  # models are never compiled on loading
        yield config, False


def _decoded(path: Path, text: str | bytes) -> Any:
    try:
        return json.loads(text)
    except (ValueError, RecursionError) as error:
        raise _damaged(path, f"{type(error).__name__}: {str(error)[:150]}") from error


def _refuse_operators(path: Path) -> None:
    try:
        found = unsafe_operator((path / "saved_model.pb").read_bytes())
    except ValueError as error:
        raise _torn(path, error) from error
    if found:
        raise ModelError(
            f"{path} is a program that does more than compute: its graph holds {found}.",
            found="Such an operator reaches files, the network or Python.",
            hint=f"Export the model without it, {_TRUST}",
        )


def _refusal(path: Path, finding: Finding) -> ModelError:
    where = f" in layer {finding.where!r}" if finding.where else ""
    if finding.kind == "bytecode":
        return ModelError(
            f"{path} holds code: {finding.name}, stored as bytecode{where}.",
            found="edgekit does not run code from model files by default.",
            hint="Save the model with a layer class or named function in its place "
            f"(--custom package.module), {_TRUST}",
        )
    if finding.kind == "module":
        return ModelError(
            f"{path} uses {finding.name}{where}, which is not part of Keras.",
            found=f"It would be imported from the module {finding.module}.",
            hint="Give the module that defines it: --custom package.module",
        )
    what = {
        "function": f"{path} names {finding.name}{where}, which is no layer or function that "
        "computes.",
        "file": f"{path} reads another file when it is loaded{where}: {finding.name}.",
        "operator": f"{path} does more than compute{where}: the operator {finding.name}.",
    }[finding.kind]
    return ModelError(
        what,
        found="Loading the model would run it.",
        hint=f"Save the model without it, {_TRUST}",
    )


def _damaged(path: Path, found: str) -> ModelError:
    return ModelError(
        f"{path} is damaged: its configuration cannot be read.",
        found=found,
        hint="Copy or save the model again.",
    )


def _torn(path: Path, error: ValueError) -> ModelError:
    return ModelError(
        f"{path} cannot be restored: it is damaged.",
        found=f"protocol buffer: {error}",
        hint="Copy or export the model again.",
    )

"""Determine the format of a model file, and load the model."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Literal

from edgekit.archives import DAMAGE, ArchiveError, check_weights, checked_members
from edgekit.errors import ModelError
from edgekit.files import FOLDER, check_input, sha256_of
from edgekit.records import Source
from edgekit.sources.compiled import compiled_metrics, compiled_metrics_of
from edgekit.sources.custom import import_custom
from edgekit.sources.embedded_code import (
    code_of_loss,
    names_other_modules,
    other_file,
    refuse_code,
    trusted_by,
)
from edgekit.sources.interface import Example, Interface
from edgekit.sources.loaded import Loaded

Kind = Literal["keras", "h5", "saved_model"]

_ACCEPTED = "Give a .keras, .h5 or .tflite file, or a SavedModel folder."
_HDF5 = b"\x89HDF\r\n\x1a\n"
_ZIP = b"PK\x03\x04"


def load(
    path: Path,
    *,
    custom: Sequence[str] = (),
    example: Example | None = None,
    trust_code: bool = False,
) -> Loaded:
    """Read a model file or folder.

    Args:
        path: A `.keras` or `.h5` file, or a SavedModel folder.
        custom: Importable modules that define the model's own layers and functions.
        example: Input name -> shape of a batch; fills dimensions the model leaves open.
        trust_code: Whether to run code that the file contains.

    Raises:
        ModelError: The file is missing, no model or damaged, needs a class or package that is
            missing, or holds code that is not trusted.
    """
    kind = kind_of(path)
    objects = import_custom(custom)
    trusted = trusted_by(custom, tuple(objects))
    if not trust_code:
        refuse_code(path, kind, trusted)
    if kind == "saved_model":
        from edgekit.sources.saved_model import read_saved_model

        # Keras 2 would import the modules named in its metadata; the functions need none.
        layered = trust_code or not names_other_modules(path, trusted)
        model, interface = read_saved_model(path, example, layered=layered)
    else:
        from edgekit.sources.interface import interface_of
        from edgekit.sources.keras_file import read_keras

        others = _check_weights(path)
        if others and not trust_code:
            raise other_file(path, others[0])
        model = read_keras(path, kind, objects, trust_code=trust_code)
        interface = interface_of(model, path.name, example)
    compiled = compiled_metrics(path, kind)
    loaded = _loaded(path, kind, sha256_of(path), model, interface, compiled=compiled)
    return loaded if trust_code else replace(loaded, loss_code=code_of_loss(path, kind, trusted))


def check_source(path: Path, *, custom: Sequence[str] = ()) -> None:
    """Refuse, without TensorFlow, a file that contains code; `load` checks again.

    With custom modules only `load` can decide: it imports them.

    Raises:
        ModelError: The file is no model, or holds code.
    """
    kind = kind_of(path)
    if not custom:
        refuse_code(path, kind, trusted_by(()))


def adopt(model: Any, *, example: Example | None = None) -> Loaded:
    """Describe a Keras model in memory; its digest covers its layers and weights.

    Raises:
        ModelError: It is no Keras model, or its input shapes are unknown.
    """
    from edgekit.sources.interface import interface_of

    if not hasattr(model, "count_params"):
        raise ModelError(
            "The source is neither a path nor a Keras model.",
            found=f"It is a {type(model).__name__}.",
            hint="Give a keras.Model, or the path of a saved one.",
        )
    interface = interface_of(model, model.name, example)
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(weight.numpy().tobytes())
    digest.update(repr([(layer.name, type(layer).__name__) for layer in model.layers]).encode())
    compiled = compiled_metrics_of(model)
    return _loaded(
        Path(model.name), "keras", digest.hexdigest(), model, interface, compiled=compiled
    )


def kind_of(path: Path) -> Kind:
    """Determine the format from the first bytes of a file, or the files of a folder.

    Raises:
        ModelError: The format is not supported, or the file is damaged.
    """
    found = check_input(path, ModelError, folder=True, hint=_ACCEPTED)
    try:
        if found == FOLDER:
            return _folder_kind(path)
        with path.open("rb") as stream:
            start = stream.read(8)
    except OSError as error:
        raise ModelError(f"{path} cannot be read: {error.strerror}.") from error
    if start.startswith(_ZIP):
        _check_zip(path)
        return _agreeing(path, "keras", (".keras",))
    if start == _HDF5:
        return _agreeing(path, "h5", (".h5", ".hdf5"))
    what = "It is empty." if not start else f"It begins with {start!r}."
    raise ModelError(f"{path} is no Keras model.", found=what, hint=_ACCEPTED)


def _folder_kind(path: Path) -> Kind:
    if (path / "saved_model.pb").is_file():
        return "saved_model"
    names = sorted(p.name for p in path.iterdir())
    listing = ", ".join(names[:5]) + (", ..." if len(names) > 5 else "")
    raise ModelError(
        f"{path} is a folder, but no SavedModel.",
        found=f"It holds {listing or 'nothing'}; saved_model.pb is missing.",
        hint=_ACCEPTED,
    )


def _check_zip(path: Path) -> None:
    damaged = None
    try:
        with zipfile.ZipFile(path) as archive:
            names = {member.filename for member in checked_members(archive)}
            damaged = archive.testzip()
    except ArchiveError as error:
        raise ModelError(f"{path} is not unpacked.", found=error.found, hint=error.hint) from error
    except (*DAMAGE, OSError) as error:
        raise ModelError(
            f"{path} is damaged: it ends too early or lost bytes on its way.",
            found=f"zip: {error}",
            hint="Copy or save the model again.",
        ) from error
    if damaged:
        raise ModelError(
            f"{path} is damaged.",
            found=f"{damaged} in it does not match its checksum.",
            hint="Copy or save the model again.",
        )
    if "config.json" not in names:
        raise ModelError(
            f"{path} is a zip archive, but no Keras model.",
            found=f"It holds {', '.join(sorted(names)[:5]) or 'nothing'}; config.json is missing.",
            hint=_ACCEPTED,
        )


def _check_weights(path: Path) -> list[str]:
    try:
        return check_weights(path)
    except ArchiveError as error:
        raise ModelError(f"{path} is not unpacked.", found=error.found, hint=error.hint) from error


def _agreeing(path: Path, kind: Kind, suffixes: tuple[str, ...]) -> Kind:
    # Keras selects its reader by the suffix alone.
    if path.suffix in suffixes:
        return kind
    raise ModelError(
        f"{path} has the suffix of another format.",
        found=f"It is a Keras model of the {suffixes[0]} format.",
        hint=f"Rename it to {path.stem}{suffixes[0]}.",
    )


def _loaded(
    path: Path,
    kind: Kind,
    sha256: str,
    model: Any,
    interface: Interface,
    *,
    compiled: tuple[str, ...],
) -> Loaded:
    return Loaded(
        source=Source(
            name=path.stem,
            path=path,
            kind=kind,
            sha256=sha256,
            inputs=interface.inputs,
            outputs=interface.outputs,
            parameters=interface.parameters,
            compiled=compiled,
        ),
        model=model,
        call=interface.call,
    )

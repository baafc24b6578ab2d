"""Determine the format of a model file, and load the model."""

from __future__ import annotations

import hashlib
import zipfile
from collections.abc import Mapping, Sequence
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
from edgekit.sources.interface import Example, Interface, interface_of
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
    to_train: bool = False,
) -> Loaded:
    """Read a model file or folder.

    A model of half precision is loaded in float32, one for batches of a fixed size for single
    samples, one of Keras 2 as a Keras 3 model where it computes the same.

    Args:
        path: A `.keras` or `.h5` file, or a SavedModel folder.
        custom: Importable modules that define the model's own layers and functions.
        example: Input name -> shape of a batch; fills dimensions the model leaves open.
        trust_code: Whether to run code that the file contains.
        to_train: Whether a pass will train it: recurrent layers start every sample anew, and open
            sizes are those of the example.

    Raises:
        ModelError: The file is missing, no model or damaged, needs a class or package that is
            missing, or holds code that is not trusted; or it has no Keras layers to train.
    """
    interface: Interface | None
    kind = kind_of(path)
    if to_train and kind == "saved_model":
        refuse_without_layers(path)
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
        from edgekit.sources.keras_file import read_keras

        others = _check_weights(path)
        if others and not trust_code:
            raise other_file(path, others[0])
        model = read_keras(path, kind, objects, trust_code=trust_code)
        interface = None
    model, notes, restore = _prepared(model, path.name, objects, example, to_train=to_train)
    if interface is None or isinstance(model, _keras_model()):
        interface = interface_of(model, path.name, example)
    compiled = compiled_metrics(path, kind)
    loaded = _loaded(path, kind, sha256_of(path), model, interface, compiled=compiled)
    loaded = replace(loaded, notes=notes, restore=restore)
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
    if not hasattr(model, "count_params"):
        raise ModelError(
            "The source is neither a path nor a Keras model.",
            found=f"It is a {type(model).__name__}.",
            hint="Give a keras.Model, or the path of a saved one.",
        )
    adopted, notes, _ = _prepared(model, model.name, {}, example)
    interface = interface_of(adopted, model.name, example)
    digest = hashlib.sha256()
    for weight in model.weights:
        digest.update(weight.numpy().tobytes())
    digest.update(repr([(layer.name, type(layer).__name__) for layer in model.layers]).encode())
    compiled = compiled_metrics_of(model)
    loaded = _loaded(
        Path(model.name), "keras", digest.hexdigest(), adopted, interface, compiled=compiled
    )
    return replace(loaded, notes=notes)


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


def refuse_without_layers(path: Path) -> None:
    """Refuse a SavedModel that a pass cannot train, because only functions are in it.

    Raises:
        ModelError: It holds no Keras layers.
    """
    if path.is_dir() and not (path / "keras_metadata.pb").is_file():
        raise _no_layers(path.name)


def _no_layers(what: str) -> ModelError:
    return ModelError(
        f"{what} cannot be trained: it is an exported graph, without Keras layers.",
        hint="Give the .keras file that it was exported from.",
    )


def _prepared(
    model: Any,
    what: str,
    objects: Mapping[str, Any],
    example: Example | None,
    *,
    to_train: bool = False,
) -> tuple[Any, tuple[str, ...], Mapping[str, Mapping[str, Any]]]:
    """Return a model as edgekit works with it, what to say, and what to set back after a pass."""
    from edgekit.sources import prepare
    from edgekit.sources.keras2 import in_keras_3

    if not isinstance(model, _keras_model()):
        if not hasattr(model, "layers"):
            if to_train:
                raise _no_layers(what)
            return model, (), {}
        try:
            model = in_keras_3(model, what, objects, example)
        except ModelError:
            if to_train:
                raise
            return model, (), {}
    model, precision = prepare.full_precision(model, what, objects, example)
    model, batch = prepare.free_batch(model, what, objects, example)
    adapted, state, restore = None, None, prepare.NOTHING
    if to_train:
        model, adapted = prepare.without_adapters(model, what, objects, example)
        model, state, restore = prepare.for_training(model, what, objects, example)
    return model, tuple(note for note in (precision, batch, adapted, state) if note), restore


def _keras_model() -> type:
    import keras

    kind: type = keras.Model
    return kind


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

"""Read .keras and .h5 files of Keras 3, 2 and 1."""

from __future__ import annotations

import importlib.util
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from edgekit.archives import read_member
from edgekit.errors import ModelError
from edgekit.parsing import parse_json

_UNKNOWN = re.compile(
    r"(?:Could not locate (?:class|function)|Unknown (?:layer|\w+ function|object|initializer)"
    r"|Could not interpret \w+ (?:function )?identifier): '?(?P<a>[\w>.]+)'?"
    r"|Could not locate (?:class|function) '(?P<b>[\w>.]+)'"
)


# What Keras 2 builds models of; `refuse_code` checks the functions that the latter two call.
_OF_KERAS_2 = {"Functional", "Sequential", "Model", "TFOpLambda", "SlicingOpLambda"}


def read_keras(
    path: Path,
    kind: Literal["keras", "h5"],
    objects: Mapping[str, Any],
    *,
    trust_code: bool = False,
) -> Any:
    """Load a Keras model for inference.

    Files of Keras 2 that Keras 3 refuses are read by tf_keras where that is installed.

    Args:
        path: The file, known to be of that kind.
        kind: Which of the two formats.
        objects: Custom classes and functions by name.
        trust_code: Whether Python lambdas stored in the file may be run.

    Raises:
        ModelError: It holds no complete model, or needs a class or package that is missing.
    """
    import keras

    try:
        return keras.saving.load_model(
            path,
            custom_objects={**_older_layers(kind), **objects},
            compile=False,
            safe_mode=not trust_code,
        )
    except Exception as error:  # Keras passes on any exception of a layer
        failure = error
    version = _keras_version(path, kind)
    if version.startswith(("1.", "2.")) and (trust_code or not _is_known(failure)):
        return _read_legacy(path, version, objects, failure, trust_code=trust_code)
    raise _explained(path, failure, f"Keras {keras.__version__}") from failure


def _older_layers(kind: str) -> dict[str, Any]:
    """Return layers that accept old configurations which Keras 3 refuses."""
    if kind != "h5":
        return {}
    import keras

    class DepthwiseConv2D(keras.layers.DepthwiseConv2D):  # type: ignore[misc]  # untyped base
        @classmethod
        def from_config(cls, config: dict[str, Any]) -> Any:
            # It was always 1: the base class of Keras 2 wrote it, and no argument could set it.
            config.pop("groups", None)
            return keras.layers.DepthwiseConv2D.from_config(config)

    return {"DepthwiseConv2D": DepthwiseConv2D}


def _keras_version(path: Path, kind: str) -> str:
    """Return the Keras version that wrote the file, "" where it is not stored."""
    try:
        if kind == "keras":
            metadata = parse_json(read_member(path, "metadata.json"))
            return str(metadata.get("keras_version", "")) if isinstance(metadata, dict) else ""
        import h5py

        with h5py.File(path) as file:
            version = file.attrs.get("keras_version", "")
        return version.decode() if isinstance(version, bytes) else str(version)
    except (KeyError, OSError, ValueError):
        return ""


def _read_legacy(
    path: Path, version: str, objects: Mapping[str, Any], failure: Exception, *, trust_code: bool
) -> Any:
    if importlib.util.find_spec("tf_keras") is None:
        raise ModelError(
            f"{path} was saved by Keras {version} and holds what Keras 3 cannot read.",
            found=_first_line(failure),
            hint="pip install tf_keras reads it.",
        ) from failure
    import tf_keras

    try:
        # There is no safe mode for .h5 files: `refuse_code` has checked the file before.
        return tf_keras.models.load_model(
            path,
            custom_objects=dict(objects),
            compile=False,
            **({"safe_mode": not trust_code} if path.suffix == ".keras" else {}),
        )
    except Exception as error:
        raise _explained(path, error, f"tf_keras {tf_keras.__version__}") from error


def _is_known(error: Exception) -> bool:
    """Whether reading the file with another Keras would fail in the same way."""
    text = str(error)
    name = _unknown_name(text)
    return (
        ("Lambda" in text and name not in _OF_KERAS_2)
        or "No model config" in text
        or (name is not None and name not in _OF_KERAS_2)
    )


def _explained(path: Path, error: Exception, reader: str) -> ModelError:
    text = str(error)
    if "`Lambda` layer" in text or "Python lambda" in text:
        return ModelError(
            f"{path} holds a Lambda layer, code inside the file that edgekit does not run.",
            hint="Save it again with a layer class or a named function in its place, "
            "and give its module: --custom package.module",
        )
    if name := _unknown_name(text):
        return ModelError(
            f"{path} uses {name}, which is not part of {reader}.",
            hint=f"Give the module or file that defines {name.rpartition('>')[2]}: "
            "--custom package.module, or --custom file.py",
        )
    if "No model config" in text:
        return ModelError(
            f"{path} holds weights only, no model.",
            hint="Save the whole model: model.save('model.keras').",
        )
    if isinstance(error, OSError):  # HDF5 raises this for damaged files
        return ModelError(
            f"{path} is damaged: it ends too early or lost bytes on its way.",
            found=_first_line(error),
            hint="Copy or save the model again.",
        )
    return ModelError(
        f"{path} cannot be read by {reader}.",
        found=_first_line(error),
        hint="Check that it is whole, and load and save it with the Keras that made it.",
    )


def _unknown_name(text: str) -> str | None:
    match = _UNKNOWN.search(text)
    return match and (match["a"] or match["b"])


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    # Keras nests its messages; the last of these lines has the cause.
    told = [line for line in lines if line.startswith("Exception encountered:")]
    line = (told or lines or [type(error).__name__])[-1 if told else 0]
    return line.removeprefix("Exception encountered:").strip()[:200]

"""Load a Keras model again with another configuration: precision, batch size, sizes, state.

Keras builds a model from its configuration, so a changed one is saved, edited as JSON and loaded:
every layer then builds what depends on the change, with the same weights. The outputs of both are
compared before the new one is used.
"""

from __future__ import annotations

import copy
import json
import types
import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np

from edgekit.errors import ModelError
from edgekit.files import temporary_folder
from edgekit.records import Array, TensorSpec

Edit = Callable[[dict[str, Any]], None]
"""Changes one dictionary of a configuration in place; called for each, outer ones first."""

HALF: Final = ("float16", "bfloat16", "mixed_float16", "mixed_bfloat16")
"""Names of Keras's policies, and types, of half precision."""

_CONFIG: Final = "config.json"
_POLICIES: Final = ("DTypePolicy", "Policy")  # of Keras 3, and of Keras 2


def half_precision(model: Any) -> str | None:
    """Return the policy of half precision that a layer of a Keras 3 model has; None without."""
    for layer in model._flatten_layers():  # noqa: SLF001  Keras has no public way to layers inside layers
        name = getattr(getattr(layer, "dtype_policy", None), "name", None)
        if name in HALF:
            return str(name)
    return None


def to_float32(entry: dict[str, Any]) -> None:
    """Edit: full precision in place of half."""
    config = entry.get("config")
    if entry.get("class_name") in _POLICIES and isinstance(config, dict):
        if config.get("name") in HALF:
            config["name"] = "float32"
    elif entry.get("dtype") in HALF:
        entry["dtype"] = "float32"


def reloaded(model: Any, edit: Edit, objects: Mapping[str, Any]) -> Any:
    """Return a model of an edited configuration, with the same weights.

    Args:
        model: A Keras 3 model; it is not changed.
        edit: Changes each dictionary of its configuration.
        objects: Custom classes and functions by name; those of the model itself are known.

    Raises:
        Exception: Whatever Keras and the model's own classes raise.
    """
    import keras

    with temporary_folder() as folder:
        path = folder / "model.keras"
        model.save(path)
        edit_file(path, edit)
        # Its code, if it has any, was trusted when the model was loaded.
        return keras.saving.load_model(
            path, custom_objects={**_own(model), **objects}, compile=False, safe_mode=False
        )


def rebuilt(model: Any, edit: Edit) -> Any:
    """Return a model of an edited configuration, built anew, without the weights.

    Args:
        model: A functional or sequential Keras 3 model; it is not changed.
        edit: Changes the configuration of the whole model in place (`configuration`).

    Raises:
        Exception: Whatever Keras and the model's own classes raise.
    """
    import keras

    config = configuration(model)
    edit(config)
    return keras.saving.deserialize_keras_object(
        config, custom_objects=_own(model), safe_mode=False
    )


def configuration(model: Any) -> dict[str, Any]:
    """Return a Keras 3 model in its serialised form, without its loss and optimizer."""
    import keras

    config: dict[str, Any] = copy.deepcopy(keras.saving.serialize_keras_object(model))
    config.pop("compile_config", None)
    return config


def edit_file(path: Path, edit: Edit) -> None:
    """Edit the configuration inside a `.keras` file."""
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in archive.namelist()}
    members[_CONFIG] = edited(members[_CONFIG], edit)
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            archive.writestr(name, content)


def edited(text: str | bytes, edit: Edit) -> bytes:
    """Return a configuration, JSON, with every dictionary in it edited."""
    config = json.loads(text)
    for entry in _dictionaries(config):
        edit(entry)
    return json.dumps(config).encode()


def _dictionaries(value: Any) -> Iterator[dict[str, Any]]:
    pending = [value]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            yield value
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)


def _own(model: Any) -> dict[str, Any]:
    """Return the classes and functions of a model that are not part of Keras, by name."""
    import keras

    found: dict[str, Any] = {}
    for layer in model._flatten_layers():  # noqa: SLF001  see `half_precision`
        for thing in (type(layer), *vars(layer).values()):
            if not isinstance(thing, type | types.FunctionType):
                continue
            if not thing.__module__.startswith("keras."):
                found[thing.__name__] = thing
                found[keras.saving.get_registered_name(thing)] = thing
    return found


def noise(inputs: Sequence[TensorSpec], n: int) -> list[Array]:
    """Return `n` samples for each input, the same every time: normal, or the integers 0 and 1."""
    generator = np.random.default_rng(0)
    made = []
    for spec in inputs:
        shape = (n, *spec.shape[1:])
        if spec.dtype.startswith(("float", "bfloat")):
            made.append(generator.standard_normal(shape).astype("float32"))
        else:
            made.append(generator.integers(0, 2, shape).astype(spec.dtype))
    return made


def difference(one: Sequence[Any], other: Sequence[Any]) -> float:
    """Return the largest difference of two models' outputs, as a share of the outputs' range.

    Values that are NaN or infinite in the first are left out: half precision overflows.
    Infinity where the numbers or shapes of the outputs differ.
    """
    if len(one) != len(other):
        return float("inf")
    largest = 0.0
    for first, second in zip(one, other, strict=True):
        a, b = (np.asarray(values, np.float32) for values in (first, second))
        if a.shape != b.shape:
            return float("inf")
        known = np.isfinite(a)
        if known.any():
            span = float(np.ptp(a[known])) or float(np.abs(a[known]).max()) or 1.0
            largest = max(largest, float(np.max(np.abs(a[known] - b[known]))) / span)
    return largest


def check_same(what: str, found: float, allowed: float, hint: str) -> None:
    """Raise where outputs differ by more than is allowed.

    Raises:
        ModelError: They do.
    """
    if not found <= allowed:
        raise ModelError(
            f"{what} computes something else.",
            found=f"Outputs differ by {found:.1%} of their range on the same samples.",
            hint=hint,
        )

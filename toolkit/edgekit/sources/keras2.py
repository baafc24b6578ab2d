"""Rebuild a model that Keras 2 has restored as a Keras 3 model, which passes can train."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any, Final

from edgekit.errors import ModelError
from edgekit.files import temporary_folder
from edgekit.sources.interface import Example, interface_of
from edgekit.sources.reconfigure import difference, edited, noise

# Arguments that the base class of Keras 3 takes, or its reader of older files.
_OF_ALL_LAYERS: Final = frozenset(
    {"name", "trainable", "dtype", "batch_input_shape", "batch_shape", "input_shape"}
    | {"activity_regularizer", "ragged", "sparse"}
)
_SAMPLES: Final = 2
# Both add up in float32, in different orders.
_SAME: Final = 1e-3


def in_keras_3(model: Any, what: str, objects: Mapping[str, Any], example: Example | None) -> Any:
    """Return a Keras 3 model that computes what a tf_keras model computes.

    Arguments that only Keras 2 has are left out of the configuration (`time_major` of recurrent
    layers); that the outputs are the same is checked on samples of noise.

    Args:
        model: The tf_keras model.
        what: Name of its file in messages.
        objects: Custom classes and functions by name.
        example: Input name -> shape of a batch; fills dimensions the model leaves open.

    Raises:
        ModelError: There is no such model; the error says which layer is in the way.
    """
    import h5py
    import keras

    try:
        with temporary_folder() as folder:
            path = folder / "model.h5"
            model.save(path, include_optimizer=False, save_format="h5")
            with h5py.File(path, "r+") as file:
                config = edited(file.attrs["model_config"], _without_unknown)
                file.attrs["model_config"] = config
            found = keras.saving.load_model(path, custom_objects=dict(objects), compile=False)
    except Exception as error:  # both Keras versions and the model's own classes raise anything
        raise _refusal(what, model, str(error)) from error
    ours, theirs = (interface_of(each, what, example) for each in (found, model))
    arrays = noise(theirs.inputs, _SAMPLES)
    largest = difference(theirs.call(arrays), ours.call(arrays))
    if not largest <= _SAME:
        raise _refusal(what, model, f"its outputs would differ by {largest:.1%} of their range")
    return found


def _without_unknown(entry: dict[str, Any]) -> None:
    """Edit: drop the arguments of a layer that its class in Keras 3 does not take."""
    import keras

    kind = getattr(keras.layers, str(entry.get("class_name")), None)
    config = entry.get("config")
    if not inspect.isclass(kind) or not isinstance(config, dict):
        return
    known = set(_OF_ALL_LAYERS)
    for base in kind.__mro__:
        if base is keras.layers.Layer:
            break
        if own := vars(base).get("__init__"):
            known |= set(inspect.signature(own).parameters)
    for key in [key for key in config if key not in known]:
        del config[key]


def _refusal(what: str, model: Any, reason: str) -> ModelError:
    other = next((layer for layer in model.layers if "Lambda" in type(layer).__name__), None)
    lines = [line.strip() for line in reason.splitlines() if line.strip()]
    found = (
        f"Layer {other.name} ({type(other).__name__}) is code of Keras 2."
        if other is not None
        else (lines or ["Keras 3 gives no reason."])[0][:200]
    )
    return ModelError(
        f"{what} is a Keras 2 model that cannot be rebuilt in Keras 3, which passes train.",
        found=found,
        hint="Build it with Keras 3, give it the same weights (set_weights), and save that.",
    )

"""Read SavedModel folders, written by any version of Keras or TensorFlow."""

from __future__ import annotations

import contextlib
import importlib.util
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from edgekit.errors import ModelError
from edgekit.records import TensorSpec
from edgekit.sources.interface import Example, Interface, filled_shape, interface_of


def read_saved_model(
    path: Path, example: Example | None, *, layered: bool = True
) -> tuple[Any, Interface]:
    """Restore a SavedModel and describe its serving signature.

    Args:
        path: The folder.
        example: Input name -> shape of a batch; fills dimensions the model leaves open.
        layered: Whether to restore Keras layers from the metadata of Keras 2, where present.

    Raises:
        ModelError: It cannot be restored, or has several functions and no serving signature.
    """
    import tensorflow as tf

    noted = (path / "keras_metadata.pb").is_file()
    if layered and noted and importlib.util.find_spec("tf_keras"):
        # Written by Keras 2: its layers are restored with their names.
        import tf_keras

        with contextlib.suppress(
            Exception
        ):  # custom layers; the functions restored below need none
            layered = tf_keras.models.load_model(path, compile=False)
            return layered, interface_of(layered, path.name, example)
    try:
        model = tf.saved_model.load(str(path))
    except Exception as error:  # TensorFlow raises many kinds of exceptions
        raise ModelError(
            f"{path} cannot be restored by TensorFlow {tf.__version__}.",
            found=str(error).strip().partition("\n")[0][:200],
            hint="Export it again, or give the .keras file it came from.",
        ) from error
    signatures = dict(model.signatures)
    function = signatures.get("serving_default") or (
        next(iter(signatures.values())) if len(signatures) == 1 else None
    )
    if function is None:
        raise ModelError(
            f"{path} does not say which function is the model.",
            found=f"Signatures: {', '.join(sorted(signatures)) or 'none'}.",
            hint="Export it with model.export(folder), which writes serving_default.",
        )
    return model, _interface(function, path, example)


def _interface(function: Any, path: Path, example: Example | None) -> Interface:
    taken = function.structured_input_signature[1]
    inputs = tuple(
        TensorSpec(
            name=name,
            shape=filled_shape(path.name, name, _dimensions(spec), example, only=len(taken) == 1),
            dtype=spec.dtype.name,
        )
        for name, spec in taken.items()
    )
    names = list(function.structured_outputs)

    def run(tensors: Sequence[Any]) -> Any:
        found = function(**{s.name: t for s, t in zip(inputs, tensors, strict=True)})
        return [found[name] for name in names]

    return Interface.of(
        run,
        inputs,
        names,
        parameters=lambda: sum(int(v.shape.num_elements()) for v in function.variables),
        what=path.name,
    )


def _dimensions(spec: Any) -> tuple[int | None, ...]:
    return tuple(spec.shape.as_list()) if spec.shape.rank is not None else ()

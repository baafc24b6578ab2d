"""Convert a model to one float TFLite graph with batch size 1 and the author's names."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from edgekit.errors import ConversionError
from edgekit.files import writing
from edgekit.lowering.trace import Trace, trace
from edgekit.records import Array, Source
from edgekit.tflite.graph import read, write
from edgekit.tflite.signature import with_signature

Call = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredModel:
    """A float graph, and the outputs of its source model on some samples.

    Attributes:
        path: The `.tflite` file.
        reference: Output name -> `[n, ...]`, computed by the source model; empty without samples.
        notes: Changes made during lowering, for the user.
        stateful: Layers of the source that carry something from one sample to the next, as far as
            the samples showed it; the file does not, and starts each sample as they start.
    """

    path: Path
    reference: Mapping[str, Array]
    notes: tuple[str, ...]
    stateful: tuple[str, ...] = ()


def lower(call: Call, source: Source, model: Any, destination: Path) -> LoweredModel:
    """Convert a model to a float TFLite file.

    Args:
        call: The model, a function from tensors in the order of `source.inputs` to those of
            `source.outputs`.
        source: Its inputs and outputs, with batch size 1.
        model: The Keras model that `call` runs, or any other object.
        destination: The file to write.

    Raises:
        ConversionError: TensorFlow refuses a layer.
        OutputError: The file cannot be written.
    """
    try:
        traced = trace(call, source.inputs, model)
        data = _convert(traced)
    except Exception as error:  # of the model's own code, of TensorFlow or of its converter
        recurrent = "TensorList" in str(error)
        if tables := _preprocessing(model):
            first = tables[0].partition(" ")[0]
            raise ConversionError(
                f"{source.name} cannot be lowered to TFLite, which has no such preprocessing.",
                found=f"{', '.join(tables)}: the device's program has to do it.",
                hint="Save a model that is fed with what it returns: keras.Model(inputs, "
                f'model.outputs), with model.get_layer("{first}").output among the inputs.',
            ) from error
        if assigned := re.search(r"[^\s']*Assign\w*VariableOp\w*", str(error)):
            raise ConversionError(
                f"{source.name} keeps state in a variable, which it assigns at every call.",
                found=f"It is assigned at {assigned[0][-160:]}.",
                hint="Convert it with tf.lite.TFLiteConverter.from_saved_model, which keeps such "
                "variables, and give edgekit that .tflite file.",
            ) from error
        raise ConversionError(
            f"{source.name} cannot be lowered to TFLite.",
            found=_reason(error),
            hint="Save it with unroll=True in its recurrent layers, or give the Keras file."
            if recurrent
            else "Replace the layer or operator named there by one that TFLite has.",
        ) from error
    inputs, outputs = _tensor_names(data)
    named = with_signature(
        read(data),
        {spec.name: name for spec, name in zip(source.inputs, inputs, strict=True)},
        {spec.name: name for spec, name in zip(source.outputs, outputs, strict=True)},
    )
    with writing(destination) as temporary:
        temporary.write_bytes(write(named))
    return LoweredModel(
        path=destination,
        reference={},
        notes=traced.notes,
    )


def _convert(traced: Trace) -> bytes:
    import tensorflow as tf

    function = traced.function
    if traced.frozen:
        # All weights are constants, so the graph is converted directly: half the time.
        converter = tf.compat.v1.lite.TFLiteConverter(
            function.graph.as_graph_def(), function.inputs, list(traced.outputs)
        )
    else:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    return bytes(converter.convert())


def _tensor_names(data: bytes) -> tuple[list[str], list[str]]:
    """Return the names of the graph's inputs and outputs, in the order of tracing."""
    from ai_edge_litert import schema_py_generated as schema

    graph = schema.Model.GetRootAs(data).Subgraphs(0)
    return tuple(  # type: ignore[return-value]  # two of them
        [graph.Tensors(int(i)).Name().decode() for i in indices]
        for indices in (graph.InputsAsNumpy(), graph.OutputsAsNumpy())
    )


def _preprocessing(model: Any) -> list[str]:
    """Return the layers of a model that look words or numbers up, or hash them, with their kind."""
    kinds = {"StringLookup", "IntegerLookup", "TextVectorization", "Hashing", "HashedCrossing"}
    layers = model._flatten_layers() if hasattr(model, "_flatten_layers") else ()  # noqa: SLF001  Keras has no public way to layers inside layers
    found = {layer.name: type(layer).__name__ for layer in layers}
    return [f"{name} ({kind})" for name, kind in found.items() if kind in kinds]


def _reason(error: Exception) -> str:
    """Return the line of a converter's message that names the operator."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    telling = [line for line in lines if "error:" in line or "needs" in line or "Op" in line]
    return (telling or lines or [type(error).__name__])[0][:200]

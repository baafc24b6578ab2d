"""Convert a model to one float TFLite graph with batch size 1 and the author's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.choices import COMPACT, UNROLLED, RecurrentForm
from edgekit.files import writing
from edgekit.lowering.fused_lstm import independent, with_fused_lstms
from edgekit.lowering.refusals import refused
from edgekit.lowering.trace import Trace, layers_of, trace
from edgekit.records import Source
from edgekit.tflite.graph import as_text, read, write
from edgekit.tflite.naming import with_short_names
from edgekit.tflite.own_outputs import with_own_outputs
from edgekit.tflite.signature import with_signature

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

Call = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class LoweredModel:
    """A float graph.

    Attributes:
        path: The `.tflite` file.
        notes: Changes made during lowering, for the user.
    """

    path: Path
    notes: tuple[str, ...]


def lower(
    call: Call,
    source: Source,
    model: Any,
    destination: Path,
    *,
    recurrent: RecurrentForm = COMPACT,
    plain: Any | None = None,
) -> LoweredModel:
    """Convert a model to a float TFLite file.

    Args:
        call: The model, a function from tensors in the order of `source.inputs` to those of
            `source.outputs`.
        source: Its inputs and outputs, with batch size 1.
        model: The Keras model that `call` runs, or any other object.
        destination: The file to write.
        recurrent: How recurrent layers are written (`RecurrentLayers`).
        plain: The model as `plain_function` returns it, where it was traced before.

    Raises:
        ConversionError: TensorFlow refuses a layer.
        OutputError: The file cannot be written.
    """
    graph, notes = _lowered(call, source, model, recurrent, plain)
    graph = with_own_outputs(graph, [spec.name for spec in source.outputs])
    tensors = graph.subgraphs[0].tensors
    named = with_signature(
        graph,
        *(
            {spec.name: tensors[i].name for spec, i in zip(specs, indices, strict=True)}
            for specs, indices in (
                (source.inputs, graph.subgraphs[0].inputs),
                (source.outputs, graph.subgraphs[0].outputs),
            )
        ),
    )
    with writing(destination) as temporary:
        temporary.write_bytes(write(named))
    return LoweredModel(path=destination, notes=notes)


def _lowered(
    call: Call, source: Source, model: Any, form: RecurrentForm, plain: Any | None = None
) -> tuple[ModelT, tuple[str, ...]]:
    """Return the graph in this form, or step by step where the converter refuses it; and notes."""
    try:
        traced = trace(call, source.inputs, model, form, plain)
        graph = _convert(traced)
    except Exception as error:  # of the model's own code, of TensorFlow or of its converter
        if form == UNROLLED or not any(hasattr(layer, "unroll") for layer in layers_of(model)):
            raise refused(source.name, call, source.inputs, model, error) from error
        return _lowered(call, source, model, UNROLLED)
    return graph, tuple(
        f"{name}: its {n} steps were unrolled; the outputs are the same"
        for name, n in traced.recurrent.unrolled()
    )


def _convert(traced: Trace) -> ModelT:
    import tensorflow as tf

    function, fused = traced.function, traced.recurrent.fused
    if traced.graph is not None:
        # All weights are constants, so the graph is converted directly: half the time.
        given = len(function.inputs) - len(function.captured_inputs)
        converter = tf.compat.v1.lite.TFLiteConverter(
            traced.graph, function.inputs[:given], list(traced.outputs)
        )
    else:
        converter = tf.lite.TFLiteConverter.from_concrete_functions([function])
    converter.allow_custom_ops = bool(fused)
    graph = read(bytes(converter.convert()))
    if fused:
        foreign = {as_text(code.customCode) for code in graph.operatorCodes} - {"", *fused}
        if foreign:
            raise ValueError(f"error: TFLite has no operator {', '.join(sorted(foreign))}")
        graph = with_fused_lstms(graph, fused)
    return with_short_names(independent(graph), tuple(traced.recurrent.steps))

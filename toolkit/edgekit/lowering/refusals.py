"""Say why a model cannot be lowered: the layer, the operator, and what to do about it."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from edgekit.errors import ConversionError
from edgekit.lowering.trace import layers_of, traced_by_operation
from edgekit.records import TensorSpec

Call = Callable[[Sequence[Any]], Sequence[Any]]

# How the converter lists operators that TFLite lacks.
_LISTED: Final = re.compile(r"^(?:TF Select|Custom) ops: (.+)$", re.MULTILINE)
_RANDOM: Final = re.compile(r"Random|Multinomial")
_ASSIGNED: Final = re.compile(r"[^\s']*Assign\w*VariableOp\w*")
# Parts of a path that name no layer.
_CALLS: Final = re.compile(r"^(Stateful)?PartitionedCall(_\d+)?$|^stateless_random_")
_MOST_NAMED: Final = 3


def refused(
    name: str, call: Call, inputs: Sequence[TensorSpec], model: Any, error: Exception
) -> ConversionError:
    """Return the error that tells a user why a model cannot be lowered.

    Args:
        name: Of the model.
        call: The model, as of `lower`.
        inputs: Its inputs, with batch size 1.
        model: The Keras model that `call` runs, or any other object.
        error: Of the model's own code, of TensorFlow or of its converter.
    """
    if tables := _preprocessing(model):
        first = tables[0].partition(" ")[0]
        return ConversionError(
            f"{name} cannot be lowered to TFLite, which has no such preprocessing.",
            found=f"{', '.join(tables)}: the device's program has to do it.",
            hint="Save a model that is fed with what it returns: keras.Model(inputs, "
            f'model.outputs), with model.get_layer("{first}").output among the inputs.',
        )
    if assigned := _ASSIGNED.search(str(error)):
        return _assigning(name, call, inputs, model, assigned[0])
    return ConversionError(
        f"{name} cannot be lowered to TFLite.",
        found=_lacking(call, inputs, model, error) or _telling_line(error),
        hint="Save it with unroll=True in its recurrent layers, or give the Keras file."
        if "TensorList" in str(error)
        else "Replace the layer or operator named there by one that TFLite has.",
    )


def _assigning(
    name: str, call: Call, inputs: Sequence[TensorSpec], model: Any, assigned: str
) -> ConversionError:
    """Tell a model that keeps a state from one that was exported as it is in training."""
    nodes = _nodes(call, inputs, model)
    random = [path for path, kind in nodes if _RANDOM.search(kind)]
    if random:
        return ConversionError(
            f"{name} draws random numbers at every call, as in training.",
            found=f"They are drawn in {_named([_layer(path) for path in random])}.",
            hint="Give the .keras file it was exported from, or export lambda x: model(x, "
            "training=False) by keras.export.ExportArchive.",
        )
    return ConversionError(
        f"{name} keeps state in a variable, which it assigns at every call.",
        found=f"It is assigned at {assigned[-160:]}.",
        hint="Convert it with tf.lite.TFLiteConverter.from_saved_model, which keeps such "
        "variables, and give edgekit that .tflite file.",
    )


def _lacking(call: Call, inputs: Sequence[TensorSpec], model: Any, error: Exception) -> str | None:
    """Return which operators TFLite lacks, each with its layers; None where none are listed."""
    operators = [
        operator.strip().removeprefix("tf.")
        for listed in _LISTED.findall(str(error))
        for operator in listed.split(",")
    ]
    if not operators:
        return None
    places: dict[str, list[str]] = {}
    for path, kind in _nodes(call, inputs, model):
        places.setdefault(kind, []).append(_layer(path))
    told = [
        f"{_named(places[operator])}: TFLite has no operator {operator}."
        if operator in places
        else f"TFLite has no operator {operator}."
        for operator in dict.fromkeys(operators)
    ]
    return " ".join(told[:_MOST_NAMED])


def _nodes(call: Call, inputs: Sequence[TensorSpec], model: Any) -> list[tuple[str, str]]:
    """Return the paths and kinds of all operators of a model, those of functions included."""
    try:
        graph = traced_by_operation(call, inputs, model)
    except Exception:  # of the model's own code; what is known is told without it
        return []
    bodies = (node for each in graph.library.function for node in each.node_def)
    return [(node.name, node.op) for node in (*graph.node, *bodies)]


def _layer(path: str) -> str:
    """Return the layer of an operator, without the model's own name where there is one."""
    scopes = [part for part in path.split("/")[:-1] if not _CALLS.match(part)]
    return "/".join(scopes[1:] or scopes) or path


def _named(layers: Sequence[str]) -> str:
    different = list(dict.fromkeys(layers))
    more = len(different) - _MOST_NAMED
    return ", ".join(different[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _preprocessing(model: Any) -> list[str]:
    """Return the layers of a model that look words or numbers up, or hash them, with their kind."""
    kinds = {"StringLookup", "IntegerLookup", "TextVectorization", "Hashing", "HashedCrossing"}
    found = {layer.name: type(layer).__name__ for layer in layers_of(model)}
    return [f"{name} ({kind})" for name, kind in found.items() if kind in kinds]


def _telling_line(error: Exception) -> str:
    """Return the line of a message that tells most."""

    def telling() -> Iterator[str]:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        yield from (line for line in lines if "error:" in line or "needs" in line or "Op" in line)
        yield from lines
        yield type(error).__name__

    return next(telling())[:200]

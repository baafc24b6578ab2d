"""Replace the variables of a traced graph by their values, without tracing it again."""

from __future__ import annotations

from typing import Any, Final

_READS: Final = "ReadVariableOp"


def frozen(function: Any) -> Any | None:
    """Return the graph of a concrete function with the values of its variables as constants.

    TensorFlow's own freezing handles every graph, and takes longer than the rest of a conversion.
    A graph that only reads its variables needs none of it: a captured variable becomes a constant,
    and what reads it passes it on.

    Args:
        function: TensorFlow's concrete function.

    Returns:
        A GraphDef; None where something else than a read takes a variable: an assignment, a
        function that it is handed to, a lookup in place.
    """
    import tensorflow as tf

    captured = {placeholder.op.name: value for value, placeholder in function.graph.captures}
    graph = function.graph.as_graph_def()
    reads: dict[str, list[Any]] = {}
    for node in graph.node:
        for source in {_operator(edge) for edge in node.input} & captured.keys():
            if captured[source].dtype == tf.resource and node.op != _READS:
                return None
            reads.setdefault(source, []).append(node)
    for node in graph.node:
        if node.name in captured and node.name in reads:
            value = captured[node.name]
            if value.dtype == tf.resource:
                kind = reads[node.name][0].attr["dtype"].type
                value = tf.raw_ops.ReadVariableOp(resource=value, dtype=kind)
                for read in reads[node.name]:
                    _pass_on(read, node.name, kind)
            if value.dtype == tf.string:
                return None
            _hold(node, value)
    return graph


def _hold(node: Any, value: Any) -> None:
    """Make a node a constant."""
    array = value.numpy()
    node.op = "Const"
    node.ClearField("input")
    node.ClearField("attr")
    node.attr["dtype"].type = value.dtype.as_datatype_enum
    tensor = node.attr["value"].tensor
    tensor.dtype = value.dtype.as_datatype_enum
    for size in array.shape:
        tensor.tensor_shape.dim.add().size = size
    tensor.tensor_content = array.tobytes()


def _pass_on(node: Any, source: str, kind: int) -> None:
    """Make a node one that returns what another one holds."""
    node.op = "Identity"
    node.ClearField("attr")
    node.ClearField("input")
    node.input.append(source)
    node.attr["T"].type = kind


def _operator(edge: str) -> str:
    """Return the name of the operator that an input of a node comes from."""
    return edge.lstrip("^").partition(":")[0]

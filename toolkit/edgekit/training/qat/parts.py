"""Which operator of a TFLite graph computes which part of a layer; see `composed`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from edgekit.tflite.graph import is_constant, operator_name
from edgekit.tflite.lstm import FUSED_LSTM

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT, OperatorT

OUTPUT: Final = "output"
"""The part that is the layer's output."""
BIAS: Final = "bias"
"""What of a dense layer has extremes of its own beside the range of its output."""
CELL: Final = "cell"
"""The part that an LSTM carries beside its outputs; no operator's output."""
MIRRORED: Final = "negative mean"
"""The part that is the mean, negated."""
# Names of dense layers in attention, which their operators carry.
_PROJECTIONS: Final = {
    **{name: name for name in ("query", "key", "value")},
    "attention_output": OUTPUT,
}
_INPUT, _CONSTANT = "input", "constant"
# Operator, parts it takes (in any order) -> part it computes.
_PARTS: Final[dict[tuple[str, frozenset[str]], str]] = {
    (name, frozenset(taken)): part
    for name, taken, part in (
        ("MEAN", (_INPUT, _CONSTANT), "mean"),
        ("NEG", ("mean",), MIRRORED),
        ("SQUARED_DIFFERENCE", (_INPUT, "mean"), "deviation"),
        ("MEAN", ("deviation", _CONSTANT), "variance"),
        ("ADD", ("variance", _CONSTANT), "floored"),
        ("RSQRT", ("floored",), "inverse"),
        ("MUL", ("inverse", _CONSTANT), "factor"),
        *(
            entry
            for factor in ("inverse", "factor")
            for entry in (
                ("MUL", (MIRRORED, factor), "offset"),
                ("MUL", (_INPUT, factor), "scaled"),
            )
        ),
        ("ADD", ("offset", _CONSTANT), "shift"),
        *(("ADD", ("scaled", shift), OUTPUT) for shift in ("offset", "shift")),
        ("BATCH_MATMUL", ("query", "key"), "scores"),
        ("MUL", ("scores", _CONSTANT), "weighed"),
        *(("SOFTMAX", taken, "probabilities") for taken in (("scores",), ("weighed",), ("",))),
        ("BATCH_MATMUL", ("probabilities", "value"), "context"),
    )
}


class Parts:
    """Follows the operators of a graph; see `of`."""

    def __init__(self, model: ModelT) -> None:
        self._model = model
        self._tensors = model.subgraphs[0].tensors
        # Tensor -> the layer that computed it, and the part.
        self._known: dict[int, tuple[str, str]] = {}

    def of(self, op: OperatorT, owner: str, *, moves: bool) -> str:
        """Return the part of a layer that its next operator computes; empty if it is unknown.

        Args:
            op: The operator; those before it were given before.
            owner: The layer.
            moves: Whether the operator only moves values.
        """
        part = self._part(op, owner, moves=moves)
        self._known.update((int(index), (owner, part)) for index in op.outputs)
        return part

    def _part(self, op: OperatorT, owner: str, *, moves: bool) -> str:
        name = operator_name(self._model, op)
        taken = [self._taken(int(index), owner) for index in op.inputs if index >= 0]
        if moves:
            return taken[0]
        if name == FUSED_LSTM:
            return "outputs"
        if name == "FULLY_CONNECTED":
            path = self._tensors[op.outputs[0]].name.split(";")[0].split("/")
            after = path[path.index(owner) + 1 :] if owner in path else []
            return next((_PROJECTIONS[part] for part in after if part in _PROJECTIONS), "")
        return _PARTS.get((name, frozenset(taken)), "")

    def _taken(self, index: int, owner: str) -> str:
        if is_constant(self._model, self._tensors[index]):
            return _CONSTANT
        known, part = self._known.get(index, (None, ""))
        return part if known == owner else _INPUT

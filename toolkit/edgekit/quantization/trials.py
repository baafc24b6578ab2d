"""Files of one float graph in which each operator has a precision of its own choice.

The graph is read and observed once; the writer makes each file in milliseconds. So the cost of
every operator can be measured, and a set of operators be found that is worth a higher precision.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from edgekit.errors import ConversionError
from edgekit.modes import FLOAT32
from edgekit.quantization.calibration import Calibration
from edgekit.quantization.float_graph import FloatGraph
from edgekit.quantization.in_modes import in_modes
from edgekit.quantization.observe import Observed
from edgekit.quantization.passes import cleaned
from edgekit.quantization.preparation import prepared
from edgekit.quantization.rules import pattern_of
from edgekit.quantization.variant import is_quantized
from edgekit.quantization.writer import OPERATORS
from edgekit.records import Plan, Ranges, Rule
from edgekit.targets.node import Node
from edgekit.tflite.graph import operator_name, write
from edgekit.tflite.naming import name_layers
from edgekit.tflite.nodes import bodies, nodes
from edgekit.tflite.weights import stored_weights

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_CONVERSIONS: Final = frozenset({"QUANTIZE", "DEQUANTIZE"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Unit:
    """What gets a precision as a whole: an operator, or a loop with all that it runs.

    Attributes:
        operator: Name of the operator in the schema.
        layer: Name of its layer.
        tensors: Names of the output tensors, and of those inside a loop.
        index: Position of the operator in execution order.
    """

    operator: str
    layer: str
    tensors: tuple[str, ...]
    index: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Trials:
    """A float graph whose operators can be written in one precision or another.

    Attributes:
        plan: The mode that is tried, its ranges and passes; inputs and outputs as it says.
        model: The float graph, after the plan's passes.
        ranges: Ranges of its activations; None where they remain float.
        modes: Output tensor name -> mode by the plan's own rules.
        units: The operators that have the plan's mode there, in execution order; where activations
            remain float, those with weights.
    """

    plan: Plan
    model: ModelT
    ranges: Ranges | None
    modes: Mapping[str, str]
    units: tuple[Unit, ...]

    @classmethod
    def of(
        cls,
        plan: Plan,
        graph: FloatGraph,
        observe: Callable[[ModelT], Observed],
        calibration: Calibration | None = None,
    ) -> Trials:
        """Apply the passes of a plan, observe the activations, and list the operators.

        Args:
            plan: What is tried.
            graph: The float graph, with its signature.
            observe: As of `variant.make`.
            calibration: Likewise.

        Raises:
            ConversionError: The graph cannot be observed.
            UsageError: A rule or a pass of the plan does not fit.
        """
        model, ranges, modes, _ = prepared(plan, graph, observe=observe, calibration=calibration)
        if ranges is not None:
            model, ranges = cleaned(model, ranges, plan)  # as would be done for each file
        return cls(
            plan=plan,
            model=model,
            ranges=ranges,
            modes=modes,
            units=_units(model, plan, modes, weighted=ranges is None),
        )

    def floating(self) -> bytes:
        """Return the float file that the others are compared with."""
        return write(self.model)

    def with_modes(self, units: Collection[Unit], mode: str) -> bytes:
        """Return the file of the plan in which some operators have another mode.

        Args:
            units: These operators.
            mode: Their mode.

        Raises:
            ConversionError: The writer refuses it.
        """
        return write(self._model(units, mode))

    def only(self, unit: Unit) -> bytes | None:
        """Return the float file in which one operator alone has the plan's mode.

        An operator that joins several inputs (CONCATENATION, MAXIMUM) gives all of them one scale:
        it is written together with the operators that compute these.

        Returns:
            The file; None where the operator costs nothing by itself: it only copies the values of
            one input, has no weights worth it, or no integer kernel.
        """
        made = self._alone(unit.tensors)
        if not self._changed(made) and self.ranges is not None:
            made = self._alone((*unit.tensors, *self._producers(unit)))
        return write(made) if self._changed(made) else None

    def conversions(self, units: Collection[Unit], mode: str) -> int:
        """Return how many conversions between precisions these operators add to the file."""
        return _conversions(self._model(units, mode)) - _conversions(self._model((), mode))

    def rules(self, units: Collection[Unit], mode: str) -> tuple[Rule, ...]:
        """Return the rules by which these operators get a mode.

        Raises:
            ConversionError: One of them cannot be named.
        """
        operators = nodes(self.model)
        layers = name_layers(operators)
        rules = []
        for unit in sorted(units, key=lambda unit: unit.index):
            pattern = pattern_of(operators[unit.index], operators, layers)
            if pattern is None:
                raise ConversionError(
                    f"No rule names operator {unit.operator} of layer {unit.layer} alone.",
                    found="Its tensors have no name, or share it with others.",
                    hint="Convert the model again with names of tensors.",
                )
            rules.append(Rule(layers=pattern, mode=mode))
        return tuple(rules)

    def _alone(self, tensors: Iterable[str]) -> ModelT:
        modes = {
            **dict.fromkeys(self.modes, FLOAT32.name),
            **dict.fromkeys(tensors, self.plan.mode),
        }
        return in_modes(self.plan, self.model, self.ranges, modes)[1].model

    def _producers(self, unit: Unit) -> list[str]:
        """Return the outputs of what computes the inputs of an operator that joins several."""
        operators = [node for node in nodes(self.model) if node.graph == 0]
        made = {tensor.index: node for node in operators for tensor in node.outputs}
        found: list[str] = []
        seen = {unit.index}
        waiting = [node for node in operators if node.index == unit.index and _joins(node)]
        while waiting:
            for tensor in waiting.pop().inputs:
                node = made.get(tensor.index) if tensor else None
                if node is None or node.index in seen:
                    continue
                seen.add(node.index)
                found += [output.name for output in node.outputs]
                if _shares_scale(node):
                    waiting.append(node)
        return found

    def _changed(self, model: ModelT) -> bool:
        if self.ranges is not None:
            return is_quantized(self.plan, model)
        # In int4 what has no kernel for it is stored as int8.
        stored = {weight.dtype for _, weight in stored_weights(nodes(model))}
        return bool(stored - {FLOAT32.weights})

    def _model(self, units: Collection[Unit], mode: str) -> ModelT:
        others = {name: mode for unit in units for name in unit.tensors}
        return in_modes(self.plan, self.model, self.ranges, {**self.modes, **others})[1].model


def _shares_scale(node: Node) -> bool:
    row = OPERATORS.get(node.name)
    return row is not None and row.scale == "same"


def _joins(node: Node) -> bool:
    real = [t for t in node.inputs if t and not t.constant and t.dtype == FLOAT32.activations]
    return _shares_scale(node) and len(real) > 1


def _conversions(model: ModelT) -> int:
    graph = model.subgraphs[0]
    return sum(operator_name(model, op) in _CONVERSIONS for op in graph.operators)


def _units(
    model: ModelT, plan: Plan, modes: Mapping[str, str], *, weighted: bool
) -> tuple[Unit, ...]:
    operators = nodes(model)
    layers = name_layers(operators)
    # A file of its own for each of the others would be the float file, at the price of a copy.
    stored = {id(node) for node, _ in stored_weights(operators)}
    able = {node.graph for node in operators if node.graph and id(node) in stored}
    within: dict[int, list[str]] = {}
    for node in operators:
        within.setdefault(node.graph, []).extend(tensor.name for tensor in node.outputs)
    found: dict[tuple[str, ...], Unit] = {}
    for node, layer in zip(operators, layers, strict=True):
        own = tuple(tensor.name for tensor in node.outputs)
        if node.graph or not own:
            continue
        if any(modes.get(name, plan.mode) != plan.mode for name in own):
            continue
        if weighted and id(node) not in stored and not able.intersection(bodies(node)):
            continue
        inside = [name for graph in bodies(node) for name in within.get(graph, ())]
        unit = Unit(
            operator=node.name,
            layer=layer,
            tensors=(*own, *inside),
            index=node.index,
        )
        found.setdefault(own, unit)  # operators whose tensors share a name are one
    return tuple(found.values())

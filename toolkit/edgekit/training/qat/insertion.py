"""Insert fake quantization into a graph, and decide which tensors share a range."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from edgekit.training.qat.graph import Graph, Step
from edgekit.training.qat.layer_rules import LINEAR, fixed_range, is_transparent, kind_of


def insert(graph: Graph, bits: int, palettes: Mapping[str, int], exclude: Collection[str]) -> Graph:
    """Insert fake quantization into a graph, from its inputs to its outputs.

    Args:
        graph: The graph, with batch normalization folded and separate activation layers split off.
        bits: Bit width of the weights, 8 or 4.
        palettes: Layer -> largest number of distinct weights.
        exclude: Names of layers whose weights remain float.
    """
    return _Insertion(graph, bits, palettes, exclude).run()


class _Insertion:
    """The graph under construction; see `insert`."""

    def __init__(
        self, graph: Graph, bits: int, palettes: Mapping[str, int], exclude: Collection[str]
    ) -> None:
        self._graph = graph
        self._bits = bits
        self._palettes = palettes
        self._exclude = exclude
        self._steps: list[Step] = []
        self._shapes = dict(graph.shapes)
        # Value -> its number after rounding, and the layer that rounds it.
        self._rounded: dict[int, int] = {}
        self._by: dict[int, Any] = {}
        # Values with no consumer of the unrounded value.
        self._settled: set[int] = set()
        self._layers: dict[int, Any] = {}
        self._names = dict(enumerate(tensor.name for tensor in graph.inputs))
        self._names.update({step.output: step.layer.name for step in graph.steps})

    def run(self) -> Graph:
        """Return the graph with fake quantization."""
        for value in range(len(self._graph.inputs)):
            self._finish(value)
        for step in self._graph.steps:
            self._add(step)
        outputs = tuple(self._rounded.get(value, value) for value in self._graph.outputs)
        return replace(self._graph, steps=tuple(self._steps), outputs=outputs, shapes=self._shapes)

    def _add(self, step: Step) -> None:
        kind, value, source = kind_of(step.layer), step.output, step.inputs[0]
        integer = kind == "weighted" and not self._is_float(step)
        layer = self._weighted(step) if integer else step.layer
        inputs = tuple(
            v if self._takes_unrounded(step, v) else self._rounded[v] for v in step.inputs
        )
        self._steps.append(replace(step, layer=layer, inputs=inputs))
        if kind == "fixed":
            self._settled.add(value)
            if value not in self._graph.outputs:
                name = f"{step.layer.name}_range"
                self._round(value, self._layer(name, fixed_range(step.layer)))
        elif kind == "selecting" and is_transparent(step.layer) and inputs[0] != source:
            # Already on the integer grid, which holds 0: padding and selecting remain on it.
            self._settled.add(value)
            self._rounded[value], self._by[value] = value, self._by[source]
        elif kind == "averaging" and not self._is_joined(value):
            self._settled.add(value)
            self._round(value, self._by[source], follow=True)
        else:
            self._finish(value)

    def _finish(self, value: int) -> None:
        """Round a value, unless all its consumers take it unrounded."""
        takers = self._graph.consumers(value)
        if value in self._graph.outputs or not all(
            self._takes_unrounded(step, value) for step in takers
        ):
            root = self._root(value)
            if root not in self._layers:
                weighted = any(
                    kind_of(step.layer) == "weighted" and step.output == root
                    for step in self._graph.steps
                )
                # The layer of an output keeps its name, by which compiled losses are matched.
                same = weighted and root in self._graph.outputs
                name = self._names[root] if same else f"{self._names[root]}_range"
                self._layers[root] = self._layer(name)
            self._round(value, self._layers[root], follow=value != root)

    def _takes_unrounded(self, step: Step, value: int) -> bool:
        """Whether rounding after the step, with the same range, is equivalent to rounding before.

        Nothing is rounded between float layers.
        """
        if self._is_float(step):
            return (
                value not in self._graph.outputs
                and all(map(self._is_float, self._graph.consumers(value)))
                and self._is_made_in_float(value)
            )
        return (
            kind_of(step.layer) in ("selecting", "joining")
            and value not in self._settled
            and self._root(step.output) == self._root(value)
        )

    def _is_float(self, step: Step) -> bool:
        """Whether a step computes with float weights."""
        # The activation split off an output layer took over its name.
        name = step.layer.name.removesuffix(LINEAR)
        return kind_of(step.layer) == "weighted" and name in self._exclude

    def _is_made_in_float(self, value: int) -> bool:
        """Whether a value comes from a float layer, a clipping fused into it included."""
        made = next((step for step in self._graph.steps if step.output == value), None)
        if made is None or kind_of(made.layer) != "selecting":
            return made is not None and self._is_float(made)
        source = made.inputs[0]
        fused = self._graph.only_consumer(source) is made and not is_transparent(made.layer)
        return fused and self._is_made_in_float(source)

    def _root(self, value: int) -> int:
        """Return the value whose range this one shares."""
        for step in self._graph.consumers(value):
            if self._leads_to_join(step):
                return self._root(step.output)
        consumer = self._graph.only_consumer(value)
        if consumer is not None and kind_of(consumer.layer) == "selecting":
            return self._root(consumer.output)
        return value

    def _is_joined(self, value: int) -> bool:
        return any(self._leads_to_join(step) for step in self._graph.consumers(value))

    def _leads_to_join(self, step: Step) -> bool:
        """Whether the step's input ends in a concatenation, whose inputs share one scale."""
        return kind_of(step.layer) == "joining" or (
            is_transparent(step.layer) and self._is_joined(step.output)
        )

    def _weighted(self, step: Step) -> Any:
        from edgekit.training.qat.layers import QuantizedWeights

        # Depthwise kernels are small and lose much accuracy with few bits.
        bits = 8 if type(step.layer).__name__ == "DepthwiseConv2D" else self._bits
        name = step.layer.name
        # The activation split off an output layer took over its name.
        clusters = self._palettes.get(name.removesuffix(LINEAR), 0) if bits == 8 else 0
        wrapped = QuantizedWeights(step.layer, bits, clusters, name=f"{name}_quantized")
        wrapped.build(self._graph.shapes[step.inputs[0]])
        return wrapped

    def _layer(self, name: str, fixed: tuple[float, float] | None = None) -> Any:
        from edgekit.training.qat.layers import FakeQuantize

        layer = FakeQuantize(fixed, name=name)
        layer.build(None)
        return layer

    def _round(self, value: int, layer: Any, *, follow: bool = False) -> None:
        number = len(self._shapes)
        self._shapes[number] = self._shapes[value]
        self._steps.append(Step(layer, (value,), number, {"follow": True} if follow else {}))
        self._rounded[value], self._by[value] = number, layer

"""Insert fake quantization into a graph, and decide which tensors share a range."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any

from edgekit.choices import LOOP_STEPS
from edgekit.training.qat.graph import Graph, Step
from edgekit.training.qat.layer_rules import (
    LINEAR,
    WRAPPED,
    Kind,
    activation_of,
    fixed_range,
    is_transparent,
    kind_of,
)

# Layers whose kernels may have 4 bits.
_NARROW = ("Conv1D", "Conv2D", "Dense")
# A kernel of a layer that is written as several, of which the last keeps its name.
_POINTWISE = "pointwise_kernel"
# Layers that round their outputs themselves.
_OWN_SCALE = ("LSTM", "GRU")


def insert(graph: Graph, bits: int, palettes: Mapping[str, int], exclude: Collection[str]) -> Graph:
    """Insert fake quantization into a graph, from its inputs to its outputs.

    Args:
        graph: The graph, with batch normalization folded and layers expanded.
        bits: Bit width of the weights, 8 or 4.
        palettes: Kernel -> largest number of distinct weights, by `Kernel.name`.
        exclude: Names of layers that remain float, beside those without a quantized form.
    """
    return _Insertion(graph, bits, palettes, exclude).run()


def has_masks(graph: Graph) -> bool:
    """Whether a layer of a graph makes masks, which Keras hands to the layers after it."""
    return any(
        getattr(step.layer, "mask_zero", False) or type(step.layer).__name__ == "Masking"
        for step in graph.steps
    )


def can_compose(step: Step, graph: Graph) -> bool:
    """Whether a call of a layer of several operators has a quantized form: one without masks."""
    layer, name = step.layer, type(step.layer).__name__
    if name == "LayerNormalization":
        return True
    masks = has_masks(graph)
    given = {k for k, v in step.options.items() if v is not False}
    if name in _OWN_SCALE:
        usual = (activation_of(layer), layer.cell.recurrent_activation.__name__)
        other = layer.stateful or layer.return_state or masks or given
        # A GRU of few steps is written out, with values of its own in each.
        steps = graph.shapes[step.inputs[0]][1]
        loops = name != "GRU" or ((steps or 0) > LOOP_STEPS and not layer.unroll)
        return usual == ("tanh", "sigmoid") and len(step.inputs) == 1 and loops and not other
    flat = all(len(graph.shapes[value]) == 3 for value in (*step.inputs, step.output))
    return flat and not masks and given <= {"query", "value", "key", "use_causal_mask"}


class _Insertion:
    """The graph under construction; see `insert`."""

    def __init__(
        self, graph: Graph, bits: int, palettes: Mapping[str, int], exclude: Collection[str]
    ) -> None:
        self._graph = graph
        self._bits = bits
        # Parts of a layer that was written as several have names of their own: `both_forward_lstm`.
        self._palettes = {name.replace("/", "_"): clusters for name, clusters in palettes.items()}
        self._exclude = exclude
        self._steps: list[Step] = []
        self._shapes = dict(graph.shapes)
        # Value -> its number after rounding, and the layer that rounds it.
        self._rounded: dict[int, int] = {}
        self._by: dict[int, Any] = {}
        # Input -> its number after it was observed.
        self._passed: dict[int, int] = {}
        # Values with no consumer of the unrounded value.
        self._settled: set[int] = set()
        self._layers: dict[int, Any] = {}
        # Layer -> the layer with rounded weights that stands for it in every call.
        self._wrapped: dict[int, Any] = {}
        self._made = {value: step for step in graph.steps for value in step.outputs}
        self._names = dict(enumerate(tensor.name for tensor in graph.inputs))
        for step in graph.steps:
            for place, output in enumerate(step.outputs):
                self._names[output] = step.layer.name if not place else f"{step.layer.name}_{place}"

    def run(self) -> Graph:
        """Return the graph with fake quantization."""
        for value in range(len(self._graph.inputs)):
            takers = self._graph.consumers(value)
            if value not in self._graph.integers and takers and all(map(self._is_float, takers)):
                # What prepares the input is outside; but the converter can fuse it with what it
                # prepares it for.
                self._passed[value] = self._observed(value)
            else:
                self._finish(value)
        for step in self._graph.steps:
            self._add(step)
        rounded = {v: n for v, n in self._rounded.items() if not self._is_made_in_float(v)}
        outputs = tuple(rounded.get(value, value) for value in self._graph.outputs)
        return replace(self._graph, steps=tuple(self._steps), outputs=outputs, shapes=self._shapes)

    def _add(self, step: Step) -> None:
        kind, value = self._kind(step), step.output
        source = step.inputs[0] if step.inputs else value
        layer = self._wrapped_in(step) if kind in WRAPPED else step.layer
        inputs = tuple(
            self._passed.get(v, v) if self._takes_unrounded(step, v) else self._rounded[v]
            for v in step.inputs
        )
        if kind is None and kind_of(step.layer) not in (None, *WRAPPED):
            # Observing marks a layer that could have been rounded.
            made = self._new(value)
            self._steps.append(replace(step, inputs=inputs, output=made))
            self._observe(made, value, step.layer.name)
        else:
            self._steps.append(replace(step, layer=layer, inputs=inputs))
        for other in step.others:
            self._finish(other)
        if kind == "fixed":
            self._settled.add(value)
            if value not in self._graph.outputs:
                name = f"{step.layer.name}_range"
                self._round(value, self._layer(name, fixed_range(step.layer)))
        elif kind == "composed" and type(step.layer).__name__ in _OWN_SCALE:
            self._settled.add(value)
            self._rounded[value] = value
            if self._is_joined(value):
                self._finish(value)
        elif self._only_moves(step) and not self._takes_unrounded(step, source):
            # Already on the integer grid, which holds 0: padding and selecting remain on it.
            self._settled.add(value)
            self._rounded[value] = value
            if source in self._by:
                self._by[value] = self._by[source]
        elif kind == "averaging" and not self._is_joined(value) and source in self._by:
            self._settled.add(value)
            self._round(value, self._by[source], follow=True)
        else:
            self._finish(value)

    def _finish(self, value: int) -> None:
        """Round a value, unless all its consumers take it unrounded."""
        takers = self._graph.consumers(value)
        if value in self._graph.integers:
            self._rounded[value] = value
            return
        last = value in self._graph.outputs and not self._is_made_in_float(value)
        if last or not all(self._takes_unrounded(step, value) for step in takers):
            root = self._root(value)
            if root not in self._layers:
                weighted = any(
                    self._kind(step) in WRAPPED and step.output == root
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
        if value in self._graph.integers:
            return True
        kind = self._kind(step)
        if kind is None:
            return self._is_made_in_float(value)
        return (
            kind in ("selecting", "joining")
            and value not in self._settled
            and self._root(step.output) == self._root(value)
        )

    def _kind(self, step: Step) -> Kind | None:
        """Return the kind of a step, or None where it computes in float."""
        kind = kind_of(step.layer)
        values = {*step.inputs, *step.outputs}
        if kind is None or step.others or (kind != "looking up" and values & self._graph.integers):
            return None
        if kind == "composed" and not self._is_composed(step):
            return None
        # The activation split off an output layer took over its name.
        if step.layer.name.removesuffix(LINEAR) not in self._exclude:
            return kind
        # What is fused into an integer operator is no operator of its own.
        return kind if self._is_fused(step) and not self._is_made_in_float(step.inputs[0]) else None

    def _only_moves(self, step: Step) -> bool:
        return self._kind(step) == "selecting" and is_transparent(step.layer)

    def _is_composed(self, step: Step) -> bool:
        """Whether a layer of several operators is quantized.

        The scale of a recurrent layer's output is that of its state, which nothing else can
        prescribe: what joins it with other values rounds it again, for nobody else.
        """
        value = step.output
        free = type(step.layer).__name__ not in _OWN_SCALE or not (
            value in self._graph.outputs
            or (self._is_joined(value) and self._graph.only_consumer(value) is None)
        )
        return free and can_compose(step, self._graph)

    def _is_float(self, step: Step) -> bool:
        """Whether a step computes in float."""
        return self._kind(step) is None

    def _is_fused(self, step: Step) -> bool:
        """Whether a step is a clipping that is fused into the operator before it."""
        if kind_of(step.layer) != "selecting" or is_transparent(step.layer):
            return False
        return self._graph.only_consumer(step.inputs[0]) is step

    def _is_made_in_float(self, value: int) -> bool:
        """Whether a value comes from a float layer, a clipping fused into it included."""
        made = self._made.get(value)
        if made is None:
            # An input that only float layers take.
            takers = self._graph.consumers(value)
            return bool(takers) and all(map(self._is_float, takers))
        if kind_of(made.layer) == "selecting" and self._is_fused(made):
            return self._is_made_in_float(made.inputs[0])
        return self._is_float(made)

    def _root(self, value: int) -> int:
        """Return the value whose range this one shares."""
        for step in self._graph.consumers(value):
            if self._leads_to_join(step):
                return self._root(step.output)
        consumer = self._graph.only_consumer(value)
        if consumer is not None and self._kind(consumer) == "selecting":
            return self._root(consumer.output)
        return value

    def _is_joined(self, value: int) -> bool:
        return any(self._leads_to_join(step) for step in self._graph.consumers(value))

    def _leads_to_join(self, step: Step) -> bool:
        """Whether the step's input ends in a concatenation, whose inputs share one scale."""
        kind = self._kind(step)
        return kind == "joining" or (
            kind is not None and is_transparent(step.layer) and self._is_joined(step.output)
        )

    def _wrapped_in(self, step: Step) -> Any:
        """Return the layer that stands for a step's, with rounded weights."""
        from edgekit.training.qat.layers import QuantizedWeights, register

        if id(step.layer) in self._wrapped:
            return self._wrapped[id(step.layer)]
        if kind_of(step.layer) == "composed":
            kind = register()[type(step.layer).__name__]
            composed = kind(
                step.layer,
                [self._clusters(step.layer.name, name) for name in kind.kernel_names],
                name=f"{step.layer.name}_quantized",
            )
            # The layer itself is built already: these are only its ranges and palettes.
            composed.build(*[self._graph.shapes[step.inputs[0]]] * composed.inputs)
            composed.reset()
            self._wrapped[id(step.layer)] = composed
            return composed
        # Depthwise kernels are small and lose much accuracy with few bits.
        bits = self._bits if type(step.layer).__name__ in _NARROW else 8
        name = step.layer.name
        # The activation split off an output layer took over its name.
        clusters = self._clusters(name.removesuffix(LINEAR)) if bits == 8 else 0
        wrapped = QuantizedWeights(step.layer, bits, clusters, name=f"{name}_quantized")
        wrapped.build(self._graph.shapes[step.inputs[0]])
        self._wrapped[id(step.layer)] = wrapped
        return wrapped

    def _clusters(self, layer: str, kernel: str = "") -> int:
        """Return the largest number of distinct weights of a layer's kernel; 0 for any number."""
        names = (f"{layer}/{kernel}".rstrip("/"), f"{layer}/{_POINTWISE}")
        known = (self._palettes.get(name.replace("/", "_"), 0) for name in names)
        return next((clusters for clusters in known if clusters), 0)

    def _observed(self, value: int) -> int:
        """Return the value that observes an input and passes it as it is."""
        number = self._new(value)
        self._observe(value, number, self._names[value])
        return number

    def _observe(self, value: int, number: int, name: str) -> None:
        from edgekit.training.qat.layers import FakeQuantize

        layer = FakeQuantize(passing=True, name=f"{name}_range")
        layer.build(None)
        self._steps.append(Step(layer, (value,), number, {}))

    def _new(self, value: int) -> int:
        """Return the number of a new value, of the shape of another."""
        number = len(self._shapes)
        self._shapes[number] = self._shapes[value]
        return number

    def _layer(self, name: str, fixed: tuple[float, float] | None = None) -> Any:
        from edgekit.training.qat.layers import FakeQuantize

        layer = FakeQuantize(fixed, name=name)
        layer.build(None)
        return layer

    def _round(self, value: int, layer: Any, *, follow: bool = False) -> None:
        number = self._new(value)
        self._steps.append(Step(layer, (value,), number, {"follow": True} if follow else {}))
        self._rounded[value], self._by[value] = number, layer

"""A functional model as a list of layer calls, which can be changed and built again."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.errors import ModelError
from edgekit.training.kernels import use_statistics


@dataclass(frozen=True, slots=True)
class Slot:
    """Place of a tensor among the arguments of a call: `inputs[index]` of its step."""

    index: int


@dataclass(frozen=True, slots=True)
class Step:
    """A call of a layer, or of an operation of keras.ops.

    Attributes:
        layer: The layer, built, with its weights.
        inputs: Numbers of the values it takes.
        output: Number of the value it computes.
        options: Keyword arguments of the call, with a `Slot` for each tensor.
        arguments: Positional arguments, likewise; None for the inputs themselves, in a list where
            there are several.
        others: Numbers of further values it computes.
    """

    layer: Any
    inputs: tuple[int, ...]
    output: int
    options: Mapping[str, Any]
    arguments: tuple[Any, ...] | None = None
    others: tuple[int, ...] = ()

    @property
    def outputs(self) -> tuple[int, ...]:
        """Return the numbers of all values it computes."""
        return (self.output, *self.others)


@dataclass(frozen=True, slots=True)
class Graph:
    """A model as a list of layer calls.

    Attributes:
        name: Name of the model.
        inputs: Its symbolic inputs; their values are numbered from 0.
        steps: Layer calls in an executable order.
        outputs: Numbers of the output values.
        shapes: Value -> shape, batch first.
        integers: The values that are not floating-point: indices, and masks.
    """

    name: str
    inputs: tuple[Any, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    shapes: Mapping[int, tuple[int | None, ...]]
    integers: frozenset[int] = frozenset()

    @property
    def layers(self) -> list[Any]:
        """Return every layer once, in the order of the first calls; operations are no layers."""
        import keras

        found = {id(step.layer): step.layer for step in self.steps}
        return [layer for layer in found.values() if isinstance(layer, keras.layers.Layer)]

    def consumers(self, value: int) -> list[Step]:
        """Return the steps that take a value."""
        return [step for step in self.steps if value in step.inputs]

    def only_consumer(self, value: int) -> Step | None:
        """Return the only consumer of a value that is not an output of the model, or None."""
        found = self.consumers(value)
        return found[0] if len(found) == 1 and value not in self.outputs else None


def record(model: Any) -> Graph:
    """Return the layer calls of a functional or Sequential model, with nested models inlined.

    The layers are copies, with their weights; the model is not changed.

    Raises:
        ModelError: It is subclassed or not built, or a layer returns something else than tensors.
    """
    import keras

    steps: list[Step] = []
    values: dict[int, int] = {}
    shapes: dict[int, tuple[int | None, ...]] = {}
    integers: set[int] = set()
    # id() identifies a tensor only while the tensor is referenced.
    alive: list[Any] = []
    copy = _Copies()

    def number(tensor: Any) -> int:
        if id(tensor) not in values:
            values[id(tensor)] = len(values)
            shapes[values[id(tensor)]] = tuple(tensor.shape)
            if not keras.backend.is_float_dtype(keras.backend.standardize_dtype(tensor.dtype)):
                integers.add(values[id(tensor)])
            alive.append(tensor)
        return values[id(tensor)]

    def call(layer: Any, *args: Any, **options: Any) -> Any:
        if isinstance(layer, keras.Model):
            return walk(layer, keras.tree.flatten(args[0]))
        made = copy(layer)
        result = made(*args, **options)
        _copy_weights(layer, made)
        results = keras.tree.flatten(result)
        if not all(isinstance(value, keras.KerasTensor) for value in results):
            raise ModelError(
                f"Layer {layer.name} returns something else than tensors.", hint="Leave it out."
            )
        tensors: list[Any] = []

        def slot(value: Any) -> Any:
            if not isinstance(value, keras.KerasTensor):
                return value
            tensors.append(value)
            return Slot(len(tensors) - 1)

        kept = {k: v for k, v in options.items() if v is not None and k != "training"}
        placed, named = keras.tree.map_structure(slot, (args, kept))
        inputs = tuple(map(number, tensors))
        first, *others = map(number, results)
        steps.append(Step(made, inputs, first, named, placed, tuple(others)))
        return result

    def walk(part: Any, tensors: list[Any]) -> Any:
        # Keras clones only whole models, and disconnects nested ones in doing so.
        return _functional(part)._run_through_graph(  # noqa: SLF001  see above
            tensors, operation_fn=lambda layer: layer, call_fn=call
        )

    whole = _functional(model)
    inputs = [keras.Input(batch_shape=i.shape, dtype=i.dtype, name=i.name) for i in whole.inputs]
    for tensor in inputs:
        number(tensor)
    found = keras.tree.flatten(walk(whole, inputs))
    outputs = tuple(number(tensor) for tensor in found)
    return Graph(model.name, tuple(inputs), tuple(steps), outputs, shapes, frozenset(integers))


def build(graph: Graph, names: Sequence[str] | None = None) -> Any:
    """Build a functional model from copies of a graph's layers.

    Args:
        graph: The graph.
        names: Names of the layers, one for each step: every call then has a copy of its own.
    """
    import keras

    inputs = [keras.Input(batch_shape=i.shape, dtype=i.dtype, name=i.name) for i in graph.inputs]
    known: dict[int, Any] = dict(enumerate(inputs))
    copy = _Copies()
    for position, step in enumerate(graph.steps):
        layer = copy(step.layer) if names is None else _named(step.layer, names[position])
        taken = [known[value] for value in step.inputs]
        arguments = step.arguments
        if arguments is None:
            arguments = (taken if len(taken) > 1 else taken[0],)
        places, options = keras.tree.map_structure(
            lambda value, taken=taken: taken[value.index] if isinstance(value, Slot) else value,
            (arguments, dict(step.options)),
        )
        results = keras.tree.flatten(layer(*places, **options))
        known.update(zip(step.outputs, results, strict=True))
        _copy_weights(step.layer, layer)
    outputs = [known[value] for value in graph.outputs]
    return keras.Model(_one_or_all(inputs), _one_or_all(outputs), name=graph.name)


def _named(layer: Any, name: str) -> Any:
    """Return a copy of a layer, without its weights."""
    return type(layer).from_config({**layer.get_config(), "name": name})


class _Copies:
    """Copies layers, each once, and gives every copy a unique name."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, Any]] = {}
        self._names: set[str] = set()

    def __call__(self, layer: Any) -> Any:
        import keras

        if id(layer) not in self._made:
            if not isinstance(layer, keras.layers.Layer) and layer.name not in self._names:
                self._names.add(layer.name)
                self._made[id(layer)] = layer, layer  # an operation has no state to copy
                return layer
            config = {"name": layer.name, **layer.get_config()}
            name = config["name"]
            while config["name"] in self._names:
                config["name"] = f"{name}_{len(self._names)}"
            self._names.add(config["name"])
            # The original is kept too, so that its id() is not reused.
            self._made[id(layer)] = type(layer).from_config(config), layer
        return self._made[id(layer)][0]


def _copy_weights(source: Any, destination: Any) -> None:
    if getattr(source, "weights", None):
        destination.set_weights(source.get_weights())
        use_statistics(destination)


def _functional(model: Any) -> Any:
    """Return the model as a plain functional one."""
    import keras

    try:
        return keras.Model(_one_or_all(model.inputs), _one_or_all(model.outputs), name=model.name)
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{model.name} has no graph of layers.",
            found="It is a subclassed model, or was never built.",
            hint="Define it with keras.Model(inputs, outputs), or give it an Input first.",
        ) from error


def _one_or_all(tensors: Any) -> Any:
    return tensors[0] if len(tensors) == 1 else list(tensors)

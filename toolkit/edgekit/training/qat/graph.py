"""A functional model as a list of layer calls, which can be rewritten and built again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.errors import ModelError


@dataclass(frozen=True, slots=True)
class Step:
    """One call of a layer.

    Attributes:
        layer: The layer, built, with its weights.
        inputs: Numbers of the values it takes.
        output: Number of the value it computes.
        options: Further arguments of the call.
    """

    layer: Any
    inputs: tuple[int, ...]
    output: int
    options: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Graph:
    """A model.

    Attributes:
        name: The model's.
        inputs: Its symbolic inputs; their values have the numbers from 0 on.
        steps: In an order in which they can be executed.
        outputs: Numbers of the values that are its outputs.
        shapes: Value -> shape, batch first.
    """

    name: str
    inputs: tuple[Any, ...]
    steps: tuple[Step, ...]
    outputs: tuple[int, ...]
    shapes: Mapping[int, tuple[int | None, ...]]

    def consumers(self, value: int) -> list[Step]:
        """The steps that take a value."""
        return [step for step in self.steps if value in step.inputs]

    def only_consumer(self, value: int) -> Step | None:
        """The step that alone takes a value which nobody else sees, or None."""
        found = self.consumers(value)
        return found[0] if len(found) == 1 and value not in self.outputs else None


def record(model: Any) -> Graph:
    """Write down the calls of a functional or Sequential model, nested models inlined.

    The layers are copies; the model is left as it is.

    Raises:
        ModelError: It is subclassed or not built, or calls a layer with weights twice.
    """
    import keras

    steps: list[Step] = []
    values: dict[int, int] = {}
    shapes: dict[int, tuple[int | None, ...]] = {}
    # A number stands for a tensor only as long as the tensor lives.
    alive: list[Any] = []
    copy = _Copies()

    def number(tensor: Any) -> int:
        if id(tensor) not in values:
            values[id(tensor)] = len(values)
            shapes[values[id(tensor)]] = tuple(tensor.shape)
            alive.append(tensor)
        return values[id(tensor)]

    def call(layer: Any, *args: Any, **options: Any) -> Any:
        if isinstance(layer, keras.Model):
            return walk(layer, keras.tree.flatten(args[0]))
        if not isinstance(layer, keras.layers.Layer):
            raise ModelError(
                f"{model.name} computes with {layer.name} outside of its layers.",
                found=f"{type(layer).__name__} is an operation on tensors.",
                hint="Use the layer of that name, for example keras.layers.Add.",
            )
        made = copy(layer)
        tensors = keras.tree.flatten(args)
        result = made(*args, **options)
        made.set_weights(layer.get_weights())
        if not isinstance(result, keras.KerasTensor):
            raise ModelError(f"Layer {layer.name} has several outputs.", hint="Leave it out.")
        kept = {k: v for k, v in options.items() if v is not None and k != "training"}
        steps.append(Step(made, tuple(map(number, tensors)), number(result), kept))
        return result

    def walk(part: Any, tensors: list[Any]) -> Any:
        # Keras clones models only whole, and nested ones lose their connection on the way.
        return _functional(part)._run_through_graph(  # noqa: SLF001  see above
            tensors, operation_fn=lambda layer: layer, call_fn=call
        )

    whole = _functional(model)
    inputs = [keras.Input(batch_shape=i.shape, dtype=i.dtype, name=i.name) for i in whole.inputs]
    for tensor in inputs:
        number(tensor)
    found = keras.tree.flatten(walk(whole, inputs))
    _check_calls(model, steps)
    return Graph(model.name, tuple(inputs), tuple(steps), tuple(number(t) for t in found), shapes)


def build(graph: Graph) -> Any:
    """Make a functional model of copies of a graph's layers."""
    import keras

    inputs = [keras.Input(batch_shape=i.shape, dtype=i.dtype, name=i.name) for i in graph.inputs]
    known: dict[int, Any] = dict(enumerate(inputs))
    copy = _Copies()
    for step in graph.steps:
        layer = copy(step.layer)
        taken = [known[value] for value in step.inputs]
        known[step.output] = layer(taken if len(taken) > 1 else taken[0], **step.options)
        layer.set_weights(step.layer.get_weights())
    outputs = [known[value] for value in graph.outputs]
    return keras.Model(_one_or_all(inputs), _one_or_all(outputs), name=graph.name)


class _Copies:
    """Copies layers, each once, and gives every copy a name of its own."""

    def __init__(self) -> None:
        self._made: dict[int, tuple[Any, Any]] = {}
        self._names: set[str] = set()

    def __call__(self, layer: Any) -> Any:
        if id(layer) not in self._made:
            config = layer.get_config()
            name = config["name"]
            while config["name"] in self._names:
                config["name"] = f"{name}_{len(self._names)}"
            self._names.add(config["name"])
            # The original is kept beside: its number must not go to another object.
            self._made[id(layer)] = type(layer).from_config(config), layer
        return self._made[id(layer)][0]


def _functional(model: Any) -> Any:
    """The model as a plain functional one."""
    import keras

    try:
        return keras.Model(_one_or_all(model.inputs), _one_or_all(model.outputs), name=model.name)
    except (AttributeError, TypeError, ValueError) as error:
        raise ModelError(
            f"{model.name} has no graph of layers.",
            found="It is a subclassed model, or was never built.",
            hint="Define it with keras.Model(inputs, outputs), or give it an Input first.",
        ) from error


def _check_calls(model: Any, steps: list[Step]) -> None:
    from edgekit.training.qat.layers import FakeQuantize

    # A range may be shared: that is how two tensors get one scale.
    called = [s.layer for s in steps if s.layer.weights and not isinstance(s.layer, FakeQuantize)]
    twice = sorted({layer.name for layer in called if called.count(layer) > 1})
    if twice:
        raise ModelError(
            f"{model.name} calls layers more than once.",
            found=f"Shared: {', '.join(twice)}.",
            hint="Give each call a layer of its own.",
        )


def _one_or_all(tensors: Any) -> Any:
    return tensors[0] if len(tensors) == 1 else list(tensors)

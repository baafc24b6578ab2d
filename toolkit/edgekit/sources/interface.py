"""Inputs and outputs of a Keras model, by the names its author gave."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from edgekit.errors import ModelError
from edgekit.records import TensorSpec

Example = Mapping[str, tuple[int, ...]]
Call = Callable[[Sequence[Any]], Sequence[Any]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Interface:
    """Inputs and outputs of a model, and a function from the former to the latter.

    Attributes:
        inputs: Inputs with batch size 1, in the order of `call`'s arguments.
        outputs: Outputs with batch size 1, in the order `call` returns them.
        call: Inference on tensors in these orders.
        parameters: Number of weights.
    """

    inputs: tuple[TensorSpec, ...]
    outputs: tuple[TensorSpec, ...]
    call: Call
    parameters: int

    @classmethod
    def of(
        cls,
        run: Callable[[Sequence[Any]], Any],
        inputs: tuple[TensorSpec, ...],
        names: Sequence[str] | None = None,
        *,
        declared: Any = None,
        parameters: Callable[[], int],
        what: str,
    ) -> Interface:
        """Add the shapes of the outputs to an interface.

        If they are not declared, the model is run once on zeros.

        Args:
            run: The model; it may return a tensor, or any structure of tensors.
            inputs: Its inputs.
            names: Names of its outputs; None takes the keys of the dictionary it returns, or
                `output_0`, ...
            declared: Its outputs, where their shapes are known without running it.
            parameters: Counts the weights; called after the run, which may create them.
            what: Name of the model in messages.

        Raises:
            ModelError: It does not run.
        """
        import tensorflow as tf

        def call(tensors: Sequence[Any]) -> Sequence[Any]:
            flat: Sequence[Any] = tf.nest.flatten(run(tensors))
            return flat

        try:
            zeros = [tf.zeros(spec.shape, spec.dtype) for spec in inputs]
            result = run(zeros) if declared is None else declared
        except Exception as error:  # the model's own code may raise anything
            shapes = ", ".join(f"{spec.name} {list(spec.shape)}" for spec in inputs)
            raise ModelError(
                f"{what} does not run on one sample of zeros ({shapes}).",
                found=f"{type(error).__name__}: {str(error).strip().partition(chr(10))[0][:200]}",
                hint="Check that it works in Keras: model(sample, training=False).",
            ) from error
        found = tf.nest.flatten(result)
        outputs = tuple(
            TensorSpec(name=name, shape=(1, *tensor.shape[1:]), dtype=_dtype_name(tensor.dtype))
            for name, tensor in zip(names or _keys(result), found, strict=True)
        )
        return cls(inputs=inputs, outputs=outputs, call=call, parameters=parameters())


def interface_of(model: Any, what: str, example: Example | None) -> Interface:
    """Describe a Keras model: functional, Sequential or subclassed, of Keras 2 or 3.

    Args:
        model: The model.
        what: Name of its file in messages.
        example: Input name -> shape of a batch, for dimensions the model leaves open.

    Raises:
        ModelError: A dimension is unknown and not in the example, or the model does not run.
    """
    if getattr(model, "inputs", None):
        return _declared(model, what, example)
    return _undeclared(model, what, example)


def filled_shape(
    what: str,
    name: str,
    shape: tuple[int | None, ...],
    example: Example | None,
    *,
    only: bool,
) -> tuple[int, ...]:
    """Set the batch size to 1, and unknown dimensions to those of the example.

    Args:
        what: Name of the model in messages.
        name: Name of the input.
        shape: Declared shape; `()` where the rank is unknown.
        example: Input name -> shape of a batch.
        only: Whether this is the model's only input, to which any name in `example` refers.

    Raises:
        ModelError: A dimension remains unknown.
    """
    if shape and None not in shape[1:]:
        return (1, *(int(size) for size in shape[1:] if size is not None))
    given: tuple[int, ...] | None = None
    if example:
        given = next(iter(example.values())) if only and len(example) == 1 else example.get(name)
    if given is not None and not shape:
        return (1, *given[1:])
    if given is not None and len(given) == len(shape) - 1 and shape[-1] == 1:
        given = (*given, 1)  # gray images without a channel axis
    if given is None or len(given) != len(shape):
        written = ", ".join("?" if size is None else str(size) for size in shape[1:])
        raise ModelError(
            f"{what} does not fix the size of its input {name!r} is: [{written}].",
            found=None if given is None else f"The data has {list(given[1:])}.",
            hint="Give --data, whose samples set the size, or save the model with a fixed Input.",
        )
    filled = [g if size is None else int(size) for size, g in zip(shape, given, strict=True)]
    return (1, *filled[1:])


def _declared(model: Any, what: str, example: Example | None) -> Interface:
    import tensorflow as tf

    names = _distinct(_layer_name(tensor) for tensor in model.inputs)
    inputs = tuple(
        TensorSpec(
            name=name,
            shape=filled_shape(
                what, name, tuple(tensor.shape), example, only=len(model.inputs) == 1
            ),
            dtype=_dtype_name(tensor.dtype),
        )
        for name, tensor in zip(names, model.inputs, strict=True)
    )
    # A Sequential model that was saved unbuilt has no `input`, only `inputs`.
    structure = model.input if hasattr(model, "input") else model.inputs[0]
    returned = model.output if hasattr(model, "output") else model.outputs[0]
    known = all(None not in tensor.shape[1:] for tensor in (*model.inputs, *model.outputs))

    def run(tensors: Sequence[Any]) -> Any:
        return model(tf.nest.pack_sequence_as(structure, list(tensors)), training=False)

    return Interface.of(
        run,
        inputs,
        None
        if isinstance(returned, dict)
        else _distinct(_layer_name(tensor) for tensor in model.outputs),
        declared=returned if known else None,
        parameters=lambda: int(model.count_params()),
        what=what,
    )


def _undeclared(model: Any, what: str, example: Example | None) -> Interface:
    """Describe a subclassed model, whose file stores shapes but no signature."""
    arguments = [
        p.name
        for p in inspect.signature(model.call).parameters.values()
        if p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD)
        and p.name not in ("training", "mask")
    ]
    config = model.get_build_config() if hasattr(model, "get_build_config") else None
    built = (config or {}).get("input_shape")
    many = example is not None and len(example) > 1 and set(example) <= set(arguments)
    shapes: dict[str, tuple[int | None, ...]]
    if many and example is not None:
        shapes = {name: tuple(example[name]) for name in arguments if name in example}
    elif isinstance(built, Mapping):
        shapes = {name: tuple(shape) for name, shape in sorted(built.items())}
    elif built and isinstance(built[0], list | tuple):
        shapes = {f"{arguments[0]}_{i}": tuple(shape) for i, shape in enumerate(built)}
    else:
        shapes = {arguments[0]: tuple(built or ())}
    dtype = _dtype_name(getattr(model, "input_dtype", None) or model.compute_dtype)
    inputs = tuple(
        TensorSpec(
            name=name,
            shape=filled_shape(what, name, shape, example, only=len(shapes) == 1),
            dtype=dtype,
        )
        for name, shape in shapes.items()
    )

    def run(tensors: Sequence[Any]) -> Any:
        named = dict(zip(shapes, tensors, strict=True))
        if many:
            return model(**named, training=False)
        if isinstance(built, Mapping):
            return model(named, training=False)
        return model(tensors[0] if len(shapes) == 1 else list(tensors), training=False)

    return Interface.of(
        run,
        inputs,
        parameters=lambda: int(model.count_params()),
        what=what,
    )


def _keys(structure: Any) -> list[str]:
    """Return names for the tensors of a structure, in the order in which it is flattened."""
    import tensorflow as tf

    count = len(tf.nest.flatten(structure))
    if isinstance(structure, dict) and len(structure) == count:
        return sorted(structure)
    return [f"output_{i}" for i in range(count)]


def _layer_name(tensor: Any) -> str:
    """Return the name of the layer that computed a symbolic tensor, in Keras 3 or 2."""
    history = tensor._keras_history if hasattr(tensor, "_keras_history") else None  # noqa: SLF001  the only place that has it
    return str(history[0].name if history else tensor.name)


def _distinct(names: Any) -> list[str]:
    """Make names unique by numbers: a, a -> a, a_1."""
    seen: list[str] = []
    for name in names:
        fresh, count = name, 0
        while fresh in seen:
            count += 1
            fresh = f"{name}_{count}"
        seen.append(fresh)
    return seen


def _dtype_name(dtype: Any) -> str:
    return str(getattr(dtype, "name", dtype))

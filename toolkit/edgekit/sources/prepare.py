"""Bring a model into the form that edgekit works with: float32, any batch size, fixed sizes.

The file is not changed; these are copies, compared with it on samples of noise.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import numpy as np

from edgekit.errors import ModelError
from edgekit.sources.interface import Example, interface_of
from edgekit.sources.reconfigure import (
    Edit,
    check_same,
    difference,
    half_precision,
    noise,
    reloaded,
    to_float32,
)
from edgekit.sources.state import State

Restore = Mapping[str, Mapping[str, Any]]
"""Name of a layer -> arguments that are set back in the file a pass writes."""
NOTHING: Final[Restore] = {}

_SAMPLES: Final = 2
_SAME: Final = 1e-3
# Half precision has 11 significant bits, or 8; a few layers of noise add up.
_SAME_IN_HALF: Final = {"float16": 0.1, "mixed_float16": 0.1}
_SAME_IN_BFLOAT16: Final = 0.25

_Shape = tuple[int | None, ...]
_Input = tuple[str, _Shape]
"""Name and shape of an input layer."""


def full_precision(
    model: Any, what: str, objects: Mapping[str, Any], example: Example | None
) -> tuple[Any, str | None]:
    """Return a model with a float32 policy in place of one of half precision, and what to say.

    Args:
        model: A Keras 3 model; it is returned itself where it has full precision.
        what: Name of its file in messages.
        objects: Custom classes and functions by name.
        example: Input name -> shape of a batch; fills dimensions the model leaves open.

    Raises:
        ModelError: It cannot be built again, or computes something else then.
    """
    half = half_precision(model)
    if half is None:
        return model, None
    hint = (
        'Build it after keras.config.set_dtype_policy("float32"), give it the same weights '
        "(set_weights), and save that."
    )
    try:
        full = reloaded(model, to_float32, objects)
    except Exception as error:  # the model's own classes raise anything
        raise ModelError(
            f"{what} has the policy {half}, and cannot be built again in float32.",
            found=_line(error),
            hint=hint,
        ) from error
    largest = _difference(model, full, what, example, _SAMPLES)
    allowed = _SAME_IN_HALF.get(half, _SAME_IN_BFLOAT16)
    check_same(f"{what}, built again in float32 in place of {half},", largest, allowed, hint)
    return full, (
        f"{what} was loaded in float32 in place of {half}: on noise its outputs differ by at most "
        f"{largest:.2%} of their range."
    )


def free_batch(
    model: Any, what: str, objects: Mapping[str, Any], example: Example | None
) -> tuple[Any, str | None]:
    """Return a model that takes single samples in place of one for batches, and what to say.

    Target shapes of `keras.ops.reshape` that begin with the batch size begin with -1 then.

    Args:
        model: A Keras 3 model; it is returned itself where its batch size is open, or 1.
        what: Name of its file in messages.
        objects: As for `full_precision`.
        example: As for `full_precision`.

    Raises:
        ModelError: An operator inside depends on the batch size; it is named.
    """
    fixed = {tensor.shape[0] for tensor in getattr(model, "inputs", None) or ()} - {None, 1}
    if not fixed:
        return model, None
    (batch,) = fixed if len(fixed) == 1 else (max(fixed),)
    # Keras keeps a state for a known number of sequences.
    size = 1 if _stateful(model) else None
    shapes = {_place(tensor): (size, *tensor.shape[1:]) for tensor in model.inputs}
    hint = (
        f"Save it without a batch size: Input(shape) in place of batch_shape, and -1 where {batch} "
        "is written in a shape."
    )
    try:
        free = reloaded(model, _resized(model, shapes), objects)
    except Exception as error:  # the model's own classes raise anything
        raise _baked(what, batch, _line(error), hint) from error
    interface = interface_of(free, what, example)
    single = noise(interface.inputs, 1)
    try:
        rows = {len(output) for output in interface.call(single)}
    except Exception as error:
        raise _baked(what, batch, _failing(free, single) or _line(error), hint) from error
    if rows != {1}:
        found = _failing(free, single) or "It returns a whole batch for one sample."
        raise _baked(what, batch, found, hint)
    if not _stateful(model):
        whole = interface_of(model, what, example).call(noise(interface.inputs, batch))
        many = interface.call(noise(interface.inputs, batch))
        check_same(
            f"{what}, freed from its batch size of {batch},", difference(whole, many), _SAME, hint
        )
    return free, f"{what} was saved for batches of {batch}, and loaded for single samples."


def without_adapters(
    model: Any, what: str, objects: Mapping[str, Any], example: Example | None
) -> tuple[Any, str | None]:
    """Return a model whose LoRA adapters are part of its kernels, and what to say.

    Args:
        model: A Keras 3 model; it is returned itself where it has none.
        what: As for `full_precision`.
        objects: As for `full_precision`.
        example: As for `full_precision`.

    Raises:
        ModelError: Keras quantized it, so that its kernels are codes, or it cannot be built again.
    """
    layers = list(model._flatten_layers())  # noqa: SLF001  Keras has no public way to layers inside layers
    coded = [layer for layer in layers if getattr(layer, "quantization_mode", None)]
    if coded:
        first = coded[0]
        raise ModelError(
            f"{what} was quantized by Keras, and its kernels cannot be trained.",
            found=f"{first.name} ({type(first).__name__}) is stored as {first.quantization_mode}.",
            hint="Give the model as it was before model.quantize().",
        )
    if not any(getattr(layer, "lora_enabled", False) for layer in layers):
        return model, None

    def edit(entry: dict[str, Any]) -> None:
        if "lora_rank" in entry:
            entry["lora_rank"] = None

    # Keras saves kernels with their adapters added.
    merged = reloaded(model, edit, objects)
    largest = _difference(model, merged, what, example, _SAMPLES)
    hint = "Save it without enable_lora."
    check_same(f"{what}, with its LoRA adapters merged,", largest, _SAME, hint)
    return merged, f"The LoRA adapters of {what} were merged into its kernels."


def for_training(
    model: Any, what: str, objects: Mapping[str, Any], example: Example | None
) -> tuple[Any, str | None, Restore]:
    """Return a model that can be trained, what to say, and what to set back in a pass's file.

    Recurrent layers start every sample from the initial state, batches have any size, and open
    sizes are those of the data.

    Args:
        model: A Keras 3 model.
        what: As for `full_precision`.
        objects: As for `full_precision`.
        example: As for `full_precision`.

    Raises:
        ModelError: The model cannot be built again so, or computes something else then.
    """
    model = _without_list(model)
    stateful = _stateful(model)
    interface = interface_of(model, what, example)
    trained = model
    restore: dict[str, Mapping[str, Any]] = {name: {"stateful": True} for name in stateful}
    for _ in range(_depth(model)):
        changed = _open_inputs(trained, interface.inputs if trained is model else ())
        if not (changed or (stateful and trained is model)):
            break
        for name, old in changed:
            if None in old[1:] or stateful:
                restore.setdefault(name, {"batch_shape": list(old)})
        try:
            trained = reloaded(trained, _resized(trained, changed, stateful=stateful), objects)
        except Exception as error:  # the model's own classes raise anything
            raise ModelError(
                f"{what} cannot be built again for training, with inputs of a fixed size and "
                "without state.",
                found=_line(error),
                hint="Build it with keras.Input(shape) of fixed sizes and stateful=False, give it "
                "the same weights (set_weights), and save that.",
            ) from error
    if trained is not model:
        _check_trained(model, trained, what, example)
    note = f"{', '.join(stateful)} is trained from the initial state at every sample."
    return trained, note if stateful else None, restore


def _without_list(model: Any) -> Any:
    """Return a functional model that takes its only input itself, not in a list."""
    import keras

    listed = type(model).__name__ == "Functional" and isinstance(model.input, list)
    if listed and len(model.inputs) == 1:
        return keras.Model(model.inputs[0], model.output, name=model.name)
    return model


def _check_trained(model: Any, trained: Any, what: str, example: Example | None) -> None:
    """Compare samples one by one, each from the initial state, with the same ones in a batch.

    Raises:
        ModelError: They differ.
    """
    hint = "Save it with keras.Input(shape), without a batch size, and with stateful=False."
    one, many = (interface_of(each, what, example) for each in (model, trained))
    arrays = noise(many.inputs, _SAMPLES)
    alone = []
    for row in range(_SAMPLES):
        State(model)  # sets it back
        alone.append(one.call([values[row : row + 1] for values in arrays]))
    try:
        together = many.call(arrays)
    except Exception as error:  # the model's own code raises anything
        raise _baked(what, 1, _failing(trained, arrays) or _line(error), hint) from error
    singles = [np.concatenate(outputs) for outputs in zip(*alone, strict=True)]
    check_same(f"{what}, built again for training,", difference(singles, together), _SAME, hint)


def _depth(model: Any) -> int:
    """Return how often sizes may have to be handed down: once for each level of nested models."""
    nested = [layer for layer in model.layers if hasattr(layer, "layers")]
    return 1 + max(map(_depth, nested), default=0)


def _place(tensor: Any) -> _Input:
    """Return the name and the shape of the input layer that makes a symbolic tensor."""
    return tensor._keras_history[0].name, tuple(tensor.shape)  # noqa: SLF001  the only place that has it


def _open_inputs(model: Any, specs: Sequence[Any]) -> dict[_Input, _Shape]:
    """Return inputs with open sizes, or a fixed batch -> the shapes to give them.

    Args:
        model: The model.
        specs: Its inputs with sizes, for the model as it was saved; later only nested models have
            open inputs, whose sizes the models around them give.
    """
    changed: dict[_Input, _Shape] = {}
    for tensor, spec in zip(getattr(model, "inputs", None) or (), specs, strict=False):
        wanted = (None, *spec.shape[1:])
        if tuple(tensor.shape) != wanted:
            changed[_place(tensor)] = wanted
    for layer in () if changed else getattr(model, "layers", ()):
        if not getattr(layer, "inputs", None):
            continue
        calls = [node.input_tensors for node in layer._inbound_nodes]  # noqa: SLF001  no public name
        for inside, *tensors in zip(layer.inputs, *calls, strict=False):
            sizes = {tuple(tensor.shape[1:]) for tensor in tensors}
            # A model that is called with several sizes stays open.
            if None in inside.shape[1:] and len(sizes) == 1 and None not in min(sizes):
                changed[_place(inside)] = (None, *min(sizes))
        changed = {**_open_inputs(layer, ()), **changed}
    return changed


def _resized(model: Any, shapes: Mapping[_Input, _Shape], *, stateful: Sequence[str] = ()) -> Edit:
    """Return an edit that gives inputs other shapes, and makes layers stateless."""
    made = {
        operation.name: tuple(operation.output.shape)
        for operation in getattr(model, "operations", ())
        if type(operation).__name__ == "Reshape" and hasattr(operation, "newshape")
    }
    batches = {old[0] for _, old in shapes} - {None}
    built = {old: new for (_, old), new in shapes.items()}

    def edit(entry: dict[str, Any]) -> None:
        config = entry.get("config")
        if isinstance(config, dict) and config.get("stateful") is True:
            entry.pop("build_config", None)  # it holds the batch size; Keras builds it anew
        for key in ("batch_shape", "input_shape", "build_input_shape"):
            value = entry.get(key)
            if isinstance(value, list) and all(size is None or type(size) is int for size in value):
                size = tuple(value)
                default = size if key == "batch_shape" else built.get(size, size)
                entry[key] = list(shapes.get((str(entry.get("name")), size), default))
        if entry.get("stateful") is True and entry.get("name") in stateful:
            entry["stateful"] = False
        target = entry.get("newshape")
        if isinstance(target, list) and target and target[0] in batches:
            static = made.get(str(entry.get("name")), ())
            if len(static) == len(target) and None not in static[1:]:
                entry["newshape"] = [-1, *static[1:]]

    return edit


def _stateful(model: Any) -> list[str]:
    return [
        layer.name
        for layer in model._flatten_layers()  # noqa: SLF001  Keras has no public way to layers inside layers
        if getattr(layer, "stateful", False) and hasattr(layer, "reset_state")
    ]


def _difference(one: Any, other: Any, what: str, example: Example | None, n: int) -> float:
    first, second = (interface_of(each, what, example) for each in (one, other))
    arrays = noise(second.inputs, n)
    return difference(first.call(arrays), second.call(arrays))


def _failing(model: Any, arrays: Sequence[Any]) -> str | None:
    """Return what is known of the operation that a functional model fails at."""
    import keras

    failed: list[str] = []

    def watched(operation: Any) -> Callable[..., Any]:
        def run(*args: Any, **kwargs: Any) -> Any:
            name = f"{operation.name} ({type(operation).__name__})"
            try:
                made = operation(*args, **kwargs)
            except Exception:
                failed.append(name)
                raise
            if any(len(part) != len(arrays[0]) for part in keras.tree.flatten(made)):
                failed.append(name)
            return made

        return run

    with contextlib.suppress(Exception):
        model._run_through_graph(list(arrays), operation_fn=watched)  # noqa: SLF001  one operation at a time, in no public way
    return f"{failed[0]} does not take a single sample." if failed else None


def _baked(what: str, batch: int, found: str, hint: str) -> ModelError:
    return ModelError(f"{what} works on batches of {batch} only.", found=found, hint=hint)


def _line(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:200]

"""Layers of a Keras model in their serialised form, found by names of TFLite operators."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

from edgekit.training.adapting.swaps import (
    SWAPS,
    WEIGHTED,
    Entry,
    Shape,
    Swap,
    is_operation,
    why_no_swap,
)
from edgekit.training.kernels import check_names, means, use_statistics

_NUMBER: Final = re.compile(r"_\d+(?=/|$)")
# Operators that operations of another name are written as.
_OPERATIONS: Final[Mapping[str, tuple[str, ...]]] = {
    "HARD_SWISH": ("hardsilu",),
    "EXP": ("celu", "logsigmoid"),
    "LOG": ("softplus", "logsigmoid"),
    "SQRT": ("squareplus",),
    "DIV": ("softsign",),
    "SELECT": ("selu",),
}
_EXCLUDED: Final = "excluded"

Chosen = Mapping[tuple[str, str], str]
"""Layer and name of the swap -> name of the replacement; a layer may have several swaps."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Site:
    """A layer whose operators a target does not take.

    Attributes:
        layer: Its name in the Keras model, behind those of enclosing models; that of its operators
            where there is no such layer.
        operators: Names of the operators.
        swap: Name of the swap; None where there is none.
        replacements: Names of its replacements that fit this layer.
        why: Why there is no swap.
    """

    layer: str
    operators: tuple[str, ...]
    swap: str | None = None
    replacements: tuple[str, ...] = ()
    why: str = ""

    @property
    def part(self) -> tuple[str, bool]:
        """The layer, and whether it is its weights whose operators are in the way."""
        return self.layer, WEIGHTED.issuperset(self.operators)


def sites(
    model: Any, config: Entry, blocked: Mapping[str, Sequence[str]], exclude: Sequence[str] = ()
) -> tuple[Site, ...]:
    """Find the layers behind operators, and their swaps.

    A layer stands there twice where both the operators of its weights and those beside them have a
    swap, such as dilation and an activation function.

    Args:
        model: A Keras model.
        config: Its serialised form.
        blocked: Layer name of operators, as `tflite.naming` finds it -> names of operators.
        exclude: Layers that are left as they are, by names or regular expressions.

    Raises:
        UsageError: As `kernels.check_names`.
    """
    entries = dict(_entries(config))
    check_names(exclude, entries)
    shapes = dict(_shapes(model, ""))
    found: dict[str, list[str]] = {}
    for name, operators in blocked.items():
        path = owner(name, tuple(entries))
        for operator in operators:
            for one in [path] if path else _by_operator(operator, entries) or [name]:
                found.setdefault(one, []).append(operator)
    return tuple(
        site
        for path, operators in found.items()
        for site in _sites_of(
            path, tuple(dict.fromkeys(operators)), entries, shapes.get(path, ()), exclude
        )
    )


def _sites_of(
    path: str,
    operators: tuple[str, ...],
    entries: Mapping[str, Entry],
    shape: Shape,
    exclude: Sequence[str],
) -> tuple[Site, ...]:
    entry = entries.get(path)
    if entry is None:
        return (Site(layer=path, operators=operators, why="it belongs to no layer of the model"),)
    if any(means(name, path) for name in exclude):
        return (Site(layer=path, operators=operators, why=_EXCLUDED),)
    of_weights = tuple(name for name in operators if name in WEIGHTED)
    beside = tuple(name for name in operators if name not in WEIGHTED)
    found = tuple(_site(path, part, entry, shape) for part in (of_weights, beside) if part)
    if any(site.swap for site in found):
        return found
    return (Site(layer=path, operators=operators, why=why_no_swap(entry, weights=not beside)),)


def _site(path: str, operators: tuple[str, ...], entry: Entry, shape: Shape) -> Site:
    weights = WEIGHTED.issuperset(operators)
    for swap in SWAPS:
        if swap.of_weights != weights or not swap.applies(entry, shape):
            continue
        fitting = tuple(one.name for one in swap.replacements if one.fits(entry, shape))
        if fitting:
            return Site(layer=path, operators=operators, swap=swap.name, replacements=fitting)
    return Site(layer=path, operators=operators, why=why_no_swap(entry, weights=weights))


def replace_layers(model: Any, config: Entry, chosen: Chosen) -> None:
    """Replace layers in a model's serialised form, in place.

    Args:
        model: The model.
        config: Its serialised form.
        chosen: What is replaced, by what.
    """
    shapes, entries = dict(_shapes(model, "")), dict(_entries(config))
    for (path, swap), wanted in chosen.items():
        (found,) = (one for one in _swap(swap).replacements if one.name == wanted)
        found.rewrite(entries[path], shapes.get(path, ()))


def _swap(name: str) -> Swap:
    return next(swap for swap in SWAPS if swap.name == name)


def carry_weights(old: Any, new: Any) -> None:
    """Give a rewritten model the weights of the original.

    Where fewer values are shared by more positions, they are the means of those they stand for.

    Args:
        old: The original.
        new: A model of the same layers, some of them replaced.
    """
    originals = dict(_leaves(old, ""))
    for path, layer in _leaves(new, ""):
        if path in originals:
            _carry(originals[path], layer)
    use_statistics(new)


def _carry(old: Any, new: Any) -> None:
    for one, other in zip(old.weights, new.weights, strict=False):
        values, shape = np.asarray(one), tuple(other.shape)
        if values.shape != shape and values.ndim == len(shape):
            wider = [axis for axis, size in enumerate(shape) if size == 1]
            values = values.mean(axis=tuple(wider), keepdims=True)
        if values.shape == shape:
            other.assign(values)


def owner(name: str, paths: Sequence[str]) -> str | None:
    """Return the layer to which operators belong.

    Args:
        name: Their layer name: the layer's path, perhaps without enclosing models, with the numbers
            that Keras gives to scopes, and with the names of what is inside the layer.
        paths: Those of all layers.
    """
    for told in dict.fromkeys((name, _NUMBER.sub("", name))):
        inside = [path for path in paths if told == path or told.startswith(f"{path}/")]
        if inside:
            return max(inside, key=len)
        without_models = [
            path
            for path in paths
            if any(told == end or told.startswith(f"{end}/") for end in _ends(path))
        ]
        if without_models:
            return without_models[0]
    return None


def _ends(path: str) -> list[str]:
    parts = path.split("/")
    return ["/".join(parts[start:]) for start in range(1, len(parts))]


def _by_operator(operator: str, entries: Mapping[str, Entry]) -> list[str]:
    """Return the operations of `keras.ops` that may be written as an operator.

    They are no layers, so that their operators carry the name of no layer.
    """
    names = {operator.replace("_", "").lower(), *_OPERATIONS.get(operator, ())}
    return [
        path
        for path, entry in entries.items()
        if is_operation(entry) and str(entry["class_name"]).lower() in names
    ]


def _entries(config: Entry, prefix: str = "") -> Iterator[tuple[str, Entry]]:
    """Yield every layer of a serialised model with its path, those of models in it likewise."""
    inner = config.get("config")
    for entry in inner.get("layers", ()) if isinstance(inner, dict) else ():
        own = entry.get("config")
        if not isinstance(own, dict) or not isinstance(own.get("name"), str):
            continue
        path = f"{prefix}{own['name']}"
        if isinstance(own.get("layers"), list):
            yield from _entries(entry, f"{path}/")
            continue
        yield path, entry
        wrapped = own.get("layer")
        if isinstance(wrapped, dict) and isinstance(wrapped.get("config"), dict):
            yield f"{path}/{wrapped['config'].get('name')}", wrapped


def _leaves(model: Any, prefix: str) -> Iterator[tuple[str, Any]]:
    """Yield every layer of a model that is no model, with its path."""
    import keras

    for layer in model.layers:
        if isinstance(layer, keras.Model):
            yield from _leaves(layer, f"{prefix}{layer.name}/")
        else:
            yield f"{prefix}{layer.name}", layer


def _shapes(model: Any, prefix: str) -> Iterator[tuple[str, Shape]]:
    for path, layer in _leaves(model, prefix):
        try:
            shape = layer.input.shape
        except (AttributeError, ValueError):  # several inputs, or several calls
            continue
        yield path, tuple(shape)

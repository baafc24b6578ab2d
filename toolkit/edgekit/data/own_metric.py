"""Metrics as the user names them: edgekit's by name, their own as a function.

`file.py:function` and `package.module:function` are run because the user named them, as data is
(`formats.function`). `:lower` or `:higher` behind it, or the function's attribute
`higher_is_better`, says which way is better; higher where neither does.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from contextlib import suppress
from typing import Any, Final, cast, get_args

import numpy as np

from edgekit.data.formats.function import is_function, load_function
from edgekit.data.formats.users_code import failure_of, hint_for
from edgekit.errors import DataError, EdgekitError, UsageError
from edgekit.evaluation.metrics import METRICS, Metric, Unit, metric_named, own_metric
from edgekit.printable import one_line, printable
from edgekit.records import Array

Asked = str | Metric | Callable[[Any, Any], Any]
"""A name of `evaluation.metrics`, `file.py:function`, a function, or a `Metric`."""

DIRECTIONS: Final = {"higher": True, "lower": False}


def asked_metrics(given: Asked | Sequence[Asked] | None) -> tuple[str | Metric, ...]:
    """Return the metrics that are asked for, the judged one first; none: the default.

    Raises:
        UsageError: There is no such metric, or one is asked for twice.
        DataError: A function is not there, or its file cannot be run.
    """
    if given is None:
        return ()
    single = isinstance(given, str | Metric) or not isinstance(given, Sequence)
    found = tuple(map(_asked, cast("Sequence[Asked]", (given,) if single else given)))
    names = [one.name if isinstance(one, Metric) else one for one in found]
    if twice := [name for name in names if names.count(name) > 1]:
        raise UsageError(f"The metric {twice[0]!r} is asked for twice.", hint="Name each once.")
    return found


def _asked(one: Asked) -> str | Metric:
    if isinstance(one, Metric):
        return one
    if not isinstance(one, str):
        if not callable(one):
            raise UsageError(
                f"A metric is a name or a function, not {type(one).__name__}.",
                hint=f"Known: {', '.join(METRICS)}.",
            )
        return _as_metric(one, getattr(one, "__name__", "metric"), "own", None)
    if ":" not in one:
        return metric_named(one).name
    spec, _, last = one.rpartition(":")
    if not (is_function(spec) and last in DIRECTIONS):
        spec, last = one, ""
    if not is_function(spec):
        raise UsageError(
            f"{one!r:.80} names no function.",
            hint="Give file.py:function, or file.py:function:lower where less is better.",
        )
    function = load_function(spec)
    place, _, name = spec.rpartition(":")
    return _as_metric(function, name, place, DIRECTIONS.get(last), spec)


def _check_arguments(function: Callable[..., Any], spec: str, name: str) -> None:
    """Raise a `DataError` where a function does not take outputs and targets."""
    try:
        signature = inspect.signature(function)
    except ValueError:  # not every function that is compiled tells
        return
    try:
        signature.bind(None, None)
    except TypeError as error:
        raise DataError(
            f"The metric {spec} does not take outputs and targets.",
            found=f"It is {name}{signature}.",
            hint=f"Define {name}(outputs, targets), which returns a number.",
        ) from error


def _as_metric(
    function: Callable[[Any, Any], Any],
    name: str,
    place: str,
    higher: bool | None,
    spec: str = "",
) -> Metric:
    """Return a function as a metric, under a name that none of edgekit's has."""
    _check_arguments(function, spec or name, name)
    name = printable(name if name.isidentifier() else "metric")
    if name in METRICS:
        name = f"{place.rpartition('/')[2].removesuffix('.py')}.{name}"
    declared = getattr(function, "higher_is_better", True)
    unit = getattr(function, "unit", "quantity")
    if unit not in get_args(Unit):
        raise UsageError(
            f"{spec or name}: its unit is {unit!r:.40}.",
            hint=f"Known: {', '.join(get_args(Unit))}.",
        )
    said = (inspect.getdoc(function) or "").partition("\n")[0]
    return own_metric(
        name,
        _checked(function, spec or name),
        higher_is_better=bool(declared) if higher is None else higher,
        unit=cast("Unit", unit),
        meaning=one_line(said),
    )


def _checked(function: Callable[[Any, Any], Any], place: str) -> Callable[[Array, Array], float]:
    """Return the function with its errors told by its own line, and its result checked."""

    def call(outputs: Array, targets: Array) -> float:
        given = [values.view() for values in (outputs, targets)]
        for values in given:
            values.flags.writeable = False  # the next metric is given the same
        try:
            result = function(*given)
        except EdgekitError:
            raise
        except (Exception, SystemExit) as error:
            raise DataError(
                f"The metric {place} failed.",
                found=failure_of(error),
                hint=hint_for(error),
            ) from error
        return _number(result, place)

    return call


def _number(result: Any, place: str) -> float:
    number = None
    if not isinstance(result, str | bytes) and np.shape(result) == ():
        with suppress(TypeError, ValueError):
            number = float(result)
    if number is None or not np.isfinite(number):
        raise DataError(
            f"The metric {place} returned no finite number.",
            found=f"It is {type(result).__name__ if number is None else number}.",
            hint="Return one number for the outputs [n, ...] and targets [n, ...] it is given.",
        )
    return number

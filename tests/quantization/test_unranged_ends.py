"""Inputs and outputs beside layers that training for int8 left in float."""

from __future__ import annotations

from dataclasses import replace

import pytest
from test_writer import add, graph_of
from test_writer_ends import shaped

from edgekit.errors import ConversionError
from edgekit.quantization import learned, make, read_float_graph
from edgekit.quantization.variant import QuantizedModel
from edgekit.recipe import default_plan
from edgekit.records import Plan, Ranges, Rule
from edgekit.tflite import write

INT8 = default_plan("int8")


def made(plan: Plan, ranged: list[str]) -> QuantizedModel:
    """Of three sums, `first` and `y` are float by rules, as trained."""
    steps = [
        ("ADD", ["x", "x"], "first", add()),
        ("ADD", ["first", "first"], "middle", add()),
        ("ADD", ["middle", "middle"], "y", add()),
    ]
    model = shaped(graph_of(steps, {}))
    rules = tuple(Rule(layers=f"^{name}$", mode="float32") for name in ("first", "y"))
    ranges = Ranges(
        method="trained",
        low=dict.fromkeys(ranged, -2.0),
        high=dict.fromkeys(ranged, 2.0),
        n=0,
    )
    return make(
        replace(plan, rules=rules),
        read_float_graph(write(model)),
        observe=lambda _: learned(ranges),
    )


def test_ends_with_a_range_are_integers_beside_float_layers() -> None:
    plan = made(INT8, ["x", "first", "middle", "y"]).plan
    assert (plan.input_type, plan.output_type) == ("int8", "int8")


def test_ends_without_a_range_are_float_and_that_is_said() -> None:
    file = made(INT8, ["x", "first", "middle"])
    assert (file.plan.input_type, file.plan.output_type) == ("int8", "float32")
    assert file.notes == ("int8: its output is float32, not int8: no range of y is known.",)


def test_a_type_that_was_asked_for_is_not_changed() -> None:
    with pytest.raises(ConversionError, match="not as requested"):
        made(replace(INT8, free_ends=()), ["x", "first", "middle"])

"""A float graph before it is written: the passes of a plan are applied, and ranges chosen.

In this order: passes that keep the outputs; then, where that is left to edgekit, the form of the
graph and the method of its ranges; then passes that fit weights or biases to the precision, for
what they fit would be lost in another form.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

from edgekit.choices import AUTO, MINMAX
from edgekit.errors import ConversionError
from edgekit.modes import FLOAT32, MODES
from edgekit.quantization.calibration import Calibration
from edgekit.quantization.choose import Choice, choose
from edgekit.quantization.figures import extended, with_floats
from edgekit.quantization.finite_masks import check_masks
from edgekit.quantization.float_graph import FloatGraph
from edgekit.quantization.in_modes import in_modes
from edgekit.quantization.observe import NOTHING, Observed
from edgekit.quantization.passes import GraphPass, passes_named
from edgekit.quantization.rules import modes_of
from edgekit.records import Plan, Ranges

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT


def prepared(
    plan: Plan,
    graph: FloatGraph,
    *,
    observe: Callable[[ModelT], Observed],
    calibration: Calibration | None = None,
) -> tuple[ModelT, Ranges | None, dict[str, str], Choice | None]:
    """Apply the passes of a plan, and choose ranges.

    The arguments are those of `variant.make`.

    Returns:
        The graph; the ranges of its activations, None where they remain float; output tensor name
        -> mode, of every operator; and how ranges were chosen, where that was left to edgekit.
    """
    passes = passes_named(plan.passes)
    source = graph.model
    if MODES[plan.mode].calibrated or any(each.observes for each in passes):
        source = _with_finite_masks(graph, calibration)
    if plan.ranges == AUTO and MODES[plan.mode].chooses and calibration is not None:
        keeping = [each for each in passes if not each.fits]
        model, _ = _after_passes(keeping, plan, source, observe, seen=False)
        modes = modes_of(plan, model)
        choice = _choose(plan, model, modes, calibration)
        fitting = [each for each in passes if each.fits]
        if fitting:
            choice = _fitted(fitting, plan, choice, calibration)
        return choice.model, choice.ranges, modes, choice
    calibrated = MODES[plan.mode].calibrated
    model, observed = _after_passes(passes, plan, source, observe, seen=calibrated)
    modes = modes_of(plan, model)
    if not calibrated:
        return model, None, modes, None
    method = MINMAX if plan.ranges == AUTO else plan.ranges
    return model, observed.ranges(method, plan.percentile), modes, None


def _with_finite_masks(graph: FloatGraph, calibration: Calibration | None) -> ModelT:
    """Return a graph whose masks are finite, checked once on the samples."""
    if graph.finite is not graph.model and calibration is not None:
        key = (id(graph.model), "finite masks")
        if key not in calibration.choices:
            check_masks(graph.model, graph.finite, calibration.samples)
            calibration.choices[key] = (graph.model, graph.finite)
    return graph.finite


def _choose(
    plan: Plan, model: ModelT, modes: Mapping[str, str], calibration: Calibration
) -> Choice:
    """Choose passes and ranges once for all plans that differ in nothing that matters to them."""
    trial = _tried(plan)

    def write_trial(candidate: ModelT, ranges: Ranges | None, floats: Collection[str]) -> ModelT:
        asked, precisions = with_floats(trial, modes, floats)
        return in_modes(asked, candidate, ranges, precisions)[1].model

    key = (id(model), trial)
    if key not in calibration.choices:
        found = choose(trial, model, calibration, write_trial)
        calibration.choices[key] = (model, found)  # a model that is kept keeps its identity
    choice: Choice = calibration.choices[key][1]
    return choice


def _fitted(
    passes: Sequence[GraphPass], plan: Plan, choice: Choice, calibration: Calibration
) -> Choice:
    """Apply passes that fit weights to samples to the form that was chosen, once for all plans."""
    key = (id(choice.model), _tried(plan), tuple(each.name for each in passes))
    if key not in calibration.choices:
        model, ranges = _fitted_graph(passes, plan, choice.model, calibration), choice.ranges
        if ranges is not None and model is not choice.model:
            ranges = calibration.ranges(model, ranges.method, plan.percentile)
            ranges = extended(ranges, choice.margin)
        calibration.choices[key] = (choice.model, replace(choice, model=model, ranges=ranges))
    found: Choice = calibration.choices[key][1]
    return found


def _fitted_graph(
    passes: Sequence[GraphPass], plan: Plan, exact: ModelT, calibration: Calibration
) -> ModelT:
    """Return a graph after such passes; what the first of them made is kept for other plans."""
    if not passes:
        return exact
    key = (id(exact), _tried(plan), tuple(each.name for each in passes), "graph")
    if key not in calibration.choices:
        before = _fitted_graph(passes[:-1], plan, exact, calibration)
        # They need the samples, and no statistics of activations.
        known = replace(NOTHING, samples=calibration.samples, exact=exact)
        calibration.choices[key] = (exact, passes[-1].apply(before, known, plan))
    found: ModelT = calibration.choices[key][1]
    return found


def _tried(plan: Plan) -> Plan:
    """Return what of a plan matters to the search for form and ranges."""
    # Outputs in codes tell how near to float they can be.
    return replace(
        plan,
        variant="",
        input_type=FLOAT32.name,
        output_type=MODES[plan.mode].io_types[0],
        sparse=False,
        passes=(),
        free_ends=("output",),
    )


def _after_passes(
    passes: Sequence[GraphPass],
    plan: Plan,
    model: ModelT,
    observe: Callable[[ModelT], Observed],
    *,
    seen: bool,
) -> tuple[ModelT, Observed]:
    """Return the graph after some passes, and the statistics of its activations.

    Args:
        passes: The passes, in order.
        plan: The plan.
        model: The graph.
        observe: Returns the statistics.
        seen: Whether statistics are needed beyond the passes.
    """
    observed = NOTHING
    if seen or any(each.observes for each in passes):
        observed = observe(model)
    exact = model
    for number, each in enumerate(passes):
        given = replace(observed, exact=exact) if each.fits else observed
        changed = each.apply(model, given, plan)
        exact = exact if each.fits else changed
        if changed is not model and each.moves_activations and observed is not NOTHING:
            if observed.trained is not None:
                raise ConversionError(
                    f"Variant {plan.variant}: pass {each.name} changes activations whose ranges "
                    "were trained.",
                    hint="Drop the pass, or start from the model before quantization-aware "
                    "training.",
                )
            if seen or any(later.observes for later in passes[number + 1 :]):
                observed = observe(changed)
        model = changed
    return model, observed

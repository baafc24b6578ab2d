"""Make one variant of a float graph by its plan, and check it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from edgekit.errors import ConversionError, ModelError
from edgekit.modes import FLOAT32, INT4, INT8, MODES
from edgekit.quantization.calibration import Calibration
from edgekit.quantization.choose import Choice
from edgekit.quantization.figures import FIGURES, figures_note, with_floats
from edgekit.quantization.float_graph import FloatGraph
from edgekit.quantization.in_modes import in_modes
from edgekit.quantization.observe import Observed
from edgekit.quantization.preparation import prepared
from edgekit.quantization.writer import Written
from edgekit.records import Plan
from edgekit.targets.node import Node, Tensor
from edgekit.tflite.graph import write
from edgekit.tflite.load import check_loads
from edgekit.tflite.metadata import carry_metadata, files_behind, has_metadata, with_files
from edgekit.tflite.naming import name_layers, with_layer_names
from edgekit.tflite.nodes import nodes
from edgekit.tflite.rewriter import SMALLEST_KERNEL
from edgekit.tflite.signature import signature
from edgekit.tflite.sparse import Encoded, encode_sparse
from edgekit.tflite.weights import stored_weights

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

R = TypeVar("R")

_CONVERSIONS: Final = frozenset({"QUANTIZE", "DEQUANTIZE"})
_LARGE_BYTES: Final = 16 << 20


@dataclass(frozen=True, slots=True, kw_only=True)
class QuantizedModel:
    """A finished file.

    Attributes:
        data: Its content, with the float graph's metadata.
        model: The parsed content.
        left_in_float: Operators that did not get the plan's precision: `operator`, `layer`,
            `reason`.
        plan: The plan, with the types of inputs and outputs that the file has.
        notes: What inputs and outputs in integers lose, or that they are float for it; and what
            no sample reached.
        choice: How its ranges were chosen, where that was left to edgekit.
        ran: Whether it was run once; what was not is left to the caller (`first_run`).
    """

    data: bytes
    model: ModelT
    left_in_float: tuple[Mapping[str, str], ...]
    plan: Plan
    notes: tuple[str, ...] = ()
    choice: Choice | None = None
    ran: bool = True


def make(
    plan: Plan,
    graph: FloatGraph,
    *,
    observe: Callable[[ModelT], Observed],
    calibration: Calibration | None = None,
    run: bool = True,
) -> QuantizedModel:
    """Make one variant of a float graph.

    The passes of the plan are applied to the graph, then its precision; it is serialized once at
    the end.

    Args:
        plan: Passes, precision and rules.
        graph: The float graph, with its signature.
        observe: Returns the statistics of a float graph's activations; called only if the mode or a
            pass needs them, and again after a pass that changes activations.
        calibration: The samples that judge where the plan leaves ranges to edgekit (`auto`); None
            takes the extremes.
        run: Whether the file is run once. Large files are in any case, to have one of them in
            memory.

    Raises:
        ConversionError: The graph cannot be quantized, or no operator has the plan's precision.
        UsageError: A rule matches no layer or has a mode that single layers cannot have, or there
            is no pass of a given name.
    """
    model, ranges, modes, choice = prepared(plan, graph, observe=observe, calibration=calibration)
    asked = plan
    floats = choice.floats if choice is not None else frozenset()
    plan, precisions = with_floats(plan, modes, floats)
    if choice is not None and precisions is modes:
        choice, floats = replace(choice, floats=frozenset()), frozenset()
    plan, written = in_modes(plan, model, ranges, precisions)
    model, known = written.model, {**written.reasons, **dict.fromkeys(floats, FIGURES)}
    if model is not graph.model:
        model = carry_metadata(graph.model, model)
    left = _left(plan, modes, model, known)
    if plan.mode != FLOAT32.name and not is_quantized(plan, model):
        raise ConversionError(
            f"Variant {plan.variant}: nothing could be quantized to {plan.mode}.",
            found=left[0]["reason"] if left else "All weights of the model are too small for it.",
            hint="Choose another mode, or ship the float32 file.",
        )
    if MODES[plan.mode].calibrated and not plan.keep_names:
        model = with_layer_names(model)
    if plan.sparse:
        encoded = _sparse(plan, model)
        model, data = encoded.model, encoded.data
    else:
        # The original bytes are reused where nothing changed.
        data = graph.data if model is graph.model else write(model)
    _check_interface(plan, graph.model, model)
    if data is not graph.data and has_metadata(graph.model):
        data = with_files(data, files_behind(graph.data))
    ran = data is graph.data or run or len(data) > _LARGE_BYTES
    if data is not graph.data and ran:
        first_run(plan, lambda: check_loads(data))
    return QuantizedModel(
        data=data,
        model=model,
        left_in_float=tuple(left),
        plan=replace(plan, free_ends=()),
        notes=(
            *figures_note(asked, float_figures=precisions is not modes),
            *_notes(asked, written.lost),
            *_unreached(asked, written),
        ),
        choice=choice,
        ran=ran,
    )


def _notes(plan: Plan, lost: Mapping[str, str]) -> list[str]:
    notes = []
    for end, why in lost.items():
        asked = plan.input_type if end == "input" else plan.output_type
        if end in plan.free_ends:
            notes.append(f"{plan.variant}: its {end} is float32, not {asked}: {why}.")
        else:
            notes.append(
                f"{plan.variant}: its {end} loses too much in {asked}: {why}. Leave out --io (in a "
                f"recipe: {end}), and it is float32."
            )
    return notes


def _unreached(plan: Plan, written: Written) -> list[str]:
    """Say which layers are float because of the samples, where no end says so."""
    told = [why for why in written.unreached if why not in written.lost.values()]
    if not told:
        return []
    more = f", and {len(told) - 1} likewise" if len(told) > 1 else ""
    rest = "What computes and reads it stays float: give calibration samples that reach it."
    return [f"{plan.variant}: {told[0]}{more}. {rest}"]


def _sparse(plan: Plan, model: ModelT) -> Encoded:
    """Return the model with its kernels stored sparse, verified to compute the same."""
    encoded = encode_sparse(model)
    if encoded.model is model:
        reasons = [f"{k.name or k.operator}: {k.reason}" for k in encoded.kernels if k.reason]
        raise ConversionError(
            f"Variant {plan.variant}: no kernel is smaller when it is stored sparse.",
            found=reasons[0] if reasons else None,
            hint="Prune the model first (edgekit prune), to 50 % zeros and more.",
        )
    return encoded


def _check_interface(plan: Plan, before: ModelT, after: ModelT) -> None:
    """Raise unless inputs and outputs keep names, order and shapes, and have the plan's types."""
    for was, now, asked in zip(
        signature(before), signature(after), (plan.input_type, plan.output_type), strict=True
    ):
        wanted = [(s.name, s.shape, asked if s.dtype == "float32" else s.dtype) for s in was]
        found = [(s.name, s.shape, s.dtype) for s in now]
        if wanted != found:
            raise ConversionError(
                f"Variant {plan.variant}: the file's inputs or outputs are not as requested.",
                found=f"asked for {_list(wanted)}, made {_list(found)}",
                hint="Ask for float32 input and output.",
            )


def _list(entries: Sequence[tuple[str, tuple[int, ...], str]]) -> str:
    return ", ".join(f"{name} {dtype} {list(shape)}" for name, shape, dtype in entries)


def first_run(plan: Plan, check: Callable[[], R]) -> R:
    """Return `check()`, which raises a `ModelError` unless the file of a plan runs.

    Raises:
        ConversionError: It does not.
    """
    try:
        return check()
    except ModelError as error:
        raise ConversionError(
            f"Variant {plan.variant} was made, but does not run.",
            found=error.found,
            hint="Keep the layer named there in float32 with a rule, or choose another mode.",
        ) from error


def is_quantized(plan: Plan, model: ModelT) -> bool:
    """Whether anything in the file has the precision of the plan."""
    if MODES[plan.mode].calibrated:
        kind = MODES[plan.mode].activations
        computing = (node for node in nodes(model) if node.name not in _CONVERSIONS)
        return any(tensor.dtype == kind for node in computing for tensor in node.outputs)
    return any(
        weight.dtype == MODES[plan.mode].weights for _, weight in stored_weights(nodes(model))
    )


def _left(
    plan: Plan, modes: Mapping[str, str], model: ModelT, known: Mapping[str, str]
) -> list[dict[str, str]]:
    """Return the operators of the file without the plan's precision, and why.

    Args:
        plan: The plan.
        modes: Output tensor name -> the mode that was asked for.
        model: The file.
        known: Output tensor name -> why the operator that computes it remains float.
    """
    operators = nodes(model)
    layers = dict(zip((n.index for n in operators), name_layers(operators), strict=True))
    reasons: dict[int, str] = {}
    if MODES[plan.mode].calibrated:
        for node in operators:
            computes = any(t.dtype == "float32" for t in (*node.outputs, *node.inputs) if t)
            resets = all(tensor.variable for tensor in node.outputs)  # of a layer named below
            if computes and not resets and node.name not in _CONVERSIONS:
                reasons[node.index] = next(
                    (known[tensor.name] for tensor in node.outputs if tensor.name in known),
                    f"{node.name} has no {plan.mode} version here",
                )
    elif plan.mode != FLOAT32.name:
        for node, weight in stored_weights(operators):
            if weight.dtype != MODES[plan.mode].weights:
                reasons[node.index] = _why_not(plan, node, weight)
    weights = {node.index: weight.dtype for node, weight in stored_weights(operators)}
    for node in operators:
        ruled = {modes[t.name] for t in node.outputs if t.name in modes} - {plan.mode}
        if not ruled or node.name in _CONVERSIONS:
            continue
        mode = ruled.pop()
        if mode != INT4.name or plan.mode != INT8.name or weights.get(node.index) == "int4":
            reasons[node.index] = f"a rule asks for {mode}"
        elif weights.get(node.index) == "int8":
            reasons[node.index] = f"a rule asks for {mode}: {node.name} has no such kernel"
    return [
        {"operator": node.name, "layer": layers[node.index], "reason": reasons[node.index]}
        for node in operators
        if node.index in reasons
    ]


def _why_not(plan: Plan, node: Node, weight: Tensor) -> str:
    if weight.dtype == "int8" and weight.elements < SMALLEST_KERNEL:
        return f"its {weight.elements} weights are int8: they gain too little from int4"
    if weight.dtype == "int8":
        return f"its weights are int8: {node.name} has no int4 kernel, or would be larger"
    if weight.dtype == "float32" and weight.elements < SMALLEST_KERNEL:
        return f"its {weight.elements} weights are too few to reduce the size"
    return f"its weights cannot be stored for {plan.mode}"

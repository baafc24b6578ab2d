"""Passes over a loaded model: adapt, prune, shrink, cluster, qat, each with its fine-tuning.

A pass takes a Keras model and writes a plain Keras model to a file; it returns what it did, in
figures. Passes run in the process that imports TensorFlow. Later passes keep the effect of earlier
ones: zeros remain zero, clustered kernels remain clustered.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgekit.choices import LATENCY, MACS, TAYLOR
from edgekit.errors import ModelError
from edgekit.recipe import Adapt, Cluster, PassStep, Prune, Qat, Shrink
from edgekit.records import Listener, Source, silent
from edgekit.training.finetuning import FineTuning, Tuning
from edgekit.training.sequence import inputs_of

# Samples for gradients and activation ranges: enough for stable means, within about a second.
STUDIED_SAMPLES: Final = 512

FLOAT_ISLANDS: Final = "float islands"
"""The fact that says what `qat` left in float, and what that costs."""

# A kernel with a smaller share of zeros does not count as pruned.
PRUNED_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class PassResult:
    """Result of a pass.

    Attributes:
        path: The plain Keras model it wrote.
        facts: What was reduced, as label -> text.
        left: Layer -> why the pass did not change it.
        before: Figures on the validation samples (a tenth of train) before the pass.
        after: The same figures after the pass.
        validation: How those samples were chosen; empty where they were drawn.
    """

    path: Path
    facts: Mapping[str, str]
    left: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    validation: str = ""


def adapt(
    model: Any,
    source: Source,
    *,
    step: Adapt,
    tuning: Tuning,
    destination: Path,
    listener: Listener = silent,
) -> PassResult:
    """Fine-tune a model after its layers were replaced (`training.adapting`).

    What it computed before is the teacher's predictions.
    """
    fine = FineTuning(model, source, tuning, listener)
    before = after = fine.evaluate(model)
    if fine.epochs:
        after = fine.train(model, _keeping(model), notes=step.noted)
    fine.write(model, destination)
    return PassResult(
        path=destination, facts={}, before=before, after=after, validation=fine.validated_on
    )


def prune(
    model: Any,
    source: Source,
    *,
    step: Prune,
    tuning: Tuning,
    destination: Path,
    listener: Listener = silent,
) -> PassResult:
    """Prune the smallest weights during fine-tuning; see `pruning.pruning_callback`.

    Unstructured sparsity increases over the first half of the steps, patterns are applied at once;
    zeros are held from then on.
    """
    from edgekit.numerics.sparsity import Constant, PolynomialDecay, parse_pattern
    from edgekit.training import pruning

    sparsity, pattern = step.share, step.pattern
    fine = FineTuning(model, source, tuning, listener)
    before = fine.evaluate(model)
    if fine.epochs:
        steps = fine.epochs * fine.steps
        gradual = parse_pattern(pattern) == parse_pattern("unstructured") and steps >= 4
        schedule = (
            PolynomialDecay(initial=0.0, final=sparsity, begin=0, end=steps // 2)
            if gradual
            else Constant(sparsity)
        )
        callback = pruning.pruning_callback(
            schedule,
            scope=step.scope,
            pattern=pattern,
            exclude=step.exclude,
            every=max(1, steps // 40),
            initial_step=tuning.done * fine.steps,
        )
        after = fine.train(model, [callback], notes=step.noted)
        done = callback.pruning()
    else:
        done = pruning.prune(
            model, sparsity, scope=step.scope, pattern=pattern, exclude=step.exclude
        )
        after = fine.evaluate(model)
    fine.write(model, destination)
    return PassResult(
        path=destination,
        facts={"zeros": f"{done.share:.1%} of the pruned kernels' weights", "pattern": pattern},
        left=done.left_dense,
        before=before,
        after=after,
        validation=fine.validated_on,
    )


def shrink(
    model: Any,
    source: Source,
    *,
    step: Shrink,
    tuning: Tuning,
    destination: Path,
    listener: Listener = silent,
) -> PassResult:
    """Remove whole channels, then fine-tune the smaller model; see `shrinking.shrink_in_rounds`.

    Each round removes channels and then trains for the full number of epochs.
    """
    from edgekit.training import shrinking

    fine = FineTuning(model, source, tuning, listener)
    before = fine.evaluate(model)
    if tuning.done:  # channels were removed before the interruption
        after = fine.train(model, _keeping(model), notes=step.noted)
        fine.write(model, destination)
        return PassResult(path=destination, facts={}, before=before, after=after)
    samples = None
    if step.importance == TAYLOR:
        batch = fine.sample(STUDIED_SAMPLES)
        first = next(iter(batch.inputs.values()))
        values = first if len(batch.inputs) == 1 else batch.inputs
        samples = (values, first if batch.targets is None else batch.targets)
    after = {}

    def tune(smaller: Any, number: int) -> None:
        nonlocal after
        if fine.epochs:
            # A run that ends before the last round has not reached the requested share.
            notes = step.noted if number == step.rounds else None
            after = fine.train(smaller, _keeping(smaller), notes=notes)
        else:
            after = fine.evaluate(smaller)

    done = shrinking.shrink_in_rounds(
        model,
        share=step.share,
        rounds=step.rounds,
        tune=tune,
        # A latency goal is reached by removing MACs; see pipeline.latency_goal.
        goal=MACS if step.goal == LATENCY else step.goal,
        importance=step.importance,
        data=samples,
        # Boxes say nothing without the head, and targets of one output not which it is.
        loss=fine.loss(model) if fine.judged.head is not None or fine.goals.scored else None,
        exclude=step.exclude,
        multiple=step.multiple,
    )
    fine.write(done.model, destination)
    return PassResult(
        path=destination,
        facts={
            "multiply-accumulates": f"{done.macs_before:,} -> {done.macs_after:,}",
            "parameters": f"{done.parameters_before:,} -> {done.parameters_after:,}",
        },
        left=done.kept_whole,
        before=before,
        after=after,
        validation=fine.validated_on,
    )


def cluster(
    model: Any,
    source: Source,
    *,
    step: Cluster,
    tuning: Tuning,
    destination: Path,
    listener: Listener = silent,
) -> PassResult:
    """Cluster the weights of each kernel, and train the centroids; see `clustering`.

    Batch normalization is folded first: lowering folds it anyway, and a factor per channel would
        multiply the number of distinct weights.
    """
    from edgekit.training import clustering
    from edgekit.training.kernels import excluded
    from edgekit.training.qat import without_normalization

    fine = FineTuning(model, source, tuning, listener)
    before = fine.evaluate(model)
    # Folding inlines nested models.
    exclude = [re.escape(name) for name in excluded(model, step.exclude)]
    reason = "It normalizes vectors or another axis than the last, and no layer takes it in."
    try:
        model = without_normalization(model)
    except ModelError as error:
        reason = error.found or error.what
    unfolded = {
        layer.name: f"batch normalization is not folded. {reason}"
        for layer in model._flatten_layers()  # noqa: SLF001  layers in layers, in no other way
        if type(layer).__name__ == "BatchNormalization"
    }
    if fine.epochs:
        callback = clustering.clustering_callback(
            step.clusters, initial=step.initial, exclude=exclude
        )
        after = fine.train(model, [*_keeping(model), callback], notes=step.noted)
        done = callback.clustering()
    else:
        done = clustering.cluster(model, step.clusters, initial=step.initial, exclude=exclude)
        after = fine.evaluate(model)
    fine.write(model, destination)
    clustered = {name: n for name, n in done.distinct.items() if name not in done.left_alone}
    return PassResult(
        path=destination,
        facts={"distinct weights": f"at most {max(clustered.values())} per kernel"},
        left={**unfolded, **done.left_alone},
        before=before,
        after=after,
        validation=fine.validated_on,
    )


def qat(
    model: Any,
    source: Source,
    *,
    step: Qat,
    tuning: Tuning,
    destination: Path,
    listener: Listener = silent,
) -> PassResult:
    """Train a model with the rounding of its int8 file; see `training.qat`.

    The trained ranges, the bit width of the weights and the names of float layers are stored in the
    file (`saving.read_notes`), where `edgekit quantize` reads them.
    """
    from edgekit.training import qat as aware
    from edgekit.training.clustering import keeping_callbacks
    from edgekit.training.kernels import excluded_layers

    fine = FineTuning(model, source, tuning, listener)
    before = fine.evaluate(model)
    if tuning.done:
        prepared = model  # a checkpoint already has fake quantization
        excluded = {layer.name for layer in model.layers}  # those in float were excluded, if any
    else:
        excluded = excluded_layers(model, step.exclude)
        prepared = aware.prepare(
            model,
            weight_bits=step.bits,
            data=inputs_of(fine.sample(STUDIED_SAMPLES)),
            exclude=step.exclude,
        )
    if fine.epochs:
        # Rounded kernels have palettes of codes; those in float keep their clusters like this.
        callbacks = [*_keeping(prepared), *keeping_callbacks(aware.unrounded_layers(prepared))]
        after = fine.train(prepared, callbacks, notes=step.noted)
    else:
        after = fine.evaluate(prepared)
    plain, ranges = aware.finish(prepared)
    left = aware.left_in_float(prepared)
    notes = {
        "bits": step.bits,
        "low": dict(ranges.low),
        "high": dict(ranges.high),
        "float": list(left),
        "float_classes": left,
    }
    fine.write(plain, destination, {step.kind: notes})
    facts = {"trained for": f"int8 activations, int{step.bits} weights"}
    chosen, preparing, islands = aware.why_in_float(left, excluded)
    if preparing:
        facts["before the int8 part"] = f"{', '.join(preparing)}: prepares the input, in float"
    if islands:
        facts[FLOAT_ISLANDS] = (
            f"{', '.join(islands)}: not trained for int8, so computed in float on the target, "
            "between two conversions; an accelerator of integers leaves them to the CPU. Quantized "
            "without qat, more layers are integers: compare both files"
        )
    return PassResult(
        path=destination,
        facts=facts,
        left=dict.fromkeys(chosen, "excluded, it stays float"),
        before=before,
        after=after,
        validation=fine.validated_on,
    )


def run_pass(
    model: Any,
    source: Source,
    *,
    step: PassStep,
    tuning: Tuning,
    destination: Path,
    listener: Listener = silent,
) -> PassResult:
    """Run the pass that a step describes.

    Args:
        model: A Keras model.
        source: Where it comes from.
        step: Which pass, and its settings.
        tuning: Data and training.
        destination: The `.keras` to write.
        listener: Progress callback.

    Raises:
        EdgekitError: As the pass raises it.
    """
    run = _FUNCTIONS[type(step)]
    return run(model, source, step=step, tuning=tuning, destination=destination, listener=listener)


_FUNCTIONS: Final[Mapping[type[PassStep], Callable[..., PassResult]]] = {
    Adapt: adapt,
    Shrink: shrink,
    Prune: prune,
    Cluster: cluster,
    Qat: qat,
}


def _keeping(model: Any) -> list[Any]:
    """Return callbacks that keep the zeros of an earlier pass."""
    from edgekit.numerics.sparsity import Constant
    from edgekit.training import pruning

    share = max(pruning.sparsity_of(model).values(), default=0.0)
    return [pruning.pruning_callback(Constant(0.0))] if share >= PRUNED_SHARE else []

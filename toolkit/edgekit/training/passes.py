"""Compression passes over a loaded model: prune, shrink, cluster, qat, each with its fine-tuning.

A pass takes a Keras model and gives back a plain Keras model, written to a file; what it did is
returned in figures. They run in the process that has TensorFlow. What an earlier pass has made of
the model, the later ones keep: zeros stay zero, kernels of few distinct weights stay that.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgekit.choices import LATENCY, MACS, TAYLOR
from edgekit.errors import ModelError
from edgekit.recipe import Cluster, PassStep, Prune, Qat, Shrink
from edgekit.records import Listener, Source, silent
from edgekit.training.finetuning import FineTuning, Tuning, inputs_of
from edgekit.training.saving import write_model

# Enough for the means of gradients to settle, and for ranges; few enough to take a second.
STUDIED_SAMPLES: Final = 512

# A kernel with fewer zeros than this was not pruned: they came about.
PRUNED_SHARE: Final = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class PassResult:
    """What a pass did.

    Attributes:
        path: The plain Keras model it wrote.
        facts: What there is less of, in label -> words.
        left: Layer -> why the pass left it as it was.
        before: Figures on the validation samples (a tenth of train) before the pass.
        after: The same, after it.
    """

    path: Path
    facts: Mapping[str, str]
    left: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)


def prune(
    model: Any,
    source: Source,
    *,
    step: Prune,
    tuning: Tuning,
    destination: Path,
    listener: Listener = silent,
) -> PassResult:
    """Drop the smallest weights while the model is fine-tuned; see `pruning.pruning_callback`.

    Unstructured zeros grow in number over the first half of the steps, patterns come at once; what
    is zero is held from then on.
    """
    from edgekit.numerics.sparsity import Constant, PolynomialDecay, parse_pattern
    from edgekit.training import pruning

    sparsity, pattern = step.share, step.pattern
    fine = FineTuning(model, source, tuning, listener)
    before = fine.judge(model)
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
        after = fine.train(model, [callback], notes=_notes(step))
        done = callback.pruning()
    else:
        done = pruning.prune(
            model, sparsity, scope=step.scope, pattern=pattern, exclude=step.exclude
        )
        after = fine.judge(model)
    write_model(model, destination)
    return PassResult(
        path=destination,
        facts={"zeros": f"{done.share:.1%} of the pruned kernels' weights", "pattern": pattern},
        left=done.left_dense,
        before=before,
        after=after,
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

    Each of the rounds cuts and then trains for all the epochs.
    """
    from edgekit.training import shrinking

    fine = FineTuning(model, source, tuning, listener)
    before = fine.judge(model)
    if tuning.done:  # cut already
        after = fine.train(model, _keeping(model), notes=_notes(step))
        write_model(model, destination)
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
            # What is left beside the goal by a run that ends early is not the model asked for.
            notes = _notes(step) if number == step.rounds else None
            after = fine.train(smaller, _keeping(smaller), notes=notes)
        else:
            after = fine.judge(smaller)

    done = shrinking.shrink_in_rounds(
        model,
        share=step.share,
        rounds=step.rounds,
        tune=tune,
        # A latency goal is met by cuts of which each is counted.
        goal=MACS if step.goal == LATENCY else step.goal,
        importance=step.importance,
        data=samples,
        exclude=step.exclude,
    )
    write_model(done.model, destination)
    return PassResult(
        path=destination,
        facts={
            "multiply-accumulates": f"{done.macs_before:,} -> {done.macs_after:,}",
            "parameters": f"{done.parameters_before:,} -> {done.parameters_after:,}",
        },
        left=done.kept_whole,
        before=before,
        after=after,
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
    """Give each kernel a palette of few weights, and train it; see `clustering`.

    Batch normalization is folded first: lowering would, and a scale for each channel leaves a
    kernel of few weights many.
    """
    from edgekit.training import clustering
    from edgekit.training.kernels import excluded
    from edgekit.training.qat import without_normalization

    fine = FineTuning(model, source, tuning, listener)
    before = fine.judge(model)
    unfolded = {}
    # Folding puts the layers of nested models into the model itself.
    exclude = [re.escape(name) for name in excluded(model, step.exclude)]
    try:
        model = without_normalization(model)
    except ModelError as error:
        unfolded = {
            layer.name: f"batch normalization is not folded. {error.found or error.what}"
            for layer in model._flatten_layers()  # noqa: SLF001  layers in layers, in no other way
            if type(layer).__name__ == "BatchNormalization"
        }
    if fine.epochs:
        callback = clustering.clustering_callback(
            step.clusters, initial=step.initial, exclude=exclude
        )
        after = fine.train(model, [*_keeping(model), callback], notes=_notes(step))
        done = callback.clustering()
    else:
        done = clustering.cluster(model, step.clusters, initial=step.initial, exclude=exclude)
        after = fine.judge(model)
    write_model(model, destination)
    clustered = {name: n for name, n in done.distinct.items() if name not in done.left_alone}
    return PassResult(
        path=destination,
        facts={"distinct weights": f"at most {max(clustered.values())} a kernel"},
        left={**unfolded, **done.left_alone},
        before=before,
        after=after,
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
    """Train a model as its int8 file will compute; see `training.qat`.

    The trained ranges, the width of the weights and the layers that stay float travel in the file
    (`saving.read_notes`), where `edgekit quantize` finds them.
    """
    from edgekit.training import qat as aware
    from edgekit.training.clustering import palettes_of

    fine = FineTuning(model, source, tuning, listener)
    before = fine.judge(model)
    if tuning.done:
        prepared = model  # a checkpoint has its fake quantization already
    else:
        prepared = aware.prepare(
            model,
            weight_bits=step.bits,
            data=inputs_of(fine.sample(STUDIED_SAMPLES)),
            palettes=palettes_of(model),
            exclude=step.exclude,
        )
    if fine.epochs:
        after = fine.train(prepared, _keeping(prepared), notes=_notes(step))
    else:
        after = fine.judge(prepared)
    plain, ranges = aware.finish(prepared)
    left = aware.left_in_float(prepared)
    notes = {"bits": step.bits, "low": dict(ranges.low), "high": dict(ranges.high), "float": left}
    write_model(plain, destination, {step.kind: notes})
    return PassResult(
        path=destination,
        facts={"trained for": f"int8 activations, int{step.bits} weights"},
        left=dict.fromkeys(left, "excluded, it stays float"),
        before=before,
        after=after,
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
    """Take a model through the pass that the step describes.

    Args:
        model: A Keras model.
        source: What it is.
        step: Which pass, and its settings.
        tuning: Data and training.
        destination: The `.keras` to write.
        listener: Progress callback.

    Raises:
        ModelError: A layer of the model is stateful.
        EdgekitError: As the pass raises it.
    """
    stateful = [
        layer.name
        for layer in model._flatten_layers()  # noqa: SLF001  Keras has no public way to layers inside layers
        if getattr(layer, "stateful", False)
    ]
    if stateful:
        raise ModelError(
            f"{source.name} cannot be fine-tuned: it remembers earlier samples.",
            found=f"Stateful: {', '.join(stateful)}.",
            hint="Build it with stateful=False and without a batch size, give it the same weights "
            "(set_weights), and save that.",
        )
    run = _FUNCTIONS[type(step)]
    return run(model, source, step=step, tuning=tuning, destination=destination, listener=listener)


_FUNCTIONS: Final[Mapping[type[PassStep], Callable[..., PassResult]]] = {
    Shrink: shrink,
    Prune: prune,
    Cluster: cluster,
    Qat: qat,
}


def _notes(step: PassStep) -> dict[str, str]:
    """What a checkpoint says of the run it is of."""
    return {"pass": step.kind}


def _keeping(model: Any) -> list[Any]:
    """Callbacks that keep the zeros of an earlier pass where they are."""
    from edgekit.numerics.sparsity import Constant
    from edgekit.training import pruning

    share = max(pruning.sparsity_of(model).values(), default=0.0)
    return [pruning.pruning_callback(Constant(0.0))] if share >= PRUNED_SHARE else []

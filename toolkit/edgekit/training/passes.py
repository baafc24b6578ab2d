"""Compression passes over a loaded model: prune, shrink, cluster, each with its fine-tuning.

A pass takes a Keras model and gives back a plain Keras model, written to a file; what it did is
returned in figures. They run in the process that has TensorFlow.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data import open_data
from edgekit.files import writing
from edgekit.records import Dataset, Listener, Task, silent
from edgekit.training.finetuning import bound_to, finetune, steps_of

# Enough for the means of gradients to settle, few enough to take a second.
TAYLOR_SAMPLES = 512


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """The data of a pass, and how the model is trained on it; picklable.

    Attributes:
        data: As `edgekit.data.open_data` takes it.
        column: The column to predict, for a `.csv`.
        preprocessing: How raw images become inputs.
        task: What the targets mean; None where the data tells.
        epochs: Walks through the training samples; 0 changes the weights and trains nothing.
        batch_size: Samples a step.
        learning_rate: Where a cosine begins.
        seed: Of every random choice.
    """

    data: str
    column: str | None = None
    preprocessing: Mapping[str, Any] | None = None
    task: Task | None = None
    epochs: int = 3
    batch_size: int = 64
    learning_rate: float = 1e-3
    seed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Passed:
    """What a pass did.

    Attributes:
        path: The plain Keras model it wrote.
        facts: What there is less of, in label -> words.
        left: Layer -> why the pass left it as it was.
        before: Figures on the validation samples (a tenth of train) before the pass.
        after: The same, after it.
        seconds: Wall-clock time.
    """

    path: Path
    facts: Mapping[str, str]
    left: Mapping[str, str] = field(default_factory=dict)
    before: Mapping[str, float] = field(default_factory=dict)
    after: Mapping[str, float] = field(default_factory=dict)
    seconds: float = 0.0


def prune(
    model: Any,
    *,
    tuning: Tuning,
    destination: Path,
    sparsity: float,
    scope: Any = "global",
    pattern: str = "unstructured",
    exclude: Sequence[str] = (),
    listener: Listener = silent,
) -> Passed:
    """Drop the smallest weights while the model is fine-tuned; see `pruning.pruning_callback`.

    The share of zeros grows over the first half of the steps and is held over the second.
    """
    from edgekit.numerics.sparsity import Constant, PolynomialDecay, parse_pattern
    from edgekit.training import pruning

    started = time.monotonic()
    dataset = _open(model, tuning)
    before = _judge(model, dataset, tuning)
    if tuning.epochs:
        steps = tuning.epochs * steps_of(_train(dataset), tuning.batch_size)
        gradual = parse_pattern(pattern) == parse_pattern("unstructured") and steps >= 4
        schedule = (
            PolynomialDecay(initial=0.0, final=sparsity, begin=0, end=steps // 2)
            if gradual
            else Constant(sparsity)
        )
        callback = pruning.pruning_callback(
            schedule, scope=scope, pattern=pattern, exclude=exclude, every=max(1, steps // 40)
        )
        after = _tune(model, dataset, tuning, [callback], listener)
        done = callback.pruning()
    else:
        done = pruning.prune(model, sparsity, scope=scope, pattern=pattern, exclude=exclude)
        after = _judge(model, dataset, tuning)
    _write(model, destination)
    return Passed(
        path=destination,
        facts={"zeros": f"{done.share:.1%} of the pruned kernels' weights", "pattern": pattern},
        left=done.left_dense,
        before=before,
        after=after,
        seconds=time.monotonic() - started,
    )


def shrink(
    model: Any,
    *,
    tuning: Tuning,
    destination: Path,
    share: float,
    goal: Any = "macs",
    importance: Any = "l2",
    exclude: Sequence[str] = (),
    listener: Listener = silent,
) -> Passed:
    """Remove whole channels, then fine-tune the smaller model; see `shrinking.shrink`."""
    from edgekit.training import shrinking

    started = time.monotonic()
    dataset = _open(model, tuning)
    before = _judge(model, dataset, tuning)
    samples = None
    if importance == "taylor":
        train = _train(dataset)
        rows = np.random.default_rng(tuning.seed).permutation(train.n)[:TAYLOR_SAMPLES]
        batch = train.read(rows)
        values = next(iter(batch.inputs.values()))
        samples = (values, values if batch.targets is None else batch.targets)
    done = shrinking.shrink(
        model, share=share, goal=goal, importance=importance, data=samples, exclude=exclude
    )
    after = _tune(done.model, dataset, tuning, [], listener)
    _write(done.model, destination)
    return Passed(
        path=destination,
        facts={
            "multiply-accumulates": f"{done.macs_before:,} -> {done.macs_after:,}",
            "parameters": f"{done.parameters_before:,} -> {done.parameters_after:,}",
        },
        left=done.kept_whole,
        before=before,
        after=after,
        seconds=time.monotonic() - started,
    )


def cluster(
    model: Any,
    *,
    tuning: Tuning,
    destination: Path,
    clusters: int,
    initial: Any = "linear",
    exclude: Sequence[str] = (),
    listener: Listener = silent,
) -> Passed:
    """Give each kernel a palette of few weights, and train it; see `clustering`."""
    from edgekit.training import clustering

    started = time.monotonic()
    dataset = _open(model, tuning)
    before = _judge(model, dataset, tuning)
    if tuning.epochs:
        callback = clustering.clustering_callback(clusters, initial=initial, exclude=exclude)
        after = _tune(model, dataset, tuning, [callback], listener)
        done = callback.clustering()
    else:
        done = clustering.cluster(model, clusters, initial=initial, exclude=exclude)
        after = _judge(model, dataset, tuning)
    _write(model, destination)
    clustered = {name: n for name, n in done.distinct.items() if name not in done.left_alone}
    return Passed(
        path=destination,
        facts={"distinct weights": f"at most {max(clustered.values())} a kernel"},
        left=done.left_alone,
        before=before,
        after=after,
        seconds=time.monotonic() - started,
    )


def _open(model: Any, tuning: Tuning) -> Dataset:
    dataset = open_data(tuning.data, target=tuning.column, preprocessing=tuning.preprocessing)
    return bound_to(model, dataset, tuning.task)


def _train(dataset: Dataset) -> Any:
    from edgekit.data import training_split

    return training_split(dataset)[0]


def _tune(
    model: Any, dataset: Dataset, tuning: Tuning, callbacks: Sequence[Any], listener: Listener
) -> dict[str, float]:
    return finetune(
        model,
        dataset,
        epochs=tuning.epochs,
        batch_size=tuning.batch_size,
        learning_rate=tuning.learning_rate,
        seed=tuning.seed,
        callbacks=callbacks,
        listener=listener,
    )


def _judge(model: Any, dataset: Dataset, tuning: Tuning) -> dict[str, float]:
    return finetune(model, dataset, epochs=0, batch_size=tuning.batch_size, seed=tuning.seed)


def _write(model: Any, destination: Path) -> None:
    with writing(destination) as temporary:
        model.save(temporary)

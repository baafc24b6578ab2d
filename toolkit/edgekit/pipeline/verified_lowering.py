"""Lower a loaded model, and prove that the float graph computes what its source computes."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from edgekit import evaluation, tflite
from edgekit.choices import UNROLLED, RecurrentForm
from edgekit.errors import ConversionError, ModelError
from edgekit.pipeline.imported_model import ImportedModel, Verification
from edgekit.pipeline.pixel_trial import as_samples
from edgekit.records import Array, Batch, Dataset, Source, TensorSpec
from edgekit.tflite.lstm import fused_lstms
from edgekit.worker import TensorFlowProcess

if TYPE_CHECKING:
    from edgekit.lowering import LoweredModel
    from edgekit.sources.predict import Reference

# Float kernels of TensorFlow and of XNNPACK add up in different orders; what is beyond this share
# of the output's own range is no rounding.
TOLERANCE = 1e-2
# Of recurrent layers in a compact form: where more is off, the operator computes something else.
COMPACT_TOLERANCE = 1e-4
# Most samples, and most values of their inputs beyond `_FEWEST`: what is wrong is in all of them.
VERIFIED_SAMPLES = 16
_VERIFIED_VALUES = 1 << 20
_FEWEST = 4


def lowered_as(
    form: RecurrentForm, imported: ImportedModel, destination: Path, tensorflow: TensorFlowProcess
) -> tuple[str, ...]:
    """Write the float graph of the model that `tensorflow` holds in another form; return notes.

    Raises:
        ConversionError: It cannot be lowered, or differs from its source.
    """
    batch = samples_of(imported.dataset, imported.source.inputs)
    lowered = tensorflow.lower(destination, recurrent=form)
    _verify(imported.source, destination, *_outputs(destination, batch, tensorflow), real=True)
    return lowered.notes


def lowered_and_verified(
    source: Source,
    destination: Path,
    tensorflow: TensorFlowProcess,
    batch: Batch,
    *,
    real: bool,
    form: RecurrentForm,
    lowering: Callable[[], LoweredModel],
    finish: Callable[[], object] = lambda: None,
) -> tuple[LoweredModel, Verification, tuple[str, ...]]:
    """Lower and verify; a compact form that is not as exact as it should be is not taken.

    Args:
        source: What `tensorflow` holds.
        destination: The `.tflite` to write.
        tensorflow: Holds the model.
        batch: Samples to verify on.
        real: Whether they are the user's.
        form: Of recurrent layers.
        lowering: What `start_lowering` returned for that form.
        finish: Called while TensorFlow runs the model, when the float graph is written: it may
            write that file again.

    Returns:
        The float graph; how it was verified; and the layers of the source that carry something
        from one sample to the next, as far as the samples showed it: the file does not, and starts
        each sample as they start.
    """
    lowered = lowering()
    found, reference = _outputs(destination, batch, tensorflow, finish)
    model = tflite.read(destination)
    recurrent = form != UNROLLED and (tflite.has_loops(model) or fused_lstms(model))
    tolerance = COMPACT_TOLERANCE if recurrent else TOLERANCE
    try:
        verified = _verify(source, destination, found, reference, real=real, tolerance=tolerance)
    except ConversionError as error:
        if not recurrent:
            raise
        note = f"Recurrent layers were written out step by step: in the compact form {error.found}"
    else:
        return lowered, verified, reference.stateful
    lowered = tensorflow.lower(destination, recurrent=UNROLLED)
    found, reference = _outputs(destination, batch, tensorflow, finish)
    verified = _verify(source, destination, found, reference, real=real)
    return replace(lowered, notes=(*lowered.notes, note)), verified, reference.stateful


def _outputs(
    graph: Path,
    batch: Batch,
    tensorflow: TensorFlowProcess,
    finish: Callable[[], object] = lambda: None,
) -> tuple[Mapping[str, Array], Reference]:
    """Return what a float graph computes, and what its source does: both run at the same time."""
    reference = tensorflow.start_reference(batch.inputs)
    found = evaluation.predict(graph, as_samples(batch), processes=1)
    finish()
    return found, reference()


def samples_of(dataset: Dataset | None, inputs: Sequence[TensorSpec]) -> Batch:
    """Return what a model is verified on: real samples, or seeded noise where there are none."""
    size = sum(math.prod(spec.shape[1:]) for spec in inputs)
    n = min(VERIFIED_SAMPLES, max(_FEWEST, _VERIFIED_VALUES // max(1, size)))
    if dataset is None:
        return _noise(inputs, n)
    samples = dataset.calibrate or dataset.test or dataset.train
    assert samples is not None
    return samples.read(np.arange(min(samples.n, n)))


def _noise(inputs: Sequence[TensorSpec], n: int) -> Batch:
    generator = np.random.default_rng(0)
    arrays: dict[str, Array] = {}
    for spec in inputs:
        shape = (n, *spec.shape[1:])
        arrays[spec.name] = (
            generator.standard_normal(shape).astype(spec.dtype)
            if spec.dtype.startswith("float")
            else generator.integers(0, 2, shape).astype(spec.dtype)
        )
    return Batch(inputs=arrays)


def _verify(
    source: Source,
    graph: Path,
    found: Mapping[str, Array],
    reference: Reference,
    *,
    real: bool,
    tolerance: float = TOLERANCE,
) -> Verification:
    largest = 0.0
    for name, expected in reference.outputs.items():
        if name not in found:
            raise ConversionError(
                f"Lowering {source.name} lost its output {name!r}.",
                found=f"The float graph has: {', '.join(found)}.",
            )
        if found[name].shape != expected.shape:
            raise ConversionError(
                f"Lowering {source.name} changed the shape of its output {name!r}.",
                found=f"{list(expected.shape)} became {list(found[name].shape)}.",
            )
        if not np.isfinite(expected).all():
            raise ModelError(
                f"{source.name} itself computes NaN or infinity for output {name!r}.",
                found=f"Its weights hold NaN: {', '.join(layers[:3])}."
                if (layers := tflite.layers_with_nan(tflite.read(graph)))
                else None,
                hint="Check the weights and the scale of the inputs.",
            )
        # Booleans cannot be subtracted, and unsigned integers wrap around.
        exact, made = (np.asarray(side, np.float64) for side in (expected, found[name]))
        difference = float(np.max(np.abs(made - exact), initial=0.0))
        span = float(np.ptp(exact)) or 1.0
        near = difference <= tolerance * max(span, float(np.abs(exact).max(initial=0.0)))
        # A comparison of floats, or the largest of them, jumps where rounding decides it.
        jumps = expected.dtype.kind != "f" and np.mean(made != exact) <= tolerance
        if not (near or jumps):
            raise ConversionError(
                f"The float graph of {source.name} does not compute what its source computes.",
                found=f"Output {name!r} is off by up to {difference:.3g} (its range: {span:.3g}).",
                hint="Look for layers that behave randomly or differently at inference.",
            )
        largest = max(largest, difference)
    return Verification(
        max_abs_difference=largest,
        samples=len(next(iter(reference.outputs.values()))),
        inputs="data" if real else "noise",
    )

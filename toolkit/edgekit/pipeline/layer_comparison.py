"""Two models, or outputs that a device computed, are compared operator by operator."""

from __future__ import annotations

import contextlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit import tflite
from edgekit.artifacts import open_artifact
from edgekit.data.formats.npz import read_npz
from edgekit.data.store import subset
from edgekit.devices import RunSettings, SshDevice, Uploads
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.evaluation import compared, predict
from edgekit.evaluation.layerwise import compare_layers, compare_outputs
from edgekit.files import check_input, temporary_folder
from edgekit.pipeline.recommendation import probe_device
from edgekit.pipeline.request import Request, open_data
from edgekit.pipeline.sources import lower, tensorflow_for
from edgekit.pipeline.subjects import Opener, bind_to_file
from edgekit.records import (
    Array,
    Dataset,
    LayerDifferences,
    Listener,
    Samples,
    silent,
)
from edgekit.tflite.matching import Match, match_operators
from edgekit.tflite.stored import content_of

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

    from edgekit.worker import TensorFlowProcess

_FILES: Final = (".tflite", ".gz")
_OUTPUTS: Final = ".npz"


@dataclass(frozen=True, slots=True, kw_only=True)
class Side:
    """One of the two.

    Attributes:
        name: What to call it.
        path: A `.tflite` file; None for outputs that were computed elsewhere.
        model: Its parsed content.
        dataset: Samples, bound to its inputs; None for such outputs.
        outputs: Name -> `[n, ...]`, of such outputs.
        rows: Which of the samples they are of; None for all.
        place: Where and how they were computed, of those of a device.
    """

    name: str
    path: Path | None = None
    model: ModelT | None = None
    dataset: Dataset | None = None
    outputs: Mapping[str, Array] | None = None
    rows: Array | None = None
    place: str = ""


def compare_operators(
    first: Path | Any,
    second: Path | Any,
    request: Request,
    *,
    threshold_db: float,
    samples: int,
    there: RunSettings | None = None,
    listener: Listener = silent,
) -> LayerDifferences:
    """Compare what each pair of operators computes on the same samples.

    Args:
        first: The signal: a Keras model, a float or quantized `.tflite` file, or an `.npz` of
            outputs for the test split in its order, as the runner's `eval --outputs` writes it.
        second: What is compared with it, likewise.
        request: The data, and the device that runs the second, a `.tflite` file; None compares on
            this machine. Its source and plans are not looked at.
        threshold_db: SQNR below which two operators differ.
        samples: Most samples.
        there: How the second is run on the device.
        listener: Progress callback.

    Raises:
        UsageError: There are no data where they are needed, or the second is no file that a device
            runs.
        ModelError: One cannot be read or run, or they have nothing in common.
        DataError: The data do not fit.
        DeviceError: The device does not answer, or fails.
    """
    places = (first, second)
    if request.device is not None and not _is(second, *_FILES):
        raise UsageError(
            f"B is what {request.device.name} runs: a .tflite file.",
            found=f"It is {second}." if isinstance(second, Path) else "It is a Keras model.",
            hint="Give the .tflite file, or leave out --device.",
        )
    for place in places:
        if isinstance(place, Path):
            check_input(place, ModelError, folder=True)
    stored = [_is(place, _OUTPUTS) for place in places]
    if request.data is None and not all(stored):
        raise UsageError(
            "Models are compared on samples.", found="No data was given.", hint="Give --data DATA."
        )
    keras = [
        not done and not _is(place, *_FILES) for place, done in zip(places, stored, strict=True)
    ]
    if any(keras):
        probe_device(request, listener)  # before a model is loaded for nothing
    with contextlib.ExitStack() as stack:
        folder = stack.enter_context(temporary_folder())
        started = tensorflow_for(
            keras[0] if keras else first,
            request.custom,
            listener,
            needed=bool(keras),
            trust_code=request.trust_code,
        )
        tensorflow = stack.enter_context(started)
        sides = [
            _side(place, request, folder / f"{number}.tflite", tensorflow, listener)
            for number, place in enumerate(places)
        ]
        if request.device is not None:
            settings = there or RunSettings()
            sides[1] = _computed_there(
                sides[1], request, settings, folder=folder, most=samples, listener=listener
            )
        found = _compared(sides[0], sides[1], samples, listener)
    parts = next(
        (
            number
            for number, one in enumerate(found.operators)
            if one.sqnr_db is not None and one.sqnr_db < threshold_db
        ),
        None,
    )
    return replace(found, threshold_db=threshold_db, parts_at=parts)


def _is(place: Path | Any, *endings: str) -> bool:
    return isinstance(place, Path) and place.suffix in endings


def _side(
    place: Path | Any,
    request: Request,
    graph: Path,
    tensorflow: TensorFlowProcess | None,
    listener: Listener,
) -> Side:
    if _is(place, _OUTPUTS):
        return Side(name=place.name, outputs=read_npz(place))
    assert request.data is not None
    if _is(place, *_FILES):
        opener = Opener(request.named(request.data), request.metric)
        dataset = bind_to_file(opener, open_artifact(place), output=request.output)
        return Side(
            name=str(place), path=place, model=tflite.read(content_of(place)), dataset=dataset
        )
    imported = lower(
        place,
        open_data(request, listener),
        graph,
        tensorflow,
        output=request.output,
        head=request.head,
        unroll=request.unroll,
        listener=listener,
    )
    name = str(place) if isinstance(place, Path) else imported.source.name
    return Side(name=name, path=graph, model=tflite.read(graph), dataset=imported.dataset)


def _computed_there(
    side: Side,
    request: Request,
    settings: RunSettings,
    *,
    folder: Path,
    most: int,
    listener: Listener,
) -> Side:
    """Return the outputs that a device computes with a file, for the samples that are compared."""
    assert request.device is not None
    assert side.path is not None
    samples = _samples(side)
    rows = rows_run(samples, most)
    chosen = subset(samples, rows, samples.split)
    with SshDevice(
        request.device, Uploads(folder), setup=request.setup, listener=listener
    ) as device:
        outputs = read_npz(device.outputs(side.path, chosen, settings))
        runtime = device.describe().get("runtime")
        named = {"delegate": settings.delegate, "kernels": settings.kernels}
        how = [str(runtime), *(f"{name} {value}" for name, value in named.items() if value)]
        place = f"{device.place}, {', '.join(how)}"
    name = f"{side.name} on {device.name}"
    return replace(side, name=name, model=None, outputs=outputs, rows=rows, place=place)


def _compared(first: Side, second: Side, most: int, listener: Listener) -> LayerDifferences:
    if first.model is None or second.model is None:
        return _by_outputs(first, second, most, listener)
    samples = _samples(second)
    return compare_models(
        (first.model, second.model),
        (first.name, second.name),
        samples,
        rows_run(samples, most),
        listener=listener,
    )


def compare_models(
    models: tuple[ModelT, ModelT],
    names: tuple[str, str],
    samples: Samples,
    rows: Array,
    *,
    listener: Listener = silent,
) -> LayerDifferences:
    """Compare what each pair of operators computes; no threshold is looked at.

    Args:
        models: Both; the first is the signal.
        names: What to call them.
        samples: Real samples.
        rows: Which of them are run.
        listener: Progress callback.

    Raises:
        ModelError: One cannot be run, or they have nothing in common.
        DataError: The samples do not fit.
    """
    matches, unmatched = match_operators(*models)
    ends = _outputs(*models)
    found = compare_layers(models, (*matches, *ends), samples, rows, listener=listener)
    if not found:
        raise ModelError(
            "The two have no operator and no output in common.",
            hint="Give two forms of one model, such as float32.tflite and int8.tflite.",
        )
    return LayerDifferences(
        first=names[0],
        second=names[1],
        n=len(rows),
        operators=tuple(found[: len(matches)]),
        outputs=tuple(found[len(matches) :]),
        threshold_db=0.0,
        parts_at=None,
        unmatched=unmatched,
    )


def _by_outputs(first: Side, second: Side, most: int, listener: Listener) -> LayerDifferences:
    """Compare outputs alone: one of the two was computed elsewhere."""
    outputs: list[Mapping[str, Array]] = []
    own = next((_samples(side) for side in (second, first) if side.path is not None), None)
    lengths = {
        len(values)
        for side in (first, second)
        if side.rows is None
        for values in (side.outputs or {}).values()
    }
    if second.rows is not None:
        lengths.add(_samples(second).n)
    if len(lengths) != 1:
        raise DataError(
            "Outputs must be of the same samples.",
            found=f"They are of {', '.join(map(str, sorted(lengths)))} samples.",
            hint="Write them with the runner: eval MODEL DATA.npz --outputs F.npz",
        )
    (n,) = lengths
    rows = rows_run(own, most) if own is not None and own.n == n else _spread(n, most)
    for side in (first, second):
        if side.outputs is not None:
            some = slice(None) if side.rows is not None else rows
            outputs.append({name: values[some] for name, values in side.outputs.items()})
            continue
        assert side.path is not None
        samples = _samples(side)
        if samples.n != n:
            raise DataError(
                f"The outputs are of {n} samples, and the {samples.split} split has {samples.n}.",
                hint="Write them with the runner for this data: eval MODEL DATA.npz --outputs "
                "F.npz",
            )
        chosen = subset(samples, rows, samples.split)
        outputs.append(predict(side.path, chosen, listener=listener))
    return LayerDifferences(
        first=first.name,
        second=second.name,
        n=len(rows),
        operators=(),
        outputs=tuple(compare_outputs(outputs[0], outputs[1])),
        threshold_db=0.0,
        parts_at=None,
        notes=(
            f"Only outputs are compared: B was computed by {second.place}."
            if second.rows is not None
            else "Only outputs are compared: an .npz holds no inner values.",
        ),
    )


def _samples(side: Side) -> Samples:
    samples = compared(side.dataset) if side.dataset is not None else None
    if samples is None:
        raise DataError("There are no samples to compare on.", hint="Give data with samples.")
    return samples


def rows_run(samples: Samples, most: int) -> Array:
    """Return which samples are run: spread over all, or the first ones of sequences, in order."""
    if samples.sequences is not None:
        return np.arange(min(most, samples.n))  # in order
    return _spread(samples.n, most)


def _spread(n: int, most: int) -> Array:
    count = min(most, n)
    return np.arange(count) * n // count


def _outputs(first: ModelT, second: ModelT) -> tuple[Match, ...]:
    """Pair the outputs by the names of their signatures, or by order where none has the other's."""
    before, after = (
        [
            (spec.name, int(index), spec.shape)
            for spec, index in zip(
                tflite.signature(model)[1], model.subgraphs[0].outputs, strict=True
            )
        ]
        for model in (first, second)
    )
    named = {name: (index, shape) for name, index, shape in before}
    in_order = len(before) == len(after) and not named.keys() & {name for name, _, _ in after}
    found = []
    for position, (name, index, shape) in enumerate(after):
        other = before[position][1:] if in_order else named.get(name)
        if other is not None and other[1] == shape:
            tensor = second.subgraphs[0].tensors[index].name
            found.append(Match(operator="", layer=name, tensor=tensor, indices=(other[0], index)))
    return tuple(found)

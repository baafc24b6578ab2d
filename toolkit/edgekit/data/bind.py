"""Fitting a data set to a model: every check there is, before any work is done."""

from __future__ import annotations

import difflib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.data.formats.images import ImageStore
from edgekit.data.formats.sounds import require_features
from edgekit.data.labels_and_tasks import bind_targets
from edgekit.data.overlap import overlap_note
from edgekit.data.pixels import picture_shape
from edgekit.data.preprocessing import names_size
from edgekit.data.split_scales import scale_note
from edgekit.data.store import InputFit, Reader, adopted, reader_of, sized_targets
from edgekit.errors import DataError
from edgekit.evaluation.tasks.class_labels import class_count
from edgekit.records import Array, Dataset, Samples, Split, TensorSpec
from edgekit_runner import SOUND_KINDS

SPLITS: tuple[Split, ...] = ("train", "calibrate", "test")


def bind(dataset: Dataset, inputs: Sequence[TensorSpec], outputs: Sequence[TensorSpec]) -> Dataset:
    """Return the data set as a model takes it: inputs by its names, shapes and types, targets told.

    Float inputs are cast when they are read. Data that already has the type of a quantized input
    is taken for its codes; floats for it stay floats in real units. Classes become int64 `[n]`,
    regression targets float32 in the shape of the model's first output, anomaly flags int64 `[n]`.
    Pixels whose scaling is left open stay 0-255: `pipeline.preprocessing` finds it out before.

    Args:
        dataset: As `open_data` returned it, or of the user's making.
        inputs: The model's inputs, batch first.
        outputs: The model's outputs; targets that name none belong to the first.

    Raises:
        DataError: Shapes, types, names, values, labels or splits do not fit; says which and how to
            mend it.
    """
    splits = {
        split: adopted(samples)
        for split in SPLITS
        if (samples := getattr(dataset, split)) is not None
    }
    if not splits:
        raise DataError(f"{dataset.name} holds no samples.", hint="Add x_train and x_test.")
    for split, samples in splits.items():
        if samples.n == 0:
            raise DataError(f"{dataset.name}: the {split} split is empty.", hint="Add samples.")
    require_features(splits.values(), inputs)
    spec = dataset.preprocessing
    if not names_size(spec):
        spec = _sized(spec, inputs)
    notes = list(dataset.notes)
    for split, samples in splits.items():
        reader = replace(reader_of(samples), fits=(), target_shape=None)
        if reader.preprocessing.get("kind") == "image":
            reader = sized_targets(replace(reader, preprocessing=spec), outputs[0])
        fits, fit_notes = _fit_inputs(reader, inputs, f"{dataset.name}, {split}")
        notes += [note for note in fit_notes if note not in notes]
        splits[split] = replace(samples, read=replace(reader, fits=fits))
    _check_values(splits, dataset.name)
    _check_images(splits)
    _check_empty_classes(splits, outputs[0], dataset)
    told, splits, target_notes = bind_targets(
        replace(dataset, preprocessing=spec), splits, inputs, outputs
    )
    notes += [note for note in target_notes if note not in notes]
    if "train" in splits and "test" in splits:
        found = [overlap_note(splits["train"], splits["test"])]
        if not any(_is_recorded(samples) for samples in splits.values()):
            found.append(scale_note(splits["train"], splits["test"]))
        notes += [note for note in found if note and note not in notes]
    return replace(
        told,
        train=splits.get("train"),
        calibrate=splits.get("calibrate"),
        test=splits.get("test"),
        notes=tuple(notes),
    )


def _is_recorded(samples: Samples) -> bool:
    """Whether samples are pictures or sounds in files, which have one scale."""
    reader = reader_of(samples)
    return isinstance(reader.store, ImageStore) or reader.preprocessing["kind"] in SOUND_KINDS


def _sized(spec: Mapping[str, Any], inputs: Sequence[TensorSpec]) -> Mapping[str, Any]:
    """Return an image spec with what it leaves open taken from the model."""
    shape = picture_shape(inputs)
    if shape is None:
        listed = ", ".join(f"{item.name} {list(item.shape)}" for item in inputs)
        raise DataError(
            "Images need a model with one input [1, height, width, 1 or 3] or [1, height, width].",
            found=f"This one takes {listed}.",
            hint="Declare height, width and channels in preprocessing.toml, or give arrays.",
        )
    return {**dict(zip(("height", "width", "channels"), shape, strict=True)), **spec}


def _fit_inputs(
    reader: Reader, inputs: Sequence[TensorSpec], place: str
) -> tuple[tuple[InputFit, ...], list[str]]:
    # One sample tells shapes and types for all of its split.
    sample = reader.prepared(reader.index[:1])
    names = _match_names(sorted(sample), inputs, place)
    fits, notes = [], []
    for spec in inputs:
        stored = names[spec.name]
        values = sample[stored]
        shape = values.shape[1:]
        drop_axis = shape[-1:] == (1,) and _fits(shape[:-1], spec.shape[1:])
        add_axis = not drop_axis and _missing_axis(shape, spec, place)
        # Pictures are read with one: nothing of the user's own is changed.
        if add_axis or (drop_axis and reader.preprocessing["kind"] != "image"):
            done = "added" if add_axis else "removed"
            notes.append(f"Input {spec.name!r}: a trailing channel axis was {done}.")
        dtype = _dtype(values, spec, place)
        fits.append(
            InputFit(
                stored=stored,
                name=spec.name,
                add_axis=add_axis,
                dtype=dtype,
                drop_axis=drop_axis,
            )
        )
    return tuple(fits), notes


def _match_names(stored: Sequence[str], inputs: Sequence[TensorSpec], place: str) -> dict[str, str]:
    """Return the model's input name -> the stored one."""
    if len(stored) == len(inputs) == 1:
        return {inputs[0].name: stored[0]}
    wanted = [spec.name for spec in inputs]
    for name in wanted:
        if name not in stored:
            close = difflib.get_close_matches(name, stored, n=1)
            raise DataError(
                f"{place}: the model's input {name!r} is not in the data.",
                found=f"There is {', '.join(stored)}."
                + (f" Did you mean {name!r} by {close[0]!r}?" if close else ""),
                hint=f"Name the arrays {', '.join(f'x_train_{item}' for item in wanted)}.",
            )
    extra = [name for name in stored if name not in wanted]
    if extra:
        raise DataError(
            f"{place}: the model has no input {extra[0]!r}.",
            found=f"It takes {', '.join(wanted)}.",
            hint="Rename that array or remove it.",
        )
    return {name: name for name in wanted}


def _missing_axis(shape: tuple[int, ...], spec: TensorSpec, place: str) -> bool:
    """Tell whether a trailing axis makes samples of `shape` fit; raise where nothing does."""
    wanted = spec.shape[1:]
    if _fits(shape, wanted):
        return False
    if _fits((*shape, 1), wanted):
        return True
    hint = "Reshape the samples, or give a model for them."
    if len(shape) == 3 and _fits((*shape[1:], shape[0]), wanted):
        hint = "Channels come last: save numpy.moveaxis(x, 1, -1)."
    elif len(shape) in (2, 3) and _fits((shape[-1], *shape[:-1]), wanted):
        # As PyTorch has them; a reshape would scramble pictures.
        hint = "Channels come first: save numpy.moveaxis(x, -1, 1)."
    elif len(wanted) == 3 and len(shape) in (2, 3) and wanted[2] in (1, 3):
        hint = "Where they are pictures, have them resized: --preprocess '{kind = \"image\"}'."
    elif len(shape) == len(wanted) and shape[:-1] == wanted[:-1] and shape[-1] > wanted[-1]:
        hint = "Where they are columns of a table, leave one out: --ignore NAME."
    elif int(np.prod(shape)) == int(np.prod(wanted)):
        hint = f"Save them reshaped: x.reshape(-1, {', '.join(map(str, wanted))})."
    raise DataError(
        f"{place}: the samples do not fit the model's input {spec.name!r}.",
        found=f"Samples are {_by(shape)}, the model takes {_by(wanted)}.",
        hint=hint,
    )


def _fits(shape: tuple[int, ...], wanted: tuple[int, ...]) -> bool:
    """Compare shapes; a dimension below 1 is one the model leaves open."""
    return len(shape) == len(wanted) and all(
        have == want or want < 1 for have, want in zip(shape, wanted, strict=True)
    )


def _by(shape: tuple[int, ...]) -> str:
    return "x".join(map(str, shape)) or "single numbers"


def _dtype(values: Array, spec: TensorSpec, place: str) -> str:
    """Return the type values are handed over in."""
    kind = values.dtype.kind
    if spec.dtype.startswith("float") and kind in "biuf":
        return spec.dtype
    if values.dtype == spec.dtype:
        return spec.dtype
    if spec.scale is not None and kind in "biuf":
        return "float32"
    if spec.scale is None and spec.dtype.startswith(("int", "uint")) and kind in "biu":
        return spec.dtype
    raise DataError(
        f"{place}: the model's input {spec.name!r} takes {spec.dtype}, the data is {values.dtype}.",
        hint=f"Save it as {spec.dtype}; float numbers are not rounded silently.",
    )


def _distinct(splits: dict[Split, Samples]) -> Iterator[tuple[Split, Reader]]:
    """Yield readers of different stores; calibrate usually shares train's."""
    seen: list[object] = []
    for split, samples in splits.items():
        reader = reader_of(samples)
        if not any(reader.store is store for store in seen):
            seen.append(reader.store)
            yield split, reader


def _check_values(splits: dict[Split, Samples], name: str) -> None:
    for split, reader in _distinct(splits):
        unusable = reader.store.first_unusable()
        if unusable is not None:
            stored, row = unusable
            raise DataError(
                f"{name}: {split} sample {row} of {stored!r} holds NaN, infinity or a number "
                "beyond float32.",
                found="Ranges and scores computed from it would be invalid.",
                hint="Remove or repair such samples, e.g. "
                "x[numpy.isfinite(x).reshape(len(x), -1).all(axis=1)].",
            )


def _check_images(splits: dict[Split, Samples]) -> None:
    """Decode the first image of each class; the others are decoded when they are needed."""
    for _, reader in _distinct(splits):
        if isinstance(reader.store, ImageStore):
            for row in reader.store.firsts():
                reader.prepared(np.array([row]))


def _check_empty_classes(
    splits: dict[Split, Samples], output: TensorSpec, dataset: Dataset
) -> None:
    """Raise where a class folder without pictures makes another number of classes than the model's.

    It would move all classes behind it.
    """
    labels, expected = dataset.labels or (), class_count(output)
    for _, reader in _distinct(splits):
        empty = reader.store.empty if isinstance(reader.store, ImageStore) else ()
        empty = tuple(name for name in empty if name in labels)
        if empty and expected is not None and len(labels) != expected:
            raise DataError(
                f"{dataset.name} has {len(labels)} classes, the model has {expected}.",
                found=f"Class folders without pictures: {', '.join(empty)}.",
                hint="Remove them, or list the model's classes in its order in labels.txt.",
            )

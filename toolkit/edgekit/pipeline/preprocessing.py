"""How pixels reach a model: declared, or said by its graph, its data or a trial, in that order.

`settle` is the one place where that is decided; host and device then do what is written down.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from edgekit.data.formats.sounds import require_features
from edgekit.data.pixels import (
    BYTES,
    PLAIN,
    UNIT,
    PixelScaling,
    candidates,
    declared_after,
    ends_of,
    image_shape,
    names_scaling,
    option_of,
    picture_of,
    picture_shape,
    raw_scaling,
    scaling_of,
    with_scaling,
    words_of,
)
from edgekit.data.preprocessing import (
    AFFINE,
    AFFINE_DEFAULTS,
    apply_preprocessing,
    check_preprocessing,
)
from edgekit.data.store import Reader, adopted, reader_of, reads_stored, with_preprocessing
from edgekit.errors import DataError
from edgekit.pipeline.pixel_trial import Change, ImageModel, Trial, try_changes, untried
from edgekit.records import Array, Dataset, InputScaling
from edgekit_runner import affine

MOST_NAMED = 3
"""Scalings that an error names."""
LOOKED_AT = 256
"""Samples whose range tells how an array is scaled."""
_SAID_BY, _MANIFEST = "said by", "the manifest says"
_UNKNOWN = "Arrays as given; how a picture becomes such an array is unknown."
"""Key of what says a preprocessing, and that where it is not there."""

Shape = tuple[int, int, int]


def settle(
    dataset: Dataset, model: ImageModel, described: Mapping[str, Any] | None = None
) -> Dataset:
    """Return the data with a preprocessing that says how pixels are scaled.

    Image files are scaled as declared, else as the manifest says or edgekit stored when it trained
    the model, else as the model's first operators say, else as a trial on training samples says.
    Arrays are the user's own and stay as they are, but for bytes, which are scaled as image files
    are where anything says how. How a picture becomes such an array is told by the model's first
    operators and the arrays' range.

    Args:
        dataset: As it was opened; what is settled already is returned as it is.
        model: What takes the samples.
        described: The manifest of the file that takes them, where it has one.

    Raises:
        DataError: Nothing says how the pixels of image files are scaled.
        ModelError: The model cannot be run.
    """
    if dataset.preprocessing_reason:
        return dataset
    require_features((dataset.train, dataset.test), model.inputs)
    if model.trained_on is not None and not (described or {}).get("preprocessing"):
        spec = check_preprocessing(model.trained_on, model.name)
        by = f"edgekit stored it in {model.name} in training"
        described = {**(described or {}), "preprocessing": spec, _SAID_BY: by}
    if dataset.preprocessing["kind"] == "image":
        return _settle_photos(dataset, model, described or {})
    shape = image_shape(model.inputs)
    if shape is None or dataset.preprocessing["kind"] not in ("none", "affine"):
        return dataset
    settled = _settle_arrays(dataset, model, shape, described or {})
    if described is not None and "picture" in described:
        picture, reason = described["picture"], settled.preprocessing_reason
        if picture and reason == _UNKNOWN:
            reason = f"Arrays as given; pictures: {words_of(picture)}, as {_MANIFEST}."
        return replace(settled, picture=picture, preprocessing_reason=reason)
    return settled


def settled_as(dataset: Dataset, settled: Dataset | None) -> Dataset:
    """Return data as it was opened, with what was settled for them before."""
    if settled is None or not settled.preprocessing_reason:
        return dataset
    return replace(
        with_preprocessing(dataset, settled.preprocessing),
        picture=settled.picture,
        preprocessing_reason=settled.preprocessing_reason,
        notes=settled.notes,
    )


def settled_spec(
    settled: Dataset | None, declared: Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """The spec with which data that are opened anew give the samples that were settled.

    None where they give them without.
    """
    if declared is not None or settled is None or not settled.preprocessing_reason:
        return declared
    spec = settled.preprocessing
    scaled = spec["kind"] in ("affine", "image") and reads_stored(_first_reader(settled))
    return dict(spec) if scaled else None


def picture_for(model: ImageModel) -> dict[str, Any] | None:
    """How a picture becomes the input of a model that came without data, if its graph says so."""
    shape = image_shape(model.inputs)
    said = raw_scaling(model.scaling) if shape else None
    return picture_of(shape, said.spec) if shape is not None and said is not None else None


def _settle_photos(dataset: Dataset, model: ImageModel, described: Mapping[str, Any]) -> Dataset:
    spec = dataset.preprocessing
    shape = picture_shape(model.inputs)
    if names_scaling(spec):
        reason = f"{words_of(spec)}, as declared."
        notes = _contradiction(dataset, model, raw_scaling(model.scaling)) if shape else []
        return replace(dataset, preprocessing_reason=reason, notes=(*dataset.notes, *notes))
    if known := _image_spec(described):
        kept = {key: known[key] for key in (*AFFINE, "order", "fit", "orientation") if key in known}
        reason = f"{words_of(known)}, as {described.get(_SAID_BY, _MANIFEST)}."
        return _settled(dataset, {**spec, **kept}, reason)
    if shape is None:
        return dataset  # `data.bind` says that it takes no images
    if (said := raw_scaling(model.scaling)) is not None:
        reason = f"{said}: {_formula(model.scaling)}."
        return _settled(dataset, with_scaling(spec, said), reason)
    scalings = candidates(shape[2])
    if spec["order"] == "bgr":  # as declared, for all of them
        scalings = tuple(replace(scaling, order="rgb") for scaling in scalings)
    trial = _trial(_sized(dataset, model, spec), model, scalings)
    best = trial.best() if trial else None
    chosen = next((s for s in scalings if s.name == best), None)
    if trial is None or chosen is None:
        raise _undeclared(dataset, model, scalings, trial)
    reason = f"{chosen} chosen: {trial.words}."
    return _settled(dataset, with_scaling(spec, chosen), reason)


def _settle_arrays(
    dataset: Dataset, model: ImageModel, shape: Shape, described: Mapping[str, Any]
) -> Dataset:
    dataset = _adopted(dataset)
    raw = _some(dataset, shape)
    if raw is None:
        return _settle_sizes(dataset, described)
    said = raw_scaling(model.scaling)
    reader = _first_reader(dataset)
    # Samples of the user's own making come as they are; what was done to them is only described.
    spec = reader.preprocessing
    whole = raw.dtype.kind in "iu" and scaling_of(raw) is BYTES
    if spec["kind"] == "affine" and scaling_of(raw) is BYTES:
        notes = _contradiction(dataset, model, said)
        return replace(
            dataset,
            picture=picture_of(shape, spec),
            preprocessing_reason=f"{words_of(spec)}, as declared.",
            notes=(*dataset.notes, *notes),
        )
    if whole and model.inputs[0].dtype.startswith("float") and reads_stored(reader):
        return _settle_bytes(dataset, model, shape, described)
    values = apply_preprocessing(raw, spec)
    own = scaling_of(values)
    if own is not None:
        notes = _contradiction(dataset, model, said, own)
        dataset = replace(dataset, notes=(*dataset.notes, *notes))
        return _with_picture(dataset, shape, own, "the arrays lie in that range.")
    if said is not None and _lies_in(values, said):
        return _with_picture(dataset, shape, said, f"{_formula(model.scaling)}.")
    return replace(dataset, preprocessing_reason=_UNKNOWN)


def _settle_sizes(dataset: Dataset, described: Mapping[str, Any]) -> Dataset:
    """Settle arrays of another shape than the model's: pictures that a manifest says how to resize.

    The runner does the same with them.
    """
    spec = described.get("preprocessing") or {}
    reader = _first_reader(dataset)
    stored = reader.store.fetch(reader.index[:1]).values() if len(reader.index) else ()
    arrays = map(np.asarray, stored)
    pictures = [v.dtype == np.uint8 and v.ndim == 4 and v.shape[3] in (1, 3) for v in arrays]
    if spec.get("kind") != "image" or pictures != [True] or not reads_stored(reader):
        return dataset
    by = described.get(_SAID_BY, _MANIFEST)
    return _settled(dataset, spec, f"{words_of(spec)}, resized, as {by}.")


def _settle_bytes(
    dataset: Dataset, model: ImageModel, shape: Shape, described: Mapping[str, Any]
) -> Dataset:
    """Settle arrays of bytes for a model that takes floats."""
    if described.get("preprocessing"):
        known = described["preprocessing"]
        if known.get("kind") not in ("affine", "image"):
            return replace(dataset, preprocessing_reason=_UNKNOWN)
        scaled = {key: known[key] for key in AFFINE if key in known}
        spec = {"kind": "affine", **AFFINE_DEFAULTS, **scaled}
        by = described.get(_SAID_BY, _MANIFEST)
        settled = _settled(dataset, spec, f"{words_of(spec)}, as {by}.")
        return replace(settled, picture=picture_of(shape, spec))
    said, why = raw_scaling(model.scaling), ""
    if said is not None:
        why = f"{_formula(model.scaling)}."
    elif trial := _trial(dataset, model, candidates(shape[2])):
        # A tie with a scaling of ImageNet's is one of the plain ones, if one of them is clear.
        plain = replace(trial, losses={one.name: trial.losses[one.name] for one in PLAIN})
        clear = next((one for one in (trial, plain) if one.best()), trial)
        said = next((s for s in candidates(shape[2]) if s.name == clear.best()), None)
        why = f"{clear.words}."
        if said is None:
            note = (
                f"Bytes reach the model as they are, 0 to 255: nothing says how it scales pixels, "
                f"and no scaling is clearly best on {trial.n} training images ({trial.table}). If "
                f"it was trained on others, declare them, such as {UNIT.option}."
            )
            notes = (*dataset.notes, note)
            return replace(dataset, preprocessing_reason=_UNKNOWN, notes=notes)
    if said is None:
        return replace(dataset, preprocessing_reason=_UNKNOWN)
    if said is BYTES:
        return _with_picture(dataset, shape, said, why)
    # Arrays have no order of channels to declare; pictures of their size do.
    spec = (
        picture_of(shape, {**said.spec, "order": said.order})
        if said.order == "bgr"
        else {"kind": "affine", **AFFINE_DEFAULTS, **said.spec}
    )
    note = f"Bytes 0-255 were scaled to {said}: {why}"
    settled = _settled(dataset, spec, f"{said}: {why}")
    return replace(settled, picture=picture_of(shape, spec), notes=(*dataset.notes, note))


def _settled(dataset: Dataset, spec: Mapping[str, Any], reason: str) -> Dataset:
    return replace(with_preprocessing(dataset, spec), preprocessing_reason=reason)


def _with_picture(dataset: Dataset, shape: Shape, scaling: PixelScaling, why: str) -> Dataset:
    return replace(
        dataset,
        picture=picture_of(shape, scaling.spec),
        preprocessing_reason=f"{scaling}: {why}",
    )


def _adopted(dataset: Dataset) -> Dataset:
    """The data with readers for all splits; samples of the user's making are surveyed once."""
    train, calibrate, test = (
        samples and adopted(samples) for samples in (dataset.train, dataset.calibrate, dataset.test)
    )
    return replace(dataset, train=train, calibrate=calibrate, test=test)


def _first_reader(dataset: Dataset) -> Reader:
    samples = dataset.train or dataset.calibrate or dataset.test
    assert samples is not None
    return reader_of(samples)


def _some(dataset: Dataset, shape: Shape) -> Array | None:
    """Some raw samples `[n, height, width, channels]`, spread over the first split there is."""
    reader = _first_reader(dataset)
    n = len(reader.index)
    if n == 0:
        return None
    rows = np.unique(np.linspace(0, n - 1, min(n, LOOKED_AT)).astype(np.int64))
    fetched = reader.store.fetch(reader.index[rows])
    if len(fetched) != 1:
        return None
    (values,) = (np.asarray(value) for value in fetched.values())
    if values.ndim == 3 and shape[2] == 1:
        values = values[..., None]
    return values if values.shape[1:] == shape else None


def _trial(dataset: Dataset, model: ImageModel, scalings: Sequence[PixelScaling]) -> Trial | None:
    return try_changes(dataset, model, {scaling.name: scaling.apply for scaling in scalings})


def _contradiction(
    dataset: Dataset,
    model: ImageModel,
    said: PixelScaling | None,
    own: PixelScaling | None = None,
) -> list[str]:
    """What is to be said where pixels arrive in another range than the model scales from.

    What the user gave is used all the same. Where the model itself does clearly better on training
    samples in the range that it says, that is said, with what to declare.

    Args:
        dataset: Declared data, or arrays.
        model: What takes them.
        said: The range that the model's first operators take pixels in.
        own: The range of the arrays; None where the dataset's spec scales pixels 0-255.
    """
    if said is None:
        return []
    spec = dataset.preprocessing
    ends = own.ends if own else ends_of(spec)
    width = said.ends[1] - said.ends[0]
    if all(abs(a - b) <= 0.05 * width for a, b in zip(ends, said.ends, strict=True)):
        return []
    given = f"are {own}" if own else f"are scaled to {words_of(spec)}, as declared"
    note = f"Pixels {given}, but {_formula(model.scaling)}: it takes {said}."
    if own is None:
        kind = "image" if spec["kind"] == "image" else "affine"
        raw = {key: value for key, value in spec.items() if key not in AFFINE}
        raw["kind"] = "image" if kind == "image" else "none"
        changes: dict[str, Change] = {"given": lambda x: affine(x, spec), "said": said.apply}
        trial = try_changes(_sized(dataset, model, raw), model, changes)
        declared = said.declaration
    else:
        # From the range that arrives to the one that the model takes.
        factor = width / (ends[1] - ends[0])
        kind, rest = "affine", {"scale": factor, "mean": factor * ends[0] - said.ends[0]}
        changes = {"given": np.asarray, "said": lambda x: affine(x, rest)}
        trial = try_changes(dataset, model, changes)
        declared = declared_after(spec, rest)
    if trial is None or not trial.beats("said", "given"):
        return [note]
    better = f"{trial.figure('said')} instead of {trial.figure('given')}"
    advice = f"declare it by {option_of(kind, declared)}"
    return [f"{note} On {trial.n} training images that would score {better}: {advice}."]


def _sized(dataset: Dataset, model: ImageModel, spec: Mapping[str, Any]) -> Dataset:
    """The data read through a spec that takes what it leaves open from the model."""
    shape = picture_shape(model.inputs)
    if spec["kind"] == "image" and shape is not None:
        spec = {**dict(zip(("height", "width", "channels"), shape, strict=True)), **spec}
    return with_preprocessing(dataset, spec)


def _image_spec(described: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """What a manifest says of pictures, if anything."""
    for key in ("picture", "preprocessing"):
        spec = described.get(key)
        if isinstance(spec, Mapping) and spec.get("kind") in ("affine", "image"):
            return spec
    return None


def _lies_in(values: Array, scaling: PixelScaling) -> bool:
    """Whether arrays may be dark pixels of a scaling, and not of the next smaller one."""
    low, high = scaling.ends
    inside = low - 1e-3 <= float(values.min()) and float(values.max()) <= high * (1 + 1e-3)
    return inside and float(values.max()) > high / 128


def _formula(found: InputScaling | None) -> str:
    """What the model does first: "the model scales them itself (x * 0.00392157)"."""
    assert found is not None
    scale, offset = (np.asarray(v, np.float64) for v in (found.scale, found.offset))
    if found.limits is not None and (scale == 1).all() and (offset == 0).all():
        return f"the model's quantized input holds {found.limits[0]:.3g} to {found.limits[1]:.3g}"
    shown = [
        f"{v[0]:.6g}" if len(set(v)) == 1 else f"[{', '.join(f'{x:.3g}' for x in v)}]"
        for v in (scale, np.abs(offset))
    ]
    sign = "-" if offset[0] < 0 else "+"
    term = f" {sign} {shown[1]}" if (offset != 0).any() else ""
    return f"the model scales pixels itself (x * {shown[0]}{term})"


def _undeclared(
    dataset: Dataset, model: ImageModel, scalings: Sequence[PixelScaling], trial: Trial | None
) -> DataError:
    tried = (
        f"Nothing in the model says it, and no scaling is clearly best on {trial.n} training "
        f"images: {trial.table}."
        if trial
        else f"Nothing in the model says it, and {untried(dataset)}."
    )
    # Those that did clearly worse than the best are no choice.
    likely = [s for s in scalings if not trial or not trial.beats(trial.ranked[0], s.name)]
    known = ", or ".join(f"{s.option} ({s.name})" for s in likely[:MOST_NAMED])
    return DataError(
        f"How the pixels of {dataset.name} are scaled for {model.name} is not declared.",
        found=tried,
        hint=f"Say how the model was trained: {known}.",
    )

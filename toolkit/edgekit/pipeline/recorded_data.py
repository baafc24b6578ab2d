"""The data and the options of a run, as a manifest records them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from edgekit import data as data_room
from edgekit.choices import MAX_SEED
from edgekit.data.formats.function import is_function
from edgekit.errors import DataError, UsageError
from edgekit.records import DataRequest, Dataset, LiveData, TableOptions


def _is_text(value: object) -> bool:
    return isinstance(value, str)


def _is_count(value: object) -> bool:
    return type(value) is int and 0 <= value <= MAX_SEED


def _is_texts(value: object) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _table(value: Mapping[str, Any]) -> TableOptions:
    """Return the options of a table as `build` records them; the rest is left out."""
    accepts: Mapping[str, Callable[[object], bool]] = {
        "window": _is_count,
        "stride": _is_count,
        "group": _is_text,
        "ignore": _is_texts,
    }
    kept: dict[str, Any] = {
        key: entry for key, entry in value.items() if key in accepts and accepts[key](entry)
    }
    if "ignore" in kept:
        kept["ignore"] = tuple(kept["ignore"])
    return TableOptions(**kept)


_BUILD: Final[Mapping[str, Callable[[object], bool]]] = {
    **dict.fromkeys(("source", "data", "column", "score_output"), _is_text),
    "task": lambda value: (
        _is_text(value) or (isinstance(value, Mapping) and all(map(_is_text, value.values())))
    ),
    "table": lambda value: isinstance(value, Mapping) and _table(value) is not None,
    "split": lambda value: isinstance(value, float) and 0 < value < 1,
    "classes": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "preprocessing": lambda value: isinstance(value, Mapping),
    "custom": _is_texts,
    "calibration_samples": _is_count,
    "seed": _is_count,
    "unroll": lambda value: isinstance(value, bool),
}


def entry_of(described: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    """Return a table of a manifest.

    Raises:
        UsageError: There is none of that name.
    """
    found = described.get(name)
    if isinstance(found, Mapping):
        return found
    raise _invalid(name)


def recorded_build(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the manifest says of the request; empty in one that does not say it."""
    if described.get("build") is None:
        return {}
    build = entry_of(described, "build")
    for name, fits in _BUILD.items():
        value = build.get(name)
        if value is not None and not fits(value):
            raise _invalid(f"build.{name}")
    return build


def _invalid(name: str) -> UsageError:
    return UsageError(
        f"The manifest has no valid entry {name!r}.",
        hint="Quantize the model anew; the manifest was edited or is of another version.",
    )


def recorded_data(described: Mapping[str, Any], given: str | LiveData | None) -> DataRequest:
    """Return the data that a manifest names, or those given, read as then.

    Raises:
        DataError: The manifest does not say where they are, or names a function.
        UsageError: An entry of the manifest cannot be read.
    """
    build = recorded_build(described)
    return DataRequest(
        data=_place(described, build, given),
        split=build.get("split"),
        table=_table(build.get("table") or {}),
        column=build.get("column"),
        classes=build.get("classes"),
        preprocessing=build.get("preprocessing"),
        task=build.get("task"),
    )


def open_recorded(
    described: Mapping[str, Any],
    build: Mapping[str, Any],
    given: str | LiveData | None,
    *,
    calibrated: bool,
) -> Dataset | None:
    """The data, opened as it was then; None where none was given then."""
    if described.get("data") is None:
        return None
    splits = entry_of(entry_of(described, "data"), "splits")
    calibration = entry_of(splits, "calibrate") if "calibrate" in splits else {}
    spec = _place(described, build, given)
    dataset = data_room.open_data(
        spec,
        split=build.get("split"),
        table=_table(build.get("table") or {}),
        target=build.get("column"),
        classes=build.get("classes"),
        preprocessing=build.get("preprocessing"),
        calibration_samples=build.get("calibration_samples") or int(calibration.get("n", 200)),
        seed=build.get("seed") or 0,
        task=build.get("task"),
    )
    if calibrated:
        _check_calibration(dataset, calibration, spec if isinstance(spec, str) else "data")
    return dataset


def _place(
    described: Mapping[str, Any], build: Mapping[str, Any], given: str | LiveData | None
) -> str | LiveData:
    """Return where the data are."""
    entry = entry_of(described, "data")
    spec = given if given is not None else build.get("data")
    name = entry.get("name")
    if not isinstance(spec, str | LiveData):
        raise DataError(
            f"The manifest does not say where the data {name!r} is.", hint="Give it with --data."
        )
    if given is None and isinstance(spec, str) and is_function(spec):
        # A manifest may come from elsewhere, and importing a module runs it.
        raise DataError(
            f"The data of this file come from a function of your own, {spec}.",
            hint=f"If you trust it: --data {spec}",
        )
    return spec


def _check_calibration(dataset: Dataset, then: Mapping[str, Any], spec: str) -> None:
    """Compare the samples that set the ranges; those that are only scored change no bytes."""
    samples = dataset.calibrate
    if (samples.sha256 if samples is not None else None) == then.get("sha256"):
        return
    now = "none" if samples is None else f"{samples.n}, sha256 {samples.sha256[:16]}..."
    raise DataError(
        f"{spec}: the calibration samples are others than when this file was made.",
        found=f"There are {now}; then {then.get('n', 'none')}, "
        f"sha256 {str(then.get('sha256'))[:16]}...",
        hint="Give the data as they were then, with --data.",
    )

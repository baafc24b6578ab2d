"""A file made again from its manifest, and compared to the byte."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

from edgekit import data as data_room
from edgekit.artifacts import read_manifest
from edgekit.choices import MAX_SEED
from edgekit.data.formats.function import is_function
from edgekit.errors import ConversionError, DataError, ModelError, UsageError
from edgekit.files import (
    FILE,
    FOLDER,
    MISSING,
    refuse_existing,
    sha256_of,
    temporary_folder,
    what_is,
    writing,
)
from edgekit.modes import FLOAT32
from edgekit.pipeline import manifest
from edgekit.pipeline.quantize import make
from edgekit.pipeline.request import calibrates
from edgekit.pipeline.sources import is_graph, lower, tensorflow_for
from edgekit.quantization import passes_named
from edgekit.recipe import plan_from_json
from edgekit.records import Dataset, Listener, LiveData, Plan, TableOptions, silent
from edgekit.tflite import read
from edgekit.tflite.compare import first_difference


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


@dataclass(frozen=True, slots=True, kw_only=True)
class Rebuilt:
    """A file that was made again, with the same bytes.

    Attributes:
        variant: Name of the variant.
        sha256: Digest of both files.
        size_bytes: Size of both.
        versions: What has another version than when the file was made: name -> (then, now).
        path: The new file; None where it was not asked for.
    """

    variant: str
    sha256: str
    size_bytes: int
    versions: Mapping[str, tuple[str, str]]
    path: Path | None


def rebuild(
    path: Path,
    *,
    source: Path | None = None,
    data: str | LiveData | None = None,
    output: Path | None = None,
    custom: Sequence[str] = (),
    trust_code: bool = False,
    force: bool = False,
    listener: Listener = silent,
) -> Rebuilt:
    """Make a file again from its manifest.

    Args:
        path: The manifest.
        source: The model it was made of; None takes the one that the manifest names.
        data: The data; None takes what the manifest names, unless that is a function.
        output: Where to write the new file; None compares only.
        custom: Modules that define the model's own classes; with `trust_code` those that the
            manifest names, if none are given.
        trust_code: Whether to run code that the source brings along.
        force: Replace `output`.
        listener: Progress callback.

    Raises:
        UsageError: It is no manifest, or one of its entries cannot be read.
        ModelError: The source is missing or another one, or needs modules that were not given.
        DataError: The data is missing or another one.
        ConversionError: The new file has other bytes; it is written to `output` all the same.
    """
    described = _manifest(path)
    if output is not None:
        refuse_existing(output, force=force)
    plan = plan_from_json(_entry(described, "plan"))
    passes_named(plan.passes)
    build = _build(described)
    found = _source(described, build, path, source)
    modules = () if is_graph(found) else _custom(build, custom, trust_code=trust_code)
    dataset = _data(described, build, data, calibrated=calibrates(plan))
    with temporary_folder() as folder:
        content = _make(
            found,
            dataset,
            plan,
            folder,
            described=described,
            score_output=build.get("score_output"),
            unroll=build.get("unroll", False),
            custom=modules,
            trust_code=trust_code,
            listener=listener,
        )
    if output is not None:
        with writing(output, replace=force) as temporary:
            temporary.write_bytes(content)
    versions = _other_versions(described)
    digest = hashlib.sha256(content).hexdigest()
    if digest != described["sha256"]:
        raise ConversionError(
            f"{plan.variant} was rebuilt from {path}, but not with the same bytes.",
            found=_difference(described, path, content, versions),
            hint=_install(versions)
            or "Rebuild on the kind of processor that made it, or quantize anew.",
        )
    return Rebuilt(
        variant=plan.variant,
        sha256=digest,
        size_bytes=len(content),
        versions=versions,
        path=output,
    )


def _manifest(path: Path) -> dict[str, Any]:
    described = read_manifest(path)
    if described and isinstance(described.get("sha256"), str):
        return described
    beside = path.with_suffix(".json")
    raise UsageError(
        f"{path} is not a manifest.",
        found="There is no such file." if what_is(path) == MISSING else None,
        hint=f"Give {beside}, the file beside it."
        if path.suffix == ".tflite"
        else "Give the .json file that stands beside a .tflite file.",
    )


def _entry(described: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    found = described.get(name)
    if isinstance(found, Mapping):
        return found
    raise _invalid(name)


def _build(described: Mapping[str, Any]) -> Mapping[str, Any]:
    """What the manifest says of the request; empty in one that does not say it."""
    if described.get("build") is None:
        return {}
    build = _entry(described, "build")
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


def _source(
    described: Mapping[str, Any], build: Mapping[str, Any], path: Path, given: Path | None
) -> Path:
    """The source, by its digest: the one given, or the first that stands where it should."""
    entry = _entry(described, "source")
    name, digest = str(entry.get("name")), entry.get("sha256")
    recorded = build.get("source")
    places = [Path(recorded)] if recorded is not None else []
    # A manifest may come from elsewhere: of the name only the last part counts.
    places.append(path.parent / Path(name).name)
    candidates = [given] if given is not None else places
    present = [place for place in candidates if what_is(place) in (FILE, FOLDER)]
    for place in present:
        if sha256_of(place) == digest:
            return place
    if described.get("recipe") and given is None:
        raise ModelError(
            f"{name}, which this file was made of, was trained by a recipe and is not here.",
            found=f"Looked for {', '.join(map(str, places))}.",
            hint=f"Give its Keras file with --source {name}; training itself is repeated by "
            "edgekit compress with the same recipe.",
        )
    if given is None and build and recorded is None:
        raise ModelError(
            f"{name}, which this file was made of, was a live Keras model that no file holds.",
            hint="Save the model, and quantize the saved file: that can be rebuilt.",
        )
    if present:
        raise ModelError(
            f"{present[0]} is another model than the one that this file was made of.",
            found=f"Its sha256 is {sha256_of(present[0])[:16]}..., not {str(digest)[:16]}...",
            hint=f"Give {name} as it was then, with --source.",
        )
    raise ModelError(
        f"{name}, which this file was made of, is not here.",
        found=f"Looked for {', '.join(map(str, candidates))}.",
        hint="Give it with --source.",
    )


def _custom(build: Mapping[str, Any], given: Sequence[str], *, trust_code: bool) -> Sequence[str]:
    """The modules with the model's own classes; those of the manifest only where it is trusted."""
    recorded = build.get("custom") or ()
    if given or not recorded:
        return given
    if trust_code:
        return tuple(recorded)
    # A manifest may come from elsewhere, and importing a module runs it.
    raise ModelError(
        f"The model of this file uses modules of your own: {', '.join(recorded)}.",
        hint=f"If you trust them: {' '.join(f'--custom {name}' for name in recorded)}",
    )


def _data(
    described: Mapping[str, Any],
    build: Mapping[str, Any],
    given: str | LiveData | None,
    *,
    calibrated: bool,
) -> Dataset | None:
    """The data, opened as it was then; None where none was given then."""
    if described.get("data") is None:
        return None
    entry = _entry(described, "data")
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
    splits = _entry(entry, "splits")
    calibration = _entry(splits, "calibrate") if "calibrate" in splits else {}
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


def _make(
    source: Path,
    dataset: Dataset | None,
    plan: Plan,
    folder: Path,
    *,
    described: Mapping[str, Any],
    score_output: str | None,
    unroll: bool,
    custom: Sequence[str],
    trust_code: bool,
    listener: Listener,
) -> bytes:
    needed = not is_graph(source) or calibrates(plan)
    with tensorflow_for(source, custom, listener, needed=needed, trust_code=trust_code) as engine:
        imported = lower(
            source,
            dataset,
            folder / "float32.tflite",
            engine,
            output=score_output,
            described=described,
            unroll=unroll,
            listener=listener,
        )
        if plan.mode == FLOAT32.name and not (plan.passes or plan.rules or plan.sparse):
            return imported.graph.read_bytes()
        # The manifest's own name may be no file name, or one of another folder.
        named = replace(plan, variant="rebuilt")
        final = make(imported, [named], folder, engine, listener=listener)[0][-1]
        return final.path.read_bytes()


def _other_versions(described: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    then = described.get("versions")
    now = manifest.versions()
    if not isinstance(then, Mapping):
        return {}
    return {
        name: (str(version), now.get(name, "none"))
        for name, version in then.items()
        if now.get(name) != version
    }


def _difference(
    described: Mapping[str, Any],
    path: Path,
    content: bytes,
    versions: Mapping[str, tuple[str, str]],
) -> str:
    """What is known of the reason, in a line."""
    parts = [f"{name} was {then}, is {now}" for name, (then, now) in versions.items()]
    original = path.with_suffix(".tflite")
    if what_is(original) == FILE and sha256_of(original) == described["sha256"]:
        parts.append(first_difference(read(original), read(content)))
    else:
        parts.append(f"{len(content)} bytes instead of {described.get('size_bytes')}")
    return "; ".join(parts)


def _install(versions: Mapping[str, tuple[str, str]]) -> str | None:
    packages = [f"{name}=={then}" for name, (then, _) in versions.items()]
    return f"Install the versions of then: pip install {' '.join(packages)}" if packages else None

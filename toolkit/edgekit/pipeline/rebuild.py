"""A file made again from its manifest, and compared to the byte."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from edgekit.artifacts import read_manifest
from edgekit.errors import ConversionError, ModelError, UsageError
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
from edgekit.pipeline.recorded_data import entry_of, open_recorded, recorded_build
from edgekit.pipeline.request import calibrates
from edgekit.pipeline.sources import is_graph, lower, tensorflow_for
from edgekit.quantization import passes_named, recorded_choice
from edgekit.recipe import plan_from_json
from edgekit.records import Dataset, Listener, LiveData, Plan, silent
from edgekit.tflite import read
from edgekit.tflite.compare import first_difference


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
    plan = plan_from_json(entry_of(described, "plan"))
    observing = any(each.observes for each in passes_named(plan.passes))
    build = recorded_build(described)
    found = _source(described, build, path, source)
    modules = () if is_graph(found) else _custom(build, custom, trust_code=trust_code)
    dataset = open_recorded(described, build, data, calibrated=calibrates(plan) or observing)
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
    versions = other_versions(described)
    digest = hashlib.sha256(content).hexdigest()
    if digest != described["sha256"]:
        raise ConversionError(
            f"{plan.variant} was rebuilt from {path}, but not with the same bytes.",
            found=_difference(described, path, content, versions),
            hint=_install(versions)
            or "Rebuild with the edgekit and on the processor that made it, or quantize anew.",
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


def _source(
    described: Mapping[str, Any], build: Mapping[str, Any], path: Path, given: Path | None
) -> Path:
    """The source, by its digest: the one given, or the first that stands where it should."""
    entry = entry_of(described, "source")
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
    needed = not is_graph(source)
    with tensorflow_for(source, custom, listener, needed=needed, trust_code=trust_code) as engine:
        imported = lower(
            source,
            dataset,
            folder / "float32.tflite",
            engine,
            output=score_output,
            described=described,
            unroll=unroll,
            plans=[plan],
            listener=listener,
        )
        if plan.mode == FLOAT32.name and not (plan.passes or plan.rules or plan.sparse):
            return imported.graph.read_bytes()
        # The manifest's own name may be no file name, or one of another folder.
        named = replace(plan, variant="rebuilt")
        # What was chosen is written down; it is searched for where a manifest does not tell it.
        recorded = recorded_choice(described.get("ranges"))
        final = make(imported, [named], folder, engine, recorded=recorded, listener=listener)[0][-1]
        return final.path.read_bytes()


def other_versions(described: Mapping[str, Any]) -> dict[str, tuple[str, str]]:
    """Return what has another version now than `versions` says: name -> (then, now)."""
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

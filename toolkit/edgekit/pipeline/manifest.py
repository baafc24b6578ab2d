"""The manifest beside each file: enough to know what it is and to build it again."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import TYPE_CHECKING, Any

from edgekit.errors import ModelError
from edgekit.files import FILE, check_input, sha256_of, what_is
from edgekit.parsing import read_json
from edgekit.records import Artifact, Dataset, Plan
from edgekit.schema import finite

if TYPE_CHECKING:
    from edgekit.pipeline.request import Request
    from edgekit.pipeline.sources import ImportedModel

SCHEMA = 1
ENGINES = ("tensorflow", "keras", "ai-edge-litert", "numpy")


def versions() -> dict[str, str]:
    """Version of edgekit and of every engine that had a hand in the file."""
    from edgekit import __version__

    found = {"edgekit": __version__}
    for name in ENGINES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    return found


def describe(
    imported: ImportedModel,
    plan: Plan,
    content: bytes,
    *,
    left_in_float: Sequence[Mapping[str, str]] = (),
    build: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest of one file, without the rows that are measured later.

    Args:
        imported: The float graph it was made of.
        plan: How.
        content: The file.
        left_in_float: Operators without the plan's precision.
        build: What else the user asked for (`build_of`); None where nobody can say.
    """
    source, dataset, verification = imported.source, imported.dataset, imported.verification
    return {
        "schema": SCHEMA,
        "model": source.name,
        "variant": plan.variant,
        "mode": plan.mode,
        "sha256": hashlib.sha256(content).hexdigest(),
        "size_bytes": len(content),
        "source": {
            "name": source.path.name,
            "kind": source.kind,
            "sha256": source.sha256,
            "parameters": source.parameters,
        },
        "plan": asdict(plan),
        "build": dict(build) if build else None,
        "data": describe_data(dataset),
        "labels": list(dataset.labels) if dataset and dataset.labels else None,
        "preprocessing": dict(dataset.preprocessing) if dataset else {"kind": "none"},
        "lowering": asdict(verification) if verification else None,
        "left_in_float": list(left_in_float),
        "notes": list(imported.notes),
        "versions": versions(),
        "seed": build["seed"] if build else 0,
        "rows": [],
    }


def build_of(request: Request) -> dict[str, Any]:
    """What of a request decides the bytes of its files, and is said nowhere else in a manifest.

    Paths stand there as they were given, so that a manifest of a project means something elsewhere.
    """
    return {
        "source": str(request.source) if isinstance(request.source, Path) else None,
        "data": request.data if isinstance(request.data, str) else None,
        "column": request.column,
        "task": request.task,
        "preprocessing": dict(request.preprocessing) if request.preprocessing else None,
        "calibration_samples": request.calibration_samples,
        "score_output": request.output,
        "custom": list(request.custom),
        "seed": request.seed,
    }


def describe_data(dataset: Dataset | None) -> dict[str, Any] | None:
    """Name, task and the digest of every split."""
    if dataset is None:
        return None
    splits = (dataset.train, dataset.calibrate, dataset.test)
    return {
        "name": dataset.name,
        "task": dataset.task,
        "splits": {s.split: {"n": s.n, "sha256": s.sha256} for s in splits if s is not None},
    }


def artifact(path: Path, plan: Plan, described: Mapping[str, Any]) -> Artifact:
    """The record of a file that was just made; hashed here unless its manifest says the digest."""
    packer = zlib.compressobj(9)
    deflated = 0
    # In pieces: several files of 100 MB may be recorded at once.
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            deflated += len(packer.compress(piece))
    return Artifact(
        path=path,
        variant=plan.variant,
        mode=plan.mode,
        size_bytes=path.stat().st_size,
        size_deflated_bytes=deflated + len(packer.flush()),
        sha256=described.get("sha256") or sha256_of(path),
        manifest=described,
    )


def open_artifact(path: Path) -> Artifact:
    """The record of a file that exists, with its manifest where that still belongs to it.

    Raises:
        ModelError: There is no such file.
    """
    check_input(path, ModelError, hint="Give a .tflite file.")
    content = path.read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    beside = read_manifest(path.with_suffix(".json"))
    # A manifest of another file of that name must not lend this one its labels.
    described = beside if beside.get("sha256") == digest else {}
    return Artifact(
        path=path,
        variant=described.get("variant", path.stem),
        mode=described.get("mode"),
        size_bytes=len(content),
        size_deflated_bytes=len(zlib.compress(content, 9)),
        sha256=digest,
        manifest=described,
    )


def read_manifest(path: Path) -> dict[str, Any]:
    """The manifest at `path`; empty where there is none or it is something else."""
    if what_is(path) != FILE:
        return {}
    try:
        described = read_json(path)
    except (OSError, ValueError):
        return {}
    if not isinstance(described, dict) or described.get("schema") != SCHEMA:
        return {}
    return described


def to_text(described: Mapping[str, Any]) -> str:
    """The manifest as it is written."""
    return json.dumps(finite(described), indent=1, default=str, allow_nan=False) + "\n"

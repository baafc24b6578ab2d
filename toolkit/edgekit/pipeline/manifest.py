"""The manifest beside each file: enough to know what it is and to build it again."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgekit.artifacts import SCHEMA
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.quantization.choose import Choice
from edgekit.records import Artifact, Dataset, Plan, Sensitivity
from edgekit.schema import finite, sensitivity_to_json
from edgekit.tflite import stored

ENGINES = ("tensorflow", "keras", "ai-edge-litert", "numpy")


def versions() -> dict[str, str]:
    """Version of edgekit and of every engine that had a hand in the file."""
    from edgekit import __version__

    found = {"edgekit": __version__}
    for name in ENGINES:
        known = _version(name)
        if known is not None:
            found[name] = known
    return found


@cache
def _version(name: str) -> str | None:
    """Version of a package, which is read once; None where it is not installed."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def describe(
    imported: ImportedModel,
    plan: Plan,
    *,
    left_in_float: Sequence[Mapping[str, str]] = (),
    choice: Choice | None = None,
    recovery: Mapping[str, Any] | None = None,
    build: Mapping[str, Any] | None = None,
    calibration: Mapping[str, Any] | None = None,
    costs: Sensitivity | None = None,
    precisions: str | None = None,
) -> dict[str, Any]:
    """The manifest of one file, without the rows that are measured later.

    Args:
        imported: The float graph it was made of.
        plan: How.
        left_in_float: Operators without the plan's precision.
        choice: How passes and ranges were chosen, where the plan left that open.
        recovery: What was done about a loss (`recovery.Recovery.described`); None where nothing.
        build: What else the user asked for (`request.build_of`); None where that is not known.
        calibration: What the calibration samples were like (`CalibrationInputs`).
        costs: What operators cost, where the precision of each was searched for.
        precisions: What that search found, in words.

    Returns:
        All but digest and size, which `artifact` fills in: it reads the file.
    """
    source, dataset, verification = imported.source, imported.dataset, imported.verification
    picture = dataset.picture if dataset else imported.picture
    head = dataset.head if dataset else imported.head
    return {
        "schema": SCHEMA,
        "model": source.name,
        "variant": plan.variant,
        "mode": plan.mode,
        "sha256": "",
        "size_bytes": 0,
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
        "picture": dict(picture) if picture else None,
        "preprocessing_reason": dataset.preprocessing_reason if dataset else "",
        "head": dict(head) if head else None,
        "lowering": asdict(verification) if verification else None,
        "left_in_float": list(left_in_float),
        "ranges": choice.described() if choice else None,
        "recovery": dict(recovery) if recovery else None,
        "calibration": dict(calibration) if calibration else None,
        "sensitivity": sensitivity_to_json(costs) if costs else None,
        "precisions": precisions,
        "notes": list(imported.notes),
        "versions": versions(),
        "seed": build["seed"] if build else 0,
        "rows": [],
    }


def describe_data(dataset: Dataset | None) -> dict[str, Any] | None:
    """Name, task and the digest of every split."""
    if dataset is None:
        return None
    splits = (dataset.train, dataset.calibrate, dataset.test)
    return {
        "name": dataset.name,
        "task": dataset.task,
        **({"metric": dataset.metric} if dataset.metric else {}),
        **({"output": dataset.output} if dataset.output else {}),
        **(
            {"outputs": {name: told.task for name, told in dataset.others.items()}}
            if dataset.others
            else {}
        ),
        "splits": {s.split: {"n": s.n, "sha256": s.sha256} for s in splits if s is not None},
    }


def artifact(
    path: Path, plan: Plan, described: Mapping[str, Any], *, gzip: bool = False
) -> Artifact:
    """The record of a file that was just made; what `describe` says of it is completed.

    The file is read and hashed here, once.

    Args:
        path: The file.
        plan: How it was made.
        described: Its manifest; empty for none.
        gzip: Whether a packed file is written beside it.
    """
    gzip_bytes = None
    if gzip:
        content = stored.packed(path.read_bytes())
        stored.packed_path(path).write_bytes(content)
        gzip_bytes = len(content)
        described = {**described, "gzip_bytes": gzip_bytes} if described else {}
    digest, packer = hashlib.sha256(), zlib.compressobj(9)
    deflated = 0
    # In pieces: several files of 100 MB may be recorded at once.
    with path.open("rb") as stream:
        while piece := stream.read(1 << 20):
            digest.update(piece)
            deflated += len(packer.compress(piece))
    sha256, size_bytes = digest.hexdigest(), path.stat().st_size
    filled = {**described, "sha256": sha256, "size_bytes": size_bytes} if described else {}
    return Artifact(
        path=path,
        variant=plan.variant,
        mode=plan.mode,
        size_bytes=size_bytes,
        size_deflated_bytes=deflated + len(packer.flush()),
        sha256=sha256,
        gzip_bytes=gzip_bytes,
        manifest=filled,
    )


def to_text(described: Mapping[str, Any]) -> str:
    """The manifest as it is written."""
    return json.dumps(finite(described), indent=1, default=str, allow_nan=False) + "\n"

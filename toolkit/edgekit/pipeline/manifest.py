"""The manifest beside each file: enough to know what it is and to build it again."""

from __future__ import annotations

import hashlib
import json
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from edgekit.errors import ModelError
from edgekit.evaluation.tasks import TASKS
from edgekit.fields import FieldError, Fields
from edgekit.files import FILE, check_input, what_is
from edgekit.modes import MODES
from edgekit.parsing import read_json
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.records import SOURCE, Artifact, Dataset, Plan
from edgekit.schema import finite
from edgekit.tflite import stored

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
    *,
    left_in_float: Sequence[Mapping[str, str]] = (),
    build: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The manifest of one file, without the rows that are measured later.

    Args:
        imported: The float graph it was made of.
        plan: How.
        left_in_float: Operators without the plan's precision.
        build: What else the user asked for (`request.build_of`); None where that is not known.

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


def open_artifact(path: Path) -> Artifact:
    """The record of a file that exists, with its manifest where that still belongs to it.

    Raises:
        ModelError: There is no such file, or its manifest holds invalid values.
    """
    check_input(path, ModelError, hint="Give a .tflite or .tflite.gz file.")
    content = stored.content_of(path)
    digest = hashlib.sha256(content).hexdigest()
    beside = stored.manifest_path(path)
    described = read_manifest(beside)
    # A manifest of another file of that name must not lend this one its labels.
    if described.get("sha256") != digest:
        described = {}
    try:
        described = checked(described)
    except FieldError as error:
        raise ModelError(
            f"{beside} is not as edgekit writes it.",
            found=str(error),
            hint=f"Make {path.name} again, or remove {beside.name}: the file is read without it.",
        ) from error
    variant = described.get("variant", stored.stem_of(path))
    is_packed = stored.is_packed(path)
    if is_packed:
        variant += stored.SUFFIX  # beside the plain file, it is another one
    return Artifact(
        path=path,
        # A file is no source, whatever it is called.
        variant=variant if variant != SOURCE else f"{SOURCE}.tflite",
        mode=described.get("mode"),
        size_bytes=len(content),
        size_deflated_bytes=len(zlib.compress(content, 9)),
        sha256=digest,
        gzip_bytes=path.stat().st_size if is_packed else None,
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


def checked(described: Mapping[str, Any]) -> dict[str, Any]:
    """Return a manifest whose entries all have the types that `describe` gives them.

    An entry that is null or missing says nothing, and is left out; those of later versions of
    edgekit are kept.

    Raises:
        FieldError: An entry has another type.
    """
    entries = {key: value for key, value in described.items() if value is not None}
    fields = Fields(entries, "")
    for key in ("model", "variant"):
        fields.maybe(key, fields.text)
    fields.maybe("mode", lambda key: fields.choice(key, tuple(MODES)))
    fields.texts("labels")
    fields.free("preprocessing")
    fields.free("picture")
    fields.free("head")
    fields.maybe("preprocessing_reason", fields.text)
    if fields.has("data"):
        of = fields.object("data")
        of.maybe("name", of.text)
        of.maybe("task", lambda key: of.choice(key, tuple(TASKS)))
    if fields.has("lowering"):
        of = fields.object("lowering")
        of.maybe("max_abs_difference", of.number)
        of.maybe("samples", of.integer)
        of.maybe("inputs", of.text)
    for operator in fields.objects("left_in_float") if fields.has("left_in_float") else ():
        for key in operator.keys():  # noqa: SIM118
            operator.text(key)
    return entries


def to_text(described: Mapping[str, Any]) -> str:
    """The manifest as it is written."""
    return json.dumps(finite(described), indent=1, default=str, allow_nan=False) + "\n"

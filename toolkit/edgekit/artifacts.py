"""Open `.tflite` files that exist, with the manifest beside each where it belongs to it."""

from __future__ import annotations

import hashlib
import zlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edgekit.errors import ModelError
from edgekit.evaluation.tasks import TASKS
from edgekit.fields import FieldError, Fields
from edgekit.files import FILE, check_input, what_is
from edgekit.modes import MODES
from edgekit.parsing import read_json
from edgekit.records import SOURCE, Artifact
from edgekit.tflite import stored

SCHEMA: Final = 1
"""Version of the manifests that are written and read."""


def open_artifact(path: Path, *, deflate: bool = True) -> Artifact:
    """The record of a file that exists, with its manifest where that still belongs to it.

    Args:
        path: The file.
        deflate: Whether its size after compression is measured, which takes 40 ms a megabyte.

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
        size_deflated_bytes=len(zlib.compress(content, 9)) if deflate else 0,
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
    """Return a manifest whose entries all have the types that `pipeline.manifest` gives them.

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
        of.maybe("metric", of.text)
        of.maybe("output", of.text)
        of.table("outputs", lambda one, name: one.choice(name, tuple(TASKS)))
    if fields.has("lowering"):
        of = fields.object("lowering")
        of.maybe("max_abs_difference", of.number)
        of.maybe("samples", of.integer)
        of.maybe("inputs", of.text)
    for operator in fields.objects("left_in_float") if fields.has("left_in_float") else ():
        for key in operator.keys():  # noqa: SIM118
            operator.text(key)
    return entries

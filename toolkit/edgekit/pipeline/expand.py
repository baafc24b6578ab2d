"""A file that is small on flash becomes the plain int8 or float file that every runtime loads."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from edgekit import tflite
from edgekit.artifacts import open_artifact
from edgekit.errors import UsageError
from edgekit.files import refuse_existing, staging
from edgekit.pipeline import manifest
from edgekit.records import Artifact
from edgekit.tflite.stored import content_of, expanded, manifest_path, stem_of


def expand(source: Path, output: Path, *, force: bool = False) -> Artifact:
    """Write a file unpacked: inflated, its int4 constants as int8, its sparse ones dense.

    It computes what the runner computes, which unpacks files when it loads them. A manifest goes
    along.

    Args:
        source: A `.tflite` or `.tflite.gz` file.
        output: The `.tflite` file to write.
        force: Replace files that exist.

    Raises:
        ModelError: The source cannot be read, or is damaged.
        UsageError: The output has the name of a manifest, or of a packed file.
        OutputError: The output exists, or cannot be written.
    """
    beside = manifest_path(output)
    if beside == output:
        raise UsageError(f"{output} is where the manifest goes.", hint="Give --output F.tflite.")
    if output.suffix == ".gz":
        raise UsageError(
            f"{output} would not be packed: expand writes a plain file.",
            hint="Give --output F.tflite, and pack it with gzip -9n.",
        )
    before = open_artifact(source)
    for place in (output, *([beside] if before.manifest else [])):
        refuse_existing(place, force=force)
    tflite.read(source)  # refuses a damaged one
    content = content_of(source)
    data = expanded(content, str(source))
    if data is not content:
        # Written anew, it is without the bytes that were replaced.
        data = tflite.with_files(tflite.write(tflite.read(data)), tflite.files_behind(content))
    with staging(output.parent, replace=force) as stage:
        made = stage / output.name
        made.write_bytes(data)
        described = dict(before.manifest)
        if described:
            # Made of another file, not of a source: `rebuild` cannot make it again.
            described |= {
                "variant": stem_of(output),
                "build": None,
                "rows": [],
                "expanded_from": before.sha256,
            }
            described.pop("gzip_bytes", None)
        opened = open_artifact(made)
        if described:
            described |= {"sha256": opened.sha256, "size_bytes": opened.size_bytes}
            text = manifest.to_text(described)
            (stage / beside.name).write_text(text, encoding="utf-8")
    variant = described.get("variant", opened.variant)
    return replace(opened, path=output, variant=variant, mode=before.mode, manifest=described)

"""A file that is small on flash becomes the plain int8 or float file that every runtime loads."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from edgekit import targets, tflite
from edgekit.artifacts import open_artifact
from edgekit.errors import ConversionError, UsageError
from edgekit.files import refuse_existing, staging
from edgekit.pipeline import manifest
from edgekit.pipeline.request import FLOAT
from edgekit.quantization.observe import NOTHING
from edgekit.quantization.passes.drop_unused import drop_unused
from edgekit.records import Artifact
from edgekit.tflite.inspect import inspect
from edgekit.tflite.micro_form import micro_form
from edgekit.tflite.stored import content_of, expanded, manifest_path, stem_of

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

SPARSE: Final = "DENSIFY"
_TO_INTEGERS: Final = "--mode int8"
"""What a target's rule says of an operator that mixes integer weights and float activations."""


def expand(
    source: Path, output: Path, *, target: str | None = None, force: bool = False
) -> Artifact:
    """Write a file unpacked: inflated, its int4 constants as int8, its sparse ones dense.

    It computes what the runner computes, which unpacks files when it loads them. A manifest goes
    along.

    Args:
        source: A `.tflite` or `.tflite.gz` file.
        output: The `.tflite` file to write.
        target: A microcontroller: then only what its runtime does not load is written otherwise
            (`tflite.micro_form`); int4 convolutions keep their weights.
        force: Replace files that exist.

    Raises:
        ModelError: The source cannot be read, or is damaged.
        ConversionError: There is no form of it that the target's runtime loads.
        UsageError: The output has the name of a manifest, or of a packed file; or the target is
            no microcontroller.
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
    if target is not None and targets.target(target).budget is None:
        raise UsageError(
            f"expand has no form of its own for {target}.",
            hint="Leave --target out, or name a microcontroller: micro.",
        )
    before = open_artifact(source)
    for place in (output, *([beside] if before.manifest else [])):
        refuse_existing(place, force=force)
    model = tflite.read(source)  # refuses a damaged one
    content = content_of(source)
    data = _in_micro_form(model, content) if target else _plain(content, str(source))
    with staging(output.parent, replace=force) as stage:
        made = stage / output.name
        made.write_bytes(data)
        if target is not None:
            _check_loads(made, source, target, before.manifest)
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


def _check_loads(made: Path, source: Path, target: str, described: Mapping[str, Any]) -> None:
    """Refuse a file that the target's runtime does not load in its own form either."""
    found = inspect(made, targets=(target,))
    memory = found.memory.get(target)
    lacking = found.unmapped(target)
    if not lacking and (memory is None or memory.loads is not False):
        return
    why = memory.message if memory is not None else None
    hint = f"edgekit inspect {source} --target {target} names what is in the way."
    if lacking:
        first, why = lacking[0], lacking[0].targets[target].reason
        if _TO_INTEGERS in (why or ""):
            build = described.get("build")
            of = (build.get("source") if isinstance(build, Mapping) else None) or "MODEL"
            words = f"{of} --data DATA {_TO_INTEGERS} --target {target} -o DIR"
            hint = f"Make one of the model: edgekit quantize {words}"
        why = f"Operator {first.index} ({first.name}): {why}"
    raise ConversionError(f"{source} has no form that {target} loads.", found=why, hint=hint)


def _plain(content: bytes, name: str) -> bytes:
    """Return a file that every runtime loads."""
    data = expanded(content, name)
    if data is content:
        return content
    # Written anew, it is without the bytes that were replaced.
    return tflite.with_files(tflite.write(tflite.read(data)), tflite.files_behind(content))


def _in_micro_form(model: ModelT, content: bytes) -> bytes:
    """Return a file that TFLite Micro loads, where it has such a form."""
    if any(op == SPARSE for _, _, op in tflite.operators(model)):
        model = tflite.read(expanded(content, "The model"))
    slim = drop_unused(micro_form(model), NOTHING, FLOAT)
    return tflite.with_files(tflite.write(slim), tflite.files_behind(content))

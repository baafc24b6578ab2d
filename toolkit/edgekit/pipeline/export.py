"""A model becomes C sources for firmware with TFLite Micro, with an example that proves them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from edgekit import targets, tflite
from edgekit.artifacts import open_artifact
from edgekit.errors import BudgetError, ModelError, UsageError
from edgekit.evaluation.codes import encoded
from edgekit.files import refuse_existing, sha256_of, staging
from edgekit.pipeline.subjects import Opener, bind_to_file
from edgekit.records import Array, DataRequest, MemoryFit, TensorSpec
from edgekit.targets.arena import ALIGNMENT, aligned
from edgekit.targets.micro import registrations
from edgekit.targets.node import Node
from edgekit.tflite import micro_interpreter
from edgekit.tflite.c_sources import C_TYPES, Package, check_name, example_inputs, sources
from edgekit.tflite.micro_memory import memory
from edgekit.tflite.nodes import nodes
from edgekit.tflite.reference import reference_outputs
from edgekit.tflite.stored import content_of

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

_SLACK_BYTES: Final = 1024  # of the search for the least arena


@dataclass(frozen=True, slots=True, kw_only=True)
class Exported:
    """What was written.

    Attributes:
        folder: Where.
        files: Names of the files.
        memory: What the model needs.
        arena_bytes: The arena that is declared.
        registrations: The operators that are registered.
        example: Where the stored example comes from, in words.
        equal: Whether TFLite Micro's outputs equal those of LiteRT's reference kernels to the bit;
            None if its interpreter is not installed.
    """

    folder: Path
    files: tuple[str, ...]
    memory: MemoryFit
    arena_bytes: int
    registrations: tuple[str, ...]
    example: str
    equal: bool | None


def export(
    source: Path,
    folder: Path,
    *,
    target: str = "micro",
    name: str = "model",
    data: DataRequest | None = None,
    force: bool = False,
) -> Exported:
    """Write a model as C sources.

    Args:
        source: A `.tflite` or `.tflite.gz` file.
        folder: Where the files go.
        target: A microcontroller.
        name: Prefix of all names in the sources.
        data: Whose first test sample is the example; None takes seeded random values.
        force: Replace files that exist.

    Raises:
        ModelError: TFLite Micro does not run it; or it cannot be read.
        BudgetError: It needs more memory than the target has.
        DataError: The data does not fit the model.
        UsageError: The target is no microcontroller, or the name is no identifier.
        OutputError: Files exist, or cannot be written.
    """
    check_name(name)
    configured = targets.target(target)
    if configured.budget is None:
        raise UsageError(
            f"There are no C sources for {target}.", hint="Name a microcontroller: micro."
        )
    content = _aligned(content_of(source))
    model = tflite.read(content)
    operators = nodes(model)
    _check_fits(source, target, operators)
    needs = memory(model, operators, content, {target: configured.budget})[target]
    _check_memory(source, target, needs)
    inputs, outputs = tflite.signature(model)
    tflite.check_interface(str(source), inputs, outputs)
    _check_types(source, (*inputs, *outputs))
    given, example = _example(source, inputs, data)
    expected = [np.asarray(array) for array in reference_outputs(content, [given])[0]]
    assert needs.arena_bytes is not None
    arena_bytes = aligned(needs.arena_bytes)
    equal = None
    if micro_interpreter.available():
        if not needs.measured:
            needs = _with_least_arena(source, content, needs)
            arena_bytes = aligned(needs.arena_bytes or 0)
        expected, equal = _verified(source, content, arena_bytes, given, expected)
    package = Package(
        name=name,
        content=content,
        arena_bytes=arena_bytes,
        registrations=tuple(registrations(operators)),
        variables=_variables(model),
        inputs=given,
        outputs=tuple(expected),
        comment=f"Made by edgekit from {_word(source.name)}, SHA-256 {sha256_of(source)[:16]}.",
    )
    texts = sources(package)
    for file in texts:
        refuse_existing(folder / file, force=force)
    with staging(folder, replace=force) as stage:
        for file, text in texts.items():
            (stage / file).write_text(text, encoding="ascii")
    return Exported(
        folder=folder,
        files=tuple(texts),
        memory=needs,
        arena_bytes=arena_bytes,
        registrations=package.registrations,
        example=example,
        equal=equal,
    )


def _aligned(content: bytes) -> bytes:
    """Return a file whose constants begin at multiples of 16 bytes, as kernels expect."""
    model = tflite.read(content)
    start = np.frombuffer(content, np.uint8).ctypes.data
    used = {tensor.buffer for graph in model.subgraphs for tensor in graph.tensors}
    constants = [model.buffers[index].data for index in used]
    places = [data.ctypes.data - start for data in constants if data is not None and len(data)]
    return tflite.write(model) if any(place % ALIGNMENT for place in places) else content


def _check_fits(source: Path, target: str, operators: Sequence[Node]) -> None:
    fits = targets.fit(target, operators)
    lacking = next((node for node in operators if not fits[node.index].mapped), None)
    if lacking is not None:
        raise ModelError(
            f"{source} does not run in TFLite Micro: operator {lacking.index} ({lacking.name}).",
            found=fits[lacking.index].reason,
            hint="edgekit inspect FILE --target micro lists every operator that it does not run.",
        )


def _check_memory(source: Path, target: str, needs: MemoryFit) -> None:
    if needs.loads is False:
        raise ModelError(f"TFLite Micro does not load {source}.", found=needs.message)
    if needs.arena_bytes is None:
        raise ModelError(
            f"The arena of {source} cannot be planned.",
            hint="Install TFLite Micro's interpreter: pip install 'edgekit-tflite[micro]'",
        )
    if needs.fits is False:
        raise BudgetError(
            f"{source} does not fit {target}.",
            found=f"It needs an arena of {needs.arena_bytes:,} bytes and "
            f"{needs.needed_flash_bytes:,} bytes of flash (estimated); there are "
            f"{_count(needs.ram_bytes)} and {_count(needs.flash_bytes)}.",
            hint="Shrink the model (edgekit shrink), or name a larger target.",
        )


def _with_least_arena(source: Path, content: bytes, needs: MemoryFit) -> MemoryFit:
    """Look for the least arena in which the interpreter loads a file."""
    assert needs.arena_bytes is not None
    found = micro_interpreter.run(content, outputs=0)
    least = None
    if found.arena_bytes is not None:
        end = max(found.arena_bytes, needs.arena_bytes) + _SLACK_BYTES
        least = micro_interpreter.least_arena(content, found.arena_bytes, end)
    if least is None:
        raise ModelError(
            f"TFLite Micro does not load {source} in the planned arena of "
            f"{needs.arena_bytes:,} bytes.",
            found=found.message,
        )
    return replace(needs, arena_bytes=least, measured=True)


def _count(size: int | None) -> str:
    return "any number" if size is None else f"{size:,}"


def _check_types(source: Path, specs: Sequence[TensorSpec]) -> None:
    for spec in specs:
        if spec.dtype not in C_TYPES:
            raise ModelError(
                f"{source}: {spec.name} is {spec.dtype}, of which no example is written.",
                hint="Use --mode int8 or float32.",
            )


def _example(
    source: Path, inputs: Sequence[TensorSpec], data: DataRequest | None
) -> tuple[tuple[Array, ...], str]:
    """Return arrays for the inputs, and where they come from."""
    shapes = [(tuple(max(1, size) for size in spec.shape), spec.dtype) for spec in inputs]
    if data is None:
        return example_inputs(shapes), "seeded random values"
    dataset = bind_to_file(Opener(data), open_artifact(source))
    assert dataset.test is not None  # the opener refuses data without
    batch = dataset.test.read(np.zeros(1, np.int64))
    arrays = []
    for spec, (shape, _) in zip(inputs, shapes, strict=True):
        values = batch.inputs[spec.name if spec.name in batch.inputs else next(iter(batch.inputs))]
        arrays.append(encoded(values, spec, shape[0] if shape else 1).reshape(shape))
    return tuple(arrays), f"the first test sample of {dataset.name}"


def _verified(
    source: Path,
    content: bytes,
    arena_bytes: int,
    given: tuple[Array, ...],
    expected: Sequence[Array],
) -> tuple[list[Array], bool]:
    """Run TFLite Micro with the declared arena; return its outputs, and whether they are equal."""
    ran = micro_interpreter.run(
        content, outputs=len(expected), inputs=[given], arena_bytes=arena_bytes
    )
    if not ran.loads:
        raise ModelError(f"{source} does not run in TFLite Micro.", found=ran.message)
    pairs = [
        (np.asarray(ours).reshape(theirs.shape).astype(theirs.dtype, copy=False), theirs)
        for ours, theirs in zip(ran.outputs[0], expected, strict=True)
    ]
    equal = all(ours.tobytes() == theirs.tobytes() for ours, theirs in pairs)
    return [ours for ours, _ in pairs], equal


def _variables(model: ModelT) -> int:
    """Return the number of resource variables."""
    names = {
        (op.builtinOptions.container, op.builtinOptions.sharedName)
        for _, op, name in tflite.operators(model)
        if name == "VAR_HANDLE" and op.builtinOptions is not None
    }
    return len(names)


def _word(name: str) -> str:
    """Return a file's name as it can stand in a comment in ASCII."""
    return "".join(c if c.isascii() and (c.isalnum() or c in "._-") else "_" for c in name)[:60]

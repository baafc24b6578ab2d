"""Read and write TFLite Metadata: what a model's inputs and outputs mean.

TFLite Metadata (`metadata_schema.fbs` of tensorflow/tflite-support, identifier M001): a flatbuffer
in a buffer of the model, named TFLITE_METADATA; the files it refers to are in a zip archive
appended to the model, without compression.
"""

from __future__ import annotations

import copy
import io
import struct
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from edgekit.errors import ModelError
from edgekit.records import TensorSpec
from edgekit.tflite.flatbuffer_tables import Byte, Fields, Table, UInt, pack, unpack
from edgekit.tflite.graph import as_text, read, write
from edgekit.tflite.signature import signature

if TYPE_CHECKING:
    from ai_edge_litert.schema_py_generated import ModelT

LABELS: Final = "labels.txt"
_ENTRY: Final = "TFLITE_METADATA"
_IDENTIFIER: Final = b"M001"
# Every field written here exists since the schema's first version.
_PARSER: Final = "1.0.0"
_LARGEST: Final = 1 << 24

# Members of the schema's unions and enumerations.
_FEATURE: Final = Byte(1)
_IMAGE: Final = Byte(2)
_NORMALIZATION: Final = Byte(1)
_AXIS_LABELS: Final = Byte(2)
_COLOURS: Final = ("unknown", "rgb", "grayscale")


@dataclass(frozen=True, slots=True, kw_only=True)
class TensorMetadata:
    """Metadata of one input or output.

    Attributes:
        name: Its human-readable name.
        description: A sentence, or "".
        colours: rgb, grayscale or unknown for an image; None for anything else.
        mean: Subtracted from the raw values: one number, or one per channel; empty if not stated.
        std: Divisor after that, as many numbers.
        labels: Class names along the last axis; empty if there are none.
    """

    name: str
    description: str = ""
    colours: str | None = None
    mean: tuple[float, ...] = ()
    std: tuple[float, ...] = ()
    labels: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Metadata:
    """Metadata of a model; inputs and outputs in the graph's order."""

    name: str
    description: str
    min_parser_version: str
    inputs: tuple[TensorMetadata, ...]
    outputs: tuple[TensorMetadata, ...]


def with_metadata(
    data: bytes | ModelT, *, name: str, preprocessing: Mapping[str, Any], labels: Sequence[str] = ()
) -> bytes:
    """Write metadata into a model, replacing existing ones.

    Args:
        data: A model, as bytes or parsed.
        name: Name of the model.
        preprocessing: How raw values become its input. An affine map `(raw * scale - mean) /
            std` is written as the schema's `(raw - mean) / std`; any other only as a description.
            With several inputs it is left out, because it does not state its input.
        labels: Class names; they go to the first output with as many values on its last axis.

    Raises:
        ModelError: The model cannot be read.
    """
    model = read(data) if isinstance(data, bytes) else data
    inputs, outputs = signature(model)
    said = preprocessing if len(inputs) == 1 else {"kind": "none"}
    classes = next((o for o in outputs if labels and o.shape[-1:] == (len(labels),)), None)
    tables: Fields = {
        0: name,
        3: [
            {
                2: [_input(tensor, said) for tensor in inputs],
                3: [_output(tensor, labelled=tensor is classes) for tensor in outputs],
            }
        ],
        7: _PARSER,
    }
    # One label per line: a line break inside a label would shift all following ones.
    text = "".join(" ".join(label.split()) + "\n" for label in labels)
    described = _with_table(model, pack(tables, _IDENTIFIER))
    return with_files(write(described), {LABELS: text.encode()} if classes else {})


def carry_metadata(source: ModelT, model: ModelT) -> ModelT:
    """Copy the metadata of a source model to a model made from it.

    The values remain valid: those of a quantized model refer to float inputs and outputs. Files
        that they refer to are appended to the model file: see `files_behind`, `with_files`.

    Returns:
        A copy; `model` itself where the source has no metadata.
    """
    packed = _packed(source)
    return model if packed is None else _with_table(model, packed)


def has_metadata(model: ModelT) -> bool:
    """Whether a model has metadata."""
    return _packed(model) is not None


def read_metadata(data: bytes) -> Metadata | None:
    """Return the metadata of a model; None if it has none.

    Raises:
        ModelError: The model or its metadata cannot be read.
    """
    packed = _packed(read(data))
    if packed is None:
        return None
    files = files_behind(data)
    try:
        root = unpack(packed, _IDENTIFIER)
        graphs = root.tables(3)
        inputs, outputs = (
            tuple(_tensor(table, files) for graph in graphs[:1] for table in graph.tables(side))
            for side in (2, 3)
        )
        return Metadata(
            name=root.text(0),
            description=root.text(1),
            min_parser_version=root.text(7),
            inputs=inputs,
            outputs=outputs,
        )
    except (ValueError, struct.error) as error:
        raise ModelError(
            "The model's metadata are invalid.",
            found=f"{error}.",
            hint="Write the file again with the tool that made it.",
        ) from error


_SOUNDS = {
    "log-mel": "log-mel bands",
    "mfcc": "mel-frequency cepstral coefficients",
    "micro": "features of TFLite Micro's audio front end",
}
"""What the features of sound are called."""


def _input(tensor: TensorSpec, spec: Mapping[str, Any]) -> Fields:
    """Return the schema's TensorMetadata of an input, preprocessed as `spec` describes."""
    fields: dict[int, Any] = {0: tensor.name, 3: {0: _FEATURE, 1: {}}}
    if spec["kind"] in _SOUNDS:
        fields[1] = f"{_SOUNDS[spec['kind']]} of {spec['sample_rate']} Hz audio"
    if spec["kind"] == "image":
        # The schema has no value for the order blue, green, red.
        bgr = spec["channels"] == 3 and spec["order"] == "bgr"
        colours = "grayscale" if spec["channels"] == 1 else "unknown" if bgr else "rgb"
        size = {0: UInt(spec["width"]), 1: UInt(spec["height"])}
        fields[3] = {0: _IMAGE, 1: {0: Byte(_COLOURS.index(colours)), 1: size}}
        if bgr:
            fields[1] = "channels in the order blue, green, red"
    if spec["kind"] in ("affine", "image") and spec["scale"] != 0:
        mean, std = np.broadcast_arrays(np.atleast_1d(spec["mean"]), np.atleast_1d(spec["std"]))
        numbers = {axis: tuple(v / spec["scale"]) for axis, v in enumerate((mean, std))}
        fields[4] = [{0: _NORMALIZATION, 1: numbers}]
    return fields


def _output(tensor: TensorSpec, *, labelled: bool) -> Fields:
    """Return the schema's TensorMetadata of an output."""
    fields: dict[int, Any] = {0: tensor.name, 3: {0: _FEATURE, 1: {}}}
    if labelled:
        fields[6] = [{0: LABELS, 2: _AXIS_LABELS}]
    return fields


def _tensor(table: Table, files: Mapping[str, bytes]) -> TensorMetadata:
    content, colours = table.table(3), None
    if content is not None and content.byte(0) == _IMAGE:
        image = content.table(1)
        code = image.byte(0) if image else 0
        colours = _COLOURS[code] if code < len(_COLOURS) else "unknown"
    options = [unit.table(1) for unit in table.tables(4) if unit.byte(0) == _NORMALIZATION]
    named = [file.text(0) for file in table.tables(6) if file.byte(2) == _AXIS_LABELS]
    labels = files.get(named[0], b"") if named else b""
    return TensorMetadata(
        name=table.text(0),
        description=table.text(1),
        colours=colours,
        mean=options[0].floats(0) if options and options[0] else (),
        std=options[0].floats(1) if options and options[0] else (),
        labels=tuple(labels.decode("utf-8", errors="replace").splitlines()),
    )


def _packed(model: ModelT) -> bytes | None:
    """Return the flatbuffer of the metadata."""
    for entry in model.metadata:
        if as_text(entry.name) == _ENTRY and 0 <= entry.buffer < len(model.buffers):
            content = model.buffers[entry.buffer].data
            return None if content is None else bytes(content)
    return None


def _with_table(model: ModelT, packed: bytes) -> ModelT:
    """Return a copy of a model with these metadata."""
    from ai_edge_litert import schema_py_generated as schema

    model = copy.copy(model)
    model.buffers, model.metadata = [*model.buffers], [*model.metadata]
    values = np.frombuffer(packed, np.uint8)
    place = next((e.buffer for e in model.metadata if as_text(e.name) == _ENTRY), 0)
    if 0 < place < len(model.buffers) and all(
        tensor.buffer != place for graph in model.subgraphs for tensor in graph.tensors
    ):
        model.buffers[place] = schema.BufferT(data=values)
    else:
        model.metadata = [entry for entry in model.metadata if as_text(entry.name) != _ENTRY]
        model.metadata.append(schema.MetadataT(name=_ENTRY, buffer=len(model.buffers)))
        model.buffers.append(schema.BufferT(data=values))
    return model


def with_files(data: bytes, files: Mapping[str, bytes]) -> bytes:
    """Append an archive of files to a serialized model, as labels are stored."""
    if not files:
        return data
    result = io.BytesIO(data)
    with zipfile.ZipFile(result, "a") as archive:
        for name, content in files.items():
            # The default date of an entry is fixed: the same model gives the same bytes.
            entry = zipfile.ZipInfo(name)
            entry.create_system = 3
            archive.writestr(entry, content)
    return result.getvalue()


def files_behind(data: bytes) -> dict[str, bytes]:
    """Return the files appended to a serialized model, by name; empty without an archive.

    Raises:
        ModelError: The archive cannot be unpacked.
    """
    if not zipfile.is_zipfile(io.BytesIO(data)):
        return {}
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            entries = archive.infolist()
            if sum(entry.file_size for entry in entries) <= _LARGEST:
                return {entry.filename: archive.read(entry) for entry in entries}
    except Exception as error:  # zipfile, zlib and struct raise many kinds of exceptions
        raise _no_archive(str(error)) from error
    raise _no_archive(f"they take more than {_LARGEST} bytes")


def _no_archive(found: str) -> ModelError:
    return ModelError(
        "The files behind the model cannot be unpacked.",
        found=f"{found}.",
        hint="Copy the file again, or write it again with the tool that made it.",
    )

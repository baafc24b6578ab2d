"""Model files as they are stored: plain, or packed with gzip; and what runtimes load of them.

Unpacking is the runner's (its section Expansion), so that host and device compute with the same
bytes. Packing is here: the same content gives the same bytes, without a name and a time.
"""

from __future__ import annotations

import struct
import zlib
from pathlib import Path
from typing import Any, Final

import edgekit_runner
from edgekit.errors import ModelError

SUFFIX: Final = ".gz"

# Header of RFC 1952: deflate, no name, no time, slowest compression, unknown system.
_HEADER: Final = b"\x1f\x8b\x08\x00\x00\x00\x00\x00\x02\xff"
_FILTERED: Final = (zlib.Z_DEFAULT_STRATEGY, zlib.Z_FILTERED)
# Larger files are packed in one way only: ten would take seconds.
_SMALL_BYTES: Final = 1 << 20


def content_of(path: Path) -> bytes:
    """Return the TFLite file at a path, inflated if it is packed.

    Raises:
        ModelError: It cannot be read; or it is packed, and damaged, no model, or too large.
    """
    try:
        stored = edgekit_runner.stored_model(str(path))
        return stored if isinstance(stored, bytes) else path.read_bytes()
    except edgekit_runner.RunnerError as error:
        raise _as_model_error(error) from error
    except OSError as error:
        raise ModelError(
            f"Cannot read {path}: {error.strerror}.", hint="Give an existing .tflite file."
        ) from error


def size_of(path: Path) -> int:
    """Return the bytes of the TFLite file at a path, inflated if it is packed.

    Raises:
        ModelError: As `content_of`.
    """
    return len(content_of(path)) if is_packed(path) else path.stat().st_size


def loadable(path: Path) -> dict[str, Any]:
    """Return the arguments of an interpreter for a file, as the runner loads it.

    Raises:
        ModelError: As `content_of`, or its constants are damaged.
    """
    try:
        content = edgekit_runner.loadable(str(path))
    except edgekit_runner.RunnerError as error:
        raise _as_model_error(error) from error
    return {"model_path" if isinstance(content, str) else "model_content": content}


def expanded(content: bytes, name: str, *, for_tflite_runtime: bool = False) -> bytes:
    """Return a file with its int4 and sparse constants expanded.

    Args:
        content: The file; one that `verify` accepted.
        name: What to call it in an error.
        for_tflite_runtime: As the runner does before tflite-runtime 2.14 loads it; otherwise all
            that can be expanded is.

    Raises:
        ModelError: It is damaged, or would become too large.
    """
    try:
        if for_tflite_runtime:
            return edgekit_runner.expand(content, per_channel=False, floats=False)
        return edgekit_runner.expand(content)
    except edgekit_runner.damage() as error:
        raise ModelError(
            f"The constants of {name} cannot be expanded.",
            found=str(error),
            hint="The file is damaged: copy or convert it again.",
        ) from error


def packed(content: bytes) -> bytes:
    """Return a gzip file of the content, as small as zlib makes it.

    Weights of few bits are close to noise: there it can pay to look for longer matches only, and
    to adapt the codes more often (a lower memory level). Of ten ways the smallest is kept.
    """
    small = len(content) <= _SMALL_BYTES
    ways = [(s, level) for s in _FILTERED for level in ((8, 5, 6, 7, 9) if small else (8,))]
    deflated = min((_deflated(content, *way) for way in ways), key=len)
    size = len(content) & 0xFFFFFFFF
    return _HEADER + deflated + struct.pack("<II", zlib.crc32(content), size)


def _deflated(content: bytes, strategy: int, memory_level: int) -> bytes:
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS, memory_level, strategy)
    return packer.compress(content) + packer.flush()


def is_packed(path: Path) -> bool:
    """Whether a file is packed; what it is called does not matter.

    Raises:
        OSError: It cannot be read.
    """
    with path.open("rb") as stream:
        return stream.read(2) == edgekit_runner.GZIP


def packed_path(path: Path) -> Path:
    """Return where a file's packed form stands: `int4.tflite.gz` for `int4.tflite`."""
    return path.with_name(path.name + SUFFIX)


def manifest_path(path: Path) -> Path:
    """Return where a file's manifest is: `int4.json` for `int4.tflite` and `int4.tflite.gz`."""
    return Path(edgekit_runner.manifest_path(str(path)))


def stem_of(path: Path) -> str:
    """Return a file's name without its endings."""
    return manifest_path(path).stem


def _as_model_error(error: edgekit_runner.RunnerError) -> ModelError:
    what, *details = error.lines
    hint = details.pop() if details else None
    return ModelError(what, found=" ".join(details) or None, hint=hint)

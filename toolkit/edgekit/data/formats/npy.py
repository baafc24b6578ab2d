"""The header of a numpy array in a file, read without trusting it; and what reading may raise.

The format: numpy.org/doc/stable/reference/generated/numpy.lib.format.html.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np

from edgekit.archives import ArchiveError
from edgekit.errors import DataError

_MAGIC = np.lib.format.MAGIC_PREFIX
_HEADERS = {
    (1, 0): np.lib.format.read_array_header_1_0,
    (2, 0): np.lib.format.read_array_header_2_0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Header:
    """What an array says of itself.

    Attributes:
        size: Bytes before the values.
        shape: `[n, ...]`.
        dtype: Type of the values.
        fortran: Whether the first axis runs fastest.
    """

    size: int
    shape: tuple[int, ...]
    dtype: np.dtype
    fortran: bool


def read_header(stream: IO[bytes], name: str, path: Path, size: int) -> Header | None:
    """Return the header of an array, or None where this is no array.

    Args:
        stream: Opened where the array begins.
        name: The array in messages.
        path: The file that holds it, in messages.
        size: Bytes of header and values together.

    Raises:
        ArchiveError: It is damaged.
        DataError: It holds Python objects.
    """
    magic = stream.read(len(_MAGIC) + 2)
    if not magic.startswith(_MAGIC):
        return None
    try:
        shape, fortran, dtype = _HEADERS[magic[-2], magic[-1]](stream)
    except Exception as error:  # the parser of a Python literal raises what it likes
        raise ArchiveError(
            f"The header of {name!r:.80} cannot be read.", "The file is damaged: write it anew."
        ) from error
    if dtype.hasobject:
        raise DataError(
            f"{path} holds an array of Python objects.",
            found="Reading it would run code from the file.",
            hint="Save arrays of numbers of equal shape (numpy.stack), and labels as texts.",
        )
    begin = stream.tell()
    stored = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or not dtype.itemsize or size != begin + stored:
        raise ArchiveError(
            f"{name!r:.80} declares {'x'.join(map(str, shape))} {dtype}, but holds "
            f"{size - begin:,} bytes.",
            "The file is damaged: write it anew.",
        )
    return Header(size=begin, shape=shape, dtype=dtype, fortran=fortran)


@contextmanager
def read_errors(path: Path, size: int = 0) -> Iterator[None]:
    """Turn any error of reading arrays into a `DataError` that names its cause.

    Args:
        path: The file.
        size: Bytes that are being read.
    """
    try:
        yield
    except DataError:
        raise
    except ArchiveError as error:
        raise DataError(f"{path} cannot be read.", found=error.found, hint=error.hint) from error
    except MemoryError as error:
        raise DataError(
            f"There is not enough memory to read {path}.",
            found=f"An array of it takes {size / 1e6:,.0f} MB.",
            hint="Free memory or raise the limit (ulimit -v), or save fewer or smaller samples.",
        ) from error
    except OSError as error:
        raise DataError(
            f"{path} cannot be read.",
            found=f"The system says: {error.strerror or error}.",
            hint=f"Compressed arrays are unpacked below {tempfile.gettempdir()}: free "
            f"{size / 1e6:,.0f} MB, set TMPDIR, or save with numpy.savez."
            if size
            else "Check the path and the rights.",
        ) from error
    except Exception as error:  # a damaged archive makes zipfile and numpy raise what they like
        raise DataError(
            f"{path} cannot be read.",
            found=f"{str(error).splitlines()[0] if str(error) else type(error).__name__}.",
            hint="The file is damaged: write it anew.",
        ) from error

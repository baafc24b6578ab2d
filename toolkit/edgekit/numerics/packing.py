"""Pack two 4-bit codes into a byte, as TFLite stores them."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def pack_int4(codes: NDArray[np.int8]) -> NDArray[np.uint8]:
    """Pack codes in [-8, 7], the first of each pair in the low half; an odd number is padded by 0.

    >>> [hex(byte) for byte in pack_int4(np.array([1, -1, 7], np.int8))]
    ['0xf1', '0x7']

    Args:
        codes: Any shape, int8; read in C order.

    Returns:
        `[ceil(n / 2)]`, uint8.
    """
    flat = codes.reshape(-1)
    if flat.size % 2:
        flat = np.append(flat, np.int8(0))
    halves = np.bitwise_and(flat.view(np.uint8), 0x0F, dtype=np.uint8)
    return np.bitwise_or(halves[0::2], np.left_shift(halves[1::2], 4, dtype=np.uint8))


def unpack_int4(packed: NDArray[np.uint8], count: int) -> NDArray[np.int8]:
    """Unpack `count` codes.

    >>> unpack_int4(np.array([0xF1, 0x07], np.uint8), 3)
    array([ 1, -1,  7], dtype=int8)
    """
    halves = np.empty(2 * packed.size, np.uint8)
    halves[0::2] = packed << 4
    halves[1::2] = packed & 0xF0
    # An arithmetic shift extends the sign.
    return (halves.view(np.int8) >> 4)[:count]

"""Seeded damage to file contents: `damage(content, dice) -> content`, one function a format.

Blind changes of bytes seldom get beyond a checksum or a parser, so each format is also damaged in
its own terms: fields of tables, values of trees, members of archives, cells, headers.
"""

from __future__ import annotations

import copy
import gzip
import io
import json
import re
import struct
import tomllib
import warnings
import zipfile
import zlib
from collections.abc import Callable
from random import Random
from typing import Any

Damage = Callable[[bytes, Random], bytes]

NUMBERS = (0, 1, 2, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF)
# What is no file of any format, or the beginning of one.
STUMPS = (b"", b"\0", b"\n", b"PK\3\4", b"PK\5\6" + bytes(18), b"\x89HDF\r\n\x1a\n", b"{", b"[]")
TEXTS = (
    "", " ", "\0", "a\nb", "a\r\nb\x85c\u2028d", "\x1b[31m", "\ud800", "\ufeff", "é" * 300,
    "0", "-1", "nan", "../../x", "/dev/null", "[red]", "[/red]", "{0}", "%s", "|", "`", "<b>",
    "x" * 100_000,
    "(" * 50, "a" * 300, "[", "(?P<", "\\", "٣", "²", "--x", "1e999", ".", "NaN",
)  # fmt: skip
VALUES = (
    None, True, False, 0, 1, -1, 2, 255, 256, 2**31, 2**63, 2**64, -(2**63) - 1, 10**40, 10**400,
    0.0, -0.0, 0.5, 1e308, -1e308, 5e-324, float("nan"), float("inf"), float("-inf"),
    [], {}, [[]], [None], [1, "a"], {"": None}, {"a": {}}, [0] * 1000,
)  # fmt: skip
# Written as strings by the tree's writers, and replaced in the text by what they do not write.
DEEP = "@deep@"
RAW = {
    "@date@": "1979-05-27",
    "@time@": "1979-05-27T07:32:00Z",
    "@digits@": "9" * 5000,
    "@octal@": "0o777",
}


def damage_bytes(content: bytes, dice: Random) -> bytes:
    """Flip, overwrite, insert, delete, repeat, move or cut bytes; at times all of them are gone."""
    if dice.random() < 0.02:
        return dice.choice(STUMPS)
    data = bytearray(content)
    for _ in range(dice.choice((1, 1, 2, 4, 12))):
        end = dice.choice((len(data), len(data), min(len(data), 256)))
        place = dice.randrange(end) if end else 0
        length = dice.choice((1, 2, 4, 16, 64))
        kind = dice.randrange(8)
        if kind == 0 and data:
            data[place] ^= 1 << dice.randrange(8)
        elif kind == 1:
            data[place : place + length] = dice.randbytes(length)
        elif kind == 2:
            data[place:place] = dice.randbytes(length)
        elif kind == 3:
            del data[place : place + length]
        elif kind == 4:
            data[place:place] = data[place : place + length] * dice.choice((1, 2, 50))
        elif kind == 5:
            other = dice.randrange(len(data)) if data else 0
            data[place : place + length] = data[other : other + length]
        elif kind == 6:
            size = dice.choice((1, 2, 4, 8))
            order = dice.choice(("little", "big"))
            data[place : place + size] = _number(len(data), dice, size).to_bytes(size, order)
        elif dice.random() < 0.5:
            del data[place:]
    return bytes(data)


def _number(length: int, dice: Random, size: int) -> int:
    """Return a number that a count, size or offset of a file should not be."""
    near = length + dice.randrange(-8, 9)
    number = dice.choice((*NUMBERS, near, dice.randrange(length + 1), 1 << dice.randrange(64)))
    return number & ((1 << 8 * size) - 1)


def damage_flatbuffer(content: bytes, dice: Random) -> bytes:
    """Damage offsets and counts, most of which are small numbers at multiples of four."""
    kind = dice.random()
    if kind < 0.3:
        return damage_bytes(content, dice)
    data = bytearray(content)
    reach = max(8, min(len(data), dice.choice((2_000, 8_000, len(data)))) - 8)
    for _ in range(dice.choice((1, 1, 2, 5))):
        for _ in range(20):
            place = dice.randrange(4, reach + 4) & ~3
            found = int.from_bytes(data[place : place + 4], "little")
            if kind < 0.5 or 0 < found < len(data):
                break
        number = dice.choice((_number(len(data), dice, 4), found + 4, max(0, found - 4), found * 2))
        data[place : place + 4] = (number & 0xFFFFFFFF).to_bytes(4, "little")
    return bytes(data[: len(content)])


def damage_tflite(content: bytes, dice: Random) -> bytes:
    """Damage a model's bytes, or write it anew, whole, with other values in its tables."""
    from ai_edge_litert import schema_py_generated as schema

    if dice.random() < 0.5:
        return damage_flatbuffer(content, dice)
    from edgekit.tflite import write

    model = schema.ModelT.InitFromPackedBuf(content)
    slots = list(_fields(model, 0))
    for _ in range(dice.choice((1, 1, 2, 4))):
        owner, key = dice.choice(slots)
        _set(owner, key, _other(_get(owner, key), dice))
    try:
        # What stands behind the flatbuffer are the files that its metadata names.
        archive = content.find(b"PK\3\4")
        return write(model) + (content[archive:] if archive > 0 else b"")
    except Exception:  # the builder refuses some values: it has an error type for each
        return damage_flatbuffer(content, dice)


def _fields(value: Any, depth: int) -> Any:
    """Yield owner and key of every field below an object of the schema."""
    import numpy as np

    if depth > 12:
        return
    if isinstance(value, list):
        entries = list(enumerate(value))
    elif hasattr(value, "__dict__"):
        entries = list(vars(value).items())
    else:
        return
    for key, one in entries:
        yield value, key
        if isinstance(one, np.ndarray) and 0 < one.size < 64:
            yield from ((one, place) for place in range(one.size) if one.flags.writeable)
        else:
            yield from _fields(one, depth + 1)


def _get(owner: Any, key: Any) -> Any:
    return getattr(owner, key) if isinstance(key, str) else owner[key]


def _set(owner: Any, key: Any, value: Any) -> None:
    import numpy as np

    if isinstance(key, str):
        setattr(owner, key, value)
    elif isinstance(owner, np.ndarray):
        if value is not None and np.ndim(value) == 0 and not isinstance(value, bytes | str):
            with np.errstate(all="ignore"):
                owner[key] = np.array(value).astype(owner.dtype)
    else:
        owner[key] = value


def _other(value: Any, dice: Random) -> Any:
    """Return another value of the same kind, or none."""
    import numpy as np

    if dice.random() < 0.15:
        return None
    if isinstance(value, bool):
        return not value
    if isinstance(value, int | np.integer):
        return dice.choice((0, 1, -1, 2, 127, -128, 255, 2**31 - 1, int(value) + 1, int(value) - 1))
    if isinstance(value, float | np.floating):
        return dice.choice((0.0, -1.0, 1e38, float("nan"), float("inf"), 1e-45))
    if isinstance(value, bytes | str):
        return dice.choice(("", "x" * 1000, "a\nb", "\x1b[31m", "[/red]", b"\xff\xfe"))
    if isinstance(value, np.ndarray):
        return dice.choice((value[:0], value[: len(value) // 2], np.repeat(value, 2), value[::-1]))
    if isinstance(value, list):
        return dice.choice(([], value[:1], value[::-1], value + value, value[1:]))
    return None


def damage_tree(tree: Any, dice: Random) -> Any:
    """Drop, replace, repeat, nest or exchange values of a tree of dicts and lists."""
    tree = json.loads(json.dumps(tree, default=str))
    for _ in range(dice.choice((1, 1, 2, 4))):
        slots = list(_slots(tree))
        if not slots:
            return copy.deepcopy(dice.choice(VALUES))
        owner, key = dice.choice(slots)
        kind = dice.randrange(8)
        if kind == 0:
            del owner[key]
        elif kind == 1:
            owner[key] = dice.choice(TEXTS)
        elif kind == 2:
            owner[key] = dice.choice((DEEP, *RAW))
        elif kind == 3:
            owner[key] = dice.choice(([owner[key]] * 3, {"a": owner[key]}, [[owner[key]]]))
        elif kind == 4:
            other, place = dice.choice(slots)
            if place in other if isinstance(other, dict) else place < len(other):
                owner[key] = json.loads(json.dumps(other[place]))
        elif kind == 5 and isinstance(owner, dict):
            owner[dice.choice(TEXTS)] = owner.pop(key)
        elif kind == 6 and isinstance(owner[key], int | float):
            owner[key] = dice.choice((-owner[key], owner[key] * 2, str(owner[key]), [owner[key]]))
        else:
            owner[key] = copy.deepcopy(dice.choice(VALUES))
    return tree


def _slots(tree: Any) -> Any:
    entries = tree.items() if isinstance(tree, dict) else enumerate(tree)
    for key, value in list(entries):
        yield tree, key
        if isinstance(value, dict | list):
            yield from _slots(value)


def damage_json(content: bytes, dice: Random) -> bytes:
    """Damage a JSON text, or the tree in it."""
    if dice.random() < 0.15:
        return damage_bytes(content, dice)
    try:
        tree = damage_tree(json.loads(content), dice)
    except (ValueError, RecursionError):  # it is damaged already
        return damage_bytes(content, dice)
    text = json.dumps(tree, indent=1, ensure_ascii=dice.random() < 0.7)
    return _completed(text, dice, '"{}"').encode("utf-8", "surrogatepass")


def damage_toml(content: bytes, dice: Random) -> bytes:
    """Damage a TOML text, or the tree in it."""
    if dice.random() < 0.25:
        return damage_bytes(content, dice)
    tree = damage_tree(tomllib.loads(content.decode()), dice)
    lines = tree.items() if isinstance(tree, dict) else [("value", tree)]
    text = "".join(f"{json.dumps(key)} = {_toml(value)}\n" for key, value in lines)
    return _completed(text, dice, '"{}"').encode("utf-8", "surrogatepass")


def _toml(value: Any) -> str:
    """Write a value on one line; what TOML has no word for becomes a text."""
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_toml, value)) + "]"
    if isinstance(value, float):
        return str(value)  # nan and inf are TOML's own words
    return json.dumps(value) if value is not None else '"null"'


def _completed(text: str, dice: Random, quoted: str) -> str:
    """Put in what the writers cannot write."""
    for marker, raw in RAW.items():
        text = text.replace(quoted.format(marker), raw)
    depth = dice.choice((10, 200, 1000, 20_000))
    return text.replace(quoted.format(DEEP), "[" * depth + "]" * depth)


def damage_text(content: bytes, dice: Random) -> bytes:
    """Damage the lines of a text."""
    if dice.random() < 0.4:
        return damage_bytes(content, dice)
    lines = content.decode().split("\n")
    for _ in range(dice.choice((1, 2, 5))):
        place = dice.randrange(len(lines))
        text = dice.choice((*TEXTS, f"{dice.choice(NUMBERS)} {lines[place]}"))
        lines[place : place + dice.choice((0, 1))] = [text] * dice.choice((1, 1, 2, 1000))
    return dice.choice(("\n", "\r\n", "\r")).join(lines).encode("utf-8", "surrogatepass")


def damage_csv(content: bytes, dice: Random) -> bytes:
    """Damage cells, rows, quotes and separators of a table."""
    if dice.random() < 0.3:
        return damage_bytes(content, dice)
    rows = [line.split(",") for line in content.decode().split("\n")]
    for _ in range(dice.choice((1, 1, 3, 10))):
        row = rows[dice.choice((0, dice.randrange(len(rows))))]
        place = dice.randrange(len(row)) if row else 0
        kind = dice.randrange(5)
        if kind < 2 and row:
            row[place] = dice.choice((*TEXTS, '"', '"a""b"', '"open', str(dice.choice(VALUES))))
        elif kind == 2:
            row[place : place + 1] = []
        elif kind == 3:
            row[place:place] = [dice.choice(("", "1", "split", "train"))]
        else:
            rows.insert(dice.randrange(len(rows) + 1), list(row))
    mark = dice.choice((",", ",", ",", ";", "\t", ", "))
    return "\n".join(mark.join(row) for row in rows).encode("utf-8", "surrogatepass")


def damage_npy(content: bytes, dice: Random) -> bytes:
    """Damage the header of an array: its type, shape and order."""
    if dice.random() < 0.3 or content[:6] != b"\x93NUMPY":
        return damage_bytes(content, dice)
    length = struct.unpack("<H", content[8:10])[0]
    header, body = content[10 : 10 + length].decode("latin-1"), content[10 + length :]
    if dice.random() < 0.5:
        types = (
            "|O", "<f2", ">f8", "<M8[s]", "<c8", "<U0", "<U9", "|S0", "|V0", "|b1", "<f16", "u1",
            "<U999999999", "(3,)f4", "f4,f4", "",
        )  # fmt: skip
        header = re.sub(r"'descr': '[^']*'", f"'descr': {dice.choice(types)!r}", header)
    else:
        shapes = (
            "()", "(0,)", "(-1,)", "(1,)", "(2**40,)", f"({2**62}, 8)", "(0, 9999999999)", "None",
            "(1.5,)", f"({10**30},)", "(True,)", "(" + "1, " * 70 + ")", "(4, 4)", f"({2**33},)",
        )  # fmt: skip
        header = re.sub(r"'shape': \([^)]*\)", f"'shape': {dice.choice(shapes)}", header)
    if dice.random() < 0.2:
        header = header.replace("False", dice.choice(("True", "None", "1")))
    packed = header.rstrip("\n").encode("latin-1") + b"\n"
    return b"\x93NUMPY" + bytes((1, 0)) + struct.pack("<H", len(packed)) + packed + body


def damage_zip(content: bytes, dice: Random, member: Damage = damage_bytes) -> bytes:
    """Damage members of an archive, their names and how they are announced."""
    if dice.random() < 0.25:
        return damage_bytes(content, dice)
    with zipfile.ZipFile(io.BytesIO(content)) as archive:
        members = [(name, archive.read(name)) for name in archive.namelist()]
    for _ in range(dice.choice((1, 1, 2))):
        place = dice.randrange(len(members))
        name, inside = members[place]
        kind = dice.randrange(6)
        if kind < 3:
            members[place] = (name, member(inside, dice))
        elif kind == 3:
            members[place] = (dice.choice(("", "x", "../x", "a/", "é.npy", name[:-4], "y")), inside)
        elif kind == 4:
            members.append((name, inside))
        elif len(members) > 1:
            members.pop(place)
    out = io.BytesIO()
    how = dice.choice((zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_LZMA))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of two members of one name: that is wanted
        with zipfile.ZipFile(out, "w", how) as archive:
            for name, inside in members:
                archive.writestr(zipfile.ZipInfo(name), inside, how)
    data = bytearray(out.getvalue())
    if dice.random() < 0.4:
        # Fields of a local and a central header: version, flags, method, crc, sizes, lengths.
        mark, fields = dice.choice(
            ((b"PK\3\4", (4, 6, 8, 14, 18, 22, 26)), (b"PK\1\2", (6, 8, 10)))
        )
        starts = [found.start() for found in re.finditer(re.escape(mark), data)]
        if starts:
            place = dice.choice(starts) + dice.choice((*fields, 20, 24, 42))
            data[place : place + 2] = _number(len(data), dice, 2).to_bytes(2, "little")
    return bytes(data)


def damage_npz(content: bytes, dice: Random) -> bytes:
    """Damage an archive of arrays, and the arrays' headers."""
    return damage_zip(content, dice, damage_npy)


def damage_keras(content: bytes, dice: Random) -> bytes:
    """Damage an archive of JSON texts and weights."""

    def member(inside: bytes, dice: Random) -> bytes:
        return damage_json(inside, dice) if inside[:1] == b"{" else damage_bytes(inside, dice)

    return damage_zip(content, dice, member)


def damage_wav(content: bytes, dice: Random) -> bytes:
    """Damage the fields of a RIFF header, or put chunks before the samples."""
    data = bytearray(content)
    kind = dice.random()
    if kind < 0.3:
        return damage_bytes(content, dice)
    if kind < 0.5:
        size = dice.choice((0, 1, 3, 10))
        announced = dice.choice((size, size, _number(len(data), dice, 4)))
        place = dice.choice((12, 36, len(data)))
        name = dice.choice((b"LIST", b"fmt ", b"data", b"fact", b"\0\0\0\0"))
        data[place:place] = name + struct.pack("<I", announced) + bytes(size)
    # Sizes of RIFF, fmt and data; format, channels, rate, bytes a second, alignment, bits.
    for _ in range(dice.choice((1, 1, 2))):
        place, size = dice.choice(
            ((4, 4), (16, 4), (40, 4), (20, 2), (22, 2), (24, 4), (28, 4), (32, 2), (34, 2))
        )
        data[place : place + size] = _number(len(data), dice, size).to_bytes(size, "little")
    return bytes(data)


def damage_idx(content: bytes, dice: Random) -> bytes:
    """Damage the header of an IDX file, plain or compressed."""
    packed = content[:2] == b"\x1f\x8b"
    if dice.random() < 0.3:
        return damage_bytes(content, dice)
    data = bytearray(gzip.decompress(content) if packed else content)
    for _ in range(dice.choice((1, 1, 2))):
        place = dice.choice((2, 3, 4, 8, 12))
        size = 1 if place < 4 else 4
        data[place : place + size] = _number(len(data), dice, size).to_bytes(size, "big")
    return gzip.compress(bytes(data), 1, mtime=0) if packed else bytes(data)


def damage_picture(content: bytes, dice: Random) -> bytes:
    """Damage chunks of a PNG under right checksums, segments of a JPEG, headers of all else."""
    if dice.random() < 0.3:
        return damage_bytes(content, dice)
    if content[:4] == b"\x89PNG":
        return _png(content, dice)
    data = bytearray(content)
    if content[:2] == b"\xff\xd8":
        marks = [place for place in range(len(data) - 10) if data[place] == 255 and data[place + 1]]
        place = dice.choice(marks) + dice.choice((1, 2, 4, 5, 7, 9))
        size, order = 2, "big"
    else:
        size, order = dice.choice((1, 2, 4)), "little"
        place = dice.randrange(min(64, len(data)))
    data[place : place + size] = _number(len(data), dice, size).to_bytes(size, order)
    return bytes(data)


def _png(content: bytes, dice: Random) -> bytes:
    chunks, place = [], 8
    while place + 12 <= len(content):
        length = int.from_bytes(content[place : place + 4], "big")
        chunks.append((content[place + 4 : place + 8], content[place + 8 : place + 8 + length]))
        place += 12 + length
    at = dice.randrange(len(chunks))
    name, body = chunks[at]
    kind = dice.randrange(6)
    if kind == 0:
        chunks.pop(at)
    elif kind == 1:
        chunks.insert(dice.randrange(len(chunks) + 1), (name, body))
    elif kind == 2:
        inserted = (b"tEXt", b"iTXt", b"zTXt", b"PLTE", b"tRNS", b"acTL", b"fcTL", b"iCCP", b"eXIf")
        chunks.insert(1, (dice.choice(inserted), dice.randbytes(dice.choice((0, 3, 26, 300)))))
    elif kind == 3:
        header = bytearray(chunks[0][1])
        field = dice.choice(((0, 4), (4, 4), (8, 1), (9, 1), (10, 1), (11, 1), (12, 1)))
        number = _number(300, dice, field[1])
        header[field[0] : sum(field)] = number.to_bytes(field[1], "big")
        chunks[0] = (chunks[0][0], bytes(header))
    elif kind == 4 and name == b"IDAT":
        chunks[at] = (name, zlib.compress(damage_bytes(zlib.decompress(body), dice)))
    else:
        chunks[at] = (name, damage_bytes(body, dice))
    return content[:8] + b"".join(
        struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))
        for name, body in chunks
    )


def damage_xml(content: bytes, dice: Random) -> bytes:
    """Damage elements of XML: their names, texts, order and number; or declare entities."""
    kind = dice.random()
    if kind < 0.3:
        return damage_bytes(content, dice)
    pieces = re.split(rb"(<[^>]*>)", content)
    for _ in range(dice.choice((1, 1, 2, 4))):
        place = dice.randrange(len(pieces))
        change = dice.randrange(6)
        if change == 0:
            pieces[place] = b""
        elif change == 1:
            pieces.insert(place, dice.choice(pieces))
        elif change == 2:
            pieces[place] *= dice.choice((2, 50))
        elif pieces[place].startswith(b"<"):
            tags = (b"<a>" * 3000, b"<xmin>", b"</object>", b"<object/>", b"<![CDATA[x]]>", b"&x;")
            pieces[place] = dice.choice(tags)
        else:
            text = dice.choice((*TEXTS, *map(str, VALUES[:24])))
            pieces[place] = text.encode("utf-8", "surrogatepass")
    whole = b"".join(pieces)
    if kind < 0.4:
        entities = b'<!ENTITY a "aaaaaaaaaa"><!ENTITY b "&a;&a;&a;&a;&a;&a;">'
        whole = b"<!DOCTYPE annotation [" + entities + b"]>" + whole
    return whole


def damage_box_lines(content: bytes, dice: Random) -> bytes:
    """Damage the numbers of lines of text, or how many there are."""
    if dice.random() < 0.3:
        return damage_text(content, dice)
    lines = [line.split(b" ") for line in content.split(b"\n")]
    for _ in range(dice.choice((1, 1, 3))):
        line = dice.choice(lines)
        number = dice.choice(
            ("-1", "2", "1e400", "nan", "0x1", "1_0", "0.5", "99999999999", "", "a")
        )
        if line and dice.random() < 0.7:
            line[dice.randrange(len(line))] = number.encode()
        else:
            line += [number.encode()] * dice.choice((1, 2, 3000))
    return b"\n".join(b" ".join(line) for line in lines)

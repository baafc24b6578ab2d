"""A bundle: files, manifests and report of one run in a zip, from which its figures follow.

bundle.json          schema, command, versions, digest of every member
files/               what the run wrote: .tflite, manifests, report.json, report.html
outputs/NAME.npz     what each file computes from the first samples of the test split
log.txt              the warnings and the reason of the recommendation
"""

from __future__ import annotations

import hashlib
import io
import json
import zipfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from tokenize import TokenError
from typing import Any, Final

import numpy as np

from edgekit.archives import DAMAGE, ArchiveError, checked_members
from edgekit.errors import UsageError
from edgekit.evaluation import compared, predict
from edgekit.files import FILE, MISSING, what_is, writing
from edgekit.records import Array, Artifact, Dataset, Report, Samples

SCHEMA: Final = 1
OUTPUT_SAMPLES: Final = 256
INDEX: Final = "bundle.json"
FILES: Final = "files/"
OUTPUTS: Final = "outputs/"
LOG: Final = "log.txt"

# Exceptions of numpy for a damaged header, or one that declares more than fits into memory.
_ARRAY_DAMAGE: Final = (MemoryError, OverflowError, SyntaxError, TypeError, TokenError)
# Zip cannot say that there is no time: the earliest one it has.
_NO_TIME: Final = (1980, 1, 1, 0, 0, 0)


def write_bundle(
    path: Path,
    folder: Path,
    report: Report,
    artifacts: Sequence[Artifact],
    dataset: Dataset | None,
    *,
    replace_existing: bool = False,
) -> None:
    """Write everything that a run's figures follow from, but the data.

    Args:
        path: The zip.
        folder: Where the files of the run stand.
        report: The report of the run.
        artifacts: The files, as they stand in `folder`.
        dataset: The data, whose digests the manifests hold.
        replace_existing: Whether a file at `path` may be replaced.

    Raises:
        OutputError: It cannot be written.
    """
    samples = first_samples(compared(dataset)) if dataset is not None else None
    members = {FILES + file.name: file.read_bytes() for file in sorted(folder.iterdir())}
    failed = {row.artifact.variant for row in report.rows if row.failure}
    for artifact in artifacts if samples is not None else ():
        if artifact.variant in failed:
            continue
        assert samples is not None
        members[f"{OUTPUTS}{artifact.variant}.npz"] = _packed(predict(artifact.path, samples))
    members[LOG] = "\n".join([report.reason, *report.alerts, *report.warnings, ""]).encode()
    index = {
        "schema": SCHEMA,
        "command": report.asked.get("command"),
        "versions": dict(report.versions),
        "members": {name: hashlib.sha256(data).hexdigest() for name, data in members.items()},
    }
    with (
        writing(path, replace=replace_existing) as temporary,
        zipfile.ZipFile(temporary, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        members = {INDEX: json.dumps(index, indent=1).encode(), **members}
        for name, data in members.items():
            info = zipfile.ZipInfo(name, _NO_TIME)
            info.compress_type = zipfile.ZIP_DEFLATED
            archive.writestr(info, data)


def first_samples(samples: Samples | None) -> Samples | None:
    """Return those samples whose outputs a bundle holds."""
    if samples is None:
        return None
    return samples.at(np.arange(min(samples.n, OUTPUT_SAMPLES)))


def unpack(path: Path, folder: Path) -> tuple[Mapping[str, Any], dict[str, dict[str, Array]]]:
    """Check a bundle's members, and write its files into a folder.

    Args:
        path: The zip.
        folder: Where the members of `files/` are written, by their names alone.

    Returns:
        The index; and outputs, variant -> output name -> values.

    Raises:
        UsageError: It is no bundle, is damaged, or a member is not what the index says.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            members = dict(_members(archive))
    except ArchiveError as error:
        raise _no_bundle(path, str(error)) from error
    except (OSError, *DAMAGE) as error:
        kind = what_is(path)
        found = f"It is {kind}." if kind != FILE else str(error) or None
        found = "There is no such file." if kind == MISSING else found
        raise _no_bundle(path, found) from error
    index = _index(path, members)
    digests = index["members"]
    for name, data in members.items():
        if name != INDEX and digests.get(name) != hashlib.sha256(data).hexdigest():
            raise _no_bundle(path, f"{name!r:.80} is not what the bundle's index says.")
    if missing := [name for name in digests if name not in members]:
        raise _no_bundle(path, f"{missing[0]!r:.80} is missing.")
    outputs: dict[str, dict[str, Array]] = {}
    for name, data in members.items():
        if name.startswith(FILES):
            (folder / name.removeprefix(FILES)).write_bytes(data)
        elif name.startswith(OUTPUTS):
            outputs[name.removeprefix(OUTPUTS).removesuffix(".npz")] = _unpacked(path, name, data)
    return index, outputs


def _members(archive: zipfile.ZipFile) -> Iterator[tuple[str, bytes]]:
    for member in checked_members(archive):
        name = member.filename
        plain = name.removeprefix(FILES).removeprefix(OUTPUTS)
        if Path(plain).name != plain or plain in {"", ".", ".."} or "\\" in plain:
            raise ArchiveError(f"{name!r:.80} is no name of a bundle's member.", "Write it again.")
        yield name, archive.read(member)


def _index(path: Path, members: Mapping[str, bytes]) -> Mapping[str, Any]:
    try:
        index = json.loads(members[INDEX])
    except (KeyError, RecursionError, ValueError) as error:
        raise _no_bundle(path, f"It has no readable {INDEX}.") from error
    if (
        not isinstance(index, dict)
        or index.get("schema") != SCHEMA
        or not isinstance(index.get("members"), dict)
    ):
        raise _no_bundle(path, f"Its {INDEX} is not as edgekit writes it.")
    return index


def _packed(outputs: Mapping[str, Array]) -> bytes:
    names = list(outputs)
    stream = io.BytesIO()
    arrays: dict[str, Any] = {f"output_{k}": outputs[name] for k, name in enumerate(names)}
    np.savez_compressed(stream, names=np.array(names), **arrays)
    return stream.getvalue()


def _unpacked(path: Path, name: str, data: bytes) -> dict[str, Array]:
    try:
        with zipfile.ZipFile(io.BytesIO(data)) as archive:
            checked_members(archive)
        with np.load(io.BytesIO(data), allow_pickle=False) as stored:
            return {str(output): stored[f"output_{k}"] for k, output in enumerate(stored["names"])}
    except (OSError, KeyError, *_ARRAY_DAMAGE, *DAMAGE) as error:
        raise _no_bundle(path, f"{name!r:.80} cannot be read.") from error


def _no_bundle(path: Path, found: str | None) -> UsageError:
    return UsageError(
        f"{path} is not a bundle that can be verified.",
        found=found,
        hint="Give what edgekit quantize --bundle wrote, unchanged.",
    )

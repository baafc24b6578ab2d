"""Folders of recordings: WAV of 16 bits and one channel, cut into windows as the runner cuts them.

What the model takes are features of each window, declared in a `preprocessing.toml` of kind
"log-mel", "mfcc" or "micro"; they are computed by the runner's code, and kept.
"""

from __future__ import annotations

import hashlib
import os
import shlex
import wave
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.digest import digest_arrays
from edgekit.data.formats.class_folders import FileKind, Listing, list_folder, split_stores
from edgekit.data.formats.format import Format
from edgekit.data.formats.images import SUFFIXES as PICTURE_SUFFIXES
from edgekit.data.formats.validation import VALIDATION
from edgekit.data.preprocessing import check_preprocessing, read_preprocessing
from edgekit.data.store import RawDataset, Rows
from edgekit.errors import DataError
from edgekit.files import MISSING, what_is
from edgekit.records import Array, Samples, TensorSpec
from edgekit_runner import SOUND_KINDS, open_recording, read_window, recording_conversion

SUFFIX = ".wav"
FRAMES_S = ((0.03, 0.02), (0.025, 0.01), (0.032, 0.016), (0.04, 0.02), (0.03, 0.01), (0.064, 0.032))
"""Usual lengths and distances of frames, in seconds; the first is that of TensorFlow's example."""
BANDS = 40


@dataclass(frozen=True, slots=True, kw_only=True)
class Recording:
    """What the header of a recording says.

    Attributes:
        path: The file.
        rate: Samples a second.
        channels: Number of channels.
        bits: Bits of a sample.
        frames: Number of samples of each channel that there are.
    """

    path: str
    rate: int
    channels: int
    bits: int
    frames: int

    @property
    def words(self) -> str:
        """The format, in words."""
        return f"{self.rate} Hz, {self.channels} channels, {self.bits} bit"


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class SoundStore:
    """Windows of recordings, read when they are asked for.

    Attributes:
        root: The folder, in messages.
        recordings: The recordings.
        groups: Number of each window's recording, `[n]`: those of one stay together.
        starts: First sample of each window in its recording, `[n]`.
        length: Samples of a window; None where no features are declared.
        targets: Class of each window, `[n]`; None without class folders.
        sha256: Digest of names, contents, and where the windows begin.
        contents: Digest of each recording's file.
    """

    root: Path
    recordings: tuple[Recording, ...]
    groups: Array
    starts: Array
    length: int | None
    targets: Array | None
    sha256: str
    contents: tuple[bytes, ...]
    sequences: Array | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def fetch(self, rows: Rows) -> dict[str, Iterable[Any]]:
        """Return the windows at `rows`, int16 `[length]` or shorter at a recording's end.

        Raises:
            DataError: No features are declared.
        """
        if self.length is None:
            raise self.undeclared(())
        return {"x": self._windows(rows, self.length)}

    def digests(self) -> list[bytes]:
        """Return one digest a window."""
        return [
            hashlib.sha256(self.contents[group] + start.tobytes()).digest()
            for group, start in zip(self.groups.tolist(), self.starts, strict=True)
        ]

    def first_unusable(self) -> tuple[str, int] | None:
        """Return None: the samples are integers."""
        return None

    def undeclared(self, inputs: Sequence[TensorSpec]) -> DataError:
        """Return the error that prints a declaration to start from.

        A model that takes no features, but waves, is told to take arrays: none would fit it.
        """
        if inputs and _features_of(inputs) is None:
            shapes = ", ".join(str(list(spec.shape)) for spec in inputs)
            return DataError(
                f"{self.root} holds recordings, and the model takes no features of them.",
                found=f"It takes {shapes}; features are [1, frames, bands, 1].",
                hint="Save what it takes as arrays: numpy.savez('data.npz', x_train=..., "
                "y_train=..., x_test=..., y_test=...), and give --data data.npz.",
            )
        spec = suggested(self.recordings, inputs)
        written = "".join(
            f"{key} = " + (f'"{value}"' if isinstance(value, str) else str(value)) + r"\n"
            for key, value in spec.items()
        )
        shape = f"The model takes {list(inputs[0].shape)}. " if inputs else ""
        return DataError(
            f"{self.root} does not declare the features of its recordings.",
            found=f"{shape}To start from, {self.recordings[0].rate} Hz; it must be what the model "
            "was trained on.",
            hint=f"printf '{written}' > {shlex.quote(str(self.root / 'preprocessing.toml'))}",
        )

    def _windows(self, rows: Rows, length: int) -> Iterator[Array]:
        for row in rows:
            path = self.recordings[self.groups[row]].path
            try:
                with Path(path).open("rb") as stream:
                    sound, frames = open_recording(stream)
                    start = int(self.starts[row])
                    sound.setpos(min(start, frames))
                    yield read_window(sound, length)
            except (OSError, EOFError, RuntimeError, ValueError, wave.Error) as error:
                raise DataError(
                    f"{path} cannot be read any more.", found=f"{error}.", hint="Leave it alone."
                ) from error


def open_sounds(root: Path, preprocessing: Mapping[str, Any] | None) -> RawDataset:
    """Open a folder with `train/<class>/<recording>` and `test/<class>/<recording>`.

    A recording is cut into windows of the declared length as the runner does it: what is left at
    its end is not used, and one shorter than a window is padded with zeros.

    Raises:
        DataError: There are no recordings, or they are in another format than declared.
    """
    folder = list_folder(root, RECORDINGS)
    spec = _spec(root, preprocessing)
    notes = list(folder.notes)
    described = {
        split: tuple(map(_described, listing.files)) for split, listing in folder.listings.items()
    }
    everything = [recording for found in described.values() for recording in found]
    rate = spec["sample_rate"] if spec else everything[0].rate if everything else 0
    _check_format(everything, rate, root)

    def store(listing: Listing) -> SoundStore:
        recordings = next(found for s, found in described.items() if folder.listings[s] is listing)
        length = spec["samples"] if spec else None
        counts = [max(1, r.frames // length) if length else 1 for r in recordings]
        groups = np.repeat(np.arange(len(recordings)), counts)
        starts = np.concatenate([np.arange(n) for n in counts] or [np.empty(0, np.int64)])
        starts = starts.astype(np.int64) * (length or 0)
        classes = folder.targets(listing)
        if len(starts) > len(recordings):
            notes.append(
                f"{len(recordings)} recordings were cut into {len(starts)} windows of "
                f"{spec['samples'] / rate:g} s, each of its recording's class."
            )
        return SoundStore(
            root=root,
            recordings=recordings,
            groups=groups,
            starts=starts,
            length=length,
            targets=None if classes is None else classes[groups],
            sha256=digest_arrays({listing.digest(): starts}),
            contents=tuple(listing.contents),
        )

    stores = split_stores(folder, store)
    return RawDataset(
        name=root.resolve().name,
        train=stores.get("train"),
        test=stores.get("test"),
        pool=stores.get("pool"),
        labels=folder.labels,
        preprocessing=spec or {"kind": "none"},
        notes=tuple(notes),
    )


def require_features(splits: Iterable[Samples | None], inputs: Sequence[TensorSpec]) -> None:
    """Check that the features of recordings are declared.

    Raises:
        DataError: They are not; says what to start from for a model with such inputs.
    """
    for samples in splits:
        if samples is not None and (store := undeclared_sounds(samples)) is not None:
            raise store.undeclared(inputs)


def undeclared_sounds(samples: Samples) -> SoundStore | None:
    """Return the recordings of samples, where their features are not declared."""
    store = getattr(samples.read, "store", None)
    return store if isinstance(store, SoundStore) and store.length is None else None


def suggested(recordings: Sequence[Recording], inputs: Sequence[TensorSpec]) -> dict[str, Any]:
    """Return features to start from: as many frames and bands as the model takes.

    Args:
        recordings: The recordings; the median of their lengths is the window's.
        inputs: The model's inputs; `[1, frames, bands, 1]` tells frames and bands, with or without
            the channel.
    """
    rate = recordings[0].rate
    samples = max(1, int(np.median([recording.frames for recording in recordings])))
    told = _features_of(inputs)
    wanted, bands = told if told and min(told) > 0 else (None, BANDS)
    pairs = [(round(frame * rate), round(hop * rate)) for frame, hop in FRAMES_S]
    pairs = [(frame, hop) for frame, hop in pairs if hop > 0 and frame <= samples]
    usual = [(f, h) for f, h in pairs if wanted in (None, 1 + (samples - f) // h)]
    if usual:
        frame, hop = usual[0]
    else:
        hop = max(1, samples // (wanted or 1))
        frame = max(1, samples - ((wanted or 1) - 1) * hop)
    return {
        "kind": "log-mel",
        "sample_rate": rate,
        "samples": samples,
        "frame": frame,
        "hop": hop,
        "bands": bands,
        "low_hz": 20,
        "high_hz": rate // 2,
        "floor": 1e-6,
    }


def _features_of(inputs: Sequence[TensorSpec]) -> tuple[int, int] | None:
    """Return how many frames and bands a model takes; None if its input is no such features."""
    shape = inputs[0].shape if len(inputs) == 1 else ()
    frames, bands = shape[1:3] if len(shape) in (3, 4) else (1, 1)
    # [1, samples, 1] is a wave.
    matches = shape[3] == 1 if len(shape) == 4 else bands != 1
    return (frames, bands) if len(shape) in (3, 4) and matches else None


def _spec(root: Path, given: Mapping[str, Any] | None) -> dict[str, Any]:
    """Return the declared features, checked; nothing where there are none."""
    path = root / "preprocessing.toml"
    place = "preprocessing"
    if given is None and what_is(path) != MISSING:
        given, place = read_preprocessing(path), str(path)
    if given is None:
        return {}
    spec = check_preprocessing(given, place)
    if spec["kind"] not in SOUND_KINDS:
        raise DataError(
            f"{root}: preprocessing of kind {spec['kind']!r} takes no recordings.",
            hint='Write kind = "log-mel"; without a preprocessing.toml one to start from is shown.',
        )
    return spec


def _described(path: str) -> Recording:
    """Return what a header says; of a format that is not read, what is known."""
    try:
        with Path(path).open("rb") as stream:
            sound, frames = open_recording(stream)
            return Recording(
                path=path,
                rate=sound.getframerate(),
                channels=sound.getnchannels(),
                bits=8 * sound.getsampwidth(),
                frames=frames,
            )
    except wave.Error:  # not PCM: `_check` took it, so that it is refused and not left out
        return Recording(path=path, rate=0, channels=0, bits=0, frames=0)


def _check_format(recordings: Sequence[Recording], rate: int, root: Path) -> None:
    wrong = [r for r in recordings if (r.rate, r.channels, r.bits) != (rate, 1, 16)]
    if wrong:
        found = wrong[0].words if wrong[0].channels else "samples that are no PCM"
        raise DataError(
            f"{len(wrong)} of {len(recordings)} recordings in {root} are in another format.",
            found=f"{os.path.relpath(wrong[0].path, root)} has {found}; wanted {rate} Hz, 1 "
            "channel, 16 bit.",
            hint=recording_conversion(rate or 16000),
        )


def _check(file: str) -> tuple[bytes, str]:
    """Return the digest of a file's content, and a reason not to take it."""
    try:
        content = Path(file).read_bytes()
        if not content:
            return b"", "empty"
        with Path(file).open("rb") as stream:
            open_recording(stream)
    except OSError as error:
        return b"", error.strerror or "not readable"
    except wave.Error as error:
        if not str(error).startswith("unknown format"):
            return b"", f"no WAV: {error}"
    except (EOFError, RuntimeError, ValueError) as error:
        return b"", f"damaged: {error}" if str(error) else "damaged"
    return hashlib.sha256(content).digest(), ""


def _is_of_sounds(root: Path) -> bool:
    """Tell whether the first picture or recording that is found is a recording."""
    splits = [root / split for split in ("train", "test", *VALIDATION)]
    for place in [split for split in splits if split.is_dir()] or [root]:
        for _, _, names in os.walk(place, followlinks=False):
            for name in names:
                suffix = Path(name).suffix.lower()
                if suffix == SUFFIX or suffix in PICTURE_SUFFIXES:
                    return suffix == SUFFIX
    return False


RECORDINGS = FileKind(plural="recordings", suffixes=frozenset({SUFFIX}), check=_check)

FORMAT = Format(
    recognizes=lambda argument: argument.is_folder and _is_of_sounds(argument.path),
    open=lambda argument: open_sounds(argument.path, argument.preprocessing),
)

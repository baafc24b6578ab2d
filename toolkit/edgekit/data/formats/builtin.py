"""Data sets known by name, each with its fixed split, so that scores can be compared.

`digits` is part of the package; the others are read from `$EDGEKIT_DATA`, or downloaded once.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.data.digest import digest_arrays, digest_rows
from edgekit.data.formats.format import Format
from edgekit.data.formats.idx import open_idx
from edgekit.data.formats.masks import MaskStore, open_masks
from edgekit.data.formats.npz import read_npz
from edgekit.data.formats.origins import place
from edgekit.data.formats.voc import open_voc
from edgekit.data.preprocessing import UNIT_SCALE, check_preprocessing
from edgekit.data.splits import held_out
from edgekit.data.store import ArrayStore, RawDataset, Rows, array_store
from edgekit.evaluation.tasks import CLASSIFICATION, REGRESSION
from edgekit.records import Array

DIGITS = Path(__file__).parents[2] / "demo" / "digits.npz"
"""1,797 handwritten digits: `images` `[n, 8, 8]`, 0 to 16, and `labels` `[n]`, both uint8."""
DIGITS_TEST = 500

FASHION_LABELS = (
    "T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
    "Sandal", "Shirt", "Sneaker", "Bag", "Ankle boot",
)  # fmt: skip
SPOKEN_LABELS = ("zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine")

SPOKEN_FEATURES: Mapping[str, Any] = {
    "kind": "log-mel",
    "sample_rate": 8000,
    "samples": 8000,
    "frame": 256,
    "hop": 128,
    "bands": 40,
    "low_hz": 60,
    "high_hz": 3900,
    "floor": 1e-6,
    # Mean and standard deviation of the log energies over the training split.
    "mean": -10.013707160949707,
    "std": 4.966107368469238,
}
FIRST_TRAINING_TAKE = 5

NUCLEI_TEST = 67
"""Pictures at the end that are for testing."""

TABLE_COLUMNS = 26
WINDOW = 30
RUL_CAP = 125.0
"""Cycles; a healthy engine shows no sign of its age, so a longer life is not to be told (the
piecewise-linear target of Heimes, PHM08, as all published FD001 results use it)."""
SENSORS = (2, 3, 4, 7, 8, 9, 11, 12, 13, 14, 15, 17, 20, 21)
"""The sensors of FD001 that vary, numbered from 1 as in its readme."""


def open_builtin(name: str) -> RawDataset:
    """Open a built-in set.

    Raises:
        DataError: Its files are not here, and cannot be downloaded.
    """
    return replace(BUILTINS[name](), name=name)


def _digits() -> RawDataset:
    arrays = read_npz(DIGITS)
    images, classes = arrays["images"][..., None], arrays["labels"]
    train, test = held_out(len(images), classes, DIGITS_TEST / len(images), seed=0)
    return RawDataset(
        name="digits",
        train=array_store({"x": images[train]}, classes[train]),
        test=array_store({"x": images[test]}, classes[test]),
        labels=tuple("0123456789"),
        preprocessing=check_preprocessing({"kind": "affine", "scale": 1 / 16}, "digits"),
        task=CLASSIFICATION.name,
    )


def _fashion_mnist() -> RawDataset:
    size = {"kind": "image", "height": 28, "width": 28, "channels": 1}
    opened = open_idx(place("fashion_mnist"), {**size, "scale": UNIT_SCALE})
    return replace(opened, labels=FASHION_LABELS, task=CLASSIFICATION.name)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ClipStore:
    """Clips of different lengths out of one long recording.

    Attributes:
        audio: All clips in a row, int16 `[samples]`.
        starts: First sample of each clip, `[n]`.
        ends: One past its last sample, `[n]`.
        targets: Class of each clip, `[n]`.
        sha256: Digest of clips and targets.
    """

    audio: Array
    starts: Rows
    ends: Rows
    targets: Array | None
    sha256: str
    groups: Array | None = None
    sequences: Array | None = None

    def __len__(self) -> int:
        return len(self.starts)

    def fetch(self, rows: Rows) -> dict[str, Iterable[Any]]:
        """Return the clips at `rows`, `[samples]` each."""
        return {"x": [self.audio[self.starts[row] : self.ends[row]] for row in rows]}

    def digests(self) -> list[bytes]:
        """Return one digest a clip."""
        return [d for row in range(len(self)) for d in self._digest(row)]

    def first_unusable(self) -> tuple[str, int] | None:
        """Return None: the samples are integers."""
        return None

    def _digest(self, row: int) -> list[bytes]:
        clip = self.audio[self.starts[row] : self.ends[row]]
        return digest_rows({"x": clip[None]}, np.arange(1))


def _spoken_digits() -> RawDataset:
    arrays = read_npz(place("fsdd") / "fsdd.npz")
    offsets, takes, classes = arrays["offsets"], arrays["index"], arrays["label"]
    sha256 = digest_arrays({name: arrays[name] for name in ("audio", "offsets", "label", "index")})

    def store(rows: Rows, split: str) -> ClipStore:
        return ClipStore(
            audio=arrays["audio"],
            starts=offsets[rows],
            ends=offsets[rows + 1],
            targets=classes[rows],
            sha256=digest_arrays({f"{sha256} {split}": rows}),
        )

    return RawDataset(
        name="spoken-digits",
        train=store(np.flatnonzero(takes >= FIRST_TRAINING_TAKE), "train"),
        test=store(np.flatnonzero(takes < FIRST_TRAINING_TAKE), "test"),
        labels=SPOKEN_LABELS,
        preprocessing=check_preprocessing(SPOKEN_FEATURES, "spoken-digits"),
        task=CLASSIFICATION.name,
    )


def _turbofan() -> RawDataset:
    folder = place("cmapss_fd001")
    train, test = (_table(folder / f"{split}_FD001.txt.gz") for split in ("train", "test"))
    left = np.loadtxt(folder / "RUL_FD001.txt", np.float32)
    columns = np.array(SENSORS) + 4  # after unit, cycle and three settings
    low, high = train[:, columns].min(axis=0), train[:, columns].max(axis=0)
    return RawDataset(
        name="turbofan",
        train=_training_windows(train, columns),
        test=_last_windows(test, columns, np.minimum(left, np.float32(RUL_CAP))),
        preprocessing=check_preprocessing(
            {
                "kind": "affine",  # the training set's minimum becomes -1, its maximum 1
                "mean": [float(value) for value in (high + low) / 2],
                "std": [float(value) for value in (high - low) / 2],
            },
            "turbofan",
        ),
        task=REGRESSION.name,
        notes=(f"Targets are the cycles left, at most {RUL_CAP:.0f}.",),
    )


def _training_windows(table: Array, columns: Array) -> ArrayStore:
    windows, targets, engines = [], [], []
    for engine in np.unique(table[:, 0]):
        rows = table[table[:, 0] == engine]
        view = np.lib.stride_tricks.sliding_window_view(rows[:, columns], WINDOW, axis=0)
        windows.append(view.transpose(0, 2, 1).astype(np.float32))
        cycles_left = np.arange(len(view), dtype=np.float32)[::-1]
        targets.append(np.minimum(cycles_left, np.float32(RUL_CAP)))
        engines.append(np.full(len(view), int(engine)))
    stored = array_store(
        {"x": np.concatenate(windows)}, np.concatenate(targets), np.concatenate(engines)
    )
    return replace(stored, overlap=WINDOW - 1)


def _last_windows(table: Array, columns: Array, targets: Array) -> ArrayStore:
    windows = []
    for engine in np.unique(table[:, 0]):
        rows = table[table[:, 0] == engine][-WINDOW:, columns]
        # An engine seen for fewer cycles is taken to have stood at its first one before.
        missing = np.repeat(rows[:1], WINDOW - len(rows), axis=0)
        windows.append(np.concatenate([missing, rows]).astype(np.float32))
    return array_store({"x": np.stack(windows)}, targets)


def _table(path: Path) -> Array:
    """Return the numbers of a text file, `[rows, TABLE_COLUMNS]` float64."""
    text = gzip.decompress(path.read_bytes()).decode("ascii")
    return np.fromstring(text, np.float64, sep=" ").reshape(-1, TABLE_COLUMNS)


def _blood_cells() -> RawDataset:
    return open_voc(place("bccd"), {"kind": "image", "scale": UNIT_SCALE})


def _nuclei() -> RawDataset:
    opened = open_masks(place("nuclei"), {"kind": "image", "scale": UNIT_SCALE})
    store = opened.pool
    assert isinstance(store, MaskStore), "the folder has no splits"
    cut = len(store) - NUCLEI_TEST
    return replace(
        opened,
        pool=None,
        train=store.part(slice(cut)),
        test=store.part(slice(cut, None)),
        labels=("background", "nucleus"),
    )


BUILTINS: Mapping[str, Callable[[], RawDataset]] = {
    "digits": _digits,
    "fashion-mnist": _fashion_mnist,
    "spoken-digits": _spoken_digits,
    "turbofan": _turbofan,
    "bccd": _blood_cells,
    "nuclei": _nuclei,
}


FORMAT = Format(
    recognizes=lambda argument: argument.text in BUILTINS,
    open=lambda argument: open_builtin(argument.text),
)

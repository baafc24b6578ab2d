"""Words that select a method and bounds of numbers, shared by algorithms, recipes and commands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final, Literal

MAX_COUNT: Final = 10**9
"""Largest accepted count of anything (epochs, samples, runs), far below any integer overflow."""

MAX_SEED: Final = 2**32 - 1
"""Largest random seed that numpy and Keras accept."""

MAX_THREADS: Final = 1024
"""Largest accepted number of interpreter threads."""

RangesMethod = Literal["auto", "minmax", "percentile", "mse", "entropy"]
"""How activation ranges are chosen."""

AUTO: Final = "auto"
"""By the outputs of files that were tried; the form of the float graph is chosen likewise."""

MINMAX: Final = "minmax"
"""The extremes: the only method that needs no histograms."""

Scope = Literal["global", "layer"]
"""Set of weights within which magnitudes are compared."""

SplitBy = Literal["auto", "group", "time"]
"""How the validation samples are chosen; see `data.training_split`."""

Initial = Literal["linear", "density"]
"""Centroid initialization."""

Importance = Literal["l2", "bn_scale", "taylor"]
"""How channels are ranked."""

TAYLOR: Final = "taylor"
"""The only importance that needs samples."""

RecurrentForm = Literal["compact", "fused", "unrolled"]
"""How recurrent layers stand in a float graph; see `lowering.recurrent.RecurrentLayers`."""

COMPACT: Final = "compact"
FUSED: Final = "fused"
UNROLLED: Final = "unrolled"
LOOP_STEPS: Final = 3
"""Most steps of a recurrent layer that are written out: a loop takes about 5 kB once, and every
step that is written out 2-4 kB; of SimpleRNN 0.6 kB."""

Prefer = Literal["size", "latency", "balanced"]
"""Quantity that the recommendation minimizes: size, latency, or their product."""

Goal = Literal["macs", "parameters", "latency"]
"""Quantity that the removal of channels reduces."""

MACS: Final = "macs"
LATENCY: Final = "latency"
"""The only goal that is measured rather than computed."""

DATA_FORMATS: Final[Mapping[str, str]] = {
    "builtin": "a built-in name (digits, fashion-mnist, spoken-digits, turbofan, bccd, nuclei)",
    "function": "package.module:function, file.py:function",
    "idx": "IDX files",
    "coco": "pictures with boxes in COCO JSON",
    "voc": "pictures with boxes in Pascal VOC XML",
    "yolo": "pictures with boxes in YOLO text files",
    "masks": "pictures and masks in images/ and masks/",
    "npy_folder": "a folder of x_train.npy y_train.npy x_test.npy y_test.npy",
    "sounds": "a folder of class folders of WAV files likewise",
    "images": "a folder of class folders of images under train/ and test/",
    "npy_file": "an .npy of samples without labels",
    "table": "a .csv",
    "npz": "an .npz (x_train y_train x_test y_test)",
}
"""Formats of `--data`: the module of `data.formats`, and a description; in the order of trial.

Defined here, because `--help` imports no numpy.
"""


def list_data_formats() -> str:
    """Return the formats of `--data` as an enumeration, the most common first."""
    *others, last = list(DATA_FORMATS.values())[::-1]
    return f"{', '.join(others)} or {last}"


TARGET_TITLES: Final[Mapping[str, str]] = {
    "cpu": "CPU",
    "coral": "Coral Edge TPU (predicted)",
    "android": "Android CPU with XNNPACK (predicted)",
    "pi4": "Raspberry Pi 4, 64-bit (predicted)",
    "pi5": "Raspberry Pi 5, 64-bit (predicted)",
    "pizero2": "Raspberry Pi Zero 2 W, 64-bit (predicted)",
    "pi-armv7": "Raspberry Pi, 32-bit (predicted)",
    "micro": "TFLite Micro (predicted)",
    "esp32-s3": "TFLite Micro on an ESP32-S3 (predicted)",
    "stm32h7": "TFLite Micro on an STM32H743 (predicted)",
    "ethos-u55-128": "Arm Ethos-U55, 128 MACs a cycle (simulated)",
    "ethos-u55-256": "Arm Ethos-U55, 256 MACs a cycle (simulated)",
    "ethos-u65-256": "Arm Ethos-U65, 256 MACs a cycle (simulated)",
    "ethos-u65-512": "Arm Ethos-U65, 512 MACs a cycle (simulated)",
    "ethos-u85-256": "Arm Ethos-U85, 256 MACs a cycle (simulated)",
}
"""Values of `--target`: the module of `targets`, and its title."""

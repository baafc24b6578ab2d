"""The preprocessing spec: checked here, applied by `edgekit_runner` on host and device alike."""

from __future__ import annotations

import difflib
import tomllib
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.errors import DataError
from edgekit.files import check_input
from edgekit.parsing import read_toml
from edgekit.records import Array
from edgekit_runner import SOUND_KINDS, PictureError, affine, preprocess

UNIT_SCALE = 1 / 255
FLOAT32_MAX = float(np.finfo(np.float32).max)
FLOAT32_TINY = float(np.finfo(np.float32).tiny)
MOST_PIXELS = 1 << 13
"""Height and width at most; a network's input is far below."""
MOST_SAMPLES = 1 << 24
"""Samples of sound at most: minutes, where networks take seconds."""

Check = tuple[str, Callable[[Any], bool]]


def _is_number(value: Any) -> bool:
    # Compared rather than converted: a TOML integer may be beyond any float. NaN compares false.
    number = isinstance(value, int | float) and not isinstance(value, bool)
    return number and abs(value) <= FLOAT32_MAX


def _is_each(value: Any, fits: Callable[[Any], bool]) -> bool:
    values = value if isinstance(value, list | tuple) and value else [value]
    return all(fits(item) for item in values)


NUMBER: Check = ("a number", _is_number)
SCALE: Check = (
    "a number other than 0",
    lambda v: _is_number(v) and abs(v) >= FLOAT32_TINY,
)
NUMBERS: Check = ("a number, or one a channel", lambda v: _is_each(v, _is_number))
NONZERO: Check = (
    "a number other than 0, or one a channel",
    lambda v: _is_each(v, lambda item: _is_number(item) and abs(item) >= FLOAT32_TINY),
)
POSITIVE: Check = ("a number above 0", lambda v: _is_number(v) and v >= FLOAT32_TINY)


def _count(most: int) -> Check:
    return f"a whole number from 1 to {most}", lambda v: type(v) is int and 0 < v <= most


AFFINE: Mapping[str, Check] = {"scale": SCALE, "mean": NUMBERS, "std": NONZERO}
SOUND: Mapping[str, Check] = {
    "sample_rate": _count(1 << 20),
    "samples": _count(MOST_SAMPLES),
    "frame": _count(1 << 16),
    "hop": _count(1 << 16),
    "bands": _count(1 << 12),
    "low_hz": NUMBER,
    "high_hz": POSITIVE,
    "mean": NUMBER,
    "std": POSITIVE,
}
KINDS: Mapping[str, Mapping[str, Check]] = {
    "none": {},
    "affine": AFFINE,
    "image": {
        "height": _count(MOST_PIXELS),
        "width": _count(MOST_PIXELS),
        "channels": ("1 or 3", lambda v: type(v) is int and v in (1, 3)),
        "order": ('"rgb" or "bgr"', lambda v: v in ("rgb", "bgr")),
        "resize": ('"bilinear"', lambda v: v == "bilinear"),
        "fit": ('"stretch" or "crop"', lambda v: v in ("stretch", "crop")),
        "orientation": ("true or false", lambda v: isinstance(v, bool)),
        **AFFINE,
    },
    "log-mel": {**SOUND, "floor": POSITIVE},
    "mfcc": {**SOUND, "coefficients": _count(1 << 12), "floor": POSITIVE},
    "micro": SOUND,
}
AFFINE_DEFAULTS: Mapping[str, Any] = {"scale": 1.0, "mean": 0.0, "std": 1.0}
DEFAULTS: Mapping[str, Mapping[str, Any]] = {
    "none": {},
    "affine": AFFINE_DEFAULTS,
    "image": {"order": "rgb", "resize": "bilinear", "fit": "stretch", "orientation": True},
    "log-mel": {"mean": 0.0, "std": 1.0},
    "mfcc": {"mean": 0.0, "std": 1.0},
    # As ESPHome configures the front end.
    "micro": {
        "sample_rate": 16000,
        "frame": 480,
        "hop": 160,
        "bands": 40,
        "low_hz": 125,
        "high_hz": 7500,
        "mean": 0.0,
        "std": 1.0,
    },
}


def check_preprocessing(spec: Mapping[str, Any], place: str) -> dict[str, Any]:
    """Return the spec with its defaults written out.

    An image spec may leave out its size and channels, which the model tells later, and scale, mean
    and std altogether: how pixels are scaled is found out then (`pixels`, `pipeline`). Where one
    of them is given, the others have their defaults.

    Raises:
        DataError: Unknown kind or key, a value that cannot be, or a missing one.
    """
    kind = spec.get("kind")
    if not isinstance(kind, str) or kind not in KINDS:
        raise DataError(
            f"{place}: unknown kind of preprocessing {kind!r:.80}.",
            found=_closest(kind, KINDS),
            hint=f"Known: {', '.join(KINDS)}.",
        )
    checks = KINDS[kind]
    for key, value in spec.items():
        if key == "kind":
            continue
        if key not in checks:
            raise DataError(
                f"{place}: unknown key {key!r:.80}.",
                found=_closest(key, checks),
                hint=f"Known with kind = {kind!r}: {', '.join(checks) or 'none'}.",
            )
        accepts, fits = checks[key]
        if not fits(value):
            raise DataError(
                f"{place}: invalid value for {key}: {value!r:.80}.", hint=f"{key}: {accepts}."
            )
    whole = {"kind": kind, **DEFAULTS[kind], **spec}
    if kind == "image" and AFFINE.keys() & spec.keys():
        whole = {**AFFINE_DEFAULTS, **whole}
    missing = [key for key in checks if key not in whole] if kind in SOUND_KINDS else []
    if missing:
        raise DataError(f"{place}: {', '.join(missing)} missing.", hint="Write them all out.")
    if kind in SOUND_KINDS:
        _check_sound(whole, place)
    return whole


def _check_sound(spec: Mapping[str, Any], place: str) -> None:
    if spec["frame"] > spec["samples"]:
        raise DataError(
            f"{place}: a frame of {spec['frame']} is longer than the {spec['samples']} samples.",
            hint="Give frame at most samples.",
        )
    if not 0 <= spec["low_hz"] < spec["high_hz"] <= spec["sample_rate"] / 2:
        raise DataError(
            f"{place}: bands from {spec['low_hz']} to {spec['high_hz']} Hz are invalid.",
            found=f"The sample rate is {spec['sample_rate']}.",
            hint="Give 0 <= low_hz < high_hz <= sample_rate / 2.",
        )
    if spec.get("coefficients", 1) > spec["bands"]:
        raise DataError(
            f"{place}: {spec['coefficients']} coefficients of {spec['bands']} bands.",
            hint="Give coefficients at most bands.",
        )


def read_preprocessing(path: Path) -> dict[str, Any]:
    """Read a `preprocessing.toml`, as it stands.

    Raises:
        DataError: It cannot be read.
    """
    check_input(path, DataError, hint="Give a preprocessing.toml.")
    try:
        return read_toml(path)
    except (OSError, ValueError) as error:
        raise DataError(
            f"{path} cannot be read as TOML.",
            found=f"{error}.",
            hint='Write for example: kind = "image", and below it: height = 96, width = 96.',
        ) from error


def parse_preprocessing(text: str) -> dict[str, Any]:
    """Read a spec that is written as an inline table of TOML, as it stands.

    Raises:
        DataError: It is none.
    """
    try:
        return dict(tomllib.loads(f"spec = {text}")["spec"])
    except ValueError as error:
        raise DataError(
            "The preprocessing cannot be read as TOML.",
            found=f"{error}.",
            hint="""Write it as --preprocess '{kind = "image", scale = 1}', or give a file.""",
        ) from error


def names_size(spec: Mapping[str, Any]) -> bool:
    """Tell whether an image spec says what comes out; every other spec does."""
    return spec["kind"] != "image" or {"height", "width", "channels"} <= spec.keys()


def apply_preprocessing(values: Iterable[Any], spec: Mapping[str, Any]) -> Array:
    """Return raw samples as the model takes them, `[n, ...]`.

    `values` may be an iterator of decoded images: each is let go before the next one is decoded.

    Raises:
        DataError: The spec does not fit the samples.
    """
    if spec["kind"] == "none":
        return np.asarray(values)
    try:
        if spec["kind"] == "affine":
            return np.asarray(affine(np.asarray(values), spec))
        if spec["kind"] == "image" and isinstance(values, np.ndarray) and _is_sized(values, spec):
            pixels = values[..., None] if values.ndim == 3 else values
            return np.asarray(affine(pixels, spec))
        return np.stack([preprocess(value, spec) for value in values])
    except PictureError as error:
        raise DataError(
            f"{error.path} cannot be decoded.",
            found=f"Pillow says: {error}.",
            hint="Replace the file or remove it.",
        ) from error
    except ValueError as error:
        raise DataError(
            f"Preprocessing of kind {spec['kind']!r} does not fit the samples.",
            found=f"{error}.",
            hint="Correct the preprocessing spec; channels come last.",
        ) from error


def _is_sized(pixels: Array, spec: Mapping[str, Any]) -> bool:
    """Tell whether nothing but the scaling is left to do, which is done for all at once."""
    channels = 1 if pixels.ndim == 3 else pixels.shape[-1]
    return (
        pixels.dtype == np.uint8
        and pixels.shape[1:3] == (spec["height"], spec["width"])
        and channels == spec["channels"]
        and spec["order"] == "rgb"
    )


def _closest(word: Any, known: Iterable[str]) -> str | None:
    match = difflib.get_close_matches(str(word), list(known), n=1)
    return f"Did you mean {match[0]!r}?" if match else None

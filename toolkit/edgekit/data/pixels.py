"""Pixel scalings: the maps from pixels 0-255 to what image models take, and how to tell them.

Three sources tell which one a model takes, without running it: a declaration, the first operators
of its graph (`raw_scaling`), and the range of the user's own arrays (`scaling_of`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from edgekit.data.preprocessing import AFFINE, AFFINE_DEFAULTS, DEFAULTS, UNIT_SCALE
from edgekit.records import Array, InputScaling, TensorSpec
from edgekit_runner import affine

LEAST_SIDE = 8
"""Arrays with fewer rows or columns are not taken for images."""
REACH = 0.75
"""Share of its nominal range that an array has to span to be taken for pixels so scaled."""
SLACK = 1e-3
"""Share of the range by which rounding may take an array beyond it."""


@dataclass(frozen=True, slots=True, kw_only=True)
class PixelScaling:
    """One way in which pixels become the input of a model.

    Attributes:
        name: Its name in tables.
        formula: What is done to a pixel.
        spec: The keys of a preprocessing that do it: `(pixel * scale - mean) / std`.
        channels: The only number of channels for which it is defined; None for any.
        order: Order of the channels.
    """

    name: str
    formula: str
    spec: Mapping[str, Any]
    channels: int | None = None
    order: str = "rgb"

    def __str__(self) -> str:
        return f"{self.name} ({self.formula})"

    def apply(self, pixels: Array) -> Array:
        """Scale pixels 0-255 `[..., channels]` of any type; float32, as on a device."""
        ordered = pixels[..., ::-1] if self.order == "bgr" else pixels
        return np.asarray(affine(ordered, self.spec))

    @property
    def ends(self) -> tuple[float, float]:
        """What pixels 0 and 255 become; of several channels, their mean."""
        return ends_of(self.spec)

    @property
    def declaration(self) -> str:
        """The keys that declare it, beside `kind`."""
        written = {**self.spec, **({"order": '"bgr"'} if self.order == "bgr" else {})}
        return ", ".join(f"{key} = {_toml(value)}" for key, value in written.items())

    @property
    def option(self) -> str:
        """The option that declares it."""
        return option_of("image", self.declaration)


BYTES = PixelScaling(name="0..255", formula="pixels as they are", spec={"scale": 1.0})
UNIT = PixelScaling(name="0..1", formula="pixel / 255", spec={"scale": UNIT_SCALE})
SIGNED = PixelScaling(
    name="-1..1", formula="pixel / 127.5 - 1", spec={"scale": 1 / 127.5, "mean": 1.0}
)
# The two ways in which the models of ImageNet that are neither of these were trained, by their
# names in `keras.applications.imagenet_utils.preprocess_input`.
CAFFE = PixelScaling(
    name="caffe",
    formula="BGR minus the mean of ImageNet",
    spec={"scale": 1.0, "mean": [103.939, 116.779, 123.68]},
    channels=3,
    order="bgr",
)
TORCH = PixelScaling(
    name="torch",
    formula="pixel / 255, standardized as ImageNet",
    spec={"scale": UNIT_SCALE, "mean": [0.485, 0.456, 0.406], "std": [0.229, 0.224, 0.225]},
    channels=3,
)
PLAIN = (BYTES, UNIT, SIGNED)
"""Those that are one map for all channels, so that an array's range tells them."""
SCALINGS = (*PLAIN, CAFFE, TORCH)


def option_of(kind: str, keys: str) -> str:
    """Return the option that declares keys such as "scale = 1, mean = 0"."""
    return f"--preprocess '{{kind = \"{kind}\", {keys}}}'"


def image_shape(
    inputs: Sequence[TensorSpec], *, least: int = LEAST_SIDE
) -> tuple[int, int, int] | None:
    """Height, width and channels of a model's only input, where it takes images.

    Args:
        inputs: The model's inputs.
        least: Rows and columns at least.
    """
    shape = inputs[0].shape if len(inputs) == 1 else ()
    fits = len(shape) == 4 and shape[3] in (1, 3) and min(shape[1:3]) >= least
    return (shape[1], shape[2], shape[3]) if fits else None


def picture_shape(inputs: Sequence[TensorSpec]) -> tuple[int, int, int] | None:
    """Height, width and channels of a model's only input, where it is fed from pictures.

    As in the runner, an input `[1, height, width]` takes grey ones. Arrays of that shape are as
    well windows of a signal, and no pictures (`image_shape`).
    """
    shape = inputs[0].shape if len(inputs) == 1 else ()
    if len(shape) == 3 and min(shape[1:]) >= 1:
        return shape[1], shape[2], 1
    return image_shape(inputs, least=1)


def candidates(channels: int) -> tuple[PixelScaling, ...]:
    """The scalings that there are for images of so many channels."""
    return tuple(s for s in SCALINGS if s.channels in (None, channels))


def names_scaling(spec: Mapping[str, Any]) -> bool:
    """Tell whether an image spec says how pixels are scaled; every other spec does."""
    return spec["kind"] != "image" or bool(AFFINE.keys() & spec.keys())


def with_scaling(spec: Mapping[str, Any], scaling: PixelScaling) -> dict[str, Any]:
    """Return an image spec that leaves its scaling open with this one."""
    order = {"order": "bgr"} if scaling.order == "bgr" else {}
    return {**spec, **AFFINE_DEFAULTS, **order, **scaling.spec}


def picture_of(shape: tuple[int, int, int], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the image spec for a model's input: its size, and the affine keys of `spec`.

    Args:
        shape: Height, width and channels.
        spec: Its keys are taken over, but for its size.
    """
    size = dict(zip(("height", "width", "channels"), shape, strict=True))
    scaled = {key: spec[key] for key in (*AFFINE, "order", "fit", "orientation") if key in spec}
    return {"kind": "image", **size, **DEFAULTS["image"], **AFFINE_DEFAULTS, **scaled}


def words_of(spec: Mapping[str, Any]) -> str:
    """How pixels are scaled by an image or affine spec, as people call it."""
    for scaling in SCALINGS:
        same = all(
            np.allclose(spec.get(key, default), scaling.spec.get(key, default), rtol=1e-5, atol=0)
            for key, default in AFFINE_DEFAULTS.items()
        )
        if same and (scaling.channels is None or spec.get("order", "rgb") == scaling.order):
            return str(scaling)
    keys = {key: spec.get(key, default) for key, default in AFFINE_DEFAULTS.items()}
    changed = (f"{key} = {_toml(v)}" for key, v in keys.items() if v != AFFINE_DEFAULTS[key])
    return ", ".join(changed)


def ends_of(spec: Mapping[str, Any]) -> tuple[float, float]:
    """What pixels 0 and 255 become by the affine keys of a spec; of several channels, the mean."""
    channels = max(np.size(spec.get(key, 1)) for key in AFFINE)
    low, high = affine(np.repeat([[0.0], [255.0]], channels, axis=1), spec).mean(axis=1)
    return float(low), float(high)


def scaling_of(values: Array) -> PixelScaling | None:
    """Tell from arrays `[n, height, width, channels]` of a data set how their pixels are scaled.

    Bytes are pixels as they are. Floats are 0..1 or -1..1 where they lie in that range, give or
    take a thousandth of it, and reach three quarters of the way to its ends; they are 0..255
    where that holds and all are whole. All else is unknown: standardized images, for example,
    or those of a sensor with a unit of its own.
    """
    if values.dtype == np.uint8:
        return BYTES
    if values.dtype.kind not in "iuf" or not values.size:
        return None
    low, high = float(values.min()), float(values.max())
    for scaling in (SIGNED, UNIT, BYTES):
        least, most = scaling.ends
        slack = SLACK * (most - least)
        inside = least - slack <= low and high <= most + slack
        reaches = high >= REACH * most and (least >= 0 or low <= REACH * least)
        whole = scaling is not BYTES or bool((values == np.rint(values)).all())
        if inside and reaches and whole:
            return scaling
    return None


def raw_scaling(found: InputScaling | None) -> PixelScaling | None:
    """Tell from a model's first operators in which range it takes pixels; None if they do not.

    An affine map `x * scale + offset` tells by where it takes the ends of a range: to 0..1, to
    -1..1 or, from smaller ones, to 0..255. It tells by the mean and the standard deviation that it
    removes, `-offset / scale` and `1 / scale`, what it standardizes: those of pixels 0-255 are
    both above 5, those of 0..1 are a mean of 0.05 to 0.95 with a deviation of at most 0.35, and
    a negative mean is one of -1..1. A quantized input tells by the range of its codes.
    """
    if found is None:
        return None
    scale, offset = (np.asarray(v, np.float64) for v in (found.scale, found.offset))
    if not (np.isfinite(scale).all() and np.isfinite(offset).all() and (scale > 0).all()):
        return None
    if _near(scale, 1.0) and _near(offset, 0.0):
        return _of_limits(found.limits)
    if _is_caffe_of_bgr(found):
        return None
    for raw in PLAIN:
        ends = [end * scale + offset for end in raw.ends]
        goals = (UNIT.ends, SIGNED.ends) if raw is BYTES else (*(s.ends for s in PLAIN),)
        if any(_near(ends[0], low, high) and _near(ends[1], high, high) for low, high in goals):
            return raw
    mean, deviation = float(np.mean(-offset / scale)), float(np.mean(1 / scale))
    if 5 <= mean <= 250 and (5 <= deviation <= 300 or (_near(scale, 1.0) and 60 <= mean <= 190)):
        return BYTES
    if abs(mean) < 1e-3 and 0.4 <= 255 / deviation <= 4:
        return BYTES
    if 0.05 <= mean <= 0.95 and (deviation <= 0.35 or _near(-offset / scale, 0.5)):
        return UNIT
    if -0.95 <= mean <= -0.05 and deviation <= 0.8:
        return SIGNED
    return None


def _near(values: Array, goal: float, size: float = 1.0) -> bool:
    """Whether all values are at a goal, give or take 2 % of a range: 1 / 256 counts as 1 / 255."""
    return bool((np.abs(values - goal) <= 0.02 * abs(size)).all())


def _of_limits(limits: tuple[float, float] | None) -> PixelScaling | None:
    """The scaling whose range a quantized input spans.

    Ranges that were observed on few images end below the nominal one, and are not told apart
    from those of other data: they count from 90 % of it.
    """
    for scaling in PLAIN if limits else ():
        low, high = limits or (0.0, 0.0)
        least, most = scaling.ends
        width = most - least
        if abs(low - least) <= 0.1 * width and abs(high - most) <= 0.1 * width:
            return scaling
    return None


def _is_caffe_of_bgr(found: InputScaling) -> bool:
    """Whether the mean of ImageNet is subtracted in BGR order from the channels as they come.

    Such a model takes BGR pixels, which no scaling here describes.
    """
    mean = CAFFE.spec["mean"]
    offset = np.negative(found.offset)
    return offset.size == len(mean) and np.allclose(offset, mean, rtol=0, atol=1)


def _toml(value: Any) -> str:
    if isinstance(value, list):
        return f"[{', '.join(map(_toml, value))}]"
    return value if isinstance(value, str) else f"{value:.9g}"


def declared_after(spec: Mapping[str, Any], rest: Mapping[str, float]) -> str:
    """The declaration that does to arrays what `spec` does, and then what `rest` does."""
    scale, mean, std = (np.asarray(spec.get(k, d), float) for k, d in AFFINE_DEFAULTS.items())
    # (x * scale - mean) / std * a - b is (x - mean / scale) / (std / (scale * a)) - b.
    deviation = np.asarray(std / (scale * rest["scale"]))
    keys = {"mean": np.asarray(mean / scale + rest["mean"] * deviation), "std": deviation}
    if np.size(deviation) == 1 and not keys["mean"].any():
        return f"scale = {float(1 / deviation):.9g}"
    return ", ".join(f"{key} = {_listed(value)}" for key, value in keys.items())


def _listed(values: Array) -> str:
    texts = [f"{value:.9g}" for value in np.ravel(values)]
    return texts[0] if len(texts) == 1 else f"[{', '.join(texts)}]"

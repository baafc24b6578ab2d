"""Architectures small enough for edge devices, by name.

Each is a plain functional Keras model: fixed shapes, layers of Keras alone, batch
normalization right after its convolution (lowering folds it away) and ReLU right after that
(lowering fuses it). The names can be listed and checked without loading TensorFlow.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass, replace
from difflib import get_close_matches
from typing import Any

from edgekit.errors import UsageError
from edgekit.evaluation.tasks import (
    CLASSIFICATION,
    DETECTION,
    MULTI_LABEL,
    RECONSTRUCTION,
    REGRESSION,
    SEGMENTATION,
)
from edgekit.training.zoo import sensors, signals, vision
from edgekit.training.zoo.applications import APPLICATIONS, application
from edgekit.training.zoo.ssd import ssd
from edgekit.training.zoo.unet import unet

__all__ = ["NAMES", "Architecture", "build", "describe", "find"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Architecture:
    """One entry of the zoo.

    Attributes:
        name: What `build` calls it.
        summary: What it is, in a line.
        input: Names of its input axes, without the batch.
        options: Option -> default.
        paper: Publication; empty where there is no single source.
        make: Builder `make(input_shape, outputs, task, **options)`, which returns a Keras model.
        tasks: Names of the tasks it does.
    """

    name: str
    summary: str
    input: tuple[str, ...]
    options: dict[str, Any]
    paper: str
    make: Callable[..., Any]
    tasks: tuple[str, ...]

    @property
    def only_task(self) -> str | None:
        """Return the task, where it does no other."""
        return self.tasks[0] if len(self.tasks) == 1 else None


_OF_A_SAMPLE = (CLASSIFICATION.name, MULTI_LABEL.name, REGRESSION.name)
"""The tasks of which every architecture with a dense last layer does each."""
_IMAGE = ("height", "width", "channels")
_WINDOW = ("steps", "channels")


def _entry(
    name: str,
    make: Callable[..., Any],
    axes: tuple[str, ...],
    summary: str,
    paper: str = "",
    *,
    tasks: tuple[str, ...] = _OF_A_SAMPLE,
) -> Architecture:
    options = {
        key: parameter.default
        for key, parameter in inspect.signature(make).parameters.items()
        if parameter.kind is inspect.Parameter.KEYWORD_ONLY
    }
    return Architecture(
        name=name, summary=summary, input=axes, options=options, paper=paper, make=make, tasks=tasks
    )


_ZOO = {
    entry.name: entry
    for entry in (
        _entry("cnn", vision.cnn, _IMAGE, "plain 3x3 convolutions, pooled between stages"),
        _entry(
            "resnet8",
            vision.resnet8,
            _IMAGE,
            "three residual blocks (MLPerf Tiny, image classification)",
            "He et al., arXiv 1512.03385; Banbury et al., arXiv 2106.07597",
        ),
        _entry(
            "mobilenet_v1",
            vision.mobilenet_v1,
            _IMAGE,
            "depthwise separable convolutions; a width after a colon, mobilenet_v1:0.25",
            "Howard et al., arXiv 1704.04861",
        ),
        _entry(
            "mobilenet_v2",
            vision.mobilenet_v2,
            _IMAGE,
            "inverted residuals, linear bottlenecks; any width, mobilenet_v2:0.35",
            "Sandler et al., arXiv 1801.04381",
        ),
        _entry(
            "ds_cnn",
            signals.ds_cnn,
            ("frames", "bands", "channels"),
            "depthwise separable CNN for spectrograms (MLPerf Tiny, keyword spotting)",
            "Zhang et al., arXiv 1711.07128; Banbury et al., arXiv 2106.07597",
        ),
        _entry(
            "cnn1d",
            sensors.cnn1d,
            _WINDOW,
            "separable convolutions along time, for windows of sensor readings",
            "Howard et al., arXiv 1704.04861",
        ),
        _entry(
            "cnn1d_dense",
            sensors.cnn1d_dense,
            _WINDOW,
            "convolutions along time and a dense layer over all steps: larger",
        ),
        _entry(
            "tcn",
            sensors.tcn,
            _WINDOW,
            "dilated causal convolutions with residuals, for windows of sensor readings",
            "Bai et al., arXiv 1803.01271",
        ),
        _entry(
            "lstm",
            sensors.lstm,
            _WINDOW,
            "an LSTM over the steps, or several stacked",
            "Hochreiter and Schmidhuber, Neural Computation 9(8), 1997",
        ),
        _entry(
            "gru",
            sensors.gru,
            _WINDOW,
            "a GRU over the steps, or several stacked",
            "Cho et al., arXiv 1406.1078",
        ),
        _entry(
            "autoencoder",
            signals.autoencoder,
            ("values...",),
            "dense bottleneck of 8 (MLPerf Tiny, anomaly detection)",
            "Banbury et al., arXiv 2106.07597",
            tasks=(RECONSTRUCTION.name,),
        ),
        _entry(
            "unet",
            unet,
            _IMAGE,
            "a class for every pixel, by a small U-Net",
            "Ronneberger et al., arXiv 1505.04597",
            tasks=(SEGMENTATION.name,),
        ),
        _entry(
            "ssd",
            ssd,
            _IMAGE,
            "single-shot detector of boxes, on depthwise separable convolutions",
            "Liu et al., arXiv 1512.02325; Lin et al., arXiv 1708.02002",
            tasks=(DETECTION.name,),
        ),
    )
}
NAMES: tuple[str, ...] = (*_ZOO, *APPLICATIONS)


def describe() -> tuple[Architecture, ...]:
    """List the zoo's own architectures, in the order of `NAMES`, without importing TensorFlow."""
    return tuple(_ZOO.values())


def find(name: str) -> Architecture:
    """Return the architecture called `name` (a width after a colon sets its option's default).

    Raises:
        UsageError: There is no such architecture, or it has no width multiplier.
    """
    base, colon, width = name.partition(":")
    # the tables of MLPerf Tiny write mobilenet_v1_025
    if base == "mobilenet_v1_025":
        base, colon, width = "mobilenet_v1", ":", "0.25"
    if base in _ZOO:
        entry = _ZOO[base]
    else:
        by_lower = {known.lower(): known for known in APPLICATIONS}
        known = by_lower.get(base.lower().replace("_", ""))
        if known is None:
            raise UsageError(
                f"No architecture is called {name!r}.",
                found=_closest(base, NAMES),
                hint=f"Own: {', '.join(_ZOO)}; or any name of keras.applications.",
            )
        entry = _entry(known, application(known), _IMAGE, f"keras.applications.{known}, untrained")
    if not colon:
        return entry
    if "alpha" not in entry.options:
        raise UsageError(
            f"{entry.name} has no width to set: {name!r}.",
            hint=f"Write {entry.name}; only mobilenet_v1 and mobilenet_v2 take a width.",
        )
    try:
        alpha = float(width)
    except ValueError:
        alpha = 0.0
    if not 0 < alpha <= 4:  # NaN fails here too
        raise UsageError(
            f"The width of {name!r} must be a number above 0 and at most 4.",
            found=f"Found {width!r}.",
            hint=f"For example {entry.name}:0.35.",
        )
    return replace(entry, name=f"{entry.name}:{width}", options={**entry.options, "alpha": alpha})


def build(
    name: str,
    input_shape: tuple[int, ...],
    outputs: int,
    *,
    task: str = CLASSIFICATION.name,
    **options: Any,
) -> Any:
    """Build an untrained model; imports TensorFlow.

    Args:
        name: One of `NAMES`, with `:width` for the MobileNets.
        input_shape: Shape of one sample, without the batch.
        outputs: Number of classes, or of values to predict; an autoencoder ignores it.
        task: `classification` ends in a softmax, `multi-label` in sigmoids, `regression` in a
            linear layer; what `Architecture.tasks` lists.
        **options: Options of the architecture; see `describe()`.

    Returns:
        A `keras.Model`, not compiled.

    Raises:
        UsageError: Unknown name or option, or an input shape that the architecture does not accept.
    """
    entry = find(name)
    unknown = [key for key in options if key not in entry.options]
    if unknown:
        raise UsageError(
            f"{entry.name} has no option {unknown[0]!r}.",
            found=_closest(unknown[0], tuple(entry.options)),
            hint=f"Its options: {', '.join(entry.options) or 'none'}.",
        )
    if entry.name != "autoencoder" and len(input_shape) != len(entry.input):
        raise UsageError(
            f"{entry.name} takes samples of shape [{', '.join(entry.input)}].",
            found=f"These have shape {list(input_shape)}.",
            hint=_suited(len(input_shape)),
        )
    if task not in entry.tasks:
        able = [other.name for other in _ZOO.values() if task in other.tasks]
        raise UsageError(
            f"{entry.name} does not do {task}, but {' or '.join(entry.tasks)}.",
            hint=f"For {task}: {', '.join(able)}." if able else None,
        )
    try:
        return entry.make(input_shape, outputs, task, **{**entry.options, **options})
    except (ValueError, TypeError) as error:
        raise UsageError(
            f"{entry.name} cannot be built for samples of shape {list(input_shape)}.",
            found=str(error).strip().splitlines()[0],
            hint="Resize the input, or change the options of the architecture.",
        ) from error


def _closest(word: str, known: tuple[str, ...]) -> str | None:
    lower = {name.lower(): name for name in known}
    match = get_close_matches(word.lower(), lower, n=1, cutoff=0.5)
    return f"Did you mean {lower[match[0]]!r}?" if match else None


def _suited(axes: int) -> str:
    names = [entry.name for entry in _ZOO.values() if len(entry.input) == axes]
    return f"For such samples: {', '.join(names) if axes > 1 else 'autoencoder'}."

"""Measure XNNPACK's sparse inference on ARM, which `edgekit prune` predicts.

A network of depthwise separable convolutions at 48x48 that obeys XNNPACK's rules, pruned in one
shot (latency does not depend on the values of the weights), stored dense and sparse, timed by the
runner in 64-bit ARM code. That code runs under qemu: the ratios show which kernels were used, but
the times are not those of a board.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from benchmarks.unavailable import UnavailableError

import edgekit
import edgekit_runner
from edgekit.recipe import default_plan
from edgekit.tflite.pruning_estimate import estimate_pruning

sys.path.append(str(Path(__file__).resolve().parents[1] / "tests" / "device"))
import userland  # the tests' own ARM

SHARES = (0.5, 0.6, 0.7, 0.8, 0.9)


def measure() -> list[dict[str, str]]:
    try:
        land = userland.build("arm64", userland.cache_folder())
    except userland.UnavailableError as error:
        raise UnavailableError(str(error)) from error
    with tempfile.TemporaryDirectory() as name:
        return list(_lines(Path(name), land))


def _lines(folder: Path, land: userland.Userland) -> Iterator[dict[str, str]]:
    # A board has the runner's file, and nothing else of this environment.
    runner = shutil.copy(edgekit_runner.__file__, folder)
    plain = _file(_pruned(folder, 0.0), sparse=False).read_bytes()
    for share in SHARES:
        pay = estimate_pruning(plain, share)
        model = _pruned(folder, share)
        dense, sparse = (_time(land, runner, _file(model, sparse=how)) for how in (False, True))
        yield {
            "zeros": f"{share:.0%}",
            "predicted": "faster" if pay.faster.mapped else "no faster",
            "dense, ms": f"{dense:.1f}",
            "sparse, ms": f"{sparse:.1f}",
            "times faster": f"{dense / sparse:.2f}",
        }


def _pruned(folder: Path, share: float) -> Path:
    """Write the network, with a share of zeros in every kernel."""
    import keras

    from edgekit.training.pruning import prune

    keras.utils.set_random_seed(0)
    layers = keras.layers
    tensor = start = keras.Input((48, 48, 3))
    tensor = layers.ZeroPadding2D(1)(tensor)
    tensor = layers.Conv2D(32, 3, strides=2, activation="relu")(tensor)
    for _ in range(4):
        tensor = layers.DepthwiseConv2D(3, padding="same", activation="relu")(tensor)
        tensor = layers.Conv2D(64, 1, activation="relu")(tensor)
    tensor = layers.Dense(10)(layers.GlobalAveragePooling2D()(tensor))
    model = keras.Model(start, tensor, name=f"separable-{share:.0%}".rstrip("%"))
    if share:
        prune(model, share, scope="layer")
    path = folder / f"{model.name}.keras"
    model.save(path)
    return path


def _file(model: Path, *, sparse: bool) -> Path:
    plan = default_plan("float32", sparse=sparse)
    folder = model.with_name(f"{model.stem}-{plan.variant}")
    report = edgekit.quantize(model, plans=(plan,), output=folder, latency=False)
    return Path(report.rows[-1].artifact.path)


def _time(land: userland.Userland, runner: str, model: Path) -> float:
    """Return the median latency on the emulated board, in milliseconds."""
    done = subprocess.run(
        [land.python, runner, "bench", str(model), "--runs", "5", "--runtime", "litert", "--json"],
        env={"PATH": land.path},
        capture_output=True,
        text=True,
        check=True,
    )
    told: dict[str, Any] = json.loads(done.stdout)
    return float(told["p50_ms"])

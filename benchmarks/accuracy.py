"""int8 and int4 by edgekit, the stock TFLite converter and litert-quantizer, on trained models.

Every file is calibrated on the same 200 training samples (8 where the row says so) and scored on
the test split by edgekit: the metric, then the loss against float with its paired 95 % interval, in
points or in the target's unit (positive is worse). *stock* is `TFLiteConverter` with the samples as
its representative data set and integer inputs and outputs; *litert-quantizer* is the best of its
recipes, by the score on the test split, which favours it: moving averages and extremes in int8;
extremes, MSE, OCTAV and GPTQ in int4. *edgekit* is `edgekit quantize` without options. *against the
better peer* is the paired loss against whichever of the two scored higher; below zero edgekit is
better. *recovered* is how much of the stock loss edgekit avoids, where that is over a point (1 % of
an RMSE). *holds*: not worse than the better peer beyond the interval (as good as float counts as
that: a peer may be better than float by luck); 90 % recovered; at most 2 % larger than the smaller
of the two. Most models are published or trained on real data
(`benchmarks/accuracy_models.py`); *prices* are synthetic.

litert-quantizer is run by the interpreter that EDGEKIT_LITERT_QUANTIZER names, because it pins its
own runtime; its columns are empty without. Models and the files of the peers are kept in
`.cache/accuracy`; delete it to make them anew.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tomllib
from dataclasses import dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

import numpy as np
from benchmarks.accuracy_models import CASES, REPOSITORY, folder_of

import edgekit
from edgekit.errors import EdgekitError
from edgekit.records import Row

PEER: Final = "EDGEKIT_LITERT_QUANTIZER"
SCRIPT: Final = Path(__file__).with_name("litert_quantizer_peer.py")
INT4: Final = ("fashion-mnist", "spoken-digits", "turbofan", "swish", "residual")
QUANTITIES: Final = ("rmse", "mae")
POINT: Final = 0.01
"""What a stock loss must exceed to be recovered: a point, or this share of an RMSE."""
STOCK: Final = """
import sys
import numpy as np
import tensorflow as tf
model = tf.keras.models.load_model(sys.argv[1], compile=False)
samples = np.load(sys.argv[2])
names = [tensor.name for tensor in model.inputs]
converter = tf.lite.TFLiteConverter.from_keras_model(model)
converter.optimizations = [tf.lite.Optimize.DEFAULT]
n = len(samples[names[0]])
converter.representative_dataset = lambda: (
    [samples[name][row : row + 1] for name in names] for row in range(n)
)
converter.target_spec.supported_ops = [tf.lite.OpsSet.TFLITE_BUILTINS_INT8]
converter.inference_input_type = converter.inference_output_type = tf.int8
open(sys.argv[3], "wb").write(converter.convert())
"""


def measure() -> list[dict[str, str]]:
    """Return a row for each case in int8, then those in int4."""
    if not os.environ.get(PEER):
        print(f"accuracy: {PEER} is not set, litert-quantizer is left out", file=sys.stderr)
    rows = []
    for mode, names in (("int8", tuple(CASES)), ("int4", INT4)):
        for name in names:
            case = Case(name)
            for output in case.outputs:
                row = _row(case, mode, output)
                print(row, file=sys.stderr, flush=True)
                rows.append(row)
    return rows


@dataclass(frozen=True)
class Case:
    """A model with its data, and the files that are made of it."""

    name: str
    folder: Path = field(init=False)

    def __post_init__(self) -> None:
        object.__setattr__(self, "folder", folder_of(self.name))
        if not self.folder.exists():
            _run(sys.executable, "-m", "benchmarks.accuracy_models", self.name)

    @cached_property
    def given(self) -> dict[str, Any]:
        """Return what `quantize` and `evaluate` are told of the data."""
        head = self.folder / "model.head.toml"
        found = {"head": tomllib.loads(head.read_text())["head"]} if head.exists() else {}
        return {"data": str(self.folder / "data.npz"), **found}

    @cached_property
    def told(self) -> dict[str, Any]:
        """Return what the case says of itself: calibration samples, outputs."""
        case = json.loads((self.folder / "case.json").read_text())
        return {"calibration": 200, "outputs": [None], **case}

    @property
    def calibration(self) -> int:
        """Return the number of calibration samples."""
        return int(self.told["calibration"])

    @property
    def outputs(self) -> list[str | None]:
        """Return the outputs that are scored, each in a row; None for the only one."""
        return list(self.told["outputs"])

    @cached_property
    def made(self) -> Path:
        """Return the folder of edgekit's files, made now."""
        folder = self.folder / "edgekit"
        edgekit.quantize(
            self.folder / "model.keras",
            **self.given,
            modes=("int8", "int4") if self.name in INT4 else ("int8",),
            calibration_samples=self.calibration,
            latency=False,
            output=folder,
            force=True,
        )
        return folder

    @cached_property
    def samples(self) -> Path:
        """Return the calibration samples, by input, as edgekit draws them."""
        from edgekit.data import bind, open_data
        from edgekit.tflite import read, signature

        path = self.folder / "calibration.npz"
        if not path.exists():
            ends = signature(read((self.made / "float32.tflite").read_bytes()))
            opened = open_data(self.given["data"], calibration_samples=self.calibration)
            drawn = bind(replace(opened, head=self.given.get("head")), *ends).calibrate
            np.savez(path, **drawn.read(np.arange(drawn.n)).inputs)
        return path

    def stock(self) -> Path | None:
        """Return the stock converter's int8 file; None where it makes none."""
        path = self.folder / "stock.tflite"
        if not path.exists():
            source = self.folder / "model.keras"
            try:
                _run(sys.executable, "-c", STOCK, str(source), str(self.samples), str(path))
            except RuntimeError as error:
                print(f"{self.name}: the stock converter fails: {error}", file=sys.stderr)
                path.touch()
        return path if path.stat().st_size else None

    def peers(self, mode: str) -> list[Path]:
        """Return litert-quantizer's files of a mode, one for each recipe that works."""
        python, folder = os.environ.get(PEER), self.folder / f"litert-{mode}"
        if python and not folder.exists():
            making = folder.with_suffix(".part")
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir()
            source = str(self.made / "float32.tflite")
            told = _run(python, str(SCRIPT), source, str(self.samples), mode, str(making))
            if told:
                print(f"{self.name}: {told}", file=sys.stderr)
            for file in making.glob("*.tflite"):
                self._drop_unless_usable(file)
            making.rename(folder)
        return sorted(folder.glob("*.tflite")) if python else []

    def _drop_unless_usable(self, file: Path) -> None:
        """Remove a file of a peer that no runtime takes, and say so."""
        try:
            self.scored(None, file)
        except EdgekitError as error:
            print(f"{self.name}: {file.name} is left out: {error.what}", file=sys.stderr)
            file.unlink()

    def scored(self, output: str | None, *files: Path) -> list[Row]:
        """Return the scores of an output of files, and the losses against the first of them."""
        return list(edgekit.evaluate(files, **self.given, score_output=output).rows)


def _row(case: Case, mode: str, output: str | None) -> dict[str, str]:
    stock = case.stock() if mode == "int8" else None
    peers = case.peers(mode)
    files = [case.made / "float32.tflite", case.made / f"{mode}.tflite"]
    files += ([stock] if stock else []) + peers
    found = dict(zip(files, case.scored(output, *files), strict=True))
    exact, ours = (found[file] for file in files[:2])
    metric = exact.score.metric
    best = max(peers, key=lambda file: _good(found[file]), default=None)
    better = max((f for f in (stock, best) if f), key=lambda file: _good(found[file]), default=None)
    against = case.scored(output, better, files[1])[1].drop if better else None
    said = found[best].artifact.variant if best else ""
    lost = found[stock].drop.value if stock else 0.0
    limit = POINT * (exact.score.value if metric in QUANTITIES else 1)
    recovered = 1 - ours.drop.value / lost if lost > limit else None
    sizes = [file.stat().st_size for file in (stock, best) if file]
    size = files[1].stat().st_size
    failed = [
        what
        for what, is_so in (
            ("worse", against is not None and against.ci95[0] > 0 and ours.drop.value > 0),
            ("not recovered", recovered is not None and recovered < 0.9),
            ("larger", bool(sizes) and size > 1.02 * min(sizes)),
        )
        if is_so
    ]
    return {
        "model": case.name if output is None else f"{case.name}: {output}",
        "mode": mode,
        "metric": metric,
        "float": _value(exact),
        "stock": _loss(found[stock]) if stock else ("fails" if mode == "int8" else ""),
        "litert-quantizer": f"{said}: {_loss(found[best])}" if best else "",
        "edgekit": _loss(ours),
        "against the better peer": _interval(against, metric) if against else "",
        "recovered": "" if recovered is None else f"{100 * recovered:.0f} %",
        "kB: stock, litert-quantizer, edgekit": ", ".join(
            f"{file.stat().st_size / 1000:.1f}" if file else "-" for file in (stock, best, files[1])
        ),
        "holds": ", ".join(failed) or "yes",
    }


def _good(row: Row) -> float:
    """Return a score of which more is better."""
    return -row.drop.value


def _value(row: Row) -> str:
    value = row.score.value
    return f"{value:.4g}" if row.score.metric in QUANTITIES else f"{100 * value:.2f}"


def _loss(row: Row) -> str:
    return f"{_value(row)}, {_interval(row.drop, row.score.metric)}"


def _interval(drop: Any, metric: str) -> str:
    if metric in QUANTITIES:
        return f"{drop.value:+.3g} ({drop.ci95[0]:+.3g} to {drop.ci95[1]:+.3g})"
    value, low, high = (100 * part for part in (drop.value, *drop.ci95))
    return f"{value:+.2f} ({low:+.2f} to {high:+.2f})"


def _run(*command: str) -> str:
    done = subprocess.run(command, cwd=REPOSITORY, capture_output=True, text=True, check=False)
    if done.returncode:
        last = (done.stderr.strip().splitlines() or ["no message"])[-1]
        raise RuntimeError(f"exit code {done.returncode}: {last}")
    return done.stdout.strip()

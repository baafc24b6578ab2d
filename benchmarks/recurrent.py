"""Recurrent layers: files of `edgekit quantize`, with --unroll, and of the stock converter.

A bidirectional LSTM of 32 units and a stack of 64 and 32 units on windows of the turbofan data, an
LSTM of 32 units behind an Embedding with a mask (40 steps), and a GRU of 32 units over 200 steps,
each trained for a few epochs. Scores are of the test split, RMSE or accuracy; the stock converter
takes these models with a fixed batch of 1 only, and makes no int8 of them. Latencies are of one
thread, without concurrent work.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import edgekit
from edgekit.records import Report, Row

MODELS = ("BiLSTM", "stacked-LSTM", "masked-LSTM", "GRU-200")
MODES = ("float16", "dynamic", "int8")


def measure() -> list[dict[str, str]]:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        script = Path(__file__).with_name("recurrent_models.py")
        subprocess.run([sys.executable, script, folder], check=True, capture_output=True)
        return [line for model in MODELS for line in _lines(folder, model)]


def _lines(folder: Path, model: str) -> Iterator[dict[str, str]]:
    compact, unrolled = (
        edgekit.quantize(
            folder / f"{model}.keras",
            data=str(folder / f"{model}.npz"),
            modes=MODES,
            output=folder / f"{model}-{unroll}",
            unroll=unroll,
            skip_unsupported=True,
        )
        for unroll in (False, True)
    )
    stock = edgekit.bench(sorted(folder.glob(f"{model}-stock-*.tflite")))
    for row in compact.rows:
        variant = row.artifact.variant
        long = _row(unrolled, variant)
        other = _row(stock, f"{model}-stock-{variant}")
        yield {
            "model": model,
            "file": variant,
            "score": f"{row.score.value:.4f}" if row.score else "",
            "kB": _size(row),
            "ms": _latency(row),
            "--unroll: kB": _size(long),
            "--unroll: ms": _latency(long),
            "stock: kB": _size(other),
            "stock: ms": _latency(other),
        }


def _row(report: Report, variant: str) -> Row | None:
    return next((row for row in report.rows if row.artifact.variant == variant), None)


def _size(row: Row | None) -> str:
    return "" if row is None or row.is_source else f"{row.artifact.size_bytes / 1000:.1f}"


def _latency(row: Row | None) -> str:
    return "" if row is None or row.timing is None else f"{row.timing.p50_ms:.3f}"

"""Reports with the figures of the trained baselines (shared data, baselines.json)."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.records import (
    SOURCE,
    Artifact,
    ClassScore,
    Drop,
    Inspection,
    Operator,
    Report,
    Row,
    Score,
    TargetFit,
    TensorSpec,
    Timing,
)

HERE = "local: Intel Xeon, 2 cores"
HOSTILE = "<script>alert(1)</script></script><img src=x onerror=alert(1)>\"'&|`\x1b[31m"
MODES = {"f32": "float32", "f16": "float16", "dyn": "dynamic", "int8": "int8"}
# The Fashion-MNIST network, batch normalization folded: layer, operator, weights, positions.
LAYERS = (
    ("conv2d", "CONV_2D", 9 * 1 * 16, 28 * 28),
    ("conv2d_1", "CONV_2D", 9 * 16 * 16, 28 * 28),
    ("max_pooling2d", "MAX_POOL_2D", 0, 0),
    ("conv2d_2", "CONV_2D", 9 * 16 * 32, 14 * 14),
    ("conv2d_3", "CONV_2D", 9 * 32 * 32, 14 * 14),
    ("max_pooling2d_1", "MAX_POOL_2D", 0, 0),
    ("conv2d_4", "CONV_2D", 9 * 32 * 64, 7 * 7),
    ("global_average_pooling2d", "MEAN", 0, 0),
    ("dense", "FULLY_CONNECTED", 64 * 10, 1),
    ("softmax", "SOFTMAX", 0, 0),
)


@pytest.fixture(scope="module", autouse=True)
def drawn(real_charts: None) -> None:
    """Charts are what most of these tests are about."""


@pytest.fixture(scope="session")
def ladder(shared_data: Path) -> Callable[..., Report]:
    """`ladder(name, n=..., device=...)`: the four measured variants of a baseline."""
    baselines = json.loads((shared_data / "baselines" / "baselines.json").read_text())

    def build(name: str = "fashion_mnist_cnn", *, n: int = 10_000, device: str = HERE) -> Report:
        formats = next(value for key, value in baselines[name].items() if "formats" in key)
        return Report(
            title=name,
            asked={"source": f"{name}.keras", "command": f"edgekit quantize {name}.keras"},
            rows=tuple(_row(name, key, formats, n, device) for key in MODES),
            reason="dynamic is the smallest file whose paired interval shows no loss.",
            data={"name": "the test split", "test": f"{n} samples"},
            versions={"tensorflow": "2.21.0", "keras": "3.15.1", "ai-edge-litert": "2.3.0"},
            device={"device": device},
            warnings=("Two cores were busy.",),
            created="2026-11-23T18:22:46Z",
        )

    return build


@pytest.fixture(scope="session")
def fashion(ladder) -> Report:
    return ladder()


@pytest.fixture(scope="session")
def with_source() -> Callable[[Report], Report]:
    """`with_source(report)`: the same with the row of the source, which scores as float32 does."""

    def add(report: Report) -> Report:
        float32 = report.rows[0]
        artifact = replace(
            float32.artifact,
            path=Path(f"models/{float32.model}.keras"),
            variant=SOURCE,
            mode=None,
            size_bytes=1,  # smaller than any file: what forgets that it is none shows
            sha256="5" * 64,
            manifest={},
        )
        row = replace(
            float32, artifact=artifact, inspection=None, drop=None, agreement=None, timing=None
        )
        return replace(report, rows=(row, *report.rows))

    return add


@pytest.fixture(scope="session")
def many(fashion) -> Report:
    """Forty variants around the measured ones: a search's report."""
    rows = []
    for i in range(40):
        row = fashion.rows[i % 4]
        value = row.score.value - 0.0007 * (i * 7 % 13)
        artifact = replace(
            row.artifact,
            variant=f"{row.artifact.variant}-p{i}",
            mode=row.artifact.mode if i else "float32",
            size_bytes=int(row.artifact.size_bytes * (0.5 + (i * 11 % 17) / 12)),
            sha256=f"{i:064x}",
        )
        score = replace(row.score, value=value, ci95=(value - 0.005, value + 0.005))
        rows.append(replace(row, artifact=artifact, score=score, recommended=i == 2))
    return replace(fashion, rows=tuple(rows))


@pytest.fixture(scope="session")
def hostile(fashion) -> Report:
    """Every text that can come from a file is an attack."""
    rows = tuple(
        replace(
            row,
            model=HOSTILE,
            artifact=replace(
                row.artifact,
                variant=f"{HOSTILE}{i}",
                path=Path(HOSTILE),
                manifest={"left_in_float": [dict.fromkeys(("operator", "layer"), HOSTILE)]},
            ),
            inspection=replace(
                row.inspection,
                ops=tuple(
                    replace(op, name=HOSTILE, layer=f"{HOSTILE}{op.index}")
                    for op in row.inspection.ops
                ),
            ),
            score=replace(
                row.score, per_class=tuple(replace(c, label=HOSTILE) for c in row.score.per_class)
            ),
            timing=replace(
                row.timing,
                device=HOSTILE,
                runtime=HOSTILE,
                stable=False,
                warning=HOSTILE,
                conditions={HOSTILE: HOSTILE},
            ),
        )
        for i, row in enumerate(fashion.rows)
    )
    table = {HOSTILE: HOSTILE, "command": HOSTILE}
    return Report(
        title=HOSTILE,
        asked=table,
        rows=rows,
        reason=HOSTILE,
        data=table,
        versions=table,
        device=table,
        warnings=(HOSTILE,),
        created=HOSTILE,
    )


def _row(name: str, key: str, formats: dict, n: int, device: str) -> Row:
    measured, base = formats[key], formats["f32"]["metric"]
    mode, value = MODES[key], measured["metric"]
    regression = name.startswith("cmapss")
    # The baselines came without intervals: Wilson for a share, the chi-square's width for RMSE.
    ci95 = (value * (1 - 1.39 / math.sqrt(n)), value * (1 + 1.39 / math.sqrt(n)))
    score = Score(
        metric="rmse" if regression else "accuracy",
        value=value,
        n=n,
        ci95=ci95 if regression else _wilson(value, n),
        extras={"mae": 12.269448442459106} if regression else {},
        per_class=()
        if regression
        else (
            ClassScore(label="T-shirt/top", n=n // 2, recall=0.87, precision=0.86),
            ClassScore(label="Shirt", n=n // 2, recall=0.74, precision=0.76),
        ),
    )
    drop = value - base if regression else base - value
    noise = 0.02 if regression else 0.0008
    median = measured["ms"] * 1e6
    return Row(
        model=name,
        artifact=Artifact(
            path=Path(f"quantized/{name}/{mode}.tflite"),
            variant=mode,
            mode=mode,
            size_bytes=measured["size"],
            size_deflated_bytes=int(measured["size"] * 0.85),
            sha256=key.ljust(64, "0"),
            manifest={
                "schema": 1,
                "left_in_float": [
                    {"operator": "SOFTMAX", "layer": "softmax", "reason": "asked for by a rule"}
                ],
                "lowering": {"max_abs_difference": 1.2e-7, "samples": 64},
                "rows": [{"model": name}],
            },
        ),
        inspection=_inspection(Path(f"{mode}.tflite"), mode, measured["size"]),
        score=score,
        drop=None
        if key == "f32"
        else Drop(value=drop, ci95=(drop - noise, drop + noise), verdict="kept"),
        agreement=None if regression or key == "f32" else 0.9921,
        timing=Timing(
            values_ns=tuple(int(median * (0.99 + 0.002 * i)) for i in range(11)),
            warmup_ns=(int(3 * median),),
            threads=1,
            device=device,
            runtime="ai-edge-litert 2.3.0",
            delegate=None,
            peak_rss_bytes=48_000_000,
            cold_start_ns={"import": 10_000_000},
            conditions={"governor": "performance"},
        ),
        recommended=key == "dyn",
    )


def _inspection(path: Path, mode: str, size_bytes: int) -> Inspection:
    width = {"float32": 4, "float16": 2}.get(mode, 1)
    dtype = "int8" if mode == "int8" else "float32"
    fit = TargetFit(mapped=mode == "int8", reason=None if mode == "int8" else "float32 operands")
    ops = tuple(
        Operator(
            index=index,
            name=name,
            layer=layer,
            outputs=(f"{layer}/out",),
            dtype=dtype,
            bytes=width * weights,
            macs=weights * positions or None,
            targets={"coral": fit},
        )
        for index, (layer, name, weights, positions) in enumerate(LAYERS)
    )
    weights = sum(op.bytes for op in ops)
    return Inspection(
        path=path,
        size_bytes=size_bytes,
        inputs=(TensorSpec(name="image", shape=(1, 28, 28, 1), dtype="float32"),),
        outputs=(
            TensorSpec(name="scores", shape=(1, 10), dtype="int8", scale=1 / 256, zero_point=-128),
        ),
        ops=ops,
        bytes={
            "weights": weights,
            "quantization": 1200,
            "graph": max(size_bytes - weights - 1200, 0),
        },
        weight_dtypes={dtype: weights},
        macs=sum(op.macs or 0 for op in ops),
        parameters=sum(weights for _, _, weights, _ in LAYERS),
    )


def _wilson(share: float, n: int) -> tuple[float, float]:
    z = 1.959964
    centre = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * math.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return centre - half, centre + half

"""The runner against a bare invoke loop, litert-benchmark, and the smallest script.

Latency: the median of single invocations, one thread, of alternating processes. The bare loop is
numpy, an interpreter and a timer around `invoke()`; its warm-up is as long as the runner's.
litert-benchmark writes hundredths of a millisecond: a model that takes less is shown as "< 0.01
ms", without a ratio. Start: processor time of whole processes from exec to the first printed
result, for one stored sample. Each ratio is the median of the ratios round by round, so that a
machine that slows down slows both.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

import edgekit_runner

DATA = Path(os.environ.get("EDGEKIT_DATA", "../shared/data"))
MODELS = {
    "turbofan 1-D CNN int8": Path("tests/golden/runner/cmapss_uint8.tflite"),
    "MobileNetV1 0.25/128 int8": DATA / "coral_pairs/mobilenet_v1_0.25_128_quant.tflite",
    "MobileNetV2 1.0/224 int8": DATA / "coral_pairs/mobilenet_v2_1.0_224_quant.tflite",
}
RUNS = 300
SMALLEST = """
import sys
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.load(sys.argv[2]))
interpreter.invoke()
print(interpreter.get_tensor(interpreter.get_output_details()[0]["index"]))
"""
BARE = """
import sys, time
import numpy as np
from ai_edge_litert.interpreter import Interpreter
interpreter = Interpreter(model_path=sys.argv[1], num_threads=1)
interpreter.allocate_tensors()
interpreter.set_tensor(interpreter.get_input_details()[0]["index"], np.load(sys.argv[2]))
def loop(n):
    values = []
    for _ in range(n):
        start = time.perf_counter_ns()
        interpreter.invoke()
        values.append(time.perf_counter_ns() - start)
    return values
loop(int(sys.argv[3]))
print(np.median(loop(int(sys.argv[4]))) / 1e6)
"""
RUNNER = [sys.executable, edgekit_runner.__file__]
# litert-benchmark as a module: its script may be in another environment's folder.
BENCHMARK = [sys.executable, "-m", "ai_edge_litert.tools.benchmark_litert_model"]
RESOLUTION_MS = {"litert-benchmark": 0.01}
"""The smallest difference that a tool can print, for those that round."""


def measure(rounds: int = 9) -> list[dict[str, str]]:
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for name, model in MODELS.items():
            if not model.exists():
                print(f"{name}: {model} is not here, left out", file=sys.stderr)
                continue
            sample = _sample(model, Path(folder))
            rows += _latency(name, model, sample, Path(folder), rounds)
            rows.append(_start(name, model, sample, rounds))
    return rows


def _sample(model: Path, folder: Path) -> Path:
    """Store the sample that the runner's `bench` uses too."""
    path = folder / f"{model.stem}.npy"
    loaded = edgekit_runner.Model(str(model), edgekit_runner.find_runtime("litert"), 1)
    np.save(path, edgekit_runner._random_inputs(loaded)[0])  # noqa: SLF001  the very same sample
    return path


def _latency(
    name: str, model: Path, sample: Path, folder: Path, rounds: int
) -> list[dict[str, str]]:
    result = folder / "result.json"
    taken: dict[str, list[float]] = {"runner": [], "bare loop": [], "litert-benchmark": []}
    for _ in range(rounds):
        facts = json.loads(_output([*RUNNER, "bench", "--json", "--runs", str(RUNS), str(model)]))
        taken["runner"].append(facts["p50_ms"])
        warm_up = str(len(facts["warmup_ns"]))
        command = [sys.executable, "-c", BARE, str(model), str(sample), warm_up, str(RUNS)]
        taken["bare loop"].append(float(_output(command)))
        options = {"model": model, "num_threads": 1, "num_runs": RUNS, "warmup_runs": warm_up}
        pairs = [(f"--{key}", str(value)) for key, value in options.items()]
        _output([*BENCHMARK, *sum(pairs, ()), "--result_json", str(result)])
        taken["litert-benchmark"].append(json.loads(result.read_text())["latency"]["median_ms"])
    return [
        {"model": name, "figure": "median latency", **_compare(taken, other, bound)}
        for other, bound in (("bare loop", "1.03"), ("litert-benchmark", ""))
    ]


def _start(name: str, model: Path, sample: Path, rounds: int) -> dict[str, str]:
    runner = [*RUNNER, "run", str(model), str(sample)]
    smallest = [sys.executable, "-c", SMALLEST, str(model), str(sample)]
    _output(runner)
    _output(smallest)
    taken: dict[str, list[float]] = {"runner": [], "smallest script": []}
    for _ in range(2 * rounds):
        taken["runner"].append(_cpu_ms(runner))
        taken["smallest script"].append(_cpu_ms(smallest))
    compared = _compare(taken, "smallest script", "1.15")
    return {"model": name, "figure": "start to first result, cpu", **compared}


def _compare(taken: Mapping[str, Sequence[float]], other: str, bound: str) -> dict[str, str]:
    """Compare the runner's figures with another tool's, round by round.

    A round in which the other tool printed zero has no ratio; if it did so in half of the rounds,
    the median only shows that the latency is below its resolution.
    """
    against = statistics.median(taken[other])
    least = RESOLUTION_MS.get(other, 0)
    ratios = [a / b for a, b in zip(taken["runner"], taken[other], strict=True) if b > 0]
    known = against >= least and ratios
    return {
        "runner": f"{statistics.median(taken['runner']):.4g} ms",
        "against": f"{other}: {f'{against:.4g} ms' if known else f'< {least:g} ms'}",
        "ratio": f"{statistics.median(ratios):.3f}" if known else "",
        "at most": bound,
    }


def _output(command: list[str]) -> str:
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout


def _cpu_ms(command: list[str]) -> float:
    """Return user and system time of a finished process, as counted by the system."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise SystemExit(f"{' '.join(command)} ended with {process.returncode}")
    return 1e3 * (usage.ru_utime + usage.ru_stime)


def main() -> None:
    rows = measure()
    heads = list(rows[0])
    print("| " + " | ".join(heads) + " |\n|" + " --- |" * len(heads))
    for row in rows:
        print("| " + " | ".join(row.values()) + " |")


if __name__ == "__main__":
    main()

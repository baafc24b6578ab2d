"""The runner against a bare invoke loop, litert-benchmark, and the smallest script.

Latency: the median of single invocations, one thread, of alternating processes. The bare loop is
numpy, an interpreter and a timer around `invoke()`; its warm-up is as long as the runner's.
litert-benchmark writes hundredths of a millisecond: a model that takes less is shown as "< 0.01
ms", without a ratio. Start: processor time of whole processes from exec to the first printed
result, for one stored sample; as a module Python keeps the runner compiled, as a script it compiles
it at each start. Each ratio is the median of the ratios round by round, so that a
machine that slows down slows both.

int4 unpacked: the runner's content of an int4 file, the int8 file, and the int4 file as it is
stored, invoked in turns in one process; each ratio is the median of the ratios turn by turn.
Unpacking: processor time of reading and unpacking a file of a given size, packed with gzip.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ai_edge_litert.interpreter import Interpreter

import edgekit
import edgekit_runner
from edgekit.tflite.stored import packed

DATA = Path(os.environ.get("EDGEKIT_DATA", "../shared/data"))
MODELS = {
    "turbofan 1-D CNN int8": Path("tests/golden/runner/cmapss_uint8.tflite"),
    "MobileNetV1 0.25/128 int8": DATA / "coral_pairs/mobilenet_v1_0.25_128_quant.tflite",
    "MobileNetV2 1.0/224 int8": DATA / "coral_pairs/mobilenet_v2_1.0_224_quant.tflite",
}
SMALL = ("fashion-mnist", "spoken-digits", "turbofan")
"""Published models, in `quantized/`."""
MOBILENET_NAME = "MobileNetV2 1.0/224"
LOADED = {"fashion-mnist": 10, MOBILENET_NAME: 25}
"""Model -> the milliseconds that unpacking its int4 file may take."""
RUNS = 300
MOBILENET = """
import sys, keras
keras.utils.set_random_seed(0)
model = keras.applications.MobileNetV2((224, 224, 3), weights=None)
model.save(f"{sys.argv[1]}/mobilenet.keras")
"""
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
UNUSUAL = ("PYTHONDONTWRITEBYTECODE",)
"""Variables that a user's device does not have, and that change how long Python takes to start."""
STARTED = {"as a module": ["-m", "edgekit_runner"], "as a script": [edgekit_runner.__file__]}
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
            rows += [_start(name, model, sample, rounds, form) for form in STARTED]
        made = {name: Path("quantized") / name for name in SMALL}
        rows += [_unpacked_latency(name, path, 100 * rounds) for name, path in made.items()]
        made[MOBILENET_NAME] = _mobilenet(Path(folder))
        rows.append(_unpacked_latency(MOBILENET_NAME, made[MOBILENET_NAME], 5 * rounds))
        rows += [_unpacking(name, made[name], Path(folder), most) for name, most in LOADED.items()]
    return rows


def _unpacked_latency(name: str, made: Path, turns: int) -> dict[str, str]:
    """Time an int4 file, unpacked and as stored, in turns with the int8 file of the model."""
    paths = [made / f"{mode}.tflite" for mode in ("int4", "int8")]
    contents = [
        edgekit_runner.loadable(str(paths[0])),
        *(path.read_bytes() for path in paths[::-1]),
    ]
    models = [_loaded(content) for content in contents]
    taken = np.zeros((turns, len(models)))
    for turn in taken:
        for place, model in enumerate(models):
            model.invoke()  # brings its weights back into the caches
            start = time.perf_counter_ns()
            model.invoke()
            turn[place] = time.perf_counter_ns() - start
    unpacked, int8, stored = np.median(taken, axis=0) / 1e6
    return {
        "model": f"{name} int4",
        "figure": "median latency, unpacked",
        "runner": f"{unpacked:.4g} ms",
        "against": f"int8: {int8:.4g} ms; int4 as stored: {stored:.4g} ms",
        "ratio": f"{np.median(taken[:, 0] / taken[:, 1]):.3f}",
        "at most": "1.05",
    }


def _loaded(content: str | bytes) -> Interpreter:
    key = "model_path" if isinstance(content, str) else "model_content"
    model = Interpreter(**{key: content}, num_threads=1)
    model.allocate_tensors()
    model.invoke()
    return model


def _unpacking(name: str, made: Path, folder: Path, bound: int) -> dict[str, str]:
    """Time reading and unpacking an int4 file, packed with gzip."""
    path = folder / "int4.tflite.gz"
    path.write_bytes(packed((made / "int4.tflite").read_bytes()))
    taken = []
    for _ in range(21):
        path.touch()  # as if it was never read
        start = time.process_time()
        unpacked = edgekit_runner.loadable(str(path))
        taken.append(1e3 * (time.process_time() - start))
    return {
        "model": f"{name} int4",
        "figure": "unpacking gzip and int4, cpu",
        "runner": f"{statistics.median(taken):.4g} ms",
        "against": f"{path.stat().st_size / 1e3:.4g} kB to {len(unpacked) / 1e3:.4g} kB",
        "ratio": "",
        "at most": f"{bound} ms",
    }


def _mobilenet(folder: Path) -> Path:
    """Quantize MobileNetV2 1.0/224 with seeded weights; returns the folder of its files."""
    subprocess.run([sys.executable, "-c", MOBILENET, folder], check=True, capture_output=True)
    np.savez(
        folder / "pictures.npz",
        x_train=np.random.default_rng(0).uniform(-1, 1, (20, 224, 224, 3)).astype(np.float32),
    )
    edgekit.quantize(
        folder / "mobilenet.keras",
        data=str(folder / "pictures.npz"),
        modes=("int8", "int4"),
        output=folder / "mobilenet",
        latency=False,
    )
    return folder / "mobilenet"


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


def _start(name: str, model: Path, sample: Path, rounds: int, form: str) -> dict[str, str]:
    runner = [sys.executable, *STARTED[form], "run", str(model), str(sample)]
    smallest = [sys.executable, "-c", SMALLEST, str(model), str(sample)]
    _output(runner)
    _output(smallest)
    taken: dict[str, list[float]] = {"runner": [], "smallest script": []}
    for _ in range(2 * rounds):
        taken["runner"].append(_cpu_ms(runner))
        taken["smallest script"].append(_cpu_ms(smallest))
    compared = _compare(taken, "smallest script", "1.15")
    return {"model": name, "figure": f"start to first result, {form}, cpu", **compared}


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
    usual = {name: value for name, value in os.environ.items() if name not in UNUSUAL}
    process = subprocess.Popen(
        command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, env=usual
    )
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

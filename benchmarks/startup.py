"""Start-up of commands that need no TensorFlow, against importing Typer alone."""

from __future__ import annotations

import statistics
import subprocess
import sys
import time
from pathlib import Path

EDGEKIT = str(Path(sys.executable).with_name("edgekit"))
MODEL = "quantized/fashion-mnist/int8.tflite"
COMMANDS = {
    'python -c "import typer"': [sys.executable, "-c", "import typer"],
    "edgekit --help": [EDGEKIT, "--help"],
    "edgekit quantize --help": [EDGEKIT, "quantize", "--help"],
    "edgekit inspect int8.tflite": [EDGEKIT, "inspect", MODEL],
    'python -c "import tensorflow"': [sys.executable, "-c", "import tensorflow"],
}


def measure(rounds: int = 7) -> list[dict[str, str]]:
    seconds: dict[str, list[float]] = {name: [] for name in COMMANDS}
    for _ in range(rounds):
        for name, command in COMMANDS.items():
            if "tensorflow" in name and len(seconds[name]) == 2:
                continue
            begun = time.perf_counter()
            subprocess.run(command, check=True, capture_output=True)
            seconds[name].append(time.perf_counter() - begun)
    base = statistics.median(seconds['python -c "import typer"'])
    return [
        {
            "command": f"`{name}`",
            "median, s": f"{statistics.median(values):.3f}",
            "of importing typer": f"{statistics.median(values) / base:.2f}x",
        }
        for name, values in seconds.items()
    ]

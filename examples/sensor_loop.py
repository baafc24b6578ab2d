"""Run a model in a loop that reads a sensor, on a device that has the runner's file and numpy.

Copy `edgekit_runner.py`, the `.tflite` and its `.json` to the device. Samples are preprocessed as
the `.json` says, by the very code that scored the model. For a camera, `read_window` would return
the frame, uint8 `[height, width, 3]`.

python sensor_loop.py MODEL.tflite [SAMPLES]
"""

import itertools
import sys
from collections.abc import Iterator
from typing import Any

import numpy as np

import edgekit_runner as runner


def read_window(shape: tuple[int, ...], step: int) -> Any:
    """Stand in for the sensor: a slow oscillation, float32 of the model's shape."""
    phase = np.linspace(step, step + 1, int(np.prod(shape)), dtype=np.float32)
    return np.sin(phase).reshape(shape)


def answers(path: str) -> Iterator[Any]:
    """Yield the model's first output for window after window."""
    model = runner.Model(path, runner.find_runtime(), threads=1)
    spec = runner.read_manifest(path).get("preprocessing") or {}
    (tensor,) = model.inputs
    preprocess = runner.Preprocessor(spec, tensor)
    for step in itertools.count():
        window = read_window(tensor.shape[1:], step)
        model.feed([preprocess.encode(window, f"window {step}")])
        model.invoke()
        yield model.results()[0]


def main() -> None:
    """Print the answers; errors are of one class, with an exit code and lines for the user."""
    path, *count = sys.argv[1:]
    try:
        for step, output in enumerate(itertools.islice(answers(path), int((count or ["10"])[0]))):
            print(f"{step}: {np.array2string(np.ravel(output), precision=3)}")
    except runner.RunnerError as error:
        print("\n".join(error.lines), file=sys.stderr)
        sys.exit(error.code)


if __name__ == "__main__":
    main()

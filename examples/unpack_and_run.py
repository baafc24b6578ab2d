"""Load a file that is small on flash into an interpreter of your own, unpacked by the runner.

Copy `edgekit_runner.py` and the `.tflite` or `.tflite.gz` to the device. int4 weights become int8,
for which every runtime has fast kernels; gzip is inflated up to a limit.

python unpack_and_run.py MODEL.tflite.gz
"""

import sys
from pathlib import Path

import numpy as np

import edgekit_runner as runner


def main() -> None:
    """Print what is stored, what is loaded, and one answer to zeros."""
    path = sys.argv[1]
    runtime = runner.find_runtime()
    try:
        content = runner.loadable(path, per_channel=runtime.key != "tflite")
    except runner.RunnerError as error:
        print("\n".join(error.lines), file=sys.stderr)
        sys.exit(error.code)
    key = "model_path" if isinstance(content, str) else "model_content"
    interpreter = runtime.interpreter(**{key: content}, num_threads=1)
    interpreter.allocate_tensors()
    for taken in interpreter.get_input_details():
        interpreter.set_tensor(taken["index"], np.zeros(taken["shape"], taken["dtype"]))
    interpreter.invoke()
    loaded = "mapped" if isinstance(content, str) else f"{len(content)} bytes in memory"
    print(f"{Path(path).stat().st_size} bytes on flash, {loaded}")
    for given in interpreter.get_output_details():
        output = interpreter.get_tensor(given["index"])
        print(f"{given['name']}: {np.array2string(np.ravel(output)[:5], precision=3)}")


if __name__ == "__main__":
    main()

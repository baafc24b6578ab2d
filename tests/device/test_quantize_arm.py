"""Quantizing on the device itself: the same bytes as here."""

from __future__ import annotations

import hashlib
import json
import subprocess
from pathlib import Path

import flatbuffers
import numpy as np
import userland

from edgekit.quantization import Observed, make, read_float_graph
from edgekit.records import Plan
from edgekit.tflite.ranges import activations

MODES = ("int8", "int16x8", "dynamic", "int4")
PROGRAM = """
import hashlib, json, sys
folders, path, low, high = json.loads(sys.argv[1])
sys.path[:0] = folders
from test_quantize_arm import digests
print(json.dumps(digests(path, low, high)))
"""


def digests(path: str, low: dict[str, float], high: dict[str, float]) -> list[str]:
    """The digests of a float file's variants, for given ranges."""
    graph = read_float_graph(Path(path))
    seen = Observed(low=low, high=high, n=1)
    made = [
        make(Plan(variant=mode, mode=mode), graph, observe=lambda _: seen).data for mode in MODES
    ]
    return [hashlib.sha256(data).hexdigest() for data in made]


def test_a_board_makes_the_bytes_that_this_machine_makes(
    arm64: userland.Userland, repository: Path, tmp_path: Path
) -> None:
    # Given a float file and ranges with many digits
    path = repository / "quantized" / "turbofan" / "float32.tflite"
    model = read_float_graph(path).model
    names = [model.subgraphs[0].tensors[i].name for i in activations(model)]
    ends = np.random.default_rng(0).lognormal(0, 2, (2, len(names)))
    low, high = (dict(zip(names, side.tolist(), strict=True)) for side in (-ends[0], ends[1]))
    # The board's user land has numpy and ai-edge-litert; flatbuffers is Python alone.
    (tmp_path / "flatbuffers").symlink_to(Path(flatbuffers.__file__).parent)
    folders = [
        str(tmp_path),
        str(repository / "toolkit"),
        str(repository / "device_scripts"),
        str(Path(__file__).parent),
    ]
    # When both write it in integers, without TensorFlow
    done = subprocess.run(
        [arm64.python, "-c", PROGRAM, json.dumps([folders, str(path), low, high])],
        env={"PATH": arm64.path},
        capture_output=True,
        text=True,
        check=False,
        timeout=240,
    )
    # Then all bytes are the same.
    assert done.returncode == 0, done.stderr[-2000:]
    assert json.loads(done.stdout) == digests(str(path), low, high)

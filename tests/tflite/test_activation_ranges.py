from __future__ import annotations

from edgekit.tflite import read
from edgekit.tflite.ranges import with_all_outputs


def test_every_activation_becomes_an_output(speech: bytes) -> None:
    before, after = read(speech).subgraphs[0], with_all_outputs(read(speech)).subgraphs[0]
    produced = {int(op.outputs[0]) for op in before.operators}
    assert set(after.outputs.tolist()) == produced
    assert after.outputs[0] == before.outputs[0]

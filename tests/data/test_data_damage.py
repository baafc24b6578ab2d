"""Damaged files are read, or refused with at most three lines; no other exception occurs."""

from __future__ import annotations

import random

import numpy as np
import pytest

from edgekit.data import bind, open_data
from edgekit.errors import EdgekitError
from edgekit.records import TensorSpec

MODEL = (
    [TensorSpec(name="x", shape=(1, 4), dtype="float32")],
    [TensorSpec(name="y", shape=(1, 3), dtype="float32")],
)


def damaged(content, seed):
    draw = random.Random(seed)
    if seed % 5 == 0:
        return content[: draw.randrange(len(content))]
    changed = bytearray(content)
    for _ in range(draw.choice((1, 1, 3, 10))):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def write_npz(path, save=np.savez):
    values = np.random.default_rng(0).normal(size=(29, 4))
    labels = np.arange(29) % 3
    save(path, x_train=values[:20], y_train=labels[:20], x_test=values[20:], y_test=labels[20:])


def write_csv(path):
    rows = [f"{i},{i * i},{i / 7:.3f},{-i},{i % 3}\n" for i in range(30)]
    path.write_text("a,b,c,d,y\n" + "".join(rows))


@pytest.mark.parametrize(
    ("name", "write", "options"),
    [
        ("plain.npz", write_npz, {}),
        ("packed.npz", lambda path: write_npz(path, np.savez_compressed), {}),
        ("table.csv", write_csv, {"target": "y"}),
    ],
)
def test_two_hundred_damages_of_each_kind(tmp_path, name, write, options):
    path = tmp_path / name
    write(path)
    whole = path.read_bytes()
    bind(open_data(str(path), **options), *MODEL)

    refusals = []
    for seed in range(200):
        path.write_bytes(damaged(whole, seed))
        try:
            bound = bind(open_data(str(path), **options), *MODEL)
        except EdgekitError as error:
            refusals.append(error)
        else:
            assert np.isfinite(bound.train.read(np.arange(bound.train.n)).inputs["x"]).all()

    assert len(refusals) > 100
    assert {error.exit_code for error in refusals} <= {2, 4}
    assert max(len(str(error).splitlines()) for error in refusals) <= 3

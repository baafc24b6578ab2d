"""`edgekit train --split-by`: which samples decide when training stops.

Every person has readings of their own, and a label that nothing but the person tells. Who has seen
a person knows the label, and who has not can only guess one of ten.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from edgekit.cli import run

pytestmark = pytest.mark.tensorflow
SAID = {"group": "whole groups", "time": "the end of each group"}
PEOPLE, WINDOWS, STEPS, CHANNELS, LABELS = 20, 14, 8, 6, 10


@pytest.fixture(scope="module")
def recordings() -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Readings `[people, windows * steps, channels]`, and labels and names `[people]`."""
    random = np.random.default_rng(0)
    own = random.normal(size=(PEOPLE, 1, CHANNELS))
    noise = random.normal(0, 0.05, (PEOPLE, WINDOWS * STEPS, CHANNELS))
    labels = random.permutation(np.arange(PEOPLE) % LABELS)
    return (own + noise).astype(np.float32), labels, np.arange(PEOPLE) + 100


def as_npz(folder: Path, recordings: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[str]:
    readings, labels, names = recordings
    np.savez(
        folder / "people.npz",
        x_train=readings.reshape(-1, STEPS, CHANNELS),
        y_train=np.repeat(labels, WINDOWS),
        group_train=np.repeat(names, WINDOWS),
    )
    return [str(folder / "people.npz")]


def as_csv(folder: Path, recordings: tuple[np.ndarray, np.ndarray, np.ndarray]) -> list[str]:
    readings, labels, names = recordings
    channels = ",".join(f"c{number}" for number in range(CHANNELS))
    lines = [f"person,{channels},label"]
    for rows, label, name in zip(readings, labels, names, strict=True):
        lines += [f"{name},{','.join(f'{v:.4f}' for v in row)},kind{label}" for row in rows]
    (folder / "people.csv").write_text("\n".join(lines) + "\n")
    rows = ["--group", "person", "--window", str(STEPS), "--stride", str(STEPS)]
    return [str(folder / "people.csv"), "--column", "label", *rows]


@pytest.mark.parametrize("write", [as_npz, as_csv])
@pytest.mark.parametrize("way", SAID)
def test_validation_holds_what_is_asked_for(write, way, recordings, tmp_path, capsys):
    # given data of 20 people
    data = write(tmp_path, recordings)
    # when a network is trained on it
    words = ["train", "cnn1d", "--data", *data, "--split-by", way, "--epochs", "8"]
    options = ["--batch-size", "16", "--learning-rate", "0.01", "-o", str(tmp_path / "m.keras")]
    assert run([*words, *options, "--quiet"]) == 0
    # then whole people are unknown to it, and the end of a recording of theirs is not
    told = capsys.readouterr().out
    found = re.search(r"accuracy ([\d.]+) on (\d+) samples \((.*?)[,)]", told)
    assert found, told
    assert found[3].startswith(SAID[way])
    if way == "group":
        assert int(found[2]) == PEOPLE // 10 * WINDOWS
        assert float(found[1]) < 0.5
    else:
        assert float(found[1]) > 0.9


def test_another_way_is_refused(recordings, tmp_path, capsys):
    data = as_npz(tmp_path, recordings)
    words = ["train", "cnn1d", "--data", *data, "--split-by", "person"]
    assert run([*words, "-o", str(tmp_path / "m.keras"), "--quiet"]) == 2
    assert "split_by must be auto or group or time" in capsys.readouterr().err
    assert not (tmp_path / "m.keras").exists()

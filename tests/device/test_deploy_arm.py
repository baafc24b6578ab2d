"""`edgekit deploy` to 64-bit and 32-bit ARM: OpenSSH on both ends, ARM code on the device."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import sshd
from userland import Userland, download_wheels

from edgekit.cli import run

Command = Callable[..., dict]


@pytest.fixture(scope="session")
def open_server(any_land: Userland) -> Iterator[Callable[[str], sshd.Sshd]]:
    """Start a device on loopback whose python3 is the user land's; "bare" has no runtime."""
    # Not below pytest's own folder, which the user of the server may not enter.
    folder = Path(tempfile.mkdtemp(prefix="edgekit-arm-"))
    folder.chmod(0o755)
    servers = []

    def start(name: str) -> sshd.Sshd:
        programs = any_land.python.parent
        if name == "bare":
            programs = any_land.without_runtime(folder / "user land")
        try:
            started = sshd.start_sshd(folder / name, folder / f"{name} home", [programs])
        except sshd.UnavailableError as why:
            pytest.skip(str(why))
        servers.append(started)
        hello = subprocess.run(
            ["ssh", "-F", started.config, "board", "python3 -c 1"],
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        if "ermission denied" in hello.stderr and not os.getuid():
            pytest.skip("the user of the loopback sshd may not enter the user lands' folder")
        return started

    yield start
    for server in servers:
        server.stop()
    shutil.rmtree(folder)


@pytest.fixture(scope="session")
def server(open_server: Callable[[str], sshd.Sshd]) -> sshd.Sshd:
    return open_server("board")


@pytest.fixture
def deployed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, capsys) -> Command:
    """Run an edgekit command against a device; return its JSON."""
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    monkeypatch.chdir(tmp_path)

    def command(server: sshd.Sshd, *words: object) -> dict:
        monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(server.config))
        code = run([*map(str, words), "--json", "-q"])
        out, err = capsys.readouterr()
        assert code == 0, err
        return json.loads(out)

    return command


def test_one_command_scores_and_times_a_model_there(
    deployed: Command, server: sshd.Sshd, any_land: Userland, repository: Path, shared_data: Path
) -> None:
    # given a published model and the data it was tested on, scored here
    model = repository / "quantized" / "turbofan" / "int8.tflite"
    expected = deployed(server, "eval", model, "--data", "turbofan")["rows"][0]["score"]

    # when it is deployed to the device
    answer = deployed(
        server, "deploy", model, "--device", "board", "--data", "turbofan", "--runs", "3"
    )

    # then the row says what it scored and on which device it was timed
    (row,) = answer["rows"]
    low, high = expected["ci95"]
    assert row["score"]["n"] == expected["n"]
    assert low <= row["score"]["value"] <= high
    assert row["latency"]["n"] == 3
    assert row["latency"]["device"].startswith(f"board: {any_land.architecture.board}")
    preferred = {"trixie": "ai-edge-litert", "armhf": "tflite-runtime"}[any_land.name]
    assert row["latency"]["runtime"].startswith(preferred)

    # and nothing is left there; the last program ends by itself when the connection is gone
    assert server.left() == []
    end = time.monotonic() + 20
    while server.programs() and time.monotonic() < end:
        time.sleep(0.1)
    assert server.programs() == []


def test_a_board_without_a_runtime_is_set_up(
    deployed: Command,
    open_server: Callable[[str], sshd.Sshd],
    any_land: Userland,
    repository: Path,
    tmp_path: Path,
) -> None:
    # given a board with nothing but Python (and, of 32 bits, Debian's numpy), and the wheels here
    server = open_server("bare")
    folder = tmp_path / "wheels"
    download_wheels(any_land.architecture, folder, ("ai-edge-litert", "tflite-runtime", "numpy"))

    # when a model is deployed to it with a runtime
    model = repository / "quantized" / "turbofan" / "int8.tflite"
    words = ("--device", "board", "--runs", "3", "--setup", "--wheels", folder)
    (row,) = deployed(server, "deploy", model, *words)["rows"]

    # then the one for its architecture came along, ran, and left
    preferred = {"trixie": "ai-edge-litert", "armhf": "tflite-runtime"}[any_land.name]
    assert row["latency"]["runtime"].startswith(preferred)
    assert server.left() == []


def test_a_photo_is_classified_there(
    server: sshd.Sshd, shared_data: Path, monkeypatch: pytest.MonkeyPatch, capsys, tmp_path: Path
) -> None:
    # given a model of Coral's, its labels and a photo
    pairs = shared_data / "coral_pairs"
    model, photo = pairs / "mobilenet_v1_0.25_128_quant.tflite", pairs / "cat.bmp"
    monkeypatch.setenv("EDGEKIT_SSH_CONFIG", str(server.config))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))

    # when it is run there
    words = ["--run", photo, "--labels", pairs / "imagenet_labels.txt", "-q"]
    code = run(["deploy", str(model), "--device", "board", *map(str, words)])
    out, err = capsys.readouterr()

    # then it is a cat, in one JSON line that says where, and nothing is left
    assert code == 0, err
    (line,) = map(json.loads, out.splitlines())
    assert "cat" in line["top"][0]["label"]
    assert (line["device"], line["model"], line["source"]) == ("board", str(model), str(photo))
    assert server.left() == []

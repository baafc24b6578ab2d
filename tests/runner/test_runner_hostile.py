"""Hostile files, streams and signals: a result, or an error of three lines."""

from __future__ import annotations

import hashlib
import io
import json
import os
import shutil
import signal
import subprocess
import sys
import time
import wave
import zipfile
from pathlib import Path

import flatbuffers
import numpy as np
import pytest
from ai_edge_litert import schema_py_generated as schema
from numpy.lib import format as npy
from PIL import Image

import edgekit_runner

POOLING = schema.BuiltinOperator.MAX_POOL_2D
UNKNOWN = "m.tflite has no manifest with its digest: tried in a child process.\n"


@pytest.fixture
def ask(copied_runner, monkeypatch, tmp_path):
    """Run a command in an empty folder, as a process of its own."""
    monkeypatch.chdir(tmp_path)

    def run(*arguments, flags=("-I",), **options):
        options = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
        return subprocess.run(
            [sys.executable, *flags, copied_runner, *map(str, arguments)],
            text=True,
            check=False,
            timeout=120,
            **options,
        )

    return run


@pytest.fixture
def fails(ask):
    """Run a command that fails; return its exit code and its message."""

    def run(*arguments, **options):
        done = ask(*arguments, **options)
        assert done.stdout == ""
        assert 1 <= len(done.stderr.splitlines()) <= 3, done.stderr
        assert "Traceback" not in done.stderr
        return done.returncode, done.stderr

    return run


def edited(source: Path, change) -> bytes:
    """Return a model after `change` was made to its object tree."""
    model = schema.ModelT.InitFromObj(schema.Model.GetRootAsModel(source.read_bytes(), 0))
    change(model)
    builder = flatbuffers.Builder(1024)
    builder.Finish(model.Pack(builder), b"TFL3")
    return bytes(builder.Output())


# --- Files of unknown origin ---


@pytest.fixture
def deadly(golden) -> bytes:
    """A model whose pooling has windows without width: the runtime divides by that."""

    def change(model):
        pooling = [k for k, c in enumerate(model.operatorCodes) if c.builtinCode == POOLING]
        operators = model.subgraphs[0].operators
        next(o for o in operators if o.opcodeIndex in pooling).builtinOptions.filterWidth = 0

    return edited(golden / "evaluate" / "fashion_dynamic.tflite", change)


@pytest.mark.parametrize("command", ["info", "bench", "run", "eval"])
def test_a_file_that_kills_the_runtime(fails, deadly, command):
    Path("m.tflite").write_bytes(deadly)
    np.savez("x.npz", x_test=np.zeros((1, 28, 28, 1), np.float32), y_test=[1])
    files = ["x.npz"] if command in ("run", "eval") else []
    code, message = fails(command, "m.tflite", *files)
    assert code == 3
    assert message.splitlines()[0] == "m.tflite crashes the runtime."
    assert "no manifest with its digest" in message
    assert "SIGFPE" in message


@pytest.fixture
def endless(copied_runner, tmp_path):
    """Run a command with a runtime that does not come back, one second being the usual limit."""
    package = tmp_path / "tflite_runtime"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "interpreter.py").write_text(
        "import time\n"
        "from ai_edge_litert.interpreter import OpResolverType, load_delegate\n"
        "from ai_edge_litert.interpreter import Interpreter as Sound\n"
        "class Interpreter(Sound):\n"
        "    def invoke(self):\n"
        "        time.sleep(600)\n"
    )
    script = (
        f"import sys; sys.path.insert(0, {str(copied_runner.parent)!r}); import edgekit_runner; "
        "edgekit_runner.TRIAL_S = 1; sys.exit(edgekit_runner.main(sys.argv[1:]))"
    )

    def call(*words):
        return subprocess.run(
            [sys.executable, "-c", script, *words, "--runtime", "tflite"],
            env={"PYTHONPATH": str(tmp_path)},
            cwd=tmp_path,
            capture_output=True,
            text=True,
            check=False,
        )

    return call


def test_a_file_that_keeps_the_runtime_busy_for_ever(endless, models, tmp_path):
    shutil.copy(models / "pair.tflite", tmp_path / "m.tflite")
    # When a file of unknown origin is timed
    done = endless("bench", "m.tflite")
    # Then it ends, and says how to wait all the same.
    assert (done.returncode, done.stdout) == (3, "")
    lines = done.stderr.splitlines()
    assert lines[0] == "m.tflite does not finish its first run in 1 s."
    assert lines[2].startswith("Give a longer --first-run-limit")


@pytest.mark.parametrize("trusted", [False, True])
def test_a_known_file_ends_too_where_a_limit_is_given(endless, models, tmp_path, trusted):
    model = Path(shutil.copy(models / "pair.tflite", tmp_path / "m.tflite"))
    digest = hashlib.sha256(model.read_bytes()).hexdigest()
    (tmp_path / "m.json").write_text(json.dumps({"sha256": digest}))
    words = ("bench", "m.tflite", "--first-run-limit", "2", *(["--trusted"] if trusted else []))
    done = endless(*words)
    if trusted:  # without a child process: whoever started it sees the signal
        assert done.returncode == -signal.SIGALRM
    else:
        assert done.returncode == 3
        assert done.stderr.startswith("m.tflite does not finish its first run in 2 s.")


def test_only_a_manifest_with_the_digest_vouches_for_a_file(ask, models):
    shutil.copy(models / "fsdd_int8.tflite", "m.tflite")
    np.save("x.npy", np.zeros(8000, np.int16))
    manifest = json.loads((models / "fsdd_int8.json").read_text())
    for digest, said in ((manifest["sha256"], ""), ("0" * 64, UNKNOWN), (None, UNKNOWN)):
        Path("m.json").write_text(json.dumps({**manifest, "sha256": digest}))
        for command in (["info", "m.tflite"], ["run", "m.tflite", "x.npy"]):
            done = ask(*command)
            assert (done.returncode, done.stderr) == (0, said)
            assert ask(*command, "--trusted").stderr == ""


def test_it_is_said_once_and_no_measure_changes(ask, models):
    shutil.copy(models / "pair.tflite", "m.tflite")
    done = ask("bench", "m.tflite", "--runs", 3, "--sweep", "--json")
    facts = json.loads(done.stdout)
    assert done.returncode == 0
    assert done.stderr == UNKNOWN
    assert facts["n"] == 3
    assert facts["sha256"] == edgekit_runner.sha256_of("m.tflite")


# --- Graphs ---


@pytest.mark.parametrize("side", ["inputs", "outputs"])
def test_a_graph_without_an_end(ask, fails, models, side):
    def change(model):
        setattr(model.subgraphs[0], side, [])
        model.signatureDefs = []

    Path("m.tflite").write_bytes(edited(models / "cmapss_uint8.tflite", change))
    np.savez("x.npz", x_test=np.zeros((1, 30, 14), np.float32), y_test=[1.0])
    for command in (["bench"], ["run", "x.npz"], ["eval", "x.npz"]):
        code, message = fails(command[0], "m.tflite", *command[1:])
        assert code == 3
        assert message.splitlines()[0] == f"m.tflite has no {side[:-1]}."
    # What there is can be asked for.
    done = ask("info", "m.tflite", "--json")
    assert done.returncode == 0
    assert json.loads(done.stdout)[side] == []


def test_an_output_that_no_operator_writes(fails, models):
    def change(model):
        graph = model.subgraphs[0]
        graph.outputs = [len(graph.tensors)]
        graph.tensors.append(schema.TensorT(shape=[1, 1], name="nobody"))
        model.signatureDefs = []

    Path("m.tflite").write_bytes(edited(models / "pair.tflite", change))
    code, message = fails("bench", "m.tflite", "--runs", 2)
    assert code == 3
    assert message.splitlines()[0] == "m.tflite gives no value at output nobody."


def test_a_scale_without_a_zero_point(ask, models):
    def change(model):
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].quantization.zeroPoint = None

    Path("m.tflite").write_bytes(edited(models / "cmapss_uint8.tflite", change))
    np.savez("x.npz", x_test=np.zeros((1, 30, 14), np.float32), y_test=[1.0])
    for command in (["info"], ["bench", "--runs", 2], ["eval", "x.npz"]):
        done = ask(command[0], "m.tflite", *command[1:])
        assert done.returncode in (0, 3)
        assert "Traceback" not in done.stderr


@pytest.mark.parametrize("scale", [np.nan, np.inf, -1.0])
def test_a_scale_that_is_none(fails, models, scale):
    def change(model):
        graph = model.subgraphs[0]
        graph.tensors[graph.inputs[0]].quantization.scale = [scale]

    Path("m.tflite").write_bytes(edited(models / "cmapss_uint8.tflite", change))
    assert fails("bench", "m.tflite", "--runs", 2)[0] == 3


def test_a_scale_of_floats_is_no_scale(ask, models):
    # Given a float output of which the file says that its codes are to be multiplied by 3
    def change(model):
        graph = model.subgraphs[0]
        tensor = graph.tensors[graph.outputs[0]]
        tensor.quantization = schema.QuantizationParametersT()
        tensor.quantization.scale, tensor.quantization.zeroPoint = [3.0], [0]

    Path("m.tflite").write_bytes(edited(models / "digits_autoencoder.tflite", change))
    np.savez("x.npz", x_test=np.ones((1, 64), np.float32), y_test=np.ones((1, 64)))
    # When it is scored, then its answers are as they were.
    command = ["--outputs", "o.npz", "--force"]
    for name in (models / "digits_autoencoder.tflite", "m.tflite"):
        done = ask("eval", name, "x.npz", *command)
        assert done.returncode == 0, done.stderr
    answers = dict(np.load("o.npz"))
    ask("eval", models / "digits_autoencoder.tflite", "x.npz", *command)
    for key, value in np.load("o.npz").items():
        assert np.array_equal(value, answers[key])


# --- Manifests ---


@pytest.mark.parametrize("text", ["[" * 100_000, '{"preprocessing":' * 5_000])
def test_a_manifest_nested_without_end(fails, models, text):
    shutil.copy(models / "pair.tflite", "m.tflite")
    Path("m.json").write_text(text)
    code, message = fails("info", "m.tflite")
    assert code == 3
    assert "m.json" in message


@pytest.mark.parametrize(
    ("spec", "words"),
    [
        ({"kind": "image", "height": float("nan"), "width": 2}, "has height nan"),
        ({"kind": "image", "height": 10**9, "width": 2}, "has height 1000000000"),
        ({"kind": "image", "height": 2.5, "width": 2}, "has height 2.5"),
        ({"kind": "image", "height": 2, "width": 2, "channels": 2}, "has channels 2"),
        ({"kind": "affine", "std": 0}, "has std 0"),
        ({"kind": "affine", "mean": float("inf")}, "has mean inf"),
        ({"kind": "affine", "scale": 10**400}, "has scale 1000"),
        ({"kind": ["image"]}, "unhashable"),
    ],
)
def test_a_preprocessing_that_cannot_be(fails, models, spec, words):
    shutil.copy(models / "pair.tflite", "m.tflite")
    Path("m.json").write_text(json.dumps({"preprocessing": spec}))
    code, message = fails("info", "m.tflite")
    assert code == 3
    assert words in message


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("samples", 10**12),
        ("frame", 9000),
        ("hop", 0),
        ("floor", -1),
        ("std", 0),
        ("bands", 1.5),
        ("high_hz", 60),
        ("high_hz", 4001),
        ("high_hz", 2**64),
    ],
)
def test_log_mel_features_that_cannot_be(fails, models, key, value):
    shutil.copy(models / "fsdd_int8.tflite", "m.tflite")
    manifest = json.loads((models / "fsdd_int8.json").read_text())
    manifest["preprocessing"][key] = value
    Path("m.json").write_text(json.dumps(manifest))
    code, message = fails("info", "m.tflite")
    assert code == 3
    assert f"has {key} {value!r}" in message


# --- Data ---


def test_a_picture_of_which_libtiff_complains_itself(fails, models):
    image = pytest.importorskip("PIL.Image")
    image.fromarray(np.zeros((16, 24, 3), np.uint8)).save("x.tif", compression="tiff_lzw")
    content = bytearray(Path("x.tif").read_bytes())
    content[12:20] = b"\xff" * 8  # codes that are in no table yet
    Path("x.tif").write_bytes(content)
    shutil.copy(models / "segmenter.tflite", "m.tflite")
    code, message = fails("run", "m.tflite", "x.tif", "--trusted")
    assert code == 4
    assert message.splitlines()[0] == "Cannot read x.tif."


def recorded(samples: int, claimed: bytes) -> bytes:
    """A recording whose header claims so many bytes."""
    stream = io.BytesIO()
    with wave.open(stream, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes(bytes(2 * samples))
    content = bytearray(stream.getvalue())
    content[40:44] = claimed
    return bytes(content)


def test_a_recording_that_claims_4_gb_answers_for_what_is_there(ask, models):
    Path("x.wav").write_bytes(recorded(16_500, b"\xff\xff\xff\xff"))
    done = ask("run", models / "fsdd_int8.tflite", "x.wav")
    assert (done.returncode, done.stderr) == (0, "")
    assert [json.loads(line)["start_s"] for line in done.stdout.splitlines()] == [0.0, 1.0]


@pytest.mark.parametrize("place", [0, 4, 16, 20, 22, 24, 32, 34])
def test_a_recording_with_a_damaged_header(ask, models, place):
    for damage in (b"\0\0", b"\xff\xff", b"\xfe\xff"):
        content = bytearray(recorded(8000, b"\x80\x3e\0\0"))
        content[place : place + 2] = damage
        Path("x.wav").write_bytes(content)
        done = ask("run", models / "fsdd_int8.tflite", "x.wav")
        assert done.returncode in (0, 4)
        assert len((done.stdout or done.stderr).splitlines()) <= 3
        assert "Traceback" not in done.stderr


def array_file(shape: tuple[int, ...], values: bytes, fortran: bool = False) -> bytes:
    stream = io.BytesIO()
    header = {"descr": "<f4", "fortran_order": fortran, "shape": shape}
    npy.write_array_header_1_0(stream, header)
    return stream.getvalue() + values


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (array_file((1, 10**12), bytes(64)), "is declared where 64 bytes are"),
        (array_file((10**12,), bytes(64)), "is declared where 64 bytes are"),
        (array_file((-1, 30, 14), bytes(64)), "[-1, 30, 14] is declared"),
        (array_file((10**12, 0), b""), "x_test [1000000000000, 0]"),
    ],
)
def test_an_archive_that_declares_more_than_it_holds(fails, models, content, words):
    with zipfile.ZipFile("x.npz", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_test.npy", content)
        archive.writestr("y_test.npy", array_file((1,), bytes(4)))
    code, message = fails("eval", models / "cmapss_uint8.tflite", "x.npz")
    assert code == 4
    assert words in message


def test_an_archive_that_claims_a_size_no_deflate_reaches(fails, models):
    content = io.BytesIO()
    with zipfile.ZipFile(content, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("x_test.npy", array_file((1, 30, 14), bytes(1680)))
    # The size in the central directory, which is what is believed, made 3 GB.
    damaged = bytearray(content.getvalue())
    place = damaged.index(b"PK\x01\x02") + 24
    damaged[place : place + 4] = (3 << 30).to_bytes(4, "little")
    Path("x.npz").write_bytes(damaged)
    code, message = fails("eval", models / "cmapss_uint8.tflite", "x.npz")
    assert code == 4
    assert "more than deflate can hold" in message


def test_numbers_that_are_none_do_not_reach_the_arithmetic(fails, models):
    shutil.copy(models / "cmapss_uint8.tflite", "m.tflite")
    Path("m.json").write_text(json.dumps({"preprocessing": {"kind": "affine", "std": 2}}))
    for dtype in (np.complex64, "U3"):
        np.savez("x.npz", x_test=np.zeros((1, 30, 14), dtype), y_test=[1.0])
        code, message = fails("eval", "m.tflite", "x.npz")
        assert code == 4
        assert "where numbers are expected" in message


@pytest.mark.parametrize("target", [np.array([np.inf]), np.array([1j]), np.array([b"x"])])
def test_targets_that_are_no_classes(fails, models, target):
    np.savez("x.npz", inputs=np.zeros((1, 61, 40), np.float32), targets=target)
    code, message = fails("eval", models / "fsdd_int8.tflite", "x.npz")
    assert code == 4
    assert "has a target that does not fit" in message


def test_what_is_too_large_for_a_float_is_refused(fails, models):
    np.savez("x.npz", x_test=np.full((1, 64), 1e300), y_test=[0])
    code, message = fails("eval", models / "digits_autoencoder.tflite", "x.npz")
    assert code == 4
    assert "too large for float32" in message


# --- Inputs and outputs that are no files ---


@pytest.mark.parametrize(
    "command",
    [
        ["info", "fifo"], ["eval", "MODEL", "fifo"], ["run", "MODEL", "fifo.png"],
        ["run", "MODEL", "fifo.npy"], ["run", "MODEL", "x.npy", "--labels", "fifo"],
        ["bench", "MODEL", "--data", "fifo.npz"], ["info", "beside.tflite"], ["info", "/dev/zero"],
        ["eval", "MODEL", "/dev/zero"],
    ],
)  # fmt: skip
def test_a_fifo_or_a_device_is_not_waited_for(fails, models, command):
    for name in ("fifo", "fifo.png", "fifo.npy", "fifo.npz", "beside.json"):
        os.mkfifo(name)
    shutil.copy(models / "cmapss_uint8.tflite", "beside.tflite")
    shutil.copy(models / "segmenter.tflite", "m.tflite")
    code, message = fails(*("m.tflite" if word == "MODEL" else word for word in command))
    assert code in (3, 4)
    kind = "device" if "/dev/zero" in command else "FIFO"
    assert message.splitlines()[1] == f"It is a {kind}, not a file."


def test_an_output_replaces_a_regular_file_only(fails, ask, models):
    model, data = models / "cmapss_uint8.tflite", models / "cmapss.npz"
    os.mkfifo("fifo")
    Path("folder").mkdir()
    for name in ("/dev/null", "fifo", "folder"):
        code, message = fails("eval", model, data, "--outputs", name, "--force")
        assert code == 2
        assert message.startswith(f"{name} is not a regular file.")
    # A link leads to what is replaced, and stays.
    Path("kept.npz").touch()
    Path("link.npz").symlink_to("kept.npz")
    assert ask("eval", model, data, "--outputs", "link.npz", "--force").returncode == 0
    assert Path("link.npz").is_symlink()
    assert np.load("kept.npz")["output_0"].shape == (30, 1)


def test_an_output_does_not_replace_an_input(fails, models):
    shutil.copy(models / "cmapss_uint8.tflite", "m.tflite")
    shutil.copy(models / "cmapss.npz", "x.npz")
    for name in ("m.tflite", "x.npz"):
        code, message = fails("eval", "m.tflite", "x.npz", "--outputs", name, "--force")
        assert code == 2
        assert "is an input of this command" in message
    shutil.copy(models / "segmenter.tflite", "s.tflite")
    Image.new("RGB", (48, 32)).save("x.png")
    code, message = fails("run", "s.tflite", "x.png", "--draw", ".", "--force")
    assert code == 2
    assert "x.png is an input of this command" in message


def test_names_as_long_as_names_can_be(ask, models):
    Image.new("RGB", (48, 32)).save(picture := "n" * 251 + ".png")
    Image.new("RGB", (48, 32)).save(recent := "n" * 250 + "m.png")
    done = ask("run", models / "segmenter.tflite", picture, recent, "--draw", "seen")
    assert (done.returncode, done.stderr) == (0, "")
    assert len(list(Path("seen").iterdir())) == 2
    kept = "n" * 251 + ".npz"
    done = ask("eval", models / "cmapss_uint8.tflite", models / "cmapss.npz", "--outputs", kept)
    assert done.returncode == 0
    assert np.load(kept)["output_0"].shape == (30, 1)


def test_a_name_that_is_too_long_is_shortened_in_the_middle(fails, models):
    name = "a" * 200 + "z" * 200 + ".npz"
    code, message = fails("eval", models / "cmapss_uint8.tflite", name)
    assert code == 4
    first = message.splitlines()[0]
    assert first.startswith("Cannot read aaa")
    assert "a...z" in first
    assert first.endswith("zzz.npz.")
    assert len(first) < 200


def test_the_terminal_is_not_steered_by_names(ask, fails, models):
    code, message = fails("info", "\x1b[2J\n\x9b.tflite")
    assert code == 3
    assert message.splitlines()[0] == r"Cannot read \x1b[2J\n\x9b.tflite."

    def change(model):
        graph = model.subgraphs[0]
        graph.tensors[graph.outputs[0]].name = b"\x1b[2J"
        model.signatureDefs = []

    Path("m.tflite").write_bytes(edited(models / "cmapss_uint8.tflite", change))
    for words in ([], ["--json"]):
        done = ask("info", "m.tflite", *words)
        assert done.returncode == 0
        assert "\x1b" not in done.stdout
        assert "[2J" in done.stdout


# --- Streams ---


@pytest.mark.parametrize("locale", [{"PYTHONIOENCODING": "ascii"}, {"PYTHONIOENCODING": "cp437"}])
def test_a_terminal_that_lacks_letters(ask, models, locale):
    np.save("x.npy", np.zeros(8000, np.int16))
    Path("labels.txt").write_text("\n".join(["\u00e9t\u00e9", "\u2603"] * 5), encoding="utf-8")
    command = ["run", models / "fsdd_int8.tflite", "x.npy", "--labels", "labels.txt", "--top", 10]
    done = ask(*command, flags=(), env=locale)
    assert (done.returncode, done.stderr) == (0, "")
    labels = {entry["label"] for entry in json.loads(done.stdout)["top"]}
    assert labels == {"\u00e9t\u00e9", "\u2603"}


def shell(copied_runner, words: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        ["/bin/sh", "-c", words.replace("RUNNER", f"{sys.executable} -I {copied_runner}")],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


@pytest.mark.parametrize("name", ["cmapss_uint8.tflite", "unknown.tflite"])
def test_streams_that_are_closed_or_full(copied_runner, models, tmp_path, name):
    model = tmp_path / name
    shutil.copy(models / "cmapss_uint8.tflite", model)
    if name != "unknown.tflite":
        shutil.copy(models / "cmapss_uint8.json", tmp_path)
    for words, code in (
        (f"RUNNER info {model} >&-", 2),
        (f"RUNNER info {model} >/dev/full", 2),
        (f"RUNNER info {model} 2>&-", 0),
        (f"RUNNER bench {model} --runs 2 2>/dev/full", 0),
        ("RUNNER info none.tflite 2>&-", 3),
        ("RUNNER info none.tflite 2>/dev/full", 3),
        (f"RUNNER run {model} - <&-", 4),
        (f"RUNNER info {model} <&- >&- 2>&-", 2),
    ):
        done = shell(copied_runner, words)
        assert done.returncode == code, words
        assert "Traceback" not in done.stderr
        assert len(done.stderr.splitlines()) <= 3
    assert "It is closed." in shell(copied_runner, f"RUNNER info {model} >&-").stderr


def test_a_reader_of_one_line(copied_runner, models):
    model = models / "cmapss_uint8.tflite"
    done = shell(copied_runner, f"(RUNNER info {model}; echo $? >&2) | head -n 1")
    assert (done.stdout.count("\n"), done.stderr) == (1, "0\n")


# --- Signals ---


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGINT])
@pytest.mark.parametrize("known", [True, False])
@pytest.mark.usefixtures("interruptible")
def test_a_signal_leaves_nothing_behind(copied_runner, models, tmp_path, number, known):
    # Given outputs that are being written, in this process or in a child
    shutil.copy(models / "cmapss_uint8.tflite", tmp_path)
    if known:
        shutil.copy(models / "cmapss_uint8.json", tmp_path)
    np.savez(tmp_path / "x.npz", inputs=np.zeros((500_000, 30, 14), np.uint8))
    before = sorted(path.name for path in tmp_path.iterdir())
    process = subprocess.Popen(
        [sys.executable, "-I", copied_runner, "eval", "cmapss_uint8.tflite", "x.npz",
         "--outputs", "o.npz"],
        cwd=tmp_path,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    end = time.monotonic() + 60
    while not list(tmp_path.glob("*.part")):
        assert time.monotonic() < end
        time.sleep(0.01)
    children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    assert len(children) == (0 if known else 1)
    # When the process is told to end
    process.send_signal(number)
    out, err = process.communicate(timeout=60)
    # Then it does, as if by Ctrl-C.
    assert (process.returncode, out, err) == (128 + number, "", "Interrupted.\n")
    assert sorted(path.name for path in tmp_path.iterdir()) == before
    assert not any(Path(f"/proc/{child}").exists() for child in children)


def test_nohup_is_respected(copied_runner, models, tmp_path):
    np.save(tmp_path / "x.npy", np.zeros((1, 30, 14), np.float32))
    process = subprocess.Popen(
        ["nohup", sys.executable, "-I", copied_runner, "run", models / "cmapss_uint8.tflite",
         tmp_path / "x.npy", "--watch", tmp_path],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )  # fmt: skip
    assert process.stdout.readline().startswith("{")
    process.send_signal(signal.SIGHUP)
    np.save(tmp_path / "y.npy", np.zeros((1, 30, 14), np.float32))
    assert "y.npy" in process.stdout.readline()
    process.terminate()
    process.communicate(timeout=60)
    assert process.returncode == 143

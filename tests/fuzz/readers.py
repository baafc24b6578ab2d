"""Every reader of foreign bytes, on the way that the product takes to it.

Those of the host raise an `EdgekitError`; the runner's are called as its command line is, and
answer with an exit code and lines on stderr.
"""

from __future__ import annotations

import contextlib
import gzip
import hashlib
import io
import json
import os
import pickle
import shutil
import struct
import tempfile
import wave
import zipfile
import zlib
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from harness import Reader, Refused
from mutate import (
    Damage,
    damage_box_lines,
    damage_bytes,
    damage_csv,
    damage_flatbuffer,
    damage_idx,
    damage_json,
    damage_keras,
    damage_npy,
    damage_npz,
    damage_picture,
    damage_text,
    damage_tflite,
    damage_toml,
    damage_wav,
    damage_xml,
)
from target_readers import (
    HEADS,
    bundles,
    compare_models,
    damage_bundle,
    damage_vela,
    edge_tpu_options,
    make_bundle,
    read_bundle,
    read_declared_head,
    read_edge_tpu,
    read_vela,
    vela_outputs,
)

import edgekit_runner
from edgekit import checks, data, reports, tflite
from edgekit.artifacts import open_artifact
from edgekit.data.labels import read_labels
from edgekit.data.preprocessing import read_preprocessing
from edgekit.devices.registry import read_devices
from edgekit.errors import DataError, ModelError
from edgekit.pipeline.report import Outcome, build_report
from edgekit.pipeline.subjects import Opener, bind_to_file
from edgekit.quantization.observe import NOTHING
from edgekit.quantization.passes.drop_unused import drop_unused
from edgekit.recipe.parse import load_recipe
from edgekit.records import DataRequest, Plan, Report, Row, Source, TensorSpec
from edgekit.reports import check_results, drawing_process, inspection_page
from edgekit.schema import check_to_json, inspection_to_json
from edgekit.sources.keras_file import _keras_version
from edgekit.sources.load import kind_of
from edgekit.tflite import inspect as inspecting
from edgekit.tflite import micro_interpreter, pruning_estimate, ranges, sparse, weights
from edgekit.tflite.int4_weights import narrow_weights
from edgekit.tflite.micro_form import micro_form
from edgekit.tflite.stored import packed
from edgekit.training.config import load_config
from edgekit.training.losses import _compile_config
from edgekit.training.saving import read_notes

REPOSITORY = Path(__file__).resolve().parents[2]
GOLDEN = REPOSITORY / "tests" / "golden"
DEMO = REPOSITORY / "toolkit" / "edgekit" / "demo"
USAGE, MODEL, DATA, CONVERSION = 2, 3, 4, 5
FORMATS: tuple[reports.Format, ...] = ("terminal", "json", "md", "csv")
# Of a condition of each kind that is judged by what is inside a file.
LIMITS = {"target": "coral", "max_size": 1, "max_flash": 1, "max_arena": 1, "no_float": True}
VECTORS = (
    [TensorSpec(name="x", shape=(1, 4), dtype="float32")],
    [TensorSpec(name="y", shape=(1, 3), dtype="float32")],
)
PIXELS = (
    [TensorSpec(name="x", shape=(1, 12, 16, 3), dtype="float32")],
    [TensorSpec(name="y", shape=(1, 2), dtype="float32")],
)


# --- Seeds: real files --------------------------------------------------------------------------


def models() -> list[bytes]:
    """Small models of every kind, and one that says what it means."""
    names = (
        "inspect/several_float32", "inspect/loop_float32", "inspect/sparse_float32",
        "evaluate/two_in_two_out", "evaluate/batch_of_4", "evaluate/free_batch",
        "evaluate/is_eight_sigmoid", "runner/pair", "runner/detector", "runner/segmenter",
        "runner/digits_autoencoder", "inspect/speech_int8", "evaluate/autoencoder_int8",
    )  # fmt: skip
    return [*((GOLDEN / f"{name}.tflite").read_bytes() for name in names), *speaking_models()]


def speaking_models() -> list[bytes]:
    """Models with metadata and label files inside."""
    classifier = (GOLDEN / "runner" / "fsdd_int8.tflite").read_bytes()
    small = (GOLDEN / "evaluate" / "is_eight_sigmoid.tflite").read_bytes()
    spec = {"kind": "affine", "scale": 0.0625, "mean": 0.5, "std": 2.0}
    return [
        tflite.with_metadata(small, name="eight", preprocessing=spec, labels=["eight"]),
        tflite.with_metadata(
            classifier, name="digits", preprocessing=spec, labels=list("0123456789")
        ),
    ]


def report_files() -> list[bytes]:
    """Reports that edgekit wrote, shortened; one of two devices."""
    found = []
    for name in ("turbofan-small", "fashion-mnist"):
        document = json.loads((REPOSITORY / "quantized" / name / "report.json").read_text())
        document["rows"] = [row for row in document["rows"] if row["mode"]][:3]
        for row in document["rows"]:
            row["latency"]["values_ns"] = row["latency"]["values_ns"][:5]
            row["latency"]["warmup_ns"] = row["latency"]["warmup_ns"][:2]
            row["score"]["per_class"] = row["score"]["per_class"][:2]
            row["inspection"]["ops"] = row["inspection"]["ops"][:2]
        found.append(document)
    fleet = json.loads(json.dumps(found[0]))
    fleet["devices"] = {name: dict(fleet["device"]) for name in ("pi4", "pi5")}
    for row, name in zip(fleet["rows"], ("pi4", "pi5", "pi4"), strict=True):
        row["latency"]["device"] = row["device"] = f"{name}: Cortex"
    fleet["rows"].append({**fleet["rows"][0], "latency": None})
    return [json.dumps(document, indent=1).encode() for document in (*found, fleet)]


def manifest_files(model: Path) -> list[bytes]:
    """The manifest of a quantized file, with the digest of another in its place."""
    written = json.loads((REPOSITORY / "quantized" / "spoken-digits" / "int8.json").read_text())
    runner = json.loads((GOLDEN / "runner" / "fsdd_int8.json").read_text())
    digest = {"sha256": hashlib.sha256(model.read_bytes()).hexdigest()}
    return [json.dumps({**each, **digest}, indent=1).encode() for each in (written, runner)]


def arrays(save: Callable[..., None] = np.savez) -> bytes:
    """An .npz of two splits."""
    values = np.random.default_rng(0).normal(size=(29, 4))
    labels = np.arange(29) % 3
    out = io.BytesIO()
    save(out, x_train=values[:20], y_train=labels[:20], x_test=values[20:], y_test=labels[20:])
    return out.getvalue()


def texts_as_labels() -> bytes:
    """An .npz whose targets are texts."""
    values = np.zeros((6, 4), np.float32)
    names = np.array(["cat", "dog", "eel"] * 2)
    out = io.BytesIO()
    np.savez(out, x_train=values, y_train=names, labels=np.array(["cat", "dog", "eel"]))
    return out.getvalue()


def pixel_arrays() -> bytes:
    """An .npz of pictures."""
    pixels = np.arange(4 * 12 * 16 * 3, dtype=np.uint8).reshape(4, 12, 16, 3)
    out = io.BytesIO()
    np.savez(out, x_train=pixels, y_train=np.arange(4) % 2)
    return out.getvalue()


def array(values: Any) -> bytes:
    """An .npy."""
    out = io.BytesIO()
    np.save(out, values)
    return out.getvalue()


def tables() -> list[bytes]:
    """Tables of numbers, with and without a split, and with texts as targets."""
    rows = [(f"{i},{i * i},{i / 7:.3f},{-i}", i % 3, ("train", "test")[i % 2]) for i in range(30)]
    head = "a,b,c,d,y"
    return [
        "\n".join([head, *(f"{r},{y}" for r, y, _ in rows)]).encode(),
        "\n".join([f"{head},split", *(f"{r},{y},{s}" for r, y, s in rows)]).encode(),
        "\n".join([head, *(f'{r},"{("rose", "oak", "elm")[y]}"' for r, y, _ in rows)]).encode(),
    ]


def idx_files() -> list[bytes]:
    """IDX images, plain and compressed."""
    head = b"\0\0\x08\x03" + struct.pack(">3I", 6, 5, 4)
    plain = head + bytes(range(120))
    return [plain, gzip.compress(plain, 1, mtime=0)]


@cache
def pictures() -> list[bytes]:
    """A picture in every format that Pillow writes here and cameras, scanners and pages make."""
    from PIL import Image

    Image.init()
    pixels = (np.arange(24 * 16 * 3, dtype=np.uint32) * 37 % 251).astype(np.uint8)
    colour = Image.fromarray(pixels.reshape(16, 24, 3))
    grey = colour.convert("L")
    deep = Image.fromarray(pixels[: 16 * 24].reshape(16, 24).astype(np.uint16) * 257)
    kinds: list[tuple[Any, str, dict[str, Any]]] = [
        (colour, "PNG", {}), (colour.convert("P"), "PNG", {}), (grey.convert("LA"), "PNG", {}),
        (deep, "PNG", {}), (colour, "JPEG", {}), (grey, "JPEG", {"progressive": True}),
        (colour, "BMP", {}), (colour.convert("P"), "BMP", {}), (colour, "PPM", {}),
        (colour, "GIF", {"save_all": True, "append_images": [grey]}), (colour, "WEBP", {}),
        (colour, "TIFF", {}), (colour, "TIFF", {"compression": "tiff_lzw"}),
        (deep, "TIFF", {"compression": "tiff_adobe_deflate"}),
    ]  # fmt: skip
    found = []
    for image, form, options in kinds:
        out = io.BytesIO()
        image.save(out, form, **options)
        found.append(out.getvalue())
    return found


def clip(samples: int = 12_000) -> bytes:
    """A recording of a second and a half."""
    out = io.BytesIO()
    with wave.open(out, "wb") as sound:
        sound.setparams((1, 2, 8000, 0, "NONE", ""))
        sound.writeframes((np.arange(samples) % 200 * 50).astype("<i2").tobytes())
    return out.getvalue()


def tomls(pattern: str) -> list[bytes]:
    """The TOML files of the repository."""
    return [path.read_bytes() for path in sorted((REPOSITORY / "models").glob(pattern))]


RECIPE = b"""schema = 1
name = "all"
[[step]]
kind = "quantize"
mode = "int8"
ranges = "percentile"
percentile = 99.9
input = "uint8"
output = "float32"
sparse = true
rules = [{ layers = "^dense|softmax$", mode = "float32" }, { layers = "conv.*", mode = "float16" }]
"""
DEVICES = b"""[pi4]
host = "pi@192.0.2.7"

[attic]
host = "attic"
python = "/home/pi/env/bin/python"
threads = 4
port = 2222
identity = "~/.ssh/key"
jump = "gate"
timeout = 30.5
ssh_config = "config"
"""
PIXEL_SPECS = (
    b"""kind = "image"
height = 12
width = 16
channels = 3
order = "bgr"
fit = "crop"
""",
    b"""kind = "image"
resize = "bilinear"
scale = 0.003
mean = [0.4, 0.5, 0.6]
std = 0.2
""",
    b"""kind = "affine"
scale = 0.00392
mean = [0.1, 0.2, 0.3]
std = [0.5, 0.5, 1.0]
""",
)
SOUND_SPECS = (
    b"""kind = "log-mel"
sample_rate = 8000
samples = 64
frame = 16
hop = 8
bands = 4
low_hz = 60
high_hz = 3900
floor = 1e-6
mean = -10.0
std = 5.0
""",
    b"""kind = "affine"
scale = 3e-5
""",
    b"""kind = "none"
""",
)
ANNOTATION = b"""<annotation>
<filename>a.png</filename><size><width>24</width><height>16</height><depth>3</depth></size>
<object><name>ant</name><difficult>0</difficult><bndbox><xmin>2</xmin><ymin>3</ymin>
<xmax>20</xmax><ymax>15.5</ymax></bndbox></object>
<object><name>bee</name><part><name>wing</name><bndbox><xmin>1</xmin></bndbox></part>
<bndbox><xmin>1</xmin><ymin>1</ymin><xmax>24</xmax><ymax>16</ymax></bndbox></object>
</annotation>
"""
COCO = json.dumps(
    {
        "images": [{"id": 1, "file_name": "a.png", "width": 24, "height": 16}],
        "annotations": [
            {"image_id": 1, "category_id": 4, "bbox": [2, 3, 10.5, 6], "iscrowd": 0},
            {"image_id": 1, "category_id": 9, "bbox": [0, 0, 24, 16], "iscrowd": 1},
        ],
        "categories": [{"id": 4, "name": "ant"}, {"id": 9, "name": "bee"}],
    }
).encode()
YOLO_BOXES = (
    b"0 0.5 0.5 0.25 0.5\n1 0.1 0.2 0.1 0.1\n",
    b"1 0.1 0.1 0.4 0.1 0.4 0.6\n",
)
YOLO_NAMES = (
    b"train: images/train\nnc: 2\nnames: ['ant', \"bee\"]\n",
    b"names:\n  0: ant\n  1: 'big bee'  # second\npath: .\n",
    b"names:\n  - ant\n  - bee\n",
)
LABELS = b"zero\none\ntwo\nthree\nfour\nfive\nsix\nseven\neight\nnine\n"


# --- The host's readers -------------------------------------------------------------------------


def choice(content: bytes, of: Sequence[Any]) -> Any:
    """Pick by the content, so that the same input takes the same way each time."""
    return of[zlib.crc32(content) % len(of)]


def put(folder: Path, name: str, content: bytes) -> Path:
    """Write a file."""
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def read_model(content: bytes, folder: Path) -> None:
    """As quantize and import read a float file."""
    model = tflite.read(content)
    tflite.signature(model)
    for graph in model.subgraphs:
        for op in graph.operators:
            tflite.operator_name(model, op)
    tflite.read(tflite.write(model))
    with contextlib.suppress(ModelError):  # it is quantized already
        tflite.load_source(put(folder, "model.tflite", content))


def inspect_model(content: bytes, folder: Path) -> None:
    """As `edgekit inspect` does, for people, as JSON and as a page, and as `check` judges it."""
    from rich.console import Console

    path = put(folder, "model.tflite", content)
    inspection = inspecting.inspect(path, targets=("coral", "cpu"))
    json.dumps(inspection_to_json(inspection), allow_nan=False).encode()
    out = io.StringIO()
    reports.print_inspection(inspection, Console(file=out, width=100))
    out.getvalue().encode()
    inspection_page.inspection_html(inspection).encode()
    found = checks.check(checks.CheckRequest(path=path, wanted=LIMITS))
    json.dumps(check_to_json(found), allow_nan=False).encode()
    check_results.junit(found).encode()


def plan_for_micro(content: bytes, folder: Path) -> None:
    """As `edgekit inspect --target micro` and `edgekit expand --target micro` do."""
    from rich.console import Console

    path = put(folder, "model.tflite", content)
    # Its interpreter is native code in a child of its own; here it would only be slow.
    with mock.patch.object(micro_interpreter, "available", return_value=False):
        inspection = inspecting.inspect(path, targets=("micro:ram=256k,flash=1M", "esp32-s3"))
    json.dumps(inspection_to_json(inspection), allow_nan=False).encode()
    reports.print_inspection(inspection, Console(file=io.StringIO(), width=100))
    model = micro_form(tflite.read(content))
    tflite.write(drop_unused(model, NOTHING, Plan(variant="v", mode="float32")))


def rewrite_model(content: bytes, folder: Path) -> None:
    """As quantize and prune do without TensorFlow."""
    rewriting: Callable[[Any], Any] = choice(
        content,
        (
            weights.to_float16, weights.to_dynamic, weights.to_int4,
            lambda model: sparse.store_sparse(model)[0], narrow_weights, ranges.with_all_outputs,
            lambda model: drop_unused(model, NOTHING, Plan(variant="v", mode="float32")), None,
        ),
    )  # fmt: skip
    if rewriting is None:
        pruning_estimate.estimate_pruning(content, 0.5)
    else:
        tflite.write(rewriting(tflite.read(content)))


def read_model_metadata(content: bytes, folder: Path) -> None:
    """What a model says of itself, read and carried over."""
    model = tflite.read(content)
    if tflite.has_metadata(model):
        tflite.read_metadata(content)
        carried = tflite.write(tflite.carry_metadata(model, model))
        tflite.with_files(carried, tflite.files_behind(content))


def load_model(content: bytes, folder: Path) -> None:
    """Load and run in LiteRT, which the product does in a child."""
    tflite.check_loads(put(folder, "model.tflite", content))


HOST_MODEL = GOLDEN / "runner" / "fsdd_int8.tflite"


def read_host_manifest(content: bytes, folder: Path) -> None:
    """As eval and bench read it, up to the report."""
    path = put(folder, "model.tflite", HOST_MODEL.read_bytes())
    put(folder, "model.json", content)
    artifact = open_artifact(path)
    row = Row(model=artifact.manifest.get("model", path.stem), artifact=artifact)
    report = build_report([Outcome(rows=[row])], asked={}, data={})
    encoded(reports.render(report, choice(content, FORMATS)))
    values = np.zeros((4, 61, 40), np.float32)
    stored = folder / "data.npz"
    np.savez(stored, x_test=values, y_test=np.arange(4))
    with contextlib.suppress(DataError):  # the task that it names may well not fit these data
        bind_to_file(Opener(DataRequest(data=str(stored))), artifact)


def read_report(content: bytes, folder: Path) -> None:
    """As `edgekit report` does, alone or with another, in the formats of text."""
    encoded(reports.render(merged(content, folder), choice(content, FORMATS)))


def read_report_for_page(content: bytes, folder: Path) -> None:
    """The same, as a page; its charts are drawn for one in twelve, for that takes seconds."""
    report = merged(content, folder)
    if zlib.crc32(content) % 12 == 0:
        encoded(reports.render(report, "html"))
        return
    library = {"code": "the same for every page"}
    with (
        mock.patch("edgekit.reports.drawing._ask", drawn_here),
        mock.patch.dict("edgekit.reports.drawing._library", library),
    ):
        encoded(reports.render(report, "html"))


def drawn_here(task: str, report: Report, _: bool) -> object:
    """Make a page's charts as the process that draws does, all but the library's part."""
    assert task == "page"
    given = pickle.loads(pickle.dumps(report))
    with mock.patch("vl_convert.vegalite_to_svg", lambda spec: f"<svg>{json.dumps(spec)}</svg>"):
        return drawing_process.page(given, False)


def merged(content: bytes, folder: Path) -> Report:
    """Read a report alone, or with another."""
    paths = [put(folder, "one.json", content)]
    if zlib.crc32(content) & 64:
        paths.append(put(folder, "two.json", _good_report()))
    return reports.read_reports(paths)


@cache
def _good_report() -> bytes:
    return report_files()[2]


def encoded(text: str | bytes) -> None:
    """What is printed or written must have an encoding."""
    if isinstance(text, str):
        text.encode()


def read_spec(content: bytes, folder: Path) -> None:
    """A preprocessing, and samples of every kind made with it."""
    spec = read_preprocessing(put(folder, "preprocessing.toml", content))
    stored = put(folder, "data.npz", pixel_arrays())
    dataset = data.bind(data.open_data(str(stored), preprocessing=spec), *PIXELS)
    assert dataset.train is not None
    dataset.train.read(np.arange(2))


def read_sound_spec(content: bytes, folder: Path) -> None:
    """The same, for samples of sound."""
    spec = read_preprocessing(put(folder, "preprocessing.toml", content))
    stored = folder / "data.npz"
    np.savez(stored, x_train=np.zeros((4, 64), np.int16), y_train=np.arange(4) % 2)
    bands = [TensorSpec(name="x", shape=(1, 0, 0, 1), dtype="float32")]
    flat = [TensorSpec(name="x", shape=(1, 64), dtype="float32")]
    dataset = data.open_data(str(stored), preprocessing=spec)
    bound = data.bind(dataset, bands if spec.get("kind") == "log-mel" else flat, PIXELS[1])
    assert bound.train is not None
    bound.train.read(np.arange(2))


def read_data(
    name: str, bound: tuple[list[TensorSpec], list[TensorSpec]], **options: Any
) -> Callable[[bytes, Path], None]:
    """Open, bind and read data as quantize does."""

    def read(content: bytes, folder: Path) -> None:
        put(folder, name, content)
        if name.startswith("set"):
            put(folder, "set/train/b/whole.png", pictures()[0])
        place = folder / name.partition("/")[0]
        dataset = data.bind(data.open_data(str(place), **options), *bound)
        for samples in (dataset.train, dataset.calibrate, dataset.test):
            if samples is not None:
                samples.read(np.arange(min(samples.n, 8)))

    return read


def read_annotated(name: str) -> Callable[[bytes, Path], None]:
    """Return what opens pictures of which one file, named here, belongs to one of them."""

    def read(content: bytes, folder: Path) -> None:
        root = folder / "set"
        beside = name.endswith(".xml")
        put(root, "a.png" if beside else "images/a.png", pictures()[0])
        put(root, name, content)
        if name == "data.yaml":
            put(root, "labels/a.txt", YOLO_BOXES[0])
        spec = {"kind": "image", "height": 12, "width": 16, "channels": 3, "scale": 1}
        opened = data.open_data(str(root), preprocessing=spec, needed="test")
        assert opened.test is not None
        boxes = opened.test.read(np.arange(1)).targets
        assert boxes is not None
        assert np.isfinite(boxes).all()

    return read


def read_mask(content: bytes, folder: Path) -> None:
    """A picture's mask, read when it is bound."""
    root = folder / "set"
    put(root, "images/a.png", pictures()[0])
    put(root, "masks/a.png", content)
    outputs = [TensorSpec(name="y", shape=(1, 12, 16, 256), dtype="float32")]
    bound = data.bind(data.open_data(str(root), needed="test"), PIXELS[0], outputs)
    assert bound.test is not None
    bound.test.read(np.arange(1))


@cache
def masks() -> list[bytes]:
    """Masks of class numbers: grey, a palette, one bit."""
    from PIL import Image

    grey = Image.fromarray((np.arange(16 * 24, dtype=np.uint8) % 5).reshape(16, 24))
    palette = Image.frombytes("P", grey.size, grey.tobytes())
    palette.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0, 0, 200, 0, 0, 0, 200])
    found = []
    for image in (grey, palette, grey.point(lambda value: 255 * (value > 1)).convert("1")):
        out = io.BytesIO()
        image.save(out, "PNG")
        found.append(out.getvalue())
    return found


def read_idx_folder(content: bytes, folder: Path) -> None:
    """Images and labels; both are damaged alike."""
    place = folder / "set"
    ending = ".gz" if content[:2] == b"\x1f\x8b" else ""
    put(place, f"train-images-idx3-ubyte{ending}", content)
    if zlib.crc32(content) & 1:
        labels = b"\0\0\x08\x01" + struct.pack(">I", 6) + bytes(6)
        put(place, "train-labels-idx1-ubyte", labels)
    dataset = data.open_data(str(place))
    pixels = [TensorSpec(name="x", shape=(1, 5, 4, 1), dtype="float32")]
    bound = data.bind(dataset, pixels, VECTORS[1])
    assert bound.train is not None
    bound.train.read(np.arange(2))


def read_label_file(content: bytes, folder: Path) -> None:
    """The order of classes in a folder of images."""
    put(folder, "labels.txt", content)
    read_labels(folder)


def read_keras_archive(content: bytes, folder: Path) -> None:
    """All that is read of a Keras file before Keras is loaded."""
    path = put(folder, "model.keras", content)
    read_notes(path)
    source = Source(name="", path=path, kind="keras", sha256="", inputs=(), outputs=())
    _compile_config(source)
    _keras_version(path, kind_of(path))


def read_hdf5(content: bytes, folder: Path) -> None:
    """What is read of an older Keras file before Keras is loaded."""
    path = put(folder, "model.h5", content)
    _keras_version(path, kind_of(path))


# --- The runner's readers -----------------------------------------------------------------------


def runner(*words: object) -> None:
    """Run a command line of the runner in this process."""
    # A file in the place of descriptor 2: a child of the runner writes there itself.
    kept = os.dup(2)
    try:
        with tempfile.TemporaryFile() as said:
            os.dup2(said.fileno(), 2)
            code = edgekit_runner.main([str(word) for word in words])
            said.seek(0)
            lines = said.read().decode("utf-8", "backslashreplace").rstrip("\n")
    finally:
        os.dup2(kept, 2)
        os.close(kept)
    if code:
        raise Refused(code, lines)


def beside(name: str, **described: Any) -> Callable[[Path], Path]:
    """Return what copies a good model into a folder, with a manifest that belongs to it."""
    original = GOLDEN / "runner" / f"{name}.tflite"
    digest = hashlib.sha256(original.read_bytes()).hexdigest()
    text = json.dumps({"schema": 1, "sha256": digest, **described})

    def place(folder: Path) -> Path:
        path = Path(shutil.copy(original, folder / "model.tflite"))
        path.with_suffix(".json").write_text(text, encoding="utf-8")
        return path

    return place


HEARING = json.loads((GOLDEN / "runner" / "fsdd_int8.json").read_text(encoding="utf-8"))
hears = beside("fsdd_int8", **{k: HEARING[k] for k in ("data", "labels", "preprocessing")})
unlabelled = beside("fsdd_int8", data=HEARING["data"], preprocessing=HEARING["preprocessing"])
counts = beside("cmapss_int16", data={"task": "regression"})
sees = beside("detector", preprocessing={"kind": "image", "height": 32, "width": 48, "channels": 3})


def run_model(content: bytes, folder: Path) -> None:
    """Load, run and describe a model of unknown origin."""
    path = put(folder, "model.tflite", content)
    words = choice(
        content,
        (*[("info", path), ("info", path, "--json")] * 4, ("bench", path, "--runs", 1)),
    )  # fmt: skip
    runner(*words)


def read_runner_metadata(content: bytes, folder: Path) -> None:
    """What the runner finds in a model without a runtime."""
    path = str(put(folder, "model.tflite", content))
    edgekit_runner.custom_operators(path)
    edgekit_runner.read_manifest(path)


def small_models() -> list[bytes]:
    """Models with int4 constants of both kinds, and with sparse ones."""
    names = ("turbofan/int4", "turbofan-small/small", "spoken-digits-small/small")
    stored = [(REPOSITORY / "quantized" / f"{name}.tflite").read_bytes() for name in names]
    return [*stored, (GOLDEN / "inspect" / "sparse_float32.tflite").read_bytes()]


def expand_model(content: bytes, folder: Path) -> None:
    """Unpack a model as for each runtime, then as the runner does when it loads a file."""
    _ = folder
    for options in ({"per_channel": False, "floats": False}, {}):
        try:
            edgekit_runner.expand(content, **options)
        except edgekit_runner.damage() as error:
            raise Refused(MODEL, f"The constants cannot be expanded.\n{error}") from error


def packed_models() -> list[bytes]:
    """The same, packed."""
    return [packed(content) for content in small_models()[:2]]


def unpack_model(content: bytes, folder: Path) -> None:
    """Inflate a model, and unpack what is in it."""
    edgekit_runner.loadable(str(put(folder, "model.tflite.gz", content)))


def run_manifest(content: bytes, folder: Path) -> None:
    """Answer to a recording, as the manifest says."""
    path = Path(shutil.copy(HOST_MODEL, folder / "model.tflite"))
    put(folder, "model.json", content)
    sound = put(folder, "clip.wav", clip(8000))
    command = choice(content, ("run", "run", "info"))
    runner(command, path, *([sound] if command == "run" else []))


def run_on(
    place: Callable[[Path], Path], name: str, *, command: str = "run", option: str | None = None
) -> Callable[[bytes, Path], None]:
    """Return what runs a good model on one damaged file, named as an input or by an option."""

    def read(content: bytes, folder: Path) -> None:
        model = place(folder)
        path = put(folder, name, content)
        if option is None:
            runner(command, model, path)
        else:
            runner(command, model, put(folder, "clip.wav", clip(8000)), option, path)

    return read


def runner_arrays() -> list[bytes]:
    """Turbofan windows and their targets, few of them."""
    with np.load(GOLDEN / "runner" / "cmapss.npz") as stored:
        kept = {name: stored[name][:4] for name in stored.files}
    plain, packed = io.BytesIO(), io.BytesIO()
    np.savez(plain, **kept)
    np.savez_compressed(packed, **kept)
    return [plain.getvalue(), packed.getvalue()]


def runner_windows() -> list[bytes]:
    """The same windows alone, in both orders of memory."""
    with np.load(io.BytesIO(runner_arrays()[0])) as stored:
        return [array(stored["x_test"]), array(np.asfortranarray(stored["x_test"]))]


def hdf5_files() -> list[bytes]:
    """The weights inside a Keras file."""
    with zipfile.ZipFile(DEMO / "digits_cnn.keras") as archive:
        return [archive.read("model.weights.h5")]


@cache
def load_litert() -> None:
    """Import what the product imports when it is first needed."""
    from ai_edge_litert import interpreter, schema_py_generated
    from PIL import Image
    from rich import console

    Image.init()
    assert {interpreter, schema_py_generated, console}


@cache
def load_charts() -> None:
    """Import what draws, and start nothing of it."""
    import vl_convert

    assert vl_convert


@cache
def load_hdf5() -> None:
    """Import what reads HDF5."""
    import h5py

    assert h5py


def _reader(
    name: str,
    files: Callable[[], Sequence[bytes]],
    damage: Damage,
    read: Callable[[bytes, Path], object],
    *codes: int,
    **more: Any,
) -> Reader:
    return Reader(
        name=name,
        files=files,
        damage=damage,
        read=read,
        codes=frozenset(codes),
        **{"prepare": load_litert, **more},
    )


def read_toml(read: Callable[[Path], object]) -> Callable[[bytes, Path], object]:
    """Return what writes a TOML file for a function that takes its path."""
    return lambda content, folder: read(put(folder, "file.toml", content))


READERS: Mapping[str, Reader] = {
    reader.name: reader
    for reader in (
        _reader("tflite", models, damage_tflite, read_model, MODEL),
        _reader("inspect", models, damage_tflite, inspect_model, MODEL),
        _reader("micro", models, damage_tflite, plan_for_micro, MODEL),
        _reader("rewrite", models, damage_tflite, rewrite_model, MODEL, CONVERSION),
        _reader("metadata", speaking_models, damage_tflite, read_model_metadata, MODEL),
        _reader("litert", models, damage_tflite, load_model, MODEL),
        _reader("diff", models, damage_tflite, compare_models, MODEL),
        _reader("vela", vela_outputs, damage_vela, read_vela, MODEL),
        _reader("edge-tpu", edge_tpu_options, damage_flatbuffer, read_edge_tpu, MODEL),
        _reader(
            "bundle",
            bundles,
            damage_bundle,
            read_bundle,
            *(USAGE, MODEL, DATA),
            prepare=make_bundle,
            fewest=20,
        ),
        _reader("head", lambda: HEADS, damage_toml, read_declared_head, DATA),
        _reader(
            "manifest",
            lambda: manifest_files(HOST_MODEL),
            damage_json,
            read_host_manifest,
            MODEL,
            skip_unsupported=True,
        ),
        _reader("report", report_files, damage_json, read_report, USAGE),
        # The engine that draws has threads, which no fork takes along: each child starts its own.
        _reader(
            "page",
            report_files,
            damage_json,
            read_report_for_page,
            USAGE,
            prepare=load_charts,
            fewest=20,
        ),
        _reader(
            "recipe",
            lambda: [RECIPE, *tomls("*/small.toml")],
            damage_toml,
            read_toml(load_recipe),
            USAGE,
        ),
        _reader("devices", lambda: [DEVICES], damage_toml, read_toml(read_devices), USAGE),
        _reader("preprocessing", lambda: PIXEL_SPECS, damage_toml, read_spec, DATA),
        _reader("log-mel", lambda: SOUND_SPECS, damage_toml, read_sound_spec, DATA),
        _reader(
            "model-toml",
            lambda: [*tomls("*/model.toml"), (DEMO / "model.toml").read_bytes()],
            damage_toml,
            read_toml(load_config),
            USAGE,
            DATA,
        ),
        _reader(
            "npz",
            lambda: [arrays(), arrays(np.savez_compressed), texts_as_labels()],
            damage_npz,
            read_data("data.npz", VECTORS),
            DATA,
        ),
        _reader(
            "npy",
            lambda: [array(np.random.default_rng(0).normal(size=(20, 4)))],
            damage_npy,
            read_data("set/x_train.npy", VECTORS),
            DATA,
        ),
        _reader("csv", tables, damage_csv, read_data("data.csv", VECTORS, target="y"), USAGE, DATA),
        _reader("idx", idx_files, damage_idx, read_idx_folder, DATA),
        _reader("images", pictures, damage_picture, read_data("set/train/a/one.png", PIXELS), DATA),
        _reader("voc", lambda: [ANNOTATION], damage_xml, read_annotated("a.xml"), DATA),
        _reader(
            "coco",
            lambda: [COCO],
            damage_json,
            read_annotated("annotations/instances_test.json"),
            DATA,
        ),
        _reader("yolo", lambda: YOLO_BOXES, damage_box_lines, read_annotated("labels/a.txt"), DATA),
        _reader("yolo-names", lambda: YOLO_NAMES, damage_text, read_annotated("data.yaml"), DATA),
        _reader("masks", masks, damage_picture, read_mask, DATA),
        _reader("labels", lambda: [LABELS], damage_text, read_label_file, DATA),
        _reader(
            "keras",
            lambda: [(DEMO / "digits_cnn.keras").read_bytes()],
            damage_keras,
            read_keras_archive,
            MODEL,
        ),
        _reader("h5", hdf5_files, damage_bytes, read_hdf5, MODEL, prepare=load_hdf5),
        _reader("runner-model", models, damage_tflite, run_model, MODEL),
        _reader("runner-expand", small_models, damage_tflite, expand_model, MODEL),
        _reader("runner-gzip", packed_models, damage_bytes, unpack_model, MODEL),
        _reader("runner-metadata", speaking_models, damage_tflite, read_runner_metadata, MODEL),
        _reader(
            "runner-manifest",
            lambda: manifest_files(HOST_MODEL),
            damage_json,
            run_manifest,
            MODEL,
            DATA,
        ),
        _reader(
            "runner-labels",
            lambda: [LABELS, b"".join(b"%d %d.\n" % (i, i) for i in range(10) if i != 5)],
            damage_text,
            run_on(unlabelled, "labels.txt", option="--labels"),
            DATA,
        ),
        _reader(
            "runner-npz", runner_arrays, damage_npz, run_on(counts, "d.npz", command="eval"), DATA
        ),
        _reader("runner-npy", runner_windows, damage_npy, run_on(counts, "d.npy"), DATA),
        _reader(
            "runner-wav", lambda: [clip(), clip(100)], damage_wav, run_on(hears, "d.wav"), DATA
        ),
        _reader("runner-images", pictures, damage_picture, run_on(sees, "d.png"), DATA),
    )
}

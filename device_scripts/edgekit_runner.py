#!/usr/bin/env python3
"""Run, time and score TFLite models on the device they are meant for.

One file. It needs Python 3.8 or newer, numpy, and one TFLite runtime: ai-edge-litert,
tflite-runtime or tensorflow. Pillow is used when images are to be decoded, and only then.
The manifest that lies beside a model (`model.json` beside `model.tflite`) says how raw input is
prepared and what the outputs are called; edgekit itself imports the same functions from here, so
host and device prepare input alike.
"""

# ruff: noqa: B905  zip(strict=...) came with Python 3.10
from __future__ import annotations

import os
import sys
import time

TYPE_CHECKING = False  # what typing calls by this name, without the time its import takes
if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from typing import Any, Callable

__version__ = "0.1.0"


# --- Preprocessing ------------------------------------------------------------------------------
# numpy is imported inside every function: `--help`, `--version` and a host that only wants to
# know where this file is do not wait for it, and `bench` can time it.


def preprocess(raw: Any, spec: Mapping[str, Any]) -> Any:
    """Turn one raw sample into what the model was trained on.

    Args:
        raw: An array, or a PIL image where `spec` is of kind "image".
        spec: The preprocessing of the manifest: a mapping with the key "kind", one of none,
            affine, image, log-mel; the other keys are those of the function for that kind.

    Returns:
        The array as it is for "none", float32 for all others.

    Raises:
        ValueError: The kind is unknown, or the sample does not fit it.
    """
    import numpy as np

    kind = spec.get("kind", "none")
    if kind == "none":
        return np.asarray(raw)
    if kind == "affine":
        return affine(raw, spec)
    if kind == "image":
        return prepare_image(raw, spec)
    if kind == "log-mel":
        return log_mel(raw, spec)
    raise ValueError(f"unknown preprocessing {kind!r}; known: none, affine, image, log-mel")


def affine(raw: Any, spec: Mapping[str, Any]) -> Any:
    """Return `(raw * scale - mean) / std` as float32.

    Args:
        raw: `[...]` or `[..., channels]` of any number type.
        spec: `scale`, `mean`, `std`: numbers, or one number a channel; 1, 0 and 1 by default.
    """
    import numpy as np

    value = np.asarray(raw).astype(np.float32)
    # Each step is skipped where it does nothing, so that raw data pass through bit for bit.
    if spec.get("scale", 1) != 1:
        value *= np.asarray(spec["scale"], np.float32)
    if spec.get("mean", 0) != 0:
        value -= np.asarray(spec["mean"], np.float32)
    if spec.get("std", 1) != 1:
        value /= np.asarray(spec["std"], np.float32)
    return value


def prepare_image(pixels: Any, spec: Mapping[str, Any]) -> Any:
    """Crop, resize and scale one picture.

    Args:
        pixels: uint8 `[h, w]`, `[h, w, 1]`, `[h, w, 3]` or `[h, w, 4]` in RGB order (alpha is
            dropped), or a PIL image.
        spec: `height`, `width`, `channels` (1 or 3), `order` ("rgb" or "bgr"), `fit` ("stretch",
            or "crop": the largest centred part of the right aspect), and the keys of `affine`.

    Returns:
        float32 `[height, width, channels]`.

    Raises:
        ValueError: The pixels are no picture.
    """
    return affine(resize_image(pixels, spec), spec)


def resize_image(pixels: Any, spec: Mapping[str, Any]) -> Any:
    """Do what `prepare_image` does up to the resized uint8 `[height, width, channels]`."""
    import numpy as np

    height, width, channels = spec["height"], spec["width"], spec.get("channels", 3)
    if spec.get("resize", "bilinear") != "bilinear":
        raise ValueError(f"unknown resize {spec['resize']!r}; known: bilinear")
    if hasattr(pixels, "convert"):
        pixels = pixels.convert("L" if channels == 1 else "RGB")
    image = np.asarray(pixels)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        raise ValueError(f"an image has shape [h, w], [h, w, 1], 3 or 4, not {list(image.shape)}")
    if image.dtype != np.uint8:
        raise ValueError(f"pixels are uint8, not {image.dtype}")
    if channels == 1 and image.shape[2] > 1:
        # ITU-R 601 luma in the 16-bit integers that Pillow's convert("L") uses.
        weighted = image[:, :, :3].astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
        image = ((weighted + 0x8000) >> 16).astype(np.uint8)[:, :, None]
    if channels == 3:
        image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[:, :, :3]
    if spec.get("fit", "stretch") == "crop":
        rows = min(image.shape[0], max(1, round(image.shape[1] * height / width)))
        columns = min(image.shape[1], max(1, round(image.shape[0] * width / height)))
        top, left = (image.shape[0] - rows) // 2, (image.shape[1] - columns) // 2
        image = image[top : top + rows, left : left + columns]
    resized = resize_bilinear(image, height, width)
    return resized[:, :, ::-1] if spec.get("order", "rgb") == "bgr" else resized


def resize_bilinear(pixels: Any, height: int, width: int) -> Any:
    """Resize with half-pixel centres, edges clamped, no antialiasing, truncated to uint8.

    The lerp is `a + (b - a) * t` in float32, first along x, then along y: the arithmetic of
    `tf.image.resize`, with which most image models are trained.

    Args:
        pixels: uint8 `[h, w, channels]`.
        height: Rows of the result.
        width: Columns of the result.

    Returns:
        uint8 `[height, width, channels]`.
    """
    import numpy as np

    if pixels.shape[:2] == (height, width):
        return pixels

    def taps(size: int, goal: int) -> Any:
        centre = (np.arange(goal, dtype=np.float32) + np.float32(0.5)) * np.float32(size / goal)
        centre -= np.float32(0.5)
        floor = np.floor(centre)
        low = np.clip(floor, 0, size - 1).astype(np.intp)
        high = np.clip(np.ceil(centre), 0, size - 1).astype(np.intp)
        return low, high, centre - floor

    top, bottom, down = taps(pixels.shape[0], height)
    left, right, across = taps(pixels.shape[1], width)

    def row(lines: Any) -> Any:
        near = lines[:, left].astype(np.float32)
        return near + (lines[:, right].astype(np.float32) - near) * across[:, None]

    upper = row(pixels[top])
    return (upper + (row(pixels[bottom]) - upper) * down[:, None, None]).astype(np.uint8)


def log_mel(audio: Any, spec: Mapping[str, Any]) -> Any:
    """Return the logarithm of the energy in mel bands, frame by frame.

    A symmetric Hann window over each frame, the power spectrum, triangular filters whose corners
    are equally spaced on the mel scale `2595 log10(1 + f / 700)` and rounded down to FFT bins
    (the construction of the HTK book), then `(log(energy + floor) - mean) / std`.

    Args:
        audio: `[n]` mono; int16 is divided by 32768, floats are taken as they are. Cut or padded
            with zeros at its end to `samples`.
        spec: `sample_rate`, `samples`, `frame`, `hop`, `bands`, `low_hz`, `high_hz`, `floor`,
            `mean`, `std`.

    Returns:
        float32 `[1 + (samples - frame) // hop, bands, 1]`.

    Raises:
        ValueError: The audio is not one channel.
    """
    import numpy as np

    audio = np.asarray(audio)
    if audio.ndim != 1:
        raise ValueError(f"audio has shape [n], not {list(audio.shape)}")
    samples, frame, hop = spec["samples"], spec["frame"], spec["hop"]
    # In float64 throughout: numpy 1 always computes the FFT so, numpy 2 only when asked to.
    signal = np.zeros(samples)
    clip = audio[:samples]
    signal[: len(clip)] = clip / 32768.0 if clip.dtype == np.int16 else clip
    starts = np.arange(1 + (samples - frame) // hop) * hop
    frames = signal[starts[:, None] + np.arange(frame)] * np.hanning(frame)
    power = np.abs(np.fft.rfft(frames)) ** 2
    energy = power @ _mel_filters(spec)
    logarithm = np.log(energy + spec.get("floor", 1e-6))
    normal = (logarithm - spec.get("mean", 0)) / spec.get("std", 1)
    return normal.astype(np.float32)[:, :, None]


def _mel_filters(spec: Mapping[str, Any]) -> Any:
    """Weights `[frame // 2 + 1, bands]`: triangles that reach 1 at their middle corner."""
    import numpy as np

    mel = 2595 * np.log10(1 + np.array([spec["low_hz"], spec["high_hz"]]) / 700)
    hertz = 700 * (10 ** (np.linspace(mel[0], mel[1], spec["bands"] + 2) / 2595) - 1)
    corner = np.floor((spec["frame"] + 1) * hertz / spec["sample_rate"])
    low, middle, high = corner[:-2], corner[1:-1], corner[2:]
    bins = np.arange(spec["frame"] // 2 + 1)[:, None]
    # Corners of narrow bands fall on the same bin: such a side has no bins, and no width.
    rising = (bins - low) / np.maximum(middle - low, 1)
    falling = (high - bins) / np.maximum(high - middle, 1)
    return np.where(
        (low <= bins) & (bins < middle),
        rising,
        np.where((middle <= bins) & (bins < high), falling, 0.0),
    )


# --- Errors -------------------------------------------------------------------------------------

USAGE, MODEL, DATA, DEVICE, INTERRUPTED = 2, 3, 4, 7, 130


class RunnerError(Exception):
    """What failed, what was found, and what to do next; `code` is the exit code."""

    def __init__(self, code: int, what: str, found: object = "", cure: str = "") -> None:
        super().__init__(what)
        self.code = code
        # A foreign message may run over many lines; its first one names the trouble.
        self.lines = [what, *str(found).strip().splitlines()[:1], *([cure] if cure else [])]


# --- Runtime and model --------------------------------------------------------------------------

RUNTIMES = {
    "litert": ("ai_edge_litert", "ai-edge-litert"),
    "tflite": ("tflite_runtime", "tflite-runtime"),
    "tensorflow": ("tensorflow", "tensorflow"),
}


class Quiet:
    """Keeps what native code writes to file descriptor 2 off the terminal.

    The runtimes announce their delegates there, and numpy its quarrel with old extensions; what
    matters of it arrives again as an exception.
    """

    def __enter__(self) -> None:
        sys.stderr.flush()
        self.saved = os.dup(2)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        os.close(sink)

    def __exit__(self, *_: object) -> None:
        sys.stderr.flush()
        os.dup2(self.saved, 2)
        os.close(self.saved)


class Undisturbed:
    """Puts Ctrl-C off until what must not be cut in two is over.

    An extension module whose import is interrupted reports an ordinary ImportError, or nothing;
    a process whose start is interrupted runs on unseen.
    """

    def __enter__(self) -> None:
        import signal

        self.interrupted = False
        self.handler = signal.getsignal(signal.SIGINT)
        if self.handler is signal.default_int_handler:
            try:
                signal.signal(signal.SIGINT, self._remember)
            except ValueError:  # not in the main thread, the only one that Ctrl-C interrupts
                self.handler = None

    def _remember(self, *_: object) -> None:
        self.interrupted = True

    def __exit__(self, *_: object) -> None:
        import signal

        if self.handler is signal.default_int_handler:
            signal.signal(signal.SIGINT, self.handler)
        if self.interrupted:
            raise KeyboardInterrupt


class Runtime:
    """An importable TFLite runtime.

    Args:
        key: litert, tflite or tensorflow.
        start_ns: The clock when the first import began.

    Attributes:
        key: litert, tflite or tensorflow.
        version: The version it gives for itself.
        interpreter: Its Interpreter class.
        import_ns: What importing numpy and the runtime took.
    """

    def __init__(self, key: str, start_ns: int) -> None:
        package, self.distribution = RUNTIMES[key]
        self.key = key
        # TensorFlow reads this when it is imported; its notices about CPU features are noise here.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with Quiet():
            __import__("numpy")  # before the runtime, so that its absence is not the runtime's
            module = __import__(package)
            if key == "tensorflow":
                self.interpreter = module.lite.Interpreter
            else:
                self.interpreter = __import__(package + ".interpreter", fromlist=["x"]).Interpreter
        self.import_ns = time.perf_counter_ns() - start_ns
        self.version = str(getattr(module, "__version__", "of unknown version"))

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"


def find_runtime(key: str | None = None) -> Runtime:
    """Import the runtime called `key`, or the first that is installed.

    Raises:
        RunnerError: Neither numpy nor a runtime is installed, or the first one found does not
            work (code 7).
    """
    # Looking for a runtime that is not there imports numpy all the same: the clock starts before.
    start = time.perf_counter_ns()
    for candidate in [key] if key else RUNTIMES:
        package, distribution = RUNTIMES[candidate]
        try:
            with Undisturbed():
                return Runtime(candidate, start)
        except Exception as error:  # a broken native library ends in all kinds of exceptions
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if missing == "numpy":
                raise RunnerError(
                    DEVICE, "numpy is not installed.", "", f"{_pip()} {_numpy_for(key)}"
                ) from error
            if missing != package:
                raise RunnerError(
                    DEVICE,
                    f"{distribution} is installed and cannot be imported.",
                    error,
                    "Install it again, or choose another with --runtime.",
                ) from error
    wanted = RUNTIMES[key][1] if key else "A TFLite runtime (ai-edge-litert or tflite-runtime)"
    found = f"Looked for it in Python {sys.version.split()[0]} at {sys.executable}."
    raise RunnerError(DEVICE, f"{wanted} is not installed.", found, _runtime_cure(key))


def _pip() -> str:
    return f"Install with: {os.path.basename(sys.executable) or 'python3'} -m pip install"


def _numpy_for(key: str | None) -> str:
    return '"numpy<2"' if key == "tflite" else "numpy"


def _runtime_cure(key: str | None) -> str:
    if key == "tensorflow":
        return f"{_pip()} tensorflow"
    # ai-edge-litert has no wheel for 32-bit ARM and none for Python before 3.10.
    small = os.uname().machine.startswith("armv") or sys.version_info < (3, 10)
    if key == "tflite" or (key is None and small):
        return f'{_pip()} tflite-runtime "numpy<2"'
    return f"{_pip()} ai-edge-litert"


class Tensor:
    """An input or output: signature name, index, shape, dtype, scale and zero point."""

    def __init__(self, name: str, details: Mapping[str, Any]) -> None:
        import numpy as np

        self.name = name
        self.index = details["index"]
        self.shape = tuple(int(size) for size in details["shape"])
        self.dtype = np.dtype(details["dtype"])
        scale, zero_point = details["quantization"]
        self.scale = float(scale) or None
        self.zero_point = int(zero_point)

    def encode(self, value: Any) -> Any:
        """Turn one prepared sample into this tensor's shape and codes.

        An array of the tensor's own dtype is taken as codes; anything else as real values, which
        a quantized tensor stores as `round(value / scale) + zero_point`.

        Raises:
            ValueError: The shape differs in more than axes of size 1, or a value does not fit.
        """
        import numpy as np

        if _bare(value.shape) != _bare(self.shape):
            raise ValueError(f"shape {list(value.shape)} where {list(self.shape)} is expected")
        if value.dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError("NaN or infinity")
        if value.dtype != self.dtype:
            if self.scale:
                codes = np.round(value.astype(np.float32) / np.float32(self.scale))
                limits = np.iinfo(self.dtype)
                value = np.clip(codes + self.zero_point, limits.min, limits.max)
            elif self.dtype.kind in "iub" and not np.array_equal(value, value.astype(self.dtype)):
                raise ValueError(f"{value.dtype} values where {self.dtype} is expected")
        return value.astype(self.dtype).reshape(self.shape)

    def decode(self, codes: Any) -> Any:
        """Turn codes into the real values they stand for: `(code - zero_point) * scale`."""
        import numpy as np

        if not self.scale:
            return codes
        return (codes.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)

    def real(self, value: Any) -> Any:
        """Return real values for what `encode` takes: codes are decoded, the rest is as it is."""
        return self.decode(value) if value.dtype == self.dtype else value

    def describe(self) -> dict[str, Any]:
        """Return what `info` says of this tensor."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "scale": self.scale,
            "zero_point": self.zero_point if self.scale else None,
        }


def _bare(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


class Model:
    """A loaded and allocated model.

    Attributes:
        path: The file.
        runtime: What runs it.
        inputs: Tensors by signature name where there is a signature.
        outputs: Likewise.
        signatures: Signature name -> {"inputs": [...], "outputs": [...]}.
        load_ns: What opening the file took.
        allocate_ns: What allocating tensors (and preparing kernels) took.
    """

    def __init__(self, path: str, runtime: Runtime, threads: int) -> None:
        self.path = path
        self.runtime = runtime
        _refuse_foreign_file(path)
        start = time.perf_counter_ns()
        try:
            with Quiet():
                interpreter = runtime.interpreter(model_path=path, num_threads=threads)
                loaded = time.perf_counter_ns()
                interpreter.allocate_tensors()
        except Exception as error:  # ValueError, RuntimeError, SystemError: each runtime its own
            raise _load_error(error, path, runtime) from error
        self.load_ns = loaded - start
        self.allocate_ns = time.perf_counter_ns() - loaded
        self.interpreter = interpreter
        self.signatures = interpreter.get_signature_list()
        names = {}
        if self.signatures:
            signature = interpreter.get_signature_runner(next(iter(self.signatures)))
            for side in (signature.get_input_details(), signature.get_output_details()):
                names.update({details["index"]: name for name, details in side.items()})
        self.inputs = _tensors(interpreter.get_input_details(), names)
        self.outputs = _tensors(interpreter.get_output_details(), names)

    def feed(self, encoded: Sequence[Any]) -> None:
        """Write one array into each input."""
        for tensor, value in zip(self.inputs, encoded):
            self.interpreter.set_tensor(tensor.index, value)

    def invoke(self) -> None:
        """Run once.

        Raises:
            RunnerError: A kernel refuses (code 3).
        """
        try:
            self.interpreter.invoke()
        except RuntimeError as error:
            raise RunnerError(
                MODEL,
                f"{self.path} fails while it runs.",
                error,
                "Convert the model again, or try another --runtime.",
            ) from error

    def results(self) -> list[Any]:
        """Return every output, dequantized, without its batch axis of 1.

        Raises:
            RunnerError: An output holds NaN (code 3).
        """
        import numpy as np

        found = []
        for tensor in self.outputs:
            value = tensor.decode(self.interpreter.get_tensor(tensor.index))
            if value.dtype.kind == "f" and np.isnan(value).any():
                raise RunnerError(
                    MODEL,
                    f"{self.path} answers NaN at output {tensor.name}.",
                    "The input was finite.",
                    "Check the ranges and weights of the model; convert it again.",
                )
            found.append(value[0] if value.ndim > 1 and value.shape[0] == 1 else value)
        return found


def _tensors(details: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> list[Tensor]:
    return [Tensor(names.get(item["index"], str(item["name"])), item) for item in details]


def _refuse_foreign_file(path: str) -> None:
    """Raise unless `path` is a file that says it is a TFLite model."""
    cure = "Give the path of a .tflite file."
    try:
        with open(path, "rb") as stream:
            head = stream.read(8)
    except OSError as error:
        raise RunnerError(MODEL, f"Cannot read {path}.", error.strerror, cure) from error
    # A flatbuffer names its schema in bytes 4 to 8.
    if head[4:8] != b"TFL3":
        raise RunnerError(
            MODEL, f"{path} is no TFLite model.", f"It starts with {head!r}, not with TFL3.", cure
        )


def _load_error(error: Exception, path: str, runtime: Runtime) -> RunnerError:
    import numpy as np

    text = str(error)
    if isinstance(error, SystemError) and int(np.__version__.split(".")[0]) >= 2:
        # Built against numpy 1: imports, then fails to find numpy's C interface (_ARRAY_API).
        return RunnerError(
            DEVICE,
            f"{runtime} does not work with numpy {np.__version__}.",
            "It was built for numpy 1 and fails when it creates an interpreter.",
            f'{_pip()} "numpy<2"',
        )
    if "edgetpu-custom-op" in text:
        return RunnerError(
            DEVICE,
            f"{path} is compiled for the Edge TPU and needs its delegate.",
            text,
            "Give the model it was compiled from: the file without _edgetpu in its name.",
        )
    if "Flex" in text or "Select TensorFlow" in text:
        cure = "Install tensorflow and add --runtime tensorflow, or convert with built-in ops only."
    elif isinstance(error, ValueError):
        cure = "The file is damaged or cut short: copy it again and compare its sha256."
    else:
        cure = "A newer runtime may know it: update, or try another --runtime."
    return RunnerError(MODEL, f"{runtime} cannot load {path}.", text, cure)


def read_manifest(path: str) -> dict[str, Any]:
    """Return the manifest beside a model, or an empty one where there is none.

    Raises:
        RunnerError: It is there and cannot be read (code 3).
    """
    import json

    place = os.path.splitext(path)[0] + ".json"
    try:
        with open(place, encoding="utf-8") as stream:
            manifest = dict(json.load(stream))
    except FileNotFoundError:
        return {}
    except (OSError, TypeError, ValueError) as error:
        raise RunnerError(
            MODEL,
            f"Cannot read {place}, the manifest of the model.",
            error,
            "Copy it again together with the model, or move it away to run without.",
        ) from error
    return manifest


# --- Data ---------------------------------------------------------------------------------------


class Column:
    """One array in a file, read row by row so that memory holds one sample at a time."""

    def __init__(
        self, name: str, shape: Sequence[int], dtype: Any, rows: Callable[[], Iterator[Any]]
    ) -> None:
        self.name = name
        self.shape = tuple(shape)
        self.dtype = dtype
        self.rows = rows

    def as_one_sample(self) -> Column:
        """Return the whole array as the only row of a column."""
        import numpy as np

        return Column(
            self.name, (1, *self.shape), self.dtype, lambda: iter([np.stack(list(self.rows()))])
        )


def read_columns(path: str) -> dict[str, Column]:
    """Return the arrays of an `.npz`, or the one of an `.npy` under the name "x".

    Raises:
        RunnerError: The file is missing, damaged, or of another kind (code 4).
    """
    import numpy as np

    try:
        if path.endswith(".npz"):
            return _npz_columns(path)
        array = np.load(path, mmap_mode="r", allow_pickle=False)
        return {"x": Column("x", array.shape, array.dtype, lambda: iter(array))}
    except Exception as error:  # numpy, zipfile and zlib have an error type for every kind of dirt
        found = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RunnerError(DATA, f"Cannot read {path}.", found, "Give an .npz or .npy.") from error


def _npz_columns(path: str) -> dict[str, Column]:
    import zipfile
    from functools import partial

    from numpy.lib import format as npy

    def header(stream: Any) -> Any:
        read = npy.read_array_header_1_0 if npy.read_magic(stream) == (1, 0) else None
        shape, fortran, dtype = (read or npy.read_array_header_2_0)(stream)
        if dtype.hasobject:
            raise ValueError("an array holds Python objects")
        return shape, fortran, dtype

    def rows(member: str) -> Iterator[Any]:
        import numpy as np

        try:
            with zipfile.ZipFile(path) as archive, archive.open(member) as stream:
                shape, fortran, dtype = header(stream)
                count = int(np.prod(shape, dtype=np.int64))
                if fortran:  # its rows are scattered all over: read it whole
                    block = stream.read(count * dtype.itemsize)
                    yield from np.frombuffer(block, dtype).reshape(shape, order="F")
                    return
                count //= max(1, shape[0])
                for _ in range(shape[0]):
                    block = stream.read(count * dtype.itemsize)
                    yield np.frombuffer(block, dtype, count).reshape(shape[1:])
        except Exception as error:  # a damaged archive, whatever layer notices it
            raise RunnerError(
                DATA, f"{path} is damaged in {member}.", error, "Copy the file again."
            ) from error

    columns = {}
    with zipfile.ZipFile(path) as archive:
        for member in archive.namelist():
            with archive.open(member) as stream:
                shape, _, dtype = header(stream)
            name = member[: -len(".npy")]
            columns[name] = Column(name, shape, dtype, partial(rows, member))
    return columns


def pick_inputs(columns: Mapping[str, Column], model: Model, path: str) -> list[Column]:
    """Return one column for each input of the model.

    A model of one input reads `inputs`, `x_test` or `x`; one of several reads `inputs_<input>` or
    `x_test_<input>` for each; an array that bears the very name of an input serves both.

    Raises:
        RunnerError: A column is missing, empty, or differs in length (code 4).
    """
    found = []
    for tensor in model.inputs:
        end = "" if len(model.inputs) == 1 else f"_{tensor.name}"
        names = [f"inputs{end}", f"x_test{end}", tensor.name, *([] if end else ["x"])]
        name = next((name for name in names if name in columns), None)
        if name is None:
            raise RunnerError(
                DATA,
                f"{path} holds no array for input {tensor.name!r}.",
                f"It holds {', '.join(sorted(columns)) or 'nothing'}.",
                f"Name the array {' or '.join(names)}.",
            )
        found.append(columns[name])
    lengths = {column.shape[0] if column.shape else 0 for column in found}
    if len(lengths) > 1 or 0 in lengths:
        raise RunnerError(
            DATA,
            f"The inputs in {path} are empty or differ in length.",
            ", ".join(f"{column.name} {list(column.shape)}" for column in found),
            "Store an array [n, ...] for each input.",
        )
    return found


def samples(columns: Sequence[Column], spec: Mapping[str, Any]) -> Iterator[list[Any]]:
    """Walk through the samples, prepared as `spec` says.

    An array called `inputs` is prepared already: that is how data are packed for a device.
    """
    for row in zip(*(column.rows() for column in columns)):
        yield [
            value if column.name.startswith("inputs") else preprocess(value, spec)
            for column, value in zip(columns, row)
        ]


def encode(values: Sequence[Any], model: Model, where: str) -> list[Any]:
    """Return each prepared value in the codes of its input.

    Raises:
        RunnerError: One does not fit (code 4).
    """
    encoded = []
    for tensor, value in zip(model.inputs, values):
        try:
            encoded.append(tensor.encode(value))
        except ValueError as error:
            raise _misfit(where, tensor.name, error) from error
    return encoded


def _misfit(where: str, name: str, error: Exception) -> RunnerError:
    return RunnerError(
        DATA,
        f"{where} does not fit input {name!r}.",
        f"Found {error}.",
        "See what the model expects: edgekit_runner.py info MODEL.",
    )


def read_image(path: str, model: Model, spec: Mapping[str, Any] | None) -> Any:
    """Decode a picture and prepare it for a model of one image input.

    Without a manifest a uint8 or int8 input takes the pixels themselves as codes, as models
    with integer input do by custom.

    Raises:
        RunnerError: Pillow is missing (code 7), the file is no picture, or nobody says how a
            float input is to be scaled (code 4).
    """
    import numpy as np

    try:
        with Undisturbed():
            from PIL import Image
    except ImportError as error:
        raise RunnerError(
            DEVICE, f"Pillow is needed to decode {path}.", error, f"{_pip()} pillow"
        ) from error
    tensor = model.inputs[0]
    size = [*tensor.shape, 1][:4] if len(tensor.shape) in (3, 4) else None
    if len(model.inputs) != 1 or size is None or size[3] not in (1, 3):
        raise RunnerError(
            DATA,
            f"{path} is a picture, and {model.path} takes none.",
            f"Its inputs: {', '.join(f'{t.name} {list(t.shape)}' for t in model.inputs)}.",
            "Give an .npz or .npy.",
        )
    shape = {"height": size[1], "width": size[2], "channels": size[3]}
    if spec is None and tensor.dtype.kind == "f":
        raise RunnerError(
            DATA,
            f"Nobody says how pixels are scaled for {model.path}.",
            "It has float input and no manifest beside it.",
            f"Put {os.path.basename(os.path.splitext(model.path)[0])}.json beside it.",
        )
    try:
        with Image.open(path) as picture:
            if spec is None:
                pixels = resize_image(picture, shape)
                # The codes of int8 input are the pixels minus 128.
                return pixels if tensor.dtype == np.uint8 else (pixels ^ 128).view(np.int8)
            if spec.get("kind") in ("none", "affine"):
                spec = {**spec, **shape, "kind": "image"}
            return preprocess(picture, spec)
    except Exception as error:  # Pillow's decoders raise whatever they stumble over
        found = error.strerror if isinstance(error, OSError) and error.strerror else error
        raise RunnerError(
            DATA, f"Cannot read {path}.", found, "Give a PNG, JPEG or BMP."
        ) from error


# --- Scores -------------------------------------------------------------------------------------


class Scorer:
    """Keeps the few numbers of each sample that a score is made of.

    Args:
        task: classification, regression or reconstruction.
        n: Number of samples.
        labels: Class names, for targets that are texts.
    """

    def __init__(self, task: str, n: int, labels: Sequence[str]) -> None:
        import numpy as np

        self.task = task
        self.labels = list(labels)
        self.first = np.zeros(n)
        self.second = np.zeros(n)

    def add(self, position: int, value: Any, output: Any, target: Any) -> None:
        """Judge one sample.

        Args:
            position: Which sample.
            value: The prepared input, as real values.
            output: The dequantized output.
            target: A class, the value to be predicted, or 1 for an anomaly.

        Raises:
            ValueError: The target does not fit the output.
        """
        import numpy as np

        output = np.asarray(output, np.float64).ravel()
        if self.task == "classification":
            if target.dtype.kind == "U":
                target = self.labels.index(str(target))
            self.first[position] = _rank(output, target)
            return
        if self.task == "reconstruction":
            if target not in (0, 1):
                raise ValueError(f"target {target} is neither 0 nor 1")
            wanted = np.asarray(value, np.float64).ravel()
            self.second[position] = target
        else:
            wanted = np.asarray(target, np.float64).ravel()
        if wanted.shape != output.shape or not np.isfinite(wanted).all():
            raise ValueError(f"{len(wanted)} finite values wanted, output has {len(output)}")
        self.first[position] = np.mean((output - wanted) ** 2)
        if self.task == "regression":
            self.second[position] = np.mean(np.abs(output - wanted))

    def score(self, classes: int) -> dict[str, Any]:
        """Return metric, value, n, 95 % interval and further figures."""
        n = len(self.first)
        extras = {}
        if self.task == "classification":
            metric, value = "accuracy", float((self.first == 0).mean())
            interval = wilson(value, n)
            if classes > 5:
                extras["top5_accuracy"] = float((self.first < 5).mean())
        elif self.task == "regression":
            metric, value = "rmse", float(self.first.mean()) ** 0.5
            # The delta method: the deviation of a root is that of its square over twice the root.
            spread = float(self.first.std()) / n**0.5 / (2 * value) if value else 0.0
            interval = (max(0.0, value - 1.96 * spread), value + 1.96 * spread)
            extras["mae"] = float(self.second.mean())
        else:
            metric = "roc_auc"
            value, spread = roc_auc(self.first, self.second)
            interval = (max(0.0, value - 1.96 * spread), min(1.0, value + 1.96 * spread))
        return {
            "metric": metric,
            "value": value,
            "n": n,
            "ci95": list(interval),
            "extras": extras,
        }


def _rank(scores: Any, target: Any) -> int:
    """Return how many classes come before the target; the lower class wins a tie, as in argmax."""
    import numpy as np

    if np.size(target) > 1:  # one-hot
        target = np.argmax(target)
    target = int(np.squeeze(target))
    if not 0 <= target < max(2, len(scores)):
        raise ValueError(f"label {target} where the model has {max(2, len(scores))} classes")
    if len(scores) == 1:  # one sigmoid
        return int((scores[0] > 0.5) != target)
    ahead = (scores > scores[target]).sum() + (scores[:target] == scores[target]).sum()
    return int(ahead)


def wilson(share: float, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval for a share of `n` (E. B. Wilson, 1927)."""
    z2 = 1.96**2
    centre = share + z2 / (2 * n)
    half = 1.96 * (share * (1 - share) / n + z2 / (4 * n * n)) ** 0.5
    return max(0.0, (centre - half) / (1 + z2 / n)), min(1.0, (centre + half) / (1 + z2 / n))


def roc_auc(errors: Any, flags: Any) -> tuple[float, float]:
    """Return the area under the ROC curve and its standard error.

    Placements by midranks: E. DeLong et al., Biometrics 44 (1988), equations 3 to 5.

    Args:
        errors: `[n]` scores, higher for an anomaly.
        flags: `[n]` 1 for an anomaly, 0 for a normal sample.

    Raises:
        RunnerError: One of the two kinds is missing (code 4).
    """
    import numpy as np

    def midranks(values: Any) -> Any:
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[inverse]

    anomalous = flags == 1
    p, q = int(anomalous.sum()), int((~anomalous).sum())
    if not p or not q:
        raise RunnerError(
            DATA,
            "The ROC AUC needs anomalies and normal samples.",
            f"The targets mark {p} anomalies among {p + q} samples.",
            "Mark anomalies with 1 and normal samples with 0.",
        )
    ranks = midranks(errors)
    above = (ranks[anomalous] - midranks(errors[anomalous])) / q
    below = 1 - (ranks[~anomalous] - midranks(errors[~anomalous])) / p
    return float(above.mean()), float((above.var() / p + below.var() / q) ** 0.5)


def guess_task(model: Model, targets: Column) -> str:
    """Return what the shapes of inputs, outputs and targets speak for, without a manifest."""
    output = model.outputs[0]
    single = len(_bare(targets.shape[1:])) == 0
    if single and output.shape == model.inputs[0].shape:
        return "reconstruction"
    whole = targets.dtype.kind in "iubU"
    return "classification" if single and whole and len(_bare(output.shape)) == 1 else "regression"


# --- Device -------------------------------------------------------------------------------------


def describe_device() -> dict[str, str]:
    """Return what this machine is, in words: device, cpu, cores, memory, os, python."""
    cpu = _first_line("/proc/cpuinfo", "model name") or _first_line("/proc/cpuinfo", "Hardware")
    system = os.uname()
    cpu = cpu or system.machine
    cores = _cores()
    board = _text("/proc/device-tree/model")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    release = _first_line("/etc/os-release", "PRETTY_NAME", "=").strip('"')
    return {
        "device": f"{board or cpu}, {cores} core{'s' if cores > 1 else ''}",
        "cpu": cpu,
        "cores": str(cores),
        "memory": f"{memory / 1e9:.1f} GB",
        "os": f"{release or system.sysname}, {system.sysname} {system.release} {system.machine}",
        "python": sys.version.split()[0],
    }


def _cores() -> int:
    try:
        return len(os.sched_getaffinity(0))
    except AttributeError:  # not Linux
        return os.cpu_count() or 1


def _text(path: str) -> str:
    """Content of a file of the kernel, or nothing."""
    try:
        with open(path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip("\0\n ")
    except OSError:
        return ""


def _first_line(path: str, key: str, separator: str = ":") -> str:
    for line in _text(path).splitlines():
        name, _, value = line.partition(separator)
        if name.strip() == key:
            return value.strip()
    return ""


def conditions() -> dict[str, Any]:
    """Return what may bend a timing, as far as the kernel tells."""
    found: dict[str, Any] = {"load_average": round(os.getloadavg()[0], 2)}
    cpufreq = "/sys/devices/system/cpu/cpu0/cpufreq/"
    for key, path in (
        ("governor", cpufreq + "scaling_governor"),
        ("frequency_khz", cpufreq + "scaling_cur_freq"),
        ("temperature_millicelsius", "/sys/class/thermal/thermal_zone0/temp"),
        # Raspberry Pi: 0 means neither throttled nor short of voltage since boot.
        ("throttled", "/sys/devices/platform/soc/soc:firmware/get_throttled"),
    ):
        value = _text(path)
        if value:
            found[key] = int(value) if value.isdigit() and key != "throttled" else value
    return found


def peak_rss_bytes() -> int:
    """Return the most memory this process ever held."""
    # getrusage would hand down the parent's peak: Linux keeps it across fork and exec.
    high_water = _first_line("/proc/self/status", "VmHWM").split()
    if high_water:
        return int(high_water[0]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# --- Timing -------------------------------------------------------------------------------------

WARM_UP_NS = 3_000_000_000
BLOCK_NS = 20_000_000


def time_runs(invoke: Callable[[], object], n: int) -> list[int]:
    """Return the nanoseconds that each of `n` calls took."""
    values = [0] * n
    clock = time.perf_counter_ns
    for position in range(n):
        start = clock()
        invoke()
        values[position] = clock() - start
    return values


def warm_up(invoke: Callable[[], object]) -> tuple[list[int], bool]:
    """Call until two blocks in a row have medians within 3 %, for three seconds at most.

    Returns:
        What each call took, in nanoseconds, and whether it settled.
    """
    values: list[int] = time_runs(invoke, 2)
    size = max(2, min(2000, BLOCK_NS // max(1, values[-1])))
    last = 0
    start = time.perf_counter_ns()
    while True:
        block = time_runs(invoke, size)
        values += block
        middle = _median(block)
        if last and abs(middle - last) <= 0.03 * last:
            return values, True
        if last and time.perf_counter_ns() - start > WARM_UP_NS:
            return values, False
        last = middle


def _median(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2]


def doubts(values: Sequence[int], *, settled: bool, threads: int, throttled: str) -> list[str]:
    """Return the reasons not to trust a measurement, in words."""
    found = []
    if not settled:
        found.append("latency did not settle during warm-up")
    if len(values) >= 10:
        half = len(values) // 2
        before, after = _median(values[:half]), _median(values[half:])
        if abs(after - before) > 0.05 * before:
            found.append(f"latency changed by {100 * (after - before) / before:+.0f} % meanwhile")
        tail = sorted(values)[len(values) * 9 // 10] / _median(values)
        if tail > 1.5:
            found.append(f"p90 is {tail:.1f} times p50")
    if threads > _cores():
        found.append(f"{threads} threads share {_cores()} cores")
    if throttled not in ("", "0", "0x0"):
        found.append(f"the board reports throttling or low voltage ({throttled})")
    return found


# --- Commands -----------------------------------------------------------------------------------


def info(options: Options) -> None:
    """Print what a model takes and gives, or, without a model, what this device has."""
    runtime = find_runtime(options.runtime)
    import numpy as np

    machine = describe_device()
    facts: dict[str, Any] = {
        "schema": 1,
        "version": __version__,
        "runtime": str(runtime),
        "numpy": np.__version__,
        "machine": machine,
    }
    lines = [
        f"{runtime}, numpy {np.__version__}, Python {machine['python']}, runner {__version__}",
        f"{machine['device']}, {machine['memory']}, {machine['os']}",
    ]
    if options.model:
        model = Model(options.model, runtime, 1)
        facts.update(_file_facts(options.model))
        facts.update(
            inputs=[tensor.describe() for tensor in model.inputs],
            outputs=[tensor.describe() for tensor in model.outputs],
            signatures=model.signatures,
        )
        lines = [
            f"{options.model}  {_size(facts['size_bytes'])}",
            *(f"  input {_words(tensor)}" for tensor in model.inputs),
            *(f"  output {_words(tensor)}" for tensor in model.outputs),
            *lines,
        ]
    _print(facts if options.json else lines)


def bench(options: Options) -> None:
    """Time single invocations."""
    runtime = find_runtime(options.runtime)
    before = conditions()
    model = Model(options.model, runtime, options.threads)
    import numpy as np

    model.feed(_first_sample(options.data, model) if options.data else _random_inputs(model))
    start = time.perf_counter_ns()
    with Quiet():
        model.invoke()
    first_ns = time.perf_counter_ns() - start
    warmup, settled = warm_up(model.interpreter.invoke)
    n = options.runs
    if n is None:
        # Without --seconds: a second, but no fewer than 20 and no more than 10,000 runs.
        wanted = int((options.seconds or 1.0) * 1e9 / max(1, _median(warmup[-20:])))
        n = min(100_000, max(1, wanted)) if options.seconds else min(10_000, max(20, wanted))
    values = time_runs(model.interpreter.invoke, n)
    after = conditions()
    reasons = doubts(
        values,
        settled=settled,
        threads=options.threads,
        throttled=str(after.get("throttled", "")),
    )
    warning = None
    if reasons:
        advice = "Stop other programs, let the board cool, or raise --seconds."
        warning = f"The timing may be unstable: {'; '.join(reasons)}. {advice}"
    p50, p90, p99 = (float(v) / 1e6 for v in np.percentile(values, [50, 90, 99]))
    machine = describe_device()
    facts: dict[str, Any] = {
        "schema": 1,
        "version": __version__,
        **_file_facts(options.model),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "mean_ms": sum(values) / n / 1e6,
        "n": n,
        "threads": options.threads,
        "device": machine["device"],
        "runtime": str(runtime),
        "delegate": None,
        "peak_rss_bytes": peak_rss_bytes(),
        "cold_start_ns": {
            "import": runtime.import_ns,
            "load": model.load_ns,
            "allocate": model.allocate_ns,
            "first_invoke": first_ns,
        },
        "conditions": {"before": before, "after": after},
        "stable": not reasons,
        "warning": warning,
        "python": machine["python"],
        "numpy": np.__version__,
        "machine": machine,
        "values_ns": values,
        "warmup_ns": warmup,
    }
    cold = {key: value / 1e6 for key, value in facts["cold_start_ns"].items()}
    latency = f"p50 {p50:.3f} ms   p90 {p90:.3f}   p99 {p99:.3f}   mean {facts['mean_ms']:.3f}"
    parts = ", ".join(f"{key.replace('_', ' ')} {value:.1f}" for key, value in cold.items())
    lines = [
        f"{options.model}  {_size(facts['size_bytes'])}",
        f"  {latency}   ({_count(n, 'run')}, {_count(options.threads, 'thread')})",
        f"  cold start {sum(cold.values()):.0f} ms: {parts}",
        f"  peak memory {_size(facts['peak_rss_bytes'])}",
        f"  {runtime} on {machine['device']}",
    ]
    _print(facts if options.json else lines)
    if warning and not options.json:
        print(warning, file=sys.stderr)


def _first_sample(path: str, model: Model) -> list[Any]:
    columns = pick_inputs(read_columns(path), model, path)
    spec = read_manifest(model.path).get("preprocessing") or {}
    return encode(next(_prepared(columns, spec, path)), model, f"{path}, sample 0,")


def _random_inputs(model: Model) -> list[Any]:
    import numpy as np

    with Undisturbed():  # numpy imports this part of itself when it is first named
        random = np.random.RandomState(0)  # its numbers are the same in every version of numpy
    made = []
    for tensor in model.inputs:
        if tensor.dtype.kind == "f":
            made.append(random.random_sample(tensor.shape).astype(tensor.dtype))
        elif tensor.scale:
            limits = np.iinfo(tensor.dtype)
            made.append(random.randint(limits.min, limits.max + 1, tensor.shape, tensor.dtype))
        else:
            # Plain integers are indices or lengths: any number but 0 may be out of bounds.
            made.append(np.zeros(tensor.shape, tensor.dtype))
    return made


def _prepared(columns: Sequence[Column], spec: Mapping[str, Any], path: str) -> Iterator[list[Any]]:
    try:
        yield from samples(columns, spec)
    except (ValueError, KeyError) as error:
        raise RunnerError(
            DATA,
            f"{path} does not fit the preprocessing in the manifest.",
            error,
            "Store raw samples under x_test, or prepared ones under inputs.",
        ) from error


def evaluate(options: Options) -> None:
    """Score a model on labelled data, and keep its outputs where asked to."""
    if options.outputs and os.path.exists(options.outputs) and not options.force:
        raise RunnerError(
            USAGE, f"{options.outputs} exists already.", "", "Give another name, or add --force."
        )
    runtime = find_runtime(options.runtime)
    model = Model(options.model, runtime, options.threads)
    manifest = read_manifest(options.model)
    path = options.files[0]
    stored = read_columns(path)
    columns = pick_inputs(stored, model, path)
    n = columns[0].shape[0]
    targets = next((stored[key] for key in ("targets", "y_test", "y") if key in stored), None)
    if targets is None and not options.outputs:
        raise RunnerError(
            DATA,
            f"{path} holds no targets.",
            f"It holds {', '.join(sorted(stored))}.",
            "Store them as y_test, or add --outputs F.npz to keep the outputs unscored.",
        )
    if targets is not None and targets.shape[:1] != (n,):
        raise RunnerError(
            DATA,
            f"{path} holds {n} samples and not as many targets.",
            f"{columns[0].name} {list(columns[0].shape)}, {targets.name} {list(targets.shape)}.",
            "Store one target for each sample.",
        )
    scorer = None
    if targets is not None:
        task = manifest.get("data", {}).get("task") or guess_task(model, targets)
        scorer = Scorer(task, n, manifest.get("labels") or [])
    kept: list[list[Any]] = [[] for _ in model.outputs]
    wanted = targets.rows() if targets is not None else iter([None] * n)
    rows = _prepared(columns, manifest.get("preprocessing") or {}, path)
    start = time.perf_counter()
    for position, (values, target) in enumerate(zip(rows, wanted)):
        where = f"{path}, sample {position},"
        model.feed(encode(values, model, where))
        model.invoke()
        outputs = model.results()
        if scorer:
            try:
                scorer.add(position, model.inputs[0].real(values[0]), outputs[0], target)
            except ValueError as error:
                raise RunnerError(
                    DATA,
                    f"{where} has a target that does not fit output {model.outputs[0].name!r}.",
                    error,
                    "Check y_test, and the task and labels in the manifest.",
                ) from error
        if options.outputs:
            for store, output in zip(kept, outputs):
                store.append(output)
        _tick(position + 1, n)
    seconds = time.perf_counter() - start
    facts = {
        "schema": 1,
        "version": __version__,
        **_file_facts(options.model),
        "score": scorer.score(model.outputs[0].shape[-1]) if scorer else None,
        "n": n,
        "seconds": seconds,
        "threads": options.threads,
        "runtime": str(runtime),
        "device": describe_device()["device"],
        "peak_rss_bytes": peak_rss_bytes(),
    }
    lines = [f"{options.model}  {_size(facts['size_bytes'])}"]
    if scorer:
        score = facts["score"]
        low, high = score["ci95"]
        lines.append(
            f"  {score['metric']} {score['value']:.4f}   95 % interval {low:.4f} to {high:.4f}   "
            f"({_count(n, 'sample')})"
        )
        lines += [f"  {name} {value:.4f}" for name, value in score["extras"].items()]
    lines.append(f"  {seconds:.2f} s on {runtime}, {facts['device']}")
    if options.outputs:
        _write_outputs(options.outputs, [tensor.name for tensor in model.outputs], kept)
        lines.append(f"Wrote {options.outputs}")
    _print(facts if options.json else lines)


def _write_outputs(path: str, names: Sequence[str], kept: Sequence[Sequence[Any]]) -> None:
    """Write every output as `[n, ...]` under its name; the file appears whole or not at all."""
    import numpy as np

    temporary = f"{path}.{os.getpid()}.part"
    try:
        with open(temporary, "wb") as stream:
            arrays: dict[str, Any] = {name: np.stack(rows) for name, rows in zip(names, kept)}
            np.savez(stream, **arrays)
        os.replace(temporary, path)
    except OSError as error:
        raise RunnerError(
            USAGE, f"Cannot write {path}.", error.strerror, "Give another --outputs."
        ) from error
    finally:
        if os.path.exists(temporary):
            os.remove(temporary)


def run(options: Options) -> None:
    """Run a model on files and print one JSON line for each sample."""
    import json

    model = Model(options.model, find_runtime(options.runtime), options.threads)
    manifest = read_manifest(options.model)
    labels = read_labels(options.labels) if options.labels else manifest.get("labels") or []
    task = manifest.get("data", {}).get("task")
    for path in options.files:
        for position, values in enumerate(_raw_samples(path, model, manifest)):
            where = f"{path}, sample {position},"
            model.feed(encode(values, model, where))
            start = time.perf_counter_ns()
            with Quiet():
                model.invoke()
            elapsed = time.perf_counter_ns() - start
            line = {
                "source": path,
                "index": position,
                **_answer(model, task, labels, options.top, model.inputs[0].real(values[0])),
                "invoke_ms": round(elapsed / 1e6, 4),
            }
            print(json.dumps(line, ensure_ascii=False), flush=True)


def _raw_samples(path: str, model: Model, manifest: Mapping[str, Any]) -> Iterator[list[Any]]:
    spec = manifest.get("preprocessing")
    if not path.endswith((".npz", ".npy")):
        yield [read_image(path, model, spec)]
        return
    stored = read_columns(path)
    if path.endswith(".npy") and _is_one_sample(stored["x"], model, spec or {}):
        stored = {"x": stored["x"].as_one_sample()}
    yield from _prepared(pick_inputs(stored, model, path), spec or {}, path)


def _is_one_sample(column: Column, model: Model, spec: Mapping[str, Any]) -> bool:
    if spec.get("kind") == "log-mel":
        return len(column.shape) == 1
    return _bare(column.shape) == _bare(model.inputs[0].shape)


def _answer(
    model: Model, task: str | None, labels: Sequence[str], top: int, value: Any
) -> dict[str, Any]:
    """Return the part of a line that says what the model made of one sample."""
    import numpy as np

    outputs = model.results()
    scores = outputs[0].ravel()
    if task == "reconstruction":
        difference = np.asarray(value, np.float32).ravel() - scores
        return {"error": float(np.mean(difference**2))}
    if task is None and len(outputs) == 1 and outputs[0].ndim == 1 and len(scores) > 1:
        # Without a manifest: several numbers are scores, unless they mirror the input.
        mirrored = model.outputs[0].shape == model.inputs[0].shape
        task = "regression" if mirrored else "classification"
    if task == "classification" and len(scores) > 1:
        if labels and len(labels) != len(scores):
            raise RunnerError(
                DATA,
                f"{len(labels)} labels do not fit {model.path}.",
                f"It has {len(scores)} outputs.",
                "Give the labels.txt that belongs to it: one label a line.",
            )
        order = np.argsort(-scores, kind="stable")[:top]
        return {
            "top": [
                {
                    "class": int(k),
                    **({"label": labels[k]} if labels else {}),
                    "score": _json(scores[k]),
                }
                for k in order
            ]
        }
    return {
        "outputs": {tensor.name: _json(out) for tensor, out in zip(model.outputs, outputs)},
    }


def _json(value: Any) -> Any:
    """Return nested lists; a float32 with the few digits that tell it from its neighbours."""
    import numpy as np

    if isinstance(value, np.ndarray) and value.ndim:
        return [_json(part) for part in value]
    return float(str(value)) if value.dtype.kind == "f" else value.item()


def read_labels(path: str) -> list[str]:
    """Return the lines of a label file.

    Raises:
        RunnerError: It cannot be read (code 4).
    """
    try:
        with open(path, encoding="utf-8") as stream:
            return stream.read().splitlines()
    except (OSError, ValueError) as error:
        raise RunnerError(
            DATA, f"Cannot read {path}.", error, "Give a text file, one label a line."
        ) from error


# --- Words --------------------------------------------------------------------------------------


def _print(answer: Any) -> None:
    if isinstance(answer, dict):
        import json

        print(json.dumps(answer, ensure_ascii=False))
    else:
        print("\n".join(answer))


def _tick(done: int, n: int) -> None:
    """Show progress on a terminal, twenty times in all."""
    if done % max(1, n // 20) == 0 and sys.stderr.isatty():
        end = "\n" if done == n else ""
        print(f"\r{done} of {n} samples", end=end, file=sys.stderr, flush=True)


def _file_facts(path: str) -> dict[str, Any]:
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return {"model": path, "sha256": digest.hexdigest(), "size_bytes": os.path.getsize(path)}


def _size(size_bytes: int) -> str:
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1e3:.1f} kB"
    return f"{size_bytes / 1e6:.2f} MB"


def _count(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


def _words(tensor: Tensor) -> str:
    shape = " x ".join(map(str, tensor.shape)) or "scalar"
    codes = ""
    if tensor.scale:
        shift = f" {'-' if tensor.zero_point >= 0 else '+'} {abs(tensor.zero_point)}"
        codes = f", real = {tensor.scale:.6g} * (code{shift})"
    return f"{tensor.name}: {tensor.dtype.name} {shape}{codes}"


# --- Command line -------------------------------------------------------------------------------
# By hand: importing argparse and building its parsers takes a tenth of the time of a short run.

HELP = """\
usage: edgekit_runner.py COMMAND MODEL [FILE...] [OPTIONS]

Run, time and score TFLite models on this device.

commands:
  info  [MODEL]         inputs, outputs, runtime and device
  bench MODEL           latency, cold start and memory
  eval  MODEL DATA      score on an .npz with x_test, y_test or inputs, targets
  run   MODEL INPUT...  a JSON line for each sample of .npz, .npy and pictures

options:
  --runtime NAME        litert, tflite or tensorflow; default: first installed
  --threads N           default: 1
  --json                info, bench, eval: JSON on stdout
  --runs N              bench: invocations to time; or for how long: --seconds S
  --data FILE           bench: feed the first sample of FILE, not random numbers
  --outputs FILE        eval: write dequantized outputs; --force replaces FILE
  --labels FILE         run: class names, one a line; default: the manifest's
  --top K               run: classes to print; default: 5

example: edgekit_runner.py run model.tflite photo.jpg
exit codes: 0 done, 2 usage, 3 model, 4 data, 7 device, 130 interrupted
"""

VALUES = {"runs": int, "seconds": float, "threads": int, "top": int}


class Options:
    """What a command line says; the values here are the defaults."""

    model = ""
    files: Sequence[str] = ()
    runtime: str | None = None
    threads = 1
    json = False
    runs: int | None = None
    seconds: float | None = None
    data: str | None = None
    outputs: str | None = None
    force = False
    labels: str | None = None
    top = 5


COMMANDS: dict[str, tuple[Callable[[Options], None], int, int, tuple[str, ...]]] = {
    # function, fewest and most files, options
    "info": (info, 0, 1, ("runtime", "json")),
    "bench": (bench, 1, 1, ("runtime", "threads", "json", "runs", "seconds", "data")),
    "eval": (evaluate, 2, 2, ("runtime", "threads", "json", "outputs", "force")),
    "run": (run, 2, sys.maxsize, ("runtime", "threads", "labels", "top")),
}


def parse(words: Sequence[str]) -> tuple[Callable[[Options], None], Options]:
    """Return the command that a command line names, and its options.

    Raises:
        RunnerError: It means nothing (code 2).
    """
    verb, *rest = words or [""]
    if verb not in COMMANDS:
        raise _usage(f"{verb!r} is no command.", f"Commands: {', '.join(COMMANDS)}.")
    function, fewest, most, known = COMMANDS[verb]
    options = Options()
    files: list[str] = []
    while rest:
        word = rest.pop(0)
        if word == "--":
            files += rest
            break
        if not word.startswith("-"):
            files.append(word)
            continue
        name, equals, text = word[2:].partition("=")
        if not word.startswith("--") or name not in known:
            raise _usage(f"{verb} has no option {word}.", f"Options: --{', --'.join(known)}.")
        if isinstance(getattr(options, name), bool):
            setattr(options, name, True)
            continue
        if not equals and not rest:
            raise _usage(f"--{name} needs a value.")
        setattr(options, name, _value(name, text if equals else rest.pop(0)))
    if not fewest <= len(files) <= most:
        raise _usage(f"{verb} takes other files than these.", f"Found {files}.")
    if options.runs and options.seconds:
        raise _usage("--runs and --seconds exclude each other.")
    options.model, options.files = "".join(files[:1]), files[1:]
    return function, options


def _value(name: str, text: str) -> Any:
    if name == "runtime" and text not in RUNTIMES:
        raise _usage(f"There is no runtime {text!r}.", f"Runtimes: {', '.join(RUNTIMES)}.")
    if name not in VALUES:
        return text
    try:
        value = VALUES[name](text)
    except ValueError:
        value = 0
    if not 0 < value < 1e6:
        raise _usage(f"--{name} is a number between 0 and a million.", f"Found {text!r}.")
    return value


def _usage(what: str, found: str = "") -> RunnerError:
    return RunnerError(USAGE, what, found, "See edgekit_runner.py --help")


def main(words: Sequence[str]) -> int:
    """Run one command line, without the program's name; return its exit code."""
    try:
        if "--version" in words[:1]:
            print(f"edgekit_runner {__version__}")
        elif {"-h", "--help"} & set(words):
            print(HELP, end="")
        else:
            command, options = parse(words)
            command(options)
        sys.stdout.flush()
    except RunnerError as error:
        print("\n".join(error.lines), file=sys.stderr)
        return error.code
    except KeyboardInterrupt:
        print("Interrupted.", file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        # The reader has seen enough (`| head`); what is still buffered must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    sys.stderr.flush()
    # Without tearing the interpreter down: it takes time, and a heap that a broken model
    # corrupted would abort a finished run.
    os._exit(code)

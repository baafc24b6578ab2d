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
    from collections.abc import Generator, Iterator, Mapping, Sequence
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

    Raises:
        ValueError: There are other channels than these.
    """
    import numpy as np

    value = _expect_numbers(np.asarray(raw)).astype(np.float32)
    for key in ("scale", "mean", "std"):
        if np.size(spec.get(key, 1)) > 1 and np.shape(spec[key]) != value.shape[-1:]:
            raise ValueError(
                f"shape {list(value.shape)} where {len(spec[key])} channels have a {key}"
            )
    # Each step is skipped where it does nothing, so that raw data pass through bit for bit.
    if spec.get("scale", 1) != 1:
        value *= np.asarray(spec["scale"], np.float32)
    if spec.get("mean", 0) != 0:
        value -= np.asarray(spec["mean"], np.float32)
    if spec.get("std", 1) != 1:
        value /= np.asarray(spec["std"], np.float32)
    return value


def _expect_numbers(value: Any) -> Any:
    """Return an array; raise a ValueError where it holds no real numbers."""
    if value.dtype.kind not in "fiub":
        raise ValueError(f"{value.dtype} where numbers are expected")
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
    top, left, rows, columns = seen_part(image.shape[0], image.shape[1], spec)
    image = image[top : top + rows, left : left + columns]
    resized = resize_bilinear(image, height, width)
    return resized[:, :, ::-1] if spec.get("order", "rgb") == "bgr" else resized


def seen_part(height: int, width: int, spec: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Return top, left, rows and columns of what a model gets to see of a picture."""
    if spec.get("fit", "stretch") != "crop":
        return 0, 0, height, width
    rows = min(height, max(1, round(width * spec["height"] / spec["width"])))
    columns = min(width, max(1, round(height * spec["width"] / spec["height"])))
    return (height - rows) // 2, (width - columns) // 2, rows, columns


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

    audio = _expect_numbers(np.asarray(audio))
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


class Preparation:
    """Turns raw samples into the codes of one input, as `preprocess` and `Tensor.encode` do.

    Where the input is made of integers and the scaling is affine, samples of 8 bits have 256 values
    at most for each channel: their codes are worked out once, and then only looked up. (Samples of
    16 bits have too many: a table of theirs is no faster than the arithmetic.)

    Args:
        spec: The preprocessing.
        tensor: The input.
    """

    def __init__(self, spec: Mapping[str, Any], tensor: Tensor) -> None:
        self.spec = spec
        self.tensor = tensor
        self.kind = spec.get("kind", "none")
        # By the type of the samples: codes `[256, channels]`, or None where only floats will do.
        self.tables: dict[Any, Any] = {}

    def __call__(self, raw: Any) -> Any:
        """Return the codes of one sample, in the shape of the input.

        Raises:
            ValueError: The sample does not fit the preprocessing or the input.
        """
        import numpy as np

        if self.kind not in ("none", "affine", "image"):
            return self.tensor.encode(preprocess(raw, self.spec))
        value = resize_image(raw, self.spec) if self.kind == "image" else np.asarray(raw)
        table = self.table(value.dtype)
        if table is None or table.shape[1] not in (1, *value.shape[-1:]):
            return self.tensor.encode(value if self.kind == "none" else affine(value, self.spec))
        places = value.view(np.uint8)
        if table.shape[1] == 1:
            return self.tensor.encode(np.take(table, places))
        codes = np.empty(value.shape, table.dtype)
        for channel in range(table.shape[1]):
            codes[..., channel] = np.take(table[:, channel], places[..., channel])
        return self.tensor.encode(codes)

    def table(self, dtype: Any) -> Any:
        """Return the codes `[256, channels]` of all values that samples of this type have."""
        import numpy as np

        if dtype not in self.tables:
            spec, tensor = self.spec, self.tensor
            self.tables[dtype] = None
            small = dtype in (np.uint8, np.int8) and tensor.dtype.kind in "iu"
            if small and self.kind != "none":
                channels = max(np.size(spec.get(key, 1)) for key in ("scale", "mean", "std"))
                every = np.arange(256, dtype=np.uint8).view(dtype)
                try:
                    values = affine(np.repeat(every[:, None], channels, 1), spec)
                    self.tables[dtype] = tensor.codes(values)
                except ValueError:  # a value that may never come has no code: see at each sample
                    pass
        return self.tables[dtype]

    def real(self, raw: Any) -> Any:
        """Return the real values that one sample stands for."""
        return self.tensor.real(preprocess(raw, self.spec))

    def encode(self, raw: Any, where: str) -> Any:
        """Return the codes of one sample, of which `where` tells where it is from.

        Raises:
            RunnerError: It does not fit the preprocessing or the input (code 4).
        """
        try:
            return self(raw)
        except ValueError as error:
            raise RunnerError(
                DATA,
                f"{where} does not fit input {self.tensor.name!r}.",
                f"Found {error}.",
                "See what the model expects: edgekit_runner.py info MODEL.",
            ) from error


# --- Errors -------------------------------------------------------------------------------------

USAGE, MODEL, DATA, DEVICE, INTERRUPTED = 2, 3, 4, 7, 130


class RunnerError(Exception):
    """What failed, what was found, and what to do next; `code` is the exit code."""

    def __init__(self, code: int, what: str, found: object = "", hint: str = "") -> None:
        super().__init__(what)
        self.code = code
        if isinstance(found, OSError) and found.strerror:
            found = found.strerror
        # A foreign message may run over many lines; its first one names the trouble.
        lines = [what, *str(found).strip().splitlines()[:1], *([hint] if hint else [])]
        self.lines = [plain(line) for line in lines]


# Longer names and lines lose their middle.
NAME_LENGTH, LINE_LENGTH = 160, 500


def plain(line: str) -> str:
    """Return one line of text without control characters; what is too long loses its middle."""
    if not line.isprintable():
        line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    if len(line) > NAME_LENGTH:
        line = " ".join(_shortened(word, NAME_LENGTH) for word in line.split(" "))
    return _shortened(line, LINE_LENGTH)


def _shortened(text: str, length: int) -> str:
    half = (length - 3) // 2
    return text if len(text) <= length else f"{text[:half]}...{text[-half:]}"


def unreadable(code: int, path: str, error: Exception, hint: str) -> RunnerError:
    """Say that a file cannot be read; where it is not there, that is what there is to hint."""
    if isinstance(error, FileNotFoundError):
        try:
            hint = f"Check its name: paths begin at {os.getcwd()}."
        except OSError:
            hint = "The current folder is gone: change to another one."
    return RunnerError(code, f"Cannot read {path}.", error, hint)


# --- Files, signals and streams -----------------------------------------------------------------


def expect_file(path: str) -> None:
    """Raise an OSError unless `path` is a regular file: a fifo or device would be waited for."""
    import stat

    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a directory")
    if not stat.S_ISREG(mode):
        kind = (
            "a fifo" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        )
        raise OSError(22, f"It is {kind}, not a file.")


TEXT_BYTES = 1 << 26


def read_text(path: str) -> str:
    """Return the UTF-8 text of a regular file of 64 MiB at the most.

    Raises:
        OSError: It cannot be read.
        ValueError: It is too long, or no text.
    """
    expect_file(path)
    with open(path, encoding="utf-8-sig") as stream:
        if os.fstat(stream.fileno()).st_size > TEXT_BYTES:
            raise ValueError(f"It has more than {TEXT_BYTES >> 20} MiB.")
        return stream.read()


def output_place(path: str, option: str, inputs: Sequence[str], *, force: bool) -> str:
    """Return the path to write to, which a link leads to.

    Args:
        path: What the user gave.
        option: By which option.
        inputs: Files that must not be replaced by their own output.
        force: Whether another regular file may be replaced.

    Raises:
        RunnerError: Something else than a regular file is there, or an input, or it may not be
            replaced (code 2).
    """
    hint = f"Give another {option}."
    if os.path.exists(path):
        if not os.path.isfile(path):
            raise RunnerError(USAGE, f"{path} is not a regular file.", "", hint)
        if any(os.path.exists(name) and os.path.samefile(path, name) for name in inputs):
            raise RunnerError(USAGE, f"{path} is an input of this command.", "", hint)
        if not force:
            raise RunnerError(USAGE, f"{path} exists already.", "", f"{hint[:-1]}, or add --force.")
    return os.path.realpath(path)


class Stopped(KeyboardInterrupt):
    """SIGTERM or SIGHUP, upon which a command ends as it does upon Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _stop(number: int, _: object) -> None:
    raise Stopped(number)


def _stops() -> tuple[Any, list[int]]:
    """Return the module of signals, and the numbers of those that ask a command to end."""
    # The C half of `signal`: without the enumerations that the other half is made of.
    module = __import__("_signal")
    return module, [module.SIGTERM, module.SIGHUP, module.SIGINT]


def complain(text: str, end: str = "\n") -> None:
    """Print on stderr, where there is one: closed or on a full disk, the exit code says enough."""
    try:  # noqa: SIM105  contextlib is not loaded for this
        print(text, end=end, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def _flush_stderr() -> None:
    try:  # noqa: SIM105
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


def _fill_streams() -> None:
    """Put /dev/null in the place of closed streams, before a file that is opened gets there."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  until the end


# --- Runtime and model --------------------------------------------------------------------------

# `default` hands to XNNPACK what it takes; `builtin` keeps the runtime's own optimized kernels;
# the slow `reference` kernels answer alike, to the bit, on every kind of processor.
KERNELS = {
    "default": "AUTO",
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}
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
        _flush_stderr()
        self.saved = os.dup(2)
        sink = os.open(os.devnull, os.O_WRONLY)
        os.dup2(sink, 2)
        os.close(sink)

    def __exit__(self, *_: object) -> None:
        _flush_stderr()
        os.dup2(self.saved, 2)
        os.close(self.saved)


class DeferSigint:
    """Puts Ctrl-C, SIGTERM and SIGHUP off until what must not be cut in two is over.

    An extension module whose import is interrupted reports an ordinary ImportError, or nothing;
    a process whose start is interrupted runs on unseen. Signals that are ignored, or end the
    process without any Python, are left alone.
    """

    def __enter__(self) -> None:
        module, stops = _stops()
        self.pending: list[int] = []
        self.handlers: dict[int, Any] = {}
        for number in stops:
            handler = module.getsignal(number)
            if callable(handler):
                try:
                    module.signal(number, self._remember)
                except ValueError:  # not in the main thread, the only one that is interrupted
                    return
                self.handlers[number] = handler

    def _remember(self, number: int, _: object) -> None:
        self.pending.append(number)

    def __exit__(self, *_: object) -> None:
        module, _stop_numbers = _stops()
        # A signal amid this would leave the rest of the handlers as they are.
        before = module.pthread_sigmask(module.SIG_BLOCK, self.handlers)
        for number, handler in self.handlers.items():
            module.signal(number, handler)
        module.pthread_sigmask(module.SIG_SETMASK, before)
        if self.pending:
            self.handlers[self.pending[0]](self.pending[0], None)


TRIAL_S = 60


class Trial:
    """The first load and run of a file of unknown origin, which happen in a child process.

    Used in a `with`: what takes longer than a minute is ended by SIGALRM, which the parent
    explains (see `supervise`); Python code of this process would not get a turn.
    """

    def __enter__(self) -> None:
        module = _stops()[0]
        module.signal(module.SIGALRM, module.SIG_DFL)
        module.alarm(TRIAL_S)

    def __exit__(self, *_: object) -> None:
        _stops()[0].alarm(0)


def tell_of_trial(options: Options) -> None:
    """Tell the user once that the file is of unknown origin, and was tried."""
    if options.unknown:
        complain(
            plain(f"{options.model} has no manifest with its digest: tried in a child process.")
        )
        options.unknown = False


class Runtime:
    """An importable TFLite runtime.

    Args:
        key: litert, tflite or tensorflow.
        start_ns: The clock when the first import began.

    Attributes:
        key: litert, tflite or tensorflow.
        version: The version it gives for itself.
        interpreter: Its Interpreter class.
        load_delegate: Its function of that name.
        import_ns: What importing numpy and the runtime took.
    """

    def __init__(self, key: str, start_ns: int) -> None:
        package, self.distribution = RUNTIMES[key]
        self.key = key
        # TensorFlow reads this when it is imported; its notices about CPU features are noise here.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with Quiet():
            _import_numpy()  # before the runtime, so that its absence is not the runtime's
            module = __import__(package)
            if key == "tensorflow":
                self.interpreter = module.lite.Interpreter
                place = module.lite.experimental
            else:
                place = __import__(package + ".interpreter", fromlist=["x"])
                self.interpreter = place.Interpreter
        self.load_delegate = place.load_delegate
        self.resolvers = getattr(place, "OpResolverType", None)
        self.import_ns = time.perf_counter_ns() - start_ns
        self.version = str(getattr(module, "__version__", "of unknown version"))

    def __str__(self) -> str:
        return f"{self.distribution} {self.version}"

    def choose(self, kernels: str) -> dict[str, Any]:
        """Return the arguments with which an interpreter takes these kernels.

        Raises:
            RunnerError: The runtime leaves no choice, as those before TFLite 2.6 (code 7).
        """
        if kernels == "default":
            return {}
        if self.resolvers is None:
            raise RunnerError(
                DEVICE, f"{self} has default kernels only.", "", "Leave --kernels and --sweep out."
            )
        return {"experimental_op_resolver_type": getattr(self.resolvers, KERNELS[kernels])}


def _import_numpy() -> None:
    try:
        __import__("numpy")
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        # numpy hides what the loader said behind a page of advice.
        first: BaseException = error
        while first.__context__ or first.__cause__:
            first = first.__cause__ or first.__context__ or first
        hint = f"{_pip()} --force-reinstall numpy"
        if "openblas" in str(first):
            hint = "Install with: sudo apt install libopenblas0"
        what = "numpy is installed and cannot be imported."
        raise RunnerError(DEVICE, what, first, hint) from error


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
            with DeferSigint():
                return Runtime(candidate, start)
        except RunnerError:
            raise
        except Exception as error:  # a broken native library ends in all kinds of exceptions
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if missing == "numpy":
                hint = _runtime_cure(key)
                if "numpy" not in hint and "pip" in hint:
                    hint += " numpy"
                raise RunnerError(DEVICE, "numpy is not installed.", "", hint) from error
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


def _runtime_cure(
    key: str | None,
    machine: str = "",
    version: tuple[int, ...] = sys.version_info[:2],
    narrow: bool = sys.maxsize < 1 << 32,
) -> str:
    """Say how to get a runtime onto this machine, where there is a wheel for it.

    A 32-bit system may run on a 64-bit kernel, whose machine is aarch64 all the same: what counts
    is how wide Python itself is.
    """
    if key == "tensorflow":
        return f"{_pip()} tensorflow"
    # ai-edge-litert has wheels for Python 3.10 and later and 64 bits, tflite-runtime (for Linux)
    # for 3.8 to 3.11, 32-bit ARM included.
    narrow = narrow or (machine or os.uname().machine).startswith("armv")
    old = narrow or version < (3, 10)
    if old and version > (3, 11):
        return "For 32 bits there is none after Python 3.11: take a 64-bit system, or Python 3.11."
    if old or (key == "tflite" and version <= (3, 11)):
        return f'{_pip()} tflite-runtime "numpy<2"'
    return f"{_pip()} ai-edge-litert"


EDGE_TPU = ("edgetpu", "usb", "pci")
EDGE_TPU_OPERATOR = "edgetpu-custom-op"
# What a USB Accelerator calls itself before and after its firmware is loaded.
EDGE_TPU_USB = (("1a6e", "089a"), ("18d1", "9302"))
MACHINES = {3: "32-bit x86", 40: "32-bit ARM", 62: "64-bit x86", 183: "64-bit ARM"}


class Delegate:
    """A library that takes operators over from the runtime.

    Args:
        name: edgetpu, usb, pci, one of them with the number of a device (usb:0), or the path of a
            library with the interface of TFLite's external delegates.
        settings: Its options, as `key=value`.

    Attributes:
        library: What is loaded.
        options: What it is given.
        edge_tpu: Whether it is libedgetpu that is asked for.
    """

    def __init__(self, name: str, settings: Sequence[str]) -> None:
        self.name = name
        self.settings = settings
        self.options = dict(text.split("=", 1) for text in settings)
        kind, colon, _ = name.partition(":")
        self.edge_tpu = kind in EDGE_TPU
        if self.edge_tpu:
            self.library = "libedgetpu.so.1"
            if sys.platform == "darwin":
                self.library = "libedgetpu.1.dylib"
            # libedgetpu reads its other options only where the device is numbered.
            number = "" if colon or not self.options else ":0"
            self.options.setdefault("device", name.replace("edgetpu", "") + number)
        else:
            # The loader looks for a bare name everywhere but in the current folder.
            self.library = os.path.abspath(name) if os.path.exists(name) else name
        self.is_file = not self.edge_tpu and os.path.exists(name)

    def __str__(self) -> str:
        return " ".join([self.name, *self.settings])

    def load(self, runtime: Runtime) -> Any:
        """Return what an interpreter takes as its delegate.

        Raises:
            RunnerError: The library is missing, foreign or without a device (code 7).
        """
        import ctypes

        try:
            if self.is_file:
                expect_file(self.library)
            found = ctypes.CDLL(self.library)
        except OSError as error:
            raise self._library_error(str(error)) from error
        if not hasattr(found, "tflite_plugin_create_delegate"):
            raise RunnerError(
                DEVICE,
                f"{self.library} is no TFLite delegate.",
                "It has no function tflite_plugin_create_delegate.",
                "Give the path of a library for external delegates.",
            )
        try:
            return runtime.load_delegate(self.library, dict(self.options))
        except ValueError as error:
            reason = str(error).partition("\n")[2]
            if self.edge_tpu and not reason:
                raise self._no_device() from error
            raise RunnerError(
                DEVICE,
                f"{self.library} does not start.",
                reason or "It gives no reason.",
                "Check its --delegate-option, and that its device is connected.",
            ) from error

    def _library_error(self, text: str) -> RunnerError:
        here = _machine("/proc/self/exe")
        there = _machine(self.library) if self.is_file else ""
        if here and there and here != there:
            # The loader says "No such file" to a library for another processor.
            return RunnerError(
                DEVICE,
                f"{self.library} is built for {there}.",
                f"This Python runs on {here}.",
                "Install the build for this system.",
            )
        culprit = os.path.basename(text.partition(":")[0])
        if self.is_file or culprit != os.path.basename(self.library):
            hint = "It needs a newer system, or another library: install what is named above."
            if self.is_file and not there:
                hint = "It is no library: give the path of an .so file."
            if culprit.startswith("libusb"):
                hint = "Install with: sudo apt install libusb-1.0-0"
            return RunnerError(DEVICE, f"{self.library} cannot be loaded.", text, hint)
        hint = "Give the path of the library."
        if self.edge_tpu:
            hint = "Install libedgetpu1-std, built for this runtime's version, or give its path."
        return RunnerError(DEVICE, f"{self.library} is not installed.", text, hint)

    def _no_device(self) -> RunnerError:
        """Say why libedgetpu, which gives no reason, found no device."""
        usb, pci = _edge_tpus()
        kind, _, number = self.options["device"].partition(":")
        usable = (usb if kind != "pci" else 0) + (pci if kind != "usb" else 0)
        if usable > int(number or 0):
            return RunnerError(
                DEVICE,
                "An Edge TPU is connected and cannot be opened.",
                "Another program uses it, or this user may not.",
                "Stop the other program, or: sudo usermod -aG plugdev,apex $USER, and log in anew.",
            )
        hint = "Plug it in (lsusb shows 1a6e:089a or 18d1:9302); PCIe needs the gasket driver."
        return RunnerError(
            DEVICE,
            f"There is no Edge TPU for --delegate {self}.",
            f"Found {usb} on USB and {pci} on PCIe.",
            hint,
        )


def _machine(path: str) -> str:
    """Return the kind of processor an ELF file is for; nothing for other files."""
    try:
        head = _head(path, 20)
    except OSError:
        return ""
    if head[:4] != b"\x7fELF":
        return ""
    number = int.from_bytes(head[18:20], "little")
    return MACHINES.get(number, f"processor {number}")


def _edge_tpus() -> tuple[int, int]:
    """Return how many Edge TPUs the kernel sees on USB and on PCIe."""
    usb = _kernel_files("/sys/bus/usb/devices/*/idVendor")
    names = [(_text(path), _text(path.replace("idVendor", "idProduct"))) for path in usb]
    return sum(name in EDGE_TPU_USB for name in names), len(_kernel_files("/dev/apex_*"))


class Tensor:
    """An input or output: signature name, index, shape, dtype, scale and zero point."""

    def __init__(self, name: str, details: Mapping[str, Any]) -> None:
        import numpy as np

        self.name = name
        self.index = details["index"]
        self.shape = tuple(int(size) for size in details["shape"])
        self.dtype = np.dtype(details["dtype"])
        scale, zero_point = details["quantization"]
        # Only integers stand for other numbers, whatever a file says of its floats.
        self.scale = (float(scale) or None) if self.dtype.kind in "iu" else None
        self.zero_point = int(zero_point)
        if self.scale and not 0 < self.scale < 1e38:
            raise ValueError(f"tensor {name} has the scale {self.scale}")

    def encode(self, value: Any) -> Any:
        """Turn one prepared sample into this tensor's shape and codes.

        An array of the tensor's own dtype is taken as codes; anything else as real values, which
        a quantized tensor stores as `round(value / scale) + zero_point`.

        Raises:
            ValueError: The shape differs in more than axes of size 1, or a value does not fit.
        """
        if _bare(value.shape) != _bare(self.shape):
            raise ValueError(f"shape {list(value.shape)} where {list(self.shape)} is expected")
        return self.codes(value).reshape(self.shape)

    def codes(self, value: Any) -> Any:
        """Return what `encode` makes of values of any shape."""
        import numpy as np

        if _expect_numbers(value).dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError("NaN or infinity")
        if value.dtype == self.dtype:
            return value.astype(self.dtype)
        with np.errstate(all="ignore"):  # what overflows is clipped, or refused
            if self.scale:
                codes = np.round(value.astype(np.float32) / np.float32(self.scale))
                limits = np.iinfo(self.dtype)
                if limits.bits > 16:  # float32 does not tell the largest of these from the next
                    codes = codes.astype(np.float64)
                value = np.clip(codes + self.zero_point, limits.min, limits.max)
            codes = value.astype(self.dtype)
            if not self.scale and self.dtype.kind in "iub" and not np.array_equal(value, codes):
                raise ValueError(f"{value.dtype} values where {self.dtype} is expected")
        if self.dtype.kind == "f" and value.dtype.kind == "f" and not np.isfinite(codes).all():
            raise ValueError(f"values too large for {self.dtype}")
        return codes

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
        delegate: What helps, or None.
        inputs: Tensors by signature name where there is a signature.
        outputs: Likewise.
        signatures: Signature name -> {"inputs": [...], "outputs": [...]}.
        load_ns: What opening the file took, and opening the delegate.
        allocate_ns: What allocating tensors (and preparing kernels) took.
    """

    def __init__(
        self,
        path: str,
        runtime: Runtime,
        threads: int,
        kernels: str = "default",
        delegate: Delegate | None = None,
        *,
        trial: Trial | None = None,
    ) -> None:
        self.path = path
        self.runtime = runtime
        self.delegate = delegate
        self.trial = trial
        _refuse_foreign_file(path)
        _refuse_foreign_delegate(path, delegate)
        arguments = runtime.choose(kernels)
        import contextlib  # which numpy has imported already

        start = time.perf_counter_ns()
        try:
            # A delegate that is cut in two while it is made complains of it on its way out.
            with DeferSigint(), Quiet(), trial or contextlib.nullcontext():
                if delegate:
                    arguments["experimental_delegates"] = [delegate.load(runtime)]
                interpreter = runtime.interpreter(model_path=path, num_threads=threads, **arguments)
                loaded = time.perf_counter_ns()
                interpreter.allocate_tensors()
        except RunnerError:
            raise
        except Exception as error:  # ValueError, RuntimeError, SystemError: each runtime its own
            raise _load_error(error, path, runtime, delegate) from error
        self.load_ns = loaded - start
        self.allocate_ns = time.perf_counter_ns() - loaded
        self.interpreter = interpreter
        try:
            self._read_interface()
        except Exception as error:  # types that numpy lacks, names that are no text
            raise self._unsound("has inputs or outputs that cannot be read", error) from error

    def _read_interface(self) -> None:
        interpreter = self.interpreter
        self.signatures = interpreter.get_signature_list()
        names = {}
        if self.signatures:
            signature = interpreter.get_signature_runner(next(iter(self.signatures)))
            for side in (signature.get_input_details(), signature.get_output_details()):
                names.update({details["index"]: name for name, details in side.items()})
        self.inputs = _tensors(interpreter.get_input_details(), names)
        self.outputs = _tensors(interpreter.get_output_details(), names)

    def _unsound(self, how: str, found: object) -> RunnerError:
        return RunnerError(
            MODEL,
            f"{self.path} {how}.",
            found,
            "Convert the model again, or try another --runtime.",
        )

    def expect_interface(self) -> None:
        """Raise a RunnerError (code 3) where there is nothing to feed or to read."""
        for tensors, side in ((self.inputs, "input"), (self.outputs, "output")):
            if not tensors:
                raise self._unsound(f"has no {side}", "Nothing can be measured or told of it.")

    def feed(self, encoded: Sequence[Any]) -> None:
        """Write one array into each input.

        Raises:
            RunnerError: The runtime does not take it (code 3).
        """
        for tensor, value in zip(self.inputs, encoded):
            try:
                self.interpreter.set_tensor(tensor.index, value)
            except (RuntimeError, TypeError, ValueError) as error:
                raise self._unsound(f"takes no value at input {tensor.name}", error) from error

    def invoke(self) -> None:
        """Run once.

        Raises:
            RunnerError: A kernel refuses (code 3).
        """
        trial, self.trial = self.trial, None
        try:
            if trial:
                with trial:
                    self.interpreter.invoke()
            else:
                self.interpreter.invoke()
        except (RuntimeError, SystemError, ValueError) as error:
            raise self._unsound("fails while it runs", error) from error

    def results(self) -> list[Any]:
        """Return every output, dequantized, without its batch axis of 1.

        Raises:
            RunnerError: An output holds NaN (code 3).
        """
        import numpy as np

        found = []
        for tensor in self.outputs:
            try:
                codes = self.interpreter.get_tensor(tensor.index)
            except (RuntimeError, TypeError, ValueError) as error:
                raise self._unsound(f"gives no value at output {tensor.name}", error) from error
            value = tensor.decode(codes)
            if value.dtype.kind == "f" and np.isnan(value).any():
                raise RunnerError(
                    MODEL,
                    f"{self.path} answers NaN at output {tensor.name}.",
                    "The input was finite.",
                    "Check the ranges and weights of the model; convert it again.",
                )
            found.append(value[0] if value.ndim > 1 and value.shape[0] == 1 else value)
        return found


def open_model(options: Options, runtime: Runtime | None = None) -> Model:
    """Load the model of a command line as its options say."""
    runtime = runtime or find_runtime(options.runtime)
    if options.unknown:
        _keep_stderr()
    return Model(
        options.model,
        runtime,
        options.threads,
        options.kernels,
        Delegate(options.delegate, options.delegate_option) if options.delegate else None,
        trial=Trial() if options.unknown else None,
    )


def _tensors(details: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> list[Tensor]:
    return [Tensor(names.get(item["index"], str(item["name"])), item) for item in details]


# What else is given as a model, by how it begins.
FOREIGN = {
    b"PK\x03\x04": "It is a zip archive, as .keras and .npz are.",
    b"\x89HDF": "It is an HDF5 file, as .h5 is.",
    b"": "It is empty.",
}


def _refuse_foreign_file(path: str) -> None:
    """Raise unless `path` is a file that says it is a TFLite model."""
    hint = "Give a .tflite file; what Keras saved, `edgekit import` converts on a computer."
    try:
        head = _head(path, 8)
    except OSError as error:
        raise unreadable(MODEL, path, error, hint) from error
    # A flatbuffer names its schema in bytes 4 to 8.
    if head[4:8] != b"TFL3":
        found = FOREIGN.get(head[:4], f"It starts with {head!r}, not with TFL3.")
        raise RunnerError(MODEL, f"{path} is no TFLite model.", found, hint)


def custom_operators(path: str) -> list[str]:
    """Return the names of the operators that are not TFLite's own.

    A damaged file has none: the runtime says the rest.
    """
    import mmap
    import struct

    with open(path, "rb") as stream:
        try:
            with mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ) as data:
                # Fields of schema.fbs: Model.operator_codes 1, OperatorCode.custom_code 1.
                codes = Table(data, int.from_bytes(data[:4], "little")).tables(1)
                return [name for name in (code.text(1) for code in codes) if name]
        except (struct.error, ValueError):
            return []


def _refuse_foreign_delegate(path: str, delegate: Delegate | None) -> None:
    """Raise where a model for the Edge TPU would be loaded without it, or the other way round."""
    compiled = EDGE_TPU_OPERATOR in custom_operators(path)
    if compiled and delegate is None:
        raise RunnerError(
            MODEL,
            f"{path} is compiled for the Edge TPU and needs its delegate.",
            f"It holds the operator {EDGE_TPU_OPERATOR}.",
            "Add --delegate edgetpu, or give the file it was compiled from: without _edgetpu in "
            "its name.",
        )
    if delegate and delegate.edge_tpu and not compiled:
        raise RunnerError(
            MODEL,
            f"{path} is not compiled for the Edge TPU.",
            f"It holds no {EDGE_TPU_OPERATOR}: all of it would run on the CPU.",
            "Compile it with edgetpu_compiler, or leave --delegate out.",
        )


def _load_error(
    error: Exception, path: str, runtime: Runtime, delegate: Delegate | None = None
) -> RunnerError:
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
    if "requires runtime version" in text:
        return RunnerError(
            DEVICE,
            f"{path} was compiled for a newer Edge TPU runtime.",
            text,
            "Update libedgetpu, or compile with a lower edgetpu_compiler --min_runtime_version.",
        )
    if "in custom op handler" in text and delegate:
        return delegate_mismatch(delegate, f"{runtime} and it misread each other: {text}")
    if EDGE_TPU_OPERATOR in text and delegate:
        return RunnerError(
            DEVICE,
            f"{delegate.library} does not take over {path}.",
            text,
            "It is no delegate for the Edge TPU: use --delegate edgetpu.",
        )
    if delegate and "unresolved" not in text and not isinstance(error, ValueError):
        return RunnerError(
            DEVICE,
            f"{delegate.library} fails to prepare {path}.",
            text,
            "Leave --delegate out to see whether the model itself is sound.",
        )
    if "Flex" in text or "Select TensorFlow" in text:
        hint = "Install tensorflow and add --runtime tensorflow, or convert with built-in ops only."
    elif isinstance(error, ValueError):
        hint = "The file is damaged or cut short: copy it again and compare its sha256."
    else:
        hint = "A newer runtime may know it: update, or try another --runtime."
    return RunnerError(MODEL, f"{runtime} cannot load {path}.", text, hint)


def delegate_mismatch(delegate: object, found: str) -> RunnerError:
    """Say that a delegate library and the runtime do not fit together."""
    return RunnerError(
        DEVICE,
        f"--delegate {delegate} does not work with this runtime.",
        found,
        "Both must come from one TensorFlow version: install the libedgetpu or runtime that fits.",
    )


def manifest_place(path: str) -> str:
    """Return where the manifest of a model is looked for."""
    return os.path.splitext(path)[0] + ".json"


def of_unknown_origin(options: Options) -> bool:
    """Tell whether a model comes without a manifest that names its digest.

    What is not even called a TFLite model is refused before a runtime sees it.
    """
    import json

    try:
        if _head(options.model, 8)[4:8] != b"TFL3":
            return False
    except OSError:
        return False
    try:
        told = json.loads(read_text(manifest_place(options.model)))["sha256"]
        options.sha256 = sha256_of(options.model)
    except (KeyError, IndexError, OSError, RecursionError, TypeError, ValueError):
        return True
    return bool(told != options.sha256)


def sha256_of(path: str) -> str:
    """Return the digest of a file, in hexadecimal."""
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(path: str) -> dict[str, Any]:
    """Return what is known of a model: its manifest, and what only the file itself says.

    Returns:
        The manifest beside the model, or an empty one; where it is silent, `preprocessing` and
        `labels` come from the metadata inside the model. `origin` tells for both where they are
        from: "manifest" or "metadata".

    Raises:
        RunnerError: One of them is there and cannot be read (code 3).
    """
    import json

    place = manifest_place(path)
    manifest: dict[str, Any] = {}
    try:
        manifest = json.loads(read_text(place))
        check_manifest(manifest)
        if manifest.get("preprocessing") is not None:
            manifest["preprocessing"].setdefault("kind", "none")
    except FileNotFoundError:
        pass
    except (OSError, RecursionError, TypeError, ValueError) as error:
        raise RunnerError(
            MODEL,
            f"Cannot read {place}, the manifest of the model.",
            error,
            "Copy it again together with the model, or move it away to run without.",
        ) from error
    keys = ("preprocessing", "labels")
    origin = {key: "manifest" for key in keys if manifest.get(key) is not None}
    if len(origin) < len(keys):
        metadata = read_metadata(path)
        for key in keys:
            if key not in origin and metadata.get(key) is not None:
                manifest[key], origin[key] = metadata[key], "metadata"
    manifest["origin"] = origin
    return manifest


# What a preprocessing must name: whole numbers up to so much, above 0.
COUNTS: dict[str, dict[str, int]] = {
    "none": {},
    "affine": {},
    "image": {"height": 1 << 14, "width": 1 << 14},
    "log-mel": {
        "sample_rate": 1 << 24,
        "samples": 1 << 26,
        "frame": 1 << 20,
        "hop": 1 << 26,
        "bands": 1 << 12,
    },
}
# What it may name: words and counts of which there are few.
CHOICES = {"channels": (1, 3), "order": ("rgb", "bgr"), "fit": ("stretch", "crop")}
FRAMED = 1 << 27  # samples in all frames of a recording, of 8 bytes each


def check_manifest(manifest: Any) -> None:
    """Raise a TypeError or ValueError unless all that is read of a manifest is of its kind."""
    if not isinstance(manifest, dict):
        raise TypeError("It is no JSON object.")
    for key, kind in (("preprocessing", dict), ("data", dict), ("labels", list)):
        if not isinstance(manifest.get(key), (kind, type(None))):
            raise TypeError(f"Its {key} is {manifest[key]!r}.")
    if not all(isinstance(label, str) for label in manifest.get("labels") or ()):
        raise ValueError("A label in it is no text.")
    if not isinstance((manifest.get("data") or {}).get("task"), (str, type(None))):
        raise TypeError(f"Its data has task {manifest['data']['task']!r}.")
    check_spec(manifest.get("preprocessing") or {})


def check_spec(spec: Mapping[str, Any]) -> None:
    """Raise a ValueError unless a preprocessing can be carried out."""

    def number(value: Any, least: float = -1e38) -> bool:
        # NaN and what float32 has no room for are no numbers here.
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        return known and least <= value <= 1e38

    kind = spec.get("kind", "none")
    if kind not in COUNTS:
        known = ", ".join(COUNTS)
        raise ValueError(f"Its preprocessing is of unknown kind {kind!r}; known: {known}.")
    wrong = [
        key
        for key, most in COUNTS[kind].items()
        if type(spec.get(key)) is not int or not 0 < spec[key] <= most
    ]
    if kind == "image":
        wrong += [key for key in CHOICES if key in spec and spec[key] not in CHOICES[key]]
    if kind == "log-mel":
        wrong += [key for key in ("low_hz", "high_hz") if not number(spec.get(key), 0)]
        wrong += [key for key in ("floor", "std") if not number(spec.get(key, 1), 1e-38)]
        wrong += [] if number(spec.get("mean", 0)) else ["mean"]
        if not wrong and spec["frame"] > spec["samples"]:
            wrong = ["frame"]
        elif not wrong and spec["samples"] // spec["hop"] * spec["frame"] > FRAMED:
            wrong = ["hop"]
        elif not wrong and not spec["low_hz"] < spec["high_hz"] <= spec["sample_rate"] / 2:
            wrong = ["high_hz"]
    for key in wrong:
        raise ValueError(f"Its preprocessing of kind {kind} has {key} {spec.get(key)!r}.")
    for key in ("scale", "mean", "std"):
        value = spec.get(key, 1)
        values = value if isinstance(value, list) else [value]
        if not values or not all(map(number, values)):
            raise ValueError(f"Its preprocessing has {key} {value!r}.")
        if key == "std" and any(abs(one) < 1e-38 for one in values):
            raise ValueError(f"Its preprocessing has std {value!r}.")


class Table:
    """One table of a flatbuffer (https://flatbuffers.dev/internals).

    Args:
        data: All bytes of the file.
        position: Where the table begins.
    """

    def __init__(self, data: Any, position: int) -> None:
        self.data = data
        self.position = position
        self.fields = position - self._unpack("<i", position)
        self.end = self._unpack("<H", self.fields)

    def _unpack(self, layout: str, position: int) -> Any:
        import struct

        if position < 0:
            raise ValueError("an offset leads out of the file")
        return struct.unpack_from(layout, self.data, position)[0]

    def _place(self, field: int) -> int:
        entry = 4 + 2 * field
        offset = self._unpack("<H", self.fields + entry) if entry < self.end else 0
        return self.position + offset if offset else 0

    def _follow(self, place: int) -> int:
        return place + int(self._unpack("<I", place))

    def number(self, field: int, layout: str) -> int:
        """Return a number, 0 where it is left out."""
        place = self._place(field)
        return int(self._unpack(layout, place)) if place else 0

    def block(self, field: int, size: int = 1) -> tuple[int, bytes]:
        """Return position and bytes of a vector whose items have `size` bytes, or of a text."""
        place = self._place(field)
        if not place:
            return 0, b""
        start = self._follow(place)
        count = self._unpack("<I", start) * size
        if start + 4 + count > len(self.data):
            raise ValueError("a vector is longer than the file")
        return start + 4, self.data[start + 4 : start + 4 + count]

    def text(self, field: int) -> str:
        """Return a text, "" where it is left out."""
        return self.block(field)[1].decode("utf-8")

    def floats(self, field: int) -> list[float]:
        """Return a vector of float32."""
        import struct

        content = self.block(field, 4)[1]
        return list(struct.unpack(f"<{len(content) // 4}f", content))

    def tables(self, field: int) -> list[Table]:
        """Return a vector of tables."""
        start, content = self.block(field, 4)
        places = range(start, start + len(content), 4)
        return [Table(self.data, self._follow(place)) for place in places]

    def table(self, field: int) -> Table | None:
        """Return a table, None where it is left out."""
        place = self._place(field)
        return Table(self.data, self._follow(place)) if place else None


def read_metadata(path: str) -> dict[str, Any]:
    """Return what a model says of itself, in the way that TFLite tools agreed on.

    The flatbuffer of `metadata_schema.fbs` (tensorflow/tflite-support) in a buffer of the model
    that is named TFLITE_METADATA; label files are in a zip archive behind the model.

    Returns:
        `preprocessing` (kind affine: the NormalizationOptions of the first input) and `labels`
        (those of the first output that has any), each only where it is there.

    Raises:
        RunnerError: It is damaged (code 3).
    """
    import mmap
    import struct

    _refuse_foreign_file(path)
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            with mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) as data:
                content = _metadata_buffer(data)
        return _metadata(content, path) if content[4:8] == b"M001" else {}
    except (OSError, ValueError, KeyError, struct.error, MemoryError) as error:
        raise RunnerError(
            MODEL,
            f"Cannot read the metadata in {path}.",
            error,
            "The file is damaged or cut short: copy it again and compare its sha256.",
        ) from error


def _metadata_buffer(data: Any) -> bytes:
    # Fields of schema.fbs: Model.buffers 4, .metadata 6; Metadata.name 0, .buffer 1.
    model = Table(data, int.from_bytes(data[:4], "little"))
    for entry in model.tables(6):
        if entry.text(0) == "TFLITE_METADATA":
            buffers, number = model.tables(4), entry.number(1, "<I")
            if number >= len(buffers):
                raise ValueError(f"there is no buffer {number}")
            # Buffers of files of 2 GB and more lie behind the flatbuffer: offset 1, size 2.
            offset, size = (buffers[number].number(field, "<Q") for field in (1, 2))
            return bytes(data[offset : offset + size]) if offset else buffers[number].block(0)[1]
    return b""


def _metadata(content: bytes, path: str) -> dict[str, Any]:
    # Fields of metadata_schema.fbs: ModelMetadata.subgraph_metadata 3; SubGraphMetadata.
    # input_tensor_metadata 2, .output_tensor_metadata 3; TensorMetadata.process_units 4,
    # .associated_files 6; ProcessUnit.options_type 0 (NormalizationOptions 1), .options 1;
    # NormalizationOptions.mean 0, .std 1; AssociatedFile.name 0, .type 2 (labels: 2 and 3).
    found: dict[str, Any] = {}
    for graph in Table(content, int.from_bytes(content[:4], "little")).tables(3)[:1]:
        for tensor in graph.tables(2)[:1]:
            for unit in tensor.tables(4):
                options = unit.table(1)
                if unit.number(0, "<B") == 1 and options:
                    mean, std = options.floats(0) or [0.0], options.floats(1) or [1.0]
                    if not all(std):
                        raise ValueError("a standard deviation is 0")
                    found["preprocessing"] = {
                        "kind": "affine",
                        "mean": mean[0] if len(mean) == 1 else mean,
                        "std": std[0] if len(std) == 1 else std,
                    }
                    check_spec(found["preprocessing"])
        files = [file for tensor in graph.tables(3) for file in tensor.tables(6)]
        names = [file.text(0) for file in files if file.number(2, "<B") in (2, 3)]
        if names:
            found["labels"] = _packed_labels(path, names[0])
    return found


def _packed_labels(path: str, name: str) -> list[str]:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
            return parse_labels(stream.read(1 << 24).decode("utf-8"))
    except Exception as error:  # zipfile and zlib have an error type for every kind of damage
        raise ValueError(f"label file {name}: {error}") from error


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
    try:
        return _npz_columns(path) if _head(path, 2) == b"PK" else {"x": _npy_column(path)}
    except Exception as error:  # numpy, zipfile and zlib have an error type for every kind of dirt
        hint = "Give an .npz or .npy; pictures and recordings are for the command run."
        raise unreadable(DATA, path, error, hint) from error


def _head(path: str, size: int) -> bytes:
    expect_file(path)
    with open(path, "rb") as stream:
        return stream.read(size)


def _npy_column(path: str) -> Column:
    import numpy as np

    if _head(path, 6) != b"\x93NUMPY":
        raise ValueError("numpy did not write it.")
    # numpy maps the file, and refuses one that is shorter than its header says.
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return Column("x", array.shape, array.dtype, lambda: iter(array))


# Deflate makes a thousandth of its input at the least (zlib.net/zlib_tech.html: 1032:1).
DEFLATE_RATIO = 1032


def _refuse_bomb(infos: Sequence[Any], size: int) -> None:
    """Raise a ValueError where an archive declares more than so many bytes can hold."""
    declared = sum(info.file_size for info in infos)
    if declared > DEFLATE_RATIO * size:
        raise ValueError(f"Its {size} bytes declare {declared}: more than deflate can hold.")


def _refuse_large_rows(shape: Sequence[int], itemsize: int, stored: int, *, whole: bool) -> None:
    """Raise a ValueError where an array is larger than its member, or a row than the memory.

    Args:
        shape: What the header of the array says.
        itemsize: Bytes of one value.
        stored: Bytes of values in the archive, as the archive declares them.
        whole: The rows cannot be read one by one.
    """
    import math

    if any(size < 0 for size in shape) or math.prod(shape) * itemsize > stored:
        raise ValueError(f"An array of {list(shape)} is declared where {stored} bytes are.")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    held = math.prod(shape if whole else shape[1:]) * itemsize
    if held > memory // 2:
        what = "An array that is stored column by column" if whole else "One sample"
        raise ValueError(f"{what} has {held} bytes, and this device {memory}.")


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
        _refuse_bomb(archive.infolist(), os.path.getsize(path))
        for info in archive.infolist():
            member = info.filename
            with archive.open(member) as stream:
                shape, fortran, dtype = header(stream)
                stored = info.file_size - stream.tell()
            _refuse_large_rows(shape, dtype.itemsize, stored, whole=fortran)
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
    lengths = {0 if 0 in column.shape or not column.shape else column.shape[0] for column in found}
    if len(lengths) > 1 or 0 in lengths:
        raise RunnerError(
            DATA,
            f"The inputs in {path} are empty or differ in length.",
            ", ".join(f"{column.name} {list(column.shape)}" for column in found),
            "Store an array [n, ...] for each input.",
        )
    return found


def preparations(
    columns: Sequence[Column], spec: Mapping[str, Any] | None, model: Model
) -> list[Preparation]:
    """Return what prepares each column for its input.

    An array called `inputs` is prepared already: that is how data are packed for a device.
    """
    return [
        Preparation({} if column.name.startswith("inputs") else spec or {}, tensor)
        for column, tensor in zip(columns, model.inputs)
    ]


def prepared(
    columns: Sequence[Column], spec: Mapping[str, Any] | None, model: Model, path: str
) -> Iterator[tuple[list[Any], Callable[[], Any]]]:
    """Walk through the samples of a file.

    Yields:
        The codes for each input, and what works out the real values of the first one.

    Raises:
        RunnerError: A sample does not fit (code 4).
    """
    from functools import partial

    prepares = preparations(columns, spec, model)
    for index, row in enumerate(zip(*(column.rows() for column in columns))):
        where = f"{path}, sample {index},"
        codes = [prepare.encode(value, where) for prepare, value in zip(prepares, row)]
        yield codes, partial(prepares[0].real, row[0])


PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
ARRAYS = (".npz", ".npy")


class Sample:
    """One thing to run a model on, ready to be fed.

    Attributes:
        source: Where it is from, as the user named it.
        index: Its place there.
        codes: One array for each input.
        value: Works out the real values that the first input stands for.
        picture: What it was made of, to be drawn on: a PIL image or uint8 pixels, or None.
        single: There is no other sample at its source.
        extra: What else its line tells.
    """

    def __init__(
        self,
        source: str,
        index: int,
        codes: Sequence[Any],
        value: Callable[[], Any],
        *,
        picture: Any = None,
        single: bool = False,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.source = source
        self.index = index
        self.codes = codes
        self.value = value
        self.picture = picture
        self.single = single
        self.extra = extra or {}


class Source:
    """Makes samples for one model out of whatever there is.

    Args:
        model: The model.
        spec: How its raw input is prepared, None where nobody says.
        frame: `[height, width, channels]` of raw frames and of the camera, or None.
    """

    def __init__(
        self, model: Model, spec: Mapping[str, Any] | None, frame: Sequence[int] | None
    ) -> None:
        self.model = model
        self.spec = spec
        self.frame = frame
        self.preparation: Preparation | None = None

    def open(self, name: str) -> Iterator[Sample]:
        """Walk through the samples of an INPUT of the command line.

        Raises:
            RunnerError: It cannot be read or does not fit (code 4), or Pillow or a camera is
                missing (code 7).
        """
        if name == "-":
            return self._frames()
        kind, _, number = name.partition(":")
        if kind == "camera" and not os.path.exists(name):
            if name != kind and not (number.isdecimal() and len(number) < 6):
                raise _usage(f"There is no {name}.", "Cameras: camera, camera:1 and so on.", "run")
            return self._camera(name, int(number or 0))
        return self._folder(name) if os.path.isdir(name) else self.file(name)

    def file(self, path: str) -> Iterator[Sample]:
        """Walk through the samples of one file; what it is, its ending says."""
        ending = os.path.splitext(path)[1].lower()
        if ending in ARRAYS:
            return self._arrays(path)
        return self._windows(path) if ending == ".wav" else self._decoded(path)

    def _folder(self, folder: str) -> Iterator[Sample]:
        names = list_inputs(folder)
        if not names:
            raise RunnerError(
                DATA,
                f"{folder} holds nothing to run on.",
                f"Known endings: {' '.join((*PICTURES, '.wav', *ARRAYS))}.",
                "Give another folder, or wait for files with --watch FOLDER.",
            )
        for name in names:
            yield from self.file(os.path.join(folder, name))

    def _arrays(self, path: str) -> Iterator[Sample]:
        columns = self.columns(path)
        for index, sample in enumerate(prepared(columns, self.spec, self.model, path)):
            yield Sample(path, index, *sample)

    def columns(self, path: str) -> list[Column]:
        """Return one column for each input; an array alone may be a single sample."""
        stored = read_columns(path)
        if list(stored) == ["x"] and _is_one_sample(stored["x"], self.model, self.spec or {}):
            stored = {"x": stored["x"].as_one_sample()}
        return pick_inputs(stored, self.model, path)

    def _decoded(self, path: str) -> Iterator[Sample]:
        import warnings

        image = _pillow(path)
        self.expect_pictures(path)
        try:
            expect_file(path)
            with warnings.catch_warnings():
                # Of odd pictures Pillow only warns, also of those that inflate to gigabytes.
                warnings.simplefilter("ignore")
                warnings.simplefilter("error", image.DecompressionBombWarning)
                # libtiff complains on file descriptor 2 by itself; Pillow then raises.
                with Quiet(), image.open(path) as picture:
                    picture.load()
        except Exception as error:  # Pillow's decoders raise whatever they stumble over
            hint = "Give a picture (PNG, JPEG, BMP), a .wav, an .npz or .npy, or a folder of these."
            raise unreadable(DATA, path, error, hint) from error
        yield self._picture(path, 0, picture, single=True)

    def _picture(self, source: str, index: int, picture: Any, *, single: bool = False) -> Sample:
        codes = self.expect_pictures(source).encode(picture, source)
        return Sample(
            source,
            index,
            [codes],
            lambda: self.model.inputs[0].decode(codes),
            picture=picture,
            single=single,
        )

    def expect_pictures(self, source: str) -> Preparation:
        """Return what prepares pictures.

        Without a word about scaling a uint8 or int8 input takes the pixels themselves as codes,
        as models with integer input do by custom.
        """
        import numpy as np

        if self.preparation:
            return self.preparation
        model, tensor, spec = self.model, self.model.inputs[0], self.spec
        size = [*tensor.shape, 1][:4] if len(tensor.shape) in (3, 4) else None
        hears = (spec or {}).get("kind") == "log-mel"
        if hears or len(model.inputs) != 1 or size is None or size[3] not in (1, 3):
            raise RunnerError(
                DATA,
                f"{source} is a picture, and {model.path} takes none.",
                f"Its inputs: {', '.join(f'{t.name} {list(t.shape)}' for t in model.inputs)}.",
                f"Give {'a .wav, ' if hears else ''}an .npz or .npy.",
            )
        shape = {"kind": "image", "height": size[1], "width": size[2], "channels": size[3]}
        if spec is None and tensor.dtype.kind == "f":
            raise RunnerError(
                DATA,
                f"Nobody says how pixels are scaled for {model.path}.",
                "It has float input, no manifest beside it, and no metadata in it.",
                f"Put {os.path.basename(os.path.splitext(model.path)[0])}.json beside it.",
            )
        if spec is None or spec.get("kind") in ("none", "affine"):
            self.preparation = Preparation({**(spec or {}), **shape}, tensor)
        else:
            self.preparation = Preparation(spec, tensor)
        if spec is None and tensor.dtype in (np.uint8, np.int8):
            pixels = np.arange(256, dtype=np.uint8)[:, None]
            # The codes of int8 input are the pixels minus 128.
            signed = tensor.dtype == np.int8
            codes = (pixels ^ 128).view(np.int8) if signed else pixels
            self.preparation.tables[pixels.dtype] = codes
        return self.preparation

    def _windows(self, path: str) -> Iterator[Sample]:
        """Cut a recording into windows as long as the model hears; a short one is padded."""
        import wave
        from functools import partial

        import numpy as np

        spec, model = self.spec or {}, self.model
        if spec.get("kind") != "log-mel":
            raise RunnerError(
                DATA,
                f"{path} is a recording, and nobody says how {model.path} hears.",
                f"Its preprocessing is of kind {spec.get('kind', 'none')}, not log-mel.",
                "Put the manifest beside the model, or give prepared samples in an .npz.",
            )
        prepare = Preparation(spec, model.inputs[0])
        rate, length = spec["sample_rate"], spec["samples"]
        try:
            expect_file(path)
            with open(path, "rb") as stream:
                sound, frames = _open_wave(stream)
                found = (sound.getframerate(), sound.getnchannels(), 8 * sound.getsampwidth())
                if found != (rate, 1, 16):
                    raise RunnerError(
                        DATA,
                        f"{path} is not recorded as {model.path} hears.",
                        "Found {} Hz, {} channels, {} bit; wanted {} Hz, 1 channel, 16 bit.".format(
                            *found, rate
                        ),
                        f"Convert it: sox in.wav -r {rate} -c 1 -b 16 out.wav",
                    )
                # A recording that ends at once is one window of silence, as in training.
                count = max(1, frames // length)
                for index in range(count):
                    block = sound.readframes(length)
                    audio = np.frombuffer(block[: len(block) & ~1], "<i2").astype(np.int16)
                    codes = prepare.encode(audio, path)
                    yield Sample(
                        path,
                        index,
                        [codes],
                        partial(model.inputs[0].decode, codes),
                        single=count == 1,
                        extra={"start_s": round(index * length / rate, 4)},
                    )
        except (OSError, EOFError, RuntimeError, ValueError, wave.Error) as error:
            raise unreadable(DATA, path, error, "Give a PCM WAV of 16 bits.") from error

    def _frames(self) -> Iterator[Sample]:
        """Read raw uint8 frames from stdin, row by row, channels together, until it ends."""
        import numpy as np

        shape = self.frame or self._own_frame()
        size = shape[0] * shape[1] * shape[2]
        index = 0
        while True:
            try:
                block = sys.stdin.buffer.read(size)
            except (AttributeError, OSError) as error:  # closed, or a folder
                found = error if isinstance(error, OSError) else "It is closed."
                raise RunnerError(
                    DATA, "Cannot read stdin.", found, "Pipe raw uint8 pixels into it."
                ) from error
            if not block and index:
                return
            if not block:
                raise RunnerError(
                    DATA,
                    "stdin holds no frame.",
                    "It ended at once: look for an error of the program before the pipe.",
                    "Pipe raw uint8 pixels into it: edgekit_runner.py run --help tells how.",
                )
            if len(block) < size:
                raise RunnerError(
                    DATA,
                    f"stdin ends inside frame {index}.",
                    f"It gave {len(block)} of {size} bytes for a frame of "
                    f"{'x'.join(map(str, shape))}.",
                    "Check --frame HxWxC, and that pixels are uint8.",
                )
            yield self._picture("-", index, np.frombuffer(block, np.uint8).reshape(shape))
            index += 1

    def _own_frame(self) -> Sequence[int]:
        spec = self.expect_pictures("stdin").spec
        return spec["height"], spec["width"], spec.get("channels", 3)

    def _camera(self, name: str, number: int) -> Iterator[Sample]:
        self.expect_pictures(name)
        height, width = (self.frame or (480, 640))[:2]
        capture, close = open_camera(number, height, width)
        try:
            index = 0
            while True:
                yield self._picture(name, index, capture())
                index += 1
        finally:
            close()

    def watch(
        self, folder: str, every: float, known: dict[str, tuple[int, int]]
    ) -> Iterator[Sample]:
        """Wait for files to come into a folder, or to be replaced there.

        A file is taken when its size and time stand still from one look to the next. One that
        cannot be read is reported on stderr, and the watch goes on.

        Args:
            folder: The folder.
            every: Seconds from one look to the next.
            known: Size and time of the files that are not new, by name; kept up to date.
        """
        before = dict(known)
        while True:
            now = look_into(folder)
            for name in sorted(now):
                if now[name] != known.get(name) and now[name] == before.get(name):
                    known[name] = now[name]
                    try:
                        yield from self.file(os.path.join(folder, name))
                    except RunnerError as error:
                        if error.code != DATA:
                            raise
                        complain("\n".join(error.lines))
            for name in set(known) - set(now):
                del known[name]
            before = now
            time.sleep(every)


def _open_wave(stream: Any) -> tuple[Any, int]:
    """Return a reader of a recording, and its number of frames.

    Headers may claim more than there is: a recorder that was cut off, or a pipe, leaves 4 GB there.
    """
    import struct
    import wave

    try:
        sound = wave.open(stream)  # noqa: SIM115  the caller closes the stream
    except (ArithmeticError, struct.error) as error:  # a header that is cut off, or all zeros
        raise ValueError(f"Its header is damaged: {error}.") from error
    left = os.fstat(stream.fileno()).st_size - stream.tell()
    width = sound.getnchannels() * sound.getsampwidth()
    return sound, min(sound.getnframes(), left // width)


def list_inputs(folder: str) -> list[str]:
    """Return the names in a folder that `run` knows the endings of, sorted, hidden ones left out.

    Raises:
        RunnerError: The folder cannot be read (code 4).
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise unreadable(DATA, folder, error, "Give a folder.") from error
    endings = (*PICTURES, ".wav", *ARRAYS)
    return [name for name in names if name.lower().endswith(endings) and name[0] != "."]


def look_into(folder: str) -> dict[str, tuple[int, int]]:
    """Return size in bytes and time of change in nanoseconds of each file of `list_inputs`."""
    import stat

    found = {}
    for name in list_inputs(folder):
        try:
            status = os.stat(os.path.join(folder, name))
        except OSError:  # gone since the folder was read
            continue
        if stat.S_ISREG(status.st_mode):
            found[name] = (status.st_size, status.st_mtime_ns)
    return found


def open_camera(
    number: int, height: int, width: int
) -> tuple[Callable[[], Any], Callable[[], object]]:
    """Start a camera: picamera2 where it is installed, OpenCV otherwise.

    Returns:
        A function that takes a picture, uint8 `[height, width, 3]` in RGB order, and one that
        stops the camera.

    Raises:
        RunnerError: Neither library is installed, or the camera does not answer (code 7).
    """
    try:
        with DeferSigint():
            Picamera2 = __import__("picamera2").Picamera2  # noqa: N806  its own name
    except ImportError:
        return _open_video(number, height, width)
    try:
        camera = Picamera2(number)
        # libcamera names a format by the bytes of a little-endian word: this one is R, G, B.
        main = {"format": "BGR888", "size": (width, height)}
        camera.configure(camera.create_preview_configuration(main=main))
        camera.start()
    except Exception as error:  # IndexError without a camera, RuntimeError when it is in use
        raise _no_camera(number, error) from error

    def close() -> None:
        camera.stop()
        camera.close()

    return (lambda: camera.capture_array("main")), close


def _open_video(
    number: int, height: int, width: int
) -> tuple[Callable[[], Any], Callable[[], object]]:
    try:
        with DeferSigint():
            cv2 = __import__("cv2")
    except ImportError as error:
        raise RunnerError(
            DEVICE,
            "There is no library for the camera.",
            "Neither picamera2 nor OpenCV is installed where this Python looks.",
            "Raspberry Pi camera: sudo apt install python3-picamera2, and python3 -m venv "
            "--system-site-packages. USB: pip install opencv-python-headless",
        ) from error
    with Quiet():
        camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        raise _no_camera(number, "OpenCV cannot open it.")
    camera.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
    camera.set(cv2.CAP_PROP_FRAME_WIDTH, width)
    # What the driver has queued is old by the time that it is asked for.
    camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def capture() -> Any:
        good, picture = camera.read()
        if not good:
            raise _no_camera(number, "It gives no more pictures.")
        return picture[:, :, ::-1]  # OpenCV's order is B, G, R

    return capture, camera.release


def _no_camera(number: int, found: object) -> RunnerError:
    return RunnerError(
        DEVICE,
        f"Camera {number} does not answer.",
        found,
        "See what is connected: rpicam-hello --list-cameras, or ls /dev/video*; end other users.",
    )


def _pillow(path: str) -> Any:
    try:
        with DeferSigint():
            from PIL import Image
    except ImportError as error:
        raise RunnerError(
            DEVICE, f"Pillow is needed for {path}.", error, f"{_pip()} pillow"
        ) from error
    return Image


# --- Scores -------------------------------------------------------------------------------------


SCORED = ("classification", "regression", "reconstruction")


class Scorer:
    """Keeps the few numbers of each sample that a score is made of.

    Args:
        task: classification, regression or reconstruction.
        n: Number of samples.
        labels: Class names, for targets that are texts.

    Raises:
        RunnerError: The task is another one (code 4).
    """

    def __init__(self, task: str, n: int, labels: Sequence[str]) -> None:
        import numpy as np

        if task not in SCORED:
            raise RunnerError(
                DATA,
                f"eval cannot score {task}.",
                f"It scores {', '.join(SCORED)}.",
                "Keep the outputs unscored: --outputs F.npz, and a DATA.npz without targets.",
            )
        self.task = task
        self.labels = list(labels)
        self.first = np.zeros(n)
        self.second = np.zeros(n)

    def add(self, position: int, value: Callable[[], Any], output: Any, target: Any) -> None:
        """Judge one sample.

        Args:
            position: Which sample.
            value: Works out the prepared input, as real values.
            output: The dequantized output.
            target: A class, the value to be predicted, or 1 for an anomaly.

        Raises:
            ValueError: The target does not fit the output.
        """
        import numpy as np

        output = np.asarray(output, np.float64).ravel()
        if target.dtype.kind not in "fiubU" or not target.size:
            raise ValueError(f"{target.dtype} where a number is expected")
        if self.task == "classification":
            if target.dtype.kind == "U":
                target = np.asarray(self.labels.index(str(target)))
            target = _class(target, len(output))
            if len(output) == 1:
                self.first[position], self.second[position] = output[0], target
            else:
                self.first[position] = _rank(output, target)
            return
        if self.task == "reconstruction":
            if target not in (0, 1):
                raise ValueError(f"target {target} is neither 0 nor 1")
            wanted = np.asarray(value(), np.float64).ravel()
            self.second[position] = target
        else:
            wanted = np.asarray(target, np.float64).ravel()
        if wanted.shape != output.shape or not np.isfinite(wanted).all():
            raise ValueError(f"{len(wanted)} finite values wanted, output has {len(output)}")
        with np.errstate(over="ignore", invalid="ignore"):  # `score` refuses what overflows
            self.first[position] = np.mean((output - wanted) ** 2)
        if self.task == "regression":
            self.second[position] = np.mean(np.abs(output - wanted))

    def score(self, classes: int) -> dict[str, Any]:
        """Return metric, value, n, 95 % interval and further figures.

        One unit stands for two classes, split at 0.5 where all its values lie in [0, 1] (a
        sigmoid), else at 0 (a logit).

        Raises:
            RunnerError: The outputs are too large for a squared error (code 3).
        """
        import numpy as np

        n = len(self.first)
        extras = {}
        if self.task == "classification" and classes == 1:
            sigmoid = self.first.min() >= 0 and self.first.max() <= 1
            self.first = (self.first > (0.5 if sigmoid else 0)) != self.second
        elif self.task != "classification" and not np.isfinite(self.first).all():
            broken = int(n - np.isfinite(self.first).sum())
            raise RunnerError(
                MODEL,
                "The model has no score: its answers reach infinity.",
                f"So do {broken} of {n} samples.",
                "Check the ranges and weights of the model; convert it again.",
            )
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


def _class(target: Any, units: int) -> int:
    """Return the class that a target names, by its number or one-hot."""
    import numpy as np

    if np.size(target) > 1:
        target = np.argmax(target)
    elif not np.isfinite(target).all():
        raise ValueError(f"label {np.squeeze(target)}")
    number = int(np.squeeze(target))
    if not 0 <= number < max(2, units):
        raise ValueError(f"label {number} where the model has {max(2, units)} classes")
    return number


def _rank(scores: Any, target: int) -> int:
    """Return how many classes come before the target; the lower class wins a tie, as in argmax."""
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


SYSTEM_ROOT = ""  # the folder in which /sys, /proc and /dev are found


def _text(path: str) -> str:
    """Content of a file of the kernel, or nothing."""
    try:
        with open(SYSTEM_ROOT + path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip("\0\n ")
    except OSError:
        return ""


def _kernel_files(pattern: str) -> list[str]:
    """Return the paths that match, as `_text` takes them."""
    import glob

    return [path[len(SYSTEM_ROOT) :] for path in glob.glob(SYSTEM_ROOT + pattern)]


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
    ):
        value = _text(path)
        if value:
            found[key] = int(value) if value.lstrip("-").isdigit() else value
    flags = throttle_flags()
    return {**found, "throttled": flags} if flags else found


# Bits of the Raspberry Pi's flags: these tell of now, the same sixteen higher of since start-up.
THROTTLING = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


def throttle_flags() -> str:
    """Return the flags of a Raspberry Pi's firmware, in hexadecimal; nothing on other boards."""
    flags = _text("/sys/devices/platform/soc/soc:firmware/get_throttled")
    if not flags and _text("/proc/device-tree/model").startswith("Raspberry Pi"):
        import subprocess

        try:
            answer = subprocess.run(
                ["vcgencmd", "get_throttled"],
                stdout=subprocess.PIPE,
                stderr=subprocess.DEVNULL,
                timeout=5,
                check=False,
            )
            flags = answer.stdout.decode().strip().partition("=")[2]
        except (OSError, subprocess.SubprocessError):  # a system without the Pi's own tools
            return ""
    return flags


def throttling(flags: str, since_start: bool = False) -> list[str]:
    """Return what a Raspberry Pi's flags say, in words: of now, or of the time since start-up."""
    try:
        bits = int(flags or "0", 16) >> (16 if since_start else 0)
    except ValueError:
        return [flags]
    return [word for position, word in enumerate(THROTTLING) if bits >> position & 1]


def sensors() -> dict[str, Any]:
    """Return temperature_c, frequency_mhz and throttled: each None where the device has none."""
    zones = []
    for zone in _kernel_files("/sys/class/thermal/thermal_zone*"):
        value = _text(zone + "/temp")
        if value.lstrip("-").isdigit():
            kind = _text(zone + "/type").lower()
            processor = any(word in kind for word in ("cpu", "soc", "pkg"))
            zones.append((processor, int(value) / 1000))
    clocks = _kernel_files("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    cores = [int(_text(path) or 0) // 1000 for path in clocks]
    flags = throttle_flags()
    return {
        # The hottest zone of the processor, or of all where none says that it is one.
        "temperature_c": max(zones)[1] if zones else None,
        "frequency_mhz": max(cores) if cores else None,
        "throttled": throttling(flags) if flags else None,
    }


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
    now, once = throttling(throttled), throttling(throttled, since_start=True)
    if now or once:
        since = "" if now else " since it started"
        words = ", ".join(now or once)
        found.append(f"the board reports throttling or low voltage{since} ({words})")
    return found


def sustain(invoke: Callable[[], object], seconds: float) -> list[dict[str, Any]]:
    """Call without pause for so long, and read the sensors about every second.

    Returns:
        For each second (or 600th part of the time, if that is longer) the time since the start
        `t_s`, `p50_ms`, the number of calls `n`, and what `sensors` tells at its end.
    """
    step = max(1.0, seconds / 600)
    found: list[dict[str, Any]] = []
    start = time.perf_counter()
    passed = 0.0
    size = 1
    while passed < seconds:
        end = min(passed + step, seconds)
        values: list[int] = []
        while passed < end:
            values += time_runs(invoke, size)
            size = max(1, min(2000, BLOCK_NS // max(1, values[-1])))
            passed = time.perf_counter() - start
        found.append(
            {
                "t_s": round(passed, 2),
                "p50_ms": _median(values) / 1e6,
                "n": len(values),
                **sensors(),
            }
        )
        if sys.stderr.isatty():
            complain(f"\r{passed:.0f} of {seconds:.0f} s", end="")
    if sys.stderr.isatty():
        complain("")
    return found


def load_doubts(sustained: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return what sustained load did to a device that a short measurement does not show."""
    limits = sorted({word for entry in sustained for word in entry["throttled"] or []})
    found = [f"the board throttles under load ({', '.join(limits)})"] if limits else []
    if sustained:
        first, last = sustained[0]["p50_ms"], sustained[-1]["p50_ms"]
        if last > 1.1 * first:
            found.append(f"latency rose by {100 * (last - first) / first:.0f} % under load")
    return found


def time_end_to_end(
    model: Model, prepare: Callable[[], Sequence[Any]], seconds: float
) -> dict[str, Any]:
    """Time all that happens to one sample: preparing it, setting it, running, getting the outputs.

    Args:
        model: What runs it.
        prepare: Turns the raw sample into the codes of each input.
        seconds: For how long, after two rounds that do not count.

    Returns:
        `p50_ms`, `p90_ms`, `p99_ms` and `mean_ms` of the whole, `n`, and in `parts_ms` the
        median of each of prepare, set, invoke and get.
    """
    import numpy as np

    clock = time.perf_counter_ns
    rounds: list[list[int]] = []
    start = clock()
    while len(rounds) < 22 or clock() - start < seconds * 1e9:
        marks = [clock()]
        codes = prepare()
        marks.append(clock())
        model.feed(codes)
        marks.append(clock())
        model.invoke()
        marks.append(clock())
        for tensor in model.outputs:
            tensor.decode(model.interpreter.get_tensor(tensor.index))
        marks.append(clock())
        rounds.append(marks)
    table = np.diff(rounds[2:], axis=1) / 1e6
    whole = table.sum(1)
    p50, p90, p99 = (float(value) for value in np.percentile(whole, [50, 90, 99]))
    return {
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "mean_ms": float(whole.mean()),
        "n": len(whole),
        "parts_ms": dict(
            zip(("prepare", "set", "invoke", "get"), np.median(table, axis=0).tolist())
        ),
    }


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
        f"{machine['device']}, {machine['memory']}",
        machine["os"],
    ]
    if options.model:
        model = open_model(options, runtime)
        known = read_manifest(options.model)
        _try_once(model)
        facts.update(_file_facts(options))
        facts.update(
            inputs=[tensor.describe() for tensor in model.inputs],
            outputs=[tensor.describe() for tensor in model.outputs],
            signatures=model.signatures,
            preprocessing=known.get("preprocessing"),
            labels=known.get("labels"),
            origin=known["origin"],
        )
        lines = [
            f"{options.model}  {_size(facts['size_bytes'])}",
            *(f"  input {_words(tensor)}" for tensor in model.inputs),
            *(f"  output {_words(tensor)}" for tensor in model.outputs),
            f"  preprocessing: {_preprocessing_words(known)}",
            f"  labels: {_label_words(known)}",
            *lines,
        ]
    _print(facts if options.json else lines)


def _try_once(model: Model) -> None:
    """Run a model of unknown origin, so that a crash is told by whoever asks about it first.

    That it refuses random input, as a lookup of words may do, is no reason not to describe it.
    """
    if model.trial:
        try:
            model.feed(_random_inputs(model))
            model.invoke()
        except RunnerError:
            pass


def bench(options: Options) -> None:
    """Time single invocations."""
    runtime = find_runtime(options.runtime)
    before = conditions()
    model = open_model(options, runtime)
    model.expect_interface()
    import numpy as np

    prepare, sample = _bench_input(options.data, model)
    # Random codes where nothing else is asked for: what the figures of other tools are made on.
    codes = prepare() if options.data else _random_inputs(model)
    model.feed(codes)
    with Quiet():
        start = time.perf_counter_ns()
        model.invoke()
        first_ns = time.perf_counter_ns() - start
    values, warmup, settled = _measure(model, options)
    peak_bytes = peak_rss_bytes()
    after = conditions()
    reasons = doubts(
        values,
        settled=settled,
        threads=options.threads,
        throttled=str(after.get("throttled", "")),
    )
    whole = {**time_end_to_end(model, prepare, 0.5), "input": sample}
    sustained = sustain(model.interpreter.invoke, options.duration) if options.duration else []
    reasons += load_doubts(sustained)
    advice = "Stop other programs, let the board cool, or time more runs."
    warning = f"The timing may be unstable: {'; '.join(reasons)}. {advice}" if reasons else None
    n = len(values)
    p50, p90, p99 = (float(v) / 1e6 for v in np.percentile(values, [50, 90, 99]))
    machine = describe_device()
    facts: dict[str, Any] = {
        "schema": 1,
        "version": __version__,
        **_file_facts(options),
        "p50_ms": p50,
        "p90_ms": p90,
        "p99_ms": p99,
        "mean_ms": sum(values) / n / 1e6,
        "n": n,
        "threads": options.threads,
        "device": machine["device"],
        "runtime": str(runtime),
        "delegate": str(model.delegate) if model.delegate else None,
        "kernels": options.kernels,
        "peak_rss_bytes": peak_bytes,
        "cold_start_ns": {
            "import": runtime.import_ns,
            "load": model.load_ns,
            "allocate": model.allocate_ns,
            "first_invoke": first_ns,
        },
        "conditions": {"before": before, "after": after},
        "end_to_end": whole,
        **({"sustained": sustained} if sustained else {}),
        **({"sweep": sweep(options, runtime, codes)} if options.sweep else {}),
        "stable": not reasons,
        "warning": warning,
        "python": machine["python"],
        "numpy": np.__version__,
        "machine": machine,
        "values_ns": values,
        "warmup_ns": warmup,
    }
    cold = {key: value / 1e6 for key, value in facts["cold_start_ns"].items()}
    phases = [f"{key.replace('_', ' ')} {value:.1f}" for key, value in cold.items()]
    parts = [f"{key} {value:.3f}" for key, value in whole["parts_ms"].items()]
    lines = [
        f"{options.model}  {_size(facts['size_bytes'])}",
        f"{runtime} on {machine['device']}",
        *(_entry("delegate", str(model.delegate)) if model.delegate else []),
        *_entry(
            "one run",
            f"p50 {p50:.3f} ms",
            f"p90 {p90:.3f}",
            f"p99 {p99:.3f}",
            f"mean {facts['mean_ms']:.3f}",
            _count(n, "run"),
            _count(options.threads, "thread"),
        ),
        *_entry(
            "end to end",
            f"p50 {whole['p50_ms']:.3f} ms: {parts[0]}",
            *parts[1:],
            f"on {sample}",
        ),
        *_entry("cold start", f"{sum(cold.values()):.0f} ms: {phases[0]}", *phases[1:]),
        *_entry("memory", f"{_size(facts['peak_rss_bytes'])} at the most"),
        *(sustained_words(sustained) if sustained else []),
        *(sweep_words(facts["sweep"]) if options.sweep else []),
    ]
    _print(facts if options.json else lines)
    if reasons and not options.json:
        listed = [f"- {reason}" for reason in reasons]
        complain("\n".join(["The timing may be unstable:", *listed, advice]))


def _measure(model: Model, options: Options) -> tuple[list[int], list[int], bool]:
    """Return the nanoseconds of each timed call and of the warm-up, and whether it settled."""
    warmup, settled = warm_up(model.interpreter.invoke)
    n = options.runs
    if n is None:
        # Without --seconds: a second, but no fewer than 20 and no more than 10,000 runs.
        wanted = int((options.seconds or 1.0) * 1e9 / max(1, _median(warmup[-20:])))
        n = min(100_000, max(1, wanted)) if options.seconds else min(10_000, max(20, wanted))
    return time_runs(model.interpreter.invoke, n), warmup, settled


def sweep(options: Options, runtime: Runtime, codes: Sequence[Any]) -> list[dict[str, Any]]:
    """Time a model with and without XNNPACK, on one thread up to one for each core.

    Args:
        options: Those of `bench`.
        runtime: What runs it.
        codes: One array for each input.
    """
    import numpy as np

    rows = []
    for kernels in ("default", "builtin"):
        for threads in range(1, max(options.threads, _cores()) + 1):
            chosen = Options()
            # The file was tried already, with the kernels that were asked for.
            vars(chosen).update(vars(options), kernels=kernels, threads=threads, unknown=False)
            model = open_model(chosen, runtime)
            model.feed(codes)
            values, _, settled = _measure(model, options)
            p50, p90 = (float(value) / 1e6 for value in np.percentile(values, [50, 90]))
            reasons = doubts(values, settled=settled, threads=threads, throttled="")
            rows.append(
                {
                    "kernels": kernels,
                    "threads": threads,
                    "p50_ms": p50,
                    "p90_ms": p90,
                    "n": len(values),
                    "stable": not reasons,
                    "warning": "; ".join(reasons) or None,
                }
            )
    return rows


def sweep_words(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines that tell of a sweep."""
    names = {"default": "with XNNPACK", "builtin": "without"}
    best = min(row["p50_ms"] for row in rows)
    lines = [f"  {'sweep':10} {'kernels':12} {'threads':>7} {'p50 ms':>10} {'p90 ms':>10}"]
    for row in rows:
        marks = ["fastest"] if row["p50_ms"] == best else []
        marks += ["unsteady"] if row["warning"] else []
        lines.append(
            f"{'':12} {names[row['kernels']]:12} {row['threads']:7} {row['p50_ms']:10.3f} "
            f"{row['p90_ms']:10.3f}  {', '.join(marks)}".rstrip()
        )
    return lines


def sustained_words(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the lines that tell of a sustained load."""
    first, last = rows[0]["p50_ms"], rows[-1]["p50_ms"]
    change = f"{100 * (last - first) / first:+.0f} %"
    phrases = [
        f"sustained {rows[-1]['t_s']:.0f} s: p50 from {first:.3f} to {last:.3f} ms ({change})"
    ]
    for key, unit in (("temperature_c", "degrees C"), ("frequency_mhz", "MHz")):
        seen = [row[key] for row in rows if row[key] is not None]
        if seen:
            phrases.append(f"{seen[0]:.0f} to {seen[-1]:.0f} {unit}")
    slow = next((row for row in rows if row["throttled"]), None)
    if slow:
        phrases.append(f"{' and '.join(slow['throttled'])} from {slow['t_s']:.0f} s on")
    return _entry("load", *phrases)


def _bench_input(path: str | None, model: Model) -> tuple[Callable[[], Sequence[Any]], str]:
    """Return what prepares one raw sample again and again, and what the sample is, in words."""
    spec = read_manifest(model.path).get("preprocessing")
    source = Source(model, spec, None)
    if path and not path.lower().endswith(ARRAYS):
        return (lambda: next(source.file(path)).codes), f"{path}, read anew each time"
    if path:
        columns = source.columns(path)
        values: Sequence[Any] = next(zip(*(column.rows() for column in columns)))
        prepares, words = preparations(columns, spec, model), f"{path}, sample 0"
    else:
        values, words = _random_sample(model, spec)
        if words == RANDOM_PICTURE:
            prepares = [source.expect_pictures(model.path)]
        else:
            known = {} if words == RANDOM_CODES else spec or {}
            prepares = [Preparation(known, tensor) for tensor in model.inputs]

    def prepare() -> list[Any]:
        return [one.encode(value, f"{words},") for one, value in zip(prepares, values)]

    return prepare, words


RANDOM_CODES = "random, nothing to prepare"
RANDOM_PICTURE = "a random picture of 640 x 480"


def _random_sample(model: Model, spec: Mapping[str, Any] | None) -> tuple[Sequence[Any], str]:
    """Return raw random values for each input, and what they are, in words."""
    import numpy as np

    first, kind = model.inputs[0], spec["kind"] if spec else "none"
    with DeferSigint():  # numpy imports this part of itself when it is first named
        random = np.random.RandomState(0)
    if len(model.inputs) > 1:
        return _random_inputs(model), RANDOM_CODES
    if kind == "log-mel" and spec:
        audio = random.randint(-32768, 32768, spec["samples"], np.int16)
        return [audio], f"random audio, {spec['samples']} samples"
    colours = len(first.shape) == 4 and first.shape[3] == 3
    if kind == "image" or (colours and (spec or first.dtype.kind in "iu")):
        # As large as a camera's, since resizing is a good part of the work.
        return [random.randint(0, 256, (480, 640, 3), np.uint8)], RANDOM_PICTURE
    if kind == "affine":
        return [random.randint(0, 256, first.shape, np.uint8)], "random uint8"
    return _random_inputs(model), RANDOM_CODES


def _random_inputs(model: Model) -> list[Any]:
    import numpy as np

    with DeferSigint():  # numpy imports this part of itself when it is first named
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


SELFTEST = (
    "c-pmB32YSS75;a2c6WAWc4vGa*v1fpIec>3>;^DLR9Z|p+)Jtg3oNlEFw|bBkkYd2I7mrpkRlRNM5IIz;x<8~H8nYCAs"
    "h~nU<@QU1;^MF8;rphHom=m@Bja`O&e88tBmya{qxT|zxUq!vxJDMiQuK$H48AoZV+_fqC|)+5@G>v1`-uQOu&g<G1^c"
    "=P;`YV8dX&QX3=!2r&;Z~5gvo2PM;5R&BnNHH&8v@20}(nm#C0U*3pc~C{T{i8MmsG89)v<B;BrSU|-iY)e84EUB_@tn"
    "pvUt1;IuQin>Pijf$qT3<V7XHi}l=jM3=2Ot&pOEW4R9Sr*LHyU~jADXQ6yf{G6En3p8$1{Rl%ho{;QIL%}d1<W5&LwF"
    "R8;R7a_e_{bSlOmdE{#M;)q`RD%H72B5I7+ew#mu^Dqw(q@F(VSHEGU?_!KQ1dDcBgEifTdJi4_237Oe^kM57)=jXShc"
    "cmObwmru7+zg8PAi~yFT()eVXz<^{0P^`3$22G&%Pyh;;$!4eR0QhSLER#vn(Xt2znI|G~u2?7tCR!Miro-*8y?7OSeZ"
    "^jFXW5Iz-k1Kc+w05S>*ZJRui(e`LNTs?<9&h30(%DdKHMzvZp9s6Nr}(v&HcUCyK~p;z7xg!tKTm1`gWtji)-V-Th3E"
    "Ur(+1AB%X*wA}Y~gO-Lk(p&XI<8PHOoGmr+R_%+|dI==x}?g8q7R@e@-2VyUU{7WJC?XbTU$OE(mC=&F)K%{{7!w;gd9"
    "DYi`Ne!f)B(P^}EM(v+L?jYyNAw#5gfU}76uJwZ%gcXu^?LUPSJ6ff)eGgeQAXmrh%lB><j>Xteca{u<2|-PUjCLM&+3"
    "h?ZSDd(Ma#MDNx$DOalauzoAUBk7Zl}t@;13wKj$te%-ft#gh$K{#+#m!J|iWK3}5IUy-Re>e4(9%PcQq);+3nGJiTmn"
    "_TrqZMOisn<cHkOn&I40$37fC?j^8UpnGN>BkfM8R4A1YX{<90cb`o?@J24-`HEDFkZCE?(lI{7E_>;cmGKKV=R+PI_x"
    "coUeXuf8eLL(d0?GhN;<$>OHo5Zh3180#zz%|w`?%)*temq7;`Bg|KoSR`FOGuJmr(0A(90EA4|H;08vt)Qq`b~L_pzZ"
    "H_r3E*+eS<}2mSsi<|Yd3RzT&fhIsB*;(dU)uTNc<x@z+V&nDMaT4Mv3$pM|nQN7{yvx^Mp;B_!;7%~=)4Vo9|jIjPde"
    "Gk|Q#D+OoI7hj+hWvgj)3c&%Tn~#iiRUD7oWpsn*)C6Z(MAU@7v#ALv(~RCkHxL_JRbLgk+!4vhUo{MWb?ynDwC193g}"
    "pPY-WDH2=WeRCc^RlRL=;W(tqH&Hg%=DFxR!kJsj68po5?j`Ym|ky5&K!6R`~CvtfZ~IF^Pq-rqXK6ZbK0jbbZs0x^Su"
    "$7|%dnz%32Q7C6Kz@HnDzue36_yNyZ;xnF3^Kd~P8;cyc;7HT;I+%^k8;d+J<n(^kFN@sn=iTX}ax-$mc=q@H_q^?WEQ"
    "SOwAE>v+V;JRbcwPhc(Z&GScaECn?|Pxmn@+!@C2P<T(N^oY{%V7xA>!Jcu8ML;MIU?jVEx+XJUMHJEB^TtlfxQUoIbX"
    "rt7}K$l<kR2XYP7s;*Q$8W!E2-I}R1@n^$_kS5-Xse&Wwf3m5oagB)po0>#+G^TU}=`yVh4^f1QU33liIA9)9I-xNnOQ"
    "s)oNzI*BB?3`_lv%hM&Hp}zdW3x~7v)pl(9z_sxcqJjOxr78k@RKV2esu*Q7y3u$KpZs(@?*2gdQ|2(z7INUxV%ihp9}"
    "5IYntTLQlp$dO}9Ef9H%&E&6S<TJF(6?-A#^<!frUu?Wu5V+tB9t(*Vme27)wQtr;->V=y+ptSM;x&7q?;my$lc^67($"
    "Yw6+Eu9%KXA209T>GxSC2i^F~6Xv?`;4v+Y<vnFp6S`(vTLw;^y`cDl<?iODga_TRCd0J!N_imUcGcJ!pWhhUq?-rCxS"
    "MbFRQJ~1$!NV&7ZiOj?zpj|JtA5ml4ZK3?v}l3VRV`ja`WPciQ$!(N!kQC(iT=0-PjQK@RKUl_d)WNmiog}K1nTCQcs+"
    "lDh%EVNs#))*y?rT?ft#P_fE~2hm-Z-v9Yz~+1HiuhKn7Chm^i~RXt+Fxyva>Y@KJCPM&V<y!=r_WwW_G@>O3?ed*wgX"
    "?9D^*ju%2TJO?}X{C|jy|4MtM^9*<xZ;6ndR*Dnckg{RI4=6HB(w5%^4z8#*%x(Qi+%KPe0fLm7tMcr*A#bs;OtQ2oom"
    "fs&J?R7NLWLC!fx~Hizip4PUvWjG{4t>scT}&`6FkqcAgZb+NOjYZwxN29=|Wzr=F>gnP<tlAU#p{Uc;QGcOG8R4}QJs"
    ")bWtunxLoZv<}mWeJz7>RYPb0UbEafRSY{8`FBTsVrAkS=YiXYgZ}L6SoWhETJN6vYq3pt^yc#R*0}0pW%_3wyQY10Gb"
    "63IsXFoKgTW;eZ$uvQ4OEcWq~r;b<c_%)Rnp(p7x7JMSa-WVH9?I`mJa*0-%Z&&xlK!UlumiMH*;d+f^Yi%cr5fvM@Zt"
    "{f4;w_`+Cj6X4P=6e2C3)Jb(8{{45Tfp@G9Fa1QMO`CojGeU3J3E0Qu_`XDBA+>h1F+U54l#9UkE_>ys%M^?6GWJlFyI"
    "O9LhXlv}sc*W0pd=k)oSkH#ora}^9AlPSM?=<W!f^UYkz{`PxVgHby<(t6I7>S=lcrLjL@;tdI@RBO@xbi*hog~m)&HU"
    "Tz@ozC{)H#SJIes&khrg!jpB%!@SN1Lmd@IcOmhVt;)boH{m9Re>>_i{=Cj0mE2EO(kA`$7ce*wsv?oR"
)
# Kernels round differently: XNNPACK is up to 13 codes of 256 away from the reference after a
# softmax, and right all the same; a broken kernel is far away.
TOLERANCE = {"default": 16, "reference": 1}


def selftest(options: Options) -> None:
    """Run the model in this file, and compare with the answers that are known.

    Raises:
        RunnerError: The runtime gives others (code 7).
    """
    runtime = find_runtime(options.runtime)
    import base64
    import zlib

    import numpy as np

    packed = zlib.decompress(base64.b85decode("".join(SELFTEST)))
    pictures = np.frombuffer(packed[:640], np.uint8).reshape(10, 8, 8, 1).astype(np.float32) / 16
    known = np.frombuffer(packed[640:740], np.int8).reshape(10, 10).astype(int)
    results: list[dict[str, Any]] = []
    for kernels, tolerance in TOLERANCE.items():
        if kernels != "default" and runtime.resolvers is None:
            continue
        try:
            with Quiet():
                found = _classify(runtime, kernels, options.threads, packed[740:], pictures)
        except Exception as error:  # whatever a broken runtime may think of
            foreign = _load_error(error, "the model in this file", runtime)
            if foreign.code == DEVICE:
                raise foreign from error
            raise _broken("cannot run a sound model", error) from error
        right = int((found.argmax(1) == known.argmax(1)).sum())
        away = int(abs(found - known).max())
        results.append({"kernels": kernels, "right": right, "n": 10, "largest_difference": away})
        if right < 10 or away > tolerance:
            raise _broken(
                "calculates wrongly",
                f"{kernels.capitalize()} kernels: {right} of 10 right, up to {away} codes away.",
            )
    machine = describe_device()
    lines = [
        f"{runtime} works on {machine['device']}:",
        "a model that fails here is at fault itself.",
    ]
    for result in results:
        away = result["largest_difference"]
        words = f"up to {away} of 256 codes away" if away else "equal to the bit"
        lines.append(f"  {result['kernels']} kernels: 10 of 10 right, {words}")
    facts = {
        "schema": 1,
        "version": __version__,
        "working": True,
        "results": results,
        "runtime": str(runtime),
        "numpy": np.__version__,
        "machine": machine,
    }
    _print(facts if options.json else lines)


def _classify(runtime: Runtime, kernels: str, threads: int, content: bytes, pictures: Any) -> Any:
    """Return the output codes `[n, classes]` of a model for pictures `[n, h, w, 1]`."""
    import numpy as np

    interpreter = runtime.interpreter(
        model_content=content, num_threads=threads, **runtime.choose(kernels)
    )
    interpreter.allocate_tensors()
    (taken,), (given,) = interpreter.get_input_details(), interpreter.get_output_details()
    tensor = Tensor("pictures", taken)
    found = []
    for picture in pictures:
        interpreter.set_tensor(tensor.index, tensor.encode(picture))
        interpreter.invoke()
        found.append(interpreter.get_tensor(given["index"])[0].astype(int))
    return np.stack(found)


def _broken(how: str, found: object) -> RunnerError:
    return RunnerError(
        DEVICE,
        f"The runtime is broken: it {how}.",
        found,
        "Install it again, or another version or --runtime; models are not to blame.",
    )


def evaluate(options: Options) -> None:
    """Score a model on labelled data, and keep its outputs where asked to."""
    import math

    path = options.files[0]
    place = ""
    if options.outputs:
        inputs = [options.model, manifest_place(options.model), path]
        place = output_place(options.outputs, "--outputs", inputs, force=options.force)
    runtime = find_runtime(options.runtime)
    model = open_model(options, runtime)
    model.expect_interface()
    manifest = read_manifest(options.model)
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
        task = (manifest.get("data") or {}).get("task") or guess_task(model, targets)
        scorer = Scorer(task, n, manifest.get("labels") or [])
    rows = prepared(columns, manifest.get("preprocessing"), model, path)
    answers = _answers(
        model, path, zip(rows, targets.rows() if targets else iter([None] * n)), scorer
    )
    start = time.perf_counter()
    if place:
        try:
            with OutputFile(place, [tensor.name for tensor in model.outputs], n) as kept:
                for position, outputs in enumerate(answers):
                    kept.add(outputs)
                    _tick(position + 1, n)
        except OSError as error:
            raise RunnerError(
                USAGE,
                f"Cannot write {options.outputs}.",
                error,
                "Give another --outputs.",
            ) from error
    else:
        for position, _ in enumerate(answers):
            _tick(position + 1, n)
    seconds = time.perf_counter() - start
    facts = {
        "schema": 1,
        "version": __version__,
        **_file_facts(options),
        "score": scorer.score(math.prod(model.outputs[0].shape)) if scorer else None,
        "n": n,
        "seconds": seconds,
        "threads": options.threads,
        "runtime": str(runtime),
        "delegate": str(model.delegate) if model.delegate else None,
        "kernels": options.kernels,
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
    lines.append(f"  {seconds:.3f} s on {runtime}, {facts['device']}")
    if options.outputs:
        lines.append(f"Wrote {options.outputs}")
    _print(facts if options.json else lines)


def _answers(
    model: Model,
    path: str,
    rows: Iterator[tuple[tuple[list[Any], Callable[[], Any]], Any]],
    scorer: Scorer | None,
) -> Iterator[list[Any]]:
    """Yield the dequantized outputs for each prepared sample, and let the scorer judge them."""
    for position, ((codes, value), target) in enumerate(rows):
        model.feed(codes)
        model.invoke()
        outputs = model.results()
        if scorer:
            try:
                scorer.add(position, value, outputs[0], target)
            except ValueError as error:
                raise RunnerError(
                    DATA,
                    f"{path}, sample {position}, has a target that does not fit output "
                    f"{model.outputs[0].name!r}.",
                    error,
                    "Check y_test, and the task and labels in the manifest.",
                ) from error
        yield outputs


class OutputFile:
    """An `.npz` with every output as `[n, ...]` under its name, written sample by sample.

    Used in a `with`: the file appears whole at its end, or not at all.

    Args:
        path: The file.
        names: One for each output.
        n: Number of samples.
    """

    def __init__(self, path: str, names: Sequence[str], n: int) -> None:
        self.path = path
        self.names = names
        self.n = n
        self.parts: list[Any] = []

    def __enter__(self) -> Any:
        try:
            for position in range(len(self.names)):
                self.parts.append(open(self._part(position), "wb"))
        except BaseException:
            self._tidy()
            raise
        return self

    def add(self, values: Sequence[Any]) -> None:
        """Write the outputs for one sample."""
        from numpy.lib import format as npy

        for stream, value in zip(self.parts, values):
            if not stream.tell():
                header = {
                    "descr": npy.dtype_to_descr(value.dtype),
                    "fortran_order": False,
                    "shape": (self.n, *value.shape),
                }
                npy.write_array_header_1_0(stream, header)
            stream.write(value.tobytes())

    def __exit__(self, kind: object, *_: object) -> None:
        import zipfile

        whole = self._part(len(self.names))
        try:
            for stream in self.parts:
                stream.close()
            if kind is None:
                # Boards without a clock of their own start in 1970, which zip files do not know.
                with zipfile.ZipFile(whole, "w", strict_timestamps=False) as archive:
                    for position, name in enumerate(self.names):
                        archive.write(self._part(position), name + ".npy")
                os.replace(whole, self.path)
        finally:
            self._tidy()

    def _tidy(self) -> None:
        with DeferSigint():
            for position in range(len(self.names) + 1):
                if os.path.exists(self._part(position)):
                    os.remove(self._part(position))

    def _part(self, position: int) -> str:
        # A short name: that of the file may be as long as names can be.
        name = f"edgekit-{os.getpid()}-{position}.part"
        return os.path.join(os.path.dirname(self.path), name)


def run(options: Options) -> None:
    """Run a model on whatever comes and print one JSON line for each sample."""
    if not options.files and not options.watch:
        raise _usage("run needs an INPUT, or --watch FOLDER.", "", "run")
    model = open_model(options)
    model.expect_interface()
    manifest = read_manifest(options.model)
    labels = read_labels(options.labels) if options.labels else manifest.get("labels") or []
    answers = Answers(model, manifest, labels, options.top, options.threshold)
    source = Source(model, manifest.get("preprocessing"), options.frame)
    drawings = Drawings(options.draw, force=options.force) if options.draw else None
    stream = _all_samples(options, source)
    due = time.monotonic()
    try:
        for count, sample in enumerate(stream, 1):
            model.feed(sample.codes)
            with Quiet():
                start = time.perf_counter_ns()
                model.invoke()
                elapsed = time.perf_counter_ns() - start
            answer, class_map = answers.read(sample)
            line = {"source": sample.source, "index": sample.index, **sample.extra, **answer}
            if drawings:
                line["drawn"] = drawings.draw(sample, answer, class_map)
            line["invoke_ms"] = round(elapsed / 1e6, 4)
            _say(_line(line))
            tell_of_trial(options)
            if count == options.limit:
                break
            if options.every:
                due = max(due + options.every, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
    finally:
        stream.close()  # a camera is stopped by this


def _all_samples(options: Options, source: Source) -> Generator[Sample, None, None]:
    # What is in the watched folder now is not new; what comes while inputs are worked off is.
    known = look_into(options.watch) if options.watch else {}
    for name in options.files:
        yield from source.open(name)
    if options.watch:
        yield from source.watch(options.watch, min(options.every or WATCH_S, WATCH_S), known)


WATCH_S = 0.25


def _is_one_sample(column: Column, model: Model, spec: Mapping[str, Any]) -> bool:
    if spec.get("kind") == "log-mel":
        return len(column.shape) == 1
    return _bare(column.shape) == _bare(model.inputs[0].shape)


class Answers:
    """Reads what a model says: classes, a value, boxes, a map, or plain outputs.

    Args:
        model: The model.
        manifest: What is known of it; its task is guessed where it names none.
        labels: Class names.
        top: How many classes to tell.
        threshold: Boxes with lower scores are left out.
    """

    def __init__(
        self,
        model: Model,
        manifest: Mapping[str, Any],
        labels: Sequence[str],
        top: int,
        threshold: float,
    ) -> None:
        data = manifest.get("data") or {}
        self.model = model
        self.labels = labels
        self.top = top
        self.threshold = threshold
        self.task = data.get("task") or _spoken_task(model)
        self.unit = data.get("unit")
        self.spec = manifest.get("preprocessing") or {}

    def read(self, sample: Sample) -> tuple[dict[str, Any], Any]:
        """Return what the line of a sample says, and a map of classes `[h, w]` or None.

        Raises:
            RunnerError: The labels are not those of the model (code 4), or it answers NaN (3).
        """
        import numpy as np

        outputs = self.model.results()
        first = np.asarray(outputs[0])
        if self.task == "reconstruction":
            difference = np.asarray(sample.value(), np.float32).ravel() - first.ravel()
            return {"error": float(np.mean(difference**2))}, None
        if self.task == "classification" and first.size > 1:
            return {"top": self._classes(first.ravel())}, None
        if self.task == "detection" and _detection_order(self.model):
            return {"objects": self._objects(outputs, sample.picture)}, None
        if self.task == "segmentation" and first.ndim in (2, 3):
            class_map = class_of_pixels(first)
            return self._shares(class_map), class_map
        plain = {tensor.name: _json(out) for tensor, out in zip(self.model.outputs, outputs)}
        if self.task == "regression" and first.size == 1:
            unit = {"unit": self.unit} if self.unit else {}
            return {"value": _json(first.ravel()[0]), **unit, "outputs": plain}, None
        return {"outputs": plain}, None

    def _named(self, number: int) -> dict[str, Any]:
        known = number < len(self.labels) and self.labels[number]
        return {"class": number, **({"label": self.labels[number]} if known else {})}

    def _classes(self, scores: Any) -> list[dict[str, Any]]:
        import numpy as np

        if self.labels and len(self.labels) != len(scores):
            raise RunnerError(
                DATA,
                f"{len(self.labels)} labels do not fit {self.model.path}.",
                f"It has {len(scores)} outputs.",
                "Give the labels.txt that belongs to it: one label a line.",
            )
        order = np.argsort(-scores, kind="stable")[: self.top]
        return [{**self._named(int(k)), "score": _json(scores[k])} for k in order]

    def _objects(self, outputs: Sequence[Any], picture: Any) -> list[dict[str, Any]]:
        """Return boxes `[ymin, xmin, ymax, xmax]` as fractions of the whole picture."""
        boxes, classes, scores, count = (outputs[k] for k in _detection_order(self.model))
        height, width = picture_size(picture) if picture is not None else (1, 1)
        # A model that was shown a part of the picture only speaks of that part.
        part = seen_part(height, width, self.spec) if picture is not None else (0, 0, 1, 1)
        found = []
        boxes, classes, scores = boxes.reshape(-1, 4), classes.ravel(), scores.ravel()
        for box, number, score in list(zip(boxes, classes, scores))[: int(count.ravel()[0])]:
            if score >= self.threshold:
                edges = [
                    (part[k % 2] + float(edge) * part[2 + k % 2]) / (height, width)[k % 2]
                    for k, edge in enumerate(box)
                ]
                shown = [round(edge, 6) for edge in edges]
                found.append({"box": shown, **self._named(int(number)), "score": _json(score)})
        return found

    def _shares(self, class_map: Any) -> dict[str, Any]:
        import numpy as np

        numbers, counts = np.unique(class_map, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        shares = [
            {**self._named(int(numbers[k])), "share": round(int(counts[k]) / class_map.size, 6)}
            for k in order
        ]
        return {"size": list(class_map.shape), "classes": shares}


def _spoken_task(model: Model) -> str | None:
    """Return the task that the shapes of a model speak for, where no manifest names one."""
    if _detection_order(model):
        return "detection"
    shape, taken = model.outputs[0].shape, model.inputs[0].shape
    if len(model.outputs) > 1 or shape == taken:
        return None
    pixels = len(taken) == 4 and shape[:3] == taken[:3]
    if pixels and (len(shape) == 3 or (len(shape) == 4 and shape[3] > 3)):
        return "segmentation"
    return "classification" if len(shape) == 2 and shape[0] == 1 and shape[1] > 1 else None


def _detection_order(model: Model) -> list[int]:
    """Return where boxes, classes, scores and count are among the outputs; [] if they are not.

    The four outputs of the operator TFLite_Detection_PostProcess: boxes `[1, n, 4]`, classes and
    scores `[1, n]`, count `[1]`, in this order; TensorFlow 2 sorts them otherwise, and
    then scores come before classes.
    """
    tensors = model.outputs
    if len(tensors) != 4:
        return []
    names = [tensor.name for tensor in tensors]
    order = sorted(range(4), key=lambda k: names[k] if "output_" in names[k] else "")
    boxes = [k for k in order if len(tensors[k].shape) == 3 and tensors[k].shape[2] == 4]
    lists = [k for k in order if len(tensors[k].shape) == 2]
    counts = [k for k in order if len(tensors[k].shape) < 2]
    if (len(boxes), len(lists), len(counts)) != (1, 2, 1):
        return []
    return [*boxes, *(lists if order[3] == counts[0] else reversed(lists)), *counts]


def class_of_pixels(output: Any) -> Any:
    """Return `[h, w]` class numbers of a map `[h, w]`, or of scores `[h, w, classes]`.

    A single channel is the probability of class 1.
    """
    import numpy as np

    if output.ndim == 3 and output.shape[2] > 1:
        return np.argmax(output, axis=2)
    flat = output.reshape(output.shape[:2])
    return (flat > 0.5).astype(np.int64) if flat.dtype.kind == "f" else flat


def picture_size(picture: Any) -> tuple[int, int]:
    """Return height and width of a PIL image or an array."""
    if hasattr(picture, "convert"):
        return picture.height, picture.width
    return picture.shape[0], picture.shape[1]


def class_colours(count: int = 256) -> list[int]:
    """Return red, green and blue of each class, one after the other.

    The colours of PASCAL VOC: the bits of the class number, three by three, from the top of each
    channel down.
    """
    colours = []
    for number in range(count):
        for channel in range(3):
            bits = (((number >> (3 * k + channel)) & 1) << (7 - k) for k in range(3))
            colours.append(sum(bits))
    return colours


class Drawings:
    """Writes what a model saw into a folder, one PNG for each sample, whole or not at all.

    Args:
        folder: Made if it is not there.
        force: Replace what other runs left in it.
    """

    def __init__(self, folder: str, *, force: bool) -> None:
        self.folder = folder
        self.force = force
        self.used: dict[str, int] = {}
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> RunnerError:
        return RunnerError(
            USAGE, f"Cannot write into {self.folder}.", error, "Give another --draw."
        )

    def draw(self, sample: Sample, answer: Mapping[str, Any], class_map: Any) -> str:
        """Draw one sample; return the path of the file.

        Raises:
            RunnerError: There is nothing to draw on, or the file exists (code 2).
        """
        image = _pillow("--draw")
        if class_map is not None:
            if class_map.min() < 0 or class_map.max() > 255:
                raise RunnerError(USAGE, "--draw knows 256 classes.", f"Found {class_map.max()}.")
            picture = image.fromarray(class_map.astype("uint8"))
            # The values of the pixels stay the classes: a palette gives them their colours.
            picture.putpalette(class_colours())
        elif sample.picture is None:
            raise RunnerError(
                USAGE,
                f"There is no picture in {sample.source} to draw on.",
                "",
                "Leave --draw out, or give pictures.",
            )
        else:
            picture = _annotated(image, sample.picture, answer)
        path = self._place(sample)
        temporary = os.path.join(self.folder, f"edgekit-{os.getpid()}.part")
        try:
            picture.save(temporary, "PNG")
            os.replace(temporary, path)
        except OSError as error:
            raise self._unwritable(error) from error
        finally:
            with DeferSigint():
                if os.path.exists(temporary):
                    os.remove(temporary)
        return path

    def _place(self, sample: Sample) -> str:
        stem = os.path.splitext(os.path.basename(sample.source))[0].replace(":", "-")
        stem = "frame" if sample.source == "-" else stem
        # Room for a number and an ending, where names have 255 bytes.
        stem = os.fsdecode(os.fsencode(stem)[:200])
        if not sample.single:
            stem += f"-{sample.index:06d}"
        # Pictures from several folders may share a name.
        self.used[stem] = self.used.get(stem, 0) + 1
        name = stem if self.used[stem] == 1 else f"{stem}-{self.used[stem]}"
        path = os.path.join(self.folder, name + ".png")
        output_place(path, "--draw", [sample.source], force=self.force)
        return path


def _annotated(image: Any, picture: Any, answer: Mapping[str, Any]) -> Any:
    """Return a copy of a picture with boxes and their names, or with the answer in its corner."""
    import numpy as np
    from PIL import ImageDraw

    if hasattr(picture, "convert"):
        copy = picture.convert("RGB")
    else:
        pixels = np.ascontiguousarray(picture)
        copy = image.fromarray(pixels[:, :, 0] if pixels.shape[2] == 1 else pixels).convert("RGB")
    pen = ImageDraw.Draw(copy)
    size = max(10, min(copy.size) // 28)
    for thing in answer.get("objects", ()):
        top, left, bottom, right = thing["box"]
        number = thing["class"]
        colour = tuple(class_colours(number % 255 + 2)[-3:])
        corners = [
            (left * copy.width, top * copy.height),
            (right * copy.width, bottom * copy.height),
        ]
        if right > left and bottom > top:
            pen.rectangle(corners, outline=colour, width=max(2, size // 6))
        _write(pen, corners[0], f"{thing.get('label', number)} {thing['score']:.2f}", size, colour)
    words = [
        f"{item.get('label', item['class'])} {item['score']:.2f}" for item in answer.get("top", ())
    ]
    if "value" in answer:
        words = [f"{answer['value']:g} {answer.get('unit', '')}".strip()]
    for row, text in enumerate(words):
        _write(pen, (0, row * 1.4 * size), text, size, (0, 0, 0))
    return copy


def _write(pen: Any, corner: tuple[float, float], text: str, size: int, colour: Any) -> None:
    """Write on a plate of one colour, black or white, whichever is read more easily on it."""
    from PIL import ImageFont

    try:
        font = ImageFont.load_default(size)
    except TypeError:  # Pillow before 10.1 has one font of one size, and Latin letters only
        font = ImageFont.load_default()
        text = text.encode("latin-1", "replace").decode("latin-1")
    corner = (max(0.0, corner[0]), max(0.0, corner[1]))
    pen.rectangle(pen.textbbox(corner, text, font=font), fill=colour)
    light = 0.3 * colour[0] + 0.59 * colour[1] + 0.11 * colour[2] > 127
    pen.text(corner, text, font=font, fill=(0, 0, 0) if light else (255, 255, 255))


def _json(value: Any) -> Any:
    """Return nested lists; a float32 with the few digits that tell it from its neighbours."""
    import numpy as np

    if isinstance(value, np.ndarray) and value.ndim:
        return [_json(part) for part in value]
    return float(str(value)) if value.dtype.kind == "f" else value.item()


def parse_labels(text: str) -> list[str]:
    """Return one name a line; where every line begins with its class number, by that number."""
    lines = text.splitlines()
    pairs = [line.replace(":", " ", 1).split(None, 1) for line in lines if line.strip()]
    if not all(len(pair) == 2 and pair[0].isdecimal() and len(pair[0]) < 6 for pair in pairs):
        return lines
    labels = [""] * (1 + max((int(pair[0]) for pair in pairs), default=-1))
    for number, name in pairs:
        labels[int(number)] = name.strip()
    return labels


def read_labels(path: str) -> list[str]:
    """Return the lines of a label file.

    Raises:
        RunnerError: It cannot be read (code 4).
    """
    try:
        return parse_labels(read_text(path))
    except (OSError, ValueError) as error:
        raise unreadable(DATA, path, error, "Give a text file, one label a line.") from error


# --- Words --------------------------------------------------------------------------------------


def _print(answer: Any) -> None:
    if isinstance(answer, dict):
        _say(_line(answer))
    else:
        _say("\n".join(map(plain, answer)))


def _line(answer: dict[str, Any]) -> str:
    """Return JSON that the terminal can show; null stands for infinity, which it has no word for.

    Raises:
        RunnerError: What the manifest holds is nested too deeply (code 3).
    """
    import json

    try:
        try:
            text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
        except ValueError:
            answer = _finite(answer)
            text = json.dumps(answer, ensure_ascii=False)
        if not text.isprintable() or not _stdout_knows(text):
            text = json.dumps(answer).replace("\x7f", "\\u007f")
    except RecursionError as error:
        raise RunnerError(
            MODEL, "The manifest is nested too deeply.", error, "Move it away to run without."
        ) from error
    return text


def _stdout_knows(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(one) for one in value]
    # Infinity less itself is NaN.
    return None if isinstance(value, float) and value - value != 0 else value


def _say(text: str) -> None:
    """Print at once.

    Raises:
        RunnerError: stdout is a file on a full disk, for instance (code 2).
    """
    if sys.stdout is None:
        raise _deaf_stdout("It is closed.")
    try:
        if not _stdout_knows(text):
            text = text.encode("ascii", "backslashreplace").decode("ascii")
        print(text, flush=True)
    except BrokenPipeError:  # a reader that has seen enough is no error
        raise
    except OSError as error:
        raise _deaf_stdout(error) from error


def _deaf_stdout(found: object) -> RunnerError:
    hint = "Make room, or send it to another place."
    return RunnerError(USAGE, "Cannot write to stdout.", found, hint)


def _entry(name: str, *phrases: str) -> list[str]:
    """Return phrases after a name, with commas, in lines of 80; later ones are indented."""
    lines, line = [], f"  {name:10}"
    for position, phrase in enumerate(phrases):
        text = phrase if position == len(phrases) - 1 else phrase + ","
        if position and len(line) + 1 + len(text) > WIDTH:
            lines.append(line)
            line = " " * 12
        line += f" {text}"
    return [*lines, line]


WIDTH = 80


def _tick(done: int, n: int) -> None:
    """Show progress on a terminal, twenty times in all."""
    if done % max(1, n // 20) == 0 and sys.stderr.isatty():
        end = "\n" if done == n else ""
        complain(f"\r{done} of {n} samples", end=end)


def _file_facts(options: Options) -> dict[str, Any]:
    path = options.model
    digest = options.sha256 or sha256_of(path)
    return {"model": path, "sha256": digest, "size_bytes": os.path.getsize(path)}


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
        sign = "-" if tensor.zero_point > 0 else "+"
        code = f"(code {sign} {abs(tensor.zero_point)})" if tensor.zero_point else "code"
        codes = f", real = {tensor.scale:.6g} * {code}"
    return f"{tensor.name}: {tensor.dtype.name} {shape}{codes}"


def _preprocessing_words(known: Mapping[str, Any]) -> str:
    spec = known.get("preprocessing")
    if spec is None:
        return "nobody says (no manifest beside the model, no metadata in it)"
    values = [str(spec.get("kind"))] + [f"{key} {spec[key]}" for key in spec if key != "kind"]
    return f"{', '.join(values)} (from the {known['origin']['preprocessing']})"


def _label_words(known: Mapping[str, Any]) -> str:
    labels = known.get("labels")
    return f"{len(labels)} (from the {known['origin']['labels']})" if labels else "none"


# --- Command line -------------------------------------------------------------------------------
# By hand: importing argparse and building its parsers takes a tenth of the time of a short run.

HELP = """\
usage: edgekit_runner.py COMMAND MODEL [FILE...] [OPTIONS]

Run, time and score TFLite models on this device.

commands:
  info  [MODEL]         inputs, outputs, runtime and device
  bench MODEL           latency, cold start and memory
  eval  MODEL DATA      score on an .npz with x_test, y_test or inputs, targets
  run   MODEL INPUT...  a JSON line for each picture, sound, sample or frame
  selftest              whether the runtime works: a small model, known answers

options:
  COMMAND --help        all options of a command
  --version

example: edgekit_runner.py run model.tflite photo.jpg
exit codes: 0 done, 2 usage, 3 model, 4 data, 7 device, 130 interrupted
"""

LOADING_HELP = """\
  --threads N           default: 1
  --runtime NAME        litert, tflite or tensorflow; default: first installed
  --kernels NAME        default, builtin (no XNNPACK), reference (slow, exact)
  --delegate NAME       edgetpu, usb, pci, usb:0, pci:0, or a library's path;
                        its options: --delegate-option KEY=VALUE
  --trusted             no child process for a file without its manifest
"""

# `COMMAND --help`: every option of that command, on one screen of 24 lines of 80.
PAGES = {
    "info": f"""\
usage: edgekit_runner.py info [MODEL] [OPTIONS]

What a model takes and gives, or, without a model, what this device has.

  --json                JSON on stdout
{LOADING_HELP.partition(chr(10))[2]}
example: edgekit_runner.py info model.tflite
""",
    "bench": f"""\
usage: edgekit_runner.py bench MODEL [OPTIONS]

Time single invocations: latency, cold start and memory.

  --runs N              invocations to time; or for how long: --seconds S
  --data FILE           feed the first sample of FILE, not random numbers
  --duration S          then load it for S seconds: temperature, throttling
  --sweep               with and without XNNPACK, on 1 thread to one a core
  --json                JSON on stdout
{LOADING_HELP}
example: edgekit_runner.py bench model.tflite --duration 60
""",
    "eval": f"""\
usage: edgekit_runner.py eval MODEL DATA.npz [OPTIONS]

Score on x_test and y_test (raw samples) or inputs and targets (prepared ones).

  --outputs FILE        write dequantized outputs; --force replaces FILE
  --json                JSON on stdout
{LOADING_HELP}
example: edgekit_runner.py eval model.tflite test.npz
""",
    "run": f"""\
usage: edgekit_runner.py run MODEL INPUT... [OPTIONS]

One JSON line for each sample. An INPUT is a picture, a WAV, an .npz or .npy,
a folder of these, camera or camera:1, or - for raw uint8 frames on stdin.

  --watch FOLDER        then wait for files to come into FOLDER, each once
  --every SECONDS       no sample sooner than this after the one before
  --limit N             stop after N samples
  --frame HxWxC         size of a raw frame, or of the camera's pictures
  --draw DIR            write pictures with boxes or labels, or maps of classes;
                        --force replaces what is in DIR
  --labels FILE         class names, one a line; default: those of the model
  --top K               classes to print; default: 5
  --threshold SCORE     least score of a box; default: 0.5
{LOADING_HELP}
example: edgekit_runner.py run model.tflite camera --every 1 --draw seen
""",
    "selftest": """\
usage: edgekit_runner.py selftest [OPTIONS]

Run a small model with known answers: is the runtime broken, or a model?

  --runtime NAME        litert, tflite or tensorflow; default: first installed
  --threads N           default: 1
  --json                JSON on stdout

example: edgekit_runner.py selftest
""",
}

# Numbers: their kind, the least and the greatest.
VALUES: dict[str, tuple[Callable[[str], float], int, int]] = {
    "runs": (int, 1, 1_000_000),
    "seconds": (float, 0, 1_000_000),
    "duration": (float, 0, 1_000_000),
    "threads": (int, 1, 256),
    "top": (int, 1, 1_000_000),
    "threshold": (float, 0, 1),
    "every": (float, 0, 1_000_000),
    "limit": (int, 1, 1_000_000_000),
}


class Options:
    """What a command line says; the values here are the defaults."""

    model = ""
    files: Sequence[str] = ()
    runtime: str | None = None
    threads = 1
    json = False
    kernels = "default"
    delegate: str | None = None
    delegate_option: Sequence[str] = ()
    runs: int | None = None
    seconds: float | None = None
    duration: float | None = None
    sweep = False
    data: str | None = None
    outputs: str | None = None
    force = False
    labels: str | None = None
    top = 5
    threshold = 0.5
    watch: str | None = None
    every: float | None = None
    limit: int | None = None
    frame: tuple[int, ...] | None = None
    draw: str | None = None
    trusted = False
    # Found out, not given: the digest of the model, and whether it comes without its manifest.
    sha256 = ""
    unknown = False


LOADING = ("runtime", "kernels", "delegate", "delegate-option", "trusted")
RUN_OPTIONS = (
    "watch", "every", "limit", "frame", "draw", "force", "labels", "top", "threshold",
)  # fmt: skip
COMMANDS: dict[str, tuple[Callable[[Options], None], int, int, tuple[str, ...]]] = {
    # function, fewest and most files, options
    "info": (info, 0, 1, (*LOADING, "json")),
    "bench": (
        bench,
        1,
        1,
        (*LOADING, "threads", "json", "runs", "seconds", "data", "duration", "sweep"),
    ),
    "eval": (evaluate, 2, 2, (*LOADING, "threads", "json", "outputs", "force")),
    "run": (run, 1, sys.maxsize, (*LOADING, "threads", *RUN_OPTIONS)),
    "selftest": (selftest, 0, 0, ("runtime", "threads", "json")),
}


def parse(words: Sequence[str]) -> tuple[Callable[[Options], None], Options]:
    """Return the command that a command line names, and its options.

    Raises:
        RunnerError: It means nothing (code 2).
    """
    verb, *rest = words or [""]
    if verb not in COMMANDS:
        what = f"{verb!r} is no command." if verb else "No command is given."
        raise _usage(what, f"Commands: {', '.join(COMMANDS)}.")
    function, fewest, most, known = COMMANDS[verb]
    options = Options()
    files: list[str] = []
    while rest:
        word = rest.pop(0)
        if word == "--":
            files += rest
            break
        if word == "-" or not word.startswith("-"):
            files.append(word)
            continue
        name, equals, text = word[2:].partition("=")
        attribute = name.replace("-", "_")
        if not word.startswith("--") or name not in known:
            raise _usage(f"{verb} has no option {word}.", _closest(word, known), verb)
        if isinstance(getattr(options, attribute), bool):
            if equals:
                raise _usage(f"--{name} takes no value.", f"Found {text!r}.", verb)
            setattr(options, attribute, True)
            continue
        if not equals and (not rest or rest[0].startswith("--")):
            raise _usage(f"--{name} needs a value.", "", verb)
        value = _value(name, text if equals else rest.pop(0), verb)
        if name == "delegate-option":
            value = (*options.delegate_option, value)
        setattr(options, attribute, value)
    if not fewest <= len(files) <= most:
        what = f"{verb} takes other files than these." if files else f"{verb} needs a file."
        found = f"Found {' '.join(files)}." if files else ""
        raise RunnerError(USAGE, what, found, f"U{PAGES[verb].splitlines()[0][1:]}")
    if options.delegate_option and not options.delegate:
        raise _usage("--delegate-option belongs to a --delegate.", "", verb)
    if options.runs and options.seconds:
        raise _usage("--runs and --seconds exclude each other.", "", verb)
    options.model, options.files = "".join(files[:1]), files[1:]
    return function, options


def _closest(word: str, known: Sequence[str]) -> str:
    import difflib

    options = [f"--{name}" for name in known]
    near = difflib.get_close_matches(word.partition("=")[0], options, 1)
    return f"Did you mean {near[0]}?" if near else f"Options: {', '.join(options)}."


def _value(name: str, text: str, verb: str) -> Any:
    if name == "runtime" and text not in RUNTIMES:
        raise _usage(f"There is no runtime {text!r}.", f"Runtimes: {', '.join(RUNTIMES)}.", verb)
    if name == "kernels" and text not in KERNELS:
        raise _usage(f"There are no kernels {text!r}.", f"Kernels: {', '.join(KERNELS)}.", verb)
    if name == "delegate-option" and not text.partition("=")[1]:
        raise _usage("--delegate-option is KEY=VALUE.", f"Found {text!r}.", verb)
    if name == "delegate":
        kind, _, number = text.partition(":")
        numbered = number.isdecimal() and len(number) < 6
        if not (kind in EDGE_TPU and (kind == text or numbered)) and "." not in text:
            raise _usage(
                f"There is no delegate {text!r}.",
                "Delegates: edgetpu, usb, pci, usb:0 and the like, or the path of a library.",
                verb,
            )
    if name == "frame":
        digits = [size for size in text.split("x") if size.isdecimal() and len(size) < 6]
        sizes = tuple(int(size) for size in digits if int(size))
        wrong = text != "x".join(map(str, sizes)) or len(sizes) != 3 or sizes[2] not in (1, 3)
        if wrong or max(sizes) > 1 << 14:
            raise _usage(
                "--frame is HxWxC: height and width up to 16384, and 1 or 3 channels.",
                f"Found {text!r}.",
                verb,
            )
        return sizes
    if name not in VALUES:
        return text
    kind_of, lowest, highest = VALUES[name]
    try:
        value = kind_of(text)
    except ValueError:
        value = -1
    # A duration of 0 is none; a threshold of 0 lets everything through.
    if not lowest <= value <= highest or (value == 0 and name != "threshold"):
        words = "a whole number" if kind_of is int else "a number"
        least = "more than 0" if lowest == 0 and name != "threshold" else f"{lowest} or more"
        raise _usage(
            f"--{name} is {words}, {least}, {highest} at the most.", f"Found {text!r}.", verb
        )
    return value


def _usage(what: str, found: str = "", verb: str = "") -> RunnerError:
    page = f"edgekit_runner.py {verb} --help".replace("  ", " ")
    return RunnerError(USAGE, what, found, f"See {page}")


def supervise(command: Callable[[Options], None], options: Options) -> int:
    """Run a command in a child process, so that a crash becomes an error in words.

    Args:
        command: What native code may kill: the self-test of a runtime, or anything that loads a
            delegate or a model of unknown origin.
        options: Its options.

    Returns:
        The exit code of the child.

    Raises:
        RunnerError: A signal ended it (code 3 for a model of unknown origin, otherwise 7).
    """
    module, stops = _stops()
    child = 0
    early: list[int] = []

    def forward(number: int, _: object) -> None:
        if child:
            os.kill(child, number)
        else:
            early.append(number)

    # Set before the fork: whatever arrives meanwhile is the child's, and told once.
    before = {stop: module.getsignal(stop) for stop in stops}
    caught = [stop for stop in stops if before[stop] != module.SIG_IGN]
    for stop in caught:
        module.signal(stop, forward)
    if sys.stdout:
        sys.stdout.flush()
    child = os.fork()
    if child == 0:
        early.clear()
        # A group of its own: Ctrl-C reaches it once, through its parent.
        os.setpgid(0, 0)
        _die_with_parent()

        def work() -> None:
            for stop in caught:
                module.signal(stop, before[stop])
            for stop in early:
                before[stop](stop, None)
            command(options)
            tell_of_trial(options)

        code = _answer_for(work)
        _flush_stderr()
        os._exit(code)
    for stop in early:
        os.kill(child, stop)
    _, status = os.waitpid(child, 0)
    for stop in caught:
        module.signal(stop, before[stop])
    if not os.WIFSIGNALED(status):
        return os.WEXITSTATUS(status)
    number = os.WTERMSIG(status)
    if number in stops:
        return 128 + number
    raise _death(options, number)


def _death(options: Options, number: int) -> RunnerError:
    """Say that a signal ended the child process."""
    import signal

    name = signal.Signals(number).name
    if options.delegate:
        return delegate_mismatch(options.delegate, f"The process was ended by {name}.")
    if not options.unknown:
        return _broken("crashes", f"The process was ended by {name}.")
    found = "It has no manifest with its digest: tried in a child process, which {} ended.".format
    hint = "The file is damaged, or holds what the runtime cannot run: copy or convert it again."
    if name == "SIGALRM":
        return RunnerError(
            MODEL,
            f"{options.model} does not finish its first run in {TRIAL_S} s.",
            found(name),
            "Add --trusted to wait for it: a damaged file may never end.",
        )
    if name == "SIGKILL":
        hint = "The system may have run out of memory: close other programs and try again."
    return RunnerError(MODEL, f"{options.model} crashes the runtime.", found(name), hint)


def _keep_stderr() -> None:
    """Leave stderr to Python alone: native code announces its crashes on file descriptor 2."""
    kept = os.dup(2)
    known = sys.stderr.encoding
    sys.stderr = open(kept, "w", 1, known, "backslashreplace")  # noqa: SIM115  until the end
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)


def _die_with_parent() -> None:
    """Let the kernel end this process with its parent, where there is such a thing."""
    if sys.platform == "linux":
        import ctypes
        import signal

        parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


def main(words: Sequence[str]) -> int:
    """Run one command line, without the program's name; return its exit code."""

    def work() -> int:
        if "--version" in words[:1]:
            _say(f"edgekit_runner {__version__}")
        elif {"-h", "--help"} & set(words):
            _say(PAGES.get(words[0], HELP)[:-1])
        else:
            command, options = parse(words)
            isolate = command is selftest or bool(options.delegate)
            if options.model and not isolate and not options.trusted and hasattr(os, "fork"):
                isolate = options.unknown = of_unknown_origin(options)
            if isolate:
                return supervise(command, options)
            command(options)
        return 0

    _fill_streams()
    module, stops = _stops()
    before = {stop: module.getsignal(stop) for stop in stops}
    try:
        for stop in (module.SIGTERM, module.SIGHUP):
            if before[stop] == module.SIG_DFL:  # nohup ignores SIGHUP: that stays
                module.signal(stop, _stop)
        return _answer_for(work)
    finally:
        for stop in stops:
            if before[stop] is not None:
                module.signal(stop, before[stop])


def _answer_for(work: Callable[[], int | None]) -> int:
    """Do it; return its exit code, and say on stderr what went wrong."""
    module, stops = _stops()
    try:
        return work() or 0
    except RunnerError as error:
        complain("\n".join(error.lines))
        return error.code
    except KeyboardInterrupt as error:
        for stop in stops:  # once is enough
            module.signal(stop, module.SIG_IGN)
        complain("Interrupted.")
        return 128 + error.number if isinstance(error, Stopped) else INTERRUPTED
    except MemoryError:
        complain("There is not enough memory.\nClose other programs, or take smaller data.")
        return DEVICE
    except BrokenPipeError:
        # The reader has seen enough (`| head`); what is still buffered must go nowhere.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    _flush_stderr()
    # Without tearing the interpreter down: it takes time, and a heap that a broken model
    # corrupted would abort a finished run.
    os._exit(code)

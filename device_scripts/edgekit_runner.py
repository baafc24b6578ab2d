#!/usr/bin/env python3
"""Run, time and score TFLite models on an edge device.

One file. It needs Python 3.8 or newer, numpy, and one TFLite runtime: ai-edge-litert,
tflite-runtime or tensorflow. Pillow is needed to decode pictures only. The manifest beside a model
(`model.json` beside `model.tflite`) holds its preprocessing and labels; edgekit imports the
preprocessing from here, so that host and device preprocess input alike.

numpy is imported inside functions: `--help`, `--version` and a host that only needs the path of
this file do not load it, and `bench` measures the import.

Sections, each under a line `# --- Name ---`:

    Errors                  exit codes, and the error that a user sees
    Command line            help pages, options and their parsing
    Command info            inputs and outputs of a model, runtime and device
    Command bench           latency, end to end and under load; cold start, memory
    Command eval            scoring labelled data, writing outputs
    Scores                  metrics and their 95 % intervals, as on the host
    Command run             one JSON line for each sample
    Drawing                 annotated pictures, for `run --draw`
    Command selftest        a small model with known outputs
    Runtimes                finding and importing a TFLite runtime
    Delegates               Edge TPUs and other delegate libraries
    Models                  a loaded model, its tensors, errors of loading
    Manifests and metadata  preprocessing and labels of a model
    Inputs                  samples from files, folders, stdin and cameras
    Arrays                  .npz and .npy files, read row by row
    Preprocessing           from raw samples to model input
    Device                  processor, clock, temperature, throttling, memory
    Files                   checked reading and writing
    Output                  text and JSON on stdout, messages on stderr
    Processes and signals   signals, native stderr, child processes
    Main                    from the command line to the exit code
"""

# ruff: noqa: B905  zip(strict=...) came with Python 3.10
from __future__ import annotations

import os
import sys
import time


def _interrupted_early(number: int, _: object) -> None:
    """Answer Ctrl-C until `main` does: without a traceback, and with the same words and code."""
    try:
        os.write(2, b"Interrupted.\n")
    finally:
        os._exit(128 + number)


if __name__ == "__main__":
    _signal = __import__("_signal")  # the C module behind `signal`, which is loaded already
    if _signal.getsignal(_signal.SIGINT) is _signal.default_int_handler:  # not with nohup or &
        _signal.signal(_signal.SIGINT, _interrupted_early)

TYPE_CHECKING = False  # as typing.TYPE_CHECKING, without importing typing, which takes time
if TYPE_CHECKING:
    from collections.abc import Generator, Iterator, Mapping, Sequence
    from typing import Any, Callable

__version__ = "0.1.0"


# --- Errors ---------------------------------------------------------------------------------------
# Exit codes, and the error that a user sees.

USAGE, MODEL, DATA, DEVICE, INTERRUPTED = 2, 3, 4, 7, 130


class RunnerError(Exception):
    """What failed, what was found, and what to do next; `code` is the exit code."""

    def __init__(self, code: int, what: str, found: object = "", hint: str = "") -> None:
        super().__init__(what)
        self.code = code
        if isinstance(found, OSError) and found.strerror:
            found = found.strerror
        # Messages of other libraries may have many lines; the first one says what is wrong.
        lines = [what, *str(found).strip().splitlines()[:1], *([hint] if hint else [])]
        self.lines = [plain(line) for line in lines]


# Longer names and lines are shortened in the middle.
NAME_LENGTH, LINE_LENGTH = 160, 500


def plain(line: str) -> str:
    """Return a line without control characters, shortened in the middle if it is too long."""
    if not line.isprintable():
        line = "".join(char if char.isprintable() else ascii(char)[1:-1] for char in line)
    if len(line) > NAME_LENGTH:
        line = " ".join(_shorten(word, NAME_LENGTH) for word in line.split(" "))
    return _shorten(line, LINE_LENGTH)


def _shorten(text: str, length: int) -> str:
    half = (length - 3) // 2
    return text if len(text) <= length else f"{text[:half]}...{text[-half:]}"


class FileError(RunnerError):
    """A file that cannot be read; `reason` says in a few words why."""

    reason = ""


def read_error(code: int, path: str, error: Exception, hint: str) -> FileError:
    """Return the error for a file that cannot be read; a missing file gets its own hint."""
    reason = (isinstance(error, OSError) and error.strerror) or str(error)
    if isinstance(error, FileNotFoundError):
        reason = "broken link" if os.path.islink(path) else reason
        try:
            hint = f"Check its name: paths begin at {os.getcwd()}."
        except OSError:
            hint = "The current folder is gone: change to another one."
    failure = FileError(code, f"Cannot read {path}.", error, hint)
    failure.reason = reason.strip().split("\n")[0]
    return failure


def left_out_note(left_out: Sequence[tuple[str, str]], total: int, place: str) -> str:
    """Return the sentence that counts and names the files that are not used.

    `left_out_note([("red/0.png", "empty")], 60, "test")` is "1 of 60 files in test was left out:
    red/0.png (empty)."
    """
    named = [f"{name} ({reason})" for name, reason in left_out[:3]]
    more = [f"and {len(left_out) - 3} more"] if len(left_out) > 3 else []
    were = "was" if len(left_out) == 1 else "were"
    return (
        f"{len(left_out)} of {_plural(total, 'file')} in {place} {were} left out: "
        f"{', '.join([*named, *more])}."
    )


def delegate_mismatch(delegate: object, found: str) -> RunnerError:
    """Return the error for a delegate library that was built for another runtime version."""
    return RunnerError(
        DEVICE,
        f"--delegate {delegate} does not work with this runtime.",
        found,
        "Both must come from one TensorFlow version: install the libedgetpu or runtime that fits.",
    )


# --- Command line ---------------------------------------------------------------------------------
# Help pages, options and their parsing. By hand: importing argparse and building its parsers
# takes a tenth of the time of a short run.

HELP = """\
usage: edgekit_runner.py COMMAND MODEL [FILE...] [OPTIONS]

Run, time and score TFLite models on this device.

commands:
  info  [MODEL]         inputs, outputs, runtime and device
  bench MODEL           latency, cold start and memory
  eval  MODEL DATA      score on an .npz with x_test, y_test or inputs, targets
  run   MODEL INPUT...  a JSON line for each picture, recording or sample
  selftest              check the runtime with a small model

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
  --first-run-limit S   seconds; default: 60 for a file without a manifest
  --trusted             no child process for a file without a manifest
"""
# `COMMAND --help`: every option of that command, on one screen of 24 lines of 80.
PAGES = {
    "info": f"""\
usage: edgekit_runner.py info [MODEL] [OPTIONS]

Inputs and outputs of a model, and the runtime and device.

  --json                JSON on stdout
{LOADING_HELP.partition(chr(10))[2]}
example: edgekit_runner.py info model.tflite
""",
    "bench": f"""\
usage: edgekit_runner.py bench MODEL [OPTIONS]

Time single invocations: latency, cold start and memory.

  --runs N              invocations to time; or for how long: --seconds S
  --data FILE           feed the first sample of FILE, not random numbers
  --duration S          sustained load for S seconds: does it throttle?
  --sweep               with and without XNNPACK, for each thread count
  --json                JSON on stdout
{LOADING_HELP}
example: edgekit_runner.py bench model.tflite --duration 60
""",
    "eval": f"""\
usage: edgekit_runner.py eval MODEL DATA.npz [OPTIONS]

Score on x_test and y_test (raw samples) or inputs and targets (prepared ones).

  --metric NAME         what the score is: f1; default: by task and classes
  --outputs FILE        write dequantized outputs; --force replaces FILE
  --json                JSON on stdout
{LOADING_HELP}
example: edgekit_runner.py eval model.tflite test.npz
""",
    "run": f"""\
usage: edgekit_runner.py run MODEL INPUT... [OPTIONS]

One JSON line for each sample. An INPUT is a picture, a WAV, an .npz or .npy,
a folder of these, camera or camera:1, or - for raw uint8 frames on stdin.

  --watch FOLDER        then process files that are added to FOLDER
  --every SECONDS       minimum interval between samples
  --limit N             stop after N samples
  --frame HxWxC         size of a raw frame, or of the camera's pictures
  --draw DIR            write annotated pictures or class maps as PNG files;
                        --force replaces what is in DIR
  --labels FILE         class names, one a line; default: the manifest's
  --top K               classes to print; default: 5
  --threshold SCORE     minimum score of a box or a label; default: 0.5
{LOADING_HELP}
example: edgekit_runner.py run model.tflite camera --every 1 --draw seen
""",
    "selftest": """\
usage: edgekit_runner.py selftest [OPTIONS]

Check the runtime with a small model: is the runtime broken, or your model?

  --runtime NAME        litert, tflite or tensorflow; default: first installed
  --threads N           default: 1
  --json                JSON on stdout

example: edgekit_runner.py selftest
""",
}


class Options:
    """Options of the command line; the values here are the defaults."""

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
    metric: str | None = None
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
    first_run_limit: int | None = None
    trusted = False
    # Not options but derived: the model's digest, and whether no manifest confirms it.
    sha256 = ""
    unknown_origin = False


LOADING_OPTIONS = (
    "runtime", "kernels", "delegate", "delegate-option", "first-run-limit", "trusted",
)  # fmt: skip
RUN_OPTIONS = (
    "watch", "every", "limit", "frame", "draw", "force", "labels", "top", "threshold",
)  # fmt: skip
COMMANDS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    # fewest and most files, options
    "info": (0, 1, (*LOADING_OPTIONS, "json")),
    "bench": (
        1,
        1,
        (*LOADING_OPTIONS, "threads", "json", "runs", "seconds", "data", "duration", "sweep"),
    ),
    "eval": (2, 2, (*LOADING_OPTIONS, "threads", "json", "metric", "outputs", "force")),
    "run": (1, sys.maxsize, (*LOADING_OPTIONS, "threads", *RUN_OPTIONS)),
    "selftest": (0, 0, ("runtime", "threads", "json")),
}
# Numbers: their kind, the least and the greatest.
NUMERIC_OPTIONS: dict[str, tuple[Callable[[str], float], int, int]] = {
    "runs": (int, 1, 1_000_000),
    "seconds": (float, 0, 1_000_000),
    "duration": (float, 0, 1_000_000),
    "threads": (int, 1, 256),
    "first-run-limit": (int, 1, 1_000_000),
    "top": (int, 1, 1_000_000),
    "threshold": (float, 0, 1),
    "every": (float, 0, 1_000_000),
    "limit": (int, 1, 1_000_000_000),
}


def parse(words: Sequence[str]) -> tuple[str, Options]:
    """Return the command that a command line names, and its options.

    Raises:
        RunnerError: The command line is invalid (code 2).
    """
    verb, *rest = words or [""]
    if verb not in COMMANDS:
        what = f"{verb!r} is no command." if verb else "No command is given."
        raise _usage(what, f"Commands: {', '.join(COMMANDS)}.")
    fewest, most, known = COMMANDS[verb]
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
            raise _usage(f"{verb} has no option {word}.", _suggestion(word, known), verb)
        if isinstance(getattr(options, attribute), bool):
            if equals:
                raise _usage(f"--{name} takes no value.", f"Found {text!r}.", verb)
            setattr(options, attribute, True)
            continue
        if not equals and (not rest or rest[0].startswith("--")):
            raise _usage(f"--{name} needs a value.", "", verb)
        value = _parse_value(name, text if equals else rest.pop(0), verb)
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
    return verb, options


def _parse_value(name: str, text: str, verb: str) -> Any:
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
    if name not in NUMERIC_OPTIONS:
        return text
    kind_of, lowest, highest = NUMERIC_OPTIONS[name]
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


def _suggestion(word: str, known: Sequence[str]) -> str:
    import difflib

    options = [f"--{name}" for name in known]
    near = difflib.get_close_matches(word.partition("=")[0], options, 1)
    return f"Did you mean {near[0]}?" if near else f"Options: {', '.join(options)}."


def _usage(what: str, found: str = "", verb: str = "") -> RunnerError:
    page = f"edgekit_runner.py {verb} --help".replace("  ", " ")
    return RunnerError(USAGE, what, found, f"See {page}")


# --- Command info ---------------------------------------------------------------------------------
# Inputs and outputs of a model, runtime and device.


def info(options: Options) -> None:
    """Print a model's inputs and outputs, and the runtime and device."""
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
        _trial_run(model)
        facts.update(_file_facts(options))
        facts.update(
            inputs=[tensor.describe() for tensor in model.inputs],
            outputs=[tensor.describe() for tensor in model.outputs],
            signatures=model.signatures,
            preprocessing=known.get("preprocessing"),
            picture=picture_spec(known),
            labels=known.get("labels"),
            origin=known["origin"],
        )
        lines = [
            f"{options.model}  {_format_size(facts['size_bytes'])}",
            *(f"  input {_describe_tensor(tensor)}" for tensor in model.inputs),
            *(f"  output {_describe_tensor(tensor)}" for tensor in model.outputs),
            f"  preprocessing: {_describe_preprocessing(known)}",
            *(line for tensor in model.inputs[:1] for line in _describe_picture(known, tensor)),
            f"  labels: {_describe_labels(known)}",
            *lines,
        ]
    _print_result(facts if options.json else lines)


def _trial_run(model: Model) -> None:
    """Run a model of unknown origin once, so that `info` already reports a crash.

    Errors are ignored: a sound model may refuse random input, for instance indices of a lookup.
    """
    if model.trial:
        try:
            model.feed(_random_inputs(model))
            model.invoke()
        except RunnerError:
            pass


def _describe_tensor(tensor: Tensor) -> str:
    shape = " x ".join(map(str, tensor.shape)) or "scalar"
    codes = ""
    if tensor.scale:
        sign = "-" if tensor.zero_point > 0 else "+"
        code = f"(code {sign} {abs(tensor.zero_point)})" if tensor.zero_point else "code"
        codes = f", real = {tensor.scale:.6g} * {code}"
    return f"{tensor.name}: {tensor.dtype.name} {shape}{codes}"


def _describe_preprocessing(known: Mapping[str, Any]) -> str:
    spec = known.get("preprocessing")
    if spec is None:
        return "unknown (no manifest beside the model, no metadata in it)"
    values = [str(spec.get("kind"))] + [f"{key} {spec[key]}" for key in spec if key != "kind"]
    return f"{', '.join(values)} (from the {known['origin']['preprocessing']})"


def _describe_picture(known: Mapping[str, Any], tensor: Tensor) -> list[str]:
    spec, arrays = picture_spec(known), known.get("preprocessing")
    if spec is None and arrays is None and tensor.dtype.kind in "iu" and len(tensor.shape) == 4:
        return ["  pictures: pixels are taken for the codes of the input"]
    if spec is None or spec is arrays:
        return []
    return [f"  pictures: {', '.join(f'{key} {spec[key]}' for key in spec if key != 'kind')}"]


def _describe_labels(known: Mapping[str, Any]) -> str:
    labels = known.get("labels")
    return f"{len(labels)} (from the {known['origin']['labels']})" if labels else "none"


# --- Command bench --------------------------------------------------------------------------------
# Latency of single invocations, end to end, under load; cold start and memory.


def bench(options: Options) -> None:
    """Time single invocations."""
    runtime = find_runtime(options.runtime)
    before = conditions()
    model = open_model(options, runtime)
    model.require_inputs_and_outputs()
    import numpy as np

    prepare, sample = _bench_input(options.data, model)
    # Random codes by default, as other benchmark tools use them.
    codes = prepare() if options.data else _random_inputs(model)
    model.feed(codes)
    with SilenceStderr():
        start = time.perf_counter_ns()
        model.invoke()
        first_ns = time.perf_counter_ns() - start
    values, warmup, settled = _warm_up_and_time(model, options)
    peak_bytes = peak_rss_bytes()
    after = conditions()
    reasons = stability_warnings(
        values,
        settled=settled,
        threads=options.threads,
        throttled=str(after.get("throttled", "")),
    )
    whole = {**time_end_to_end(model, prepare, 0.5), "input": sample}
    sustained = sustain(model.interpreter.invoke, options.duration) if options.duration else []
    reasons += load_warnings(sustained)
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
    _print_result(facts if options.json else bench_lines(facts))
    if reasons and not options.json:
        listed = [f"- {reason}" for reason in reasons]
        write_stderr("\n".join(["The timing may be unstable:", *listed, advice]))


def bench_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return the text lines for the facts of `bench`."""
    whole = facts["end_to_end"]
    cold = {key: value / 1e6 for key, value in facts["cold_start_ns"].items()}
    phases = [f"{key.replace('_', ' ')} {value:.1f}" for key, value in cold.items()]
    parts = [f"{key} {value:.3f}" for key, value in whole["parts_ms"].items()]
    return [
        f"{facts['model']}  {_format_size(facts['size_bytes'])}",
        f"{facts['runtime']} on {facts['device']}",
        *(_wrapped("delegate", facts["delegate"]) if facts["delegate"] else []),
        *_wrapped(
            "one run",
            f"p50 {facts['p50_ms']:.3f} ms",
            f"p90 {facts['p90_ms']:.3f}",
            f"p99 {facts['p99_ms']:.3f}",
            f"mean {facts['mean_ms']:.3f}",
            _plural(facts["n"], "run"),
            _plural(facts["threads"], "thread"),
        ),
        *_wrapped(
            "end to end",
            f"p50 {whole['p50_ms']:.3f} ms: {parts[0]}",
            *parts[1:],
            f"on {whole['input']}",
        ),
        *_wrapped("cold start", f"{sum(cold.values()):.0f} ms: {phases[0]}", *phases[1:]),
        *_wrapped("memory", f"{_format_size(facts['peak_rss_bytes'])} at the most"),
        *(sustained_lines(facts["sustained"]) if "sustained" in facts else []),
        *(sweep_lines(facts["sweep"]) if "sweep" in facts else []),
    ]


def _warm_up_and_time(model: Model, options: Options) -> tuple[list[int], list[int], bool]:
    """Return the nanoseconds of each timed call and of the warm-up, and whether it settled."""
    warmup, settled = warm_up(model.interpreter.invoke)
    n = options.runs
    if n is None:
        # Without --seconds: a second, but no fewer than 20 and no more than 10,000 runs.
        wanted = int((options.seconds or 1.0) * 1e9 / max(1, _median(warmup[-20:])))
        n = min(100_000, max(1, wanted)) if options.seconds else min(10_000, max(20, wanted))
    return time_runs(model.interpreter.invoke, n), warmup, settled


WARM_UP_NS = 3_000_000_000
BLOCK_NS = 20_000_000


def warm_up(invoke: Callable[[], object]) -> tuple[list[int], bool]:
    """Call until two blocks in a row have medians within 3 %, for three seconds at most.

    Returns:
        The duration of each call in nanoseconds, and whether the medians agreed.
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


def time_runs(invoke: Callable[[], object], n: int) -> list[int]:
    """Return the nanoseconds that each of `n` calls took."""
    values = [0] * n
    clock = time.perf_counter_ns
    for position in range(n):
        start = clock()
        invoke()
        values[position] = clock() - start
    return values


def _median(values: Sequence[int]) -> int:
    return sorted(values)[len(values) // 2]


def stability_warnings(
    values: Sequence[int], *, settled: bool, threads: int, throttled: str
) -> list[str]:
    """Return why a measurement may be unreliable, one phrase for each reason."""
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


def time_end_to_end(
    model: Model, prepare: Callable[[], Sequence[Any]], seconds: float
) -> dict[str, Any]:
    """Time a sample from end to end: preprocessing, setting inputs, invoking, reading outputs.

    Args:
        model: The model.
        prepare: Returns the preprocessed sample, one array of codes for each input.
        seconds: Duration, after two warm-up rounds.

    Returns:
        Total latency as `p50_ms`, `p90_ms`, `p99_ms` and `mean_ms`, the number of rounds `n`,
        and in `parts_ms` the medians of prepare, set, invoke and get.
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
            tensor.decode(model.codes(tensor))
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


def _bench_input(path: str | None, model: Model) -> tuple[Callable[[], Sequence[Any]], str]:
    """Return a function that preprocesses the same raw sample at each call, and its description."""
    manifest = read_manifest(model.path)
    spec = manifest.get("preprocessing")
    source = Source(model, manifest, None)
    if path and not path.lower().endswith(ARRAYS):
        return (lambda: next(source.file(path)).codes), f"{path}, read anew each time"
    if path:
        columns, _ = source.columns(path)
        values: Sequence[Any] = next(zip(*(column.rows() for column in columns)))
        prepares, words = preprocessors(columns, manifest, model), f"{path}, sample 0"
    else:
        values, words = _random_sample(model, manifest)
        if words == RANDOM_PICTURE:
            prepares = [source.image_preprocessor(model.path)]
        else:
            known = {} if words == RANDOM_CODES else spec or {}
            prepares = [Preprocessor(known, tensor) for tensor in model.inputs]

    def prepare() -> list[Any]:
        return [one.encode(value, f"{words},") for one, value in zip(prepares, values)]

    return prepare, words


RANDOM_CODES = "random, nothing to prepare"
RANDOM_PICTURE = "a random picture of 640 x 480"


def _random_sample(model: Model, manifest: Mapping[str, Any]) -> tuple[Sequence[Any], str]:
    """Return a random raw sample, one array for each input, and its description."""
    import numpy as np

    spec, picture = manifest.get("preprocessing"), picture_spec(manifest)
    first, kind = model.inputs[0], spec["kind"] if spec else "none"
    with DeferSigint():  # numpy imports this submodule on first access
        random = np.random.RandomState(0)
    if len(model.inputs) > 1:
        return _random_inputs(model), RANDOM_CODES
    if kind == "log-mel" and spec:
        audio = random.randint(-32768, 32768, spec["samples"], np.int16)
        return [audio], f"random audio, {spec['samples']} samples"
    colours = len(first.shape) == 4 and first.shape[3] == 3
    pixels = picture or (spec is None and first.dtype.kind in "iu")
    if (picture or {}).get("kind") == "image" or (colours and pixels):
        # The size of a camera's picture: resizing takes much of the time.
        return [random.randint(0, 256, (480, 640, 3), np.uint8)], RANDOM_PICTURE
    if kind == "affine":
        return [random.randint(0, 256, first.shape, np.uint8)], "random uint8"
    return _random_inputs(model), RANDOM_CODES


def _random_inputs(model: Model) -> list[Any]:
    import numpy as np

    with DeferSigint():  # numpy imports this submodule on first access
        random = np.random.RandomState(0)  # it gives the same numbers in every version of numpy
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


def sustain(invoke: Callable[[], object], seconds: float) -> list[dict[str, Any]]:
    """Call without pause and read the sensors about every second.

    Args:
        invoke: What is called.
        seconds: Duration.

    Returns:
        For each second (or 600th of the duration, if longer): `t_s` since the start, `p50_ms`,
        the number of calls `n`, and the values of `sensors` at its end.
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
            write_stderr(f"\r{passed:.0f} of {seconds:.0f} s", end="")
    if sys.stderr.isatty():
        write_stderr("")
    return found


def load_warnings(sustained: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return warnings about throttling and rising latency under sustained load."""
    limits = sorted({word for entry in sustained for word in entry["throttled"] or []})
    found = [f"the board throttles under load ({', '.join(limits)})"] if limits else []
    if sustained:
        first, last = sustained[0]["p50_ms"], sustained[-1]["p50_ms"]
        if last > 1.1 * first:
            found.append(f"latency rose by {100 * (last - first) / first:.0f} % under load")
    return found


def sustained_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the text lines for a sustained load."""
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
    return _wrapped("load", *phrases)


def sweep(options: Options, runtime: Runtime, codes: Sequence[Any]) -> list[dict[str, Any]]:
    """Time a model with and without XNNPACK, on one thread up to one for each core.

    Args:
        options: Those of `bench`.
        runtime: The runtime.
        codes: One array for each input.
    """
    import numpy as np

    rows = []
    for kernels in ("default", "builtin"):
        for threads in range(1, max(options.threads, _cores()) + 1):
            chosen = Options()
            # No second trial: the file was run already, with the kernels of the options.
            vars(chosen).update(
                vars(options), kernels=kernels, threads=threads, unknown_origin=False
            )
            model = open_model(chosen, runtime)
            model.feed(codes)
            values, _, settled = _warm_up_and_time(model, options)
            p50, p90 = (float(value) / 1e6 for value in np.percentile(values, [50, 90]))
            reasons = stability_warnings(values, settled=settled, threads=threads, throttled="")
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


def sweep_lines(rows: Sequence[Mapping[str, Any]]) -> list[str]:
    """Return the text lines for a sweep."""
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


# --- Command eval ---------------------------------------------------------------------------------
# Scoring labelled data, and writing outputs.


def evaluate(options: Options) -> None:
    """Score a model on labelled data, and write its outputs if --outputs is given."""
    import math

    path = options.files[0]
    place = ""
    if options.outputs:
        inputs = [options.model, manifest_path(options.model), path]
        place = output_path(options.outputs, "--outputs", inputs, force=options.force)
    runtime = find_runtime(options.runtime)
    model = open_model(options, runtime)
    model.require_inputs_and_outputs()
    manifest = read_manifest(options.model)
    columns, targets, starts, declared = _read_labelled(path, model, unscored=bool(options.outputs))
    n = columns[0].shape[0]
    scorer = None
    if targets is not None:
        task = (manifest.get("data") or {}).get("task") or infer_task_from_targets(model, targets)
        units = math.prod(model.outputs[0].shape)
        kind = SCORERS.get(task, Scorer)
        scorer = kind(task, n, manifest.get("labels") or [], units, options.metric)
        scorer.groups, scorer.ignored = declared
    elif options.metric:
        raise RunnerError(
            USAGE,
            "--metric has no effect without targets.",
            f"{path} holds none.",
            "Store them as y_test, or leave out --metric.",
        )
    rows = preprocessed_samples(columns, manifest, model, path)
    answers = _predict(
        model, path, zip(rows, targets.rows() if targets else iter([None] * n), starts), scorer
    )
    start = time.perf_counter()
    if place:
        try:
            with OutputFile(place, [tensor.name for tensor in model.outputs], n) as kept:
                for position, outputs in enumerate(answers):
                    kept.add(outputs)
                    _show_progress(position + 1, n)
        except OSError as error:
            raise RunnerError(
                USAGE,
                f"Cannot write {options.outputs}.",
                error,
                "Give another --outputs.",
            ) from error
    else:
        for position, _ in enumerate(answers):
            _show_progress(position + 1, n)
    seconds = time.perf_counter() - start
    facts = {
        "schema": 1,
        "version": __version__,
        **_file_facts(options),
        "score": scorer.score() if scorer else None,
        "n": n,
        "seconds": seconds,
        "threads": options.threads,
        "runtime": str(runtime),
        "delegate": str(model.delegate) if model.delegate else None,
        "kernels": options.kernels,
        "device": describe_device()["device"],
        "peak_rss_bytes": peak_rss_bytes(),
    }
    lines = eval_lines(facts)
    if options.outputs:
        lines.append(f"Wrote {options.outputs}")
    _print_result(facts if options.json else lines)


def _read_labelled(
    path: str, model: Model, *, unscored: bool
) -> tuple[list[StoredArray], StoredArray | None, Iterator[bool], tuple[Any, Any]]:
    """Return the arrays for the inputs, the targets, where sequences start, and what is declared.

    That is the group of each sample, or None, and the values of masks that are ignored.

    Args:
        path: The file.
        model: The model.
        unscored: Whether targets may be missing.

    Raises:
        RunnerError: An array is missing, or lengths differ (code 4).
    """
    stored = read_arrays(path)
    columns = pick_inputs(stored, model, path)
    n = columns[0].shape[0]
    targets = next((stored[key] for key in ("targets", "y_test", "y") if key in stored), None)
    if targets is None and not unscored:
        raise RunnerError(
            DATA,
            f"{path} holds no targets.",
            f"It holds {', '.join(sorted(stored))}.",
            "Store them as y_test, or write outputs without a score: --outputs F.npz.",
        )
    if targets is not None and targets.shape[:1] != (n,):
        raise RunnerError(
            DATA,
            f"{path} has {n} samples but another number of targets.",
            f"{columns[0].name} {list(columns[0].shape)}, {targets.name} {list(targets.shape)}.",
            "Store one target for each sample.",
        )
    return columns, targets, sequence_starts(stored, columns, path), _declared(stored, n, path)


def _declared(stored: Mapping[str, StoredArray], n: int, path: str) -> tuple[Any, Any]:
    """Return what `group_test` (or `group`) and `ignore_label` declare.

    Raises:
        RunnerError: They do not fit the samples (code 4).
    """
    import numpy as np

    groups = next((stored[key] for key in ("group_test", "group") if key in stored), None)
    if groups is not None and (groups.shape != (n,) or groups.dtype.kind not in "iuUS"):
        raise RunnerError(
            DATA,
            f"{path}: {groups.name} declares no groups.",
            f"It holds {groups.dtype} {list(groups.shape)}, for {n} samples.",
            "Give a whole number or a text for each sample.",
        )
    ignored = stored.get("ignore_label")
    if ignored is not None and (len(ignored.shape) > 1 or ignored.dtype.kind not in "iu"):
        raise RunnerError(
            DATA,
            f"{path}: ignore_label is no class number.",
            f"It holds {ignored.dtype} {list(ignored.shape)}.",
            "Give a whole number, or a list of them.",
        )
    numbers = None if groups is None else np.array(list(groups.rows()))
    return numbers, () if ignored is None else np.array(list(ignored.rows())).ravel()


def eval_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return the text lines for the facts of `eval`."""
    lines = [f"{facts['model']}  {_format_size(facts['size_bytes'])}"]
    score = facts["score"]
    if score:
        low, high = score["ci95"]
        lines.append(
            f"  {score['metric']} {score['value']:.4f}   95 % interval {low:.4f} to {high:.4f}   "
            f"({_plural(facts['n'], 'sample')})"
        )
        if score["reason"]:
            lines.append(f"  {score['metric']}, because {score['reason']}")
        lines += [f"  {name} {value:.4f}" for name, value in score["extras"].items()]
    lines.append(f"  {facts['seconds']:.3f} s on {facts['runtime']}, {facts['device']}")
    return lines


def _predict(
    model: Model,
    path: str,
    rows: Iterator[tuple[tuple[list[Any], Callable[[], Any]], Any, bool]],
    scorer: Scorer | None,
) -> Iterator[list[Any]]:
    """Yield the dequantized outputs of each sample, after passing them to the scorer."""
    for position, ((codes, value), target, starts) in enumerate(rows):
        if starts:
            model.reset_state()
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


def infer_task_from_targets(model: Model, targets: StoredArray) -> str:
    """Return the task that targets and shapes suggest, by the rules of edgekit's evaluation/tasks.

    Masks have a value or a one-hot row for each pixel; what fits nothing else but has another size
    or other classes than the output is taken for masks, and refused later.

    Classes are texts, whole numbers, or one-hot rows; flags are nothing but 0 and 1, and labels
    such rows with any number of ones.
    """
    import numpy as np

    if targets.dtype.kind == "U":
        return "classification"
    shape = model.outputs[0].shape
    if len(shape) == 4 and targets.dtype.kind in "biuf" and _are_masks(targets, shape):
        return "segmentation"
    classes = flags = labels = targets.dtype.kind in "biuf"
    labels = labels and len(shape) == 2 and shape[1] > 1 and targets.shape[1:] == shape[1:]
    for value in targets.rows() if classes else ():
        row = np.ravel(value)
        binary = bool(((row == 0) | (row == 1)).all())
        flags = flags and binary and row.size == 1
        labels = labels and binary
        one_hot = binary and row.sum() == 1
        classes = classes and (float(row[0]).is_integer() if row.size == 1 else one_hot)
        if not classes and not labels:
            return "regression"
    if not classes:
        return "multi-label"
    units = shape[1] if len(shape) == 2 else 0
    if flags and units not in (1, 2) and shape in [tensor.shape for tensor in model.inputs]:
        return "reconstruction"
    return "classification" if units > 1 or (units and flags) else "regression"


def _are_masks(targets: StoredArray, shape: Sequence[int]) -> bool:
    """Whether targets are masks for an output `[1, h, w, k]`."""
    import numpy as np

    units = shape[3]
    if targets.shape[1:] == tuple(shape[1:]) and units > 1:
        return all(
            bool(((row == 0) | (row == 1)).all() and (row.sum(axis=2) == 1).all())
            for row in targets.rows()
        )
    if len(targets.shape) != 3 and not (len(targets.shape) == 4 and targets.shape[3] == 1):
        return False
    if targets.shape[1:3] != tuple(shape[1:3]):
        return bool(targets.dtype.kind != "f")
    return bool(units > 1) or all(
        bool((np.isin(row, (0, 1, 255)) | ((row < 0) & (row == np.round(row)))).all())
        for row in targets.rows()
    )


class OutputFile:
    """Writes an `.npz` with each output as `[n, ...]` under its name, sample by sample.

    A context manager: the file appears complete on exit, or not at all.

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
            self._remove_parts()
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
            self._remove_parts()

    def _remove_parts(self) -> None:
        with DeferSigint():
            for position in range(len(self.names) + 1):
                if os.path.exists(self._part(position)):
                    os.remove(self._part(position))

    def _part(self, position: int) -> str:
        # A short name: that of the file may be as long as names can be.
        name = f"edgekit-{os.getpid()}-{position}.part"
        return os.path.join(os.path.dirname(self.path), name)


def _show_progress(done: int, n: int) -> None:
    """Show progress on a terminal, in twenty steps."""
    if done % max(1, n // 20) == 0 and sys.stderr.isatty():
        end = "\n" if done == n else ""
        write_stderr(f"\r{done} of {n} samples", end=end)


# --- Scores ---------------------------------------------------------------------------------------
# Metrics of `eval` and their 95 % intervals, the same as on the host.

# The metrics of each task that can be scored; the first is the default, see `Scorer.default`.
METRICS = {
    "classification": (
        "accuracy", "balanced_accuracy", "f1", "precision", "average_precision", "roc_auc",
    ),
    "multi-label": ("f1", "accuracy", "binary_accuracy", "precision", "average_precision"),
    "segmentation": ("mean_iou", "pixel_accuracy"),
    "regression": ("rmse",),
    "reconstruction": ("roc_auc", "average_precision"),
}  # fmt: skip
# Those that need a score of one of two classes.
OF_TWO_CLASSES = ("average_precision", "roc_auc")
# A class with a smaller share of the samples, and less than half of what it would have were all
# classes alike, is rare: the default is then a metric that a dead detector cannot keep.
RARE = 0.05


class Scorer:
    """Collects per-sample statistics and computes the score from them.

    Args:
        task: classification, regression or reconstruction.
        n: Number of samples.
        labels: Class names, for targets that are strings.
        units: Number of values of the output; a single one means two classes.
        metric: What the score is; by task and classes where None.

    Raises:
        RunnerError: The task cannot be scored (code 4), or has no such metric (code 2).

    Attributes:
        groups: The group of each sample, or None; reconstruction errors are averaged over it.
        ignored: Values of masks that are ignored.
    """

    groups: Any = None
    ignored: Any = ()

    def __init__(
        self, task: str, n: int, labels: Sequence[str], units: int, metric: str | None = None
    ) -> None:
        import numpy as np

        if task not in METRICS:
            raise RunnerError(
                DATA,
                f"eval cannot score {task}.",
                f"It scores {', '.join(METRICS)}.",
                "Write outputs without a score: --outputs F.npz, and a DATA.npz without targets.",
            )
        several = task == "classification" and units > 2
        self.metrics = [m for m in METRICS[task] if not (several and m in OF_TWO_CLASSES)]
        if metric is not None and metric not in self.metrics:
            of = f"{units} classes" if several and metric in OF_TWO_CLASSES else f"a {task}"
            raise RunnerError(
                USAGE,
                f"There is no metric {metric!r} of {of}.",
                "",
                f"Known here: {', '.join(self.metrics)}.",
            )
        self.task = task
        self.labels = list(labels)
        self.units = units
        self.metric = metric
        self.target = np.zeros(n, np.int64)
        self.predicted = np.zeros(n, np.int64)
        self.rank = np.zeros(n, np.int64)
        self.values = np.zeros((n, 2))  # the unit, the scores of two classes, or both errors

    def add(self, position: int, value: Callable[[], Any], output: Any, target: Any) -> None:
        """Add one sample.

        Args:
            position: Index of the sample.
            value: Returns the preprocessed input as real values.
            output: The dequantized output.
            target: A class, the true value, or 1 for an anomaly.

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
            self.target[position] = target
            if len(output) > 1:
                self.predicted[position] = output.argmax()
                self.rank[position] = _rank(output, target)
            if len(output) <= 2:
                self.values[position, : len(output)] = output
            return
        if self.task == "reconstruction":
            if target not in (0, 1):
                raise ValueError(f"target {target} is neither 0 nor 1")
            wanted = np.asarray(value(), np.float64).ravel()
            self.target[position] = target
        else:
            wanted = np.asarray(target, np.float64).ravel()
        if wanted.shape != output.shape or not np.isfinite(wanted).all():
            raise ValueError(f"{len(wanted)} finite values wanted, output has {len(output)}")
        with np.errstate(over="ignore", invalid="ignore"):  # `score` refuses what overflows
            squared = np.mean((output - wanted) ** 2)
        self.values[position] = squared, np.mean(np.abs(output - wanted))

    def complete(self) -> tuple[Any, dict[str, float]]:
        """Return the scores of class 1 or the squared errors, `[n]`, and further figures.

        A single output unit means two classes, split at 0.5 if all values lie in [0, 1] (a
        sigmoid), otherwise at 0 (a logit). The score of class 1 is its own if all are in [0, 1],
        otherwise what it is ahead of class 0.

        Raises:
            RunnerError: The outputs are too large for a squared error (code 3).
        """
        import numpy as np

        n = len(self.target)
        first, second = self.values.T
        extras: dict[str, float] = {}
        if self.task == "classification":
            shares = are_shares(self.values)
            if self.units == 1:
                self.predicted = (first > (0.5 if shares else 0)).astype(np.int64)
            if self.units > 5:
                extras["top5_accuracy"] = float((self.rank < 5).mean())
            return first if self.units == 1 else second if shares else second - first, extras
        if not np.isfinite(first).all():
            broken = int(n - np.isfinite(first).sum())
            raise RunnerError(
                MODEL,
                "The model has no score: its outputs overflow.",
                f"They do for {broken} of {n} samples.",
                "Check the ranges and weights of the model; convert it again.",
            )
        if self.task == "regression":
            extras["mae"] = float(second.mean())
        elif self.groups is not None:
            first = self._by_group(first)
        return first, extras

    def _by_group(self, errors: Any) -> Any:
        """Return the mean error of each group; the target becomes that of the group.

        Raises:
            RunnerError: A group has both normal samples and anomalies (code 4).
        """
        import numpy as np

        names, places = np.unique(self.groups, return_inverse=True)
        sizes = count_places(places)
        ones = count_places(places, self.target)
        mixed = np.flatnonzero((ones > 0) & (ones < sizes))
        if len(mixed):
            raise RunnerError(
                DATA,
                f"Group {names[mixed[0]]} has both flags.",
                f"{int(ones[mixed[0]])} of its {sizes[mixed[0]]} samples are anomalies.",
                "All samples of a group need one flag in y_test.",
            )
        self.target = (ones > 0).astype(np.int64)
        return count_places(places, errors) / sizes

    def lacks(self, name: str) -> str:
        """Return what there is, where that is too little for a metric of two classes."""
        if name not in OF_TWO_CLASSES or self.target.ndim > 1:
            return ""
        ones = int((self.target == 1).sum())
        zeros = len(self.target) - ones
        return "" if min(ones, zeros) >= 2 else f"{zeros} of class 0 and {ones} of class 1"

    def score(self) -> dict[str, Any]:
        """Return metric, value, n, 95 % interval, further figures, and why this metric.

        Raises:
            RunnerError: The outputs are too large for a squared error (code 3), or there are too
                few samples for the metric (code 4).
        """
        scores, extras = self.complete()
        chosen, reason = (self.metric, "") if self.metric else self.default()
        lacking = self.lacks(chosen)
        if lacking:
            raise RunnerError(
                DATA,
                f"{chosen} needs at least two samples of either class.",
                f"There are {lacking}.",
                "Add samples, or choose another --metric.",
            )
        value, interval = self.figure(chosen, scores, with_interval=True)
        for name in self.metrics:
            if name != chosen and not self.lacks(name):
                extras[name], _ = self.figure(name, scores)
        return {
            "metric": chosen,
            "value": value,
            "n": len(self.target),
            "ci95": list(interval),
            "extras": extras,
            "reason": reason,
        }

    def default(self) -> tuple[str, str]:
        """Return the metric where none is named, and why if it is not the usual one."""
        import numpy as np

        if self.task == "classification":
            classes, counts = np.unique(self.target, return_counts=True)
            share = float(counts.min() / counts.sum())
            if share < min(RARE, 1 / (2 * len(classes))):
                rarest = int(classes[counts.argmin()])
                label = self.labels[rarest] if rarest < len(self.labels) else str(rarest)
                return "balanced_accuracy", f"{label!r} is {100 * share:.2g} % of the samples"
        return self.metrics[0], ""

    def figure(
        self, name: str, scores: Any, *, with_interval: bool = False
    ) -> tuple[float, tuple[float, float]]:
        """Return a metric's value and 95 % interval; (0, 0) unless that is asked for."""
        import numpy as np

        no_interval = 0.0, 0.0
        if name == "rmse":
            value = float(np.sqrt(scores.mean()))
            return value, rmse_interval(scores) if with_interval else no_interval
        if name == "roc_auc":
            area, low, high = roc_auc(scores, self.target)
            return area, (low, high)
        if name == "average_precision":
            return average_precision(scores, self.target, with_interval=with_interval)
        right = self.predicted == self.target
        if name == "accuracy":
            return float(right.mean()), wilson(int(right.sum()), len(right))
        if name == "balanced_accuracy":
            return balanced_accuracy(right, self.target)
        table = kinds_of_samples(self.target, self.predicted)
        return macro_figure(name, *table, with_interval=with_interval)


class LabelScorer(Scorer):
    """Scores any number of labels a sample: flags `[n, units]`, and the scores of all labels."""

    def __init__(
        self, task: str, n: int, labels: Sequence[str], units: int, metric: str | None = None
    ) -> None:
        import numpy as np

        super().__init__(task, n, labels, units, metric)
        self.target = np.zeros((n, units), np.uint8)
        self.values = np.zeros((n, units))

    def add(self, position: int, value: Callable[[], Any], output: Any, target: Any) -> None:
        """Add one sample: as in `Scorer`, with a flag for each label as target."""
        import numpy as np

        _ = value
        flags, scores = np.ravel(target), np.asarray(output, np.float64).ravel()
        if flags.shape != scores.shape or not ((flags == 0) | (flags == 1)).all():
            raise ValueError(f"{len(scores)} flags of 0 or 1 wanted, found {flags}")
        self.target[position] = flags
        self.values[position] = scores

    def complete(self) -> tuple[Any, dict[str, float]]:
        """Return all scores; labels are split as a single unit is.

        Raises:
            RunnerError: No sample has any label (code 4).
        """
        import numpy as np

        if not self.target.any():
            raise RunnerError(
                DATA,
                "No sample has any label.",
                f"All {self.target.size} targets are 0.",
                "Add samples that have some.",
            )
        threshold = 0.5 if are_shares(self.values) else 0.0
        self.predicted = (self.values > threshold).astype(np.uint8)
        return self.values, {}

    def figure(
        self, name: str, scores: Any, *, with_interval: bool = False
    ) -> tuple[float, tuple[float, float]]:
        """Return a metric's value and 95 % interval; (0, 0) unless that is asked for."""
        right = self.predicted == self.target
        if name == "accuracy":
            whole = right.all(axis=1)
            return float(whole.mean()), wilson(int(whole.sum()), len(whole))
        if name == "binary_accuracy":
            return binary_accuracy(right, with_interval=with_interval)
        if name == "average_precision":
            return label_average_precision(scores, self.target, with_interval=with_interval)
        return label_figure(name, self.target, self.predicted, with_interval=with_interval)


class MapScorer(Scorer):
    """Scores a class a pixel: masks, and the pixels of each pair of classes of each picture.

    A row more than classes counts the pixels of 255 in the masks, which are ignored, or class 1
    where the masks of two classes hold nothing but 0 and 255. Pixels below 0 are ignored.
    """

    counts: Any = None
    low, high = 0.0, 1.0
    negative = False

    def add(self, position: int, value: Callable[[], Any], output: Any, target: Any) -> None:
        """Add one picture: as in `Scorer`, with a mask or a one-hot mask as target."""
        import numpy as np

        _ = value
        output = np.asarray(output)
        if output.ndim == 2:
            output = output[..., None]
        units = output.shape[2]
        classes = max(2, units)
        if target.shape == output.shape and units > 1:
            mask = target.argmax(axis=2)
        else:
            mask = target[..., 0] if target.ndim == 3 and target.shape[2] == 1 else target
        if mask.shape != output.shape[:2]:
            raise ValueError(f"mask of {_by(mask.shape)}, output of {_by(output.shape[:2])}")
        if mask.dtype.kind == "f" and not (np.isfinite(mask) & (mask == np.round(mask))).all():
            raise ValueError("the mask holds other values than whole numbers")
        mask = mask.astype(np.int64)
        if len(self.ignored):
            mask[np.isin(mask, self.ignored)] = -1
        if classes <= 255:
            mask[mask == 255] = classes
        if mask.max() > classes - (classes > 255):
            raise ValueError(f"class {mask.max()} where the model has {classes} classes")
        if self.counts is None:
            splits = 2 if units == 1 else 1
            self.counts = np.zeros((splits, len(self.target), classes + 1, classes), np.int64)
        there = mask >= 0
        self.negative = self.negative or not there.all()
        self.low = min(self.low, float(output.min()))
        self.high = max(self.high, float(output.max()))
        unit = output[..., 0]
        told = [output.argmax(axis=2)] if units > 1 else [unit > 0.5, unit > 0]
        for split, predicted in enumerate(told):
            code = mask[there] * classes + predicted[there]
            counts = count_places(code, minlength=classes * (classes + 1))
            self.counts[split, position] = counts.reshape(classes + 1, classes)

    def complete(self) -> tuple[Any, dict[str, float]]:
        """Return counts `[n, classes, classes]`; one unit is split by the values of all pixels.

        Raises:
            RunnerError: All pixels are ignored (code 4).
        """
        shares = self.low >= 0 and self.high <= 1
        counts = self.counts[0 if shares or len(self.counts) == 1 else 1]
        known, void = counts[:, :-1].copy(), counts[:, -1]
        if known.shape[1] == 2 and void.any() and not known[:, 1].any() and not self.negative:
            known[:, 1] = void
        if not known.any():
            raise RunnerError(DATA, "All pixels are ignored.", "", "Add masks with classes.")
        return known, {}

    def figure(
        self, name: str, scores: Any, *, with_interval: bool = False
    ) -> tuple[float, tuple[float, float]]:
        """Return a metric's value and 95 % interval; (0, 0) unless that is asked for."""
        import numpy as np

        hits = np.diagonal(scores, axis1=1, axis2=2)
        sizes, named = scores.sum(axis=2), scores.sum(axis=1)
        if name == "pixel_accuracy":
            columns = np.stack([hits.sum(axis=1), sizes.sum(axis=1)], axis=1)
            statistic = pixel_share
        else:
            columns = np.concatenate([hits, sizes, named], axis=1)
            statistic = mean_iou
        value = float(statistic(columns.sum(axis=0)))
        return value, bootstrap(columns, statistic) if with_interval else (0.0, 0.0)


SCORERS: Mapping[str, type[Scorer]] = {"multi-label": LabelScorer, "segmentation": MapScorer}


def mean_iou(counts: Any) -> Any:
    """Return the mean intersection over union of the classes that occur.

    Args:
        counts: `[..., 3 k]`, hits, pixels and predictions of each class.
    """
    import numpy as np

    hits, sizes, named = np.split(counts, 3, axis=-1)
    union, present = sizes + named - hits, sizes > 0
    each = np.where(present, hits / np.where(union > 0, union, 1.0), 0.0)
    return each.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)


def pixel_share(counts: Any) -> Any:
    """Return the share of right pixels, of counts `[..., 2]`, right ones and all."""
    import numpy as np

    return counts[..., 0] / np.where(counts[..., 1] > 0, counts[..., 1], 1)


def _by(shape: Sequence[int]) -> str:
    return "x".join(map(str, shape))


def are_shares(values: Any) -> bool:
    """Whether scores are probabilities, all in [0, 1]; else they are logits."""
    return bool(values.min() >= 0 and values.max() <= 1)


def count_places(places: Any, weights: Any = None, minlength: int = 0) -> Any:
    """Return `numpy.bincount` of integers of any width, which on 32 bits takes no int64."""
    import numpy as np

    return np.bincount(places.astype(np.intp, copy=False), weights, minlength)


def _class(target: Any, units: int) -> int:
    """Return the class number of a target, which is a number or one-hot."""
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


# A score has one interval, wherever it is computed: edgekit's evaluation/intervals.py imports what
# follows, or has the same formulas in the same order of operations.
Z = 1.9599639845400536  # the normal distribution's 97.5 % quantile
RESAMPLES = 2000
# Beyond this many samples the bootstrap and the normal interval differ by less than a tenth of a
# standard error even for squares of normal errors, and the bootstrap takes seconds.
BOOTSTRAP_LIMIT = 5000
# The same where samples are resampled by class, if none of the classes is small.
STRATUM_LIMIT = 1000
CELL_LIMIT = 20_000  # kinds of samples; more take too long
NOTHING = 1e-24  # a variance that is rounding alone


def wilson(successes: int, n: int) -> tuple[float, float]:
    """Return Wilson's 95 % score interval of a proportion (E. B. Wilson, 1927)."""
    share, spread = successes / n, Z**2 / n
    middle = (share + spread / 2) / (1 + spread)
    half = (spread * share * (1 - share) + spread**2 / 4) ** 0.5 / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)


def rmse_interval(squared: Any) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of a root mean squared error.

    Args:
        squared: `[n]` squared errors, float64.
    """
    import numpy as np

    return bootstrap(squared[:, None], lambda means: np.sqrt(means[..., 0]))


def bootstrap(columns: Any, statistic: Callable[[Any], Any]) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of a function of means over samples.

    The BCa interval (B. Efron, R. Tibshirani, "An Introduction to the Bootstrap", 1993, eqs. 14.10,
    14.14 and 14.15) with the wider percentiles of T. Hesterberg (2015), for few samples.

    Args:
        columns: `[n, k]`, what is averaged: one column of float64, or counts.
        statistic: `[..., k]` means -> `[...]` values.
    """
    import numpy as np

    n, k = columns.shape
    counted = columns.dtype.kind == "i"
    value = float(statistic(columns.mean(axis=0)))
    left_out = statistic((columns.sum(axis=0) - columns) / (n - 1)) if n > 1 else np.full(1, value)
    influence = left_out.mean() - left_out
    energy = float(np.sum(influence**2))
    if energy == 0.0:
        return value, value
    if n > BOOTSTRAP_LIMIT:
        half = Z * ((n - 1) / n * energy) ** 0.5
        return value - half, value + half
    with DeferSigint():  # imports
        generator = np.random.default_rng(0)
    means = np.empty((RESAMPLES, k))
    exact = columns.astype(np.float64)
    rows = max(1, (1 << 20) // n)  # at most 2^20 samples are drawn at once, to save memory
    for start in range(0, RESAMPLES, rows):
        some = means[start : start + rows]
        drawn = generator.integers(0, n, (len(some), n), np.int32)
        if counted:
            # How often each sample was drawn. Sums of counts are exact, whatever their order.
            places = drawn + np.arange(0, len(some) * n, n)[:, None]
            times = count_places(places.ravel(), minlength=len(some) * n).reshape(-1, n)
            some[:] = times.astype(np.float64) @ exact / n
        else:
            some[:, 0] = exact[:, 0][drawn].mean(axis=1)
    values = np.sort(statistic(means))
    below = float(np.mean(values < value) + np.mean(values == value) / 2)
    skewness = float(np.sum(influence**3)) / (6 * energy**1.5)
    return bca(values, below, skewness, n - 1)


def bca(values: Any, below: float, skewness: float, degrees: float) -> tuple[float, float]:
    """Return the BCa interval from resampled values.

    Args:
        values: Sorted.
        below: The share of them below the value itself, those equal to it by half.
        skewness: A sixth of the skewness of the samples' influence.
        degrees: Degrees of freedom of the variance.
    """
    import numpy as np

    with DeferSigint():
        from statistics import NormalDist

    normal = NormalDist()
    bias = normal.inv_cdf(min(max(below, 0.5 / RESAMPLES), 1 - 0.5 / RESAMPLES))
    # Student's t quantile by its first Cornish-Fisher term.
    reach = (Z + (Z**3 + Z) / (4 * degrees)) * ((degrees + 1) / degrees) ** 0.5

    def percentile(z: float) -> float:
        share = normal.cdf(bias + (bias + z) / max(1e-9, 1 - skewness * (bias + z)))
        return float(np.quantile(values, share))

    return percentile(-reach), percentile(reach)


def count_bootstrap(
    counts: Any,
    strata: Any,
    statistic: Callable[[Any], Any],
    gradient: Any,
    cells: int | None = None,
) -> tuple[float, float]:
    """Return the BCa interval of a function of how many samples are alike, resampled by class.

    Args:
        counts: `[c]`, samples of each kind.
        strata: `[c]`, the class of each kind, from 0.
        statistic: `[..., c]` counts -> `[...]` values.
        gradient: `[c]`, the derivative of `statistic` by each count.
        cells: What counts against `CELL_LIMIT`; the number of kinds where None.
    """
    import numpy as np

    value = float(statistic(counts[None])[0])
    sizes = count_places(strata, counts)
    influence = gradient - (count_places(strata, counts * gradient) / sizes)[strata]
    energies = count_places(strata, counts * influence**2)
    energy = float(energies.sum())
    if energy < NOTHING:
        return value, value
    varied = energies > 0
    degrees = energy**2 / float(np.sum(energies[varied] ** 2 / (sizes[varied] - 1)))
    many = counts.sum() > BOOTSTRAP_LIMIT and sizes[varied].min() >= STRATUM_LIMIT
    if many or (cells or len(counts)) > CELL_LIMIT:
        half = Z * (energy * (degrees + 1) / degrees) ** 0.5
        return value - half, value + half
    values = np.concatenate([statistic(some) for some in resampled_counts(counts, strata)])
    near = np.abs(values - value) <= NOTHING**0.5
    below = float(np.mean((values < value) & ~near) + np.mean(near) / 2)
    skewness = float(np.sum(counts * influence**3)) / (6 * energy**1.5)
    return bca(np.sort(values), below, skewness, degrees)


def resampled_counts(counts: Any, strata: Any) -> Iterator[Any]:
    """Yield resampled counts, `[RESAMPLES, c]` in pieces of rows."""
    import numpy as np

    with DeferSigint():  # imports
        generator = np.random.default_rng(0)
    c, n = len(counts), int(counts.sum())
    groups = [np.flatnonzero(strata == one) for one in np.unique(strata)]
    # To draw how many samples are of a kind takes about as long as to draw eight samples.
    by_kind = n > 8 * c
    if not by_kind:
        kinds = np.repeat(np.concatenate(groups), counts[np.concatenate(groups)])
        sizes = np.array([counts[cells].sum() for cells in groups])
        first = np.repeat(np.cumsum(sizes) - sizes, sizes)
        below = np.repeat(sizes * (1 - 2**-52), sizes)  # so that no product rounds up to the size
    rows = max(1, (1 << 20) // (c if by_kind else n))
    for start in range(0, RESAMPLES, rows):
        m = min(rows, RESAMPLES - start)
        if by_kind:
            some = np.empty((m, c), np.int64)
            for cells in groups:
                here = counts[cells]
                some[:, cells] = generator.multinomial(here.sum(), here / here.sum(), m)
            yield some
            continue
        # Floors of uniform numbers: integers with a bound of their own each take twice as long.
        drawn = (generator.random((m, n)) * below).astype(np.int64) + first
        places = kinds[drawn] + np.arange(0, m * c, c)[:, None]
        yield count_places(places.ravel(), minlength=m * c).reshape(m, c)


def balanced_accuracy(right: Any, target: Any) -> tuple[float, tuple[float, float]]:
    """Return the mean of the classes' recalls and its interval.

    From those of each class: G. Zou, W. Huang, X. Zhang, Computational Statistics & Data Analysis
    53 (2009), eq. 3.
    """
    import numpy as np

    classes = [right[target == label] for label in np.unique(target)]
    value = float(np.mean([np.mean(one) for one in classes]))
    found = [(int(one.sum()), len(one)) for one in classes]
    shares = [hits / n for hits, n in found]
    ends = [wilson(hits, n) for hits, n in found]
    count, middle = len(found), sum(shares) / len(found)
    low = sum((share - end[0]) ** 2 for share, end in zip(shares, ends)) ** 0.5 / count
    high = sum((end[1] - share) ** 2 for share, end in zip(shares, ends)) ** 0.5 / count
    return value, (max(0.0, middle - low), min(1.0, middle + high))


def kinds_of_samples(target: Any, predicted: Any) -> tuple[int, Any, Any, Any]:
    """Count samples by target and prediction.

    Returns:
        The number k of classes that occur; of each kind the target, from 0; the prediction, k for
        a class that does not occur; and the number of samples.
    """
    import numpy as np

    classes, target = np.unique(target, return_inverse=True)
    k = len(classes)
    place = np.searchsorted(classes, predicted).clip(max=k - 1)
    known = classes[place] == predicted
    code = target.astype(np.int64) * (k + 1) + np.where(known, place, k)
    codes, counts = np.unique(code, return_counts=True)
    target, predicted = np.divmod(codes, k + 1)
    return k, target, predicted, counts


def macro_figure(
    name: str, k: int, target: Any, predicted: Any, counts: Any, *, with_interval: bool
) -> tuple[float, tuple[float, float]]:
    """Return F1 or precision, the mean over the classes that occur, and its interval.

    Beside what the bootstrap shows, the interval holds what no sample of a class shows that is
    always, or never, found: of `n` samples the share `Z^2 / (n + Z^2)` (Wilson).

    Args:
        name: f1 or precision.
        k: Number of classes; this and the others as from `kinds_of_samples`.
        target: `[c]`.
        predicted: `[c]`.
        counts: `[c]`.
        with_interval: Whether there is one.
    """
    import numpy as np

    never = 1e-9
    sizes = count_places(target, counts, minlength=k)
    right = np.flatnonzero(predicted == target)
    known = np.flatnonzero(predicted < k)

    def sum_by(some: Any, groups: Any) -> Any:
        sums = np.zeros((*some.shape[:-1], k))
        order = np.argsort(groups, kind="stable")
        present, starts = np.unique(groups[order], return_index=True)
        if len(present):
            sums[..., present] = np.add.reduceat(some[..., order], starts, axis=-1)
        return sums

    def of_class(hits: Any, named: Any) -> Any:
        if name == "f1":
            return 2 * hits / (sizes + named)
        return hits / np.maximum(named, never)

    def tallies(some: Any) -> tuple[Any, Any]:
        return (
            sum_by(some[..., right], target[right]),
            sum_by(some[..., known], predicted[known]),
        )

    def mean(some: Any) -> Any:
        return of_class(*tallies(some)).mean(axis=-1)

    value = float(mean(counts[None])[0])
    if not with_interval:
        return value, (0.0, 0.0)
    hits, named = tallies(counts)
    if name == "f1":
        both = sizes + named
        by_hits, by_named = 2 / both, -2 * hits / both**2
    else:
        some = np.maximum(named, never)
        by_hits, by_named = np.where(named > 0, 1 / some, 0.0), -hits / some**2
    slope = np.append(by_named, 0.0)[predicted]
    slope += np.where(predicted == target, by_hits[target], 0.0)
    low, high = count_bootstrap(counts, target, mean, slope / k)

    now = of_class(hits, named)
    hidden = Z**2 / (sizes + Z**2) * sizes
    lost, won = np.minimum(hidden, hits), np.minimum(hidden, sizes - hits)
    others = now - of_class(hits, named + lost[:, None])
    np.fill_diagonal(others, 0.0)
    loss = now - of_class(hits - lost, named - lost) + others.max(axis=1)
    gain = of_class(hits + won, named + won) - now
    below = float(np.sqrt(np.sum(loss[hits == sizes] ** 2))) / k
    above = float(np.sqrt(np.sum(gain[hits == 0] ** 2))) / k
    return value, (
        max(0.0, value - float(np.hypot(value - low, below))),
        min(1.0, value + float(np.hypot(high - value, above))),
    )


def average_precision(
    scores: Any, target: Any, *, with_interval: bool
) -> tuple[float, tuple[float, float]]:
    """Return the sum over thresholds of (recall - recall before) * precision, and its interval.

    Args:
        scores: `[n]`, higher for class 1.
        target: `[n]` 0 or 1, at least two of either.
        with_interval: Whether there is one.
    """
    import numpy as np

    hit = target == 1
    ones = int(hit.sum())
    steps = np.unique(scores[hit])
    size = len(steps)
    # Samples are alike that have a class and a number of higher thresholds in common.
    place = size - np.searchsorted(steps, scores, side="right")
    codes, counts = np.unique(hit.astype(np.int64) * (size + 1) + place, return_counts=True)
    hit, place = np.divmod(codes, size + 1)
    hit = hit.astype(bool)
    order = np.argsort(place, kind="stable")
    order = order[place[order] < size]
    hits = order[hit[order]]
    starts, starts_of_hits = (np.searchsorted(place[x], np.arange(size)) for x in (order, hits))

    def at_thresholds(some: Any) -> tuple[Any, Any]:
        named = np.add.reduceat(some[..., order], starts, axis=-1).cumsum(axis=-1)
        return named, np.add.reduceat(some[..., hits], starts_of_hits, axis=-1)

    def area(some: Any) -> Any:
        named, found = at_thresholds(some)
        precision = found.cumsum(axis=-1) / np.maximum(named, 1)
        return (found * precision).sum(axis=-1) / found.sum(axis=-1)

    value = float(area(counts[None])[0])
    if not with_interval:
        return value, (0.0, 0.0)
    named, found = at_thresholds(counts)
    reached = found.cumsum()
    below_hit = found * (named - reached) / named**2
    below_miss = -found * reached / named**2
    of_hit, of_miss = (np.append(x[::-1].cumsum()[::-1], 0.0) for x in (below_hit, below_miss))
    of_hit += np.append(reached / named, 0.0)
    gradient = np.where(hit, of_hit[place], of_miss[place]) / found.sum()
    low, high = count_bootstrap(counts, hit.astype(np.int64), area, gradient)
    few = min(ones, len(target) - ones)
    slack = 1 - wilson(few, few)[0] if low == high else 0.0
    return value, (max(0.0, low - slack), min(1.0, high + slack))


def unseen_share(n: Any) -> Any:
    """Return what share of samples may differ though none of `n` did (Wilson)."""
    return Z**2 / (n + Z**2)


def binary_accuracy(right: Any, *, with_interval: bool) -> tuple[float, tuple[float, float]]:
    """Return the share of right labels `[n, k]`, and its interval."""
    import numpy as np

    n, k = right.shape
    value = float(right.mean())
    if not with_interval:
        return value, (0.0, 0.0)
    low, high = bootstrap(right.sum(axis=1, keepdims=True), lambda means: means[..., 0] / k)
    found = right.sum(axis=0)
    below, above = (
        float(unseen_share(n) * np.sqrt(quiet.sum()) / k) for quiet in (found == n, found == 0)
    )
    return value, (
        max(0.0, value - float(np.hypot(value - low, below))),
        min(1.0, value + float(np.hypot(high - value, above))),
    )


def label_figure(
    name: str, target: Any, predicted: Any, *, with_interval: bool
) -> tuple[float, tuple[float, float]]:
    """Return F1 or precision, the mean over the labels that occur, and its interval.

    By a bootstrap over samples, and what these do not show of labels that are always found, never
    found, or never a false alarm.

    Args:
        name: f1 or precision.
        target: `[n, k]` flags.
        predicted: `[n, k]` flags.
        with_interval: Whether there is one.
    """
    import numpy as np

    def of_label(hits: Any, sizes: Any, named: Any) -> Any:
        if name == "f1":
            return 2 * hits / (sizes + named)
        return hits / np.maximum(named, 1e-9)

    def mean(counts: Any) -> Any:
        hits, sizes, named = np.split(counts, 3, axis=-1)
        present = sizes > 0
        each = np.where(present, of_label(hits, np.where(present, sizes, 1.0), named), 0.0)
        return each.sum(axis=-1) / np.maximum(present.sum(axis=-1), 1)

    def independent(*parts: Any) -> float:
        return float(np.sqrt(sum(np.sum(part**2) for part in parts))) / len(parts[0])

    target, predicted = target.astype(np.int64), predicted.astype(np.int64)
    counts = np.concatenate([target * predicted, target, predicted], axis=1)
    value = float(mean(counts.sum(axis=0)))
    if not with_interval:
        return value, (0.0, 0.0)
    low, high = bootstrap(counts, mean)
    hits, sizes, named = (part[target.any(axis=0)] for part in np.split(counts.sum(axis=0), 3))
    others = len(target) - sizes
    now = of_label(hits, sizes, named)
    missed = np.minimum(unseen_share(sizes) * sizes, hits)
    alarms = np.minimum(unseen_share(others) * others, others - (named - hits))
    won = np.minimum(unseen_share(sizes) * sizes, sizes - hits)
    loss = independent(
        np.where(hits == sizes, now - of_label(hits - missed, sizes, named - missed), 0.0),
        np.where(named == hits, now - of_label(hits, sizes, named + alarms), 0.0),
    )
    gain = independent(np.where(hits == 0, of_label(hits + won, sizes, named + won) - now, 0.0))
    return value, (
        max(0.0, value - float(np.hypot(value - low, loss))),
        min(1.0, value + float(np.hypot(high - value, gain))),
    )


def label_average_precision(
    scores: Any, target: Any, *, with_interval: bool
) -> tuple[float, tuple[float, float]]:
    """Return the mean of the average precisions of the labels that occur, and its interval.

    Args:
        scores: `[n, k]`.
        target: `[n, k]` flags.
        with_interval: Whether there is one, by a bootstrap over samples.
    """
    import numpy as np

    n, k = target.shape
    ones = np.ones(n, np.int64)
    rankings = []
    for i in np.flatnonzero(target.any(axis=0)):
        order = np.argsort(-scores[:, i], kind="stable")
        ends = np.append(np.flatnonzero(np.diff(scores[order, i])), n - 1)
        rankings.append((order, target[order, i].astype(bool), ends))

    def steps(counts: Any, order: Any, hit: Any, ends: Any) -> tuple[Any, Any, Any]:
        ranked = counts[..., order]
        reached = (ranked * hit).cumsum(axis=-1)[..., ends]
        return ranked.cumsum(axis=-1)[..., ends], reached, np.diff(reached, axis=-1, prepend=0)

    def area(counts: Any, *ranking: Any) -> Any:
        named, reached, found = steps(counts, *ranking)
        sums = (found * (reached / np.maximum(named, 1))).sum(axis=-1)
        return sums / np.maximum(reached[..., -1], 1)

    def mean(counts: Any) -> Any:
        areas = np.stack([area(counts, *one) for one in rankings], axis=-1)
        there = [counts[..., order[hit]].any(axis=-1) for order, hit, _ in rankings]
        return areas.sum(axis=-1) / np.maximum(np.stack(there, axis=-1).sum(axis=-1), 1)

    def gradient(*ranking: Any) -> Any:
        order, hit, ends = ranking
        named, reached, found = steps(ones, *ranking)
        below_hit = found * (named - reached) / named**2
        below_miss = -found * reached / named**2
        of_hit, of_miss = (x[::-1].cumsum()[::-1] for x in (below_hit, below_miss))
        of_hit = of_hit + reached / named - float(area(ones, *ranking))
        place = np.searchsorted(ends, np.arange(n))
        slopes = np.empty(n)
        slopes[order] = np.where(hit, of_hit[place], of_miss[place]) / reached[-1]
        return slopes

    value = float(mean(ones))
    if not with_interval:
        return value, (0.0, 0.0)
    slope = np.mean([gradient(*one) for one in rankings], axis=0)
    low, high = count_bootstrap(ones, np.zeros(n, np.int64), mean, slope, 4 * n * k)
    slack = 0.0
    if low == high:
        few = [min(int(hit.sum()), n - int(hit.sum())) for _, hit, _ in rankings]
        slacks = [1 - wilson(one, one)[0] for one in few if one]
        slack = float(np.sqrt(np.sum(np.square(slacks)))) / len(rankings)
    return value, (max(0.0, low - slack), min(1.0, high + slack))


def roc_auc(errors: Any, flags: Any) -> tuple[float, float, float]:
    """Return the area under the ROC curve and the ends of its 95 % interval.

    DeLong's variance by midranks (X. Sun, W. Xu, IEEE Signal Processing Letters 21, 2014) on the
    logit scale (M. Pepe, 2003).

    Args:
        errors: `[n]` scores, higher for an anomaly, or for class 1.
        flags: `[n]` 1 for an anomaly, 0 for a normal sample; at least two of either.
    """
    import numpy as np

    def midranks(values: Any) -> Any:
        _, inverse, counts = np.unique(values, return_inverse=True, return_counts=True)
        return (np.cumsum(counts) - (counts - 1) / 2)[inverse]

    anomalous = flags == 1
    p, q = int(anomalous.sum()), int((~anomalous).sum())
    ranks = midranks(errors)
    above = (ranks[anomalous] - midranks(errors[anomalous])) / q
    below = 1 - (ranks[~anomalous] - midranks(errors[~anomalous])) / p
    area = float(above.mean())
    variance = float(np.cov(above) / p + np.cov(below) / q)
    if not 0 < area < 1 or variance <= 0:
        # A perfect separation has no variance: the interval of `few` successes in `few`.
        few = min(p, q)
        slack = 1 - wilson(few, few)[0]
        return area, max(0.0, area - slack), min(1.0, area + slack)
    logit = float(np.log(area / (1 - area)))
    half = Z * variance**0.5 / (area * (1 - area))
    low, high = (float(1 / (1 + np.exp(-(logit + side)))) for side in (-half, half))
    return area, low, high


# --- Command run ----------------------------------------------------------------------------------
# One JSON line for each sample: classes, a value, boxes, a map, or plain outputs.


def run(options: Options) -> None:
    """Run a model on all inputs and print one JSON line for each sample."""
    if not options.files and not options.watch:
        raise _usage("run needs an INPUT, or --watch FOLDER.", "", "run")
    model = open_model(options)
    model.require_inputs_and_outputs()
    manifest = read_manifest(options.model)
    labels = read_labels(options.labels) if options.labels else manifest.get("labels") or []
    answers = OutputDecoder(model, manifest, labels, options.top, options.threshold)
    source = Source(model, manifest, options.frame)
    drawings = Drawings(options.draw, force=options.force) if options.draw else None
    stream = _all_samples(options, source)
    due = time.monotonic()
    try:
        for count, sample in enumerate(stream, 1):
            if sample.starts:
                model.reset_state()
            model.feed(sample.codes)
            with SilenceStderr():
                start = time.perf_counter_ns()
                model.invoke()
                elapsed = time.perf_counter_ns() - start
            answer, class_map = answers.read(sample)
            line = {"source": sample.source, "index": sample.index, **sample.extra, **answer}
            if drawings:
                line["drawn"] = drawings.draw(sample, answer, class_map)
            line["invoke_ms"] = round(elapsed / 1e6, 4)
            _write_stdout(_to_json(line))
            report_trial(options)
            if count == options.limit:
                break
            if options.every:
                due = max(due + options.every, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
    finally:
        stream.close()  # a camera is stopped by this


def _all_samples(options: Options, source: Source) -> Generator[Sample, None, None]:
    # Files already in the watched folder are not new; those that arrive from now on are.
    known = file_states(options.watch) if options.watch else {}
    for name in options.files:
        yield from source.open(name)
    if options.watch:
        yield from source.watch(options.watch, min(options.every or WATCH_S, WATCH_S), known)


WATCH_S = 0.25


class OutputDecoder:
    """Decodes outputs by task: classes, labels, a value, boxes, a class map, or plain outputs.

    Args:
        model: The model.
        manifest: Its manifest; without a task in it, the task is inferred from shapes.
        labels: Class names.
        top: Number of classes to report.
        threshold: Minimum score of a box or a label.
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
        self.task = data.get("task") or infer_task_from_shapes(model)
        self.unit = data.get("unit")
        self.spec = picture_spec(manifest) or {}

    def read(self, sample: Sample) -> tuple[dict[str, Any], Any]:
        """Return the decoded outputs of a sample, and its class map `[h, w]` or None.

        Raises:
            RunnerError: The number of labels is wrong (code 4), or an output is NaN (code 3).
        """
        import numpy as np

        outputs = self.model.results()
        first = np.asarray(outputs[0])
        if self.task == "reconstruction":
            difference = np.asarray(sample.value(), np.float32).ravel() - first.ravel()
            return {"error": float(np.mean(difference**2))}, None
        if self.task == "classification" and first.size > 1:
            return {"top": self._classes(first.ravel())}, None
        if self.task == "multi-label" and first.size > 1:
            return {"labels": self._labels(first.ravel())}, None
        if self.task == "detection" and _detection_order(self.model):
            return {"objects": self._objects(outputs, sample.picture)}, None
        if self.task == "segmentation" and first.ndim in (2, 3):
            class_map = to_class_map(first)
            return self._class_shares(class_map), class_map
        plain = {tensor.name: _to_plain(out) for tensor, out in zip(self.model.outputs, outputs)}
        if self.task == "regression" and first.size == 1:
            unit = {"unit": self.unit} if self.unit else {}
            return {"value": _to_plain(first.ravel()[0]), **unit, "outputs": plain}, None
        return {"outputs": plain}, None

    def _class_and_label(self, number: int) -> dict[str, Any]:
        known = number < len(self.labels) and self.labels[number]
        return {"class": number, **({"label": self.labels[number]} if known else {})}

    def _classes(self, scores: Any) -> list[dict[str, Any]]:
        import numpy as np

        self._check_labels(scores)
        order = np.argsort(-scores, kind="stable")[: self.top]
        return [{**self._class_and_label(int(k)), "score": _to_plain(scores[k])} for k in order]

    def _check_labels(self, scores: Any) -> None:
        if self.labels and len(self.labels) != len(scores):
            raise RunnerError(
                DATA,
                f"{len(self.labels)} labels do not fit {self.model.path}.",
                f"It has {len(scores)} outputs.",
                "Give the labels.txt that belongs to it: one label a line.",
            )

    def _labels(self, scores: Any) -> list[dict[str, Any]]:
        """Return the labels whose probability reaches the threshold, the likeliest first.

        Scores are probabilities where all lie in [0, 1], otherwise logits.
        """
        import numpy as np

        self._check_labels(scores)
        scores = np.asarray(scores, np.float64)
        shares = scores if are_shares(scores) else 1 / (1 + np.exp(-scores.clip(-500, 500)))
        order = np.argsort(-shares, kind="stable")
        return [
            {**self._class_and_label(int(k)), "score": round(float(shares[k]), 6)}
            for k in order
            if shares[k] > self.threshold
        ]

    def _objects(self, outputs: Sequence[Any], picture: Any) -> list[dict[str, Any]]:
        """Return detections with boxes `[ymin, xmin, ymax, xmax]`, fractions of the picture."""
        boxes, classes, scores, count = (outputs[k] for k in _detection_order(self.model))
        height, width = picture_size(picture) if picture is not None else (1, 1)
        # After a crop, boxes are relative to the crop window.
        part = crop_window(height, width, self.spec) if picture is not None else (0, 0, 1, 1)
        found = []
        boxes, classes, scores = boxes.reshape(-1, 4), classes.ravel(), scores.ravel()
        for box, number, score in list(zip(boxes, classes, scores))[: int(count.ravel()[0])]:
            if score >= self.threshold:
                edges = [
                    (part[k % 2] + float(edge) * part[2 + k % 2]) / (height, width)[k % 2]
                    for k, edge in enumerate(box)
                ]
                shown = [round(edge, 6) for edge in edges]
                found.append(
                    {"box": shown, **self._class_and_label(int(number)), "score": _to_plain(score)}
                )
        return found

    def _class_shares(self, class_map: Any) -> dict[str, Any]:
        import numpy as np

        numbers, counts = np.unique(class_map, return_counts=True)
        order = np.argsort(-counts, kind="stable")
        shares = [
            {
                **self._class_and_label(int(numbers[k])),
                "share": round(int(counts[k]) / class_map.size, 6),
            }
            for k in order
        ]
        return {"size": list(class_map.shape), "classes": shares}


def infer_task_from_shapes(model: Model) -> str | None:
    """Return the task that the shapes of a model suggest, None where they do not."""
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
    """Return the indices of boxes, classes, scores and count among the outputs, [] without them.

    The operator TFLite_Detection_PostProcess has four outputs: boxes `[1, n, 4]`, classes and
    scores `[1, n]`, count `[1]`, in this order; TensorFlow 2 reorders them, and then scores come
    before classes.
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


def to_class_map(output: Any) -> Any:
    """Return class numbers `[h, w]` of a class map `[h, w]` or of scores `[h, w, classes]`.

    A single channel is the probability of class 1, or its logit where some values are not in
    [0, 1].
    """
    import numpy as np

    if output.ndim == 3 and output.shape[2] > 1:
        return np.argmax(output, axis=2)
    flat = output.reshape(output.shape[:2])
    if flat.dtype.kind != "f":
        return flat
    return (flat > (0.5 if are_shares(flat) else 0.0)).astype(np.int64)


def picture_size(picture: Any) -> tuple[int, int]:
    """Return height and width of a PIL image or an array."""
    if hasattr(picture, "convert"):
        return picture.height, picture.width
    return picture.shape[0], picture.shape[1]


def _to_plain(value: Any) -> Any:
    """Return nested lists for JSON; a float has the fewest digits that identify it."""
    import numpy as np

    if isinstance(value, np.ndarray) and value.ndim:
        return [_to_plain(part) for part in value]
    return float(str(value)) if value.dtype.kind == "f" else value.item()


# --- Drawing --------------------------------------------------------------------------------------
# Pictures with boxes and labels on them, for `run --draw`.


class Drawings:
    """Writes annotated pictures or class maps into a folder, one PNG for each sample.

    Args:
        folder: Created if missing.
        force: Whether files of earlier runs are replaced.
    """

    def __init__(self, folder: str, *, force: bool) -> None:
        self.folder = folder
        self.force = force
        self.used: dict[str, int] = {}
        try:
            os.makedirs(folder, exist_ok=True)
        except OSError as error:
            raise self._write_error(error) from error

    def _write_error(self, error: OSError) -> RunnerError:
        return RunnerError(
            USAGE, f"Cannot write into {self.folder}.", error, "Give another --draw."
        )

    def draw(self, sample: Sample, answer: Mapping[str, Any], class_map: Any) -> str:
        """Draw one sample; return the path of the file.

        Raises:
            RunnerError: There is nothing to draw on, or the file exists (code 2).
        """
        image = _import_pillow("--draw")
        if class_map is not None:
            if class_map.min() < 0 or class_map.max() > 255:
                raise RunnerError(USAGE, "--draw knows 256 classes.", f"Found {class_map.max()}.")
            picture = image.fromarray(class_map.astype("uint8"))
            # Pixel values are the classes; a palette assigns the colours.
            picture.putpalette(class_colours())
        elif sample.picture is None:
            raise RunnerError(
                USAGE,
                f"There is no picture in {sample.source} to draw on.",
                "",
                "Leave --draw out, or give pictures.",
            )
        else:
            picture = _annotate(image, sample.picture, answer)
        path = self._place(sample)
        temporary = os.path.join(self.folder, f"edgekit-{os.getpid()}.part")
        try:
            picture.save(temporary, "PNG")
            os.replace(temporary, path)
        except OSError as error:
            raise self._write_error(error) from error
        finally:
            with DeferSigint():
                if os.path.exists(temporary):
                    os.remove(temporary)
        return path

    def _place(self, sample: Sample) -> str:
        stem = os.path.splitext(os.path.basename(sample.source))[0].replace(":", "-")
        stem = "frame" if sample.source == "-" else stem
        # Leaves room for a number and a suffix in a name of 255 bytes.
        stem = os.fsdecode(os.fsencode(stem)[:200])
        if not sample.single:
            stem += f"-{sample.index:06d}"
        # Pictures from several folders may share a name.
        self.used[stem] = self.used.get(stem, 0) + 1
        name = stem if self.used[stem] == 1 else f"{stem}-{self.used[stem]}"
        path = os.path.join(self.folder, name + ".png")
        output_path(path, "--draw", [sample.source], force=self.force)
        return path


def class_colours(count: int = 256) -> list[int]:
    """Return the palette of PASCAL VOC: red, green and blue of each class, concatenated.

    The bits of the class number go to the three channels in turn, highest bit first.
    """
    colours = []
    for number in range(count):
        for channel in range(3):
            bits = (((number >> (3 * k + channel)) & 1) << (7 - k) for k in range(3))
            colours.append(sum(bits))
    return colours


def _annotate(image: Any, picture: Any, answer: Mapping[str, Any]) -> Any:
    """Return a copy of a picture with labelled boxes, or with classes or a value in its corner."""
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
        _draw_text(
            pen, corners[0], f"{thing.get('label', number)} {thing['score']:.2f}", size, colour
        )
    words = [
        f"{item.get('label', item['class'])} {item['score']:.2f}" for item in answer.get("top", ())
    ]
    if "value" in answer:
        words = [f"{answer['value']:g} {answer.get('unit', '')}".strip()]
    for row, text in enumerate(words):
        _draw_text(pen, (0, row * 1.4 * size), text, size, (0, 0, 0))
    return copy


def _draw_text(pen: Any, corner: tuple[float, float], text: str, size: int, colour: Any) -> None:
    """Draw text on a rectangle of a colour, in black or white, whichever has more contrast."""
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


# --- Command selftest -----------------------------------------------------------------------------
# A small model with known outputs, to tell a broken runtime from a broken model.

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
# Largest difference in codes. Kernels round differently: after a softmax, XNNPACK may be up to 13
# codes of 256 away from the reference without being wrong; a broken kernel is far away.
TOLERANCE = {"default": 16, "reference": 1}


def selftest(options: Options) -> None:
    """Run the model in this file and compare its outputs with the known ones.

    Raises:
        RunnerError: They differ, or the runtime fails (code 7).
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
            with SilenceStderr():
                found = _classify(runtime, kernels, options.threads, packed[740:], pictures)
        except Exception as error:  # a broken runtime may raise any exception
            foreign = _load_error(error, "the model in this file", runtime)
            if foreign.code == DEVICE:
                raise foreign from error
            raise _broken_runtime("cannot run a valid model", error) from error
        right = int((found.argmax(1) == known.argmax(1)).sum())
        away = int(abs(found - known).max())
        results.append({"kernels": kernels, "right": right, "n": 10, "largest_difference": away})
        if right < 10 or away > tolerance:
            raise _broken_runtime(
                "computes wrong results",
                f"{kernels.capitalize()} kernels: {right} of 10 right, up to {away} codes away.",
            )
    machine = describe_device()
    lines = [
        f"{runtime} works on {machine['device']}:",
        "a model that fails here is itself at fault.",
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
    _print_result(facts if options.json else lines)


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


def _broken_runtime(how: str, found: object) -> RunnerError:
    return RunnerError(
        DEVICE,
        f"The runtime is broken: it {how}.",
        found,
        "Install it again, or another version or --runtime; the model is not the cause.",
    )


# --- Runtimes -------------------------------------------------------------------------------------
# Finding and importing a TFLite runtime, and what to install where there is none.

RUNTIMES = {
    "litert": ("ai_edge_litert", "ai-edge-litert"),
    "tflite": ("tflite_runtime", "tflite-runtime"),
    "tensorflow": ("tensorflow", "tensorflow"),
}
# `default` uses XNNPACK for the operators it supports; `builtin` only the runtime's optimized
# kernels; `reference` is slow and bit-exact on every processor.
KERNELS = {
    "default": "AUTO",
    "builtin": "BUILTIN_WITHOUT_DEFAULT_DELEGATES",
    "reference": "BUILTIN_REF",
}


class Runtime:
    """An importable TFLite runtime.

    Args:
        key: litert, tflite or tensorflow.
        start_ns: Clock reading before the first import.

    Attributes:
        key: litert, tflite or tensorflow.
        version: Its version.
        interpreter: Its Interpreter class.
        load_delegate: Its function to load a delegate.
        import_ns: Time that importing numpy and the runtime took.
    """

    def __init__(self, key: str, start_ns: int) -> None:
        package, self.distribution = RUNTIMES[key]
        self.key = key
        # TensorFlow reads this when it is imported; it suppresses notices about CPU features.
        os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "3")
        with SilenceStderr():
            _import_numpy()  # before the runtime, so that a missing numpy is reported as such
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
        """Return the interpreter arguments that select these kernels.

        Raises:
            RunnerError: The runtime cannot select kernels: it is older than TFLite 2.6 (code 7).
        """
        if kernels == "default":
            return {}
        if self.resolvers is None:
            raise RunnerError(
                DEVICE, f"{self} has default kernels only.", "", "Omit --kernels and --sweep."
            )
        return {"experimental_op_resolver_type": getattr(self.resolvers, KERNELS[kernels])}


def find_runtime(key: str | None = None) -> Runtime:
    """Import the runtime called `key`, or the first that is installed.

    Raises:
        RunnerError: Neither numpy nor a runtime is installed, or the first one found does not
            work (code 7).
    """
    # The clock starts here: looking for a missing runtime already imports numpy.
    start = time.perf_counter_ns()
    for candidate in [key] if key else RUNTIMES:
        package, distribution = RUNTIMES[candidate]
        try:
            with DeferSigint():
                return Runtime(candidate, start)
        except RunnerError:
            raise
        except Exception as error:  # a broken native library may raise any exception
            missing = error.name if isinstance(error, ModuleNotFoundError) else None
            if missing == "numpy":
                hint = _runtime_hint(key)
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
    raise RunnerError(DEVICE, f"{wanted} is not installed.", found, _runtime_hint(key))


def _import_numpy() -> None:
    try:
        __import__("numpy")
    except ModuleNotFoundError:
        raise
    except ImportError as error:
        # numpy adds long advice to the loader's message, which the first error has.
        first: BaseException = error
        while first.__context__ or first.__cause__:
            first = first.__cause__ or first.__context__ or first
        hint = f"{_pip()} --force-reinstall numpy"
        if "openblas" in str(first):
            hint = "Install with: sudo apt install libopenblas0"
        what = "numpy is installed and cannot be imported."
        raise RunnerError(DEVICE, what, first, hint) from error


def _runtime_hint(
    key: str | None,
    machine: str = "",
    version: tuple[int, ...] = sys.version_info[:2],
    narrow: bool = sys.maxsize < 1 << 32,
) -> str:
    """Return how to install a runtime on this machine, if there is a wheel for it.

    A 32-bit system may run on a 64-bit kernel, where uname says aarch64: the pointer size of
    Python decides.
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


def _pip() -> str:
    return f"Install with: {os.path.basename(sys.executable) or 'python3'} -m pip install"


# --- Delegates ------------------------------------------------------------------------------------
# Edge TPUs and other delegate libraries.

EDGE_TPU = ("edgetpu", "usb", "pci")
EDGE_TPU_OPERATOR = "edgetpu-custom-op"
# USB ids of a USB Accelerator before and after its firmware is loaded.
EDGE_TPU_USB = (("1a6e", "089a"), ("18d1", "9302"))
MACHINES = {3: "32-bit x86", 40: "32-bit ARM", 62: "64-bit x86", 183: "64-bit ARM"}


class Delegate:
    """A delegate library, which runs operators in place of the runtime.

    Args:
        name: edgetpu, usb, pci, one of them with the number of a device (usb:0), or the path of a
            library with the interface of TFLite's external delegates.
        settings: Its options, as `key=value`.

    Attributes:
        library: Name or path that is loaded.
        options: Options of the library.
        edge_tpu: Whether it is libedgetpu.
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
            # libedgetpu ignores its other options unless the device has a number.
            number = "" if colon or not self.options else ":0"
            self.options.setdefault("device", name.replace("edgetpu", "") + number)
        else:
            # The loader does not search the current folder.
            self.library = os.path.abspath(name) if os.path.exists(name) else name
        self.is_file = not self.edge_tpu and os.path.exists(name)

    def __str__(self) -> str:
        return " ".join([self.name, *self.settings])

    def load(self, runtime: Runtime) -> Any:
        """Return the loaded delegate for an interpreter.

        Raises:
            RunnerError: The library is missing, no delegate, or finds no device (code 7).
        """
        import ctypes

        try:
            if self.is_file:
                require_regular_file(self.library)
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
                raise self._no_device_error() from error
            raise RunnerError(
                DEVICE,
                f"{self.library} does not start.",
                reason or "It gives no reason.",
                "Check its --delegate-option, and that its device is connected.",
            ) from error

    def _library_error(self, text: str) -> RunnerError:
        here = _elf_machine("/proc/self/exe")
        there = _elf_machine(self.library) if self.is_file else ""
        if here and there and here != there:
            # For a library of another processor, the loader reports "No such file".
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

    def _no_device_error(self) -> RunnerError:
        """Return the error for a missing device, for which libedgetpu gives no reason."""
        usb, pci = _count_edge_tpus()
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


def _elf_machine(path: str) -> str:
    """Return the processor architecture of an ELF file; "" for other files."""
    try:
        head = _head(path, 20)
    except OSError:
        return ""
    if head[:4] != b"\x7fELF":
        return ""
    number = int.from_bytes(head[18:20], "little")
    return MACHINES.get(number, f"processor {number}")


def _count_edge_tpus() -> tuple[int, int]:
    """Return the number of Edge TPUs on USB and on PCIe, as the kernel lists them."""
    usb = _kernel_files("/sys/bus/usb/devices/*/idVendor")
    names = [
        (_kernel_text(path), _kernel_text(path.replace("idVendor", "idProduct"))) for path in usb
    ]
    return sum(name in EDGE_TPU_USB for name in names), len(_kernel_files("/dev/apex_*"))


# --- Models ---------------------------------------------------------------------------------------
# A loaded model, its tensors, and the errors of loading it.


def open_model(options: Options, runtime: Runtime | None = None) -> Model:
    """Load the model that the options name."""
    runtime = runtime or find_runtime(options.runtime)
    if options.unknown_origin:
        _silence_native_stderr()
    return Model(
        options.model,
        runtime,
        options.threads,
        options.kernels,
        Delegate(options.delegate, options.delegate_option) if options.delegate else None,
        trial=Trial(first_run_limit(options)) if first_run_limit(options) else None,
    )


class Model:
    """A loaded and allocated model.

    Attributes:
        path: The file.
        runtime: The runtime.
        delegate: The delegate, or None.
        inputs: Input tensors, with signature names where there is a signature.
        outputs: Output tensors, likewise.
        signatures: Signature name -> {"inputs": [...], "outputs": [...]}.
        load_ns: Time to load the file and the delegate.
        allocate_ns: Time to allocate tensors and prepare kernels.
        state: Where it keeps its state, see `state_of`.
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
        _require_tflite_file(path)
        _check_delegate(path, delegate)
        self.state = state_of(path)
        self.threads = threads
        self.kernels = kernels
        self._new_interpreter(trial)
        try:
            self._read_interface()
        except Exception as error:  # types that numpy lacks, names that are no text
            raise self._error("has inputs or outputs that cannot be read", error) from error

    def _new_interpreter(self, trial: Trial | None = None) -> None:
        import contextlib  # which numpy has imported already

        path, runtime, delegate = self.path, self.runtime, self.delegate
        arguments = runtime.choose(self.kernels)
        start = time.perf_counter_ns()
        try:
            # A signal while a delegate is being created would leave it half-initialized.
            with DeferSigint(), SilenceStderr(), trial or contextlib.nullcontext():
                if delegate:
                    arguments["experimental_delegates"] = [delegate.load(runtime)]
                interpreter = runtime.interpreter(
                    model_path=path, num_threads=self.threads, **arguments
                )
                loaded = time.perf_counter_ns()
                interpreter.allocate_tensors()
        except RunnerError:
            raise
        except Exception as error:  # ValueError, RuntimeError, SystemError: runtimes differ
            raise _load_error(error, path, runtime, delegate) from error
        self.load_ns = loaded - start
        self.allocate_ns = time.perf_counter_ns() - loaded
        self.interpreter = interpreter

    def reset_state(self) -> None:
        """Forget what earlier runs left in the model.

        Raises:
            RunnerError: The runtime cannot (code 3).
        """
        if self.state == RESOURCES:
            self._new_interpreter()
        elif self.state == TENSORS:
            try:
                self.interpreter.reset_all_variables()
            except (RuntimeError, SystemError, ValueError) as error:
                raise self._error("cannot be reset", error) from error

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

    def _error(self, how: str, found: object) -> RunnerError:
        return RunnerError(
            MODEL,
            f"{self.path} {how}.",
            found,
            "Convert the model again, or try another --runtime.",
        )

    def require_inputs_and_outputs(self) -> None:
        """Raise a RunnerError (code 3) unless the model has inputs and outputs."""
        for tensors, side in ((self.inputs, "input"), (self.outputs, "output")):
            if not tensors:
                raise self._error(f"has no {side}", "It cannot be measured or scored.")

    def feed(self, encoded: Sequence[Any]) -> None:
        """Write one array into each input.

        Raises:
            RunnerError: The runtime rejects it (code 3).
        """
        for tensor, value in zip(self.inputs, encoded):
            try:
                self.interpreter.set_tensor(tensor.index, value)
            except (RuntimeError, TypeError, ValueError) as error:
                raise self._error(f"takes no value at input {tensor.name}", error) from error

    def invoke(self) -> None:
        """Run once.

        Raises:
            RunnerError: A kernel fails (code 3).
        """
        trial, self.trial = self.trial, None
        try:
            if trial:
                with trial:
                    self.interpreter.invoke()
            else:
                self.interpreter.invoke()
        except (RuntimeError, SystemError, ValueError) as error:
            raise self._error("fails while it runs", error) from error

    def codes(self, tensor: Tensor) -> Any:
        """Return what the last run left in an output, as it is stored.

        Raises:
            RunnerError: The runtime has nothing there (code 3).
        """
        try:
            return self.interpreter.get_tensor(tensor.index)
        except (RuntimeError, TypeError, ValueError) as error:
            raise self._error(f"gives no value at output {tensor.name}", error) from error

    def results(self) -> list[Any]:
        """Return all outputs, dequantized, without the batch axis.

        Raises:
            RunnerError: An output holds NaN (code 3).
        """
        import numpy as np

        found = []
        for tensor in self.outputs:
            value = tensor.decode(self.codes(tensor))
            if value.dtype.kind == "f" and np.isnan(value).any():
                raise RunnerError(
                    MODEL,
                    f"{self.path} computes NaN at output {tensor.name}.",
                    "The input was finite.",
                    "Check the ranges and weights of the model; convert it again.",
                )
            found.append(value[0] if value.ndim > 1 and value.shape[0] == 1 else value)
        return found


def _tensors(details: Sequence[Mapping[str, Any]], names: Mapping[int, str]) -> list[Tensor]:
    return [Tensor(names.get(item["index"], str(item["name"])), item) for item in details]


class Tensor:
    """An input or output: signature name, index, shape, dtype, scale and zero point."""

    def __init__(self, name: str, details: Mapping[str, Any]) -> None:
        import numpy as np

        self.name = name
        self.index = details["index"]
        self.shape = tuple(int(size) for size in details["shape"])
        self.dtype = np.dtype(details["dtype"])
        scale, zero_point = details["quantization"]
        # Float tensors are not quantized, even if a file gives them a scale.
        self.scale = (float(scale) or None) if self.dtype.kind in "iu" else None
        self.zero_point = int(zero_point)
        if self.scale and not 0 < self.scale < 1e38:
            raise ValueError(f"tensor {name} has the scale {self.scale}")

    def encode(self, value: Any) -> Any:
        """Quantize one preprocessed sample and reshape it to this tensor.

        An array of the tensor's dtype holds codes already; anything else holds real values, which
        a quantized tensor stores as `round(value / scale) + zero_point`.

        Raises:
            ValueError: The shape differs in more than axes of size 1, or a value does not fit.
        """
        if _without_unit_axes(value.shape) != _without_unit_axes(self.shape):
            raise ValueError(f"shape {list(value.shape)} where {list(self.shape)} is expected")
        return self.codes(value).reshape(self.shape)

    def codes(self, value: Any) -> Any:
        """Return the codes of values of any shape; see `encode`."""
        import numpy as np

        if _require_numbers(value).dtype.kind == "f" and not np.isfinite(value).all():
            raise ValueError("NaN or infinity")
        if value.dtype == self.dtype:
            return value.astype(self.dtype)
        with np.errstate(all="ignore"):  # overflow is clipped, or refused below
            if self.scale:
                codes = np.round(value.astype(np.float32) / np.float32(self.scale))
                limits = np.iinfo(self.dtype)
                if limits.bits > 16:  # float32 cannot represent the largest of these
                    codes = codes.astype(np.float64)
                value = np.clip(codes + self.zero_point, limits.min, limits.max)
            codes = value.astype(self.dtype)
            if not self.scale and self.dtype.kind in "iub" and not np.array_equal(value, codes):
                raise ValueError(f"{value.dtype} values where {self.dtype} is expected")
        if self.dtype.kind == "f" and value.dtype.kind == "f" and not np.isfinite(codes).all():
            raise ValueError(f"values too large for {self.dtype}")
        return codes

    def decode(self, codes: Any) -> Any:
        """Dequantize codes: `(code - zero_point) * scale`."""
        import numpy as np

        if not self.scale:
            return codes
        return (codes.astype(np.float32) - np.float32(self.zero_point)) * np.float32(self.scale)

    def real(self, value: Any) -> Any:
        """Return real values: codes are dequantized, real values returned as they are."""
        return self.decode(value) if value.dtype == self.dtype else value

    def describe(self) -> dict[str, Any]:
        """Return the facts that `info` prints about this tensor."""
        return {
            "name": self.name,
            "shape": list(self.shape),
            "dtype": self.dtype.name,
            "scale": self.scale,
            "zero_point": self.zero_point if self.scale else None,
        }


def _without_unit_axes(shape: Sequence[int]) -> list[int]:
    return [size for size in shape if size != 1]


def _load_error(
    error: Exception, path: str, runtime: Runtime, delegate: Delegate | None = None
) -> RunnerError:
    import numpy as np

    text = str(error)
    if isinstance(error, SystemError) and int(np.__version__.split(".")[0]) >= 2:
        # A runtime built for numpy 1 imports, then misses numpy's C interface (_ARRAY_API).
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
    elif "old TFLite binary" in text:
        # The runtime's message for an operator, or a version of one, that it does not know: int4
        # kernels, for example, are version 8 of CONV_2D.
        hint = _newer_runtime_hint(runtime.key)
    elif isinstance(error, ValueError):
        hint = "The file is damaged or cut short: copy it again and compare its sha256."
    else:
        hint = "A newer runtime may know it: update, or try another --runtime."
    return RunnerError(MODEL, f"{runtime} cannot load {path}.", text, hint)


def _newer_runtime_hint(key: str) -> str:
    """Return how to run a file that is newer than the runtime called `key`."""
    if key != "tflite":
        return "The file needs a newer runtime: update it, or try another --runtime."
    install = _runtime_hint(None)
    if "ai-edge-litert" in install:
        return f"The file needs ai-edge-litert. {install}"
    return (
        "The file needs ai-edge-litert, which takes a 64-bit system and Python 3.10: use those, or "
        "another variant of the model, such as dynamic or int8."
    )


# Other formats that are given by mistake, by their first four bytes.
OTHER_FORMATS = {
    b"PK\x03\x04": "It is a zip archive, as .keras and .npz are.",
    b"\x89HDF": "It is an HDF5 file, as .h5 is.",
    b"": "It is empty.",
}


def _require_tflite_file(path: str) -> None:
    """Raise a RunnerError unless `path` is a file with the identifier of a TFLite model."""
    hint = "Give a .tflite file; what Keras saved, `edgekit import` converts on a computer."
    try:
        head = _head(path, 8)
    except OSError as error:
        raise read_error(MODEL, path, error, hint) from error
    # Bytes 4 to 8 of a flatbuffer identify its schema.
    if head[4:8] != b"TFL3":
        found = OTHER_FORMATS.get(head[:4], f"It starts with {head!r}, not with TFL3.")
        raise RunnerError(MODEL, f"{path} is no TFLite model.", found, hint)


def _check_delegate(path: str, delegate: Delegate | None) -> None:
    """Raise if a model compiled for the Edge TPU has no delegate for it, or the reverse."""
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


def custom_operators(path: str) -> list[str]:
    """Return the names of a model's custom operators; none for a damaged file."""

    def names(model: Table) -> list[str]:
        # Fields of schema.fbs: Model.operator_codes 1, OperatorCode.custom_code 1.
        return [name for name in (code.text(1) for code in model.tables(1)) if name]

    found: list[str] = _read_flatbuffer(path, names, [])
    return found


# Where a model keeps what it carries from one run to the next.
RESOURCES = "resources"
TENSORS = "tensors"
# BuiltinOperator.ASSIGN_VARIABLE of schema.fbs: without it, resource variables are constants.
ASSIGN_VARIABLE = 144


def state_of(model: str | bytes) -> str:
    """Return where a model, or the file of one, keeps its state: RESOURCES, TENSORS, or "".

    `Interpreter.reset_all_variables` resets variable tensors. Neither it nor another
    `allocate_tensors` resets resource variables (LiteRT 2.3, tflite-runtime 2.14): only a new
    interpreter does.
    """

    def state(root: Table) -> str:
        # Fields of schema.fbs: Model.operator_codes 1, OperatorCode.builtin_code 3,
        # Model.subgraphs 2, SubGraph.tensors 0, Tensor.is_variable 5.
        if any(code.number(3, "<i") == ASSIGN_VARIABLE for code in root.tables(1)):
            return RESOURCES
        return TENSORS if any(map(keeps, root.tables(2))) else ""

    def keeps(graph: Table) -> bool:
        tensors = enumerate(graph.tables(0))
        states = {index for index, tensor in tensors if tensor.number(5, "<B")}
        # An operator that writes a state sets it at every run. SubGraph.operators 3,
        # Operator.outputs 2.
        return bool(states) and not states <= {
            index for operator in graph.tables(3) for index in operator.integers(2)
        }

    found: str = _read_flatbuffer(model, state, "")
    return found


def _read_flatbuffer(model: str | bytes, read: Callable[[Table], Any], damaged: Any) -> Any:
    """Return what `read` returns for a model's root table, or `damaged` for a damaged file."""
    import mmap
    import struct

    def root(data: Any) -> Table:
        return Table(data, int.from_bytes(data[:4], "little"))

    try:
        if isinstance(model, bytes):
            return read(root(model))
        with open(model, "rb") as stream:
            data = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_READ)
        with data:
            return read(root(data))
    except (struct.error, ValueError):
        return damaged


# --- Manifests and metadata -----------------------------------------------------------------------
# Preprocessing and labels of a model: the JSON file beside it, and the metadata inside it.


def manifest_path(path: str) -> str:
    """Return the path of a model's manifest."""
    return os.path.splitext(path)[0] + ".json"


def has_unknown_origin(options: Options) -> bool:
    """Return whether a model has no manifest with its digest.

    Files of other formats do not count: they are refused before a runtime loads them.
    """
    import json

    try:
        if _head(options.model, 8)[4:8] != b"TFL3":
            return False
    except OSError:
        return False
    try:
        declared = json.loads(read_text(manifest_path(options.model)))["sha256"]
        options.sha256 = sha256_of(options.model)
    except (KeyError, IndexError, OSError, RecursionError, TypeError, ValueError):
        return True
    return bool(declared != options.sha256)


def sha256_of(path: str) -> str:
    """Return the digest of a file, in hexadecimal."""
    import hashlib

    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            digest.update(block)
    return digest.hexdigest()


def read_manifest(path: str) -> dict[str, Any]:
    """Return a model's manifest, completed from the metadata in the model.

    Returns:
        The manifest beside the model, or an empty one. If it has no `preprocessing` or `labels`,
        they are taken from the metadata. `origin` names the source of both: "manifest" or
        "metadata". `pixels` tells that the metadata describe an image input: its preprocessing is
        that of pixels, and not of floats that were scaled before.

    Raises:
        RunnerError: Manifest or metadata cannot be read (code 3).
    """
    import json

    place = manifest_path(path)
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
        manifest["pixels"] = origin.get("preprocessing") == "metadata" and metadata.get("image")
    manifest["origin"] = origin
    return manifest


def picture_spec(manifest: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """Return how pictures are preprocessed, None if that is unknown.

    `picture` of the manifest says it for models whose data came as arrays. Manifests of edgekit
    0.1 lack that key: there the preprocessing of arrays, if any, is that of pixels 0-255.
    """
    spec, picture = manifest.get("preprocessing"), manifest.get("picture")
    kind = (spec or {}).get("kind")
    if picture and kind in (None, "none", "affine"):
        return picture  # type: ignore[no-any-return]
    if kind == "none" or (kind == "affine" and "picture" in manifest):
        return None
    return spec


# Required keys of each kind of preprocessing: integers from 1 up to this limit.
REQUIRED_COUNTS: dict[str, dict[str, int]] = {
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
# Allowed values of optional keys.
ALLOWED_VALUES = {"channels": (1, 3), "order": ("rgb", "bgr"), "fit": ("stretch", "crop")}
MAX_FRAMED_SAMPLES = 1 << 27  # of float64, in all frames of a recording together


def check_manifest(manifest: Any) -> None:
    """Raise a TypeError or ValueError unless the used parts of a manifest have valid types."""
    if not isinstance(manifest, dict):
        raise TypeError("It is no JSON object.")
    kinds = {"preprocessing": dict, "picture": dict, "data": dict, "labels": list}
    for key, kind in kinds.items():
        if not isinstance(manifest.get(key), (kind, type(None))):
            raise TypeError(f"Its {key} is {manifest[key]!r}.")
    if not all(isinstance(label, str) for label in manifest.get("labels") or ()):
        raise ValueError("A label in it is no text.")
    if not isinstance((manifest.get("data") or {}).get("task"), (str, type(None))):
        raise TypeError(f"Its data has task {manifest['data']['task']!r}.")
    check_spec(manifest.get("preprocessing") or {})
    picture = manifest.get("picture")
    if picture:
        if picture.get("kind") != "image":
            raise ValueError(f"Its picture is of kind {picture.get('kind')!r}; known: image.")
        check_spec(picture)


def check_spec(spec: Mapping[str, Any]) -> None:
    """Raise a ValueError unless a preprocessing is valid."""

    def number(value: Any, least: float = -1e38) -> bool:
        # NaN and numbers beyond the range of float32 are invalid.
        known = isinstance(value, (int, float)) and not isinstance(value, bool)
        return known and least <= value <= 1e38

    kind = spec.get("kind", "none")
    if kind not in REQUIRED_COUNTS:
        known = ", ".join(REQUIRED_COUNTS)
        raise ValueError(f"Its preprocessing is of unknown kind {kind!r}; known: {known}.")
    wrong = [
        key
        for key, most in REQUIRED_COUNTS[kind].items()
        if type(spec.get(key)) is not int or not 0 < spec[key] <= most
    ]
    if kind == "image":
        wrong += [
            key for key in ALLOWED_VALUES if key in spec and spec[key] not in ALLOWED_VALUES[key]
        ]
        wrong += [] if isinstance(spec.get("orientation", True), bool) else ["orientation"]
    if kind == "log-mel":
        wrong += [key for key in ("low_hz", "high_hz") if not number(spec.get(key), 0)]
        wrong += [key for key in ("floor", "std") if not number(spec.get(key, 1), 1e-38)]
        wrong += [] if number(spec.get("mean", 0)) else ["mean"]
        if not wrong and spec["frame"] > spec["samples"]:
            wrong = ["frame"]
        elif not wrong and spec["samples"] // spec["hop"] * spec["frame"] > MAX_FRAMED_SAMPLES:
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


def read_metadata(path: str) -> dict[str, Any]:
    """Return the TFLite metadata in a model.

    The flatbuffer of `metadata_schema.fbs` (tensorflow/tflite-support) in a buffer of the model
    that is named TFLITE_METADATA; label files are in a zip archive behind the model.

    Returns:
        `preprocessing` (kind affine: the NormalizationOptions of the first input) and `labels`
        (those of the first output that has any), each only where it is there; `image` where the
        first input is one.

    Raises:
        RunnerError: It is damaged (code 3).
    """
    import mmap
    import struct

    _require_tflite_file(path)
    try:
        with open(path, "rb") as stream:
            size = os.fstat(stream.fileno()).st_size
            with mmap.mmap(stream.fileno(), size, access=mmap.ACCESS_READ) as data:
                content = _metadata_buffer(data)
        return _parse_metadata(content, path) if content[4:8] == b"M001" else {}
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
            # Buffers of files of 2 GB and more are appended to the flatbuffer: offset 1, size 2.
            offset, size = (buffers[number].number(field, "<Q") for field in (1, 2))
            return bytes(data[offset : offset + size]) if offset else buffers[number].block(0)[1]
    return b""


def _parse_metadata(content: bytes, path: str) -> dict[str, Any]:
    # Fields of metadata_schema.fbs: ModelMetadata.subgraph_metadata 3; SubGraphMetadata.
    # input_tensor_metadata 2, .output_tensor_metadata 3; TensorMetadata.content 3,
    # .process_units 4, .associated_files 6; Content.content_properties_type 0 (image 2);
    # ProcessUnit.options_type 0 (NormalizationOptions 1), .options 1; NormalizationOptions.mean 0,
    # .std 1; AssociatedFile.name 0, .type 2 (labels: 2 and 3).
    found: dict[str, Any] = {}
    for graph in Table(content, int.from_bytes(content[:4], "little")).tables(3)[:1]:
        for tensor in graph.tables(2)[:1]:
            kind = tensor.table(3)
            found["image"] = bool(kind and kind.number(0, "<B") == 2)
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
            found["labels"] = _labels_in_archive(path, names[0])
    return found


def _labels_in_archive(path: str, name: str) -> list[str]:
    import zipfile

    try:
        with zipfile.ZipFile(path) as archive, archive.open(name) as stream:
            return parse_labels(decode_text(stream.read(1 << 24)))
    except Exception as error:  # zipfile and zlib raise many types for damaged files
        raise ValueError(f"label file {name}: {error}") from error


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

    def _target(self, place: int) -> int:
        return place + int(self._unpack("<I", place))

    def number(self, field: int, layout: str) -> int:
        """Return a number; 0 if the field is absent."""
        place = self._place(field)
        return int(self._unpack(layout, place)) if place else 0

    def block(self, field: int, size: int = 1) -> tuple[int, bytes]:
        """Return position and bytes of a string, or of a vector with items of `size` bytes."""
        place = self._place(field)
        if not place:
            return 0, b""
        start = self._target(place)
        count = self._unpack("<I", start) * size
        if start + 4 + count > len(self.data):
            raise ValueError("a vector is longer than the file")
        return start + 4, self.data[start + 4 : start + 4 + count]

    def text(self, field: int) -> str:
        """Return a string; "" if the field is absent."""
        return self.block(field)[1].decode("utf-8")

    def integers(self, field: int) -> list[int]:
        """Return a vector of int32."""
        import struct

        content = self.block(field, 4)[1]
        return list(struct.unpack(f"<{len(content) // 4}i", content))

    def floats(self, field: int) -> list[float]:
        """Return a vector of float32."""
        import struct

        content = self.block(field, 4)[1]
        return list(struct.unpack(f"<{len(content) // 4}f", content))

    def tables(self, field: int) -> list[Table]:
        """Return a vector of tables."""
        start, content = self.block(field, 4)
        places = range(start, start + len(content), 4)
        return [Table(self.data, self._target(place)) for place in places]

    def table(self, field: int) -> Table | None:
        """Return a table; None if the field is absent."""
        place = self._place(field)
        return Table(self.data, self._target(place)) if place else None


def read_labels(path: str) -> list[str]:
    """Return the lines of a label file.

    Raises:
        RunnerError: It cannot be read (code 4).
    """
    try:
        return parse_labels(read_text(path))
    except (OSError, ValueError) as error:
        hint = "Give a text file in UTF-8, one label a line."
        raise read_error(DATA, path, error, hint) from error


def parse_labels(text: str) -> list[str]:
    """Return the labels in a text: one a line, in the order of the classes.

    A blank line is a class without a label, except at the end. Where every line begins with the
    number of its class (`0 name`, `0: name`, or with a tab) the order is that of the numbers. They
    are taken for class numbers if they count from 0 and few are missing, as in lists of the COCO
    classes; otherwise, as in `20 km/h` and `50 km/h`, they are part of the labels.
    """
    lines = [line.strip() for line in text.rstrip().splitlines()]
    pairs = [_number_and_label(line) for line in lines if line]
    numbered = dict(pair for pair in pairs if pair)
    size = 1 + max(numbered, default=-1)
    if len(numbered) < len(pairs) or 0 not in numbered or size >= 2 * len(numbered):
        return lines
    return [numbered.get(number, "") for number in range(size)]


def _number_and_label(line: str) -> tuple[int, str] | None:
    rest = line.lstrip("0123456789")
    digits = line[: len(line) - len(rest)]
    label = (rest[1:] if rest[:1] == ":" else rest).strip()
    separated = rest[:1] == ":" or rest[:1].isspace()
    return (int(digits), label) if 0 < len(digits) < 6 and separated and label else None


# --- Inputs ---------------------------------------------------------------------------------------
# Samples from files, folders, stdin and cameras.

PICTURES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
ARRAYS = (".npz", ".npy")


class Sample:
    """One preprocessed sample.

    Attributes:
        source: File or device it comes from, as the user named it.
        index: Its index in the source.
        codes: One array for each input.
        value: Returns the real values of the first input.
        picture: The decoded picture, to draw on: a PIL image or uint8 pixels, or None.
        single: Whether it is the only sample of its source.
        starts: Whether the model's state is reset before it.
        extra: Further fields of its JSON line.
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
        starts: bool = True,
        extra: Mapping[str, Any] | None = None,
    ) -> None:
        self.source = source
        self.index = index
        self.codes = codes
        self.value = value
        self.picture = picture
        self.single = single
        self.starts = starts
        self.extra = extra or {}


class Source:
    """Reads samples for one model from files, folders, stdin and cameras.

    Args:
        model: The model.
        manifest: Its manifest.
        frame: `[height, width, channels]` of raw frames and of the camera, or None.
    """

    def __init__(
        self, model: Model, manifest: Mapping[str, Any], frame: Sequence[int] | None
    ) -> None:
        self.model = model
        self.manifest = manifest
        self.spec = manifest.get("preprocessing")
        self.frame = frame
        self.preprocessor: Preprocessor | None = None

    def open(self, name: str) -> Iterator[Sample]:
        """Yield the samples of an INPUT of the command line.

        Raises:
            RunnerError: It cannot be read or does not fit (code 4), or Pillow or a camera is
                missing (code 7).
        """
        if name == "-":
            return self._stdin_frames()
        kind, _, number = name.partition(":")
        if kind == "camera" and not os.path.exists(name):
            if name != kind and not (number.isdecimal() and len(number) < 6):
                raise _usage(f"There is no {name}.", "Cameras: camera, camera:1 and so on.", "run")
            return self._camera(name, int(number or 0))
        return self._folder(name) if os.path.isdir(name) else self.file(name)

    def file(self, path: str) -> Iterator[Sample]:
        """Yield the samples of one file; its extension decides how it is read."""
        ending = os.path.splitext(path)[1].lower()
        if ending in ARRAYS:
            return self._arrays(path)
        return self._recording(path) if ending == ".wav" else self._image_file(path)

    def _folder(self, folder: str) -> Iterator[Sample]:
        names = list_inputs(folder)
        if not names:
            raise RunnerError(
                DATA,
                f"{folder} holds nothing to run on.",
                f"Known extensions: {' '.join((*PICTURES, '.wav', *ARRAYS))}.",
                "Give another folder, or wait for files with --watch FOLDER.",
            )
        left_out = []
        for name in names:
            try:
                yield from self.file(os.path.join(folder, name))
            except FileError as error:  # the other files are still of use
                if error.code != DATA:
                    raise
                left_out.append((name, error.reason))
        if left_out:
            note = left_out_note(left_out, len(names), folder)
            if len(left_out) == len(names):
                raise RunnerError(DATA, note, "", "Give files that can be read.")
            write_stderr(plain(note))

    def _arrays(self, path: str) -> Iterator[Sample]:
        columns, starts = self.columns(path)
        samples = preprocessed_samples(columns, self.manifest, self.model, path)
        for index, (sample, first) in enumerate(zip(samples, starts)):
            yield Sample(path, index, *sample, starts=first)

    def columns(self, path: str) -> tuple[list[StoredArray], Iterator[bool]]:
        """Return one array for each input, and where sequences start.

        A lone array may be a single sample.
        """
        stored = read_arrays(path)
        if list(stored) == ["x"] and _is_one_sample(stored["x"], self.model, self.spec or {}):
            stored = {"x": stored["x"].as_one_sample()}
        columns = pick_inputs(stored, self.model, path)
        return columns, sequence_starts(stored, columns, path)

    def _image_file(self, path: str) -> Iterator[Sample]:
        _import_pillow(path)
        spec = self.image_preprocessor(path).spec
        try:
            pixels = decode_picture(open_picture(path), spec)
        except (OSError, PictureError) as error:
            hint = "Give a picture (PNG, JPEG, BMP), a .wav, an .npz or .npy, or a folder of these."
            raise read_error(DATA, path, error, hint) from error
        yield self._image_sample(path, 0, pixels, single=True)

    def _image_sample(
        self, source: str, index: int, picture: Any, *, single: bool = False, starts: bool = True
    ) -> Sample:
        codes = self.image_preprocessor(source).encode(picture, source)
        return Sample(
            source,
            index,
            [codes],
            lambda: self.model.inputs[0].decode(codes),
            picture=picture,
            single=single,
            starts=starts,
        )

    def image_preprocessor(self, source: str) -> Preprocessor:
        """Return the preprocessor of pictures.

        Of a model without manifest and metadata, pixels are the codes of a uint8 or int8 input,
        as is usual for models with integer input; `info` says so.

        Raises:
            RunnerError: It takes no pictures, or their preprocessing is unknown (code 4).
        """
        import numpy as np

        if self.preprocessor:
            return self.preprocessor
        model, tensor, spec = self.model, self.model.inputs[0], picture_spec(self.manifest)
        size = [*tensor.shape, 1][:4] if len(tensor.shape) in (3, 4) else None
        takes_audio = (spec or {}).get("kind") == "log-mel"
        if takes_audio or len(model.inputs) != 1 or size is None or size[3] not in (1, 3):
            raise RunnerError(
                DATA,
                f"{source} is a picture, and {model.path} takes none.",
                f"Its inputs: {', '.join(f'{t.name} {list(t.shape)}' for t in model.inputs)}.",
                f"Give {'a .wav, ' if takes_audio else ''}an .npz or .npy.",
            )
        shape = {"kind": "image", "height": size[1], "width": size[2], "channels": size[3]}
        if spec is None and (self.spec is not None or tensor.dtype.kind == "f"):
            raise self._unknown_scaling(shape)
        if spec is None or spec.get("kind") == "affine" or spec is self.manifest.get("picture"):
            shape = {"orientation": True, **(spec or {}), **shape}
            self.preprocessor = Preprocessor(shape, tensor)
        else:
            self.preprocessor = Preprocessor(spec, tensor)
        if spec is None and tensor.dtype in (np.uint8, np.int8):
            pixels = np.arange(256, dtype=np.uint8)[:, None]
            # The codes of int8 input are the pixels minus 128.
            signed = tensor.dtype == np.int8
            codes = (pixels ^ 128).view(np.int8) if signed else pixels
            self.preprocessor.tables[pixels.dtype] = codes
        return self.preprocessor

    def _unknown_scaling(self, shape: Mapping[str, Any]) -> RunnerError:
        path = self.model.path
        place = os.path.basename(manifest_path(path))
        what = f"The pixel scaling of {path} is not specified."
        if self.spec is None:
            found = "It has float input, no manifest beside it, and no metadata in it."
            return RunnerError(DATA, what, found, f"Put {place} beside it.")
        written = ", ".join(f'"{key}": {_to_json(value)}' for key, value in shape.items())
        return RunnerError(
            DATA,
            what,
            f"{place} says how arrays are preprocessed, and not how a picture becomes one.",
            f'Put "picture": {{{written}, "scale": S}} into it: S is 1 for pixels 0 to 255, '
            "0.00392156863 for pixel / 255.",
        )

    def _recording(self, path: str) -> Iterator[Sample]:
        """Cut a recording into windows of the model's input length; a short one is padded."""
        import wave
        from functools import partial

        spec, model = self.spec or {}, self.model
        if spec.get("kind") != "log-mel":
            raise RunnerError(
                DATA,
                f"{path} is a recording, and {model.path} has no audio preprocessing.",
                f"Its preprocessing is of kind {spec.get('kind', 'none')}, not log-mel.",
                "Put the manifest beside the model, or give prepared samples in an .npz.",
            )
        prepare = Preprocessor(spec, model.inputs[0])
        rate, length = spec["sample_rate"], spec["samples"]
        try:
            require_regular_file(path)
            with open(path, "rb") as stream:
                sound, frames = open_recording(stream)
                found = (sound.getframerate(), sound.getnchannels(), 8 * sound.getsampwidth())
                if found != (rate, 1, 16):
                    raise RunnerError(
                        DATA,
                        f"{path} is not in the audio format of {model.path}.",
                        "Found {} Hz, {} channels, {} bit; wanted {} Hz, 1 channel, 16 bit.".format(
                            *found, rate
                        ),
                        recording_conversion(rate),
                    )
                # An empty recording is one window of silence, as in training.
                count = max(1, frames // length)
                for index in range(count):
                    audio = read_window(sound, length)
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
            raise read_error(DATA, path, error, "Give a PCM WAV of 16 bits.") from error

    def _stdin_frames(self) -> Iterator[Sample]:
        """Read raw uint8 frames from stdin, row by row, channels together, until it ends."""
        import numpy as np

        shape = self.frame or self._default_frame_shape()
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
                    "It is empty: look for an error of the program that writes to the pipe.",
                    "Pipe raw uint8 pixels into it: see edgekit_runner.py run --help.",
                )
            if len(block) < size:
                raise RunnerError(
                    DATA,
                    f"stdin ends inside frame {index}.",
                    f"It gave {len(block)} of {size} bytes for a frame of "
                    f"{'x'.join(map(str, shape))}.",
                    "Check --frame HxWxC, and that pixels are uint8.",
                )
            frame = np.frombuffer(block, np.uint8).reshape(shape)
            yield self._image_sample("-", index, frame, starts=index == 0)
            index += 1

    def _default_frame_shape(self) -> Sequence[int]:
        spec = self.image_preprocessor("stdin").spec
        return spec["height"], spec["width"], spec.get("channels", 3)

    def _camera(self, name: str, number: int) -> Iterator[Sample]:
        self.image_preprocessor(name)
        height, width = (self.frame or (480, 640))[:2]
        capture, close = open_camera(number, height, width)
        try:
            index = 0
            while True:
                yield self._image_sample(name, index, capture(), starts=index == 0)
                index += 1
        finally:
            close()

    def watch(
        self, folder: str, every: float, known: dict[str, tuple[int, int]]
    ) -> Iterator[Sample]:
        """Yield the samples of files that are added to a folder or replaced in it.

        A file is read once its size and time are the same in two polls. One that cannot be read
        is reported on stderr.

        Args:
            folder: The folder.
            every: Polling interval in seconds.
            known: Size and time of the files already seen, by name; updated.
        """
        before = dict(known)
        while True:
            now = file_states(folder)
            for name in sorted(now):
                if now[name] != known.get(name) and now[name] == before.get(name):
                    known[name] = now[name]
                    try:
                        yield from self.file(os.path.join(folder, name))
                    except RunnerError as error:
                        if error.code != DATA:
                            raise
                        write_stderr("\n".join(error.lines))
            for name in set(known) - set(now):
                del known[name]
            before = now
            time.sleep(every)


def _is_one_sample(column: StoredArray, model: Model, spec: Mapping[str, Any]) -> bool:
    if spec.get("kind") == "log-mel":
        return len(column.shape) == 1
    return _without_unit_axes(column.shape) == _without_unit_axes(model.inputs[0].shape)


def list_inputs(folder: str) -> list[str]:
    """Return the names of a folder's files with known extensions, sorted, without hidden files.

    Raises:
        RunnerError: The folder cannot be read (code 4).
    """
    try:
        names = sorted(os.listdir(folder))
    except OSError as error:
        raise read_error(DATA, folder, error, "Give a folder.") from error
    endings = (*PICTURES, ".wav", *ARRAYS)
    return [name for name in names if name.lower().endswith(endings) and name[0] != "."]


def file_states(folder: str) -> dict[str, tuple[int, int]]:
    """Return size in bytes and modification time in nanoseconds of each file of `list_inputs`."""
    import stat

    found = {}
    for name in list_inputs(folder):
        try:
            status = os.stat(os.path.join(folder, name))
        except OSError:  # deleted since the folder was listed
            continue
        if stat.S_ISREG(status.st_mode):
            found[name] = (status.st_size, status.st_mtime_ns)
    return found


def _import_pillow(path: str) -> Any:
    try:
        with DeferSigint():
            from PIL import Image
    except ImportError as error:
        raise RunnerError(
            DEVICE, f"Pillow is needed for {path}.", error, f"{_pip()} pillow"
        ) from error
    return Image


def open_recording(stream: Any) -> tuple[Any, int]:
    """Return a reader of a recording, and its number of frames.

    Headers may claim more than the file holds: an interrupted recorder or a pipe leaves 4 GB there.
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


def read_window(sound: Any, length: int) -> Any:
    """Return the next samples of a recording of 16 bits, int16 `[length]` or fewer."""
    import numpy as np

    block = sound.readframes(length)
    return np.frombuffer(block[: len(block) & ~1], "<i2").astype(np.int16)


def recording_conversion(rate: int) -> str:
    """Return the hint for recordings in another format than a model takes."""
    return f"Convert it: sox in.wav -r {rate} -c 1 -b 16 out.wav"


def open_camera(
    number: int, height: int, width: int
) -> tuple[Callable[[], Any], Callable[[], object]]:
    """Open a camera with picamera2 if it is installed, otherwise with OpenCV.

    Returns:
        A function that captures uint8 `[height, width, 3]` in RGB order, and one that closes the
        camera.

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
        raise _camera_error(number, error) from error

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
    with SilenceStderr():
        camera = cv2.VideoCapture(number)
    if not camera.isOpened():
        raise _camera_error(number, "OpenCV cannot open it.")
    camera.set(cv2.CAP_PROP_FRAME_HEIGHT, height)
    camera.set(cv2.CAP_PROP_FRAME_WIDTH, width)
    # Frames that the driver queues would be out of date when they are read.
    camera.set(cv2.CAP_PROP_BUFFERSIZE, 1)

    def capture() -> Any:
        good, picture = camera.read()
        if not good:
            raise _camera_error(number, "It gives no more pictures.")
        return picture[:, :, ::-1]  # OpenCV's order is B, G, R

    return capture, camera.release


def _camera_error(number: int, found: object) -> RunnerError:
    return RunnerError(
        DEVICE,
        f"Camera {number} does not answer.",
        found,
        "List cameras: rpicam-hello --list-cameras, or ls /dev/video*; close programs that use it.",
    )


# --- Arrays ---------------------------------------------------------------------------------------
# .npz and .npy files, read row by row.


class StoredArray:
    """An array in a file, read row by row so that one sample at a time is in memory."""

    def __init__(
        self, name: str, shape: Sequence[int], dtype: Any, rows: Callable[[], Iterator[Any]]
    ) -> None:
        self.name = name
        self.shape = tuple(shape)
        self.dtype = dtype
        self.rows = rows

    def as_one_sample(self) -> StoredArray:
        """Return this array as a single sample, under a new first axis of 1."""
        import numpy as np

        return StoredArray(
            self.name, (1, *self.shape), self.dtype, lambda: iter([np.stack(list(self.rows()))])
        )


def read_arrays(path: str) -> dict[str, StoredArray]:
    """Return the arrays of an `.npz`, or the one of an `.npy` under the name "x".

    Raises:
        RunnerError: The file is missing, damaged, or of another kind (code 4).
    """
    try:
        return _npz_arrays(path) if _head(path, 2) == b"PK" else {"x": _npy_array(path)}
    except Exception as error:  # numpy, zipfile and zlib raise many types for damaged files
        hint = "Give an .npz or .npy; pictures and recordings are for the command run."
        raise read_error(DATA, path, error, hint) from error


def _npy_array(path: str) -> StoredArray:
    import numpy as np

    if _head(path, 6) != b"\x93NUMPY":
        raise ValueError("It is not a .npy file.")
    # numpy maps the file, and refuses one that is shorter than its header says.
    array = np.load(path, mmap_mode="r", allow_pickle=False)
    return StoredArray("x", array.shape, array.dtype, lambda: iter(array))


def _npz_arrays(path: str) -> dict[str, StoredArray]:
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
                if not shape:
                    yield np.frombuffer(stream.read(dtype.itemsize), dtype)[0]
                    return
                if fortran:  # rows are not contiguous: read the whole array
                    block = stream.read(count * dtype.itemsize)
                    yield from np.frombuffer(block, dtype).reshape(shape, order="F")
                    return
                count //= max(1, shape[0])
                for _ in range(shape[0]):
                    block = stream.read(count * dtype.itemsize)
                    yield np.frombuffer(block, dtype, count).reshape(shape[1:])
        except Exception as error:  # a damaged archive: zipfile, zlib or numpy notices it
            raise RunnerError(
                DATA, f"{path} is damaged in {member}.", error, "Copy the file again."
            ) from error

    columns = {}
    with zipfile.ZipFile(path) as archive:
        _check_compression_ratio(archive.infolist(), os.path.getsize(path))
        for info in archive.infolist():
            member = info.filename
            with archive.open(member) as stream:
                shape, fortran, dtype = header(stream)
                stored = info.file_size - stream.tell()
            _check_row_size(shape, dtype.itemsize, stored, whole=fortran)
            name = member[: -len(".npy")]
            columns[name] = StoredArray(name, shape, dtype, partial(rows, member))
    return columns


# The maximum compression ratio of deflate (zlib.net/zlib_tech.html).
DEFLATE_RATIO = 1032


def _check_compression_ratio(infos: Sequence[Any], size: int) -> None:
    """Raise a ValueError if an archive declares more than its size can hold (a zip bomb)."""
    declared = sum(info.file_size for info in infos)
    if declared > DEFLATE_RATIO * size:
        raise ValueError(f"Its {size} bytes declare {declared}: more than deflate can hold.")


def _check_row_size(shape: Sequence[int], itemsize: int, stored: int, *, whole: bool) -> None:
    """Raise a ValueError if an array exceeds its archive member, or a row half the memory.

    Args:
        shape: Shape in the array's header.
        itemsize: Bytes of one value.
        stored: Bytes of values that the archive declares.
        whole: Whether the array must be read as a whole.
    """
    import math

    if any(size < 0 for size in shape) or math.prod(shape) * itemsize > stored:
        raise ValueError(f"An array of {list(shape)} is declared where {stored} bytes are.")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    held = math.prod(shape if whole else shape[1:]) * itemsize
    if held > memory // 2:
        what = "An array that is stored column by column" if whole else "One sample"
        raise ValueError(f"{what} has {held} bytes, and this device {memory}.")


def pick_inputs(columns: Mapping[str, StoredArray], model: Model, path: str) -> list[StoredArray]:
    """Return one array for each input of the model.

    A model with one input reads `inputs`, `x_test` or `x`; one with several reads
    `inputs_<input>` or `x_test_<input>` for each. Both also read arrays named like the input.

    Raises:
        RunnerError: An array is missing or empty, or lengths differ (code 4).
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


def sequence_starts(
    stored: Mapping[str, StoredArray], inputs: Sequence[StoredArray], path: str
) -> Iterator[bool]:
    """Return an iterator over the samples: whether the model's state is reset before each.

    Samples are independent of each other unless the file declares sequences, as `sequence_test`
    or `sequence`: either one boolean for all samples, true if they are one sequence, or an array
    `[n]` of sequence ids.

    Raises:
        RunnerError: The declaration does not fit the samples (code 4).
    """
    n = inputs[0].shape[0]
    declared = [stored[key] for key in SEQUENCES if key in stored and stored[key] not in inputs]
    if not declared:
        return iter([True] * n)
    found = declared[0]
    if found.shape == () and found.dtype.kind == "b":
        (one,) = found.rows()
        return iter([True] + [not one] * (n - 1))
    if found.shape != (n,) or found.dtype.kind not in "iuUS":
        raise RunnerError(
            DATA,
            f"{path}: {found.name} declares no sequences.",
            f"It holds {found.dtype} {list(found.shape)}, for {n} samples.",
            "Give one boolean (are all samples one sequence?), or a whole number for each sample.",
        )
    return _changes(found.rows())


SEQUENCES = ("sequence_test", "sequence")


def _changes(values: Iterator[Any]) -> Iterator[bool]:
    before = None
    for value in values:
        yield before is None or value != before
        before = value


def preprocessors(
    columns: Sequence[StoredArray], manifest: Mapping[str, Any], model: Model
) -> list[Preprocessor]:
    """Return a preprocessor for each input.

    An array named `inputs` is preprocessed already: edgekit packs data for a device this way. So
    are floats for a model that only says how pixels are preprocessed.
    """

    def ready(column: StoredArray) -> bool:
        scaled = manifest.get("pixels") and column.dtype.kind == "f"
        return bool(scaled) or column.name.startswith("inputs")

    spec = manifest.get("preprocessing") or {}
    return [
        Preprocessor({} if ready(column) else spec, tensor)
        for column, tensor in zip(columns, model.inputs)
    ]


def preprocessed_samples(
    columns: Sequence[StoredArray], manifest: Mapping[str, Any], model: Model, path: str
) -> Iterator[tuple[list[Any], Callable[[], Any]]]:
    """Yield the preprocessed samples of a file.

    Yields:
        The codes for each input, and a function that returns the real values of the first.

    Raises:
        RunnerError: A sample does not fit (code 4).
    """
    from functools import partial

    prepares = preprocessors(columns, manifest, model)
    for index, row in enumerate(zip(*(column.rows() for column in columns))):
        where = f"{path}, sample {index},"
        codes = [prepare.encode(value, where) for prepare, value in zip(prepares, row)]
        yield codes, partial(prepares[0].real, row[0])


# --- Preprocessing --------------------------------------------------------------------------------
# From raw samples to model input; edgekit imports these functions from here.


def preprocess(raw: Any, spec: Mapping[str, Any]) -> Any:
    """Preprocess one raw sample for the model.

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
        return preprocess_image(raw, spec)
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

    value = _require_numbers(np.asarray(raw)).astype(np.float32)
    for key in ("scale", "mean", "std"):
        if np.size(spec.get(key, 1)) > 1 and np.shape(spec[key]) != value.shape[-1:]:
            raise ValueError(
                f"shape {list(value.shape)} where {len(spec[key])} channels have a {key}"
            )
    # Identity steps are skipped, so that raw data stay bit-exact.
    if spec.get("scale", 1) != 1:
        value *= np.asarray(spec["scale"], np.float32)
    if spec.get("mean", 0) != 0:
        value -= np.asarray(spec["mean"], np.float32)
    if spec.get("std", 1) != 1:
        value /= np.asarray(spec["std"], np.float32)
    return value


def _require_numbers(value: Any) -> Any:
    """Return an array; raise a ValueError if it holds no real numbers."""
    if value.dtype.kind not in "fiub":
        raise ValueError(f"{value.dtype} where numbers are expected")
    return value


def preprocess_image(pixels: Any, spec: Mapping[str, Any]) -> Any:
    """Crop, resize and normalize one picture.

    Args:
        pixels: uint8 `[h, w]`, `[h, w, 1]`, `[h, w, 3]` or `[h, w, 4]` in RGB order (alpha is
            dropped), or a PIL image, which `decode_picture` reads.
        spec: `height`, `width`, `channels` (1 or 3), `order` ("rgb" or "bgr"), `fit` ("stretch",
            or "crop": the largest centred part of the right aspect), `orientation`, and the keys
            of `affine`.

    Returns:
        float32 `[height, width, channels]`.

    Raises:
        ValueError: Shape or dtype are not those of a picture.
    """
    return affine(resize_image(pixels, spec), spec)


def resize_image(pixels: Any, spec: Mapping[str, Any]) -> Any:
    """Crop and resize one picture to uint8 `[height, width, channels]`; see `preprocess_image`."""
    import numpy as np

    height, width, channels = spec["height"], spec["width"], spec.get("channels", 3)
    if spec.get("resize", "bilinear") != "bilinear":
        raise ValueError(f"unknown resize {spec['resize']!r}; known: bilinear")
    if hasattr(pixels, "convert"):
        pixels = decode_picture(pixels, spec)
    image = np.asarray(pixels)
    if image.ndim == 2:
        image = image[:, :, None]
    if image.ndim != 3 or image.shape[2] not in (1, 3, 4) or 0 in image.shape:
        shapes = "[h, w] or [h, w, 1, 3 or 4]"
        raise ValueError(f"shape {list(image.shape)} where an image of {shapes} is expected")
    if image.dtype != np.uint8:
        raise ValueError(f"pixels of {image.dtype} where uint8 is expected")
    if channels == 1 and image.shape[2] > 1:
        image = to_grey(image)
    if channels == 3:
        image = np.repeat(image, 3, axis=2) if image.shape[2] == 1 else image[:, :, :3]
    top, left, rows, columns = crop_window(image.shape[0], image.shape[1], spec)
    image = image[top : top + rows, left : left + columns]
    resized = resize_bilinear(image, height, width)
    return resized[:, :, ::-1] if spec.get("order", "rgb") == "bgr" else resized


class PictureError(ValueError):
    """A picture that cannot be decoded; `path` names its file, the message says why."""

    def __init__(self, path: str, error: object) -> None:
        reason = str(error).strip().split("\n")[0]
        if not reason or reason.startswith("cannot identify image file"):  # and an object's address
            reason = "no picture that Pillow reads"
        super().__init__(reason)
        self.path = path


def open_picture(path: str) -> Any:
    """Return the PIL image in a file. Only its header is read yet: see `decode_picture`.

    Raises:
        OSError: The file cannot be read.
        PictureError: It is no picture.
    """
    import io

    from PIL import Image

    require_regular_file(path)
    with open(path, "rb") as stream:
        content = io.BytesIO(stream.read())
    if not content.getbuffer().nbytes:
        raise PictureError(path, "empty")
    image = _with_pillow(path, lambda: Image.open(content))
    image.filename = path
    return image


def decode_picture(image: Any, spec: Mapping[str, Any]) -> Any:
    """Return the pixels of a picture, as Keras's `image_dataset_from_directory` decodes them.

    Of 16 bits the high byte is taken; alpha and the transparent entry of a palette are dropped;
    palettes, 1-bit and CMYK pictures become grey or RGB; of an animation the first picture is
    taken. Grey is ITU-R 601 luma, and the luma that the file holds where it is a JPEG. Pixels of
    32 bits, which Keras does not read, must lie in 0 to 255. One that Keras leaves as stored is
    turned upright where the spec says so: by the Exif tag `Orientation`.

    Args:
        image: A PIL image, decoded or not.
        spec: `channels` (1 or 3; 3 by default) and `orientation` (whether pictures are turned
            upright; false by default, as before the key existed).

    Returns:
        uint8 `[h, w, 3]`, or `[h, w, 1]` for a grey picture or one channel.

    Raises:
        PictureError: It is damaged, or its pixels are of another kind.
    """
    path = getattr(image, "filename", "") or "The picture"
    return _with_pillow(path, lambda: _decode(image, spec))


def _with_pillow(path: str, work: Callable[[], Any]) -> Any:
    """Call a function that uses Pillow, whose decoders warn of much and raise many types."""
    import warnings

    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            # Of decompression bombs Pillow only warns.
            warnings.simplefilter("error", Image.DecompressionBombWarning)
            return work()
    except MemoryError:
        raise
    except Exception as error:
        raise PictureError(path, error) from error


def _decode(image: Any, spec: Mapping[str, Any]) -> Any:
    grey = spec.get("channels", 3) == 1
    if grey:
        image.draft("L", None)  # a JPEG is not turned into RGB and back
    upright = spec.get("orientation")
    if image.format == "TIFF":
        orientation = _orientation(image)
        with SilenceStderr():  # libtiff complains on file descriptor 2; Pillow then raises
            image.load()
        pixels = _to_pixels(image, grey=grey)
        if orientation != 1 and _pillow_turns_tiffs():
            return pixels if upright else _turn(pixels, {6: 8, 8: 6}.get(orientation, orientation))
    else:
        image.load()
        pixels = _to_pixels(image, grey=grey)
        orientation = _orientation(image)  # which a PNG may hold behind its pixels
    return _turn(pixels, orientation) if upright else pixels


def _pillow_turns_tiffs() -> bool:
    """Tell whether this version of Pillow turns a TIFF upright by itself when it is loaded."""
    import io

    from PIL import Image

    stream = io.BytesIO()
    picture = Image.new("L", (2, 1))
    picture.putpixel((0, 0), 255)
    picture.save(stream, "TIFF", tiffinfo={0x0112: 2})
    return bool(Image.open(stream).getpixel((0, 0)) == 0)


def _to_pixels(image: Any, *, grey: bool) -> Any:
    """Return a loaded PIL image as uint8 `[h, w, 1 or 3]`; see `decode_picture`."""
    import numpy as np

    # Older versions of Pillow have 16 bits of PNG and PGM in 32.
    if image.mode.startswith("I;16") or (image.mode == "I" and image.format in ("PNG", "PPM")):
        return (np.asarray(image) >> 8).astype(np.uint8)[:, :, None]
    if image.mode in ("I", "F"):
        values = np.asarray(image)
        low, high = values.min(), values.max()
        # Floats up to 1 are a picture scaled to [0, 1], which would come out black.
        if not 0 <= low <= high <= 255 or (0 < high <= 1 and image.mode == "F"):
            raise ValueError(f"pixels from {low:g} to {high:g}: save it with 8 or 16 bits")
        return np.rint(values).astype(np.uint8)[:, :, None]
    if image.mode in ("La", "RGBa"):  # colours are multiplied by alpha
        image = image.convert(image.mode.upper())
    if image.mode in ("1", "L", "LA"):
        return np.asarray(image.convert("L"))[:, :, None]
    pixels = np.asarray(image.convert("RGB"))
    return to_grey(pixels) if grey else pixels


def to_grey(pixels: Any) -> Any:
    """Return uint8 `[h, w, 1]` of RGB pixels.

    ITU-R 601 luma in the 16-bit integers that Pillow's `convert("L")` uses; libpng, behind Keras,
    has 15 bits and rounds down: at most 1 apart.
    """
    import numpy as np

    weighted = pixels[:, :, :3].astype(np.uint32) @ np.array([19595, 38470, 7471], np.uint32)
    return ((weighted + 0x8000) >> 16).astype(np.uint8)[:, :, None]


def _orientation(image: Any) -> int:
    """Return the Exif tag `Orientation` of a PIL image, 1 (upright) to 8."""
    # Pillow before 6.0 reads it of JPEG only.
    read: Any = getattr(image, "getexif", getattr(image, "_getexif", dict))
    try:
        value = (read() or {}).get(0x0112, 1)
    except Exception:  # a damaged tag does not make the pixels unreadable
        return 1
    return value if value in range(1, 9) else 1


def _turn(pixels: Any, orientation: int) -> Any:
    """Return the pixels upright: transposed from 5 on, then flipped."""
    if orientation >= 5:
        pixels = pixels.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def crop_window(height: int, width: int, spec: Mapping[str, Any]) -> tuple[int, int, int, int]:
    """Return top, left, rows and columns of the part of a picture that the model gets."""
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

    audio = _require_numbers(np.asarray(audio))
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
    # Corners of narrow bands may fall on the same bin: that side of the triangle is empty.
    rising = (bins - low) / np.maximum(middle - low, 1)
    falling = (high - bins) / np.maximum(high - middle, 1)
    return np.where(
        (low <= bins) & (bins < middle),
        rising,
        np.where((middle <= bins) & (bins < high), falling, 0.0),
    )


class Preprocessor:
    """Turns raw samples into the codes of one input, as `preprocess` and `Tensor.encode` do.

    For an integer input with affine scaling, 8-bit samples have at most 256 values for each
    channel: their codes are computed once and then looked up. (For 16-bit samples, a lookup table
    is no faster than the arithmetic.)

    Args:
        spec: The preprocessing.
        tensor: The input.
    """

    def __init__(self, spec: Mapping[str, Any], tensor: Tensor) -> None:
        self.spec = spec
        self.tensor = tensor
        self.kind = spec.get("kind", "none")
        # By dtype of the samples: codes `[256, channels]`, or None where floats are needed.
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
        """Return the lookup table `[256, channels]` of codes for samples of this dtype, or None."""
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
                except ValueError:  # some value has no code: check each sample instead
                    pass
        return self.tables[dtype]

    def real(self, raw: Any) -> Any:
        """Return the preprocessed real values of one sample."""
        return self.tensor.real(preprocess(raw, self.spec))

    def encode(self, raw: Any, where: str) -> Any:
        """Return the codes of one sample; `where` names it in errors.

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


# --- Device ---------------------------------------------------------------------------------------
# Facts about this machine: processor, clock, temperature, throttling, memory.


def describe_device() -> dict[str, str]:
    """Return a description of this machine: device, cpu, cores, memory, os, python."""
    cpu = _kernel_field("/proc/cpuinfo", "model name") or _kernel_field("/proc/cpuinfo", "Hardware")
    system = os.uname()
    cpu = cpu or system.machine
    cores = _cores()
    board = _kernel_text("/proc/device-tree/model")
    memory = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    release = _kernel_field("/etc/os-release", "PRETTY_NAME", "=").strip('"')
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


SYSTEM_ROOT = ""  # parent of /sys, /proc and /dev; tests set it


def _kernel_text(path: str) -> str:
    """Return the content of a file under /sys, /proc or /dev; "" if it cannot be read."""
    try:
        with open(SYSTEM_ROOT + path, encoding="utf-8", errors="replace") as stream:
            return stream.read().strip("\0\n ")
    except OSError:
        return ""


def _kernel_files(pattern: str) -> list[str]:
    """Return the paths under /sys, /proc or /dev that match."""
    import glob

    return [path[len(SYSTEM_ROOT) :] for path in glob.glob(SYSTEM_ROOT + pattern)]


def _kernel_field(path: str, key: str, separator: str = ":") -> str:
    for line in _kernel_text(path).splitlines():
        name, _, value = line.partition(separator)
        if name.strip() == key:
            return value.strip()
    return ""


def conditions() -> dict[str, Any]:
    """Return load, governor, frequency, temperature and throttling, where the kernel has them."""
    found: dict[str, Any] = {"load_average": round(os.getloadavg()[0], 2)}
    cpufreq = "/sys/devices/system/cpu/cpu0/cpufreq/"
    for key, path in (
        ("governor", cpufreq + "scaling_governor"),
        ("frequency_khz", cpufreq + "scaling_cur_freq"),
        ("temperature_millicelsius", "/sys/class/thermal/thermal_zone0/temp"),
    ):
        value = _kernel_text(path)
        if value:
            found[key] = int(value) if value.lstrip("-").isdigit() else value
    flags = throttle_flags()
    return {**found, "throttled": flags} if flags else found


def sensors() -> dict[str, Any]:
    """Return temperature_c, frequency_mhz and throttled, each None if the device has no sensor."""
    zones = []
    for zone in _kernel_files("/sys/class/thermal/thermal_zone*"):
        value = _kernel_text(zone + "/temp")
        if value.lstrip("-").isdigit():
            kind = _kernel_text(zone + "/type").lower()
            processor = any(word in kind for word in ("cpu", "soc", "pkg"))
            zones.append((processor, int(value) / 1000))
    clocks = _kernel_files("/sys/devices/system/cpu/cpu[0-9]*/cpufreq/scaling_cur_freq")
    cores = [int(_kernel_text(path) or 0) // 1000 for path in clocks]
    flags = throttle_flags()
    return {
        # The hottest processor zone, or the hottest of all if none is named so.
        "temperature_c": max(zones)[1] if zones else None,
        "frequency_mhz": max(cores) if cores else None,
        "throttled": throttling(flags) if flags else None,
    }


# Bits of the Raspberry Pi's flags: the current state; sixteen bits higher, the same since boot.
THROTTLING = ("under-voltage", "frequency capped", "throttled", "soft temperature limit")


def throttle_flags() -> str:
    """Return the flags of a Raspberry Pi's firmware, in hexadecimal; "" on other boards."""
    flags = _kernel_text("/sys/devices/platform/soc/soc:firmware/get_throttled")
    if not flags and _kernel_text("/proc/device-tree/model").startswith("Raspberry Pi"):
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
        except (OSError, subprocess.SubprocessError):  # a system without the Raspberry Pi's tools
            return ""
    return flags


def throttling(flags: str, since_start: bool = False) -> list[str]:
    """Return the conditions in a Raspberry Pi's flags, current ones or those since boot."""
    try:
        bits = int(flags or "0", 16) >> (16 if since_start else 0)
    except ValueError:
        return [flags]
    return [word for position, word in enumerate(THROTTLING) if bits >> position & 1]


def peak_rss_bytes() -> int:
    """Return the peak resident set size of this process."""
    # Not getrusage: Linux keeps the parent's peak there across fork and exec.
    high_water = _kernel_field("/proc/self/status", "VmHWM").split()
    if high_water:
        return int(high_water[0]) * 1024
    import resource

    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


# --- Files ----------------------------------------------------------------------------------------
# Checked reading and writing: sizes, kinds of files, overwriting.


def require_regular_file(path: str) -> None:
    """Raise an OSError unless `path` is a regular file: reading a FIFO or device may block."""
    import stat

    mode = os.stat(path).st_mode
    if stat.S_ISDIR(mode):
        raise IsADirectoryError(21, "Is a directory")
    if not stat.S_ISREG(mode):
        kind = (
            "a FIFO" if stat.S_ISFIFO(mode) else "a socket" if stat.S_ISSOCK(mode) else "a device"
        )
        raise OSError(22, f"It is {kind}, not a file.")


def _head(path: str, size: int) -> bytes:
    require_regular_file(path)
    with open(path, "rb") as stream:
        return stream.read(size)


TEXT_BYTES = 1 << 26


def read_text(path: str) -> str:
    """Return the text of a file of at most 64 MiB.

    Raises:
        OSError: It cannot be read.
        ValueError: It is too long, or no text.
    """
    require_regular_file(path)
    with open(path, "rb") as stream:
        if os.fstat(stream.fileno()).st_size > TEXT_BYTES:
            raise ValueError(f"It has more than {TEXT_BYTES >> 20} MiB.")
        return decode_text(stream.read())


def decode_text(content: bytes) -> str:
    """Decode UTF-8, or UTF-16 with a byte order mark, as some editors save it.

    Raises:
        ValueError: It is neither.
    """
    utf16 = content[:2] in (b"\xff\xfe", b"\xfe\xff")
    return content.decode("utf-16" if utf16 else "utf-8-sig")


def output_path(path: str, option: str, inputs: Sequence[str], *, force: bool) -> str:
    """Return the real path of an output file, links resolved.

    Args:
        path: The path that the user gave.
        option: The option it was given with.
        inputs: Files of the command that must not be overwritten.
        force: Whether an existing regular file may be overwritten.

    Raises:
        RunnerError: It exists and is not a regular file, or is an input, or `force` is false
            (code 2).
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


def _file_facts(options: Options) -> dict[str, Any]:
    path = options.model
    digest = options.sha256 or sha256_of(path)
    return {"model": path, "sha256": digest, "size_bytes": os.path.getsize(path)}


# --- Output ---------------------------------------------------------------------------------------
# Printing text and JSON on stdout, and messages on stderr.


def _print_result(answer: Any) -> None:
    if isinstance(answer, dict):
        _write_stdout(_to_json(answer))
    else:
        _write_stdout("\n".join(map(plain, answer)))


def _to_json(answer: dict[str, Any]) -> str:
    """Return JSON that stdout can encode; infinity becomes null.

    Raises:
        RunnerError: The manifest is nested too deeply (code 3).
    """
    import json

    try:
        try:
            text = json.dumps(answer, ensure_ascii=False, allow_nan=False)
        except ValueError:
            answer = _without_infinity(answer)
            text = json.dumps(answer, ensure_ascii=False)
        if not text.isprintable() or not _stdout_can_encode(text):
            text = json.dumps(answer).replace("\x7f", "\\u007f")
    except RecursionError as error:
        raise RunnerError(
            MODEL, "The manifest is nested too deeply.", error, "Move it away to run without."
        ) from error
    return text


def _stdout_can_encode(text: str) -> bool:
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "utf-8")
    except UnicodeEncodeError:
        return False
    return True


def _without_infinity(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _without_infinity(one) for key, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_without_infinity(one) for one in value]
    # Infinity less itself is NaN.
    return None if isinstance(value, float) and value - value != 0 else value


def _write_stdout(text: str) -> None:
    """Print and flush.

    Raises:
        RunnerError: stdout cannot be written, for instance on a full disk (code 2).
    """
    if sys.stdout is None:
        raise _stdout_error("It is closed.")
    try:
        if not _stdout_can_encode(text):
            text = text.encode("ascii", "backslashreplace").decode("ascii")
        print(text, flush=True)
    except BrokenPipeError:  # a reader that closes the pipe early is no error
        raise
    except OSError as error:
        raise _stdout_error(error) from error


def _stdout_error(found: object) -> RunnerError:
    hint = "Make room, or send it to another place."
    return RunnerError(USAGE, "Cannot write to stdout.", found, hint)


def write_stderr(text: str, end: str = "\n") -> None:
    """Print on stderr; errors are ignored, since the exit code reports the failure."""
    try:  # noqa: SIM105  contextlib is not loaded for this
        print(text, end=end, file=sys.stderr, flush=True)
    except (OSError, ValueError):
        pass


def _flush_stderr() -> None:
    try:  # noqa: SIM105
        sys.stderr.flush()
    except (OSError, ValueError):
        pass


WIDTH = 80


def _wrapped(name: str, *phrases: str) -> list[str]:
    """Return a name and comma-separated phrases, wrapped to 80 columns with an indent."""
    lines, line = [], f"  {name:10}"
    for position, phrase in enumerate(phrases):
        text = phrase if position == len(phrases) - 1 else phrase + ","
        if position and len(line) + 1 + len(text) > WIDTH:
            lines.append(line)
            line = " " * 12
        line += f" {text}"
    return [*lines, line]


def _format_size(size_bytes: int) -> str:
    if size_bytes < 1_000_000:
        return f"{size_bytes / 1e3:.1f} kB"
    return f"{size_bytes / 1e6:.2f} MB"


def _plural(n: int, noun: str) -> str:
    return f"{n} {noun}" if n == 1 else f"{n} {noun}s"


# --- Processes and signals ------------------------------------------------------------------------
# Signals, stderr of native code, and the child process in which models are tried.


class Stopped(KeyboardInterrupt):
    """Raised on SIGTERM and SIGHUP, which end a command like Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.number = number


def _raise_stopped(number: int, _: object) -> None:
    raise Stopped(number)


def _stop_signals() -> tuple[Any, list[int]]:
    """Return the signal module, and the signals that stop a command."""
    # The C module behind `signal`, which loads faster.
    module = __import__("_signal")
    return module, [module.SIGTERM, module.SIGHUP, module.SIGINT]


class DeferSigint:
    """Defers SIGINT, SIGTERM and SIGHUP until the end of a block.

    An interrupted import of an extension module reports an ordinary ImportError, or nothing; an
    interrupted start of a process leaves it running. Signals without a Python handler are left
    alone.
    """

    def __enter__(self) -> None:
        module, stops = _stop_signals()
        self.pending: list[int] = []
        self.handlers: dict[int, Any] = {}
        for number in stops:
            handler = module.getsignal(number)
            if callable(handler):
                try:
                    module.signal(number, self._remember)
                except ValueError:  # not in the main thread, which alone gets signals
                    return
                self.handlers[number] = handler

    def _remember(self, number: int, _: object) -> None:
        self.pending.append(number)

    def __exit__(self, *_: object) -> None:
        module, _stop_numbers = _stop_signals()
        # A signal between two of these would leave the other handlers unrestored.
        before = module.pthread_sigmask(module.SIG_BLOCK, self.handlers)
        for number, handler in self.handlers.items():
            module.signal(number, handler)
        module.pthread_sigmask(module.SIG_SETMASK, before)
        if self.pending:
            self.handlers[self.pending[0]](self.pending[0], None)


class SilenceStderr:
    """Discards what native code writes to file descriptor 2.

    Runtimes announce their delegates there, and numpy incompatible extensions; errors arrive as
    exceptions too.
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


def _open_missing_streams() -> None:
    """Open /dev/null for closed standard streams, lest another file gets their descriptor."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)  # the system gives the lowest number that is free
    if sys.stderr is None:
        sys.stderr = open(os.devnull, "w", encoding="utf-8")  # noqa: SIM115  until the end


def _silence_native_stderr() -> None:
    """Move Python's stderr to a new descriptor, and discard what native code writes to 2."""
    kept = os.dup(2)
    known = sys.stderr.encoding
    sys.stderr = open(kept, "w", 1, known, "backslashreplace")  # noqa: SIM115  until the end
    sink = os.open(os.devnull, os.O_WRONLY)
    os.dup2(sink, 2)
    os.close(sink)


TRIAL_S = 60


def first_run_limit(options: Options) -> int:
    """Return the seconds that a model's first load and run may take; 0 is no limit."""
    if not hasattr(os, "fork"):  # no SIGALRM either
        return 0
    return options.first_run_limit or (TRIAL_S if options.unknown_origin else 0)


class Trial:
    """A time limit for the first load and run of a file.

    After these seconds in the block, SIGALRM ends the process, which the parent reports (see
    `supervise`): a Python handler would not run while native code does.
    """

    def __init__(self, seconds: int) -> None:
        self.seconds = seconds

    def __enter__(self) -> None:
        module = _stop_signals()[0]
        module.signal(module.SIGALRM, module.SIG_DFL)
        module.alarm(self.seconds)

    def __exit__(self, *_: object) -> None:
        _stop_signals()[0].alarm(0)


def report_trial(options: Options) -> None:
    """Report once that the file is of unknown origin and was run in a child process."""
    if options.unknown_origin:
        write_stderr(
            plain(f"{options.model} has no manifest with its digest: tried in a child process.")
        )
        options.unknown_origin = False


def supervise(command: Callable[[Options], None], options: Options) -> int:
    """Run a command in a child process, so that a crash becomes an error message.

    Args:
        command: One that may crash in native code: the self-test, or any command with a delegate
            or a model of unknown origin.
        options: Its options.

    Returns:
        The exit code of the child.

    Raises:
        RunnerError: A signal ended it (code 3 for a model of unknown origin or one that exceeds
            the limit of its first run, otherwise 7).
    """
    module, stops = _stop_signals()
    child = 0
    early: list[int] = []

    def forward(number: int, _: object) -> None:
        if child:
            os.kill(child, number)
        else:
            early.append(number)

    # Set before the fork: a signal that arrives meanwhile is passed to the child, once.
    before = {stop: module.getsignal(stop) for stop in stops}
    caught = [stop for stop in stops if before[stop] != module.SIG_IGN]
    for stop in caught:
        module.signal(stop, forward)
    if sys.stdout:
        sys.stdout.flush()
    child = os.fork()
    if child == 0:
        early.clear()
        # Its own process group: Ctrl-C reaches it once, through its parent.
        os.setpgid(0, 0)
        _die_with_parent()

        def work() -> None:
            for stop in caught:
                module.signal(stop, before[stop])
            for stop in early:
                before[stop](stop, None)
            command(options)
            report_trial(options)

        code = _run_to_exit_code(work)
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
    raise _crash_error(options, number)


def _crash_error(options: Options, number: int) -> RunnerError:
    """Return the error for a child process that was ended by a signal."""
    import signal

    name = signal.Signals(number).name
    limit = first_run_limit(options)
    if name == "SIGALRM" and limit:
        return RunnerError(
            MODEL,
            f"{options.model} does not finish its first run in {limit} s.",
            f"The child process that tried it was ended by {name}.",
            "Give a longer --first-run-limit; a damaged file may never finish.",
        )
    if options.delegate:
        return delegate_mismatch(options.delegate, f"The process was ended by {name}.")
    if not limit:
        return _broken_runtime("crashes", f"The process was ended by {name}.")
    found = f"The child process that tried it was ended by {name}."
    if options.unknown_origin:
        found = f"It has no manifest with its digest: tried in a child process, which {name} ended."
    hint = "The file is damaged, or holds what the runtime cannot run: copy or convert it again."
    if name == "SIGKILL":
        hint = "The system may have run out of memory: close other programs and try again."
    return RunnerError(MODEL, f"{options.model} crashes the runtime.", found, hint)


def _die_with_parent() -> None:
    """Let the kernel end this process when its parent dies (Linux only)."""
    if sys.platform == "linux":
        import ctypes
        import signal

        parent_death_signal = 1  # PR_SET_PDEATHSIG
        ctypes.CDLL(None).prctl(parent_death_signal, signal.SIGKILL)


# --- Main -----------------------------------------------------------------------------------------
# From the command line to the exit code.


FUNCTIONS: Mapping[str, Callable[[Options], None]] = {
    "info": info,
    "bench": bench,
    "eval": evaluate,
    "run": run,
    "selftest": selftest,
}


def main(words: Sequence[str]) -> int:
    """Run one command line, without the program's name; return its exit code."""

    def work() -> int:
        if module.getsignal(module.SIGINT) is _interrupted_early:
            module.signal(module.SIGINT, module.default_int_handler)  # from here on it is caught
        if "--version" in words[:1]:
            _write_stdout(f"edgekit_runner {__version__}")
        elif {"-h", "--help"} & set(words):
            _write_stdout(PAGES.get(words[0], HELP)[:-1])
        else:
            verb, options = parse(words)
            command = FUNCTIONS[verb]
            isolate = command is selftest or bool(options.delegate)
            if options.model and not isolate and not options.trusted and hasattr(os, "fork"):
                options.unknown_origin = has_unknown_origin(options)
                isolate = first_run_limit(options) > 0
            if isolate:
                return supervise(command, options)
            command(options)
        return 0

    _open_missing_streams()
    module, stops = _stop_signals()
    before = {stop: module.getsignal(stop) for stop in stops}
    try:
        for stop in (module.SIGTERM, module.SIGHUP):
            if before[stop] == module.SIG_DFL:  # nohup ignores SIGHUP: that stays
                module.signal(stop, _raise_stopped)
        return _run_to_exit_code(work)
    finally:
        for stop in stops:
            if before[stop] is not None:
                module.signal(stop, before[stop])


def _run_to_exit_code(work: Callable[[], int | None]) -> int:
    """Call a function and return the exit code; errors are printed on stderr."""
    module, stops = _stop_signals()
    try:
        return work() or 0
    except RunnerError as error:
        write_stderr("\n".join(error.lines))
        return error.code
    except KeyboardInterrupt as error:
        for stop in stops:  # ignore further signals
            module.signal(stop, module.SIG_IGN)
        write_stderr("Interrupted.")
        return 128 + error.number if isinstance(error, Stopped) else INTERRUPTED
    except MemoryError:
        write_stderr("There is not enough memory.\nClose other programs, or take smaller data.")
        return DEVICE
    except BrokenPipeError:
        # The reader stopped early (`| head`): discard what is still buffered.
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
        return 0


if __name__ == "__main__":
    code = main(sys.argv[1:])
    _flush_stderr()
    # Without finalizing the interpreter: that takes time, and would abort a finished run if a
    # broken model corrupted the heap.
    os._exit(code)

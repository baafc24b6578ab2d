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
    Calibration and R2      the metrics ece and r2
    Detection heads         boxes from the outputs of a detector
    Mean average precision  how well boxes fit, as COCO defines it
    Command run             one JSON line for each sample
    Drift                   do inputs still look like the calibration data?
    Drawing                 annotated pictures, for `run --draw`
    Command selftest        a small model with known outputs
    Runtimes                finding and importing a TFLite runtime
    Delegates               Edge TPUs and other delegate libraries
    Models                  a loaded model, its tensors, errors of loading
    Expansion               gzip, int4 and sparse constants, unpacked into memory
    Manifests and metadata  preprocessing and labels of a model
    Inputs                  samples from files, folders, stdin and cameras
    Arrays                  .npz and .npy files, read row by row
    Preprocessing           from raw samples to model input
    Sound features          mfcc and micro, from sound to model input
    Codes of an input       from real values to what an integer input takes
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
  --no-expand           keep int4 and sparse constants as they are stored
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
usage: edgekit_runner.py bench MODEL... [OPTIONS]

Time single invocations: latency, cold start and memory. Several models are
timed by turns, and their latencies compared with the first's.

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

  --metric NAME         what the score is: f1; default: by task and classes;
                        repeatable: others are shown
  --outputs FILE        write dequantized outputs; --force replaces FILE
  --watch-drift         do the inputs look like the calibration data?
  --json                JSON on stdout
{LOADING_HELP}
example: edgekit_runner.py eval model.tflite test.npz
""",
    "run": f"""\
usage: edgekit_runner.py run MODEL INPUT... [OPTIONS]

One JSON line for each sample. An INPUT is a picture, a WAV, an .npz or .npy,
a folder of these, camera or camera:1, or - for raw uint8 frames on stdin.

  --watch FOLDER        then process files that are added to FOLDER
  --every SECONDS       least interval of samples; --limit N: stop after N
  --frame HxWxC         size of a raw frame, or of the camera's pictures
  --draw DIR            write annotated pictures or class maps as PNG files;
                        --force replaces what is in DIR
  --labels FILE         class names, one a line; default: the manifest's
  --top K               classes to print; default: 5
  --threshold SCORE     minimum score of a box or a label; default: 0.5
  --watch-drift         say when inputs no longer look like calibration data
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
    metric: Sequence[str] = ()
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
    watch_drift = False
    first_run_limit: int | None = None
    trusted = False
    no_expand = False
    # Not options but derived: further models, the first one's digest, and whether a manifest
    # is missing that confirms it, or one of them.
    others: Sequence[str] = ()
    sha256 = ""
    unknown_origin = False


LOADING_OPTIONS = (
    "runtime", "kernels", "delegate", "delegate-option", "no-expand", "first-run-limit", "trusted",
)  # fmt: skip
RUN_OPTIONS = (
    "watch", "every", "limit", "frame", "draw", "force", "labels", "top", "threshold",
    "watch-drift",
)  # fmt: skip
COMMANDS: dict[str, tuple[int, int, tuple[str, ...]]] = {
    # fewest and most files, options
    "info": (0, 1, (*LOADING_OPTIONS, "json")),
    "bench": (
        1,
        sys.maxsize,
        (*LOADING_OPTIONS, "threads", "json", "runs", "seconds", "data", "duration", "sweep"),
    ),
    "eval": (
        2,
        2,
        (*LOADING_OPTIONS, "threads", "json", "metric", "outputs", "force", "watch-drift"),
    ),
    "run": (1, sys.maxsize, (*LOADING_OPTIONS, "threads", *RUN_OPTIONS)),
    "selftest": (0, 0, ("runtime", "threads", "json")),
}
# Of `bench`: what is measured of one model only.
SINGLE_OPTIONS = ("data", "delegate", "duration", "runs", "seconds", "sweep")
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
        if name in ("delegate-option", "metric"):
            value = (*getattr(options, attribute), value)
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
    if verb == "bench" and options.files:
        given = [name for name in SINGLE_OPTIONS if getattr(options, name)]
        if given:
            raise _usage(f"--{given[0]} takes one model.", f"Found {' '.join(files)}.", verb)
        options.others = options.files
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
            unpacked_bytes=model.unpacked_bytes,
            delegate=str(model.delegate) if model.delegate else None,
            operators=model.operators(),
        )
        _warn_of_fallback(model, facts["operators"])
        lines = [
            f"{options.model}  {_format_size(facts['size_bytes'])}",
            *unpacked_lines(facts["flash_bytes"], model.unpacked_bytes),
            *operator_lines(facts["operators"]),
            *(f"  input {_describe_tensor(tensor)}" for tensor in model.inputs),
            *(f"  output {_describe_tensor(tensor)}" for tensor in model.outputs),
            f"  preprocessing: {_describe_preprocessing(known)}",
            *(line for tensor in model.inputs[:1] for line in _describe_picture(known, tensor)),
            f"  labels: {_describe_labels(known)}",
            *lines,
        ]
    _print_result(facts if options.json else lines)


def operator_lines(operators: Mapping[str, Any] | None) -> list[str]:
    """Return the line that says which kernels run a model's operators."""
    if not operators or not operators["n"]:
        return []
    delegated = {name: n for name, n in operators["delegated"].items() if n}
    left = operators["n"] - sum(delegated.values())
    parts = [f"{n} by {plain(name)}" for name, n in delegated.items()]
    parts += [f"{left} by the runtime's own kernels"] if left else []
    return [f"  operators: {', '.join(parts)}"]


def fallback(model: Model, operators: Mapping[str, Any] | None) -> str | None:
    """Return that a delegate was loaded and runs nothing; None if it does, or cannot be told."""
    if model.delegate is None or operators is None:
        return None
    if operators["delegated"].get(str(model.delegate)):
        return None
    return (
        f"--delegate {model.delegate} takes over none of {_plural(operators['n'], 'operator')}: "
        "all of them run on the CPU."
    )


def _warn_of_fallback(model: Model, operators: Mapping[str, Any] | None) -> None:
    found = fallback(model, operators)
    if found:
        write_stderr(plain(found))


def _trial_run(model: Model) -> None:
    """Run a model of unknown origin once, so that `info` already reports a crash.

    Errors are ignored: a sound model may refuse random input, for instance indices of a lookup.
    """
    if model.trial:
        try:
            model.feed(random_inputs(model))
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
    if options.others:
        bench_by_turns(options)
        return
    runtime = find_runtime(options.runtime)
    before = conditions()
    memory = -own_bytes()
    model = open_model(options, runtime)
    memory += own_bytes()
    model.require_inputs_and_outputs()
    import numpy as np

    prepare, sample = _bench_input(options.data, model)
    # Random codes by default, as other benchmark tools use them.
    codes = prepare() if options.data else random_inputs(model)
    memory -= own_bytes()
    model.feed(codes)
    with SilenceStderr():
        start = time.perf_counter_ns()
        model.invoke()
        first_ns = time.perf_counter_ns() - start
    memory += own_bytes()
    # A file that was not unpacked is mapped.
    memory += os.path.getsize(options.model) if model.unpacked_bytes is None and memory else 0
    values, warmup, settled = _warm_up_and_time(model, options)
    peak_bytes = peak_rss_bytes()
    after = conditions()
    reasons = stability_warnings(
        values,
        settled=settled,
        threads=options.threads,
        throttled=str(after.get("throttled", "")),
    )
    operators = model.operators()
    without = _without_delegate(options, runtime, codes, operators)
    remark = fallback(model, operators) or no_faster(model, values, without)
    whole = {**time_end_to_end(model, prepare, 0.5), "input": sample}
    sustained = sustain(model.interpreter.invoke, options.duration) if options.duration else []
    reasons += load_warnings(sustained)
    advice = "Stop other programs, let the board cool, or time more runs."
    unstable = f"The timing may be unstable: {'; '.join(reasons)}. {advice}" if reasons else ""
    warning = " ".join(filter(None, [remark, unstable])) or None
    machine = describe_device()
    facts: dict[str, Any] = {
        "schema": 1,
        "version": __version__,
        **_file_facts(options),
        **_summary(values),
        "threads": options.threads,
        "device": machine["device"],
        "runtime": str(runtime),
        "delegate": str(model.delegate) if model.delegate else None,
        "kernels": options.kernels,
        "operators": operators,
        **({"without_delegate_ms": without} if without else {}),
        "peak_rss_bytes": peak_bytes,
        "memory_bytes": max(0, memory) or None,
        "unpacked_bytes": model.unpacked_bytes,
        "cold_start_ns": {
            "import": runtime.import_ns,
            "load": model.unpack_ns + model.load_ns,
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
    if remark and not options.json:
        write_stderr(plain(remark))
    if reasons and not options.json:
        listed = [f"- {reason}" for reason in reasons]
        write_stderr("\n".join(["The timing may be unstable:", *listed, advice]))


def bench_by_turns(options: Options) -> None:
    """Time several models by turns."""
    runtime = find_runtime(options.runtime)
    before = conditions()
    each = [options, *(one_model(options, path) for path in options.others)]
    models = [open_model(one, runtime) for one in each]
    for model in models:
        model.require_inputs_and_outputs()
        model.feed(random_inputs(model))
        with SilenceStderr():
            model.invoke()  # the first, within its limit
    timed = time_by_turns(models)
    after = conditions()
    reasons = stability_warnings(
        (), settled=True, threads=options.threads, throttled=str(after.get("throttled", ""))
    )
    machine = describe_device()
    facts: dict[str, Any] = {
        "schema": 1,
        "version": __version__,
        "device": machine["device"],
        "runtime": str(runtime),
        "kernels": options.kernels,
        "threads": options.threads,
        "rounds": ROUNDS,
        "conditions": {"before": before, "after": after},
        "stable": not reasons,
        "warning": f"The timing may be unstable: {'; '.join(reasons)}." if reasons else None,
        "machine": machine,
        "files": [
            {
                **_file_facts(one),
                **_summary(values),
                **({"ratio": ratio_by_turns(values, timed[0])} if place else {}),
                "values_ns": values,
            }
            for place, (one, values) in enumerate(zip(each, timed))
        ],
    }
    _print_result(facts if options.json else turns_lines(facts))
    if reasons and not options.json:
        write_stderr(plain(facts["warning"]))


def one_model(options: Options, path: str) -> Options:
    """Return the options for one of several models that is not the first."""
    chosen = Options()
    vars(chosen).update(vars(options), model=path, sha256="", others=())
    # Native output is silenced for the first, and for good.
    chosen.first_run_limit, chosen.unknown_origin = first_run_limit(options) or None, False
    return chosen


ROUNDS = 20
ROUND_NS = 50_000_000
MOST_RUNS = 500


def time_by_turns(models: Sequence[Model]) -> list[list[int]]:
    """Return the nanoseconds that the runs of several models took, in rounds of a few of each.

    Whatever else the machine does, and its heat, slow all of them alike: models that are timed
    one after the other differ by more than their kernels do.

    Args:
        models: Models whose inputs are set.

    Returns:
        For each model `ROUNDS` times as many values as it was run in a round.
    """
    plans = []
    with SilenceStderr():
        for model in models:
            warmup, _ = warm_up(model.interpreter.invoke)
            middle = max(1, _median(warmup[-20:]))
            n = max(1, min(MOST_RUNS, ROUND_NS // middle - 1))
            # What comes back into the caches, unless that is little of a run.
            plans.append((model.interpreter.invoke, n, n // 10 or int(middle < ROUND_NS)))
    values: list[list[int]] = [[] for _ in models]
    for position in range(ROUNDS):
        # There and back: what grows during a round is not held against the last model.
        for index in range(len(models))[:: -1 if position % 2 else 1]:
            invoke, n, first = plans[index]
            time_runs(invoke, first)
            values[index] += time_runs(invoke, n)
    return values


def ratio_by_turns(
    values: Sequence[int], reference: Sequence[int], rounds: int = ROUNDS
) -> dict[str, float]:
    """Return how a latency compares with another that was taken by turns with it.

    Returns:
        `value`, the median of the ratios of the rounds' medians, and `low` and `high`, the ends
        of its 95 % interval, by order statistics.
    """
    pairs = zip(block_medians(values, rounds), block_medians(reference, rounds))
    ratios = sorted(one / other for one, other in pairs)
    end = _lower_end(rounds)
    return {"value": _middle(ratios), "low": ratios[end], "high": ratios[-1 - end]}


def block_medians(values: Sequence[int], blocks: int) -> list[float]:
    """Return the medians of that many blocks of consecutive invocations."""
    n = len(values)
    pieces = [values[n * k // blocks : n * (k + 1) // blocks] for k in range(blocks)]
    return [_middle(sorted(piece)) for piece in pieces]


def _middle(ordered: Sequence[float]) -> float:
    return (ordered[(len(ordered) - 1) // 2] + ordered[len(ordered) // 2]) / 2


def _lower_end(n: int) -> int:
    """Return which of `n` ordered values is the lower end of the median's 95 % interval."""
    import math  # which numpy has imported already

    below, k = 0.0, 0
    while (below := below + math.comb(n, k) / 2**n) <= 0.025:
        k += 1
    return max(0, k - 1)


def turns_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return the text lines for the facts of `bench` of several models."""
    lines = [
        f"{facts['runtime']} on {facts['device']}",
        f"By turns, {facts['rounds']} rounds, {_plural(facts['threads'], 'thread')}",
    ]
    for one in facts["files"]:
        lines += [
            f"{one['model']}  {_format_size(one['size_bytes'])}",
            *_wrapped(
                "one run",
                f"p50 {one['p50_ms']:.3f} ms",
                f"p90 {one['p90_ms']:.3f}",
                f"p99 {one['p99_ms']:.3f}",
                f"mean {one['mean_ms']:.3f}",
                _plural(one["n"], "run"),
            ),
        ]
        if "ratio" in one:
            ratio = "{value:.3g} ({low:.3g} to {high:.3g})".format(**one["ratio"])
            lines += _wrapped("latency", f"{ratio} times that of the first")
    return lines


def _summary(values: Sequence[int]) -> dict[str, Any]:
    """Return percentiles and mean, in ms, of nanoseconds, and their number."""
    import numpy as np

    p50, p90, p99 = (float(v) / 1e6 for v in np.percentile(values, [50, 90, 99]))
    mean = sum(values) / len(values) / 1e6
    return {"p50_ms": p50, "p90_ms": p90, "p99_ms": p99, "mean_ms": mean, "n": len(values)}


def bench_lines(facts: Mapping[str, Any]) -> list[str]:
    """Return the text lines for the facts of `bench`."""
    whole = facts["end_to_end"]
    cold = {key: value / 1e6 for key, value in facts["cold_start_ns"].items()}
    phases = [f"{key.replace('_', ' ')} {value:.1f}" for key, value in cold.items()]
    parts = [f"{key} {value:.3f}" for key, value in whole["parts_ms"].items()]
    return [
        f"{facts['model']}  {_format_size(facts['size_bytes'])}",
        *unpacked_lines(facts["flash_bytes"], facts["unpacked_bytes"]),
        f"{facts['runtime']} on {facts['device']}",
        *(_wrapped("delegate", facts["delegate"]) if facts["delegate"] else []),
        *operator_lines(facts["operators"]),
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
        *_wrapped(
            "memory",
            f"{_format_size(facts['peak_rss_bytes'])} at the most",
            *(
                [f"{_format_size(facts['memory_bytes'])} of it the model's"]
                if facts["memory_bytes"]
                else []
            ),
        ),
        *(sustained_lines(facts["sustained"]) if "sustained" in facts else []),
        *(sweep_lines(facts["sweep"]) if "sweep" in facts else []),
    ]


def _without_delegate(
    options: Options, runtime: Runtime, codes: Sequence[Any], operators: Mapping[str, Any] | None
) -> float | None:
    """Return the p50 in ms of the same model on the CPU alone; None where it needs the delegate."""
    if not options.delegate or operators is None or not set(operators["delegated"]) - {XNNPACK}:
        return None
    chosen = Options()
    plain_options = {"delegate": None, "delegate_option": (), "unknown_origin": False}
    vars(chosen).update(vars(options), seconds=0.5, runs=None, **plain_options)
    try:
        model = open_model(chosen, runtime)
        model.feed(codes)
        values, _, _ = _warm_up_and_time(model, chosen)
    except RunnerError:  # compiled for the Edge TPU, or of operators that only the delegate has
        return None
    return _median(values) / 1e6


def no_faster(model: Model, values: Sequence[int], without_ms: float | None) -> str | None:
    """Return that a delegate makes a model no faster, as one does that computes on the CPU."""
    middle = _median(values) / 1e6
    if without_ms is None or middle < 0.95 * without_ms:
        return None
    return (
        f"--delegate {model.delegate} brings no speed: p50 {middle:.3f} ms, {without_ms:.3f} "
        "without it. It may compute on the CPU."
    )


def unpacked_lines(flash_bytes: int, unpacked_bytes: int | None) -> list[str]:
    """Return the line of a file that is unpacked when it is loaded; none for other files."""
    if unpacked_bytes is None:
        return []
    on_flash, in_memory = _format_size(flash_bytes), _format_size(unpacked_bytes)
    return [f"  {on_flash} on flash, {in_memory} in memory: unpacked when it is loaded"]


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
        return random_inputs(model), RANDOM_CODES
    if kind in SOUND_KINDS and spec:
        audio = random.randint(-32768, 32768, spec["samples"], np.int16)
        return [audio], f"random audio, {spec['samples']} samples"
    colours = len(first.shape) == 4 and first.shape[3] == 3
    pixels = picture or (spec is None and first.dtype.kind in "iu")
    if (picture or {}).get("kind") == "image" or (colours and pixels):
        # The size of a camera's picture: resizing takes much of the time.
        return [random.randint(0, 256, (480, 640, 3), np.uint8)], RANDOM_PICTURE
    if kind == "affine":
        return [random.randint(0, 256, first.shape, np.uint8)], "random uint8"
    return random_inputs(model), RANDOM_CODES


def random_inputs(model: Model) -> list[Any]:
    """Return an array of random values for each input, the same in every run."""
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
            # Plain integers are indices or lengths: larger numbers may be out of bounds, and zeros
            # nothing but padding, by whose mean integer kernels do not divide.
            made.append(np.ones(tensor.shape, tensor.dtype))
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
    path = options.files[0]
    place = ""
    if options.outputs:
        inputs = [options.model, manifest_path(options.model), path]
        place = output_path(options.outputs, "--outputs", inputs, force=options.force)
    runtime = find_runtime(options.runtime)
    model = open_model(options, runtime)
    model.require_inputs_and_outputs()
    manifest = read_manifest(options.model)
    drift = Drift(model, manifest) if options.watch_drift else None
    columns, targets, starts, declared = _read_labelled(path, model, unscored=bool(options.outputs))
    if place and (manifest.get("data") or {}).get("task") == NO_TASK:
        targets = None
    n = columns[0].shape[0]
    scorer = None
    others: list[tuple[Scorer, Iterator[Any]]] = []
    if targets is not None:
        scorer = _scorer(options, model, manifest, targets)
        scorer.groups, scorer.ignored = declared
        others = _other_scorers(path, model, manifest, n, scorer.output)
        if isinstance(scorer, DetectionScorer):
            scorer.prepare(model, manifest, columns[0])
    elif options.metric:
        raise RunnerError(
            USAGE,
            "--metric has no effect without targets.",
            f"{path} holds none.",
            "Store them as y_test, or leave out --metric.",
        )
    rows = preprocessed_samples(columns, manifest, model, path)
    answers = _predict(
        model,
        path,
        zip(rows, targets.rows() if targets else iter([None] * n), starts),
        scorer,
        others,
        drift=drift,
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
        "score": _score_of(scorer, others, model) if scorer else None,
        "n": n,
        "seconds": seconds,
        "threads": options.threads,
        "runtime": str(runtime),
        "delegate": str(model.delegate) if model.delegate else None,
        "kernels": options.kernels,
        "device": describe_device()["device"],
        "peak_rss_bytes": peak_rss_bytes(),
        **({"drift": drift.judge()} if drift else {}),
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
    outputs = [f"y_test_{tensor.name}" for tensor in model.outputs]
    keys = ("targets", "y_test", "y", *outputs)
    targets = next((stored[key] for key in keys if key in stored), None)
    if targets is None and not unscored:
        raise RunnerError(
            DATA,
            f"{path} holds no targets.",
            f"It holds {', '.join(sorted(stored))}.",
            f"Store them as y_test, {' or '.join(outputs)}, or write outputs without a score: "
            "--outputs F.npz.",
        )
    strange = [key for key in stored if key.startswith("y_test_") and key not in outputs]
    if strange:
        listed = ", ".join(tensor.name for tensor in model.outputs)
        write_stderr(plain(f"Not used: {', '.join(strange)}. The model's outputs: {listed}."))
    if targets is not None and targets.shape[:1] != (n,):
        raise RunnerError(
            DATA,
            f"{path} has {n} samples but another number of targets.",
            f"{columns[0].name} {list(columns[0].shape)}, {targets.name} {list(targets.shape)}.",
            "Store one target for each sample.",
        )
    return columns, targets, sequence_starts(stored, columns, path), _declared(stored, n, path)


def _scorer(
    options: Options, model: Model, manifest: Mapping[str, Any], targets: StoredArray
) -> Scorer:
    """Return the scorer of the output that targets are of: the first, unless they name one.

    Raises:
        RunnerError: The task has no such metric (code 2), or cannot be scored (code 4).
    """
    import math

    names = [f"y_test_{tensor.name}" for tensor in model.outputs]
    index = names.index(targets.name) if targets.name in names else 0
    name = model.outputs[index].name
    data = manifest.get("data") or {}
    # The manifest tells of the output that was scored when the file was made, and of others.
    same = data.get("output") in (None, name)
    headed = _are_boxes(targets.shape) and model_head(model, manifest) is not None
    task = (
        (data.get("task") if same else None)
        or (data.get("outputs") or {}).get(name)
        or infer_task_from_targets(model, targets, index, headed=headed)
    )
    units = math.prod(model.outputs[index].shape)
    first = options.metric[0] if options.metric else None
    scorer = SCORERS.get(task, Scorer)(
        task, targets.shape[0], (manifest.get("labels") if same else None) or [], units, first
    )
    for metric in options.metric:
        scorer.require_metric(metric)
    scorer.shown = options.metric[1:]
    scorer.compiled = str(data.get("metric") or "") if same else ""
    scorer.output = index
    return scorer


def _other_scorers(
    path: str, model: Model, manifest: Mapping[str, Any], n: int, scored: int
) -> list[tuple[Scorer, Iterator[Any]]]:
    """Return a scorer for each further output with targets `y_test_<output>`, and the targets.

    Args:
        path: The file of the targets.
        model: The model.
        manifest: The model's, which may name the task of each output.
        n: Number of samples.
        scored: Index of the output that is scored first.

    Raises:
        RunnerError: The number of targets is another one (code 4).
    """
    import math

    stored = read_arrays(path)
    data = manifest.get("data") or {}
    told = {**(data.get("outputs") or {}), data.get("output"): data.get("task")}
    found: list[tuple[Scorer, Iterator[Any]]] = []
    for index, tensor in enumerate(model.outputs):
        targets = stored.get(f"y_test_{tensor.name}")
        if targets is None or index == scored:
            continue
        if targets.shape[:1] != (n,):
            raise RunnerError(
                DATA,
                f"{path} has {n} samples but another number of targets.",
                f"{targets.name} {list(targets.shape)}.",
                "Store one target for each sample.",
            )
        task = told.get(tensor.name) or infer_task_from_targets(model, targets, index)
        if task == NO_TASK:
            continue
        labels = stored.get(f"labels_{tensor.name}")
        names = [str(label) for label in labels.rows()] if labels else []
        if not names and targets.dtype.kind == "U":
            names = sorted({str(label) for label in targets.rows()})
        kind = SCORERS.get(task, Scorer)
        scorer = kind(task, n, names, math.prod(tensor.shape))
        scorer.output = index
        found.append((scorer, targets.rows()))
    return found


def _score_of(
    scorer: Scorer, others: Sequence[tuple[Scorer, object]], model: Model
) -> dict[str, Any]:
    """Return the score of the scored output, and those of the others with targets."""
    each = [
        {"output": model.outputs[one.output].name, "task": one.task, "score": one.score()}
        for one, _ in others
    ]
    return {**scorer.score(), "per_output": each}


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
        for one in score["per_output"]:
            low, high = one["score"]["ci95"]
            lines.append(
                f"  output {one['output']}: {one['score']['metric']} {one['score']['value']:.4f}   "
                f"95 % interval {low:.4f} to {high:.4f}"
            )
    lines.append(f"  {facts['seconds']:.3f} s on {facts['runtime']}, {facts['device']}")
    return lines + [f"  {line}" for line in drift_lines(facts.get("drift"))]


def _predict(
    model: Model,
    path: str,
    rows: Iterator[tuple[tuple[list[Any], Callable[[], Any]], Any, bool]],
    scorer: Scorer | None,
    others: Sequence[tuple[Scorer, Iterator[Any]]] = (),
    *,
    drift: Drift | None = None,
) -> Iterator[list[Any]]:
    """Yield the dequantized outputs of each sample, after passing them to the scorers."""
    names = [tensor.name for tensor in model.outputs]
    for position, ((codes, value), target, starts) in enumerate(rows):
        if starts:
            model.reset_state()
        if drift:
            drift.add(codes)
        model.feed(codes)
        model.invoke()
        outputs = model.results()
        pairs = [(scorer, target)] if scorer else []
        for one, wanted in [*pairs, *((other, next(told)) for other, told in others)]:
            try:
                one.add(position, value, one.scored(names, outputs), wanted)
            except ValueError as error:
                raise RunnerError(
                    DATA,
                    f"{path}, sample {position}, has a target that does not fit output "
                    f"{model.outputs[one.output].name!r}.",
                    error,
                    "Check y_test, and the task and labels in the manifest.",
                ) from error
        yield outputs


def infer_task_from_targets(
    model: Model, targets: StoredArray, output: int = 0, *, headed: bool = False
) -> str:
    """Return the task that targets and shapes suggest, by the rules of edgekit's evaluation/tasks.

    Boxes are rows of 5 or 6 numbers, any number a picture, for a model with a detection head.
    Masks have a value or a one-hot row for each pixel; what fits nothing else but has another size
    or other classes than the output is taken for masks, and refused later.

    Classes are texts, whole numbers, or one-hot rows; flags are nothing but 0 and 1, and labels
    such rows with any number of ones.

    Args:
        model: The model.
        targets: The targets.
        output: Index of the output that they are of.
        headed: Whether a head tells boxes.
    """
    import numpy as np

    if targets.dtype.kind == "U":
        return "classification"
    shape = model.outputs[output].shape
    if headed and targets.dtype.kind in "fiu" and _are_boxes(targets.shape):
        return "detection"
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


def _are_boxes(shape: Sequence[int]) -> bool:
    return len(shape) == 3 and shape[2] in (5, 6)


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
        "accuracy", "balanced_accuracy", "f1", "precision", "recall", "average_precision",
        "roc_auc", "top5_accuracy", "ece",
    ),
    "multi-label": (
        "f1", "accuracy", "binary_accuracy", "precision", "recall", "average_precision",
    ),
    "segmentation": ("mean_iou", "pixel_accuracy"),
    "regression": ("rmse", "mae", "r2"),
    "reconstruction": ("roc_auc", "average_precision"),
    "detection": ("map", "map50"),
}  # fmt: skip
NO_TASK = "none"  # only a metric of the user's own scores the targets
# Those that need a score of one of two classes.
OF_TWO_CLASSES = ("average_precision", "roc_auc")
# Of fewer classes all are among the best five.
OF_MANY_CLASSES, MANY_CLASSES = "top5_accuracy", 6
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
        shown: Further metrics that were asked for.
        output: Index of the output that is scored.
        compiled: The metric that the model was compiled with, the default; "" for none.
    """

    groups: Any = None
    ignored: Any = ()
    shown: Sequence[str] = ()
    compiled: str = ""
    output = 0

    def __init__(
        self, task: str, n: int, labels: Sequence[str], units: int, metric: str | None = None
    ) -> None:
        import numpy as np

        if task not in METRICS:
            raise RunnerError(
                DATA,
                f"eval cannot score {task}.",
                "The targets fit no task: edgekit scores them on the host, by your own metric."
                if task == NO_TASK
                else f"It scores {', '.join(METRICS)}.",
                "Write outputs without a score: --outputs F.npz, and a DATA.npz without targets.",
            )
        several = task == "classification" and units > 2
        unfit = list(OF_TWO_CLASSES) if several else []
        unfit += [OF_MANY_CLASSES] if units < MANY_CLASSES else []
        self.metrics = [m for m in METRICS[task] if m not in unfit]
        self.task = task
        self.labels = list(labels)
        self.units = units
        self.metric = metric
        if metric is not None:
            self.require_metric(metric)
        self.target = np.zeros(n, np.int64)
        self.predicted = np.zeros(n, np.int64)
        self.rank = np.zeros(n, np.int64)
        self.values = np.zeros((n, 2))  # the unit, the scores of two classes, or both errors
        self.confidence = np.zeros((n, 3))  # the highest score, softmax's, and the lowest

    def require_metric(self, name: str) -> None:
        """Check that the task and its classes have a metric.

        Raises:
            RunnerError: They do not (code 2).
        """
        if name in self.metrics:
            return
        if ":" in name:
            raise RunnerError(
                USAGE,
                "eval computes no metric of your own.",
                f"It was given {name}.",
                "Score with edgekit on the host (edgekit deploy, or eval), or write --outputs.",
            )
        of = f"a {self.task}"
        if name in METRICS[self.task]:
            of = f"{max(2, self.units)} classes"
        raise RunnerError(
            USAGE,
            f"There is no metric {name!r} of {of}.",
            "",
            f"Known here: {', '.join(self.metrics)}.",
        )

    def scored(self, names: Sequence[str], outputs: Sequence[Any]) -> Any:
        """Return what is compared with the target, of all outputs of a sample."""
        _ = names
        return outputs[self.output]

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
                top = output.max()
                self.confidence[position] = top, softmax_peak(output), output.min()
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
            raise ValueError(f"{len(output)} finite numbers wanted, found {wanted}")
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
            return first if self.units == 1 else second if shares else second - first, extras
        if not np.isfinite(first).all():
            broken = int(n - np.isfinite(first).sum())
            raise RunnerError(
                MODEL,
                "The model has no score: its outputs overflow.",
                f"They do for {broken} of {n} samples.",
                "Check the ranges and weights of the model; convert it again.",
            )
        if self.groups is not None and self.task == "reconstruction":
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
                f"{chosen} needs "
                + (
                    "targets that differ."
                    if chosen == "r2"
                    else "at least two samples of either class."
                ),
                f"There are {lacking}.",
                "Add samples, or choose another --metric.",
            )
        value, interval = self.figure(chosen, scores, with_interval=True)
        for name in dict.fromkeys([*self.shown, *self.metrics]):
            if name != chosen and not self.lacks(name):
                extras[name], _ = self.figure(name, scores)
        return {
            "metric": chosen,
            "value": value,
            "n": len(self.target),
            "ci95": list(interval),
            "extras": extras,
            "shown": list(self.shown),
            "reason": reason,
        }

    def default(self) -> tuple[str, str]:
        """Return the metric where none is named, and why if it is not the usual one."""
        import numpy as np

        if self.compiled in self.metrics and not self.lacks(self.compiled):
            return self.compiled, "the model was compiled with it"
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
        if name == "top5_accuracy":
            found = self.rank < 5
            return float(found.mean()), wilson(int(found.sum()), len(found))
        if name == "ece":
            return calibration_error(
                self.predicted == self.target,
                confidence_of(self.values[:, 0] if self.units == 1 else self.confidence),
                with_interval=with_interval,
            )
        if name == "roc_auc":
            area, low, high = roc_auc(scores, self.target)
            return area, (low, high)
        if name == "average_precision":
            return average_precision(scores, self.target, with_interval=with_interval)
        right = self.predicted == self.target
        if name == "accuracy":
            return float(right.mean()), wilson(int(right.sum()), len(right))
        if name in ("balanced_accuracy", "recall"):
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


class QuantityScorer(Scorer):
    """Scores quantities: also the targets and squared errors of each column of the output.

    Where there are more than `MOST_COLUMNS`, their means.
    """

    MOST_COLUMNS = 64

    def __init__(
        self, task: str, n: int, labels: Sequence[str], units: int, metric: str | None = None
    ) -> None:
        import numpy as np

        super().__init__(task, n, labels, units, metric)
        self.apart = units <= self.MOST_COLUMNS
        self.columns = np.zeros((2, n, units if self.apart else 1))  # squared errors, targets
        self.target_square = np.zeros((n, 1))

    def add(self, position: int, value: Callable[[], Any], output: Any, target: Any) -> None:
        """Add one sample: as in `Scorer`."""
        import numpy as np

        super().add(position, value, output, target)
        wanted = np.asarray(target, np.float64).ravel()
        if self.apart:
            with np.errstate(over="ignore", invalid="ignore"):
                squares = (np.asarray(output, np.float64).ravel() - wanted) ** 2
            self.columns[:, position] = squares, wanted
        else:
            self.columns[:, position, 0] = self.values[position, 0], wanted.mean()
            self.target_square[position] = np.mean(wanted**2)

    def figure(
        self, name: str, scores: Any, *, with_interval: bool = False
    ) -> tuple[float, tuple[float, float]]:
        """Return a metric's value and 95 % interval; (0, 0) unless that is asked for."""
        no_interval = 0.0, 0.0
        if name == "mae":
            errors = self.values[:, 1]
            value = float(errors.mean())
            return value, mae_interval(errors) if with_interval else no_interval
        if name == "r2":
            squares, target = self.columns
            moments = moments_of(squares, target, None if self.apart else self.target_square)
            value = float(explained(moments.mean(axis=0)))
            return value, bootstrap(moments, explained) if with_interval else no_interval
        return super().figure(name, scores, with_interval=with_interval)

    def lacks(self, name: str) -> str:
        """Return what there is, where R2 has nothing to explain."""
        target = self.columns[1]
        constant = self.apart and not (target.max(axis=0) > target.min(axis=0)).any()
        return f"{len(target)} targets that are all alike" if name == "r2" and constant else ""


SCORERS: dict[str, type[Scorer]] = {
    "multi-label": LabelScorer,
    "segmentation": MapScorer,
    "regression": QuantityScorer,
}


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
        columns: `[n, k]`, what is averaged: float64, or counts.
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
            for column in range(k):
                some[:, column] = exact[:, column][drawn].mean(axis=1)
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
    """Return F1, precision or recall, the mean over the labels that occur, and its interval.

    By a bootstrap over samples, and what these do not show of labels that are always found, never
    found, or never a false alarm.

    Args:
        name: f1, precision or recall.
        target: `[n, k]` flags.
        predicted: `[n, k]` flags.
        with_interval: Whether there is one.
    """
    import numpy as np

    def of_label(hits: Any, sizes: Any, named: Any) -> Any:
        if name == "f1":
            return 2 * hits / (sizes + named)
        return hits / sizes if name == "recall" else hits / np.maximum(named, 1e-9)

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


# --- Calibration and R2 ---------------------------------------------------------------------------
# Both are also the host's: edgekit's evaluation/metrics/ece.py and r2.py import them.

ECE_BINS = 15


def softmax_peak(scores: Any) -> Any:
    """Return the largest probability that softmax makes of scores `[..., k]`."""
    import numpy as np

    # What is not finite is refused as such; a difference beyond float32 has no share.
    with np.errstate(invalid="ignore", over="ignore"):
        return 1 / np.exp(scores - scores.max(axis=-1, keepdims=True)).sum(axis=-1)


def confidence_of(scores: Any) -> Any:
    """Return the probability of the predicted class, `[n]`.

    Args:
        scores: `[n]`, of one unit: a probability of class 1, or a logit where one lies outside
            [0, 1]. Or `[n, 3]`, of several: the highest score, `softmax_peak`, the lowest score.
    """
    import numpy as np

    if scores.ndim == 2:
        highest, softened, lowest = scores.T
        return highest if lowest.min() >= 0 and highest.max() <= 1 else softened
    if are_shares(scores):
        return np.maximum(scores, 1 - scores)
    return 1 / (1 + np.exp(-np.abs(scores)))


def calibration_gaps(right: Any, confidence: Any) -> tuple[Any, Any, Any]:
    """Return the bin of each sample, `[n]`, and of each bin the gap and its standard error.

    The gap is (right answers - summed confidence) / n. The standard error is that of a mean over
    samples, and at least the one that the number of right answers in the bin leaves (A. Agresti,
    B. Coull, The American Statistician 52, 1998: with Z^2 / 2 more of either kind).

    Args:
        right: `[n]` flags.
        confidence: `[n]`, from 0 to 1; bins are open below and closed above.
    """
    import numpy as np

    n = len(right)
    # Scores that are not finite have no confidence.
    confidence = np.where(np.isfinite(confidence), confidence, 0.0)
    place = np.clip(np.ceil(confidence * ECE_BINS).astype(np.int64) - 1, 0, ECE_BINS - 1)
    gap = right - confidence
    sizes = count_places(place, minlength=ECE_BINS)
    found = count_places(place, right.astype(np.float64), ECE_BINS)
    means = count_places(place, gap, ECE_BINS) / n
    squares = count_places(place, gap**2, ECE_BINS) / n
    share = (found + Z**2 / 2) / (sizes + Z**2)
    variance = np.maximum((squares - means**2) / n, sizes * share * (1 - share) / n**2)
    return place, means, np.sqrt(variance)


def calibration_error(
    right: Any, confidence: Any, *, with_interval: bool
) -> tuple[float, tuple[float, float]]:
    """Return the expected calibration error and its interval.

    C. Guo, G. Pleiss, Y. Sun, K. Weinberger, "On Calibration of Modern Neural Networks" (ICML
    2017), eq. 3, with 15 bins of equal width: the sum over bins of |gap|. Gaps that are none still
    add up: the mean of |N(m, s)| exceeds |m| (the folded normal distribution; F. Leone, L. Nelson,
    R. Nottingham, Technometrics 3, 1961). The lower end is lowered by that excess, at gaps two
    standard errors nearer to 0 than measured.

    Args:
        right: `[n]` flags.
        confidence: `[n]`, from 0 to 1.
        with_interval: Whether there is one; (0, 0) if not.
    """
    import math

    import numpy as np

    _, means, errors = calibration_gaps(right, confidence)
    gaps = np.abs(means)
    value = float(gaps.sum())
    if not with_interval:
        return value, (0.0, 0.0)
    excess = 0.0
    for gap, error in zip(gaps.tolist(), errors.tolist()):
        if error > 0:
            true = max(0.0, gap - 2 * error)
            excess += error * math.sqrt(2 / math.pi) * math.exp(-((true / error) ** 2) / 2)
            excess -= true * math.erfc(true / error / math.sqrt(2))
    half = Z * float(np.sqrt(np.sum(errors**2)))
    return value, (max(0.0, value - excess - half), min(1.0, value + half))


def moments_of(squares: Any, target: Any, target_square: Any = None) -> Any:
    """Return what R2 is made of, `[n, 3 k]`: squared errors, targets, and squares of these.

    Targets are taken from their mean; columns whose targets are all alike are left out.

    Args:
        squares: `[n, k]` squared errors.
        target: `[n, k]`.
        target_square: `[n, 1]`, where `target` is a mean of many values, the mean of their squares.
    """
    import numpy as np

    centre = target.mean(axis=0)
    if target_square is None:
        varied = target.max(axis=0) > target.min(axis=0)
        away = (target - centre)[:, varied]
        return np.concatenate([squares[:, varied], away, away**2], axis=1)
    spread = target_square - 2 * centre * target + centre**2
    return np.concatenate([squares, target - centre, spread], axis=1)


def explained(means: Any) -> Any:
    """Return R2, the mean over columns of 1 - squared error / variance, of means `[..., 3 k]`."""
    import numpy as np

    squares, away, spread = np.split(means, 3, axis=-1)
    variance = spread - away**2
    # A resample of equal targets has no variance; one in millions may be drawn.
    return (1 - squares / np.where(variance > 0, variance, np.inf)).mean(axis=-1)


def mae_interval(errors: Any) -> tuple[float, float]:
    """Return the bootstrap's 95 % interval of a mean, of `[n]` float64."""
    return bootstrap(errors[:, None], lambda means: means[..., 0])


# --- Detection heads ------------------------------------------------------------------------------
# Boxes from the outputs of a detector, and non-maximum suppression; edgekit imports this.
#
# Detections are float32 `[n, k, 6]`: left, top, right, bottom as fractions of the picture that the
# model sees, score, class; the highest score first. Rows with score -1 are padding.

# What each kind of head may say beside the keys of all; the value is the default. None: left open.
HEAD_KEYS: dict[str, dict[str, Any]] = {
    "ssd": {
        "boxes": None,
        "scores": None,
        "activation": "sigmoid",
        "background": False,
        "variances": [0.1, 0.1, 0.2, 0.2],
        "anchors": None,
        "levels": None,
    },
    "yolo": {
        "output": None,
        "activation": "none",
        "objectness": False,
        "corners": False,
        "unit": "auto",
        "size": None,
        "classes": None,
    },
    "center": {
        "heatmap": None,
        "sizes": None,
        "offsets": None,
        "activation": "sigmoid",
        "unit": "cells",
        "size": None,
    },
    "postprocess": {"boxes": None, "classes": None, "scores": None, "count": None},
}
COMMON_HEAD_KEYS: dict[str, Any] = {"score": 0.05, "iou": 0.5, "most": 100}
HEAD_WORDS: dict[str, dict[str, tuple[str, ...]]] = {
    "ssd": {"activation": ("sigmoid", "softmax", "none")},
    "yolo": {"activation": ("sigmoid", "none"), "unit": ("auto", "pixels", "fraction")},
    "center": {"activation": ("sigmoid", "none"), "unit": ("cells", "pixels", "fraction")},
    "postprocess": {},
}
# Which keys name outputs.
HEAD_OUTPUTS = {
    "ssd": ("boxes", "scores"),
    "yolo": ("output",),
    "center": ("heatmap", "sizes", "offsets"),
    "postprocess": ("boxes", "classes", "scores", "count"),
}
MAX_ANCHORS = 1 << 20
CANDIDATES = 1000  # most boxes of a picture, the likeliest, before non-maximum suppression
PIXELS_FROM = 2.0  # `unit = "auto"`: no fraction of a picture is as large, and few pixels are less


def check_head(table: Any) -> dict[str, Any]:
    """Return a declared head with its defaults written out.

    Raises:
        TypeError: It is no table.
        ValueError: A key or value is invalid, or missing; says which, and what there may be.
    """
    if not isinstance(table, dict):
        raise TypeError(f"{table!r} is no table")
    kind = table.get("kind")
    if not isinstance(kind, str) or kind not in HEAD_KEYS:
        raise ValueError(f"kind is {kind!r}; known: {', '.join(HEAD_KEYS)}")
    known = {**HEAD_KEYS[kind], **COMMON_HEAD_KEYS}
    for key in table:
        if key != "kind" and key not in known:
            raise ValueError(f"unknown key {key!r}; known of {kind}: {', '.join(known)}")
    head = {"kind": kind, **known, **{key: v for key, v in table.items() if v is not None}}
    wrong = [key for key in HEAD_OUTPUTS[kind] if not isinstance(head[key], (str, type(None)))]
    for key, words in HEAD_WORDS[kind].items():
        if head[key] not in words:
            raise ValueError(f"{key} is {head[key]!r}; known: {', '.join(words)}")
    wrong += [
        key
        for key in ("background", "objectness", "corners")
        if key in known and not isinstance(head[key], bool)
    ]
    wrong += [key for key in ("score", "iou") if not _is_real(head[key], 0, 1)]
    most = head["most"]
    wrong += [] if type(most) is int and 0 < most <= CANDIDATES else ["most"]
    if kind == "yolo":
        classes = head["classes"]
        wrong += [] if classes is None or (type(classes) is int and classes > 0) else ["classes"]
    size = head.get("size")
    fits = isinstance(size, (list, tuple)) and len(size) == 2
    if size is not None and not (fits and all(_is_real(one, 1, 1 << 20) for one in size)):
        wrong.append("size")
    if kind == "ssd":
        wrong += [] if _is_numbers(head["variances"], 1e-6, 1e6) else ["variances"]
    for key in wrong:
        raise ValueError(f"{key} is {head[key]!r}")
    if kind == "ssd":
        head["anchors"], head["levels"] = _checked_anchors(head["anchors"], head["levels"])
    return head


def _is_real(value: Any, low: float, high: float) -> bool:
    known = isinstance(value, (int, float)) and not isinstance(value, bool)
    return known and low <= value <= high


def _is_numbers(values: Any, low: float, high: float, count: int = 4) -> bool:
    listed = isinstance(values, (list, tuple)) and len(values) == count
    return listed and all(_is_real(value, low, high) for value in values)


def _checked_anchors(anchors: Any, levels: Any) -> tuple[Any, Any]:
    """Return the anchors and levels of an SSD, one of which is None.

    Raises:
        ValueError: They are invalid, or there are both or neither.
    """
    if (anchors is None) == (levels is None):
        raise ValueError("an ssd needs either anchors or levels")
    if anchors is not None:
        listed = isinstance(anchors, (list, tuple)) and 0 < len(anchors) <= MAX_ANCHORS
        if not listed or not all(_is_numbers(one, -10, 10) for one in anchors):
            raise ValueError("anchors is a list of [centre x, centre y, width, height], fractions")
        return anchors, None
    total = 0
    for level in levels if isinstance(levels, (list, tuple)) and levels else [None]:
        grid: Any = level.get("grid") if isinstance(level, dict) else None
        sizes: Any = level.get("sizes") if isinstance(level, dict) else None
        fits = _is_numbers(grid, 1, 1 << 14, 2) and all(type(one) is int for one in grid)
        listed = isinstance(sizes, (list, tuple)) and len(sizes) > 0
        if not fits or not listed or not all(_is_numbers(one, 1e-6, 10, 2) for one in sizes):
            raise ValueError(
                "levels is a list of {grid = [rows, columns], sizes = [[width, height], ...]}"
            )
        total += grid[0] * grid[1] * len(sizes)
    if total > MAX_ANCHORS:
        raise ValueError(f"levels has {total} anchors; at most {MAX_ANCHORS}")
    return None, levels


def anchors_of(head: Mapping[str, Any]) -> Any:
    """Return the anchors of an SSD head, float32 `[n, 4]`: centre x, centre y, width, height.

    Those of levels stand row by row, the sizes innermost, as a convolution's outputs do.
    """
    import numpy as np

    if head["anchors"] is not None:
        return np.asarray(head["anchors"], np.float32)
    parts = []
    for level in head["levels"]:
        rows, columns = level["grid"]
        sizes = np.asarray(level["sizes"], np.float64)
        part = np.empty((rows, columns, len(sizes), 4))
        part[..., 0] = ((np.arange(columns) + 0.5) / columns)[None, :, None]
        part[..., 1] = ((np.arange(rows) + 0.5) / rows)[:, None, None]
        part[..., 2:] = sizes
        parts.append(part.reshape(-1, 4))
    return np.concatenate(parts).astype(np.float32)


def recognize_head(
    outputs: Sequence[tuple[str, Sequence[int]]], classes: int | None = None
) -> dict[str, Any] | None:
    """Return the head that the shapes of outputs tell without a doubt, None where there is one.

    The four outputs of TFLite_Detection_PostProcess; or one output of many rows or columns of four
    coordinates and the scores of the classes, as YOLO has it.

    Args:
        outputs: Name and shape of each, the batch first.
        classes: Number of classes, where that is known: it tells whether YOLO has an objectness.
    """
    if postprocess_order(outputs):
        return check_head({"kind": "postprocess"})
    if len(outputs) != 1 or len(outputs[0][1]) != 3:
        return None
    name, (_, first, second) = outputs[0]
    width, n = sorted((first, second))
    if width < 5 or n < 4 * width or n < 50:
        return None
    if classes is not None and width not in (4 + classes, 5 + classes):
        return None
    table = {"kind": "yolo", "output": name, "objectness": classes == width - 5}
    return check_head(table)


def postprocess_order(outputs: Sequence[tuple[str, Sequence[int]]]) -> list[int]:
    """Return the indices of boxes, classes, scores and count among the outputs, [] without them.

    The operator TFLite_Detection_PostProcess has four outputs: boxes `[1, n, 4]`, classes and
    scores `[1, n]`, count `[1]`, in this order; TensorFlow 2 reorders them, and then scores come
    before classes.
    """
    if len(outputs) != 4:
        return []
    names = [name for name, _ in outputs]
    shapes = [shape for _, shape in outputs]
    order = sorted(range(4), key=lambda k: names[k] if "output_" in names[k] else "")
    boxes = [k for k in order if len(shapes[k]) == 3 and shapes[k][2] == 4]
    lists = [k for k in order if len(shapes[k]) == 2]
    counts = [k for k in order if len(shapes[k]) < 2]
    if (len(boxes), len(lists), len(counts)) != (1, 2, 1):
        return []
    return [*boxes, *(lists if order[3] == counts[0] else reversed(lists)), *counts]


class Head:
    """Turns the outputs of a detector into boxes.

    Args:
        table: As `check_head` returns it.
        outputs: Name and shape of each output, the batch first.
        size: Width and height of the model's input, for boxes in pixels.

    Raises:
        ValueError: The outputs do not fit the head; says which, and what was found.

    Attributes:
        table: The head, with the names of its outputs filled in.
        classes: Number of classes; None where the outputs do not tell.
    """

    def __init__(
        self,
        table: Mapping[str, Any],
        outputs: Sequence[tuple[str, Sequence[int]]],
        size: tuple[int, int] | None = None,
    ) -> None:
        self.kind = table["kind"]
        self.shapes = {name: tuple(shape)[1:] for name, shape in outputs}
        find = getattr(self, f"_find_{self.kind}")
        self.classes: int | None = None
        self.table = {**table, **find(table, outputs)}
        self.names = [self.table[key] for key in HEAD_OUTPUTS[self.kind]]
        self.size = self.table.get("size") or size
        if self.table.get("unit") == "pixels" and not self.size:
            raise ValueError("boxes in pixels need size = [width, height]")

    def __call__(self, outputs: Mapping[str, Any]) -> Any:
        """Return detections, float32 `[n, most, 6]`.

        A picture whose outputs hold NaN gets NaN for its first score.

        Args:
            outputs: Output name -> `[n, ...]`, real values.
        """
        import numpy as np

        values = [np.asarray(outputs[name], np.float32) for name in self.names]
        n = len(values[0])
        with np.errstate(over="ignore", invalid="ignore"):
            picture, score, boxes, kind = getattr(self, f"_decode_{self.kind}")(*values)
        found = np.zeros((n, self.table["most"], 6), np.float32)
        found[..., 4] = -1
        order = np.lexsort((-score, picture))
        boxes, score, kind = boxes[order].clip(0, 1), score[order], kind[order]
        ends = np.searchsorted(picture[order], np.arange(n + 1))
        for row in range(n):
            start, end = int(ends[row]), int(ends[row + 1])
            if start == end:
                continue
            end = min(end, start + CANDIDATES)
            some = slice(start, end)
            if self.kind == "postprocess":  # which suppresses itself
                kept = np.arange(end - start)
            else:
                kept = suppress(boxes[some], kind[some], self.table["iou"], self.table["most"])
            kept = kept[: self.table["most"]] + start
            found[row, : len(kept), :4] = boxes[kept]
            found[row, : len(kept), 4] = score[kept]
            found[row, : len(kept), 5] = kind[kept]
        broken = np.zeros(n, bool)
        for value in values:
            broken |= np.isnan(value.reshape(n, -1)).any(axis=1)
        found[broken, 0, 4] = np.nan
        return found

    def _named(self, table: Mapping[str, Any], key: str, fits: Callable[[Any], bool]) -> str:
        """Return the output that a key names, or the only one of a fitting shape."""
        named = table[key]
        if named is not None:
            if named not in self.shapes:
                raise ValueError(f"there is no output {named!r}; there is {self._listed()}")
            if not fits(self.shapes[named]):
                raise ValueError(f"{key} cannot be {named!r}; there is {self._listed()}")
            return str(named)
        taken = [table[other] for other in HEAD_OUTPUTS[self.kind]]
        found = [name for name in self.shapes if name not in taken and fits(self.shapes[name])]
        if len(found) != 1:
            none = "none" if not found else " and ".join(map(repr, found[:3]))
            raise ValueError(f"{key} may be {none} by shape; there is {self._listed()}")
        return found[0]

    def _listed(self) -> str:
        return ", ".join(f"{name} {[1, *shape]}" for name, shape in self.shapes.items())

    def _find_ssd(self, table: Mapping[str, Any], _: Any) -> dict[str, Any]:
        self.anchors = anchors_of(table)
        n = len(self.anchors)
        pairs = [name for name, shape in self.shapes.items() if shape == (n, 4)]
        if not pairs and table["boxes"] in (None, *self.shapes):
            raise ValueError(
                f"the head has {n} anchors, and no output is [1, {n}, 4]; there is {self._listed()}"
            )
        boxes = self._named(table, "boxes", lambda shape: bool(shape == (n, 4)))
        rest = {**table, "boxes": boxes}
        scores = self._named(rest, "scores", lambda s: len(s) == 2 and s[0] == n and boxes != "")
        if scores == boxes:
            raise ValueError(f"boxes and scores are both {boxes!r}")
        self.classes = self.shapes[scores][1] - table["background"]
        if self.classes < 1:
            raise ValueError(f"scores {scores!r} has no class beside the background")
        return {"boxes": boxes, "scores": scores}

    def _find_yolo(self, table: Mapping[str, Any], _: Any) -> dict[str, Any]:
        extra = 4 + table["objectness"]

        def fits(shape: Sequence[int]) -> bool:
            return len(shape) in (1, 2) and self._width(table, shape) > extra

        name = self._named(table, "output", fits)
        shape = self.shapes[name]
        width = self._width(table, shape)
        self.classes = width - extra
        # Columns are predictions in v8's order.
        self.turned = len(shape) == 2 and shape[1] != width
        return {"output": name}

    @staticmethod
    def _width(table: Mapping[str, Any], shape: Sequence[int]) -> int:
        """Return the number of values of a prediction: the shorter side, unless `classes` tells."""
        wanted = table["classes"] and 4 + table["objectness"] + table["classes"]
        if wanted:
            return wanted if wanted in tuple(shape[-2:]) else 0
        return min(shape)

    def _find_center(self, table: Mapping[str, Any], _: Any) -> dict[str, Any]:
        maps = {name: shape for name, shape in self.shapes.items() if len(shape) == 3}
        pairs = [name for name, shape in maps.items() if shape[2] == 2]
        # Sizes come before offsets, as in the paper's order, where only two have two channels.
        given = dict(table)
        if table["sizes"] is None and table["offsets"] is None and len(pairs) == 2:
            given["sizes"], given["offsets"] = pairs
        heatmap = self._named(given, "heatmap", lambda shape: len(shape) == 3)
        grid = self.shapes[heatmap]

        def fits(shape: Sequence[int]) -> bool:
            return tuple(shape) == (*grid[:2], 2)

        given["heatmap"] = heatmap
        given["sizes"] = self._named(given, "sizes", fits)
        given["offsets"] = self._named(given, "offsets", fits)
        self.classes = grid[2]
        return {key: given[key] for key in HEAD_OUTPUTS["center"]}

    def _find_postprocess(
        self, table: Mapping[str, Any], outputs: Sequence[tuple[str, Sequence[int]]]
    ) -> dict[str, Any]:
        keys = HEAD_OUTPUTS["postprocess"]
        if all(table[key] is not None for key in keys):
            ranks = (2, 1, 1, 0)
            return {
                key: self._named(table, key, lambda shape, rank=rank: len(shape) == rank)  # type: ignore[misc]
                for key, rank in zip(keys, ranks)
            }
        order = postprocess_order(outputs)
        if not order:
            raise ValueError(
                "boxes [1, n, 4], classes and scores [1, n] and count [1] are needed; there is "
                + self._listed()
            )
        found = {key: outputs[place][0] for key, place in zip(keys, order)}
        return {key: table[key] or found[key] for key in keys}

    def _threshold(self) -> float:
        """Return the least raw value whose score is not dropped."""
        import math

        least = float(self.table["score"])
        if self.table["activation"] != "sigmoid":
            return least
        if least <= 0:
            return -math.inf
        return math.inf if least >= 1 else math.log(least / (1 - least))

    def _activated(self, raw: Any) -> Any:
        import numpy as np

        if self.table["activation"] != "sigmoid":
            return raw
        return 1 / (1 + np.exp(-raw))

    def _decode_ssd(self, offsets: Any, raw: Any) -> tuple[Any, Any, Any, Any]:
        """Decode offsets from anchors.

        W. Liu et al., "SSD: Single Shot MultiBox Detector" (2016), eq. 2, with the variances of
        its implementation: `cx = ax + v0 tx aw`, `w = aw exp(v2 tw)`, likewise y and h.
        """
        import numpy as np

        table = self.table
        if table["activation"] == "softmax":
            raw = np.exp(raw - raw.max(axis=2, keepdims=True))
            raw /= raw.sum(axis=2, keepdims=True)
        if table["background"]:
            raw = raw[..., 1:]
        picture, row, kind = _places(raw, self._threshold())
        score = self._activated(raw[picture, row, kind])
        variances = np.asarray(table["variances"], np.float32)
        moved, anchor = offsets[picture, row] * variances, self.anchors[row]
        centre = anchor[:, :2] + moved[:, :2] * anchor[:, 2:]
        half = anchor[:, 2:] * np.exp(moved[:, 2:]) / 2
        return picture, score, np.concatenate([centre - half, centre + half], axis=1), kind

    def _decode_yolo(self, values: Any) -> tuple[Any, Any, Any, Any]:
        """Decode rows of four coordinates, v5's objectness, and the scores of the classes.

        Coordinates are final, as the exporters of Ultralytics write them.
        """
        import numpy as np

        table = self.table
        values = values.reshape(len(values), -1, values.shape[-1])
        if self.turned:
            values = values.swapaxes(1, 2)
        boxes, raw = values[..., :4], values[..., 4 + table["objectness"] :]
        least = self._threshold()
        if table["objectness"]:
            # A score is a product of two shares: neither can be less than it.
            sure = values[..., 4:5] >= least
            raw = np.where(sure, raw, np.float32(-np.inf))
        picture, row, kind = _places(raw, least)
        score = self._activated(raw[picture, row, kind])
        if table["objectness"]:
            score = score * self._activated(values[picture, row, 4])
            kept = score >= table["score"]
            picture, row, kind, score = (part[kept] for part in (picture, row, kind, score))
        found = boxes[picture, row]
        unit = table["unit"]
        if unit != "fraction" and self.size:
            scale = np.tile(np.asarray(self.size, np.float32), 2)
            large = boxes.max(axis=(1, 2)) > PIXELS_FROM
            pixels = np.ones(len(large), bool) if unit == "pixels" else large
            found = np.where(pixels[picture][:, None], found / scale, found)
        if not table["corners"]:
            half = found[:, 2:] / 2
            found = np.concatenate([found[:, :2] - half, found[:, :2] + half], axis=1)
        return picture, score, found, kind

    def _decode_center(self, heat: Any, sizes: Any, offsets: Any) -> tuple[Any, Any, Any, Any]:
        """Decode peaks of a heatmap: X. Zhou, D. Wang, P. Kraehenbuehl, "Objects as Points" (2019).

        A peak is no less than its eight neighbours; its centre is its cell plus the offset there.
        """
        import numpy as np

        rows, columns = heat.shape[1:3]
        padded = np.pad(heat, ((0, 0), (1, 1), (1, 1), (0, 0)), constant_values=-np.inf)
        around = heat
        for down in range(3):
            for across in range(3):
                near = padded[:, down : down + rows, across : across + columns]
                around = np.maximum(around, near)
        raw = np.where(heat >= around, heat, np.float32(-np.inf))
        picture, row, kind = _places(raw.reshape(len(heat), rows * columns, -1), self._threshold())
        y, x = np.divmod(row, columns)
        score = self._activated(heat[picture, y, x, kind])
        grid = np.asarray([columns, rows], np.float32)
        corner = np.stack([x, y], axis=1).astype(np.float32)
        centre = (corner + offsets[picture, y, x]) / grid
        half = sizes[picture, y, x] / 2
        if self.table["unit"] == "cells":
            half = half / grid
        elif self.table["unit"] == "pixels":
            half = half / np.asarray(self.size, np.float32)
        return picture, score, np.concatenate([centre - half, centre + half], axis=1), kind

    def _decode_postprocess(
        self, boxes: Any, classes: Any, scores: Any, count: Any
    ) -> tuple[Any, Any, Any, Any]:
        """Read top, left, bottom, right, classes and scores of as many boxes as are counted."""
        import numpy as np

        n = len(boxes)
        scores = scores.reshape(n, -1)
        known = np.arange(scores.shape[1]) < count.reshape(n, -1)[:, :1]
        picture, row = np.nonzero(known & (scores >= self.table["score"]))
        found = boxes.reshape(n, -1, 4)[picture, row][:, [1, 0, 3, 2]]
        return picture, scores[picture, row], found, classes.reshape(n, -1)[picture, row]


def _places(raw: Any, least: float) -> tuple[Any, Any, Any]:
    """Return the indices of values `[n, rows, classes]` that are not below `least`."""
    import numpy as np

    flat = np.flatnonzero(raw.reshape(-1) >= least)
    # Two steps of whole numbers: `unravel_index` takes as long as the search.
    place, kind = np.divmod(flat, raw.shape[2])
    picture, row = np.divmod(place, raw.shape[1])
    return picture, row, kind


def box_overlaps(first: Any, second: Any, crowd: Any = None) -> Any:
    """Return intersection over union of pairs, `[..., k, 4]` and `[..., m, 4]` -> `[..., k, m]`.

    Args:
        first: Corners: left, top, right, bottom.
        second: The same.
        crowd: `[..., m]`, which of the second are crowds: there it is intersection over the first.
    """
    import numpy as np

    # Corners apart, each in one piece of memory: strides take several times as long.
    first, second = (np.ascontiguousarray(np.moveaxis(side, -1, 0)) for side in (first, second))
    both = _intersections(first, second)
    area, other = (_areas(side) for side in (first, second))
    area = area[..., None]
    union = area + other[..., None, :]
    union -= both
    if crowd is not None:
        union = np.where(crowd[..., None, :], area, union)
    return np.divide(both, union, out=np.zeros_like(both), where=union > 0)


def _areas(corners: Any) -> Any:
    """Return the areas `[...]` of boxes whose corners `[4, ...]` are apart."""
    left, top, right, bottom = corners
    return (right - left) * (bottom - top)


def _intersections(first: Any, second: Any) -> Any:
    """Return the areas that pairs share, `[4, ..., k]` and `[4, ..., m]` -> `[..., k, m]`."""
    import numpy as np

    left, top, right, bottom = first[..., None]
    from_x, from_y, to_x, to_y = second[..., None, :]
    both = np.minimum(right, to_x)
    both -= np.maximum(left, from_x)
    np.maximum(both, 0, out=both)
    down = np.minimum(bottom, to_y)
    down -= np.maximum(top, from_y)
    np.maximum(down, 0, out=down)
    both *= down
    return both


def suppress(boxes: Any, classes: Any, most_overlap: float, most: int = CANDIDATES) -> Any:
    """Return the indices that greedy non-maximum suppression keeps, class by class.

    A box goes if it overlaps one that stays, of its class and a higher score, by more. That is
    computed for some boxes at once, of which those that stay then take theirs from the rest: who
    is suppressed by those kept so far, again until nothing changes, which gives the result of the
    loop (Z. Zheng et al., "Enhancing Geometric Factors in Model Learning and Inference for Object
    Detection", IEEE Transactions on Cybernetics 52 (2022), proposition 1).

    Args:
        boxes: `[k, 4]` corners, the highest score first.
        classes: `[k]`.
        most_overlap: Intersection over union.
        most: How many are wanted.
    """
    import numpy as np

    corners, classes = np.ascontiguousarray(boxes.T), classes.astype(np.int32)
    areas = _areas(corners)
    factor = 1 / most_overlap + 1 if most_overlap else 1e30

    def overlapping(first: Any, second: Any) -> Any:
        # both / (first + second - both) > most, without the division
        over = _intersections(corners[:, first], corners[:, second])
        over *= factor
        return (over > areas[first][:, None] + areas[second]) & (
            classes[first][:, None] == classes[second]
        )

    rest = np.arange(len(boxes))
    kept = rest[:0]
    while len(rest):
        some, rest = rest[:100], rest[100:]
        order = np.arange(len(some))
        above = overlapping(some, some) & (order[:, None] < order)
        alive = ~above.any(axis=0)
        while True:
            left = ~above[alive].any(axis=0)
            if (left == alive).all():
                break
            alive = left
        kept = np.concatenate([kept, some[alive]])
        if len(kept) >= most:
            break
        rest = rest[~overlapping(some[alive], rest).any(axis=0)]
    return kept[:most]


def boxes_in_window(targets: Any, height: int, width: int, spec: Mapping[str, Any]) -> Any:
    """Return the boxes of a picture as fractions of the part that the model gets (`crop_window`).

    Boxes are cut at its edges. Those of which less than a quarter is left are ignored in a score,
    and those of which nothing is left become padding.

    Args:
        targets: `[m, 6]`: left, top, right, bottom as fractions of the picture, class, ignored.
        height: Rows of the picture.
        width: Its columns.
        spec: How it is preprocessed.
    """
    import numpy as np

    top, left, rows, columns = crop_window(height, width, spec)
    if (top, left, rows, columns) == (0, 0, height, width):
        return targets
    size = np.array([width, height, width, height], np.float64)
    start = np.array([left, top, left, top], np.float64)
    part = np.array([columns, rows, columns, rows], np.float64)
    seen = targets.astype(np.float64)
    whole = (seen[:, :4] * size - start) / part
    seen[:, :4] = whole.clip(0, 1)
    before = (whole[:, 2] - whole[:, 0]) * (whole[:, 3] - whole[:, 1])
    after = (seen[:, 2] - seen[:, 0]) * (seen[:, 3] - seen[:, 1])
    there = seen[:, 4] >= 0
    gone = there & (after <= 0)
    seen[there & (after < before / 4), 5] = 1
    seen[gone] = NO_BOX
    return seen.astype(targets.dtype)


NO_BOX = (0, 0, 0, 0, -1, 0)


# --- Mean average precision -----------------------------------------------------------------------
# As COCO defines it (T.-Y. Lin et al., 2014, and the code of pycocotools); edgekit imports this.

# A resampled mean is that of so many hits of each class at each threshold, evenly spread.
PLACES = 32
# Pictures times such places: more take seconds. Then the normal interval.
DETECTION_LIMIT = 5_000_000


def as_boxes(targets: Any) -> Any:
    """Return targets `[..., m, 5 or 6]` as float32 `[..., m, 6]`; nothing is ignored without it."""
    import numpy as np

    targets = np.asarray(targets, np.float32)
    if targets.shape[-1] == 6:
        return targets
    return np.concatenate([targets, np.zeros((*targets.shape[:-1], 1), np.float32)], axis=-1)


def iou_thresholds() -> Any:
    """Return the ten thresholds as pycocotools has them, to the last bit."""
    import numpy as np

    return np.linspace(0.5, 0.95, 10)


def match_boxes(detections: Any, targets: Any) -> tuple[Any, Any]:
    """Match the detections of pictures with their boxes, by the rules of COCO.

    The likeliest detection chooses first: of the boxes of its class that are left, the one that it
    overlaps most, if by the threshold. Ignored boxes are chosen last, by any number of detections,
    which then do not count; their overlap is the share of the detection inside.

    Args:
        detections: `[n, k, 6]`: corners, score, class; the highest score first, -1 is padding.
        targets: `[n, m, 6]`: corners, class, ignored; class -1 is padding.

    Returns:
        Two uint16 `[n, k]`: bit t tells whether the detection is a hit at threshold t, and whether
        it does not count there.
    """
    import numpy as np

    n, k = detections.shape[:2]
    hit, void = np.zeros((n, k), np.uint16), np.zeros((n, k), np.uint16)
    thresholds = iou_thresholds()
    powers = (2 ** np.arange(len(thresholds))).astype(np.uint16)
    counts = (detections[..., 4] >= 0).sum(axis=1)
    there = targets[..., 4] >= 0
    rows = np.flatnonzero((counts > 0) & there.any(axis=1))
    step = max(1, (1 << 18) // max(1, k * targets.shape[1]))
    for start in range(0, len(rows), step):
        some = rows[start : start + step]
        most, few = counts[some].max(), there[some].sum(axis=1).max()
        # Crowds come behind the others, and padding last.
        order = np.argsort(2 * ~there[some] + (targets[some, :, 5] != 0), axis=1, kind="stable")
        known = np.take_along_axis(targets[some], order[:, :few, None], 1).astype(np.float64)
        found = detections[some, :most].astype(np.float64)
        crowd = known[..., 5] != 0
        overlaps = box_overlaps(found[..., :4], known[..., :4], crowd if crowd.any() else None)
        near = (overlaps >= thresholds[0]) & (found[..., 5, None] == known[:, None, :, 4])
        near &= (np.arange(most) < counts[some, None])[:, :, None]
        # Most pairs have no rival: the box is that of one detection, and the detection of one box.
        single = near & (near.sum(axis=2) == 1)[:, :, None] & (near.sum(axis=1) == 1)[:, None]
        single &= ~crowd[:, None]
        picture, first, second = np.nonzero(single)
        fits = overlaps[picture, first, second][:, None] >= thresholds
        hit[some[picture], first] = fits.astype(np.uint16) @ powers
        # The others take turns: the first one of every picture, then the second ones.
        rows_left, ones_left = np.nonzero(near.any(axis=2) & ~single.any(axis=2))
        turns = np.arange(len(rows_left)) - np.searchsorted(rows_left, rows_left)
        free = np.ones((len(some), len(thresholds), few), bool)
        for turn in range(turns.max(initial=-1) + 1):
            row, one = (side[turns == turn] for side in (rows_left, ones_left))
            value = np.where(near[row, one], overlaps[row, one], -1.0)[:, None]
            possible = free[row] & (value >= thresholds[:, None])
            counted = possible & ~crowd[row, None]
            # Of equal overlaps the last one, as in pycocotools.
            best = few - 1 - np.where(counted, value, -1.0)[..., ::-1].argmax(axis=2)
            lucky = counted.any(axis=2)
            hit[some[row], one] = lucky @ powers
            taken, at = np.nonzero(lucky)
            free[row[taken], at, best[taken, at]] = False
            inside = (possible & crowd[row, None]).any(axis=2)
            void[some[row], one] = (~lucky & inside) @ powers
    return hit, void


def small_product(first: Any, second: Any) -> Any:
    """Return the matrix product, by pieces that BLAS gives to one thread each.

    To wake others takes longer than such work, on a busy machine a hundred times as long.
    """
    import numpy as np

    n, columns = second.shape
    if n > 512:
        return first @ second
    product = np.empty((len(first), columns), first.dtype)
    rows, step = 32, max(1, (1 << 18) // (33 * n))  # OpenBLAS: one thread up to 2^18 products
    for top in range(0, len(first), rows):
        for left in range(0, columns, step):
            some = slice(top, top + rows), slice(left, left + step)
            np.matmul(first[some[0]], second[:, some[1]], out=product[some])
    return product


class Rankings:
    """The detections of each class in falling score, and what decides over them.

    Args:
        columns: Of `n` pictures scores `[n, k]` and classes `[n, k]`, as in `match_boxes`; hits and
            what is void, `[n, k]`, as it returns them; boxes `[n, m, 6]`.
        thresholds: How many of the ten thresholds count: all, or only the first.

    Attributes:
        n: Number of pictures.
        classes: `[c]`, the classes of which there are boxes that count.
    """

    def __init__(self, columns: Sequence[Any], thresholds: int = 10) -> None:
        import numpy as np

        scores, classes, hit, void, targets = columns
        self.n = len(targets)
        self.thresholds = thresholds
        kind = targets[..., 4]
        counted = (kind >= 0) & (targets[..., 5] == 0)
        self.classes = np.unique(kind[counted]).astype(np.int64)
        self.parts: list[tuple[Any, Any, list[Any], list[Any]]] = []
        self.work = 0
        real = scores >= 0
        for one in self.classes:
            boxes = ((kind == one) & counted).sum(axis=1)
            picture, place = np.nonzero(real & (classes == one))
            order = np.argsort(-scores[picture, place], kind="stable")
            picture, place = picture[order], place[order]
            hits, voids = hit[picture, place], void[picture, place]
            at, out = [], []
            for bit in range(thresholds):
                at.append(np.flatnonzero((hits >> bit) & 1))
                out.append(np.flatnonzero((voids >> bit) & 1))
                self.work += self.n * min(PLACES, len(at[-1]))
            self.parts.append((boxes, picture, at, out))

    def areas(self, weights: Any) -> Any:
        """Return the average precision, NaN of classes without boxes.

        The precision at 101 recalls from 0 to 1, each the best at that recall or more, averaged.

        Args:
            weights: `[b, n]`, how often each picture counts.

        Returns:
            `[b, c, t]`: of each class at each threshold.
        """
        import numpy as np

        recalls = np.linspace(0.0, 1.0, 101)
        found = np.zeros((len(weights), len(self.classes), self.thresholds))
        for c, (boxes, picture, at, out) in enumerate(self.parts):
            total = weights @ boxes.astype(weights.dtype)
            each = weights[:, picture]
            named = np.cumsum(each, axis=1)
            for t in range(self.thresholds):
                if not len(at[t]):
                    continue
                hits = np.cumsum(each[:, at[t]], axis=1)
                counted = named[:, at[t]]
                if len(out[t]):
                    not_counted = np.cumsum(each[:, out[t]], axis=1)
                    before = np.searchsorted(out[t], at[t])
                    counted[:, before > 0] -= not_counted[:, before[before > 0] - 1]
                best = hits / np.maximum(counted, 1e-9)
                best = np.maximum.accumulate(best[:, ::-1], axis=1)[:, ::-1]
                # How many of the recalls a hit reaches; 0 is reached by the first place.
                share = hits / np.maximum(total, 1e-9)[:, None]
                reached = ((100 * hits + 0.5) / np.maximum(total, 1e-9)[:, None]).astype(np.intp)
                # Some of the recalls, as floats, are a little more than hundredths.
                reached += 1 - (recalls[reached.clip(0, 100)] > share)
                reached[:, 1:] -= reached[:, :-1].copy()
                found[:, c, t] = np.einsum("ij,ij->i", best, reached.astype(best.dtype)) / 101
            found[total <= 0, c] = np.nan
        return found

    def mean(self, weights: Any) -> Any:
        """Return the mean over thresholds and over the classes that have boxes, `[b]`."""
        import numpy as np

        areas = self.areas(weights).mean(axis=2)
        there = ~np.isnan(areas)
        return np.where(there, areas, 0).sum(axis=1) / np.maximum(there.sum(axis=1), 1)

    def places(self) -> list[tuple[Any, Any, Any, Any]]:
        """Return of each class what `resampled_mean` needs of it, all of float32.

        Returns:
            Boxes `[n]`; hits and detections of each picture up to each place, `[n, p]`; and where
            the places of a threshold begin.
        """
        import numpy as np

        found = []
        for boxes, picture, at, out in self.parts:
            hits: list[Any] = []
            names: list[Any] = []
            starts = [0]
            for t in range(self.thresholds):
                ends = np.unique(
                    np.linspace(0, len(at[t]) - 1, min(PLACES, len(at[t]))).astype(int)
                )
                ranks = at[t][ends]
                p = len(ranks)
                counted = np.ones(len(picture), bool)
                counted[out[t]] = False
                for some, kept in ((at[t], hits), (np.flatnonzero(counted), names)):
                    place = np.searchsorted(ranks, some)
                    here = place < p
                    cells = picture[some[here]] * p + place[here]
                    table = count_places(cells, minlength=self.n * p).reshape(self.n, p)
                    kept.append(table.cumsum(axis=1).astype(np.float32))
                starts.append(starts[-1] + p)
            tables = (np.concatenate(side, axis=1) for side in (hits, names))
            found.append((boxes.astype(np.float32), *tables, starts))
        return found

    def resampled_mean(self, weights: Any, places: Sequence[Any]) -> Any:
        """Return about what `mean` does, `[b]`: the area under the best precisions at some places.

        Args:
            weights: `[b, n]`, float32: how often each picture counts.
            places: As `places` returns it.
        """
        import numpy as np

        total, count = np.zeros(len(weights)), np.zeros(len(weights))
        for boxes, hits, names, starts in places:
            known = weights @ boxes
            there = known > 0
            count += there
            if not starts[-1]:
                continue
            reached = small_product(weights, hits)
            best = reached / np.maximum(small_product(weights, names), np.float32(0.5))
            for start, end in zip(starts, starts[1:]):  # noqa: RUF007  pairwise came with 3.10
                if start == end:
                    continue
                some = best[:, start:end]
                np.maximum.accumulate(some[:, ::-1], axis=1, out=some[:, ::-1])
                some[:, :-1] -= some[:, 1:].copy()
            area = np.einsum("ij,ij->i", reached, best)
            total += np.where(there, area / np.maximum(known, 1), 0)
        return total / np.maximum(count, 1) / self.thresholds

    def value(self) -> float:
        """Return the mean average precision."""
        import numpy as np

        return float(self.mean(np.ones((1, self.n)))[0])

    def influence(self) -> Any:
        """Return the derivative of the mean by each picture's weight, `[n]`; it adds up to 0.

        Of the area under the best precisions without the steps of its 101 points. With hits TP and
        detections D up to the place m that sets the best precision TP / D, the derivative of that
        is 1 / D for a hit up to m, and -TP / D^2 for each detection up to m.
        """
        import numpy as np

        whole = np.zeros(self.n)
        for boxes, picture, at, out in self.parts:
            total = float(boxes.sum())
            for t in range(self.thresholds):
                if not len(at[t]):
                    continue
                counts = np.ones(len(picture))
                counts[out[t]] = 0
                named = counts.cumsum()[at[t]]
                hits = np.arange(1, len(at[t]) + 1)
                precision = hits / named
                # Which place sets the best precision at or behind each.
                best = np.maximum.accumulate(precision[::-1])[::-1]
                setter = np.searchsorted(-best, -best, side="right") - 1
                uses = np.bincount(setter, minlength=len(at[t])) / total
                by_hit = (uses / named)[::-1].cumsum()[::-1]
                by_name = (uses * hits / named**2)[::-1].cumsum()[::-1]
                # A detection counts for all places from its own on.
                after = np.searchsorted(at[t], np.arange(len(picture)))
                effect = -np.append(by_name, 0.0)[after] * counts
                effect[at[t]] += by_hit + best / total
                whole += np.bincount(picture, effect, minlength=self.n)
                whole -= boxes * (best.sum() / total**2)
        return whole / max(1, len(self.classes) * self.thresholds)


# The resamples of a mean average precision. Its influences tell most of each.
DETECTION_RESAMPLES = 200


def detection_interval(first: Rankings, second: Rankings | None = None) -> tuple[float, float]:
    """Return the 95 % interval of a mean average precision, or of how much more the first has.

    The BCa interval over pictures, as in `bootstrap`, of a tenth of the resamples: what the
    influences tell of a resampled value is known without drawing, so only what they leave is
    estimated, a bias and a factor of the variance (control variates: B. Efron, "More efficient
    bootstrap computations", Journal of the American Statistical Association 85 (1990); Efron &
    Tibshirani 1993, chapter 23). The percentiles are those of a Cornish-Fisher expansion with this
    bias, this variance, and the skewness of the influences. Of very many pictures it is the normal
    interval.

    Args:
        first: The rankings of a model.
        second: Those of another one on the same pictures.
    """
    import numpy as np

    n = first.n
    sides = [first] if second is None else [first, second]
    value = first.value() - (second.value() if second else 0.0)
    influence = first.influence() - (second.influence() if second else 0.0)
    energy = float(np.sum(influence**2))
    if energy < NOTHING or n < 2:
        return value, value
    if n > BOOTSTRAP_LIMIT or sum(side.work for side in sides) > DETECTION_LIMIT:
        half = Z * (n / (n - 1) * energy) ** 0.5
        return value - half, value + half
    with DeferSigint():  # imports
        generator = np.random.default_rng(0)
    places = [side.places() for side in sides]

    def statistic(weights: Any) -> Any:
        means = [side.resampled_mean(weights, at) for side, at in zip(sides, places)]
        return means[0] - means[1] if second else means[0]

    drawn = generator.integers(0, n, (DETECTION_RESAMPLES, n), np.int32)
    cells = drawn + np.arange(0, drawn.size, n)[:, None]
    times = count_places(cells.ravel(), minlength=drawn.size).reshape(drawn.shape)
    # Of some places only, the mean is a little less than of all: changes are from that.
    changes = statistic(times.astype(np.float32)) - statistic(np.ones((1, n), np.float32))
    linear = times @ influence
    bias = float(np.mean(changes - linear))
    error = (energy * float(np.var(changes) / np.var(linear)) * n / (n - 1)) ** 0.5
    skewness = float(np.sum(influence**3)) / (6 * energy**1.5)
    shift = skewness - min(max(bias / max(error, NOTHING), -1.0), 1.0)
    reach = Z + (Z**3 + Z) / (4 * (n - 1))  # Student's t, as in `bca`

    def end(z: float) -> float:
        place = shift + (shift + z) / max(1e-9, 1 - skewness * (shift + z))
        return float(value + bias + error * (place + skewness * (place**2 - 1)))

    return end(-reach), end(reach)


# Corners of boxes may be beyond the edges by as much, as a share of the picture: they are rounded.
EDGE = 0.01


def box_fault(targets: Any, classes: int | None = None) -> tuple[int, str] | None:
    """Return the first picture with a box that cannot be, and what is wrong with it.

    Args:
        targets: `[n, m, 6]`: corners as fractions, class, ignored; class -1 is padding.
        classes: Number of classes of the model, where it is known.
    """
    import numpy as np

    kind, corners = targets[..., 4], targets[..., :4]
    there = ~(kind < 0)
    with np.errstate(invalid="ignore"):
        outside = ((corners < -EDGE) | (corners > 1 + EDGE)).any(axis=2)
        swapped = (corners[..., 2] < corners[..., 0]) | (corners[..., 3] < corners[..., 1])
        beyond = np.zeros_like(there) if classes is None else kind >= classes
        faults = (
            (~np.isfinite(targets).all(axis=2), "has a box with NaN or infinity"),
            (kind != np.round(kind), "has a class that is no whole number"),
            (outside, "has a box outside the picture"),
            (swapped, "has a box whose corners are swapped"),
            (beyond, f"has a class that the model of {classes} classes does not have"),
        )
    for wrong, words in faults:
        pictures, places = np.nonzero(wrong & there)
        if len(pictures):
            picture, place = int(pictures[0]), int(places[0])
            shown = ", ".join(f"{value:g}" for value in targets[picture, place, :5])
            return picture, f"{words}: {shown}"
    return None


class DetectionScorer(Scorer):
    """Scores boxes: what `match_boxes` tells of the detections of each picture.

    Attributes:
        head: Makes detections of the outputs.
        window: Height and width of the pictures, and how they are cropped, where boxes are those
            of the whole picture; None where they are those of the model's input.
    """

    head: Any = None
    window: tuple[int, int, Mapping[str, Any]] | None = None

    def __init__(
        self, task: str, n: int, labels: Sequence[str], units: int, metric: str | None = None
    ) -> None:
        super().__init__(task, n, labels, units, metric)
        self.found: list[tuple[Any, ...]] = []

    def prepare(self, model: Model, manifest: Mapping[str, Any], column: StoredArray) -> None:
        """Take the head of a model, and how the pictures in a column of raw samples are cropped.

        Raises:
            RunnerError: No head is known (code 4), or it does not fit the model (code 3).
        """
        self.head = model_head(model, manifest)
        if self.head is None:
            raise RunnerError(
                DATA,
                f"eval cannot tell boxes from the outputs of {model.path}.",
                ", ".join(f"{tensor.name} {list(tensor.shape)}" for tensor in model.outputs),
                "Put its head into the manifest: edgekit quantize --head.",
            )
        spec = manifest.get("preprocessing") or {}
        if spec.get("kind") == "image" and not column.name.startswith("inputs"):
            self.window = (column.shape[1], column.shape[2], spec)

    def scored(self, names: Sequence[str], outputs: Sequence[Any]) -> Any:
        """Return the detections of one picture, `[k, 6]`."""
        return self.head({name: value[None] for name, value in zip(names, outputs)})[0]

    def add(self, position: int, value: Callable[[], Any], output: Any, target: Any) -> None:
        """Add one picture: as in `Scorer`, with detections as output and boxes as target."""
        _ = position, value
        if target.dtype.kind not in "fiu" or target.ndim != 2 or target.shape[1] not in (5, 6):
            raise ValueError(f"boxes [m, 5 or 6] wanted, found {target.dtype} {target.shape}")
        boxes = as_boxes(target)
        fault = box_fault(boxes[None], self.head.classes)
        if fault:
            raise ValueError(f"it {fault[1]}")
        boxes[:, :4] = boxes[:, :4].clip(0, 1)
        if self.window:
            boxes = boxes_in_window(boxes, *self.window)
        hit, void = match_boxes(output[None], boxes[None])
        self.found.append((output[:, 4], output[:, 5], hit[0], void[0], boxes))

    def complete(self) -> tuple[Any, dict[str, float]]:
        """Return scores, classes, hits, voids and boxes of all pictures.

        Raises:
            RunnerError: No picture has a box that counts (code 4).
        """
        import numpy as np

        columns = [np.stack(parts) for parts in zip(*self.found)]
        boxes = columns[-1]
        if not ((boxes[..., 4] >= 0) & (boxes[..., 5] == 0)).any():
            raise RunnerError(DATA, "No picture has a box that counts.", "", "Add boxes.")
        return columns, {}

    def figure(
        self, name: str, scores: Any, *, with_interval: bool = False
    ) -> tuple[float, tuple[float, float]]:
        """Return a metric's value and 95 % interval; (0, 0) unless that is asked for."""
        rankings = Rankings(scores, 1 if name == "map50" else 10)
        value = rankings.value()
        return value, mean_interval(rankings) if with_interval else (0.0, 0.0)


SCORERS["detection"] = DetectionScorer


def mean_interval(rankings: Rankings) -> tuple[float, float]:
    """Return the 95 % interval of a mean average precision, within [0, 1].

    Where no picture differs from another in it, what so many pictures cannot show (`wilson`).
    """
    low, high = detection_interval(rankings)
    if low == high:
        slack = 1 - wilson(rankings.n, rankings.n)[0]
        low, high = low - slack, high + slack
    return max(0.0, low), min(1.0, high)


def model_head(model: Model, manifest: Mapping[str, Any]) -> Head | None:
    """Return the head of a model: that of its manifest, or one that its shapes tell, or None.

    Raises:
        RunnerError: The manifest's head does not fit the outputs (code 3).
    """
    outputs = [(tensor.name, tensor.shape) for tensor in model.outputs]
    table = manifest.get("head") or recognize_head(
        outputs, len(manifest.get("labels") or ()) or None
    )
    if not table:
        return None
    shape = model.inputs[0].shape
    try:
        return Head(check_head(table), outputs, (shape[2], shape[1]) if len(shape) == 4 else None)
    except ValueError as error:
        raise RunnerError(
            MODEL,
            f"The head of {model.path} does not fit its outputs.",
            error,
            "Give the manifest that was made with the model.",
        ) from error


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
    drift = Drift(model, manifest) if options.watch_drift else None
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
            if drift:
                drift.watch(sample.codes)
            if count == options.limit:
                break
            if options.every:
                due = max(due + options.every, time.monotonic())
                time.sleep(max(0.0, due - time.monotonic()))
        if drift:
            drift.end()
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
MOST_VALUES = 64  # of an output that are named one by one
SCORE_KEYS = ("score", "logit", "value")  # of a class: a probability, a logit, and neither


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
        self.task = data.get("task") or infer_task_from_shapes(model, manifest)
        self.head = model_head(model, manifest) if self.task == "detection" else None
        self.shares = gives_probabilities(model.content)
        self.unit = data.get("unit")
        self.spec = picture_spec(manifest) or {}
        self.names = [tensor.name for tensor in model.outputs]
        # The task is that of the output with targets.
        told = data.get("output")
        self.main = self.names.index(told) if told in self.names else 0

    def read(self, sample: Sample) -> tuple[dict[str, Any], Any]:
        """Return the decoded outputs of a sample, and its class map `[h, w]` or None.

        Raises:
            RunnerError: The number of labels is wrong (code 4), or an output is NaN (code 3).
        """
        import numpy as np

        outputs = self.model.results()
        answer, class_map = self._read(sample, outputs)
        others = {
            name: _to_plain(output)
            for k, (name, output) in enumerate(zip(self.names, outputs))
            if k != self.main and np.size(output) <= MOST_VALUES
        }
        if others and not self.head:
            answer.setdefault("outputs", others)
        return answer, class_map

    def _read(self, sample: Sample, outputs: Sequence[Any]) -> tuple[dict[str, Any], Any]:
        import numpy as np

        first = np.asarray(outputs[self.main])
        if self.task == "reconstruction":
            difference = np.asarray(sample.value(), np.float32).ravel() - first.ravel()
            return {"error": float(np.mean(difference**2))}, None
        if self.task == "classification" and first.size > 1:
            return {"top": self._classes(first.ravel())}, None
        if self.task == "classification" and first.size == 1:
            one = float(self._probabilities(first.ravel())[0])
            both = np.asarray([1 - one, one]).round(6)
            return {"top": self._classes(both, SCORE_KEYS[0])}, None
        if self.task == "multi-label" and first.size > 1:
            return {"labels": self._labels(first.ravel())}, None
        if self.head:
            return {"objects": self._objects(outputs, sample.picture)}, None
        if self.task == "segmentation" and first.ndim in (2, 3):
            class_map = to_class_map(first, self.shares)
            return self._class_shares(class_map), class_map
        plain = {name: _to_plain(output) for name, output in zip(self.names, outputs)}
        if self.task == "regression":
            return {**self._values(outputs), "outputs": plain}, None
        return {"outputs": plain}, None

    def _values(self, outputs: Sequence[Any]) -> dict[str, Any]:
        """Return the only value, or the values by name, with the unit of the scored output's.

        A value of an output with several is named "output[1]"; an output with more than
        `MOST_VALUES` is no list of values.
        """
        import numpy as np

        values: list[dict[str, Any]] = []
        for k, (tensor, output) in enumerate(zip(self.model.outputs, outputs)):
            unit = {"unit": self.unit} if self.unit and k == self.main else {}
            flat = np.asarray(output).ravel()
            if flat.size <= MOST_VALUES:
                values += [
                    {
                        "name": f"{tensor.name}[{k}]" if flat.size > 1 else tensor.name,
                        "value": _to_plain(value),
                        **unit,
                    }
                    for k, value in enumerate(flat)
                ]
        if len(values) == 1 and len(outputs) == 1:
            return {key: value for key, value in values[0].items() if key != "name"}
        return {"values": values} if values else {}

    def _probabilities(self, scores: Any) -> Any:
        """Return probabilities, of logits too.

        Where the model's last operator does not tell, scores are probabilities if all are in
        [0, 1].
        """
        import numpy as np

        scores = np.asarray(scores, np.float64)
        shares = are_shares(scores) if self.shares is None else self.shares
        return scores if shares else 1 / (1 + np.exp(-scores.clip(-500, 500)))

    def _class_and_label(self, number: int) -> dict[str, Any]:
        known = number < len(self.labels) and self.labels[number]
        return {"class": number, **({"label": self.labels[number]} if known else {})}

    def _classes(self, scores: Any, name: str = "") -> list[dict[str, Any]]:
        import numpy as np

        self._check_labels(scores)
        order = np.argsort(-scores, kind="stable")[: self.top]
        name = name or self._name_of(scores)
        return [{**self._class_and_label(int(k)), name: _to_plain(scores[k])} for k in order]

    def _name_of(self, scores: Any) -> str:
        """Return what scores are: a probability is a "score", others are not called so."""
        if are_shares(scores) and self.shares is not False:
            return SCORE_KEYS[0]
        # Known of the first output only.
        return SCORE_KEYS[1] if self.shares is False and self.main == 0 else SCORE_KEYS[2]

    def _check_labels(self, scores: Any) -> None:
        if self.labels and len(self.labels) != len(scores):
            raise RunnerError(
                DATA,
                f"{len(self.labels)} labels do not fit {self.model.path}.",
                f"It has {len(scores)} outputs.",
                "Give the labels.txt that belongs to it: one label a line.",
            )

    def _labels(self, scores: Any) -> list[dict[str, Any]]:
        """Return the labels whose probability reaches the threshold, the likeliest first."""
        import numpy as np

        self._check_labels(scores)
        shares = self._probabilities(scores)
        order = np.argsort(-shares, kind="stable")
        return [
            {**self._class_and_label(int(k)), "score": round(float(shares[k]), 6)}
            for k in order
            if shares[k] > self.threshold
        ]

    def _objects(self, outputs: Sequence[Any], picture: Any) -> list[dict[str, Any]]:
        """Return detections with boxes `[ymin, xmin, ymax, xmax]`, fractions of the picture.

        And, of a picture, `pixels`, `[left, top, right, bottom]`.
        """
        assert self.head is not None
        detections = self.head({name: value[None] for name, value in zip(self.names, outputs)})[0]
        height, width = picture_size(picture) if picture is not None else (1, 1)
        # After a crop, boxes are relative to the crop window.
        top, left, rows, columns = (
            crop_window(height, width, self.spec) if picture is not None else (0, 0, 1, 1)
        )
        found = []
        for corners in detections:
            score = corners[4]
            if score < max(0.0, self.threshold):
                continue
            x1, x2 = (left + float(edge) * columns for edge in corners[[0, 2]])
            y1, y2 = (top + float(edge) * rows for edge in corners[[1, 3]])
            box = [y1 / height, x1 / width, y2 / height, x2 / width]
            answer = {"box": [round(edge, 6) for edge in box]}
            if picture is not None:
                answer["pixels"] = [round(edge, 2) for edge in (x1, y1, x2, y2)]
            found.append(
                {**answer, **self._class_and_label(int(corners[5])), "score": _to_plain(score)}
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


def infer_task_from_shapes(model: Model, manifest: Mapping[str, Any]) -> str | None:
    """Return the task that the shapes of a model or a declared head suggest, else None."""
    outputs = [(tensor.name, tensor.shape) for tensor in model.outputs]
    if manifest.get("head") or postprocess_order(outputs):
        return "detection"
    shape, taken = model.outputs[0].shape, model.inputs[0].shape
    if len(model.outputs) > 1 or shape == taken:
        return None
    pixels = len(taken) == 4 and shape[:3] == taken[:3]
    if pixels and (len(shape) == 3 or (len(shape) == 4 and shape[3] > 3)):
        return "segmentation"
    return "classification" if len(shape) == 2 and shape[0] == 1 and shape[1] > 1 else None


def to_class_map(output: Any, shares: bool | None = None) -> Any:
    """Return class numbers `[h, w]` of a class map `[h, w]` or of scores `[h, w, classes]`.

    A single channel is the probability of class 1, or its logit: as `shares` says, else where
    some values are not in [0, 1].
    """
    import numpy as np

    if output.ndim == 3 and output.shape[2] > 1:
        return np.argmax(output, axis=2)
    flat = output.reshape(output.shape[:2])
    if flat.dtype.kind != "f":
        return flat
    shares = are_shares(flat) if shares is None else shares
    return (flat > (0.5 if shares else 0.0)).astype(np.int64)


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


# --- Drift ----------------------------------------------------------------------------------------
# Do inputs still look like the calibration data? The manifest keeps what those were like.

MOST_CHANNELS = 64  # of an input that are watched one by one
TAIL = 0.025  # share of the calibration samples beyond either limit of a statistic
WINDOW, FEWEST_INPUTS = 100, 20  # inputs that `run` judges together: as a rule, and at its end
FALSE_ALARMS = 0.001  # the chance of an alarm where inputs are like the calibration samples
LEAST_BEYOND = 0.25  # share of a window's inputs; fewer are of no consequence
MOST_FINDINGS = 3  # that are printed; JSON has all


def as_planes(values: Any) -> Any:
    """Return one sample as `[channels, ...]`, of its last axis, where that is short, else one."""
    import numpy as np

    array = np.asarray(values)
    few = array.ndim > 0 and array.shape[-1] <= MOST_CHANNELS
    return np.ascontiguousarray(np.moveaxis(array, -1, 0) if few else array[None], np.float64)


def input_statistics(values: Any, low: Any, high: Any) -> dict[str, Any]:
    """Return what is watched of one sample: name -> `[channels]`, or `[1]` for all together.

    Args:
        values: Its real values, as the input holds them.
        low: The least value of each channel in the calibration samples, `[channels]`.
        high: The largest, likewise.

    Returns:
        Of each channel the mean; where it has several values, their deviation, and of three the
        balance, its mean less that of all. Of all together the shares of values at the low and
        at the high end; and the sharpness, the root mean square difference of neighbours in
        shares of what it would be in noise of the same deviation.
    """
    import numpy as np

    planes = as_planes(values)
    flat = planes.reshape(len(planes), -1)
    means = flat.mean(1)
    lowest, highest = flat <= np.reshape(low, (-1, 1)), flat >= np.reshape(high, (-1, 1))
    found = {
        "mean": means,
        "share at the low end": np.array([np.count_nonzero(lowest) / flat.size]),
        "share at the high end": np.array([np.count_nonzero(highest) / flat.size]),
    }
    if flat.shape[1] > 1:
        # Plane by plane, which stays in the cache; einsum adds up squares without storing them.
        centred = (row - mean for row, mean in zip(flat, means))
        variances = np.array([np.einsum("i,i->", row, row) for row in centred]) / flat.shape[1]
        energy, count = 0.0, 0
        for plane in planes:
            for axis in [axis for axis, n in enumerate(plane.shape) if n > 1]:
                step = np.diff(plane, axis=axis).reshape(-1)
                energy += np.einsum("i,i->", step, step)
                count += step.size
        energy /= count
        noise = 2 * variances.mean()
        found["deviation"] = np.sqrt(variances)
        found["sharpness"] = np.sqrt(energy / noise if noise else 0.0).reshape(1)
        if len(planes) == 3:
            found["balance"] = means - means.mean()
    return found


def exceedance_limit(n: int, rank: int, inputs: int, chance: float) -> int:
    """Return the least number of inputs beyond a limit that has at most this chance.

    The limit is the `rank`-th largest value of `n` earlier samples. Where all are drawn alike and
    independently, `x` of the new ones lie beyond it with the probability
    `C(n, rank) rank C(inputs, x) / ((n + inputs) C(n + inputs - 1, rank + x - 1))`, whatever they
    are distributed like (E. J. Gumbel and H. von Schelling, "The Distribution of the Number of
    Exceedances", Annals of Mathematical Statistics 21, 1950).

    Returns:
        `inputs + 1` where even all of them may lie there by chance.
    """
    import math

    def log_choose(of: int, k: int) -> float:
        return math.lgamma(of + 1) - math.lgamma(k + 1) - math.lgamma(of - k + 1)

    start = log_choose(n, rank) + math.log(rank / (n + inputs))
    tail = 0.0
    for x in range(inputs, 0, -1):
        tail += math.exp(start + log_choose(inputs, x) - log_choose(n + inputs - 1, rank + x - 1))
        if tail > chance:
            return x + 1
    return 1


class Drift:
    """Judges whether inputs look like the calibration samples.

    Of each statistic the manifest keeps two limits, beyond which `rank` of the `n` calibration
    samples lie at either end. An alarm is raised where more inputs lie beyond one than chance
    explains, all statistics together (Bonferroni), and at least a quarter of them.

    Args:
        model: The model.
        manifest: Its manifest.

    Raises:
        RunnerError: The manifest does not say what the calibration samples were like (code 3).
    """

    def __init__(self, model: Model, manifest: Mapping[str, Any]) -> None:
        import numpy as np

        told = manifest.get("calibration")
        if told is None:
            raise RunnerError(
                MODEL,
                f"The manifest of {model.path} does not say what its calibration data was like.",
                "It is missing, of an older edgekit, or of a file made without data.",
                "Make the file again: edgekit quantize ... --data DATA; or drop --watch-drift.",
            )
        self.tensors = model.inputs
        try:
            self.n, self.rank = int(told["n"]), int(told["rank"])
            inputs = [told["inputs"][tensor.name] for tensor in model.inputs]
            self.ends = [[np.asarray(one[end], float) for end in ("low", "high")] for one in inputs]
            self.limits = [
                {name: np.asarray(rows, float) for name, rows in one["statistics"].items()}
                for one in inputs
            ]
            self._check_fit()
        except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
            raise RunnerError(
                MODEL,
                f"The calibration data in the manifest of {model.path} cannot be used.",
                error,
                "Copy the manifest again together with the model, or drop --watch-drift.",
            ) from error
        self.window: list[Any] = []
        self.judged = False

    def _check_fit(self) -> None:
        import numpy as np

        blank = [np.zeros(tensor.shape[1:], tensor.dtype) for tensor in self.tensors]
        wanted = [
            {name: (len(row), 3) for name, row in found.items()}
            for found in self._statistics(blank)
        ]
        told = [{name: limits.shape for name, limits in known.items()} for known in self.limits]
        sizes = [as_planes(one).shape[:1] for one in blank]
        ends = all({low.shape, high.shape} == {n} for (low, high), n in zip(self.ends, sizes))
        if wanted != told or not ends or not 0 < 2 * self.rank <= self.n + 1:
            raise ValueError("The statistics do not fit the inputs of the model.")

    def _statistics(self, codes: Sequence[Any]) -> list[dict[str, Any]]:
        return [
            # Of several samples in one run the first.
            input_statistics(tensor.decode(code).reshape(-1, *tensor.shape[1:])[0], *ends)
            for tensor, code, ends in zip(self.tensors, codes, self.ends)
        ]

    def add(self, codes: Sequence[Any]) -> None:
        """Take the codes of one sample, an array for each input."""
        self.window.append(self._statistics(codes))

    def watch(self, codes: Sequence[Any]) -> None:
        """Take the codes of one sample, and judge each full window."""
        self.add(codes)
        if len(self.window) == WINDOW:
            self._say()

    def end(self) -> None:
        """Judge the last inputs, where they are enough, or nothing was judged yet."""
        if len(self.window) >= FEWEST_INPUTS or not self.judged:
            self._say()

    def _say(self) -> None:
        told = self.judge()
        _write_stdout(_to_json({"drift": told}))
        if told["alarm"] is not False:
            write_stderr("\n".join(drift_lines(told)))
        self.window, self.judged = [], True

    def judge(self) -> dict[str, Any]:
        """Return what `run` and `eval` print of the inputs taken since the last judgement.

        `alarm` is None where there are too few inputs or calibration samples for one.
        """
        import math

        import numpy as np

        count = len(self.window)
        tests = 2 * sum(len(rows) for known in self.limits for rows in known.values())
        least = exceedance_limit(self.n, self.rank, count, FALSE_ALARMS / tests)
        enough = least <= count and count >= FEWEST_INPUTS
        least = max(least, math.ceil(LEAST_BEYOND * count))
        found: list[dict[str, Any]] = []
        for k, (tensor, known) in enumerate(zip(self.tensors, self.limits)):
            for name, limits in known.items() if count else ():
                seen = np.array([one[k][name] for one in self.window])
                sides = (("below", seen < limits[:, 0]), ("above", seen > limits[:, 2]))
                found += [
                    {
                        "input": tensor.name,
                        "statistic": name,
                        "channel": channel if len(limits) > 1 else None,
                        "side": side,
                        "limit": float(limits[channel, 0 if side == "below" else 2]),
                        "beyond": int(beyond[:, channel].sum()),
                        "median": float(np.median(seen[:, channel])),
                        "calibration_median": float(limits[channel, 1]),
                    }
                    for side, beyond in sides
                    for channel in range(len(limits))
                ]
        findings = [one for one in found if one["beyond"] >= least]
        findings.sort(key=lambda one: -one["beyond"])
        return {
            "alarm": bool(findings) if enough else None,
            "inputs": count,
            "calibration_samples": self.n,
            "calibration_beyond": self.rank,
            "least_beyond": least,
            "false_alarm_rate": FALSE_ALARMS,
            "saturated": {
                tensor.name: {
                    end: float(np.mean([one[k][f"share at the {end} end"] for one in self.window]))
                    for end in ("low", "high")
                }
                for k, tensor in enumerate(self.tensors)
                if count
            },
            "findings": findings if enough else [],
        }


def drift_lines(told: Mapping[str, Any] | None) -> list[str]:
    """Return text lines for what `Drift.judge` returns."""
    if not told:
        return []
    count, n = told["inputs"], told["calibration_samples"]
    if told["alarm"] is None:
        few = f"{_plural(count, 'input')} and {_plural(n, 'calibration sample')}"
        return [f"Whether the input looks like the calibration data cannot be told from {few}."]
    if not told["alarm"]:
        return [f"The input looks like the calibration data ({_plural(count, 'input')})."]
    several = len(told["saturated"]) > 1
    lines = [
        "The input no longer looks like the calibration data:",
        f"  {_plural(count, 'input')}; in brackets the {_plural(n, 'calibration sample')}",
    ]
    for one in told["findings"][:MOST_FINDINGS]:
        channel = "" if one["channel"] is None else f" of channel {one['channel']}"
        lines.append(
            f"  {one['input'] + ': ' if several else ''}{one['statistic']}{channel} {one['side']} "
            f"{one['limit']:.3g} in {100 * one['beyond'] / count:.0f} % "
            f"({100 * told['calibration_beyond'] / n:.1f} %), median {one['median']:.3g} "
            f"({one['calibration_median']:.3g})"
        )
    more = len(told["findings"]) - MOST_FINDINGS
    return lines + (
        [f"  and {_plural(more, 'other figure')}; the JSON has all"] if more > 0 else []
    )


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


MOST_WRITTEN = 8  # values in a picture


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
        f"{item.get('label', item['class'])} {next(item[k] for k in SCORE_KEYS if k in item):.2f}"
        for item in answer.get("top", ())
    ]
    if "value" in answer:
        words = [f"{answer['value']:g} {answer.get('unit', '')}".strip()]
    words += [
        f"{one['name']} {one['value']:g} {one.get('unit', '')}".strip()
        for one in answer.get("values", ())[:MOST_WRITTEN]
    ]
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
        expanded=not options.no_expand,
    )


XNNPACK = "XNNPACK"


def _nodes_of(interpreter: Any) -> Sequence[Mapping[str, Any]]:
    """Return the operators and delegates' kernels of the main graph; none if that is not told."""
    try:
        found: Sequence[Mapping[str, Any]] = interpreter._get_ops_details()  # noqa: SLF001
    except Exception:  # it is not public: other releases may lack or change it
        return ()
    return found


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
        content: What the runtime loads: the path, or content that was unpacked into memory.
        nodes_before: Operators, and kernels of the delegate, before tensors are allocated.
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
        expanded: bool = True,
    ) -> None:
        self.path = path
        self.runtime = runtime
        self.delegate = delegate
        self.trial = trial
        _require_tflite_file(path)
        stored = stored_model(path)
        _check_delegate(path, delegate, stored)
        self.state = state_of(stored)
        start = time.perf_counter_ns()
        self.content = loadable(path, expanded=expanded, per_channel=runtime.key != "tflite")
        self.unpack_ns = time.perf_counter_ns() - start
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
                content = self.content
                arguments["model_path" if isinstance(content, str) else "model_content"] = content
                interpreter = runtime.interpreter(num_threads=self.threads, **arguments)
                # What stands behind these is XNNPACK's, which the allocation brings in.
                self.nodes_before = len(_nodes_of(interpreter))
                loaded = time.perf_counter_ns()
                interpreter.allocate_tensors()
        except RunnerError:
            raise
        except Exception as error:  # ValueError, RuntimeError, SystemError: runtimes differ
            raise _load_error(error, path, runtime, delegate) from error
        self.load_ns = loaded - start
        self.allocate_ns = time.perf_counter_ns() - loaded
        self.interpreter = interpreter

    @property
    def unpacked_bytes(self) -> int | None:
        """Return the bytes of what was unpacked into memory; None for a file that is mapped."""
        return None if isinstance(self.content, str) else len(self.content)

    def operators(self) -> dict[str, Any] | None:
        """Return how many operators of the main graph run where; None if the runtime does not tell.

        A delegate's kernel is listed behind the operators of the file, and takes the place of those
        between its inputs and its outputs.

        Returns:
            `n`, and in `delegated` the delegate or XNNPACK -> how many its kernels replace.
        """
        nodes = _nodes_of(self.interpreter)
        if not nodes:
            return None
        makers: dict[int, int] = {}
        taken: dict[str, set[int]] = {}
        n = 0
        for place, node in enumerate(nodes):
            makes = [int(index) for index in node["outputs"]]
            if not any(index in makers for index in makes):
                makers.update((index, place) for index in makes)
                n += 1
                continue
            by = str(self.delegate) if place < self.nodes_before else XNNPACK
            found = taken.setdefault(by, set())
            known, wanted = {int(index) for index in node["inputs"]}, makes
            while wanted:
                index = wanted.pop()
                maker = makers.get(index)
                if index in known or maker is None:
                    continue
                known.add(index)
                found.add(maker)
                wanted += [int(read) for read in nodes[maker]["inputs"]]
        return {"n": n, "delegated": {name: len(found) for name, found in taken.items()}}

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
    if head[:2] == GZIP:  # `stored_model` looks into it
        return
    # Bytes 4 to 8 of a flatbuffer identify its schema.
    if head[4:8] != b"TFL3":
        found = OTHER_FORMATS.get(head[:4], f"It starts with {head!r}, not with TFL3.")
        raise RunnerError(MODEL, f"{path} is no TFLite model.", found, hint)


def _check_delegate(path: str, delegate: Delegate | None, stored: str | bytes) -> None:
    """Raise if a model compiled for the Edge TPU has no delegate for it, or the reverse."""
    compiled = EDGE_TPU_OPERATOR in custom_operators(stored)
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


def custom_operators(model: str | bytes) -> list[str]:
    """Return the names of a model's custom operators; none for a damaged file."""

    def names(model: Table) -> list[str]:
        # Fields of schema.fbs: Model.operator_codes 1, OperatorCode.custom_code 1.
        return [name for name in (code.text(1) for code in model.tables(1)) if name]

    found: list[str] = _read_flatbuffer(model, names, [])
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


# BuiltinOperator of schema.fbs: what scores pass through unchanged, but for their type and shape;
# and what makes probabilities, or scores of any size.
UNCHANGED = {6, 22, 114}  # DEQUANTIZE, RESHAPE, QUANTIZE
PROBABILITIES = {14, 25}  # LOGISTIC, SOFTMAX
# ADD, CONV_2D, DEPTHWISE_CONV_2D, FULLY_CONNECTED -> the field of their options that holds an
# activation, 0 for none.
SCORES = {0: 0, 3: 3, 4: 4, 9: 0}


def gives_probabilities(model: str | bytes) -> bool | None:
    """Return whether a model's first output is made of probabilities; None if that is unknown.

    False: it ends in a sum or a product of weights, without an activation: in logits.
    """

    def last(root: Table) -> bool | None:
        # Fields of schema.fbs: Model.operator_codes 1, OperatorCode.deprecated_builtin_code 0 and
        # builtin_code 3, Model.subgraphs 2, SubGraph.outputs 2 and operators 3,
        # Operator.opcode_index 0, inputs 1, outputs 2, builtin_options 4.
        import struct

        def integers(table: Table, field: int) -> list[int]:
            content = table.block(field, 4)[1]
            return list(struct.unpack(f"<{len(content) // 4}i", content))

        codes = [max(code.number(0, "<b"), code.number(3, "<i")) for code in root.tables(1)]
        graph = root.tables(2)[0]
        wanted = integers(graph, 2)[0]
        for operator in reversed(graph.tables(3)):
            if wanted not in integers(operator, 2):
                continue
            code = codes[operator.number(0, "<I")]
            if code in UNCHANGED:
                wanted = integers(operator, 1)[0]
                continue
            options = operator.table(4)
            if code in SCORES and not (options and options.number(SCORES[code], "<b")):
                return False
            return True if code in PROBABILITIES else None
        return None

    try:
        found: bool | None = _read_flatbuffer(model, last, None)
    except (IndexError, OSError):
        return None
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


# --- Expansion ------------------------------------------------------------------------------------
# Files that are small on flash and fast in memory: before a runtime loads them, gzip is inflated,
# int4 constants become int8, and sparse ones dense. Kernels for int4 are slow.

GZIP = b"\x1f\x8b"
# As on the host: a file may unpack to a hundred times its size, at least to 256 MiB. The offsets of
# a flatbuffer have 32 bits, so that a model has less than 2 GiB.
UNPACKED_RATIO, UNPACKED_LEAST, UNPACKED_MOST = 100, 1 << 28, (1 << 31) - 1
# Deflate packs 258 bytes into 2 bits at the best.
DEFLATE_RATIO = 1032

# Of schema.fbs: TensorType -> bytes of an element, and BuiltinOperator.
FLOAT32, FLOAT16, INT16, INT8, INT4 = 0, 1, 7, 9, 17
ITEM_BYTES = {FLOAT32: 4, FLOAT16: 2, INT8: 1}
CONV_2D, DEPTHWISE_CONV_2D, DEQUANTIZE, FULLY_CONNECTED, DENSIFY = 3, 4, 6, 9, 124
# Operator -> its input that may be stored in 4 bits.
INT4_INPUTS = {CONV_2D: 1, DEPTHWISE_CONV_2D: 1, FULLY_CONNECTED: 1, DEQUANTIZE: 0}


def unpacked_limit(stored: int) -> int:
    """Return how many bytes a file of `stored` bytes may unpack to on this device."""
    most = max(UNPACKED_LEAST, min(UNPACKED_MOST, UNPACKED_RATIO * stored))
    available = _kernel_field("/proc/meminfo", "MemAvailable").split()
    # The other half is for the runtime, which makes copies of weights in its own order.
    return min(most, int(available[0]) * 512) if available else most


_inflated: dict[tuple[str, int, int], bytes] = {}


def stored_model(path: str) -> str | bytes:
    """Return the path of a plain file, or the content of one that is packed with gzip.

    Raises:
        RunnerError: It cannot be read; or it is packed, and damaged, no model, or too large
            (code 3).
    """
    try:
        if _head(path, 2) != GZIP:
            return path
        found = os.stat(path)
        key = (path, found.st_size, found.st_mtime_ns)
        if key not in _inflated:
            content = inflate(path)
            _inflated.clear()
            _inflated[key] = content
        return _inflated[key]
    except OSError as error:
        raise read_error(MODEL, path, error, "Give a .tflite or .tflite.gz file.") from error


def inflate(path: str) -> bytes:
    """Return the TFLite model in a gzip file; what is packed is not inflated beyond a limit.

    Raises:
        OSError: It cannot be read.
        RunnerError: It is damaged, no model, or too large (code 3).
    """
    import zlib

    copy = "The file is damaged or cut short: copy it again and compare its sha256."
    with open(path, "rb") as stream:
        size = os.fstat(stream.fileno()).st_size
        limit = unpacked_limit(size)
        packed = stream.read(limit + 1)
    declared = int.from_bytes(packed[-4:], "little")
    try:
        # All that matters of other contents is that they are none of a model.
        head = zlib.decompressobj(31).decompress(packed[: 1 << 16], 8)
        if head[4:8] != b"TFL3":
            found = f"Its content starts with {head!r}, not with TFL3."
            raise RunnerError(MODEL, f"{path} holds no TFLite model.", found, "Give a .tflite.gz.")
        if declared > DEFLATE_RATIO * size:
            found = f"It declares {declared} bytes, more than {size} bytes can hold."
            raise RunnerError(MODEL, f"{path} cannot be inflated.", found, copy)
        if max(declared, size) > limit:
            raise RunnerError(
                MODEL,
                f"{path} is too large to be unpacked here.",
                f"It declares {_format_size(declared)}; the limit is {_format_size(limit)}.",
                "If it is complete, give the plain .tflite file: it is not copied into memory.",
            )
        stream_ = zlib.decompressobj(31)
        content = stream_.decompress(packed, declared + 1)
    except zlib.error as error:
        raise RunnerError(MODEL, f"{path} cannot be inflated.", error, copy) from error
    if len(content) != declared or not stream_.eof or stream_.unused_data:
        found = f"It declares {declared} bytes and holds {'more' if stream_.eof else 'others'}."
        if not stream_.eof and len(content) <= declared:
            found = f"It ends after {len(content)} bytes."
        raise RunnerError(MODEL, f"{path} cannot be inflated.", found, copy)
    return content


def loadable(path: str, *, expanded: bool = True, per_channel: bool = True) -> str | bytes:
    """Return what a runtime is to load: the path of a file, or content that was unpacked.

    Args:
        path: A model, plain or packed with gzip.
        expanded: Whether constants are expanded; see `expand`.
        per_channel: See `expand`.

    Raises:
        RunnerError: The file cannot be read, is damaged, or too large (code 3).
    """
    model = stored_model(path)
    # A file in which nothing is to be expanded stays in flash, and is mapped.
    if not expanded or not _read_flatbuffer(model, pays_to_expand, False):
        return model
    try:
        if isinstance(model, str):
            with open(model, "rb") as stream:
                model = stream.read()
        content = expand(model, per_channel=per_channel, floats=False)
    except OSError as error:
        raise read_error(MODEL, path, error, "Give a .tflite or .tflite.gz file.") from error
    except damage() as error:
        raise RunnerError(
            MODEL,
            f"The constants of {path} cannot be expanded.",
            error,
            "The file is damaged: copy or convert it again.",
        ) from error
    _inflated.clear()  # the smaller form is not needed any more
    return content


def damage() -> tuple[type[Exception], ...]:
    """Return the exceptions of reading a damaged flatbuffer."""
    import struct

    return (struct.error, ValueError, IndexError)


def pays_to_expand(model: Table) -> bool:
    """Return whether a model has tensors that are better expanded before a runtime loads them.

    Those are of int4, and sparse ones of int8. Sparse floats are left to the runtime: XNNPACK has
    sparse kernels, which it takes for what is stored sparse only.
    """
    # Fields of schema.fbs: Model.subgraphs 2, SubGraph.tensors 0, Tensor.type 1, .sparsity 6.
    for graph in model.tables(2):
        for tensor in graph.tables(0):
            kind = tensor.number(1, "<b")
            if kind == INT4 or (kind == INT8 and tensor.has(6)):
                return True
    return False


def expand(content: bytes, *, per_channel: bool = True, floats: bool = True) -> bytes:
    """Return a model with its int4 constants as int8 and its sparse constants dense.

    Codes, scales and everything else remain; versions of operators become those that int8 needs.
    The flatbuffer is patched, and new buffers are appended, each at a multiple of 16 bytes. What
    no kernel takes in the other form is not changed.

    Args:
        content: A TFLite file.
        per_channel: Whether the runtime takes int8 weights with a scale per channel in a
            FULLY_CONNECTED with float input (version 12). tflite-runtime 2.14 does not: such
            weights become float32.
        floats: Whether sparse constants of float32 and float16 are expanded as well.

    Returns:
        The given object where nothing is to be expanded.

    Raises:
        ValueError: The file is damaged, or would become too large.
        struct.error: The file is damaged.
    """
    return _Expansion(content, per_channel=per_channel, floats=floats).run()


class _Expansion:
    """One file being expanded.

    Numbers of fields are those of schema.fbs: Model.operator_codes 1, .subgraphs 2, .buffers 4;
    OperatorCode.deprecated_builtin_code 0, .version 2, .builtin_code 3; SubGraph.tensors 0,
    .inputs 1, .outputs 2, .operators 3; Operator.opcode_index 0, .inputs 1, .outputs 2;
    Tensor.shape 0, .type 1, .buffer 2, .name 3, .quantization 4, .is_variable 5, .sparsity 6,
    .has_rank 8;
    QuantizationParameters.min 0, .max 1, .scale 2, .zero_point 3, .details_type 4,
    .quantized_dimension 6; Buffer.data 0.
    """

    def __init__(self, content: bytes, *, per_channel: bool, floats: bool) -> None:
        self.data = content
        self.per_channel = per_channel
        self.sparse_kinds = ITEM_BYTES if floats else {INT8: 1}
        self.limit = unpacked_limit(len(content))
        self.patches: list[tuple[int, bytes]] = []
        self.parts: list[Any] = []
        self.end = len(content)
        model = Table(content, int.from_bytes(content[:4], "little"))
        self.codes = model.tables(1)
        self.buffers = model.tables(4)
        self.graphs = [_Graph(graph, self) for graph in model.tables(2)]
        self.owners: dict[int, int] = {}
        for graph in self.graphs:
            for tensor in graph.tensors:
                number = tensor.number(2, "<I")
                self.owners[number] = self.owners.get(number, 0) + 1

    def run(self) -> bytes:
        unpacked: dict[int, list[tuple[_Graph, int, int]]] = {}
        for graph in self.graphs:
            self._remove_densify(graph)
            for index, tensor in enumerate(graph.tensors):
                kind = graph.kind_for_int4(index) if tensor.number(1, "<b") == INT4 else None
                if kind is not None:
                    unpacked.setdefault(tensor.number(2, "<I"), []).append((graph, index, kind))
        for number, tensors in unpacked.items():
            # Equal constants may share one buffer: all are unpacked, or none.
            alike = {(kind, graph.elements(index)) for graph, index, kind in tensors}
            if len(tensors) == self.owners[number] and len(alike) == 1:
                self._unpack_int4(number, tensors)
        if not self.patches:
            return self.data
        self._lower_versions()
        result = bytearray(self.data)
        for place, new in self.patches:
            if place + len(new) > len(result):
                raise ValueError("an offset leads out of the file")
            result[place : place + len(new)] = new
        return b"".join([result, *self.parts])

    def _append(self, part: Any, size: int, offset: int = 0) -> int:
        """Append `size` bytes, of which the one at `offset` has an address divisible by 16."""
        gap = -(self.end + offset) % 16
        place = self.end + gap
        self.end = place + size
        if self.end > self.limit + len(self.data) or self.end > UNPACKED_MOST:
            raise ValueError(f"it would take more than {_format_size(self.limit)}")
        self.parts += [b"\0" * gap, part]
        return place

    def _replace(self, buffer: Table, values: Any) -> None:
        """Let a buffer hold the bytes of an array; they are appended to the file."""
        header = values.nbytes.to_bytes(4, "little")
        place = self._append(header, 4, offset=4)
        self._append(values.reshape(-1).view("u1").data, values.nbytes)
        self.refer(buffer.place(0), place)

    def refer(self, place: int, target: int) -> None:
        """Let the offset at `place` lead to `target`, behind it."""
        self.patches.append((place, (target - place).to_bytes(4, "little")))

    def check(self, size: int) -> None:
        """Raise a ValueError if `size` more bytes are too many: before they are allocated."""
        if self.end + size > self.limit + len(self.data):
            raise ValueError(f"it would take more than {_format_size(self.limit)}")

    def _unpack_int4(self, number: int, tensors: Sequence[tuple[_Graph, int, int]]) -> None:
        import numpy as np

        graph, index, kind = tensors[0]
        elements = graph.elements(index)
        raw = self.buffers[number].block(0)[1]
        if len(raw) != (elements + 1) // 2:
            raise ValueError(f"{len(raw)} bytes hold {elements} numbers of 4 bits")
        self.check(elements * (4 if kind == FLOAT32 else 1))
        # Each byte holds two numbers, the first one in its lower half. They are spread over two
        # bytes, and their highest bits (8) become 0xF8 by a product.
        pairs = np.frombuffer(raw, np.uint8).astype("<u2")
        pairs |= pairs << 4
        pairs &= 0x0F0F
        pairs |= (pairs & 0x0808) * np.uint16(0x1E)
        codes = pairs.view(np.int8)[:elements]
        if kind == FLOAT32:
            codes = graph.dequantized(index, codes)
        self._replace(self.buffers[number], codes)
        for graph, index, _ in tensors:
            place = graph.tensors[index].place(1)
            self.patches.append((place, bytes([kind])))
            graph.kinds[index] = kind

    def _remove_densify(self, graph: _Graph) -> None:
        """Replace what DENSIFY operators compute by constants."""
        start, entries = graph.table.block(3, 4)
        kept = [start + 4 * n + offset for n, offset in enumerate(_integers(entries, "I"))]
        for op in graph.operators:
            if op.builtin == DENSIFY and self._densify(graph, op):
                kept.remove(op.table.position)
                op.inputs = []
        if len(kept) < len(graph.operators):
            self.patches.append((start - 4, len(kept).to_bytes(4, "little")))
            for n, target in enumerate(kept):
                self.refer(start + 4 * n, target)

    def _densify(self, graph: _Graph, op: _Operator) -> bool:
        """Store what one DENSIFY computes; return whether that can be done."""
        if len(op.inputs) != 1 or len(op.outputs) != 1:
            return False
        source, result = op.inputs[0], op.outputs[0]
        sparse, dense = graph.tensors[source], graph.tensors[result]
        number, layout, scales = sparse.number(2, "<I"), sparse.table(6), dense.table(4)
        kind, shape = graph.kinds[source], graph.shape(source)
        if (
            layout is None
            or kind not in self.sparse_kinds
            or (kind, shape) != (graph.kinds[result], graph.shape(result))
            or self.owners[number] > 1
            or len(graph.users.get(source, ())) > 1
            or {source, result} & graph.ends
            or not sparse.has(2)
            or (scales is not None and scales.has(4))
        ):
            return False
        self.check(graph.elements(source) * ITEM_BYTES[kind])
        values = self.buffers[number].block(0)[1]
        self._replace(self.buffers[number], dense_values(values, shape, ITEM_BYTES[kind], layout))
        fields: dict[int, Any] = {
            0: _vector(dense, 0, 4),
            1: bytes([kind, 0, 0, 0]),
            2: number.to_bytes(4, "little"),
            3: _vector(dense, 3, 1),
            8: b"\1\0\0\0",
        }
        if scales is not None:
            of_scales = {n: _vector(scales, n, 8 if n == 3 else 4) for n in range(4)}
            axis = scales.number(6, "<i")
            fields[4] = _built_table({**of_scales, 6: axis.to_bytes(4, "little", signed=True)})
        block, entry = _built_table(fields)
        place = self._append(block, len(block)) + entry
        start = graph.table.block(0, 4)[0]
        # Nothing reads the sparse tensor any more: it is another name of the dense one.
        for index in (source, result):
            self.refer(start + 4 * index, place)
        return True

    def _lower_versions(self) -> None:
        """Set the version of each operator code to the highest that its operators need."""
        needs: dict[int, int] = {}
        for graph in self.graphs:
            for op in graph.operators:
                needs[op.code] = max(needs.get(op.code, 0), graph.version(op))
        for number, version in needs.items():
            code = self.codes[number]
            if version < code.number(2, "<i"):
                self.patches.append((code.place(2), version.to_bytes(4, "little")))


# A version that no operator has: the stored one remains.
UNKNOWN_VERSION = 1 << 30


class _Operator:
    """An operator: its code's number and kind, and the tensors that it reads and writes."""

    def __init__(self, table: Table, codes: Sequence[Table]) -> None:
        self.table = table
        self.code = table.number(0, "<I")
        code = codes[self.code]
        self.builtin = max(code.number(3, "<i"), code.number(0, "<b"))
        self.inputs = _integers(table.block(1, 4)[1], "i")
        self.outputs = _integers(table.block(2, 4)[1], "i")


class _Graph:
    """One subgraph: its tensors and operators, and which operators read a tensor."""

    def __init__(self, table: Table, model: _Expansion) -> None:
        self.table = table
        self.tensors = table.tables(0)
        self.operators = [_Operator(op, model.codes) for op in table.tables(3)]
        self.model = model
        self.kinds = [tensor.number(1, "<b") for tensor in self.tensors]
        self.users: dict[int, list[tuple[_Operator, int]]] = {}
        self.ends = {
            index for field in (1, 2) for index in _integers(table.block(field, 4)[1], "i")
        }
        for op in self.operators:
            if not all(-1 <= index < len(self.tensors) for index in op.inputs + op.outputs):
                raise ValueError("an operator names a tensor that does not exist")
            for position, index in enumerate(op.inputs):
                self.users.setdefault(index, []).append((op, position))

    def shape(self, index: int) -> list[int]:
        return _integers(self.tensors[index].block(0, 4)[1], "i")

    def elements(self, index: int) -> int:
        count = 1
        for size in self.shape(index):
            if size < 0:
                raise ValueError("a constant has no fixed shape")
            count *= size
        return count

    def kind_for_int4(self, index: int) -> int | None:
        """Return the type that an int4 constant gets; None if it has to remain."""
        tensor, users = self.tensors[index], self.users.get(index, [])
        number = tensor.number(2, "<I")
        if (
            not users
            or index in self.ends
            or tensor.number(5, "<B")
            or number >= len(self.model.buffers)
            or not self.model.buffers[number].has(0)
            or any(INT4_INPUTS.get(op.builtin) != position for op, position in users)
        ):
            return None
        scales = tensor.table(4)
        several = scales is not None and len(scales.block(2, 4)[1]) > 4
        hybrid = all(
            op.builtin == FULLY_CONNECTED and self.kinds[op.inputs[0]] == FLOAT32 for op, _ in users
        )
        return FLOAT32 if several and hybrid and not self.model.per_channel else INT8

    def dequantized(self, index: int, codes: Any) -> Any:
        """Return real values of the codes of a kernel `[outputs, inputs]`, as float32."""
        import numpy as np

        parameters, shape = self.tensors[index].table(4), self.shape(index)
        assert parameters is not None
        scales = np.frombuffer(parameters.block(2, 4)[1], "<f4")
        zeros = np.frombuffer(parameters.block(3, 8)[1], "<i8")
        if len(scales) != shape[0] or zeros.any():
            raise ValueError("a kernel has other scales than one for each output")
        return codes.reshape(shape[0], -1) * scales[:, None].astype(np.float32)

    def version(self, op: _Operator) -> int:
        """Return the version of an operator that its types need, as TFLite's op_version.cc."""
        position = INT4_INPUTS.get(op.builtin)
        if position is None or len(op.inputs) <= position or min(op.inputs[:2]) < 0:
            return UNKNOWN_VERSION
        data, kernel = self.kinds[op.inputs[0]], self.kinds[op.inputs[position]]
        parameters = self.tensors[op.inputs[position]].table(4)
        several = parameters is not None and len(parameters.block(2, 4)[1]) > 4
        if op.builtin == DEQUANTIZE:
            needs = {INT8: 5 if several else 2, FLOAT16: 3}
            return needs.get(kernel, UNKNOWN_VERSION)
        if op.builtin == FULLY_CONNECTED:
            by_types = {
                (FLOAT32, FLOAT32): 6,
                (FLOAT32, INT8): 12 if several else 9,
                (INT8, INT8): 6,
                (INT16, INT8): 7,
            }
        elif op.builtin == CONV_2D:
            shapes = [self.shape(index)[-1:] for index in op.inputs[:2]]
            grouped = 6 if shapes[0] != shapes[1] else 0
            by_types = {
                (FLOAT32, FLOAT32): max(1, grouped),
                (FLOAT32, INT8): max(5, grouped),
                (INT8, INT8): max(3, grouped),
                (INT16, INT8): max(4, grouped),
            }
        else:
            by_types = {
                (FLOAT32, FLOAT32): 2,
                (FLOAT32, INT8): 6,
                (INT8, INT8): 3,
                (INT16, INT8): 5,
            }
        return by_types.get((data, kernel), UNKNOWN_VERSION)


def dense_values(content: bytes, shape: Sequence[int], item_bytes: int, layout: Table) -> Any:
    """Return the elements of a sparse tensor, dense: a flat array of integers of that many bytes.

    Args:
        content: The stored elements.
        shape: Of the tensor.
        item_bytes: Bytes of an element.
        layout: SparsityParameters of schema.fbs: traversal_order 0, block_map 1, dim_metadata 2;
            DimensionMetadata.format 0, .dense_size 1, .array_segments_type 2, .array_segments 3,
            .array_indices_type 4, .array_indices 5.

    Raises:
        ValueError: The layout is damaged.
    """
    import numpy as np

    values = np.frombuffer(content, f"<u{item_bytes}")
    order = _integers(layout.block(0, 4)[1], "i")
    blocked = _integers(layout.block(1, 4)[1], "i")
    levels = layout.tables(2)
    rank = len(shape)
    if len(levels) != len(order) or sorted(order) != list(range(rank + len(blocked))):
        raise ValueError("a sparse constant has an invalid traversal order")
    # Sizes and strides (in elements) of every level's axis; an axis of blocks has two.
    sizes, strides = list(shape), [1] * rank
    for axis in range(rank - 2, -1, -1):
        strides[axis] = strides[axis + 1] * shape[axis + 1]
    for number, axis in enumerate(blocked):
        level = levels[order.index(rank + number)]
        block = level.number(1, "<i")
        if not 0 <= axis < rank or axis in blocked[:number] or level.number(0, "<b"):
            raise ValueError("a sparse constant has invalid blocks")
        if block < 1 or shape[axis] % block:
            raise ValueError("a sparse constant has blocks that do not fit its shape")
        sizes.append(block)
        strides.append(strides[axis])
        sizes[axis], strides[axis] = shape[axis] // block, strides[axis] * block
    places = np.zeros(1, np.int64)
    for axis, level in zip(order, levels):
        if level.number(0, "<b") == 0:
            size = level.number(1, "<i")
            # Every place holds a value, or a row of a level below, which the file has to store.
            if size != sizes[axis] or len(places) * size > 8 * len(layout.data):
                raise ValueError("a sparse constant has an axis of another size")
            indices = np.tile(np.arange(size, dtype=np.int64), len(places))
            places = np.repeat(places, size)
        else:
            starts, indices = _index_vector(level, 2), _index_vector(level, 4)
            counts = np.diff(starts)
            if len(counts) != len(places) or (counts < 0).any() or starts[0]:
                raise ValueError("a sparse constant has invalid rows")
            if starts[-1] != len(indices) or ((indices < 0) | (indices >= sizes[axis])).any():
                raise ValueError("a sparse constant has columns beyond its shape")
            places = np.repeat(places, counts)
        places += indices * strides[axis]
    if len(places) != len(values):
        raise ValueError(f"a sparse constant has {len(values)} values for {len(places)} places")
    dense = np.zeros(sizes and int(np.prod(shape, dtype=np.int64)), values.dtype)
    dense[places] = values
    return dense


def _index_vector(level: Table, field: int) -> Any:
    """Return a SparseIndexVector of schema.fbs: 1 of int32, 2 of uint16, 3 of uint8."""
    import numpy as np

    kind, table = level.number(field, "<B"), level.table(field + 1)
    dtype = {1: "<i4", 2: "<u2", 3: "<u1"}.get(kind)
    if dtype is None or table is None:
        raise ValueError("a sparse constant has no rows or columns")
    found = np.frombuffer(table.block(0, np.dtype(dtype).itemsize)[1], dtype).astype(np.int64)
    if field == 2 and not len(found):
        raise ValueError("a sparse constant has no rows or columns")
    return found


def _integers(content: bytes, layout: str) -> list[int]:
    import struct

    return list(struct.unpack(f"<{len(content) // 4}{layout}", content))


def _vector(table: Table, field: int, item_bytes: int) -> tuple[bytes, int]:
    """Return a copy of a vector, and where it begins in it: its items at a multiple of 8 bytes."""
    content = table.block(field, item_bytes)[1]
    # A text ends with a null byte, which its length does not count.
    return b"\0" * 4 + (len(content) // item_bytes).to_bytes(4, "little") + content + b"\0", 4


def _built_table(fields: Mapping[int, Any]) -> tuple[bytes, int]:
    """Return a new table of a flatbuffer, and where it begins in it, behind its list of fields.

    Args:
        fields: Number -> the 4 bytes of a scalar, or what it refers to, with where that begins.
    """
    entry = (4 + 2 * (max(fields) + 1) + 7) // 8 * 8
    slots = {number: entry + 4 + 4 * slot for slot, number in enumerate(fields)}
    block = bytearray(entry + 4 + 4 * len(fields))
    block[entry : entry + 4] = entry.to_bytes(4, "little")
    header = [4 + 2 * (max(fields) + 1), 4 + 4 * len(fields)]
    header += [slots[number] - entry if number in slots else 0 for number in range(max(fields) + 1)]
    block[: 2 * len(header)] = b"".join(value.to_bytes(2, "little") for value in header)
    for number, slot in slots.items():
        value = fields[number]
        if isinstance(value, bytes):
            block[slot : slot + 4] = value
            continue
        content, start = value
        block += b"\0" * (-len(block) % 8)
        block[slot : slot + 4] = (len(block) + start - slot).to_bytes(4, "little")
        block += content
    return bytes(block), entry


# --- Manifests and metadata -----------------------------------------------------------------------
# Preprocessing and labels of a model: the JSON file beside it, and the metadata inside it.


def manifest_path(path: str) -> str:
    """Return the path of a model's manifest: `m.json` for `m.tflite` and `m.tflite.gz`."""
    packed = path[-3:].lower() == ".gz"
    return os.path.splitext(path[:-3] if packed else path)[0] + ".json"


def has_unknown_origin(options: Options) -> bool:
    """Return whether a model has no manifest with its digest.

    Files of other formats do not count: they are refused before a runtime loads them.
    """
    import json

    try:
        head = _head(options.model, 8)
        if head[:2] != GZIP and head[4:8] != b"TFL3":
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
    """Return the digest of a model, in hexadecimal: of one in gzip, of what is packed."""
    import hashlib

    stored = stored_model(path)
    if isinstance(stored, bytes):
        return hashlib.sha256(stored).hexdigest()
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


SOUND_KINDS = ("log-mel", "mfcc", "micro")
# Required keys of each kind of preprocessing: integers from 1 up to this limit.
REQUIRED_COUNTS: dict[str, dict[str, int]] = {
    "none": {},
    "affine": {},
    "image": {"height": 1 << 14, "width": 1 << 14},
    **{
        kind: {
            "sample_rate": 1 << 24,
            "samples": 1 << 26,
            "frame": 1 << 20,
            "hop": 1 << 26,
            "bands": 1 << 12,
            **({"coefficients": 1 << 12} if kind == "mfcc" else {}),
        }
        for kind in SOUND_KINDS
    },
}
# Allowed values of optional keys.
ALLOWED_VALUES = {"channels": (1, 3), "order": ("rgb", "bgr"), "fit": ("stretch", "crop")}
MAX_FRAMED_SAMPLES = 1 << 27  # of float64, in all frames of a recording together


def check_manifest(manifest: Any) -> None:
    """Raise a TypeError or ValueError unless the used parts of a manifest have valid types."""
    if not isinstance(manifest, dict):
        raise TypeError("It is no JSON object.")
    kinds = {"preprocessing": dict, "picture": dict, "data": dict, "labels": list, "head": dict}
    for key, kind in kinds.items():
        if not isinstance(manifest.get(key), (kind, type(None))):
            raise TypeError(f"Its {key} is {manifest[key]!r}.")
    if not all(isinstance(label, str) for label in manifest.get("labels") or ()):
        raise ValueError("A label in it is no text.")
    data = manifest.get("data") or {}
    for key in ("task", "output", "metric"):
        if not isinstance(data.get(key), (str, type(None))):
            raise TypeError(f"Its data has {key} {data[key]!r}.")
    tasks = data.get("outputs") or {}
    if not isinstance(tasks, dict) or not all(isinstance(task, str) for task in tasks.values()):
        raise TypeError(f"Its data has outputs {tasks!r}.")
    check_spec(manifest.get("preprocessing") or {})
    if manifest.get("head"):
        manifest["head"] = check_head(manifest["head"])
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
    if kind in SOUND_KINDS:
        wrong += [key for key in ("low_hz", "high_hz") if not number(spec.get(key), 0)]
        wrong += [key for key in ("floor", "std") if not number(spec.get(key, 1), 1e-38)]
        wrong += [] if number(spec.get("mean", 0)) else ["mean"]
        if not wrong and spec["frame"] > spec["samples"]:
            wrong = ["frame"]
        elif not wrong and spec["samples"] // spec["hop"] * spec["frame"] > MAX_FRAMED_SAMPLES:
            wrong = ["hop"]
        elif not wrong and not spec["low_hz"] < spec["high_hz"] <= spec["sample_rate"] / 2:
            wrong = ["high_hz"]
        elif not wrong and kind == "mfcc" and spec["coefficients"] > spec["bands"]:
            wrong = ["coefficients"]
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
    stored = stored_model(path)
    try:
        if isinstance(stored, bytes):
            content = _metadata_buffer(stored)
        else:
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
    import io
    import zipfile

    stored = stored_model(path)
    try:
        source = io.BytesIO(stored) if isinstance(stored, bytes) else stored
        with zipfile.ZipFile(source) as archive, archive.open(name) as stream:
            return parse_labels(decode_text(stream.read(1 << 24)))
    except Exception as error:  # zipfile and zlib raise many types for damaged files
        raise ValueError(f"label file {name}: {error}") from error


class Table:
    """One table of a flatbuffer (https://flatbuffers.dev/internals).

    Args:
        data: All bytes of the file.
        position: Where the table begins.
        left: How many tables may still be read: entries that all lead to one large table would
            make a small file endless.
    """

    def __init__(self, data: Any, position: int, left: list[int] | None = None) -> None:
        import struct

        self.unpack_from = struct.unpack_from
        self.data = data
        self.position = position
        self.left = [len(data)] if left is None else left
        self.fields = position - self._unpack("<i", position)
        self.end = self._unpack("<H", self.fields)

    def _unpack(self, layout: str, position: int) -> Any:
        if position < 0:
            raise ValueError("an offset leads out of the file")
        return self.unpack_from(layout, self.data, position)[0]

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
        self.left[0] -= len(content)
        if self.left[0] < 0:
            raise ValueError("its tables overlap")
        places = range(start, start + len(content), 4)
        return [Table(self.data, self._target(place), self.left) for place in places]

    def table(self, field: int) -> Table | None:
        """Return a table; None if the field is absent."""
        place = self._place(field)
        return Table(self.data, self._target(place), self.left) if place else None

    def has(self, field: int) -> bool:
        """Return whether a field is there."""
        return self._place(field) > 0

    def place(self, field: int) -> int:
        """Return where a field is, to change it.

        Raises:
            ValueError: It is absent.
        """
        if not self.has(field):
            raise ValueError("a field is missing")
        return self._place(field)


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
        takes_audio = (spec or {}).get("kind") in SOUND_KINDS
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
            f'Put "picture": {{{written}, "scale": S}} there for null: S is 1 for pixels 0 to 255, '
            "0.00392156863 for pixel / 255.",
        )

    def _recording(self, path: str) -> Iterator[Sample]:
        """Cut a recording into windows of the model's input length; a short one is padded."""
        import wave
        from functools import partial

        spec, model = self.spec or {}, self.model
        if spec.get("kind") not in SOUND_KINDS:
            raise RunnerError(
                DATA,
                f"{path} is a recording, and {model.path} has no audio preprocessing.",
                f"Its preprocessing is of kind {spec.get('kind', 'none')}, not of sound.",
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
    if spec.get("kind") in SOUND_KINDS:
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
    are floats for a model that only says how pixels are preprocessed. Raw samples that need no
    preprocessing are real values, as on the host: also where their type is the input's own.
    """

    def ready(column: StoredArray) -> bool:
        scaled = manifest.get("pixels") and column.dtype.kind == "f"
        return bool(scaled) or column.name.startswith("inputs")

    def known(column: StoredArray, tensor: Tensor) -> Mapping[str, Any]:
        spec = manifest.get("preprocessing") or {}
        if ready(column):
            return {}
        real = spec.get("kind") == "none" and tensor.scale and column.dtype == tensor.dtype
        return {"kind": "affine"} if real else spec

    return [
        Preprocessor(known(column, tensor), tensor) for column, tensor in zip(columns, model.inputs)
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
            affine, image, log-mel, mfcc, micro; the other keys are those of that kind's function.

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
    if kind == "mfcc":
        return mfcc(raw, spec)
    if kind == "micro":
        return micro_features(raw, spec)
    raise ValueError(f"unknown preprocessing {kind!r}; known: {', '.join(REQUIRED_COUNTS)}")


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
        orientation = picture_orientation(image)
        with SilenceStderr():  # libtiff complains on file descriptor 2; Pillow then raises
            image.load()
        pixels = _to_pixels(image, grey=grey)
        if orientation != 1 and _pillow_turns_tiffs():
            return (
                pixels
                if upright
                else turn_upright(pixels, {6: 8, 8: 6}.get(orientation, orientation))
            )
    else:
        image.load()
        pixels = _to_pixels(image, grey=grey)
        orientation = picture_orientation(image)  # which a PNG may hold behind its pixels
    return turn_upright(pixels, orientation) if upright else pixels


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


def picture_orientation(image: Any) -> int:
    """Return the Exif tag `Orientation` of a PIL image, 1 (upright) to 8."""
    # Pillow before 6.0 reads it of JPEG only.
    read: Any = getattr(image, "getexif", getattr(image, "_getexif", dict))
    try:
        value = (read() or {}).get(0x0112, 1)
    except Exception:  # a damaged tag does not make the pixels unreadable
        return 1
    return value if value in range(1, 9) else 1


def turn_upright(pixels: Any, orientation: int) -> Any:
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
    return _standardized(_log_energies(audio, spec), spec)


def _log_energies(audio: Any, spec: Mapping[str, Any]) -> Any:
    """Return `log(energy + floor)` of each frame and band, float64 `[frames, bands]`."""
    import numpy as np

    # In float64 throughout: numpy 1 always computes the FFT so, numpy 2 only when asked to.
    frames = _frames(_mono(audio), spec, np.float64) * np.hanning(spec["frame"])
    power = np.abs(np.fft.rfft(frames)) ** 2
    return np.log(power @ _mel_filters(spec) + spec.get("floor", 1e-6))


def _mono(audio: Any) -> Any:
    """Return a recording as floats; int16 is divided by 32768.

    Raises:
        ValueError: It is not one channel.
    """
    import numpy as np

    audio = _require_numbers(np.asarray(audio))
    if audio.ndim != 1:
        raise ValueError(f"audio has shape [n], not {list(audio.shape)}")
    return audio / 32768.0 if audio.dtype == np.int16 else audio


def _frames(audio: Any, spec: Mapping[str, Any], dtype: Any) -> Any:
    """Cut a recording, or what is padded with zeros, into frames `[frames, frame]`."""
    import numpy as np

    samples, frame, hop = spec["samples"], spec["frame"], spec["hop"]
    signal = np.zeros(samples, dtype)
    clip = audio[:samples]
    signal[: len(clip)] = clip
    starts = np.arange(1 + (samples - frame) // hop) * hop
    return signal[starts[:, None] + np.arange(frame)]


def _standardized(features: Any, spec: Mapping[str, Any]) -> Any:
    """Return `(features - mean) / std`, float32 `[frames, features, 1]`."""
    import numpy as np

    normal = (features - spec.get("mean", 0)) / spec.get("std", 1)
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


# --- Sound features -------------------------------------------------------------------------------
# Also the host's: edgekit's data imports them.


def mfcc(audio: Any, spec: Mapping[str, Any]) -> Any:
    """Return mel-frequency cepstral coefficients, frame by frame.

    Of the logarithms `m` of the energies in `bands` mel bands (`log_mel` before `mean` and `std`):
    `c[k] = sqrt(2 / bands) * sum(m[n] * cos(pi * k * (n + 0.5) / bands))`, the DCT-II of the HTK
    book (equation 5.14), as `tf.signal.mfccs_from_log_mel_spectrograms` computes it; then
    `(c - mean) / std`.

    Args:
        audio: As of `log_mel`.
        spec: As of `log_mel`, and `coefficients`: how many are kept, from `c[0]`.

    Returns:
        float32 `[1 + (samples - frame) // hop, coefficients, 1]`.

    Raises:
        ValueError: The audio is not one channel.
    """
    import numpy as np

    bands, kept = spec["bands"], np.arange(spec["coefficients"])
    angles = np.pi / bands * (np.arange(bands)[:, None] + 0.5) * kept
    return _standardized(_log_energies(audio, spec) @ (np.sqrt(2 / bands) * np.cos(angles)), spec)


# Of the micro front end, as ESPHome and microWakeWord configure it.
MICRO_WINDOW_BITS = 12
MICRO_FILTER_BITS = 12
MICRO_NOISE_BITS = 14
MICRO_SMOOTHING_BITS = 10
MICRO_SMOOTHING = (0.025, 0.06)  # of bands with even and odd numbers
MICRO_LEAST_SIGNAL = 0.05
MICRO_GAIN = (0.95, 80.0, 21)  # strength, offset, bits
MICRO_SNR_BITS = 12
MICRO_OUTPUT_BITS = 6
MICRO_LOG_SHIFT = 6
MICRO_STEP = 0.0390625  # of a feature: 10 / 256
MICRO_FILTERS: dict[tuple[Any, ...], Any] = {}  # the last ones, by what they depend on


def micro_features(audio: Any, spec: Mapping[str, Any]) -> Any:
    """Return the features of TFLite Micro's audio front end, frame by frame, bit for bit.

    A Hann window, an FFT of 16-bit integers, triangular mel filters, square roots, noise
    reduction, per-channel amplitude normalization (PCAN, Wang et al. 2017, "Trainable Frontend For
    Robust and Far-Field Keyword Spotting") and a logarithm, all in integers
    (`tensorflow/lite/experimental/microfrontend` with kissfft). The noise estimate begins anew
    with each window of `samples`.

    Args:
        audio: As of `log_mel`; floats are multiplied by 32768 and rounded.
        spec: `sample_rate`, `samples`, `frame`, `hop`, `bands`, `low_hz`, `high_hz`; and `mean`
            and `std` for what comes out, 10 / 256 times the integers.

    Returns:
        float32 `[1 + (samples - frame) // hop, bands, 1]`.

    Raises:
        ValueError: The audio is not one channel, or the bands reach the end of the spectrum.
    """
    import numpy as np

    codes = np.clip(np.rint(_mono(audio) * 32768.0), -32768, 32767)
    frames = _frames(codes, spec, np.int64)
    # Constants are rounded to float32 at each step, where the C code rounds them.
    single, half = np.float32, np.float32(0.5)
    angles = single(2 * np.pi / spec["frame"]) * (np.arange(spec["frame"]).astype(single) + half)
    window = half - half * np.cos(angles.astype(np.float64)).astype(single)
    window = np.floor(window * single(1 << MICRO_WINDOW_BITS) + half).astype(np.int64)
    frames = frames * window >> MICRO_WINDOW_BITS
    # The quantized window shifts each frame to 16 bits for the FFT; undone behind the square root.
    shift = 15 - _bit_length(np.abs(frames.astype(np.int16)).max(axis=1).clip(0))
    size = 4
    while size < spec["frame"]:
        size *= 2
    padded = np.zeros((len(frames), size), np.int64)
    padded[:, : spec["frame"]] = frames << shift[:, None]
    spectrum = _fft_of_int16(_to_int16(padded))
    energy = spectrum[..., 0] ** 2 + spectrum[..., 1] ** 2
    key = (*(spec[name] for name in ("sample_rate", "bands", "low_hz", "high_hz")), size)
    if key not in MICRO_FILTERS:  # their logarithms take longer than a second of sound
        MICRO_FILTERS.clear()
        MICRO_FILTERS[key] = _micro_filters(spec, size // 2 + 1)
    weights, rest = MICRO_FILTERS[key]
    work = energy @ weights[:, 1:] + energy @ rest[:, :-1]
    signal = _rounded_root(work) >> shift[:, None]
    return _standardized(_micro_scaled(signal, size) * MICRO_STEP, spec)


def _to_int16(values: Any) -> Any:
    """Return integers wrapped to 16 bits, as int64."""
    import numpy as np

    return values.astype(np.int16).astype(np.int64)


def _bit_length(values: Any) -> Any:
    """Return the number of bits of integers from 0 to 2 ** 53; 0 has none."""
    import numpy as np

    return np.frexp(values.astype(np.float64))[1].astype(np.int64)


def _rounded_root(values: Any) -> Any:
    """Return square roots of integers below 2 ** 63, rounded to nearest as the front end does."""
    import numpy as np

    root = np.sqrt(values.astype(np.float64)).astype(np.int64)
    root -= root * root > values
    root += (root + 1) * (root + 1) <= values
    full = (values < 1 << 32) & (root == 0xFFFF)  # the 32-bit function has no room to round up
    return root + ((values - root * root > root) & ~full)


def _fft_of_int16(signal: Any) -> Any:
    """Return the spectra of 16-bit signals, as kissfft computes them with `FIXED_POINT=16`.

    Args:
        signal: int64 `[n, size]` in the range of int16; `size` a power of two from 4.

    Returns:
        int64 `[n, size // 2 + 1, 2]`, real and imaginary parts, divided by `size`.
    """
    import numpy as np

    half = signal.shape[1] // 2
    packed = _kiss_fft(signal.reshape(len(signal), half, 2), half)
    halved = _kiss_divided(packed, 2)
    found = np.zeros((len(signal), half + 1, 2), np.int64)
    found[:, 0, 0] = halved[:, 0, 0] + halved[:, 0, 1]
    found[:, half, 0] = halved[:, 0, 0] - halved[:, 0, 1]
    k = np.arange(1, half // 2 + 1)
    near = halved[:, k]
    # Negated before it is divided, which rounds the other way.
    far = _kiss_divided(_to_int16(packed[:, half - k] * [1, -1]), 2)
    total, difference = _to_int16(near + far), _to_int16(near - far)
    turned = _kiss_product(difference, _kiss_circle(-np.pi * (k / half + 0.5)))
    found[:, k] = total + turned >> 1
    found[:, half - k, 0] = total[..., 0] - turned[..., 0] >> 1
    found[:, half - k, 1] = turned[..., 1] - total[..., 1] >> 1
    return _to_int16(found)


def _kiss_fft(values: Any, size: int) -> Any:
    """Return the complex FFT `[n, m, 2]` of `values`, one of those within an FFT of `size`."""
    import numpy as np

    m = values.shape[1]
    if m == 1:
        return values
    radix = 4 if m % 4 == 0 else 2
    parts = [_kiss_divided(_kiss_fft(values[:, q::radix], size), radix) for q in range(radix)]
    step = size // m
    circle = _kiss_circle(-2 * np.pi / size * np.arange(size))
    turned = [
        _kiss_product(part, circle[np.arange(m // radix) * step * q])
        for q, part in enumerate(parts)
        if q
    ]
    if radix == 2:
        return _to_int16(np.concatenate([parts[0] + turned[0], parts[0] - turned[0]], axis=1))
    even, odd = _to_int16(parts[0] + turned[1]), _to_int16(parts[0] - turned[1])
    total, difference = _to_int16(turned[0] + turned[2]), _to_int16(turned[0] - turned[2])
    across = difference[..., ::-1] * [1, -1]
    return _to_int16(
        np.concatenate([even + total, odd + across, even - total, odd - across], axis=1)
    )


def _kiss_circle(phases: Any) -> Any:
    import numpy as np

    return np.floor(0.5 + 32767 * np.stack([np.cos(phases), np.sin(phases)], axis=-1)).astype(
        np.int64
    )


def _kiss_divided(values: Any, by: int) -> Any:
    return _to_int16(values * (32767 // by) + (1 << 14) >> 15)


def _kiss_product(a: Any, b: Any) -> Any:
    import numpy as np

    real = a[..., 0] * b[..., 0] - a[..., 1] * b[..., 1]
    imaginary = a[..., 0] * b[..., 1] + a[..., 1] * b[..., 0]
    return _to_int16(np.stack([real, imaginary], axis=-1) + (1 << 14) >> 15)


def _micro_filters(spec: Mapping[str, Any], bins: int) -> Any:
    """Return weights of each bin in the band that it ends, and in the next: `[bins, bands + 1]`."""
    import math

    import numpy as np

    single = np.float32

    def mel(hertz: Any) -> Any:
        return single(1127) * _log1p_of_float32(single(hertz) / single(700))

    bands = spec["bands"] + 1
    low, high = mel(single(spec["low_hz"])), mel(single(spec["high_hz"]))
    spacing = single((high - low) / single(bands))
    centres = [single(low + single(spacing * single(i + 1))) for i in range(bands)]
    width = single(0.5 * spec["sample_rate"] / (bins - 1))
    begin = int(1.5 + np.float64(single(spec["low_hz"]) / width))
    weights = np.zeros((2, bins, bands), np.int64)
    for band, (last, centre) in enumerate(zip([low, *centres], centres)):
        while mel(single(begin) * width) <= centre:
            if begin >= bins - 1:
                raise ValueError(f"high_hz {spec['high_hz']}: bands beyond the spectrum")
            share = (centre - mel(single(begin) * width)) / (centre - last)
            weights[:, begin, band] = [
                math.floor(part * single(1 << MICRO_FILTER_BITS) + single(0.5))
                for part in (share, single(1) - share)
            ]
            begin += 1
    return weights


def _log1p_of_float32(x: Any) -> Any:
    """Return `log1pf` of a float32 from 0, as the C library of most devices computes it.

    That is the function of fdlibm (Sun Microsystems, 1993), which is up to one unit of the last
    place off; a weight of a filter may depend on it.
    """
    import numpy as np

    single, one, half = np.float32, np.float32(1), np.float32(0.5)
    exponent, f, c = 0, x, single(0)
    if x >= single(0.41421354):  # from sqrt(2) - 1 the power of two is split off
        u = one + x
        mantissa, exponent = np.frexp(u)
        f, exponent = single(2) * mantissa, int(exponent) - 1
        c = (one - (u - x) if exponent > 0 else x - (u - one)) / u
        if int(f.view(np.int32)) & 0x7FFFFF >= 0x3504F7:  # sqrt(2)
            f, exponent = half * f, exponent + 1
        f -= one
    h, s = half * f * f, f / (single(2) + f)
    r, z = single(0), s * s
    for factor in (
        0.14798198640, 0.15313838422, 0.18183572590, 0.22222198546, 0.28571429849,
        0.40000000596, 0.66666668653,
    ):  # fmt: skip
        r = z * (single(factor) + r)
    if exponent == 0:
        return f - (h - s * (h + r))
    high, low = single(0.69313812256), single(9.0580006145e-06)  # log(2), in two parts
    k = single(exponent)
    return k * high - ((h - (s * (h + r) + (k * low + c))) - f)


def _micro_scaled(signal: Any, size: int) -> Any:
    """Return `signal` `[frames, bands]` after noise reduction, gain control and logarithm."""
    import numpy as np

    one = 1 << MICRO_NOISE_BITS
    odd = np.arange(signal.shape[1]) % 2 == 1
    even_part, odd_part = (int(np.float32(part) * np.float32(one)) for part in MICRO_SMOOTHING)
    smoothing = np.where(odd, odd_part, even_part)
    least = int(np.float32(MICRO_LEAST_SIGNAL) * np.float32(one))
    correction = int(_bit_length(np.array(size))) - 1 - MICRO_FILTER_BITS // 2
    table = _micro_gains(MICRO_SMOOTHING_BITS - correction)
    estimate = np.zeros(signal.shape[1], np.int64)
    cleaned, gains = np.empty_like(signal), np.empty_like(signal)
    for frame, values in enumerate(signal):
        large = values << MICRO_SMOOTHING_BITS & 0xFFFFFFFF
        estimate = large * smoothing + estimate * (one - smoothing) >> MICRO_NOISE_BITS
        left = large - np.minimum(estimate, large) >> MICRO_SMOOTHING_BITS
        cleaned[frame] = np.maximum(left, values * least >> MICRO_NOISE_BITS)
        gains[frame] = _micro_gain(estimate, table)
    snr_shift = MICRO_GAIN[2] - correction - MICRO_SNR_BITS
    ratio = (cleaned * gains >> snr_shift) & 0xFFFFFFFF
    small = ratio * ratio >> 2 + 2 * MICRO_SNR_BITS - MICRO_OUTPUT_BITS
    large = (ratio >> MICRO_SNR_BITS - MICRO_OUTPUT_BITS) - (1 << MICRO_OUTPUT_BITS)
    shrunk = np.where(ratio < 2 << MICRO_SNR_BITS, small, large)
    value = shrunk << correction if correction >= 0 else shrunk >> -correction
    return np.minimum(_micro_log(value & 0xFFFFFFFF), 0xFFFF)


def _micro_gains(bits: int) -> Any:
    """Return the table of gains: value, slope and curvature on each interval of powers of two."""
    import numpy as np

    strength, offset, gain_bits = MICRO_GAIN

    def gain(x: Any) -> Any:
        base = np.float32(np.float32(x) / np.float32(2.0**bits)) + np.float32(offset)
        power = np.float32(np.float64(base) ** -np.float64(np.float32(strength)))
        return int(np.minimum(np.float32(1 << gain_bits) * power + np.float32(0.5), 32767))

    table = [[gain(0), 0, 0], [gain(1), 0, 0]]
    for interval in range(2, 33):
        first = 1 << interval - 1
        last = first + first - 1 if interval == 32 else 2 * first
        y0, y1, y2 = gain(first), gain(first + first // 2), gain(last)
        slope = 4 * (y1 - y0) - (y2 - y0)
        table.append([y0, slope, y2 - y0 - slope])
    return _to_int16(np.array(table))


def _micro_gain(estimate: Any, table: Any) -> Any:
    import numpy as np

    interval = _bit_length(estimate)
    value, slope, curve = table[np.where(estimate <= 1, estimate, interval)].T
    up, down = np.maximum(11 - interval, 0), np.maximum(interval - 11, 0)
    part = (estimate << up >> down) & 0x3FF
    bent = ((curve * part >> 5) + (slope << 5)) * part + (1 << 14) >> 15
    return np.where(estimate <= 2, value, _to_int16(bent + value))


def _micro_log(value: Any) -> Any:
    """Return the natural logarithm times 64 of integers of 32 bits, 0 for 0 and 1."""
    import numpy as np

    exponent = np.maximum(_bit_length(value) - 1, 0)
    part = value - (1 << exponent) << 16 >> exponent
    share = np.arange(129) / 128
    table = np.rint((np.log2(1 + share) - share) * 65536).astype(np.int64)
    segment = np.minimum(part >> 9, 127)
    low, high = table[segment], table[segment + 1]
    between = (high - low) * (part - (segment << 9)) >> 16
    log2 = (exponent << 16) + part + low + between
    natural = 45426 * log2 + 32768 >> 16  # log(2) * 65536
    return np.where(value > 1, (natural << MICRO_LOG_SHIFT) + 32768 >> 16, 0)


# --- Codes of an input ----------------------------------------------------------------------------
# From samples to what `set_tensor` takes.


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


def own_bytes() -> int:
    """Return the memory of this process that is not mapped from a file; 0 if the system is silent.

    The code of a runtime, which is mapped, is read from flash as it is first used: it would count
    as memory of the first model. What was freed is given back first: a model in its place would not
    count.
    """
    import ctypes

    # Only glibc has it.
    trim = getattr(ctypes.CDLL(None), "malloc_trim", None) if sys.platform == "linux" else None
    if trim:
        trim(0)
    # The other counters of Linux are exact to some 100 kB only.
    found = _kernel_field("/proc/self/smaps_rollup", "Anonymous").split()
    return int(found[0]) * 1024 if found else 0


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
    stored, flash_bytes = stored_model(path), os.path.getsize(path)
    size_bytes = len(stored) if isinstance(stored, bytes) else flash_bytes
    return {"model": path, "sha256": digest, "size_bytes": size_bytes, "flash_bytes": flash_bytes}


# --- Output ---------------------------------------------------------------------------------------
# Printing text and JSON on stdout, and messages on stderr.


def _print_result(answer: Any) -> None:
    if isinstance(answer, dict):
        _write_stdout(_to_json(answer))
    else:
        width = _columns(sys.stdout)
        _write_stdout("\n".join(part for line in answer for part in fold(plain(line), width)))


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
    if "\r" not in text:
        width = _columns(sys.stderr)
        text = "\n".join(part for line in text.split("\n") for part in fold(line, width))
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


def _columns(stream: Any) -> int | None:
    """Return to how many columns lines are folded: COLUMNS, or a terminal's; None in a pipe."""
    said = os.environ.get("COLUMNS", "")
    if said.isascii() and said.isdigit() and int(said):
        return int(said)
    try:
        return os.get_terminal_size(stream.fileno()).columns or None
    except (OSError, ValueError, AttributeError):  # no terminal, or closed
        return None


def fold(line: str, width: int | None) -> list[str]:
    """Return a line in lines of a width; a word, and a command in it, stays whole.

    `fold("  labels: red, green", 16)` is `["  labels: red,", "    green"]`.
    """
    if width is None or len(line) <= width:
        return [line]
    indent = line[: len(line) - len(line.lstrip())]
    lines: list[str] = []
    made = ""
    for piece in _pieces(line.strip()):
        if not made and not piece:
            continue
        start = indent + ("  " if lines else "")
        if made and len(made) + 1 + len(piece) > width and len(start) + 2 + len(piece) <= width:
            lines.append(made.rstrip())
            made = ""
            start = indent + "  "
        made = f"{made} {piece}" if made else start + piece
        if len(made) > width:  # what fits on no line stays where it is
            lines.append(made)
            made = ""
    return [*lines, made.rstrip()] if made else lines


def _pieces(text: str) -> list[str]:
    """Return the words of a line; those of a command, up to a stop, are one."""
    pieces: list[str] = []
    is_command = False
    for word in text.split(" "):
        if is_command:
            pieces[-1] += f" {word}"
            is_command = word[-1:] not in {".", ",", ";", ":"}
        else:  # or nothing, between two spaces
            pieces.append(word)
            is_command = word in {"edgekit", "pip", "sudo", os.path.basename(sys.executable)}
    return pieces


def _wrapped(name: str, *phrases: str) -> list[str]:
    """Return a name and comma-separated phrases, wrapped to 80 columns at most with an indent."""
    width = min(WIDTH, _columns(sys.stdout) or WIDTH)
    lines, line = [], f"  {name:10}"
    for position, phrase in enumerate(phrases):
        text = phrase if position == len(phrases) - 1 else phrase + ","
        if position and len(line) + 1 + len(text) > width:
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
        lacks = "Not every model has a" if options.others else f"{options.model} has no"
        write_stderr(plain(f"{lacks} manifest with its digest: tried in a child process."))
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
    model = ", or ".join((options.model, *options.others))
    if name == "SIGALRM" and limit:
        return RunnerError(
            MODEL,
            f"{model} does not finish its first run in {limit} s.",
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
    return RunnerError(MODEL, f"{model} crashes the runtime.", found, hint)


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
                options.unknown_origin = has_unknown_origin(options) or any(
                    has_unknown_origin(one_model(options, path)) for path in options.others
                )
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

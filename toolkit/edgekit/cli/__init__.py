"""The command line. The only place where an exception becomes an exit code."""

from __future__ import annotations

import io
import sys
from collections.abc import Callable

import typer

from edgekit.cli import deploy, inspect, measure, model, passes, project, report
from edgekit.errors import EdgekitError
from edgekit.printable import one_line

# What Typer itself makes of Ctrl-C inside a command.
INTERRUPTED = 130

app = typer.Typer(
    name="edgekit",
    # Plain help is three times as fast to start as decorated help, and can be piped.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
    no_args_is_help=True,
    add_completion=False,
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(wanted: bool) -> None:
    if wanted:
        from edgekit import __version__

        print(f"edgekit {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    *,
    version: bool = typer.Option(
        False, "--version", is_eager=True, callback=_print_version, help="Print the version."
    ),
    debug: bool = typer.Option(False, "--debug", help="Show tracebacks of errors."),
) -> None:
    """From a trained Keras model to the smallest TFLite file that keeps its accuracy.

    \b
    edgekit demo                                  the main job, on data it brings
    edgekit quantize model.keras --data data.npz  every variant, and which to ship
    edgekit bench quantized/model/int8.tflite     latency, here

    Exit codes: 0 done, 1 a bug, 2 usage, 3 model, 4 data, 5 conversion,
    6 a budget is unmet, 7 device or runtime, 130 interrupted.

    Environment: EDGEKIT_MODEL_TIMEOUT, seconds that loading or lowering a model may
    take (default 1800).
    """
    _ = version, debug  # acted on by the callback, and by `run`, which knows before parsing


_COMMANDS: dict[str, Callable[..., None]] = {
    "demo": project.demo,
    "train": model.train,
    "import": model.import_,
    "prune": passes.prune,
    "shrink": passes.shrink,
    "cluster": passes.cluster,
    "qat": passes.qat,
    "compress": passes.compress,
    "quantize": model.quantize,
    "inspect": inspect.inspect,
    "eval": measure.eval_,
    "bench": measure.bench,
    "deploy": deploy.deploy,
    "report": report.report,
    "doctor": project.doctor,
}
for command, function in _COMMANDS.items():
    app.command(command)(function)


def main(arguments: list[str] | None = None) -> None:
    """Run a command, and leave with its exit code."""
    words = sys.argv[1:] if arguments is None else arguments
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # Names hold what a terminal's encoding may lack, and bytes that no encoding has.
            stream.reconfigure(errors="backslashreplace")
    sys.exit(run(words))


def run(words: list[str]) -> int:
    """Run a command; return its exit code."""
    debug = "--debug" in words
    # One flag for every command, wherever it stands.
    words = [word for word in words if word != "--debug"]
    try:
        code = app(args=words, prog_name="edgekit", standalone_mode=False, obj=words)
    except EdgekitError as error:
        if debug:
            raise
        _complain(str(error))
        return error.exit_code
    except typer.exceptions.TyperException as error:
        said = error.format_message() if hasattr(error, "format_message") else str(error)
        _complain(one_line(said), _usage_hint(error))
        return 2
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except BrokenPipeError:
        # The reader of our output has gone (`edgekit ... | head`): not an error of ours.
        sys.stderr.close()
        return 0
    if code == INTERRUPTED:
        _complain("Interrupted; nothing half-written was left.")
    return code if isinstance(code, int) else 0


def _complain(*lines: str) -> None:
    for line in lines:
        for part in line.splitlines():
            print(part, file=sys.stderr)


def _usage_hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"See: {context.command_path if context else 'edgekit'} --help"

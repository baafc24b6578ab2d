"""The command line. The only place where an exception becomes an exit code."""

from __future__ import annotations

import errno
import sys
from contextlib import suppress

import typer

from edgekit import interruption
from edgekit.cli import streams
from edgekit.cli.commands import SETTINGS, CommandGroup
from edgekit.errors import EdgekitError, OutputError
from edgekit.interruption import INTERRUPTED  # also what Typer makes of Ctrl-C in a command
from edgekit.printable import one_line

app = typer.Typer(name="edgekit", cls=CommandGroup, no_args_is_help=True, **SETTINGS)


def _print_version(wanted: bool) -> None:
    if wanted:
        from edgekit import __version__
        from edgekit.cli.output import put

        put(f"edgekit {__version__}")
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
    6 a budget is unmet, 7 device or runtime; 130, 143, 129 interrupted by SIGINT (Ctrl-C),
    SIGTERM, SIGHUP.

    Environment: EDGEKIT_MODEL_TIMEOUT, seconds that loading or lowering a model may
    take (default 1800).
    """
    _ = version, debug  # acted on by the callback, and by `run`, which knows before parsing


def main(arguments: list[str] | None = None) -> None:
    """Run a command, and leave with its exit code."""
    interruption.install()
    streams.secure()
    code = run(sys.argv[1:] if arguments is None else arguments)
    interruption.finish()
    try:
        streams.flush()
    except streams.ReaderGoneError:
        pass
    except OutputError as error:
        if code == 0:
            _complain(str(error))
            code = error.exit_code
    sys.exit(code)


def run(words: list[str]) -> int:
    """Run a command; return its exit code."""
    debug = "--debug" in words
    # One flag for every command, wherever it stands.
    words = [word for word in words if word != "--debug"]
    try:
        code = _outcome(words)
    except (KeyboardInterrupt, typer.Abort):
        code = INTERRUPTED
    except OSError as error:
        if debug or error.errno not in {errno.ENOSPC, errno.EDQUOT}:
            raise
        where = error.filename or "a temporary file"
        code = _told(
            OutputError(
                f"Cannot write {where}: {error.strerror}.",
                hint="Free some space there; TMPDIR names the folder of temporary files.",
            )
        )
    except Exception as error:
        # What is interrupted in native code, an import for one, fails in words of its own.
        if debug or (interruption.exit_code() is None and not isinstance(error, EdgekitError)):
            raise
        code = INTERRUPTED if interruption.exit_code() else _told(error)
    if code == INTERRUPTED:
        interruption.finish()
        _complain(interruption.words())
        return interruption.exit_code() or INTERRUPTED
    return code


def _outcome(words: list[str]) -> int:
    try:
        code = app(args=words, prog_name="edgekit", standalone_mode=False, obj=words)
    except typer.exceptions.TyperException as error:
        said = error.format_message() if hasattr(error, "format_message") else str(error)
        _complain(one_line(said), _usage_hint(error))
        return 2
    except MemoryError as error:
        if "--debug" in sys.argv:
            raise
        _complain(
            "There is not enough memory.",
            f"{error}." if str(error) else "An allocation failed.",
            "Free memory, raise the limit (ulimit -v), or give smaller or fewer samples.",
        )
        return 4
    except streams.ReaderGoneError:
        return 0
    return code if isinstance(code, int) else 0


def _told(error: Exception) -> int:
    assert isinstance(error, EdgekitError)
    _complain(str(error))
    return error.exit_code


def _complain(*lines: str) -> None:
    from edgekit.cli.output import say

    with suppress(OutputError, streams.ReaderGoneError):  # an error is told already
        streams.flush()  # where both streams go to one log, what was printed first stands first
    say(*(part for line in lines for part in line.splitlines()), error=True)


def _usage_hint(error: Exception) -> str:
    context = getattr(error, "ctx", None)
    return f"See: {context.command_path if context else 'edgekit'} --help"

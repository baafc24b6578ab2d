"""Which commands there are; the module of each is imported when the command is asked for.

`edgekit --help` prints the summaries that stand here, so it imports no command at all. A new
command is a line in `COMMANDS` and its function.
"""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping
from importlib import import_module
from typing import TYPE_CHECKING, Any, NamedTuple

import typer
import typer.core

from edgekit.errors import UsageError

if TYPE_CHECKING:
    from typer._click import Command as ClickCommand
    from typer._click import Context, HelpFormatter


class Command(NamedTuple):
    """Where a command is, and what it does.

    Attributes:
        module: The module below `edgekit.cli`.
        function: The function there.
        summary: The first line of its help.
        reads_archives: Whether it reads models or data, and so takes `--max-unpacked`.
    """

    module: str
    function: str
    summary: str
    reads_archives: bool = True


COMMANDS: dict[str, Command] = {
    "demo": Command(
        "project", "demo", "Do the main job on digits and a CNN that come along.", False
    ),
    "train": Command("model", "train", "Train an architecture of the zoo, or a model.toml."),
    "import": Command("model", "import_", "Turn any source into a verified float32 .tflite."),
    "adapt": Command(
        "adapt", "adapt", "Replace the layers of a model that a target does not take."
    ),
    "prune": Command("passes", "prune", "Set the smallest weights to zero: a smaller download."),
    "shrink": Command("passes", "shrink", "Remove whole channels: smaller and faster everywhere."),
    "cluster": Command(
        "passes", "cluster", "Give each kernel few distinct weights: a smaller download."
    ),
    "qat": Command(
        "passes",
        "qat",
        "Train the model as its int8 file will compute: int8 that keeps the accuracy.",
    ),
    "compress": Command(
        "passes",
        "compress",
        "Take a model through a recipe: adapt, shrink, prune, cluster, qat, quantize.",
    ),
    "quantize": Command("model", "quantize", "Make every variant, and say which one to ship."),
    "sensitivity": Command(
        "accuracy", "sensitivity", "Measure what each operator costs, and write a recipe for it."
    ),
    "compare": Command(
        "accuracy", "compare", "Compare two models operator by operator: where do they part?"
    ),
    "rebuild": Command(
        "rebuild", "rebuild", "Make a file again from its manifest, and compare the bytes."
    ),
    "expand": Command(
        "expand", "expand", "Unpack a small file for a runtime without the runner.", False
    ),
    "export": Command(
        "export", "export", "Write a model as C sources for a microcontroller.", True
    ),
    "inspect": Command(
        "inspect", "inspect", "Show operators, sizes and predicted accelerator support.", False
    ),
    "eval": Command("measure", "eval_", "Score .tflite files on the test split."),
    "bench": Command(
        "measure", "bench", "Measure the latency of .tflite files, here or on a device.", False
    ),
    "check": Command(
        "gate", "check", "Check a .tflite file against limits: exit code 6 where one is unmet."
    ),
    "diff": Command(
        "gate",
        "diff",
        "Compare an old .tflite file with a new one, as Markdown for a pull request.",
    ),
    "verify": Command(
        "verify", "verify", "Derive the figures of a bundle again, and compare: exit code 6 if not."
    ),
    "deploy": Command(
        "deploy", "deploy", "Score and time .tflite files on devices, over SSH; or run them there."
    ),
    "report": Command(
        "report", "report", "Merge results of other commands into one report.", False
    ),
    "doctor": Command(
        "project", "doctor", "Say what is here, and the hint for what is not.", False
    ),
}

SEVERAL_ELSEWHERE = frozenset({"--target", "--mode", "--device", "--recipe"})
"""Options that some commands take several times. The others refuse a second one: it would silently
replace the first, and a build would believe that both were looked at."""

SETTINGS: dict[str, Any] = {
    # Plain help is three times as fast to start as decorated help, and can be piped.
    "rich_markup_mode": None,
    "pretty_exceptions_enable": False,
    "add_completion": False,
    "context_settings": {"help_option_names": ["-h", "--help"]},
}


class _OneEach(typer.core.TyperCommand):
    """A command that refuses a second value of what it takes once and other commands repeat."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Parse the words of a command line.

        Raises:
            UsageError: One of `SEVERAL_ELSEWHERE` is given again.
        """
        for own in () if ctx.resilient_parsing else self.get_params(ctx):
            for option in SEVERAL_ELSEWHERE.intersection(own.opts):
                given = self.make_parser(ctx).parse_args(list(args))[2]
                if not own.multiple and (times := given.count(own)) > 1:
                    raise UsageError(
                        f"{option} is given {times} times; edgekit {self.name} takes one.",
                        hint="Run it once for each.",
                    )
        return super().parse_args(ctx, args)


def load(name: str) -> ClickCommand:
    """Import a command's module, and build the command."""
    from edgekit.cli import groups, options

    entry = COMMANDS[name]
    module = import_module(f"edgekit.cli.{entry.module}")
    function = groups.with_groups(getattr(module, entry.function))
    app = typer.Typer(**SETTINGS)
    app.command(name, cls=_OneEach)(
        options.with_unpacked_limit(function) if entry.reads_archives else function
    )
    return typer.main.get_command(app)


class _Loaded(MutableMapping[str, "ClickCommand"]):
    """Name -> command, in the order of `COMMANDS`; each is loaded when it is taken."""

    def __init__(self) -> None:
        self._commands: dict[str, ClickCommand] = {}

    def __getitem__(self, name: str) -> ClickCommand:
        if name not in COMMANDS:
            raise KeyError(name)
        if name not in self._commands:
            self._commands[name] = load(name)
        return self._commands[name]

    def __setitem__(self, name: str, command: ClickCommand) -> None:
        self._commands[name] = command

    def __delitem__(self, name: str) -> None:
        del self._commands[name]

    def __iter__(self) -> Iterator[str]:
        return iter(COMMANDS)

    def __len__(self) -> int:
        return len(COMMANDS)


class CommandGroup(typer.core.TyperGroup):
    """The group of all commands, which imports none before it is called."""

    def __init__(self, **settings: Any) -> None:
        super().__init__(**settings)
        self.commands = _Loaded()

    def list_commands(self, ctx: Context) -> list[str]:
        """Return the names, in the order of `COMMANDS`."""
        _ = ctx
        return list(COMMANDS)

    def format_commands(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Write the list of commands from their summaries."""
        _ = ctx
        with formatter.section("Commands"):
            formatter.write_dl([(name, command.summary) for name, command in COMMANDS.items()])

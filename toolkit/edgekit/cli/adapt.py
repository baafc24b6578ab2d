"""The command `edgekit adapt`."""

from __future__ import annotations

import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from edgekit.cli.output import figures, say
from edgekit.cli.training_options import (
    BEFORE,
    PossibleOutput,
    pass_arguments,
    pass_command,
    tell_checkpoint,
)
from edgekit.printable import one_line, printable
from edgekit.recipe.steps import Adapt, PassStep

if TYPE_CHECKING:
    from edgekit.pipeline.adapt import Adaptation
    from edgekit.pipeline.swap_plan import SwapPlan

_DryRun = Annotated[
    bool, typer.Option("--dry-run", help="Only say what would be replaced; needs no --output.")
]
_MOST = 400  # characters of a line, before it is wrapped


def _run(step: PassStep, given: dict[str, Any]) -> None:
    """Replace layers, and print what that did."""
    from edgekit import api
    from edgekit.cli.progress import listening
    from edgekit.errors import UsageError

    assert isinstance(step, Adapt)
    output: Path | None = given["output"]
    dry = given["dry_run"]
    if output is None and not dry:
        raise UsageError(
            "There is no file to write.", hint="Give --output F.keras, or --dry-run to look only."
        )
    if dry and given["resume"]:
        raise UsageError("--resume has no effect with --dry-run.", hint="Leave one of them out.")
    started = time.time()
    try:
        with listening(quiet=given["quiet"]) as listener:
            done = api.adapt(
                given["source"],
                step,
                output=None if dry else output,
                **pass_arguments(given),
                listener=listener,
                on_plan=_print_plan,
            )
    except KeyboardInterrupt:
        tell_checkpoint(output, resumed=given["resume"], started=started)
        raise
    _show(done, dry=dry)


def _print_plan(plan: SwapPlan) -> None:
    """Say before the training what is replaced, and what that is worth."""
    for number, line in enumerate(plan.lines()):
        say(f"{'  ' if number else ''}{printable(line, _MOST)}")
    sys.stdout.flush()


def _show(done: Adaptation, *, dry: bool) -> None:
    from edgekit.reports.formatting import (
        drop_interval_text,
        drop_text,
        drop_unit,
        metric_title,
        score_text,
    )

    for note in done.notes:
        say(f"note: {one_line(note)}")
    passed, rows = done.passed, done.rows
    if passed is None or rows is None:
        if dry:
            say("Nothing was written: a dry run.")
        elif done.plan.left:
            say("Nothing that can be replaced: nothing was written.")
        else:
            say("Nothing to replace: nothing was written.")
        return
    for label, words in passed.facts.items():
        say(f"{label}: {words}")
    if passed.validation:
        say(f"validation: {passed.validation}")
    before, changed, after = rows
    if before.score and changed.score and after.score:
        metric = before.score.metric
        first, second, third = (score_text(metric, row.score.value) for row in rows if row.score)
        say(f"{metric_title(metric)}: {first} before, {second} after the change, {third} trained")
    if after.drop is not None and before.score is not None:
        metric = before.score.metric
        interval = drop_interval_text(metric, after.drop.ci95)
        told = f"{drop_text(metric, after.drop.value)} {drop_unit(metric)}"
        say(f"drop: {told} ({interval}, 95 % interval)")
    say("float32 .tflite            before       after")
    for label, *values in figures(before, after):
        say(f"  {label:<20} {values[0]:>10}  {values[-1]:>10}")
    say(f"Wrote {passed.path} ({passed.path.stat().st_size / 1000:.1f} kB)")


adapt = pass_command(
    Adapt,
    """Replace the layers of a model that a target does not take.

    Which operators are in the way is predicted from the int8 file. Of the replacements that the
    target takes, the one is chosen that moves the outputs least; the changed model then learns from
    the original.

    \b
    edgekit adapt model.keras --target coral --data data.npz -o adapted.keras
    edgekit adapt model.keras --target coral --data data.npz --dry-run
    edgekit quantize adapted.keras --target coral --data data.npz
    """,
    _run,
    (
        *(entry for entry in BEFORE if entry[0] != "output"),
        ("output", PossibleOutput, None),
        ("dry_run", _DryRun, False),
    ),
)

"""The verb that makes a Keras model one that a target takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from edgekit.api.data import Data
from edgekit.api.training import TransformOptions, requested
from edgekit.recipe import Adapt
from edgekit.records import silent

if TYPE_CHECKING:
    from edgekit.pipeline.adapt import Adaptation
    from edgekit.pipeline.swaps import SwapPlan


def adapt(
    source: str | Path,
    step: Adapt | str,
    *,
    output: str | Path | None,
    data: Data,
    on_plan: Callable[[SwapPlan], None] | None = None,
    **options: Unpack[TransformOptions],
) -> Adaptation:
    """Replace layers that a target does not take, and fine-tune on what the original computes.

    Args:
        source: A `.keras` or `.h5` file of a functional or sequential model.
        step: The target, or the target and settings: `Adapt(target="coral", exclude=("head",))`.
        output: The `.keras` file to write; None only says what would be replaced.
        data: As `--data` of the command line.
        on_plan: Called before any training with what is to be replaced.
        **options: See `TransformOptions`.

    Returns:
        What was done. Where there is nothing to replace, nothing is written.

    Raises:
        EdgekitError: See `edgekit.errors`; as `transform`.
    """
    from edgekit.errors import ModelError
    from edgekit.files import check_input, refuse_existing
    from edgekit.pipeline import adapt as adapting
    from edgekit.training.saving import checkpoint_path, refuse_other_formats

    check_input(Path(source), ModelError, folder=True, hint="Give a .keras or .h5 file.")
    if output is not None:
        refuse_other_formats(Path(output))
        refuse_existing(Path(output), force=options.get("force", False))
        refuse_existing(checkpoint_path(Path(output)), force=True)
    return adapting.adapt(
        Adapt(target=step) if isinstance(step, str) else step,
        Path(source),
        None if output is None else Path(output),
        data=requested(data, options),
        custom=tuple(options.get("custom", ())),
        trust_code=options.get("trust_code", False),
        resume=options.get("resume", False),
        force=options.get("force", False),
        listener=options.get("listener", silent),
        on_plan=on_plan,
    )

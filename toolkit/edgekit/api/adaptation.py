"""The verb that makes a Keras model one that a target takes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Unpack

from edgekit.api.data import Data
from edgekit.api.passes import TransformOptions, pass_request
from edgekit.recipe import Adapt

if TYPE_CHECKING:
    from edgekit.pipeline.adapt import Adaptation
    from edgekit.pipeline.swap_plan import SwapPlan


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
    from edgekit.pipeline import adapt as adapting

    asked = Adapt(target=step) if isinstance(step, str) else step
    return adapting.adapt(pass_request(source, asked, output, data, options), on_plan)

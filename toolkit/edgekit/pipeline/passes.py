"""Keras models become other Keras models: one pass, or the stages of a recipe, in one worker."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, get_args

from edgekit import devices
from edgekit.errors import UsageError
from edgekit.files import cleared, temporary_folder
from edgekit.numerics.sparsity import NofM, parse_pattern
from edgekit.pipeline import manifest
from edgekit.pipeline.latency_goal import shrink_to_latency
from edgekit.records import Listener, Plan, Row, silent
from edgekit.tflite.inspect import inspect
from edgekit.tflite.pruning_estimate import estimate_pruning
from edgekit.training.finetuning import Tuning
from edgekit.training.saving import checkpoint_path, read_notes
from edgekit.worker import Worker

if TYPE_CHECKING:
    from edgekit.tflite.pruning_estimate import PruningEstimate
    from edgekit.training.passes import PassResult

PassName = Literal["shrink", "prune", "cluster", "qat"]

PASSES: Final[tuple[PassName, ...]] = get_args(PassName)

HALF: Final = 0.5
"""Share of zeros of every 2:4, and the default."""

_OWN: Final[Mapping[PassName, Mapping[str, Any]]] = {
    "shrink": {"share": HALF},
    "prune": {"sparsity": HALF},
    "cluster": {"clusters": 16},
    # Folded normalization leaves nothing to absorb large steps.
    "qat": {"learning_rate": 2e-5},
}
_QAT_4_BITS: Final = {"learning_rate": 2e-4}


@dataclass(frozen=True, slots=True, kw_only=True)
class PassComparison:
    """What a pass did, and what it did to the float32 `.tflite` of the model.

    Attributes:
        passed: What the pass tells.
        before: Bytes, work and latency of the source.
        after: The same, of what was written.
    """

    passed: PassResult
    before: Row
    after: Row


def with_defaults(name: PassName, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options of a pass, with its own defaults where something was left out.

    Raises:
        UsageError: There is no such pattern.
    """
    given = {key: value for key, value in options.items() if value is not None}
    defaults = {**_OWN[name], **(_QAT_4_BITS if options.get("bits") == 4 else {})}
    pattern = parse_pattern(given.get("pattern", "unstructured"))
    if isinstance(pattern, NofM):
        # N of M weights are kept, whatever the default.
        defaults["sparsity"] = pattern.sparsity
    return {**defaults, **given}


def transform(
    name: PassName,
    source: Path,
    destination: Path,
    *,
    data: str,
    options: Mapping[str, Any],
    custom: Sequence[str] = (),
    trust_code: bool = False,
    distill: bool = False,
    resume: bool = False,
    listener: Listener = silent,
    on_estimate: Callable[[PruningEstimate], None] | None = None,
) -> PassComparison:
    """Take a model through one pass; see `edgekit.api.transform`."""
    chosen = with_defaults(name, options)
    checkpoint = checkpoint_path(destination)
    done = _epochs_done(name, checkpoint) if resume else 0
    with (
        cleared(destination.parent),
        temporary_folder() as folder,
        Worker(custom, listener, trust_code=trust_code) as worker,
    ):
        worker.load(source)
        before = worker.lower(folder / "before.tflite").path
        if on_estimate is not None and not resume:
            on_estimate(estimate_pruning(before.read_bytes(), chosen.get("sparsity", HALF)))
        training = {"data": data, "checkpoint": checkpoint, "done": done}
        if distill:
            training["teacher"] = teach(worker, folder, {**chosen, "data": data})
        if resume:
            worker.load(checkpoint)
        start = checkpoint if resume else source
        passed = run(
            worker, name, start, destination, options={**chosen, **training}, listener=listener
        )
        worker.load(destination)
        after = worker.lower(folder / "after.tflite").path
        measured = PassComparison(
            passed=passed,
            before=row_of("before", before, latency=True),
            after=row_of("after", after, latency=True),
        )
    checkpoint.unlink(missing_ok=True)
    return measured


def row_of(variant: str, path: Path, *, latency: bool) -> Row:
    """What there is to know of a float32 file without data."""
    content = Plan(variant=variant, mode="float32")
    return Row(
        model=path.stem,
        artifact=manifest.artifact(path, content, {}),
        inspection=inspect(path),
        timing=devices.bench(path) if latency else None,
    )


def run(
    worker: Worker,
    name: PassName,
    source: Path,
    destination: Path,
    *,
    options: Mapping[str, Any],
    listener: Listener = silent,
) -> PassResult:
    """Run a pass over the model that the worker has loaded from `source`."""
    chosen = with_defaults(name, options)
    own = {key: value for key, value in chosen.items() if key not in _TUNING}
    tuning = _tuning(chosen)
    if own.get("goal") == "latency" and not tuning.done:
        own.pop("goal")
        found = shrink_to_latency(
            worker, source, tuning=tuning, destination=destination, listener=listener, **own
        )
        latency = f"{found.final.ratio:.2f} of before, after {len(found.measured)} cuts timed"
        return replace(found.passed, facts={**found.passed.facts, "latency": latency})
    passed: PassResult = worker.call(
        f"edgekit.training.passes:{name}", tuning=tuning, destination=destination, **own
    )
    return passed


def teach(worker: Worker, folder: Path, options: Mapping[str, Any]) -> Path:
    """Write what the loaded model predicts, for later ones to learn from."""
    place = folder / "teacher.npy"
    worker.call("edgekit.training.finetuning:teach", tuning=_tuning(options), destination=place)
    return place


_TUNING: Final = frozenset(field.name for field in fields(Tuning))


def _tuning(options: Mapping[str, Any]) -> Tuning:
    return Tuning(**{key: value for key, value in options.items() if key in _TUNING})


def _epochs_done(name: str, checkpoint: Path) -> int:
    """How far an interrupted run had come.

    Raises:
        UsageError: There is no such run, or it was another pass.
    """
    notes = read_notes(checkpoint)
    if notes.get("pass") == name:
        return int(notes["epochs"])
    other = notes.get("pass")
    raise UsageError(
        f"There is no interrupted {name} to go on with.",
        found=f"{checkpoint} is {f'of {other}' if other else 'not there'}.",
        hint="Leave --resume out.",
    )

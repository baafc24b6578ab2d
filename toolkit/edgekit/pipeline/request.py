"""What the user asked for, and what of it is possible."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, get_args

import edgekit_runner
from edgekit import data, targets
from edgekit.choices import LATENCY, SIZE, Prefer
from edgekit.devices import DeviceEntry, DeviceSetup, RunSettings
from edgekit.errors import DataError, ModelError, UsageError
from edgekit.evaluation.metrics import Metric, MetricChoice, listed, metric_named
from edgekit.files import check_folder, check_input, refuse_existing
from edgekit.modes import FLOAT32, INT8, MODES, TFLITE_RUNTIME
from edgekit.pipeline.imported_model import ImportedModel
from edgekit.pipeline.measure import MAX_DROP, MeasureSettings
from edgekit.pipeline.report import accepted_loss
from edgekit.pipeline.sources import trained_notes
from edgekit.quantization import passes_named
from edgekit.recipe import Recipe, load_recipe, naming
from edgekit.recipe.parse import RESERVED
from edgekit.records import (
    EACH_ROW,
    DataRequest,
    Dataset,
    Listener,
    LiveData,
    Plan,
    Progress,
    TableOptions,
    TaskChoice,
)

FLOAT = Plan(variant=FLOAT32.name, mode=FLOAT32.name)
"""What is always made, as the measure of the others."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    """What the user asked for.

    Attributes:
        source: A `.keras`, `.h5`, SavedModel folder or float `.tflite`, or a live Keras model.
        plans: The variants to make; the float32 one is always made, as the measure of the others.
        folder: Where the files go.
        name: Name of the model in tables, default the source's.
        data: What `data.open_data` takes, or a Dataset; None makes files without scores.
        split: Share of the samples that is drawn for testing, where the data has no test split.
        table: How the rows of a `.csv` become samples.
        column: The column to predict, for tables.
        classes: Names of the classes in the model's order, default the data's.
        task: What the targets mean, default what they look like; by output name for several.
        preprocessing: How raw input becomes arrays, for images.
        head: How the outputs of a detector tell boxes; None where a file beside the model or their
            shapes tell it.
        calibration_samples: How many training samples set the activation ranges.
        custom: Modules that define the model's own classes.
        trust_code: Whether to run code that the source brings along.
        unroll: Whether recurrent layers are written out step by step.
        max_drop: Accepted loss: points for accuracy and AUC, percent for RMSE.
        metric: The metric to judge by, of several the first, default the task's own.
        output: Name of the output that is scored, default the first.
        prefer: What the recommended file is to have least of.
        target: An accelerator that the recommended file must be able to use, or several.
        device: Where files are scored and timed; None is this machine.
        setup: What is installed on that device, and whether it stays.
        threads: Interpreter threads of the latency measurement; None takes the device's own
            number, 1 on this machine.
        runtime: The runtime that must load the recommended file, as the runner calls it; None
            where it is not known.
        latency: Whether latencies are measured at all.
        skip_unsupported: Whether a variant that cannot be made is a warning instead of an
            error; None where it is one only if no variant can be made.
        recover: Whether remedies are tried for a variant that is lost.
        gzip: Whether each file is also written packed with gzip, for the flash of a device.
        bundle: Where all that the figures follow from is written too, as a zip; see `bundle`.
        resume: Whether a recipe goes on with the stages of an interrupted run.
        force: Replace files that exist.
        seed: Random seed.
        command: The command line, for the report.
    """

    source: Path | Any
    plans: tuple[Plan, ...]
    folder: Path
    name: str | None = None
    data: str | LiveData | Dataset | None = None
    split: float | None = None
    table: TableOptions = EACH_ROW
    column: str | None = None
    classes: Sequence[str] | None = None
    task: TaskChoice = None
    preprocessing: Mapping[str, Any] | None = None
    head: Mapping[str, Any] | None = None
    calibration_samples: int = 200
    custom: tuple[str, ...] = ()
    trust_code: bool = False
    unroll: bool = False
    max_drop: float = MAX_DROP
    metric: MetricChoice = None
    output: str | None = None
    prefer: Prefer = "balanced"
    target: str | Sequence[str] | None = None
    device: DeviceEntry | None = None
    setup: DeviceSetup = field(default_factory=DeviceSetup)
    threads: int | None = None
    runtime: str | None = None
    latency: bool = True
    skip_unsupported: bool | None = False
    recover: bool = True
    gzip: bool = False
    bundle: Path | None = None
    resume: bool = False
    force: bool = False
    seed: int = 0
    command: str = ""

    def named(self, given: str | Dataset | LiveData) -> DataRequest:
        """Return how the data `given` is to be read."""
        return DataRequest(
            data=given,
            split=self.split,
            table=self.table,
            column=self.column,
            classes=self.classes,
            task=self.task,
            preprocessing=self.preprocessing,
            head=self.head,
        )

    @property
    def named_targets(self) -> tuple[str, ...]:
        """The targets, each once."""
        named = (self.target,) if isinstance(self.target, str) else self.target or ()
        return tuple(dict.fromkeys(named))

    @property
    def narrows(self) -> bool:
        """Whether int4 weights are welcome in a file whose precisions are searched for.

        What is wanted is the smallest file, and nothing is named that may not load it.
        """
        return self.prefer == SIZE and not self.target and self.runtime != TFLITE_RUNTIME

    @property
    def settings(self) -> MeasureSettings:
        """What is measured of every file."""
        # Here the files are measured by what is installed; the runtime named is the device's.
        runtime = self.runtime if self.device else None
        return MeasureSettings(
            score_output=self.output,
            metric=self.metric,
            max_drop=self.max_drop,
            latency=self.latency,
            run=RunSettings(threads=self.threads, runtime=runtime),
            targets=self.named_targets or ("coral",),
            compiled=bool(self.named_targets),
        )


def calibrates(plan: Plan) -> bool:
    """Whether a variant needs the ranges of the activations, and so training samples."""
    return MODES[plan.mode].calibrated


def possible_plans(request: Request, dataset: Dataset | None) -> tuple[tuple[Plan, ...], list[str]]:
    """The plans that the data allows, and why the others are left out."""
    if dataset is not None and dataset.calibrate is not None:
        return request.plans, []
    own = INT8.name if trained_notes(request.source) else None  # brings its ranges along
    without = tuple(p for p in request.plans if not calibrates(p) or p.mode == own)
    if len(without) == len(request.plans):
        return without, []
    modes = ", ".join(plan.mode for plan in request.plans if plan not in without)
    what = f"Mode {modes} needs training samples to calibrate on."
    found = "No data was given." if dataset is None else "The data has a test split only."
    hint = "Give --data with a train split, or choose float16, dynamic or int4."
    if not request.skip_unsupported:
        raise DataError(what, found=found, hint=hint)
    return without, [f"{what} {found}"]


def open_data(request: Request, listener: Listener) -> Dataset | None:
    """The data of a request, opened."""
    if request.data is None:
        return None
    if isinstance(request.data, Dataset):
        return judged_by(data.open_request(request.named(request.data)), request.metric)
    listener(Progress(stage="reading the data"))
    opened = data.open_request(
        request.named(request.data),
        calibration_samples=request.calibration_samples,
        seed=request.seed,
    )
    return judged_by(opened, request.metric)


def judged_by(dataset: Dataset, metric: MetricChoice) -> Dataset:
    """The data set, whose targets may be anything where a metric of the user's own is judged by."""
    first = next(iter(listed(metric)), None)
    own = isinstance(first, Metric) and first.takes_outputs
    return replace(dataset, any_targets=True) if own else dataset


def read_recipe(path: Path) -> Recipe:
    """Read a recipe, and look at the names of graph passes, which only quantization knows.

    Raises:
        UsageError: As `load_recipe`, or there is no such pass, or their order is wrong.
    """
    recipe = load_recipe(path)
    with naming(f"{path.name}, step {len(recipe.passes) + 1}, passes"):
        passes_named(recipe.plan.passes)
    return recipe


def check(request: Request) -> None:
    """Look at what can be known before any work.

    Raises:
        ModelError: There is no such source.
        UsageError: The accepted loss is no number, there is no such target or metric, an option
            has no effect without data, or two files would have one name.
        OutputError: The folder is a file, or holds one of the files already, or what is no file.
    """
    # Compared, so that NaN is refused too.
    if not 0 <= request.max_drop <= 3e38:
        raise UsageError(
            f"Invalid value for the accepted loss: {request.max_drop!r:.40}.",
            hint="Give a finite number from 0.",
        )
    _check_choice(request)
    check_names(request)
    _check_data_for(request)
    for plan in request.plans:
        passes_named(plan.passes)
    stems = ["float32", *(plan.variant for plan in request.plans if plan != FLOAT)]
    for stem in stems[1:]:
        if why := RESERVED.get(stem.casefold()):
            raise UsageError(
                f"Invalid name for a variant: {stem!r}.",
                found=why,
                hint="Give its recipe another name.",
            )
    # Some file systems do not tell upper case from lower.
    folded = [stem.casefold() for stem in stems]
    if twice := [stem for stem in stems if folded.count(stem.casefold()) > 1]:
        raise UsageError(
            f"Two variants are called {twice[-1]!r}.",
            hint="Give each recipe a name of its own, and each mode once.",
        )
    check_source_exists(request)
    check_folder(request.folder)
    if request.bundle is not None:
        check_folder(request.bundle.parent, hint="Give --bundle a name in a folder.")
        refuse_existing(request.bundle, force=request.force, option="--bundle")
    endings = (".tflite", ".json", *([".tflite.gz"] if request.gzip else []))
    names = [f"{stem}{end}" for stem in stems for end in endings]
    for name in (*names, "report.html", "report.json"):
        refuse_existing(request.folder / name, force=request.force)


def check_names(request: Request) -> None:
    """Raise a `UsageError` where there is no target or metric of a name."""
    for name in request.named_targets:
        targets.target(name)
    for one in listed(request.metric):
        if not isinstance(one, Metric):
            metric_named(one)


def check_source_exists(request: Request) -> None:
    """Raise a `ModelError` where the source is a path at which nothing is."""
    if isinstance(request.source, Path):
        check_input(
            request.source,
            ModelError,
            folder=True,
            hint="Give a .keras, .h5 or .tflite file, or a SavedModel folder.",
        )


def _check_choice(request: Request) -> None:
    """Raise a `UsageError` unless the recommendation can follow what is preferred."""
    for name, value, known in (
        ("prefer", request.prefer, get_args(Prefer)),
        ("runtime", request.runtime, (None, *edgekit_runner.RUNTIMES)),
    ):
        if value not in known:
            raise UsageError(
                f"Invalid value for {name}: {value!r:.40}.",
                hint=f"Known: {', '.join(filter(None, known))}.",
            )
    if request.prefer == LATENCY and not request.latency:
        raise UsageError(
            "The file of least latency cannot be found without measuring latencies.",
            hint="Leave out --no-bench, or prefer size.",
        )


def asked_for(request: Request, imported: ImportedModel) -> dict[str, str]:
    """The request in words, for the report."""
    verification = imported.verification
    asked = {
        "source": f"{imported.source.path.name} ({imported.source.kind})",
        "variants": ", ".join(dict.fromkeys(["float32", *(p.variant for p in request.plans)])),
        "accepted loss": accepted_loss(request.max_drop, imported.dataset, request.metric),
    }
    if verification:
        asked["float graph"] = (
            f"differs from its source by at most {verification.max_abs_difference:.2g} "
            f"on {verification.samples} samples of {verification.inputs}"
        )
    if request.device:
        asked["device"] = request.device.name
    asked["preferred"] = request.prefer
    if request.runtime:
        asked["runtime"] = request.runtime
    if request.named_targets:
        asked["target"] = ", ".join(request.named_targets)
    if request.command:
        asked["command"] = request.command
    return asked


def _check_data_for(request: Request) -> None:
    if request.data is not None:
        return
    if listed(request.metric):
        raise UsageError("--metric has no effect without --data.", hint="Add --data.")
    if request.device is not None and not request.latency:
        raise UsageError(
            "There is nothing to measure on the device: no data, and no latency.",
            hint="Add --data, or leave out --no-bench.",
        )


def build_of(request: Request) -> dict[str, Any]:
    """What of a request decides the bytes of its files, and is said nowhere else in a manifest.

    Paths stand there as they were given, so that they hold for another copy of the project.
    """
    return {
        "source": str(request.source) if isinstance(request.source, Path) else None,
        "data": request.data if isinstance(request.data, str) else None,
        "split": request.split,
        "table": None if request.table == EACH_ROW else asdict(request.table),
        "column": request.column,
        "classes": list(request.classes) if request.classes else None,
        "task": request.task if isinstance(request.task, str | None) else dict(request.task),
        "preprocessing": dict(request.preprocessing) if request.preprocessing else None,
        "calibration_samples": request.calibration_samples,
        "score_output": request.output,
        "custom": list(request.custom),
        "unroll": request.unroll,
        "seed": request.seed,
    }

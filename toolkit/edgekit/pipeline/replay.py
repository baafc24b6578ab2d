"""Derive the figures of a bundle again: from its files, and the data where they are here."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Final, NamedTuple

import numpy as np

from edgekit.devices import LocalDevice
from edgekit.errors import DataError, EdgekitError, ModelError, UsageError
from edgekit.evaluation import compared, predict
from edgekit.evaluation.metrics import METRICS
from edgekit.files import temporary_folder
from edgekit.parsing import ParseError, read_json
from edgekit.pipeline.bundle import first_samples, unpack
from edgekit.pipeline.measure import MeasureSettings, Subject, measure
from edgekit.pipeline.rebuild import other_versions
from edgekit.pipeline.recorded_data import recorded_data
from edgekit.pipeline.subjects import open_subjects
from edgekit.records import (
    Array,
    DataRequest,
    Dataset,
    Inspection,
    Listener,
    LiveData,
    Proof,
    Replayed,
    Report,
    Row,
    silent,
    verdict_on,
)
from edgekit.schema import report_from_json
from edgekit.targets import target

DIGITS: Final = 6
"""Figures are the same if they agree to so many digits."""

NEEDS_DEVICE: Final = "it was measured on a device"

HERE: Final = "local: "
"""How places on the machine that made a bundle begin."""

Given = str | LiveData | Dataset | None


def replay(
    path: Path, *, data: str | LiveData | Dataset | None = None, listener: Listener = silent
) -> Proof:
    """Derive every figure of a bundle again that needs no device.

    Args:
        path: The bundle.
        data: The data; None takes what the manifests name, unless that is a function.
        listener: Progress callback.

    Returns:
        All figures, each the same, another one, or not checked, with the reason.

    Raises:
        UsageError: It is no bundle, or is damaged.
        EdgekitError: Data that were given cannot be read, or do not fit the files.
    """
    with temporary_folder() as folder:
        index, outputs = unpack(path, folder)
        rows = _rows(path, folder)
        found, why = _measured(rows, data, listener)
        figures: list[Replayed] = []
        for row in rows:
            again = found.get(row.artifact.variant)
            figures.extend(_of_file(row, again))
            figures.extend(_of_score(row, again, why))
            figures.extend(_of_outputs(row, outputs.get(row.artifact.variant), again, why))
            figures.extend(_of_device(row))
    return Proof(path=path, figures=tuple(figures), versions=other_versions(index))


def _rows(path: Path, folder: Path) -> list[Row]:
    """Return the rows of the bundle's report, with the paths at which the files are now."""
    try:
        report: Report = report_from_json(read_json(folder / "report.json"))
    except (OSError, ParseError, EdgekitError, ValueError) as error:
        raise UsageError(
            f"{path} has no report that can be read.",
            found=str(error),
            hint="Give what edgekit quantize --bundle wrote, unchanged.",
        ) from error
    if not report.files:
        raise UsageError(
            f"{path} is not a bundle that can be verified.",
            found="Its report tells of no file.",
            hint="Give what edgekit quantize --bundle wrote, unchanged.",
        )
    rows = []
    for row in report.files:
        place = folder / row.artifact.path.name
        if not place.is_file():
            raise UsageError(
                f"{path} lacks {row.artifact.path.name}, of which its report tells.",
                hint="Give what edgekit quantize --bundle wrote, unchanged.",
            )
        rows.append(replace(row, artifact=replace(row.artifact, path=place)))
    return rows


class _Again(NamedTuple):
    """A file, measured again: its row, and the data it was run on."""

    row: Row
    subject: Subject


def _measured(
    rows: Sequence[Row], given: Given, listener: Listener
) -> tuple[dict[str, _Again], str]:
    """Inspect all files, and score them where the data are the same; else say why not."""
    paths = [row.artifact.path for row in rows]
    asked = dict.fromkeys(
        name for row in rows if row.inspection for op in row.inspection.ops for name in op.targets
    )
    settings = MeasureSettings(
        latency=False,
        targets=tuple(filter(_is_ready, asked)) or ("cpu",),
        compiled=any(row.inspection.compiled for row in rows if row.inspection),
    )
    request, why = _request(rows, given)
    if request is not None:
        scored = next((row.score for row in rows if row.score), None)
        scoring = replace(
            settings,
            score_output=(rows[0].artifact.manifest.get("build") or {}).get("score_output"),
            metric=(scored.metric, *scored.shown) if scored else None,
        )
        try:
            subjects = open_subjects(paths, request, scoring)
        except EdgekitError as error:
            if given is not None:  # a mistyped path is no reason to check less
                raise
            why = f"{error.what} {error.found or ''}".strip()
        else:
            why = _other_data(rows[0], subjects[0])
            if not why:
                return _run(rows, subjects, scoring, listener), ""
    subjects = open_subjects(paths, None, settings)
    return _run(rows, subjects, replace(settings, score=False), listener), why


def _run(
    rows: Sequence[Row],
    subjects: Sequence[Subject],
    settings: MeasureSettings,
    listener: Listener,
) -> dict[str, _Again]:
    failed = {row.artifact.variant for row in rows if row.failure}

    def on_failure(row: Row, error: ModelError) -> None:
        if row.artifact.variant not in failed:
            raise error

    with LocalDevice(listener=listener) as device:
        found = measure(subjects, device, settings, on_failure=on_failure, listener=listener)
        return {
            subject.artifact.path.stem: _Again(row, subject)
            for row, subject in zip(found, subjects, strict=True)
        }


def _is_ready(name: str) -> bool:
    """Whether a target can be asked here: a compiler may be missing."""
    try:
        target(name)
    except UsageError:
        return False
    return True


def _request(rows: Sequence[Row], given: Given) -> tuple[DataRequest | None, str]:
    """Return the data that the files were scored on, or why they cannot be had."""
    if not any(row.score or row.fidelity for row in rows):
        return None, "no data was given then"
    own = [row.score.metric for row in rows if row.score and row.score.metric not in METRICS]
    if own:
        return None, f"{own[0]} is a metric of the user's own, whose code is not run"
    if isinstance(given, Dataset):
        return DataRequest(data=given), ""
    try:
        return recorded_data(rows[0].artifact.manifest, given), ""
    except (DataError, UsageError) as error:
        return None, f"{error.what} {error.hint or ''}".strip()


def _other_data(row: Row, subject: Subject) -> str:
    """Return why scores would not be of the same samples; "" if they are."""
    splits = (row.artifact.manifest.get("data") or {}).get("splits") or {}
    samples = compared(subject.dataset) if subject.dataset is not None else None
    if samples is None:
        return "the data has no samples to run a file on"
    then = (splits.get(samples.split) or {}).get("sha256")
    if then == samples.sha256:
        return ""
    return (
        f"the {samples.split} split is another one: sha256 {samples.sha256[:16]}..., then "
        f"{str(then)[:16]}..."
    )


def _of_file(row: Row, again: _Again | None) -> Iterator[Replayed]:
    """Compare what the file alone tells."""
    then, artifact = row.artifact, again.row.artifact if again else None
    now = again.row.inspection if again else None
    told = row.inspection
    pairs: list[tuple[str, Any, Any]] = [
        ("sha256", then.sha256, artifact and artifact.sha256),
        ("size_bytes", then.size_bytes, artifact and artifact.size_bytes),
        (
            "size_deflated_bytes",
            then.size_deflated_bytes,
            artifact and artifact.size_deflated_bytes,
        ),
    ]
    if told is not None and now is not None:
        pairs += [
            ("macs", told.macs, now.macs),
            ("parameters", told.parameters, now.parameters),
            ("operators", len(told.ops), len(now.ops)),
            *(
                (f"operators on {name}", _mapped(told, name), _mapped(now, name))
                for name in dict.fromkeys(name for op in told.ops for name in op.targets)
                if any(name in op.targets for op in now.ops)
                # A prediction is not held against what a compiler said.
                and told.decided_by(name) == now.decided_by(name)
            ),
            *(
                (f"{name}: cycles", one.cycles, now.estimates[name].cycles)
                for name, one in told.estimates.items()
                if name in now.estimates
            ),
        ]
    for figure, recorded, found in pairs:
        yield _compared(row, figure, recorded, found)


def _mapped(inspection: Inspection, name: str) -> int:
    return len(inspection.ops) - len(inspection.unmapped(name))


def _of_score(row: Row, again: _Again | None, why: str) -> Iterator[Replayed]:
    """Compare scores, drops with their intervals and verdicts, and fidelity."""
    if row.place is not None and not row.place.startswith(HERE):
        again, why = None, f"it was scored on {row.place}"
    now = again.row if again else None
    pairs: list[tuple[str, Any, Any]] = []
    if row.score is not None:
        score = now.score if now else None
        pairs += [
            (row.score.metric, row.score.value, score and score.value),
            (f"{row.score.metric} ci95", row.score.ci95, score and score.ci95),
            *(
                (name, value, score and score.extras.get(name))
                for name, value in row.score.extras.items()
            ),
        ]
    if row.drop is not None:
        drop = now.drop if now else None
        verdict = None
        if drop is not None and row.drop.allowed is not None:
            verdict = verdict_on(drop.ci95, row.drop.allowed)
        pairs += [
            ("drop", row.drop.value, drop and drop.value),
            ("drop ci95", row.drop.ci95, drop and drop.ci95),
        ]
        if not (row.drop.per_column or row.drop.per_output):
            pairs.append(("verdict", row.drop.verdict, verdict))
    if row.agreement is not None:
        pairs.append(("agreement", row.agreement, now and now.agreement))
    for k, one in enumerate(row.fidelity):
        other = now.fidelity[k] if now and k < len(now.fidelity) else None
        pairs.append((f"sqnr_db of {one.output}", one.sqnr_db, other and other.sqnr_db))
    for figure, recorded, found in pairs:
        yield _compared(row, figure, recorded, found, why)


def _of_outputs(
    row: Row, recorded: Mapping[str, Array] | None, again: _Again | None, why: str
) -> Iterator[Replayed]:
    """Compare what a file computes from the first samples, value by value."""
    if recorded is None:
        return
    for name, values in recorded.items():
        figure = f"output {name}"
        told = f"{len(values)} samples"
        samples = None
        if again is not None and not why and again.subject.dataset is not None:
            samples = first_samples(compared(again.subject.dataset))
        if samples is None:
            yield _unchecked(row, figure, told, why)
            continue
        found = predict(row.artifact.path, samples)
        now = found.get(name)
        if now is None or now.shape != values.shape:
            yield _differs(row, figure, told, "of another shape", "")
        elif np.array_equal(now, values):
            yield Replayed(
                variant=row.artifact.variant,
                figure=figure,
                status="same",
                recorded=told,
                found="equal to the bit",
            )
        else:
            apart = float(np.max(np.abs(now.astype(np.float64) - values.astype(np.float64))))
            yield _differs(row, figure, told, told, f"by at most {apart:.3g}")


def _of_device(row: Row) -> Iterator[Replayed]:
    if row.timing is not None:
        yield _unchecked(row, "latency", f"p50 {row.timing.p50_ms:.4g} ms", NEEDS_DEVICE)
        if row.timing.memory_bytes:
            yield _unchecked(row, "memory_bytes", f"{row.timing.memory_bytes}", NEEDS_DEVICE)


def _compared(row: Row, figure: str, recorded: Any, found: Any, why: str = "") -> Replayed:
    if found is None and recorded is not None:
        return _unchecked(row, figure, _words(recorded), why or "it could not be derived")
    if _same(recorded, found):
        return Replayed(
            variant=row.artifact.variant,
            figure=figure,
            status="same",
            recorded=_words(recorded),
            found=_words(found),
        )
    return _differs(row, figure, _words(recorded), _words(found), "")


def _differs(row: Row, figure: str, recorded: str, found: str, reason: str) -> Replayed:
    return Replayed(
        variant=row.artifact.variant,
        figure=figure,
        status="differs",
        recorded=recorded,
        found=found,
        reason=reason,
    )


def _unchecked(row: Row, figure: str, recorded: str, why: str) -> Replayed:
    return Replayed(
        variant=row.artifact.variant,
        figure=figure,
        status="not checked",
        recorded=recorded,
        reason=why,
    )


def _same(recorded: Any, found: Any) -> bool:
    if isinstance(recorded, tuple | list) and isinstance(found, tuple | list):
        return len(recorded) == len(found) and all(map(_same, recorded, found))
    if isinstance(recorded, float) and isinstance(found, int | float):
        return math.isclose(recorded, found, rel_tol=10.0**-DIGITS, abs_tol=10.0 ** -(DIGITS + 3))
    return bool(recorded == found)


def _words(value: Any) -> str:
    if isinstance(value, tuple | list):
        return " to ".join(map(_words, value))
    return f"{value:.6g}" if isinstance(value, float) else str(value)

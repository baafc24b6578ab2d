"""What an interrupted recipe leaves beside its folder, so that `--resume` goes on with it."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from edgekit.errors import UsageError
from edgekit.files import FILE, MISSING, check_folder, sha256_of, what_is
from edgekit.parsing import ParseError, parse_json
from edgekit.temporary import new_folder
from edgekit.training.saving import checkpoint_path

_RUN: Final = "recipe.json"
_ENDING: Final = ".checkpoint"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a stage says in the report.

    Attributes:
        facts: Label -> text, of what was done.
        notes: What the reader must know.
    """

    facts: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)


@dataclass(slots=True)
class KeptStages:
    """Stages of a recipe: those that are finished, and the one that is being trained.

    Attributes:
        folder: Where they are.
        place: Where `--resume` looks for them: the same, unless an earlier run got further, whose
            stages are there.
        earlier: How far that run got.
    """

    folder: Path
    place: Path
    earlier: tuple[int, int] = (0, 0)

    def finished(self, name: str) -> Path | None:
        """Return the Keras file of a stage that an interrupted run had finished."""
        path = self._model(name)
        return path if what_is(path) == FILE else None

    def checkpoint(self, name: str) -> Path:
        """Return where the best weights so far of a stage are kept."""
        return checkpoint_path(self._model(name))

    def keep(self, name: str, made: Path) -> None:
        """Keep the file of a stage that is finished; it appears whole."""
        partial = self.folder / f"{name}.part"
        shutil.copyfile(made, partial)
        partial.replace(self._model(name))
        self.checkpoint(name).unlink(missing_ok=True)
        self.settle()

    def settle(self) -> None:
        """Take the place of an earlier run, once this one got as far.

        Not while a stage is trained, which writes its checkpoint where it was told to.
        """
        if self.folder != self.place and _progress(self.folder) >= self.earlier:
            shutil.rmtree(self.place, ignore_errors=True)
            self.folder = self.folder.rename(self.place)

    def tell(self, name: str, told: Told) -> None:
        """Keep what a stage says."""
        content = json.dumps({"facts": told.facts, "notes": told.notes})
        (self.folder / f"{name}.json").write_text(content, encoding="utf-8")

    def told(self, name: str) -> Told:
        """Return what `tell` kept; nothing for a stage that is new."""
        found = _json(self.folder / f"{name}.json")
        facts, notes = found.get("facts"), found.get("notes")
        return Told(
            facts=dict(facts) if isinstance(facts, dict) else {},
            notes=list(notes) if isinstance(notes, list) else [],
        )

    def _model(self, name: str) -> Path:
        return self.folder / f"{name}.keras"


def kept_beside(folder: Path) -> Path:
    """Return where the stages of a recipe are kept while it runs."""
    named = folder if folder.name not in ("", "..") else folder.resolve()
    return named.with_name(f"{named.name}{_ENDING}")


def interrupted_run(
    folder: Path, source: Path, steps: Sequence[Mapping[str, Any]]
) -> tuple[str, bool] | None:
    """Tell of stages that a run without `--resume` would not use; None where there are none.

    Args:
        folder: As of `kept_stages`.
        source: Likewise.
        steps: Likewise.

    Returns:
        A sentence or two, and whether `--resume` would go on with them.
    """
    place = kept_beside(folder)
    before = _json(place / _RUN)
    if not before or _progress(place) == (0, 0):
        return None
    if before != json.loads(_run_of(source, steps)):
        whose, until = "another model or recipe", "this run has a stage of its own"
        return (
            f"{place} holds stages of an interrupted run of {whose}; they go once {until}.",
            False,
        )
    finished = ", ".join(sorted(path.stem for path in _finished(place))) or "none"
    whose = f"this recipe (finished: {finished})"
    until = "this one, which begins anew, got as far"
    return f"{place} holds stages of an interrupted run of {whose}; they stay until {until}.", True


@contextmanager
def kept_stages(
    folder: Path, source: Path, steps: Sequence[Mapping[str, Any]], *, resume: bool
) -> Iterator[KeptStages]:
    """Keep the stages of a recipe until it is done; after an interruption they remain.

    Args:
        folder: Where the files of the recipe go in the end; its parent exists.
        source: The model that it starts from.
        steps: Its passes, as in a manifest.
        resume: Whether it goes on with an interrupted run.

    Raises:
        UsageError: There is no interrupted run of these steps over this model.
    """
    place = kept_beside(folder)
    check_folder(place)
    run = _run_of(source, steps)
    before = _json(place / _RUN)
    if resume and before != json.loads(run):
        raise UsageError(
            "There is no interrupted run of this recipe to go on with.",
            found=f"{place} is {'of another model or recipe' if before else 'not there'}.",
            hint="Leave --resume out.",
        )
    if not (before or what_is(place) == MISSING) and any(place.iterdir()):
        raise UsageError(
            f"{place} is there already, and holds no stages of a recipe.",
            hint="Move it away, or give another --output.",
        )
    kept = KeptStages(place, place)
    if not resume and _progress(place) != (0, 0):
        is_same = before == json.loads(run)
        # At least a stage: what has none is not worth another run's stages.
        kept = KeptStages(new_folder(place.parent), place, _progress(place) if is_same else (0, 1))
    elif not resume:
        shutil.rmtree(place, ignore_errors=True)
    kept.folder.mkdir(exist_ok=True)
    (kept.folder / _RUN).write_text(run, encoding="utf-8")
    try:
        yield kept
    except KeyboardInterrupt as stop:
        kept.settle()
        if kept.folder != place:
            shutil.rmtree(kept.folder, ignore_errors=True)
            stop.add_note(f"The stages of the earlier run are still in {place}")
        elif _progress(place) != (0, 0):
            stop.add_note(f"The stages so far are in {place}; go on with --resume")
        else:
            shutil.rmtree(place, ignore_errors=True)
        raise
    except BaseException:
        shutil.rmtree(kept.folder, ignore_errors=True)
        raise
    for done in {kept.folder, place}:
        shutil.rmtree(done, ignore_errors=True)


def _run_of(source: Path, steps: Sequence[Mapping[str, Any]]) -> str:
    digest = sha256_of(source) if what_is(source) == FILE else str(source)
    return json.dumps({"source": digest, "steps": list(steps)})


def _finished(place: Path) -> list[Path]:
    begun = set(place.glob(checkpoint_path(Path("*.keras")).name))
    return [path for path in place.glob("*.keras") if path not in begun]


def _progress(place: Path) -> tuple[int, int]:
    """How far a run got: stages that are finished, and whether another was being trained."""
    finished = len(_finished(place))
    return finished, min(1, len(list(place.glob("*.keras"))) - finished)


def _json(path: Path) -> dict[str, Any]:
    """Read an object that was written here; empty for anything else."""
    try:
        found = parse_json(path.read_bytes())
    except (OSError, ParseError):
        return {}
    return found if isinstance(found, dict) else {}

"""What an interrupted recipe leaves beside its folder, and who may go on with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.pipeline.kept_stages import Told, interrupted_run, kept_stages

STEPS = [{"kind": "prune", "sparsity": 0.5}, {"kind": "cluster"}]


@pytest.fixture
def source(tmp_path: Path) -> Path:
    path = tmp_path / "model.keras"
    path.write_bytes(b"a model")
    return path


@pytest.fixture
def interrupted(source, tmp_path):
    """The folder of a recipe that was interrupted in its second stage."""
    folder, made = tmp_path / "out", tmp_path / "made.keras"
    made.write_bytes(b"pruned")

    def run() -> None:
        with kept_stages(folder, source, STEPS, resume=False) as kept:
            kept.tell("1-prune", Told(facts={"adapted": "x"}, notes=["one", "two"]))
            kept.keep("1-prune", made)
            kept.checkpoint("2-cluster").write_bytes(b"half")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt) as stop:
        run()
    assert "--resume" in "".join(stop.value.__notes__)
    return folder


def test_the_same_recipe_goes_on_with_it_and_removes_it_at_the_end(interrupted, source, tmp_path):
    with kept_stages(interrupted, source, STEPS, resume=True) as kept:
        finished = kept.finished("1-prune")
        assert finished is not None
        assert finished.read_bytes() == b"pruned"
        assert kept.told("1-prune") == Told(facts={"adapted": "x"}, notes=["one", "two"])
        assert kept.finished("2-cluster") is None
        assert kept.checkpoint("2-cluster").read_bytes() == b"half"

    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.keras", "model.keras"]


def test_without_resume_it_begins_anew(interrupted, source):
    with kept_stages(interrupted, source, STEPS, resume=False) as kept:
        assert kept.finished("1-prune") is None
        assert kept.told("1-prune") == Told()
        assert not kept.checkpoint("2-cluster").exists()


def test_another_recipe_or_model_is_refused_and_nothing_is_lost(interrupted, source):
    for steps, content in ((STEPS[:1], b"a model"), (STEPS, b"another")):
        source.write_bytes(content)
        with (
            pytest.raises(UsageError, match="no interrupted run of this recipe") as refusal,
            kept_stages(interrupted, source, steps, resume=True),
        ):
            pytest.fail("it went on")
        assert "Leave --resume out" in str(refusal.value)

    source.write_bytes(b"a model")
    with kept_stages(interrupted, source, STEPS, resume=True) as kept:
        assert kept.finished("1-prune")


def test_there_is_nothing_to_go_on_with(source, tmp_path):
    with (
        pytest.raises(UsageError, match="is not there"),
        kept_stages(tmp_path / "out", source, STEPS, resume=True),
    ):
        pytest.fail("it went on")


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_nothing_is_left_of_a_failure_or_where_nothing_is_finished(source, tmp_path, error):
    with pytest.raises(error), kept_stages(tmp_path / "out", source, STEPS, resume=False):
        raise error

    assert list(tmp_path.iterdir()) == [source]


def test_a_folder_of_that_name_is_not_touched(source, tmp_path):
    mine = tmp_path / "out.checkpoint"
    mine.mkdir()
    (mine / "recipe.json").write_text("[]")

    for resume in (False, True):
        with (
            pytest.raises(UsageError),
            kept_stages(tmp_path / "out", source, STEPS, resume=resume),
        ):
            pytest.fail("it went on")

    assert (mine / "recipe.json").read_text() == "[]"


def begin_anew(folder: Path, source: Path, stages: int, error: type[BaseException]) -> str:
    """Begin anew, end after some stages, and return what is said of it."""
    made = folder.with_name("made.keras")

    def run() -> None:
        with kept_stages(folder, source, STEPS, resume=False) as kept:
            for name in ("1-prune", "2-cluster")[:stages]:
                made.write_bytes(b"anew")
                kept.keep(name, made)
            raise error

    with pytest.raises(error) as stop:
        run()
    return "".join(getattr(stop.value, "__notes__", ()))


def content(folder: Path, source: Path) -> bytes:
    found: list[bytes] = []

    def run() -> None:
        with kept_stages(folder, source, STEPS, resume=True) as kept:
            finished = kept.finished("1-prune")
            assert finished is not None
            found.append(finished.read_bytes())
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run()
    return found[0]


def test_the_stages_of_an_earlier_run_are_told_of(interrupted, source):
    told = interrupted_run(interrupted, source, STEPS)
    assert told is not None
    assert told[1]
    assert "(finished: 1-prune)" in told[0]
    other = interrupted_run(interrupted, source, STEPS[:1])
    assert other is not None
    assert not other[1]
    assert interrupted_run(interrupted.with_name("new"), source, STEPS) is None


@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_the_stages_of_an_earlier_run_stay_until_the_new_one_got_as_far(
    interrupted, source, tmp_path, error
):
    # Given a run that was interrupted in its second stage; one that begins anew and ends sooner
    said = [begin_anew(interrupted, source, stages, error) for stages in (0, 1)]
    # Then the earlier run can be gone on with, and nothing else is left.
    assert all("still in" in text for text in said) == (error is KeyboardInterrupt)
    assert content(interrupted, source) == b"pruned"
    names = {path.name for path in tmp_path.iterdir()}
    assert names == {"made.keras", "model.keras", "out.checkpoint"}


def test_a_run_that_got_as_far_takes_the_place_of_an_earlier_one(interrupted, source, tmp_path):
    assert "go on with --resume" in begin_anew(interrupted, source, 2, KeyboardInterrupt)
    assert content(interrupted, source) == b"anew"
    # One that ends well leaves nothing of either.
    with kept_stages(interrupted, source, STEPS, resume=False):
        pass
    assert sorted(path.name for path in tmp_path.iterdir()) == ["made.keras", "model.keras"]

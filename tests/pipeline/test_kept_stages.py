"""What an interrupted recipe leaves beside its folder, and who may go on with it."""

from __future__ import annotations

from pathlib import Path

import pytest

from edgekit.errors import UsageError
from edgekit.pipeline.kept_stages import Told, kept_stages

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

"""The rule that chooses a file, on ratios and verdicts alone."""

from __future__ import annotations

from typing import get_args

import pytest
from hypothesis import given
from hypothesis import strategies as st

from edgekit.choices import Prefer
from edgekit.evaluation.choice import Candidate, choose
from edgekit.records import Verdict

PREFERENCES = get_args(Prefer)


def float32(*, latency: float | None = 1.0, loadable: bool = True) -> Candidate:
    return Candidate(name="float32", size=1.0, latency=latency, is_baseline=True, loadable=loadable)


def file(
    name: str,
    size: float,
    latency: float | None = None,
    verdict: Verdict | None = "kept",
    *,
    loss: float = 0.0,
    within: bool = True,
    loadable: bool = True,
    collapsed: bool = False,
) -> Candidate:
    return Candidate(
        name=name,
        size=size,
        latency=latency,
        verdict=verdict,
        loss=loss,
        within_budget=within,
        loadable=loadable,
        collapsed=collapsed,
    )


def chosen(candidates: list[Candidate], prefer: Prefer = "balanced") -> str | None:
    choice = choose(candidates, prefer)
    return choice.chosen.name if choice.chosen else None


def reasons(candidates: list[Candidate], prefer: Prefer = "balanced") -> dict[str, str]:
    return {one.name: reason for one, reason in choose(candidates, prefer).rejected}


SMALL_OR_FAST = [
    float32(),
    file("float16", 0.5, 0.99),
    file("dynamic", 0.30, 0.60),
    file("int8", 0.35, 0.40),
    file("int4", 0.20, 0.95),
]


@pytest.mark.parametrize(
    ("prefer", "expected", "runner_up"),
    [("balanced", "int8", "dynamic"), ("size", "int4", "dynamic"), ("latency", "int8", "dynamic")],
)
def test_each_preference_has_its_file(prefer: Prefer, expected: str, runner_up: str) -> None:
    choice = choose(SMALL_OR_FAST, prefer)

    assert choice.chosen is not None
    assert choice.runner_up is not None
    assert (choice.chosen.name, choice.runner_up.name) == (expected, runner_up)
    assert choice.rejected == ()


def test_only_size_prefers_a_file_slower_than_float32() -> None:
    candidates = [float32(), file("int8", 0.9, 0.9), file("int4", 0.2, 1.011)]

    assert chosen(candidates, "balanced") == "int8"
    assert chosen(candidates, "latency") == "int8"
    assert chosen(candidates, "size") == "int4"
    assert reasons(candidates) == {"int4": "slower"}
    assert reasons(candidates, "size") == {}


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_a_file_as_fast_as_float32_within_1_percent_is_no_slower(prefer: Prefer) -> None:
    # Given the same code at the same speed, timed to the nanosecond
    candidates = [float32(), file("float16", 0.54, 1.0015), file("int4", 0.2, 0.84, "unproven")]

    assert chosen(candidates, prefer) == "float16"
    assert reasons(candidates, prefer) == {"int4": "unproven"}


def test_kept_is_preferred_to_unproven_however_much_better_that_is() -> None:
    candidates = [float32(), file("float16", 0.5, 0.9), file("int4", 0.1, 0.1, "unproven")]

    for prefer in PREFERENCES:
        assert chosen(candidates, prefer) == "float16"
        assert reasons(candidates, prefer) == {"int4": "unproven"}


def test_where_what_is_kept_is_slower_float32_is_preferred_to_unproven() -> None:
    candidates = [float32(), file("float16", 0.5, 1.1), file("int8", 0.3, 0.5, "unproven")]

    assert chosen(candidates) == "float32"
    assert reasons(candidates) == {"int8": "unproven", "float16": "slower"}


def test_of_unproven_files_near_the_best_the_one_that_lost_least() -> None:
    candidates = [
        float32(),
        file("int8", 0.50, 0.40, "unproven", loss=0.004),  # 0.200
        file("dynamic", 0.54, 0.40, "unproven", loss=0.001),  # 0.216, within 10 %
        file("float16", 0.56, 0.40, "unproven", loss=0.0),  # 0.224, beyond
    ]

    choice = choose(candidates, "balanced")

    assert choice.chosen is candidates[2]
    assert choice.runner_up is candidates[1]


@pytest.mark.parametrize("verdict", ["unproven", "lost", "kept"])
@pytest.mark.parametrize("prefer", PREFERENCES)
def test_a_measured_loss_beyond_the_budget_is_never_chosen(
    verdict: Verdict, prefer: Prefer
) -> None:
    candidates = [float32(), file("int4", 0.1, 0.1, verdict, loss=0.01, within=False)]

    assert chosen(candidates, prefer) == "float32"
    assert reasons(candidates, prefer) == {"int4": "beyond"}


def test_what_the_runtime_does_not_load_is_never_chosen_and_proves_nothing() -> None:
    candidates = [
        float32(),
        file("int4", 0.1, 0.1, loadable=False),
        file("int8", 0.3, 0.5, "unproven"),
    ]

    assert chosen(candidates) == "int8"
    assert reasons(candidates) == {"int4": "unloadable"}
    assert chosen([float32(loadable=False), *candidates[1:]]) == "int8"
    assert chosen([float32(loadable=False), candidates[1]]) is None


def test_what_lost_a_class_or_an_output_is_never_chosen_and_proves_nothing() -> None:
    candidates = [
        float32(),
        file("int4", 0.1, 0.1, collapsed=True),
        file("int8", 0.3, 0.5, "unproven"),
    ]

    assert chosen(candidates) == "int8"
    assert reasons(candidates) == {"int4": "collapsed"}
    assert chosen(candidates[:2]) == "float32"


def test_without_a_score_float32_stays() -> None:
    candidates = [float32(), file("int8", 0.3, 0.5, None, within=False)]

    assert chosen(candidates) == "float32"
    assert reasons(candidates) == {"int8": "unscored"}


@pytest.mark.parametrize("prefer", PREFERENCES)
def test_without_latencies_size_decides(prefer: Prefer) -> None:
    candidates = [float32(latency=None), file("int8", 0.3), file("int4", 0.2)]

    assert chosen(candidates, prefer) == "int4"


def test_a_file_without_latency_may_be_slow_where_float32_was_timed() -> None:
    candidates = [float32(), file("int8", 0.9, 0.9), file("int4", 0.2)]

    assert chosen(candidates) == "int8"
    assert reasons(candidates) == {"int4": "untimed"}
    assert chosen(candidates, "size") == "int4"


@pytest.mark.parametrize("verdict", ["kept", "unproven"])
def test_a_file_that_gains_nothing_is_not_chosen_for_float32(verdict: Verdict) -> None:
    """The weights of a tiny model take less room than what quantization adds."""
    candidates = [float32(), file("dynamic", 1.4, 0.9, verdict), file("float16", 1.0, 1.0, verdict)]

    choice = choose(candidates, "balanced")

    assert choice.chosen is candidates[0]
    assert choice.runner_up is None


def test_of_equal_sizes_the_faster_and_of_equal_latencies_the_smaller() -> None:
    sizes = [float32(), file("dynamic", 0.400, 0.6), file("int8", 0.403, 0.4)]
    latencies = [float32(), file("dynamic", 0.3, 0.503), file("int8", 0.5, 0.5)]

    assert chosen(sizes, "size") == "int8"
    assert chosen([*sizes[:2], file("int8", 0.405, 0.4)], "size") == "dynamic"
    assert chosen(latencies, "latency") == "dynamic"


def test_without_float32_nothing_is_better_than_nothing() -> None:
    lost = file("int4", 1.0, 1.0, "lost", within=False)

    assert chosen([lost]) is None
    assert chosen([lost, file("int8", 1.2, 1.1)]) == "int8"
    assert chosen([]) is None


candidate = st.builds(
    Candidate,
    name=st.text("abc", min_size=1, max_size=3),
    size=st.floats(0.05, 2),
    latency=st.none() | st.floats(0.05, 20),
    verdict=st.none() | st.sampled_from(get_args(Verdict)),
    loss=st.floats(-0.1, 0.1),
    within_budget=st.booleans(),
    loadable=st.booleans(),
    collapsed=st.booleans(),
)


@given(st.lists(candidate, max_size=6), st.none() | st.just(1.0), st.sampled_from(PREFERENCES))
def test_the_rule_holds_for_any_files(
    files: list[Candidate], latency: float | None, prefer: Prefer
) -> None:
    choice = choose([float32(latency=latency), *files], prefer)

    best = choice.chosen
    assert best is not None
    assert best.loadable
    if best.is_baseline:
        return
    assert not best.collapsed
    assert best.within_budget
    assert best.verdict in {"kept", "unproven"}
    usable = [one for one in files if one.loadable and not one.collapsed]
    kept = [one for one in usable if one.verdict == "kept" and one.within_budget]
    assert best.verdict == "kept" or not kept
    if latency and prefer != "size":
        assert best.latency is not None
        assert best.latency <= 1
        assert best.size * best.latency < 1 or prefer == "latency"
    rejected = [one for one, _ in choice.rejected]
    assert best not in rejected
    assert choice.runner_up not in rejected

"""How surely one latency is beyond another, from the invocations that were measured."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest

from edgekit.evaluation.choice import Candidate, choose
from edgekit.records import Timing, latency_ratio

ROUNDS, RUNS = 20, 50


def timing(middles: Sequence[float], *, rounds: int = 1, seed: int = 0) -> Timing:
    """A timing whose blocks of invocations have these medians, in microseconds."""
    spread = np.random.default_rng(seed).uniform(0.99, 1.01, (len(middles), RUNS))
    values = (np.array(middles)[:, None] * spread * 1000).astype(int)
    return Timing(
        values_ns=tuple(values.ravel().tolist()),
        warmup_ns=(),
        threads=1,
        device="here",
        runtime="none",
        delegate=None,
        peak_rss_bytes=1,
        rounds=rounds,
    )


def test_files_timed_by_turns_are_compared_round_by_round() -> None:
    # Given a machine that is half as slow again in some rounds, for both files
    load = np.where(np.arange(ROUNDS) % 3 == 0, 1.5, 1.0)
    float32 = timing(6.7 * load, rounds=ROUNDS)
    slower, same = (timing(t * load, rounds=ROUNDS, seed=1) for t in (8.9, 6.75))
    # Then a third more is a third more, and 1 % is nothing that was measured.
    found = latency_ratio(slower, float32)
    assert found is not None
    assert found.value == pytest.approx(8.9 / 6.7, rel=0.01)
    assert found.low > 1.3
    found = latency_ratio(same, float32)
    assert found is not None
    assert found.low < 1.01


def test_the_noise_of_files_timed_alone_is_that_of_their_blocks() -> None:
    # Given a file that was timed while the machine was busy half of the time, and one after that
    busy, idle = timing([6.7] * 5 + [10.1] * 5), timing([6.7] * 10, seed=1)
    # Then the second may be as fast, though its median is not.
    found = latency_ratio(busy, idle)
    assert found is not None
    assert found.value > 1.1
    assert found.low == pytest.approx(1.0, abs=0.01)
    # What is beyond every block of the other is slower.
    found = latency_ratio(timing([12.0] * 10), busy)
    assert found is not None
    assert found.low == pytest.approx(1.2, abs=0.02)


def test_of_a_few_invocations_no_noise_is_known_and_of_other_devices_no_ratio() -> None:
    few = timing([6.0])
    few = Timing(**{name: getattr(few, name) for name in few.__slots__} | {"values_ns": (6, 7, 8)})
    found = latency_ratio(few, timing([6.0] * 10))
    assert found is not None
    assert found.value == found.low
    assert latency_ratio(few, None) is None


def candidate(name: str, size: float, latency: float, low: float) -> Candidate:
    return Candidate(
        name=name,
        size=size,
        latency=latency,
        latency_low=low,
        verdict="kept",
        within_budget=True,
        is_baseline=name == "float32",
    )


@pytest.mark.parametrize("latency", [0.95, 1.0, 1.05, 1.1])
@pytest.mark.parametrize("prefer", ["balanced", "latency"])
def test_a_latency_within_the_noise_excludes_no_file(prefer, latency) -> None:
    # Given an int4 file as fast as dynamic and float32, whose ratio is another in every run
    files = [
        candidate("float32", 1.0, 1.0, 1.0),
        candidate("dynamic", 0.36, 1.0, 0.85),
        candidate("int4", 0.25, latency, latency - 0.15),
    ]

    choice = choose(files, prefer)

    # Then it is the smallest of equals each time.
    assert choice.chosen is not None
    assert choice.chosen.name == "int4"
    assert choice.rejected == ()


def test_a_file_slower_by_more_than_the_noise_is_excluded() -> None:
    files = [candidate("float32", 1.0, 1.0, 1.0), candidate("int8", 0.3, 1.3, 1.25)]

    choice = choose(files, "balanced")

    assert choice.chosen is not None
    assert choice.chosen.name == "float32"
    assert [reason for _, reason in choice.rejected] == ["slower"]

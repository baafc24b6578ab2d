"""A latency goal: the search with simulated latencies, and one run on a real model."""

from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from edgekit.data import open_data
from edgekit.errors import UsageError
from edgekit.pipeline.latency_goal import Measured, search, shrink_to_latency
from edgekit.recipe import Shrink
from edgekit.records import DataRequest, Plan, Timing
from edgekit.tflite.inspect import inspect
from edgekit.training.finetuning import Tuning
from edgekit.worker import Worker

DEMO = Path(__file__).parents[2] / "toolkit" / "edgekit" / "demo" / "digits_cnn.keras"
BLOCKS = [0.0, 0.1, 0.25, 0.38, 0.45, 0.6, 0.72, 0.81, 0.9]


class Bench:
    """A machine on which a cut to `x` of the work takes `overhead + (1 - overhead) x` as long."""

    def __init__(self, overhead: float) -> None:
        self.overhead = overhead
        self.asked: list[float] = []

    def __call__(self, share: float) -> Measured:
        self.asked.append(share)
        gone = next(block for block in BLOCKS if block >= share - 1e-9)
        time = self.overhead + (1 - self.overhead) * (1 - gone)
        return Measured(
            macs_share=share,
            macs=round(1000 * (1 - gone)),
            original_macs=1000,
            latency_ns=5e6 * time,
            original_latency_ns=5e6,
        )


@pytest.mark.parametrize("overhead", [0.0, 0.1, 0.3, 0.4])
@pytest.mark.parametrize("share", [0.05, 0.2, 0.33, 0.5])
def test_the_smallest_cut_that_is_fast_enough_is_found(overhead, share):
    bench = Bench(overhead)

    found = search(share, 0.9, bench)

    least = next(block for block in BLOCKS if (1 - overhead) * block >= share - 1e-9)
    assert found.ratio <= 1 - share
    assert found.removed == pytest.approx(least, abs=0.02)
    assert len(bench.asked) <= 8


def test_work_that_is_faster_than_it_looks_is_cut_less():
    # half of the work takes a quarter of the time: the first guess cuts too much
    asked = []

    def attempt(share):
        asked.append(share)
        return replace(
            Bench(0.0)(0.0), macs=round(1000 * (1 - share)), latency_ns=5e6 * (1 - share) ** 2
        )

    found = search(0.5, 0.9, attempt)

    assert 0.5 - 0.02 <= found.ratio <= 0.5
    assert asked[0] == 0.5


def test_a_first_guess_that_is_close_ends_the_search():
    bench = Bench(0.0)
    search(0.25, 0.9, bench)
    assert bench.asked == [0.25]


def test_a_latency_out_of_reach_is_refused_after_the_largest_cut():
    bench = Bench(0.6)
    with pytest.raises(UsageError, match="90% of its multiply-accumulates gone it takes 64%"):
        search(0.5, 0.9, bench)
    assert bench.asked == [0.5, 0.9]


def test_a_share_that_cannot_be_removed_is_refused():
    with pytest.raises(UsageError, match=r"invalid value for share: 1\.5"):
        Shrink(share=1.5)


@pytest.fixture(scope="module")
def walks(tmp_path_factory) -> dict:
    """Two goals on the demo's model: float32 timed by its work, int8 by the real runner."""
    folder = tmp_path_factory.mktemp("latency")
    timed: list[Path] = []
    found: dict = {"timed": timed, "opened": 0}

    def by_work(path: Path) -> Timing:
        timed.append(path)
        time = inspect(path).macs + 20_000
        return Timing(
            values_ns=(time, time + 1, time - 1),
            warmup_ns=(),
            threads=1,
            device="test",
            runtime="test",
            delegate=None,
            peak_rss_bytes=0,
        )

    @contextmanager
    def open_bench():
        found["opened"] += 1
        yield by_work

    tuning = Tuning(data=DataRequest(data="digits"), epochs=1)

    with Worker() as tensorflow:
        tensorflow.load(DEMO)
        found["before"] = tensorflow.largest_share()
        found["float32"] = shrink_to_latency(
            tensorflow,
            DEMO,
            Shrink(share=0.4),
            tuning=tuning,
            destination=folder / "a.keras",
            open_bench=open_bench,
        )
        found["afterwards"] = tensorflow.largest_share()
        found["int8"] = shrink_to_latency(
            tensorflow,
            DEMO,
            Shrink(share=0.02),
            tuning=replace(tuning, epochs=0),
            destination=folder / "b.keras",
            plan=Plan(variant="int8", mode="int8"),
            dataset=open_data("digits"),
        )
    return found


@pytest.mark.tensorflow
@pytest.mark.xdist_group("latency_goal")
class TestOnAModel:
    def test_the_final_file_is_as_fast_as_the_chosen_candidate(self, walks):
        found = walks["float32"]
        assert found.chosen in found.measured
        assert found.final.ratio <= 0.6
        assert found.final.macs == found.chosen.macs < found.chosen.original_macs
        assert found.passed.path.is_file()

    def test_no_measured_cut_that_was_fast_enough_is_smaller(self, walks):
        found = walks["float32"]
        fast = [row.removed for row in found.measured if row.ratio <= 0.6]
        assert found.chosen.removed == min(fast)

    def test_each_candidate_is_timed_between_two_looks_at_the_original(self, walks):
        names = [path.parent.name for path in walks["timed"]]
        assert len(names) == 4 * (len(walks["float32"].measured) + 1)
        for first in range(0, len(names), 4):
            before, one, other, after = names[first : first + 4]
            assert before == after == "original" != one == other

    def test_the_device_is_set_up_for_the_search_and_for_the_final_model(self, walks):
        assert walks["opened"] == 2

    def test_the_original_is_loaded_again(self, walks):
        assert walks["afterwards"] == walks["before"] > 0.5

    def test_the_runner_times_quantized_candidates(self, walks):
        found = walks["int8"]
        assert found.final.macs == found.chosen.macs < found.chosen.original_macs
        assert all(row.latency_ns > 0 < row.original_latency_ns for row in found.measured)

"""`make bench` with figures that are not available."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.append(str(Path(__file__).resolve().parents[1]))
from benchmarks import __main__ as bench
from benchmarks import runner
from benchmarks.unavailable import UnavailableError


def test_a_figure_below_the_tool_s_resolution_has_no_ratio() -> None:
    # given a model that litert-benchmark times as 0.00 ms
    taken = {"runner": [0.004, 0.005, 0.004], "litert-benchmark": [0.0, 0.0, 0.01]}

    row = runner._compare(taken, "litert-benchmark", "")

    assert row["against"] == "litert-benchmark: < 0.01 ms"
    assert row["ratio"] == ""
    assert row["runner"] == "0.004 ms"


def test_a_single_zero_leaves_the_other_rounds_their_ratio() -> None:
    taken = {"runner": [0.02, 0.03, 0.02], "litert-benchmark": [0.01, 0.01, 0.0]}

    row = runner._compare(taken, "litert-benchmark", "")

    assert row["against"] == "litert-benchmark: 0.01 ms"
    assert row["ratio"] == "2.500"


def test_a_section_that_is_unavailable_keeps_its_figures_and_the_others_are_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    # given results of both, and a machine that can take only one of them anew
    results = tmp_path / "RESULTS.md"
    old = {name: f"{bench.MARK.format(name)}\n## {name}, old\n" for name in ("startup", "sparse")}
    results.write_text("\n".join(old.values()))
    monkeypatch.setattr(bench, "RESULTS", results)
    monkeypatch.setattr(sys, "argv", ["benchmarks", "sparse", "startup"])

    def section(name: str) -> str:
        if name == "sparse":
            raise UnavailableError("no ARM packages")
        return f"{bench.MARK.format(name)}\n## {name}, new\n"

    monkeypatch.setattr(bench, "section", section)

    bench.main()

    written = results.read_text()
    assert "startup, new" in written
    assert "sparse, old" in written
    assert "sparse: left out, no ARM packages" in capsys.readouterr().err

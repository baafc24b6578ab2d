"""Damaged report files: an error that names the place, never a traceback."""

from __future__ import annotations

import copy
import json
import math
import random
import sys
from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any

import pytest

from edgekit.errors import UsageError
from edgekit.records import Report
from edgekit.reports import charts, read_reports, render
from edgekit.reports.drawing import PageCharts
from edgekit.reports.page import html

Path = tuple[str | int, ...]

STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 2**63, -(2**70), 10**400, 1e308, 5e-324, math.inf, math.nan),
    *("", "x", "\x1b[31m", "\ud800", "=1+1", "a" * 5000, "\n|`<b>", "kept", "float32"),
    *([], {}, [[]], [None], {"": None}, [1, 2], [1, 2, 3]),
)


def places(value: Any, path: Path = ()) -> Iterator[Path]:
    """Every place in a document but its root."""
    inner = value.items() if isinstance(value, dict) else ()
    inner = enumerate(value) if isinstance(value, list) else inner
    for key, one in inner:
        yield (*path, key)
        yield from places(one, (*path, key))


def mutated(document: dict, chance: random.Random) -> dict:
    """One to four changes at places of every kind, however often the kind occurs."""
    document = copy.deepcopy(document)
    for _ in range(chance.choice((1, 1, 1, 2, 4))):
        kinds = defaultdict(list)
        for path in places(document):
            kinds[tuple("*" if isinstance(key, int) else key for key in path)].append(path)
        if not kinds:
            break
        path = chance.choice(kinds[chance.choice(list(kinds))])
        change(document, path, chance)
    return document


def change(document: dict, path: Path, chance: random.Random) -> None:
    parent: Any = document
    for key in path[:-1]:
        parent = parent[key]
    last, value = path[-1], parent[path[-1]]
    match chance.randrange(6):
        case 0:
            del parent[last]
        case 1 | 2:
            parent[last] = copy.deepcopy(chance.choice(STRANGE))
        case 3:
            parent[last] = nested(chance.choice((3, 60, 400)))
        case 4:
            if isinstance(parent, list):
                parent.append(copy.deepcopy(value))
            else:
                parent[chance.choice(("x", "\x1b", "=", "rows"))] = copy.deepcopy(value)
        case 5 if isinstance(value, bool) or value is None:
            parent[last] = 1
        case 5 if isinstance(value, int | float):
            parent[last] = chance.choice((-value, value * 10**30, str(value), value / 7, 0))
        case 5 if isinstance(value, str):
            parent[last] = chance.choice((value * 50, value + "\u202e\x00", [value]))
        case 5 if isinstance(value, list):
            parent[last] = chance.choice((value * 3, value[:1], dict(enumerate(value))))
        case 5:
            parent[last] = chance.choice((list(value), list(value.values()), "object"))


def nested(depth: int) -> Any:
    value: Any = 1
    for level in range(depth):
        value = [value] if level % 2 else {"k": value}
    return value


@pytest.fixture(scope="module")
def documents(repository):
    """The real reports, with fewer rows, operators, classes and latencies."""
    found = [json.loads(p.read_text()) for p in sorted(repository.glob("quantized/*/report.json"))]
    assert len(found) >= 6
    for document in found:
        document["rows"] = [row for row in document["rows"] if row["mode"]][:3]
        for row in document["rows"]:
            for key in ("values_ns", "warmup_ns"):
                row["latency"][key] = row["latency"][key][:12]
            row["inspection"]["ops"] = row["inspection"]["ops"][:3]
            row["score"]["per_class"] = row["score"]["per_class"][:3]
    failed = copy.deepcopy(found[0])
    failed["alerts"] = ["The source is no better than guessing."]
    for row in failed["rows"]:
        row["score"]["confusion"] = [[5, 1, 0], [0, 0, 0], [2, 0, 7]]
        row["score"]["per_column"] = [{"label": "speed", "value": 0.5, "ci95": [0.4, 0.6]}]
        row["drop_per_column"] = [
            {"label": "speed", "value": 0.1, "ci95": [0, 0.2], "verdict": "lost", "allowed": 0}
        ]
        row["fidelity"] = [
            {
                "output": "a",
                "n": 9,
                "sqnr_db": None,
                "agreement": 0.5,
                "correlation": 0.5,
                "levels": 2,
            }
        ]
        row["collapses"] = [{"kind": "class", "where": "class 'x'", "detail": "recall 1 became 0"}]
    empty = {"mode": None, "latency": None, "inspection": None, "verdict": None}
    failed["rows"].insert(0, {**failed["rows"][0], **empty, "variant": "source"})
    return [*found, failed, failed]


def read_or_refused(paths: list) -> Report | UsageError:
    try:
        return read_reports(paths)
    except UsageError as error:
        return error


@pytest.mark.parametrize("seed", range(4))
def test_a_damaged_report_is_read_or_refused(documents, seed, tmp_path):
    chance = random.Random(seed)
    path, outcomes = tmp_path / "report.json", Counter()
    other = tmp_path / "other.json"
    other.write_text(json.dumps(documents[0]))
    for number in range(60):
        text = json.dumps(mutated(chance.choice(documents), chance))
        if number % 11 == 0:
            text = text[: chance.randrange(len(text))]
        path.write_text(text)
        report = read_or_refused([path] if number % 3 else [path, other])
        if isinstance(report, UsageError):
            outcomes["refused"] += 1
            assert 2 <= len(str(report).splitlines()) <= 3
            assert "\x1b" not in str(report)
            assert "report.json" in str(report)
            continue
        outcomes["read"] += 1
        for form in ("terminal", "md", "csv", "json"):
            render(report, form).encode()
        html(report, PageCharts()).encode()
        if outcomes["read"] % 10 == 1:
            for chart in charts.charts(report).values():
                json.dumps(chart.to_dict(), allow_nan=False)
    assert outcomes["refused"] > 10
    assert outcomes["read"] > 10


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        (("rows", 1, "size_bytes"), "big", "rows[1].size_bytes is 'big'; expected an integer"),
        (("rows", 1, "size_bytes"), -1, "rows[1].size_bytes is -1; expected an integer from 0"),
        (("rows", 0, "size_bytes"), True, "rows[0].size_bytes is True"),
        (("rows", 0, "score", "value"), 10**400, "rows[0].score.value is 1000"),
        (("rows", 0, "score", "ci95"), [0.5], "rows[0].score.ci95 is list; expected a list of two"),
        (("rows", 0, "score", "metric"), "f9", "expected one of accuracy, "),
        (("rows", 2, "verdict"), "maybe", "expected one of kept, unproven, lost"),
        (("rows", 2, "mode"), "int3", "rows[2].mode is 'int3'"),
        (("rows", 0, "latency", "values_ns"), [], "rows[0].latency.values_ns has no latency"),
        (("rows", 0, "latency", "values_ns", 3), 1.5, "values_ns[3] is 1.5"),
        (("rows", 0, "inspection", "ops", 1, "targets"), [], "ops[1].targets is list"),
        (("rows", 0, "inspection", "bytes"), {"graph": "x"}, "inspection.bytes.graph is 'x'"),
        (("rows", 0, "recommended"), "yes", "expected true or false"),
        (("asked",), {"a": [1]}, "asked.a is list; expected a text"),
        (("devices",), {"pi": 1}, "devices.pi is 1; expected an object"),
        (("warnings",), "one", "warnings is 'one'; expected a list"),
        (("title",), 5, "title is 5; expected a text"),
        (("rows", 0, "manifest"), nested(60), "nested deeper than 50 levels"),
    ],
)
def test_the_first_wrong_value_is_named(documents, place, value, said, tmp_path):
    document = copy.deepcopy(documents[0])
    parent: Any = document
    for key in place[:-1]:
        parent = parent[key]
    parent[place[-1]] = value
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document))
    with pytest.raises(UsageError) as caught:
        read_reports([path])
    assert said in str(caught.value)
    assert "report.json" in str(caught.value)


def test_brackets_without_end(tmp_path):
    path = tmp_path / "report.json"
    path.write_text("[" * 10 * sys.getrecursionlimit())
    with pytest.raises(UsageError, match="nested more than"):
        read_reports([path])


def test_of_a_folder_of_results_the_report_is_named(tmp_path):
    # Given what a command wrote
    (tmp_path / "report.json").write_text("{}")
    # When its folder is given in place of its report
    with pytest.raises(UsageError) as caught:
        read_reports([tmp_path])
    # Then the report is named
    assert caught.value.hint == f"Give {tmp_path / 'report.json'}."


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_a_number_that_json_does_not_have(word, tmp_path):
    path = tmp_path / "report.json"
    path.write_text(f'{{"schema": 1, "rows": [], "data": {{"n": {word}}}}}')
    with pytest.raises(UsageError, match=f"{word} is no JSON number"):
        read_reports([path])


def test_a_manifest_of_any_content_is_shown_as_far_as_it_is_understood(documents, tmp_path):
    document = copy.deepcopy(documents[0])
    path = tmp_path / "report.json"
    for manifest in (
        {"lowering": 5, "left_in_float": 5},
        {"lowering": {"max_abs_difference": None}, "left_in_float": [5]},
        {"lowering": {"max_abs_difference": "x"}, "left_in_float": [{}]},
    ):
        for row in document["rows"]:
            row["manifest"] = manifest
        path.write_text(json.dumps(document))
        page = html(read_reports([path]), PageCharts())
        assert "largest difference" not in page
        assert document["title"] in page


def test_a_float_file_of_nothing_is_in_no_ratio(documents, tmp_path):
    document = copy.deepcopy(documents[0])
    first = document["rows"][0]
    first["size_bytes"] = first["size_deflated_bytes"] = first["flash_bytes"] = 0
    first["latency"]["values_ns"] = [0, 0]
    path = tmp_path / "report.json"
    path.write_text(json.dumps(document))
    text = render(read_reports([path]), "csv")
    column = text.splitlines()[0].split(",").index("size_ratio")
    assert [line.split(",")[column] for line in text.splitlines()[1:]] == ["", "", ""]

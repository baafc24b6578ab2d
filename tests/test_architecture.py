"""The architecture, held by reading the imports of every module.

A room may import from the floors below it and from itself. TensorFlow is a guest in a few rooms.
"""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "toolkit" / "edgekit"

# From the ground up; rooms in one line do not know each other.
FLOORS: list[set[str]] = [
    {"edgekit_runner", "folding", "interruption", "printable", "temporary"},
    {"errors", "fields"},
    {"choices", "modes"},
    {"records"},
    {"archives", "files", "isolate", "numerics", "parsing"},
    {"targets"},
    {"tflite"},
    {"evaluation"},
    {"artifacts", "conditions", "recipe", "data", "schema"},
    {"sources", "training", "lowering"},
    {"quantization", "devices", "worker"},
    {"pipeline"},
    {"reports"},
    {"checks", "doctor"},
    {"api"},
    {"cli"},
    {"__main__"},
]
FLOOR = {room: number for number, rooms in enumerate(FLOORS) for room in rooms}
TENSORFLOW = {"tensorflow", "keras", "tf_keras"}
MAY_IMPORT_TENSORFLOW = {"sources", "training", "lowering"}
# The process that runs those rooms is where TensorFlow is switched on.
WORKER = PACKAGE / "worker" / "server.py"
VAGUE = {"utils", "util", "common", "helpers", "helper", "manager", "misc"}
MODULES = sorted(PACKAGE.rglob("*.py"))
# A report is made of records alone: whoever has a JSON file of rows can render it, without the
# rooms that measured them.
REPORTS_MAY_IMPORT = {
    *(None, "reports", "records", "schema"),
    *("errors", "files", "folding", "isolate", "parsing", "printable", "modes", "evaluation"),
    "conditions",
}


class Import(NamedTuple):
    """One imported module, by its full name, and the line it stands in."""

    name: str
    line: int


def imports(path: Path) -> Iterator[Import]:
    """Every import of a file, in functions and under TYPE_CHECKING too."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            yield from (Import(alias.name, node.lineno) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            module = node.module or ""
            if node.level:
                package = path.relative_to(PACKAGE.parent).parent.parts
                kept = package[: len(package) - node.level + 1]
                module = ".".join((*kept, *module.split("."))).rstrip(".")
            if module == "edgekit":
                yield from (Import(f"edgekit.{alias.name}", node.lineno) for alias in node.names)
            else:
                yield Import(module, node.lineno)


def room_of(path: Path) -> str:
    """The room a file is in; "edgekit" for the package's own `__init__`."""
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return "edgekit" if parts == ("__init__",) else parts[0]


def imported_room(name: str) -> str | None:
    """The room an import leads to, or None for what is not ours."""
    top, _, rest = name.partition(".")
    if top == "edgekit_runner":
        return top
    return rest.partition(".")[0] if top == "edgekit" and rest else None


def module_name(path: Path) -> str:
    """The dotted name under which a file is imported."""
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


ROOM_MODULES = {
    room: {module_name(path) for path in MODULES if room_of(path) == room}
    for room in {room_of(path) for path in MODULES}
}


def imported_modules(path: Path) -> set[str]:
    """Modules of the package that a file imports: `from package import module` is that module."""
    known = set().union(*ROOM_MODULES.values())
    found = {name for name, _ in imports(path)} & known
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom) and node.module:
            members = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= members & known
            if members <= known:
                found.discard(node.module)
    return found


def circle(graph: dict[str, set[str]]) -> list[str]:
    """The modules that reach themselves through each other's imports, sorted."""
    reached = {name: set(direct) for name, direct in graph.items()}
    for middle in graph:
        for name in graph:
            if middle in reached[name]:
                reached[name] |= reached[middle]
    return sorted(name for name in graph if name in reached[name])


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_a_module_imports_from_below_only(path: Path) -> None:
    room = room_of(path)
    if room == "edgekit":
        return  # the front door shows what is in the house
    assert room in FLOOR, f"give the room {room!r} a floor in this test"

    upwards = [
        f"{path.relative_to(REPOSITORY)}:{line} imports {name}"
        for name, line in imports(path)
        if (other := imported_room(name)) is not None
        and other not in {room, "__version__"}
        and FLOOR.get(other, len(FLOORS)) >= FLOOR[room]
    ]

    assert upwards == []


def test_reports_import_records_and_what_describes_them() -> None:
    names = [name for path in MODULES if room_of(path) == "reports" for name, _ in imports(path)]

    rooms = {imported_room(name) for name in names}
    of_evaluation = {name for name in names if imported_room(name) == "evaluation"}

    assert "records" in rooms, "the room's name has changed"
    assert rooms <= REPORTS_MAY_IMPORT
    assert of_evaluation == {"edgekit.evaluation.metrics"}


@pytest.mark.parametrize("room", sorted({room_of(path) for path in MODULES} - {"edgekit"}))
def test_files_of_a_room_do_not_import_each_other_in_a_circle(room: str) -> None:
    graph = {
        name: imported_modules(path) & (ROOM_MODULES[room] - {name})
        for path in MODULES
        if (name := module_name(path)) in ROOM_MODULES[room]
    }

    assert circle(graph) == []


def test_a_circle_is_found() -> None:
    assert circle({"a": {"b"}, "b": {"c"}, "c": set()}) == []
    assert circle({"a": {"b"}, "b": {"c"}, "c": {"b"}}) == ["b", "c"]


def test_tensorflow_is_imported_in_few_rooms() -> None:
    strangers = [
        f"{path.relative_to(REPOSITORY)}:{line} imports {name}"
        for path in MODULES
        for name, line in imports(path)
        if name.partition(".")[0] in TENSORFLOW
        and room_of(path) not in MAY_IMPORT_TENSORFLOW
        and path != WORKER
    ]

    assert strangers == []


def test_tensorflow_is_never_imported_at_a_module_s_top() -> None:
    early = [
        f"{path.relative_to(REPOSITORY)}:{statement.lineno}"
        for path in MODULES
        for statement in ast.parse(path.read_text(encoding="utf-8")).body
        if isinstance(statement, ast.Import | ast.ImportFrom)
        for name in (
            [alias.name for alias in statement.names]
            if isinstance(statement, ast.Import)
            else [statement.module or ""]
        )
        if name.partition(".")[0] in TENSORFLOW
    ]

    assert early == []


def test_names_say_what_is_inside() -> None:
    vague = [
        str(path.relative_to(REPOSITORY))
        for path in MODULES
        if VAGUE & set(path.relative_to(PACKAGE).with_suffix("").parts)
    ]

    assert vague == []


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {
        str(path.relative_to(REPOSITORY)): len(path.read_text(encoding="utf-8").splitlines())
        for path in (REPOSITORY / "toolkit").rglob("*.py")
    }

    assert {name: length for name, length in lengths.items() if length > 400} == {}


ERRORS = {"UsageError", "OutputError", "ModelError", "DataError", "ConversionError", "DeviceError"}


@pytest.mark.parametrize("path", MODULES, ids=lambda p: str(p.relative_to(PACKAGE)))
def test_what_a_function_raises_itself_stands_in_its_docstring(path: Path) -> None:
    """Where a docstring lists errors, none that the function raises is missing or another."""
    wrong = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if not isinstance(node, ast.FunctionDef):
            continue
        _, found, listed = (ast.get_docstring(node) or "").partition("Raises:")
        raised = {
            call.exc.func.id
            for call in ast.walk(node)
            if isinstance(call, ast.Raise)
            and isinstance(call.exc, ast.Call)
            and isinstance(call.exc.func, ast.Name)
        }
        if found and "EdgekitError" not in listed:
            missing = sorted(name for name in raised & ERRORS if name not in listed)
            wrong += [f"{node.name} raises {name}" for name in missing]

    assert wrong == []

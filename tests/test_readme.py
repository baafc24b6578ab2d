"""README.md, CONTRIBUTING.md and docs/ say what the code and the reports say."""

from __future__ import annotations

import pkgutil
import re
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PAGES = sorted(
    [REPOSITORY / "README.md", REPOSITORY / "CONTRIBUTING.md", *REPOSITORY.glob("docs/**/*.md")]
)
FENCE = re.compile(r"^( *)```(\w*)\n(.*?)^\1```$", re.MULTILINE | re.DOTALL)
DEAD_LINKS = """\
# Home
[page](nope.md), [heading](other.md#nope), [file](../nope.toml), [own heading](#nope)

![picture](nope.png)

```{eval-rst}
.. autofunction:: edgekit.nope
```
"""

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(REPOSITORY)))


def blocks(page, language):
    """The fenced blocks of a page that are marked with a language."""
    found = FENCE.findall(page.read_text(encoding="utf-8"))
    return [textwrap.dedent(body) for _, marked, body in found if marked == language]


def site(source, folder):
    """Build pages as `make site` does, and return what Sphinx says about them."""
    command = [sys.executable, "-m", "sphinx", "-W", "--keep-going", "-q", "-b", "html"]
    return subprocess.run(
        [*command, "-c", REPOSITORY / "docs", source, folder],
        capture_output=True,
        text=True,
        check=False,
    )


def test_the_generated_parts_are_up_to_date(repository):
    done = subprocess.run(
        [sys.executable, repository / "docs" / "build.py", "--check"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "as generated" in done.stdout


@every_page
def test_every_option_and_command_it_names_exists(page):
    import typer

    from edgekit.cli import app

    commands = typer.main.get_command(app).commands
    for block in blocks(page, ""):
        for name, rest in re.findall(r"^edgekit (\w+)(.*)$", block, re.MULTILINE):
            assert name in commands, name
            known = {option for p in commands[name].params for option in p.opts}
            for option in re.findall(r"(?<!\S)(--?[a-z][a-z-]*)", rest):
                assert option in known, (name, option)


@every_page
def test_its_recipes_and_its_python_are_valid(page):
    from edgekit.recipe import parse_recipe

    for block in blocks(page, "toml"):
        if "[[step]]" in block:
            assert parse_recipe(block, page.stem).name
    for block in blocks(page, "python"):
        compile(block, page.name, "exec")


def test_every_python_name_it_mentions_exists():
    names = {
        name
        for page in PAGES
        for name in re.findall(r"`(edgekit(?:\.\w+)+)`", page.read_text(encoding="utf-8"))
    }
    assert names
    for name in names:
        pkgutil.resolve_name(name)


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md"])
def test_every_file_it_links_to_exists(repository, name):
    text = (repository / name).read_text()
    links = re.findall(r"\]\(([^)#:]+)\)", text)
    assert links
    for link in links:
        assert (repository / link).exists(), link


def test_the_readme_is_short_and_shows_the_commands_of_a_first_visit(repository):
    text = (repository / "README.md").read_text(encoding="utf-8")
    assert len(text.encode()) <= 8000
    assert "pip install .\nedgekit demo\n" in text
    assert "edgekit quantize model.keras --data data.npz\n" in text


def test_every_page_of_the_docs_is_linked_from_the_readme_or_the_index(repository):
    linked = (repository / "README.md").read_text() + (repository / "docs/index.md").read_text()
    for page in (repository / "docs").rglob("*.md"):
        name = page.relative_to(repository / "docs").with_suffix("").as_posix()
        assert name == "index" or re.search(rf"^{name}$|docs/{name}\.md", linked, re.MULTILINE), (
            page
        )


def test_a_dead_link_fails_the_site(tmp_path):
    pytest.importorskip("sphinx", reason="the dependency group docs is not installed")
    source = tmp_path / "docs"
    source.mkdir()
    (source / "other.md").write_text("---\norphan: true\n---\n# Other\n")
    (source / "index.md").write_text(DEAD_LINKS)

    done = site(source, tmp_path / "site")

    assert done.returncode == 1
    warnings = [line for line in done.stderr.splitlines() if "WARNING" in line]
    missing = ("'nope.md'", "doc 'other': 'nope'", "nope.toml", "found: 'nope'", "nope.png")
    for what in (*missing, "failed to import 'nope'"):
        assert [line for line in warnings if what in line], (what, warnings)
    assert len(warnings) == len(missing) + 1


def test_the_hooks_before_a_commit_are_what_lint_runs(repository):
    hooks = (repository / ".pre-commit-config.yaml").read_text()
    makefile = (repository / "Makefile").read_text()

    entries = re.findall(r"entry: \.venv/bin/(.+)", hooks)
    recipe = makefile.partition("\nlint:")[2].partition("\n\n")[0]
    commands = re.findall(r"\$\(BIN\)/(.+)", recipe)
    assert [entry.replace(" --force-exclude", "") for entry in entries] == [
        command.removesuffix(" .") for command in commands
    ]


@pytest.mark.parametrize("folder", ["quantized", "models"])
def test_the_published_models_keep_their_promises(repository, folder):
    """The published models and reports stay within their size limits."""
    import json

    if folder == "models":
        sizes = [p.stat().st_size for p in (repository / "models").rglob("*.keras")]
        assert len(list((repository / "models").glob("*/*.keras"))) == 5
        assert len(list((repository / "models").glob("*/small/*-qat.keras"))) == 3
        assert max(sizes) < 2_000_000
        return
    floats = {}
    for path in (repository / "quantized").glob("*/report.json"):
        rows = [row for row in json.loads(path.read_text())["rows"] if row["mode"]]
        floats[path.parent.name] = rows[0]
        parameters = rows[0]["manifest"]["source"]["parameters"]
        if path.parent.name == "fashion-mnist":
            assert parameters <= 100_000
    for path in (repository / "quantized").glob("*-small/report.json"):
        first, *_, last = (r for r in json.loads(path.read_text())["rows"] if r["mode"])
        assert last["size_deflated_bytes"] < first["size_deflated_bytes"] / 5, path
        if path.parent.name == "fashion-mnist-small":
            assert last["size_deflated_bytes"] < first["size_deflated_bytes"] / 12
            assert last["drop"] <= 0.01
    assert floats["fashion-mnist"]["score"]["value"] >= 0.920
    assert floats["spoken-digits"]["score"]["value"] >= 0.985
    assert floats["turbofan"]["score"]["value"] <= 16.2
    assert floats["bccd"]["score"]["value"] >= 0.45
    assert floats["nuclei"]["score"]["value"] >= 0.85
    assert max(floats[name]["size_bytes"] for name in ("bccd", "nuclei")) <= 300_000

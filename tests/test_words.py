"""Public texts use the field's words: help, messages, reports, docs.

A phrase that was found to puzzle people stands here with what replaces it, and never comes back.
"""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]
PACKAGE = REPOSITORY / "toolkit" / "edgekit"
BANNED = {
    r"\bcosine (begins|follows)\b": "initial learning rate (cosine decay)",
    r"\bits peak\b": "peak learning rate",
    r"\b[Ss]amples a step\b": "batch size",
    r"\b[Ww]alks through the\b": "training epochs",
    r"\b[Oo]f every random choice\b": "random seed",
    r"\b[Pp]recision of the whole\b": "default precision",
    r"\b[Ll]ayers treated apart\b": "per-layer overrides",
    r"\b[Ww]eights a kernel\b": "clusters per kernel",
    r"\b[Pp]alette starts\b": "centroid initialization",
    r"\bas it looks\b": "inferred from the targets",
    r"\bcannot be\.": "invalid value for",
    r"\b(cannot )?means? (nothing|anything)\b": "has no effect; invalid",
    r"\bNobody says\b": "is not specified",
    r"\bdoes not let you in\b": "permission denied by",
    r"\bwants a file\b": "requires --output",
    r"\bwithout a word\b": "without an error message",
    r"\bthe others are held against\b": "the baseline",
    r"\bThere is no (mode|task|metric|goal|scope|format) \{": "unknown",
    r"\b([Ff]oretell|[Tt]eller|[Cc]ure)\b": "estimate, progress, hint",
    r"\b(stays|left) as it is\b": "is not changed",
    r"\bhold(s)? together\b": "is invalid, is damaged",
    r"\b([Ss]ettles?|[Ss]ettled) in\b": "converges",
    r"\b([Hh]ears|[Ss]peaks) of\b": "receives, refers to",
    r"\b[Bb](ring|rings|rought) code along\b": "contain code",
    r"\bweights? (leave|leaves|left|goes|go)\b": "are removed",
    r"\b[Ww]hat came of\b": "result of",
    r"\bmodel in the making\b": "under construction",
    r"\bforeign (bytes|file|error)s?\b": "untrusted",
    r"\bunless told to\b": "by default",
    r"\bcome into being\b|\bcame into being\b": "is created",
    r"\bcut short on its way\b": "truncated",
}


def strings(path: Path) -> Iterator[tuple[str, int]]:
    """Every text of a module, docstrings of public things included; f-strings without values."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield node.value, node.lineno


def offences(text: str) -> list[str]:
    found = [(phrase, better) for phrase, better in BANNED.items() if re.search(phrase, text)]
    return [f"{phrase!r}: say {better!r}" for phrase, better in found]


SOURCES = [*PACKAGE.rglob("*.py"), REPOSITORY / "device_scripts" / "edgekit_runner.py"]
PAGES = [
    *REPOSITORY.glob("*.md"),
    *(REPOSITORY / "docs").rglob("*.md"),
    *(REPOSITORY / "device_scripts").glob("*.md"),
]


@pytest.mark.parametrize(
    "path", sorted(SOURCES), ids=lambda p: p.relative_to(REPOSITORY).as_posix()
)
def test_messages_and_help_use_the_field_s_words(path: Path) -> None:
    found = [
        f"{path.relative_to(REPOSITORY)}:{line}: {offence}"
        for text, line in strings(path)
        for offence in offences(text)
    ]

    assert found == []


@pytest.mark.parametrize("path", sorted(PAGES), ids=lambda p: p.relative_to(REPOSITORY).as_posix())
def test_pages_use_the_field_s_words(path: Path) -> None:
    assert offences(path.read_text(encoding="utf-8")) == []


def test_the_check_sees_a_banned_phrase() -> None:
    assert offences("Where a cosine begins.") != []
    assert offences("Initial learning rate (cosine decay).") == []

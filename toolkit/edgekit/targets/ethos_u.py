"""Arm's NPUs Ethos-U, beside a Cortex-M or Cortex-A: their compiler Vela decides what runs on them.

Vela simulates cycles and memory for a system configuration and a memory mode: those of its
configuration file `Arm/vela.ini`, which stand for chips of a kind rather than for a product.
"""

from __future__ import annotations

import configparser
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Final

from edgekit.errors import UsageError
from edgekit.records import TargetFit
from edgekit.targets.node import Node
from edgekit.targets.target import Settings, Target

_MODULE: Final = "ethosu"
_UNKNOWN: Final = TargetFit(mapped=False, reason="only Arm's compiler Vela can tell")


def npu(accelerator: str) -> Target:
    """Return an Ethos-U as a target.

    Args:
        accelerator: A configuration of Vela, such as `ethos-u55-128`.
    """
    return Target(
        predicted=False,
        fit=_fit,
        settings={
            "system-config": _one_of("System_Config"),
            "memory-mode": _one_of("Memory_Mode"),
        },
        accelerator=accelerator,
        ready=_ready,
    )


def _fit(nodes: Sequence[Node], _: Settings) -> Mapping[int, TargetFit]:
    return {node.index: _UNKNOWN for node in nodes}


def _folder() -> Path | None:
    """Return where Vela is installed."""
    spec = importlib.util.find_spec(_MODULE)
    places = spec.submodule_search_locations if spec is not None else None
    return Path(next(iter(places))) if places else None


def _ready() -> None:
    if _folder() is None:
        raise UsageError(
            "Ethos-U targets need Arm's compiler Vela, which is not installed.",
            hint="pip install 'edgekit-tflite[vela]'",
        )


def _one_of(kind: str) -> Callable[[str], str]:
    """Return a function that takes the name of a section of this kind of Vela's configuration."""

    def parse(text: str) -> str:
        folder = _folder()
        if folder is None:
            return text
        config = configparser.ConfigParser()
        config.read(folder / "config_files" / "Arm" / "vela.ini", encoding="utf-8")
        sections = [section.partition(".") for section in config.sections()]
        names = [name for prefix, _, name in sections if prefix == kind]
        if text not in names:
            raise ValueError(f"Vela knows {', '.join(names)}.")
        return text

    return parse

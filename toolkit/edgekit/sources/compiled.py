"""What a model was compiled with, read from its configuration; nothing of it is run."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from edgekit.archives import read_member
from edgekit.evaluation.metrics.keras_names import metrics_compiled
from edgekit.parsing import parse_json


def compiled_metrics(path: Path, kind: str) -> tuple[str, ...]:
    """Return the metrics that a model file was compiled with, by edgekit's names."""
    try:
        if kind == "keras":
            document = parse_json(read_member(path, "config.json"))
            config = document.get("compile_config") if isinstance(document, Mapping) else None
        elif kind == "h5":
            import h5py

            with h5py.File(path) as file:
                text = file.attrs.get("training_config", "{}")
            config = parse_json(text if isinstance(text, bytes) else str(text).encode())
        else:
            return ()
    except (KeyError, OSError, ValueError):
        return ()
    return metrics_compiled(config) if isinstance(config, Mapping) else ()


def compiled_metrics_of(model: Any) -> tuple[str, ...]:
    """Return the metrics that a model in memory was compiled with."""
    if not getattr(model, "compiled", False):
        return ()
    try:
        config = model.get_compile_config()
    except Exception:  # metrics of the user's own may not tell their configuration
        return ()
    return metrics_compiled(config) if isinstance(config, Mapping) else ()

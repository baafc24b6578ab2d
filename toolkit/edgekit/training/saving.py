"""Write models atomically, compressed and reproducibly, and read checkpoints."""

from __future__ import annotations

import json
import re
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from edgekit.archives import ArchiveError, check_weights, read_member
from edgekit.data.heads import SUFFIX
from edgekit.errors import ModelError, UsageError
from edgekit.files import FILE, check_input, what_is, writing
from edgekit.parsing import parse_json
from edgekit.training.kernels import use_statistics
from edgekit.training.objective import Objective

CHECKPOINT_SECONDS = 10.0
"""Longest time between checkpoints: training lost by an interruption, beyond the current epoch."""

# Keras ignores archive members that it does not know.
_NOTES: Final = "edgekit.json"
PREPROCESSING: Final = "preprocessing"
"""The note that says how pixels were scaled in training."""


def checkpoint_path(destination: Path) -> Path:
    """Return where the best weights so far are stored while training for `destination` runs."""
    return destination.with_name(f"{destination.stem}.checkpoint.keras")


def preprocessing_note(spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the note of a preprocessing; empty for one that scales no pixels."""
    return {PREPROCESSING: dict(spec)} if spec["kind"] in ("affine", "image") else {}


def save(
    model: Any,
    path: Path,
    objective: Objective,
    notes: Mapping[str, Any] | None = None,
    *,
    force: bool = True,
) -> None:
    """Write the model atomically, with its outputs in the unit of the targets.

    Args:
        model: The model.
        path: The `.keras` file.
        objective: Holds the unit of the targets.
        notes: As in `write_model`.
        force: Whether a file there is replaced.

    Raises:
        OutputError: The file cannot be written, or exists and `force` is false.
    """
    with objective.in_unit(model):
        write_model(model, path, notes, force=force)


def write_head(head: Mapping[str, Any], model: Path) -> Path:
    """Write the detection head of a model beside it; returns the file.

    Raises:
        OutputError: It cannot be written.
    """
    lines = [f"{key} = {_toml(value)}" for key, value in head.items() if value is not None]
    path = model.with_name(f"{model.stem}{SUFFIX}")
    with writing(path) as temporary:
        temporary.write_text("\n".join(["[head]", *lines, ""]), encoding="utf-8")
    return path


def _toml(value: Any) -> str:
    """Return a value as TOML writes it: JSON, but for tables."""
    if isinstance(value, dict):
        return f"{{ {', '.join(f'{key} = {_toml(one)}' for key, one in value.items())} }}"
    if isinstance(value, list | tuple):
        return f"[{', '.join(map(_toml, value))}]"
    return json.dumps(value)


def refuse_other_formats(path: Path) -> None:
    """Raise unless Keras writes its `.keras` format to this path.

    Raises:
        UsageError: It does not end in `.keras`.
    """
    if path.suffix != ".keras":
        raise UsageError(
            f"{path} cannot be written: models are stored as .keras files.",
            hint=f"Give --output {path.with_suffix('.keras') if path.name else 'model.keras'}.",
        )


def write_model(
    model: Any,
    path: Path,
    notes: Mapping[str, Any] | None = None,
    *,
    force: bool = True,
    restore: Mapping[str, Mapping[str, Any]] | None = None,
) -> None:
    """Write a Keras model atomically; the same weights give the same bytes.

    Args:
        model: The model.
        path: The `.keras` file.
        notes: JSON for the next pass, stored inside the file; see `read_notes`.
        force: Whether a file there is replaced.
        restore: Name of a layer -> arguments it has in the file, where it takes them.

    Raises:
        OutputError: The file cannot be written, or exists and `force` is false.
    """
    with writing(path, replace=force) as temporary:
        model.save(temporary)
        _repack(temporary, notes or {}, restore or {})


def read_notes(path: Path) -> dict[str, Any]:
    """Read the notes that `write_model` stored; empty for other models. Imports no Keras."""
    if what_is(path) != FILE:
        return {}
    try:
        found = parse_json(read_member(path, _NOTES))
    except (OSError, KeyError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def start_from(model: Any, initial: Path, objective: Objective) -> None:
    """Load into the model the weights of a file that `write_model` wrote.

    Raises:
        ModelError: It cannot be read, or is of another architecture.
    """
    import keras

    check_input(initial, ModelError, hint="Start from a .keras file that edgekit train wrote.")
    try:
        _check_weights(initial)
        weights = keras.models.load_model(initial, compile=False).get_weights()
    except ArchiveError as error:
        raise ModelError(
            f"{initial} is not unpacked.", found=error.found, hint=error.hint
        ) from error
    except Exception as error:
        raise ModelError(
            f"{initial} cannot be read.",
            found=str(error).strip().splitlines()[0],
            hint="Start from a .keras file that edgekit train wrote.",
        ) from error
    found, wanted = ([value.shape for value in part] for part in (weights, model.get_weights()))
    if found != wanted:
        raise ModelError(
            f"{initial} does not have the weights of this {model.name}.",
            found=f"It has {len(found)} arrays of weights, {model.name} has {len(wanted)}."
            if len(found) != len(wanted)
            else "Their shapes differ.",
            hint="Give the architecture and options it was trained with.",
        )
    model.set_weights(weights)
    use_statistics(model)
    objective.standardize(model)


def _check_weights(path: Path) -> None:
    if others := check_weights(path):
        raise ArchiveError(
            f"It reads another file when it is loaded: {others[0]}.",
            "Start from a .keras file that edgekit train wrote.",
        )


def _repack(path: Path, notes: Mapping[str, Any], restore: Mapping[str, Mapping[str, Any]]) -> None:
    """Compress a `.keras` file and make it reproducible: the same weights, the same bytes.

    The format is a zip archive of `config.json`, `metadata.json` and the weights. Keras stores them
    uncompressed, with the time, and names objects that layers share by their memory addresses.
    """
    with zipfile.ZipFile(path) as archive:
        members = {name: archive.read(name) for name in sorted(archive.namelist())}
    metadata = json.loads(members["metadata.json"])
    metadata.pop("date_saved", None)
    members["metadata.json"] = json.dumps(metadata).encode()
    if notes:
        members[_NOTES] = json.dumps(notes).encode()
    if restore:
        members["config.json"] = _restored(members["config.json"], restore)
    shared: dict[bytes, bytes] = {}
    members["config.json"] = re.sub(
        rb'(?<="shared_object_id": )\d+',
        lambda found: shared.setdefault(found[0], b"%d" % len(shared)),
        members["config.json"],
    )
    with zipfile.ZipFile(path, "w") as archive:
        for name, content in members.items():
            # an explicit ZipInfo has a fixed time stamp
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED, compresslevel=9)


def _restored(config: bytes, restore: Mapping[str, Mapping[str, Any]]) -> bytes:
    """Return a model's configuration with the arguments of some layers set back."""
    document = json.loads(config)
    pending = [document]
    while pending:
        value = pending.pop()
        if isinstance(value, dict):
            config_of = value.get("config")
            name = config_of.get("name") if isinstance(config_of, dict) else None
            if restore.get(str(name), {}).get("stateful"):
                value.pop("build_config", None)  # its batch size is open; Keras builds it anew
            for key, wanted in restore.get(str(value.get("name")), {}).items():
                now = value.get(key)
                # A size is set back only where the layer still has as many axes and channels.
                same = not isinstance(wanted, list) or (
                    isinstance(now, list)
                    and len(now) == len(wanted)
                    and wanted[-1] in (None, now[-1])
                )
                if key in value and same:
                    value[key] = wanted
            pending.extend(value.values())
        elif isinstance(value, list):
            pending.extend(value)
    return json.dumps(document).encode()

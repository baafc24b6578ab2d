"""What `import edgekit` offers: verbs with parameters that have names, and records in return."""

from __future__ import annotations

import inspect
import subprocess
import sys
from pathlib import Path

import pytest

import edgekit
from edgekit import api
from edgekit.api.data import files_of
from edgekit.api.passes import TransformOptions
from edgekit.errors import ModelError

VERBS = [name for name in edgekit.__all__ if name.islower() and name != "unpacked_limit"]


def test_dir_lists_the_verbs():
    listed = {name for name in dir(edgekit) if not name.startswith("__")}
    assert listed == set(edgekit.__all__)
    assert "__version__" in dir(edgekit)
    done = subprocess.run(
        [sys.executable, "-c", "import sys, edgekit; dir(edgekit); print('numpy' in sys.modules)"],
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout == "False\n"


def test_what_is_not_there_is_an_attribute_error():
    with pytest.raises(AttributeError, match="no attribute 'quantise'"):
        edgekit.quantise  # noqa: B018


@pytest.mark.parametrize("verb", VERBS)
def test_every_parameter_has_a_name_and_a_type(verb):
    for parameter in inspect.signature(getattr(api, verb)).parameters.values():
        assert parameter.annotation is not inspect.Parameter.empty
        if parameter.kind is inspect.Parameter.VAR_KEYWORD:
            # The fields of a typed dictionary are named parameters, too.
            assert parameter.annotation == f"Unpack[{TransformOptions.__name__}]"


@pytest.mark.parametrize("verb", VERBS)
def test_every_verb_returns_one_record(verb):
    returned = inspect.signature(getattr(api, verb)).return_annotation
    # Findings are several records of one kind, and a rendered report is text or a picture.
    assert returned in {
        *(
            "Adaptation",
            "Report",
            "Artifact",
            "Check",
            "Comparison",
            "Deployed",
            "Exported",
            "ImportResult",
            "Inspection",
            "PassComparison",
            "Proof",
            "TrainingResult",
            "LayerDifferences",
            "Rebuilt",
            "Sensitivity",
        ),
        *("tuple[Finding, ...]", "str | bytes"),
    }


@pytest.mark.parametrize("paths", ["a.tflite", Path("a.tflite"), ["a.tflite"], (Path("a.tflite"),)])
def test_one_file_needs_no_list(paths):
    assert files_of(paths) == [Path("a.tflite")]
    with pytest.raises(ModelError, match=r"a\.tflite does not exist"):
        edgekit.bench(paths)

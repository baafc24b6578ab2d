"""Fixtures every test may ask for."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

REPOSITORY = Path(__file__).resolve().parents[1]


def data_root() -> Path | None:
    """Where the shared data sets are: `$EDGEKIT_DATA`, or the folder beside the checkout."""
    for place in (os.environ.get("EDGEKIT_DATA"), REPOSITORY.parent / "shared" / "data"):
        if place and Path(place).is_dir():
            return Path(place)
    return None


@pytest.fixture(scope="session")
def shared_data() -> Path:
    root = data_root()
    if root is None:
        pytest.skip("the shared data sets are not here: set EDGEKIT_DATA")
    os.environ.setdefault("EDGEKIT_DATA", str(root))
    return root


@pytest.fixture(scope="session")
def repository() -> Path:
    return REPOSITORY


@pytest.fixture(scope="session")
def demo_model() -> Path:
    """The trained CNN that comes along."""
    return REPOSITORY / "toolkit" / "edgekit" / "demo" / "digits_cnn.keras"


@pytest.fixture(scope="session")
def golden() -> Path:
    return REPOSITORY / "tests" / "golden"

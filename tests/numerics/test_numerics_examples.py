"""The worked examples in the docstrings."""

from __future__ import annotations

import doctest
import importlib
import pkgutil

import pytest

from edgekit import numerics

MODULES = [m.name for m in pkgutil.iter_modules(numerics.__path__, "edgekit.numerics.")]


@pytest.mark.parametrize("name", MODULES)
def test_examples_come_out_as_written(name: str) -> None:
    results = doctest.testmod(importlib.import_module(name))
    assert results.attempted > 0
    assert results.failed == 0

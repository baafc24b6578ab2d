"""What is said of a model whose layers were left in float when it was trained."""

from __future__ import annotations

import pytest

from edgekit.pipeline.sources import float_notes


@pytest.mark.parametrize(
    ("classes", "named"),
    [
        ({"memory": "GRU", "attention": "MultiHeadAttention with a mask"}, "memory (GRU), att"),
        ({"dense": "Dense", "relu": "fused"}, "dense (Dense)"),
        ({"scaled": "Rescaling", "any": "Any"}, None),
    ],
)
def test_layers_that_stay_float_are_named_again(classes, named):
    said = float_notes({"float": [*classes], "float_classes": classes})
    assert (named in said[0]) if named else not said


def test_files_of_before_name_no_classes():
    assert float_notes({"float": ["memory"]}) == []

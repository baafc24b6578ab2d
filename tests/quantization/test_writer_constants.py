"""Codes of constants."""

from __future__ import annotations

import gc

import numpy as np

from edgekit.quantization.writer import constants
from edgekit.tflite import contents


def test_codes_of_weights_are_kept_as_long_as_their_content() -> None:
    # Given the buffer of some weights, in float32
    values = np.random.default_rng(0).normal(size=(4, 8)).astype(np.float32)
    content = values.reshape(-1).view(np.uint8)
    gc.collect()
    known = len(contents._known)
    # When their codes are asked for again, then they are the same; other widths are others.
    first = constants.own_codes(content, values, 0)
    assert constants.own_codes(content, values, 0) is first
    assert constants.own_codes(content, values, 0, 4) is not first
    expected = constants.weight_codes(values, constants.weight_scales(values, 0), 0)
    np.testing.assert_array_equal(first.values, expected.values)
    np.testing.assert_array_equal(first.scales, expected.scales)
    assert not first.values.flags.writeable
    assert len(contents._known) == known + 2
    # And when the content is gone, so are they.
    del content, values
    gc.collect()
    assert len(contents._known) == known

"""The TensorFlow process as users start it."""

from __future__ import annotations

import pytest
from warm_tensorflow import WarmTensorFlow

from edgekit.worker import client


@pytest.fixture(autouse=True)
def cold_start(warm_tensorflow: WarmTensorFlow, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every child imports what stands in TensorFlow's place."""
    monkeypatch.setattr(client, "start", warm_tensorflow.cold)

"""Lower the spoken-digit baseline for the tests of quantization: `python make_quantize_models.py`.

Reads `baselines/fsdd_dscnn.keras` of the shared data ($EDGEKIT_DATA).
"""

from __future__ import annotations

import os
from pathlib import Path

from edgekit.worker import Worker

if __name__ == "__main__":
    with Worker() as worker:
        worker.load(Path(os.environ["EDGEKIT_DATA"]) / "baselines" / "fsdd_dscnn.keras")
        worker.lower(Path(__file__).parent / "quantize" / "speech_float32.tflite")

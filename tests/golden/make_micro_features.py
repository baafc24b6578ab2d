"""Write `runner/micro_features.npz`: what TFLite Micro's audio front end makes of two clips.

    pip install pymicro-features && python tests/golden/make_micro_features.py

The package holds the C code that ESPHome runs on a microcontroller.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pymicro_features import MicroFrontend

HERE = Path(__file__).parent


def clips() -> list[np.ndarray]:
    """A sweep in noise, and bursts at the limits of 16 bits; integers, the same everywhere."""
    k = np.arange(16000)
    noise = np.random.default_rng(7).integers(-700, 700, 16000)
    sweep = k * (k // 40) % 9000 - 4500 + noise
    bursts = np.where(k // 3000 % 2, np.where(k // 23 % 2, 32767, -32768), noise // 300)
    return [np.asarray(values, np.int16) for values in (sweep, bursts)]


def features(clip: np.ndarray) -> np.ndarray:
    """The front end's integers, `[frames, 40]`."""
    front_end, rows, place = MicroFrontend(), [], 0
    while place + 160 <= len(clip):
        found = front_end.process_samples(clip[place : place + 160].tobytes())
        place += found.samples_read
        if found.features:
            rows.append(found.features)
    return np.rint(np.array(rows) * 25.6).astype(np.uint16)


if __name__ == "__main__":
    np.savez_compressed(
        HERE / "runner" / "micro_features.npz",
        audio=np.stack(clips()),
        features=np.stack([features(clip) for clip in clips()]),
    )

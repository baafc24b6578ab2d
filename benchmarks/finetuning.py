"""Fine-tuning by the passes, against `Model.fit` of the same model.

Same data, epochs, batch size, optimizer and validation samples, in one process and in turns, so
that only the ratio counts: the median over rounds of wall times, each from the loaded model to the
trained one, with all tracing. `distill` is what distillation adds to `prune`, the teacher's
predictions included. `cluster` folds batch normalizations into the layers before them, and so
trains fewer operators. Wanted are at most 1.15 for prune and cluster, 2.0 for qat, 0.1 for distill.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from edgekit.recipe import Cluster, PassStep, Prune, Qat
from edgekit.records import DataRequest

MODELS = {"turbofan": 6, "spoken-digits": 5}
"""Published model -> epochs."""
STEPS: dict[str, tuple[PassStep, bool]] = {
    "prune": (Prune(), False),
    "prune, distilled": (Prune(), True),
    "cluster": (Cluster(), False),
    "qat": (Qat(), False),
}
ROUNDS = 3
BATCH = 64


def measure() -> list[dict[str, object]]:
    """Time all steps on all models."""
    return [_line(name, epochs) for name, epochs in MODELS.items()]


def _line(name: str, epochs: int) -> dict[str, object]:
    taken: dict[str, list[float]] = defaultdict(list)
    for turn in range(ROUNDS + 1):  # the first warms up
        runs: dict[str, Callable[[], None]] = {"fit": lambda: _plain(name, epochs)}
        for what, (step, distilled) in STEPS.items():
            runs[what] = lambda step=step, distilled=distilled: _pass(  # type: ignore[misc]
                name, step, epochs, distilled=distilled
            )
        for what, run in runs.items():
            began = time.monotonic()
            run()
            spent = time.monotonic() - began
            print(f"{name}, {what}: {spent:.2f} s", file=sys.stderr, flush=True)
            if turn:
                taken[what].append(spent)

    def ratio(what: str) -> float:
        pairs = zip(taken[what], taken["fit"], strict=True)
        return statistics.median(spent / plain for spent, plain in pairs)

    added = ratio("prune, distilled") - ratio("prune")
    return {
        "model": name,
        "epochs": epochs,
        "fit": f"{statistics.median(taken['fit']):.1f} s",
        "prune": f"{ratio('prune'):.2f}",
        "distill": f"{added:+.2f}",
        "cluster": f"{ratio('cluster'):.2f}",
        "qat": f"{ratio('qat'):.2f}",
    }


def _loaded(name: str) -> Any:
    from edgekit import sources

    return sources.load(Path(f"models/{name}/{name}.keras"))


def _tuning(name: str, epochs: int) -> Any:
    from edgekit.training import load_config
    from edgekit.training.finetuning import Tuning

    config = load_config(Path(f"models/{name}/model.toml"))
    data = DataRequest(data=config.data, preprocessing=config.preprocessing)
    # never stops early, so that all run as long
    return Tuning(data=data, epochs=epochs, batch_size=BATCH, patience=epochs + 1)


def _plain(name: str, epochs: int) -> None:
    """Train as a few lines of Keras do."""
    import keras

    from edgekit.training.finetuning import FineTuning
    from edgekit.training.sequence import inputs_of

    found, tuning = _loaded(name), _tuning(name, epochs)
    fine = FineTuning(found.model, found.source, tuning)
    fit, validation = (part.read(np.arange(part.n)) for part in (fine.training, fine.validation))
    regression = fine.dataset.task == "regression"
    found.model.compile(
        keras.optimizers.Adam(
            keras.optimizers.schedules.CosineDecay(tuning.learning_rate, epochs * fine.steps)
        ),
        "mse" if regression else "sparse_categorical_crossentropy",
        metrics=["mse" if regression else "accuracy"],
    )
    found.model.fit(
        inputs_of(fit),
        fit.targets,
        batch_size=BATCH,
        epochs=epochs,
        validation_data=(inputs_of(validation), validation.targets),
        validation_batch_size=256,
        verbose=0,
    )


def _pass(name: str, step: PassStep, epochs: int, *, distilled: bool) -> None:
    """Run a pass as `edgekit` does, the teacher included."""
    from edgekit.training.finetuning import teach
    from edgekit.training.passes import run_pass

    tuning = replace(_tuning(name, epochs), learning_rate=step.learning_rate)
    with tempfile.TemporaryDirectory() as folder:
        if distilled:
            place = Path(folder) / "teacher.npy"
            found = _loaded(name)
            teach(found.model, found.source, tuning=tuning, destination=place)
            tuning = replace(tuning, teacher=place)
        found = _loaded(name)
        run_pass(
            found.model,
            found.source,
            step=step,
            tuning=tuning,
            destination=Path(folder) / "made.keras",
        )

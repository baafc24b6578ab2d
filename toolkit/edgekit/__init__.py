"""From a trained Keras model to the smallest and fastest TFLite file that keeps its accuracy.

The verbs of the command line are here under the same names; `edgekit.records` holds what they
return, `edgekit.errors` what they raise. `Prune` and its like are the settings of a
pass. Nothing heavy is imported before it is used.
"""

from __future__ import annotations

TYPE_CHECKING = False  # as `typing` has it: importing that comes before signals are answered

__version__ = "0.1.0"
__all__ = [
    "Adapt",
    "Cluster",
    "Prune",
    "Qat",
    "Shrink",
    "Training",
    "adapt",
    "bench",
    "check",
    "cluster",
    "compare",
    "compress",
    "demo",
    "deploy",
    "diff",
    "doctor",
    "evaluate",
    "expand",
    "export",
    "import_model",
    "inspect",
    "prune",
    "qat",
    "quantize",
    "rebuild",
    "report",
    "sensitivity",
    "shrink",
    "train",
    "transform",
    "unpacked_limit",
    "verify",
]

if TYPE_CHECKING:
    from typing import Any

    from edgekit.api import (
        Adapt,
        Cluster,
        Prune,
        Qat,
        Shrink,
        Training,
        adapt,
        bench,
        check,
        cluster,
        compare,
        compress,
        demo,
        deploy,
        diff,
        doctor,
        evaluate,
        expand,
        export,
        import_model,
        inspect,
        prune,
        qat,
        quantize,
        rebuild,
        report,
        sensitivity,
        shrink,
        train,
        transform,
        unpacked_limit,
        verify,
    )


def __getattr__(name: str) -> Any:
    if name in __all__:
        from edgekit import api

        return getattr(api, name)
    raise AttributeError(f"module 'edgekit' has no attribute {name!r}")


def __dir__() -> list[str]:
    # Not what else has been imported by now: rooms are no names of this one.
    return sorted({*__all__, *(name for name in globals() if name.startswith("__"))})

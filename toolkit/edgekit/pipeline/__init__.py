"""The way through, from a source to a report: every other room is called from here.

- `request`: what was asked for, and what of it is possible.
- `sources`: a file becomes a verified float graph (TensorFlow only where it must).
- `ladder`: one float graph becomes every variant asked for, each scored and timed.
- `measuring`: files that exist already are scored and timed.
- `deploying`: they are scored and timed on devices behind SSH.
- `manifest`: what is written beside each file.
"""

from edgekit.pipeline.deploying import Deployment, Outcome, deploy, first_error
from edgekit.pipeline.ladder import quantize
from edgekit.pipeline.measuring import bench, evaluate
from edgekit.pipeline.request import Request
from edgekit.pipeline.sources import import_source

__all__ = [
    "Deployment",
    "Outcome",
    "Request",
    "bench",
    "deploy",
    "evaluate",
    "first_error",
    "import_source",
    "quantize",
]

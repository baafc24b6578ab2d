"""The way through, from a source to a report: every other room is called from here.

- `request`: what was asked for, and what of it is possible.
- `sources`: a file becomes a verified float graph (TensorFlow only where it must).
- `ladder`: one float graph becomes every variant asked for, each scored and timed.
- `transforming`: Keras models become smaller Keras models, one pass at a time.
- `compressing`: the stages of a recipe, each a row.
- `measuring`: files that exist already are scored and timed.
- `deploying`: they are scored and timed on devices behind SSH.
- `manifest`: what is written beside each file.
"""

from edgekit.pipeline.compressing import compress
from edgekit.pipeline.deploying import Deployment, Outcome, deploy, first_error
from edgekit.pipeline.ladder import quantize
from edgekit.pipeline.measuring import bench, evaluate
from edgekit.pipeline.request import Request
from edgekit.pipeline.sources import import_source
from edgekit.pipeline.transforming import transform

__all__ = [
    "Deployment",
    "Outcome",
    "Request",
    "bench",
    "compress",
    "deploy",
    "evaluate",
    "first_error",
    "import_source",
    "quantize",
    "transform",
]

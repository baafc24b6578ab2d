"""The way through, from a source to a report: every other room is called from here.

- `request`: what was asked for, and what of it is possible.
- `sources`: a file becomes a verified float graph (TensorFlow only where it must).
- `quantize`: one float graph becomes every variant asked for, each scored and timed.
- `passes`: Keras models become smaller Keras models, one pass at a time.
- `compress`: the stages of a recipe, each a row.
- `measure`: files that exist already are scored and timed.
- `deploy`: they are scored and timed on devices behind SSH.
- `manifest`: what is written beside each file.
- `rebuild`: a file is made again from its manifest, and compared.
"""

from edgekit.pipeline.compress import compress
from edgekit.pipeline.deploy import Deployment, Outcome, deploy, first_error
from edgekit.pipeline.manifest import build_of
from edgekit.pipeline.measure import bench, evaluate
from edgekit.pipeline.passes import transform
from edgekit.pipeline.quantize import quantize
from edgekit.pipeline.rebuild import Rebuilt, rebuild
from edgekit.pipeline.request import Request
from edgekit.pipeline.sources import import_source

__all__ = [
    "Deployment",
    "Outcome",
    "Rebuilt",
    "Request",
    "bench",
    "build_of",
    "compress",
    "deploy",
    "evaluate",
    "first_error",
    "import_source",
    "quantize",
    "rebuild",
    "transform",
]

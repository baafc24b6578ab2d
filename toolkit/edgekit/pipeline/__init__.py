"""The way through, from a source to a report: every other room is called from here.

- `request`: what was asked for, and what of it is possible.
- `sources`: a file becomes a verified float graph (TensorFlow only where it must).
- `measure`: files are scored and timed on a device.
- `report`: rows become a report.
- `quantize`: one float graph becomes every variant asked for, each measured.
- `swap_plan`: what is replaced in a model for a target, and what that is worth.
- `swaps`: what a target does not take of a model, and what can replace it.
- `adapt`: a Keras model becomes one that a target takes.
- `pass_run`: what every pass over a Keras file begins and ends with.
- `passes`: Keras models become smaller Keras models, one pass at a time.
- `compress`: the stages of a recipe, each a row.
- `kept_stages`: what an interrupted recipe leaves, to go on with.
- `subjects`: files that exist already are read and bound to data.
- `host`: they are measured on this machine.
- `comparison`: an old one and a new one are measured alike.
- `deploy`: they are measured on devices behind SSH, several at once.
- `manifest`: what is written beside each file.
- `layer_comparison`: two models are compared operator by operator.
- `sensitivity`: what each operator costs in a precision.
- `precision_search`: the least set of operators that must have a higher one.
- `expand`: a small file is written unpacked.
- `export`: a file is written as C sources for a microcontroller.
- `rebuild`: a file is made again from its manifest, and compared.
- `bundle`: files, manifests and report of a run as one zip.
- `replay`: the figures of a bundle are derived again, and compared.
"""

from edgekit.pipeline.comparison import compare_files
from edgekit.pipeline.compress import compress, folder_of, stages_left
from edgekit.pipeline.deploy import Deployed, Deployment, deploy, first_error
from edgekit.pipeline.expand import expand
from edgekit.pipeline.export import Exported, export
from edgekit.pipeline.host import bench, evaluate, measured
from edgekit.pipeline.layer_comparison import compare_operators
from edgekit.pipeline.measure import MeasureSettings
from edgekit.pipeline.passes import transform
from edgekit.pipeline.quantize import quantize
from edgekit.pipeline.rebuild import Rebuilt, rebuild
from edgekit.pipeline.replay import replay
from edgekit.pipeline.report import Outcome
from edgekit.pipeline.request import Request, build_of, read_recipe
from edgekit.pipeline.sensitivity import sensitivity
from edgekit.pipeline.sources import ImportResult, import_source

__all__ = [
    "Deployed",
    "Deployment",
    "Exported",
    "ImportResult",
    "MeasureSettings",
    "Outcome",
    "Rebuilt",
    "Request",
    "bench",
    "build_of",
    "compare_files",
    "compare_operators",
    "compress",
    "deploy",
    "evaluate",
    "expand",
    "export",
    "first_error",
    "folder_of",
    "import_source",
    "measured",
    "quantize",
    "read_recipe",
    "rebuild",
    "replay",
    "sensitivity",
    "stages_left",
    "transform",
]

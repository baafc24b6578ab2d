"""Programs that tests run in processes of their own."""

from __future__ import annotations

WITHOUT_TENSORFLOW = """
import sys
from edgekit.worker import client
def refuse(*_): raise AssertionError("a worker was started")
client.Worker._start = refuse
from edgekit.cli import main
code = 0
try:
    main()
except SystemExit as end:
    code = end.code
loaded = [name for name in sys.modules if name.split(".")[0] in ("tensorflow", "keras")]
assert not loaded, loaded
sys.exit(code)
"""
"""The command line, which fails where a worker is started or TensorFlow imported."""

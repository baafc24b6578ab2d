"""`python -m edgekit.cli` is `edgekit`."""

from edgekit.cli import main

main()

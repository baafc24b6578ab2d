"""Arm Ethos-U65 with 512 multiply-accumulates a cycle."""

from __future__ import annotations

from edgekit.targets.ethos_u import npu

TARGET = npu("ethos-u65-512")

"""Arm Ethos-U55 with 256 multiply-accumulates a cycle."""

from __future__ import annotations

from edgekit.targets.ethos_u import npu

TARGET = npu("ethos-u55-256")

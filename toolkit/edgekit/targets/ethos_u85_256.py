"""Arm Ethos-U85 with 256 multiply-accumulates a cycle."""

from __future__ import annotations

from edgekit.targets.ethos_u import npu

TARGET = npu("ethos-u85-256")

"""Raspberry Pi 5 with 64-bit Trixie: ai-edge-litert; no tflite-runtime for Python 3.13."""

from __future__ import annotations

from edgekit.targets.raspberry_pi import arm64

TARGET = arm64("litert")

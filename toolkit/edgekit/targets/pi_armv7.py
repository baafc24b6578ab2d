"""Raspberry Pi with 32-bit Bookworm: tflite-runtime 2.14 only; ai-edge-litert has no wheel."""

from __future__ import annotations

from edgekit.targets.raspberry_pi import armv7

TARGET = armv7("tflite")

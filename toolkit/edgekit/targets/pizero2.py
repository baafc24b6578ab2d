"""Raspberry Pi Zero 2 W with 64-bit Bookworm: ai-edge-litert or tflite-runtime."""

from __future__ import annotations

from edgekit.targets.raspberry_pi import arm64

TARGET = arm64("litert", "tflite")

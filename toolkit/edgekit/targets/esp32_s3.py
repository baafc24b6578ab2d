"""TFLite Micro on an ESP32-S3.

Of 512 KB internal SRAM the block SRAM1, 416 KB, holds data at adjacent addresses; caches take
their part of the others (Espressif, "ESP32-S3 Technical Reference Manual", chapter System and
Memory, internal memory). Flash is a chip of its own: 8 MB on the module ESP32-S3-WROOM-1-N8
(Espressif, its datasheet, ordering information).
"""

from __future__ import annotations

from edgekit.targets.micro import board

TARGET = board(ram=416 << 10, flash=8 << 20)

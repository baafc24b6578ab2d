"""TFLite Micro on an STM32H743.

Of 1 MB RAM the largest block at adjacent addresses is the AXI SRAM, 512 KB; flash is 2 MB
(STMicroelectronics, datasheet DS12110, "STM32H742xI/G STM32H743xI/G", memories).
"""

from __future__ import annotations

from edgekit.targets.micro import board

TARGET = board(ram=512 << 10, flash=2 << 20)

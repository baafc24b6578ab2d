"""One sentence on a microcontroller: whether a model loads, and whether its memory suffices."""

from __future__ import annotations

from edgekit.printable import printable
from edgekit.records import Inspection, MemoryFit
from edgekit.reports.formatting import size_text


def memory_text(inspection: Inspection, target: str) -> str:
    """Return the verdict on one target of `inspection.memory`, in one line."""
    memory = inspection.memory[target]
    blocked = inspection.unmapped(target)
    needs = f"{_arena(memory)}; {_flash(memory)}"
    if blocked:
        first = blocked[0]
        more = f" and {len(blocked) - 1} more" if len(blocked) > 1 else ""
        how = "does not load" if memory.loads is False else "does not run, predicted"
        return f"{how}: operator {first.index} {printable(first.name)}{more}; {needs}"
    if memory.loads is False:
        return f"TFLite Micro refuses it: {printable(memory.message or 'no message')}; {needs}"
    verdict = {True: "fits", False: "does not fit", None: "loads"}[memory.fits]
    return f"{verdict}: {needs}"


def _arena(memory: MemoryFit) -> str:
    if memory.arena_bytes is None:
        return "arena not planned"
    how = "measured" if memory.measured else "estimated"
    text = f"arena {memory.arena_bytes:,} B ({how})"
    if memory.ram_bytes is None:
        return text
    return f"{text} {_of(memory.arena_bytes, memory.ram_bytes)} RAM"


def _flash(memory: MemoryFit) -> str:
    need = memory.needed_flash_bytes
    parts = f"model {size_text(memory.model_bytes)} + code {size_text(memory.code_bytes)}"
    text = f"flash {size_text(need)} ({parts}, estimated)"
    if memory.flash_bytes is None:
        return text
    return f"{text} {_of(need, memory.flash_bytes)}"


def _of(need: int, there: int) -> str:
    word = "of" if need <= there else "exceeds"
    return f"{word} {size_text(there)}"

"""Text as HTML: escaped, with typographic signs, in lists."""

from __future__ import annotations

import html
import re
from collections.abc import Mapping

from edgekit.reports.formatting import plain


def escaped(text: object) -> str:
    """Return text as HTML that contains no markup."""
    return html.escape(plain(text))


def breakable(name: object) -> str:
    """Return a name as HTML that is broken behind its separators, and nowhere else."""
    return re.sub(r"([/_.:])(?=[^/_.:])", r"\1<wbr>", escaped(name))


def typographic(text: str) -> str:
    """Set a figure with the true minus and times signs; for figures, not for names."""
    return text.replace("-", "\u2212").replace("x ", "\u00d7 ").replace("\n", "<br>")


def fact_list(pairs: Mapping[str, object], *, names: bool = False) -> str:
    """List label and value pairs."""
    items = "".join(
        f"<dt>{escaped(key)}</dt><dd>{escaped(value)}</dd>" for key, value in pairs.items()
    )
    return f'<dl class="facts{" names" if names else ""}">{items}</dl>'


def capitalized(text: str) -> str:
    """Begin with a capital, and leave the rest: "ROC AUC" stays, and so does "mAP"."""
    return text if text[1:2].isupper() else text[:1].upper() + text[1:]

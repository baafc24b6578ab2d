"""What each key of a device may hold.

The values become arguments of ssh, which pastes some of them into a shell command (`-J`, and `-F`
beside it) and expands `%` and `$` in others. So every key has the characters it needs and no more:
neither a metacharacter of a shell nor a token of ssh gets past these rules.
"""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from edgekit.choices import MAX_THREADS
from edgekit.errors import UsageError

MOST_CHARACTERS = 255
MOST_SECONDS = 1e6

_USER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._+-]{0,63}")
# A name of the ssh configuration may have an underscore, which a host name may not.
_HOST = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,252}")
_ZONE = re.compile(r"[A-Za-z0-9_.-]{1,15}")
_PORT = re.compile(r"[0-9]{1,5}")
# No space: ssh does not quote the path of its configuration file when it starts a jump host's ssh.
_PATH = re.compile(r"(~/)?[\w./][\w./+@,=:-]*")
# Run on the device with the user's rights there: a Python, not just any program.
_PYTHON = re.compile(r"/?([A-Za-z0-9_.+][A-Za-z0-9_.+-]*/)*(python|pypy)[0-9.]*t?")


@dataclass(frozen=True, slots=True)
class Rule:
    """A key: which values it takes, and how an error message describes them."""

    accepts: Callable[[Any], bool]
    expected: str


def is_host(value: object) -> bool:
    """Whether a value is `host` or `user@host`, as ssh takes it.

    An IPv6 address stands there without brackets, and may have a zone: fe80::1%eth0.
    """
    user, at, host = _text(value).rpartition("@")
    if at and not _USER.fullmatch(user):
        return False
    address, percent, zone = host.partition("%")
    if percent and not _ZONE.fullmatch(zone):
        return False
    return _is_ipv6(address) or (not percent and _HOST.fullmatch(host) is not None)


def is_jump(value: object) -> bool:
    """Whether a value is a list for `ssh -J`: `user@host:port,[2001:db8::1]:22`.

    Without zones: ssh would take their `%` for one of its tokens.
    """
    return all(_is_hop(hop) for hop in _text(value).split(","))


def is_port(value: object) -> bool:
    """Whether a value is the number of a TCP port."""
    return _is_whole(value, 65535)


def is_path(value: object) -> bool:
    """Whether a value is the path of a file of this machine, as ssh takes it unchanged."""
    return _PATH.fullmatch(_text(value)) is not None


def is_printable(value: object) -> bool:
    """Whether a value is a text that can be shown: no control characters, 1 to 255 characters."""
    return _text(value).strip() != "" and _text(value).isprintable()


RULES: Mapping[str, Rule] = {
    "host": Rule(is_host, "host or user@host; a port is a key of its own"),
    "python": Rule(
        lambda value: _PYTHON.fullmatch(_text(value)) is not None,
        "the name or path of a Python there, such as /opt/env/bin/python3 (without ~)",
    ),
    "port": Rule(is_port, "a whole number from 1 to 65535"),
    "identity": Rule(is_path, "a path of letters, digits and ~/ . _ - + @ , = :"),
    "threads": Rule(
        lambda value: _is_whole(value, MAX_THREADS), f"a whole number from 1 to {MAX_THREADS}"
    ),
    "jump": Rule(is_jump, "user@host:port, or several of them with commas between"),
    "timeout": Rule(
        lambda value: (
            isinstance(value, int | float)
            and not isinstance(value, bool)
            and 0 < value < MOST_SECONDS
        ),
        f"a number of seconds above 0 and below {MOST_SECONDS:.0f}",
    ),
    "ssh_config": Rule(is_path, "a path of letters, digits and ~/ . _ - + @ , = :"),
}


def check(key: str, value: object, where: str) -> None:
    """Refuse a value that its key does not take.

    Raises:
        UsageError: It has another type, range or other characters.
    """
    rule = RULES[key]
    if not rule.accepts(value):
        raise UsageError(
            f"{where}: invalid value for {key}: {shown(value)}.", hint=f"Expected: {rule.expected}."
        )


def shown(value: object) -> str:
    """Return a value for an error message: on one line, short, without control characters.

    >>> shown("pi@home;"), shown([[[]]]), shown(float("nan"))
    ("'pi@home;'", 'a list', 'nan')
    """
    if isinstance(value, bool):
        text = str(value).lower()
    elif isinstance(value, str):
        text = repr(value)
    elif isinstance(value, float) or (isinstance(value, int) and abs(value) < 1e18):
        text = str(value)
    else:  # neither a long number nor a deeply nested table has a short repr, or any
        kinds = {int: "a huge number", dict: "a table", list: "a list"}
        text = kinds.get(type(value), f"a {type(value).__name__}")
    return text if len(text) <= 80 else f"{text[:76]}..."


def _text(value: object) -> str:
    """Return a text that is not too long; anything else is "", which no rule takes."""
    return value if isinstance(value, str) and len(value) <= MOST_CHARACTERS else ""


def _is_whole(value: object, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= most


def _is_ipv6(text: str) -> bool:
    try:
        return ipaddress.IPv6Address(text).scope_id is None
    except ValueError:
        return False


def _is_hop(hop: str) -> bool:
    user, at, rest = hop.rpartition("@")
    if at and not _USER.fullmatch(user):
        return False
    if rest.startswith("["):
        host, closing, port = rest[1:].partition("]")
        good = bool(closing) and _is_ipv6(host) and (not port or port.startswith(":"))
        colon, port = port[:1], port[1:]
    else:
        host, colon, port = rest.partition(":")
        good = _HOST.fullmatch(host) is not None
    return good and (not colon or (_PORT.fullmatch(port) is not None and is_port(int(port))))

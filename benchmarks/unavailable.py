"""Error of a benchmark whose models, data or tools are missing on this machine."""


class UnavailableError(Exception):
    """Something is missing; the message says what, in one line."""

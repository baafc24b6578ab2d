"""What a benchmark raises where this machine lacks what it measures."""


class UnavailableError(Exception):
    """The message says in one line what is missing."""

"""The folder of a connection's socket, which goes with the process that made it.

A process that is killed cannot remove it, so the next one does. Whether its owner still runs is
known from a lock on a file in the folder, which the system releases when the owner ends, however it
does. A process id would be reused one day, and is another process in another container.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import time
from pathlib import Path

PREFIX = "ek-"
LOCK = "lock"
# A folder without a lock was left within milliseconds of its making, or is being made now.
STALE_SECONDS = 86400


class SocketFolder:
    """A private folder in the system's folder for temporary files.

    Attributes:
        path: The folder. Its name is short: a socket's whole path has 108 bytes.
    """

    def __init__(self) -> None:
        remove_abandoned()
        self.path = Path(tempfile.mkdtemp(prefix=PREFIX))
        unlocked = self.path / "new"
        self._lock = unlocked.open("wb")
        # Locked before it has its name, so that no other process finds it free while this one runs.
        with contextlib.suppress(OSError):  # a file system without locks: never abandoned
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            unlocked.rename(self.path / LOCK)

    def remove(self) -> None:
        """Remove the folder and what is in it."""
        shutil.rmtree(self.path, ignore_errors=True)
        self._lock.close()


def remove_abandoned() -> None:
    """Remove the folders of this user's processes that were killed."""
    for folder in Path(tempfile.gettempdir()).glob(f"{PREFIX}*"):
        with contextlib.suppress(OSError):  # another process may be doing the same
            found = folder.lstat()
            if stat.S_ISDIR(found.st_mode) and found.st_uid == os.getuid() and _is_free(folder):
                shutil.rmtree(folder, ignore_errors=True)


def _is_free(folder: Path) -> bool:
    try:
        lock = (folder / LOCK).open("rb")
    except FileNotFoundError:
        return time.time() - folder.lstat().st_mtime > STALE_SECONDS
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

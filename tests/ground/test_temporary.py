"""Temporary files of dead processes are removed; those of possibly live ones are not."""

from __future__ import annotations

import os
import subprocess
import sys
import time

from edgekit import temporary
from edgekit.temporary import new_file, new_folder, sweep


def test_what_dead_processes_left_goes_and_all_else_stays(tmp_path):
    # Given what a process left that was killed, a temporary file of ours, and other files
    program = (
        "import os, sys; from pathlib import Path; from edgekit import temporary\n"
        "place = Path(sys.argv[1])\n"
        "(temporary.new_folder(place) / 'half').touch()\n"
        "temporary.new_file(place, '.keras')\n"
        "os.kill(os.getpid(), 9)"
    )
    subprocess.run([sys.executable, "-c", program, tmp_path], check=False)
    assert len(list(tmp_path.iterdir())) == 2
    own = {new_file(tmp_path, ".npz"), new_folder(tmp_path)}
    others = {tmp_path / name for name in (".edgekit-", ".edgekit-mine", ".edgekit-1-1-a", "ek-a")}
    named(tmp_path, pid=10**30)  # no process id at all
    for path in others:
        path.mkdir()
    # When the next process looks
    sweep(tmp_path)
    # Then only what the dead one left is gone.
    assert set(tmp_path.iterdir()) == own | others


def named(folder, *, pid=None, start=None, host=None, boot=None, namespace=None):
    """A temporary folder as another process would have named it."""
    here = temporary._here()
    owner = temporary._Here(host or here.host, boot or here.boot, namespace or here.namespace)
    mine = temporary._start_of(os.getpid())
    path = folder / f".edgekit-{pid or os.getpid()}-{start or mine}-{owner}-01234567"
    path.mkdir()
    return path


def test_a_process_id_that_was_used_again_protects_nothing(tmp_path):
    alive = named(tmp_path)
    sweep(tmp_path)
    assert alive.exists()
    before = named(tmp_path, start=temporary._start_of(os.getpid()) - 1)
    sweep(tmp_path)
    assert alive.exists()
    assert not before.exists()


def test_another_host_or_container_is_believed_for_a_week(tmp_path):
    dead = 2**22  # more than any process id
    for other in ({"host": "other1"}, {"namespace": "other1"}):
        path = named(tmp_path, pid=dead, **dict.fromkeys(other, "0123ab"))
        sweep(tmp_path)
        assert path.exists()
        long_ago = time.time() - 8 * 86_400
        os.utime(path, (long_ago, long_ago))
        sweep(tmp_path)
        assert not path.exists()


def test_a_boot_ends_every_process_of_its_host(tmp_path, monkeypatch):
    monkeypatch.setattr(temporary, "_here", lambda: temporary._Here("aaaaaa", "bbbbbb", "cccccc"))
    same = named(tmp_path, boot="0123ab")
    sweep(tmp_path)
    assert not same.exists()
    # Where nothing identifies the host, it may be another one's.
    monkeypatch.setattr(temporary, "_here", lambda: temporary._Here("", "bbbbbb", "cccccc"))
    unknown = named(tmp_path, boot="0123ab")
    sweep(tmp_path)
    assert unknown.exists()

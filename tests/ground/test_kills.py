"""A signal at any moment leaves no partial file; the next run removes what SIGKILL leaves.

Every moment: a signal comes at each event in which Python tells its audit hooks of the system, one
after the other.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from edgekit import interruption
from edgekit.files import cleared, staging, temporary_folder, writing

NAMES = ("a.json", "b.tflite", "report.html")
SIGNALS = (*interruption.SIGNALS, signal.SIGKILL)
FINISHED = 99


def new_folder(place: Path) -> None:
    with staging(place / "deep" / "out") as stage:
        for name in NAMES:
            (stage / name).write_text("new")


def existing_folder(place: Path) -> None:
    with staging(place, replace=True) as stage:
        for name in NAMES:
            (stage / name).write_text("new")


def single_file(place: Path) -> None:
    with writing(place / "a.json") as temporary:
        temporary.write_text("new")


def new_file(place: Path) -> None:
    with writing(place / "a.json", replace=False) as temporary:
        temporary.write_text("new")


def scratch(place: Path) -> None:
    os.environ["TMPDIR"] = str(place)
    with temporary_folder() as folder:
        (folder / "a.json").write_text("new")


def killed_at(moment: int, number: int, job: Callable[[Path], None], place: Path) -> int:
    """Do the job in a fork, with a signal at its n-th event; return how the fork ended."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    code = 1
    try:
        interruption.install()
        left = moment

        def hook(event: str, _: tuple) -> None:
            nonlocal left
            if event.startswith(("os.", "open", "shutil.")) and event != "os.kill":
                left -= 1
                # The second one comes amid the cleanup after the first.
                if left in {0, -3}:
                    os.kill(os.getpid(), number)

        sys.addaudithook(hook)
        job(place)
        code = FINISHED if left > 0 else 0
    except KeyboardInterrupt:
        code = interruption.exit_code() or 1
    finally:
        os._exit(code)


def found(place: Path) -> dict[str, str]:
    return {p.relative_to(place).as_posix(): p.read_text() for p in place.rglob("*") if p.is_file()}


OLD = dict.fromkeys(NAMES, "old")
JOBS = {
    new_folder: ({}, {f"deep/out/{name}": "new" for name in NAMES}),
    existing_folder: (OLD, dict.fromkeys(NAMES, "new")),
    single_file: ({"a.json": "old"}, {"a.json": "new"}),
    new_file: ({}, {"a.json": "new"}),
    scratch: ({}, {}),
}


@pytest.mark.parametrize("job", JOBS, ids=lambda job: job.__name__)
@pytest.mark.parametrize("number", SIGNALS, ids=lambda number: number.name)
def test_a_signal_at_any_moment_leaves_all_or_nothing(job, number, tmp_path):
    old, new = JOBS[job]
    outcomes = set()
    for moment in range(1, 1000):
        # Given what was there before
        place = tmp_path / str(moment)
        place.mkdir()
        for name, text in old.items():
            (place / name).write_text(text)
        # When the signal comes at this moment
        code = killed_at(moment, number, job, place)
        # Then the old is there, or the new, and nothing else.
        if number != signal.SIGKILL:
            assert code in {FINISHED, 0, 128 + number}, moment
            assert found(place) in (old, new), moment
            assert list(place.rglob(".edgekit-*")) == [], moment
            if found(place) != new:
                assert not (place / "deep").exists(), moment
        else:
            with cleared(place), cleared(place / "deep"):
                pass
            left = found(place)
            assert all(left[name] in {old.get(name), new.get(name)} for name in left), moment
            assert old.keys() <= left.keys(), moment
            # A folder that is new is never there in part.
            assert job is existing_folder or left in (old, new), moment
            assert list(place.rglob(".edgekit-*")) == [], moment
        outcomes.add(code)
        if code == FINISHED:
            break
    assert code == FINISHED
    assert outcomes >= {-number if number == signal.SIGKILL else 128 + number}


def test_a_signal_that_a_library_swallows_comes_again(tmp_path):
    program = (
        "import os, signal, time\n"
        "from edgekit import interruption\n"
        "interruption.install()\n"
        "class Swallows:\n"
        "    def __del__(self): os.kill(os.getpid(), signal.SIGTERM)\n"
        "swallows = Swallows()\n"
        "try:\n"
        "    del swallows\n"
        "    time.sleep(30)\n"
        "except KeyboardInterrupt:\n"
        "    print(interruption.words())\n"
    )
    import subprocess

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    words = "Interrupted by SIGTERM; nothing half-written was left.\n"
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, words, "")


def test_an_ignored_signal_stays_ignored():
    program = (
        "import os, signal\n"
        "from edgekit import interruption\n"
        "signal.signal(signal.SIGHUP, signal.SIG_IGN)\n"
        "interruption.install()\n"
        "os.kill(os.getpid(), signal.SIGHUP)\n"
        "print('went on')\n"
    )
    import subprocess

    ended = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=False, timeout=60
    )
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, "went on\n", "")

"""The half of a deployment that runs on the device.

Its text is handed to the device's `python3 -c`: Python 3.8, the standard library, no edgekit.
All it makes is in `~/.cache/edgekit`: files named after their content where they are kept, and
otherwise in the folder of a session, which goes with the session.

    open SESSION                          make the folder; tell what this machine is
    look SESSION NAME SHA256              where a file is, or how much of it has come
    put  SESSION NAME SIZE SHA256 GOAL    the rest of a file, on stdin; GOAL is session or cache
    get  PATH                             digest and content of a file
    pair SESSION MODEL MANIFEST           two files that were put here, side by side
    install SESSION GOAL WHEEL...         a virtual environment of wheels that were put here
    fetch SESSION GOAL SECONDS PROJECT... the same, by the pip and the network of this machine
    run  SECONDS SITE PROGRAM...          a program, which ends when the connection does
    watch SESSION SECONDS FOLDER...       clean when the host has been away for SECONDS
    clean SESSION FOLDER...               remove the session, and folders that were made for it

Exit codes: those of the program for `run`, 200 + the signal that ended it, 199 if it took too long,
198 for a refusal of the system, whose words are on stdout.
"""

# Started anew for every step, on a slow board: os.path loads faster than pathlib.
# ruff: noqa: PTH103, PTH105, PTH106, PTH107, PTH110, PTH111, PTH112, PTH113
# ruff: noqa: PTH118, PTH120, PTH123, PTH202, PTH204, PTH208, PTH211
from __future__ import annotations

import errno
import fcntl
import hashlib
import json
import os
import platform
import select
import shutil
import struct
import subprocess
import sys
import sysconfig
import time

TYPE_CHECKING = False  # without the time the import of typing takes
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = os.path.join(os.path.expanduser("~"), ".cache", "edgekit")
REFUSED, TOO_LONG, SIGNAL = 198, 199, 200
STALE_SECONDS = 86400


def answer(**facts: object) -> None:
    """Print what the host asked for."""
    print(json.dumps(facts), flush=True)


def place(session: str) -> str:
    """Return the folder of a session."""
    return os.path.join(ROOT, session)


def digest(path: str) -> str:
    """Return the sha256 of a file."""
    found = hashlib.sha256()
    with open(path, "rb") as stream:
        for block in iter(lambda: stream.read(1 << 20), b""):
            found.update(block)
    return found.hexdigest()


def make(session: str) -> None:
    """Make the folder of a session, unless it is there; note which others were made for it."""
    made = []
    folder = ROOT
    while not os.path.isdir(folder):
        made.append(folder)
        folder = os.path.dirname(folder)
    os.makedirs(place(session), mode=0o700, exist_ok=True)
    note = os.path.join(place(session), "made")
    if not os.path.exists(note):
        with open(note, "w") as stream:
            json.dump(made, stream)


def open_(session: str) -> None:
    """Make the folder of a session; tell what this machine is."""
    make(session)
    with open(os.path.join(place(session), "made")) as stream:
        made = json.load(stream)
    for name in os.listdir(ROOT):
        # Left by a host and a device that both ended before they could clean up.
        old = place(name)
        if name.startswith("session-") and time.time() - os.path.getmtime(old) > STALE_SECONDS:
            shutil.rmtree(old, ignore_errors=True)
    machine = os.uname().machine
    if machine == "aarch64" and struct.calcsize("P") == 4:
        machine = "armv7l"  # a 32-bit system on a 64-bit kernel, as Raspberry Pi OS has it
    site = os.path.join(ROOT, "venv", "lib", "site")
    answer(
        root=ROOT,
        session=place(session),
        made=made,
        machine=machine,
        python=list(sys.version_info[:2]),
        libc=list(platform.libc_ver()),
        site=os.path.realpath(site) if os.path.isdir(site) else "",
    )


def look(session: str, name: str, sha256: str) -> None:
    """Tell where a file is, or how many bytes of it have come."""
    for path in (os.path.join(place(session), name), os.path.join(ROOT, name)):
        if os.path.isfile(path):
            if digest(path) == sha256:
                answer(path=path)
                return
            os.remove(path)
    part = os.path.join(place(session), name + ".part")
    answer(path="", offset=os.path.getsize(part) if os.path.exists(part) else 0)


def put(session: str, name: str, size: str, sha256: str, goal: str) -> None:
    """Take the rest of a file from stdin; put it in its place once its digest is right."""
    part = os.path.join(place(session), name + ".part")
    with open(part, "ab") as stream:
        # A lost connection may still be emptying its pipe into the file.
        fcntl.flock(stream, fcntl.LOCK_EX)
        try:
            stream.writelines(iter(lambda: os.read(0, 1 << 16), b""))
            stream.flush()
            os.fsync(stream.fileno())
        except OSError:
            stream.close()  # which fails as well, where there is no room
            raise
    if os.path.getsize(part) < int(size):
        answer(path="")
        return
    if digest(part) != sha256:
        os.remove(part)
        answer(path="")
        return
    final = os.path.join(ROOT if goal == "cache" else place(session), name)
    os.replace(part, final)
    answer(path=final)


def get(path: str) -> None:
    """Write the digest and the content of a file."""
    sys.stdout.write(digest(path))
    sys.stdout.flush()
    with open(path, "rb") as stream:
        shutil.copyfileobj(stream, sys.stdout.buffer)
    sys.stdout.flush()


def pair(session: str, model: str, manifest: str) -> None:
    """Show a model and its manifest under one name, as the runner looks for them."""
    names = [path.rpartition("/")[2].partition(".")[0] for path in (model, manifest)]
    shared = os.path.join(place(session), "-".join(names))
    for path, ending in ((model, ".tflite"), (manifest, ".json")):
        if not os.path.lexists(shared + ending):
            os.symlink(path, shared + ending)
    answer(path=shared + ".tflite")


def environment(session: str) -> tuple[str, str]:
    """Make an empty virtual environment; return its folder, and that of its packages."""
    import venv

    folder = os.path.join(place(session), "venv")
    # Without pip, which Debian splits off.
    venv.EnvBuilder(clear=True, symlinks=True, with_pip=False).create(folder)
    site = sysconfig.get_path("purelib", "posix_prefix", {"base": folder})
    os.symlink(os.path.relpath(site, os.path.join(folder, "lib")), os.path.join(folder, "lib/site"))
    return folder, site


def install(session: str, goal: str, *wheels: str) -> None:
    """Make a virtual environment of wheels; tell where its packages are."""
    import zipfile

    folder, site = environment(session)
    for wheel in wheels:
        # A wheel is an archive of what belongs into the folder.
        with zipfile.ZipFile(wheel) as archive:
            archive.extractall(site)
    settle(folder, goal)


def fetch(session: str, goal: str, seconds: str, *projects: str) -> None:
    """Make a virtual environment with this machine's own pip; tell where its packages are."""
    import importlib.util

    if struct.calcsize("P") == 4 and importlib.util.find_spec("numpy"):
        # The package index has no numpy for 32-bit ARM, and the system's does.
        projects = tuple(project for project in projects if not project.startswith("numpy"))
    folder, site = environment(session)
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    pip += ["--no-input", "--no-cache-dir", "--no-deps", "--only-binary=:all:", "--retries=1"]
    code = attend([*pip, "--target", site, *projects], float(seconds), TMPDIR=place(session))
    if code:
        sys.exit(code)
    settle(folder, goal)


def settle(folder: str, goal: str) -> None:
    """Bring a virtual environment to its place; tell where its packages are."""
    if goal == "cache":
        final = os.path.join(ROOT, "venv")
        shutil.rmtree(final, ignore_errors=True)
        os.replace(folder, final)
        folder = final
    answer(site=os.path.realpath(os.path.join(folder, "lib", "site")))


def run(seconds: str, site: str, *program: str) -> None:
    """Run a program until it ends, takes too long, or the connection ends; exit as it did."""
    code = attend(program, float(seconds), **({"PYTHONPATH": site} if site else {}))
    sys.exit(SIGNAL - code if code < 0 else code)


def attend(program: Sequence[str], seconds: float, **variables: str) -> int:
    """Run a program with these variables until it ends, or must; return its exit code."""
    child = subprocess.Popen(program, stdin=subprocess.DEVNULL, env={**os.environ, **variables})
    end = time.monotonic() + seconds
    code = None
    while code is None:
        # The host never writes: what can be read is that the connection has ended.
        gone = bool(select.select([0], [], [], 0.05)[0])
        code = child.poll()
        if code is None and (gone or time.monotonic() > end):
            child.kill()
            child.wait()
            code = TOO_LONG
    return code


def watch(session: str, seconds: str, *made: str) -> None:
    """Remove the session once the host has been away for `seconds`.

    It makes the folder itself: there is never one without a watch.
    """
    make(session)
    lease = os.path.join(place(session), "lease")
    mine = str(os.getpid())
    with open(lease, "w") as stream:
        stream.write(mine)
    answer(watching=session)
    while os.read(0, 4096):
        pass
    end = time.monotonic() + float(seconds)
    while time.monotonic() < end:
        try:
            with open(lease) as stream:
                if stream.read() != mine:
                    return  # the host came back, with another watch
        except OSError:
            return
        time.sleep(0.5)
    clean(session, *made)


def clean(session: str, *made: str) -> None:
    """Remove the session, and the folders that were made for it if they are empty now.

    A host that was interrupted before it heard which those are names none.
    """
    try:
        with open(os.path.join(place(session), "made")) as stream:
            made = made or tuple(json.load(stream))
    except (OSError, ValueError):  # there is no session, or half of one
        pass
    shutil.rmtree(place(session), ignore_errors=True)
    for folder in made or (ROOT,):
        try:
            os.rmdir(folder)
        except OSError:  # other files, or kept ones, are in it
            break


STEPS: dict[str, Callable[..., None]] = {
    "open": open_,
    "look": look,
    "put": put,
    "get": get,
    "pair": pair,
    "install": install,
    "fetch": fetch,
    "run": run,
    "watch": watch,
    "clean": clean,
}


def main(step: str, *words: str) -> None:
    """Do one step; an error of the system is reported as JSON."""
    try:
        STEPS[step](*words)
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT)
        answer(error=error.strerror or str(error), path=error.filename or "", full=full)
        sys.exit(REFUSED)


if __name__ == "__main__":
    main(*sys.argv[1:])

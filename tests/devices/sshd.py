"""A real sshd on loopback, as an ordinary user, with a folder for the device's home."""

from __future__ import annotations

import os
import pwd
import shlex
import shutil
import signal
import socket
import subprocess
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

NOBODY = 65534
CACHE = Path(tempfile.gettempdir()) / f"edgekit-sshd-{os.getuid()}"


class UnavailableError(Exception):
    """Why there is no sshd here, in a line."""


def _find(command: str) -> tuple[Path, Path]:
    """Return the sshd, and the folder of libraries beside it; unpacked from Debian where absent."""
    installed = shutil.which("sshd", path="/usr/sbin:/sbin:/usr/local/sbin")
    if installed and os.getuid():
        return Path(installed), Path("/nonexistent")
    root = CACHE / "root"
    if not (root / "ready").exists():
        if not shutil.which("apt-get") or not shutil.which("dpkg-deb"):
            raise UnavailableError("no sshd here, and no apt-get to fetch openssh-server with")
        shutil.rmtree(CACHE, ignore_errors=True)
        CACHE.mkdir()
        done = subprocess.run(
            ["apt-get", "download", "openssh-server", "libwrap0", "libnss-wrapper"],
            cwd=CACHE,
            capture_output=True,
            text=True,
            check=False,
            timeout=300,
        )
        packages = list(CACHE.glob("*.deb"))
        if done.returncode or len(packages) < 3:
            raise UnavailableError("no sshd here, and openssh-server cannot be downloaded")
        for package in packages:
            subprocess.run(["dpkg-deb", "-x", package, root], check=True)
        (root / "ready").touch()
    libraries = next(root.glob("usr/lib/*/libwrap.so.0")).parent
    return root / "usr" / "sbin" / "sshd", libraries


@dataclass
class Sshd:
    """A running server.

    Attributes:
        folder: Its keys, configuration and log; readable for the user it runs as.
        home: What the device takes for its home.
        path: PATH on the device.
        config: Configuration file for the ssh client, which knows this server as "board".
        limits: Shell commands before every command on the device ("ulimit -f 10;").
    """

    folder: Path
    home: Path
    path: Sequence[Path]
    port: int
    config: Path
    user: str
    limits: str = ""
    process: subprocess.Popen[bytes] | None = None
    extra: dict[str, str] = field(default_factory=dict)

    def start(self, limits: str | None = None) -> None:
        """Listen; with other limits if given."""
        if limits is not None:
            self.limits = limits
        sshd, libraries = _find("sshd")
        path = ":".join(map(str, self.path))
        entry = self.folder / "entry"
        exports = "".join(f"export {k}={shlex.quote(v)}\n" for k, v in self.extra.items())
        entry.write_text(
            "#!/bin/sh\nunset LD_PRELOAD LD_LIBRARY_PATH\n"
            f"export HOME={shlex.quote(str(self.home))} PATH={shlex.quote(path)}\n{exports}"
            f'cd "$HOME"\n{self.limits}\nexec /bin/sh -c "$SSH_ORIGINAL_COMMAND"\n'
        )
        entry.chmod(0o755)
        (self.folder / "sshd_config").write_text(
            f"ListenAddress 127.0.0.1\nPort {self.port}\nHostKey {self.folder}/host\n"
            f"AuthorizedKeysFile {self.folder}/authorized\nPidFile none\nStrictModes no\n"
            "UsePAM no\nPasswordAuthentication no\nKbdInteractiveAuthentication no\n"
            f"ForceCommand {entry}\n"
        )
        environment = {"PATH": "/usr/bin:/bin", "LD_LIBRARY_PATH": str(libraries)}
        if self.user == "nobody":
            # An account without a login shell: the server alone is told of another.
            (self.folder / "passwd").write_text(
                f"nobody:x:{NOBODY}:{NOBODY}::{self.home}:/bin/sh\n"
            )
            (self.folder / "group").write_text(f"nogroup:x:{NOBODY}:\n")
            environment.update(
                LD_PRELOAD=str(libraries / "libnss_wrapper.so"),
                NSS_WRAPPER_PASSWD=str(self.folder / "passwd"),
                NSS_WRAPPER_GROUP=str(self.folder / "group"),
            )
        drop = {"user": NOBODY, "group": NOBODY, "extra_groups": ()} if not os.getuid() else {}
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen(
                [sshd, "-D", "-e", "-f", self.folder / "sshd_config"],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
                **drop,
            )
        end = time.monotonic() + 20
        while time.monotonic() < end and self.process.poll() is None:
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", self.port)) == 0:
                    return
            time.sleep(0.05)
        raise UnavailableError("sshd does not start: " + (self.folder / "log").read_text()[-300:])

    def stop(self) -> None:
        """Stop listening, and cut every connection."""
        self.cut()
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    def cut(self) -> int:
        """End every connection at once; return how many there were."""
        found = self.connections()
        for pid in found:
            os.kill(pid, signal.SIGKILL)
        return len(found)

    def connections(self) -> list[int]:
        """Processes of the server that serve a connection."""
        if self.process is None:
            return []
        parent = self.process.pid
        text = Path(f"/proc/{parent}/task/{parent}/children").read_text()
        first = [int(word) for word in text.split()]
        deeper = []
        for pid in first:
            children = Path(f"/proc/{pid}/task/{pid}/children")
            if not children.exists():
                continue
            for word in children.read_text().split():
                name = Path(f"/proc/{word}/comm")
                if name.exists() and name.read_text().startswith("sshd"):
                    deeper.append(int(word))
        return [*first, *deeper]

    def left(self) -> list[str]:
        """Everything in the device's home."""
        return sorted(str(p.relative_to(self.home)) for p in self.home.rglob("*"))

    def programs(self) -> list[str]:
        """Command lines of the programs that run on the device now."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            try:
                environment = (entry / "environ").read_bytes().split(b"\0")
                words = (entry / "cmdline").read_bytes().decode(errors="replace")
            except OSError:
                continue
            if f"HOME={self.home}".encode() in environment and words:
                found.append(words.replace("\0", " "))
        return found


def start_sshd(folder: Path, home: Path, path_prefix: Sequence[Path] = (), **extra: str) -> Sshd:
    """Start a server whose every command runs with its own HOME and PATH.

    Args:
        folder: An empty folder for keys, configuration and log.
        home: The device's home folder; made if it is missing.
        path_prefix: Folders in front of PATH on the device: where its `python3` is.
        **extra: Environment of the device.

    Raises:
        UnavailableError: There is no sshd, and none can be fetched.
    """
    folder.mkdir(parents=True, exist_ok=True)
    home.mkdir(parents=True, exist_ok=True)
    for name in ("host", "client"):
        subprocess.run(
            ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", folder / name], check=True
        )
    (folder / "authorized").write_text((folder / "client.pub").read_text())
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    root = not os.getuid()
    user = "nobody" if root else pwd.getpwuid(os.getuid()).pw_name
    if root:
        for path in (home, folder / "host", folder):
            os.chown(path, NOBODY, NOBODY)
    (folder / "known").write_text(f"[127.0.0.1]:{port} {(folder / 'host.pub').read_text()}")
    config = folder / "client_config"
    config.write_text(
        f"Host board\n  HostName 127.0.0.1\n  Port {port}\n  User {user}\n"
        f"  IdentityFile {folder}/client\n  IdentitiesOnly yes\n  IdentityAgent none\n"
        f"  UserKnownHostsFile {folder}/known\n  GlobalKnownHostsFile none\n"
    )
    server = Sshd(
        folder=folder,
        home=home,
        path=[*path_prefix, Path("/usr/bin"), Path("/bin")],
        port=port,
        config=config,
        user=user,
        extra=extra,
    )
    server.start()
    return server

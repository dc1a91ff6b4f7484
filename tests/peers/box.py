"""A machine to install a package on: systemd in namespaces of its own, over this machine's files, which stay the same.

What is written there goes to memory (overlayfs) and is gone with the box; its network has a loopback interface only.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from tests.peers.skips import need_program, need_root, skip
from tests.peers.waiting import NeverCame, eventually

SYSTEMD = Path("/lib/systemd/systemd")
_NEW_NETWORK = 0x40000000
_libc = ctypes.CDLL(None, use_errno=True)
_BOOT = """\
set -e
mount --make-rprivate /
mount -t tmpfs tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" "$1/root"
cd "$1/root"
mount -t proc proc proc
mount -t sysfs sysfs sys
mount -t cgroup2 cgroup2 sys/fs/cgroup
mount --rbind /dev dev
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs tmpfs run
mount -t tmpfs tmpfs tmp
ip link set lo up
export container=lxc
exec chroot . /lib/systemd/systemd --system --unit=basic.target --log-target=null --show-status=0
"""


def _enter(network: int) -> None:
    if _libc.setns(network, _NEW_NETWORK):
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


class Box:
    """One such machine; `folder` is where it is mounted, and stays empty here."""

    def __init__(self, folder: Path) -> None:
        need_root()
        need_program("unshare", "util-linux")
        need_program("ip", "iproute2")
        if not SYSTEMD.exists():
            skip("systemd is not installed")
        if "overlay" not in Path("/proc/filesystems").read_text():
            skip("this kernel has no overlayfs")
        folder.mkdir(parents=True, exist_ok=True)
        self.folder = folder
        self.process: subprocess.Popen[str] | None = None
        self.init = 0

    def start(self) -> Self:
        """Boot it; skips where the kernel does not let us."""
        command = ["unshare", "-mpfniuC", "--kill-child", "bash", "-c", _BOOT, "box", str(self.folder)]
        self.process = subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
        )
        try:
            eventually(self._booted, within=30.0, saying="systemd runs in the box", every=0.1)
        except NeverCame:
            skip("systemd does not start in namespaces here")
        self.run("systemctl", "log-target", "journal")
        return self

    def run(self, *command: str, within: float = 60.0, **how: Any) -> subprocess.CompletedProcess[str]:
        """Run a program in it to its end, and return what it said; it must succeed unless `check=False`."""
        environment: Mapping[str, str] = {
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C", "DEBIAN_FRONTEND": "noninteractive",
            **how.pop("env", {}),
        }  # fmt: skip
        enter = ["nsenter", "-t", str(self.init), "-m", "-p", "-n", "-i", "-u", "-C", "-r", "env", "-C", "/"]
        check = how.pop("check", True)
        done = subprocess.run(
            [*enter, *command],
            capture_output=True,
            text=True,
            timeout=within,
            check=False,
            env=environment,
            start_new_session=True,
            **how,
        )
        if check and done.returncode:
            raise AssertionError(f"{' '.join(command)}: {done.returncode}\n{done.stdout}{done.stderr}")
        return done

    @contextmanager
    def inside(self) -> Iterator[None]:
        """Sockets that this thread makes are in its network (setns(2))."""
        with open("/proc/thread-self/ns/net") as here, open(f"/proc/{self.init}/ns/net") as there:
            _enter(there.fileno())
            try:
                yield
            finally:
                _enter(here.fileno())

    def put(self, name: str, content: bytes, mode: int = 0o644) -> None:
        """Write a file in it; `name` is an absolute path."""
        file = self.path(name)
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)

    def path(self, name: str) -> Path:
        """The path of a file in it, for reading from here."""
        return Path(f"/proc/{self.init}/root{name}")

    def stop(self) -> None:
        """End it, and everything in it: the kernel ends what a PID namespace holds with its first process."""
        if self.process is None:
            return
        if self.process.poll() is None:
            if self.init:
                os.kill(self.init, signal.SIGKILL)
            else:
                self.process.kill()
        self.process.wait(30)
        if self.process.stderr is not None:
            self.process.stderr.close()

    def _booted(self) -> bool:
        assert self.process is not None
        if self.process.poll() is not None:
            said = self.process.stderr.read() if self.process.stderr else ""
            print(said, file=sys.stderr)
            skip(f"no namespaces, mounts or cgroups of our own here: {said.strip()[-200:]}")
        children = Path(f"/proc/{self.process.pid}/task/{self.process.pid}/children").read_text().split()
        if len(children) != 1 or Path(f"/proc/{children[0]}/comm").read_text() != "systemd\n":
            return False
        self.init = int(children[0])
        asked = self.run("systemctl", "is-active", "basic.target", check=False, within=10.0)
        return asked.stdout.strip() == "active"

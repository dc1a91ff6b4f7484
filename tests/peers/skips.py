"""What a machine must have for a test, asked once; a test that cannot run here says why, aloud."""

from __future__ import annotations

import functools
import importlib.util
import os
import shutil
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SHARED_DATA = ROOT.parent / "shared" / "data"


def skip(reason: str) -> None:
    """Skip the running test and print the reason, so that a log without `-rs` shows it too."""
    print(f"skipped: {reason}", flush=True)
    pytest.skip(reason)


@functools.cache
def program(name: str) -> str | None:
    """The path of a program, looked for in the administrator's folders too."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def need_program(name: str, package: str) -> str:
    """The path of program `name`, or skip and say which package has it."""
    path = program(name)
    if path is None:
        skip(f"{name} is not installed (Debian: apt-get install {package})")
    assert path is not None
    return path


def need_freeradius() -> str:
    """The path of FreeRADIUS's server, or skip."""
    return need_program("freeradius", "freeradius")


def need_radclient() -> str:
    """The path of FreeRADIUS's client, or skip."""
    return need_program("radclient", "freeradius-utils")


def need_pyrad() -> None:
    """Skip where pyrad is not installed."""
    if importlib.util.find_spec("pyrad") is None:
        skip("pyrad is not installed")


def need_root() -> None:
    """Skip for anyone but root: mounts need it."""
    if os.geteuid() != 0:
        skip("needs root, to mount a file system of its own")


@functools.cache
def _loop_mounts_work() -> bool:
    return (
        program("losetup") is not None
        and subprocess.run([program("losetup") or "losetup", "-f"], capture_output=True, check=False).returncode == 0
    )


def need_loop_mounts() -> None:
    """Skip where no image file can be mounted (not root, or a container without loop devices)."""
    need_root()
    need_program("mkfs.ext4", "e2fsprogs")
    if not _loop_mounts_work():
        skip("no loop devices here")


def need_shared_data() -> Path:
    """The folder of shared vectors, or skip."""
    if not SHARED_DATA.is_dir():
        skip(f"no shared data beside the project ({SHARED_DATA.name})")
    return SHARED_DATA
